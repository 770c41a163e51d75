"""Exports for ONNX Runtime, OpenVINO and LiteRT, each run by its own runtime."""

import json
import shutil
import sys

import numpy as np
import pytest
import tensorflow as tf
from serving_case import CONFIG, NAMES, PREPROCESSING, assert_close, build_backbone, contract_of

from sit_keras.config.extras import MissingPackage, is_installed
from sit_keras.runs.model_card import CARD
from sit_keras.serving import runtimes, verify
from sit_keras.serving.converters import convert
from sit_keras.serving.export import export, verify_export
from sit_keras.serving.portable import portable_examples

# What each needs; LiteRT's conversion takes a second, and that of the others several.
NEEDED = {
    "litert": ("ai_edge_litert",),
    "onnx": ("tf2onnx", "onnx", "onnxruntime"),
    "openvino": ("openvino", "nncf"),
}
NEEDS = {
    name: pytest.mark.skipif(
        not all(map(is_installed, packages)), reason=f"needs {', '.join(packages)}"
    )
    for name, packages in NEEDED.items()
}
SLOW = [pytest.param(name, marks=[NEEDS[name], pytest.mark.slow]) for name in NEEDED]
EACH = [pytest.param("litert", marks=NEEDS["litert"]), *SLOW[1:]]
OUTPUTS = {
    "rotation_token", "contrastive_token", "embedding", "patches", "logits", "probabilities", "ok",
}  # fmt: skip


@pytest.fixture(scope="module")
def converted(run_folder):
    """Returns the version of a format, exported when it is first asked for, and verified."""
    versions = {}

    def of(name):
        if name not in versions:
            versions[name] = export(run_folder, run_folder.parent / name, format=(name,))
        return versions[name]

    return of


def refreshed(version):
    """Makes a version that was changed on purpose one whose files are as they were exported."""
    path = version / "assets.extra" / verify.CHECKSUMS
    path.write_text(json.dumps(verify.checksums(version)))


def expected_of(signatures):
    classes = {name: signatures["classify"][name] for name in ("logits", "probabilities")}
    return {**signatures["serving_default"], **signatures["patches"], **classes}


# --- What they answer -----------------------------------------------------------------------------


@pytest.mark.parametrize("name", EACH)
def test_a_format_answers_as_the_keras_models(name, converted, unit_pictures, expected_outputs):
    """Images of another size and number than those of the examples; one file serves all sizes."""
    model = runtimes.open_model(converted(name))
    expected = expected_of(expected_outputs)
    for count in (7, 1, 3):
        outputs = model(unit_pictures[:count])
        assert set(outputs) == OUTPUTS and outputs["ok"].all()
        assert_close(outputs, {name: value[:count] for name, value in expected.items()}, atol=3e-5)
    assert model(np.full((2, 5, 90, 3), 0.5, "float32"))["embedding"].shape == (2, 48)


@pytest.mark.parametrize("name", EACH)
@pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf, 1.02, -0.02])
def test_an_image_out_of_range_is_refused_and_the_others_of_its_batch_are_not(
    name, wrong, converted, unit_pictures, expected_outputs
):
    images = unit_pictures[:3].copy()
    images[1, 4, 5, 2] = wrong
    outputs = runtimes.open_model(converted(name))(images)
    assert outputs["ok"].tolist() == [True, False, True]
    for key, value in expected_of(expected_outputs).items():
        assert not outputs[key][1].any()
        np.testing.assert_allclose(outputs[key][[0, 2]], value[[0, 2]], atol=3e-5)


@pytest.mark.parametrize("name", SLOW)
def test_a_convolutional_stem_and_an_odd_size_are_exported(name, tmp_path):
    encoder = build_backbone(image_shape=(24, 24, 3), patch_size=8, stem="conv", num_layers=1)
    encoder.save(tmp_path / "encoder.keras")
    version = export(tmp_path / "encoder.keras", tmp_path / "out", format=(name,))
    assert set(contract_of(version)["signatures"]["serving_default"]["outputs"]) == (
        OUTPUTS - {"logits", "probabilities"}
    )
    assert contract_of(version)["preprocessing"]["image_shape"] == [24, 24, 3]


@pytest.mark.parametrize("name", SLOW)
@pytest.mark.parametrize("precision", ["float16", "int8"])
def test_fewer_bits_make_a_smaller_file_and_nearly_the_same_embedding(
    name, precision, tmp_path, unit_pictures
):
    """Of a network that is wide enough for its weights to be most of the file."""
    build_backbone(hidden_dim=192, mlp_dim=768, num_layers=1).save(tmp_path / "encoder.keras")
    exact, version = (
        export(tmp_path / "encoder.keras", tmp_path / "out", format=(name,), precision=each)
        for each in ("float32", precision)
    )
    whole, small = (
        sum(path.stat().st_size for path in each.glob("model.*")) for each in (exact, version)
    )
    assert small < 0.8 * whole and contract_of(version)["weights"] == precision
    ours, theirs = (
        runtimes.open_model(each)(unit_pictures)["embedding"] for each in (version, exact)
    )
    assert 0.995 < np.sum(ours * theirs, axis=1).min() and not np.array_equal(ours, theirs)


