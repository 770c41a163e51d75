"""What went wrong in a run, by rules on its log and its results.

Each rule has its thresholds here as constants; docs/evaluation.md explains them.
"""

import dataclasses
import math
import typing

import numpy as np

from sit_keras.config.settings import RunConfig

# A token has collapsed if its spread is below this: two images then have a cosine of 0.999.
COLLAPSED_SPREAD = 0.03
# A learned weight has been driven to nothing if it is below this, which is about half of what it
# starts from, and its task has less than this share of the gradient at the encoder.
LEAST_WEIGHT, LEAST_GRADIENT_SHARE = 0.2, 0.02
# A task is overfitted if its held-out loss ends so far above its lowest value, as a share of it,
# while the training loss fell by this share.
OVERFIT_RISE, OVERFIT_FALL = 0.05, 0.02
# With fewer steps a network has hardly begun.
MIN_STEPS = 300
# To so many steps at least the advice is to train on.
ENOUGH_STEPS = 1_000
# It was still learning if the last fifth of the epochs brought this share of a loss's whole fall,
# and that fall was at least this share of the first loss.
STEEP_SHARE, WHOLE_FALL = 0.15, 0.05
# Losses over fewer epochs have no shape to judge.
MIN_EPOCHS = 5
# Epochs are averaged in windows of this share of all.
WINDOW = 0.1

MORE_WEIGHT = (
    "give that task more weight (one of --weighting=fixed, --set=min_task_weight=0.5 and "
    "--recipe=modern)"
)


@dataclasses.dataclass(frozen=True)
class Finding:
    """A sentence about a run, and what to do about it.

    Args:
        sentence: str. Ends with a full stop.
        advice: what to try, with its flags, each without a full stop.
        brief: str. The same in a few words, for a table.
    """

    sentence: str
    advice: tuple[str, ...] = ()
    brief: str = ""


def percent(share: float) -> str:
    """Returns a share in per cent, with one digit."""
    return f"{100 * share:.1f} %"


def problems(
    config: RunConfig, results: dict[str, typing.Any], log: dict[str, np.ndarray]
) -> list[Finding]:
    """Returns what else went wrong: collapsed tokens, vanished weights, overfitting, few steps.

    Args:
        config, results, log: as for `sit_keras.runs.answer.answer`.
    """
    return [
        *_collapsed(config, results),
        *_vanished_weights(config, log),
        *_overfitted(config, log),
        *_too_few_steps(config, results, log),
    ]


def _collapsed(config, results) -> list[Finding]:
    spreads = results.get("token_spread", {})
    found = []
    for token, spread in spreads.get("trained", {}).items():
        if spread < COLLAPSED_SPREAD:
            untrained = spreads.get("untrained", {}).get(token)
            before = "" if untrained is None else f", {untrained:.3f} before the training"
            name = token.replace("_", " ")
            found.append(
                Finding(
                    f"The {name} has collapsed: it hardly differs between images (spread "
                    f"{spread:.3f} of at most 1{before}), so it says nothing about them.",
                    (
                        "lower the learning rate and limit the gradients "
                        f"(--learning_rate={config.learning_rate / 3:.2g} --clip_norm=1)",
                        *other_recipe(config),
                    ),
                    f"{name} collapsed",
                )
            )
    return found


def _vanished_weights(config, log) -> list[Finding]:
    if config.weighting != "uncertainty" or len(config.tasks) < 2:
        return []
    found = []
    for task in config.tasks:
        weight, share = (_last(log, f"{name}_{task}") for name in ("weight", "share"))
        if weight < LEAST_WEIGHT and share < LEAST_GRADIENT_SHARE:
            found.append(
                Finding(
                    f"The learned weight of the {task} task was driven to nothing: it is "
                    f"{weight:.2g}, and the task has {percent(share)} of the gradient at the "
                    "encoder.",
                    (MORE_WEIGHT,),
                    f"weight of {task} vanished",
                )
            )
    return found


