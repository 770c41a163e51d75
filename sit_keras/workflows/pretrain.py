"""One pre-training run, from its settings to a folder of results."""

import contextlib
import dataclasses
import functools
import os
import pathlib
import time
import typing

import keras
import tensorflow as tf

from sit_keras.augment.sampling import DONOR_GROUP
from sit_keras.config.execution import Execution
from sit_keras.config.serialization import to_dict
from sit_keras.config.settings import RunConfig
from sit_keras.data.pipeline import lost_images_explained
from sit_keras.evaluation.callbacks import NearestNeighbours
from sit_keras.evaluation.features import FrozenFeatures
from sit_keras.models.backbone import SiTBackbone
from sit_keras.models.loading import start_from
from sit_keras.models.optimizers import build_optimizer
from sit_keras.models.precision import precision
from sit_keras.models.saving import save_keras
from sit_keras.models.seeding import seeded
from sit_keras.models.weighting import run_weighting
from sit_keras.runs.answer import answer
from sit_keras.runs.data import RunData
from sit_keras.runs.files import full_disk_explained, sole_run, write_json, write_text
from sit_keras.runs.folder import as_measured, refuse_another_run, write_settings
from sit_keras.runs.image_record import ImageRecord, settle_images
from sit_keras.runs.log import forget_later_epochs, last_losses, read_log
from sit_keras.runs.model_card import CARD, run_card
from sit_keras.runs.results import finished_results
from sit_keras.runs.tensorboard import BoardLog
from sit_keras.training import guards, multi_worker
from sit_keras.training.callbacks import (
    EpochScalars,
    ReconstructionSheets,
    TaskGradients,
    ValidationLosses,
)
from sit_keras.training.checkpoint import Checkpoints
from sit_keras.training.data_wait import DataWait
from sit_keras.training.epoch_report import EpochReport
from sit_keras.training.memory import limit_arenas
from sit_keras.training.micro_batches import check_shares
from sit_keras.training.pretrainer import SiTPretrainer
from sit_keras.training.replicas import num_replicas
from sit_keras.training.strategy import (
    agree,
    all_or_none,
    is_chief,
    is_multi_worker,
    make_strategy,
    worker_loss_explained,
)
from sit_keras.workflows.last_measures import last_measures
from sit_keras.workflows.messages import announce

# The results that every worker returns, not the chief alone.
_OF_ALL = ("steps", "train_seconds")


