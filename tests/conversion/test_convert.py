"""PyTorch checkpoints become encoders and go back."""

import json

import keras
import numpy as np
import pytest
from golden_case import CLOSE, golden_config, group, to_nhwc

from sit_keras.config.preprocessing import PreprocessingConfig
from sit_keras.conversion import checkpoints, weight_names
from sit_keras.models.backbone import SiTBackbone
from sit_keras.models.classifier import SiTImageClassifier
from sit_keras.models.heads import build_pretext_network
from sit_keras.models.preprocessing import ImagePreprocessing
from sit_keras.runs.folder import read_settings
from sit_keras.runs.log import read_log
from sit_keras.serving.export import export
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
    kernel = SiTBackbone.from_preset(tmp_path / "run").get_layer("block_1").mlp_in.kernel
    expected = state["blocks.1.mlp.fc1.weight"].T
    np.testing.assert_allclose(kernel, expected, rtol=1e-2 if form == "bfloat16" else 0)


def test_the_authors_network(golden_sit, state, checkpoint, tmp_path, capsys):
    convert(checkpoint, tmp_path, num_heads=3)
    assert "2021-07" in capsys.readouterr().out
    network = keras.saving.load_model(tmp_path / "network.keras", compile=False)
    for view in ("1", "2"):
        outputs = network(to_nhwc(golden_sit[f"in/x{view}"]))
        logits = golden_sit[f"out/rot{view}"]
        np.testing.assert_allclose(outputs["rotation_logits"], logits, **CLOSE)
        np.testing.assert_allclose(outputs["projection"], golden_sit[f"out/con{view}"], **CLOSE)
        restored = to_nhwc(golden_sit[f"out/rec{view}"])
        np.testing.assert_allclose(outputs["reconstruction"], restored, **CLOSE)
    encoder = SiTBackbone.from_preset(tmp_path)
    assert encoder.num_heads == golden_config(golden_sit).num_heads
    tokens = encoder(to_nhwc(golden_sit["in/x1"]))["patch_tokens"]
    np.testing.assert_allclose(tokens, golden_sit["out/tokens_x1"][:, 2:], **CLOSE)

    convert(tmp_path, tmp_path / "back.pth")
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
    rotation = network(to_nhwc(golden_sit["in/x1"]))["rotation_logits"]
    ours = golden_sit["out/rot1"][:, [0, 3, 2, 1]]  # 90 degrees clockwise was its label 3
    np.testing.assert_allclose(rotation, ours, **CLOSE)
    checkpoints.to_torch(tmp_path, tmp_path / "back.pth", release="2021-04")
    assert_same(read_back(tmp_path / "back.pth"), state)


def test_moving_averages_are_taken_when_asked_for(state, checkpoint, tmp_path):
    about = checkpoints.from_torch(checkpoint, tmp_path, weights="model_ema", num_heads=3)
    assert about["weights"] == "model_ema"
    norm = SiTBackbone.from_preset(tmp_path).get_layer("norm")
    np.testing.assert_array_equal(norm.gamma, state["norm.weight"] / 2)
    with pytest.raises(ValueError, match="choose with --weights from model, model_ema"):
        checkpoints.from_torch(checkpoint, tmp_path / "other", weights="ema", num_heads=3)


def test_positions_are_resized_as_in_pytorch(golden_sit, checkpoint, tmp_path):
    config = golden_config(golden_sit)
    size = config.image_size + 2 * config.patch_size
    checkpoints.from_torch(checkpoint, tmp_path, num_heads=3, image_size=size)
    encoder = SiTBackbone.from_preset(tmp_path)
    assert encoder.image_shape == (size, size, 3)
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
    assert isinstance(model, SiTImageClassifier)
    tokens = model.backbone(to_nhwc(golden_sit["in/x1"]))
    np.testing.assert_allclose(model.head(tokens), expected, **CLOSE)
    checkpoints.to_torch(tmp_path / "run" / "classifier.keras", tmp_path / "back.pth")
    assert_same(read_back(tmp_path / "back.pth"), {**encoder, **heads})


