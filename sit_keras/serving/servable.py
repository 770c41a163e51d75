"""An encoder and its heads as named signatures that need neither Keras nor this package.

Shapes: B images, H W of any size, S side of the encoder's input, C channels, N patches,
D width, K classes.
"""

import functools
import typing

import keras
import numpy as np
import tensorflow as tf

from sit_keras.augment.operations import LUMA, denormalize
from sit_keras.models.backbone import SiTBackbone
from sit_keras.models.classifier import ClassifierHead
from sit_keras.models.heads import HEADS
from sit_keras.models.preprocessing import ImagePreprocessing
from sit_keras.serving.decoding import decode_images
from sit_keras.serving.float_images import are_in_range, check_images

# Files are reduced by whole factors down to this multiple of the input before they are resized.
ENOUGH = 4
# Pixels of a side, so that an image of floats stays small for a large input too.
ENOUGH_AT_MOST = 1024
TOP = 5
# There are files of grey and of colours. Where grey is taken, colours become their luma.
FILE_CHANNELS = (1, 3)

Outputs = dict[str, tf.Tensor]


class Servable(tf.Module):
    """The signatures of an exported model, with its weights as variables.

    All of them crop the centre of an image or pad it, resize and normalise it inside, by the
    preprocessing that the encoder was trained with, and answer `ok` and `error` for each image.

    Args:
        encoder: SiTBackbone, for square images. Files are taken where it has one channel or three.
        pretext: keras.Model of `build_pretext_network`, for its heads, or None.
        tasks: the tasks whose heads were trained.
        head: ClassifierHead or None.
        class_names: K names, if there is a head.
        half: bool. Keep the weights in float16; computations are in float32.

    Raises:
        ValueError: if the encoder takes oblong images.
    """

    def __init__(
        self,
        encoder: SiTBackbone,
        pretext: keras.Model | None = None,
        tasks: typing.Sequence[str] = (),
        head: ClassifierHead | None = None,
        class_names: typing.Sequence[str] = (),
        half: bool = False,
    ):
        super().__init__()
        height, width, channels = encoder.image_shape
        if height != width:
            raise ValueError(
                "An export makes images square, so the encoder's image_shape "
                f"must be (S, S, {channels}); received {encoder.image_shape}. Another "
                "size can be had by `SiTBackbone.from_preset(..., image_shape=)`."
            )
        # The layer itself must not become a part of this module, which would save it.
        layer = ImagePreprocessing.of(encoder)
        self._centre, self._normalize = layer.centre, layer.normalize
        self._fit = layer.config.fit
        self._denormalize = functools.partial(
            denormalize, mean=layer.config.mean, std=layer.config.std
        )
        self._size, self._channels = height, channels
        self._half = half
        self._weights: list[tf.Variable] = []
        self._encoder = self._frozen(encoder)
        heads: dict[str, typing.Any] = {
            task: self._frozen(pretext.get_layer(HEADS[task]))
            for task in ("rotation", "reconstruction")
            if pretext is not None and task in tasks
        }
        self._rotation: typing.Any = heads.get("rotation")
        self._reconstruction: typing.Any = heads.get("reconstruction")
        self._is_fused = head is not None and head.hidden_dim is None
        self._head = head and self._frozen(fuse(head) if self._is_fused else head)
        self._class_names = list(class_names)

    def signatures(self) -> dict[str, tf.types.experimental.PolymorphicFunction]:
        """Returns the functions by their names."""
        images = self._images_spec
        files = tf.TensorSpec((None,), tf.string, name="image_bytes")
        checked = self._of_images
        functions = {
            "serving_default": (checked(self.embed_views), images),
            "serving_bytes": (self._of_files(self.embed_views), files),
            "patches": (checked(self.patches), images),
        }
        if self._reconstruction is not None:
            functions["reconstruct"] = (checked(self.reconstruct), images)
        if self._rotation is not None:
            functions["predict_rotation"] = (checked(self.predict_rotation), images)
        if self._head is not None:
            functions["classify"] = (checked(self.classify_views), images)
            functions["classify_bytes"] = (self._of_files(self.classify_views), files)
        if self._channels not in FILE_CHANNELS:
            functions = {name: each for name, each in functions.items() if each[1] is not files}
        return {
            name: tf.function(function, input_signature=[spec], autograph=False)
            for name, (function, spec) in functions.items()
        }

    def portable(self) -> tf.types.experimental.PolymorphicFunction:
        """Returns one function of `images` for runtimes that have no text, files or errors.

        It gives what `serving_default`, `patches` and `classify` give, but the names of the
        classes, and `ok`.
        """

        def portable(images):
            tokens = self._encoder(self._normalize(self._centre(images)))
            outputs = {**_embedding(tokens), "patches": tokens["patch_tokens"]}
            if self._head is not None:
                logits = self._logits(tokens)
                outputs |= {"logits": logits, "probabilities": tf.nn.softmax(logits)}
            ok = are_in_range(images)
            return {**_kept(outputs, ok), "ok": ok}

        return tf.function(portable, input_signature=[self._images_spec], autograph=False)

    @property
    def _images_spec(self):
        return tf.TensorSpec((None, None, None, self._channels), tf.float32, name="images")

    def embed_views(self, views: tf.Tensor) -> Outputs:
        """Returns `rotation_token` and `contrastive_token` (B, D) of normalised views (B, S, S, C),
        and `embedding` (B, 2 D), the two side by side at length 1."""
        return _embedding(self._encoder(views))

    def patches(self, views: tf.Tensor) -> Outputs:
        """Returns `patches` (B, N, D), row by row."""
        return {"patches": self._encoder(views)["patch_tokens"]}

    def reconstruct(self, views: tf.Tensor) -> Outputs:
        """Returns `reconstruction` (B, S, S, C) in [0, 1], and `reconstruction_error` (B,), the
        mean absolute difference to the normalised view."""
        restored = self._reconstruction(self._encoder(views)["patch_tokens"])
        return {
            "reconstruction": tf.clip_by_value(self._denormalize(restored), 0.0, 1.0),
            "reconstruction_error": tf.reduce_mean(tf.abs(restored - views), axis=(1, 2, 3)),
        }

    def predict_rotation(self, views: tf.Tensor) -> Outputs:
        """Returns `probabilities` (B, 4) that an image was rotated by 0, 90, 180, 270 degrees
        clockwise, and `upright_angle` (B,) int32, the degrees clockwise that undo it."""
        logits = self._rotation(self._encoder(views)["rotation_token"])
        probabilities = tf.nn.softmax(logits)
        turns = tf.argmax(probabilities, axis=1, output_type=tf.int32)
        return {"probabilities": probabilities, "upright_angle": 90 * ((4 - turns) % 4)}

    def classify_views(self, views: tf.Tensor) -> Outputs:
        """Returns `logits` and `probabilities` (B, K), `top_classes` and `top_probabilities`
        (B, 5 or K), best first."""
        logits = self._logits(self._encoder(views))
        probabilities = tf.nn.softmax(logits)  # (B, K)
        top = tf.math.top_k(probabilities, min(TOP, len(self._class_names)))
        return {
            "logits": logits,
            "probabilities": probabilities,
            "top_classes": tf.gather(tf.constant(self._class_names), top.indices),
            "top_probabilities": top.values,
        }

    def _logits(self, tokens):
        return self._head(_side_by_side(tokens) if self._is_fused else tokens)

    def _of_images(self, function):
        """Returns a function of views for images (B, H, W, C) in [0, 1], see `_answers`."""

        def of_images(images):
            images, ok, error = check_images(images)
            views = self._normalize(self._centre(images))
            return _answers(function(views), ok, error)

        return of_images

    def _of_files(self, function):
        """Returns a function of views for JPEG or PNG files (B,) string, see `_answers`."""
        enough = min(ENOUGH * self._size, max(ENOUGH_AT_MOST, self._size))

        def of_files(image_bytes):
            pixels, error = decode_images(image_bytes, self._size, enough, self._centre, self._fit)
            if self._channels == 1:
                pixels = tf.reduce_sum(pixels * LUMA, axis=-1, keepdims=True)
            return _answers(function(self._normalize(pixels)), tf.equal(error, ""), error)

        return of_files

    def _frozen(self, layer: keras.layers.Layer) -> typing.Callable:
        """Returns a Keras layer in inference mode, with its weights as variables of this module.

        The layer itself must not become part of it, or its own weights would be saved once more.
        """
        mode = {"training": False} if isinstance(layer, keras.Model) else {}
        others = [tf.constant(other.numpy()) for other in layer.non_trainable_variables]
        dtypes = [weight.dtype for weight in layer.trainable_variables]
        kept = [weight.numpy() for weight in layer.trainable_variables]
        kept = [tf.Variable(w.astype("float16") if self._half else w) for w in kept]
        self._weights.append(kept)

        def call(x):
            weights = [tf.cast(w, dtype) for w, dtype in zip(kept, dtypes, strict=True)]
            outputs, _ = layer.stateless_call(weights, others, x, **mode)
            return tf.nest.map_structure(lambda y: tf.cast(y, tf.float32), outputs)

        return call


