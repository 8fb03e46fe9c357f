"""python -m tapegrad.backends.cupy.check: compiles every CUDA kernel for sm_80 and sm_90. No GPU, no driver, no CuPy.

Ends in a line `N kernels compiled for sm_80 and sm_90, 0 spills`; the exit code is 1 where a register was spilled, and
the compiler's text is shown where a source is wrong. The extra tapegrad[cuda-check] installs what it needs.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator

from . import kernels as kernels  # declares them all
from .compile import for_architecture, missing
from .launch import Kernel

ARCHITECTURES = ("sm_80", "sm_90")


def by_source() -> dict[str, list[str]]:
    """The name expressions of all kernels, by source file."""
    found: dict[str, list[str]] = {}
    for kernel in Kernel.declared:
        found.setdefault(kernel.source, []).extend(kernel.expressions())
    return found


def compiled() -> Iterator[tuple[str, str, int, int, int]]:
    """(source, architecture, kernels, most registers, bytes spilled) as they are compiled."""
    for source, expressions in by_source().items():
        for arch in ARCHITECTURES:
            entries = for_architecture(source, expressions, arch)
            if len(entries) != len(expressions):
                raise RuntimeError(f"{source}: {len(expressions)} kernels are declared, {len(entries)} were compiled")
            registers = max(r for r, _ in entries.values())
            yield source, arch, len(entries), registers, sum(s for _, s in entries.values())


def main() -> int:
    """Compiles all and prints a line per source and architecture."""
    reason = missing()
    if reason:
        print(f"the check cannot run: {reason}", file=sys.stderr)
        return 2
    total = spilled = 0
    for source, arch, count, registers, spills in compiled():
        figures = f"{count:4} kernels, at most {registers:3} registers, {spills} bytes spilled"
        print(f"{source:16} {arch} {figures}", flush=True)
        total, spilled = total + count, spilled + spills
    print(f"{total // len(ARCHITECTURES)} kernels compiled for {' and '.join(ARCHITECTURES)}, {spilled} spills")
    return 1 if spilled else 0


if __name__ == "__main__":
    sys.exit(main())
