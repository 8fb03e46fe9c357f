"""PNG charts of a run: ratios to torch, scaling with size, memory. Needs matplotlib."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .libraries import LIBRARIES, REFERENCE
from .report import added, ratios

COLOURS = dict(
    zip(
        LIBRARIES,
        ("#4c8c4a", "#1b5e20", "#d1495b", "#8d2f3f", "#5b7db1", "#c08a2d", "#7a6c9d", "#8c8c8c"),
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


def _bars(figure: Any, names: list[str], values: Mapping[str, Mapping[str, float]]) -> Any:
    """Horizontal bars: a group per name from the top, a bar per library in it."""
    axes = figure.subplots()
    height = 0.8 / len(values)
    for i, (library, found) in enumerate(values.items()):
        where = [j + (i - (len(values) - 1) / 2) * height for j, name in enumerate(names) if name in found]
        axes.barh(where, [found[n] for n in names if n in found], height, label=library, color=COLOURS[library])
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.grid(axis="x", alpha=0.3)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=4, frameon=False)
    return axes


def _figure(rows: int, bars: int) -> Any:
    from matplotlib.figure import Figure

    return Figure(figsize=(9, 1.2 + rows * (0.14 + 0.12 * bars)))


def _ratios(run: Mapping[str, Any]) -> Any:
    values = {name: ratios(run, name) for name in run["libraries"] if name != REFERENCE}
    values = {name: found for name, found in values.items() if found}
    if not values:
        return None
    names = [name for name in run["workloads"] if any(name in found for found in values.values())]
    figure = _figure(len(names), len(values))
    axes = _bars(figure, names, values)
    every = [value for found in values.values() for value in found.values()]
    axes.set_xscale("log", base=2)
    axes.set_xlim(min(0.25, min(every) / 1.2), max(2.0, max(every) * 1.2))
    low, high = (math.log2(limit) for limit in axes.get_xlim())
    ticks = [2.0**power for power in range(math.ceil(low), math.floor(high) + 1)]
    axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.axvline(1, color=COLOURS[REFERENCE], linewidth=1.5)
    axes.set_xlabel(f"time of a step / eager {REFERENCE}'s (left of the line is faster); {run['threads']} threads")
    return figure


def _memory(run: Mapping[str, Any]) -> Any:
    values: dict[str, dict[str, float]] = {}
    for name, entry in run["workloads"].items():
        for library, result in entry["results"].items():
            if "memory" in result and result["memory"]["peak"]:
                values.setdefault(library, {})[name] = max(added(result) / 1e6, 0.1)
    if not values:
        return None
    figure = _figure(len(run["workloads"]), len(values))
    axes = _bars(figure, list(run["workloads"]), values)
    axes.set_xscale("log")
    axes.set_xlabel("peak memory above what the process held after its import, MB")
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
