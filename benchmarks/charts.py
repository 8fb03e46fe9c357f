"""PNG charts of a run: ratios to torch, scaling with size, memory. Needs matplotlib."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .libraries import LIBRARIES, REFERENCE
from .report import ratios

COLOURS = dict(
    zip(
        LIBRARIES,
        ("#4c8c4a", "#1b5e20", "#2a7f62", "#d1495b", "#8d2f3f", "#5b7db1", "#c08a2d", "#7a6c9d", "#8c8c8c"),
        strict=True,
    )
)


def draw(run: Mapping[str, Any], stem: Path) -> list[Path]:
    """Writes STEM-ratios.png, STEM-memory.png and STEM-scaling.png, those that have data; their paths."""
    import matplotlib

    matplotlib.use("Agg")
    out = []
    for name, make in (("ratios", _ratios), ("memory", _memory), ("scaling", _scaling)):
        figure = make(run)
        if figure is not None:
            path = stem.with_name(f"{stem.name}-{name}.png")
            figure.savefig(path, dpi=110, bbox_inches="tight")
            out.append(path)
    return out


def _groups(names: list[str], values: Mapping[str, Mapping[str, Any]]) -> Any:
    """(library, heights on the vertical axis, what is drawn there) for groups from the top, a line per library."""
    step = 0.8 / len(values)
    for i, (library, found) in enumerate(values.items()):
        offset = (i - (len(values) - 1) / 2) * step
        pairs = [(j + offset, found[name]) for j, name in enumerate(names) if name in found]
        yield library, [pair[0] for pair in pairs], [pair[1] for pair in pairs]


def _axes(names: list[str], lines: int) -> tuple[Any, Any]:
    """A figure high enough for the groups, and its axes with their names."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 1.2 + len(names) * (0.14 + 0.12 * lines)))
    axes = figure.subplots()
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.set_xscale("log", base=2)
    axes.grid(axis="x", alpha=0.3)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _finish(axes: Any, label: str, low: float, high: float) -> None:
    axes.set_xlim(low, high)
    powers = range(math.ceil(math.log2(low)), math.floor(math.log2(high)) + 1)
    axes.set_xticks([2.0**power for power in powers], [f"{2.0**power:g}" for power in powers])
    axes.set_xlabel(label)
    axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=4, frameon=False)


def _ratios(run: Mapping[str, Any]) -> Any:
    """Bars from 1, where PyTorch is: to the left faster, to the right slower."""
    values = {name: ratios(run, name) for name in run["libraries"] if name != REFERENCE}
    values = {name: found for name, found in values.items() if found}
    if not values:
        return None
    names = [name for name in run["workloads"] if any(name in found for found in values.values())]
    figure, axes = _axes(names, len(values))
    for library, where, found in _groups(names, values):
        height = 0.8 / len(values)
        axes.barh(where, [v - 1 for v in found], height, left=1.0, label=library, color=COLOURS[library])
    every = [value for found in values.values() for value in found.values()]
    axes.axvline(1, color=COLOURS[REFERENCE], linewidth=1.5)
    label = f"time of a step / eager {REFERENCE}'s (left of the line is faster); threads: {run['threads']}"
    _finish(axes, label, min(0.25, min(every) / 1.2), max(2.0, max(every) * 1.2))
    return figure


def _memory(run: Mapping[str, Any]) -> Any:
    """A line from what a process held after its import to its peak, with a dot there."""
    values: dict[str, dict[str, Any]] = {}
    for library in run["libraries"]:
        for name, entry in run["workloads"].items():
            held = entry["results"].get(library, {}).get("memory", {})
            if held.get("peak"):
                values.setdefault(library, {})[name] = held
    if not values:
        return None
    names = list(run["workloads"])
    figure, axes = _axes(names, len(values))
    for library, where, found in _groups(names, values):
        base, peak = ([one[key] / 1e6 for one in found] for key in ("baseline", "peak"))
        axes.hlines(where, base, peak, color=COLOURS[library], linewidth=2)
        axes.plot(peak, where, "o", markersize=4, color=COLOURS[library], label=library)
    every = [one[key] / 1e6 for found in values.values() for one in found.values() for key in ("baseline", "peak")]
    _finish(axes, "memory of the process, MB: from after the import to the peak", min(every) / 1.2, max(every) * 1.2)
    return figure


def _scaling(run: Mapping[str, Any]) -> Any:
    from matplotlib.figure import Figure

    curves = run["scaling"]
    if not curves:
        return None
    columns = min(3, len(curves))
    rows = -(-len(curves) // columns)
    figure = Figure(figsize=(4.2 * columns, 3.4 * rows), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes in grid[len(curves) :]:
        axes.set_visible(False)
    for axes, curve in zip(grid, curves.values(), strict=False):
        for library, result in curve["results"].items():
            if "seconds" in result:
                milliseconds = [value * 1e3 for value in result["seconds"]]
                label = f"{library}: {result['exponent']:.2f}"
                axes.loglog(curve["sizes"], milliseconds, "o-", markersize=3, label=label, color=COLOURS[library])
        axes.set_xticks(curve["sizes"], [str(size) for size in curve["sizes"]])
        axes.minorticks_off()
        axes.set_title(curve["title"], fontsize=10)
        axes.set_xlabel(curve["over"])
        axes.set_ylabel("ms per step")
        axes.grid(alpha=0.3)
        axes.legend(fontsize=8, frameon=False, title="exponent", title_fontsize=8)
    return figure
