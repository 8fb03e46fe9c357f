"""Workers of a `DataLoader`: what they are told, what they run, how they are started and stopped.

Workers are threads: NumPy, file and network reads release the interpreter lock, the samples need not be pickled or
copied between processes, and starting one takes microseconds. Loading that is mostly Python bytecode gains nothing from
them; give `multiprocessing_context=` and the same loop runs in processes.

A worker owns a copy of the dataset objects (not of their data, see `replicate`) and its own random generators, because
the global ones belong to the thread that trains: drawn from by several threads, no order would be repeatable.
"""

from __future__ import annotations

import queue
import random
import sys
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np

from ...autograd.device import device
from ...autograd.modes import set_grad_enabled
from ...autograd.random import Generator, default_generator, manual_seed

__all__ = ["WorkerInfo", "get_worker_info"]

STATUS_CHECK_INTERVAL = 5.0  # seconds between two looks at whether the workers are alive; the patience when stopping
THREADS: Any = SimpleNamespace(Queue=queue.SimpleQueue, Event=threading.Event, Process=threading.Thread)
"""The part of a multiprocessing context that is used here, made of threads. `SimpleQueue.put` may be called by the
garbage collector at any moment, even from within itself; `queue.Queue` would deadlock there."""


class _OfThread(threading.local):
    info: WorkerInfo | None = None
    stream: Any = None  # the engine of the worker's generator


_local = _OfThread()


class _StreamOfThread:
    """The engine of the default generator once there are worker threads: each of them draws from, and seeds, its own.

    So `rand()` in a dataset is repeatable, and the stream of the thread that trains is what it is without workers.
    """

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(_local.stream or self._stream, name)


@dataclass(frozen=True, slots=True)
class WorkerRNG:
    """The random generators of one worker thread, seeded with `WorkerInfo.seed`."""

    random_generator: random.Random
    torch_generator: Generator
    numpy_generator: np.random.Generator


@dataclass(frozen=True, slots=True)
class WorkerInfo:
    """What a worker can know about itself.

    id: 0 to num_workers - 1; seed: the loader's draw for this iterator + id; dataset: this worker's copy;
    rng: its random generators (None in a process, whose global ones are seeded);
    worker_method: "thread" or "multiprocessing".
    """

    id: int
    num_workers: int
    seed: int
    dataset: Any
    rng: WorkerRNG | None = None
    worker_method: str | None = "multiprocessing"


def get_worker_info() -> WorkerInfo | None:
    """The `WorkerInfo` of the worker that calls; None outside of workers."""
    return _local.info


class _RawMessage(str):
    """A str whose repr is itself: `KeyError` shows its argument's repr, which would put a traceback on one line."""

    __slots__ = ()

    def __repr__(self) -> str:
        return str(self)


class ExceptionWrapper:
    """An exception of a worker as type and text, to be raised where the batch is asked for.

    The exception itself is not kept: its traceback would hold the worker's samples alive.
    """

    def __init__(self, where: str) -> None:
        exc_type, exc, tb = sys.exc_info()
        self.exc_type: Any = exc_type
        self.text = "".join(traceback.format_exception(exc_type, exc, tb))
        self.where = where

    def exception(self) -> Exception:
        """An exception of the same type with the worker's traceback as its text; `RuntimeError` if that type cannot be
        built from a text. Raise it without a name: a frame that holds its own exception lives until the next gc."""
        text: str = f"Caught {self.exc_type.__name__} {self.where}.\nOriginal {self.text}"
        if self.exc_type is KeyError:
            text = _RawMessage(text)
        try:
            takes_message = getattr(self.exc_type, "message", None)
            return self.exc_type(message=text) if takes_message else self.exc_type(text)
        except Exception:
            return RuntimeError(text)


@dataclass(frozen=True)
class StreamEnd:
    """Sent by a worker in place of a batch: its copy of an `IterableDataset` has ended."""

    worker_id: int


@dataclass(frozen=True)
class Resume:
    """Sent to a persistent worker between two epochs, and sent back by it: all earlier tasks are done."""


