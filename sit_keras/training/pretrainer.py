"""SiTPretrainer: the three pretext tasks as a Keras model with its own train_step.

Shapes: B images, V = 2 views, M = B * V samples, S side, H W C image, R replicas.
"""

import dataclasses
import typing

import keras
import tensorflow as tf

from sit_keras.augment.pretext import TwoViews
from sit_keras.config.checks import TASKS, check_choice, check_tasks
from sit_keras.config.serialization import from_dict, to_dict
from sit_keras.config.settings import CorruptionConfig, ViewConfig
from sit_keras.models.backbone import SiTBackbone
from sit_keras.models.frozen import freeze_parts, frozen_parts, without_frozen
from sit_keras.models.heads import HEADS, build_pretext_network
from sit_keras.models.optimizers import SiTAdamW
from sit_keras.models.preprocessing import ImagePreprocessing
from sit_keras.models.recompiling import RemembersCompile
from sit_keras.models.weighting import build_weighting
from sit_keras.training import replicas
from sit_keras.training.first_batch import TrainsOnImages, refuse_losses, refuse_oblong
from sit_keras.training.fused import fuse
from sit_keras.training.micro_batches import (
    check_parts,
    checked_batch,
    divides,
    gradients_in_parts,
    losses_in_parts,
)
from sit_keras.training.objective import PretextObjective
from sit_keras.training.update import average, average_finite, update
from sit_keras.training.view_maker import ViewMaker


