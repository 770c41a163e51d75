"""What an export promises: its contract, and examples of what goes in and comes out."""

import dataclasses
import io
import typing

import keras
import numpy as np
import tensorflow as tf
from PIL import Image

from sit_keras.augment import operations
from sit_keras.config.serialization import to_dict
from sit_keras.data.views import centre_view
from sit_keras.runs.folder import versions
from sit_keras.serving import decoding


@dataclasses.dataclass(frozen=True)
class Parts:
    """What an export is made of.

    Args:
        encoder: SiTEncoder.
        eval_crop: float. See `ViewConfig`.
        pretext: keras.Model or None. The network of the pre-training, with its heads.
        tasks: the tasks that it was trained for; the heads of others have learnt nothing.
        classifier: keras.Model or None. Of `build_classifier`.
        source: what is known of the run.
    """

    encoder: keras.Model
    eval_crop: float
    pretext: keras.Model | None
    tasks: tuple[str, ...]
    classifier: keras.Model | None
    source: dict

    @property
    def head(self):
        """The classifier's head, or None."""
        return self.classifier and self.classifier.get_layer("classifier")


def class_names(head) -> tuple[str, ...]:
    """Returns the names of a head's classes, their numbers if it has none."""
    return head.class_names or tuple(map(str, range(head.num_classes)))


def examples(signatures: dict, parts: Parts) -> dict[str, np.ndarray]:
    """Returns inputs, and what the Keras models make of them: not what the export does."""
    random = np.random.default_rng(0)
    pixels = random.integers(0, 256, (3, 40, 56, 3), dtype=np.uint8)
    images = pixels.astype("float32") / 255
    files = [_encoded(pixel) for pixel in pixels]
    found = {"images": images, "image_bytes": np.array(files, dtype=object).astype("S")}
    with tf.device("CPU"):  # a GPU may multiply with fewer digits
        outputs = keras_outputs(parts, images)
    for name in signatures:
        plain = name.replace("_bytes", "_default" if name == "serving_bytes" else "")
        for output, value in outputs[plain].items():
            found[f"{name}/{output}"] = value
    return found


def keras_outputs(parts: Parts, images: np.ndarray) -> dict[str, dict[str, np.ndarray]]:
    """Returns what the Keras models say, by signature and output: the reference of an export.

    Args:
        parts: Parts.
        images: (B, H, W, 3) float32 in [0, 1].
    """
    size = parts.encoder.config.square_size
    views = operations.normalize(centre_view(tf.constant(images), size, parts.eval_crop))
    tokens = {name: np.asarray(x) for name, x in parts.encoder(views, training=False).items()}
    both = np.concatenate([tokens["rotation"], tokens["contrastive"]], axis=1)
    outputs = {
        "serving_default": {
            "rotation_token": tokens["rotation"],
            "contrastive_token": tokens["contrastive"],
            "embedding": both / np.linalg.norm(both, axis=1, keepdims=True),
        },
        "patches": {"patches": tokens["patches"]},
    }
    said = parts.pretext(views, training=False) if parts.pretext is not None else {}
    if "reconstruction" in parts.tasks:
        restored = np.asarray(said["reconstruction"])
        outputs["reconstruct"] = {
            "reconstruction": np.clip(np.asarray(operations.denormalize(restored)), 0, 1),
            "error": np.abs(restored - views).mean(axis=(1, 2, 3)),
        }
    if "rotation" in parts.tasks:
        turns = np.argmax(said["rotation"], axis=1)
        outputs["predict_rotation"] = {
            "probabilities": np.asarray(keras.ops.softmax(said["rotation"])),
            "upright_angle": (90 * ((4 - turns) % 4)).astype("int32"),
        }
    if parts.classifier is not None:
        logits = parts.classifier(views, training=False)
        outputs["classify"] = {
            "logits": np.asarray(logits),
            "probabilities": np.asarray(keras.ops.softmax(logits)),
        }
    return outputs


def _encoded(pixels) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def contract(signatures: dict, parts: Parts, half: bool) -> dict[str, typing.Any]:
    """Returns what a stranger must know of an export, as plain values."""

    def described(specs):
        return {
            name: {"dtype": spec.dtype.name, "shape": spec.shape.as_list()}
            for name, spec in specs.items()
        }

    size = parts.encoder.config.square_size
    functions = {name: f.get_concrete_function() for name, f in signatures.items()}
    return {
        "source": parts.source,
        "versions": versions(),
        "model": to_dict(parts.encoder.config),
        "weights": "float16" if half else "float32",
        "class_names": list(class_names(parts.head)) if parts.head else [],
        "preprocessing": {
            "input": "RGB in [0, 1], or JPEG or PNG files; transparency laid over white; EXIF "
            "orientation not applied",
            "crop": f"the middle square of {parts.eval_crop:g} of the short side",
            "resize": f"antialiased bicubic (a = -0.5) to {size} x {size}",
            "mean": operations.MEAN,
            "std": operations.STD,
            "limits": {
                "bytes": decoding.MAX_BYTES,
                "jpeg_pixels": decoding.MAX_JPEG_PIXELS,
                "png_pixels": decoding.MAX_PNG_PIXELS,
            },
        },
        "signatures": {
            name: {
                "inputs": described({spec.name: spec for spec in signatures[name].input_signature}),
                "outputs": described(function.structured_outputs),
            }
            for name, function in functions.items()
        },
    }
