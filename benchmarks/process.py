"""A worker's process seen from outside: started with a stated number of threads, told one order at a time."""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from .libraries import LIBRARIES, path_with

THREADS = (
    "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_NUM_THREADS", "NUMBA_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS", "BLIS_NUM_THREADS",
)  # fmt: skip
UNSET = ("OPENBLAS_CORETYPE", "MKL_DEBUG_CPU_TYPE", "TAPEGRAD_GENERIC", "PYTHONPATH", "PYTHONDONTWRITEBYTECODE")


class WorkerError(Exception):
    """A worker failed; the text is its traceback, or what it left on its error stream."""


def cores() -> list[int]:
    """The cores that this process may use."""
    try:
        return sorted(os.sched_getaffinity(0))
    except AttributeError:  # not on macOS and Windows
        return list(range(os.cpu_count() or 1))


def environment(library: str, threads: int, backend: str, python: str = sys.executable) -> dict[str, str]:
    """This process's environment with the thread counts, the library's own settings, and nothing that picks kernels."""
    out = {key: value for key, value in os.environ.items() if key not in UNSET}
    out.update(dict.fromkeys(THREADS, str(threads)))
    out["PATH"] = path_with(python)
    out.update(LIBRARIES[library].environment)
    if LIBRARIES[library].module == "tapegrad":
        out["TAPEGRAD_BACKEND"] = backend
    return out


class Process:
    """A worker, alive until `close`. Between orders it sleeps on its pipe."""

    def __init__(
        self, workload: str, library: str, threads: int, *, sizes: dict[str, Any] | None = None,
        backend: str = "numpy", python: str = sys.executable,
    ):  # fmt: skip
        self.folder = tempfile.TemporaryDirectory()  # no module of the repository is found in it
        self.errors = tempfile.TemporaryFile()
        asked = {
            "workload": workload, "library": library, "threads": threads, "sizes": sizes or {}, "backend": backend,
        }  # fmt: skip
        bound = cores()[:threads]
        self.process = subprocess.Popen(
            [python, str(Path(__file__).with_name("worker.py")), json.dumps(asked)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.errors, cwd=self.folder.name,
            env=environment(library, threads, backend, python), bufsize=0,
        )  # fmt: skip
        if hasattr(os, "sched_setaffinity") and threads < len(cores()):  # for libraries that count the cores
            os.sched_setaffinity(self.process.pid, bound)

    def ask(self, order: str, limit: float = 900.0, **arguments: Any) -> dict[str, Any]:
        """Sends an order and waits for its answer, `limit` seconds at most."""
        self.send(order, **arguments)
        return self.receive(limit)

    def send(self, order: str, **arguments: Any) -> None:
        """Sends an order; its answer must be received before the next."""
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(json.dumps({"order": order, **arguments}).encode() + b"\n")
        except BrokenPipeError:
            pass  # `receive` tells how the worker ended

    def receive(self, limit: float = 900.0) -> dict[str, Any]:
        """The answer to the order that was sent, waited for `limit` seconds at most."""
        assert self.process.stdout is not None
        text, end = b"", time.monotonic() + limit
        while not text.endswith(b"\n"):
            ready, _, _ = select.select([self.process.stdout], [], [], max(0.0, end - time.monotonic()))
            if not ready:
                raise WorkerError(f"no answer within {limit:g} s\n{self._said()}")
            part = self.process.stdout.read(1 << 16)
            if not part:
                raise WorkerError(f"it ended with status {self.process.wait()}\n{self._said()}")
            text += part
        answer = json.loads(text)
        if "error" in answer:
            raise WorkerError(answer["error"])
        return answer

    def settle(self, longest: float = 0.5) -> None:
        """Waits until no thread of the worker runs: BLAS and OpenMP threads spin for a while after their work."""
        tasks = Path(f"/proc/{self.process.pid}/task")
        if not tasks.exists():
            time.sleep(0.1)
            return
        end, quiet = time.monotonic() + longest, 0
        while quiet < 3 and time.monotonic() < end:
            time.sleep(0.003)
            try:
                states = [(t / "stat").read_text().rpartition(")")[2].split()[0] for t in tasks.iterdir()]
            except OSError:  # a thread ended meanwhile
                continue
            quiet = 0 if "R" in states else quiet + 1

    def _said(self) -> str:
        self.errors.seek(0)
        return self.errors.read().decode(errors="replace")[-4000:]

    def close(self) -> None:
        """Ends the worker."""
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.close()
        try:
            self.process.wait(2)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process.stdout.close()
        self.errors.close()
        self.folder.cleanup()
