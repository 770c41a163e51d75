"""Evaluates an encoder on labelled images by some protocols, and writes a folder of results."""

import os
import pathlib
import typing

from sit_keras.augment.pretext import TwoViews
from sit_keras.config.checks import check_choice
from sit_keras.config.choices import FEATURES, PROTOCOLS, QUICK
from sit_keras.config.presets import finetune_config, presets
from sit_keras.config.serialization import changed
from sit_keras.config.settings import RunConfig, ViewConfig
from sit_keras.data.images import ImageSet
from sit_keras.data.sources import load_source
from sit_keras.data.splits import hold_out, label_indices, possible_fractions
from sit_keras.evaluation import protocols
from sit_keras.evaluation.finetune import finetune
from sit_keras.models import loading
from sit_keras.models.backbone import SiTBackbone
from sit_keras.models.seeding import seeded
from sit_keras.runs.cached_step import fingerprint
from sit_keras.runs.files import read_json, write_json
from sit_keras.runs.folder import folder_name, read_settings

FRACTIONS = (0.01, 0.1, 0.25, 0.5, 1.0)
TEST_SHARE = 0.2  # of a folder without test images of its own
# Protocols whose crops are square.
CROPPING = ("augmented", "diagnostics", "finetune", "fewshot")


def evaluate(
    run: str | os.PathLike,
    dataset: str | None = None,
    protocol: typing.Sequence[str] = QUICK,
    output: str | os.PathLike | None = None,
    data_dir: str | os.PathLike | None = None,
    download: bool = False,
    image_size: int | None = None,
    features: str = "tokens",
    k: typing.Sequence[int] = (1, 5, 20, 200),
    fraction: float | None = None,
    per_class: int | None = None,
    scratch: bool = False,
    training: dict | None = None,
    seed: int = 0,
) -> dict:
    """Evaluates an encoder, prints the results, and writes `results.json` and pictures.

    Images are preprocessed as the encoder says, so a run folder, its `encoder.keras` and a folder
    of `save_to_preset` give the same accuracies.

    Args:
        run: a run folder, or whatever else `SiTBackbone.from_preset` takes: a `.keras` file of an
            encoder, a folder of `save_to_preset`, or `hf://user/repository`.
        dataset: str or None. As for `sit_keras.data.load_source`; None takes that of the run.
        protocol: some of `PROTOCOLS`.
        output: the folder of the results. Default: `evaluation/DATASET` beside the encoder.
        data_dir, download: as for `sit_keras.data.load_source`.
        image_size: int or None. Another side of the input in pixels; the position embeddings are
            resized.
        features: str. One of `FEATURES`, for nearest neighbours and diagnostics.
        k: numbers of neighbours; those beyond the number of training images are left out.
        fraction, per_class: use only so many of the labels, see `sit_keras.data.label_subset`.
        scratch: bool. Evaluate the same network with new weights.
        training: dict or None. Settings of `FinetuneConfig` that differ from those of the preset,
            as for `sit_keras.config.serialization.changed`; `hidden_dim` is also that of the linear
            evaluation.
        seed: int. Of the validation split, the chosen labels, and everything random.

    Returns:
        What `results.json` holds, with the results of other protocols for the same encoder from
        earlier calls.

    Raises:
        ValueError: for an unknown protocol, or an encoder or data that do not exist or do not fit.
    """
    for name in protocol:
        check_choice("protocol", name, PROTOCOLS)
    check_choice("features", features, FEATURES)
    refuse_settings("training", training, ("frozen", "seed"))
    encoder = _load(run, image_size, scratch, seed)
    _check_image_shape(encoder, protocol)
    home, config = _home(run), _run_settings(run)
    dataset = dataset or (config and config.dataset)
    if dataset is None:
        raise ValueError(
            f"There is no config.json of a run beside {run}, so the images that it was trained on "
            "are not known: give a dataset to evaluate on, such as --dataset=cifar10."
        )
    views = config.views if config else ViewConfig()
    train, test = labelled_images(dataset, data_dir, download, seed)
    few = fraction is not None or per_class is not None
    rows = label_indices(train, seed, fraction, per_class) if few else None
    train = train.take(rows) if few else train
    frozen = protocols.FrozenEncoder(encoder, train, test, seed)
    name = [folder_name(dataset), *([f"{len(train)}-labels"] if few else [])]
    name += [f"{image_size}px"] if image_size else []
    name += ["scratch"] if scratch else []
    name += [f"seed{seed}"] if seed else []
    output = pathlib.Path(output or home / "evaluation" / "-".join(name))
    height, width, _ = encoder.image_shape
    print(
        f"{run} on {dataset}: {len(train)} training images, {len(test)} test images, "
        f"{len(train.class_names)} classes, {height} x {width} px."
    )
    if config is None:
        print("Without a config.json of a run, views and training have the paper's settings.")
    header = {
        "encoder": None if scratch else str(run),
        "fingerprint": fingerprint(encoder.get_weights()),
        "pretrained_on": None if scratch or config is None else config.dataset,
        "dataset": dataset,
        "image_shape": list(encoder.image_shape),
        "seed": seed,
        "train_images": len(train),
        "test_images": len(test),
        "num_classes": len(train.class_names),
    }
    output.mkdir(parents=True, exist_ok=True)
    if few:
        write_json(output / "labels.json", {"seed": seed, "rows": rows.tolist()})
    results = {**_earlier_results(output / "results.json", header), **header}

    def training_settings(frozen=False):
        settings = finetune_config(config and config.preset, views, frozen, seed=seed)
        return changed(settings, training or {})

    def record(name, values):
        results[name] = values
        write_json(output / "results.json", results)

    if "linear" in protocol:
        record("linear", protocols.linear(frozen, output, training_settings().hidden_dim))
        new = results["linear"]["new_weights"]
        print(f"classifier.keras = the encoder and {len(new)} new weights: {', '.join(new)}")
        print(f"linear evaluation    {results['linear']['accuracy']:.2%}", flush=True)
    if "knn" in protocol:
        possible = [count for count in k if count <= len(train)]
        record("knn", protocols.knn(frozen, possible, features))
        for count in possible:
            print(f"{count:4} neighbours      {results['knn'][str(count)]:.2%}", flush=True)
    if "diagnostics" in protocol:
        two_views = TwoViews(height, views, preprocessing=encoder.preprocessing, seed=seed)
        values = protocols.representation_diagnostics(frozen, two_views, output, features)
        record("diagnostics", values)
        for name in ("spread", "effective_rank", "alignment", "uniformity"):
            print(f"{name.replace('_', ' '):20} {values[name]:.3f}", flush=True)
    if "augmented" in protocol:
        heads = finetune(encoder, train, test, training_settings(frozen=True), output / "augmented")
        record("augmented", heads)
        print(f"augmented linear     {heads['accuracy']:.2%}", flush=True)
    if "finetune" in protocol:
        record("finetune", finetune(encoder, train, test, training_settings(), output / "finetune"))
        print(f"fine-tuned           {results['finetune']['accuracy']:.2%}", flush=True)
    if "fewshot" in protocol:
        shares = possible_fractions(train, FRACTIONS)
        settings = training_settings()
        record("fewshot", protocols.few_shot(frozen, shares, settings, output / "fewshot"))
        for share, row in results["fewshot"].items():
            print(
                f"{float(share):4.0%} of the labels   fine-tuned {row['finetuned']:.2%}, "
                f"then linear on all {row['linear']:.2%}"
            )
    print(f"Chance {1 / len(train.class_names):.2%}. Results and pictures: {output}")
    return results


