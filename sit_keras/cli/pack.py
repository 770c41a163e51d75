"""`sit-keras pack`: a data set as records, for data larger than memory."""

from sit_keras.cli.command import Argument, Command
from sit_keras.cli.flags import Flags, Options
from sit_keras.cli.run_settings import define_data, define_value_range, read_value_range
from sit_keras.cli.startup import start_tensorflow


def define(flags: Flags) -> None:
    flags.string("output", None, "Folder of the records.", value="FOLDER", required=True)
    define_data(flags)
    flags.switch(
        "strict", False, "Refuse a folder with unreadable images instead of skipping them."
    )
    define_value_range(flags)


def run(options: Options) -> None:
    value_range = read_value_range(options)
    start_tensorflow()
    from sit_keras.workflows.pack import pack

    pack(
        source=options.source,
        output=options.output,
        data_dir=options.data_dir,
        download=options.download,
        strict=options.strict,
        value_range=value_range,
    )
    print(f"Next: --dataset=records:{options.output}")


COMMAND = Command(
    sentence="Packs a data set into a few large files, which are read as fast in any order.",
    define=define,
    run=run,
    argument=Argument("source", "A data set as for --dataset, such as folder:my/photos."),
    examples=(("folder:my/photos --output=my/records", "then --dataset=records:my/records"),),
    after_interrupt="The same command goes on where it was stopped.",
)
