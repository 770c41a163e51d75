"""Attention against NumPy; every picture of a run; one page that needs no network."""

import re
import shutil

import keras
import numpy as np
import pytest
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from test_golden import golden_config, group, to_nhwc

from sit_keras import build_encoder, weight_names
from sit_keras.attention import attention, attention_maps, rollout
from sit_keras.data import load_source
from sit_keras.run_folder import read_log
from sit_keras.visualize.__main__ import main


@pytest.fixture(scope="module")
def encoder(golden_sit):
    model = build_encoder(golden_config(golden_sit))
    weight_names.load_state(model, group(golden_sit, "state/"))
    return model


def softmax(x):
    x = np.exp(x - x.max(axis=-1, keepdims=True))
    return x / x.sum(axis=-1, keepdims=True)


def test_attention_of_the_first_block(golden_sit, encoder):
    """From the authors' own weights, head by head."""
    state, images = group(golden_sit, "state/"), to_nhwc(golden_sit["in/x1"])
    patches = keras.Model(encoder.input, encoder.get_layer("prefix_tokens").output)
    x = np.asarray(patches(images), np.float64)
    x = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-6)
    x = x * state["blocks.0.norm1.weight"] + state["blocks.0.norm1.bias"]
    qkv = x @ state["blocks.0.attn.qkv.weight"].T + state["blocks.0.attn.qkv.bias"]
    width, heads = x.shape[-1], encoder.config.num_heads
    size = width // heads
    found = np.asarray(attention(encoder, images))
    for head in range(heads):
        query = qkv[..., head * size : (head + 1) * size]
        key = qkv[..., width + head * size : width + (head + 1) * size]
        expected = softmax(query @ key.transpose(0, 2, 1) / np.sqrt(size))
        np.testing.assert_allclose(found[:, 0, head], expected, atol=1e-5)
    np.testing.assert_allclose(found.sum(axis=-1), 1, atol=1e-5)


def test_rollout_by_loops(random):
    weights = softmax(random.normal(size=(2, 3, 4, 5, 5))).astype("float32")  # (B, L, A, T, T)
    for image, found in zip(weights, np.asarray(rollout(weights)), strict=True):
        flow = np.eye(5)
        for block in image:
            flow = (sum(block) / len(block) + np.eye(5)) / 2 @ flow
        np.testing.assert_allclose(found, flow, atol=1e-6)


def test_maps_are_the_tokens_rows(golden_sit, encoder):
    images = to_nhwc(golden_sit["in/x1"])
    weights = np.asarray(attention(encoder, images))
    rows, columns = encoder.config.grid
    for place, token in enumerate(("rotation", "contrastive")):
        heads = np.asarray(attention_maps(encoder, images)[token]["heads"])
        assert heads.shape[2:] == (rows, columns)
        row, column = 1, 2
        np.testing.assert_array_equal(
            heads[:, :, row, column], weights[:, -1, :, place, 2 + row * columns + column]
        )


def test_flops_are_what_tensorflow_counts(golden_sit, encoder):
    import tensorflow as tf
    from tensorflow.python.profiler import model_analyzer, option_builder

    config = encoder.config
    spec = tf.TensorSpec((1, *config.input_size, 3), tf.float32)
    graph = tf.function(lambda x: encoder(x), autograph=False).get_concrete_function(spec).graph
    options = option_builder.ProfileOptionBuilder.float_operation()
    options["output"] = "none"
    counted = model_analyzer.profile(graph, options=options)
    products = sum(node.total_float_ops for node in _leaves(counted) if "atMul" in node.name)
    assert products == config.num_encoder_flops


def _leaves(node):
    return [node] if not node.children else [x for child in node.children for x in _leaves(child)]


PICTURES = {
    "curves", "corruptions", "reconstructions", "rotations", "attention-rotation",
    "attention-contrastive", "feature_map", "neighbours",
}  # fmt: skip
SHORT = ("--epochs=2", "--steps_per_epoch=2", "--set=warmup_epochs=0", "--batch_size=16")


def check_pictures(run, expected):
    found = {path.stem for path in (run / "pictures").glob("*.png")}
    assert found == expected
    for name in found:
        pixels = np.asarray(Image.open(run / "pictures" / f"{name}.png").convert("RGB"))
        assert pixels.std() > 2, name  # there is something on it
    page = (run / "report.html").read_text(encoding="utf-8")
    assert not re.findall(r"(?:src|href)=['\"](?!data:)", page)  # nothing from elsewhere
    assert page.count("data:image/png;base64") >= len(expected) + 1  # and the sheets
    return page


@pytest.mark.slow
def test_a_run_is_drawn(tmp_path, call_train, capsys):
    run = tmp_path / "run"
    call_train(*SHORT, f"--run_dir={run}")
    main([str(run)])
    page = check_pictures(run, PICTURES)
    assert "linear probe" in page and "learning_rate" in page and "epochs" in page
    assert str(run / "report.html") in capsys.readouterr().out
    card = (run / "model_card.md").read_text()
    assert "1,293 images of digits" in card and "linear head" in card

    logged = {}
    for folder in (run / "tensorboard").iterdir():
        events = EventAccumulator(str(folder))
        events.Reload()
        logged[folder.name] = events
    assert set(logged["pictures"].Tags()["tensors"]) == PICTURES
    assert logged["sheets"].Tags()["tensors"] == ["sheet"]
    shown = {tag.removeprefix("epoch_") for tag in logged["train"].Tags()["tensors"]}
    measured = {name for name in read_log(run / "log.csv") if not name.startswith("val_")}
    assert measured - {"epoch"} <= shown

    (run / "results.json").unlink()  # as of a run that was cut off
    (run / "network.keras").unlink()
    shutil.rmtree(run / "pictures")
    main([str(run)])
    check_pictures(run, PICTURES - {"reconstructions", "rotations"})


@pytest.mark.slow
def test_photos_without_labels_and_one_task(tmp_path, call_train):
    photos = tmp_path / "photos"
    photos.mkdir()
    digits = load_source("digits").train
    for i, pixels in enumerate(digits.items[:40]):
        size = (30 + i, 40)
        Image.fromarray(pixels).resize(size).save(photos / f"{i}.png")
    run = tmp_path / "run"
    call_train(
        *SHORT,
        f"--dataset=folder:{photos}",
        "--preset=digits",
        "--tasks=contrastive",
        "--weighting=fixed",
        "--holdout=0",
        f"--run_dir={run}",
    )
    main([str(run)])
    check_pictures(run, PICTURES - {"reconstructions", "rotations"})
    assert "no labels to judge it by" in (run / "model_card.md").read_text()


def test_what_is_no_run_is_refused(tmp_path):
    with pytest.raises(ValueError, match="No run at"):
        main([str(tmp_path)])