def refuse_settings(what: str, settings: dict | None, names: typing.Sequence[str]) -> None:
    """Raises ValueError for settings that the protocol or the table decides.

    Args:
        what: str. The flag that they were given by.
        settings: dict or None. What was given.
        names: the settings that are refused.
    """
    given = [name for name in names if name in (settings or {})]
    if given:
        raise ValueError(
            f"{', '.join(given)} of --{what} follow from the protocol or the table: leave them out."
        )


def labelled_images(
    dataset: str, data_dir: str | os.PathLike | None, download: bool, seed: int
) -> tuple[ImageSet, ImageSet]:
    """Returns the labelled images of a source, those to train on and those to test on.

    Args:
        dataset, data_dir, download: as for `sit_keras.data.load_source`.
        seed: int. Of the split of a folder without test images of its own.

    Raises:
        ValueError: if there are no labels.
    """
    source = load_source(dataset, data_dir, download)
    train, test = source.train.labelled(), source.test
    if not len(train):
        raise ValueError(
            f"{dataset} has no labels to evaluate with: give images in one folder for each class."
        )
    return (train, test) if test is not None else hold_out(train, TEST_SHARE, seed)


def _load(run, image_size, scratch, seed) -> SiTBackbone:
    shape = {} if image_size is None else {"image_shape": (image_size, image_size, 3)}
    encoder = SiTBackbone.from_preset(run, load_weights=not scratch, **shape)
    if scratch:
        with seeded(seed):
            encoder = encoder.clone()
    return encoder


def _check_image_shape(encoder, protocol) -> None:
    height, width, channels = encoder.image_shape
    if channels != 3:
        raise ValueError(
            f"The encoder takes images of {channels} channels, and all data sets are loaded as RGB."
        )
    cropping = [name for name in protocol if name in CROPPING]
    if height != width and cropping:
        raise ValueError(
            f"{', '.join(cropping)} would cut square crops, and the encoder takes images of "
            f"{height} x {width} pixels: give --image_size={width}, or --protocol=linear,knn."
        )


def _run_settings(run) -> RunConfig | None:
    """Returns the settings of the run that an encoder belongs to, if it lies in a run folder."""
    folder = None if _is_name(run) else _home(run)
    if folder is None or not (folder / "config.json").is_file():
        return None
    # In a folder of `save_to_preset` that file describes the encoder, and not a run.
    return None if (folder / loading.WEIGHTS).exists() else read_settings(folder)


def _earlier_results(path, header) -> dict:
    """Returns the results in a file, if they are of the same encoder and images."""
    if not path.exists():
        return {}
    results = read_json(path, "results of an evaluation", mend="Remove that file and repeat it.")
    same = all(results.get(name) == value for name, value in header.items())
    return results if same else {}


def _is_name(run) -> bool:
    """Whether an encoder is given by the name of a preset or of a repository, not by a path."""
    return os.fspath(run) in presets() or "://" in os.fspath(run)


def _home(run) -> pathlib.Path:
    """Returns the folder that an encoder lies in, or a new one of its name."""
    if _is_name(run):
        return pathlib.Path(folder_name(os.fspath(run).rpartition("://")[2]))
    path = pathlib.Path(run).expanduser()
    return path.parent if path.suffix == ".keras" else path
