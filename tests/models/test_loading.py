"""Backbones from presets, folders and files: what is loaded, resized and refused."""

import json
import pathlib
import shutil
import sys
import types
import zipfile

import keras
import numpy as np
import pytest
from golden_case import golden_config, group

from sit_keras.config.preprocessing import PreprocessingConfig
from sit_keras.config.presets import presets, run_config
from sit_keras.config.shipped import CARD, shipped
from sit_keras.conversion import weight_names
from sit_keras.models.backbone import SiTBackbone
from sit_keras.models.classifier import SiTImageClassifier
from sit_keras.models.loading import copy_resized, copy_weights, start_from

SMALL = {
    "image_shape": (24, 16, 3), "patch_size": 4, "hidden_dim": 24, "num_layers": 2, "num_heads": 3,
    "mlp_dim": 40, "preprocessing": PreprocessingConfig(0.7, (0.1, 0.2, 0.3), (0.4, 0.5, 0.6)),
}  # fmt: skip
FOREIGN = {"module": "keras.layers", "class_name": "Dense", "config": {"units": 3}}


@pytest.fixture(scope="module")
def backbone():
    return SiTBackbone(**SMALL)


@pytest.fixture(scope="module")
def saved(backbone, tmp_path_factory):
    """A preset folder, and a run folder with an encoder.keras."""
    folder = tmp_path_factory.mktemp("presets")
    backbone.save_to_preset(folder / "preset")
    (folder / "run").mkdir()
    backbone.save(folder / "run" / "encoder.keras")
    return folder


@pytest.fixture
def preset(saved, tmp_path):
    """A copy of the preset folder to break."""
    return shutil.copytree(saved / "preset", tmp_path / "preset")


def assert_same(one, other, random):
    assert one.get_config() == other.get_config()
    x = random.normal(size=(2, *one.image_shape)).astype("float32")
    for name, value in one(x).items():
        np.testing.assert_array_equal(other(x)[name], value, err_msg=name)


def change_json(path, change):
    values = json.loads(path.read_text())
    change(values)
    path.write_text(json.dumps(values))


# --- What is loaded -------------------------------------------------------------------------------


@pytest.mark.parametrize("place", ["preset", "run", "run/encoder.keras"])
@pytest.mark.parametrize("kind", [str, lambda path: path])
def test_a_folder_or_a_file_gives_the_same_backbone_back(place, kind, saved, backbone, random):
    loaded = SiTBackbone.from_preset(kind(saved / place))
    assert_same(backbone, loaded, random)
    assert loaded.preprocessing == SMALL["preprocessing"]


def test_a_preset_folder_has_the_files_of_kerashub(saved):
    names = {"config.json", "model.weights.h5", "metadata.json"}
    assert {path.name for path in (saved / "preset").iterdir()} == names
    config = json.loads((saved / "preset" / "config.json").read_text())
    assert config["registered_name"] == "sit_keras>SiTBackbone"


def test_a_name_is_a_network_without_weights():
    for name, network in presets().items():
        with pytest.raises(ValueError, match=f"'{name}' .* without weights: .*load_weights=False"):
            SiTBackbone.from_preset(name)
        if network.num_encoder_parameters < 10e6:
            backbone = SiTBackbone.from_preset(name, load_weights=False)
            assert backbone.count_params() == network.num_encoder_parameters
            assert backbone.preprocessing == run_config(name).preprocessing
    changed = SiTBackbone.from_preset("digits", load_weights=False, num_layers=1, name="mine")
    assert changed.num_layers == 1 and changed.name == "mine" and changed.hidden_dim == 64


def test_without_load_weights_the_weights_are_new(saved, backbone):
    kernel = backbone.get_layer("patch_embedding").kernel.numpy()
    for place in ("preset", "run"):
        new = SiTBackbone.from_preset(saved / place, load_weights=False)
        assert new.get_config() == backbone.get_config()
        assert (new.get_layer("patch_embedding").kernel.numpy() != kernel).any()


