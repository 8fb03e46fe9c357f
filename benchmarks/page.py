"""Writes the tables of a run into docs/benchmarks.md, between its markers."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from .libraries import REFERENCE
from .report import SUMMARIES, added, duration, ratio, ratios, summaries

BEGIN, END = "<!-- figures: begin -->", "<!-- figures: end -->"
MB = 1e6


def markdown(head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """A table; the first column to the left, the others to the right."""
    rule = ["---", *["---:"] * (len(head) - 1)]
    return "\n".join("| " + " | ".join(line) + " |" for line in [list(head), rule, *map(list, lines)])


def circumstances(run: Mapping[str, Any]) -> str:
    """Where, when and with what the run was made."""
    processor = run["machine"]["processor"]
    versions = ", ".join(f"{name} {number}" for name, number in run["versions"].items() if number)
    blas = []
    for library, pools in run["pools"].items():
        found = [f"{pool['internal_api']} {pool.get('architecture') or ''}".strip() for pool in pools]
        if found:
            blas.append(f"{library}: {', '.join(dict.fromkeys(found))}")
    return "\n".join(
        [
            f"- {run['date'][:10]}, {processor['model']} ({processor['vendor']} family {processor['family']}, model "
            f"{processor['number']}, {processor['vectors']}), {processor['usable']} cores, "
            f"{run['machine']['memory'] / 2**30:.0f} GiB, {run['machine']['system']}",
            f"- {run['threads']} threads for every library; backend {run['backend']}",
            f"- Python {run['machine']['python']}, {versions}",
            *([f"- {'; '.join(blas)}"] if blas else []),
        ]
    )


def times(run: Mapping[str, Any]) -> str:
    """Step time and ratio of every workload."""
    libraries = run["libraries"]
    head = ["workload", *(f"{name}{'' if name == REFERENCE else ' (ratio)'}" for name in libraries)]
    lines = []
    for name, entry in run["workloads"].items():
        line = [name]
        for library in libraries:
            result = entry["results"].get(library)
            if result is None or "seconds" not in result:
                line.append("" if result is None else "failed")
                continue
            value = ratio(entry["results"], library)
            shown = duration(result["seconds"])
            line.append(shown if value is None or library == REFERENCE else f"{shown} (**{value:.2f}**)")
        lines.append(line)
    return markdown(head, lines)


def means(run: Mapping[str, Any]) -> str:
    """Geometric mean and largest of each library's ratios, of time and of memory."""
    measured = [library for library in run["libraries"] if library != REFERENCE and ratios(run, library)]
    columns = zip(*(summaries(run, library) for library in measured), strict=True)
    lines = [[title, *texts] for title, texts in zip(SUMMARIES, columns, strict=True)]
    return markdown([f"ratios to eager {REFERENCE}", *measured], lines) if measured else ""


def memory(run: Mapping[str, Any]) -> str:
    """Peak above the import, and absolute peak, in MB."""
    lines = []
    for name, entry in run["workloads"].items():
        line = [name]
        for library in run["libraries"]:
            result = entry["results"].get(library, {})
            line.append(
                f"{added(result) / MB:.0f} ({result['memory']['peak'] / MB:.0f})" if "memory" in result else ""
            )
        lines.append(line)
    return markdown(["peak above the import (absolute), MB", *run["libraries"]], lines)


def fixed_costs(run: Mapping[str, Any]) -> str:
    """Import, installed size, growth."""
    found = run["footprint"]
    if not found:
        return ""
    first, last = found["growth_steps"]
    imports = found["import"]
    lines = [
        [f"`import {name}`", f"{seconds * 1e3:.0f} ms", f"{seconds / imports['numpy']:.2f} x numpy"]
        for name, seconds in imports.items()
    ]
    lines += [
        [f"installed, {name}", f"{size['all'] / MB:.0f} MB", f"{size['own'] / MB:.1f} MB its own"]
        for name, size in found["installed"].items()
    ]
    for name, held in found["growth"].items():
        if "error" not in held:
            grown = (held["late"] - held["early"]) / MB
            title = f"growth from step {first} to {last}, {name}"
            lines.append([title, f"{grown:+.1f} MB", f"{held['late'] / MB:.0f} MB held"])
    return markdown(["what", "", ""], lines)


def growth_of_cost(run: Mapping[str, Any]) -> str:
    """Exponent, slope at the end and linear range of every curve."""
    lines = []
    for name, curve in run["scaling"].items():
        for library, result in curve["results"].items():
            if "seconds" not in result:
                lines.append([name, library, "failed", "", ""])
                continue
            linear = "nowhere" if result["linear"] is None else f"{result['linear'][0]} to {result['linear'][1]}"
            lines.append([name, library, f"{result['exponent']:.2f}", f"{result['last_slope']:.2f}", linear])
    return markdown(["curve", "library", "exponent", "at the end", "linear in"], lines) if lines else ""


def trouble(run: Mapping[str, Any]) -> str:
    """What failed, disagreed or was absent."""
    out = [f"- {library}: {why}." for library, why in run["absent"].items()]
    for name, entry in run["workloads"].items():
        for library, result in entry["results"].items():
            if "error" in result:
                out.append(f"- {name}, {library} failed: `{result['error'].strip().splitlines()[-1]}`")
            elif not result.get("agrees", True):
                out.append(f"- {name}: the first losses of {library} differ from {REFERENCE}'s.")
    return "\n".join(out)


def sections(run: Mapping[str, Any], charts: Mapping[str, str]) -> str:
    """All of it; charts: name -> path to write into the page."""
    parts = [
        ("Circumstances", circumstances(run), None), ("All together", means(run), None),
        ("Time of a step", times(run), "ratios"),
        ("Memory", memory(run), "memory"), ("Import, size, growth", fixed_costs(run), None),
        ("Scaling", growth_of_cost(run), "scaling"), ("Not measured", trouble(run), None),
    ]  # fmt: skip
    out = []
    for title, text, chart in parts:
        if text:
            picture = f"\n\n![{title}]({charts[chart]})" if chart in charts else ""
            out.append(f"### {title}\n\n{text}{picture}")
    return "\n\n".join(out)


def write(run: Mapping[str, Any], source: Path, page: Path) -> None:
    """Puts the figures of the run in the file `source` into the page; charts are those that lie beside the file."""
    text = page.read_text(encoding="utf-8")
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{page} has no {BEGIN} ... {END}")
    charts = {}
    for name in ("ratios", "memory", "scaling"):
        path = source.with_name(f"{source.stem}-{name}.png")
        if path.exists():
            charts[name] = Path(os.path.relpath(path.resolve(), page.resolve().parent)).as_posix()
    page.write_text(f"{before}{BEGIN}\n\n{sections(run, charts)}\n\n{END}{after}", encoding="utf-8")
