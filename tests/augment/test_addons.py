"""Our operations against those of tensorflow-addons, as `tests/oracle` recorded them.

`DIFFERENCES` is the README's last column: the largest differences, measured and rounded up.
"""

import keras
import numpy as np
import pytest
from conftest import GOLDEN

from sit_keras.augment import operations
from sit_keras.augment.rand_augment import OPERATIONS, apply_round
from sit_keras.models.layers import DropPath
from sit_keras.models.optimizers import EPSILON, PlannedAdamW

DIFFERENCES = {
    "gaussian_filter2d": 1e-6,
    "rotate/turns": 4e-6,
    "rotate/degrees": 4e-4,  # of values up to 255
    "adjust_hsv_in_yiq": 3e-7,
    "cutout": 0,
    "equalize": 0,
    "sharpness": 1.4,  # of values up to 255, which addons rounds on its way
    "stochastic_depth": 0,
    "gelu": 5e-7,
    "lamb": 2e-8,
    "lamb_decay": 4e-3,  # Keras' decay stands outside of the trust ratio
    "adamw": 5e-7,
}


@pytest.fixture(scope="module")
def golden():
    return np.load(GOLDEN / "addons.npz")


def cases(golden, kind):
    """The arguments in the names of the arrays of a kind, as numbers, and the arrays."""
    names = [name for name in golden.files if name.startswith(f"{kind}/")]
    assert names, kind
    for name in names:
        yield [float(part) for part in name.removeprefix(f"{kind}/").split("/")], golden[name]


def check(kind, ours, theirs):
    difference = np.max(np.abs(np.asarray(ours) - theirs))
    assert difference <= DIFFERENCES[kind], f"{kind}: {difference:.1e}"


def whole(images):
    """A block for each image that is all of it."""
    return np.tile(np.float32([0, 0, *images.shape[1:3]]), (len(images), 1))


def every(images, value):
    return np.full(len(images), value, "float32")


def test_blur(golden):
    images = golden["images"]
    for (size, sigma), expected in cases(golden, "gaussian_filter2d"):
        radius, sigma = every(images, (size - 1) / 2), every(images, sigma)
        check(
            "gaussian_filter2d",
            operations.blur_block(images, whole(images), radius, sigma),
            expected,
        )


def test_quarter_turns(golden):
    images = golden["images"]
    for (turns,), expected in cases(golden, "rotate/turns"):
        turned = operations.rotate(images, every(images, turns).astype("int32"))
        check("rotate/turns", turned, expected)


def do(golden, operation, level):
    """One operation of RandAugment on all images, values up to 255."""
    images = golden["bytes"]
    index = np.full(len(images), OPERATIONS.index(operation))
    return 255 * np.asarray(apply_round(images / 255, index, every(images, level)))


def test_rotation_by_any_angle(golden):
    for (degrees,), expected in cases(golden, "rotate/degrees"):
        ours = do(golden, "rotate", degrees / 30)
        # Ours brings in the mean colour, addons black: compare where neither shows.
        inside = np.zeros((1, 24, 24, 1), bool)
        inside[:, 6:-6, 6:-6] = True
        check("rotate/degrees", np.where(inside, ours, expected), expected)


def test_saturation_and_brightness(golden):
    images = golden["images"]
    for (saturation, value), expected in cases(golden, "adjust_hsv_in_yiq"):
        factors = np.ones((len(images), 3), "float32")
        factors[:, operations.SATURATION] = saturation
        factors[:, operations.BRIGHTNESS] = value
        order = np.tile(np.arange(3), (len(images), 1))
        ours = operations.color_jitter(images, factors, order)
        check("adjust_hsv_in_yiq", ours, np.clip(expected, 0, 1))  # addons does not clip


def test_cutout(golden):
    images, centres = golden["images"], golden["cutout/offsets"]
    for size in ((6, 6), (4, 10)):
        expected = golden["cutout/{}/{}".format(*size)]
        # A block that begins outside of the image is cut there.
        low = np.maximum(centres - np.array(size) // 2, 0)
        high = centres + np.array(size) // 2
        blocks = np.concatenate([low, high - low], axis=1)[:, None].astype("float32")
        active = np.ones((len(images), 1), bool)
        ours = operations.fill_blocks(images, blocks, active, np.full_like(images, 0.5))
        check("cutout", ours, expected)


def test_equalize(golden):
    check("equalize", do(golden, "equalize", 1.0), golden["equalize"])


def test_sharpness(golden):
    for (factor,), expected in cases(golden, "sharpness"):
        check("sharpness", do(golden, "sharpness", (factor - 1) / 0.9), expected)


def test_stochastic_depth(golden):
    """Addons keeps a branch as it is in training and scales it afterwards, for a whole batch."""
    x, branch = golden["stochastic_depth/x"], golden["stochastic_depth/branch"]
    for (survival,), expected in cases(golden, "stochastic_depth/inference"):
        layer = DropPath(1 - survival)
        check("stochastic_depth", x + layer(survival * branch, training=False), expected)
    seen = golden["stochastic_depth/training/0.5"]
    layer = DropPath(0.5, seed=0)
    for _ in range(8):
        ours = x + np.asarray(layer(0.5 * branch, training=True))
        for sample in range(len(x)):  # each sample's is one that addons gave
            nearest = np.abs(seen[:, sample] - ours[sample]).max(axis=-1).min()
            check("stochastic_depth", nearest, 0)


def test_gelu(golden):
    for form in ("exact", "approximate"):
        ours = keras.ops.gelu(golden["gelu/x"], approximate=form == "approximate")
        check("gelu", ours, golden[f"gelu/{form}"])


CONSTANT = keras.optimizers.schedules.CosineDecay(0.01, 1000, alpha=1.0)
OPTIMIZERS = {
    "lamb": lambda: keras.optimizers.Lamb(0.01, epsilon=1e-6),
    "lamb_decay": lambda: keras.optimizers.Lamb(0.01, epsilon=1e-6, weight_decay=0.05),
    "adamw": lambda: keras.optimizers.AdamW(0.01, epsilon=1e-6, weight_decay=0.05),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_optimizers(golden, name):
    variables = [keras.Variable(value) for _, value in cases(golden, "optimizer/start")]
    gradients = [value for _, value in cases(golden, "optimizer/gradients")]
    expected = [value for _, value in cases(golden, f"optimizer/{name}")]
    optimizer = OPTIMIZERS[name]()
    for step in range(len(gradients[0])):
        optimizer.apply([g[step] for g in gradients], variables)
        for variable, values in zip(variables, expected, strict=True):
            check(name, variable, values[step])


def test_our_own_adamw_is_keras(golden):
    start = [value for _, value in cases(golden, "optimizer/start")]
    gradients = [value for _, value in cases(golden, "optimizer/gradients")]
    found = []
    for optimizer in (
        keras.optimizers.AdamW(0.01, epsilon=EPSILON, weight_decay=0.05),
        PlannedAdamW(CONSTANT, [1.0, 1.0], [0.05, 0.05]),
    ):
        variables = [keras.Variable(value) for value in start]
        for step in range(len(gradients[0])):
            optimizer.apply([g[step] for g in gradients], variables)
        found.append([np.asarray(variable) for variable in variables])
    for a, b in zip(*found, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6)
