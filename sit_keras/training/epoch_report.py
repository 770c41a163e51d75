"""What a training shows: a line that changes within an epoch, and a line for each epoch."""

import contextlib
import math
import time
import typing

import keras

from sit_keras.config.progress import COLUMNS, LiveLine, duration, speed_text
from sit_keras.training.data_wait import DataWait

_LEGEND = {
    "reconstruction": "rec: reconstruction loss",
    "rotation": "rot: rotations recognised",
    "contrastive": "con: other views found",
}


class EpochReport(keras.callbacks.Callback):
    """Prints one line of what an epoch brought, of at most 100 columns.

    Within `live` it also shows how an epoch goes on. The speed and the time left are without the
    first step, which compiles (without the first `steps_per_execution` steps, if there are
    several). A loss is read from the device only when it is shown, so the steps do not wait for it.
    Where Keras does not know how many steps an epoch has, the first epoch tells it.

    Args:
        epochs: int. Of the whole run.
        batch_size: int or None. Images of a step; None shows steps per second.
        steps_per_epoch: int or None. Of a whole epoch; None for those of the epoch at hand, which
            may be the rest of an interrupted one.
        wait: DataWait or None. Of the dataset; shows the share of the time that steps wait for it.
        verbose: bool. Show all that was measured of each task, a line for each.
    """

    def __init__(
        self,
        epochs: int,
        batch_size: int | None = None,
        steps_per_epoch: int | None = None,
        wait: DataWait | None = None,
        verbose: bool = False,
    ):
        super().__init__()
        self._epochs, self._batch_size, self._wait = epochs, batch_size, wait
        self._steps_per_epoch, self._verbose = steps_per_epoch, verbose
        self._pace = _Pace()
        self._steps = None
        self._is_new = True
        self._is_live, self._line = False, None

    @contextlib.contextmanager
    def live(self) -> typing.Iterator[None]:
        """Shows the state within epochs, as `LiveLine` does, while the context lasts."""
        self._is_live = True
        try:
            yield
        finally:
            self._is_live = False
            self._close()

    def on_epoch_begin(self, epoch, logs=None):
        if self._is_new:
            self._explain()
            self._is_new = False
        self._epoch, self._step, self._logs = epoch, 0, {}
        # Unknown in the first epoch of a dataset without a length; then those of the one before.
        self._steps, self._began = self.params["steps"] or self._steps, time.monotonic()
        self._pace.begin_epoch(self._waited())
        if self._is_live:
            self._line = LiveLine(self._text)
            self._line.__enter__()

    def on_train_batch_end(self, batch, logs=None):
        known = self.params["steps"]  # the last execution of several steps may have fewer
        step = min(batch + 1, known) if known else batch + 1
        self._pace.add_steps(step - self._step, self._waited())
        self._step, self._logs = step, logs
        if self._step == self._steps:
            self._close()  # what is measured after the steps shows its own progress

    def on_epoch_end(self, epoch, logs=None):
        self._close()
        self._steps = self.params["steps"] or self._step
        measured, ends = self._measured(logs), self._speed()
        left = self._pace.seconds_left(0, self._epochs - epoch - 1, self._whole_epoch())
        ends += [f"ETA {duration(left)}"] if left is not None else []
        line, shorter = (
            " | ".join([self._name(epoch), "  ".join(cells), *ends])
            for cells in (measured, measured[1:])
        )
        # The total loss says least, where all numbers are as long as they can be.
        print(line if len(line) <= COLUMNS else shorter, flush=True)
        if self._verbose:
            for task in self.model.tasks:
                print(f"    {_details(task, logs)}", flush=True)

    def _close(self):
        if self._line is not None:
            self._line.__exit__()
            self._line = None

    def _explain(self):
        print(f"{'; '.join(_LEGEND[task] for task in self.model.tasks)}.")
        if self._verbose:
            print("weight: of the loss in the total; gradient: the task's share at the encoder.")

    def _name(self, epoch):
        return f"epoch {epoch + 1:{len(str(self._epochs))}}/{self._epochs}"

    def _text(self):
        """The state within an epoch."""
        step, logs = self._step, self._logs
        if not step:
            passed = duration(time.monotonic() - self._began)
            return f"{self._name(self._epoch)} | the first step is on its way, {passed} so far"
        of = f" of {self._steps:,}" if self._steps else ""
        cells = [self._name(self._epoch), f"step {step:,}{of}", *self._speed()]
        if self._wait is not None and self._pace.seconds:
            cells.append(f"waits for data {self._pace.wait_share:.0%}")
        cells.append(f"loss {_number(float(logs['loss']))}")
        left = None
        if self._steps:
            rest = max(self._steps - step, 0), self._epochs - self._epoch - 1
            left = self._pace.seconds_left(*rest, self._whole_epoch())
        return " | ".join([*cells, *([f"ETA {duration(left)}"] if left is not None else [])])

    def _measured(self, logs):
        cells = [f"loss {_number(logs['loss'])}"]
        for task in self.model.tasks:
            known = logs.get(f"{task}_accuracy")
            text = _number(logs[task]) if known is None else f"{known:.0%}"
            cells.append(f"{task[:3]} {text}")
        if not math.isnan(logs.get("knn_accuracy", math.nan)):
            cells.append(f"kNN {logs['knn_accuracy']:.1%}")
        return cells

    def _speed(self):
        speed = self._pace.steps_per_second
        if speed is None:
            return []
        if self._batch_size is None:
            return [speed_text(speed, "steps")]
        return [speed_text(speed * self._batch_size, "images")]

    def _whole_epoch(self):
        return self._steps_per_epoch or self._steps

    def _waited(self):
        return self._wait.seconds if self._wait is not None else 0.0


