"""What `python -m benchmarks` can measure. Each figure is a module in `benchmarks/of`.

Such a module has a docstring whose first line is the title, and `contenders(quick)`, a list of
`benchmarks.turns.Contender`. It may have `summary(cases)`, which returns lines for below its table.
Of the figures that contenders return, these have a meaning here:

    ms: milliseconds of the work, by which contenders are compared; smaller is better.
    peak_mib: memory above that of the idle process, compared as well.
    gflop: billions of floating point operations that the work needs at least. From it follows the
        share of the matrix rate of the contender's library, which is the first word of its name,
        at the precision that is the second one.
"""

import importlib
import pkgutil
import types

from benchmarks import of


def names() -> list[str]:
    """Returns the names of the figures in their order of the alphabet."""
    return sorted(module.name for module in pkgutil.iter_modules(of.__path__))


def load(name: str) -> types.ModuleType:
    """Imports a figure, which imports no TensorFlow."""
    return importlib.import_module(f"benchmarks.of.{name}")


def summary(name: str, cases: dict[str, list[dict]]) -> list[str]:
    """Returns what a figure's own `summary` says of what `report.compared` returned for it."""
    module = load(name)
    return module.summary(cases) if hasattr(module, "summary") else []


def title(name: str) -> str:
    """Returns the first line of a figure's docstring."""
    return load(name).__doc__.split("\n")[0]
