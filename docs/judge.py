"""Judges the encoder of a run, finished or not, on all labels, as a run does it on some.

    python -m docs.judge runs/cifar10 --data_dir=DIR --hours=3.1 --output=judged

The output is a folder that `python -m docs.keep` and `python -m docs.ship` take: the settings, the
log, the encoder as it is now, its comparison with the baselines, and a card.
"""

import argparse
import dataclasses
import pathlib
import shutil

from sklearn.decomposition import PCA

from sit_keras.data.images import ImageSet
from sit_keras.data.sources import load_source
from sit_keras.evaluation.baselines import compare_with_baselines, probe
from sit_keras.evaluation.scores import score
from sit_keras.models.backbone import SiTBackbone
from sit_keras.runs.answer import answer
from sit_keras.runs.data import steps_per_epoch
from sit_keras.runs.files import write_json, write_text
from sit_keras.runs.folder import read_settings
from sit_keras.runs.log import last_losses, read_log
from sit_keras.runs.model_card import CARD, run_card

COPIED = ("config.json", "log.csv", "encoder.keras")
COMPONENTS = 128


def judge(run: pathlib.Path, output: pathlib.Path, data_dir: str | None, hours: float) -> dict:
    """Writes what is known of a run so far.

    Args:
        run: the folder of the run.
        output: a new folder.
        data_dir: where TensorFlow Datasets keeps its data, or None.
        hours: of training so far.

    Returns:
        What `results.json` holds.

    Raises:
        ValueError: for a data set without images to test on.
    """
    config = read_settings(run)
    source = load_source(config.dataset, data_dir=data_dir)
    if source.test is None:
        raise ValueError(f"{config.dataset} has no images to test on, so {run} is not judged.")
    output.mkdir(parents=True)
    for name in COPIED:
        shutil.copy2(run / name, output / name)
    log = read_log(output / "log.csv")
    epochs = len(log["epoch"])
    encoder = SiTBackbone.from_preset(output)
    num_images = len(source.train) - round(config.holdout * len(source.train))
    results = {
        "epochs_done": epochs,
        "steps": epochs * steps_per_epoch(config, num_images),
        "train_seconds": 3600 * hours,
        "losses": last_losses(output / "log.csv"),
        "probe_test_split": "test",
        "labelled_images": len(source.train),
        **compare_with_baselines(encoder, source.train, source.test, config.seed),
    }
    scores = components_scores(source.train, source.test, config.seed)
    for judge, found in scores.items():
        results[f"{judge}_scores"]["components"] = found
        results[f"{judge}_accuracy"]["components"] = found["accuracy"]
    so_far = [f"This is epoch {epochs} of a run of {config.epochs} epochs that goes on."]
    results["answer"] = so_far if epochs < config.epochs else answer(config, results, log)
    write_json(output / "results.json", results)
    write_text(
        output / CARD, run_card(dataclasses.replace(config, epochs=epochs), results, num_images)
    )
    return results


def components_scores(train: ImageSet, test: ImageSet, seed: int) -> dict[str, dict]:
    """Classifies images of one size by the largest principal components of their pixels.

    Args:
        train, test: ImageSet in memory, all labelled.
        seed: int. Of the decomposition, and of the images that choose the probe's penalty.

    Returns:
        What `score` returns, by `linear` and `knn`.
    """
    pixels, queries = (
        images.items.reshape(len(images), -1).astype("float32") / 255 for images in (train, test)
    )
    count = min(COMPONENTS, *pixels.shape)
    found = PCA(count, whiten=True, svd_solver="randomized", random_state=seed).fit(pixels)
    bank, queries = ({"components": found.transform(each)} for each in (pixels, queries))
    labels, truth = train.class_labels(), test.class_labels()
    predicted = probe(bank, labels, queries, len(train.class_names), seed)
    return {
        judge: score(classes, truth)
        for judge, classes in zip(("linear", "knn"), predicted, strict=True)
    }


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m docs.judge", description=__doc__)
    parser.add_argument("run", type=pathlib.Path, help="the folder of the run")
    parser.add_argument("--output", type=pathlib.Path, required=True, help="a new folder")
    parser.add_argument("--data_dir", help="where TensorFlow Datasets keeps its data")
    parser.add_argument("--hours", type=float, required=True, help="of training so far")
    options = parser.parse_args()
    results = judge(options.run, options.output, options.data_dir, options.hours)
    print({probe: results[f"{probe}_accuracy"] for probe in ("linear", "knn")})


if __name__ == "__main__":
    main()
