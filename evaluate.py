"""Judges a pre-trained encoder on labelled images.

python evaluate.py --run=runs/digits-digits-seed0                on the data it was pre-trained on
python evaluate.py --run=runs/cifar100-native32-seed0 --dataset=cifar10       domain transfer
python evaluate.py --run=runs/digits-digits-seed0 --per_class=5           from few labels
python evaluate.py --run=encoder.keras --dataset=folder:my/photos --image_size=64
"""

import sys

from absl import app, flags, logging

from sit_keras.evaluation import FEATURES, PROTOCOLS, evaluate

RUN = flags.DEFINE_string("run", None, "A run folder of train.py, or a .keras file of an encoder.")
DATASET = flags.DEFINE_string(
    "dataset",
    None,
    "Labelled images to judge by: digits, cifar10, cifar100, stl10, tiny_imagenet, or folder:PATH "
    "with a sub-folder for each class. Default: what the run was pre-trained on.",
)
PROTOCOL = flags.DEFINE_list(
    "protocol",
    list(PROTOCOLS),
    "linear: a linear head on each token of the frozen encoder. knn: nearest neighbours. health: "
    "collapse, alignment, uniformity, and a map.",
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
SEED = flags.DEFINE_integer(
    "seed", 0, "Seed of the validation split, the labels chosen, and of what is drawn."
)
flags.mark_flag_as_required("run")


def main(argv):
    if len(argv) > 1:
        raise app.UsageError(f"Unexpected arguments {argv[1:]}: flags are --name=value.")
    if not all(k.isdecimal() and int(k) for k in K.value):
        raise ValueError(f"--k takes whole numbers from 1, such as 1,5,20; received {K.value}.")
    logging.set_verbosity(logging.WARNING)
    evaluate(
        RUN.value,
        DATASET.value,
        PROTOCOL.value,
        OUTPUT.value,
        DATA_DIR.value,
        DOWNLOAD.value,
        IMAGE_SIZE.value,
        FEATURE.value,
        [int(k) for k in K.value],
        FRACTION.value,
        PER_CLASS.value,
        SEED.value,
    )


if __name__ == "__main__":
    try:
        app.run(main)
    except (ValueError, OSError) as error:
        sys.exit(f"evaluate.py: {error}")
