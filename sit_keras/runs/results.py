"""The results of a run."""

import pathlib

from sit_keras.runs.files import read_json

# The features that a run compares, and what people read for them.
KINDS = {
    "trained": "this encoder",
    "untrained": "the same network, untrained",
    "pixels": "raw pixels",
}


def finished_results(run_dir: pathlib.Path) -> dict | None:
    """Returns the results of a finished run, or None if the run is not finished.

    Raises:
        ValueError: if there are results that no finished run leaves.
    """
    path = run_dir / "results.json"
    if not path.exists():
        return None
    return read_json(
        path,
        "the results of a finished run",
        needs=("steps", "train_seconds", "losses"),
        mend="Remove that file and give the command again: the run goes on from its last "
        "checkpoint, and nothing else is lost.",
    )
