"""Makes the views of a batch where the network runs."""

import dataclasses

import tensorflow as tf

from sit_keras.augment.pretext import TwoViews
from sit_keras.augment.random import seed_words
from sit_keras.data.pipeline import compiled_views
from sit_keras.models.preprocessing import match_channels
from sit_keras.training import replicas


class ViewMaker:
    """Makes the views of this replica's images, each at its position in the global batch.

    The views of validation are drawn with the next seed, so training never sees them; the same
    function makes both, and is traced and compiled once.

    Args:
        two_views: TwoViews.
        num_channels: int. Of the network; greyscale images are repeated.
        compiled: bool. Compile with XLA, which is several times faster.

    Call arguments:
        data: images (b, H, W, C), pairs of crops (b, 2, S, S, C) uint8, a tuple that begins with
            one of them, or a dict of views that were made before, which stay as they are.
        step: scalar int64.
        validation: bool. Make the views of validation.

    Returns:
        The dict of `TwoViews`.
    """

    def __init__(self, two_views: TwoViews, num_channels: int, compiled: bool):
        self._num_channels = num_channels
        self._seed = two_views.seed

        def make(images, step, first, seed):
            views = dataclasses.replace(two_views, seed=seed)
            return (compiled_views(views) if compiled else views)(images, step, first)

        self._make = tf.function(make, autograph=False)

    def __call__(self, data, step: tf.Tensor, validation: bool = False) -> dict[str, tf.Tensor]:
        images = data[0] if isinstance(data, tuple | list) else data
        if isinstance(images, dict):
            return images
        if len(images.shape) != 5:
            images = match_channels(images, self._num_channels)
        first = replicas.share(images).first
        return self._make(images, step, first, seed_words(self._seed + validation))
