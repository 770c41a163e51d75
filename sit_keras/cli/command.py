"""What makes up a command: its sentence, flags, argument, examples, and the function that runs."""

import dataclasses
import typing

from sit_keras.cli.flags import Flags, Options


@dataclasses.dataclass(frozen=True)
class Argument:
    """What a command takes without the name of a flag.

    Args:
        name: str. Of the option that holds it; the usage line shows it in capitals.
        text: str. What it is.
        many: bool. Whether there may be several, in a list.
    """

    name: str
    text: str
    many: bool = False

    def read(self, values: list[str]) -> str | list[str]:
        """Returns the value of the argument.

        Raises:
            ValueError: if there is none, or one too many.
        """
        if not values:
            raise ValueError(f"{self.name.upper()} is missing: {self.text}")
        if len(values) > 1 and not self.many:
            raise ValueError(
                f"Unexpected arguments {values[1:]}: expected one {self.name.upper()}, and flags "
                "as --name=value."
            )
        return values if self.many else values[0]


@dataclasses.dataclass(frozen=True)
class Command:
    """One verb of `sit-keras`.

    Args:
        sentence: str. What it does.
        define: defines its flags.
        run: runs it with the values of its flags.
        examples: pairs of what is typed behind the command and what that does.
        argument: Argument or None.
        first: Argument or None. What comes before that argument.
        after_interrupt: str. What to say after Ctrl-C, if there is something to say.
    """

    sentence: str
    define: typing.Callable[[Flags], None]
    run: typing.Callable[[Options], None]
    examples: tuple[tuple[str, str], ...]
    argument: Argument | None = None
    first: Argument | None = None
    after_interrupt: str = ""

    def flags(self, program: str) -> Flags:
        """Returns the flags of the command with their defaults.

        Args:
            program: str. The command as it is typed.
        """
        flags = Flags(program)
        self.define(flags)
        return flags

    def parse(self, arguments: typing.Sequence[str], program: str = "sit-keras") -> Options:
        """Returns the values of all flags and of the argument.

        Raises:
            ValueError: if the command cannot be called like this.
        """
        options, rest = self.flags(program).parse(arguments)
        if self.first is not None:
            setattr(options, self.first.name, self.first.read(rest[:1]))
            rest = rest[1:]
        if self.argument is not None:
            setattr(options, self.argument.name, self.argument.read(rest))
        elif rest:
            raise ValueError(f"Unexpected arguments {rest}: flags are --name=value.")
        return options
