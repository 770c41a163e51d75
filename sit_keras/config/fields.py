"""Checks of the types of a config's fields, and of the ranges of numbers. Standard library only."""

import dataclasses
import functools
import math
import numbers
import types
import typing

from sit_keras.config.checks import require

# scikit-learn, NumPy and Keras take seeds of 32 bits, and some streams start at the next seed.
MAX_SEED = 2**32 - 2


def normalize_fields(config: typing.Any) -> None:
    """Gives every field of a frozen config dataclass the type that it is annotated with.

    Whole numbers become `float` where a float is wanted, NumPy's numbers become Python's, and lists
    become tuples. Anything else of another type is refused, and so is a number that is not finite.

    Args:
        config: a config dataclass, from within its `__post_init__`.

    Raises:
        ValueError: for a value of another type, in one sentence with the field's name.
    """
    kind: typing.Any = type(config)
    for name, hint in _hints(kind).items():
        object.__setattr__(config, name, _normalized(name, hint, getattr(config, name)))


def check_at_least(config: typing.Any, low: float, *names: str) -> None:
    """Raises ValueError unless each of these fields is at least `low`, or None."""
    for name in names:
        value = getattr(config, name)
        require(value is None or value >= low, f"{name} must be at least {low}, received {value}.")


def check_positive(config: typing.Any, *names: str) -> None:
    """Raises ValueError unless each of these fields is above 0, or None."""
    for name in names:
        value = getattr(config, name)
        require(value is None or value > 0, f"{name} must be positive, received {value}.")


def check_training(config: typing.Any) -> None:
    """Checks what all training has: the schedule, the decay and the seed.

    Args:
        config: RunConfig or FinetuneConfig, of normalized fields.

    Raises:
        ValueError: for a value out of range.
    """
    check_at_least(config, 1, "epochs", "batch_size")
    check_at_least(config, 0, "min_learning_rate", "warmup_epochs", "weight_decay")
    check_positive(config, "learning_rate")
    require(
        config.min_learning_rate <= config.learning_rate,
        f"min_learning_rate ({config.min_learning_rate}) must not exceed learning_rate "
        f"({config.learning_rate}), from which the schedule falls to it: lower it too.",
    )
    require(
        0 <= config.seed <= MAX_SEED,
        f"seed must lie in [0, {MAX_SEED}] (32 bits, without a sign), received {config.seed}.",
    )


@functools.cache
def _hints(cls):
    hints = typing.get_type_hints(cls)
    return {field.name: hints[field.name] for field in dataclasses.fields(cls)}


def _normalized(name, hint, value):
    for option in typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,):
        try:
            return _as(option, value)
        except TypeError:
            continue
        except ValueError:
            raise ValueError(f"{name} must be finite, received {value!r}.") from None
    raise ValueError(f"{name} takes {_spelled(hint)}, received {value!r}.")


def _as(kind, value):
    """The value as this kind; TypeError if it is of another, ValueError if it is not finite."""
    if typing.get_origin(kind) is tuple:
        if not isinstance(value, (list, tuple)):
            raise TypeError
        kinds = typing.get_args(kind)
        kinds = len(value) * kinds[:1] if kinds[1:] == (...,) else kinds
        if len(kinds) != len(value):
            raise TypeError
        return tuple(map(_as, kinds, value))
    if kind is int and isinstance(value, numbers.Integral) and not isinstance(value, bool):
        return int(value)
    if kind is float and isinstance(value, numbers.Real) and not isinstance(value, bool):
        try:
            value = float(value)
        except OverflowError:  # of a whole number with hundreds of digits
            raise ValueError from None
        if not math.isfinite(value):
            raise ValueError
        return value
    if kind in (int, float) or not isinstance(value, kind):
        raise TypeError
    return value


def _spelled(hint):
    """A type for people: `float or None`, `(float, float)`, `a sequence of str`."""
    if isinstance(hint, types.UnionType):
        return " or ".join(map(_spelled, typing.get_args(hint)))
    if typing.get_origin(hint) is tuple:
        kinds = typing.get_args(hint)
        if kinds[1:] == (...,):
            return f"a sequence of {_spelled(kinds[0])}"
        return f"({', '.join(map(_spelled, kinds))})"
    return "None" if hint is type(None) else hint.__name__
