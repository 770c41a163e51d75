"""`sit-keras outliers`: images unlike those that a model was trained on."""

from sit_keras.cli.command import Argument, Command
from sit_keras.cli.flags import Flags, Options
from sit_keras.cli.run_settings import define_value_range, read_value_range
from sit_keras.cli.startup import start_tensorflow


def define(flags: Flags) -> None:
    flags.string(
        "model",
        None,
        "An exported version of a run with the reconstruction task, such as exports/NAME/1.",
        value="VERSION",
        required=True,
    )
    flags.string(
        "sheet", None, "A PNG file of the 12 worst beside their reconstructions.", value="FILE"
    )
    define_value_range(flags)


def run(options: Options) -> None:
    value_range = read_value_range(options)
    start_tensorflow()
    from sit_keras.workflows.outliers import outliers

    ranking = outliers(
        folder=options.folder, model=options.model, sheet=options.sheet, value_range=value_range
    )
    for each in ranking:
        print(f"{each['error']:.4f}  {each['path']}")
    if options.sheet:
        print(f"Sheet: {options.sheet}")


COMMAND = Command(
    sentence="Ranks images by how badly an exported model reconstructs them.",
    define=define,
    run=run,
    argument=Argument("folder", "A folder of images, at any depth."),
    examples=(
        ("my/photos --model=exports/NAME/1", "all of them, the largest error first"),
        ("my/photos --model=exports/NAME/1 --sheet=outliers.png", "with a picture of the worst"),
    ),
)
