"""The networks and batches that several figures measure, as settings of a run."""

from sit_keras.config.presets import run_config
from sit_keras.config.settings import RunConfig

# Of each case: a preset, what of its network differs, and the batch.
_CASES = {
    "A32": ("native32", {"num_layers": 12}, 64),
    "B96": ("native96", {}, 32),
    "digits": ("digits", {}, 64),
}


def case_names(quick: bool) -> list[str]:
    """Returns the cases to measure."""
    return ["digits"] if quick else list(_CASES)


def case(name: str) -> RunConfig:
    """Returns the settings of a case.

    A32 is 12 blocks of width 192 on 66 tokens, B96 is 9 blocks of width 192 on 146 tokens, and
    `digits` 3 blocks of width 64 on 18 tokens, where the time between the operations counts.
    """
    preset, changes, batch_size = _CASES[name]
    return run_config(preset, changes, batch_size=batch_size, holdout=0.0)
