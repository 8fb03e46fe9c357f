"""Worker threads for kernels: NumPy's functions give the interpreter up while they compute, so two of them can run.

A kernel splits its work into spans of rows or elements and hands them to `over`; the caller works too. Below some
hundred thousand elements the handing over (about 30 us) costs more than it gains: the kernel decides by `worth`.

How many threads: `set_count`, else the environment's OMP_NUM_THREADS, else the cores that this process may use.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any

GRAIN = 1 << 17  # elements of a cheap function below which one thread is faster


def _default_count() -> int:
    asked = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0].strip()
    if asked.isdigit() and int(asked) > 0:
        return int(asked)
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on macOS and Windows
        return os.cpu_count() or 1


def _core_function() -> Callable[[], int] | None:
    """Tells the core that runs the calling thread; None where the system cannot, or gives threads no cores."""
    if not hasattr(os, "sched_setaffinity"):
        return None
    import ctypes

    return getattr(ctypes.CDLL(None), "sched_getcpu", None)


_current_core = _core_function()


class _Pool:
    """The workers of this process; started when first needed, again after a fork."""

    def __init__(self) -> None:
        self.count = _default_count()
        self.workers: list[threading.Thread] = []
        self.avoided = -1
        self.tasks: SimpleQueue[tuple[Callable[[int, int], Any], int, int, _Join]] = SimpleQueue()
        self.busy = threading.Lock()  # one kernel at a time; a second one, or one inside another, runs alone
        self.used = 0.0  # when they last had work, by time.perf_counter

    def reset(self) -> None:
        self.workers = []
        self.tasks = SimpleQueue()
        self.busy = threading.Lock()

    def start(self, count: int) -> None:
        while len(self.workers) < count:
            worker = threading.Thread(target=_work, args=(self.tasks,), name="tapegrad-kernel", daemon=True)
            worker.start()
            self.workers.append(worker)
            self.avoided = -1
        if _current_core is not None and _current_core() != self.avoided:
            self.avoid(_current_core())

    def avoid(self, core: int) -> None:
        """Keeps the workers off the caller's core.

        Where all cores were busy a moment ago, Linux looks for no idle one when it wakes a thread, and may put a worker
        behind its caller for some milliseconds: both halves of a product then run one after the other.
        """
        self.avoided = core
        rest = os.sched_getaffinity(0) - {core}
        for worker in self.workers:
            if rest and worker.native_id is not None:
                os.sched_setaffinity(worker.native_id, rest)


class _Join:
    """Waits until as many spans are done as were handed over; keeps the first error."""

    __slots__ = ("left", "lock", "done", "error")

    def __init__(self, left: int):
        self.left = left
        self.error: BaseException | None = None
        self.lock, self.done = threading.Lock(), threading.Lock()
        self.done.acquire()

    def one(self, error: BaseException | None) -> None:
        with self.lock:
            self.error = self.error or error
            self.left -= 1
            last = not self.left
        if last:
            self.done.release()


def _work(tasks: SimpleQueue[tuple[Callable[[int, int], Any], int, int, _Join]]) -> None:
    while True:
        function, start, stop, join = tasks.get()
        error = None
        try:
            function(start, stop)
        except BaseException as caught:  # carried to the caller, whichever it is
            error = caught
        join.one(error)
        del function, join, error  # nothing is kept while the worker waits


_pool = _Pool()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_pool.reset)


def count() -> int:
    """How many threads a kernel may use."""
    return _pool.count


def set_count(number: int) -> None:
    """Sets how many threads a kernel may use; 1 is none but the caller's. Libraries below follow (`followers`)."""
    _pool.count = number
    for follow in followers:
        follow(number)


followers: list[Callable[[int], None]] = []  # told of every change: BLAS and other libraries with threads of their own


def worth(size: int, grain: int = GRAIN) -> bool:
    """Whether `size` elements are enough for more than one thread."""
    return size >= 2 * grain and _pool.count > 1


def over(function: Callable[[int, int], Any], length: int, parts: int = 0, align: int = 1) -> None:
    """function(start, stop) for spans that cover range(length), in as many threads as `parts` (default: all allowed).

    The spans begin at multiples of `align`. The function must not ask for the order of the spans, and writes only
    where no other span does. Its first error is raised here when all spans are done. Inside another call of `over`, or
    while another thread is in one, the function is called once for the whole range.
    """
    parts = min(parts or _pool.count, -(-length // align))
    pool = _pool
    if parts < 2 or not pool.busy.acquire(blocking=False):
        function(0, length)
        return
    try:
        pool.start(parts - 1)
        step = -(-length // parts)
        step += -step % align
        starts = range(0, length, step)
        join = _Join(len(starts) - 1)
        for start in starts[1:]:
            pool.tasks.put((function, start, min(start + step, length), join))
        own = None
        try:
            function(0, min(step, length))
        except BaseException as caught:  # raised below, when nobody writes into the arrays any more
            own = caught
        if len(starts) > 1:
            join.done.acquire()
        error = own or join.error
        if error is not None:
            raise error
    finally:
        pool.used = time.perf_counter()
        pool.busy.release()
