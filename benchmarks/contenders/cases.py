"""The networks and batches that several figures measure, as settings of a run."""

from sit_keras.config.presets import run_config
from sit_keras.config.settings import RunConfig

_CHANGES = {
    "A32": ("native32", {"num_layers": 12}, 64),
    "B96": ("native96", {}, 32),
    "small": ("native32", {"hidden_dim": 48, "num_layers": 2, "mlp_dim": 192}, 16),
}


def case_names(quick: bool) -> list[str]:
    """Returns the cases to measure."""
    return ["small"] if quick else ["A32", "B96"]


def case(name: str) -> RunConfig:
    """Returns the settings of a case.

    A32 is 12 blocks of 192 on 66 tokens, B96 is 9 blocks of 192 on 146 tokens; `small` is for a
    quick look whether everything runs.
    """
    preset, changes, batch_size = _CHANGES[name]
    return run_config(preset, changes, batch_size=batch_size)
