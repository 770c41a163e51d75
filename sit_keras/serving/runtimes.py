"""Exports for other runtimes than TensorFlow: opened by their own, compared with their contract.

TensorFlow is not needed here.
"""

import os
import pathlib
import typing

import numpy as np

from sit_keras.config.extras import MissingPackage, import_package
from sit_keras.config.files import read_json
from sit_keras.serving.verify import (
    CONTRACT,
    EXAMPLES,
    TOLERANCE,
    largest_difference,
    refuse_changed_files,
)

# The file of the model in the folder of a version, and the package that runs it.
FILES = {"onnx": "model.onnx", "openvino": "model.xml", "litert": "model.tflite"}
PACKAGES = {"onnx": "onnxruntime", "openvino": "openvino", "litert": "ai_edge_litert"}
# By default OpenVINO computes in bfloat16 where the processor has it, with two digits.
SETTINGS = {"openvino": {"INFERENCE_PRECISION_HINT": "f32"}}

Model = typing.Callable[[np.ndarray], dict[str, np.ndarray]]


def format_of(version: str | os.PathLike) -> str | None:
    """Returns which of `FILES` lies in the folder of a version, None if none does."""
    path = pathlib.Path(version)
    return next((name for name, file in FILES.items() if (path / file).is_file()), None)


def open_model(version: str | os.PathLike) -> Model:
    """Opens an export in its own runtime, on the CPU.

    Args:
        version: the folder of a version, such as `exports/NAME/onnx/1`.

    Returns:
        A function of images (B, H, W, 3) float32 in [0, 1], which returns arrays by the names of
        the outputs.

    Raises:
        MissingPackage: if the runtime is not installed.
        ValueError: if the runtime does not take the file.
    """
    path = pathlib.Path(version)
    name = format_of(path)
    if name is None:
        raise ValueError(f"No model in {path}: expected one of {', '.join(FILES.values())}.")
    openers = {"onnx": _open_onnx, "openvino": _open_openvino, "litert": _open_litert}
    try:
        return openers[name](path / FILES[name])
    except MissingPackage:
        raise
    except Exception as error:  # each runtime has errors of its own
        raise ValueError(f"{PACKAGES[name]} does not take {FILES[name]}: {_line(error)}") from error


def verify(version: str | os.PathLike) -> list[str]:
    """Compares the answers of an export's own runtime with the examples of its contract.

    They are a batch with one image that must be refused, and a single image of another size.

    Args:
        version: the folder of a version.

    Returns:
        Lines that say what was compared.

    Raises:
        MissingPackage: if the runtime is not installed.
        ValueError: if a file has changed, or an output is further off than the precision of the
            weights explains.
    """
    path = pathlib.Path(version)
    count = refuse_changed_files(path)
    keys = ["format", "weights"]
    contract = read_json(path / "assets" / CONTRACT, "the contract of an export", keys)
    with np.load(path / "assets" / EXAMPLES) as file:
        examples = dict(file)
    model = open_model(path)
    lines = [f"{count} files as exported"]
    for case in [key.removesuffix("/images") for key in examples if key.endswith("/images")]:
        images = examples.pop(f"{case}/images")
        own = f"{case}/"
        expected = {k.removeprefix(own): v for k, v in examples.items() if k.startswith(own)}
        try:
            outputs = model(images)
        except Exception as error:
            raise ValueError(f"its runtime fails on {images.shape}: {_line(error)}") from error
        differences = largest_difference(outputs, expected)
        name, largest = max(differences.items(), key=lambda each: each[1])
        tolerance = TOLERANCE[contract["weights"]]
        if not largest <= tolerance:
            raise ValueError(
                f"{name} of {PACKAGES[contract['format']]} is {largest:.2g} off its examples, more "
                f"than {tolerance:g}"
            )
        lines.append(f"images {'x'.join(map(str, images.shape))} within {largest:.1e}, in {name}")
    return lines


def _open_onnx(path) -> Model:
    runtime = import_package("onnxruntime")
    options = runtime.SessionOptions()
    options.log_severity_level = 3  # errors
    session = runtime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return lambda images: dict(zip(names, session.run(names, {"images": images}), strict=True))


def _open_openvino(path) -> Model:
    runtime = import_package("openvino")
    model = runtime.Core().compile_model(str(path), "CPU", SETTINGS["openvino"])
    return lambda images: {
        output.get_any_name(): value.copy() for output, value in model([images]).items()
    }


def _open_litert(path) -> Model:
    runtime = import_package("ai_edge_litert.interpreter")
    interpreter = runtime.Interpreter(str(path), num_threads=os.cpu_count())
    run = interpreter.get_signature_runner()
    return lambda images: run(images=images)


def _line(error) -> str:
    """The first line of an error, or its kind where it says nothing."""
    return next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
