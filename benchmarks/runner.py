"""Measures workloads: for each, one process per library, taking turns; what comes out is the JSON of one run."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from .libraries import LIBRARIES, REFERENCE
from .process import Process, WorkerError
from .statistic import agree, summary
from .workloads import registry


@dataclass(frozen=True)
class Settings:
    """How long and how often: seconds of warming up, seconds and rounds of timing, threads of every library."""

    threads: int
    rounds: int = 7
    turn: float = 0.4
    warm: float = 0.6
    longest: float = 40.0  # seconds of rounds after which a workload ends with fewer of them, but three
    backend: str = "numpy"
    python_of: dict[str, str] = field(default_factory=dict)


Tell = Callable[[str], None]


def natural(workload: str, library: str) -> bool:
    """Whether the library has code for the workload: torch-like ones for all, peers what their file names."""
    from .peers import covers

    known = LIBRARIES[library]
    return workload not in known.without if known.peer is None else workload in covers(known.peer)


def measure(
    workload: str, libraries: Sequence[str], settings: Settings, tell: Tell = lambda text: None,
    sizes: dict[str, Any] | None = None,
) -> dict[str, Any]:  # fmt: skip
    """{library: result} of one workload. A library that fails has its traceback as "error" and leaves the round."""
    results: dict[str, dict[str, Any]] = {}
    workers: dict[str, Process] = {}

    def each(order: str, **arguments: Any) -> None:
        for library, worker in list(workers.items()):
            tell(f"{workload} {library}: {order}")
            try:
                results[library].update(worker.ask(order, **arguments) if order != "load" else worker.receive())
                worker.settle()
            except WorkerError as error:
                results[library] = {"error": str(error)}
                workers.pop(library).close()

    try:
        for library in libraries:
            python = settings.python_of.get(library, sys.executable)
            workers[library] = Process(
                workload, library, settings.threads, sizes=sizes, backend=settings.backend, python=python
            )
            workers[library].send("load")  # all at once: importing is not measured here
            results[library] = {}
        each("load")
        each("prepare")
        each("warm", seconds=settings.warm)
        _rounds(workload, workers, results, settings, tell)
        for library, worker in workers.items():
            results[library]["memory"] = worker.ask("memory")
            results[library]["about"] = worker.ask("describe")
    finally:
        for worker in workers.values():
            worker.close()
    _compare_losses(results, registry()[workload].tolerance)
    return results


def _rounds(
    workload: str, workers: dict[str, Process], results: dict[str, dict[str, Any]], settings: Settings, tell: Tell
) -> None:
    """Turns of every worker, the order reversed each round so that none always follows the same one."""
    rounds: dict[str, list[list[float]]] = {library: [] for library in workers}
    spent = 0.0
    for number in range(settings.rounds):
        if number >= 3 and spent > settings.longest:
            break
        for library in list(workers)[:: -1 if number % 2 else 1]:
            tell(f"{workload} {library}: round {number + 1}")
            try:
                samples = workers[library].ask("turn", seconds=settings.turn)["samples"]
                workers[library].settle()
                rounds[library].append(samples)
                spent += sum(samples) * results[library]["block"]
            except WorkerError as error:
                results[library] = {"error": str(error)}
                workers.pop(library).close()
    for library in workers:
        results[library].update(summary(rounds[library]))


def _compare_losses(results: dict[str, dict[str, Any]], tolerance: float) -> None:
    """Notes for each library whether its first losses are the reference's (else those of the first that has some)."""
    able = [name for name, result in results.items() if "losses" in result]
    reference = REFERENCE if REFERENCE in able else (able[0] if able else None)
    for name in able:
        if name != reference and reference is not None:
            results[name]["agrees"] = agree(results[name]["losses"], results[reference]["losses"], tolerance)
