"""The flags of one command: those of absl, in an object of their own and in groups for the help."""

import dataclasses
import difflib
import os
import types
import typing

from absl import flags

# The words for values that are paths.
_PATHS = ("FILE", "FOLDER", "PATH")


class Options(types.SimpleNamespace):
    """The values of all flags and arguments of one call, by name.

    `given` has the names of the flags that were on the command line.
    """

    given: frozenset[str]


@dataclasses.dataclass(frozen=True)
class Shown:
    """What the help says about one flag.

    Args:
        usage: str. The flag with a word for its value, such as `--epochs=N`.
        text: str. The explanation, with the default.
    """

    usage: str
    text: str


class Flags:
    """Defines and reads the flags of one command.

    They live in a `FlagValues` of this object instead of absl's global one, so that commands that
    share names of flags can be called in one process.

    Args:
        program: str. The command as it is typed, for messages.
    """

    def __init__(self, program: str):
        self.groups: dict[str, list[Shown]] = {}
        self.required: dict[str, Shown] = {}
        self._program = program
        self._group = "Flags"
        self._paths: set[str] = set()
        self._values = flags.FlagValues()
        self._values.set_gnu_getopt()  # flags may come after the arguments

    def group(self, title: str) -> None:
        """Begins a group of flags under a heading of the help."""
        self._group = title

    def string(
        self,
        name: str,
        default: str | None,
        text: str,
        value: str = "TEXT",
        required: bool = False,
        usually: str | None = None,
    ) -> None:
        """Defines a flag of any text; `usually` says what None stands for."""
        flags.DEFINE_string(name, default, text, flag_values=self._values)
        shown = self._show(f"--{name}={value}", text, usually or default)
        if value in _PATHS:
            self._paths.add(name)
        if required:
            self.required[name] = shown

    def integer(
        self,
        name: str,
        default: int | None,
        text: str,
        least: int | None = None,
        usually: str | None = None,
    ) -> None:
        """Defines a flag of a whole number."""
        flags.DEFINE_integer(name, default, text, least, flag_values=self._values)
        self._show(f"--{name}=N", text, usually or default)

    def number(
        self, name: str, default: float | None, text: str, usually: str | None = None
    ) -> None:
        """Defines a flag of a number."""
        flags.DEFINE_float(name, default, text, flag_values=self._values)
        self._show(f"--{name}=X", text, usually or default)

    def switch(self, name: str, default: bool | None, text: str) -> None:
        """Defines a flag that is on or off: `--name` or `--noname`."""
        flags.DEFINE_bool(name, default, text, flag_values=self._values)
        self._show(f"--[no]{name}" if default else f"--{name}", text, "on" if default else None)

    def choice(
        self, name: str, default: str | None, choices: typing.Sequence[str], text: str
    ) -> None:
        """Defines a flag with a list of possible values."""
        flags.DEFINE_enum(name, default, choices, text, flag_values=self._values)
        self._show(f"--{name}={'|'.join(choices)}", text, default)

    def items(
        self, name: str, default: typing.Sequence[str], text: str, value: str = "A,B"
    ) -> None:
        """Defines a flag of values with commas between them."""
        flags.DEFINE_list(name, list(default), text, flag_values=self._values)
        self._show(f"--{name}={value}", text, ",".join(default))

    def repeated(self, name: str, text: str, value: str = "NAME=VALUE") -> None:
        """Defines a flag that may be given several times."""
        flags.DEFINE_multi_string(name, [], text, flag_values=self._values)
        self._show(f"--{name}={value}", f"{text} May be given several times.", None)

    def names(self) -> list[str]:
        """Returns the names of all flags."""
        return list(self._values)

    def parse(self, arguments: typing.Sequence[str]) -> tuple[Options, list[str]]:
        """Returns the values of the flags, and the arguments that are no flags.

        Raises:
            ValueError: for an unknown flag, a value that does not fit, or a flag that is missing.
        """
        try:
            _, *rest = self._values([self._program, *arguments])
        except flags.UnrecognizedFlagError as error:
            raise ValueError(self._unknown(error.flagname)) from None
        except flags.Error as error:
            raise ValueError(f"{error}.".replace("..", ".")) from None
        for name, shown in self.required.items():
            if self._values[name].value is None:
                text = shown.text
                raise ValueError(f"--{name} is missing: {text[0].lower()}{text[1:]}")
        values = self._values.flag_values_dict()
        for name in self._paths & values.keys():  # shells leave the ~ of --name=~/folder as it is
            values[name] = values[name] and os.path.expanduser(values[name])
        given = frozenset(name for name in values if self._values[name].present)
        return Options(**values, given=given), rest

    def _show(self, usage, text, default):
        if default is not None and default != "":
            text = f"{text} Default: {default}."
        shown = Shown(usage, text)
        self.groups.setdefault(self._group, []).append(shown)
        return shown

    def _unknown(self, name):
        names = [*self._values, *(f"no{each}" for each in self._values if self._is_switch(each))]
        near = difflib.get_close_matches(name.replace("-", "_"), names, n=1)
        hint = f"did you mean --{near[0]}?" if near else "it does not exist."
        return f"Unknown flag --{name}: {hint} {self._program} --help lists all flags."

    def _is_switch(self, name):
        return self._values[name].boolean
