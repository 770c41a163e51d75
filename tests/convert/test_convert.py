"""PyTorch checkpoints become encoders and go back; nothing in a hostile file is run."""

import argparse
import json
import pickle
import sys

import numpy as np
import pytest
from test_golden import CLOSE, golden_config, group, to_nhwc

import sit_keras
from sit_keras.convert import checkpoints, weight_names
from sit_keras.runs.folder import read_settings
from sit_keras.runs.log import read_log
from sit_keras.serving.export import export

torch = pytest.importorskip("torch", reason="PyTorch reads the checkpoints: pip install torch")
pytest.importorskip("safetensors", reason="pip install safetensors")
import keras  # noqa: E402
import safetensors.numpy  # noqa: E402


def tensors(state):
    return {name: torch.tensor(array) for name, array in state.items()}


@pytest.fixture(scope="module")
def state(golden_sit):
    return group(golden_sit, "state/")


@pytest.fixture(scope="module")
def checkpoint(state, tmp_path_factory):
    """As the authors' training writes it: wrapped for several GPUs, with all that is beside it."""
    path = tmp_path_factory.mktemp("authors") / "checkpoint.pth"
    wrapped = {f"module.{name}": value for name, value in tensors(state).items()}
    saved = {
        "model": wrapped,
        "model_ema": {name: value / 2 for name, value in wrapped.items()},
        "optimizer": {"state": {0: {"step": 3}}, "param_groups": [{"lr": 1e-3}]},
        "epoch": 500,
        "max_accuracy": torch.tensor(93.02),
        "args": argparse.Namespace(model="vit", lr=0.1),
    }
    torch.save(saved, path)
    return path


def read_back(path):
    return {name: tensor.numpy() for name, tensor in torch.load(path)["model"].items()}


def assert_same(back, state):
    assert sorted(back) == sorted(state)
    for name, value in state.items():
        np.testing.assert_array_equal(back[name], value, err_msg=name)


@pytest.mark.parametrize("form", ["bfloat16", "legacy", "compiled"])
def test_other_forms_of_a_file(state, tmp_path, form):
    path, saved = tmp_path / "sit.bin", tensors(state)
    if form == "bfloat16":
        saved = {name: value.bfloat16() for name, value in saved.items()}
    if form == "compiled":
        saved = {f"_orig_mod.backbone.{name}": value for name, value in saved.items()}
    torch.save(saved, path, _use_new_zipfile_serialization=form != "legacy")
    about = checkpoints.from_torch(path, tmp_path / "run", num_heads=3)
    assert about["num_heads"] == 3 and about["kind"] == "network"
    kernel = sit_keras.load_encoder(tmp_path / "run").get_layer("block_1").mlp_in.kernel
    expected = state["blocks.1.mlp.fc1.weight"].T
    np.testing.assert_allclose(kernel, expected, rtol=1e-2 if form == "bfloat16" else 0)


def test_the_authors_network(golden_sit, state, checkpoint, tmp_path, capsys):
    checkpoints.main([str(checkpoint), f"--output={tmp_path}", "--num_heads=3"])
    assert "2021-07" in capsys.readouterr().out
    network = keras.saving.load_model(tmp_path / "network.keras", compile=False)
    for view in ("1", "2"):
        outputs = network(to_nhwc(golden_sit[f"in/x{view}"]))
        np.testing.assert_allclose(outputs["rotation"], golden_sit[f"out/rot{view}"], **CLOSE)
        np.testing.assert_allclose(outputs["contrastive"], golden_sit[f"out/con{view}"], **CLOSE)
        restored = to_nhwc(golden_sit[f"out/rec{view}"])
        np.testing.assert_allclose(outputs["reconstruction"], restored, **CLOSE)
    encoder = sit_keras.load_encoder(tmp_path)
    assert encoder.config.num_heads == golden_config(golden_sit).num_heads
    tokens = encoder(to_nhwc(golden_sit["in/x1"]))["patches"]
    np.testing.assert_allclose(tokens, golden_sit["out/tokens_x1"][:, 2:], **CLOSE)

    checkpoints.main([str(tmp_path), f"--output={tmp_path / 'back.pth'}"])
    assert_same(read_back(tmp_path / "back.pth"), state)


@pytest.mark.slow
def test_the_authors_network_can_be_served(checkpoint, tmp_path):
    checkpoints.from_torch(checkpoint, tmp_path / "run", num_heads=3)
    version = export(tmp_path / "run", tmp_path / "exports")
    signatures = json.loads((version / "assets" / "contract.json").read_text())["signatures"]
    assert {"reconstruct", "predict_rotation"} <= set(signatures)


