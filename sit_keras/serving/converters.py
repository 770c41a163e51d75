"""From a function of TensorFlow to the files of other runtimes.

The networks are converted in float32; their matrices are kept in fewer bits afterwards.
"""

import logging
import pathlib
import tempfile
import typing

import numpy as np
import tensorflow as tf

from sit_keras.config.extras import MissingPackage, import_package
from sit_keras.serving.runtimes import FILES

OPSET = 18
# Smaller tensors stay in float32: biases, scales and constants of the preprocessing.
_SMALL = 1024

Function: typing.TypeAlias = tf.types.experimental.PolymorphicFunction

# What each format is written with, and by whom its matrices are made int8.
_PACKAGES = {
    "onnx": ("tf2onnx", "onnx", "onnxruntime"),
    "openvino": ("openvino",),
    "litert": ("ai_edge_litert",),
}


def import_converters(name: str, precision: str) -> None:
    """Imports what a format is written and run with, so that a missing package is named early.

    Args:
        name: str. A key of `FILES`.
        precision: str. One of `PRECISIONS`.

    Raises:
        MissingPackage: with the extra to install.
    """
    for package in _PACKAGES[name]:
        import_package(package)
    if (name, precision) == ("openvino", "int8"):
        import_package("nncf")


def convert(
    function: Function, owner: tf.Module, name: str, precision: str, folder: pathlib.Path
) -> None:
    """Writes a function as the file of another runtime.

    Args:
        function: of one tensor, with an input signature; it returns a dictionary of tensors.
        owner: tf.Module that has its variables.
        name: str. A key of `FILES`.
        precision: str. What its matrices are kept in, one of `PRECISIONS`.
        folder: pathlib.Path. Where the file is written.

    Raises:
        ValueError: if the converter does not know an operation of the function, or fails otherwise.
    """
    writers = {"onnx": _write_onnx, "openvino": _write_openvino, "litert": _write_litert}
    try:
        writers[name](function, owner, precision, folder / FILES[name])
    except (MissingPackage, OSError):
        raise
    except Exception as error:  # each converter has errors of its own
        first = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise ValueError(f"This network cannot be converted to {name}: {first}") from error


def _write_onnx(function, owner, precision, path):
    tf2onnx, onnx = import_package("tf2onnx"), import_package("onnx")
    logging.getLogger("tf2onnx").setLevel(logging.ERROR)
    model, _ = tf2onnx.convert.from_function(
        function,
        input_signature=function.input_signature,
        opset=OPSET,
        custom_op_handlers={"Erfc": (_erfc, [])},
    )
    onnx.checker.check_model(model)  # tf2onnx writes operations that ONNX does not have as they are
    if precision == "float16":
        _halve(model, onnx)
    if precision == "int8":
        quantization = import_package("onnxruntime.quantization")
        quantization.quantize_dynamic(
            model,
            path,
            op_types_to_quantize=["MatMul"],
            per_channel=True,
            reduce_range=True,  # 7 bits, or sums overflow on processors without VNNI
            weight_type=quantization.QuantType.QInt8,
        )
    else:
        onnx.save(model, path)


def _erfc(context, node, name, _):
    """Writes the Erfc of an exact GELU, which ONNX does not have, as 1 - Erf."""
    utils = import_package("tf2onnx.utils")
    (x,), shapes, dtypes, outputs = node.input, node.output_shapes, node.output_dtypes, node.output
    outputs = list(outputs)
    context.remove_node(node.name)
    one = context.make_const(utils.make_name("one"), np.float32(1))
    erf = context.make_node("Erf", [x])
    context.make_node(
        "Sub", [one.output[0], erf.output[0]], outputs=outputs, shapes=shapes, dtypes=dtypes
    )


def _halve(model, onnx):
    """Keeps the large constants of an ONNX model in float16; the runtime computes in float32."""
    graph, casts = model.graph, []
    for tensor in graph.initializer:
        values = onnx.numpy_helper.to_array(tensor)
        if values.dtype == np.float32 and values.size >= _SMALL:
            name = tensor.name
            half = onnx.numpy_helper.from_array(values.astype(np.float16), f"{name}/half")
            tensor.CopyFrom(half)
            casts.append(
                onnx.helper.make_node("Cast", [half.name], [name], to=onnx.TensorProto.FLOAT)
            )
    nodes = [*casts, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)


def _write_openvino(function, owner, precision, path):
    openvino = import_package("openvino")
    with tempfile.TemporaryDirectory() as folder:
        signatures = {"serving_default": function.get_concrete_function()}
        tf.saved_model.save(owner, folder, signatures=signatures)
        model = openvino.convert_model(folder)
        if precision == "int8":
            nncf = import_package("nncf")
            logging.getLogger("nncf").setLevel(logging.ERROR)
            model = nncf.compress_weights(model, mode=nncf.CompressWeightsMode.INT8_SYM)
        # Before the folder is deleted, whose file of weights the model reads.
        openvino.save_model(model, path, compress_to_fp16=precision == "float16")


def _write_litert(function, owner, precision, path):
    converter = tf.lite.TFLiteConverter.from_concrete_functions(
        [function.get_concrete_function()], owner
    )
    if precision != "float32":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if precision == "float16":
        converter.target_spec.supported_types = [tf.float16]
    path.write_bytes(converter.convert())
