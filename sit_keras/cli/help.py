"""The text of `--help`."""

import shutil
import textwrap
import typing

from sit_keras.cli.command import Command

INDENT = 26  # where explanations begin


def command_help(command: Command, program: str) -> str:
    """Returns what there is to know about a command.

    Args:
        command: Command.
        program: str. The command as it is typed, such as `sit-keras train`.
    """
    flags = command.flags(program)
    arguments = [each for each in (command.first, command.argument) if each is not None]
    usage = [program]
    for argument in arguments:
        usage.append(f"{argument.name.upper()}{' ...' * argument.many}")
    usage += [flag.usage for flag in flags.required.values()]
    usage += ["[--flag=value ...]"] if flags.groups else []
    lines = [f"Usage: {' '.join(usage)}", "", *_wrapped(command.sentence)]
    for argument in arguments:
        lines += ["", *_entry(argument.name.upper(), argument.text)]
    for title, group in flags.groups.items():
        lines += ["", f"{title}:"]
        for flag in group:
            lines += _entry(flag.usage, flag.text)
    lines += ["", "Examples:"]
    for typed, meaning in command.examples:
        lines += [f"  {program} {typed}".rstrip(), f"      {meaning}"]
    return "\n".join(lines)


def overview(commands: typing.Mapping[str, Command], program: str) -> str:
    """Returns the list of all commands.

    Args:
        commands: by their verbs.
        program: str. The program as it is typed.
    """
    lines = [
        f"Usage: {program} COMMAND [--flag=value ...]",
        "",
        "Self-supervised pre-training of Vision Transformers with Keras.",
        "",
        "Commands:",
    ]
    width = max(map(len, commands))
    lines += [f"  {verb:{width}} {command.sentence}" for verb, command in commands.items()]
    lines += ["", f"{program} COMMAND --help explains a command, {program} --version its version."]
    return "\n".join(lines)


def _width():
    return min(100, shutil.get_terminal_size((100, 24)).columns)


def _wrapped(text, indent=0):
    return textwrap.wrap(
        text,
        _width(),
        initial_indent=" " * indent,
        subsequent_indent=" " * indent,
        break_long_words=False,
        break_on_hyphens=False,
    )


def _entry(usage, text):
    """A flag and its explanation: side by side, or one above the other if the flag is long."""
    lines = _wrapped(text, INDENT)
    if len(usage) + 4 > INDENT:
        return [f"  {usage}", *lines]
    return [f"  {usage}".ljust(INDENT) + lines[0].lstrip(), *lines[1:]]
