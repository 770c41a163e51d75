"""`sit-keras embed`: the embeddings of images, in a file."""

from sit_keras.cli.command import Argument, Command
from sit_keras.cli.flags import Flags, Options
from sit_keras.cli.run_settings import define_data, define_value_range, read_value_range
from sit_keras.cli.startup import start_tensorflow
from sit_keras.config.choices import DATASETS, FEATURES
from sit_keras.config.shipped import shipped


def define(flags: Flags) -> None:
    flags.string(
        "encoder",
        None,
        "A run folder of train, a .keras file of an encoder, a folder of save_to_preset, or one "
        f"of the encoders that come with the package: {', '.join(shipped())}.",
        value="PATH",
        required=True,
    )
    flags.string(
        "output",
        None,
        "The index: a file that ends in .npz, .csv or .parquet, or a folder, which ends in /, for "
        "Parquet files of 1,024 images each. If it exists, only images that are new in it are "
        "computed.",
        value="PATH",
        required=True,
    )
    flags.choice("features", "tokens", FEATURES, "What the embedding is; patches are averaged.")
    define_data(flags)
    define_value_range(flags)


def run(options: Options) -> None:
    value_range = read_value_range(options)
    start_tensorflow()
    from sit_keras.workflows.embed import embed

    embed(
        source=options.source,
        encoder=options.encoder,
        output=options.output,
        features=options.features,
        data_dir=options.data_dir,
        download=options.download,
        value_range=value_range,
    )


COMMAND = Command(
    sentence="Computes the embeddings of images with an encoder, for search and duplicates.",
    define=define,
    run=run,
    argument=Argument(
        "source",
        "A folder of images, at any depth, or a data set, of which both splits are taken: "
        f"{', '.join(DATASETS)}.",
    ),
    examples=(
        ("my/photos --encoder=runs/photos --output=photos.npz", "one row for each file"),
        ("digits --encoder=sit_digits --output=digits.parquet", "a data set, for other programs"),
        ("my/archive --encoder=runs/photos --output=archive/", "Parquet files of a large archive"),
    ),
    after_interrupt="What is finished is kept, and the same command continues.",
)
