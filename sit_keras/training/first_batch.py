"""Refuses what cannot be trained: at every door of Keras the first batch, networks and losses."""

import itertools
import typing

import keras
import numpy as np
import tensorflow as tf

# Rows of an array that are looked at.
_ROWS = 64


class TrainsOnImages(keras.Model):
    """The methods of Keras that take images, with a look at the first batch before they begin."""

    _rank = None  # of what `fit` was given last

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
            ValueError: if the first batch does not fit, or there is none.
        """
        x = check(self, x)
        self._forget_other_ranks(x)
        if validation_data is not None:
            validation_data = check(self, validation_data)
        if isinstance(x, np.ndarray) and not kwargs.get("validation_split"):  # which Keras slices
            x = _on_the_cpu(x)
        return super().fit(x, validation_data=validation_data, **kwargs)

    def _forget_other_ranks(self, data):
        """Lets Keras trace the step anew for crops after images, whose ranks differ."""
        spec = getattr(data, "element_spec", data)
        spec = spec[0] if isinstance(spec, tuple) else spec
        rank = None if isinstance(spec, dict) else len(getattr(spec, "shape", ()) or ())
        if self._rank not in (None, rank):
            self.train_function = self.test_function = None
        self._rank = rank

    def evaluate(self, x=None, y=None, **kwargs):
        """Returns the losses on images; the arguments are those of `keras.Model.evaluate`."""
        return super().evaluate(check(self, x), **kwargs)

    def train_on_batch(self, x, y=None, **kwargs):
        """Takes one step on a batch of images, as of `keras.Model.train_on_batch`."""
        return super().train_on_batch(check(self, x), **kwargs)

    def test_on_batch(self, x, y=None, **kwargs):
        """Returns the losses on a batch of images, as of `keras.Model.test_on_batch`."""
        return super().test_on_batch(check(self, x), **kwargs)


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


def check(model: keras.Model, data: typing.Any) -> typing.Any:
    """Refuses what a `SiTPretrainer` could not learn from.

    Args:
        model: SiTPretrainer.
        data: images as for `SiTPretrainer.fit`.

    Returns:
        The same images, without labels where they came as a tuple of arrays.

    Raises:
        ValueError: if there is no batch, or it has another rank, number of channels or range.
    """
    if isinstance(data, (tuple, list)) and data:
        data = data[0]
    if isinstance(data, tf.data.Dataset):
        _check_dataset(model, data)
    elif isinstance(data, keras.utils.PyDataset):
        _check_images(model, _images(data[0]) if data.num_batches != 0 else _no_batch())
    elif hasattr(data, "shape"):
        _check_images(model, data[:_ROWS] if data.shape[0] else _no_batch())
    elif isinstance(data, typing.Iterator):
        first = next(data, None)
        _check_images(model, _images(first) if first is not None else _no_batch())
        # Keras takes generators of tuples.
        return (_as_tuple(batch) for batch in itertools.chain([first], data))
    elif data is None:
        raise ValueError("No images were given: pass an array (N, H, W, C) or a tf.data.Dataset.")
    return data


def _on_the_cpu(images):
    """Returns an array as the tensor that Keras makes of it, which would fill the GPU's memory."""
    if np.issubdtype(images.dtype, np.floating):
        images = images.astype(keras.config.floatx(), copy=False)
    with tf.device("CPU:0"):
        return tf.constant(images)


def _check_dataset(model, dataset):
    spec = _images(dataset.element_spec)
    if _are_views(spec):
        return
    if not isinstance(spec, tf.TensorSpec):
        raise ValueError(
            f"Expected a dataset of batches of images (B, H, W, C), received elements {spec}: map "
            "it to its images first."
        )
    low, high = model.two_views.preprocessing.value_range
    fits = spec.dtype == tf.uint8 and (low, high) == (0.0, 255.0) and spec.shape.rank is not None
    if fits and int(dataset.cardinality()) not in (0, tf.data.UNKNOWN_CARDINALITY):
        _check_shape(model, spec)  # nothing else could be wrong, so no batch is made for it
        return
    first = next(iter(dataset.take(1)), None)
    _check_images(model, _images(first) if first is not None else _no_batch())


def _images(element):
    """The images of an element, whose labels may come along."""
    return element[0] if isinstance(element, (tuple, list)) else element


def _as_tuple(batch):
    return batch if isinstance(batch, tuple) else (batch,)


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
