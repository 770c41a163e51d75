"""The flags that `train` and `doctor` share: the settings of a run, and where its images are."""

import dataclasses
import typing

from sit_keras.cli.flags import Flags, Options
from sit_keras.config.checks import TASKS
from sit_keras.config.choices import DATASETS
from sit_keras.config.presets import AUTO, auto_config, presets, run_config, train_preset
from sit_keras.config.recipes import RECIPES
from sit_keras.config.serialization import assignments, changed
from sit_keras.config.settings import RunConfig
from sit_keras.config.shipped import shipped

# Flags that change a setting of the preset; without a value they leave it.
NETWORK = ("image_size", "patch_size", "channels")
PREPROCESSING = ("fit",)
SETTINGS = (
    "epochs", "batch_size", "steps_per_epoch", "learning_rate", "min_learning_rate",
    "warmup_epochs", "weight_decay", "clip_norm", "tasks", "weighting", "task_weights",
    "temperature", "negatives", "precision", "holdout", "sheet_every", "measure_every", "strict",
    "value_range", "seed",
)  # fmt: skip


def define_data(flags: Flags) -> None:
    """Defines where data sets are found."""
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


def define_value_range(flags: Flags, usually: str | None = None) -> None:
    """Defines which values of image files become black and white."""
    flags.string(
        "value_range",
        None,
        "Values of files of more than 8 bits that become black and white, such as 0,4095 for 12 "
        "bits. Files that need it say so.",
        value="LOW,HIGH",
        usually=usually,
    )


def read_value_range(options: Options) -> tuple[float, float] | None:
    """Returns the values that become black and white, or None where the flag is not given.

    Raises:
        ValueError: for anything but two numbers, the lower one first.
    """
    if options.value_range is None:
        return None
    return changed(RunConfig(), {"value_range": options.value_range}).value_range


def define_recipe(flags: Flags) -> None:
    """Defines which recipe changes the preset."""
    flags.choice(
        "recipe",
        "paper",
        tuple(RECIPES),
        "The method, whatever the network: paper is that of SiT, and modern changes its views, "
        "corruption and losses where measurements support it. Flags override the recipe, and the "
        "recipe overrides the preset. The preset auto takes modern without this flag.",
    )


