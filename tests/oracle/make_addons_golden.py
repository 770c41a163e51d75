"""What tensorflow-addons computes, as arrays that the ordinary tests compare with.

It cannot be imported beside Keras 3, so this script has an environment of its own (Python 3.11):

python3.11 -m venv oracle && oracle/bin/pip install -r requirements-addons.txt
oracle/bin/python tests/oracle/make_addons_golden.py              writes tests/golden/addons.npz
oracle/bin/python tests/oracle/make_addons_golden.py --compare    with the file that is there
"""

import argparse
import pathlib
import sys
import warnings

warnings.filterwarnings("ignore")  # it says that it has ended, and that TensorFlow went on

import numpy as np  # noqa: E402
import tensorflow as tf  # noqa: E402
import tensorflow_addons as tfa  # noqa: E402

GOLDEN = pathlib.Path(__file__).parents[1] / "golden" / "addons.npz"
# Between two machines, which round differently.
TOLERANCE = 1e-6
STEPS = 5
SETTINGS = {"learning_rate": 0.01, "epsilon": 1e-6}


def images_arrays(random):
    images = random.uniform(size=(3, 24, 24, 3)).astype("float32")
    bytes_ = np.floor(255 * images ** np.array([1, 2, 4])[:, None, None, None]).astype("float32")
    yield "images", images
    yield "bytes", bytes_
    for size, sigma in ((3, 0.5), (7, 1.5), (15, 4.0)):
        yield (
            f"gaussian_filter2d/{size}/{sigma}",
            tfa.image.gaussian_filter2d(images, (size, size), sigma, "REFLECT"),
        )
    for turns in range(4):
        yield f"rotate/turns/{turns}", tfa.image.rotate(images, -turns * np.pi / 2, "bilinear")
    for degrees in (-30, 7, 20):
        yield f"rotate/degrees/{degrees}", tfa.image.rotate(bytes_, np.radians(degrees), "bilinear")
    for saturation, value in ((0.6, 1.0), (1.4, 1.0), (1.0, 0.6), (1.0, 1.4)):
        yield (
            f"adjust_hsv_in_yiq/{saturation}/{value}",
            tfa.image.adjust_hsv_in_yiq(images, 0.0, saturation, value),
        )
    offsets = np.array([[2, 3], [12, 12], [23, 20]], "int32")
    yield "cutout/offsets", offsets
    for height, width in ((6, 6), (4, 10)):
        yield (
            f"cutout/{height}/{width}",
            tfa.image.cutout(images, (height, width), offsets, constant_values=0.5),
        )
    yield "equalize", tf.cast(tfa.image.equalize(tf.cast(bytes_, tf.uint8)), tf.float32)
    for factor in (0.1, 1.9):
        sharp = tfa.image.sharpness(tf.cast(bytes_, tf.uint8), factor)
        yield f"sharpness/{factor}", tf.cast(sharp, tf.float32)


def layer_arrays(random):
    x, branch = random.normal(size=(2, 4, 5)).astype("float32")
    yield "stochastic_depth/x", x
    yield "stochastic_depth/branch", branch
    for survival in (0.5, 0.9):
        layer = tfa.layers.StochasticDepth(survival)
        yield f"stochastic_depth/inference/{survival}", layer([x, branch], training=False)
    tf.keras.utils.set_random_seed(0)
    outputs = [tfa.layers.StochasticDepth(0.5)([x, branch], training=True) for _ in range(8)]
    yield "stochastic_depth/training/0.5", tf.stack(outputs)
    values = np.linspace(-6, 6, 97, dtype="float32")
    yield "gelu/x", values
    yield "gelu/exact", tfa.activations.gelu(values, approximate=False)
    yield "gelu/approximate", tfa.activations.gelu(values, approximate=True)


def optimizer_arrays(random):
    """A matrix and a bias after each of some steps with the same gradients."""
    start = [random.normal(size=shape).astype("float32") for shape in ((4, 3), (3,))]
    gradients = [
        [random.normal(size=value.shape).astype("float32") for value in start] for _ in range(STEPS)
    ]
    for i, value in enumerate(start):
        yield f"optimizer/start/{i}", value
        yield f"optimizer/gradients/{i}", np.stack([gradient[i] for gradient in gradients])
    optimizers = {
        "lamb": tfa.optimizers.LAMB(**SETTINGS),
        "lamb_decay": tfa.optimizers.LAMB(**SETTINGS, weight_decay=0.05),
        # Addons' decay is not multiplied by the learning rate.
        "adamw": tfa.optimizers.AdamW(weight_decay=0.05 * SETTINGS["learning_rate"], **SETTINGS),
    }
    for name, optimizer in optimizers.items():
        variables = [tf.Variable(value) for value in start]
        steps = []
        for gradient in gradients:
            optimizer.apply_gradients(zip(map(tf.constant, gradient), variables))  # noqa: B905
            steps.append([variable.numpy() for variable in variables])
        for i in range(len(start)):
            yield f"optimizer/{name}/{i}", np.stack([step[i] for step in steps])


def compare(made, committed):
    """Prints how far the arrays are from those in the file; returns whether that is too far."""
    if sorted(made) != sorted(committed.files):
        print(f"Other arrays: {sorted(set(made) ^ set(committed.files))}")
        return True
    largest = 0.0
    for name, value in made.items():
        other = committed[name]
        if value.shape != other.shape or not np.isfinite(value).all():
            print(f"{name} is {value.shape}, or not finite; committed is {other.shape}")
            return True
        scale = max(1.0, float(np.abs(value).max()))
        largest = max(largest, float(np.max(np.abs(value - other))) / scale)
    print(f"{len(made)} arrays, the largest difference {largest:.1e}")
    return not largest <= TOLERANCE


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--compare", action="store_true", help="write nothing, compare")
    options = parser.parse_args()
    random = np.random.default_rng(0)
    made = {
        name: np.asarray(value)
        for arrays in (images_arrays, layer_arrays, optimizer_arrays)
        for name, value in arrays(random)
    }
    if options.compare:
        sys.exit(compare(made, np.load(GOLDEN)))
    np.savez_compressed(GOLDEN, **made)
    print(f"{len(made)} arrays of tensorflow-addons {tfa.__version__}: {GOLDEN}")


if __name__ == "__main__":
    main()
