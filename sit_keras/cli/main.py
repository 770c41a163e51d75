"""The program `sit-keras`: runs a command, and turns what goes wrong into one sentence."""

import contextlib
import difflib
import importlib
import io
import os
import sys
import typing

from absl import logging

from sit_keras._version import VERSION
from sit_keras.cli.command import Command
from sit_keras.cli.help import command_help, overview
from sit_keras.config.extras import MissingPackage

PROGRAM = "sit-keras"
VERBS = (
    "train", "doctor", "evaluate", "tune", "report", "compare", "export", "verify", "client",
    "orient", "outliers", "embed", "search", "duplicates", "convert", "pack", "benchmark-recipes",
)  # fmt: skip
HELP = ("--help", "-h", "-help", "--helpshort", "--helpfull")


def command(verb: str) -> Command:
    """Returns one of the commands.

    Raises:
        ValueError: for an unknown verb.
    """
    if verb not in VERBS:
        near = difflib.get_close_matches(verb, VERBS, n=1)
        hint = f"did you mean {near[0]}?" if near else "it does not exist."
        raise ValueError(f"Unknown command {verb}: {hint} {PROGRAM} --help lists all commands.")
    return importlib.import_module(f"sit_keras.cli.{verb.replace('-', '_')}").COMMAND


def call(verb: str, arguments: typing.Sequence[str], program: str | None = None) -> None:
    """Runs a command in this process. Its exceptions are not caught.

    Args:
        verb: str. One of `VERBS`.
        arguments: what is typed behind it.
        program: str or None. What is typed before the arguments, for the help.

    Raises:
        ValueError: for an unknown verb or flag.
    """
    program = program or f"{PROGRAM} {verb}"
    chosen = command(verb)
    if any(argument in HELP for argument in arguments):
        print(command_help(chosen, program))
        return
    options = chosen.parse(arguments, program)
    logging.set_verbosity(logging.WARNING)  # TensorFlow reports the duration of every save
    chosen.run(options)


def main(arguments: typing.Sequence[str] | None = None) -> None:
    """Runs the program; the installed `sit-keras` and `python -m sit_keras` begin here.

    Args:
        arguments: the command and its flags, or None for those of the command line.
    """
    verb, *rest = (sys.argv[1:] if arguments is None else arguments) or ["--help"]
    is_command = verb in VERBS
    with _explained(f"{PROGRAM} {verb}" if is_command else PROGRAM, verb if is_command else None):
        if verb in HELP:
            print(overview({each: command(each) for each in VERBS}, PROGRAM))
        elif verb == "--version":
            print(f"{PROGRAM} {VERSION}")
        else:
            call(verb, rest)


def script(verb: str) -> None:
    """Runs a command for a file of its name, such as `train.py`, with the command line's flags."""
    with _explained(f"{verb}.py", verb):
        call(verb, sys.argv[1:], f"python {verb}.py")


@contextlib.contextmanager
def _explained(name: str, verb: str | None) -> typing.Iterator[None]:
    """Ends the process with one sentence and exit code 1 where something goes wrong."""
    logging.use_absl_handler()
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # names of files may be no text
    try:
        yield
        sys.stdout.flush()
    except BrokenPipeError:  # nobody reads on, as behind `| head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except KeyboardInterrupt:
        after = f" {command(verb).after_interrupt}" if verb else ""
        sys.exit(f"{name}: Stopped by Ctrl-C.{after}".rstrip())
    except Exception as error:
        if not _is_expected(error):
            raise
        sys.exit(f"{name}: {error}")


def _is_expected(error: Exception) -> bool:
    """Whether an error explains itself, so that a traceback would only hide the sentence."""
    if isinstance(error, (ValueError, OSError, ArithmeticError, MissingPackage)):
        return True
    # Looked up instead of imported: where nobody has imported them, nobody has raised them.
    places = {"guards": "Stopped", "strategy": "WorkerLost"}
    modules = {name: sys.modules.get(f"sit_keras.training.{name}") for name in places}
    return any(
        module is not None and isinstance(error, getattr(module, places[name]))
        for name, module in modules.items()
    )
