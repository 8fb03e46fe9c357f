"""The committed score, table.json: which entry passes every check, and for each other one what fails and how.

    {"torch": "2.13.0", "ops": {"add": {"checks": {"forward": null, ...}, "errors": [12, 12, 9]}, ...}, "modules": ...}

A check is null where it passes, else the first failure. `errors` counts an op's error inputs: all, those that raise
PyTorch's exception type, those whose text PyTorch's pattern finds. `second` counts its variants: those that pass with
second gradients, those that have them.
"""

from __future__ import annotations

import importlib
import json
import multiprocessing
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

PATH = Path(__file__).parent / "table.json"
MODULES = {"ops": "operators", "modules": "modules", "optimizers": "optimizers", "schedulers": "schedulers"}
KINDS = list(MODULES)


def database(kind: str) -> Any:
    return importlib.import_module(f"parity.{MODULES[kind]}")


def entries(kind: str) -> list[str]:
    return list(database(kind).entries())


def replay(kind: str, name: str, limit: int | None) -> tuple[str, dict[str, Any], float]:
    """(name, its record for the table, seconds)."""
    module = database(kind)
    start = time.perf_counter()
    result = module.record(name, limit) if kind == "ops" else {"checks": module.replay(name)}
    return name, result, time.perf_counter() - start


def _job(job: tuple[str, str, int | None]) -> tuple[str, dict[str, Any], float]:
    return replay(*job)


def _start(environment: dict[str, str]) -> None:
    os.environ.update(environment)
    import torch

    torch.set_num_threads(1)


def replay_all(kind: str, names: list[str], limit: int | None, jobs: int) -> Iterator[tuple[str, Any, float]]:
    """Every named entry's record, as they come."""
    work = [(kind, name, limit) for name in names]
    if jobs == 1:
        _start({})
        yield from map(_job, work)
        return
    fresh = multiprocessing.get_context("spawn")
    settings = {name: value for name, value in os.environ.items() if name.startswith("TAPEGRAD_")}
    with fresh.Pool(jobs, _start, (settings,)) as pool:
        yield from pool.imap_unordered(_job, work)


def passes(record: dict[str, Any], only: tuple[str, ...] = ()) -> bool:
    """Whether an entry passes all its checks, or all of the named ones that it has (forward always)."""
    checks = record["checks"]
    wanted = [check for check in checks if not only or check in only]
    return bool(checks) and "missing" not in checks and all(checks[check] is None for check in wanted)


def state(record: dict[str, Any]) -> str:
    """pass, missing or differs."""
    if passes(record):
        return "pass"
    texts = [text for text in record["checks"].values() if text]
    return "missing" if any(text.startswith("missing") for text in texts) else "differs"


def load() -> dict[str, Any]:
    return json.loads(PATH.read_text("utf-8")) if PATH.exists() else {}


def write(found: dict[str, dict[str, Any]]) -> None:
    """Puts the entries found into table.json, and docs/parity.md beside it; entries that are gone leave the table."""
    import torch

    from . import report

    score = load()
    score["torch"] = torch.__version__.partition("+")[0]
    for kind, results in found.items():
        merged = {**score.get(kind, {}), **results}
        score[kind] = {name: merged[name] for name in sorted(entries(kind)) if name in merged}
    replace(PATH, json.dumps(score, indent=1, sort_keys=False) + "\n")
    report.write(score)


def replace(path: Path, text: str) -> None:
    """Writes a file so that either the old or the new one is there."""
    temporary = path.with_suffix(".tmp")
    temporary.write_text(text, "utf-8")
    temporary.replace(path)


def against(kind: str, results: dict[str, Any]) -> list[str]:
    """Lines for what the table says otherwise: regressions, and passes that it does not know of."""
    known = load().get(kind, {})
    lines = []
    for name, record in sorted(results.items()):
        before = known.get(name, {"checks": {}})
        for check, failure in record["checks"].items():
            if failure and before["checks"].get(check, failure) is None:
                lines.append(f"{kind} {name}: {check} passed before: {failure}")
            elif failure is None and before["checks"].get(check, "not in the table") is not None:
                lines.append(f"{kind} {name}: {check} passes; the table says {before['checks'].get(check)}")
    return lines


FORWARD = ("forward", "noncontiguous", "scalars", "extremes", "grad")


def summary(kind: str, results: dict[str, Any]) -> str:
    """The score in one line."""
    records = list(results.values())
    line = f"{kind}: {sum(map(passes, records))} of {len(records)} entries pass every check"
    if kind == "ops":
        both = sum(passes(r, FORWARD) for r in records)
        second, differentiable = (sum(r["second"][i] for r in records) for i in range(2))
        total, typed, said = (sum(r["errors"][i] for r in records) for i in range(3))
        line += f"; {both} pass forward and gradient"
        line += f"; of the {differentiable} variants with second gradients {second} pass"
        line += f"; of {total} error inputs {typed} raise PyTorch's type, {said} with its text"
    else:
        checks = [failure for r in records for failure in r["checks"].values()]
        line += f"; {checks.count(None)} of {len(checks)} checks pass"
    return line
