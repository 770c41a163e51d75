"""Trains rows of settings for the same budget, and judges their encoders on the same images."""

import os
import time
import typing

import numpy as np
import tensorflow as tf

from sit_keras.config.checks import require
from sit_keras.config.files import make_own_folder
from sit_keras.config.progress import duration
from sit_keras.config.recipe_rows import Row
from sit_keras.config.serialization import changed, to_dict
from sit_keras.config.settings import RunConfig
from sit_keras.data.images import ImageSet
from sit_keras.data.pipeline import eval_batches, lost_images_explained
from sit_keras.evaluation.baselines import pixel_preprocessing, probe
from sit_keras.evaluation.features import FrozenFeatures, head_features, pixel_features
from sit_keras.evaluation.scores import score
from sit_keras.models.backbone import SiTBackbone
from sit_keras.models.seeding import seeded
from sit_keras.runs.cached_step import cached_step, fingerprint, images_fingerprint
from sit_keras.runs.data import refuse_among_images, with_statistics
from sit_keras.runs.files import sole_run
from sit_keras.runs.folder import folder_name, refuse_run
from sit_keras.runs.shown_names import shown_settings
from sit_keras.workflows import recipe_table
from sit_keras.workflows.labelled_images import labelled_images
from sit_keras.workflows.own_process import in_own_process
from sit_keras.workflows.pretrain import pretrain
from sit_keras.workflows.recipe_budget import CLOCK, StepClock, measure_step, scheduled

# Of the images that all encoders are judged on, whatever the seed of a run.
JUDGE_SEED = 123
# What the encoders are compared with, by the name of the row.
BASELINES = ("raw pixels", "untrained")


