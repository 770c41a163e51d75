"""Pre-trains SiT on unlabelled images.

python train.py                                  the embedded digits, in minutes on a CPU
python train.py --dataset=stl10 --download       the paper's ViT-B/16 on STL-10, on a GPU
python train.py --dataset=folder:my/photos --preset=native96    your own images
"""

import json
import pathlib
import sys

from absl import app, flags, logging

from sit_keras.config.checks import TASKS
from sit_keras.config.execution import STRATEGIES, Execution
from sit_keras.config.presets import presets, recipe
from sit_keras.config.serialization import assignments, changed, to_dict
from sit_keras.config.settings import RunConfig
from sit_keras.runs import folder
from sit_keras.serving.export import export, export_folder
from sit_keras.training.guards import Stopped
from sit_keras.training.strategy import WorkerLost
from sit_keras.workflows import doctor, messages, pretrain

DATASET = flags.DEFINE_string(
    "dataset",
    "digits",
    "What to train on: digits, cifar10, cifar100, stl10, tiny_imagenet, or folder:PATH with your "
    "own images (sub-folders are classes, if there are any).",
)
PRESET = flags.DEFINE_string(
    "preset",
    None,
    f"The network and the settings to start from: {', '.join(presets())}. "
    "Default: digits for the digits, paper for everything else.",
)
RUN_DIR = flags.DEFINE_string(
    "run_dir",
    None,
    "Folder of the run. Default: runs/DATASET-PRESET-seedSEED, with the tasks if they are fewer or "
    "their weights fixed. An unfinished run in it goes on.",
)
DATA_DIR = flags.DEFINE_string("data_dir", None, "Folder of TFDS. Default: ~/tensorflow_datasets.")
DOWNLOAD = flags.DEFINE_bool(
    "download", False, "Download and prepare a missing data set. Off, no network is used."
)
# How the run is carried out, see Execution; a run may go on with other ones.
EXECUTION = ("strategy", "micro_batches", "resume", "on_nan", "on_full_disk")
flags.DEFINE_enum(
    "strategy",
    "auto",
    STRATEGIES,
    "one device; mirrored over all GPUs of this machine; multiworker over those of several, named "
    "by TF_CONFIG or by SLURM; auto: mirrored where there are several GPUs. The batch is shared "
    "among them, and the result does not depend on their number.",
)
flags.DEFINE_integer(
    "micro_batches",
    1,
    "Parts of a replica's batch that go through the network one after the other: a large batch in "
    "a small memory, with all its negatives, for one more forward pass.",
)
flags.DEFINE_bool("resume", True, "Go on with an unfinished run; --noresume refuses its folder.")
flags.DEFINE_enum(
    "on_nan", "stop", ["stop", "skip"], "What a loss or gradient that is not finite does."
)
flags.DEFINE_enum(
    "on_full_disk",
    "stop",
    ["stop", "go_on"],
    "Go on without the files that find no space, or stop.",
)
DRY_RUN = flags.DEFINE_bool(
    "dry_run", False, "Print the settings, the steps and the number of parameters, and stop."
)

EXPORT = flags.DEFINE_bool("export", True, "Export the encoder to exports/ for TF Serving.")
DOCTOR = flags.DEFINE_bool(
    "doctor", False, "Examine libraries, images and the arithmetic of two replicas, and stop."
)

# Flags that change a setting of the preset; without a value they leave it.
MODEL_SETTINGS = ("image_size", "patch_size")
flags.DEFINE_integer("image_size", None, "Side of the network's input in pixels.")
flags.DEFINE_integer("patch_size", None, "Side of a patch in pixels; divides image_size.")
SETTINGS = (
    "epochs batch_size steps_per_epoch learning_rate min_learning_rate warmup_epochs weight_decay "
    "clip_norm tasks weighting task_weights temperature negatives precision holdout sheet_every "
    "strict seed"
).split()
flags.DEFINE_integer("epochs", None, "Passes over the images.")
flags.DEFINE_integer("batch_size", None, "Images per step over all replicas; two views of each.")
flags.DEFINE_integer("steps_per_epoch", None, "Cap on the steps of an epoch.")
flags.DEFINE_float("learning_rate", None, "Peak rate for 512 images; scaled by batch_size / 512.")
flags.DEFINE_float("min_learning_rate", None, "Where the cosine ends.")
flags.DEFINE_integer("warmup_epochs", None, "Epochs of linear warm-up.")
flags.DEFINE_float("weight_decay", None, "Decoupled weight decay of AdamW.")
flags.DEFINE_float("clip_norm", None, "Clip the global norm of the gradients at this.")
flags.DEFINE_string("tasks", None, f"Comma-separated subset of {', '.join(TASKS)}.")
flags.DEFINE_string("weighting", None, "uncertainty (learned weights) or fixed.")
flags.DEFINE_string("task_weights", None, "One fixed weight per task, in the order of the tasks.")
flags.DEFINE_float("temperature", None, "Temperature of the contrastive loss.")
flags.DEFINE_string("negatives", None, "global (of all replicas) or local.")
flags.DEFINE_string("precision", None, "float32, mixed_bfloat16 or mixed_float16.")
flags.DEFINE_float("holdout", None, "Share of the training images kept for validation.")
flags.DEFINE_integer("sheet_every", None, "Epochs between two sheets of reconstructions.")
flags.DEFINE_bool("strict", None, "Refuse a folder with unreadable images; else skip them.")
flags.DEFINE_integer("seed", None, "Seed of everything random.")
SET = flags.DEFINE_multi_string(
    "set",
    [],
    "NAME=VALUE of any other setting, such as corruption.drop=0.2, model.drop_path_rate=0 or "
    "views.flip_probability=0; see RunConfig. Give it again for each.",
)


def resolve() -> RunConfig:
    """Returns the settings that the flags ask for."""
    preset = PRESET.value or ("digits" if DATASET.value == "digits" else "paper")
    given = {name: flags.FLAGS[name].value for name in SETTINGS}
    given |= {f"model.{name}": flags.FLAGS[name].value for name in MODEL_SETTINGS}
    given = {name: value for name, value in given.items() if value is not None}
    return changed(recipe(preset, dataset=DATASET.value), given | assignments(SET.value))


def main(argv):
    if len(argv) > 1:
        raise app.UsageError(f"Unexpected arguments {argv[1:]}: flags are --name=value.")
    logging.set_verbosity(logging.WARNING)  # TensorFlow reports the duration of every save
    config = resolve()
    if DRY_RUN.value:
        summary = messages.describe(config, DATA_DIR.value, DOWNLOAD.value)
        print(json.dumps({**to_dict(config), "resolved": summary}, indent=2))
        return
    run_dir = RUN_DIR.value or f"runs/{folder.run_name(config)}"
    if DOCTOR.value:
        doctor.report(config, run_dir, DATA_DIR.value, DOWNLOAD.value)
        return
    execution = Execution(**{name: flags.FLAGS[name].value for name in EXECUTION})
    begun = finished_results(pathlib.Path(run_dir)) is None
    results = pretrain.pretrain(config, run_dir, DATA_DIR.value, DOWNLOAD.value, execution)
    print(messages.summary(results, run_dir))
    if begun and EXPORT.value and "losses" in results:  # which only the first worker has
        print(f"Export:   {export(run_dir, export_folder(run_dir))}")


if __name__ == "__main__":
    try:
        app.run(main)
    except (ValueError, OSError, ArithmeticError, Stopped, WorkerLost) as error:
        sys.exit(f"train.py: {error}")
