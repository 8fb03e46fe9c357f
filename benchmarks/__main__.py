"""python -m benchmarks [--only NAMES] [--libs NAMES] [--quick] ...: see docs/benchmarks.md."""

from __future__ import annotations

import argparse
import importlib.util
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:] = [entry for entry in sys.path if Path(entry or ".").resolve() != ROOT]  # it has rooms with others' names

from .libraries import DEFAULT, LIBRARIES  # noqa: E402
from .process import cores  # noqa: E402
from .report import table  # noqa: E402
from .runner import Settings, measure, natural  # noqa: E402
from .workloads import registry  # noqa: E402


def chosen(asked: str | None, known: Sequence[str], what: str) -> list[str]:
    """The names in a comma-separated list; a name ending in * stands for all that begin so."""
    if not asked:
        return list(known)
    out: list[str] = []
    for part in asked.split(","):
        found = [name for name in known if name == part or (part.endswith("*") and name.startswith(part[:-1]))]
        if not found:
            raise SystemExit(f"no {what} is named {part!r}; there are {', '.join(known)}")
        out += [name for name in found if name not in out]
    return out


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks")
    parser.add_argument("--only")
    parser.add_argument("--libs")
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--threads", type=int, default=len(cores()))
    parser.add_argument("--quick", action="store_true")
    args = parser.parse_args()
    workloads = chosen(args.only, [n for n, w in registry().items() if args.only or not args.quick or w.quick], "workload")
    libraries = chosen(args.libs, list(LIBRARIES) if args.libs else list(DEFAULT), "library")
    libraries = [n for n in libraries if all(importlib.util.find_spec(m) for m in (LIBRARIES[n].module, *LIBRARIES[n].needs))]
    quick: dict[str, Any] = {"rounds": 3, "turn": 0.1, "warm": 0.1} if args.quick else {}
    if args.rounds:
        quick["rounds"] = args.rounds
    settings = Settings(args.threads, **quick)
    run: dict[str, Any] = {"libraries": libraries, "workloads": {}}

    def tell(text: str) -> None:
        print(f"\r{text:60}", end="", file=sys.stderr, flush=True)

    for name in workloads:
        able = [library for library in libraries if natural(name, library)]
        run["workloads"][name] = {"results": measure(name, able, settings, tell)}
    print(file=sys.stderr)
    print(table(run))


if __name__ == "__main__":
    main()
