"""Sends images to a served model, by REST or gRPC. By REST it needs NumPy and Pillow alone."""

import base64
import io
import itertools
import json
import os
import pathlib
import sys
import typing
import urllib.error
import urllib.request

import numpy as np
from PIL import Image

from sit_keras.config.extras import import_package
from sit_keras.data.folder import find_images
from sit_keras.data.reading import read_image
from sit_keras.serving import limits

EMBED, CLASSIFY = "serving_bytes", "classify_bytes"
BATCH = 32

Outputs = dict[str, np.ndarray]


def image_bytes(path: str | os.PathLike, value_range: tuple[float, float] | None = None) -> bytes:
    """Returns a file as a server takes it: as it is, or turned upright, converted and made smaller.

    Raises:
        OSError: if it is missing or no image. What is damaged within is left to the server.
    """
    with Image.open(path) as file:
        pixels = file.width * file.height
        most = {"JPEG": limits.MAX_JPEG_PIXELS, "PNG": limits.MAX_PNG_PIXELS}
        upright = file.getexif().get(0x0112, 1) == 1
        if upright and pixels <= most.get(file.format, 0):
            data = pathlib.Path(path).read_bytes()
            if len(data) <= limits.MAX_BYTES:
                return data
    image = Image.fromarray(read_image(path, 1024, value_range))
    image.thumbnail((2048, 2048))
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def predict_rest(server: str, model: str, signature: str, files: list[bytes]) -> Outputs:
    """Asks by REST.

    Args:
        server: str. Host and port, such as `localhost:8501`.
        model: str. The name that the server knows it by.
        signature: str. One of files.
        files: JPEG or PNG.

    Returns:
        Arrays by the name of the output, one row for each file.

    Raises:
        OSError: if the server cannot be reached, or refuses, with its words.
    """
    encoded = [{"b64": base64.b64encode(file).decode()} for file in files]
    body = json.dumps({"signature_name": signature, "inputs": {"image_bytes": encoded}})
    request = urllib.request.Request(
        f"http://{server}/v1/models/{model}:predict",
        body.encode(),
        {"Content-Type": "application/json"},
    )
    try:
        with urllib.request.urlopen(request, timeout=60) as response:
            outputs = json.load(response)["outputs"]
    except urllib.error.HTTPError as error:
        raise OSError(f"{server} answered {error.code}: {error.read().decode()[:500]}") from error
    except urllib.error.URLError as error:
        raise OSError(f"{server} cannot be reached ({error.reason}): is it serving?") from error
    return {name: np.array(value) for name, value in outputs.items()}


def predict_grpc(server: str, model: str, signature: str, files: list[bytes]) -> Outputs:
    """Asks by gRPC; as `predict_rest`, of another port."""
    grpc = import_package("grpc")
    predict_pb2 = import_package("tensorflow_serving.apis.predict_pb2")
    service = import_package("tensorflow_serving.apis.prediction_service_pb2_grpc")
    tf = import_package("tensorflow")
    request = predict_pb2.PredictRequest()
    request.model_spec.name = model
    request.model_spec.signature_name = signature
    request.inputs["image_bytes"].CopyFrom(tf.make_tensor_proto(files, tf.string, [len(files)]))
    with grpc.insecure_channel(server) as channel:
        stub = service.PredictionServiceStub(channel)
        try:
            response = stub.Predict(request, timeout=60)
        except grpc.RpcError as error:
            raise OSError(f"{server}: {error.code().name}, {error.details()}") from error
    outputs = {name: tf.make_ndarray(value) for name, value in response.outputs.items()}
    decode = np.vectorize(lambda text: text.decode(), otypes=[object])
    return {n: decode(x) if x.dtype == object else x for n, x in outputs.items()}


def predict(
    server: str,
    model: str,
    signature: str,
    files: typing.Iterable[bytes],
    grpc: bool = False,
) -> Outputs:
    """As `predict_rest` or `predict_grpc`, in batches of 32, which are read as they are sent."""
    ask = predict_grpc if grpc else predict_rest
    files = iter(files)
    parts = []
    while batch := list(itertools.islice(files, BATCH)):
        parts.append(ask(server, model, signature, batch))
    if not parts:
        raise ValueError("There is no image to send.")
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def ask_server(
    images: typing.Sequence[str | os.PathLike],
    server: str | None = None,
    model: str = "sit",
    grpc: bool = False,
    classes: bool = False,
    neighbours: int | None = None,
    output: str | os.PathLike | None = None,
    value_range: tuple[float, float] | None = None,
) -> Outputs:
    """Sends images to a server and prints its answers.

    Args:
        images: files, or folders of images at any depth. Files that cannot be read are named and
            passed over.
        server: str or None. Host and port; None is localhost, 8501 for REST and 8500 for gRPC.
        model: str. The name by which the server knows the model.
        grpc: bool. Ask by gRPC instead of REST.
        classes: bool. Print classes instead of the first numbers of the embeddings.
        neighbours: int or None. Print so many of the images most alike instead.
        output: a `.npz` file for the embeddings, or None.
        value_range: as for `sit_keras.data.load_source`.

    Returns:
        Arrays by the name of the output, one row for each image that could be read.

    Raises:
        ValueError: if there is no image, or more than one of the last three arguments is given.
        OSError: if the server cannot be reached or refuses.
        MissingPackage: if gRPC is asked for and its packages are not installed.
    """
    if bool(classes) + (neighbours is not None) + (output is not None) > 1:
        raise ValueError("classes, neighbours and output exclude each other: give one of them.")
    server = server or ("localhost:8500" if grpc else "localhost:8501")
    sent = []

    def readable():
        for path in (file for each in images for file in _files(pathlib.Path(each))):
            try:
                data = image_bytes(path, value_range)
            except (OSError, Image.DecompressionBombError) as error:
                print(f"{path} cannot be read: {error}", file=sys.stderr)
            else:
                sent.append(path)
                yield data

    outputs = predict(server, model, CLASSIFY if classes else EMBED, readable(), grpc)
    for i, path in enumerate(sent):
        print(f"{path}: {_answer(i, outputs, sent, neighbours)}")
    if output is not None:
        arrays = {"embedding": outputs["embedding"], "ok": outputs["ok"]}
        np.savez(output, paths=list(map(str, sent)), **arrays)
        print(f"Embeddings: {output}")
    return outputs


def _files(path):
    return find_images(path) if path.is_dir() else [path]


def _answer(i, outputs, paths, neighbours) -> str:
    """One image's answer as text."""
    if not outputs["ok"][i]:
        return str(outputs["error"][i])
    if "top_classes" in outputs:
        pairs = zip(outputs["top_classes"][i], outputs["top_probabilities"][i], strict=True)
        return ", ".join(f"{name} {share:.1%}" for name, share in pairs)
    embedding = outputs["embedding"]
    if neighbours:
        alike = embedding @ embedding[i]
        others = [j for j in np.argsort(-alike) if outputs["ok"][j] and j != i]
        nearest = others[:neighbours]
        return ", ".join(f"{paths[j]} ({alike[j]:.3f})" for j in nearest)
    return f"[{', '.join(f'{x:.3f}' for x in embedding[i][:6])}, ...] of {embedding.shape[1]}"