def pretrain(
    config: RunConfig,
    run_dir: str | os.PathLike,
    data_dir: str | os.PathLike | None = None,
    download: bool = False,
    execution: Execution | None = None,
    callbacks: typing.Sequence[keras.callbacks.Callback] = (),
    compare: bool = True,
) -> dict:
    """Pre-trains an encoder, compares it with its baselines, and writes everything to one folder.

    A folder with an unfinished run of the same settings is continued where it stopped; a
    finished one is returned as it is.

    Args:
        config: RunConfig.
        run_dir: the folder; several workers must see the same one. Gets `config.json`,
            `encoder.keras`, `network.keras` (the encoder with its pretext heads), `results.json`,
            `model_card.md`, `log.csv`, `tensorboard/`, `sheets/`, `checkpoints/` and, after a
            non-finite loss, `not_finite.jsonl`.
        data_dir, download: as for `sit_keras.data.load_source`.
        execution: Execution, or None for its defaults. A run may go on under another one.
        callbacks: Keras callbacks of the user, called after those of the run, on every worker. One
            that sets `model.stop_training` ends the run after that epoch.
        compare: bool. Compare the encoder with its baselines where there are labels.

    Returns:
        The results, as in `results.json`; on a worker that is not the chief, without the comparison
        with the baselines.

    Raises:
        ValueError: for settings or data that do not fit, or a folder with another run in it.
        OSError: if the folder cannot be written.
        NonFiniteLoss: if a loss becomes NaN or infinite.
        Stopped: after Ctrl-C or SIGTERM, with the state saved.
        WorkerLost: if another worker dies.
    """
    run_dir, execution = pathlib.Path(run_dir), execution or Execution()
    limit_arenas()
    strategy = make_strategy(execution.strategy)
    is_first = is_chief(strategy)
    with contextlib.ExitStack() as stack:
        stack.enter_context(full_disk_explained(run_dir))
        stack.enter_context(lost_images_explained())
        stack.enter_context(worker_loss_explained())
        with all_or_none(strategy):
            config = as_measured(run_dir, config)
            refuse_another_run(run_dir, config, execution.resume)
            results = finished_results(run_dir)
            if results is None:
                data = RunData.load(config, data_dir, download)
                config = data.config
                data.refuse_as_output(run_dir)
                if is_first:
                    stack.enter_context(sole_run(run_dir))
                data = settle_images(data, run_dir, execution.on_changed_images, writes=is_first)
                if is_first:
                    write_settings(run_dir, config)
                    announce(data)
        if results is not None:
            print(f"{run_dir} is finished already, and stays as it is.")
            return results if is_first else {name: results[name] for name in _OF_ALL}
        stack.enter_context(precision(config.precision))
        images = ImageRecord.of(data).fingerprint()
        agree(strategy, "settings", [to_dict(config), dataclasses.asdict(execution)])
        agree(strategy, "images", images)
        steps = data.steps_per_epoch
        with strategy.scope():
            model = _build(config, steps, execution)
            checkpoints = Checkpoints(model, run_dir / "checkpoints", model.trained_parts)
        features = FrozenFeatures(model.backbone)
        seconds, timed = _fit(model, features, checkpoints, data, run_dir, execution, callbacks)
        results = dict(zip(_OF_ALL, (int(model.step.numpy()), round(seconds, 1)), strict=True))
        if is_first:
            save_keras(model.network, run_dir / "network.keras")
            results["timed_steps"] = timed  # fewer where the run was interrupted
            results["losses"] = last_losses(run_dir / "log.csv")
            if compare:
                results |= last_measures(model, features, data)
                results["answer"] = answer(config, results, read_log(run_dir / "log.csv"))
            write_text(run_dir / CARD, run_card(config, results, len(data.train)))
            # The last, so that it marks a complete run.
            write_json(run_dir / "results.json", results)
        agree(strategy, "end", "reached")  # the others wait while the chief evaluates
    return results


def draw_batch(
    config: RunConfig, step: int, data_dir: str | os.PathLike | None = None, download: bool = False
) -> dict[str, tf.Tensor]:
    """Makes the batch of one step of a run again, such as one named in `not_finite.jsonl`.

    Args:
        config: RunConfig of the run.
        step: int. Counted from 0.
        data_dir, download: as for `sit_keras.data.load_source`.

    Returns:
        The views, as of `TwoViews`.
    """
    return RunData.load(config, data_dir, download).views(step)


def _build(config, steps_per_epoch, execution):
    replicas, micro_batches = num_replicas(), execution.micro_batches
    check_shares(config, replicas, micro_batches)
    share = config.batch_size // replicas
    if replicas > 1 and share % DONOR_GROUP and is_chief(tf.distribute.get_strategy()):
        print(
            f"Each device has {share} images of a batch, which is no multiple of {DONOR_GROUP}, so "
            "blocks are replaced from other images than on one device."
        )
    with seeded(config.seed):
        backbone = SiTBackbone(
            **config.model.backbone_arguments(),
            preprocessing=config.preprocessing,
            seed=config.seed,
        )
        model = SiTPretrainer(
            backbone,
            tasks=config.tasks,
            weighting=run_weighting(config, replicas),
            temperature=config.temperature,
            negatives=config.negatives,
            **config.model.projection_arguments(),
            views=config.views,
            corruption=config.corruption,
            clip_norm=config.clip_norm,
            micro_batches=micro_batches,
            remat=execution.remat,
            seed=config.seed,
        )
    model.compile(build_optimizer(config, steps_per_epoch))
    return model


