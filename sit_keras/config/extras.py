"""Optional packages: which extra of this package installs them. Standard library only."""

import importlib
import importlib.util
import types

# By the name that is imported: the name that is installed, and the extra that has it.
EXTRAS = {
    "keras_tuner": ("keras-tuner", "tune"),
    "tensorflow_datasets": ("tensorflow-datasets", "data"),
    "importlib_resources": ("importlib_resources", "data"),
    "tensorflow_serving": ("tensorflow-serving-api", "serving"),
    "grpc": ("grpcio", "serving"),
    "pi_heif": ("pi-heif", "heic"),
    "torch": ("torch", "torch"),
    "safetensors": ("safetensors", "torch"),
    "tifffile": ("tifffile", "bands"),
    "imagecodecs": ("imagecodecs", "bands"),
    "pyarrow": ("pyarrow", "parquet"),
    "jax": ("jax", "jax"),
    "tf2onnx": ("tf2onnx", "onnx"),
    "onnx": ("onnx", "onnx"),
    "onnxruntime": ("onnxruntime", "onnx"),
    "openvino": ("openvino", "openvino"),
    "nncf": ("nncf", "openvino"),
    "ai_edge_litert": ("ai-edge-litert", "litert"),
    "tensorflow": ("tensorflow", None),
}


class MissingPackage(ImportError):
    """A package that is needed here is not installed."""


def import_package(module: str) -> types.ModuleType:
    """Imports a module of a package of `EXTRAS`.

    Args:
        module: str. Its full name, such as `tensorflow_serving.apis.predict_pb2`.

    Returns:
        The module.

    Raises:
        MissingPackage: if the package, or another one of `EXTRAS` that it needs, is not installed,
            with the command that installs it.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        missing = (error.name or "").split(".")[0]
        if missing not in EXTRAS:
            raise
        raise MissingPackage(
            f"{EXTRAS[missing][0]} is not installed: {install(missing)}"
        ) from error


def is_installed(package: str) -> bool:
    """Whether a package of `EXTRAS` can be imported, without importing it."""
    try:
        return importlib.util.find_spec(package) is not None
    except ModuleNotFoundError:  # some ways to hide a package raise it
        return False


def install(package: str) -> str:
    """Returns the command that installs a package of `EXTRAS`."""
    _, extra = EXTRAS[package]
    return f'pip install "sit-keras[{extra}]"' if extra else "pip install sit-keras"
