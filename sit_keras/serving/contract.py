"""The contract of an export, and examples of its inputs and outputs."""

import dataclasses
import io
import json
import typing

import keras
import numpy as np
import tensorflow as tf
from PIL import Image

from sit_keras.augment.operations import denormalize
from sit_keras.models.backbone import SiTBackbone
from sit_keras.models.classifier import ClassifierHead, SiTImageClassifier
from sit_keras.models.heads import HEADS
from sit_keras.models.preprocessing import ImagePreprocessing
from sit_keras.runs.folder import versions
from sit_keras.runs.shown_names import shown_settings
from sit_keras.serving import limits
from sit_keras.serving.servable import FILE_CHANNELS


@dataclasses.dataclass(frozen=True)
class Parts:
    """The models that an export is made of.

    Args:
        encoder: SiTBackbone.
        pretext: keras.Model of `build_pretext_network`, for its heads, or None.
        tasks: the tasks that it was trained for; the heads of the others have not learned anything.
        classifier: SiTImageClassifier on the same encoder, or None.
        source: what is known of the run.
        heads: how good the pretext heads are, as of `measured_heads`; empty if it is not known.
    """

    encoder: SiTBackbone
    pretext: keras.Model | None
    tasks: tuple[str, ...]
    classifier: SiTImageClassifier | None
    source: dict
    heads: dict = dataclasses.field(default_factory=dict)

    @property
    def head(self) -> ClassifierHead | None:
        """The classifier's head."""
        return self.classifier and self.classifier.head


# What becomes of an image, by `PreprocessingConfig.fit`.
_FITTING = {
    "crop": [
        "cut out the middle square, whose side is `crop` of the short side in whole pixels",
        "resize it to `image_shape`, antialiased bicubic (a = -0.5)",
    ],
    "pad": [
        "resize the whole image, antialiased bicubic (a = -0.5), so that its long side fits "
        "`image_shape` and its short side keeps the ratio in whole pixels; `crop` has no effect",
        "put it in the middle of an image of the colour `mean`; where an odd number of pixels is "
        "left, one more lies below or to the right",
    ],
}


def class_names(head: ClassifierHead) -> tuple[str, ...]:
    """Returns the names of a head's classes, their numbers if it has none."""
    return head.class_names or tuple(map(str, range(head.num_classes)))


def examples(signatures: dict, parts: Parts) -> dict[str, np.ndarray]:
    """Returns inputs with the outputs of the Keras models, which those of the export must equal."""
    random = np.random.default_rng(0)
    channels = parts.encoder.image_shape[-1]
    pixels = random.integers(0, 256, (3, 40, 56, channels), dtype=np.uint8)
    images = pixels.astype("float32") / 255
    found = {"images": images}
    if channels in FILE_CHANNELS:
        files = [_encoded(pixel) for pixel in pixels]
        found["image_bytes"] = np.array(files, dtype=object).astype("S")
    with tf.device("CPU"):  # a GPU may multiply with fewer digits
        outputs = keras_outputs(parts, images)
    for name in signatures:
        plain = name.replace("_bytes", "_default" if name == "serving_bytes" else "")
        for output, value in outputs[plain].items():
            found[f"{name}/{output}"] = value
    return found


def keras_outputs(parts: Parts, images: np.ndarray) -> dict[str, dict[str, np.ndarray]]:
    """Computes what the Keras models return, by signature and output: the reference of an export.

    Args:
        parts: Parts.
        images: (B, H, W, C) float32 in [0, 1].
    """
    layer = ImagePreprocessing.of(parts.encoder)
    views = layer.normalize(layer.centre(tf.constant(images)))
    tokens = {name: np.asarray(x) for name, x in parts.encoder(views, training=False).items()}
    both = np.concatenate([tokens["rotation_token"], tokens["contrastive_token"]], axis=1)
    outputs = {
        "serving_default": {
            "rotation_token": tokens["rotation_token"],
            "contrastive_token": tokens["contrastive_token"],
            "embedding": both / np.linalg.norm(both, axis=1, keepdims=True),
        },
        "patches": {"patches": tokens["patch_tokens"]},
    }
    if parts.pretext is not None and "reconstruction" in parts.tasks:
        head = parts.pretext.get_layer(HEADS["reconstruction"])
        restored = np.asarray(head(tokens["patch_tokens"]))
        pixels = np.asarray(denormalize(restored, layer.config.mean, layer.config.std))
        outputs["reconstruct"] = {
            "reconstruction": np.clip(pixels, 0, 1),
            "reconstruction_error": np.abs(restored - views).mean(axis=(1, 2, 3)),
        }
    if parts.pretext is not None and "rotation" in parts.tasks:
        logits = parts.pretext.get_layer(HEADS["rotation"])(tokens["rotation_token"])
        turns = np.argmax(logits, axis=1)
        outputs["predict_rotation"] = {
            "probabilities": np.asarray(keras.ops.softmax(logits)),
            "upright_angle": (90 * ((4 - turns) % 4)).astype("int32"),
        }
    if parts.head is not None:
        # Of the tokens, as the classifier's own copy of the encoder may compute in half precision.
        logits = parts.head(tokens)
        outputs["classify"] = {
            "logits": np.asarray(logits),
            "probabilities": np.asarray(keras.ops.softmax(logits)),
        }
    return outputs


