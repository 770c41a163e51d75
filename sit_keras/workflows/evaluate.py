"""Evaluates an encoder on labelled images by some protocols, and writes a folder of results."""

import os
import pathlib
import typing

from sit_keras.augment.pretext import TwoViews
from sit_keras.config.checks import check_choice
from sit_keras.config.choices import FEATURES, PROTOCOLS, QUICK
from sit_keras.config.files import make_own_folder
from sit_keras.config.presets import finetune_config
from sit_keras.config.serialization import changed, to_dict
from sit_keras.config.settings import RunConfig, ViewConfig
from sit_keras.data.pipeline import lost_images_explained
from sit_keras.data.splits import label_indices, possible_fractions
from sit_keras.evaluation import protocols
from sit_keras.evaluation.diagnostics import MEASURES, measure_text
from sit_keras.evaluation.finetune import finetune
from sit_keras.evaluation.scores import largest_class_scores
from sit_keras.models import loading
from sit_keras.models.backbone import SiTBackbone
from sit_keras.models.preset_names import is_name
from sit_keras.models.seeding import seeded
from sit_keras.runs.cached_step import fingerprint, images_fingerprint
from sit_keras.runs.data import refuse_among_images
from sit_keras.runs.files import write_json
from sit_keras.runs.folder import folder_name, read_settings, refuse_run
from sit_keras.runs.results import LARGEST_CLASS, accuracy_text, percent, record_results
from sit_keras.runs.shown_names import shown_dataset, shown_path
from sit_keras.workflows.labelled_images import labelled_images

LARGEST = "largest_class"  # in `results.json`
FRACTIONS = (0.01, 0.1, 0.25, 0.5, 1.0)
# Protocols whose crops are square.
CROPPING = ("augmented", "diagnostics", "finetune", "fewshot")


@lost_images_explained()
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
    value_range: tuple[float, float] | None = None,
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
        value_range: as for `sit_keras.data.load_source`; None takes that of the run.

    Returns:
        What `results.json` holds, with the results of other protocols for the same encoder and
        images from other calls.

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
    dataset = dataset or (config.dataset if config else None)
    if dataset is None:
        raise ValueError(
            f"There is no config.json of a run beside {run}, so the images that it was trained on "
            "are not known: give a dataset to evaluate on, such as --dataset=cifar10."
        )
    views = config.views if config else ViewConfig()
    value_range = value_range or (config.value_range if config else None)
    channels = encoder.image_shape[-1]
    train, test, split = labelled_images(dataset, data_dir, download, seed, value_range, channels)
    few = fraction is not None or per_class is not None
    rows = label_indices(train, seed, fraction, per_class) if few else None
    train = train if rows is None else train.take(rows)
    ks = _possible_neighbours(k, len(train)) if "knn" in protocol else ()
    frozen = protocols.FrozenEncoder(encoder, train, test, seed)
    parts = [folder_name(dataset), *([f"{len(train)}-labels"] if few else [])]
    parts += [f"{image_size}px"] if image_size else []
    parts += ["scratch"] if scratch else []
    parts += [f"seed{seed}"] if seed else []
    output = pathlib.Path(output or home / "evaluation" / "-".join(parts))
    refuse_run(output)
    refuse_among_images(output, dataset, [train, test])
    make_own_folder(output)
    height, width, _ = encoder.image_shape
    print(
        f"{run} on {dataset}: {len(train)} labelled training images, {len(test)} {split} images, "
        f"{len(train.class_names)} classes, {height} x {width} px."
    )
    if config is None:
        print("Without a config.json of a run, views and training have the paper's settings.")
    # Results of these are never mixed with results of others.
    header = {
        "fingerprint": fingerprint(encoder.get_weights()),
        "train_fingerprint": images_fingerprint(train),
        "test_fingerprint": images_fingerprint(test),
        "image_shape": list(encoder.image_shape),
        "preprocessing": to_dict(encoder.preprocessing),
        "value_range": [
            images.value_range and list(images.value_range) for images in (train, test)
        ],
        "seed": seed,
    }
    results: dict[str, typing.Any] = {
        "encoder": None if scratch else shown_path(run),
        "pretrained_on": shown_dataset(config.dataset) if config and not scratch else None,
        "dataset": shown_dataset(dataset),
        "train_images": len(train),
        "test_images": len(test),
        "test_split": split,
        "num_classes": len(train.class_names),
        LARGEST: largest_class_scores(train, test),
    }
    results = record_results(output, header, results)
    if rows is not None:
        write_json(output / "labels.json", {"seed": seed, "rows": rows.tolist()})

    def training_settings(frozen=False):
        settings = finetune_config(config and config.preset, views, frozen, seed=seed)
        return changed(settings, training or {})

    def record(name, values):
        results.update(record_results(output, header, {name: values}))

    print(f"{'':<32}{'accuracy (95 % interval)':>25}{'balanced':>10}{'macro F1':>10}")
    _print_scores(LARGEST_CLASS, results[LARGEST])
    if "linear" in protocol:
        record("linear", protocols.linear(frozen, output, training_settings().hidden_dim))
        _print_scores("linear evaluation", results["linear"])
    if "knn" in protocol:
        record("knn", protocols.knn(frozen, ks, features))
        for count in ks:
            _print_scores(f"{count:4} neighbours", results["knn"]["scores"][str(count)])
    if "diagnostics" in protocol:
        two_views = TwoViews(height, views, preprocessing=encoder.preprocessing, seed=seed)
        values = protocols.representation_diagnostics(frozen, two_views, output, features)
        record("diagnostics", values)
        for name in MEASURES:
            print(f"{measure_text(name, values):<64}{values[name]:>8.3f}", flush=True)
    if "augmented" in protocol:
        heads = finetune(encoder, train, test, training_settings(frozen=True), output / "augmented")
        record("augmented", heads)
        _print_scores("augmented linear", heads)
    if "finetune" in protocol:
        record("finetune", finetune(encoder, train, test, training_settings(), output / "finetune"))
        _print_scores("fine-tuned", results["finetune"])
    if "fewshot" in protocol:
        shares = possible_fractions(train, FRACTIONS)
        settings = training_settings()
        record("fewshot", protocols.few_shot(frozen, shares, settings, output / "fewshot"))
        for share, row in results["fewshot"].items():
            _print_scores(f"{float(share):4.0%} of the labels, fine-tuned", row["finetuned_scores"])
            _print_scores("     then linear on all labels", row["linear_scores"])
    print(f"The largest class is {results[LARGEST]['class']}. Results and pictures: {output}")
    if "linear" in protocol:
        print(f"The encoder with its linear heads: {output / 'classifier.keras'}")
    return results


