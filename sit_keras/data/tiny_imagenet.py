"""Tiny-ImageNet as a TFDS builder, which TFDS itself lacks."""

import pathlib

import tensorflow_datasets as tfds

from sit_keras.data.reading import read_image

FOLDER = "tiny-imagenet-200"
URL = "http://cs231n.stanford.edu/tiny-imagenet-200.zip"


class TinyImagenet(tfds.core.GeneratorBasedBuilder):
    """Tiny-ImageNet: 200 classes, 64x64, 500 training and 50 validation images a class.

    Reads `tiny-imagenet-200` (the folder, or the zip file) from the manual folder, or downloads it.
    As in the paper, the labelled validation part is the `test` split.
    """

    VERSION = tfds.core.Version("1.0.0")
    MANUAL_DOWNLOAD_INSTRUCTIONS = f"Put {FOLDER} (the folder or the zip file) there, from {URL}."

    def _info(self):
        features = tfds.features.FeaturesDict(
            {
                "image": tfds.features.Image(shape=(64, 64, 3), encoding_format="png"),
                "label": tfds.features.ClassLabel(),
            }
        )
        return tfds.core.DatasetInfo(
            builder=self,
            description=self.__doc__,
            features=features,
            supervised_keys=("image", "label"),
        )

    def _split_generators(self, dl_manager):
        try:
            manual = pathlib.Path(dl_manager.manual_dir)
        except AssertionError:  # none was given
            root = pathlib.Path(dl_manager.download_and_extract(URL)) / FOLDER
        else:
            root = manual / FOLDER
            if not root.is_dir():
                root = pathlib.Path(dl_manager.extract(f"{root}.zip")) / FOLDER
        self.info.features["label"].names = (root / "wnids.txt").read_text().split()
        return {"train": self._train(root), "test": self._validation(root)}

    def _generate_examples(self, root):
        yield from self._train(root)

    def _train(self, root):
        for path in sorted((root / "train").glob("*/images/*.JPEG")):
            # Some of the images are greyscale, which TFDS refuses for three channels.
            yield path.name, {"image": read_image(path), "label": path.parent.parent.name}

    def _validation(self, root):
        for line in (root / "val" / "val_annotations.txt").read_text().splitlines():
            name, label = line.split("\t")[:2]
            yield name, {"image": read_image(root / "val" / "images" / name), "label": label}


def find_manual_dir(data_dir: pathlib.Path) -> pathlib.Path | None:
    """Returns the folder that holds the folder or zip file of Tiny-ImageNet, or None."""
    for folder in (data_dir, data_dir / "downloads" / "manual"):
        if (folder / FOLDER).is_dir() or (folder / f"{FOLDER}.zip").is_file():
            return folder
    return None
