"""One step of pre-training on JAX, as a pure function of a state, images and the step's number.

Shapes: N images, B batch, V = 2 views, M = B * V samples, S side, H W C image.
"""

import functools
import typing

import jax
import jax.numpy as jnp
import keras
import numpy as np

from sit_keras.augment.pretext import TwoViews
from sit_keras.config.settings import RunConfig
from sit_keras.models.backbone import SiTBackbone
from sit_keras.models.heads import HEADS, build_pretext_network
from sit_keras.models.losses import nt_xent, reconstruction_l1, rotation_cross_entropy
from sit_keras.models.optimizers import build_optimizer
from sit_keras.models.precision import precision
from sit_keras.models.seeding import seeded
from sit_keras.models.weighting import run_weighting

# The values of all variables: those that are trained, the others, and the optimizer's.
State = tuple[list[jax.Array], list[jax.Array], list[jax.Array]]


class Pretraining:
    """The network, its optimizer, and one step of pre-training as a pure function.

    Args:
        config: RunConfig. Neither `mixed_float16`, nor `holdout`, `initial_encoder` or local
            negatives.
        images: (N, H, W, 3) uint8. They stay on the device.

    Raises:
        ValueError: for settings that only TensorFlow's training has, or fewer images than a batch.
    """

    def __init__(self, config: RunConfig, images: np.ndarray):
        _refuse(config, len(images))
        self.config = config
        self.images = jnp.asarray(images)
        whole = len(images) // config.batch_size
        self.steps_per_epoch = min(whole, config.steps_per_epoch or whole)
        self.two_views = TwoViews(
            config.model.image_size, config.views, config.corruption, config.preprocessing,
            config.seed,
        )  # fmt: skip
        with seeded(config.seed), precision(config.precision):
            self.backbone = SiTBackbone(
                **config.model.backbone_arguments(),
                preprocessing=config.preprocessing,
                seed=config.seed,
            )
            self.network = build_pretext_network(
                self.backbone, **config.model.projection_arguments()
            )
        for task, head in HEADS.items():
            self.network.get_layer(head).trainable = task in config.tasks
        self.weighting = run_weighting(config)
        self.variables = self.network.trainable_variables + self.weighting.trainable_variables
        self.optimizer = build_optimizer(config, self.steps_per_epoch)
        self.optimizer.build(self.variables)

    @property
    def total_steps(self) -> int:
        """Steps of the whole run."""
        return self.config.epochs * self.steps_per_epoch

    @property
    def groups(self) -> tuple[list[keras.Variable], list[keras.Variable], list[keras.Variable]]:
        """The variables, in the order of `State`."""
        return self.variables, self.network.non_trainable_variables, self.optimizer.variables

    def state(self) -> State:
        """Returns the values of all variables."""
        return tuple([variable.value for variable in group] for group in self.groups)

    def load(self, state: State) -> None:
        """Puts the values of a state into the variables."""
        for group, values in zip(self.groups, state, strict=True):
            for variable, value in zip(group, values, strict=True):
                variable.assign(value)

    def views(self, images: jax.Array, step: jax.Array | int) -> dict[str, jax.Array]:
        """Returns the views of a batch (B, H, W, 3) uint8 at a step, those that `TwoViews` makes.

        Returns:
            The dict of `TwoViews`.
        """
        # The resizing is a matrix product, which a GPU would otherwise round to 10 bits.
        with jax.default_matmul_precision("highest"):
            return self.two_views(images, step)

    def loss(
        self, trained: list[jax.Array], others: list[jax.Array], views: dict[str, jax.Array]
    ) -> tuple[jax.Array, tuple[dict[str, jax.Array], list[jax.Array]]]:
        """Computes the weighted sum of the losses of the tasks.

        Args:
            trained, others: as in `State`.
            views: of `views`.

        Returns:
            The sum, a scalar; and a pair of what is logged (the sum, the raw losses, and the
            accuracies), and the new values of `others`.
        """
        corrupted, clean = (_in_a_row(views[name]) for name in ("corrupted", "clean"))
        rotation, samples = views["rotation"], corrupted
        if "turned" in views and "rotation" in self.config.tasks:
            rotation = views["turned_rotation"]
            samples = jnp.concatenate([corrupted, _in_a_row(views["turned"])])
        count = len(self.network.trainable_variables)
        outputs, others = self.network.stateless_call(
            trained[:count], others, samples, training=True
        )
        logits = outputs["rotation_logits"][len(samples) - rotation.size :]
        outputs = {name: values[: len(corrupted)] for name, values in outputs.items()}
        losses, accuracies = {}, {}
        if "reconstruction" in self.config.tasks:
            losses["reconstruction"] = reconstruction_l1(clean, outputs["reconstruction"])
        if "rotation" in self.config.tasks:
            rotation = jnp.reshape(rotation, -1)
            losses["rotation"] = rotation_cross_entropy(rotation, logits)
            accuracies["rotation_accuracy"] = _accuracy(logits, rotation)
        if "contrastive" in self.config.tasks:
            embeddings = outputs["projection"]
            samples = jnp.arange(len(embeddings))
            positives = samples ^ 1  # the two views of an image are neighbours
            losses["contrastive"], accuracies["contrastive_accuracy"] = nt_xent(
                embeddings, embeddings, samples, positives, self.config.temperature
            )
        losses = {task: jnp.mean(losses[task]) for task in self.config.tasks}
        total, _ = self.weighting.stateless_call(trained[count:], [], losses)
        return total, ({"loss": total, **losses, **accuracies}, others)

    def step(
        self, state: State, images: jax.Array, step: jax.Array | int
    ) -> tuple[State, dict[str, jax.Array]]:
        """Updates a state by a batch of images, unless a gradient is not finite.

        Args:
            state: State.
            images: (B, H, W, 3) uint8.
            step: int or scalar integer array.

        Returns:
            The new state, and what is logged: `loss` and so on, and whether it was `skipped`.
        """
        trained, others, optimizer = state
        gradient = jax.value_and_grad(self.loss, has_aux=True)
        (_, (logs, others)), gradients = gradient(trained, others, self.views(images, step))
        norm = jnp.sqrt(sum(jnp.sum(jnp.square(g)) for g in gradients))
        if self.config.clip_norm is not None:
            scale = jnp.minimum(1.0, self.config.clip_norm / jnp.maximum(norm, 1e-12))
            gradients = [g * scale for g in gradients]
        new = self.optimizer.stateless_apply(optimizer, gradients, trained)
        finite, old = jnp.isfinite(norm), (trained, optimizer)
        trained, optimizer = jax.tree.map(lambda a, b: jnp.where(finite, a, b), tuple(new), old)
        return (trained, others, optimizer), {**logs, "skipped": ~finite}

    def compiled(
        self, num_steps: int
    ) -> typing.Callable[[State, int], tuple[State, dict[str, jax.Array]]]:
        """Returns a function that takes a state through so many steps of one epoch.

        It takes the state, whose memory it reuses, and the number of the first step. What is logged
        comes back as (num_steps,) arrays. Each epoch visits the images in another order, which
        follows from the seed.
        """
        batch_size = self.config.batch_size

        @functools.partial(jax.jit, donate_argnums=0)
        def call(state, images, first_step):
            key = jax.random.key(self.config.seed)
            key = jax.random.fold_in(key, first_step // self.steps_per_epoch)
            order = jax.random.permutation(key, images.shape[0])

            def body(state, step):
                start = step % self.steps_per_epoch * batch_size
                rows = jax.lax.dynamic_slice_in_dim(order, start, batch_size)
                return self.step(state, images[rows], step)

            return jax.lax.scan(body, state, first_step + jnp.arange(num_steps))

        return lambda state, first_step: call(state, self.images, first_step)


def _refuse(config, num_images):
    if config.precision == "mixed_float16":
        raise ValueError(
            "mixed_float16 needs a loss scale, which JAX lacks here: use mixed_bfloat16."
        )
    if config.holdout or config.initial_encoder or config.negatives != "global":
        raise ValueError(
            "holdout, initial_encoder and local negatives are settings of train.py alone: leave "
            "them out."
        )
    if num_images < config.batch_size:
        raise ValueError(
            f"A batch of {config.batch_size} is larger than the {num_images} images to train on: "
            f"use batch_size={num_images} or less, or more images."
        )


def _in_a_row(views):
    """(B, V, S, S, C) -> (M, S, S, C), the views of an image side by side."""
    return jnp.reshape(views, (-1, *views.shape[2:]))


def _accuracy(logits, labels):
    """(M, K) logits and (M,) labels -> how often the largest logit is the label's, a scalar."""
    return jnp.mean(jnp.argmax(logits, -1) == labels)
