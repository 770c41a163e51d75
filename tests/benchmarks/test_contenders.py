"""What is measured side by side does the same work: losses, gradients and views are equal."""

import numpy as np
import pytest
import tensorflow as tf

from benchmarks.contenders.operations import step_gflop
from sit_keras import SiTBackbone, SiTPretrainer, TwoViews
from sit_keras.augment import pretext
from sit_keras.augment.crops import CROP_NUMBERS
from sit_keras.config.presets import run_config
from sit_keras.conversion import weight_names

torch = pytest.importorskip("torch")

from benchmarks.contenders import torch_network, torch_straightforward, torch_views  # noqa: E402

SIZE, BATCH, STEP = 32, 10, 3
NETWORK = {
    "hidden_dim": 24, "num_layers": 2, "num_heads": 2, "mlp_dim": 40, "patch_size": 8,
    "projection_dim": 16, "drop_path_rate": 0.0,
}  # fmt: skip
CONFIG = run_config("native32", NETWORK, batch_size=BATCH)


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).integers(0, 256, (BATCH, 40, 50, 3), np.uint8)


@pytest.fixture(scope="module")
def two_views():
    return TwoViews(SIZE, CONFIG.views, CONFIG.corruption, CONFIG.preprocessing, CONFIG.seed)


@pytest.fixture(scope="module")
def views(images, two_views):
    return two_views(images, STEP)


@pytest.fixture(scope="module")
def pretrainer():
    backbone = SiTBackbone(**CONFIG.model.backbone_arguments())
    model = SiTPretrainer(backbone, projection_dim=CONFIG.model.projection_dim)
    model.weighting.log_alphas["rotation"].assign(0.3)  # else all three scalars are alike
    return model


def torch_copy(model, fused):
    network = torch_network.PretextNetwork(CONFIG.model, fused)
    state = {k: torch.tensor(v) for k, v in weight_names.to_state(model).items()}
    network.load_state_dict(state)
    return network


def channels_first(views):
    return torch.tensor(np.array(views).reshape(-1, SIZE, SIZE, 3).transpose(0, 3, 1, 2))


def torch_loss(network, views):
    rotation = torch.tensor(np.array(views["rotation"])).flatten().long()
    outputs = network(channels_first(views["corrupted"]))
    pairs = torch_network.neighbours(len(rotation))
    clean = channels_first(views["clean"])
    return network.loss(outputs, clean, rotation, pairs, CONFIG.temperature)


def our_loss(model, views):
    return model.weighting(model.objective.losses(views)[0])


@pytest.mark.parametrize("fused", [True, False])
def test_the_loss_of_pytorch_is_ours_with_our_weights(pretrainer, views, fused):
    theirs = torch_loss(torch_copy(pretrainer, fused), views)
    assert theirs.item() == pytest.approx(float(our_loss(pretrainer, views)), rel=1e-5)


def test_every_gradient_of_pytorch_is_ours_with_our_weights(pretrainer, views):
    network = torch_copy(pretrainer, fused=True)
    torch_loss(network, views).backward()
    parameters = dict(network.named_parameters())
    entries = list(weight_names.entries(pretrainer.network))
    assert {entry.name for entry in entries} == set(parameters) - set(weight_names.SCALARS)
    with tf.GradientTape() as tape:
        total = our_loss(pretrainer, views)
    gradients = tape.gradient(total, [entry.variable.value for entry in entries])
    for entry, gradient in zip(entries, gradients, strict=True):
        expected = entry.to_torch(np.array(gradient))
        np.testing.assert_allclose(
            parameters[entry.name].grad.numpy(), expected, rtol=1e-3, atol=1e-5, err_msg=entry.name
        )


def test_two_passes_of_pytorch_have_the_loss_of_one(pretrainer, views):
    network = torch_copy(pretrainer, fused=False)
    parts = [{name: np.array(v)[:, view] for name, v in views.items()} for view in range(2)]
    outputs = [
        torch.cat(both)
        for both in zip(*(network(channels_first(p["corrupted"])) for p in parts), strict=True)
    ]
    clean = torch.cat([channels_first(part["clean"]) for part in parts])
    rotation = torch.cat([torch.tensor(part["rotation"]).long() for part in parts])
    pairs = torch.arange(2 * BATCH).roll(BATCH)
    loss = network.loss(outputs, clean, rotation, pairs, CONFIG.temperature)
    assert loss.item() == pytest.approx(float(our_loss(pretrainer, views)), rel=1e-5)


