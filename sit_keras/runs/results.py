"""The results of a run."""

import json
import pathlib


def finished_results(run_dir: pathlib.Path) -> dict | None:
    """Returns the results of a finished run, None of any other."""
    path = run_dir / "results.json"
    return json.loads(path.read_text()) if path.exists() else None


"""runs.results"""


# What is judged, and how it is called.
KINDS = {
    "trained": "this encoder",
    "untrained": "the same network, untrained",
    "pixels": "raw pixels",
}