def benchmark_recipes(
    config: RunConfig,
    rows: typing.Sequence[Row],
    output: str | os.PathLike,
    seeds: typing.Sequence[int] = (0,),
    budget: float | None = None,
    images: int | None = None,
    judge: int = 10_000,
    data_dir: str | os.PathLike | None = None,
    download: bool = False,
) -> list[dict]:
    """Trains each row with each seed, and compares the encoders by neighbours and a linear probe.

    A call that was interrupted can be repeated: what is finished stays, and the last run goes on.
    Other rows and seeds are added to the table of the same folder. A row that fails is named with
    the reason, and the others go on. Each run is a process of its own, so a script that calls this
    needs `if __name__ == "__main__":`.

    Args:
        config: RunConfig that the rows change.
        rows: Rows, at least one.
        output: the folder. Gets `records.jsonl`, `about.json`, `table.md`, `table.csv`,
            `chart.png`, and a run for each row and seed in `runs/`.
        seeds: ints.
        budget: float. CPU-seconds of the steps of a run: the cost of a step of each row is measured
            first, and its whole schedule gets as many steps as the budget holds. Or
        images: int. Images that a run is trained on, counted as often as they are seen.
        judge: int. Labelled training images that a judge learns from; it is asked about half as
            many test images. They are chosen by a fixed seed.
        data_dir, download: as for `sit_keras.data.load_source`.

    Returns:
        The records of all rows and seeds in the folder, as of `records.jsonl`.

    Raises:
        ValueError: for both budgets or none, images without labels, or a folder with another
            comparison in it.
        Stopped: after Ctrl-C or SIGTERM, with the state saved.
        OSError: if the folder cannot be written.
    """
    require((budget is None) != (images is None), "Give a budget or a number of images.")
    require(budget is None or budget > 0, f"The budget must be positive, received {budget}.")
    require(images is None or images > 0, f"images must be positive, received {images}.")
    require(judge > 1, f"judge must be at least 2 images, received {judge}.")
    train, test, split = labelled_images(
        config.dataset, data_dir, download, JUDGE_SEED, config.value_range, config.model.channels
    )
    bank, queries = train.subset(judge, JUDGE_SEED), test.subset(judge // 2, JUDGE_SEED)
    require(
        len(np.unique(bank.class_labels())) > 1,
        f"The {len(bank)} labelled images to judge from are of one class: give a larger --judge.",
    )
    # Test images judge, so none need be held out; the comparison with baselines is made once.
    config = with_statistics(changed(config, {"holdout": 0.0}), data_dir, download)
    about = {
        "settings": shown_settings(to_dict(config)),
        "budget": budget,
        "images": images,
        "bank": len(bank),
        "queries": len(queries),
        "split": split,
    }
    refuse_run(output)
    refuse_among_images(output, config.dataset, [train, test])
    output = make_own_folder(output)
    with sole_run(output):
        recipe_table.begin(output, about)
        runs = [(row, seed) for seed in seeds for row in rows]  # a whole table of the first seed
        progress = _Progress(len(runs))
        for row, seed in runs:
            progress.show(f"{row.name}, seed {seed}")
            run = output, config, row, seed, budget, images, bank, queries, data_dir, download
            record = {"row": row.name, "seed": seed, "changes": row.changes}
            try:
                record |= in_own_process(_run, *run)
            except ChildProcessError as error:
                record |= {"error": str(error)}
            recipe_table.add(output, record)
            print(recipe_table.line(record), flush=True)
        for name in BASELINES:
            recipe_table.add(output, _baseline(name, config, output, bank, queries))
        recipe_table.write(output)
    print(f"\n{(output / 'table.md').read_text()}\nTable, records and chart: {output}")
    return recipe_table.records(output)


@lost_images_explained()
def _run(output, config, row, seed, budget, images, bank, queries, data_dir, download) -> dict:
    """Trains and judges a run, and returns what to record; of one that fails, the reason."""
    try:
        run_dir = output / "runs" / folder_name(f"{row.name}-seed{seed}")
        run = changed(config, {**row.changes, "seed": seed})
        record = _train(run, run_dir, row, budget, images, output, data_dir, download)
        return record | _judge_run(run_dir, bank, queries)
    except (ValueError, ArithmeticError, tf.errors.ResourceExhaustedError) as error:
        return {"error": " ".join(str(error).split())}


def _train(run, run_dir, row, budget, images, output, data_dir, download) -> dict:
    """Trains a run within its budget, and returns what it took."""
    if budget is None:
        steps = images // run.batch_size
    else:
        settings = to_dict(changed(run, {"seed": 0}))  # the seeds share a measurement
        cost = cached_step(
            output / "cost" / folder_name(row.name),
            settings,
            lambda _: {"seconds": measure_step(run, data_dir, download)},
        )["seconds"]
        print(f"A step takes {cost:.3g} CPU-seconds.", flush=True)
        steps = int(budget / cost)
    run = scheduled(run, steps, data_dir, download)
    clock = StepClock(run_dir / CLOCK)
    results = pretrain(run, run_dir, data_dir, download, callbacks=[clock], compare=False)
    cost = clock.seconds_per_step
    return {
        "steps": results["steps"],
        "batch_size": run.batch_size,
        "cpu_seconds": cost and round(cost * results["steps"], 1),
        "train_seconds": results["train_seconds"],
        "losses": results["losses"],
    }


def _judge_run(run_dir, bank, queries) -> dict:
    encoder = SiTBackbone.from_preset(run_dir)
    settings = _settings(bank, queries) | {"encoder": fingerprint(encoder.get_weights())}
    return cached_step(run_dir / "judged", settings, lambda _: _judge(encoder, bank, queries))


def _judge(encoder, bank, queries) -> dict:
    """Returns the scores of an encoder, and which of the test images it classifies correctly."""
    features = FrozenFeatures(encoder)
    of_bank, of_queries = (head_features(features.of(images)) for images in (bank, queries))
    return _scores(of_bank, of_queries, bank, queries)


def _baseline(name, config, output, bank, queries) -> dict:
    """Returns the record of raw pixels, or of the network with new weights."""

    def compute(_):
        with seeded(JUDGE_SEED):
            encoder = SiTBackbone(
                **config.model.backbone_arguments(), preprocessing=config.preprocessing
            )
        if name == "untrained":
            return _judge(encoder, bank, queries)
        preprocessing = pixel_preprocessing(encoder)
        pixels = [
            {"pixels": pixel_features(eval_batches(images, preprocessing))}
            for images in (bank, queries)
        ]
        return _scores(*pixels, bank, queries)

    settings = _settings(bank, queries) | to_dict(config)
    found = cached_step(output / "baselines" / folder_name(name), settings, compute)
    return {"row": name, "seed": None, "changes": {}} | found


def _scores(features, query_features, bank: ImageSet, queries: ImageSet) -> dict:
    labels, truth = bank.class_labels(), queries.class_labels()
    predicted = probe(features, labels, query_features, len(bank.class_names), JUDGE_SEED)
    return {
        judge: {**score(found, truth), "right": recipe_table.packed(found == truth)}
        for judge, found in zip(("linear", "knn"), predicted, strict=True)
    }


def _settings(bank, queries) -> dict:
    return {"train": images_fingerprint(bank), "test": images_fingerprint(queries)}


class _Progress:
    """Says which run is at hand, and how long those left will take if they take as long."""

    def __init__(self, count: int):
        self._count = count
        self._starts: list[float] = []

    def show(self, name: str) -> None:
        self._starts.append(time.monotonic())
        number, eta = len(self._starts), ""
        # What was finished before is passed over in a moment, and says nothing about the others.
        took = [seconds for seconds in np.diff(self._starts) if seconds > 5]
        if took:
            eta = f"; ETA {duration(float(np.mean(took)) * (self._count - number + 1))}"
        print(f"\n[{number}/{self._count}] {name}{eta}", flush=True)
