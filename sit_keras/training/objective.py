"""The losses of the pretext tasks on a batch of views.

Shapes: B images, V = 2 views, M = B * V samples, G candidates of all replicas, E embedding.
"""

import typing

import keras
import tensorflow as tf

from sit_keras.models.losses import nt_xent, reconstruction_l1, rotation_cross_entropy
from sit_keras.training import replicas


class PretextObjective:
    """Computes the losses of the pretext tasks, each a mean over this replica's samples.

    Args:
        network: keras.Model of `build_pretext_network`.
        tasks: the pretext tasks.
        temperature: float. Of the contrastive loss.
        negatives: str. `global` or `local`, see `SiTPretrainer`.
    """

    def __init__(
        self,
        network: keras.Model,
        tasks: typing.Sequence[str],
        temperature: float,
        negatives: str,
    ):
        self.network = network
        self.tasks = tasks
        self.temperature = temperature
        self.negatives = negatives
        self.accuracy_names = [f"{task}_accuracy" for task in tasks if task != "reconstruction"]

    def losses(self, views: dict, training: bool = False) -> tuple[dict, dict]:
        """Computes the raw losses of the tasks.

        Args:
            views: `corrupted` and `clean` (B, 2, H, W, C), `rotation` (B, 2); or also `turned`
                (T, 2, H, W, C) and `turned_rotation` (T, 2), by which rotation is then taught
                alone, in the same pass through the network.
            training: bool.

        Returns:
            Two dicts of scalars, means over this replica's samples: the losses by task, and the
            accuracies.
        """
        outputs, losses, accuracies = self.separate(views, training)
        return self.with_contrast(losses, accuracies, outputs["projection"])

    def separate(self, views: dict, training: bool) -> tuple[dict, dict, dict]:
        """Computes what each image is taught without looking at the others.

        Args:
            views, training: as for `losses`.

        Returns:
            The network's outputs for the corrupted views, and the losses and accuracies of all
            tasks but `contrastive`.
        """
        corrupted, clean = (_flatten_views(views[name]) for name in ("corrupted", "clean"))
        logits, rotation, outputs = self._pass(corrupted, views, training)
        losses, accuracies = {}, {}
        if "reconstruction" in self.tasks:
            loss = reconstruction_l1(clean, outputs["reconstruction"])  # (M,)
            losses["reconstruction"] = tf.reduce_mean(loss)
        if "rotation" in self.tasks:
            rotation = tf.cast(tf.reshape(rotation, (-1,)), tf.int32)  # (M,)
            loss = rotation_cross_entropy(rotation, logits)  # (M,)
            losses["rotation"] = tf.reduce_mean(loss)
            accuracies["rotation_accuracy"] = _accuracy(logits, rotation)
        return outputs, losses, accuracies

    def _pass(self, corrupted, views, training):
        """Returns what rotation is taught on (logits and labels), and the corrupted's outputs."""
        if "turned" not in views or "rotation" not in self.tasks:
            outputs = self.network(corrupted, training=training)
            return outputs["rotation_logits"], views["rotation"], outputs
        samples = tf.concat([corrupted, _flatten_views(views["turned"])], 0)
        count = corrupted.shape[0] or tf.shape(corrupted)[0]
        outputs = self.network(samples, training=training)
        logits = outputs["rotation_logits"][count:]
        upright = {name: values[:count] for name, values in outputs.items()}
        return logits, views["turned_rotation"], upright

    def with_contrast(self, losses: dict, accuracies: dict, embeddings: tf.Tensor) -> tuple:
        """Returns losses and accuracies with those of the embeddings (M, E), if they are a task."""
        if "contrastive" not in self.tasks:
            return losses, accuracies
        if self.negatives == "global":
            candidates, start = replicas.gather(embeddings)  # (G, E)
        else:
            candidates, start = embeddings, 0
        samples = tf.range(tf.shape(embeddings)[0])
        # The two views of an image are neighbours: 0 and 1, 2 and 3, ...
        positives = start + tf.bitwise.bitwise_xor(samples, 1)
        loss, accuracy = nt_xent(
            embeddings, candidates, start + samples, positives, self.temperature
        )
        return (
            {**losses, "contrastive": loss},
            {**accuracies, "contrastive_accuracy": accuracy},
        )


def _flatten_views(x):
    """(B, V, H, W, C) -> (M, H, W, C), the views of an image side by side."""
    shape = tf.shape(x)
    flat = tf.reshape(x, tf.concat([[shape[0] * shape[1]], shape[2:]], 0))
    return tf.ensure_shape(flat, (None, *x.shape[2:]))


def _accuracy(logits, labels):
    """(M, K) logits and (M,) labels -> how often the largest logit is the label's, a scalar."""
    return tf.reduce_mean(tf.cast(tf.argmax(logits, -1, tf.int32) == labels, tf.float32))