def _side_by_side(tokens):
    """The rotation token and the contrastive token of each image, (B, 2 D)."""
    return tf.concat([tokens[name] for name in ClassifierHead.tokens], axis=1)


def _embedding(tokens):
    """Both tokens (B, D), and `embedding` (B, 2 D), the two side by side at length 1."""
    return {
        "rotation_token": tokens["rotation_token"],
        "contrastive_token": tokens["contrastive_token"],
        "embedding": tf.math.l2_normalize(_side_by_side(tokens), axis=1),
    }


def _answers(outputs, ok, error):
    """Outputs with `ok` (B,) bool and `error` (B,) string.

    What is refused leaves zeros (no embedding, no class) and does not fail the others: a server
    puts the images of different clients into one batch.
    """
    return {**_kept(outputs, ok), "ok": ok, "error": error}


def _kept(outputs, ok):
    """Outputs, zero where an image is refused."""

    def kept(value):
        row = tf.reshape(ok, (-1, *[1] * (len(value.shape) - 1)))
        return tf.where(row, value, tf.zeros_like(value))

    return {name: kept(value) for name, value in outputs.items()}


def fuse(head: ClassifierHead) -> keras.layers.Dense:
    """Returns a head's two linear layers as one on the tokens side by side.

    Args:
        head: ClassifierHead without a hidden layer.

    Returns:
        A Dense from (B, 2 D) to (B, K), the mean of the logits of both tokens.
    """
    kernels, biases = zip(*(head.heads[token].get_weights() for token in head.tokens), strict=True)
    dense = keras.layers.Dense(head.num_classes, dtype="float32")
    dense.build((None, sum(len(kernel) for kernel in kernels)))
    dense.set_weights([np.concatenate(kernels) / 2, np.mean(biases, axis=0)])
    return dense