@dataclass(frozen=True)
class WorkerJob:
    """All that a worker needs; picklable if the dataset and the functions are."""

    worker_id: int
    num_workers: int
    base_seed: int
    dataset: Any
    make_fetcher: Callable[[Any], Any]  # dataset -> fetcher
    is_stream: bool
    init_fn: Callable[[int], None] | None
    threaded: bool
    # Those of the thread that asks: what a dataset makes must not depend on num_workers.
    grad_enabled: bool
    device: device

    @property
    def where(self) -> str:
        """Where an exception came from, for its text: PyTorch's words, also for a thread."""
        return f"in DataLoader worker process {self.worker_id}"


def replicate(value: Any, memo: dict[int, Any] | None = None) -> Any:
    """A worker's copy of a dataset: the object is new, the arrays and files it refers to are shared.

    So a worker may set attributes of its copy (its share of a stream, a file opened at first use), as it may in a
    process, and no memory is spent. Datasets inside datasets are copied too; all else is shared. So is a dataset whose
    class has a `__del__`, since the end of a copy must not close what the original still reads, or one that is also a
    built-in container.
    """
    from .dataset import Dataset

    memo = {} if memo is None else memo
    if id(value) in memo:
        return memo[id(value)]
    if type(value) in (list, tuple, dict):
        items = list(value.values() if isinstance(value, dict) else value)
        if not items or not isinstance(items[0], Dataset):
            return value
        copies = [replicate(item, memo) for item in items]
        return dict(zip(value, copies, strict=True)) if isinstance(value, dict) else type(value)(copies)
    if not isinstance(value, Dataset) or hasattr(type(value), "__del__"):
        return value
    try:
        clone = object.__new__(type(value))
    except TypeError:
        return value
    # Neither copy.copy nor the class's own __getstate__: what fork would have copied, however the class is pickled.
    state: Any = object.__getstate__(value)
    attributes, slots = state if isinstance(state, tuple) else (state, None)
    memo[id(value)] = clone
    for name, item in (attributes or {}).items():
        clone.__dict__[name] = replicate(item, memo)
    for name, item in (slots or {}).items():
        object.__setattr__(clone, name, item)
    return clone


def _seed_worker(job: WorkerJob) -> WorkerRNG | None:
    """Seed a worker as PyTorch does: `base_seed + id` for `random` and the tensors, a hash of both for NumPy."""
    seed = job.base_seed + job.worker_id
    entropy = [job.worker_id, job.base_seed & 0xFFFFFFFF, job.base_seed >> 32, 0]
    words = np.random.SeedSequence(entropy).generate_state(4)
    if job.threaded:
        generator = Generator().manual_seed(seed)
        _local.stream = generator.raw
        return WorkerRNG(random.Random(seed), generator, np.random.default_rng(words))
    random.seed(seed)
    manual_seed(seed)
    np.random.seed(words)
    return None


def _prepare(job: WorkerJob) -> Any:
    """Make the calling thread or process worker `job.worker_id`; its fetcher, or the exception that prevented one."""
    rng = _seed_worker(job)
    _local.info = WorkerInfo(
        id=job.worker_id,
        num_workers=job.num_workers,
        seed=job.base_seed + job.worker_id,
        dataset=job.dataset,
        rng=rng,
        worker_method="thread" if job.threaded else "multiprocessing",
    )
    try:
        if job.init_fn is not None:
            job.init_fn(job.worker_id)
        return job.make_fetcher(job.dataset)
    except Exception:
        return ExceptionWrapper(job.where)


def _fetch(job: WorkerJob, fetcher: Any, index: Any) -> Any:
    """The batch at `index`, `StreamEnd`, or the exception."""
    if isinstance(fetcher, ExceptionWrapper):
        return fetcher
    try:
        return fetcher.fetch(index)
    except Exception as exc:
        if job.is_stream and isinstance(exc, StopIteration):
            return StreamEnd(job.worker_id)
        return ExceptionWrapper(job.where)


def _next_task(job: WorkerJob, tasks: Any) -> Any:
    """The next task; None, which ends the worker, also when the process that should send one has died."""
    if job.threaded:
        return tasks.get()
    import multiprocessing

    parent = multiprocessing.parent_process()
    while True:
        try:
            return tasks.get(timeout=STATUS_CHECK_INTERVAL)
        except queue.Empty:
            if parent is None or not parent.is_alive():
                return None


