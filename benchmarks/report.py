"""Compares what contenders were measured at, as tables and as a chart."""

import importlib.metadata
import os
import pathlib
import platform
import re
import typing

from benchmarks.turns import Row

PACKAGES = "tensorflow", "keras", "numpy", "torch", "jax", "keras-hub", "scikit-learn"


def machine() -> dict[str, typing.Any]:
    """Returns what the figures depend on: the processor and the versions."""
    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            pass
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    listed = ", ".join(f"{name} {version}" for name, version in versions.items())
    words = f"{cores} cores, {_processor()}, Python {platform.python_version()}, {listed}"
    return {"in_words": words, "cores": cores, "versions": versions}


def _processor() -> str:
    try:
        found = re.search(r"model name\s*: (.*)", pathlib.Path("/proc/cpuinfo").read_text())
    except OSError:
        found = None
    return found[1] if found else platform.processor() or platform.machine()


def compared(rows: typing.Sequence[Row], matrix_rate: dict) -> dict[str, list[dict]]:
    """Returns the rows by case, each with its ratio to the first of the case.

    Args:
        rows: of one figure.
        matrix_rate: what this function returned for the figure of that name, or an empty dict.

    Returns:
        A dict from case to dicts: `name`, `figures` (median, smallest, largest), `ratio` of the
        milliseconds to the first contender's, and, where operations were counted, `gflop_per_s`
        and `share` of the library's matrix rate.
    """
    rates = {row["name"]: row["gflop_per_s"] for case in matrix_rate.values() for row in case}
    cases = {}
    for row in rows:
        case = cases.setdefault(row.case, [])
        entry = {"name": row.name, "figures": dict(row.figures)}
        gflop = entry["figures"].pop("gflop", None)
        if "ms" in row.figures:
            ms = row.figures["ms"][0]
            first = case[0]["figures"]["ms"][0] if case else ms
            entry["ratio"] = ms / first
            if gflop:
                entry["gflop_per_s"] = gflop[0] / ms * 1e3
                rate = rates.get(" ".join(row.name.split()[:2]))
                entry["share"] = entry["gflop_per_s"] / rate if rate else None
        case.append(entry)
    return cases


def table(cases: dict[str, list[dict]]) -> str:
    """Returns the rows of a figure as a Markdown table."""
    names = list(
        dict.fromkeys(n for rows in cases.values() for row in rows for n in row["figures"])
    )
    extra = [
        key
        for key in ("ratio", "gflop_per_s", "share")
        if any(row.get(key) is not None for rows in cases.values() for row in rows)
    ]
    heads = {"ratio": "ratio to the first", "gflop_per_s": "GFLOP/s", "share": "of matrix rate"}
    lines = ["| case | who | " + " | ".join([*names, *(heads[key] for key in extra)]) + " |"]
    lines.append("|" + "---|" * (2 + len(names) + len(extra)))
    for case, rows in cases.items():
        for row in rows:
            cells = [_spread(row["figures"].get(name)) for name in names]
            cells += [_cell(key, row.get(key)) for key in extra]
            lines.append(f"| {case} | {row['name']} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _spread(values) -> str:
    if values is None:
        return ""
    median, low, high = (f"{value:.4g}" for value in values)
    return median if low == high else f"{median} ({low} to {high})"


def _cell(key, value) -> str:
    if value is None:
        return ""
    return {"ratio": f"{value:.2f}", "gflop_per_s": f"{value:.0f}"}.get(key, f"{value:.0%}")


def page(
    results: dict,
    title: typing.Callable[[str], str],
    summary: typing.Callable[[str, dict], list[str]],
) -> str:
    """Returns the whole page in Markdown."""
    lines = [
        "# Benchmarks",
        "",
        f"Measured on {results['date']}: {results['machine']['in_words']}. Medians of "
        f"{results['rounds']} rounds in which the contenders of a case took turns, with the "
        "smallest and the largest value. Only the ratios within a case hold on another machine.",
    ]
    for name, cases in results["figures"].items():
        lines += ["", f"## {name}", "", title(name), "", table(cases)]
        lines += ["", *(f"- {line}" for line in summary(name, cases))]
    if results["left_out"]:
        lines += ["", "## Left out", "", *(f"- {line}" for line in results["left_out"])]
    return "\n".join(lines) + "\n"


def chart(
    found: dict[str, dict[str, list[dict]]], path: pathlib.Path, title: typing.Callable[[str], str]
) -> None:
    """Draws the times of each case as bars, relative to the first contender's."""
    from matplotlib.figure import Figure

    panels = {
        name: [(case, row) for case, rows in cases.items() for row in rows if "ratio" in row]
        for name, cases in found.items()
    }
    panels = {name: bars for name, bars in panels.items() if bars}
    if not panels:
        return
    heights = [0.6 + 0.22 * len(bars) for bars in panels.values()]
    figure = Figure(figsize=(9, sum(heights) + 0.4 * len(panels)), layout="constrained")
    axes = figure.subplots(len(panels), squeeze=False, gridspec_kw={"height_ratios": heights})[:, 0]
    for ax, (name, bars) in zip(axes, panels.items(), strict=True):
        ratios = [row["ratio"] for _, row in bars]
        places = range(len(bars))
        colors = ["tab:blue" if row["ratio"] == 1 else "tab:gray" for _, row in bars]
        ax.barh(places, ratios, color=colors)
        ax.set_yticks(places, [f"{case}: {row['name']}" for case, row in bars], fontsize=7)
        ax.invert_yaxis()
        ax.axvline(1, color="black", linewidth=0.6)
        for place, ratio in zip(places, ratios, strict=True):
            ax.text(ratio, place, f" {ratio:.2f}", va="center", fontsize=7)
        ax.set_title(f"{name}: {title(name)}", fontsize=8, loc="left")
    axes[-1].set_xlabel("time relative to the first of each case; shorter is faster")
    figure.savefig(path, dpi=120)
