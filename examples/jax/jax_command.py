"""How the commands in this folder start: flags, help, and errors in one sentence."""

import sys
import typing

from sit_keras.cli.command import Command
from sit_keras.cli.help import command_help
from sit_keras.config.extras import MissingPackage

HELP = ("--help", "-h")


def start(command: Command, file: str, arguments: typing.Sequence[str] | None = None) -> None:
    """Runs a command with the arguments of the command line, or with those that are given.

    Args:
        command: Command.
        file: str. The file's name, for the help and for messages.
        arguments: strings, or None.
    """
    arguments = sys.argv[1:] if arguments is None else arguments
    program = f"python examples/jax/{file}"
    try:
        if any(argument in HELP for argument in arguments):
            print(command_help(command, program))
        else:
            command.run(command.parse(arguments, program))
    except KeyboardInterrupt:
        sys.exit(f"{file}: Stopped by Ctrl-C. {command.after_interrupt}".rstrip())
    except (ValueError, OSError, ArithmeticError, MissingPackage) as error:
        sys.exit(f"{file}: {error}")
