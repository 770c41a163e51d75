"""An encoder, labelled images and some protocols: to a folder of results."""

import json
import os
import pathlib
import typing

import keras

from sit_keras.config.checks import check_choice
from sit_keras.config.presets import finetune_recipe
from sit_keras.config.serialization import changed
from sit_keras.config.settings import ViewConfig
from sit_keras.data.images import ImageSet
from sit_keras.data.sources import load_source
from sit_keras.data.splits import hold_out, label_indices, possible_fractions
from sit_keras.data.views import TwoViews
from sit_keras.evaluation import protocols
from sit_keras.evaluation.features import FEATURES
from sit_keras.evaluation.finetune import finetune
from sit_keras.models.backbone import build_encoder
from sit_keras.models.loading import load_encoder
from sit_keras.runs.cached_step import fingerprint
from sit_keras.runs.files import write_json
from sit_keras.runs.folder import folder_name, read_settings

PROTOCOLS = ("linear", "augmented", "knn", "health", "finetune", "fewshot")
QUICK = ("linear", "knn", "health")
FRACTIONS = (0.01, 0.1, 0.25, 0.5, 1.0)
TEST_SHARE = 0.2  # of a folder that has no test images of its own


def evaluate(
    run: str | os.PathLike,
    dataset: str | None = None,
    chosen: typing.Sequence[str] = QUICK,
    output: str | os.PathLike | None = None,
    data_dir: str | os.PathLike | None = None,
    download: bool = False,
    image_size: int | None = None,
    features: str = "tokens",
    ks: typing.Sequence[int] = (1, 5, 20, 200),
    fraction: float | None = None,
    per_class: int | None = None,
    scratch: bool = False,
    training: dict | None = None,
    seed: int = 0,
) -> dict:
    """Judges an encoder and writes `results.json` and pictures, telling what it finds.

    Args:
        run: a run folder of train.py, or a `.keras` file with an encoder.
        dataset: str or None. As for `sit_keras.data.load_source`; None takes that of the run.
        chosen: some of `PROTOCOLS`.
        output: the folder of the results. Default: `evaluation/DATASET` beside the encoder.
        data_dir, download: as for `sit_keras.data.load_source`.
        image_size: int or None. Another input size; the position embeddings are resized.
        features: str. One of `FEATURES`, which neighbours and health look at.
        ks: numbers of neighbours; those beyond the number of training images are left out.
        fraction, per_class: learn from so many labels only, see `sit_keras.data.label_subset`.
        scratch: bool. Judge the same network with new weights.
        training: dict or None. Settings of `FinetuneConfig` that differ from the preset's recipe,
            as for `config_json.changed`; `hidden_dim` is also the linear evaluation's.
        seed: int. Of the validation split, the labels chosen, and of what is drawn.

    Returns:
        What `results.json` holds: with what other protocols found of the same encoder before.

    Raises:
        ValueError: for an unknown protocol, an encoder or data that are not there or do not fit.
    """
    for protocol in chosen:
        check_choice("protocol", protocol, PROTOCOLS)
    check_choice("features", features, FEATURES)
    refuse_settings("training", training, ("frozen", "seed"))
    run = pathlib.Path(run)
    encoder = load_encoder(run, image_size)
    if scratch:
        keras.utils.set_random_seed(seed)
        encoder = build_encoder(encoder.config)
    config = read_settings(run) if (run / "config.json").exists() else None
    dataset = dataset or (config and config.dataset)
    if dataset is None:
        raise ValueError(f"{run} does not say what it was trained on: give a dataset.")
    views = config.views if config else ViewConfig()
    train, test = labelled_images(dataset, data_dir, download, seed)
    few = fraction is not None or per_class is not None
    rows = label_indices(train, seed, fraction, per_class) if few else None
    train = train.take(rows) if few else train
    frozen = protocols.Frozen(encoder, train, test, views.eval_crop, seed)
    name = [folder_name(dataset), *([f"{len(train)}-labels"] if few else [])]
    name += [f"{image_size}px"] if image_size else []
    name += ["scratch"] if scratch else []
    name += [f"seed{seed}"] if seed else []
    output = pathlib.Path(output or _home(run) / "evaluation" / "-".join(name))
    print(
        f"{run} on {dataset}: {len(train)} images to learn from, {len(test)} to be tested on, "
        f"{len(train.class_names)} classes, at {encoder.config.square_size} px."
    )
    header = {
        "encoder": None if scratch else str(run),
        "fingerprint": fingerprint(encoder.get_weights()),
        "pretrained_on": None if scratch or config is None else config.dataset,
        "dataset": dataset,
        "image_size": encoder.config.square_size,
        "seed": seed,
        "train_images": len(train),
        "test_images": len(test),
        "num_classes": len(train.class_names),
    }
    output.mkdir(parents=True, exist_ok=True)
    if few:
        write_json(output / "labels.json", {"seed": seed, "rows": rows.tolist()})
    results = {**_found_before(output / "results.json", header), **header}

    def recipe(frozen=False):
        settings = finetune_recipe(config and config.preset, views, frozen, seed=seed)
        return changed(settings, training or {})

    def found(name, values):
        results[name] = values
        write_json(output / "results.json", results)

    if "linear" in chosen:
        found("linear", protocols.linear(frozen, output, recipe().hidden_dim))
        new = results["linear"]["new_weights"]
        print(f"classifier.keras = the encoder and {len(new)} new weights: {', '.join(new)}")
        print(f"linear evaluation    {results['linear']['accuracy']:.2%}", flush=True)
    if "knn" in chosen:
        ks = [k for k in ks if k <= len(train)]
        found("knn", protocols.knn(frozen, ks, features))
        for k in ks:
            print(f"{k:4} neighbours      {results['knn'][str(k)]:.2%}", flush=True)
    if "health" in chosen:
        two_views = TwoViews(encoder.config.square_size, views, seed=seed)
        found("health", protocols.health(frozen, two_views, output, features))
        for name in ("spread", "effective_rank", "alignment", "uniformity"):
            print(f"{name:20} {results['health'][name]:.3f}", flush=True)
    if "augmented" in chosen:
        heads = finetune(encoder, train, test, recipe(frozen=True), output / "augmented")
        found("augmented", heads)
        print(f"augmented linear     {heads['accuracy']:.2%}", flush=True)
    if "finetune" in chosen:
        found("finetune", finetune(encoder, train, test, recipe(), output / "finetune"))
        print(f"fine-tuned           {results['finetune']['accuracy']:.2%}", flush=True)
    if "fewshot" in chosen:
        shares = possible_fractions(train, FRACTIONS)
        found("fewshot", protocols.few_shot(frozen, shares, recipe(), output / "fewshot"))
        for share, row in results["fewshot"].items():
            print(
                f"{float(share):4.0%} of the labels   fine-tuned {row['finetuned']:.2%}, "
                f"then linear on all {row['linear']:.2%}"
            )
    print(f"Chance {1 / len(train.class_names):.2%}. Results and pictures: {output}")
    return results


