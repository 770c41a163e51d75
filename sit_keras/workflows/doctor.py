"""Examines libraries, images and the arithmetic of replicas before a long run."""

import dataclasses
import hashlib
import importlib.util
import os
import pathlib
import shutil
import sys
import typing

import keras
import numpy as np
import tensorflow as tf

from sit_keras.config.files import make_own_folder
from sit_keras.config.settings import RunConfig
from sit_keras.config.shipped import shipped
from sit_keras.data.images import NO_LABEL, ImageSet
from sit_keras.data.pipeline import eval_batches
from sit_keras.models.backbone import SiTBackbone
from sit_keras.models.preprocessing import ImagePreprocessing
from sit_keras.models.seeding import seeded
from sit_keras.models.weighting import run_weighting
from sit_keras.plots.image_grids import reconstruction_sheet
from sit_keras.runs.data import RunData
from sit_keras.runs.folder import versions
from sit_keras.training.pretrainer import SiTPretrainer

# Images that are examined; reading more photos would take long.
MAX_IMAGES = 500
# Images of the two steps that are compared, which a CPU has to take.
MAX_BATCH = 8
# As a share of the largest gradient. float32 leaves 1e-6, a wrong reduction 1e-1.
TOLERANCE = 1e-4


@dataclasses.dataclass(frozen=True)
class Finding:
    """One result of the examination.

    Args:
        topic: str. What was examined.
        text: str. What was found.
        is_problem: bool. Whether it must be mended before a run begins.
    """

    topic: str
    text: str
    is_problem: bool = False


def report(
    config: RunConfig,
    run_dir: str | os.PathLike,
    data_dir: str | os.PathLike | None = None,
    download: bool = False,
) -> None:
    """Prints the findings of `examine`.

    Args:
        config, run_dir, data_dir, download: as there.

    Raises:
        ValueError: if one of the findings is a problem.
    """
    problems = 0
    for finding in examine(config, run_dir, data_dir, download):
        mark = "PROBLEM: " if finding.is_problem else ""
        print(f"{finding.topic:12} {mark}{finding.text}", flush=True)
        problems += finding.is_problem
    if problems:
        plural = "s" * (problems > 1)
        raise ValueError(f"The examination found {problems} problem{plural}, see above.")
    print("No problem found.")


def examine(
    config: RunConfig,
    run_dir: str | os.PathLike,
    data_dir: str | os.PathLike | None,
    download: bool,
) -> typing.Iterator[Finding]:
    """Yields findings about the libraries, the devices and the images of a run.

    It must be called before TensorFlow has started its devices, since it compares two replicas on
    one CPU.

    Args:
        config: RunConfig.
        run_dir: the folder in which `doctor.png`, a sheet of views, is written.
        data_dir, download: as for `sit_keras.data.load_source`.

    Yields:
        Finding.

    Raises:
        ValueError: if TensorFlow has started, so that its CPU cannot be divided any more.
    """
    yield Finding("versions", ", ".join(f"{name} {v}" for name, v in versions().items()))
    yield Finding("encoders", f"{', '.join(shipped())}: trained, and part of the package")
    yield from _libraries()
    devices = _two_logical_cpus()
    yield from _gpus(config)
    data = RunData.load(config, data_dir, download)
    data.refuse_as_output(run_dir)
    yield from _images(data)
    yield from _views(data, pathlib.Path(run_dir))
    yield _replicas(data, devices)


def _libraries():
    """Yields versions and combinations of libraries that are known not to work."""
    if keras.backend.backend() != "tensorflow":
        backend = keras.backend.backend()
        yield Finding("keras", f"runs on {backend}: set KERAS_BACKEND=tensorflow.", True)
    if not (3, 11) <= sys.version_info[:2] <= (3, 13):
        yield Finding("python", "only 3.11 to 3.13 are tested.", True)
    for name, module, least in (("tensorflow", tf, (2, 21)), ("keras", keras, (3, 15))):
        if tuple(int(part) for part in module.__version__.split(".")[:2]) < least:
            wanted = ".".join(map(str, least))
            yield Finding(
                name, f"{module.__version__} is too old: install {wanted} or newer.", True
            )
    needs = {"tensorboard": "keras", "importlib_resources": "tensorflow_datasets"}
    for needed, by in needs.items():
        if importlib.util.find_spec(by) and importlib.util.find_spec(needed) is None:
            yield Finding(needed, f"is missing, and {by} needs it: pip install {needed}", True)
    if os.environ.get("TF_USE_LEGACY_KERAS", "0") not in ("", "0"):
        yield Finding("keras", "TF_USE_LEGACY_KERAS makes tf.keras another Keras: unset it.", True)
    if importlib.util.find_spec("tensorflow_addons") is not None:
        text = "cannot be imported together with Keras 3; nothing here uses it."
        yield Finding("tensorflow-addons", text)


def _two_logical_cpus():
    """Divides the CPU into two logical devices and returns their names."""
    try:
        (cpu,) = tf.config.list_physical_devices("CPU")
        halves = [tf.config.LogicalDeviceConfiguration()] * 2
        tf.config.set_logical_device_configuration(cpu, halves)
    except RuntimeError as error:
        raise ValueError(
            "The doctor must run before TensorFlow has started: run `sit-keras doctor`."
        ) from error
    return [device.name for device in tf.config.list_logical_devices("CPU")]


