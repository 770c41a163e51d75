"""Requests that TF Serving sends to itself before it takes those of others."""

import io
import pathlib

import numpy as np
import tensorflow as tf
from PIL import Image

from sit_keras.config.extras import import_package

FILE = "tf_serving_warmup_requests"
BATCHES = (1, 8)


def write_warmup(folder: pathlib.Path, signatures: dict) -> None:
    """Writes `tf_serving_warmup_requests` with a few requests for each signature.

    Args:
        folder: pathlib.Path, `assets.extra` of a version.
        signatures: by their names, functions of `images` or `image_bytes`.

    Raises:
        MissingPackage: if the messages of TF Serving are not installed.
    """
    predict_pb2 = import_package("tensorflow_serving.apis.predict_pb2")
    prediction_log_pb2 = import_package("tensorflow_serving.apis.prediction_log_pb2")
    with tf.io.TFRecordWriter(str(folder / FILE)) as writer:
        for name, function in signatures.items():
            (spec,) = function.input_signature
            for batch in BATCHES:
                request = predict_pb2.PredictRequest()
                request.model_spec.signature_name = name
                request.inputs[spec.name].CopyFrom(tf.make_tensor_proto(_inputs(spec, batch)))
                log = prediction_log_pb2.PredictionLog(
                    predict_log=prediction_log_pb2.PredictLog(request=request)
                )
                writer.write(log.SerializeToString())


def _inputs(spec: tf.TensorSpec, batch: int) -> np.ndarray:
    if spec.dtype == tf.string:
        buffer = io.BytesIO()
        Image.new("RGB", (64, 64), "gray").save(buffer, "JPEG")
        return np.array([buffer.getvalue()] * batch, dtype=object)
    return np.full((batch, 64, 64, spec.shape[-1]), 0.5, "float32")
