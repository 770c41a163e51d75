"""A plan of a run from the images, the machine and the time that there is. Standard library only.

What is chosen by the number of images was tried on 240 photos (docs/own_images.md); the choices for
many images and for a GPU follow the other presets.
"""

import math
import typing

from sit_keras.config.checks import require
from sit_keras.config.presets import auto_config
from sit_keras.config.serialization import changed, typed
from sit_keras.config.settings import RunConfig

MINUTES = 30.0  # that a planned run may take, from its first step to its answer
# Steps that are enough for a few hundred images, and passes that are for many.
ENOUGH_STEPS, ENOUGH_EPOCHS = 4_000, 100
# With fewer steps a network has hardly begun.
FEW_STEPS = 300
# A schedule has at least so many epochs, which are then shorter than a pass over the images.
MIN_EPOCHS = 20
WARMUP_SHARE = 0.1
# Seconds for the comparison at the end, which is not measured, and the share of the time that is
# kept for a machine that becomes slower.
END_SECONDS, RESERVE = 60.0, 0.15
# An epoch should have so many steps, and a validation needs so many images.
STEPS_PER_EPOCH, VALIDATION_IMAGES = 4, 16
FEW_IMAGES, MANY_IMAGES = 2_000, 20_000
# Where images are few a run starts from this encoder, which knows photos of 32 px and larger.
START, START_SIDE = "sit_cifar10_cpu", 32
# What a trained encoder knows is kept by a lower rate, and it needs fewer steps.
START_SHARE = 1 / 4
# Multiples of this many images suit the rotation task of the recipe `modern`.
TURNED = 4
# The settings of a schedule, which a measured step decides.
SCHEDULE = ("epochs", "steps_per_epoch", "warmup_epochs", "sheet_every", "measure_every")

Settings = dict[str, typing.Any]


class Photos(typing.NamedTuple):
    """What a plan knows of the images.

    Args:
        images: int. Those to train on, before some of them are held out.
        labelled: int. Those of them that have a class.
        side: int. The median of their short sides in pixels.
        has_test: bool. Whether there is a split to test on.
        on_gpu: bool. Whether there is a GPU to train with.
    """

    images: int
    labelled: int
    side: int
    has_test: bool
    on_gpu: bool = False


class StepTime(typing.NamedTuple):
    """What was measured of some real steps.

    Args:
        step: float. Seconds of a step.
        between: float. Seconds from the last step of an epoch to the first one of the next.
        start: float. Seconds before the first step, and of what is compiled in it.
        steps: int. How many steps were measured.
        memory: int. Bytes that they took at the most: of the process, or on its GPU.
    """

    step: float
    between: float
    start: float
    steps: int
    memory: int

    def seconds(self, steps: int, epochs: int) -> float:
        """Returns how long a run of so many steps takes, with its start and its end."""
        return self.start + steps * self.step + epochs * self.between + END_SECONDS


def usual_start(photos: Photos, given: Settings) -> str | None:
    """Returns the encoder to start from where none is named, or None for new weights.

    Args:
        photos: Photos.
        given: settings that the user chose. A network of one's own has new weights.
    """
    own = any(name.startswith("model.") and name != "model.image_size" for name in given)
    fits = photos.images < FEW_IMAGES and photos.side >= START_SIDE and not photos.on_gpu
    return START if fits and not own else None


def draft(
    photos: Photos, dataset: str, recipe: str, given: Settings, network: Settings | None = None
) -> RunConfig:
    """Returns everything of a plan but its schedule.

    Args:
        photos: Photos.
        dataset: str.
        recipe: str. One of `sit_keras.config.recipes.RECIPES`.
        given: settings that the user chose, as for `changed`. The rest is planned around them.
        network: fields of `NetworkConfig` that an initial encoder prescribes, or None.

    Raises:
        ValueError: for a single image, or settings that do not fit.
    """
    require(
        photos.images > 1,
        f"{dataset} has {photos.images} image to train on, and the tasks compare images with each "
        "other: give two or more, better some hundreds.",
    )
    given = typed(RunConfig, given)
    _check(given)
    start = auto_config(recipe, dataset)
    planned = _network(photos, network or {}) | _regularization(photos)
    planned |= _input(photos, planned, given)
    planned["holdout"] = _holdout(photos)
    trained = photos.images - held_out(photos, (planned | given)["holdout"])
    if given.get("initial_encoder") is not None:
        planned["learning_rate"] = START_SHARE * start.learning_rate
    turned = given.get("views.turned_every", start.views.turned_every)
    batch = given.get("batch_size", _batch_size(trained, _largest_batch(photos)))
    planned["batch_size"] = batch
    if turned is not None and batch % turned:  # fewer images than can be turned in their turn
        planned["views.turned_every"] = None
    return changed(start, planned | given)


