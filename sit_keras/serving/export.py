"""Exports an encoder as models that run without Keras and without this package.

A SavedModel is `NAME/VERSION/`, as TF Serving expects it, and a model for another runtime
`NAME/onnx/VERSION/`, with a contract inside: the inputs, the outputs, and examples of both.
"""

import os
import pathlib
import subprocess
import sys
import tempfile
import typing

import numpy as np
import tensorflow as tf

from sit_keras.config.checks import TASKS
from sit_keras.config.choices import FORMATS, PRECISIONS
from sit_keras.config.extras import MissingPackage
from sit_keras.config.files import UNFINISHED
from sit_keras.config.progress import Progress
from sit_keras.models import loading
from sit_keras.models.backbone import SiTBackbone
from sit_keras.models.classifier import TASK, SiTImageClassifier
from sit_keras.models.preset_names import is_name, preset_path
from sit_keras.models.saved import load_classifier, load_network
from sit_keras.runs.files import read_json, write_json, write_text
from sit_keras.runs.folder import folder_name, read_settings, run_of
from sit_keras.runs.log import last_losses
from sit_keras.runs.model_card import CARD, export_card
from sit_keras.runs.results import finished_results
from sit_keras.runs.task_reports import measured_heads
from sit_keras.serving import runtimes, verify
from sit_keras.serving.contract import Parts, class_names, contract, examples
from sit_keras.serving.converters import convert, import_converters
from sit_keras.serving.portable import portable_contract, portable_examples
from sit_keras.serving.servable import Servable
from sit_keras.serving.versions import alone_in, publish, refuse_output
from sit_keras.serving.warmup_requests import write_warmup


def export(
    run: str | os.PathLike,
    output: str | os.PathLike,
    classifier: str | os.PathLike | None = None,
    format: typing.Sequence[str] = ("savedmodel",),
    precision: str = "float32",
    check: bool = True,
) -> pathlib.Path:
    """Writes the next version of an export, whole or not at all.

    A SavedModel has several signatures. The other formats are one network each, of `images` alone:
    the tokens, the embedding, the patches, and the probabilities of classes.

    Args:
        run: a run folder, a folder of fine-tuning or of `save_to_preset`, or a `.keras` file of an
            encoder. Its preprocessing becomes that of the export.
        output: the folder of the versions, `exports/NAME`.
        classifier: a `classifier.keras` on the same encoder; None takes the one in the folder, or
            that of the run's own linear evaluation, if there is one.
        format: of `FORMATS`, one or more. All get the same number, or none is written.
        precision: str. What the weights are kept in: `float32`, `float16` for half the size, or
            `int8`, which a SavedModel does not have.
        check: bool. Verify each model in its own runtime before it gets its name, as
            `verify_export` does, but in this process, which has TensorFlow already.

    Returns:
        The folder of the new version in the first format: `output/1`, or `output/onnx/1`.

    Raises:
        ValueError: if there is no encoder, the classifier's is another one, a format does not have
            the network or the precision, the outputs of a model are not those of the Keras models,
            or as `refuse_output`.
        MissingPackage: if a converter or a runtime is not installed.
        OSError: if the disk is full; no version is written then.
    """
    _refuse_formats(format, precision)
    output = pathlib.Path(output).expanduser()
    refuse_output(output)
    run = preset_path(run) if is_name(run) else pathlib.Path(run).expanduser()
    parts = _load(run, pathlib.Path(classifier).expanduser() if classifier else None)
    names = class_names(parts.head) if parts.head else ()
    servable = Servable(
        parts.encoder, parts.pretext, parts.tasks, parts.head, names, precision == "float16"
    )
    with alone_in(output), Progress(f"export to {output}"):
        with tempfile.TemporaryDirectory(prefix=UNFINISHED, dir=output) as aside:
            models = {}
            for name in dict.fromkeys(format):
                write = _write_savedmodel if name == "savedmodel" else _write_portable
                models[name] = write(servable, parts, name, precision, pathlib.Path(aside))
                if check:
                    _verify_here(models[name])
            return publish(models, output)[format[0]]


def _refuse_formats(formats, precision):
    """Raises for what cannot be written, before any work."""
    if isinstance(formats, str) or not formats or not set(formats) <= set(FORMATS):
        raise ValueError(f"format must be some of {', '.join(FORMATS)}; received {formats!r}.")
    if precision not in PRECISIONS:
        raise ValueError(
            f"precision must be one of {', '.join(PRECISIONS)}; received {precision!r}."
        )
    if "savedmodel" in formats and precision == "int8":
        raise ValueError(
            "A SavedModel cannot be written in int8, for which TensorFlow has no operations on a "
            "CPU: leave savedmodel out of --format, or give --precision=float16."
        )
    for name in formats:
        if name != "savedmodel":
            import_converters(name, precision)


def _write_savedmodel(servable, parts, name, precision, aside) -> pathlib.Path:
    """Writes a complete SavedModel into a folder aside."""
    signatures = servable.signatures()
    model, extra = aside / name, aside / name / "assets.extra"
    arrays: dict[str, typing.Any] = examples(signatures, parts)
    np.savez(aside / verify.EXAMPLES, **arrays)
    about = contract(signatures, parts, precision)
    write_json(aside / verify.CONTRACT, about)
    servable.contract = [
        tf.saved_model.Asset(str(aside / name)) for name in (verify.CONTRACT, verify.EXAMPLES)
    ]
    # Those that the contract has traced; TensorFlow would trace them again.
    functions = {name: function.get_concrete_function() for name, function in signatures.items()}
    tf.saved_model.save(servable, str(model), signatures=functions)
    extra.mkdir()
    write_text(extra / CARD, _card(pathlib.Path(parts.source["run"]), about))
    try:
        write_warmup(extra, signatures)
    except MissingPackage as error:
        print(f"No warm-up requests were written, which TF Serving can do without: {error}")
    write_json(extra / verify.CHECKSUMS, verify.checksums(model))
    return model


