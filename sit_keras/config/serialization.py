"""Config dataclasses as JSON and as text, and what differs. Standard library only."""

import contextlib
import dataclasses
import difflib
import json
import types
import typing


def to_dict(config: typing.Any) -> dict[str, typing.Any]:
    """Returns a config dataclass as plain JSON values (tuples as lists)."""
    return json.loads(json.dumps(dataclasses.asdict(config)))


def from_dict(cls: type, values: dict[str, typing.Any]) -> typing.Any:
    """Returns the config dataclass `cls` that `to_dict` wrote.

    Raises:
        ValueError: for a field that `cls` does not have, or a value that it cannot take.
    """
    if not isinstance(values, dict):
        raise ValueError(f"{cls.__name__} is made of a dict of its fields, received {values!r}.")
    hints = typing.get_type_hints(cls)
    fields = [field.name for field in dataclasses.fields(cls)]
    unknown = sorted(set(values) - set(fields))
    if unknown:
        raise ValueError(f"Unknown {cls.__name__} fields {unknown}: it has {fields}.")
    return cls(**{name: _revive(hints[name], value) for name, value in values.items()})


def _revive(hint: typing.Any, value: typing.Any) -> typing.Any:
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
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
    before, after = flattened(old), flattened(new)
    names = [*before, *(name for name in after if name not in before)]
    return [
        f"{name}: {before.get(name)} -> {after.get(name)}"
        for name in names
        if before.get(name) != after.get(name)
    ]


def flat(config: typing.Any) -> dict[str, typing.Any]:
    """Returns the plain values of a config by the names that `changed` takes."""
    return flattened(to_dict(config))


def flattened(values: dict, prefix: str = "") -> dict[str, typing.Any]:
    """Returns plain values in dicts within each other by names such as `views.crop_area`."""
    result: dict[str, typing.Any] = {}
    for name, value in values.items():
        if isinstance(value, dict):
            result |= flattened(value, f"{prefix}{name}.")
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
        ValueError: for an unknown name, with those that it may stand for; or for a value of another
            type or out of range.
    """
    known = setting_names(type(config))
    hints = typing.get_type_hints(type(config))
    values: dict[str, typing.Any] = {}
    inner: dict[str, dict[str, typing.Any]] = {}
    for name, value in changes.items():
        if name not in known:
            raise ValueError(_unknown(name, type(config).__name__, known))
        field, _, rest = name.partition(".")
        if rest:
            inner.setdefault(field, {})[rest] = value
        else:
            values[field] = _read(name, hints[field], value) if isinstance(value, str) else value
    values |= {field: changed(getattr(config, field), parts) for field, parts in inner.items()}
    return dataclasses.replace(config, **values)


def typed(cls: type, changes: dict[str, typing.Any]) -> dict[str, typing.Any]:
    """Returns the changes that `changed` would make to a `cls`, with texts read as values.

    Args:
        cls: a config dataclass.
        changes: as for `changed`, which refuses those whose names are unknown.

    Raises:
        ValueError: for a value of another type.
    """
    known = setting_names(cls)
    return {
        name: _read(name, _hint(cls, name), value)
        if isinstance(value, str) and name in known
        else value
        for name, value in changes.items()
    }


def _hint(cls, name):
    """The type of a setting, `field.field` within one."""
    field, _, rest = name.partition(".")
    hint = typing.get_type_hints(cls)[field]
    return _hint(hint, rest) if rest else hint


def setting_names(cls: type) -> list[str]:
    """Returns the names that `changed` takes for a config dataclass, `field.field` within one."""
    hints = typing.get_type_hints(cls)
    names = []
    for field in dataclasses.fields(cls):
        kind: typing.Any = hints[field.name]
        if isinstance(kind, type) and dataclasses.is_dataclass(kind):
            names += [f"{field.name}.{name}" for name in setting_names(kind)]
        else:
            names.append(field.name)
    return names


def _unknown(name, config_name, known):
    """Says that a setting is unknown, and which ones may have been meant."""
    message = f"Unknown setting {name!r} of {config_name}"
    group = name.partition(".")[0]
    within = [each for each in known if each.startswith(f"{group}.")]
    if name == group and within:
        return f"{message}: it is a group of settings, {', '.join(within)}."
    near = _nearest(name, within or known) or _nearest(name, known)
    if near:
        return f"{message}: did you mean {' or '.join(near)}?"
    return f"{message}: {group if within else 'it'} has {', '.join(within or known)}."


def _nearest(name, known):
    """The names that end in this one, or at most three that are spelled like it."""
    exact = [each for each in known if _last(each) == _last(name)]
    likeness = {each: _likeness(name, each) for each in known}
    near = sorted((each for each in known if likeness[each] >= 0.75), key=lambda x: -likeness[x])
    return exact or near[:3]


def _likeness(name, other):
    """How alike two names are, from 0 to 1, whole or without the groups that they are in."""
    last, other_last = _last(name), _last(other)
    if len(last) > 2 and last in other_last:
        return 0.9
    return max(
        difflib.SequenceMatcher(None, *pair).ratio() for pair in ((name, other), (last, other_last))
    )


def _last(name):
    return name.rpartition(".")[2]


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
    for kind in options:
        if kind is bool and text in ("True", "False"):
            return text == "True"
        if kind in (int, float):
            with contextlib.suppress(ValueError):
                return kind(text)
    spelled = {type(None): "None", bool: "True or False"}
    wanted = " or ".join(spelled.get(option, option.__name__) for option in options)
    raise ValueError(f"{name} takes {wanted}, received {text!r}.")
