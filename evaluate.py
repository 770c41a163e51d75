"""Judges a pre-trained encoder on labelled images, or fills in one of the paper's tables.

python evaluate.py --run=runs/digits-digits-seed0                on the data it was pre-trained on
python evaluate.py --run=runs/cifar100-native32-seed0 --dataset=cifar10       domain transfer
python evaluate.py --run=runs/digits-digits-seed0 --protocol=finetune --per_class=5
python evaluate.py --table=ablation --dataset=stl10 --seeds=0,1,2    pre-trains what is missing
"""

import sys

from absl import app, flags, logging

from sit_keras.config.presets import presets
from sit_keras.config.serialization import assignments
from sit_keras.evaluation.features import FEATURES
from sit_keras.training.guards import NonFiniteLoss, Stopped
from sit_keras.workflows.evaluate import QUICK, evaluate
from sit_keras.workflows.tables import TABLES, make_table

RUN = flags.DEFINE_string("run", None, "A run folder of train.py, or a .keras file of an encoder.")
DATASET = flags.DEFINE_list(
    "dataset",
    [],
    "Labelled images to judge by: digits, cifar10, cifar100, stl10, tiny_imagenet, or folder:PATH; "
    "default: what the run was pre-trained on. A table takes several.",
)
PROTOCOL = flags.DEFINE_list(
    "protocol",
    list(QUICK),
    "linear: a head on each token, on features computed once. augmented: the same on augmented "
    "images. knn: nearest neighbours. health: collapse, alignment, uniformity, and a map. "
    "finetune: all weights. fewshot: on 1 to 100 % of the labels, then linear on all.",
)
OUTPUT = flags.DEFINE_string(
    "output", None, "Folder of the results. Default: evaluation/DATASET beside the encoder."
)
DATA_DIR = flags.DEFINE_string("data_dir", None, "Folder of TFDS. Default: ~/tensorflow_datasets.")
DOWNLOAD = flags.DEFINE_bool(
    "download", False, "Download and prepare a missing data set. Off, no network is used."
)
IMAGE_SIZE = flags.DEFINE_integer(
    "image_size", None, "Another input size in pixels; the position embeddings are resized."
)
FEATURE = flags.DEFINE_enum(
    "features", "tokens", FEATURES, "What knn and health look at; patches are averaged."
)
K = flags.DEFINE_list("k", ["1", "5", "20", "200"], "Numbers of neighbours.")
FRACTION = flags.DEFINE_float(
    "fraction", None, "Learn from this share of the labels of each class only, such as 0.01."
)
PER_CLASS = flags.DEFINE_integer(
    "per_class", None, "Learn from so many labelled images of each class only."
)
SCRATCH = flags.DEFINE_bool("scratch", False, "Judge the same network with new weights.")
TRAINING = flags.DEFINE_multi_string(
    "training",
    [],
    "NAME=VALUE of a setting of FinetuneConfig that differs, such as epochs=20, layer_decay=0.75, "
    "ema_momentum=0.999 or hidden_dim=1024 (two-layer heads); again for each.",
)
SEED = flags.DEFINE_integer(
    "seed", 0, "Seed of the validation split, the labels chosen, and of what is drawn."
)

TABLE = flags.DEFINE_enum("table", None, TABLES, "Fill in this table of the paper instead.")
PRESET = flags.DEFINE_string(
    "preset", None, f"The table's network and settings: {', '.join(presets())}."
)
SEEDS = flags.DEFINE_list("seeds", ["0"], "Seeds that each cell of the table is done for.")
RUNS_DIR = flags.DEFINE_string("runs_dir", "runs", "Where the table's encoders are or will be.")
PRETRAINING = flags.DEFINE_multi_string(
    "pretraining",
    [],
    "NAME=VALUE of a setting of RunConfig that differs from the preset; again for each.",
)
TABLE_ONLY = ("preset", "seeds", "runs_dir", "pretraining")
RUN_ONLY = "run protocol image_size features k fraction per_class scratch seed".split()


def whole_numbers(flag: str, texts: list[str], least: int) -> list[int]:
    """Returns the values of a list flag as whole numbers."""
    if not texts or not all(text.isdecimal() and int(text) >= least for text in texts):
        raise ValueError(
            f"--{flag} takes whole numbers from {least}, such as 1,5; received {texts}."
        )
    return [int(text) for text in texts]


def fill_in_table() -> None:
    """Makes the table that the flags ask for."""
    datasets = DATASET.value or ["digits"]
    make_table(
        TABLE.value,
        datasets,
        PRESET.value or ("digits" if datasets == ["digits"] else "paper"),
        whole_numbers("seeds", SEEDS.value, 0),
        OUTPUT.value,
        RUNS_DIR.value,
        DATA_DIR.value,
        DOWNLOAD.value,
        assignments(PRETRAINING.value),
        assignments(TRAINING.value),
    )


def judge_run() -> None:
    """Judges the encoder that the flags name."""
    if RUN.value is None:
        raise ValueError("Give --run, a run folder of train.py or a .keras file, or --table.")
    if len(DATASET.value) > 1:
        raise ValueError(f"A run is judged on one data set at a time; received {DATASET.value}.")
    evaluate(
        RUN.value,
        *DATASET.value,
        chosen=PROTOCOL.value,
        output=OUTPUT.value,
        data_dir=DATA_DIR.value,
        download=DOWNLOAD.value,
        image_size=IMAGE_SIZE.value,
        features=FEATURE.value,
        ks=whole_numbers("k", K.value, 1),
        fraction=FRACTION.value,
        per_class=PER_CLASS.value,
        scratch=SCRATCH.value,
        training=assignments(TRAINING.value),
        seed=SEED.value,
    )


def main(argv):
    if len(argv) > 1:
        raise app.UsageError(f"Unexpected arguments {argv[1:]}: flags are --name=value.")
    logging.set_verbosity(logging.WARNING)
    lost = [n for n in (RUN_ONLY if TABLE.value else TABLE_ONLY) if flags.FLAGS[n].present]
    if lost:
        what = "a table" if TABLE.value else "judging a run"
        raise ValueError(f"--{', --'.join(lost)} would do nothing for {what}: leave it out.")
    if TABLE.value:
        fill_in_table()
    else:
        judge_run()


if __name__ == "__main__":
    try:
        app.run(main)
    except KeyboardInterrupt:
        sys.exit("evaluate.py: stopped. What is finished is kept; the same command goes on.")
    except (ValueError, OSError, NonFiniteLoss, Stopped) as error:
        sys.exit(f"evaluate.py: {error}")
