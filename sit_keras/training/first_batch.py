"""Refuses what cannot be trained: at every door of Keras the first batch, networks and losses."""

import itertools
import typing

import keras
import numpy as np
import tensorflow as tf

from sit_keras.config.checks import check_batch

# Rows of an array that are looked at.
_ROWS = 64
# What Keras makes batches of, where it is not told.
_BATCH_SIZE = 32


class TrainsOnImages(keras.Model):
    """The methods of Keras that take images, with a look at the first batch before they begin."""

    _train_rank = _test_rank = None  # of what the steps were traced with

    def fit(self, x=None, y=None, *, validation_data=None, **kwargs):
        """Trains on images; the arguments are those of `keras.Model.fit`.

        Args:
            x: images without labels: an array (N, H, W, C), a `tf.data.Dataset` of batches
                (B, H, W, C), or whatever else `keras.Model.fit` takes. Any type, in the value range
                of the backbone's preprocessing. Labels that come along are ignored. Images of mixed
                sizes come as pairs of crops (B, 2, S, S, C) uint8, see `sit_keras.pair_crops`.
            y: ignored.
            validation_data: images as well.
            **kwargs: as for `keras.Model.fit`.

        Returns:
            A `keras.callbacks.History`.

        Raises:
            ValueError: if the first batch does not fit, or there is none; for several arrays of
                images, and for weights of samples or classes.
        """
        refuse_weights(kwargs)
        batch_size = kwargs.get("batch_size")
        x = self._checked(x, "train", batch_size)
        if validation_data is not None:
            validation_size = kwargs.get("validation_batch_size") or batch_size
            validation_data = self._checked(validation_data, "test", validation_size)
        if isinstance(x, np.ndarray) and not kwargs.get("validation_split"):  # which Keras slices
            x = _on_the_cpu(x)
        return super().fit(x, validation_data=validation_data, **kwargs)

    def _checked(self, data, step, batch_size=None):
        """Returns images that were looked at.

        Keras traces the `step` anew for crops after images, whose ranks differ.
        """
        data, rank = check(self, data, batch_size)
        if getattr(self, f"_{step}_rank") not in (None, rank):
            setattr(self, f"{step}_function", None)
        setattr(self, f"_{step}_rank", rank)
        return data

    def evaluate(self, x=None, y=None, **kwargs):
        """Returns the losses on images; the arguments are those of `keras.Model.evaluate`."""
        refuse_weights(kwargs)
        # `fit` has looked at its validation data; to do so again would take a generator's batch.
        if not kwargs.get("_use_cached_eval_dataset"):
            x = self._checked(x, "test", kwargs.get("batch_size"))
        return super().evaluate(x, **kwargs)

    def train_on_batch(self, x, y=None, **kwargs):
        """Takes one step on a batch of images, as of `keras.Model.train_on_batch`."""
        refuse_weights(kwargs)
        return super().train_on_batch(self._checked(x, "train"), **kwargs)

    def test_on_batch(self, x, y=None, **kwargs):
        """Returns the losses on a batch of images, as of `keras.Model.test_on_batch`."""
        refuse_weights(kwargs)
        return super().test_on_batch(self._checked(x, "test"), **kwargs)


def refuse_oblong(backbone: keras.Model) -> None:
    """Raises ValueError unless the input of a backbone is square."""
    height, width, _ = backbone.image_shape
    if height != width:
        raise ValueError(
            "Pre-training turns images by 90 degrees, so the backbone's image_shape must be "
            f"square; received {backbone.image_shape}."
        )


def refuse_losses(settings: dict[str, typing.Any]) -> None:
    """Raises ValueError if `compile` was given losses or metrics, which would do nothing."""
    names = "loss", "loss_weights", "metrics", "weighted_metrics"
    refused = [name for name in names if settings.get(name)]
    if refused:
        raise ValueError(
            f"SiTPretrainer has losses of its own, so {', '.join(refused)} would do nothing: "
            "use tasks=, weighting= and task_weights=, and callbacks to measure other things."
        )


def refuse_weights(settings: dict[str, typing.Any]) -> None:
    """Raises ValueError if a method was given weights of samples or classes."""
    for name in ("sample_weight", "class_weight"):
        if settings.get(name) is not None:
            raise ValueError(
                f"SiTPretrainer learns from images without labels, and all of them count alike, so "
                f"{name} would do nothing: leave it out, and pass images that should count more "
                "several times."
            )


def check(
    model: keras.Model, data: typing.Any, batch_size: int | None = None
) -> tuple[typing.Any, int | None]:
    """Refuses what a `SiTPretrainer` could not learn from.

    Args:
        model: SiTPretrainer.
        data: images as for `SiTPretrainer.fit`.
        batch_size: int or None. Of the batches that Keras makes of an array.

    Returns:
        The same images, without labels where they came as a tuple of arrays; and the rank of a
        batch, or None for views that were made before.

    Raises:
        ValueError: if there is no batch, or it has another rank, number of channels or range; if
            it has one image and the contrastive task has nothing to compare it with; and for
            several arrays of images.
    """
    if isinstance(data, (tuple, list)) and data:
        _refuse_several(data)
        data = data[0]
    if isinstance(data, tf.data.Dataset):
        return data, _check_dataset(model, data)
    if isinstance(data, keras.utils.PyDataset):
        first = _images(data[0]) if data.num_batches != 0 else _no_batch()
        return data, _check_first(model, first)
    if hasattr(data, "shape"):
        _check_images(model, data[:_ROWS] if data.shape[0] else _no_batch())
        _check_count(model, min(data.shape[0], batch_size or _BATCH_SIZE))
        return data, len(data.shape)
    if isinstance(data, typing.Iterator):
        first = next(data, None)
        rank = _check_first(model, _images(first) if first is not None else _no_batch())
        # Keras takes generators of tuples.
        return (_as_tuple(batch) for batch in itertools.chain([first], data)), rank
    if data is None:
        raise ValueError("No images were given: pass an array (N, H, W, C) or a tf.data.Dataset.")
    return data, None


