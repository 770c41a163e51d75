"""Asks TF Serving by REST. Standard library and NumPy only."""

import base64
import email.utils
import http.client
import json
import queue
import socket
import ssl
import threading
import time
import typing
import urllib.error
import urllib.parse
import urllib.request

from sit_keras.serving import replies
from sit_keras.serving.address import Address, parse_address
from sit_keras.serving.replies import (
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

_REFUSED = (400, 411, 413, 414, 415, 422)
_BUSY = (408, 429, 502, 503, 504)
# What to do about an answer that every request would get.
_ADVICE = {
    401: "it asks for a login, which this client has none for.",
    403: "it does not let this client in.",
    404: "check --model, --version and --label, that this model is loaded (GET /v1/models/NAME "
    "lists its versions), and the path in --server.",
    405: "it is no REST port of TF Serving (8501 as a rule).",
    407: "a proxy asks for a login: set no_proxy for this host, or the login in http_proxy.",
    501: "it is no REST port of TF Serving (8501 as a rule).",
}


def predict_rest(
    server: str | None,
    model: str,
    signature: str,
    files: list[bytes],
    version: int | None = None,
    label: str | None = None,
    timeout: float = 60.0,
) -> Outputs:
    """Sends one request by REST.

    Args:
        server: str or None. Its address; see `parse_address`.
        model: str. The name that the server knows it by.
        signature: str. One of files.
        files: JPEG or PNG.
        version: int or None. Of the model; None is what the server takes, the newest as a rule.
        label: str or None. The server's own name of a version, such as `stable`.
        timeout: float. The seconds until the reply must be complete.

    Returns:
        Arrays by the name of the output, one row for each file.

    Raises:
        ValueError: if the address is none.
        ServerError: an OSError, if there is no usable answer.
    """
    address = parse_address(server)
    encoded = [{"b64": base64.b64encode(file).decode()} for file in files]
    body = {"signature_name": signature, "inputs": {"image_bytes": encoded}}
    of_version = "" if version is None else f"/versions/{version}"
    if label is not None:
        of_version = f"/labels/{urllib.parse.quote(label, safe='')}"
    request = urllib.request.Request(
        f"{address.url}/v1/models/{urllib.parse.quote(model, safe='')}{of_version}:predict",
        json.dumps(body).encode(),
        {"Content-Type": "application/json"},
    )
    text = _within(timeout, lambda: _received(address, request, timeout), address)
    return checked_outputs(address, signature, _outputs(address, text), len(files))


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """A request with images must not become one without, which is what urllib makes of it."""

    def redirect_request(self, *_):
        return None


def _within(timeout: float, ask: typing.Callable[[], bytes], address: Address) -> bytes:
    """Calls a function that may wait longer: a socket's timeout only bounds each read."""
    results: queue.SimpleQueue = queue.SimpleQueue()

    def work():
        try:
            results.put((ask(), None))
        except Exception as error:
            results.put((None, error))

    threading.Thread(target=work, daemon=True).start()
    try:
        result, error = results.get(timeout=timeout)
    except queue.Empty:
        raise _late(address, timeout) from None
    if error is not None:
        raise error
    return result


def _received(address: Address, request: urllib.request.Request, timeout: float) -> bytes:
    """Returns the body of the reply; whatever else happens becomes a `ServerError`."""
    try:
        opener = urllib.request.build_opener(_NoRedirects)
        with opener.open(request, timeout=timeout) as response:
            body = response.read(replies.MAX_REPLY_BYTES + 1)
            if len(body) <= replies.MAX_REPLY_BYTES and response.length:
                raise http.client.IncompleteRead(body, response.length)
            return body
    except urllib.error.HTTPError as error:
        with error:
            raise _refusal(address, error) from None
    except urllib.error.URLError as error:
        reason = error.reason if isinstance(error.reason, OSError) else OSError(error.reason)
        raise _no_connection(address, reason, timeout) from error
    except http.client.RemoteDisconnected as error:
        raise ServerError(
            f"{address} closed the connection without an answer: look into the server's log, and "
            f"check that its port is one of REST {'with' if address.tls else 'without'} TLS."
        ) from error
    except http.client.IncompleteRead as error:
        raise ServerError(
            f"{address} broke off its reply after {len(error.partial)} bytes: look into the log of "
            "the server, and of a proxy before it."
        ) from error
    except http.client.HTTPException as error:
        raise WrongServer(
            f"{address} answered with something else than HTTP ({shown(repr(error), 80)}): give "
            "the REST port (8501 as a rule), --grpc for the gRPC port, or https:// for TLS."
        ) from error
    except OSError as error:
        raise _no_connection(address, error, timeout) from error


def _no_connection(address: Address, reason: OSError, timeout: float) -> ServerError:
    why = shown(reason.strerror or reason)
    if isinstance(reason, TimeoutError):
        return _late(address, timeout)
    if isinstance(reason, ssl.SSLCertVerificationError):
        return WrongServer(
            f"{address} has a certificate that is not trusted ({shown(reason.verify_message)}): "
            "name the file of its authority in the environment variable SSL_CERT_FILE."
        )
    if isinstance(reason, ssl.SSLError):
        return WrongServer(
            f"{address} cannot be reached by TLS ({why}): for a server without it give http://."
        )
    if isinstance(reason, socket.gaierror) and reason.errno != socket.EAI_AGAIN:
        return WrongServer(f"{address} cannot be reached: no machine has this name ({why}).")
    if isinstance(reason, (BrokenPipeError, ConnectionResetError)):
        return RequestRefused(
            f"{address} closed the connection ({why}): the request may be too large for it, or for "
            "a proxy before it."
        )
    return Unreachable(f"{address} cannot be reached ({why}): is it serving?")


def _late(address, timeout):
    return Unreachable(
        f"{address} did not answer within {timeout:g} s: is it serving? --timeout waits longer."
    )


def _refusal(address: Address, error: urllib.error.HTTPError) -> ServerError:
    """What an answer with another status than 200 means."""
    try:
        text = error.read(1 << 16).decode(errors="replace")
    except (OSError, http.client.HTTPException):
        text = ""  # the status says enough
    said = f"{address} answered {error.code} ({_words(text) or shown(error.reason)})"
    if 300 <= error.code < 400:
        place = shown(error.headers.get("Location", "an unnamed place"))
        return WrongServer(f"{address} sends its visitors on to {place}: give the address there.")
    if error.code in _BUSY:
        wait = _wait(error.headers.get("Retry-After"))
        again = f"; it wants to be asked again in {wait:.0f} s" if wait else ""
        return Busy(f"{said}: it cannot answer now{again}.", wait)
    if error.code == 400 and misses_signature(text):
        return WrongServer(f"{said}: {NO_SIGNATURE}")
    if error.code == 400 and misses_label(text):
        return WrongServer(f"{said}: {NO_LABEL}")
    if error.code in _REFUSED:
        return RequestRefused(f"{said}: it refuses the request.")
    if error.code in _ADVICE:
        return WrongServer(f"{said}: {_ADVICE[error.code]}")
    return ServerError(f"{said}: look into the server's log.")


def _words(text: str) -> str:
    """The server's own words in a reply."""
    try:
        text = json.loads(text)["error"]
    except (ValueError, KeyError, TypeError, RecursionError):
        if text.lstrip().startswith("<"):
            return f"a page of HTML, perhaps of a proxy: {shown(text, 100)}"
    return shown(text)


def _wait(text: str | None) -> float | None:
    """The seconds of a header Retry-After, which has seconds or a date."""
    if text is None:
        return None
    if text.isdecimal():
        return float(text)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(text).timestamp() - time.time())
    except (TypeError, ValueError, AttributeError, OverflowError):
        return None


def _outputs(address: Address, body: bytes) -> typing.Any:
    """The value of "outputs" in a reply."""
    if len(body) > replies.MAX_REPLY_BYTES:
        most = replies.MAX_REPLY_BYTES >> 20
        raise ServerError(f"{address} sent more than {most} MiB: is it TF Serving?")
    expected = 'expected JSON with "outputs": is it the REST port of TF Serving?'
    try:
        reply = json.loads(body)
    except (ValueError, RecursionError):
        text = _words(body[:1000].decode(errors="replace"))
        raise ServerError(f"{address} sent no JSON ({text or 'nothing'}), {expected}") from None
    if not isinstance(reply, dict) or "outputs" not in reply:
        text = shown(body[:1000].decode(errors="replace"), 100)
        raise ServerError(f"{address} sent {text}, {expected}")
    return reply["outputs"]
