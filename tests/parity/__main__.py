"""Replays PyTorch's databases on tapegrad: `python -m parity [KIND] [NAME ...]` in the folder tests/.

KIND is ops, modules, optimizers or schedulers; without one all of them. --write puts what was found into table.json and
docs/parity.md; else the run prints what it found and how it differs from the table.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from typing import Any

from . import report, table


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m parity", description=__doc__.partition("\n")[0])
    parser.add_argument("kind", nargs="?", choices=table.KINDS)
    parser.add_argument("names", nargs="*")
    parser.add_argument("--limit", type=int, help="at most so many samples of each dtype and check (ops)")
    parser.add_argument("--jobs", type=int, default=1, help="processes (default: 1)")
    parser.add_argument("--backend", help="the backend to run on (sets TAPEGRAD_BACKEND)")
    parser.add_argument("--write", action="store_true", help="write table.json and docs/parity.md")
    parser.add_argument("--page", action="store_true", help="only write docs/parity.md from table.json")
    parser.add_argument("--quiet", action="store_true", help="only what fails")
    given = parser.parse_args()
    if given.write and (given.limit or given.backend):
        parser.error("--write needs every sample, on the CPU: no --limit, no --backend")
    return given


def show(kind: str, name: str, verdicts: dict[str, str | None], took: float, quiet: bool) -> None:
    wrong = {check: text for check, text in verdicts.items() if text}
    if not quiet or wrong:
        checks = f"{', '.join(verdicts)}; {took:.1f} s" if kind == "ops" else f"{len(verdicts)} checks; {took:.1f} s"
        print(f"{kind} {name}: {'differs' if wrong else 'pass'} ({checks})")
    for check, text in wrong.items():
        print(f"    {check}: {text}")
    sys.stdout.flush()


def main() -> None:
    given = parse()
    if given.page:
        report.write(table.load())
        return
    if given.backend:
        os.environ["TAPEGRAD_BACKEND"] = given.backend
    start = time.perf_counter()
    found: dict[str, dict[str, Any]] = {}
    for kind in [given.kind] if given.kind else table.KINDS:
        found[kind] = {}
        names = given.names or table.entries(kind)
        for name, result, took in table.replay_all(kind, names, given.limit, given.jobs):
            found[kind][name] = result
            show(kind, name, result["checks"], took, given.quiet)
    for kind, results in found.items():
        print(table.summary(kind, results))
    print(f"{time.perf_counter() - start:.0f} s with {given.jobs} processes")
    if given.write:
        table.write(found)
    elif not given.limit and not given.backend:
        changes = [line for kind, results in found.items() for line in table.against(kind, results)]
        print("\n".join(["against table.json:", *changes] if changes else ["as in table.json"]))


if __name__ == "__main__":
    main()
