"""Draws all pictures of a run, and one page of them that opens without a network.

python -m sit_keras.visualize runs/digits-digits-seed0
"""

import argparse
import sys

import tensorflow as tf

from sit_keras.workflows.pictures import draw_pictures
from sit_keras.workflows.report import write_report


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        "python -m sit_keras.visualize",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("run", help="a run folder of train.py, finished or not")
    parser.add_argument("--dataset", help="where its images lie now, if not where they lay")
    parser.add_argument("--data_dir", help="folder of TFDS. Default: ~/tensorflow_datasets")
    parser.add_argument("--download", action="store_true", help="download a missing data set")
    options = parser.parse_args(argv)
    pictures = draw_pictures(options.run, options.dataset, options.data_dir, options.download)
    for picture in pictures:
        print(f"{picture.path}: {picture.caption}")
    print(f"\nReport: {write_report(options.run, pictures)}   (open it in a browser)")
    print(f"Also:   tensorboard --logdir={options.run}/tensorboard")


if __name__ == "__main__":
    for gpu in tf.config.list_physical_devices("GPU"):  # which a training may have too
        tf.config.experimental.set_memory_growth(gpu, True)
    try:
        main()
    except (ValueError, OSError) as error:
        sys.exit(f"sit_keras.visualize: {error}")
