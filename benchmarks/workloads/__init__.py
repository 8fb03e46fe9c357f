"""The workloads: each a function setup(lib, **sizes) -> step, written once against a torch-like namespace `lib`.

A step does the whole work once (a training step with its update, or forward and backward) and returns a scalar tensor;
its values over the first steps must agree between libraries. The files here are read when `registry` is first asked.
"""

from __future__ import annotations

import functools
import importlib
from pathlib import Path

from .common import WORKLOADS, Workload


@functools.cache
def registry() -> dict[str, Workload]:
    """Every workload by name, in the order of the table."""
    for file in sorted(Path(__file__).parent.glob("*.py")):
        if file.stem not in ("__init__", "common"):
            importlib.import_module(f"{__package__}.{file.stem}")
    return dict(sorted(WORKLOADS.items(), key=lambda item: item[1].order))
