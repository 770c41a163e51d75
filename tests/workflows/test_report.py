"""Attention against NumPy; every picture of a run; one page that needs no network."""

import json
import re
import shutil

import keras
import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from test_golden import golden_config, group, to_nhwc

from sit_keras.config.settings import CorruptionConfig
from sit_keras.convert import weight_names
from sit_keras.data.pipeline import step_views
from sit_keras.data.sources import load_source
from sit_keras.data.views import TwoViews
from sit_keras.models.attention import attention, attention_maps, follow
from sit_keras.models.backbone import build_encoder
from sit_keras.plots import charts
from sit_keras.runs.log import read_log
from sit_keras.workflows import pictures
from sit_keras.workflows.evaluate import evaluate
from sit_keras.workflows.report_main import main


@pytest.fixture(scope="module")
def encoder(golden_sit):
    model = build_encoder(golden_config(golden_sit))
    weight_names.load_state(model, group(golden_sit, "state/"))
    return model


def softmax(x):
    x = np.exp(x - x.max(axis=-1, keepdims=True))
    return x / x.sum(axis=-1, keepdims=True)


def attention_by_numpy(state, block, x, num_heads):
    """Softmax of query and key, head by head, from the authors' own weights."""
    x = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-6)
    x = x * state[f"blocks.{block}.norm1.weight"] + state[f"blocks.{block}.norm1.bias"]
    name = f"blocks.{block}.attn.qkv"
    qkv = x @ state[f"{name}.weight"].T + state[f"{name}.bias"]
    width, size = x.shape[-1], x.shape[-1] // num_heads
    for head in range(num_heads):
        query = qkv[..., head * size : (head + 1) * size]
        key = qkv[..., width + head * size : width + (head + 1) * size]
        yield softmax(query @ key.transpose(0, 2, 1) / np.sqrt(size))


def test_attention_of_each_block(golden_sit, encoder):
    state, images = group(golden_sit, "state/"), to_nhwc(golden_sit["in/x1"])
    before = ["prefix_tokens", "block_0"]  # whose output each block is given
    found = [np.asarray(weights) for weights in attention(encoder, images)]
    assert len(found) == len(before) == encoder.config.num_layers
    for number, layer in enumerate(before):
        tokens = keras.Model(encoder.input, encoder.get_layer(layer).output)
        x = np.asarray(tokens(images), np.float64)
        expected = list(attention_by_numpy(state, number, x, encoder.config.num_heads))
        np.testing.assert_allclose(found[number], np.stack(expected, axis=1), atol=1e-5)


def test_rollout_by_loops(random):
    blocks = softmax(random.normal(size=(3, 2, 4, 5, 5))).astype("float32")  # (L, B, A, T, T)
    found = None
    for weights in blocks:
        found = follow(weights, found)
    for image in range(2):
        flow = np.eye(5)
        for block in blocks[:, image]:
            flow = (sum(block) / len(block) + np.eye(5)) / 2 @ flow
        np.testing.assert_allclose(found[image], flow, atol=1e-6)


def test_maps_are_the_tokens_rows(golden_sit, encoder):
    images = to_nhwc(golden_sit["in/x1"])
    flow = None
    for last in attention(encoder, images):
        flow = follow(last, flow)
    _, columns = encoder.config.grid
    maps = attention_maps(encoder, images)
    for place, token in enumerate(("rotation", "contrastive")):
        row, column = 1, 2
        patch = 2 + row * columns + column
        heads, rollout = (np.asarray(maps[token][name]) for name in ("heads", "rollout"))
        assert heads.shape[2:] == rollout.shape[1:] == encoder.config.grid
        np.testing.assert_array_equal(heads[:, :, row, column], last[:, :, place, patch])
        np.testing.assert_array_equal(rollout[:, row, column], flow[:, place, patch])


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
    evaluate(run)
    (run / "evaluation" / "other").mkdir()
    found = json.loads((run / "evaluation" / "digits" / "results.json").read_text())
    other = {**found, "fingerprint": "of another epoch"}
    (run / "evaluation" / "other" / "results.json").write_text(json.dumps(other))
    main([str(run)])
    page = check_pictures(run, PICTURES)
    assert "Evaluation: digits" in page and "20 neighbours" in page and "effective rank" in page
    assert "Evaluation: other" not in page and "144 held-out images" in page
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
    moved = photos.rename(tmp_path / "moved <b>&'")
    main([str(run), f"--dataset=folder:{moved}"])
    page = check_pictures(run, PICTURES - {"reconstructions", "rotations"})
    assert "log(alpha)" not in page  # of weights that are fixed
    assert "Training images and their nearest" in page


def test_alone_and_together_a_corruption_is_the_same(tmp_path, monkeypatch):
    """With one kind of corruption, its row in the gallery is the row of all."""
    seen = {}
    monkeypatch.setattr(pictures.visualize, "corruption_gallery", lambda rows, _: seen.update(rows))
    config = CorruptionConfig(grey=False, blur=False, drop=0.3, replace=0.0)
    two_views = TwoViews(16, corruption=config, seed=4)
    images = load_source("digits").train
    views = next(iter(step_views(images, two_views, 8, 0, 1)))
    pictures._corruptions(two_views, views, tmp_path)
    assert list(seen) == ["clean", "drop", "all"]
    np.testing.assert_array_equal(seen["drop"], seen["all"])
    assert np.abs(seen["drop"] - seen["clean"]).max() > 0.1


@pytest.mark.parametrize("collapsed", [False, True])
def test_names_are_shown_as_they_are(tmp_path, random, monkeypatch, collapsed):
    names = ("_misc", "price $5_$ a", r"a$\frac$b")
    labels = np.arange(30) % 3
    features = np.ones((30, 4)) if collapsed else random.normal(size=(30, 4))
    figures = []
    save = Figure.savefig
    monkeypatch.setattr(Figure, "savefig", lambda f, *a, **k: (figures.append(f), save(f, *a, **k)))
    charts.feature_map(features, labels, names, tmp_path / "map.png")
    charts.confusion_sheet(np.eye(3, dtype=int), names, tmp_path / "confusion.png")
    legend = figures[0].legends[0].get_texts()
    for texts in (legend, figures[1].axes[0].get_xticklabels()):
        assert [text.get_text() for text in texts] == list(names)
        assert not any(text.get_parse_math() for text in texts)


def test_what_is_no_run_is_refused(tmp_path):
    with pytest.raises(ValueError, match="No run at"):
        main([str(tmp_path)])