def _gpus(config):
    """Yields the devices, and what does not suit them."""
    gpus = tf.config.list_physical_devices("GPU")
    names = [tf.config.experimental.get_device_details(gpu).get("device_name") for gpu in gpus]
    yield Finding(
        "devices", f"{', '.join(map(str, names)) or 'no GPU'}; {os.cpu_count()} CPU cores"
    )
    if not gpus and shutil.which("nvidia-smi"):
        text = "TensorFlow does not see the GPU of this machine: pip install 'tensorflow[and-cuda]'"
        yield Finding("devices", text, True)
    if not gpus and config.precision == "mixed_float16":
        yield Finding("precision", "mixed_float16 is slow without a GPU: use float32.", True)


def _images(data):
    """Yields the numbers of images and steps, their pixel statistics, and how many are copies."""
    config, train = data.config, data.train
    labelled = int(np.sum(train.labels != NO_LABEL))
    batch, steps = config.batch_size, data.steps_per_epoch
    yield Finding(
        "images",
        f"{len(train):,} to train on ({labelled:,} labelled, {len(train.class_names)} classes), "
        f"{len(data.held_out):,} held out, {0 if data.test is None else len(data.test):,} to test",
    )
    yield Finding(
        "steps",
        f"{steps:,} of {batch} images an epoch, {steps * config.epochs:,} in {config.epochs} "
        f"epochs; {len(train) - steps * batch:,} images of an epoch are left for the next",
    )
    sample = train.subset(MAX_IMAGES, config.seed)
    pixels = np.concatenate(list(_whole_images(sample, config)))  # (N, S, S, 3)
    mean, deviation = (
        " ".join(f"{value:+.2f}" for value in moment)
        for moment in (pixels.mean((0, 1, 2)), pixels.std((0, 1, 2)))
    )
    yield Finding("pixels", f"normalised channels: mean {mean}, deviation {deviation}")
    blank = int(np.sum(pixels.std(axis=(1, 2)).max(axis=-1) < 0.01))
    if blank:
        yield Finding("pixels", f"{blank} of {len(sample)} examined images have one colour only")
    yield Finding("copies", _copies(pixels, batch))


def _whole_images(images: ImageSet, config):
    """Yields batches of images without a centre crop."""
    whole = dataclasses.asdict(dataclasses.replace(config.preprocessing, crop=1.0))
    preprocessing = ImagePreprocessing(config.model.image_shape, **whole)
    return (batch.numpy() for batch in eval_batches(images, preprocessing))


def _copies(pixels, batch):
    """Says how many images are copies, and how many pairs of them to expect in a batch."""
    hashes = [hashlib.sha1(image.tobytes()).digest() for image in pixels]
    _, counts = np.unique(hashes, return_counts=True)
    pairs, all_pairs = (float(np.sum(n * (n - 1) / 2)) for n in (counts, len(hashes)))
    in_batch = pairs / max(all_pairs, 1) * batch * (batch - 1) / 2
    text = f"{int(np.sum(counts - 1))} of {len(hashes)} examined images are copies of another"
    if pairs:
        text += f": about {in_batch:.2g} pairs a batch, which the contrastive task contrasts"
    return text


def _views(data, run_dir):
    """Plots the views of the first step, and yields whether they are finite."""
    views = _of_each_image(data.views(0))
    bad = [name for name in ("clean", "corrupted") if not np.isfinite(views[name]).all()]
    if bad:
        yield Finding("views", f"{', '.join(bad)} are not finite", True)
    path = make_own_folder(run_dir) / "doctor.png"
    shown = {name: value[:8, 0].numpy() for name, value in views.items()}
    preprocessing = data.config.preprocessing
    reconstruction_sheet(
        **shown, restored=None, predicted_rotation=None, path=path, preprocessing=preprocessing
    )
    yield Finding("views", f"see {path}")


def _of_each_image(views):
    """Leaves out the extra, turned views of some images."""
    return {name: views[name] for name in ("clean", "corrupted", "rotation")}


def _replicas(data, devices):
    """Compares the gradients of a step on one device with those on two."""
    batch = min(data.config.batch_size, MAX_BATCH) // 2 * 2
    if not batch:
        return Finding("replicas", "not compared: a batch of one image cannot be shared")
    views = {name: value[:batch] for name, value in _of_each_image(data.views(0)).items()}
    one = _gradient(data.config, views, tf.distribute.OneDeviceStrategy(devices[0]))
    two = _gradient(data.config, views, tf.distribute.MirroredStrategy(devices))
    difference, largest = float(np.abs(one - two).max()), float(np.abs(one).max())
    if not largest > 0:  # a step whose gradients are not finite changes nothing
        return Finding("replicas", "a step has no finite gradient: examine the loss", True)
    agree = difference <= TOLERANCE * largest
    return Finding(
        "replicas",
        f"a step on 1 device and on 2: gradients {'agree' if agree else 'DIFFER'}, by at most "
        f"{difference:.1e} where the largest is {largest:.1e}",
        is_problem=not agree,
    )


def _gradient(config, views, strategy):
    """Returns the gradients of all weights, read from a step of gradient descent."""
    # Replicas drop different paths, so none are dropped here.
    network = dataclasses.replace(config.model, drop_path_rate=0.0)
    with strategy.scope(), seeded(config.seed):
        model = SiTPretrainer(
            SiTBackbone(**network.backbone_arguments()),
            tasks=config.tasks,
            weighting=run_weighting(config),
            temperature=config.temperature,
            **network.projection_arguments(),
        )
        model.compile(keras.optimizers.SGD(1.0))
    before = [v.numpy() for v in model.trainable_variables]
    dataset = tf.data.Dataset.from_tensors(views)
    model.fit(dataset, shuffle=False, verbose=0)
    after = [v.numpy() for v in model.trainable_variables]
    return np.concatenate([(b - a).ravel() for b, a in zip(before, after, strict=True)])