def _serve(job: WorkerJob, tasks: Any, results: Any, done: Any) -> None:
    fetcher = _prepare(job)
    ended = False
    while (task := _next_task(job, tasks)) is not None:
        if isinstance(task, Resume):
            results.put((task, None))
            ended = False
            try:
                fetcher = job.make_fetcher(job.dataset)
            except Exception:
                fetcher = ExceptionWrapper(job.where)
        elif not ended and not done.is_set():
            number, index = task
            data = _fetch(job, fetcher, index)
            ended = isinstance(data, StreamEnd)
            results.put((number, data))
            del index, data  # the batch belongs to the consumer now
        del task


def work(job: WorkerJob, tasks: Any, results: Any, done: Any) -> None:
    """The life of a worker: (number, index) in, (number, batch) out, until None comes in."""
    try:
        with set_grad_enabled(job.grad_enabled), job.device:
            _serve(job, tasks, results, done)
    except (KeyboardInterrupt, SystemExit):
        pass  # the first comes to processes and to their parent, which raises it; after the second the parent misses us
    if done.is_set() and not job.threaded:
        results.cancel_join_thread()  # nobody reads them any more; waiting for that would never end


class Pool:
    """The running workers of one iterator and the queues to them. The workers hold no reference to the iterator, so
    that it can be dropped half-way."""

    def __init__(self, context: Any | None) -> None:
        self.threaded = context is None
        if self.threaded and not isinstance(default_generator.raw, _StreamOfThread):
            stream: Any = _StreamOfThread(default_generator.raw)
            default_generator.raw = stream
        self.context = THREADS if context is None else context
        self.results = self.context.Queue()
        self.done = self.context.Event()
        self.tasks: list[Any] = []
        self.workers: list[Any] = []

    def start(self, jobs: list[WorkerJob]) -> None:
        """Start one worker per job."""
        for job in jobs:
            tasks = self.context.Queue()
            worker = self.context.Process(
                target=work,
                args=(job, tasks, self.results, self.done),
                name=f"data_worker_{job.worker_id}",
                daemon=True,
            )
            worker.start()
            self.tasks.append(tasks)
            self.workers.append(worker)

    def receive(self, timeout: float, active: list[bool]) -> tuple[Any, Any]:
        """The next (number, data). `RuntimeError` after `timeout` seconds, if positive, or when a worker has died."""
        while True:
            try:
                return self.results.get(timeout=timeout if timeout > 0 else STATUS_CHECK_INTERVAL)
            except queue.Empty:
                self._check_alive(active)
                if timeout > 0:
                    raise RuntimeError(f"DataLoader timed out after {timeout} seconds") from None

    def _check_alive(self, active: list[bool]) -> None:
        dead = [worker for worker, needed in zip(self.workers, active, strict=True) if needed and not worker.is_alive()]
        if dead:
            name, attribute = ("thread", "native_id") if self.threaded else ("pid", "pid")
            ids = ", ".join(str(getattr(worker, attribute)) for worker in dead)
            raise RuntimeError(f"DataLoader worker ({name}(s) {ids}) exited unexpectedly") from None

    def shutdown(self) -> None:
        """Let the workers finish the batch at hand and end; returns when they have, or after `STATUS_CHECK_INTERVAL`.

        A thread that is still inside a dataset's code then ends by itself when that returns; a process is terminated.
        """
        self.done.set()
        for tasks in self.tasks:
            tasks.put(None)
        deadline = time.monotonic() + STATUS_CHECK_INTERVAL
        for worker in self.workers:
            if worker is not threading.current_thread():  # the garbage collector may run in a worker
                worker.join(timeout=max(0.0, deadline - time.monotonic()))
        if not self.threaded:
            self._close_processes()

    def _close_processes(self) -> None:
        for worker in self.workers:
            if worker.is_alive():
                worker.terminate()
                worker.join(timeout=STATUS_CHECK_INTERVAL)
        for channel in (*self.tasks, self.results):
            channel.cancel_join_thread()
            channel.close()
