"""Cost against depth, width, batch and sequence length: the exponent fitted, and where the cost leaves linear."""

from __future__ import annotations

import math
import statistics
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from .process import Process, WorkerError
from .runner import Settings, natural
from .statistic import exponent

LINEAR = 0.25  # a slope within this of 1 counts as linear


@dataclass(frozen=True)
class Curve:
    """One size of one workload over a range, the others fixed."""

    name: str
    title: str
    workload: str
    over: str
    sizes: tuple[int, ...]
    fixed: dict[str, Any] = field(default_factory=dict)
    quick: bool = False


CURVES = (
    Curve("depth", "perceptron, layers of 256", "mlp-64", "depth", (1, 2, 4, 8, 16, 32, 64), {"width": 256}),
    Curve("width", "perceptron, 2 hidden layers", "mlp-64", "width", (32, 64, 128, 256, 512, 1024, 2048)),
    Curve("batch", "perceptron 784-512-512-10", "mlp-64", "batch", (8, 32, 128, 512, 2048), quick=True),
    Curve("sequence", "GPT 2 x 64, batch 4", "gpt-2x64", "context", (32, 64, 128, 256, 512, 1024), {"batch": 4}),
    Curve("lstm-sequence", "LSTM 1 x 128, batch 16", "lstm", "length", (10, 20, 40, 80, 160),
          {"batch": 16, "width": 128, "layers": 1}),
)  # fmt: skip


def slopes(sizes: Sequence[float], values: Sequence[float]) -> list[float]:
    """d log(value) / d log(size) between neighbours."""
    return [
        math.log(values[i + 1] / values[i]) / math.log(sizes[i + 1] / sizes[i]) for i in range(len(sizes) - 1)
    ]


def linear_range(sizes: Sequence[float], values: Sequence[float]) -> tuple[float, float] | None:
    """The longest range of sizes over which the cost grows linearly: below, fixed costs; beyond, a higher power."""
    best: tuple[int, int] | None = None
    start = None
    for i, slope in enumerate([*slopes(sizes, values), math.inf]):
        if abs(slope - 1) <= LINEAR:
            start = i if start is None else start
        elif start is not None:
            if best is None or i - start > best[1] - best[0]:
                best = start, i
            start = None
    return None if best is None else (sizes[best[0]], sizes[best[1]])


def summarise(sizes: Sequence[float], values: Sequence[float]) -> dict[str, Any]:
    """Exponent over all sizes, the slope at the largest, and the linear range."""
    return {
        "seconds": list(values),
        "exponent": exponent(sizes, values),
        "last_slope": slopes(sizes, values)[-1],
        "linear": linear_range(sizes, values),
    }


def trace(curve: Curve, libraries: Sequence[str], settings: Settings, tell: Callable[[str], None]) -> dict[str, Any]:
    """One curve: each library in one process, set up anew for every size; at each size the libraries take turns."""
    results: dict[str, dict[str, Any]] = {}
    workers: dict[str, Process] = {}
    medians: dict[str, list[float]] = {}

    def ask(library: str, order: str, **arguments: Any) -> dict[str, Any]:
        try:
            answer = workers[library].ask(order, **arguments)
            workers[library].settle()
            return answer
        except WorkerError as error:
            results[library] = {"error": str(error)}
            workers.pop(library).close()
            return {}

    try:
        for library in libraries:
            python = settings.python_of.get(library, sys.executable)
            workers[library] = Process(
                curve.workload, library, settings.threads, sizes=curve.fixed, backend=settings.backend, python=python
            )
            medians[library] = []
            ask(library, "load")
        for size in curve.sizes:
            tell(f"{curve.name} {curve.over} = {size}")
            for order, arguments in (("prepare", {"sizes": {curve.over: size}}), ("warm", {"seconds": settings.warm})):
                for library in list(workers):
                    ask(library, order, **arguments)
            samples: dict[str, list[float]] = {library: [] for library in workers}
            for number in range(settings.rounds):
                for library in list(workers)[:: -1 if number % 2 else 1]:
                    samples[library] += ask(library, "turn", seconds=settings.turn).get("samples", [])
            for library in workers:
                medians[library].append(statistics.median(samples[library]))
        for library in workers:
            results[library] = summarise(curve.sizes, medians[library])
    finally:
        for worker in workers.values():
            worker.close()
    return {
        "title": curve.title, "workload": curve.workload, "over": curve.over, "sizes": list(curve.sizes),
        "results": results,
    }  # fmt: skip


def scaling(
    libraries: Sequence[str], settings: Settings, quick: bool, tell: Callable[[str], None]
) -> dict[str, Any]:
    """Every curve; of the quick run one, with its first, middle and last size."""
    out = {}
    for curve in CURVES:
        if quick and not curve.quick:
            continue
        if quick:
            curve = Curve(curve.name, curve.title, curve.workload, curve.over, curve.sizes[::2], curve.fixed)
        able = [library for library in libraries if natural(curve.workload, library)]
        out[curve.name] = trace(curve, able, settings, tell)
    return out
