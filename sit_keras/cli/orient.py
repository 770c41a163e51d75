"""`sit-keras orient`: photos that lie on their side."""

from sit_keras.cli.command import Argument, Command
from sit_keras.cli.flags import Flags, Options
from sit_keras.cli.run_settings import define_value_range, read_value_range
from sit_keras.cli.startup import start_tensorflow


def define(flags: Flags) -> None:
    flags.string(
        "model",
        None,
        "An exported version of a run with the rotation task, such as exports/NAME/1.",
        value="VERSION",
        required=True,
    )
    flags.number("confidence", 0.5, "Least probability that counts.")
    flags.string(
        "write",
        None,
        "A new folder for upright copies; the originals stay as they are.",
        value="FOLDER",
    )
    define_value_range(flags)


def run(options: Options) -> None:
    value_range = read_value_range(options)
    start_tensorflow()
    from sit_keras.workflows.orient import orient

    found = orient(
        folder=options.folder,
        model=options.model,
        confidence=options.confidence,
        write=options.write,
        value_range=value_range,
    )
    for each in found:
        print(f"{each['confidence']:7.1%}  turn by {each['turn']:3}  {each['path']}")
    print(f"{len(found)} images do not stand upright.")
    if options.write and found:
        print(f"Upright copies: {options.write}")


COMMAND = Command(
    sentence="Finds photos that lie on their side, with the rotation head of an exported model.",
    define=define,
    run=run,
    argument=Argument("folder", "A folder of images, at any depth."),
    examples=(
        ("my/photos --model=exports/NAME/1", "lists them"),
        ("my/photos --model=exports/NAME/1 --write=upright", "writes upright copies, too"),
    ),
)
