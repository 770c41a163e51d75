"""Which images a run was trained on, so that others are noticed when it goes on."""

import collections
import dataclasses
import os
import pathlib
import typing
import zipfile
import zlib

import numpy as np

from sit_keras.config.files import written_whole
from sit_keras.data.images import NO_LABEL, ImageSet
from sit_keras.runs.data import RunData

RECORD = "images.npz"  # in a run folder
MAX_EXAMPLES = 3


@dataclasses.dataclass(frozen=True)
class ImageRecord:
    """The images of the training split, in the order of their names, and how they are split.

    Args:
        names: of the files, relative to the folder of the data set; of images in memory, made of
            their checksums.
        contents: (N,) int64. A checksum of each image, or the size of its file in bytes.
        are_checksums: bool. Which of the two.
        labels: the name of each image's class, or an empty text.
        held_out: (N,) bool. Which images are held out from training.
        steps_per_epoch: int. Of the run.
    """

    names: tuple[str, ...]
    contents: np.ndarray
    are_checksums: bool
    labels: tuple[str, ...]
    held_out: np.ndarray
    steps_per_epoch: int

    @classmethod
    def of(cls, data: RunData) -> "ImageRecord":
        """Returns the record of the images that are there."""
        train, held_out = data.train, data.held_out
        names = [*names_of(train, data.folder), *names_of(held_out, data.folder)]
        contents = np.concatenate([contents_of(part) for part in (train, held_out)])
        if train.in_memory:  # they have no other name that a change of the split leaves alone
            seen: collections.Counter[str] = collections.Counter()
            names = [f"image {number:08x}" for number in contents]
            for i, name in enumerate(names):
                seen[name] += 1
                names[i] += f" ({seen[name]})" if seen[name] > 1 else ""
        order = sorted(range(len(names)), key=names.__getitem__)
        labels = [_class_name(part, label) for part in (train, held_out) for label in part.labels]
        return cls(
            names=tuple(names[i] for i in order),
            contents=contents[order],
            are_checksums=_has_checksums(train),
            labels=tuple(labels[i] for i in order),
            held_out=(np.arange(len(names)) >= len(train))[order],
            steps_per_epoch=data.steps_per_epoch,
        )

    def write(self, path: pathlib.Path) -> None:
        """Writes the record, whole or not at all."""
        classes = sorted(set(self.labels))
        index = {name: number for number, name in enumerate(classes)}
        with written_whole(path) as aside:
            np.savez_compressed(
                aside,
                names=_packed(self.names),
                contents=self.contents,
                are_checksums=self.are_checksums,
                classes=_packed(classes),
                labels=np.array([index[name] for name in self.labels], np.int32),
                held_out=self.held_out,
                steps_per_epoch=self.steps_per_epoch,
            )

    @classmethod
    def read(cls, path: pathlib.Path) -> "ImageRecord":
        """Returns the record that `write` wrote.

        Raises:
            ValueError: if the file is broken.
        """
        try:
            with np.load(path, allow_pickle=False) as file:
                classes = _unpacked(file["classes"])
                return cls(
                    names=_unpacked(file["names"]),
                    contents=file["contents"],
                    are_checksums=bool(file["are_checksums"]),
                    labels=tuple(classes[number] for number in file["labels"]),
                    held_out=file["held_out"],
                    steps_per_epoch=int(file["steps_per_epoch"]),
                )
        except (
            EOFError,
            KeyError,
            IndexError,
            ValueError,
            zlib.error,
            zipfile.BadZipFile,
        ) as error:
            raise ValueError(
                f"{path}, the record of the images that the run was trained on, cannot be read: "
                "put back a copy, or remove it to go on without knowing whether they are the same."
            ) from error

    def fingerprint(self) -> int:
        """Returns a number that changes with the images, their labels and the split."""
        texts = "\0".join([*self.names, *self.labels])
        crc = zlib.crc32(texts.encode("utf-8", "surrogateescape"))
        return zlib.crc32(self.held_out.tobytes(), zlib.crc32(self.contents.tobytes(), crc))


def names_of(images: ImageSet, root: str | os.PathLike | None = None) -> list[str]:
    """Returns the paths of files, relative to a folder or to the one that they share.

    Args:
        images: ImageSet.
        root: the folder, or None. What lies elsewhere keeps its whole path.

    Returns:
        As many texts; of images in memory, their numbers.
    """
    if images.in_memory:
        return [str(number) for number in range(len(images))]
    paths = images.items.tolist()
    if root is None and paths:
        root = os.path.commonpath([os.path.dirname(path) for path in paths])
    prefix = os.path.join(root or "", "")
    return [path.removeprefix(prefix) for path in paths]


def contents_of(images: ImageSet) -> np.ndarray:
    """Returns a number for the content of each image, (N,) int64: a checksum, or a file's size."""
    if images.checksums is not None:
        return images.checksums.astype(np.int64)
    if images.in_memory:
        checksums = (zlib.crc32(np.ascontiguousarray(pixels).data) for pixels in images.items)
        return np.fromiter(checksums, np.int64, len(images))
    return np.array([os.stat(path).st_size for path in images.items], np.int64)


