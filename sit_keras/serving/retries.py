"""How a client goes on when a server does not answer: it waits, divides, or stops."""

import random
import time
import typing

from sit_keras.serving.replies import (
    Busy,
    Outputs,
    RequestRefused,
    ServerError,
    Unreachable,
    WrongServer,
)

# The seconds before the second try; each further one doubles them.
_DELAY = 1.0
# A server that wants to be left alone for longer is not waited for.
_LONGEST_WAIT = 300.0
# So many requests in a row without any answer, and the server is not asked again.
_PATIENCE = 3

Ask = typing.Callable[[list[bytes]], Outputs]
Item = typing.TypeVar("Item")


def with_retries(ask: Ask, retries: int, report: typing.Callable[[str], None]) -> Ask:
    """Makes a function ask again where waiting may help.

    Args:
        ask: sends one request.
        retries: int. How many times to ask again.
        report: is given a line before each wait.
    """

    def ask_again(files: list[bytes]) -> Outputs:
        for retry in range(retries):
            try:
                return ask(files)
            except (Busy, Unreachable) as error:
                asked_for = getattr(error, "wait", None) or 0.0
                if asked_for > _LONGEST_WAIT:
                    raise
                # Clients that failed together should not come back together.
                wait = max(asked_for, _DELAY * 2**retry * random.uniform(0.75, 1.25))
                report(f"{error} Trying again in {wait:.1f} s ({retry + 1} of {retries}).")
                time.sleep(wait)
        return ask(files)

    return ask_again


def replies_to(
    batches: typing.Iterable[list[tuple[Item, bytes]]], ask: Ask
) -> typing.Iterator[tuple[list[Item], Outputs | ServerError]]:
    """Asks about batches of files; a failure leaves the answers to the others as they are.

    A batch that the server refuses is divided until the files that it refuses are alone. It ends
    early when the server is gone, is the wrong one, or has failed three batches in a row.

    Yields:
        The items of a request, with its outputs or the reason why it has none.
    """
    in_vain = 0
    for batch in batches:
        in_vain += 1
        for part, reply in _divided(batch, ask):
            if not isinstance(reply, ServerError):
                in_vain = 0
            yield [item for item, _ in part], reply
            if isinstance(reply, (Unreachable, WrongServer)):
                return
        if in_vain == _PATIENCE:
            return


def _divided(batch, ask):
    parts = [batch]
    while parts:
        part = parts.pop()
        try:
            reply = ask([data for _, data in part])
        except ServerError as error:
            reply = error
        half = len(part) // 2
        if isinstance(reply, RequestRefused) and half:
            parts += [part[half:], part[:half]]
        else:
            yield part, reply
