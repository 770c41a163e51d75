"""Files of PyTorch that are refused, and hostile ones, of which nothing is run."""

import json
import pathlib
import pickle
import re
import sys

import keras
import numpy as np
import pytest
from golden_case import group

from sit_keras.config.extras import MissingPackage
from sit_keras.conversion import checkpoints, torch_files
from sit_keras.models.backbone import SiTBackbone
from sit_keras.models.classifier import SiTImageClassifier
from sit_keras.workflows.convert import convert

torch = pytest.importorskip("torch", reason="PyTorch reads the checkpoints: pip install torch")
pytest.importorskip("safetensors", reason="pip install safetensors")
import safetensors.numpy  # noqa: E402
from torch_case import one_token_state, save_checkpoint, tensors  # noqa: E402


@pytest.fixture(scope="module")
def state(golden_sit):
    return group(golden_sit, "state/")


@pytest.fixture(scope="module")
def checkpoint(state, tmp_path_factory):
    return save_checkpoint(state, tmp_path_factory.mktemp("authors") / "checkpoint.pth")


class Malicious:
    """A pickle that leaves a file behind where it is loaded."""

    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return open, (str(self.mark), "w")


@pytest.mark.parametrize("form", ["zip", "pickle", "inside"])
def test_a_malicious_pickle_runs_nothing(state, tmp_path, form):
    mark, path = tmp_path / "was-run", tmp_path / "bad.pth"
    if form == "pickle":
        path.write_bytes(pickle.dumps({"model": Malicious(mark)}))
    elif form == "zip":
        torch.save({"model": Malicious(mark)}, path)
    else:  # beside weights that would do
        torch.save({"model": tensors(state), "args": Malicious(mark)}, path)
    with pytest.raises(ValueError, match="refused, and nothing in it was run"):
        checkpoints.from_torch(path, tmp_path / "run", num_heads=3)
    assert not mark.exists() and not (tmp_path / "run").exists()
    if form == "pickle":
        pickle.loads(path.read_bytes())
    else:
        torch.load(path, weights_only=False)
    assert mark.exists()  # the file was a real attack


@pytest.mark.parametrize("kept", [0, 3, 200, 0.5, 0.999])
def test_a_truncated_file_is_refused(checkpoint, state, tmp_path, kept):
    safetensors.numpy.save_file(state, tmp_path / "whole.safetensors")
    for whole in (checkpoint, tmp_path / "whole.safetensors"):
        data = whole.read_bytes()
        path = tmp_path / f"cut{whole.suffix}"
        path.write_bytes(data[: int(kept * len(data)) if isinstance(kept, float) else kept])
        with pytest.raises(ValueError, match="damaged, or holds more than weights"):
            checkpoints.from_torch(path, tmp_path / "run", num_heads=3)
    assert not (tmp_path / "run").exists()


def without(state, name):
    return {k: v for k, v in state.items() if k != name}


@pytest.mark.parametrize(
    ("change", "settings", "message"),
    [
        (lambda s: without(s, "blocks.1.norm2.bias"), {}, "missing: blocks.1.norm2.bias"),
        (lambda s: without(s, "pos_embed"), {}, "no SiT and no ViT of timm's names"),
        (lambda s: {"fc.weight": s["norm.weight"]}, {}, "it begins with fc.weight"),
        (lambda s: {**s, "blocks.0.ls1.gamma": s["norm.bias"]}, {}, "unknown: blocks.0.ls1"),
        (lambda s: {**s, "norm.bias": s["norm.bias"] * np.nan}, {}, "not finite: norm.bias"),
        (lambda s: {**s, "pos_embed": s["pos_embed"][:, :-1]}, {}, "15 patches: expected 3"),
        (lambda s: s, {"num_heads": None}, "give --num_heads"),
        (lambda s: s, {"num_heads": 0}, "num_heads must be a whole number of at least 1"),
        (lambda s: {**s, "norm_pre.bias": s["norm.bias"]}, {}, "unknown: norm_pre"),
        (lambda s: {**s, "pos_embed": s["norm.bias"]}, {}, "no ViT of timm's layout"),
        (lambda s: s, {"num_heads": 5}, "not divisible by num_heads"),
        (lambda s: s, {"image_size": 30}, "not divisible by patch_size"),
        (lambda s: s, {"release": "2022"}, "Unknown release"),
        (lambda s: {}, {}, "no weights under 'model'"),
        (lambda s: one_token_state(s) | {"pos_embed": s["norm.bias"]}, {}, "no ViT of timm's"),
    ],
)
def test_what_does_not_fit_is_refused(state, tmp_path, change, settings, message):
    torch.save(tensors(change(state)), tmp_path / "sit.pth")
    with pytest.raises(ValueError, match=message):
        checkpoints.from_torch(
            tmp_path / "sit.pth", tmp_path / "run", **{"num_heads": 3, **settings}
        )
    assert not (tmp_path / "run").exists()


