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
    """Returns the results of a finished run, or None if the run is not finished.

    Raises:
        ValueError: if they are there and broken.
    """
    path = run_dir / "results.json"
    if not path.exists():
        return None
    try:
        results = json.loads(path.read_text())
    except ValueError:
        results = None
    if not (isinstance(results, dict) and "steps" in results):
        raise ValueError(
            f"{path} is broken: put back a copy, or remove it to evaluate the run again from its "
            "last checkpoint."
        )
    return results