def test_it_computes_in_float32_whatever_it_was_trained_in(tmp_path):
    half = SiTBackbone(**SMALL, dtype="mixed_bfloat16")
    half.save_to_preset(tmp_path / "half")
    half.save(tmp_path / "half.keras")
    for path in (tmp_path / "half", tmp_path / "half.keras"):
        loaded = SiTBackbone.from_preset(path)
        assert loaded.get_config() == {**half.get_config(), "dtype": "float32"}
        for old, new in zip(half.get_weights(), loaded.get_weights(), strict=True):
            np.testing.assert_array_equal(old, new)
        again = SiTBackbone.from_preset(path, dtype="mixed_float16")
        assert again.get_layer("block_0").compute_dtype == "float16"


def test_arguments_that_shape_no_weight_may_differ(saved, backbone, random):
    changes = {"drop_path_rate": 0.0, "seed": 8, "preprocessing": PreprocessingConfig(crop=0.5)}
    loaded = SiTBackbone.from_preset(saved / "preset", **changes)
    x = random.normal(size=(2, *SMALL["image_shape"])).astype("float32")
    np.testing.assert_array_equal(loaded(x)["patch_tokens"], backbone(x)["patch_tokens"])
    assert {name: getattr(loaded, name) for name in changes} == changes
    with pytest.raises(ValueError, match="another network .mlp_dim: 40 -> 48"):
        SiTBackbone.from_preset(saved / "preset", mlp_dim=48)
    with pytest.raises(TypeError, match="unexpected keyword argument 'patchsize'"):
        SiTBackbone.from_preset(saved / "preset", patchsize=48)


# --- Encoders that come with the package ----------------------------------------------------------


@pytest.mark.parametrize("name", shipped())
def test_a_trained_encoder_comes_with_the_package_and_has_a_card(name, random):
    encoder = SiTBackbone.from_preset(name)
    same = SiTBackbone.from_preset(shipped()[name])
    assert_same(encoder, same, random)
    card = (shipped()[name] / CARD).read_text()
    assert f'from_preset("{name}")' in card and "| commit |" in card and "## Licence" in card
    assert name not in presets()
    new = SiTBackbone.from_preset(name, load_weights=False)
    assert (new.get_weights()[0] != encoder.get_weights()[0]).any()
    assert SiTImageClassifier.from_preset(name, num_classes=3).num_classes == 3


def test_all_shipped_encoders_fit_into_a_small_wheel():
    sizes = [path.stat().st_size for folder in shipped().values() for path in folder.iterdir()]
    assert sum(sizes) < 9e6


