"""Packs the training images of a data set for a machine that has no TensorFlow.

python benchmarks/pack_images.py cifar10 packed/cifar10 --data_dir=...
"""

import argparse
import sys

from sit_keras.data.sources import load_source


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("dataset", help="as for train.py; images of one size")
    parser.add_argument("output", help="folder of the pieces")
    parser.add_argument("--data_dir", help="folder of TFDS. Default: ~/tensorflow_datasets")
    options = parser.parse_args()
    images = load_source(options.dataset, options.data_dir).train
    if not images.in_memory:
        raise ValueError(f"{options.dataset} has files of many sizes: only pixels can be packed.")
    pieces.write(options.output, {"images": images.items}, dataset=options.dataset)
    print(f"{images.items.shape} uint8: {options.output}")


if __name__ == "__main__":
    try:
        main()
    except (ValueError, OSError) as error:
        sys.exit(f"pack_images.py: {error}")
