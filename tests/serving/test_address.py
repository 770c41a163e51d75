"""The address of a server, as people type it."""

import pytest

from sit_keras.serving.address import parse_address
from sit_keras.serving.client import ask_server

ADDRESSES = {
    None: "http://localhost:8501",
    "gpu-box": "http://gpu-box:8501",
    "gpu_box:80": "http://gpu_box:80",
    "http://localhost:8501": "http://localhost:8501",
    "http://localhost:8501/": "http://localhost:8501",
    "https://host": "https://host:443",
    "https://host:8443/a/b/": "https://host:8443/a/b",
    "host:1/a b".replace(" ", "%20"): "http://host:1/a%20b",
    "[::1]:8501": "http://[::1]:8501",
    "[fe80::1%eth0]": "http://[fe80::1%eth0]:8501",
    "10.0.0.7:9": "http://10.0.0.7:9",
}


@pytest.mark.parametrize("server", ADDRESSES)
def test_an_address_is_understood(server):
    assert parse_address(server).url == ADDRESSES[server]


def test_an_address_of_grpc_has_its_own_port():
    assert parse_address("host", grpc=True).target == "host:8500"
    assert parse_address("https://[::1]", grpc=True) == parse_address("https://[::1]:443")
    with pytest.raises(ValueError, match="gRPC takes no path"):
        parse_address("host:1/prefix", grpc=True)


@pytest.mark.parametrize(
    "server",
    ["", ":8501", "8501", "host:port", "host:0", "host:99999", "host:-1", "::1", "::1:8501", "[::1",
     "grpc://host:1", "ftp://host", "http:/host:1", "http://http://host", "http://", "a b:1",
     "host:1\n", "host,other:1", "a..b:1", "x" * 64, "me:secret@host:1", "host:1?a=b", "host:1#a",
     "host\\x:1", "host:1/v1/models/sit:predict", "\x1b[31m:1"],
)  # fmt: skip
def test_nonsense_as_an_address_is_refused_before_a_file_is_read(server, tmp_path):
    with pytest.raises(ValueError, match="is no address of a server .*expected HOST:PORT"):
        ask_server([tmp_path / "missing"], server=server)
