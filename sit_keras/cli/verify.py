"""`sit-keras verify`: an export against its contract."""

from sit_keras.cli.command import Argument, Command
from sit_keras.cli.flags import Flags, Options
from sit_keras.cli.startup import start_tensorflow


def define(flags: Flags) -> None:
    pass


def run(options: Options) -> None:
    start_tensorflow()
    from sit_keras.serving.export import verify_export

    print(verify_export(options.version))


COMMAND = Command(
    sentence="Compares an export of any format with the contract inside it, in its own runtime.",
    define=define,
    run=run,
    argument=Argument("version", "The folder of a version, such as exports/NAME/1."),
    examples=(("exports/digits-digits-seed0/1", "the first version"),),
)
