"""The whole method against the authors' own network: outputs, losses and every gradient."""

import numpy as np
import pytest
import tensorflow as tf
from golden_case import CLOSE, golden_config, group, to_nhwc

from sit_keras.conversion import weight_names
from sit_keras.models.backbone import SiTBackbone
from sit_keras.models.heads import build_pretext_network
from sit_keras.models.positions import resize_positions
from sit_keras.models.weighting import UncertaintyWeighting
from sit_keras.training.pretrainer import SiTPretrainer


def build_backbone(golden):
    return SiTBackbone(**golden_config(golden).backbone_arguments())


@pytest.fixture(scope="module")
def pretrainer(golden_sit):
    model = SiTPretrainer(build_backbone(golden_sit))
    weight_names.load_state(model, group(golden_sit, "state/"))
    return model


@pytest.fixture(scope="module")
def views(golden_sit):
    def pair(a, b):
        return tf.stack([golden_sit[a], golden_sit[b]], axis=1)

    return {
        "corrupted": tf.transpose(pair("in/x1", "in/x2"), (0, 1, 3, 4, 2)),
        "clean": tf.transpose(pair("in/target1", "in/target2"), (0, 1, 3, 4, 2)),
        "rotation": pair("in/rot1", "in/rot2"),
    }


def test_tokens(golden_sit, pretrainer):
    outputs = pretrainer.backbone(to_nhwc(golden_sit["in/x1"]))
    prefix = [outputs[name][:, None] for name in ("rotation_token", "contrastive_token")]
    tokens = np.concatenate([*prefix, outputs["patch_tokens"]], axis=1)
    np.testing.assert_allclose(tokens, golden_sit["out/tokens_x1"], **CLOSE)


@pytest.mark.parametrize("view", ["1", "2"])
def test_heads(golden_sit, pretrainer, view):
    outputs = pretrainer.network(to_nhwc(golden_sit[f"in/x{view}"]))
    np.testing.assert_allclose(outputs["rotation_logits"], golden_sit[f"out/rot{view}"], **CLOSE)
    np.testing.assert_allclose(outputs["projection"], golden_sit[f"out/con{view}"], **CLOSE)
    restored = to_nhwc(golden_sit[f"out/rec{view}"])
    np.testing.assert_allclose(outputs["reconstruction"], restored, **CLOSE)


def test_losses_and_totals(golden_sit, pretrainer, views):
    losses, _ = pretrainer.objective.losses(views)
    for task, loss in losses.items():
        np.testing.assert_allclose(loss, golden_sit[f"loss/{task}"], **CLOSE)
    total = pretrainer.weighting(losses)
    np.testing.assert_allclose(total, golden_sit["loss/total_release_2021_07"], **CLOSE)


def test_the_total_at_the_papers_alphas(golden_sit, pretrainer, views):
    losses, _ = pretrainer.objective.losses(views)
    tasks = ("reconstruction", "rotation", "contrastive")
    weighting = UncertaintyWeighting(tasks)
    for task, alpha in zip(tasks, golden_sit["loss/deck_alphas"], strict=True):
        weighting.log_alphas[task].assign(np.log(alpha))
    np.testing.assert_allclose(
        weighting(losses), golden_sit["loss/deck_total_at_deck_alphas"], **CLOSE
    )


def test_every_gradient(golden_sit, pretrainer, views):
    variables = pretrainer.trainable_variables
    with tf.GradientTape() as tape:
        losses, _ = pretrainer.objective.losses(views)
        total = pretrainer.weighting(losses)
    gradients = tape.gradient(total, [v.value for v in variables])
    by_variable = {id(v): g.numpy() for v, g in zip(variables, gradients, strict=True)}
    expected = group(golden_sit, "grad/")
    compared = []
    for entry in weight_names.entries(pretrainer):
        gradient = entry.to_torch(by_variable[id(entry.variable)])
        if entry.name in ("rot_w", "contrastive_w", "recons_w"):
            gradient = gradient / 4  # the chain rule of s = 2 log alpha, where to_torch doubles
        np.testing.assert_allclose(gradient, expected[entry.name], **CLOSE, err_msg=entry.name)
        compared.append(entry.name)
    assert sorted(compared) == sorted(expected)


def test_weights_survive_the_round_trip(golden_sit, pretrainer):
    state = group(golden_sit, "state/")
    back = weight_names.to_state(pretrainer)
    assert sorted(back) == sorted(state)
    for name, value in state.items():
        np.testing.assert_array_equal(back[name], value, err_msg=name)


def test_the_network_alone_leaves_out_the_loss_scalars(golden_sit):
    model = build_pretext_network(
        build_backbone(golden_sit), golden_config(golden_sit).projection_dim
    )
    left_out = weight_names.load_state(model, group(golden_sit, "state/"))
    assert sorted(left_out) == sorted(weight_names.SCALARS)
    outputs = model(to_nhwc(golden_sit["in/x1"]))
    np.testing.assert_allclose(outputs["rotation_logits"], golden_sit["out/rot1"], **CLOSE)


def test_load_state_refuses_what_does_not_fit(golden_sit):
    encoder = build_backbone(golden_sit)
    state = group(golden_sit, "state/")
    before = [v.numpy() for v in encoder.variables]
    state["blocks.7.norm1.weight"] = state["norm.weight"]
    state["norm.bias"] = np.zeros(3, np.float32)
    del state["rot_token"]
    with pytest.raises(ValueError, match=r"missing: rot_token.*unknown: blocks\.7.*norm\.bias"):
        weight_names.load_state(encoder, state)
    for old, new in zip(before, encoder.variables, strict=True):
        np.testing.assert_array_equal(old, new)


def test_positions_resize_as_in_pytorch(golden_sit, pretrainer):
    rows, columns = pretrainer.backbone.grid
    resized = resize_positions(
        golden_sit["state/pos_embed"], (rows, columns), (rows + 2, columns + 2)
    )
    np.testing.assert_allclose(resized, golden_sit["out/pos_embed_resized_plus2"], atol=1e-5)
