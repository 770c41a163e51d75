"""Sends images to a served model, by REST or gRPC, and prints what it makes of them.

python -m sit_keras.client photo.jpg other.png --classes
python -m sit_keras.client my/photos --neighbours=3 --grpc --server=gpu-box:8500
python -m sit_keras.client my/photos --output=embeddings.npz
"""

import argparse
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

from sit_keras.data.folder import find_images
from sit_keras.data.reading import read_image
from sit_keras.serving import decoding

EMBED, CLASSIFY = "serving_bytes", "classify_bytes"
BATCH = 32

Outputs = dict[str, np.ndarray]


def image_bytes(path: str | os.PathLike) -> bytes:
    """Returns a file as a server takes it: as it is, or turned upright, converted and made smaller.

    Raises:
        OSError: if it is missing or no image. What is damaged within is left to the server.
    """
    with Image.open(path) as file:
        pixels = file.width * file.height
        limits = {"JPEG": decoding.MAX_JPEG_PIXELS, "PNG": decoding.MAX_PNG_PIXELS}
        upright = file.getexif().get(0x0112, 1) == 1
        if upright and pixels <= limits.get(file.format, 0):
            data = pathlib.Path(path).read_bytes()
            if len(data) <= decoding.MAX_BYTES:
                return data
    image = Image.fromarray(read_image(path, enough=1024))
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
    import grpc
    import tensorflow as tf
    from tensorflow_serving.apis import predict_pb2, prediction_service_pb2_grpc

    request = predict_pb2.PredictRequest()
    request.model_spec.name = model
    request.model_spec.signature_name = signature
    request.inputs["image_bytes"].CopyFrom(tf.make_tensor_proto(files, tf.string, [len(files)]))
    with grpc.insecure_channel(server) as channel:
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
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


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        "python -m sit_keras.client", description=__doc__.split("\n")[0]
    )
    parser.add_argument("images", nargs="+", help="files, or folders of images at any depth")
    parser.add_argument(
        "--server", help="host:port; default localhost, 8501 for REST, 8500 for gRPC"
    )
    parser.add_argument("--model", default="sit", help="the name that the server knows it by")
    parser.add_argument("--grpc", action="store_true", help="ask by gRPC")
    wanted = parser.add_mutually_exclusive_group()
    wanted.add_argument("--classes", action="store_true", help="print classes (classify_bytes)")
    wanted.add_argument("--neighbours", type=int, help="print so many of the images most alike")
    wanted.add_argument("--output", help="write the embeddings to this .npz file")
    options = parser.parse_args(argv)
    server = options.server or ("localhost:8500" if options.grpc else "localhost:8501")
    sent = []

    def readable():
        for path in (file for each in options.images for file in _files(pathlib.Path(each))):
            try:
                data = image_bytes(path)
            except (OSError, Image.DecompressionBombError) as error:
                print(f"{path} cannot be read: {error}", file=sys.stderr)
            else:
                sent.append(path)
                yield data

    signature = CLASSIFY if options.classes else EMBED
    outputs = predict(server, options.model, signature, readable(), options.grpc)
    for i, path in enumerate(sent):
        print(f"{path}: {_told(i, outputs, sent, options.neighbours)}")
    if options.output:
        arrays = {"embedding": outputs["embedding"], "ok": outputs["ok"]}
        np.savez(options.output, paths=list(map(str, sent)), **arrays)
        print(f"Embeddings: {options.output}")


def _files(path):
    return find_images(path) if path.is_dir() else [path]


def _told(i, outputs, paths, neighbours) -> str:
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


if __name__ == "__main__":
    try:
        main()
    except (ValueError, OSError) as error:
        sys.exit(f"sit_keras.client: {error}")
