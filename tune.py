"""Searches for better settings of a pre-training, and prints the command that trains with them.

python tune.py                                                 ten trials on the embedded digits
python tune.py --dataset=cifar10 --preset=native32 --trials=30 --search=bayesian --set=epochs=50
python tune.py --dataset=folder:my/photos --preset=native96 --parameters=learning_rate,corruption
"""

import sys

from absl import app, flags, logging

from sit_keras.config.execution import STRATEGIES, Execution
from sit_keras.config.presets import presets, recipe
from sit_keras.config.serialization import assignments, changed
from sit_keras.runs.folder import folder_name
from sit_keras.training.guards import Stopped
from sit_keras.training.strategy import WorkerLost
from sit_keras.workflows.search_space import PARAMETERS
from sit_keras.workflows.tune import OBJECTIVES, SEARCHES, tune

DATASET = flags.DEFINE_string(
    "dataset",
    "digits",
    "Images to train on, some of them labelled: digits, cifar10, cifar100, stl10, tiny_imagenet, "
    "or folder:PATH with a sub-folder for each class.",
)
PRESET = flags.DEFINE_string(
    "preset",
    None,
    f"The settings to search around: {', '.join(presets())}. Default: digits for the digits, paper "
    "for everything else.",
)
SET = flags.DEFINE_multi_string(
    "set",
    [],
    "NAME=VALUE of a setting that all trials differ in from the preset, such as epochs=20; see "
    "RunConfig. Give it again for each.",
)
SEARCH = flags.DEFINE_enum(
    "search",
    "random",
    SEARCHES,
    "random; bayesian: each trial where the last ones promise most; hyperband: many short trials, "
    "the best of them longer.",
)
TRIALS = flags.DEFINE_integer("trials", 10, "How many; hyperband counts for itself.", 1)
SEARCHED = flags.DEFINE_list("parameters", list(PARAMETERS), "Which settings to search.")
OBJECTIVE = flags.DEFINE_enum(
    "objective", "knn", OBJECTIVES, "What classifies the images held out from training."
)
OUTPUT = flags.DEFINE_string(
    "output", None, "Folder of the search. Default: tuning/DATASET-PRESET-SEARCH."
)
DATA_DIR = flags.DEFINE_string("data_dir", None, "Folder of TFDS. Default: ~/tensorflow_datasets.")
DOWNLOAD = flags.DEFINE_bool(
    "download", False, "Download and prepare a missing data set. Off, no network is used."
)
STRATEGY = flags.DEFINE_enum(
    "strategy", "auto", STRATEGIES[:-1], "The devices that share each trial, as for train.py."
)


def main(argv):
    if len(argv) > 1:
        raise app.UsageError(f"Unexpected arguments {argv[1:]}: flags are --name=value.")
    logging.set_verbosity(logging.WARNING)
    preset = PRESET.value or ("digits" if DATASET.value == "digits" else "paper")
    config = changed(recipe(preset, dataset=DATASET.value), assignments(SET.value))
    folder = OUTPUT.value or f"tuning/{folder_name(DATASET.value)}-{preset}-{SEARCH.value}"
    tune(
        config,
        folder,
        SEARCH.value,
        TRIALS.value,
        SEARCHED.value,
        OBJECTIVE.value,
        DATA_DIR.value,
        DOWNLOAD.value,
        Execution(strategy=STRATEGY.value),
    )


if __name__ == "__main__":
    try:
        app.run(main)
    except (ValueError, OSError, Stopped, WorkerLost) as error:
        sys.exit(f"tune.py: {error}")
