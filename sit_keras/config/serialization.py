"""Config dataclasses as JSON and as text, and what differs. Standard library only."""

import ast
import dataclasses
import json
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


def differences(old: typing.Any, new: typing.Any) -> list[str]:
    """Returns one `field: old -> new` line for each setting in which two configs differ."""
    return differing(to_dict(old), to_dict(new))


def differing(old: dict, new: dict) -> list[str]:
    """Returns one `name: old -> new` line for each plain value in which two dicts differ."""
    before, after = _flat(old), _flat(new)
    names = [*before, *(name for name in after if name not in before)]
    return [
        f"{name}: {before.get(name)} -> {after.get(name)}"
        for name in names
        if before.get(name) != after.get(name)
    ]


def flat(config: typing.Any) -> dict[str, typing.Any]:
    """Returns the plain values of a config by the names that `changed` takes."""
    return _flat(to_dict(config))


def _flat(values, prefix=""):
    result = {}
    for name, value in values.items():
        if isinstance(value, dict):
            result |= _flat(value, f"{prefix}{name}.")
        else:
            result[f"{prefix}{name}"] = value
    return result


def assignments(texts: typing.Sequence[str]) -> dict[str, str]:
    """Returns texts such as `corruption.drop=0.2` as a dict, for `changed`.

    Raises:
        ValueError: for a text without an equals sign.
    """
    wrong = [text for text in texts if "=" not in text]
    if wrong:
        raise ValueError(f"Expected NAME=VALUE, such as epochs=20; received {', '.join(wrong)}.")
    return dict(text.split("=", 1) for text in texts)


def changed(config: typing.Any, changes: dict[str, typing.Any]) -> typing.Any:
    """Returns a config dataclass with some of its settings changed.

    Args:
        config: a config dataclass.
        changes: by the name of a field, or `field.field` within one; values as they are or as
            text, which is read as the field's type (`1,0.5` for a tuple).

    Raises:
        ValueError: for an unknown name, or a value of another type or out of range.
    """
    hints = typing.get_type_hints(type(config))
    names = [field.name for field in dataclasses.fields(config)]
    values, inner = {}, {}
    for name, value in changes.items():
        field, _, rest = name.partition(".")
        if field not in names or dataclasses.is_dataclass(hints[field]) != bool(rest):
            raise ValueError(
                f"Unknown setting {name!r} of {type(config).__name__}: it has {', '.join(names)}."
            )
        if rest:
            inner.setdefault(field, {})[rest] = value
        else:
            values[field] = _read(name, hints[field], value) if isinstance(value, str) else value
    values |= {field: changed(getattr(config, field), parts) for field, parts in inner.items()}
    return dataclasses.replace(config, **values)


def _read(name, hint, text):
    """Text as a value of a field's type."""
    options = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
    if text == "None" and type(None) in options:
        return None
    tuples = [option for option in options if typing.get_origin(option) is tuple]
    options = [option for option in options if option not in tuples]
    if tuples and ("," in text or set(options) <= {type(None)}):
        kind = typing.get_args(tuples[0])[0]
        return tuple(_read(name, kind, part) for part in text.split(","))
    if str in options:
        return text
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError):
        value = text
    if float in options and type(value) is int:
        value = float(value)
    if type(value) not in options:
        wanted = " or ".join("None" if o is type(None) else o.__name__ for o in options)
        raise ValueError(f"{name} takes {wanted}, received {text!r}.")
    return value
