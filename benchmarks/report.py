"""The table on the terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from .libraries import REFERENCE
from .statistic import geometric_mean


def duration(seconds: float) -> str:
    """Three digits and a unit: "812 us", "4.05 ms", "1.32 s"."""
    unit, factor = next((pair for pair in (("s", 1.0), ("ms", 1e-3)) if seconds >= pair[1]), ("us", 1e-6))
    number = seconds / factor
    return f"{number:.{0 if number >= 100 else 1 if number >= 10 else 2}f} {unit}"


def ratio(results: Mapping[str, Any], library: str) -> float | None:
    """Median of the library by that of the reference; None where either is missing."""
    ours, theirs = (results.get(name, {}).get("seconds") for name in (library, REFERENCE))
    return ours / theirs if ours and theirs else None


def spread(result: Mapping[str, Any]) -> float:
    """Half the distance of the quartiles, in parts of the median."""
    return (result["high"] - result["low"]) / 2 / result["seconds"]


def added(result: Mapping[str, Any]) -> int:
    """Bytes that the peak lies above what the process held after its import."""
    return max(0, result["memory"]["peak"] - result["memory"]["baseline"])


def ratios(run: Mapping[str, Any], library: str) -> dict[str, float]:
    """{workload: ratio} where both were measured."""
    every = {name: ratio(entry["results"], library) for name, entry in run["workloads"].items()}
    return {name: value for name, value in every.items() if value is not None}


def cell(results: Mapping[str, Any], library: str) -> list[str]:
    """Time with spread, ratio, memory."""
    result = results.get(library)
    if result is None:
        return ["-", "", ""]
    if "seconds" not in result:
        return ["failed", "", ""]
    value = ratio(results, library)
    mark = "" if result.get("agrees", True) else " (!)"
    shown = "" if value is None or library == REFERENCE else f"{value:.2f}{mark}"
    held = result["memory"]
    memory = f"{added(result) / 1e6:.0f}/{held['peak'] / 1e6:.0f}" if held["peak"] else ""
    return [f"{duration(result['seconds'])} +-{spread(result):3.0%}", shown, memory]


def header(libraries: Sequence[str]) -> list[list[str]]:
    """Two lines: the libraries, and what their columns are; memory is the peak above the import / absolute."""
    first, second = ["workload"], [""]
    for library in libraries:
        first += [library, "", ""]
        second += ["step", "" if library == REFERENCE else "ratio", "MB"]
    return [first, second]


def rows(run: Mapping[str, Any]) -> list[list[str]]:
    """A row per workload."""
    return [
        [name, *(text for library in run["libraries"] for text in cell(entry["results"], library))]
        for name, entry in run["workloads"].items()
    ]


def layout(lines: Sequence[Sequence[str]]) -> str:
    """Columns aligned: the first to the left, the others to the right."""
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    out = []
    for line in lines:
        texts = [
            text.ljust(width) if i == 0 else text.rjust(width)
            for i, (text, width) in enumerate(zip(line, widths, strict=True))
        ]
        out.append("  ".join(texts).rstrip())
    return "\n".join(out)


def memory_ratios(run: Mapping[str, Any], library: str) -> dict[str, float]:
    """{workload: peak of the process by the reference's} where both were measured."""
    out = {}
    for name, entry in run["workloads"].items():
        peaks = [entry["results"].get(one, {}).get("memory", {}).get("peak") for one in (library, REFERENCE)]
        if all(peaks):
            out[name] = peaks[0] / peaks[1]
    return out


def summaries(run: Mapping[str, Any], library: str) -> list[str]:
    """[geometric mean, largest, of memory: geometric mean, largest] of the library's ratios; empty texts of none."""
    out = []
    for found in (ratios(run, library), memory_ratios(run, library)):
        most = max(found, key=found.__getitem__, default="")
        there = bool(found) and library != REFERENCE
        out.append(f"{geometric_mean(list(found.values())):.2f} of {len(found)}" if there else "")
        out.append(f"{found[most]:.2f} {most}" if there else "")
    return out


SUMMARIES = ("geometric mean", "largest ratio", "peak memory, geometric mean", "peak memory, largest ratio")


def table(run: Mapping[str, Any]) -> str:
    """All of a run's workloads, what the ratios come to, what failed and what disagreed."""
    libraries = run["libraries"]
    out = [layout(header(libraries) + rows(run))]
    measured = [library for library in libraries if library != REFERENCE and ratios(run, library)]
    if measured:
        columns = zip(*(summaries(run, library) for library in measured), strict=True)
        lines = [[title, *texts] for title, texts in zip(SUMMARIES, columns, strict=True)]
        out.append("\n" + layout([[f"ratios to {REFERENCE}", *measured], *lines]))
    for name, entry in run["workloads"].items():
        for library, result in entry["results"].items():
            if "error" in result:
                out.append(f"\n{name}, {library} failed:\n{result['error'].rstrip()}")
            elif not result.get("agrees", True):
                theirs = entry["results"].get(REFERENCE, {}).get("losses")
                out.append(f"(!) {name}: {library} computes {result['losses']}, {REFERENCE} {theirs}")
    return "\n".join(out)
