"""Judges a pre-trained encoder on labelled images.

python evaluate.py --run=runs/digits-digits-seed0                on the data it was pre-trained on
python evaluate.py --run=runs/cifar100-native32-seed0 --dataset=cifar10       domain transfer
python evaluate.py --run=encoder.keras --dataset=folder:my/photos --image_size=64
"""

import json
import pathlib
import sys

from absl import app, flags, logging

from sit_keras import load_encoder
from sit_keras.config import ViewConfig
from sit_keras.data import TwoViews, hold_out, load_source
from sit_keras.evaluation import FEATURES, protocols
from sit_keras.run_folder import read_settings

PROTOCOLS = ["linear", "knn", "health"]

RUN = flags.DEFINE_string(
    "run", None, "A run folder of train.py, or a .keras file with an encoder."
)
DATASET = flags.DEFINE_string(
    "dataset",
    None,
    "Labelled images to judge by: digits, cifar10, cifar100, stl10, tiny_imagenet, or folder:PATH "
    "with a sub-folder for each class. Default: what the run was pre-trained on.",
)
PROTOCOL = flags.DEFINE_list(
    "protocol",
    PROTOCOLS,
    "linear: a linear head on each token of the frozen encoder. knn: nearest neighbours. health: "
    "collapse, alignment, uniformity, and a map.",
)
OUTPUT = flags.DEFINE_string(
    "output", None, "Folder of the results. Default: evaluation/DATASET in the run folder."
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
SEED = flags.DEFINE_integer("seed", 0, "Seed of the validation split and of what is drawn.")
flags.mark_flag_as_required("run")


def main(argv):
    if len(argv) > 1:
        raise app.UsageError(f"Unexpected arguments {argv[1:]}: flags are --name=value.")
    logging.set_verbosity(logging.WARNING)
    unknown = sorted(set(PROTOCOL.value) - set(PROTOCOLS))
    if unknown or not PROTOCOL.value:
        raise ValueError(f"Unknown protocols {unknown}: choose from {', '.join(PROTOCOLS)}.")
    if not all(k.isdecimal() for k in K.value):
        raise ValueError(f"--k takes whole numbers, such as 1,5,20; received {K.value}.")

    run = pathlib.Path(RUN.value)
    encoder = load_encoder(run, IMAGE_SIZE.value)
    config = read_settings(run) if (run / "config.json").exists() else None
    dataset = DATASET.value or (config and config.dataset)
    if dataset is None:
        raise ValueError(f"{run} does not say what it was trained on: give --dataset.")
    views = config.views if config else ViewConfig()
    source = load_source(dataset, DATA_DIR.value, DOWNLOAD.value)
    train, test = source.train.labelled(), source.test
    if test is None:  # a folder without a test split
        train, test = hold_out(train, 0.2, SEED.value)
    frozen = protocols.Frozen(encoder, train, test, views.eval_crop, SEED.value)

    label = dataset.replace(":", "-").replace("/", "-")
    output = pathlib.Path(
        OUTPUT.value or (run if run.is_dir() else run.parent) / "evaluation" / label
    )
    print(
        f"{run} on {dataset}: {len(train)} images to learn from, {len(test)} to be tested on, "
        f"{len(train.class_names)} classes, at {encoder.config.square_size} px."
    )
    results = {
        "encoder": str(run),
        "pretrained_on": config and config.dataset,
        "dataset": dataset,
        "image_size": encoder.config.square_size,
        "seed": SEED.value,
        "train_images": len(train),
        "test_images": len(test),
        "num_classes": len(train.class_names),
    }
    if "linear" in PROTOCOL.value:
        results["linear"] = protocols.linear(frozen, output)
        print(f"linear evaluation    {results['linear']['accuracy']:.2%}", flush=True)
    if "knn" in PROTOCOL.value:
        ks = [k for k in map(int, K.value) if k <= len(train)]
        results["knn"] = protocols.knn(frozen, ks, FEATURE.value)
        for k in ks:
            print(f"{k:4} neighbours      {results['knn'][str(k)]:.2%}", flush=True)
    if "health" in PROTOCOL.value:
        two_views = TwoViews(encoder.config.square_size, views, seed=SEED.value)
        results["health"] = protocols.health(frozen, two_views, output, FEATURE.value)
        for name in ("spread", "effective_rank", "alignment", "uniformity"):
            print(f"{name:20} {results['health'][name]:.3f}")
    output.mkdir(parents=True, exist_ok=True)
    (output / "results.json").write_text(json.dumps(results, indent=2) + "\n")
    print(f"Chance {1 / len(train.class_names):.2%}. Results and pictures: {output}")


if __name__ == "__main__":
    try:
        app.run(main)
    except (ValueError, OSError) as error:
        sys.exit(f"evaluate.py: {error}")
