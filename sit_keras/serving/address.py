"""The address of a server, as people type it. Standard library only."""

import dataclasses
import re
import urllib.parse

REST_PORT, GRPC_PORT = 8501, 8500
# A name, an IPv4 or an IPv6 address.
_HOST = re.compile(r"[\w.-]+|[0-9a-f:.]*:[0-9a-f:.]*(%[\w.-]+)?")


@dataclasses.dataclass(frozen=True)
class Address:
    """Where a server is.

    Args:
        host: str. A name or an IP address; an IPv6 address has brackets.
        port: int.
        tls: bool. Whether the connection is encrypted.
        prefix: str. The path before TF Serving's own, such as `/models-at-home`, or empty.
    """

    host: str
    port: int
    tls: bool = False
    prefix: str = ""

    def __str__(self) -> str:
        return f"{'https://' if self.tls else ''}{self.target}{self.prefix}"

    @property
    def target(self) -> str:
        """Host and port."""
        return f"{self.host}:{self.port}"

    @property
    def url(self) -> str:
        """The address for REST."""
        return f"{'https' if self.tls else 'http'}://{self.target}{self.prefix}"


def parse_address(server: str | None, grpc: bool = False) -> Address:
    """Reads the address of a server.

    Args:
        server: str or None. `HOST:PORT`, or `https://HOST:PORT/PREFIX` with or without the last
            two; None is this machine. A host alone has TF Serving's usual port, and a host behind
            `http://` or `https://` the usual port of those.
        grpc: bool. Whether it will be asked by gRPC, which knows no prefix.

    Raises:
        ValueError: if it is no such address.
    """
    text = "localhost" if server is None else server
    if not text.isprintable() or " " in text or "\\" in text:
        raise _no_address(text, "it has a space or another character that no address has")
    try:
        parts = urllib.parse.urlsplit(text if "://" in text else f"//{text}")
        host, port = parts.hostname or "", parts.port
        host.encode("idna")  # as it will be looked up
    except ValueError as error:
        raise _no_address(text, str(error)) from None
    if parts.scheme not in ("", "http", "https"):
        raise _no_address(text, f"{parts.scheme}:// is not known")
    if host in ("", "http", "https") or host.isdecimal() or not _HOST.fullmatch(host):
        raise _no_address(text, f"{host!r} is no host" if host else "there is no host")
    if port == 0:
        raise _no_address(text, "the port is 0")
    if "@" in parts.netloc or "?" in text or "#" in text:
        raise _no_address(text, "names of users, ? and # have no meaning here")
    prefix = parts.path.rstrip("/")
    if "/v1/models/" in f"{prefix}/":
        raise _no_address(text, "leave out /v1/models and what follows, which --model is for")
    if grpc and prefix:
        raise _no_address(text, "gRPC takes no path behind the port")
    if port is None:
        usual = {"": GRPC_PORT if grpc else REST_PORT, "http": 80, "https": 443}
        port = usual[parts.scheme]
    host = f"[{host}]" if ":" in host else host
    return Address(host, port, parts.scheme == "https", urllib.parse.quote(prefix, safe="/%"))


def _no_address(text, reason):
    return ValueError(
        f"{text!r} is no address of a server ({reason}): expected HOST:PORT, such as "
        "localhost:8501 or [::1]:8501, or https://HOST:PORT for an encrypted connection."
    )
