"""What goes with an export for another runtime: its contract, and examples that it must answer."""

import typing

import numpy as np
import tensorflow as tf

from sit_keras.config.extras import import_package
from sit_keras.serving.contract import Parts, contract, keras_outputs, kind_of_images
from sit_keras.serving.runtimes import FILES, PACKAGES, SETTINGS
from sit_keras.serving.servable import FILE_CHANNELS


def _caller(channels):
    """What is left to the caller."""
    over_white = ", with transparency laid over white," if channels in FILE_CHANNELS else ""
    return [
        f"decode the file to {kind_of_images(channels)} of 8 bits{over_white} and turn it upright "
        "by its EXIF orientation",
        f"divide the values by 255 and give them as float32 (batch, height, width, {channels}); "
        "the images of a batch have one size, and at least one pixel",
        "limit the size and the number of images, and of the files that are decoded: the model "
        "does not",
    ]


def portable_contract(
    function: tf.types.experimental.PolymorphicFunction, parts: Parts, name: str, precision: str
) -> dict[str, typing.Any]:
    """Returns what a caller must know of an export for another runtime, as plain values.

    Args:
        function: as of `Servable.portable`.
        parts: Parts.
        name: str. A key of `FILES`.
        precision: str. One of `PRECISIONS`.
    """
    about = contract({"serving_default": function}, parts, precision)
    del about["preprocessing"]["limits"]
    channels = parts.encoder.image_shape[-1]
    about["preprocessing"] |= {
        "input": f"{kind_of_images(channels)} in [0, 1], the images of a batch of one size",
        "left_to_the_caller": _caller(channels),
    }
    package = import_package(PACKAGES[name])
    return {
        **about,
        "format": name,
        "file": FILES[name],
        "runtime": {
            "package": package.__name__,
            "version": getattr(package, "__version__", None),
            "settings": SETTINGS.get(name, {}),
        },
    }


def portable_examples(parts: Parts) -> dict[str, np.ndarray]:
    """Returns images with the outputs of the Keras models, by `CASE/images` and `CASE/OUTPUT`.

    The last image of the batch has values that must be refused.
    """
    random = np.random.default_rng(0)
    size, _, channels = parts.encoder.image_shape
    cases = {
        "batch": random.random((3, 40, 56, channels), np.float32),
        "single": random.random((1, size, size, channels), np.float32),
    }
    found = {}
    for case, images in cases.items():
        with tf.device("CPU"):  # a GPU may multiply with fewer digits
            outputs = keras_outputs(parts, images)
        merged = {**outputs["serving_default"], **outputs["patches"], **outputs.get("classify", {})}
        ok = np.ones(len(images), bool)
        if case == "batch":
            images[-1] *= 255
            ok[-1] = False
        found[f"{case}/images"] = images
        found |= {
            f"{case}/{name}": np.where(ok.reshape(-1, *[1] * (value.ndim - 1)), value, 0)
            for name, value in {**merged, "ok": ok}.items()
        }
    return found
