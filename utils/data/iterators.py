"""The iterators of a `DataLoader`: one that loads in the calling thread, one that hands the work to workers.

Their names are PyTorch's, since programs ask which of the two they hold.
"""

from __future__ import annotations

import itertools
import warnings
import weakref
from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

from ...autograd.device import device, get_default_device
from ...autograd.modes import is_grad_enabled
from ...backends.registry import BackendError, load
from .fetch import IterableFetcher, MapFetcher
from .sampler import draw_seed
from .workers import ExceptionWrapper, Pool, Resume, StreamEnd, WorkerJob, replicate

if TYPE_CHECKING:
    from .dataloader import DataLoader


class _DatasetKind:
    """How a dataset is read."""

    Map = 0
    Iterable = 1


class _BaseDataLoaderIter:
    """One pass over a loader. Takes one int64 draw of the loader's generator, from which the workers are seeded."""

    _next_data: Callable[[], Any]

    def __init__(self, loader: DataLoader) -> None:
        self._dataset = loader.dataset
        self._dataset_kind = loader._dataset_kind
        self._index_sampler = loader._index_sampler
        self._num_workers = loader.num_workers
        self._len_called = loader._IterableDataset_len_called
        fetcher = IterableFetcher if self._dataset_kind == _DatasetKind.Iterable else MapFetcher
        self._make_fetcher = partial(
            fetcher, auto_collation=loader._auto_collation, collate_fn=loader.collate_fn, drop_last=loader.drop_last
        )
        _warn_of_pinning(loader)
        # In this order, and again in _reset: a sampler whose __iter__ draws at once then draws as often as in PyTorch.
        self._sampler_iter = iter(self._index_sampler)
        self._base_seed = draw_seed(loader.generator)
        self._persistent_workers = loader.persistent_workers
        self._num_yielded = 0

    def __iter__(self) -> Iterator:
        return self

    def _reset(self, loader: DataLoader, first_iter: bool = False) -> None:
        self._sampler_iter = iter(self._index_sampler)
        self._num_yielded = 0
        self._len_called = loader._IterableDataset_len_called

    def __next__(self) -> Any:
        data = self._next_data()
        self._num_yielded += 1
        if self._len_called is not None and self._num_yielded > self._len_called:
            self._warn_of_length()
        return data

    def _warn_of_length(self) -> None:
        text = (
            f"Length of IterableDataset {self._dataset} was reported to be {self._len_called}"
            f"(when accessing len(dataloader)), but {self._num_yielded} samples have been fetched. "
        )
        if self._num_workers > 0:
            text += (
                "For multiprocessing data-loading, this could be caused by not properly configuring the "
                "IterableDataset replica at each worker. Please see "
                "https://pytorch.org/docs/stable/data.html#torch.utils.data.IterableDataset for examples."
            )
        warnings.warn(text, stacklevel=3)

    def __len__(self) -> int:
        return len(self._index_sampler)

    def __getstate__(self) -> Any:
        raise NotImplementedError("{} cannot be pickled", type(self).__name__)


def _has_accelerator() -> bool:
    try:
        load("cupy")
    except BackendError:
        return False
    return True


def _warn_of_pinning(loader: DataLoader) -> None:
    """PyTorch's warnings. There is nothing else to do: host memory is not pinned here (see `Tensor.pin_memory`)."""
    if not loader.pin_memory:
        return
    if loader.pin_memory_device:
        warnings.warn(
            "pin_memory_device is deprecated, the current accelerator will be used as the device,"
            f"ignore pin_memory_device='{loader.pin_memory_device}'.",
            stacklevel=6,
        )
    if not _has_accelerator():
        warnings.warn(
            "'pin_memory' argument is set as true but no accelerator is found, "
            "then device pinned memory won't be used.",
            stacklevel=6,
        )


class _SingleProcessDataLoaderIter(_BaseDataLoaderIter):
    """Loads each batch in the calling thread, when it is asked for."""

    def __init__(self, loader: DataLoader) -> None:
        super().__init__(loader)
        if loader.timeout != 0:
            raise AssertionError("_SingleProcessDataLoaderIter requires timeout == 0")
        self._fetcher = self._make_fetcher(self._dataset)

    def _next_data(self) -> Any:
        return self._fetcher.fetch(next(self._sampler_iter))


