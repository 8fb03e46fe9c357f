"""One workload in one library, in a process of its own: JSON lines with orders come in, JSON lines with answers go out.

Started by path, so that nothing of this repository lies on the path of modules by accident: the root has folders named
`autograd` and `nn`, which are other people's packages too.
"""

from __future__ import annotations

import functools
import importlib
import json
import os
import sys
import time
import traceback
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

BLOCK = 0.002  # seconds: shorter steps are timed several at once
CHECKED = 3  # first losses that are compared between libraries


def status(field: str) -> int:
    """VmRSS, VmHWM, ... of this process in bytes; 0 where there is no /proc."""
    try:
        with open("/proc/self/status") as file:
            for line in file:
                if line.startswith(field + ":"):
                    return int(line.split()[1]) * 1024
    except OSError:
        pass
    return 0


def forget_peak() -> None:
    """The peak of memory is counted from here on (Linux)."""
    try:
        with open("/proc/self/clear_refs", "w") as file:
            file.write("5")
    except OSError:
        pass


def load_suite() -> None:
    """Makes `benchmarks` importable from this file's folder, and nothing else beside it."""
    folder = Path(__file__).resolve().parent
    sys.path[:] = [entry for entry in sys.path if Path(entry or ".").resolve() not in (folder, folder.parent)]
    module = types.ModuleType("benchmarks")
    module.__path__ = [str(folder)]
    sys.modules["benchmarks"] = module


class Worker:
    """Holds the workload's step; every public method is an order."""

    def __init__(self, workload: str, library: str, threads: int, sizes: dict[str, Any], backend: str):
        self.library, self.threads, self.backend = library, threads, backend
        self.workload, self.sizes = workload, sizes
        self.step: Callable[[], Any] = lambda: None
        self.synchronize: Callable[[], Any] = lambda: None
        self.set_up: Callable[[], Callable[[], Any]]
        self.wait: Callable[[Any], Any] = lambda value: None  # until a lazily computed value is there
        self.value: Callable[[Any], float] = float
        self.device_peak: Callable[[], int] | None = None
        self.before = self.block = 0
        self.each = 0.0

    def load(self) -> dict[str, Any]:
        """Imports the library; memory is counted from here."""
        from benchmarks.libraries import LIBRARIES

        known = LIBRARIES[self.library]
        began = time.perf_counter()
        lib = importlib.import_module(known.module)
        seconds = time.perf_counter() - began
        set_up = self._own_code(known.peer) if known.peer else self._torch_like(lib)
        forget_peak()
        self.before = status("VmRSS")
        self.set_up = set_up
        version = getattr(lib, "__version__", None)
        return {"import_seconds": seconds, "version": None if version is None else str(version)}

    def _torch_like(self, lib: Any) -> Callable[[], Any]:
        from benchmarks.workloads import common, registry

        if hasattr(lib, "set_num_threads"):
            lib.set_num_threads(self.threads)
        if self.backend == "cupy":
            lib.set_default_device("cuda")
            self.synchronize, self.device_peak = lib.cuda.synchronize, lib.cuda.max_memory_allocated
        if self.library == "torch.compile":
            mode = "reduce-overhead" if self.backend == "cupy" else "default"  # CUDA graphs of what was compiled
            common.compiler = functools.partial(lib.compile, mode=mode)
        if self.library == "tapegrad+graph":
            common.recorder = lib.cuda.graph_step
        entry = registry()[self.workload]
        return lambda: entry.setup(lib, **{**entry.sizes, **self.sizes})

    def _own_code(self, peer: str) -> Callable[[], Any]:
        from benchmarks.workloads import registry

        module = importlib.import_module(f"benchmarks.peers.{peer}")
        entry = registry()[self.workload]
        self.wait = getattr(module, "wait", self.wait)
        self.value = getattr(module, "value", float)
        return lambda: module.WORKLOADS[self.workload](**{**entry.sizes, **self.sizes})

    def prepare(self, sizes: dict[str, Any] | None = None) -> dict[str, Any]:
        """Sets the workload up (again, with other sizes) and takes its first steps, whose losses are compared."""
        self.step = lambda: None  # frees the workload before
        self.sizes = {**self.sizes, **(sizes or {})}
        self.step = self.set_up()
        losses, seconds = [], []
        for _ in range(CHECKED):
            began = time.perf_counter()
            losses.append(self.value(self.step()))
            seconds.append(time.perf_counter() - began)
        self.each = seconds[-1]
        return {"losses": losses, "first_seconds": seconds[0]}

    def warm(self, seconds: float) -> dict[str, Any]:
        """Steps until `seconds` are over, and finds how many make a block that is long enough to be timed."""
        end = time.perf_counter() + seconds
        while True:
            self.each = self._time(max(1, int(BLOCK / max(self.each, 1e-9))))
            if time.perf_counter() >= end:
                break
        self.block = max(1, round(BLOCK / max(self.each, 1e-9)))
        return {"step": self.each, "block": self.block}

    def turn(self, seconds: float, least: int = 1) -> dict[str, Any]:
        """Seconds per step of blocks timed one after the other until `seconds` are over, `least` at the least."""
        if self.each < seconds / 4:
            self._time(self.block)  # brings the caches back; not counted
        samples: list[float] = []
        end = time.perf_counter() + seconds
        while len(samples) < least or time.perf_counter() < end:
            samples.append(self._time(self.block))
        return {"samples": samples}

    def _time(self, steps: int) -> float:
        step, value = self.step, None
        self.synchronize()
        began = time.perf_counter()
        for _ in range(steps):
            value = step()
        self.wait(value)
        self.synchronize()
        return (time.perf_counter() - began) / steps

    def memory(self) -> dict[str, Any]:
        """The peak since the library was imported, and what the process held then; bytes. On a GPU: its memory."""
        if self.device_peak is not None:
            return {"baseline": 0, "peak": self.device_peak(), "now": self.device_peak()}
        return {"baseline": self.before, "peak": status("VmHWM"), "now": status("VmRSS")}

    def grow(self, steps: int, after: int) -> dict[str, Any]:
        """Bytes held after `after` steps and after `steps` steps."""
        for _ in range(after):
            self.wait(self.step())
        early = status("VmRSS")
        for _ in range(steps - after):
            self.wait(self.step())
        return {"early": early, "late": status("VmRSS")}

    def describe(self) -> dict[str, Any]:
        """The BLAS and OpenMP libraries in this process (threadpoolctl), where that is installed; NumPy's version."""
        import numpy

        out: dict[str, Any] = {"numpy": numpy.__version__, "python": sys.version.split()[0], "pools": []}
        try:
            from threadpoolctl import threadpool_info
        except ImportError:
            return out
        kept = ("internal_api", "version", "architecture", "threading_layer", "num_threads")
        return {**out, "pools": [{k: pool[k] for k in kept if k in pool} for pool in threadpool_info()]}


def main() -> None:
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what a library prints goes to the error stream
    load_suite()
    worker = Worker(**json.loads(sys.argv[1]))
    for line in sys.stdin:
        order = json.loads(line)
        try:
            answer = getattr(worker, order.pop("order"))(**order)
        except BaseException:
            answer = {"error": traceback.format_exc()}
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main()
