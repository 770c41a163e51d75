"""Arrays in pieces come back whole, or are refused."""

import shutil

import numpy as np
import pytest

from sit_keras import build_ssl_model, load_encoder, pieces, recipe
from sit_keras.config_json import save_json

ARRAYS = {
    "a/b": np.random.default_rng(0).normal(size=(17, 31)).astype("float32"),
    "scalar": np.float32(3),
    "bytes": np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8),
    "nothing": np.zeros((0, 2)),
}


def test_pieces_come_back(tmp_path, monkeypatch):
    monkeypatch.setattr(pieces, "MAX_BYTES", 1000)
    pieces.write(tmp_path, ARRAYS, dataset="digits")
    assert all(path.stat().st_size <= 1000 for path in tmp_path.glob("*.bin"))
    assert pieces.read_index(tmp_path)["about"] == {"dataset": "digits"}
    back = pieces.read(tmp_path)
    assert list(back) == list(ARRAYS)
    for name, value in ARRAYS.items():
        assert back[name].dtype == value.dtype
        np.testing.assert_array_equal(back[name], value, strict=True)
    (tmp_path / "0001.bin").write_bytes(b"other")
    with pytest.raises(ValueError, match="0001.bin is missing or damaged"):
        pieces.read(tmp_path)
    with pytest.raises(ValueError, match="expected a folder of numbered pieces"):
        pieces.read(tmp_path / "nowhere")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run folder as another machine leaves it, and its network."""
    folder, config = tmp_path_factory.mktemp("pieces"), recipe("digits")
    network = build_ssl_model(config.model)
    weights = {weight.path: weight.numpy() for weight in network.weights}
    pieces.write(folder / "weights", weights)
    save_json(config, folder / "config.json", versions={"jax": "0"})
    return folder, network, weights


def test_a_network_comes_back(run, tmp_path, random):
    folder, network, _ = run
    shutil.copytree(folder, tmp_path / "run")
    pieces.main([str(tmp_path / "run")])
    images = random.normal(size=(2, 16, 16, 3)).astype("float32")
    expected = network.get_layer("sit_encoder")(images)
    for name, value in load_encoder(tmp_path / "run")(images).items():
        np.testing.assert_array_equal(value, expected[name])
    with pytest.raises(ValueError, match="has an encoder.keras already"):
        pieces.main([str(tmp_path / "run")])


@pytest.mark.parametrize("fault", ["missing", "misshapen", "foreign"])
def test_weights_of_another_network_are_refused(run, tmp_path, fault):
    folder, _, weights = run
    shutil.copytree(folder, tmp_path / "run")
    weights = dict(weights)
    name = next(iter(weights))
    value = weights.pop(name)
    if fault == "misshapen":
        weights[name] = value[:1]
    if fault == "foreign":
        weights |= {name: value, "other": value}
    pieces.write(tmp_path / "run" / "weights", weights)
    with pytest.raises(ValueError, match="not those of its config.json"):
        pieces.load_network(tmp_path / "run")
