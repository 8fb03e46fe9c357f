"""Fetchers: from what the sampler gives (an index, or the indices of a batch) to what the loader yields."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ...autograd.tensor import Tensor
from .collate import collate_tensor_fn, default_collate, default_collate_fn_map
from .dataset import Subset, TensorDataset


class IterableFetcher:
    """Reads the next samples of a stream; the indices only say how many. `StopIteration` at its end."""

    def __init__(self, dataset: Any, auto_collation: bool, collate_fn: Callable, drop_last: bool) -> None:
        self.auto_collation = auto_collation
        self.collate_fn = collate_fn
        self.drop_last = drop_last
        self.samples = iter(dataset)
        self.ended = False

    def fetch(self, index: Any) -> Any:
        """One batch, as long as `index` unless the stream ends; without automatic batches, one sample."""
        if not self.auto_collation:
            return self.collate_fn(next(self.samples))
        batch: list = []
        while not self.ended and len(batch) < len(index):
            try:
                batch.append(next(self.samples))
            except StopIteration:
                self.ended = True  # a stream that has ended once is not asked again
        if not batch or (self.drop_last and len(batch) < len(index)):
            raise StopIteration
        return self.collate_fn(batch)


class MapFetcher:
    """Reads the samples at given indices."""

    def __init__(self, dataset: Any, auto_collation: bool, collate_fn: Callable, drop_last: bool) -> None:
        self.dataset = dataset
        self.auto_collation = auto_collation
        self.collate_fn = collate_fn
        self.whole = batch_reader(dataset) if auto_collation and collate_fn is default_collate else None

    def fetch(self, index: Any) -> Any:
        """The batch at a list of indices; without automatic batches, the sample at one index."""
        dataset = self.dataset
        if not self.auto_collation:
            return self.collate_fn(dataset[index])
        if self.whole is not None and _are_ints(index):
            return self.whole(index)
        getitems = getattr(dataset, "__getitems__", None)
        return self.collate_fn(getitems(index) if getitems else [dataset[i] for i in index])


def _are_ints(index: Any) -> bool:
    return type(index) is list and set(map(type, index)) == {int}


def batch_reader(dataset: Any) -> Callable[[list[int]], list[Tensor]] | None:
    """How to read a batch of tensors at once: one indexing per tensor in place of one per sample, then a stack.

    Gives what `default_collate` makes of the samples, some ten times faster. Only for a `TensorDataset`, or subsets of
    one, that reads its samples as those classes do, and while tensors are collated by `stack`; None for all else.
    """
    cls = type(dataset)
    if isinstance(dataset, TensorDataset):
        tensors = dataset.tensors
        plain = cls.__getitem__ is TensorDataset.__getitem__ and not hasattr(dataset, "__getitems__")
        stacked = default_collate_fn_map.get(Tensor) is collate_tensor_fn and tuple not in default_collate_fn_map
        if plain and stacked and all(type(tensor) is Tensor for tensor in tensors):
            return lambda indices: [tensor[indices].contiguous() for tensor in tensors]
    elif isinstance(dataset, Subset) and (cls.__getitem__, cls.__getitems__) == (
        Subset.__getitem__,
        Subset.__getitems__,
    ):
        inner = batch_reader(dataset.dataset)
        if inner is not None and _are_ints(dataset.indices):
            chosen = dataset.indices
            return lambda indices: inner([chosen[i] for i in indices])
    return None