def test_a_classifier_takes_images_as_they_are(golden_sit, state, random, tmp_path):
    heads = group(golden_sit, "classify/state/")
    torch.save({"model": tensors({**state, **heads})}, tmp_path / "tuned.pth")
    checkpoints.from_torch(tmp_path / "tuned.pth", tmp_path / "run", num_heads=3)
    model = keras.saving.load_model(tmp_path / "run" / "classifier.keras", compile=False)
    images = random.integers(0, 256, (2, 50, 40, 3), dtype=np.uint8)
    tokens = model.backbone(ImagePreprocessing.of(model.backbone)(images))
    np.testing.assert_allclose(model(images), model.head(tokens), atol=1e-5)


@pytest.mark.parametrize("kind", ["authors", "timm"])
def test_the_preprocessing_is_that_of_the_authors_timm_and_deit(kind, state, tmp_path):
    saved = state if kind == "authors" else one_token_state(state)
    torch.save(tensors(saved), tmp_path / "sit.pth")
    checkpoints.from_torch(tmp_path / "sit.pth", tmp_path / "run", num_heads=3)
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    assert SiTBackbone.from_preset(tmp_path / "run").preprocessing == PreprocessingConfig(
        crop=0.875, mean=mean, std=std, value_range=(0, 255)
    )


def test_a_preset_goes_back_too(state, checkpoint, tmp_path):
    checkpoints.from_torch(checkpoint, tmp_path / "run", num_heads=3)
    SiTBackbone.from_preset(tmp_path / "run").save_to_preset(tmp_path / "preset")
    checkpoints.to_torch(tmp_path / "preset", tmp_path / "back.pth")
    back = read_back(tmp_path / "back.pth")
    assert_same(back, {name: value for name, value in state.items() if name in back})
    assert "pos_embed" in back and "rot_head.weight" not in back


@pytest.mark.parametrize("distilled", [False, True])
def test_a_vit_of_timm_is_a_start(state, tmp_path, capsys, distilled):
    vit = one_token_state(state, distilled)
    safetensors.numpy.save_file(vit, tmp_path / "vit.safetensors")
    output = tmp_path / "run"
    convert(tmp_path / "vit.safetensors", output, num_heads=3)
    out = capsys.readouterr().out
    assert "head.weight" in out and "train it first" in out
    tokens = SiTBackbone.from_preset(output).get_layer("prefix_tokens")
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
        "--set=min_learning_rate=0",
        "--set=weight_decay=0",
        f"--run_dir={tmp_path / 'run'}",
    ]
    call_train(*command)
    assert read_settings(tmp_path / "run").initial_encoder == str(tmp_path / "start")
    start = SiTBackbone.from_preset(tmp_path / "start", image_shape=(16, 16, 3))
    checkpoints.to_torch(tmp_path / "run", tmp_path / "back.pth")
    alpha = read_log(tmp_path / "run" / "log.csv")["alpha_rotation"][-1]
    np.testing.assert_allclose(read_back(tmp_path / "back.pth")["rot_w"], [2 * np.log(alpha)])
    trained = SiTBackbone.from_preset(tmp_path / "run")
    for a, b in zip(start.get_weights(), trained.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)
    compared = json.loads((tmp_path / "run" / "results.json").read_text())["linear_accuracy"]
    assert compared["initial"] == compared["trained"] != compared["untrained"]


SMALL = {
    "image_shape": (8, 8, 3), "patch_size": 4, "hidden_dim": 6, "num_layers": 1, "num_heads": 2,
    "mlp_dim": 8,
}  # fmt: skip


def test_what_the_format_has_no_name_for_is_refused(tmp_path):
    backbones = {stem: SiTBackbone(**SMALL, stem=stem) for stem in ("patch", "conv")}
    for backbone, layers, message in (
        (backbones["conv"], 1, "no convolutional stem, and sit_backbone has one: only .* stem='p"),
        (backbones["patch"], 2, "one layer for the contrastive head, and this network has 2: give"),
    ):
        network = build_pretext_network(backbone, 5, layers)
        network.save(tmp_path / "network.keras")
        with pytest.raises(ValueError, match=message):
            convert(tmp_path / "network.keras", tmp_path / "out.pth")
        assert not (tmp_path / "out.pth").exists()
    with pytest.raises(ValueError, match="no convolutional stem"):
        weight_names.load_state(backbones["conv"], {})
    backbones["patch"].save(tmp_path / "encoder.keras")
    convert(tmp_path / "encoder.keras", tmp_path / "out.pth")
    assert (tmp_path / "out.pth").exists()
