"""The exact versions that were tried: `python -m docs.pins`, run where the tests passed.

It writes `constraints.txt`: all that the package and its extras need, and what those packages need,
in the versions that are installed here.
"""

import collections.abc
import importlib.metadata
import pathlib
import platform
import tomllib

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from sit_keras.config.files import written_whole

ROOT = pathlib.Path(__file__).resolve().parent.parent
FILE = ROOT / "constraints.txt"
OWN = "sit-keras"
# It asks for older versions of what other extras need, so it has an environment of its own.
APART = "beam"


def wanted() -> list[Requirement]:
    """Returns what `pyproject.toml` asks for, with all extras but that which stands apart."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    extras = project["optional-dependencies"].items()
    lines = [line for name, extra in extras if name != APART for line in extra]
    lines += project["dependencies"]
    return [each for each in map(Requirement, lines) if each.name != OWN]


def pins(requirements: collections.abc.Iterable[Requirement]) -> dict[str, str]:
    """Returns the installed versions of packages, and of all that they need, by name.

    Raises:
        ValueError: if one is not installed, or not in a version that is asked for.
    """
    waiting = [(each, "") for each in requirements]
    versions, seen = {}, set()
    while waiting:
        requirement, extra = waiting.pop()
        if requirement.marker and not requirement.marker.evaluate({"extra": extra}):
            continue
        name = canonicalize_name(requirement.name)
        versions[name] = _installed(requirement)
        for extra in {"", *requirement.extras}:
            if (name, extra) not in seen:
                seen.add((name, extra))
                needed = importlib.metadata.requires(name) or []
                waiting += [(Requirement(line), extra) for line in needed]
    return dict(sorted(versions.items()))


def _installed(requirement: Requirement) -> str:
    try:
        version = Version(importlib.metadata.version(requirement.name))
    except importlib.metadata.PackageNotFoundError:
        raise ValueError(
            f"{requirement.name} is not installed: install all extras before, by pip install -e "
            "'.[dev,torch,jax]'."
        ) from None
    if not requirement.specifier.contains(version, prereleases=True):
        raise ValueError(f"{requirement} is asked for, and {version} is installed: update it.")
    return version.public  # without what a build adds, such as +cpu


def main() -> None:
    """Writes `constraints.txt`."""
    system = f"Python {platform.python_version()}, {platform.system()} {platform.machine()}"
    lines = [
        f"# The versions in which the tests passed ({system}), by `make constraints`.",
        '# pip install -e ".[tune,data,serving]" --constraint constraints.txt',
        *(f"{name}=={version}" for name, version in pins(wanted()).items()),
    ]
    with written_whole(FILE) as aside:
        aside.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