def test_safetensors_and_back(state, tmp_path):
    safetensors.numpy.save_file(state, tmp_path / "sit.safetensors")
    about = checkpoints.from_torch(tmp_path / "sit.safetensors", tmp_path / "run", num_heads=3)
    assert about["left_out"] == [] and about["kind"] == "network"
    checkpoints.to_torch(tmp_path / "run", tmp_path / "back.safetensors")
    assert_same(safetensors.numpy.load_file(tmp_path / "back.safetensors"), state)


def test_the_first_release_turns_the_other_way(golden_sit, state, checkpoint, tmp_path):
    checkpoints.from_torch(checkpoint, tmp_path, release="2021-04", num_heads=3)
    network = keras.saving.load_model(tmp_path / "network.keras", compile=False)
    rotation = network(to_nhwc(golden_sit["in/x1"]))["rotation"]
    ours = golden_sit["out/rot1"][:, [0, 3, 2, 1]]  # 90 degrees clockwise was its label 3
    np.testing.assert_allclose(rotation, ours, **CLOSE)
    checkpoints.to_torch(tmp_path, tmp_path / "back.pth", release="2021-04")
    assert_same(read_back(tmp_path / "back.pth"), state)


def test_moving_averages_are_taken_when_asked_for(state, checkpoint, tmp_path):
    about = checkpoints.from_torch(checkpoint, tmp_path, weights="model_ema", num_heads=3)
    assert about["weights"] == "model_ema"
    norm = sit_keras.load_encoder(tmp_path).get_layer("norm")
    np.testing.assert_array_equal(norm.gamma, state["norm.weight"] / 2)
    with pytest.raises(ValueError, match="choose with --weights from model, model_ema"):
        checkpoints.from_torch(checkpoint, tmp_path / "other", weights="ema", num_heads=3)


def test_positions_are_resized_as_in_pytorch(golden_sit, checkpoint, tmp_path):
    config = golden_config(golden_sit)
    size = config.image_size + 2 * config.patch_size
    checkpoints.from_torch(checkpoint, tmp_path, num_heads=3, image_size=size)
    encoder = sit_keras.load_encoder(tmp_path)
    assert encoder.config.image_size == size
    positions = encoder.get_layer("prefix_tokens").positions
    np.testing.assert_allclose(positions, golden_sit["out/pos_embed_resized_plus2"], atol=1e-5)


def test_a_finetuned_classifier(golden_sit, state, tmp_path):
    heads = group(golden_sit, "classify/state/")
    other = ("rot_head", "contrastive_head", "convTrans", *weight_names.SCALARS)
    encoder = {name: value for name, value in state.items() if not name.startswith(other)}
    torch.save({"model": tensors({**encoder, **heads})}, tmp_path / "tuned.pth")
    about = checkpoints.from_torch(tmp_path / "tuned.pth", tmp_path / "run", num_heads=3)
    assert about["kind"] == "classifier"
    model = keras.saving.load_model(tmp_path / "run" / "classifier.keras", compile=False)
    expected = (golden_sit["classify/logits_rot"] + golden_sit["classify/logits_con"]) / 2
    np.testing.assert_allclose(model(to_nhwc(golden_sit["in/x1"])), expected, **CLOSE)
    checkpoints.to_torch(tmp_path / "run" / "classifier.keras", tmp_path / "back.pth")
    assert_same(read_back(tmp_path / "back.pth"), {**encoder, **heads})


def one_token_state(state, distilled=False):
    """A ViT in timm's names: class token, perhaps DeiT's distillation token, its own heads."""
    kept = {k: v for k, v in state.items() if k.startswith(("patch_embed", "blocks", "norm"))}
    random = np.random.default_rng(0)
    width = state["norm.weight"].shape[0]
    names = ("cls_token", "dist_token") if distilled else ("cls_token",)
    kept |= {name: random.normal(size=(1, 1, width)).astype("float32") for name in names}
    positions = (1, len(names) + state["pos_embed"].shape[1] - 2, width)
    kept["pos_embed"] = random.normal(size=positions).astype("float32")
    kept["head.weight"] = random.normal(size=(1000, width)).astype("float32")
    return kept