def _write_portable(servable, parts, name, precision, aside) -> pathlib.Path:
    """Writes a complete model for another runtime into a folder aside."""
    model, assets, extra = (aside / name / part for part in ("", "assets", "assets.extra"))
    for folder in (model, assets, extra):
        folder.mkdir()
    function = servable.portable()
    convert(function, servable, name, precision, model)
    about = portable_contract(function, parts, name, precision)
    arrays: dict[str, typing.Any] = portable_examples(parts)
    np.savez(assets / verify.EXAMPLES, **arrays)
    write_json(assets / verify.CONTRACT, about)
    write_text(extra / CARD, _card(pathlib.Path(parts.source["run"]), about))
    write_json(extra / verify.CHECKSUMS, verify.checksums(model))
    return model


def _card(run, about) -> str:
    """The model card, with that of the run, in whose folder a fine-tuning lies too."""
    home = run_of((run if run.is_dir() else run.parent).resolve())
    card, conversion = home / CARD, home / "conversion.json"
    return export_card(
        about,
        card.read_text("utf-8") if card.exists() else None,
        read_json(conversion, "what was converted") if conversion.exists() else None,
    )


def _verify_here(model):
    """Compares a model with its contract in this process."""
    try:
        if runtimes.format_of(model) is not None:
            runtimes.verify(model)
            return
        with tf.device("CPU"):  # where the examples were made
            verify.verify(model)
    except ValueError as error:
        raise ValueError(f"The export failed: {error}") from error


def verify_export(path: str | os.PathLike) -> str:
    """Compares an export with its contract: a SavedModel in a fresh process without this package,
    another format in its own runtime.

    Args:
        path: the folder of a version, `NAME/1` or `NAME/onnx/1`.

    Returns:
        What was compared, as text.

    Raises:
        ValueError: if a file or an output has changed since the export.
        MissingPackage: if the runtime of a format is not installed.
    """
    path = os.path.expanduser(path)
    if runtimes.format_of(path) is not None:
        try:
            return "\n".join(runtimes.verify(path))
        except (ValueError, OSError) as error:
            raise ValueError(f"{path} failed: {error}") from error
    command = [sys.executable, "-P", verify.__file__, os.fspath(path)]
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "-1"}  # this process may hold the GPU
    process = subprocess.run(command, capture_output=True, text=True, env=environment)
    if process.returncode:
        lines = (process.stdout + process.stderr).strip().splitlines()
        raise ValueError(f"{path} failed: {lines[-1] if lines else 'without a reason'}")
    return process.stdout.strip()


def _load(run: pathlib.Path, classifier: pathlib.Path | None) -> Parts:
    encoder = SiTBackbone.from_preset(run)
    folder = run if run.is_dir() else run.parent
    is_preset = (folder / loading.WEIGHTS).exists()  # its config.json is that of the encoder
    config = None
    if (folder / "config.json").exists() and not is_preset:
        config = read_settings(folder)
    pretext = None
    tasks: tuple[str, ...] = ()
    if run.is_dir() and (run / "network.keras").exists():
        pretext = load_network(run / "network.keras")
        tasks = config.tasks if config else TASKS  # the authors' networks have them all
    model, found = _load_classifier(encoder, run, folder, config, classifier)
    source = {"run": str(run), "classifier": found and str(found)}
    if config is not None:
        source |= {"preset": config.preset, "dataset": config.dataset, "seed": config.seed}
    heads = _heads(folder, config) if config is not None and pretext is not None else {}
    return Parts(encoder, pretext, tasks, model, source, heads)


def _heads(folder, config) -> dict:
    """How good the pretext heads are, by the log of their run; empty where there is none."""
    log = folder / "log.csv"
    if not log.is_file():
        return {}
    return measured_heads(config, finished_results(folder) or {}, last_losses(log))


def _load_classifier(encoder, run, folder, config, asked):
    """The classifier and its file: the one asked for, or one of the run's own if it fits."""
    found = asked
    if found is None and run.is_dir():
        found = _own_classifier(folder, config)
    if found is None:
        return None, None
    if not found.is_file():
        raise ValueError(f"No classifier at {found}: evaluate.py writes classifier.keras.")
    if found.name == TASK:
        model = SiTImageClassifier.from_preset(found.parent)
    else:
        model = load_classifier(found)
    if _same(encoder, model.backbone):
        return model, found
    other = f"The encoder of {found} is not that of {run}"
    if asked:
        raise ValueError(
            f"{other}: export the folder that the classifier lies in (fine-tuning writes both), or "
            "evaluate this encoder with evaluate.py first."
        )
    print(f"{other}, so the export has no classes: evaluate this encoder with evaluate.py first.")
    return None, None


def _own_classifier(folder, config) -> pathlib.Path | None:
    """A classifier beside the encoder, or that of the linear evaluation on the run's own data."""
    places = [folder / "classifier.keras", folder / TASK]
    if config is not None:
        places.append(folder / "evaluation" / folder_name(config.dataset) / "classifier.keras")
    return next((place for place in places if place.is_file()), None)


def _same(one: SiTBackbone, other: SiTBackbone) -> bool:
    """Whether two encoders have equal weights and preprocessing."""
    weights = one.get_weights(), other.get_weights()
    return (
        one.preprocessing == other.preprocessing
        and len(weights[0]) == len(weights[1])
        and all(map(np.array_equal, *weights))
    )