def test_a_folder_of_the_name_of_a_preset_is_not_hidden_silently(
    saved, backbone, random, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    for name in ("sit_digits", "native32"):
        shutil.copytree(saved / "preset", name)
    named = SiTBackbone.from_preset("sit_digits")
    assert named.hidden_dim == 64
    assert "sit_digits is taken as the encoder of that name in SiT-Keras, not as the folder " in (
        capsys.readouterr().out
    )
    assert SiTBackbone.from_preset("native32", load_weights=False).hidden_dim == 192
    assert "which is ./native32." in capsys.readouterr().out
    with pytest.raises(ValueError, match="without weights: .*That of the folder native32 here is"):
        SiTBackbone.from_preset("native32")
    for name in ("sit_digits", "native32"):
        for place in (f"./{name}", pathlib.Path(name)):
            assert_same(backbone, SiTBackbone.from_preset(place), random)
    assert capsys.readouterr().out == ""


def test_training_starts_from_a_shipped_encoder_of_its_own_sizes(backbone):
    new = SiTBackbone.from_preset("sit_digits", load_weights=False)
    start_from("sit_digits", new)
    for old, now in zip(
        SiTBackbone.from_preset("sit_digits").get_weights(), new.get_weights(), strict=True
    ):
        np.testing.assert_array_equal(old, now)
    with pytest.raises(ValueError, match="initial encoder sit_digits does not fit .*hidden_dim"):
        start_from("sit_digits", backbone)


# --- Other image sizes ----------------------------------------------------------------------------


def test_another_image_shape_resizes_the_positions_as_pytorch_does(golden_sit, tmp_path):
    config = golden_config(golden_sit)
    backbone = SiTBackbone(**config.backbone_arguments())
    state = group(golden_sit, "state/")
    weight_names.load_state(backbone, state)
    backbone.save_to_preset(tmp_path)
    side = config.image_size + 2 * config.patch_size
    resized = SiTBackbone.from_preset(tmp_path, image_shape=(side, side, 3))
    expected = {**state, "pos_embed": golden_sit["out/pos_embed_resized_plus2"]}
    for name, value in weight_names.to_state(resized).items():
        np.testing.assert_allclose(value, expected[name], atol=1e-5, err_msg=name)


@pytest.mark.parametrize("image_shape", [(24, 24, 3), (32, 12, 3), (4, 4, 3), (24, 16, 3)])
def test_a_backbone_loads_at_any_size_that_its_patches_fill(image_shape, saved, backbone, random):
    resized = SiTBackbone.from_preset(saved / "run", image_shape=image_shape)
    assert resized.get_config() == {**backbone.get_config(), "image_shape": image_shape}
    rows, columns = resized.grid
    outputs = resized(random.normal(size=(3, *image_shape)).astype("float32"))
    assert outputs["patch_tokens"].shape == (3, rows * columns, 24)
    old, new = (each.get_layer("prefix_tokens").positions for each in (backbone, resized))
    np.testing.assert_array_equal(old[:, :2], new[:, :2])
    if image_shape == SMALL["image_shape"]:
        np.testing.assert_allclose(old, new, atol=1e-6)


@pytest.mark.parametrize(
    ("image_shape", "message"),
    [((18, 16, 3), "not divisible by patch_size"), ((16, 16, 1), "3 channels, and image_shape")],
)
def test_an_image_shape_that_does_not_fit_is_refused(image_shape, message, saved):
    with pytest.raises(ValueError, match=message):
        SiTBackbone.from_preset(saved / "preset", image_shape=image_shape)


def test_an_encoder_of_other_channels_is_named_as_one(backbone):
    five = backbone.clone(image_shape=(*backbone.image_shape[:2], 5), preprocessing=None)
    with pytest.raises(ValueError, match=r"another network \(.*channels: 3 -> 5\)"):
        copy_resized(backbone, five)


def test_weights_are_copied_by_name_and_only_if_all_fit(backbone):
    twin = backbone.clone()
    assert copy_weights(backbone, twin) == []
    for old, new in zip(backbone.get_weights(), twin.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)
    with pytest.raises(ValueError, match="6 of 31 weights do not fit .*: .24, 40. -> .24, 44."):
        copy_weights(backbone, backbone.clone(mlp_dim=44))
    with pytest.raises(ValueError, match="another network .num_heads: 3 -> 2"):
        copy_resized(backbone, backbone.clone(num_heads=2))


# --- What is refused ------------------------------------------------------------------------------


def test_what_is_not_there_is_named_with_what_may_be_given(tmp_path):
    with pytest.raises(ValueError, match="No encoder at .*nothing: expected a run folder.*digits"):
        SiTBackbone.from_preset(tmp_path / "nothing")
    with pytest.raises(ValueError, match="No encoder at"):
        SiTBackbone.from_preset(tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda v: v.update(registered_name="keras.layers>Dense"), "holds 'keras.layers>Dense'"),
        (lambda v: v.update(registered_name=None), "holds 'SiTBackbone', expected sit_keras>SiT"),
        (lambda v: v.pop("registered_name"), "expected sit_keras>SiTBackbone"),
        (lambda v: v.pop("config"), "expected sit_keras>SiTBackbone"),
        (lambda v: v["config"].update(dtype=FOREIGN), "holds a 'Dense' as dtype"),
        (lambda v: v["config"].update(activity_regularizer=FOREIGN), "holds a 'Dense'"),
        (lambda v: v["config"].update(hidden_dim=25), "not divisible by num_heads"),
        (lambda v: v["config"].update(layer_norm_epsilon="x"), "does not describe a SiTBackbone"),
        (lambda v: v["config"].update(hidden_dims=25), "unexpected keyword argument 'hidden_dims'"),
        (lambda v: v["config"].update(hidden_dim=48), "cannot be read as weights"),
        (lambda v: v["config"].update(num_layers=3), "cannot be read as weights"),
    ],
)
def test_a_config_of_something_else_is_refused_and_never_built(
    change, message, preset, monkeypatch
):
    change_json(preset / "config.json", change)
    built = []
    monkeypatch.setattr(keras.layers.Dense, "from_config", lambda *args: built.append(args))
    with pytest.raises(ValueError, match=message):
        SiTBackbone.from_preset(preset)
    assert not built


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '"a"', "\x00\xff"])
def test_broken_json_is_refused(text, preset):
    (preset / "config.json").write_text(text)
    with pytest.raises(ValueError, match="config.json cannot be read as a preset: it is "):
        SiTBackbone.from_preset(preset)