def _print_scores(name, scores):
    others = (percent(scores, each) for each in ("balanced_accuracy", "macro_f1"))
    print(f"{name:<32}{accuracy_text(scores, 2):>25}", *(f"{x:>9}" for x in others), flush=True)


def _possible_neighbours(ks, count) -> list[int]:
    """Returns those numbers of neighbours that so many training images allow, telling of others."""
    possible = [k for k in ks if 1 <= k <= count]
    if not possible or min(ks) < 1:
        raise ValueError(
            f"Numbers of neighbours must lie between 1 and the {count} training images, received "
            f"--k={','.join(map(str, ks))}."
        )
    if len(possible) < len(ks):
        left_out = ", ".join(str(k) for k in ks if k > count)
        print(f"More neighbours than the {count} training images are left out: {left_out}.")
    return possible


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


def _load(run, image_size, scratch, seed) -> SiTBackbone:
    encoder = SiTBackbone.from_preset(run, load_weights=not scratch)
    if image_size is not None:  # the channels stay
        shape = image_size, image_size, encoder.image_shape[-1]
        encoder = SiTBackbone.from_preset(run, load_weights=not scratch, image_shape=shape)
    if scratch:
        with seeded(seed):
            encoder = encoder.clone()
    return encoder


def _check_image_shape(encoder, protocol) -> None:
    height, width, _ = encoder.image_shape
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


def _is_name(run) -> bool:
    """Whether an encoder is given by the name of a preset or of a repository, not by a path."""
    return is_name(run) or "://" in os.fspath(run)


def _home(run) -> pathlib.Path:
    """Returns the folder that an encoder lies in, or a new one of its name."""
    if _is_name(run):
        return pathlib.Path(folder_name(os.fspath(run).rpartition("://")[2]))
    path = pathlib.Path(run).expanduser()
    return path.parent if path.suffix == ".keras" else path
