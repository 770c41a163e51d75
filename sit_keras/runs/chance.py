"""What guessing would measure, for the chance lines of the curves of a run."""

import math
import typing

from sit_keras.config.settings import RunConfig
from sit_keras.runs.task_reports import ROTATION_CHANCE


def chance_levels(config: RunConfig, results: dict[str, typing.Any]) -> dict[str, float]:
    """Returns what each column of the log would be by guessing.

    Args:
        config: RunConfig.
        results: as in `results.json`; empty for a run that goes on.

    Returns:
        By the name of a column its value by chance: accuracies in [0, 1]; of the rotation and the
        contrastive task the cross-entropy of guessing; of reconstruction the error of a picture of
        one colour, where it was measured; of nearest neighbours the share of the largest class.
    """
    candidates = 2 * results.get("contrastive_images", config.batch_size) - 1
    levels = {
        "rotation": -math.log(ROTATION_CHANCE),
        "rotation_accuracy": ROTATION_CHANCE,
        "contrastive": math.log(candidates),
        "contrastive_accuracy": 1 / candidates,
    }
    if "flat_error" in results:
        levels["reconstruction"] = results["flat_error"]
    if "largest_class" in results:
        levels["knn_accuracy"] = results["largest_class"]["accuracy"]
    return levels