def refuse_settings(what: str, settings: dict | None, names: typing.Sequence[str]) -> None:
    """Raises ValueError if settings are given that are not the user's to give here."""
    given = [name for name in names if name in (settings or {})]
    if given:
        raise ValueError(
            f"{', '.join(given)} of --{what} follow from the protocol or the table: leave them out."
        )


def labelled_images(
    dataset: str, data_dir: str | os.PathLike | None, download: bool, seed: int
) -> tuple[ImageSet, ImageSet]:
    """Returns the labelled images of a source, to learn from and to be tested on.

    Args:
        dataset, data_dir, download: as for `sit_keras.data.load_source`.
        seed: int. Of the split of a folder that has no test images of its own.

    Raises:
        ValueError: if there are no labels.
    """
    source = load_source(dataset, data_dir, download)
    train, test = source.train.labelled(), source.test
    if not len(train):
        raise ValueError(f"{dataset} has no labels to judge by: give images in folders of classes.")
    return (train, test) if test is not None else hold_out(train, TEST_SHARE, seed)


def _found_before(path, header):
    """The results in a file, if they are of the same encoder and images."""
    if not path.exists():
        return {}
    results = json.loads(path.read_text())
    same = all(results.get(name) == value for name, value in header.items())
    return results if same else {}


def _home(run):
    return run if run.is_dir() else run.parent