# --- The contract ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", EACH)
def test_the_contract_says_what_is_inside_and_what_is_left_to_the_caller(name, converted):
    version = converted(name)
    contract = contract_of(version)
    assert version.parent.name == name and version.name == "1"
    assert contract["format"] == name and (version / contract["file"]).is_file()
    assert contract["class_names"] == list(NAMES)
    inputs = contract["signatures"]["serving_default"]["inputs"]
    assert inputs == {"images": {"dtype": "float32", "shape": [None, None, None, 3]}}
    assert contract["preprocessing"]["crop"] == PREPROCESSING.crop
    assert contract["preprocessing"]["mean"] == list(PREPROCESSING.mean)
    caller = " ".join(contract["preprocessing"]["left_to_the_caller"])
    for word in ("decode", "transparency", "EXIF", "divide the values by 255", "limit"):
        assert word in caller
    settings = {"INFERENCE_PRECISION_HINT": "f32"} if name == "openvino" else {}
    assert contract["runtime"]["settings"] == settings
    card = (version / "assets.extra" / CARD).read_text()
    assert "TF Serving" not in card and "divide the values by 255" in card


# --- Verification ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", EACH)
def test_verify_checks_every_format(name, converted, tmp_path):
    report = verify_export(converted(name))
    size = CONFIG.image_size
    for line in ("files as exported", "images 3x40x56x3 within", f"images 1x{size}x{size}x3 with"):
        assert line in report
    changed = shutil.copytree(converted(name), tmp_path / "changed")
    (changed / "assets" / "contract.json").write_text("{}")
    with pytest.raises(ValueError, match="changed failed: .*not those that .*: assets/contract"):
        verify_export(changed)


@pytest.mark.parametrize("name", EACH)
@pytest.mark.parametrize(
    ("wrong", "complaint"),
    [
        (1e-3, r"patches of .* is 0\.00\d+ off its examples, more than 0\.0001"),
        (np.nan, "patches of .* is inf off"),
    ],
)
def test_verification_says_the_largest_difference(name, wrong, complaint, converted, tmp_path):
    version = shutil.copytree(converted(name), tmp_path / "1")
    examples = dict(np.load(version / "assets" / "examples.npz"))
    examples["single/patches"][0, 2, 3] += wrong
    np.savez(version / "assets" / "examples.npz", **examples)
    refreshed(version)
    with pytest.raises(ValueError, match=f"1 failed: {complaint}"):
        verify_export(version)


@pytest.mark.parametrize("name", EACH)
def test_a_file_that_its_runtime_does_not_take_is_refused_in_a_sentence(name, converted, tmp_path):
    version = shutil.copytree(converted(name), tmp_path / "1")
    (version / runtimes.FILES[name]).write_bytes(b"this is not a model")
    refreshed(version)
    with pytest.raises(ValueError, match=f"failed: {runtimes.PACKAGES[name]} does not take model"):
        verify_export(version)


@pytest.mark.slow
@NEEDS["litert"]
def test_formats_have_one_number_and_one_that_fails_leaves_none(run_folder, tmp_path, monkeypatch):
    encoder, output = run_folder / "encoder.keras", tmp_path / "out"
    (output / "litert" / "3").mkdir(parents=True)
    assert export(encoder, output, format=("savedmodel", "litert"), check=False) == output / "4"
    names = [".lock", "4", "litert", "litert/3", "litert/4"]
    folders = ["", "litert"]

    def visible():
        return sorted(
            str(path.relative_to(output)) for each in folders for path in (output / each).iterdir()
        )

    assert visible() == names

    def wrong(parts):
        found = portable_examples(parts)
        return {**found, "batch/patches": found["batch/patches"] + 1e-3}

    monkeypatch.setattr("sit_keras.serving.export.portable_examples", wrong)
    with pytest.raises(ValueError, match=r"The export failed: patches of ai_edge_litert is 0\.00"):
        export(encoder, output, format=("savedmodel", "litert"))
    assert visible() == names


# --- What is refused ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ({"format": ("onnx", "tflite")}, "some of savedmodel, onnx, openvino, litert; received"),
        ({"format": ()}, "format must be some of"),
        ({"format": "onnx"}, "format must be some of .*; received 'onnx'"),
        ({"precision": "int4"}, "precision must be one of float32, float16, int8; received 'int4'"),
        ({"format": ("litert", "savedmodel"), "precision": "int8"}, "cannot be written in int8"),
    ],
)
def test_what_no_format_has_is_refused_before_any_work(arguments, complaint, tmp_path):
    with pytest.raises(ValueError, match=complaint):
        export(tmp_path / "no run", tmp_path / "out", **arguments)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "precision", "package"),
    [
        ("onnx", "float32", "onnxruntime"),
        ("openvino", "float32", "openvino"),
        ("openvino", "int8", "nncf"),
        ("litert", "float32", "ai_edge_litert"),
    ],
)
def test_a_missing_runtime_is_named_before_any_work(
    name, precision, package, tmp_path, monkeypatch
):
    if name != package and not all(map(is_installed, set(NEEDED[name]) - {package})):
        pytest.skip("another package of this format is missing")
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingPackage, match=rf'pip install "sit-keras\[{name}\]"'):
        export(tmp_path / "no run", tmp_path / "out", format=(name,), precision=precision)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", EACH)
def test_an_operation_that_a_format_lacks_is_refused_in_a_sentence(name, tmp_path):
    owner = tf.Module()
    owner.function = tf.function(
        lambda images: {"y": tf.strings.length(tf.strings.format("{}", images))},
        input_signature=[tf.TensorSpec((None, 3), tf.float32, name="images")],
    )
    with pytest.raises(ValueError, match=f"This network cannot be converted to {name}: "):
        convert(owner.function, owner, name, "float32", tmp_path)
    assert list(tmp_path.iterdir()) == []