def settle_images(data: RunData, run_dir: pathlib.Path, on_changed: str, writes: bool) -> RunData:
    """Compares the images with those that a run was trained on so far, and records them.

    Args:
        data: RunData. The images that are there.
        run_dir: pathlib.Path. The folder of the run.
        on_changed: str. `stop` or `go_on`, see `Execution`.
        writes: bool. Whether this process writes the record and prints what was found.

    Returns:
        The data, with the steps of an epoch that the run began with.

    Raises:
        ValueError: if the images are others and `on_changed` is `stop`, or the record is broken.
    """
    path, now = run_dir / RECORD, ImageRecord.of(data)
    begun = (run_dir / "checkpoints").is_dir()
    if not (begun and path.exists()):
        if begun and writes:
            print(
                f"{run_dir} has no record of the images that it was trained on so far, so changes "
                "since then cannot be noticed: the present images are recorded."
            )
        if writes:
            now.write(path)
        return data
    before = ImageRecord.read(path)
    found = "; ".join(changes(before, now))
    data = dataclasses.replace(data, recorded_steps=before.steps_per_epoch)
    if found and on_changed == "stop":
        raise ValueError(
            f"The images of {data.config.dataset} are not those that {run_dir} was trained on so "
            f"far: {found}. Put them back, give another --run_dir, or go on with the images that "
            "are there by --on_changed_images=go_on."
        )
    if found and writes:
        print(
            f"The images have changed since the run was stopped: {found}. It goes on with those "
            f"that are there. Its schedule and its {before.steps_per_epoch} steps an epoch stay; "
            "the images are split anew, so that figures on held-out images may include images that "
            "it was trained on."
        )
        dataclasses.replace(now, steps_per_epoch=before.steps_per_epoch).write(path)
    return data


def changes(before: ImageRecord, now: ImageRecord) -> list[str]:
    """Returns what differs between two records, one phrase a kind, with up to three examples."""
    old, new = ({name: i for i, name in enumerate(record.names)} for record in (before, now))
    comparable = before.are_checksums == now.are_checksums
    both = [(name, old[name], new[name]) for name in old if name in new]
    removed, added = ([n for n in a if n not in b] for a, b in ((old, new), (new, old)))
    moved = (
        _moved(before, now, old, new, removed, added) if now.are_checksums and comparable else []
    )
    relabelled = [name for name, i, j in both if before.labels[i] != now.labels[j]]
    relabelled += [f"{a} -> {b}" for a, b in moved if before.labels[old[a]] != now.labels[new[b]]]
    renamed = [f"{a} -> {b}" for a, b in moved if before.labels[old[a]] == now.labels[new[b]]]
    replaced = [n for n, i, j in both if comparable and before.contents[i] != now.contents[j]]
    sources, targets = ({pair[side] for pair in moved} for side in (0, 1))
    kinds = {
        "added": [name for name in added if name not in targets],
        "removed": [name for name in removed if name not in sources],
        "replaced by another content": replaced,
        "renamed": renamed,
        "given another class": relabelled,
    }
    if not any(kinds.values()):
        # Which images are held out changes with the others; alone, it has another cause.
        kinds["moved between training and held-out images"] = [
            name for name, i, j in both if before.held_out[i] != now.held_out[j]
        ]
    return [_phrase(kind, names) for kind, names in kinds.items() if names]


def _moved(before, now, old, new, removed, added) -> list[tuple[str, str]]:
    """Returns pairs of an old and a new name of the same content."""
    by_content = collections.defaultdict(list)
    for name in reversed(removed):
        by_content[int(before.contents[old[name]])].append(name)
    pairs = []
    for name in added:
        candidates = by_content[int(now.contents[new[name]])]
        if candidates:
            pairs.append((candidates.pop(), name))
    return pairs


def _phrase(kind: str, names: typing.Sequence[str]) -> str:
    examples = ", ".join(names[:MAX_EXAMPLES])
    return f"{len(names)} {kind} ({examples}{', ...' if len(names) > MAX_EXAMPLES else ''})"


def _has_checksums(images: ImageSet) -> bool:
    return images.in_memory or images.checksums is not None


def _class_name(images: ImageSet, label: int) -> str:
    return "" if label == NO_LABEL else images.class_names[label]


def _packed(texts: typing.Iterable[str]) -> np.ndarray:
    """Returns texts as bytes; names of files need not be UTF-8, and contain no zero."""
    return np.frombuffer(
        "".join(f"{text}\0" for text in texts).encode("utf-8", "surrogateescape"), np.uint8
    )


def _unpacked(array: np.ndarray) -> tuple[str, ...]:
    return tuple(array.tobytes().decode("utf-8", "surrogateescape").split("\0")[:-1])
