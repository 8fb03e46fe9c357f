"""python -m benchmarks, from the repository's root: measures, compares, draws. docs/benchmarks.md describes it."""

from __future__ import annotations

import argparse
import dataclasses
import datetime
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:] = [entry for entry in sys.path if Path(entry or ".").resolve() != ROOT]  # its rooms have others' names

from .compare import comparison  # noqa: E402
from .footprint import footprint  # noqa: E402
from .libraries import DEFAULT, LIBRARIES, absent  # noqa: E402
from .machine import machine, version  # noqa: E402
from .page import write  # noqa: E402
from .process import cores  # noqa: E402
from .progress import Progress  # noqa: E402
from .report import layout, table  # noqa: E402
from .runner import Settings, measure, natural  # noqa: E402
from .scaling import CURVES, scaling  # noqa: E402
from .store import FORMAT, load, save  # noqa: E402
from .workloads import registry  # noqa: E402

QUICK = {"rounds": 3, "turn": 0.1, "warm": 0.1, "longest": 2.0}
EXTRAS = ("footprint", "scaling")


def chosen(asked: str, known: Sequence[str], what: str) -> list[str]:
    """The names in a comma-separated list; one ending in * stands for all that begin so, "all" for every one."""
    if asked == "all":
        return list(known)
    out: list[str] = []
    for part in asked.split(","):
        found = [name for name in known if name == part or (part.endswith("*") and name.startswith(part[:-1]))]
        if not found:
            raise SystemExit(f"no {what} is named {part!r}; there are {', '.join(known)}")
        out += [name for name in found if name not in out]
    return out


def arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=(__doc__ or "").partition(":")[0])
    parser.add_argument("--only", metavar="NAMES", help="workloads, footprint, scaling: a,b or a*; default all")
    known = ", ".join(LIBRARIES)
    parser.add_argument("--libs", metavar="NAMES", help=f"all, or of {known}; default {','.join(DEFAULT['numpy'])}")
    parser.add_argument("--rounds", type=int, help="turns of each library; default 7")
    parser.add_argument("--threads", type=int, default=len(cores()), help="of every library; default all cores")
    parser.add_argument("--backend", choices=("numpy", "cupy"), default="numpy", help="cupy: a GPU, torch's too")
    parser.add_argument("--quick", action="store_true", help="some workloads, three short rounds; under a minute")
    parser.add_argument(
        "--python-of", metavar="LIB=PATH", action="append", default=[], help="the Python of another environment"
    )
    parser.add_argument("--out", type=Path, metavar="FILE", help="where the JSON goes; charts are put beside it")
    parser.add_argument("--no-charts", action="store_true", help="write the JSON only")
    parser.add_argument("--list", action="store_true", help="the workloads and libraries, and what is absent")
    parser.add_argument("--compare", nargs=2, metavar=("BEFORE", "AFTER"), help="two JSON files beside each other")
    parser.add_argument("--page", metavar="FILE", help="write the tables of a JSON file into docs/benchmarks.md")
    return parser


def listing() -> str:
    """Workloads with their titles, curves, libraries with what they lack."""
    lacking = absent(list(LIBRARIES))
    lines = [[name, entry.title + (" (quick)" if entry.quick else "")] for name, entry in registry().items()]
    lines += [["scaling", ", ".join(curve.name for curve in CURVES)], ["footprint", "import, size, growth"], ["", ""]]
    lines += [[name, lacking.get(name, "here")] for name in LIBRARIES]
    width = max(len(line[0]) for line in lines)
    return "\n".join(f"{name:{width}}  {text}" for name, text in lines)


def settings_of(args: argparse.Namespace) -> Settings:
    """The settings that the options ask for."""
    changed: dict[str, Any] = dict(QUICK) if args.quick else {}
    if args.rounds is not None:
        changed["rounds"] = args.rounds
    python_of = dict(pair.partition("=")[::2] for pair in args.python_of)
    for library in python_of:
        chosen(library, list(LIBRARIES), "library")
    if args.threads < 1 or args.threads > len(cores()):
        raise SystemExit(f"--threads {args.threads}: this process may use {len(cores())} cores")
    if changed.get("rounds", 1) < 1:
        raise SystemExit(f"--rounds must be at least 1, got {args.rounds}")
    return Settings(args.threads, backend=args.backend, python_of=python_of, **changed)


def plan(args: argparse.Namespace) -> tuple[list[str], list[str]]:
    """(workloads, extras) to measure."""
    names = [name for name, entry in registry().items() if args.backend in entry.backends]
    if args.only:
        every = chosen(args.only, [*names, *EXTRAS], "workload")
        return [name for name in every if name not in EXTRAS], [name for name in every if name in EXTRAS]
    if args.quick:
        return [name for name in names if registry()[name].quick], []
    return names, list(EXTRAS) if args.backend == "numpy" else []


