"""A classifier on the two tokens of a backbone.

Shapes: B batch, H W C image, D width, K classes.
"""

import dataclasses
import os
import typing

import keras
from keras import ops

from sit_keras.models import loading, saving
from sit_keras.models.backbone import SiTBackbone
from sit_keras.models.frozen import TRAINABLE, freeze_parts, frozen_parts, without_frozen
from sit_keras.models.keras_files import Plan, check_count, explained, fill, read_config
from sit_keras.models.layers import normal_init
from sit_keras.models.loading import check_size, described
from sit_keras.models.optimizers import SiTAdamW
from sit_keras.models.preprocessing import ImagePreprocessing
from sit_keras.models.preset_names import preset_path
from sit_keras.models.recompiling import RemembersCompile

TASK, TASK_WEIGHTS = "task.json", "task.weights.h5"


@keras.saving.register_keras_serializable(package="sit_keras")
class ClassifierHead(keras.layers.Layer):
    """Classifies by a linear layer on each token, whose logits are averaged.

    Args:
        num_classes: int. K.
        hidden_dim: int or None. Width of a tanh layer before each linear one (the paper's
            pre-logits have 1024); None for none.
        class_names: K names, or None.

    Call arguments:
        tokens: a dict with `rotation_token` and `contrastive_token`, each (B, D).
        averaged: bool. False gives the logits of each token, whose cross-entropies a loss adds up.

    Returns:
        (B, K) float32 logits, or (B, 2, K).
    """

    tokens = ("rotation_token", "contrastive_token")

    def __init__(
        self,
        num_classes: int,
        hidden_dim: int | None = None,
        class_names: tuple[str, ...] | None = None,
        **kwargs,
    ):
        super().__init__(dtype="float32", **{k: v for k, v in kwargs.items() if k != "dtype"})
        self.num_classes = num_classes
        self.hidden_dim = hidden_dim
        self.class_names = class_names

    def build(self, input_shape):
        self.heads = {}
        for token in self.tokens:
            layers = [
                keras.layers.Dense(
                    self.num_classes,
                    kernel_initializer=normal_init(),
                    name="logits",
                    dtype=self.dtype_policy,
                )
            ]
            if self.hidden_dim is not None:
                hidden = keras.layers.Dense(
                    self.hidden_dim, activation="tanh", name="hidden", dtype=self.dtype_policy
                )
                layers.insert(0, hidden)
            self.heads[token] = keras.Sequential(layers, name=token)
            self.heads[token].dtype_policy = self.dtype_policy  # else that of the process
            self.heads[token].build(input_shape[token])

    def call(self, tokens, averaged=True):
        logits = ops.stack([self.heads[name](tokens[name]) for name in self.tokens], axis=1)
        return ops.mean(logits, axis=1) if averaged else logits

    def get_config(self) -> dict[str, typing.Any]:
        return {
            **super().get_config(),
            "num_classes": self.num_classes,
            "hidden_dim": self.hidden_dim,
            "class_names": self.class_names,
        }