class _Pace:
    """How long steps take, and what lies between two epochs.

    It is that of the epoch at hand and of the one before, so that it follows a machine that becomes
    slower. The first execution of all and the first end of an epoch are left out: they compile.
    """

    def __init__(self):
        self._now = (0, 0.0, 0.0)  # steps, seconds and waiting of the epoch at hand
        self._earlier = self._now  # those of the epoch before
        self._ends: list[float] = []
        self._is_first = True
        self._last: float | None = None

    def begin_epoch(self, waited: float) -> None:
        now = time.monotonic()
        if self._last is not None:
            self._ends.append(now - self._last)
            self._earlier = self._now
        self._begin, self._waited = now, waited
        self._now = (0, 0.0, 0.0)

    def add_steps(self, count: int, waited: float) -> None:
        self._last = time.monotonic()
        if self._is_first:
            self._begin, self._waited, self._is_first = self._last, waited, False
            return
        self._now = (self._now[0] + count, self._last - self._begin, waited - self._waited)

    def _total(self, index):
        return self._now[index] + self._earlier[index]

    @property
    def seconds(self) -> float:
        return self._total(1)

    @property
    def wait_share(self) -> float:
        return self._total(2) / self._total(1)

    @property
    def steps_per_second(self) -> float | None:
        """None before there is a second step."""
        return self._total(0) / self.seconds if self.seconds else None

    def seconds_left(self, steps: int, epochs: int, steps_per_epoch: int) -> float | None:
        """Returns how long so many steps and then so many whole epochs will take."""
        if not self.seconds:
            return None
        known = self._ends[1:]
        end = sum(known) / len(known) if known else 0.0
        return (steps + epochs * steps_per_epoch) * self.seconds / self._total(0) + epochs * end


def _details(task, logs) -> str:
    """All that was measured of a task, for `verbose`."""
    cells = [f"{task:<14}", f"loss {_number(logs[task])}"]
    names = {
        f"val_{task}": "held out {:.4g}",
        f"{task}_accuracy": "right {:.1%}",
        f"val_{task}_accuracy": "held out {:.1%}",
        f"alpha_{task}": "alpha {:.2f}",
        f"weight_{task}": "weight {:.2f}",
        f"share_{task}": "gradient {:.0%}",
    }
    for name, text in names.items():
        if not math.isnan(logs.get(name, math.nan)):
            cells.append(text.format(logs[name]))
    return "  ".join(cells)


def _number(loss) -> str:
    return f"{loss:.3f}" if abs(loss) < 100 else f"{loss:.4g}"
