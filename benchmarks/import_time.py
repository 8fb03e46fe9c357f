"""How long `import tapegrad` takes beside `import numpy` (and torch, where installed): medians over fresh processes.

    python benchmarks/import_time.py [--rounds N]

Each process times one import by itself, with compiled bytecode at hand as after an installation; rounds alternate.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import statistics
import subprocess
import sys
import tempfile

PROGRAM = "import time; began = time.perf_counter(); import {}; print(time.perf_counter() - began)"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=15)
    rounds = parser.parse_args().rounds
    names = ["numpy", "tapegrad", *(["torch"] if importlib.util.find_spec("torch") else [])]
    times: dict[str, list[float]] = {name: [] for name in names}
    with tempfile.TemporaryDirectory() as cache:
        environment = {**os.environ, "PYTHONPYCACHEPREFIX": cache}
        environment.pop("PYTHONDONTWRITEBYTECODE", None)
        for turn in range(rounds + 1):
            for name in names:
                command = [sys.executable, "-c", PROGRAM.format(name)]
                run = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
                if turn:  # the first round compiles
                    times[name].append(float(run.stdout))
    numpy = statistics.median(times["numpy"])
    for name in names:
        middle = statistics.median(times[name])
        print(f"{name:10} {middle * 1e3:8.1f} ms   {middle / numpy:6.2f} x numpy")


if __name__ == "__main__":
    main()
