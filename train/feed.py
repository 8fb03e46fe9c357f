"""Batches of a loader from any place of an epoch on, as if those before had been read.

The sampler is run again from the generators' states at the epoch's begin, its indices are passed by, and no sample of
them is loaded. Worker threads and processes have generators of their own: each of their batches comes with the
worker's states after it, so that a worker can be put where it stood. Streams (IterableDataset, and iterables which are
no DataLoader) have no indices: their batches are read again and dropped.
"""

from __future__ import annotations

import copy
import dataclasses
import random
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

import numpy as np

from ..autograd.random import default_generator
from ..utils.data import DataLoader, IterableDataset, get_worker_info
from ..utils.data.iterators import _MultiProcessingDataLoaderIter
from ..utils.data.workers import WorkerJob
from .randomness import Kind, set_state, state_of


class Feed:
    """A loader, and what is to be known of its place."""

    def __init__(self, loader: Any):
        self.loader = loader
        self.workers: dict[int, Any] = {}  # worker -> its generators' states after its last batch that was used
        plain = isinstance(loader, DataLoader) and type(loader).__iter__ is DataLoader.__iter__
        self.indexed = plain and not isinstance(loader.dataset, IterableDataset)

    @property
    def length(self) -> int | None:
        """Batches per epoch; None where the loader does not know."""
        try:
            return len(self.loader)
        except TypeError:
            return None

    @property
    def generators(self) -> list[Kind]:
        """The generators that the loader and its samplers were given."""
        found: list[Any] = []
        for part in self._parts():
            generator = getattr(part, "generator", None)
            if isinstance(generator, Kind) and all(generator is not each for each in found):
                found.append(generator)
        return found

    def _parts(self) -> list[Any]:
        batches = getattr(self.loader, "batch_sampler", None)
        parts = [self.loader, getattr(self.loader, "sampler", None), batches, getattr(batches, "sampler", None)]
        return [part for part in parts if part is not None]

    def begin(self, epoch: int) -> None:
        """Tells samplers that ask for it (DistributedSampler) which epoch it is."""
        for part in self._parts():
            if hasattr(part, "set_epoch"):
                part.set_epoch(epoch)

    def batches(self, skip: int = 0, workers: Mapping[int, Any] | None = None, recorded: bool = False) -> Iterator[Any]:
        """The batches from number `skip` on; the generators must stand as at the epoch's begin.

        workers: the attribute of that name, as it was. recorded: persistent workers too keep it up to date, and are
        therefore started anew in each epoch.
        """
        self.workers = dict(workers or {})
        if not self.indexed:
            iterator = iter(self.loader)
            for _ in range(skip):
                next(iterator)
            return iterator
        loader = self.loader
        if not skip and (not loader.num_workers or (loader.persistent_workers and not recorded)):
            return iter(loader)
        name = "batch_sampler" if loader._auto_collation else "sampler"
        loader = copy.copy(loader)
        loader.__dict__.update({name: _Skipping(loader.__dict__[name], skip), "persistent_workers": False})
        if loader.num_workers and loader.in_order:
            return _RecordingIter(loader, skip, self.workers)
        iterator = iter(loader)
        iterator._sampler_iter.advance()  # now, while the generators stand at the begin
        return iterator


class _Skipping:
    """A sampler whose iterators pass by their first `skip` items when the next one is asked for."""

    def __init__(self, sampler: Any, skip: int):
        self.sampler, self.skip = sampler, skip

    def __iter__(self) -> _SkippingIterator:
        return _SkippingIterator(iter(self.sampler), self.skip)

    def __len__(self) -> int:
        return len(self.sampler)


class _SkippingIterator:
    def __init__(self, items: Iterator[Any], skip: int):
        self.items, self.skip = items, skip

    def __iter__(self) -> _SkippingIterator:
        return self

    def advance(self) -> None:
        while self.skip:
            next(self.items)
            self.skip -= 1

    def __next__(self) -> Any:
        self.advance()
        return next(self.items)


def _of_worker() -> list[Kind]:
    """The generators of the worker that calls."""
    info: Any = get_worker_info()
    if info.rng is None:  # a process, whose global ones are its own
        return [default_generator, random._inst, np.random.mtrand._rand]
    return [info.rng.torch_generator, info.rng.random_generator, info.rng.numpy_generator]


class _RecordingFetcher:
    """Runs in a worker: batches come with the states of the worker's generators after them."""

    def __init__(self, dataset: Any, make: Callable[[Any], Any], states: list[Any] | None):
        self.inner = make(dataset)
        for generator, state in zip(_of_worker(), states or (), strict=False):
            set_state(generator, state)

    def fetch(self, index: Any) -> Any:
        batch = self.inner.fetch(index)
        return batch, [state_of(generator) for generator in _of_worker()]


class _RecordingIter(_MultiProcessingDataLoaderIter):
    """Batches through workers, from number `skip` on, with the workers' states in `states`."""

    def __init__(self, loader: DataLoader, skip: int, states: dict[int, Any]):
        self.states = states
        self._passed = skip % loader.num_workers
        super().__init__(loader)

    def _job(self, loader: DataLoader, worker_id: int) -> WorkerJob:
        job = super()._job(loader, worker_id)
        make = partial(_RecordingFetcher, make=job.make_fetcher, states=self.states.get(worker_id))
        return dataclasses.replace(job, make_fetcher=make)

    def _next_worker(self) -> int | None:
        while self._passed:  # batch n is loaded by worker n % num_workers, also after a resume
            next(self._turns)
            self._passed -= 1
        return super()._next_worker()

    def _deliver(self, number: int, data: Any) -> Any:
        worker = self._owner[number]
        batch, self.states[worker] = super()._deliver(number, data)
        return batch
