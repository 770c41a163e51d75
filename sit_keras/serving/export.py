"""Exports an encoder as a SavedModel that runs without Keras and without this package.

An export is `NAME/VERSION/`, as TF Serving expects it, with a contract inside: the inputs, the
outputs, and examples of both.
"""

import os
import pathlib
import subprocess
import sys
import tempfile

import numpy as np
import tensorflow as tf

from sit_keras.config.checks import TASKS
from sit_keras.config.extras import MissingPackage
from sit_keras.config.files import UNFINISHED, written_whole
from sit_keras.config.progress import Progress
from sit_keras.models import loading
from sit_keras.models.backbone import SiTBackbone
from sit_keras.models.classifier import TASK, SiTImageClassifier
from sit_keras.models.preset_names import is_name, preset_path
from sit_keras.models.saved import load_classifier, load_network
from sit_keras.runs.files import read_json, write_json, write_text
from sit_keras.runs.folder import folder_name, read_settings
from sit_keras.runs.log import last_losses
from sit_keras.runs.model_card import CARD, export_card
from sit_keras.runs.results import finished_results
from sit_keras.runs.task_reports import measured_heads
from sit_keras.serving import verify
from sit_keras.serving.contract import Parts, class_names, contract, examples
from sit_keras.serving.servable import Servable
from sit_keras.serving.versions import alone_in, publish, refuse_output
from sit_keras.serving.warmup_requests import write_warmup


def export(
    run: str | os.PathLike,
    output: str | os.PathLike,
    classifier: str | os.PathLike | None = None,
    half: bool = False,
    check: bool = True,
) -> pathlib.Path:
    """Writes the next version of an export, whole or not at all.

    Args:
        run: a run folder, a folder of fine-tuning or of `save_to_preset`, or a `.keras` file of an
            encoder. Its preprocessing becomes that of the export.
        output: the folder of the versions, `exports/NAME`.
        classifier: a `classifier.keras` on the same encoder; None takes the one in the folder, or
            that of the run's own linear evaluation, if there is one.
        half: bool. Keep the weights in float16, for half the size.
        check: bool. Verify the version before it gets its name, as `verify_export` does, but in
            this process, which has TensorFlow already.

    Returns:
        The folder of the new version.

    Raises:
        ValueError: if there is no encoder, the classifier's is another one, the outputs of the
            export are not those of the Keras models, or as `refuse_output`.
        OSError: if the disk is full; no version is written then.
    """
    refuse_output(output)
    output = pathlib.Path(output)
    run = preset_path(run) if is_name(run) else run
    parts = _load(pathlib.Path(run), classifier)
    names = class_names(parts.head) if parts.head else ()
    servable = Servable(parts.encoder, parts.pretext, parts.tasks, parts.head, names, half)
    signatures = servable.signatures()
    with alone_in(output), Progress(f"export to {output}"):
        with tempfile.TemporaryDirectory(prefix=UNFINISHED, dir=output) as aside:
            model = _write(servable, signatures, parts, half, pathlib.Path(aside))
            if check:
                _verify_here(model)
            return publish(model, output)


def _write(servable, signatures, parts, half, aside) -> pathlib.Path:
    """Writes a complete model into a folder aside."""
    model, extra = aside / "model", aside / "model" / "assets.extra"
    np.savez(aside / verify.EXAMPLES, **examples(signatures, parts))
    about = contract(signatures, parts, half)
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


def _card(run, about) -> str:
    """The model card, with that of the run, in whose folder a fine-tuning lies too."""
    home = (run if run.is_dir() else run.parent).resolve()
    while "evaluation" in home.parts:
        home = home.parent
    card, conversion = home / CARD, home / "conversion.json"
    return export_card(
        about,
        card.read_text("utf-8") if card.exists() else None,
        read_json(conversion, "what was converted") if conversion.exists() else None,
    )


def _verify_here(model):
    try:
        with tf.device("CPU"):  # where the examples were made
            verify.verify(model)
    except ValueError as error:
        raise ValueError(f"The export failed: {error}") from error


def verify_export(path: str | os.PathLike) -> str:
    """Loads an export in a fresh process without this package and compares it with its contract.

    Args:
        path: the folder of a version.

    Returns:
        What was compared, as text.

    Raises:
        ValueError: if a file or an output has changed since the export.
    """
    command = [sys.executable, "-P", verify.__file__, os.fspath(path)]
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "-1"}  # this process may hold the GPU
    process = subprocess.run(command, capture_output=True, text=True, env=environment)
    if process.returncode:
        lines = (process.stdout + process.stderr).strip().splitlines()
        raise ValueError(f"{path} failed: {lines[-1] if lines else 'without a reason'}")
    return process.stdout.strip()


def export_tflite(version: str | os.PathLike) -> pathlib.Path:
    """Writes the embedding of one image for TFLite, beside an exported version.

    Args:
        version: the folder of the version, `NAME/1`.

    Returns:
        The file, `NAME/encoder-1.tflite`: `images` (1, S, S, 3) in [0, 1] -> both tokens,
        `embedding` and `ok`.
    """
    version = pathlib.Path(version)
    model = tf.saved_model.load(str(version))
    about = read_json(version / "assets" / verify.CONTRACT, "a contract", ["preprocessing"])
    shape = about["preprocessing"]["image_shape"]
    embed = model.signatures["serving_default"]
    spec = tf.TensorSpec((1, *shape), tf.float32, name="images")

    def numbers(images):
        outputs = embed(images=images)  # TFLite has no text, so `error` is left out
        return {name: value for name, value in outputs.items() if value.dtype != tf.string}

    one = tf.function(numbers, input_signature=[spec], autograph=False)
    converter = tf.lite.TFLiteConverter.from_concrete_functions(
        [one.get_concrete_function()], model
    )
    path = version.parent / f"encoder-{version.name}.tflite"
    converted = converter.convert()
    with alone_in(version.parent), written_whole(path) as aside:
        aside.write_bytes(converted)
    return path


def _load(run: pathlib.Path, classifier: str | os.PathLike | None) -> Parts:
    encoder = SiTBackbone.from_preset(run)
    folder = run if run.is_dir() else run.parent
    is_preset = (folder / loading.WEIGHTS).exists()  # its config.json is that of the encoder
    config = None
    if (folder / "config.json").exists() and not is_preset:
        config = read_settings(folder)
    pretext, tasks = None, ()
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
    found = pathlib.Path(asked) if asked else None
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