class _MultiProcessingDataLoaderIter(_BaseDataLoaderIter):
    """Keeps `prefetch_factor` batches per worker under way; worker threads unless a multiprocessing context is given.

    Tasks are numbered. Those from `_next` up to `_sent` are under way, `_owner` says with which worker; `_ready` holds
    the batches that came before their turn.
    """

    def __init__(self, loader: DataLoader) -> None:
        super().__init__(loader)
        if loader.prefetch_factor is None or loader.prefetch_factor <= 0:
            raise AssertionError("prefetch_factor must be greater than 0 for MultiProcessingDataLoaderIter")
        self._in_order = loader.in_order
        self._timeout = loader.timeout
        self._max_tasks = loader.prefetch_factor * self._num_workers
        self._pool = Pool(loader.multiprocessing_context)
        # Called when the last reference to the iterator goes, or at exit: the pool knows nothing of the iterator.
        self._shutdown_workers = weakref.finalize(self, self._pool.shutdown)
        self._pool.start([self._job(loader, worker_id) for worker_id in range(self._num_workers)])
        self._reset(loader, first_iter=True)

    def _job(self, loader: DataLoader, worker_id: int) -> WorkerJob:
        return WorkerJob(
            worker_id=worker_id,
            num_workers=self._num_workers,
            base_seed=self._base_seed,
            dataset=replicate(self._dataset) if self._pool.threaded else self._dataset,
            make_fetcher=self._make_fetcher,
            is_stream=self._dataset_kind == _DatasetKind.Iterable,
            init_fn=loader.worker_init_fn,
            threaded=self._pool.threaded,
            grad_enabled=is_grad_enabled(),
            device=device(get_default_device()),  # a new object: entering one changes it
        )

    def _reset(self, loader: DataLoader, first_iter: bool = False) -> None:
        super()._reset(loader, first_iter)
        self._sent = 0
        self._next = 0
        self._owner: dict[int, int] = {}
        self._ready: dict[int, Any] = {}
        self._active = [True] * self._num_workers  # False: the worker's stream has ended
        self._load = [0] * self._num_workers  # tasks under way with each worker
        self._turns = itertools.cycle(range(self._num_workers))
        if not first_iter:
            self._resume_workers()
        for _ in range(self._max_tasks):
            self._send_next()

    def _resume_workers(self) -> None:
        """Start a new pass in all persistent workers, dropping what is left of the one before."""
        for tasks in self._pool.tasks:
            tasks.put(Resume())
        waiting = self._num_workers
        while waiting:
            token, _ = self._pool.receive(self._timeout, self._active)
            waiting -= isinstance(token, Resume)

    def _send_next(self) -> None:
        """Give the next index to the worker whose turn it is, if there is an index and a worker left."""
        try:
            index = next(self._sampler_iter)
        except StopIteration:
            return
        worker = self._next_worker()
        if worker is None:
            return
        self._pool.tasks[worker].put((self._sent, index))
        self._owner[self._sent] = worker
        self._load[worker] += 1
        self._sent += 1

    def _next_worker(self) -> int | None:
        for worker in itertools.islice(self._turns, self._num_workers):
            # Out of order, a slow worker gets no more than its share; in order, the consumer waits for it anyway.
            if self._active[worker] and (self._in_order or self._load[worker] < self._max_tasks // sum(self._active)):
                return worker
        return None

    def _next_data(self) -> Any:
        while True:
            self._skip_lost_tasks()
            if self._next == self._sent:
                if not self._persistent_workers:
                    self._shutdown_workers()
                raise StopIteration
            number = self._next
            if number in self._ready:
                data = self._ready.pop(number)
            else:
                number, data = self._pool.receive(self._timeout, self._active)
            if isinstance(data, StreamEnd):
                self._end_worker(data.worker_id)
            elif number != self._next and self._in_order:
                self._ready[number] = data
            else:
                return self._deliver(number, data)

    def _skip_lost_tasks(self) -> None:
        """Pass by the tasks already delivered, and those sent to a worker after its stream had ended."""
        while self._next < self._sent:
            worker = self._owner.get(self._next)
            if worker is not None:
                if self._active[worker] or self._next in self._ready:
                    return
                del self._owner[self._next]
            self._next += 1

    def _end_worker(self, worker: int) -> None:
        self._active[worker] = False
        if not self._persistent_workers:
            self._pool.tasks[worker].put(None)
        self._send_next()

    def _deliver(self, number: int, data: Any) -> Any:
        self._load[self._owner.pop(number)] -= 1
        self._send_next()
        if isinstance(data, ExceptionWrapper):
            raise data.exception()
        return data
