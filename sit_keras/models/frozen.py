"""Which parts of a model are frozen, kept in its config, so that a reloaded model trains the same.

Keras keeps `trainable` in the config of a layer; the models of this package have configs of their
own, in which their layers do not appear.
"""

import typing

import keras

TRAINABLE = "trainable"

Model = typing.TypeVar("Model", bound=keras.Model)


def frozen_parts(model: keras.Model) -> dict[str, dict[str, bool]]:
    """Returns what the config of a model must hold of its frozen layers and weights.

    Args:
        model: keras.Model, built.

    Returns:
        `{"trainable": values}`, where the values are those of `trainable` by the path of a part;
        a part that is not named has the value of the one that it lies in, and the model itself,
        whose path is empty, True. An empty dict if everything is trainable.
    """
    parts = _parts(model)
    values = {path: part.trainable for path, part, outer in parts if part.trainable != outer}
    return {TRAINABLE: values} if values else {}


def without_frozen(config: dict[str, typing.Any]) -> dict[str, typing.Any]:
    """Returns a config without what `frozen_parts` has put into it."""
    return {name: value for name, value in config.items() if name != TRAINABLE}


def freeze_parts(model: Model, config: dict[str, typing.Any]) -> Model:
    """Returns a new model with those parts frozen that its config says were frozen.

    Args:
        model: keras.Model, built, as its constructor leaves it.
        config: with the values of `frozen_parts`, or without.
    """
    values = config.get(TRAINABLE, {})
    for path, part, _ in list(_parts(model)):  # the outer ones first, as they set the inner ones
        if path in values:
            part.trainable = values[path]
    return model


def _parts(part, path="", outer=True):
    """Yields the path of each layer and weight, the part itself, and `trainable` of the outer."""
    yield path, part, outer
    for inner in (*getattr(part, "_trainable_variables", ()), *getattr(part, "_layers", ())):
        yield from _parts(inner, f"{path}/{inner.name}".lstrip("/"), part.trainable)
