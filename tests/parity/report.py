"""docs/parity.md, and compat/parity.json, from the table."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from . import signatures, table
from .compare import TOLERANCE
from .reasons import ANY_OF_EQUALS, DIFFERS, GAUGE, LOOSE, UNINITIALISED

ROOT = Path(__file__).parents[2]
DOCS, COMPAT = ROOT / "docs", ROOT / "compat"
CLASSES = ["identical", "argument names differ", "arguments differ", "result differs", "missing"]
CHECKS = """forward noncontiguous scalars extremes grad gradgrad method inplace out alias errors""".split()


def write(score: dict[str, Any]) -> None:
    """Writes docs/parity.md, and compat/parity.json, which `python -m tapegrad.compat` reads."""
    table.replace(DOCS / "parity.md", page(score))
    table.replace(COMPAT / "parity.json", json.dumps(differing(score), indent=1) + "\n")


def differing(score: dict[str, Any]) -> dict[str, str]:
    """Operator -> how it differs, for those that are there and do."""
    classes = {name: classify(name, record) for name, record in score.get("ops", {}).items()}
    return {name: f"{kind}: {what}" for name, (kind, what) in classes.items() if kind not in ("identical", "missing")}


def classify(name: str, record: dict[str, Any]) -> tuple[str, str]:
    """(one of the five classes, what differs)."""
    wrong = {check: text for check, text in record["checks"].items() if text}
    if table.state(record) == "missing" and str(wrong.get("forward", "missing")).startswith("missing"):
        return "missing", DIFFERS.get(name, "")
    if wrong:
        check, text = next(iter(wrong.items()))
        return "result differs", DIFFERS.get(name, f"{check}: {short(text)}")
    return signatures.difference(name)


def short(text: str) -> str:
    """A failure without its sample, safe in a Markdown table."""
    return text.partition(" [input=")[0].replace("|", "\\|").replace("<", "&lt;")[:160]


def verdict(record: dict[str, Any], check: str) -> str:
    if check not in record["checks"]:
        return ""
    return "no" if record["checks"][check] else "yes"


def page(score: dict[str, Any]) -> str:
    """The whole page."""
    parts = [HEAD.format(torch=score["torch"], tolerances=tolerances())]
    for kind in table.KINDS:
        if kind in score:
            parts.append(f"- {table.summary(kind, score[kind])}.")
    parts += ["", operators(score.get("ops", {}))]
    for kind in table.KINDS[1:]:
        if kind in score:
            parts.append(others(kind, score[kind]))
    return "\n".join(parts) + "\n"


def tolerances() -> str:
    return "; ".join(f"{name} {rtol:g}, {atol:g}" for name, (rtol, atol) in TOLERANCE.items())


HEAD = """# Parity with PyTorch

Written by `make parity`; do not edit. PyTorch {torch} carries databases by which it tests itself: operators, modules
and optimizers, with samples, wrong inputs and options. They are replayed on tapegrad, and what it gives is held against
what PyTorch gives for the same input: values, dtypes, shapes, strides of views, gradients, second gradients, methods,
in-place forms, `out=`, exception types. An entry passes only when every sample of every check passes.

Tolerances (relative, absolute) are those of `torch.testing.assert_close`: {tolerances}. Gradients: ten times these.
A float32 result beyond them counts as equal where its largest error against PyTorch's float64 result is at most four
times that of PyTorch's float32 result.
All other dtypes are compared exactly.
"""


def operators(records: dict[str, Any]) -> str:
    """One row per operator name."""
    counts = dict.fromkeys(CLASSES, 0)
    rows = []
    for name, record in records.items():
        kind, what = classify(name, record)
        counts[kind] += 1
        cells = " | ".join(verdict(record, check) for check in CHECKS)
        rows.append(f"| `{name}` | {kind} | {cells} | {what} |")
    totals = [f"| {kind} | {count} |" for kind, count in counts.items()]
    notes = [f"- `{name}`: tolerances times {factor:g}." for name, factor in sorted(LOOSE.items())]
    return "\n".join(
        [
            "## Operators", "", "| class | operators |", "|---|---|", *totals, "",
            f"Defined up to a sign, phase or order, and compared after that is taken out: {names(GAUGE)}.",
            f"Indices that may name any of several equal elements, and are compared by what they name: "
            f"{names(ANY_OF_EQUALS)}.",
            f"Memory as it was found, of which only dtype and shape are compared: {names(UNINITIALISED)}.", *notes, "",
            f"| operator | class | {' | '.join(CHECKS)} | what differs |", "|---" * (3 + len(CHECKS)) + "|", *rows, "",
        ]
    )  # fmt: skip


def names(these: Any) -> str:
    return ", ".join(f"`{name}`" for name in sorted(these)) or "none"


def others(kind: str, records: dict[str, Any]) -> str:
    """A table of modules, optimizers or schedulers."""
    rows = []
    for name, record in records.items():
        wrong = {check: text for check, text in record["checks"].items() if text}
        what = "; ".join(f"{check}: {short(text)}" for check, text in list(wrong.items())[:3])
        passed = len(record["checks"]) - len(wrong)
        cells = [f"`{name}`", table.state(record), f"{passed} of {len(record['checks'])}", DIFFERS.get(name, what)]
        rows.append(f"| {' | '.join(cells)} |")
    title = f"## {kind.capitalize()}"
    return "\n".join([title, "", "| entry | state | checks passed | what differs |", "|---|---|---|---|", *rows, ""])
