"""`sit-keras evaluate`: an encoder on labelled images, or a table of the paper."""

from sit_keras.cli.command import Command
from sit_keras.cli.flags import Flags, Options
from sit_keras.cli.run_settings import (
    define_data,
    define_recipe,
    define_value_range,
    read_value_range,
)
from sit_keras.cli.startup import start_tensorflow
from sit_keras.config.choices import DATASETS, FEATURES, PROTOCOLS, QUICK, TABLES
from sit_keras.config.presets import presets, usual_preset
from sit_keras.config.serialization import assignments
from sit_keras.config.shipped import shipped

TABLE_ONLY = ("preset", "recipe", "seeds", "runs_dir", "pretraining")
RUN_ONLY = (
    "run", "protocol", "image_size", "features", "k", "fraction", "per_class", "scratch", "seed",
    "value_range",
)  # fmt: skip


def define(flags: Flags) -> None:
    flags.group("Encoder or table, and images")
    flags.string(
        "run",
        None,
        "A run folder of train, a .keras file of an encoder, a folder of save_to_preset, or one "
        f"of the encoders that come with the package: {', '.join(shipped())}.",
        value="PATH",
    )
    flags.choice("table", None, TABLES, "Fill in this table of the paper instead.")
    flags.items(
        "dataset",
        [],
        f"Labelled images to evaluate on: {', '.join(DATASETS)}. Default: what the run was "
        "pre-trained on. A table takes several.",
        value="NAME",
    )
    define_data(flags)
    flags.string(
        "output",
        None,
        "Folder of the results.",
        value="FOLDER",
        usually="evaluation/DATASET beside the encoder, or tables/TABLE-DATASETS-PRESET",
    )
    flags.group("Evaluation of a run")
    flags.items(
        "protocol",
        QUICK,
        f"Some of {', '.join(PROTOCOLS)}. linear: a head on each token, on features computed once. "
        "augmented: the same on augmented images. knn: nearest neighbours. "
        "diagnostics: collapse, alignment and uniformity of the representations, and a map. "
        "finetune: all weights. fewshot: on 1 to 100 % of the labels, then linear on all of them.",
    )
    flags.integer(
        "image_size", None, "Another input size in pixels; the position embeddings are resized."
    )
    flags.choice(
        "features", "tokens", FEATURES, "What knn and diagnostics look at; patches are averaged."
    )
    flags.items("k", ["1", "5", "20", "200"], "Numbers of neighbours.", value="N,M")
    flags.number(
        "fraction", None, "Learn from this share of the labels of each class only, such as 0.01."
    )
    flags.integer("per_class", None, "Learn from so many labelled images of each class only.")
    flags.switch("scratch", False, "Evaluate the same network with new weights.")
    flags.integer("seed", 0, "Seed of the validation split, the chosen labels and the sampling.")
    define_value_range(flags, usually="that of the run")
    flags.group("Evaluation of a run, and tables")
    flags.repeated(
        "training",
        "A setting of FinetuneConfig that differs, such as epochs=20, layer_decay=0.75, "
        "ema_momentum=0.999 or hidden_dim=1024 (two-layer heads).",
    )
    flags.group("Tables")
    flags.string(
        "preset",
        None,
        f"Network and settings: {', '.join(presets())}.",
        value="NAME",
        usually="that of the same name for the digits, paper for all other images",
    )
    define_recipe(flags)
    flags.items("seeds", ["0"], "Seeds that each cell of the table is computed for.", value="N,M")
    flags.string(
        "runs_dir", "runs", "Where the encoders of the table are or will be.", value="FOLDER"
    )
    flags.repeated("pretraining", "A setting of RunConfig that differs from the preset.")


def run(options: Options) -> None:
    without_effect = [
        name for name in (RUN_ONLY if options.table else TABLE_ONLY) if name in options.given
    ]
    if without_effect:
        what = "a table" if options.table else "the evaluation of a run"
        raise ValueError(f"--{', --'.join(without_effect)} has no effect on {what}: leave it out.")
    if options.table:
        fill_in_table(options)
    else:
        evaluate_run(options)


def fill_in_table(options: Options) -> None:
    """Makes the table that the flags ask for."""
    datasets = options.dataset or ["digits"]
    seeds = whole_numbers("seeds", options.seeds, 0)
    start_tensorflow()
    from sit_keras.workflows.tables import make_table

    make_table(
        table=options.table,
        datasets=datasets,
        preset=options.preset or (usual_preset(*datasets) if len(datasets) == 1 else "paper"),
        seeds=seeds,
        output=options.output,
        runs_dir=options.runs_dir,
        data_dir=options.data_dir,
        download=options.download,
        pretraining=assignments(options.pretraining),
        training=assignments(options.training),
        recipe=options.recipe,
    )


def evaluate_run(options: Options) -> None:
    """Evaluates the encoder that the flags name."""
    if options.run is None:
        raise ValueError("Give --run, a run folder of train or a .keras file, or --table.")
    first = next(iter(options.dataset), None)
    if len(options.dataset) > 1 and first in DATASETS:
        raise ValueError(
            f"A run is evaluated on one data set at a time; received {options.dataset}."
        )
    k = whole_numbers("k", options.k, 1)
    training = assignments(options.training)
    value_range = read_value_range(options)
    start_tensorflow()
    from sit_keras.workflows.evaluate import evaluate

    evaluate(
        run=options.run,
        dataset=",".join(options.dataset) or None,  # a path may have a comma
        protocol=options.protocol,
        output=options.output,
        data_dir=options.data_dir,
        download=options.download,
        image_size=options.image_size,
        features=options.features,
        k=k,
        fraction=options.fraction,
        per_class=options.per_class,
        scratch=options.scratch,
        training=training,
        seed=options.seed,
        value_range=value_range,
    )


def whole_numbers(flag: str, texts: list[str], least: int) -> list[int]:
    """Returns the values of a flag as whole numbers.

    Raises:
        ValueError: if there is none, or one is something else or less than `least`.
    """
    if not texts or not all(text.isdecimal() and int(text) >= least for text in texts):
        raise ValueError(
            f"--{flag} takes whole numbers from {least}, such as 1,5; received {','.join(texts)}."
        )
    return [int(text) for text in texts]


COMMAND = Command(
    sentence="Evaluates an encoder on labelled images, or fills in a table of the paper.",
    define=define,
    run=run,
    examples=(
        ("--run=runs/digits-digits-seed0", "on the data it was pre-trained on"),
        ("--run=runs/cifar100-native32-seed0 --dataset=cifar10", "domain transfer"),
        (
            "--run=runs/digits-digits-seed0 --protocol=finetune --per_class=5",
            "all weights, from 5 labels a class",
        ),
        ("--table=ablation --dataset=stl10 --seeds=0,1,2", "pre-trains what is missing"),
    ),
    after_interrupt="What is finished is kept, and the same command continues.",
)