def _on_the_cpu(images):
    """Returns an array as the tensor that Keras makes of it, which would fill the GPU's memory."""
    if np.issubdtype(images.dtype, np.floating):
        images = images.astype(keras.config.floatx(), copy=False)
    with tf.device("CPU:0"):
        return tf.constant(images)


def _check_dataset(model, dataset):
    """Returns the rank of the batches, or None for views."""
    spec = _images(dataset.element_spec)
    if _are_views(spec):
        return None
    if not isinstance(spec, tf.TensorSpec):
        raise ValueError(
            f"Expected a dataset of batches of images (B, H, W, C), received elements {spec}: map "
            "it to its images first."
        )
    low, high = model.two_views.preprocessing.value_range
    fits = spec.dtype == tf.uint8 and (low, high) == (0.0, 255.0) and spec.shape.rank is not None
    fits = fits and (spec.shape[0] is not None or "contrastive" not in model.tasks)
    if fits and int(dataset.cardinality()) not in (0, tf.data.UNKNOWN_CARDINALITY):
        _check_shape(model, spec)  # nothing else could be wrong, so no batch is made for it
        _check_count(model, spec.shape[0])
        return spec.shape.rank
    first = next(iter(dataset.take(1)), None)
    return _check_first(model, _images(first) if first is not None else _no_batch())


def _images(element):
    """The images of an element, whose labels may come along."""
    return element[0] if isinstance(element, (tuple, list)) else element


def _as_tuple(batch):
    return batch if isinstance(batch, tuple) else (batch,)


def _refuse_several(data):
    if len(data) > 1 and len(getattr(data[1], "shape", ())) in (4, 5):
        raise ValueError(
            f"Received a {type(data).__name__} of {len(data)} arrays, of which the second one is "
            f"images, too, of the shape {tuple(data[1].shape)}. Pass all images as one array, such "
            "as np.concatenate([cats, dogs]); views and targets are made of it."
        )


def _check_count(model, count):
    """Raises ValueError if an image of the first batch has none to be compared with."""
    if count is not None:
        shares = (
            1 if model.negatives == "global" else model.distribute_strategy.num_replicas_in_sync
        )
        check_batch(count // shares, model.tasks)


def _check_first(model, images):
    """Looks at a first batch, and returns its rank."""
    _check_images(model, images)
    _check_count(model, images.shape[0])
    return len(images.shape)


def _are_views(element):
    """Whether an element are views that the pipeline made before."""
    return isinstance(element, dict) and {"corrupted", "clean", "rotation"} <= set(element)


def _no_batch():
    raise ValueError(
        "There is not a single batch of images to train on: there are none, or fewer than one "
        "batch where incomplete batches are dropped. Use a smaller batch, or more images."
    )


def _check_shape(model, images):
    channels = model.backbone.image_shape[-1]
    size = model.two_views.image_size
    rank = len(images.shape)
    if rank == 5 and tuple(images.shape[1:]) == (2, size, size, channels):
        return
    if rank != 4:
        hint = "Add the axis of the channels: images[..., None]." if rank == 3 else ""
        if rank == 3 and images.shape[-1] in (1, channels):
            hint = "Make batches of them: dataset.batch(32, drop_remainder=True)."
        raise ValueError(
            f"Expected batches of images (B, H, W, {channels}), received the shape "
            f"{tuple(images.shape)}. {hint}".strip()
        )
    if images.shape[-1] not in (1, channels, None):
        raise ValueError(
            f"Expected images of {channels} channels, or greyscale ones of 1 channel; received the "
            f"shape {tuple(images.shape)}. Convert the images, or build the backbone with "
            f"image_shape=({size}, {size}, {images.shape[-1]})."
        )


def _check_images(model, images):
    _check_shape(model, images)
    if len(images.shape) == 5:
        return
    low, high = model.two_views.preprocessing.value_range
    pixels = keras.ops.convert_to_numpy(images)
    if not np.isfinite(pixels).all():
        raise ValueError("The first batch of images has values that are NaN or infinite.")
    least, most = float(pixels.min()), float(pixels.max())
    margin = 1e-3 * (high - low)
    is_small = np.issubdtype(pixels.dtype, np.floating) and (high - low) > 50 and 0 < most <= 1.001
    if least < low - margin or most > high + margin or is_small:
        likely = next(
            (f"({a}, {b})" for a, b in ((0, 1), (-1, 1), (0, 255)) if a - 1e-3 <= least
             and most <= b + 1e-3),
            f"({least:g}, {most:g})",
        )  # fmt: skip
        raise ValueError(
            f"The first batch of images lies in [{least:g}, {most:g}], and value_range says "
            f"({low:g}, {high:g}): pass value_range={likely} to SiTPretrainer, or scale the images."
        )