@keras.saving.register_keras_serializable(package="sit_keras")
class SiTImageClassifier(RemembersCompile, keras.Model):
    """Classifies images by a backbone and a linear head on each of its two tokens.

    It takes images as they are, of any size; the preprocessing that the backbone was trained with
    is inside. `compile()` without arguments takes AdamW, the cross-entropy of whole-number labels,
    and accuracy. Set `model.backbone.trainable = False` before `compile` to train the heads alone.

    Args:
        backbone: SiTBackbone. Shared, not copied.
        num_classes: int. K.
        hidden_dim: int or None. See `ClassifierHead`.
        class_names: K names, or None.
        value_range: (low, high) or None. What black and white are in the images. None takes that
            of `backbone.preprocessing`, which is (0, 255) by default.

    Input:
        images: (B, H, W, C) of any type, in the value range.

    Output:
        Logits (B, K) float32, the mean of those of the two tokens.

    Reference:
        Atito et al. 2021, section 4: the rotation and the contrastive token each have a head.

    Example:
        ```
        model = sit_keras.SiTImageClassifier.from_preset("runs/mine", num_classes=10)
        model.compile()
        model.fit(images, labels, epochs=10)
        ```
    """

    def __init__(
        self,
        backbone: SiTBackbone,
        num_classes: int,
        hidden_dim: int | None = None,
        class_names: typing.Sequence[str] | None = None,
        name: str = "sit_image_classifier",
        value_range: tuple[float, float] | None = None,
    ):
        names = tuple(class_names) if class_names else None
        if class_names and len(class_names) != num_classes:
            raise ValueError(
                f"Received {len(class_names)} class_names for num_classes={num_classes}: give one "
                "name for each class."
            )
        # === Layers ===
        settings = backbone.preprocessing
        if value_range is not None:
            settings = dataclasses.replace(settings, value_range=value_range)
        preprocessing = ImagePreprocessing(
            backbone.image_shape, **dataclasses.asdict(settings), name="preprocessing"
        )
        head = ClassifierHead(num_classes, hidden_dim, names, name="classifier")

        # === Functional graph ===
        images = keras.Input((None, None, None), name="images")
        logits = head(backbone(preprocessing(images)))
        super().__init__(images, logits, name=name)
        self.dtype_policy = backbone.dtype_policy  # by which `compile` scales the loss

        # === Config ===
        self.backbone = backbone
        self.head = head
        self.num_classes = num_classes
        self.hidden_dim = hidden_dim
        self.class_names = names

    def compile(
        self,
        optimizer: typing.Any = "auto",
        loss: typing.Any = "auto",
        *,
        metrics: typing.Any = "auto",
        **kwargs,
    ) -> None:
        """Configures the training; what is `"auto"` is chosen for integer labels (B,)."""
        if optimizer == "auto":
            optimizer = SiTAdamW(1e-4)
        if loss == "auto":
            loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        if metrics == "auto":
            metrics = [keras.metrics.SparseCategoricalAccuracy(name="accuracy")]
        super().compile(optimizer=optimizer, loss=loss, metrics=metrics, **kwargs)

    def get_config(self) -> dict[str, typing.Any]:
        # That of the backbone may have been changed since, by a `SiTPretrainer` that shares it.
        own = self.get_layer("preprocessing").config.value_range
        return {
            "backbone": keras.saving.serialize_keras_object(self.backbone),
            "num_classes": self.num_classes,
            "hidden_dim": self.hidden_dim,
            "class_names": self.class_names,
            "name": self.name,
            **({} if own == self.backbone.preprocessing.value_range else {"value_range": own}),
            **frozen_parts(self),
        }

    @classmethod
    def from_config(cls, config: dict, custom_objects: dict | None = None) -> "SiTImageClassifier":
        backbone = keras.saving.deserialize_keras_object(config["backbone"])
        return freeze_parts(cls(**{**without_frozen(config), "backbone": backbone}), config)

    @classmethod
    def from_preset(
        cls,
        preset: str | os.PathLike,
        num_classes: int | None = None,
        load_weights: bool = True,
        **changes,
    ) -> "SiTImageClassifier":
        """Loads a classifier, or puts a new one on a backbone.

        Args:
            preset: as for `SiTBackbone.from_preset`.
            num_classes: int or None. None loads the classifier that `save_to_preset` wrote; with a
                number the heads are new.
            load_weights: bool. False gives new weights.
            **changes: `hidden_dim` and `class_names` of the classifier; others are arguments of the
                backbone that differ.

        Raises:
            ValueError: if there is no such preset, or no classifier in it and no `num_classes`.
        """
        own = {name: changes.pop(name) for name in ("hidden_dim", "class_names") if name in changes}
        backbone = SiTBackbone.from_preset(preset, load_weights, **changes)
        if num_classes is not None:
            return cls(backbone, num_classes, **own)
        task = None
        if preset not in loading.presets():
            folder = preset_path(preset)
            task = folder / TASK if folder.is_dir() and (folder / TASK).is_file() else None
        if task is None:
            raise ValueError(f"{preset} has no classifier: give num_classes for new heads.")
        with explained(task, "a classifier"):
            config = described(cls, read_config(task))
            count = _head_parameters(backbone.hidden_dim, config)
        weights = task.with_name(TASK_WEIGHTS)
        with explained(weights, "weights of this classifier"):
            check_count(weights, count)
            model = cls(backbone, **{**config, **own})
            if load_weights:
                fill(model._task(), weights)
        return model

    def save_to_preset(self, folder: str | os.PathLike) -> None:
        """Writes the classifier to a folder that `from_preset` reads.

        Args:
            folder: gets the backbone's files, `task.json` and `task.weights.h5`.
        """
        files = {
            TASK_WEIGHTS: self._task().save_weights,
            TASK: saving.json_writer(saving.description(self, without=["backbone", TRAINABLE])),
        }
        saving.save_to_preset(self.backbone, folder, files)

    def _task(self) -> keras.Model:
        """Returns the head as a model of its own, which shares its weights."""
        tokens = {
            name: keras.Input((self.backbone.hidden_dim,), name=name) for name in self.head.tokens
        }
        return keras.Model(tokens, self.head(tokens), name="task")


def classifier_plan(values: dict[str, typing.Any]) -> Plan:
    """Returns the classifier that the `config.json` of a `.keras` file describes.

    Raises:
        ValueError: if it describes something else.
    """
    config = described(SiTImageClassifier, values, inner=["backbone"])
    encoder = loading.backbone_plan(SiTBackbone, config.get("backbone"))
    own = {name: x for name, x in without_frozen(config).items() if name != "backbone"}
    count = encoder.num_parameters + _head_parameters(encoder.config["hidden_dim"], own)
    return Plan(config, lambda: SiTImageClassifier(encoder.build(), **own), count)


def _head_parameters(width, config):
    """Returns how many numbers the heads have; ValueError for values that describe none."""
    hidden, names, count = (config.get(key) for key in ("hidden_dim", "class_names", "num_classes"))
    check_size("num_classes", count)
    if hidden is not None:
        check_size("hidden_dim", hidden)
    if names is not None and not (isinstance(names, list) and all(type(x) is str for x in names)):
        raise ValueError("class_names must be a list of texts, or null.")
    first = 0 if hidden is None else (width + 1) * hidden
    return len(ClassifierHead.tokens) * (first + ((hidden or width) + 1) * count)
