"""Asks TF Serving by gRPC."""

import numpy as np

from sit_keras.config.extras import import_package
from sit_keras.serving.address import Address, parse_address
from sit_keras.serving.replies import (
    MAX_REPLY_BYTES,
    NO_LABEL,
    NO_SIGNATURE,
    Busy,
    Outputs,
    RequestRefused,
    ServerError,
    Unreachable,
    WrongServer,
    checked_outputs,
    misses_label,
    misses_signature,
    shown,
)

# What every request would get, and what to do about it.
_ADVICE = {
    "NOT_FOUND": "check --model, --version and --label, and that this model is loaded.",
    "FAILED_PRECONDITION": "check --version and --label, and that this model is loaded.",
    "UNIMPLEMENTED": "it is no gRPC port of TF Serving (8500 as a rule).",
    "UNAUTHENTICATED": "it asks for a login, which this client has none for.",
    "PERMISSION_DENIED": "it does not let this client in.",
}


def predict_grpc(
    server: str | None,
    model: str,
    signature: str,
    files: list[bytes],
    version: int | None = None,
    label: str | None = None,
    timeout: float = 60.0,
) -> Outputs:
    """Sends one request by gRPC; as `predict_rest`, to another port.

    Raises:
        MissingPackage: if the packages of gRPC are not installed.
    """
    address = parse_address(server, grpc=True)
    grpc = import_package("grpc")
    predict_pb2 = import_package("tensorflow_serving.apis.predict_pb2")
    service = import_package("tensorflow_serving.apis.prediction_service_pb2_grpc")
    tf = import_package("tensorflow")
    request = predict_pb2.PredictRequest()
    request.model_spec.name = model
    request.model_spec.signature_name = signature
    if version is not None:
        request.model_spec.version.value = version
    if label is not None:
        request.model_spec.version_label = label
    request.inputs["image_bytes"].CopyFrom(tf.make_tensor_proto(files, tf.string, [len(files)]))
    options = [("grpc.max_receive_message_length", MAX_REPLY_BYTES)]
    if address.tls:
        credentials = grpc.ssl_channel_credentials()
        channel = grpc.secure_channel(address.target, credentials, options)
    else:
        channel = grpc.insecure_channel(address.target, options)
    with channel:
        stub = service.PredictionServiceStub(channel)
        try:
            response = stub.Predict(request, timeout=timeout)
        except grpc.RpcError as error:
            raise _refusal(address, error.code().name, error.details() or "") from error
    try:
        outputs = {name: _array(tf, value) for name, value in response.outputs.items()}
    except (ValueError, TypeError) as error:
        raise ServerError(
            f"{address} sent an output that is no array ({shown(error)}): is it TF Serving?"
        ) from error
    return checked_outputs(address, signature, outputs, len(files))


def _array(tf, value) -> np.ndarray:
    array = tf.make_ndarray(value)
    if array.dtype != object:
        return array
    decode = np.vectorize(lambda text: text.decode(errors="backslashreplace"), otypes=[object])
    return decode(array).astype(str)


def _refusal(address: Address, code: str, details: str) -> ServerError:
    """What a status of gRPC means."""
    said = f"{address}: {code}, {shown(details)}"
    if code == "DEADLINE_EXCEEDED":
        return Unreachable(f"{said}: is it serving? --timeout waits longer.")
    if code == "UNAVAILABLE":
        return _no_connection(address, said, details)
    if code == "RESOURCE_EXHAUSTED" and "larger than max" not in details:
        return Busy(f"{said}: it cannot answer now.")
    if misses_signature(details):
        return WrongServer(f"{said}: {NO_SIGNATURE}")
    if misses_label(details):
        return WrongServer(f"{said}: {NO_LABEL}")
    if code in ("INVALID_ARGUMENT", "OUT_OF_RANGE", "RESOURCE_EXHAUSTED"):
        return RequestRefused(f"{said}: it refuses the request.")
    if code in _ADVICE:
        return WrongServer(f"{said}: {_ADVICE[code]}")
    return ServerError(f"{said}: look into the server's log.")


def _no_connection(address: Address, said: str, details: str) -> ServerError:
    """gRPC has one code for all of it, so its words must tell."""
    words = details.lower()

    def has(*parts: str) -> bool:
        return any(part in words for part in parts)

    if has("handshake", "certificate"):
        return WrongServer(
            f"{said}: it cannot be reached by TLS; the file of its authority may be named in the "
            "environment variable GRPC_DEFAULT_SSL_ROOTS_FILE_PATH."
        )
    if has("http/2", "http1", "settings frame"):
        return WrongServer(f"{said}: it speaks no gRPC; give the gRPC port (8500 as a rule).")
    if has("lookup error", "dns", "resolving"):
        return WrongServer(f"{said}: no machine has this name.")
    advice = "" if address.tls else " A server with TLS needs https:// before its address."
    return Unreachable(f"{said}: is it serving?{advice}")
