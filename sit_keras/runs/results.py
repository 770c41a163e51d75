"""The results of a run."""

import json
import pathlib

# The features that a run compares, and what people read for them.
KINDS = {
    "trained": "this encoder",
    "untrained": "the same network, untrained",
    "pixels": "raw pixels",
}


def finished_results(run_dir: pathlib.Path) -> dict | None:
    """Returns the results of a finished run, or None if the run is not finished."""
    path = run_dir / "results.json"
    return json.loads(path.read_text()) if path.exists() else None
