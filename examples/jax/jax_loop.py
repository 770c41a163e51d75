"""Trains to the end, or until the time is over, from the last state that was saved."""

import time

import jax
import numpy as np
from jax_files import Log, RunFolder, write_json
from jax_step import Pretraining

from sit_keras.augment.pretext import NUM_VIEWS
from sit_keras.models.saving import save_keras

SAVE_SECONDS = 300  # from one state to the next
SAVING_SECONDS = 30  # kept back for the last one
MAX_SKIPPED = 10  # steps in a row whose gradient is not finite


def train(
    pretraining: Pretraining, folder: RunFolder, steps_per_call: int, deadline: float
) -> bool:
    """Trains, and saves before it leaves.

    Args:
        pretraining: Pretraining. Gets the trained weights.
        folder: RunFolder.
        steps_per_call: int. Steps in one dispatch.
        deadline: float. The value of `time.monotonic()` before which it leaves; may be infinite.

    Returns:
        Whether it has come to the end.

    Raises:
        ArithmeticError: if many gradients in a row are not finite.
    """
    begin = time.monotonic()
    steps_per_epoch, total = pretraining.steps_per_epoch, pretraining.total_steps
    step, saved = folder.restore([len(group) for group in pretraining.groups])
    if saved is not None:
        pretraining.load(saved)
    print(f"{total:,} steps, {steps_per_epoch:,} an epoch; from step {step:,}.", flush=True)
    log = Log(folder.path / "log.csv", step // steps_per_epoch)
    epoch, calls, state, longest = _Epoch(pretraining), {}, pretraining.state(), 0.0
    saved_at = time.monotonic()
    while step < total:
        length = min(steps_per_call, steps_per_epoch - step % steps_per_epoch)
        is_new, call_begin = length not in calls, time.monotonic()
        if is_new:
            calls[length] = pretraining.compiled(length)
        state, values = calls[length](state, step)
        step += length
        epoch.add(jax.device_get(values), step)
        if not is_new:  # the first call of a length compiles it
            longest = max(longest, time.monotonic() - call_begin)
        ends_epoch = step % steps_per_epoch == 0
        is_over = time.monotonic() + 2 * longest + SAVING_SECONDS > deadline
        saves = is_over or step == total or time.monotonic() - saved_at > SAVE_SECONDS
        if ends_epoch or saves:
            pretraining.load(state)
        if ends_epoch:
            log.add(epoch.row(step))  # before the state, which tells how much of the log is done
        if saves:
            folder.save(step, state)
            saved_at = time.monotonic()
        if is_over and step < total:
            print(f"Stopped after {step:,} steps: give the same command again to go on.")
            return False
    _finish(pretraining, folder, log, time.monotonic() - begin)
    return True


def _finish(pretraining, folder, log, seconds):
    """Writes what train.py writes at the end, too, the results last."""
    for name, model in (("encoder", pretraining.backbone), ("network", pretraining.network)):
        save_keras(model, folder.path / f"{name}.keras")
    results = {"steps": pretraining.total_steps, "train_seconds": round(seconds, 1)}
    write_json(folder.path / "results.json", {**results, "losses": log.last()})


class _Epoch:
    """What is measured in an epoch, or in the rest of one that was cut off."""

    def __init__(self, pretraining):
        self._pretraining = pretraining
        self._skipped = 0
        self._start()

    def _start(self):
        self._parts, self._begin = [], time.monotonic()

    def add(self, values, step):
        """Takes what some steps have logged; ArithmeticError if nothing is learned any more."""
        self._parts.append(values)
        for is_skipped in values["skipped"]:
            self._skipped = self._skipped + 1 if is_skipped else 0
        if self._skipped >= MAX_SKIPPED:
            bad = [name for name, value in values.items() if not np.isfinite(value[-1])]
            raise ArithmeticError(
                f"The gradients of the last {self._skipped} steps up to {step:,} were not finite "
                f"({', '.join(bad) or 'the losses were'}): lower the learning rate, or set "
                "clip_norm. The last state that was saved stays."
            )

    def row(self, step):
        """Returns the epoch's line of the log, prints it, and starts the next epoch."""
        pretraining = self._pretraining
        columns = {name: np.concatenate([p[name] for p in self._parts]) for name in self._parts[0]}
        row = {"epoch": step // pretraining.steps_per_epoch - 1}
        row |= {name: _finite_mean(values) for name, values in columns.items()}
        weighting = pretraining.weighting
        row |= {f"alpha_{task}": value for task, value in weighting.alphas().items()}
        row |= {f"weight_{task}": value for task, value in weighting.task_weights().items()}
        row["learning_rate"] = pretraining.optimizer.learning_rate
        views = NUM_VIEWS * pretraining.config.batch_size * len(columns["loss"])
        row["views_per_second"] = views / (time.monotonic() - self._begin)
        row = {name: float(value) for name, value in row.items()}
        print(" | ".join(f"{name} {value:.4g}" for name, value in row.items()), flush=True)
        self._start()
        return row


def _finite_mean(values):
    """The mean over the steps that were not skipped; NaN if there is none."""
    values = values[np.isfinite(values)]
    return values.mean() if len(values) else float("nan")
