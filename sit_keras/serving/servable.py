"""An encoder and its heads as named signatures that need neither Keras nor this package.

Shapes: B images, H W of any size, S side of the network's input, N patches, D width, K classes.
"""

import typing

import keras
import numpy as np
import tensorflow as tf

from sit_keras.augment import operations
from sit_keras.data.views import centre_view
from sit_keras.models.backbone import SiTEncoder
from sit_keras.models.heads import ClassifierHead
from sit_keras.serving.decoding import decode_images

# Files are reduced by whole factors down to this multiple of the input before they are resized.
ENOUGH = 4
TOP = 5

Outputs = dict[str, tf.Tensor]


class Servable(tf.Module):
    """The signatures of an exported model, with its weights as variables.

    All of them crop the centre of an image, resize and normalise it inside.

    Args:
        encoder: SiTEncoder.
        eval_crop: float. See `ViewConfig`.
        pretext: keras.Model or None. The network of the pre-training, for its heads.
        tasks: which of its heads were trained.
        head: ClassifierHead or None.
        class_names: K names, if there is a head.
        half: bool. Keep the weights in float16; they are computed with in float32.
    """

    def __init__(
        self,
        encoder: SiTEncoder,
        eval_crop: float,
        pretext: keras.Model | None = None,
        tasks: typing.Sequence[str] = (),
        head: ClassifierHead | None = None,
        class_names: typing.Sequence[str] = (),
        half: bool = False,
    ):
        super().__init__()
        height, width = encoder.config.input_size
        if height != width:
            raise ValueError(
                "An export takes the middle square of an image, so the encoder's input must be "
                f"square; received {height}x{width}: see `resize_encoder`."
            )
        self._size = height
        self._eval_crop = eval_crop
        self._half = half
        self._weights = []
        self._encoder = self._frozen(encoder)
        trained = {task: self._frozen(pretext.get_layer(task)) for task in tasks}
        self._rotation = trained.get("rotation")
        self._reconstruction = trained.get("reconstruction")
        self._is_fused = head is not None and head.hidden_dim is None
        self._head = head and self._frozen(fuse(head) if self._is_fused else head)
        self._class_names = list(class_names)

    def signatures(self) -> dict[str, tf.types.experimental.PolymorphicFunction]:
        """Returns the functions by the names that a client calls them by."""
        images = tf.TensorSpec((None, None, None, 3), tf.float32, name="images")
        files = tf.TensorSpec((None,), tf.string, name="image_bytes")
        functions = {
            "serving_default": (self.embed, images),
            "serving_bytes": (self._of_files(self.embed_views), files),
            "patches": (self.patches, images),
        }
        if self._reconstruction is not None:
            functions["reconstruct"] = (self.reconstruct, images)
        if self._rotation is not None:
            functions["predict_rotation"] = (self.predict_rotation, images)
        if self._head is not None:
            functions["classify"] = (self.classify, images)
            functions["classify_bytes"] = (self._of_files(self.classify_views), files)
        return {
            name: tf.function(function, input_signature=[spec], autograph=False)
            for name, (function, spec) in functions.items()
        }

    def embed(self, images: tf.Tensor) -> Outputs:
        """Images (B, H, W, 3) in [0, 1] -> both tokens (B, D), and `embedding` (B, 2 D), the two
        side by side at length 1."""
        return self.embed_views(self._views(images))

    def embed_views(self, views: tf.Tensor) -> Outputs:
        """As `embed`, of normalised views (B, S, S, 3)."""
        tokens = self._encoder(views)
        both = tf.concat([tokens["rotation"], tokens["contrastive"]], axis=1)
        return {
            "rotation_token": tokens["rotation"],
            "contrastive_token": tokens["contrastive"],
            "embedding": tf.math.l2_normalize(both, axis=1),
        }

    def patches(self, images: tf.Tensor) -> Outputs:
        """Images -> `patches` (B, N, D), row by row."""
        return {"patches": self._encoder(self._views(images))["patches"]}

    def reconstruct(self, images: tf.Tensor) -> Outputs:
        """Images -> `reconstruction` (B, S, S, 3) in [0, 1], and `error` (B,), the mean absolute
        difference to the normalised view."""
        views = self._views(images)
        restored = self._reconstruction(self._encoder(views)["patches"])
        return {
            "reconstruction": tf.clip_by_value(operations.denormalize(restored), 0.0, 1.0),
            "error": tf.reduce_mean(tf.abs(restored - views), axis=(1, 2, 3)),
        }

    def predict_rotation(self, images: tf.Tensor) -> Outputs:
        """Images -> `probabilities` (B, 4) of having been turned by 0, 90, 180, 270 degrees
        clockwise, and `upright_angle` (B,) int32, the degrees clockwise that undo it."""
        logits = self._rotation(self._encoder(self._views(images))["rotation"])
        probabilities = tf.nn.softmax(logits)
        turns = tf.argmax(probabilities, axis=1, output_type=tf.int32)
        return {"probabilities": probabilities, "upright_angle": 90 * ((4 - turns) % 4)}

    def classify(self, images: tf.Tensor) -> Outputs:
        """Images -> `logits` and `probabilities` (B, K), `top_classes` and `top_probabilities`
        (B, 5 or K), best first."""
        return self.classify_views(self._views(images))

    def classify_views(self, views: tf.Tensor) -> Outputs:
        """As `classify`, of normalised views (B, S, S, 3)."""
        tokens = self._encoder(views)
        both = tf.concat([tokens["rotation"], tokens["contrastive"]], axis=1)  # (B, 2 D)
        logits = self._head(both if self._is_fused else tokens)
        probabilities = tf.nn.softmax(logits)  # (B, K)
        top = tf.math.top_k(probabilities, min(TOP, len(self._class_names)))
        return {
            "logits": logits,
            "probabilities": probabilities,
            "top_classes": tf.gather(tf.constant(self._class_names), top.indices),
            "top_probabilities": top.values,
        }

    def _of_files(self, function):
        """The same of JPEG or PNG files (B,) string, with `ok` (B,) bool and `error` (B,) string.

        A file that is refused leaves zeros (no embedding, no class) and does not fail the others:
        a server puts the files of different clients into one batch.
        """

        def of_files(image_bytes):
            pixels, error = decode_images(image_bytes, self._size, ENOUGH * self._size, self._crop)
            ok = tf.equal(error, "")
            outputs = function(operations.normalize(pixels))
            outputs = {name: _where(ok, value) for name, value in outputs.items()}
            return {**outputs, "ok": ok, "error": error}

        return of_files

    def _frozen(self, layer: keras.layers.Layer) -> typing.Callable:
        """A Keras layer in inference mode, with its weights as variables of this module.

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

    def _crop(self, images):
        return centre_view(images, self._size, self._eval_crop)

    def _views(self, images):
        return operations.normalize(self._crop(images))


def _where(ok, value):
    """Rows of `value` that are ok, zeros or empty strings for the others."""
    ok = tf.reshape(ok, (-1, *[1] * (len(value.shape) - 1)))
    return tf.where(ok, value, tf.zeros_like(value))


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
