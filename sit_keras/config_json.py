"""Config dataclasses to JSON and back, and what differs between two. Standard library only."""

import dataclasses
import json
import os
import pathlib
import types
import typing


def to_dict(config: typing.Any) -> dict[str, typing.Any]:
    """Returns a config dataclass as plain JSON values (tuples as lists)."""
    return json.loads(json.dumps(dataclasses.asdict(config)))


def from_dict(cls: type, values: dict[str, typing.Any]) -> typing.Any:
    """Returns the config dataclass `cls` that `to_dict` wrote.

    Raises:
        ValueError: for a field that `cls` does not have.
    """
    hints = typing.get_type_hints(cls)
    fields = [field.name for field in dataclasses.fields(cls)]
    unknown = sorted(set(values) - set(fields))
    if unknown:
        raise ValueError(f"Unknown {cls.__name__} fields {unknown}: it has {fields}.")
    return cls(**{name: _revive(hints[name], value) for name, value in values.items()})


def _revive(hint: typing.Any, value: typing.Any) -> typing.Any:
    if dataclasses.is_dataclass(hint):
        return from_dict(hint, value)
    is_union = typing.get_origin(hint) in (typing.Union, types.UnionType)
    if isinstance(value, list) and (is_union or typing.get_origin(hint) is tuple):
        return tuple(value)
    return value


def save_json(config: typing.Any, path: str | pathlib.Path, **extra) -> None:
    """Writes a config, and `extra` values beside it."""
    write_json(path, {**to_dict(config), **extra})


def write_json(path: str | pathlib.Path, values: typing.Any) -> None:
    """Writes plain values as indented JSON, whole or not at all."""
    write_text(path, json.dumps(values, indent=2) + "\n")


def write_text(path: str | pathlib.Path, text: str) -> None:
    """Writes a text file, whole or not at all."""
    aside = pathlib.Path(path).with_name(".writing")
    aside.write_text(text)
    os.replace(aside, path)


def load_json(cls: type, path: str | pathlib.Path, extra: typing.Sequence[str] = ()) -> typing.Any:
    """Returns the config dataclass `cls` from a file of `save_json`, without its `extra` values."""
    values = json.loads(pathlib.Path(path).read_text())
    return from_dict(cls, {name: value for name, value in values.items() if name not in extra})


def differences(old: typing.Any, new: typing.Any) -> list[str]:
    """Returns one `field: old -> new` line for each setting in which two configs differ."""

    def flat(values, prefix=""):
        for name, value in values.items():
            if isinstance(value, dict):
                yield from flat(value, f"{prefix}{name}.")
            else:
                yield f"{prefix}{name}", value

    before, after = dict(flat(to_dict(old))), dict(flat(to_dict(new)))
    return [f"{k}: {before[k]} -> {after[k]}" for k in before if before[k] != after.get(k)]