def _check(given):
    """Refuses what a plan cannot reckon with."""
    for name in ("batch_size", "model.image_size", "model.patch_size", "views.turned_every"):
        value = given.get(name)
        require(value is None or value >= 1, f"{name} must be at least 1, received {value}.")
    holdout = given.get("holdout", 0.0)
    require(0 <= holdout < 1, f"holdout must be at least 0 and less than 1, received {holdout}.")


def _network(photos, prescribed) -> Settings:
    """What the size of the images and the machine change of the preset's network."""
    sizes = {"image_size": 64, "patch_size": 16}
    if photos.side < 24:
        sizes |= {"image_size": 16, "patch_size": 4}
    elif photos.side < 48:
        sizes |= {"image_size": 32, "patch_size": 8}
    if photos.on_gpu and photos.side >= 192 and photos.images >= MANY_IMAGES:
        sizes |= {"image_size": 224, "patch_size": 16, "hidden_dim": 384, "num_layers": 12,
                  "mlp_dim": 1536}  # fmt: skip
    elif photos.on_gpu and photos.side >= 48:
        sizes |= {"image_size": 96, "patch_size": 8, "num_layers": 9}
    if prescribed:  # the image may have any size: about as many patches as on a side otherwise
        side = min(8, max(2, sizes["image_size"] // prescribed["patch_size"]))
        sizes |= prescribed | {"image_size": side * prescribed["patch_size"]}
    return {f"model.{name}": value for name, value in sizes.items()}


def _input(photos, planned, given) -> Settings:
    """The size of the image and of its patches, each by the other where one of them is given."""
    size, patch = (f"model.{name}_size" for name in ("image", "patch"))
    if patch in given and size not in given:
        return {size: max(2, round(planned[size] / given[patch])) * given[patch]}
    if size in given and patch not in given:
        fits = [each for each in (16, 8, 4, 2, 1) if given[size] % each == 0]
        least = planned[size] // planned[patch]  # patches on a side
        return {patch: next((each for each in fits if given[size] // each >= least), fits[-1])}
    return {}


def _regularization(photos) -> Settings:
    """Paths are dropped in deep networks alone, and weights decay more where images are few."""
    deep = photos.on_gpu and photos.side >= 48
    few = photos.images < FEW_IMAGES
    return {"model.drop_path_rate": 0.1 if deep else 0.0, "weight_decay": 0.1 if few else 0.05}


def _holdout(photos) -> float:
    """The share to hold out: to answer by where there is no test split, else to validate with."""
    count = photos.labelled or photos.images
    if photos.labelled and not photos.has_test:
        return 0.2 if count < FEW_IMAGES else 0.05
    share = max(0.05, math.ceil(100 * VALIDATION_IMAGES / count) / 100)
    return share if share <= 0.1 else 0.0  # too few images to spare some


def held_out(photos: Photos, share: float) -> int:
    """Returns how many images a share is, of those with a class where there are any."""
    return round(share * (photos.labelled or photos.images))


def _largest_batch(photos) -> int:
    if photos.on_gpu:
        return 256
    return 32 if photos.images < FEW_IMAGES else 64


def _batch_size(trained, largest) -> int:
    """A power of two of which an epoch has several, or as many images as there are."""
    if trained < 2 * TURNED:
        return trained // TURNED * TURNED or max(2, trained)
    wanted = max(2 * TURNED, min(largest, trained // STEPS_PER_EPOCH))
    return 1 << wanted.bit_length() - 1


def schedule(
    config: RunConfig, whole_epoch: int, time: StepTime | None, minutes: float, given: Settings
) -> Settings:
    """Returns the settings of `SCHEDULE`, but for those that are given.

    Args:
        config: RunConfig, a draft.
        whole_epoch: int. Steps in which every image is seen once.
        time: StepTime, or None for as many steps as are enough, whatever they take.
        minutes: float. How long the run may take.
        given: settings that the user chose, as for `changed`.
    """
    given = typed(RunConfig, given)
    share = 1 if config.initial_encoder is None else START_SHARE
    enough = round(share * max(ENOUGH_STEPS, ENOUGH_EPOCHS * whole_epoch))
    steps, epoch = enough, given.get("steps_per_epoch") or whole_epoch
    if time is not None:
        left = 60 * minutes * (1 - RESERVE) - time.start - END_SECONDS
        # Of a long epoch a part will do, and then what lies between two of them counts for little.
        between = time.between / min(epoch, ENOUGH_STEPS // MIN_EPOCHS)
        steps = max(1, min(enough, int(left / (time.step + between))))
    if "epochs" in given:
        epochs = given["epochs"]
    else:
        epochs = max(1, min(steps, max(MIN_EPOCHS, steps // epoch)))
    planned = {
        "epochs": epochs,
        "steps_per_epoch": None,
        "warmup_epochs": max(1, round(WARMUP_SHARE * epochs)),
        "sheet_every": max(1, epochs // 5),
        "measure_every": max(1, epochs // 10),
    }
    if "epochs" not in given and steps // epochs < epoch:
        planned["steps_per_epoch"] = max(1, steps // epochs)
    return {name: value for name, value in planned.items() if name not in given}
