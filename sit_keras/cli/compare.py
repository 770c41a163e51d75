"""`sit-keras compare`: runs side by side."""

from sit_keras.cli.command import Argument, Command
from sit_keras.cli.flags import Flags, Options
from sit_keras.cli.startup import start_tensorflow


def define(flags: Flags) -> None:
    flags.string(
        "output",
        "comparison",
        "Folder of the table (Markdown and CSV) and the chart.",
        value="FOLDER",
    )


def run(options: Options) -> None:
    start_tensorflow()
    from sit_keras.workflows.compare import compare

    compare(runs=options.runs, output=options.output)


COMMAND = Command(
    sentence="Compares runs: the settings in which they differ, their results and their curves.",
    define=define,
    run=run,
    argument=Argument(
        "runs", "Folders of runs, finished or not, or of searches of tune.", many=True
    ),
    examples=(
        ("runs/*", "all runs; other folders are left out"),
        ("tuning/digits-digits-random", "the trials of a search, whose best is marked"),
    ),
)