def _encoded(pixels) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels).save(buffer, "PNG")
    return buffer.getvalue()


def kind_of_images(channels: int) -> str:
    """Returns what images of so many channels are called."""
    return {1: "grey values", 3: "RGB"}.get(channels, f"{channels} channels")


def _input(channels):
    kind = f"{kind_of_images(channels)} in [0, 1]"
    if channels not in FILE_CHANNELS:
        return f"{kind}; no files, since JPEG and PNG have one channel or three"
    luma = " (of colours the luma)" if channels == 1 else ""
    return (
        f"{kind}, or JPEG or PNG files{luma}; transparency laid over white; EXIF orientation not "
        "applied"
    )


def _left_to_the_caller(channels):
    decode = f"decode the file to {kind_of_images(channels)} and divide its 8-bit values by 255"
    if channels not in FILE_CHANNELS:
        return [decode]
    return [
        "turn photos upright by their EXIF orientation",
        f"for signatures of `images`: {decode}",
    ]


def contract(signatures: dict, parts: Parts, precision: str) -> dict[str, typing.Any]:
    """Returns what a client must know of an export, as plain values.

    Its `preprocessing` describes what is done inside the export, in words and in numbers: those of
    `ImagePreprocessing` on images in [0, 1]; and in words what it leaves to the caller.
    """

    def described(specs):
        return {
            name: {"dtype": spec.dtype.name, "shape": spec.shape.as_list()}
            for name, spec in specs.items()
        }

    preprocessing = parts.encoder.preprocessing
    functions = {name: f.get_concrete_function() for name, f in signatures.items()}
    return {
        "source": shown_settings(parts.source),
        "versions": versions(),
        "model": json.loads(json.dumps(parts.encoder.get_config())),
        "format": "savedmodel",
        "weights": precision,
        "class_names": list(class_names(parts.head)) if parts.head else [],
        "heads": parts.heads,
        "preprocessing": {
            "input": _input(parts.encoder.image_shape[-1]),
            "steps": [
                *_FITTING[preprocessing.fit],
                "take `mean` from each channel and divide it by `std`",
            ],
            "left_to_the_caller": _left_to_the_caller(parts.encoder.image_shape[-1]),
            "image_shape": list(parts.encoder.image_shape),
            "value_range": [0.0, 1.0],
            "crop": preprocessing.crop,
            "fit": preprocessing.fit,
            "mean": list(preprocessing.mean),
            "std": list(preprocessing.std),
            "limits": {
                "images": limits.MAX_IMAGES,
                "image_pixels": limits.MAX_IMAGE_PIXELS,
                "bytes": limits.MAX_BYTES,
                "jpeg_pixels": limits.MAX_JPEG_PIXELS,
                "jpeg_samples": limits.MAX_JPEG_SAMPLES,
                "jpeg_scans": limits.MAX_JPEG_SCANS,
                "jpeg_scan_pixels": limits.MAX_JPEG_SCAN_PIXELS,
                "jpeg_segments": limits.MAX_JPEG_SEGMENTS,
                "png_pixels": limits.MAX_PNG_PIXELS,
                "png_data_bytes": limits.MAX_PNG_DATA,
                "png_unpacked_bytes": limits.MAX_PNG_UNPACKED,
                "png_chunks": limits.MAX_PNG_CHUNKS,
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