@pytest.mark.parametrize("distilled", [False, True])
def test_a_vit_of_timm_is_a_start(state, tmp_path, capsys, distilled):
    vit = one_token_state(state, distilled)
    safetensors.numpy.save_file(vit, tmp_path / "vit.safetensors")
    output = tmp_path / "run"
    checkpoints.main([f"{tmp_path}/vit.safetensors", f"--output={output}", "--num_heads=3"])
    said = capsys.readouterr().out
    assert "head.weight" in said and "train it first" in said
    tokens = sit_keras.load_encoder(output).get_layer("prefix_tokens")
    second = "dist_token" if distilled else "cls_token"
    np.testing.assert_array_equal(tokens.rotation_token, vit["cls_token"])
    np.testing.assert_array_equal(tokens.contrastive_token, vit[second])
    places = vit["pos_embed"]
    np.testing.assert_array_equal(tokens.positions[:, :1], places[:, :1])
    np.testing.assert_array_equal(tokens.positions[:, 1:2], places[:, distilled : distilled + 1])
    np.testing.assert_array_equal(tokens.positions[:, 2:], places[:, 1 + distilled :])


def test_another_network_is_no_start(state, tmp_path, call_train):
    safetensors.numpy.save_file(one_token_state(state), tmp_path / "vit.safetensors")
    checkpoints.from_torch(tmp_path / "vit.safetensors", tmp_path / "start", num_heads=4)
    sizes = {"patch_size": 8, "hidden_dim": 48, "num_layers": 2, "num_heads": 3, "mlp_dim": 192}
    with pytest.raises(ValueError, match="another network .*num_heads: 4 -> 3"):
        call_train(
            *(f"--set=model.{name}={value}" for name, value in sizes.items()),
            f"--set=initial_encoder={tmp_path / 'start'}",
            f"--run_dir={tmp_path / 'run'}",
        )


@pytest.mark.slow
def test_a_run_starts_from_an_encoder(state, tmp_path, call_train):
    safetensors.numpy.save_file(one_token_state(state), tmp_path / "vit.safetensors")
    checkpoints.from_torch(tmp_path / "vit.safetensors", tmp_path / "start", num_heads=3)
    sizes = {"patch_size": 8, "hidden_dim": 48, "num_layers": 2, "num_heads": 3, "mlp_dim": 192}
    command = [
        "--image_size=16",  # another size than the checkpoint's 32
        *(f"--set=model.{name}={value}" for name, value in sizes.items()),
        f"--set=initial_encoder={tmp_path / 'start'}",
        "--epochs=1",
        "--warmup_epochs=0",
        "--steps_per_epoch=1",
        "--learning_rate=1e-9",
        "--set=weight_decay=0",
        f"--run_dir={tmp_path / 'run'}",
    ]
    call_train(*command)
    assert read_settings(tmp_path / "run").initial_encoder == str(tmp_path / "start")
    start = sit_keras.load_encoder(tmp_path / "start", image_size=16)
    checkpoints.to_torch(tmp_path / "run", tmp_path / "back.pth")
    alpha = read_log(tmp_path / "run" / "log.csv")["alpha_rotation"][-1]
    np.testing.assert_allclose(read_back(tmp_path / "back.pth")["rot_w"], [2 * np.log(alpha)])
    for a, b in zip(
        start.get_weights(), sit_keras.load_encoder(tmp_path / "run").get_weights(), strict=True
    ):
        np.testing.assert_allclose(a, b, atol=1e-6)


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
        (lambda s: s, {"num_heads": 0}, "num_heads must be at least 1"),
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
    assert about["source"] == str(checkpoint)
    with pytest.raises(ValueError, match="has an encoder already"):
        checkpoints.from_torch(checkpoint, tmp_path, num_heads=3)
    with pytest.raises(ValueError, match="must end in"):
        checkpoints.to_torch(tmp_path, tmp_path / "sit.h5")
    with pytest.raises(ValueError, match="No network.keras or encoder.keras"):
        checkpoints.to_torch(tmp_path / "nothing", tmp_path / "sit.pth")
    (tmp_path / "there.pth").write_text("mine")
    with pytest.raises(ValueError, match="is there already"):
        checkpoints.to_torch(tmp_path, tmp_path / "there.pth")
    with pytest.raises(ValueError, match="--image_size is for reading"):
        checkpoints.main([str(tmp_path), f"--output={tmp_path / 'sit.pth'}", "--image_size=32"])


def test_without_pytorch_it_says_what_to_install(checkpoint, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(ValueError, match="pip install 'torch"):
        checkpoints.from_torch(checkpoint, tmp_path, num_heads=3)