def test_what_is_there_stays(checkpoint, tmp_path):
    checkpoints.from_torch(checkpoint, tmp_path, num_heads=3)
    about = json.loads((tmp_path / "conversion.json").read_text())
    assert about["source"] == checkpoint.name  # without the folders above
    with pytest.raises(ValueError, match="has an encoder already"):
        checkpoints.from_torch(checkpoint, tmp_path, num_heads=3)
    with pytest.raises(ValueError, match="must end in"):
        checkpoints.to_torch(tmp_path, tmp_path / "sit.h5")
    with pytest.raises(ValueError, match="No network.keras, encoder.keras or"):
        checkpoints.to_torch(tmp_path / "nothing", tmp_path / "sit.pth")
    (tmp_path / "there.pth").write_text("mine")
    with pytest.raises(ValueError, match="is there already"):
        checkpoints.to_torch(tmp_path, tmp_path / "there.pth")
    with pytest.raises(ValueError, match="--image_size is for reading"):
        convert(tmp_path, tmp_path / "sit.pth", image_size=32)


def test_models_without_names_in_pytorch_are_refused(tmp_path):
    keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)]).save(tmp_path / "other.keras")
    with pytest.raises(ValueError, match="it holds 'Sequential', expected sit_keras>SiTBackbone"):
        checkpoints.to_torch(tmp_path / "other.keras", tmp_path / "back.pth")
    backbone = SiTBackbone.from_preset("digits", load_weights=False)
    SiTImageClassifier(backbone, 3, hidden_dim=5).save(tmp_path / "hidden.keras")
    with pytest.raises(ValueError, match="A classifier with a hidden layer of 5 has no names"):
        checkpoints.to_torch(tmp_path / "hidden.keras", tmp_path / "back.pth")
    assert not (tmp_path / "back.pth").exists()


def test_without_pytorch_it_says_what_to_install(checkpoint, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(MissingPackage, match=r'pip install "sit-keras\[torch\]"'):
        checkpoints.from_torch(checkpoint, tmp_path, num_heads=3)


@pytest.mark.parametrize("version", ["2.6.0", "2.9.1+cpu"])
def test_a_pytorch_that_does_not_read_safely_is_not_asked_to(version, tmp_path, monkeypatch):
    torch.save({"model": {}}, tmp_path / "a.pth")
    monkeypatch.setattr(torch, "__version__", version)
    monkeypatch.setattr(torch, "load", lambda *_, **__: pytest.fail("it was read"))
    with pytest.raises(
        MissingPackage, match=f"PyTorch {re.escape(version)} cannot read .*--upgrade"
    ):
        torch_files.read(tmp_path / "a.pth")


@pytest.mark.parametrize("name", ["a.pth", "a.safetensors"])
def test_a_file_whose_writing_fails_leaves_nothing(name, tmp_path, monkeypatch):
    def full(content, path):
        pathlib.Path(path).write_bytes(b"half")
        raise OSError("No space left on device")

    module = "torch.save" if name == "a.pth" else "safetensors.numpy.save_file"
    monkeypatch.setattr(module, full)
    with pytest.raises(OSError, match="No space"):
        torch_files.write(tmp_path / name, {"a": np.zeros(3, "float32")})
    assert list(tmp_path.iterdir()) == []