def draws_of(two_views):
    """The random numbers that our views are made of, as PyTorch's views take them."""
    positions = np.arange(BATCH, dtype="int32")

    def drawn(stream, names, counts):
        numbers = np.array(two_views._uniforms(STEP, stream, positions, sum(counts)))
        parts = np.split(numbers.reshape(2 * BATCH, -1), np.cumsum(list(counts))[:-1], axis=1)
        return {name: torch.tensor(part) for name, part in zip(names, parts, strict=True)}

    shape = np.zeros((2 * BATCH, SIZE, SIZE, 3), np.float32)
    noise = np.array(two_views._noise(shape, STEP, positions)).transpose(0, 3, 1, 2)
    appearance = 1, pretext.APPEARANCE_NUMBERS - 1
    return {
        **drawn(pretext._CROP, ("flip", "crop"), (1, CROP_NUMBERS - 1)),
        **drawn(pretext._APPEARANCE, ("rotation", "jitter"), appearance),
        **drawn(
            pretext._CORRUPTION,
            pretext._CORRUPTION_PARTS.keys(),
            pretext._CORRUPTION_PARTS.values(),
        ),
        "noise": torch.tensor(noise),
    }


def test_the_views_of_pytorch_are_ours_from_the_same_random_numbers(images, two_views, views):
    draws = draws_of(two_views)
    own = torch_views.draw(BATCH, SIZE)
    assert {name: own[name].shape for name in own} == {name: draws[name].shape for name in own}
    corrupted, clean, rotation = torch_views.two_views(torch.tensor(images), draws, CONFIG)
    np.testing.assert_array_equal(rotation, np.array(views["rotation"]).flatten())
    np.testing.assert_allclose(clean, channels_first(views["clean"]), atol=1e-4)
    np.testing.assert_allclose(corrupted, channels_first(views["corrupted"]), atol=1e-4)


def test_views_made_one_by_one_are_distributed_as_ours(images, two_views):
    """Share of changed pixels and deviations, over a hundred views, of fixed random numbers."""
    torch.manual_seed(0)
    dataset = torch_straightforward.Views(images, CONFIG)
    rounds = range(5)
    clean = torch.stack([view for _ in rounds for i in range(BATCH) for view, _ in dataset[i]])
    corrupted = torch_straightforward.corrupt(clean, CONFIG.corruption)
    made = [two_views(images, step) for step in rounds]
    ours = [
        np.concatenate([channels_first(views[name]) for views in made])
        for name in ("clean", "corrupted")
    ]

    def figures(clean, corrupted):
        changed = np.abs(clean - corrupted).max(axis=1) > 1e-6
        return np.array([changed.mean(), clean.std(), corrupted.std()])

    np.testing.assert_allclose(figures(clean.numpy(), corrupted.numpy()), figures(*ours), atol=0.08)


def test_weights_that_decay_are_the_same_ones(pretrainer):
    from sit_keras.models.optimizers import decays

    network = torch_network.PretextNetwork(CONFIG.model, fused=True)
    decaying, others = torch_network.parameter_groups(network, 0.05)
    ours = [variable for variable in pretrainer.trainable_variables if decays(variable)]
    assert len(decaying["params"]) == len(ours)
    assert len(others["params"]) == len(pretrainer.trainable_variables) - len(ours)
    assert decaying["weight_decay"] == 0.05 and others["weight_decay"] == 0.0


def test_operations_are_counted_by_hand():
    # 16 patches of 8 x 8 x 3 and two tokens; widths of 24 and 40, two blocks, three heads.
    patches = 16 * 192 * 24
    block = 18 * (24 * 72 + 24 * 24 + 2 * 24 * 40) + 2 * 18 * 18 * 24
    heads = 24 * 4 + 24 * 16 + 16 * 24 * 192
    similarities = 20 * 20 * 16
    products = 20 * (patches + 2 * block + heads) + similarities
    assert step_gflop(CONFIG) == pytest.approx(3 * 2 * products / 1e9)