@pytest.mark.parametrize("kept", [0, 10, 0.5, 0.99])
@pytest.mark.parametrize("file", ["preset/model.weights.h5", "run/encoder.keras"])
def test_truncated_weights_are_refused(kept, file, saved, tmp_path):
    folder = shutil.copytree(saved, tmp_path / "cut")
    data = (folder / file).read_bytes()
    (folder / file).write_bytes(data[: int(kept * len(data)) if kept < 1 else kept])
    with pytest.raises(ValueError, match="cannot be read as (weights|an encoder)"):
        SiTBackbone.from_preset((folder / file).parent)


def test_a_keras_file_of_another_model_is_refused_before_it_is_built(saved, tmp_path, monkeypatch):
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.save(tmp_path / "other.keras")
    monkeypatch.setattr(keras.saving, "load_model", lambda *_, **__: pytest.fail("it was built"))
    with pytest.raises(ValueError, match="holds 'Sequential'"):
        SiTBackbone.from_preset(tmp_path / "other.keras")
    with (
        zipfile.ZipFile(saved / "run" / "encoder.keras") as archive,
        zipfile.ZipFile(tmp_path / "inside.keras", "w") as changed,
    ):
        for name in archive.namelist():
            data = archive.read(name)
            if name == "config.json":
                values = json.loads(data)
                values["config"]["dtype"] = FOREIGN
                data = json.dumps(values)
            changed.writestr(name, data)
    with pytest.raises(ValueError, match="holds a 'Dense' as dtype"):
        SiTBackbone.from_preset(tmp_path / "inside.keras")


# --- Hugging Face ---------------------------------------------------------------------------------


def test_a_repository_is_downloaded_and_loaded(saved, backbone, random, monkeypatch):
    asked = {}

    def snapshot_download(repository, **options):
        asked.update(options, repository=repository)
        return str(saved / "preset")

    hub = types.SimpleNamespace(snapshot_download=snapshot_download)
    monkeypatch.setitem(sys.modules, "huggingface_hub", hub)
    assert_same(backbone, SiTBackbone.from_preset("hf://somebody/sit@v2"), random)
    assert (asked["repository"], asked["revision"]) == ("somebody/sit", "v2")
    assert "model.weights.h5" in asked["allow_patterns"]
    SiTBackbone.from_preset("hf://somebody/sit")
    assert asked["revision"] is None


def test_without_huggingface_hub_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(ValueError, match="pip install huggingface_hub"):
        SiTBackbone.from_preset("hf://somebody/sit")
