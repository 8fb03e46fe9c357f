"""How long a checkpoint takes to load and to save beside torch: medians over fresh processes that take turns.

    python benchmarks/checkpoints.py [--megabytes 500] [--rounds 8] [--folder DIR] [--out FILE]

Each process loads the file that torch wrote, once as a program does that has just started ("first"), once again when
memory is at hand ("again"), once mapped ("mapped"), and writes it anew ("save"; tapegrad's is forced to the disk and
renamed, torch's is not). tapegrad compares the checksums of what it reads; torch does not.
"""

from __future__ import annotations

import argparse
import datetime
import importlib.util
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
TENSORS = 50
PROGRAM = """
import importlib, json, os, sys, time
torch = importlib.import_module(sys.argv[1])
path, fresh = sys.argv[2:]
torch.load  # where it is loaded late
def timed(work):
    began = time.perf_counter()
    made = work()
    return time.perf_counter() - began, made
first, state = timed(lambda: torch.load(path))
del state
again, state = timed(lambda: torch.load(path))
save, _ = timed(lambda: torch.save(state, fresh))
del state
os.remove(fresh)
mapped, state = timed(lambda: torch.load(path, mmap=True))
print(json.dumps({"first": first, "again": again, "mapped": mapped, "save": save}))
"""
WRITE = f"""
import importlib, sys
torch = importlib.import_module(sys.argv[1])
torch.manual_seed(0)
count, path = int(sys.argv[2]), sys.argv[3]
torch.save({{f"layer{{i}}.weight": torch.randn(count // 1000, 1000) for i in range({TENSORS})}}, path)
"""


def run(program: str, *arguments: str) -> str:
    """The output of a fresh process; what it says of an error is shown."""
    done = subprocess.run([sys.executable, "-c", program, *arguments], stdout=subprocess.PIPE, text=True, check=True)
    return done.stdout


def measure(megabytes: int, rounds: int, folder: str) -> dict[str, dict[str, list[float]]]:
    """{library: {what: seconds of each round}}."""
    libraries = ["tapegrad", *(["torch"] if importlib.util.find_spec("torch") else [])]
    times: dict[str, dict[str, list[float]]] = {name: {} for name in libraries}
    path = os.path.join(folder, "model.pt")
    run(WRITE, libraries[-1], str(megabytes * 1_000_000 // 4 // TENSORS), path)
    for turn in range(rounds + 1):
        for name in libraries[:: 1 if turn % 2 else -1]:  # who comes second finds memory that the first has touched
            found = json.loads(run(PROGRAM, name, path, os.path.join(folder, "fresh.pt")))
            for what, seconds in found.items() if turn else ():  # the first round fills the system's cache
                times[name].setdefault(what, []).append(seconds)
    return times


def report(times: dict[str, dict[str, list[float]]]) -> str:
    """A line for each measurement: medians in ms, and the ratio to torch's."""
    lines = []
    for what, own in times["tapegrad"].items():
        middle = statistics.median(own)
        line = f"{what:7} {middle * 1e3:9.1f} ms"
        if "torch" in times:
            other = statistics.median(times["torch"][what])
            line += f"   torch {other * 1e3:9.1f} ms   ratio {middle / other:5.2f}"
        lines.append(line)
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--megabytes", type=int, default=500)
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--folder", help="where the files are written; default: a new temporary folder")
    parser.add_argument("--out", type=Path, help="where the JSON goes; default: benchmarks/results")
    args = parser.parse_args()
    sys.path[:] = [str(ROOT), *(entry for entry in sys.path if Path(entry or ".").resolve() != ROOT / "benchmarks")]
    from benchmarks.machine import machine, version

    with tempfile.TemporaryDirectory(dir=args.folder) as folder:
        times = measure(args.megabytes, args.rounds, folder)
    now = datetime.datetime.now(datetime.UTC)
    result: dict[str, Any] = {
        "date": now.isoformat(timespec="seconds"), "megabytes": args.megabytes, "tensors": TENSORS,
        "rounds": args.rounds, "machine": machine(),
        "versions": {name: version(name) for name in ("numpy", "tapegrad", "torch", "isal")},
        "median_seconds": {n: {what: statistics.median(v) for what, v in of.items()} for n, of in times.items()},
        "seconds": times,
    }  # fmt: skip
    print(report(times))
    out = args.out or ROOT / "benchmarks" / "results" / f"{now:%Y-%m-%dT%H%M%S}-checkpoints.json"
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(f"written: {out}")


if __name__ == "__main__":
    main()