def new_run(settings: Settings, libraries: list[str], lacking: dict[str, str]) -> dict[str, Any]:
    """A run before anything is measured."""
    packages = ["numpy", *(LIBRARIES[name].package for name in libraries), "numba", "onednn-cpu-gomp"]
    packages += ["cupy-cuda12x", "cupy-cuda13x"] if settings.backend == "cupy" else []
    return {
        "format": FORMAT,
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "threads": settings.threads,
        "backend": settings.backend,
        "settings": {"rounds": settings.rounds, "turn": settings.turn, "warm": settings.warm},
        "machine": machine(),
        "versions": {name: version(name) for name in dict.fromkeys(packages)},
        "libraries": libraries,
        "absent": lacking,
        "pools": {},
        "workloads": {},
        "footprint": {},
        "scaling": {},
    }


def note_versions(run: dict[str, Any], results: dict[str, dict[str, Any]]) -> None:
    """What the workers told of themselves moves from a workload's results to the run."""
    for library, result in results.items():
        told = result.pop("about", None)
        if told is not None:
            run["pools"].setdefault(library, told["pools"])
            if result.get("version"):
                run["versions"][LIBRARIES[library].package] = result["version"]


def perform(
    run: dict[str, Any], settings: Settings, workloads: list[str], extras: list[str], quick: bool,
    keep: Callable[[], None],
) -> None:  # fmt: skip
    """Measures everything into `run`; `keep` is called after each part, so that a run broken off is not lost."""
    libraries = run["libraries"]
    with Progress(len(workloads) + len(extras)) as progress:
        for name in workloads:
            entry = registry()[name]
            able = [library for library in libraries if natural(name, library)]
            results = measure(name, able, settings, progress.tell)
            note_versions(run, results)
            run["workloads"][name] = {"title": entry.title, "sizes": dict(entry.sizes), "results": results}
            progress.done(name)
            keep()
        for name in extras:
            if name == "footprint":
                run["footprint"] = footprint(libraries, settings, 3 if quick else 11, progress.tell)
            else:
                turn, warm = settings.turn / 4, settings.warm / 4
                brief = dataclasses.replace(settings, rounds=3, turn=turn, warm=warm)
                run["scaling"] = scaling(libraries, brief, quick, progress.tell)
            progress.done(name)
            keep()


def extras_table(run: dict[str, Any]) -> str:
    """Footprint and scaling for the terminal."""
    lines: list[list[str]] = []
    found = run["footprint"]
    if found:
        base = found["import"]["numpy"]
        lines += [[f"import {n}", f"{s * 1e3:.0f} ms", f"{s / base:.2f} x numpy"] for n, s in found["import"].items()]
        lines += [[f"installed {n}", f"{s['all'] / 1e6:.0f} MB", ""] for n, s in found["installed"].items()]
        for name, held in found["growth"].items():
            text = "failed" if "error" in held else f"{(held['late'] - held['early']) / 1e6:+.1f} MB"
            lines.append([f"growth over {found['growth_steps'][1]} steps, {name}", text, ""])
    for name, curve in run["scaling"].items():
        for library, result in curve["results"].items():
            failed = "seconds" not in result
            text = "failed" if failed else f"exponent {result['exponent']:.2f}, at the end {result['last_slope']:.2f}"
            linear = None if failed else result["linear"]
            where = "" if linear is None else f"linear in {linear[0]} to {linear[1]}"
            lines.append([f"{name}, {library}", text, where])
    return layout(lines) if lines else ""


def main() -> None:
    args = arguments().parse_args()
    if args.list:
        return print(listing())
    if args.compare:
        return print(comparison(*map(load, args.compare)))
    if args.page:
        return write(load(args.page), Path(args.page), ROOT / "docs" / "benchmarks.md")
    settings = settings_of(args)
    asked = chosen(args.libs, list(LIBRARIES), "library") if args.libs else list(DEFAULT[args.backend])
    lacking = absent(asked, args.backend, settings.python_of)
    for library, why in lacking.items():
        print(f"without {library}: {why}", file=sys.stderr)
    run = new_run(settings, [name for name in asked if name not in lacking], lacking)
    workloads, extras = plan(args)
    stamp = run["date"][:19].replace(":", "")
    whole = not (args.only or args.quick)  # parts of a run go where git does not look
    path = args.out or ROOT / ("benchmarks/results" if whole else "out/benchmarks") / f"{stamp}.json"
    try:
        perform(run, settings, workloads, extras, args.quick, lambda: save(run, path))
    except KeyboardInterrupt:
        print("broken off", file=sys.stderr)
    print("\n\n".join(text for text in (table(run) if run["workloads"] else "", extras_table(run)) if text))
    if not path.exists():
        return
    print(f"\nwritten: {path}")
    if not args.no_charts:
        try:
            from .charts import draw

            print("\n".join(f"written: {chart}" for chart in draw(run, path.with_suffix(""))))
        except ImportError:
            print("no charts: matplotlib is not installed")


if __name__ == "__main__":
    main()
