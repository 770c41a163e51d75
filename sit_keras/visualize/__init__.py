"""Pictures of what SiT does; `python -m sit_keras.visualize RUN` draws them all."""

from sit_keras.visualize.charts import (
    confusion_sheet,
    feature_map,
    search_chart,
    table_chart,
    training_curves,
)
from sit_keras.visualize.sheets import (
    attention_sheet,
    corruption_gallery,
    neighbour_sheet,
    outlier_sheet,
    reconstruction_sheet,
)

__all__ = [
    "attention_sheet",
    "confusion_sheet",
    "corruption_gallery",
    "feature_map",
    "neighbour_sheet",
    "outlier_sheet",
    "reconstruction_sheet",
    "search_chart",
    "table_chart",
    "training_curves",
]
