"""A plan in words: each choice as the flag that changes it, and what it is expected to take."""

import math
import os

from sit_keras.config.plan import FEW_STEPS
from sit_keras.config.presets import started_from
from sit_keras.workflows.planning import Plan


def plan_text(plan: Plan) -> str:
    """Returns a plan as at most 14 lines, of which none but that of the images is long."""
    config, model = plan.config, plan.config.model
    steps = plan.steps * config.epochs
    capped = f" --steps_per_epoch={config.steps_per_epoch}" if config.steps_per_epoch else ""
    peak = f"{config.peak_learning_rate:.2g} at its peak"
    rows = {
        "images": f"--image_size={model.image_size} --patch_size={model.patch_size}",
        "network": _settings(model, "num_layers", "hidden_dim", "num_heads", "mlp_dim"),
        "method": _method(config),
        "batch": f"--batch_size={config.batch_size}",
        "rate": f"--learning_rate={config.learning_rate:g} "
        f"--set=rate_scaling={config.rate_scaling}  ({peak})",
        "decay": f"--weight_decay={config.weight_decay:g} {_settings(model, 'drop_path_rate')}",
        "length": f"--epochs={config.epochs}{capped} --warmup_epochs={config.warmup_epochs}  "
        f"({steps:,} steps, {plan.steps:,} an epoch)",
        "held out": f"--holdout={config.holdout:g}  ({plan.held_out:,} images)",
        "shown": f"--sheet_every={config.sheet_every} --measure_every={config.measure_every}",
    }
    heading = (
        f"Plan for {plan.trained:,} images to train on, {plan.photos.side} px at their short side; "
        "other values by these flags:"
    )
    lines = [heading, *(f"  {name:9}{text}" for name, text in rows.items())]
    if plan.found:
        lines.insert(0, plan.found)
    return "\n".join([*lines, *_cost(plan, steps)])


def _settings(model, *names) -> str:
    return " ".join(f"--set=model.{name}={getattr(model, name)}" for name in names)


def _method(config) -> str:
    parts = [f"--recipe={config.recipe}"]
    if config.initial_encoder is not None:
        parts.append(f"--set=initial_encoder={config.initial_encoder} (None: new weights)")
        parts.append(_settings(config.model, "stem"))
    if config.views.turned_every != started_from(config).views.turned_every:
        parts.append(f"--set=views.turned_every={config.views.turned_every}")
    return " ".join(parts)


def _cost(plan, steps) -> list[str]:
    """What a step took and what the run will take."""
    model, time = plan.config.model, plan.time
    flops = f"{model.num_flops / 1e9:.2g} GFLOPs forward for a view"
    if time is None:
        return [f"{flops}; `train` measures some steps and fits the number of epochs to the time."]
    where = "GPU" if plan.photos.on_gpu else f"{os.cpu_count()} CPU cores"
    lines = [
        f"Measured: {time.step:.2g} s a step ({time.steps} steps on {where}), "
        f"{time.memory / 1e9:.1f} GB of memory; {flops}."
    ]
    took = f"Expected: about {_duration(time.seconds(steps, plan.config.epochs))}"
    if plan.minutes is not None:
        took += f", of the {plan.minutes:g} minutes that --minutes allows"
    lines.append(f"{took}.")
    if steps < FEW_STEPS:
        flag = "--epochs" if plan.minutes is None else "--minutes"
        lines.append(f"Fewer than {FEW_STEPS} steps are very few: raise {flag}.")
    return lines


def _duration(seconds: float) -> str:
    minutes = math.ceil(seconds / 60)
    return f"{minutes} minutes" if minutes < 120 else f"{minutes / 60:.1f} hours"
