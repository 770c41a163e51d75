"""The plan of a run: settings by the images, the machine and the time that there is, in words."""

import contextlib
import dataclasses
import io
import os
import typing

import numpy as np
import tensorflow as tf

from sit_keras.config.checks import require
from sit_keras.config.execution import Execution
from sit_keras.config.plan import MINUTES, Photos, StepTime, draft, held_out, schedule, usual_start
from sit_keras.config.serialization import changed
from sit_keras.config.settings import RunConfig
from sit_keras.data.images import ImageSet
from sit_keras.data.pipeline import count_steps
from sit_keras.data.reading import short_side
from sit_keras.data.sources import load_source, survey_source
from sit_keras.models.backbone import SiTBackbone
from sit_keras.models.loading import saved_arguments
from sit_keras.runs.data import steps_per_epoch
from sit_keras.workflows.step_time import measure_steps

# Images whose size is looked at.
MAX_SIZES = 200
# Of an initial encoder, what the network must have in common with it.
_PRESCRIBED = ("patch_size", "hidden_dim", "num_layers", "num_heads", "mlp_dim", "stem")


@dataclasses.dataclass(frozen=True)
class Plan:
    """The settings of a run with what they were chosen by.

    Args:
        config: RunConfig.
        photos: Photos.
        found: str. What was found in a folder, or "".
        trained, held_out: int. The numbers of images.
        steps: int. Of an epoch.
        time: StepTime, or None where no step was measured.
        minutes: float or None. What the run may take; None where its length was given.
    """

    config: RunConfig
    photos: Photos
    found: str
    trained: int
    held_out: int
    steps: int
    time: StepTime | None = None
    minutes: float | None = None


def draft_plan(
    dataset: str,
    recipe: str,
    given: dict[str, typing.Any],
    data_dir: str | os.PathLike | None = None,
    download: bool = False,
) -> Plan:
    """Returns a plan without a measured step: as long as is enough, whatever it takes.

    Args:
        dataset, data_dir, download: as for `sit_keras.data.load_source`.
        recipe: str. As for `run_config`.
        given: settings that the user chose, as for `sit_keras.config.serialization.changed`.

    Raises:
        ValueError: for images or settings that do not fit.
    """
    images = changed(RunConfig(), _only(given, "value_range", "model.channels"))
    value_range, channels = images.value_range, images.model.channels
    photos, found = look_at(dataset, data_dir, download, value_range, channels)
    given = {"initial_encoder": usual_start(photos, given), **given}
    encoder = given["initial_encoder"]
    network = None if encoder in (None, "None") else _network_of(encoder)
    return _of(draft(photos, dataset, recipe, given, network), photos, found, given)


def plan_run(
    plan: Plan,
    given: dict[str, typing.Any],
    minutes: float | None = None,
    data_dir: str | os.PathLike | None = None,
    download: bool = False,
    execution: Execution | None = None,
) -> Plan:
    """Measures some steps of a draft, and returns it with a schedule that fits into the time.

    Args:
        plan: Plan, of `draft_plan`.
        given: as there.
        minutes: float or None. How long the run may take, from its start to its answer; `MINUTES`.
        data_dir, download: as there.
        execution: Execution, or None for its defaults.

    Raises:
        ValueError: for a time that is not positive, or images or settings that do not fit.
    """
    minutes = MINUTES if minutes is None else minutes
    time = measure_steps(plan.config, data_dir, download, execution)
    planned = _of(plan.config, plan.photos, plan.found, given, time, minutes)
    return dataclasses.replace(planned, minutes=None if "epochs" in given else minutes)


def plan_of(
    config: RunConfig,
    data_dir: str | os.PathLike | None = None,
    download: bool = False,
    execution: Execution | None = None,
) -> Plan:
    """Returns the plan of a run that was begun: its own settings, with some steps measured."""
    photos, found = look_at(
        config.dataset, data_dir, download, config.value_range, config.model.channels
    )
    time = measure_steps(config, data_dir, download, execution)
    return _whole(config, photos, found, time)


def look_at(
    dataset: str,
    data_dir: str | os.PathLike | None = None,
    download: bool = False,
    value_range: tuple[float, float] | None = None,
    channels: int = 3,
) -> tuple[Photos, str]:
    """Returns what a plan needs to know of the images, and what was found in a folder or a list."""
    survey = survey_source(dataset, data_dir, download, value_range, True, channels)
    train = survey.train
    if train is None:
        train = load_source(
            dataset, data_dir, download, value_range=value_range, channels=channels
        ).train
    on_gpu = bool(tf.config.list_physical_devices("GPU"))
    side = _median_side(train)
    return Photos(survey.images, survey.labelled, side, survey.has_test, on_gpu), survey.text


def _median_side(images: ImageSet) -> int:
    """The median of the short sides of some of the images, in pixels."""
    if images.in_memory:
        return min(images.items.shape[1:3])
    sides = []
    for path in images.subset(MAX_SIZES, seed=0).items.tolist():
        with contextlib.suppress(OSError):  # it has gone since it was found
            sides.append(short_side(path, images.channels))
    require(bool(sides), "None of the images can be opened any more: have they been moved?")
    return int(np.median(sides))


def _network_of(encoder: str) -> dict[str, typing.Any]:
    with contextlib.redirect_stdout(io.StringIO()):
        config = saved_arguments(SiTBackbone, encoder)
    return {name: config[name] for name in _PRESCRIBED}


def _of(config, photos, found, given, time=None, minutes=MINUTES) -> Plan:
    """A draft with the schedule that the time allows."""
    left = photos.images - held_out(photos, config.holdout)
    whole = count_steps(left, config.batch_size)
    settings = schedule(config, whole, time, minutes, given)
    return _whole(changed(config, settings), photos, found, time)


def _whole(config, photos, found, time) -> Plan:
    kept = held_out(photos, config.holdout)
    trained = photos.images - kept
    return Plan(config, photos, found, trained, kept, steps_per_epoch(config, trained), time)


def _only(given, *names):
    return {name: given[name] for name in names if name in given}
