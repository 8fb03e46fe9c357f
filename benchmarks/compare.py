"""Two runs beside each other: python -m benchmarks --compare BEFORE.json AFTER.json."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .report import duration, layout
from .statistic import geometric_mean


def changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[dict[str, Any]]:
    """An entry per (workload, library) in both: seconds, their quotient, and whether the quartiles lie apart."""
    out = []
    for name, entry in after["workloads"].items():
        old = before["workloads"].get(name, {"results": {}})["results"]
        for library, result in entry["results"].items():
            past = old.get(library, {})
            if "seconds" not in result or "seconds" not in past:
                continue
            out.append(
                {
                    "workload": name, "library": library, "before": past["seconds"], "after": result["seconds"],
                    "quotient": result["seconds"] / past["seconds"],
                    "apart": result["low"] > past["high"] or result["high"] < past["low"],
                    "peak": (past["memory"]["peak"], result["memory"]["peak"]),
                }
            )  # fmt: skip
    return out


def comparison(before: Mapping[str, Any], after: Mapping[str, Any]) -> str:
    """The table: quotients below 1 are faster; a star where the quartiles of the two runs do not overlap."""
    found = changes(before, after)
    lines = [["workload", "library", "before", "after", "after/before", "peak MB"]]
    for one in found:
        lines.append(
            [
                one["workload"], one["library"], duration(one["before"]), duration(one["after"]),
                f"{one['quotient']:.2f}{'*' if one['apart'] else ' '}",
                " -> ".join(f"{peak / 1e6:.0f}" for peak in one["peak"]),
            ]
        )  # fmt: skip
    out = [f"before: {describe(before)}", f"after:  {describe(after)}"]
    for key in ("threads", "backend"):
        if before[key] != after[key]:
            out.append(f"The runs differ in {key}: {before[key]} and {after[key]}.")
    if before["machine"]["processor"] != after["machine"]["processor"]:
        out.append("The runs are of different processors.")
    if not found:
        return "\n".join([*out, "They have no workload and library in common."])
    out.append(layout(lines))
    for library in dict.fromkeys(one["library"] for one in found):
        every = [one["quotient"] for one in found if one["library"] == library]
        out.append(f"{library}: geometric mean {geometric_mean(every):.3f} over {len(every)} workloads")
    return "\n".join(out)


def describe(run: Mapping[str, Any]) -> str:
    """Date, processor, threads and versions in a line."""
    processor = run["machine"]["processor"]
    versions = ", ".join(f"{name} {number}" for name, number in run["versions"].items() if number)
    return f"{run['date']}, {processor['model']}, {run['threads']} threads; {versions}"