def _fit(model, features, checkpoints, data, run_dir, execution, users_callbacks):
    """Trains to the end, from the last checkpoint if there is one; returns seconds and steps."""
    config, steps, strategy = data.config, data.steps_per_epoch, model.distribute_strategy
    start_step = checkpoints.restore()
    agree(strategy, "first step", start_step)
    if start_step == 0 and config.initial_encoder is not None:
        with strategy.scope():
            start_from(config.initial_encoder, model.backbone)
    is_first = is_chief(strategy)
    if is_first:
        forget_later_epochs(run_dir / "log.csv", start_step // steps)
        if start_step:
            print(f"Going on from step {start_step} of {run_dir}.")
    # Of the images of a step, those that go through the network at once.
    at_once = config.batch_size // (strategy.num_replicas_in_sync * model.micro_batches)

    wait = DataWait() if strategy.num_replicas_in_sync == 1 else None
    report = EpochReport(config.epochs, config.batch_size, steps, wait, execution.verbose)
    position = guards.Position(start_step)
    stop = guards.StopOnSignal(checkpoints, position)
    record = run_dir / "not_finite.jsonl" if is_first else None
    watch = guards.WatchNonFinite(position, execution.on_nan, config.seed, record)
    save = guards.SaveState(checkpoints, position, model.backbone, run_dir / "encoder.keras")
    validation = [ValidationLosses(data.validation_batches(), at_once)] if data.can_validate else []
    followers = [position, *validation, watch]
    if is_first:
        sample = functools.cache(lambda: data.sample_of_validation(model.make_views))
        followers += _measures(data, features, sample, at_once)
        writers = [*_writers(data, sample, run_dir), save]
        forgive = execution.on_full_disk == "go_on"
        followers += map(guards.forgiving, writers) if forgive else writers
        followers.append(report)
    fit = multi_worker.fit if is_multi_worker(strategy) else _fit_with_keras(wait)
    model.stop_training = False
    begin = time.monotonic()
    with stop.listening(), report.live():
        # A run that was stopped within an epoch first takes that epoch's remaining steps.
        for first, last in _legs(start_step, steps, config.epochs):
            if model.stop_training:  # by a callback of the user
                break
            fit(
                model,
                functools.partial(data.train_batches, first, last),
                initial_epoch=first // steps,
                epochs=-(-last // steps),
                steps_per_epoch=min(steps, last - first),
                callbacks=[*followers, *users_callbacks, stop],
            )
    if is_first:
        save.save()  # what is missing yet, after a full disk or a kill too
    return time.monotonic() - begin, position.step - start_step


def _fit_with_keras(wait):
    def fit(model, batches_of, **settings):
        batches = batches_of() if wait is None else wait.watched(batches_of())
        # The order is the dataset's business.
        model.fit(batches, shuffle=False, verbose=0, **settings)

    return fit


def _measures(data, features, sample, at_once):
    """The callbacks that add to an epoch's logs."""
    due = data.config.measure_every, data.config.epochs
    parts = [TaskGradients(sample, at_once, *due)]
    bank, queries = data.probe_images(data.held_out)
    if len(bank) and len(queries):
        parts.append(NearestNeighbours(bank, queries, features, *due))
    return parts


def _writers(data, sample, run_dir):
    """The callbacks that write an epoch's pictures and logs."""
    config = data.config
    board = BoardLog(run_dir / "tensorboard" / "sheets")
    return [
        ReconstructionSheets(sample, run_dir / "sheets", config.sheet_every, config.epochs, board),
        keras.callbacks.CSVLogger(run_dir / "log.csv", append=True),
        EpochScalars(run_dir / "tensorboard"),
    ]


def _legs(start_step, steps_per_epoch, epochs):
    """The stretches (first step, last step) to train: the rest of an epoch, then whole epochs."""
    boundary = -(-start_step // steps_per_epoch) * steps_per_epoch
    end = steps_per_epoch * epochs
    return [(a, b) for a, b in ((start_step, boundary), (boundary, end)) if a < b]