@keras.saving.register_keras_serializable(package="sit_keras")
class SiTPretrainer(RemembersCompile, TrainsOnImages):
    """Pre-trains a backbone by rotation, contrastive and reconstruction losses together.

    Fit it on images without labels. It makes two random views of each image itself, where the
    network runs, and corrupts them; every epoch sees other views. A view is a function of the
    seed, the step, the image and its position in the batch. The step is saved with the model, so a
    second `fit` and a reloaded model go on. Both views go through the network in one pass.

    Under a `tf.distribute` strategy the batch is global, and so are the negatives of the
    contrastive task unless they are `local`.

    Args:
        backbone: SiTBackbone, with a square `image_shape`. Shared, not copied.
        tasks: the pretext tasks, a non-empty subset of `reconstruction`, `rotation` and
            `contrastive`.
        weighting: `uncertainty` learns the weights of the tasks, `fixed` takes them as given; or a
            layer such as `sit_keras.models.weighting.UncertaintyWeighting`.
        task_weights: one fixed weight per task, or None for 1 each.
        temperature: float. Of the contrastive loss.
        negatives: str. `global` compares with the images of all replicas, `local` with one's own.
        projection_dim: int. Width E of the contrastive embedding.
        projection_layers, projection_norm: the head of it, as for `NetworkConfig`.
        views: ViewConfig. How views are cropped, mirrored and coloured.
        corruption: CorruptionConfig. How views are corrupted.
        value_range: (low, high) or None. What black and white are in the images. None keeps that
            of `backbone.preprocessing`, which is (0, 255) by default; another one is stored in it.
        clip_norm: float or None. Global norm at which gradients are clipped, after they are summed
            over replicas (an optimizer's own clipping would see one replica's alone).
        micro_batches: int. Parts of a replica's batch that go through the network one after the
            other, so that a large batch fits a small memory; the gradient is that of the whole.
        remat: bool. `backbone.remat`: compute blocks again, which saves memory and costs time.
        seed: int. Of the views.

    Call arguments:
        images: (B, H, W, C) of any size, in the value range.

    Returns:
        What the network makes of the centre of the images: a dict of `rotation_logits` (B, 4),
        `projection` (B, E) and `reconstruction` (B, S, S, C), the last one normalised.

    Raises:
        ValueError: for unknown tasks, weights that do not fit them, or an oblong backbone.

    Reference:
        Atito et al. 2021, SiT: Self-supervised vIsion Transformer, arXiv:2104.03602.

    Example:
        ```
        backbone = sit_keras.SiTBackbone.from_preset("native32", load_weights=False)
        model = sit_keras.SiTPretrainer(backbone)
        model.compile()
        model.fit(images, batch_size=64, epochs=10)
        backbone.save_to_preset("my_encoder")
        ```
    """

    def __init__(
        self,
        backbone: SiTBackbone,
        tasks: typing.Sequence[str] = TASKS,
        weighting: str | keras.layers.Layer = "uncertainty",
        task_weights: typing.Sequence[float] | None = None,
        temperature: float = 0.5,
        negatives: str = "global",
        projection_dim: int = 512,
        projection_layers: int = 1,
        projection_norm: str = "none",
        views: ViewConfig | None = None,
        corruption: CorruptionConfig | None = None,
        value_range: tuple[float, float] | None = None,
        clip_norm: float | None = None,
        micro_batches: int = 1,
        remat: bool = False,
        seed: int = 0,
        name: str = "sit_pretrainer",
        **kwargs,
    ):
        super().__init__(name=name, autocast=False, **kwargs)  # the pixels stay as they are
        self.dtype_policy = backbone.dtype_policy  # by which `compile` scales the loss
        refuse_oblong(backbone)
        self.tasks = check_tasks(tasks)
        weighting_layer = build_weighting(weighting, self.tasks, task_weights)
        self.weighting_name = weighting if isinstance(weighting, str) else None
        check_choice("negatives", negatives, ("global", "local"))
        self.task_weights = task_weights
        self.temperature = temperature
        self.negatives = negatives
        self.projection_dim = projection_dim
        self.projection_layers = projection_layers
        self.projection_norm = projection_norm
        self.clip_norm = clip_norm
        self.micro_batches = micro_batches

        if value_range is not None:
            backbone.preprocessing = dataclasses.replace(
                backbone.preprocessing, value_range=value_range
            )
        self.backbone = backbone
        backbone.remat = remat
        backbone.noise.fold = replicas.fold_in_replica
        size = backbone.image_shape[0]
        views, corruption = views or ViewConfig(), corruption or CorruptionConfig()
        self.two_views = TwoViews(size, views, corruption, backbone.preprocessing, seed)
        self.preprocessing = ImagePreprocessing.of(backbone, name="preprocessing")
        projection = projection_dim, projection_layers, projection_norm
        self.network = build_pretext_network(backbone, *projection)
        for task, head in HEADS.items():
            self.network.get_layer(head).trainable = task in self.tasks
        self.objective = PretextObjective(self.network, self.tasks, temperature, negatives)
        self.weighting = weighting_layer  # after the network, as its variables are counted
        # Steps are counted here and not by the optimizer, which leaves out those that are skipped,
        # nor by an iterator, which begins anew with every epoch.
        self.step = self._counter("step")
        self._validation_step = self._counter("validation_step")
        self.trackers = {
            name: keras.metrics.Mean(name=name)
            for name in ("loss", *self.tasks, *self.objective.accuracy_names)
        }
        self._view_maker = ViewMaker(self.two_views, backbone.image_shape[-1], compiled=True)
        self(keras.Input((None, None, backbone.image_shape[-1])))  # builds it, for `summary`

    def _counter(self, name):
        return self.add_weight(
            name=name,
            shape=(),
            dtype="int64",
            initializer="zeros",
            trainable=False,
            aggregation="only_first_replica",
        )

    @property
    def turned_every(self) -> int | None:
        """Of so many images, one is turned for the rotation task; None turns all, in place."""
        return self.two_views.views.turned_every

    @property
    def trained_parts(self) -> dict:
        """What a checkpoint keeps beside the optimizer."""
        return {
            "network": self.network,  # with the state of the random numbers that drop paths
            "weighting": self.weighting,
            "step": self.step,
        }

    @property
    def metrics(self):
        return list(self.trackers.values())

    def reset_metrics(self):
        super().reset_metrics()
        self._validation_step.assign(0)  # every evaluation sees the same views

    @property
    def scales_loss(self) -> bool:
        """Whether the optimizer scales the loss, and skips steps to find the scale (fp16)."""
        return isinstance(self.optimizer, keras.optimizers.LossScaleOptimizer)

    def compile(self, optimizer: typing.Any = "auto", **kwargs) -> None:
        """Configures the training.

        Args:
            optimizer: a Keras optimizer or its name. Defaults to AdamW with a learning rate of
                5e-4 and a decay of 0.05, from which biases, norms, tokens and positions are left
                out.
            **kwargs: `jit_compile`, `run_eagerly`, `steps_per_execution` and `auto_scale_loss` of
                `keras.Model.compile`. `jit_compile=False` also leaves views and layers alone.

        Raises:
            ValueError: for losses or metrics, which the pretext tasks bring along.
        """
        refuse_losses(kwargs)
        if optimizer == "auto":
            optimizer = SiTAdamW(5e-4)
        super().compile(optimizer=optimizer, **kwargs)
        # Keras' "auto" means False on a CPU. What has no matrix products gains from XLA there, too.
        compiled = kwargs.get("jit_compile", "auto") is not False
        self._view_maker = ViewMaker(self.two_views, self.backbone.image_shape[-1], compiled)
        fuse(self.backbone, compiled)

    def call(self, images, training=False):
        return self.network(self.preprocessing(images), training=training)

    def make_views(
        self, data: typing.Any, step: int | tf.Tensor, validation: bool = False
    ) -> dict[str, tf.Tensor]:
        """Returns the views of this replica's part of a batch, see `ViewMaker`.

        Args:
            data: what `fit` takes a batch of.
            step: scalar int64.
            validation: bool. Draw the views of validation, which training never sees.
        """
        return self._view_maker(data, step, validation)

    def replica_loss(self, losses: dict, share: replicas.Share) -> tuple[tf.Tensor, tf.Tensor]:
        """Returns the weighted sum of the losses, and what of it a replica differentiates."""
        total = self.weighting({task: share.known(loss) for task, loss in losses.items()})
        # Gradients are summed over replicas, the means of whose losses want averaging.
        return total, self.optimizer.scale_loss(share.divide(total))

    def train_step(self, data):
        views = self.make_views(data, self.step.value * 1)  # a copy of the count
        check_parts(checked_batch(self, views), self.micro_batches, self.turned_every)
        share = replicas.share(views["corrupted"])
        if self.micro_batches == 1:
            with tf.GradientTape() as tape:
                losses, accuracies = self.objective.losses(views, training=True)
                total, scaled = self.replica_loss(losses, share)
            weights = [variable.value for variable in self.trainable_variables]
            gradients = tape.gradient(scaled, weights)
        else:
            total, losses, accuracies, gradients = gradients_in_parts(self, views)
        updated = update(self, gradients)
        # Else the step would count although the iterator had ended and there was no batch.
        with tf.control_dependencies([updated]):
            self.step.assign_add(1)
        total = tf.where(updated, total, float("nan"))
        return average_finite(self, share, {"loss": total, **losses, **accuracies})

    def test_step(self, data):
        views = self.make_views(data, self._validation_step.value * 1, validation=True)
        with tf.control_dependencies([views["rotation"]]):
            self._validation_step.assign_add(1)
        divided = divides(checked_batch(self, views), self.micro_batches * (self.turned_every or 1))
        parts = self.micro_batches if divided else 1
        losses, accuracies = losses_in_parts(self, views, parts)
        means = {"loss": self.weighting(losses), **losses, **accuracies}
        return average(self, replicas.share(views["corrupted"]), means)

    def get_config(self) -> dict[str, typing.Any]:
        return {
            "backbone": keras.saving.serialize_keras_object(self.backbone),
            "tasks": self.tasks,
            "weighting": self.weighting_name or keras.saving.serialize_keras_object(self.weighting),
            "task_weights": self.task_weights,
            "temperature": self.temperature,
            "negatives": self.negatives,
            "projection_dim": self.projection_dim,
            "projection_layers": self.projection_layers,
            "projection_norm": self.projection_norm,
            "views": to_dict(self.two_views.views),
            "corruption": to_dict(self.two_views.corruption),
            "value_range": self.two_views.preprocessing.value_range,
            "clip_norm": self.clip_norm,
            "micro_batches": self.micro_batches,
            "remat": self.backbone.remat,
            "seed": self.two_views.seed,
            "name": self.name,
            **frozen_parts(self),
        }

    @classmethod
    def from_config(cls, config: dict, custom_objects: dict | None = None) -> "SiTPretrainer":
        arguments = {
            **without_frozen(config),
            "backbone": keras.saving.deserialize_keras_object(config["backbone"]),
            "weighting": keras.saving.deserialize_keras_object(config["weighting"]),
            "views": from_dict(ViewConfig, config["views"]),
            "corruption": from_dict(CorruptionConfig, config["corruption"]),
        }
        return freeze_parts(cls(**arguments), config)
