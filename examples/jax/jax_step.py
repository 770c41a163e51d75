"""One step of pre-training on JAX, as a pure function of a state, images and a step's number.

Shapes: N images, B batch, V = 2 views, M = B * V samples, S side, H W C image.
"""

import functools

import jax
import jax.numpy as jnp
import keras
import numpy as np

from sit_keras.augment import pretext
from sit_keras.config.checks import TASKS
from sit_keras.config.settings import RunConfig
from sit_keras.models.backbone import build_ssl_model
from sit_keras.models.losses import nt_xent, reconstruction_l1, rotation_cross_entropy
from sit_keras.models.optimizers import build_optimizer
from sit_keras.models.precision import precision
from sit_keras.models.weighting import FixedWeighting, UncertaintyWeighting

_ORDER, _CROP, _LOOK, _CORRUPT, _NOISE = range(5)


class Pretraining:
    """The network, its optimizer, and one step of it as a pure function.

    Args:
        config: RunConfig.
        images: (N, H, W, 3) uint8.
    """

    def __init__(self, config: RunConfig, images: np.ndarray):
        if config.precision == "mixed_float16":
            raise ValueError("mixed_float16 wants a loss scale: use mixed_bfloat16.")
        if config.holdout or config.initial_encoder or config.negatives != "global":
            raise ValueError(
                "holdout, initial_encoder and local negatives are train.py's: leave them out here."
            )
        if len(images) < config.batch_size:
            raise ValueError(f"A batch of {config.batch_size} is larger than {len(images)} images.")
        self.config = config
        self.images = jnp.asarray(images)
        whole = len(images) // config.batch_size
        self.steps_per_epoch = min(whole, config.steps_per_epoch or whole)
        keras.utils.set_random_seed(config.seed)
        with precision(config.precision):
            self.network = build_ssl_model(config.model, keras.random.SeedGenerator(config.seed))
        if config.weighting == "uncertainty":
            self.weighting = UncertaintyWeighting(config.tasks, name="weighting")
        else:
            self.weighting = FixedWeighting(config.tasks, config.task_weights, name="weighting")
        for task in TASKS:
            self.network.get_layer(task).trainable = task in config.tasks
        self.variables = self.network.trainable_variables + self.weighting.trainable_variables
        self.optimizer = build_optimizer(self.variables, config, self.steps_per_epoch)
        self.optimizer.build(self.variables)

    @property
    def groups(self) -> tuple[list, list, list]:
        """All variables: trained, not trained, the optimizer's."""
        return self.variables, self.network.non_trainable_variables, self.optimizer.variables

    def state(self) -> tuple:
        """The values of all variables."""
        return tuple([variable.value for variable in group] for group in self.groups)

    def load(self, state: tuple) -> None:
        """Puts the values of a state into the variables."""
        for group, values in zip(self.groups, state, strict=True):
            for variable, value in zip(group, values, strict=True):
                variable.assign(value)

    def named(self) -> dict[str, np.ndarray]:
        """All values by the number of their group and their place in it."""
        return {
            f"{number}/{place}": np.asarray(variable.value)
            for number, group in enumerate(self.groups)
            for place, variable in enumerate(group)
        }

    def _key(self, stream, number):
        """The key of a stream of random numbers, at a step or an epoch."""
        stream_key = jax.random.fold_in(jax.random.key(self.config.seed), stream)
        return jax.random.fold_in(stream_key, number)

    def views(self, images, step):
        """Draws the views of a step, flattened, as `TwoViews` does with other random numbers."""
        config, size = self.config, self.config.model.square_size

        def uniform(stream, *shape):
            return jax.random.uniform(self._key(stream, step), shape)

        batch, views = images.shape[0], pretext.NUM_VIEWS
        pixels = images.astype("float32") / 255.0
        drawn = uniform(_CROP, batch, views, pretext.CROP_NUMBERS)
        crops = pretext.crop(pixels, drawn, size, config.views)  # (B, V, S, S, 3)
        crops = crops.reshape(batch * views, size, size, 3)
        drawn = uniform(_LOOK, batch * views, pretext.LOOK_NUMBERS)
        clean, rotation = pretext.look(crops, drawn, config.views)
        drawn = uniform(_CORRUPT, batch * views, pretext.CORRUPTION_NUMBERS)
        noise = jax.random.normal(self._key(_NOISE, step), clean.shape)
        return clean, pretext.corrupt(clean, drawn, noise, config.corruption), rotation

    def loss(self, trained, others, clean, corrupted, rotation):
        """The weighted total, and the raw losses, accuracies and other variables."""
        count = len(self.network.trainable_variables)
        outputs, others = self.network.stateless_call(
            trained[:count], others, corrupted, training=True
        )
        samples = jnp.arange(len(rotation))
        contrast, logits = nt_xent(
            outputs["contrastive"],
            outputs["contrastive"],
            samples,
            samples ^ 1,  # the two views of an image are neighbours
            self.config.temperature,
        )
        each = {
            "reconstruction": reconstruction_l1(clean, outputs["reconstruction"]),
            "rotation": rotation_cross_entropy(rotation, outputs["rotation"]),
            "contrastive": contrast,
        }
        losses = {task: jnp.mean(each[task]) for task in self.config.tasks}
        total, _ = self.weighting.stateless_call(trained[count:], [], losses)
        accuracies = {
            "rotation_accuracy": jnp.mean(jnp.argmax(outputs["rotation"], 1) == rotation),
            "contrastive_accuracy": jnp.mean(jnp.argmax(logits, 1) == samples ^ 1),
        }
        return total, ({"loss": total, **losses, **accuracies}, others)

    def step(self, state, images, step):
        """Updates the state by a batch, unless a gradient is not finite."""
        trained, others, optimizer = state
        gradient = jax.value_and_grad(self.loss, has_aux=True)
        (_, (measured, others)), gradients = gradient(trained, others, *self.views(images, step))
        norm = jnp.sqrt(sum(jnp.sum(jnp.square(g)) for g in gradients))
        if self.config.clip_norm is not None:
            scale = jnp.minimum(1.0, self.config.clip_norm / jnp.maximum(norm, 1e-12))
            gradients = [g * scale for g in gradients]
        finite, old = jnp.isfinite(norm), (trained, optimizer)
        new = self.optimizer.stateless_apply(optimizer, gradients, trained)
        trained, optimizer = jax.tree.map(lambda a, b: jnp.where(finite, a, b), tuple(new), old)
        return (trained, others, optimizer), {**measured, "skipped": ~finite}

    def compiled(self, num_steps: int):
        """Returns what takes a state through so many steps of one epoch, `(state, first step)`."""
        batch_size = self.config.batch_size

        @functools.partial(jax.jit, donate_argnums=0)
        def call(state, images, first_step):
            key = self._key(_ORDER, first_step // self.steps_per_epoch)
            order = jax.random.permutation(key, images.shape[0])

            def body(state, step):
                start = step % self.steps_per_epoch * batch_size
                rows = jax.lax.dynamic_slice_in_dim(order, start, batch_size)
                return self.step(state, images[rows], step)

            return jax.lax.scan(body, state, first_step + jnp.arange(num_steps))

        return lambda state, first_step: call(state, self.images, first_step)
