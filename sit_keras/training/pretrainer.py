"""SiTPretrainer: the three pretext tasks as a Keras model with its own train_step.

Shapes: B images, V = 2 views, M = B * V samples, H W C image, R replicas.
"""

import keras
import tensorflow as tf

from sit_keras.config.checks import TASKS, check_batch, check_choice, check_tasks, check_weighting
from sit_keras.config.network import SiTConfig
from sit_keras.config.serialization import from_dict, to_dict
from sit_keras.models.backbone import build_ssl_model
from sit_keras.models.losses import nt_xent, reconstruction_l1, rotation_cross_entropy
from sit_keras.models.weighting import FixedWeighting, UncertaintyWeighting
from sit_keras.training.micro_batches import gradients_in_parts, losses_in_parts
from sit_keras.training.replicas import ReplicaSeed, gather, num_replicas, reduce_sum, run_if


@keras.saving.register_keras_serializable(package="sit_keras")
class SiTPretrainer(keras.Model):
    """Pre-trains the encoder by rotation, contrastive and reconstruction losses together.

    Compile it with an optimizer only, and fit it on the batches of `sit_keras.data.pair_views`.
    Both views go through the network in one pass. Under a `tf.distribute` strategy the batch is
    global, and so are the negatives of the contrastive task unless they are `local`.

    Args:
        config: SiTConfig.
        tasks: the pretext tasks, a non-empty subset of `config.TASKS`.
        weighting: str. `uncertainty` learns the weights of the tasks, `fixed` takes them as given.
        task_weights: one fixed weight per task, or None for 1 each.
        temperature: float. Of the contrastive loss.
        negatives: str. `global` compares with the images of all replicas, `local` with one's own.
        clip_norm: float or None. Global norm at which gradients are clipped, after they are summed
            over replicas (an optimizer's own clipping would see one replica's alone).
        micro_batches: int. Parts of a replica's batch that go through the network one after the
            other, so that a large batch fits a small memory; the gradient is that of the whole.

    Raises:
        ValueError: for unknown tasks or weights that do not fit them.

    Reference:
        Atito et al. 2021, SiT: Self-supervised vIsion Transformer, arXiv:2104.03602.

    Example:
        ```
        model = SiTPretrainer(sit_keras.presets()["native32"])
        model.compile(keras.optimizers.AdamW(1e-3, weight_decay=0.05))
        model.fit(pair_views(images, TwoViews(32)), epochs=10)
        model.encoder.save("encoder.keras")
        ```
    """

    def __init__(
        self,
        config: SiTConfig,
        tasks: tuple[str, ...] = TASKS,
        weighting: str = "uncertainty",
        task_weights: tuple[float, ...] | None = None,
        temperature: float = 0.5,
        negatives: str = "global",
        clip_norm: float | None = None,
        micro_batches: int = 1,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.config = config
        self.size = config.square_size  # refuses images that a quarter turn would not fit
        self.tasks = check_tasks(tasks)
        check_weighting(weighting, self.tasks, task_weights)
        check_choice("negatives", negatives, ("global", "local"))
        self.weighting_name = weighting
        self.task_weights = task_weights
        self.temperature = temperature
        self.negatives = negatives
        self.clip_norm = clip_norm
        self.micro_batches = micro_batches

        self.noise = ReplicaSeed(name="seed_generator")
        self.network = build_ssl_model(config, self.noise)
        for task in TASKS:
            self.network.get_layer(task).trainable = task in self.tasks
        if weighting == "uncertainty":
            self.weighting = UncertaintyWeighting(self.tasks, name="weighting")
        else:
            self.weighting = FixedWeighting(self.tasks, task_weights, name="weighting")
        self.trackers = {
            name: keras.metrics.Mean(name=name)
            for name in ("loss", *self.tasks, *self._accuracy_names())
        }
        self.built = True  # the network is; without this, a strategy would call it on a whole batch

    @property
    def encoder(self) -> keras.Model:
        """The encoder, to be saved or judged."""
        return self.network.get_layer("sit_encoder")

    @property
    def trained_parts(self) -> dict:
        """What a checkpoint keeps beside the optimizer."""
        return {"network": self.network, "weighting": self.weighting}

    @property
    def metrics(self):
        return list(self.trackers.values())

    @property
    def scales_loss(self) -> bool:
        """Whether the optimizer scales the loss, and skips steps to find the scale (fp16)."""
        return isinstance(self.optimizer, keras.optimizers.LossScaleOptimizer)

    def _accuracy_names(self):
        return [f"{task}_accuracy" for task in self.tasks if task != "reconstruction"]

    def call(self, images, training=False):
        """Returns the network's outputs for images (M, H, W, C), see `build_ssl_model`."""
        return self.network(images, training=training)

    def task_losses(self, views: dict, training: bool = False) -> tuple[dict, dict]:
        """Computes the raw losses of the tasks.

        Args:
            views: `corrupted` and `clean` (B, 2, H, W, C), `rotation` (B, 2).
            training: bool.

        Returns:
            Two dicts of scalars, means over this replica's samples: the losses by task, and the
            accuracies.
        """
        outputs, losses, accuracies = self.separate_losses(views, training)
        return self.with_contrast(losses, accuracies, outputs["contrastive"])

    def separate_losses(self, views: dict, training: bool) -> tuple[dict, dict, dict]:
        """Computes what each image is taught without looking at the others.

        Args:
            views, training: as for `task_losses`.

        Returns:
            The network's outputs, and the losses and accuracies of all tasks but `contrastive`.
        """
        corrupted, clean = (_flatten_views(views[name]) for name in ("corrupted", "clean"))
        outputs = self.network(corrupted, training=training)
        losses, accuracies = {}, {}
        if "reconstruction" in self.tasks:
            loss = reconstruction_l1(clean, outputs["reconstruction"])  # (M,)
            losses["reconstruction"] = tf.reduce_mean(loss)
        if "rotation" in self.tasks:
            rotation = tf.cast(tf.reshape(views["rotation"], (-1,)), tf.int32)  # (M,)
            loss = rotation_cross_entropy(rotation, outputs["rotation"])  # (M,)
            losses["rotation"] = tf.reduce_mean(loss)
            accuracies["rotation_accuracy"] = _accuracy(outputs["rotation"], rotation)
        return outputs, losses, accuracies

    def with_contrast(self, losses: dict, accuracies: dict, embeddings: tf.Tensor) -> tuple:
        """Returns losses and accuracies with those of the embeddings (M, E), if they are a task."""
        if "contrastive" not in self.tasks:
            return losses, accuracies
        if self.negatives == "global":
            candidates, start = gather(embeddings)  # (G, E)
        else:
            candidates, start = embeddings, 0
        samples = tf.range(tf.shape(embeddings)[0])
        # The two views of an image are neighbours: 0 and 1, 2 and 3, ...
        positives = start + tf.bitwise.bitwise_xor(samples, 1)
        loss, logits = nt_xent(embeddings, candidates, start + samples, positives, self.temperature)
        return (
            {**losses, "contrastive": tf.reduce_mean(loss)},
            {**accuracies, "contrastive_accuracy": _accuracy(logits, positives)},
        )

    def replica_loss(self, losses: dict) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns the weighted sum of the losses, and what of it a replica differentiates."""
        total = self.weighting(losses)
        # Gradients are summed over replicas, the means of whose losses want averaging.
        return total, self.optimizer.scale_loss(total / num_replicas())

    def train_step(self, views):
        batch = self._check_views(views)
        if self.micro_batches == 1:
            with tf.GradientTape() as tape:
                losses, accuracies = self.task_losses(views, training=True)
                total, scaled = self.replica_loss(losses)
            weights = [variable.value for variable in self.trainable_variables]
            gradients = tape.gradient(scaled, weights)
        else:
            if not self._divides(batch):
                raise ValueError(
                    f"A replica's batch of {batch or 'unknown size'} does not divide into "
                    f"{self.micro_batches} micro-batches: choose a divisor of it, and make batches "
                    "of one size (drop_remainder=True)."
                )
            total, losses, accuracies, gradients = gradients_in_parts(self, views)
        updated = self._update(gradients)
        return self._track(tf.where(updated, total, float("nan")), losses, accuracies)

    def _update(self, gradients):
        """Sums gradients over replicas, clips their global norm, and updates the variables.

        Returns whether it did: gradients that are not finite leave everything as it was.
        """
        gradients = reduce_sum([tf.convert_to_tensor(g) for g in gradients])
        if self.clip_norm is not None:
            limit = self.optimizer.scale_loss(self.clip_norm)  # under fp16 the gradients are scaled
            gradients, _ = tf.clip_by_global_norm(gradients, limit)
        # The optimizer sums over replicas once more.
        replicas = num_replicas()
        gradients = [gradient / replicas for gradient in gradients]

        def apply(gradients):
            self.optimizer.apply(gradients, self.trainable_variables)

        finite = tf.reduce_all([tf.reduce_all(tf.math.is_finite(g)) for g in gradients])
        if self.scales_loss:
            apply(gradients)  # it leaves them out itself, and lowers its scale
        else:
            run_if(finite, apply, gradients)
        return finite

    def test_step(self, views):
        batch = self._check_views(views)
        if self.micro_batches > 1 and self._divides(batch):
            losses, accuracies = losses_in_parts(self, views)
        else:
            losses, accuracies = self.task_losses(views)
        for name, value in {"loss": self.weighting(losses), **losses, **accuracies}.items():
            self.trackers[name].update_state(value)
        return {name: tracker.result() for name, tracker in self.trackers.items()}

    def _track(self, total, losses, accuracies):
        """Averages the finite values; one that is not shows as NaN in the logs of this step."""
        values = {"loss": total, **losses, **accuracies}
        finite = tf.math.is_finite(tf.stack([tf.cast(v, tf.float32) for v in values.values()]))
        (bad,) = reduce_sum([tf.cast(~finite, tf.float32)])  # on any replica
        logs = {}
        for (name, value), is_bad in zip(values.items(), tf.unstack(bad > 0), strict=True):
            tracker = self.trackers[name]
            tracker.update_state(tf.where(is_bad, 0.0, value), tf.where(is_bad, 0.0, 1.0))
            logs[name] = tf.where(is_bad, float("nan"), tracker.result())
        return logs

    def _check_views(self, views):
        if not isinstance(views, dict) or {"corrupted", "clean", "rotation"} - set(views):
            raise ValueError(
                "Expected batches with `corrupted`, `clean` and `rotation`, as made by "
                f"sit_keras.data.pair_views; received {tf.nest.map_structure(type, views)}."
            )
        batch, num_views, *shape = views["corrupted"].shape
        expected = (self.size, self.size, 3)
        if num_views != 2 or tuple(shape) != expected:
            raise ValueError(
                f"Expected views (B, 2, {', '.join(map(str, expected))}), received "
                f"{views['corrupted'].shape}: make them with TwoViews({self.size})."
            )
        if batch is not None:
            compared = num_replicas() if self.negatives == "global" else 1
            check_batch(batch * compared, self.tasks)
        return batch

    def _divides(self, batch):
        """Whether a batch, whose size may be unknown (None), can be cut into the micro-batches."""
        return batch is not None and batch % self.micro_batches == 0

    def task_gradient_norms(self, views: dict) -> dict[str, tf.Tensor]:
        """Measures how hard each weighted task pulls at the encoder (the task ledger).

        Args:
            views: a batch as for `task_losses`.

        Returns:
            A dict from task to the global norm of the gradient of its weighted loss with respect to
            the encoder's weights, a scalar float32.
        """
        weights = [variable.value for variable in self.encoder.trainable_variables]
        with tf.GradientTape(persistent=True) as tape:
            losses, _ = self.task_losses(views, training=False)
            effective = self.weighting.task_weights()
            weighted = {task: effective[task] * loss for task, loss in losses.items()}
        return {
            task: tf.linalg.global_norm(tape.gradient(loss, weights))
            for task, loss in weighted.items()
        }

    def get_config(self):
        return {
            "name": self.name,
            "config": to_dict(self.config),
            "tasks": self.tasks,
            "weighting": self.weighting_name,
            "task_weights": self.task_weights,
            "temperature": self.temperature,
            "negatives": self.negatives,
            "clip_norm": self.clip_norm,
            "micro_batches": self.micro_batches,
        }

    @classmethod
    def from_config(cls, config, custom_objects=None):
        return cls(**{**config, "config": from_dict(SiTConfig, config["config"])})


def _flatten_views(x):
    """(B, V, H, W, C) -> (M, H, W, C), the views of an image side by side."""
    shape = tf.shape(x)
    flat = tf.reshape(x, tf.concat([[shape[0] * shape[1]], shape[2:]], 0))
    return tf.ensure_shape(flat, (None, *x.shape[2:]))


def _accuracy(logits, labels):
    """(M, K) logits and (M,) labels -> how often the largest logit is the label's, a scalar."""
    return tf.reduce_mean(tf.cast(tf.argmax(logits, -1, tf.int32) == labels, tf.float32))
