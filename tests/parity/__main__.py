"""Replays the databases: `python -m parity [ops|modules|optimizers|schedulers] [NAME ...]` in the folder tests/."""

from __future__ import annotations

import argparse
import time

from . import operators


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m parity", description=__doc__)
    parser.add_argument("kind", choices=["ops"])
    parser.add_argument("names", nargs="*")
    parser.add_argument("--limit", type=int, help="at most so many samples of each dtype and check")
    given = parser.parse_args()
    for name in given.names or operators.entries():
        start = time.perf_counter()
        verdicts = operators.replay(name, given.limit)
        wrong = {check: text for check, text in verdicts.items() if text}
        took = time.perf_counter() - start
        print(f"{name}: {'pass' if not wrong else 'differs'} ({', '.join(verdicts)}; {took:.1f} s)")
        for check, text in wrong.items():
            print(f"    {check}: {text}")


if __name__ == "__main__":
    main()
