"""Images in, views out: sources, folders, splits and the two-view pipeline."""

from sit_keras.data.images import ImageSet, hold_out
from sit_keras.data.pipeline import count_steps, eval_batches, pair_views, step_views
from sit_keras.data.sources import DATASETS, Source, count_train_images, load_source
from sit_keras.data.subsets import label_subset
from sit_keras.data.views import TwoViews

__all__ = [
    "DATASETS",
    "ImageSet",
    "Source",
    "TwoViews",
    "count_steps",
    "count_train_images",
    "eval_batches",
    "hold_out",
    "label_subset",
    "load_source",
    "pair_views",
    "step_views",
]
