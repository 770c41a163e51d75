"""Named recipes: what of a run differs from the paper's method, whatever its network."""

import typing

# By the names that `sit_keras.config.serialization.changed` takes.
RECIPES: dict[str, dict[str, typing.Any]] = {
    "paper": {},
    "modern": {
        "model.stem": "conv",
        "temperature": 0.2,
        "weighting": "fixed",
        "views.jitter_probability": 0.8,
        "views.hue": 0.1,
        "views.greyscale_probability": 0.2,
        "views.turned_every": 4,
        "corruption.grey": False,
        "corruption.blur": False,
        "corruption.drop": 0.15,
        "corruption.replace": 0.15,
    },
}
