"""Packs the training images of a data set into one file, for a machine without TensorFlow.

python examples/jax/pack_images.py cifar10 --output=packed/cifar10.npz
"""

import pathlib

import jax_command
import numpy as np

from sit_keras.cli.command import Argument, Command
from sit_keras.cli.flags import Flags, Options
from sit_keras.config.files import written_whole


def define(flags: Flags) -> None:
    flags.string("output", None, "The file to write, NAME.npz.", value="FILE", required=True)
    flags.string(
        "data_dir",
        None,
        "Folder of TensorFlow Datasets.",
        value="FOLDER",
        usually="~/tensorflow_datasets",
    )
    flags.switch(
        "download", False, "Download and prepare a missing data set. Off, no network is used."
    )


def run(options: Options) -> None:
    output = pathlib.Path(options.output)
    if output.suffix != ".npz":
        raise ValueError(f"--output must end in .npz, received {output}.")
    from sit_keras.data.sources import DIGITS, load_source

    if options.dataset not in DIGITS:
        from sit_keras.cli.startup import start_tensorflow

        start_tensorflow()
    images = load_source(options.dataset, options.data_dir, options.download).train
    if not images.in_memory:
        raise ValueError(
            f"{options.dataset} has files of many sizes, and only images of one size can be "
            "packed: use train.py, or a data set of TensorFlow Datasets."
        )
    output.parent.mkdir(parents=True, exist_ok=True)
    with written_whole(output) as aside:
        np.savez_compressed(
            aside, images=images.items, labels=images.labels, dataset=np.array(options.dataset)
        )
    print(f"{output}: images {images.items.shape} uint8, and their labels")


COMMAND = Command(
    sentence="Packs the training images of a data set into one file, for jax_pretrain.py.",
    define=define,
    run=run,
    examples=(
        ("digits --output=packed/digits.npz", "the embedded digits"),
        ("cifar10 --output=packed/cifar10.npz --download", "a data set of TensorFlow Datasets"),
    ),
    argument=Argument("dataset", "As for train.py; images of one size."),
)

if __name__ == "__main__":
    jax_command.start(COMMAND, "pack_images.py")
