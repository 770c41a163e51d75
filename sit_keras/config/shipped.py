"""The trained encoders that come with the package. Standard library only."""

import pathlib

# Each folder in it is one of `save_to_preset`, with a card.
FOLDER = pathlib.Path(__file__).parents[1] / "weights"
CARD = "card.md"


def shipped() -> dict[str, pathlib.Path]:
    """Returns the folders of the encoders that come with the package, by their names."""
    return {path.parent.name: path.parent for path in sorted(FOLDER.glob("*/config.json"))}