def define_settings(flags: Flags) -> None:
    """Defines what is trained on, and every setting that has a flag of its own."""
    flags.group("Images and network")
    flags.string(
        "dataset",
        "digits",
        f"What to train on: {', '.join(DATASETS)}. A folder holds your own images; its sub-folders "
        "are classes, if there are any. A list is a text file of paths.",
        value="NAME",
    )
    flags.string(
        "preset",
        None,
        f"The network and the settings to start from: {', '.join(presets())}; or {AUTO}, which "
        "plans all of them from the images and a measured step, and prints them as flags.",
        value="NAME",
        usually="that of the same name for the digits, auto for folders and records, paper for all "
        "other images",
    )
    define_recipe(flags)
    flags.string(
        "run_dir",
        None,
        "Folder of the run. An unfinished run in it is continued.",
        value="FOLDER",
        usually="runs/DATASET-PRESET-seedSEED, with the recipe if it is not paper, and the tasks "
        "if they are fewer or their weights fixed",
    )
    define_data(flags)
    flags.group("Settings that differ from the preset (the defaults shown are those of paper)")
    usual: dict[str, typing.Any] = {
        field.name: field.default for field in dataclasses.fields(RunConfig)
    }
    others = dataclasses.asdict(usual["model"]) | dataclasses.asdict(usual["preprocessing"])

    def default(name):
        value = others[name] if name in NETWORK + PREPROCESSING else usual[name]
        return None if value is None else str(value)

    def integer(name, text):
        flags.integer(name, None, text, usually=default(name))

    def number(name, text):
        flags.number(name, None, text, usually=default(name))

    def string(name, text, value="NAME", usually=None):
        flags.string(name, None, text, value, usually=usually or default(name))

    integer("epochs", "Passes over the images.")
    integer("batch_size", "Images per step over all replicas; each gives two views.")
    integer(
        "steps_per_epoch", "Cap on the steps of an epoch, which otherwise visits every image once."
    )
    number("learning_rate", "Peak rate for batches of 512; rate_scaling gives that of others.")
    number("min_learning_rate", "Where the cosine ends.")
    integer("warmup_epochs", "Epochs of linear warm-up.")
    number("weight_decay", "Decoupled weight decay of AdamW.")
    number("clip_norm", "Clip the global norm of the gradients at this value; off without one.")
    string("tasks", "Pretext tasks, separated by commas.", "A,B", ",".join(TASKS))
    string("weighting", "Weights of the tasks: uncertainty (learned) or fixed.")
    string("task_weights", "One fixed weight per task, in the order of the tasks.", "X,Y", "1 each")
    number("temperature", "Temperature of the contrastive loss.")
    string("negatives", "Other images of the contrastive task: global (all replicas) or local.")
    string("precision", "float32, mixed_bfloat16 or mixed_float16.")
    integer("image_size", "Side of the network's input in pixels.")
    integer("patch_size", "Side of a patch in pixels; it divides image_size.")
    integer(
        "channels",
        "Channels of the images: 1 for grey ones, 5 for five bands. Where they are not 3, mean and "
        "deviation are measured, unless --set=preprocessing.mean and std give them.",
    )
    string(
        "fit",
        "How images that are not square become the input wherever no random crop is taken: crop "
        "(the centre) or pad (the whole image, with bars of the mean colour).",
    )
    number("holdout", "Share of the training images kept for validation.")
    integer("sheet_every", "Epochs between two sheets of reconstructions.")
    integer("measure_every", "Epochs between two measurements of neighbours and gradient shares.")
    flags.switch(
        "strict", None, "Refuse a folder or a list with unreadable images instead of skipping them."
    )
    define_value_range(flags)
    integer("seed", "Seed of everything random.")
    flags.repeated(
        "set",
        "Any other setting, such as corruption.drop=0.2, views.flip_probability=0 or "
        f"initial_encoder=ENCODER, a run folder or one of {', '.join(shipped())}; see RunConfig.",
    )


def resolve(options: Options) -> RunConfig:
    """Returns the settings of the run that the flags ask for; of a plan, what it starts from.

    Raises:
        ValueError: for an unknown setting, or one out of range.
    """
    preset = options.preset or train_preset(options.dataset)
    if preset == AUTO:
        start = auto_config(options.recipe, options.dataset)
    else:
        start = run_config(preset, recipe=options.recipe, dataset=options.dataset)
    return changed(start, given_settings(options))


def given_settings(options: Options) -> dict[str, typing.Any]:
    """Returns the settings that flags name, for `changed`.

    Raises:
        ValueError: as `read_set`.
    """
    given = {name: getattr(options, name) for name in SETTINGS}
    given |= {f"model.{name}": getattr(options, name) for name in NETWORK}
    given |= {f"preprocessing.{name}": getattr(options, name) for name in PREPROCESSING}
    given = {name: value for name, value in given.items() if value is not None}
    return given | read_set(options)


def read_set(options: Options) -> dict[str, str]:
    """Returns the settings of `--set`, for `changed`.

    Raises:
        ValueError: for what is no assignment, or the name of a preset or a recipe, which would be
            recorded and change no setting.
    """
    given = assignments(options.set)
    for name in ("preset", "recipe"):
        if name in given:
            raise ValueError(
                f"--set={name}={given[name]} would change the name of the settings and not the "
                f"settings: use --{name}={given[name]}."
            )
    return given


def run_folder(options: Options, config: RunConfig) -> str:
    """Returns the folder of the run: the one that the flags name, or the usual one."""
    from sit_keras.runs.folder import run_name

    return options.run_dir or f"runs/{run_name(config)}"