def _overfitted(config, log) -> list[Finding]:
    found = []
    for task in config.tasks:
        held_out, trained = (_smoothed(log, name) for name in (f"val_{task}", task))
        if held_out is None or trained is None:
            continue
        best = int(np.argmin(held_out))
        # Of a loss that has almost vanished, any share is large.
        rise = (held_out[-1] - held_out[best]) / max(held_out[best], held_out[0] / 10)
        fall = (trained[best] - trained[-1]) / max(trained[best], trained[0] / 10)
        if rise > OVERFIT_RISE and fall > OVERFIT_FALL:
            epoch = best + len(log["epoch"]) - len(held_out) + 1
            found.append(
                Finding(
                    f"The {task} task is overfitted: its loss on held-out images was lowest about "
                    f"epoch {epoch} and has risen by {percent(rise)} since, while that on training "
                    f"images fell by {percent(fall)}.",
                    (
                        f"train for fewer epochs (--epochs={epoch}) or on more images",
                        *_smaller_network(config),
                    ),
                    f"{task} overfitted",
                )
            )
    return found


def _smaller_network(config) -> tuple[str, ...]:
    if config.initial_encoder is not None:  # which prescribes the network
        return ()
    layers = max(1, config.model.num_layers // 2)
    return (f"take a smaller network (--set=model.num_layers={layers})",)


def _too_few_steps(config, results, log) -> list[Finding]:
    steps = results["steps"]
    if steps < MIN_STEPS:
        return [
            Finding(
                f"It trained for {steps:,} steps, which are too few: below {MIN_STEPS} a network "
                "has hardly begun.",
                step_advice(config, results, log),
                "too few steps",
            )
        ]
    falling = []
    for task in config.tasks:
        loss = _smoothed(log, task)
        if loss is None:
            continue
        whole, last = loss[0] - loss[-1], loss[-1 - round(len(loss) / 5)] - loss[-1]
        if whole > WHOLE_FALL * abs(loss[0]) and last > STEEP_SHARE * whole:
            falling.append(f"{task} {percent(last / whole)}")
    if not falling:
        return []
    return [
        Finding(
            "The training ended too early: losses were still falling steeply, and the last fifth "
            f"of the epochs brought this much of their whole fall: {', '.join(falling)}.",
            step_advice(config, results, log),
            "ended too early",
        )
    ]


def step_advice(config: RunConfig, results: dict, log: dict[str, np.ndarray]) -> tuple[str, ...]:
    """Returns how to train longer: twice as long, and for `ENOUGH_STEPS` at least.

    Nothing where the run is overfitted already, which would become worse.

    Args:
        config, results, log: as for `sit_keras.runs.answer.answer`.
    """
    if _overfitted(config, log):
        return ()
    epochs = len(log["epoch"])
    longer = max(2 * epochs, math.ceil(ENOUGH_STEPS * epochs / results["steps"]))
    return (f"train longer (--epochs={longer})",)


def other_recipe(config: RunConfig) -> tuple[str, ...]:
    """Returns the advice to take the recipe `modern`, unless the run had it."""
    return () if config.recipe == "modern" else ("take --recipe=modern",)


def _smoothed(log, name) -> np.ndarray | None:
    """The means of a column over windows of epochs; None if it is not long enough, or not whole."""
    values = log.get(name)
    if values is None or len(values) < MIN_EPOCHS or np.isnan(values).any():
        return None
    width = max(1, round(WINDOW * len(values)))
    return np.convolve(values, np.full(width, 1 / width), "valid")


def _last(log, name) -> float:
    """The last value of a column that was measured, NaN if there is none."""
    measured = [value for value in log.get(name, ()) if not math.isnan(value)]
    return measured[-1] if measured else math.nan


def end_of(values: np.ndarray) -> float:
    """Returns the mean of the last epochs (the last `WINDOW` of them) of a column of a log."""
    return float(np.nanmean(values[-max(1, round(WINDOW * len(values))) :]))
