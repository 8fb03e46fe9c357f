"""Samplers: in which order the indices of a dataset are read.

The random ones take the same numbers from the same generator at the same moment as PyTorch's, so that for one seed the
order is PyTorch's, and so is every number drawn afterwards. That is why they are generator functions (nothing is drawn
before the first index is asked for), why `RandomSampler` draws in portions of 32, and why it draws one more permutation
after the last whole one. Indices are drawn on the CPU wherever new tensors go.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence, Sized
from typing import Any, Generic, TypeVar

from ...autograd.api.creation import as_tensor, empty
from ...autograd.api.random import multinomial, randint, randperm
from ...autograd.dtypes import float64, int64
from ...autograd.random import Generator
from ...autograd.tensor import Tensor

__all__ = [
    "BatchSampler",
    "RandomSampler",
    "Sampler",
    "SequentialSampler",
    "SubsetRandomSampler",
    "WeightedRandomSampler",
]

T_co = TypeVar("T_co", covariant=True)

_PORTION = 32  # how many indices with replacement PyTorch draws at a time


def draw_seed(generator: Generator | None) -> int:
    """One draw of `torch.empty((), dtype=torch.int64).random_(generator=generator)`: an int in [0, 2**63)."""
    return int(empty((), dtype=int64, device="cpu").random_(generator=generator).item())


def _positive_int(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


class Sampler(Generic[T_co]):
    """Base of all samplers. Subclasses write `__iter__()`, and `__len__()` where the number of indices is known."""

    def __iter__(self) -> Iterator[T_co]:
        raise NotImplementedError


class SequentialSampler(Sampler[int]):
    """0, 1, ..., len(data_source) - 1."""

    data_source: Sized

    def __init__(self, data_source: Sized) -> None:
        self.data_source = data_source

    def __iter__(self) -> Iterator[int]:
        return iter(range(len(self.data_source)))

    def __len__(self) -> int:
        return len(self.data_source)


class RandomSampler(Sampler[int]):
    """Indices in random order; with `replacement`, `num_samples` independent ones.

    Without a `generator`, each pass draws a seed from the default generator and shuffles with a generator of its own.
    `TypeError` if `replacement` is no bool, `ValueError` if `num_samples` is not a positive int.
    """

    data_source: Sized
    replacement: bool

    def __init__(
        self,
        data_source: Sized,
        replacement: bool = False,
        num_samples: int | None = None,
        generator: Generator | None = None,
    ) -> None:
        self.data_source = data_source
        self.replacement = replacement
        self._num_samples = num_samples
        self.generator = generator
        if not isinstance(self.replacement, bool):
            raise TypeError(f"replacement should be a boolean value, but got replacement={self.replacement}")
        if not isinstance(self.num_samples, int) or self.num_samples <= 0:
            raise ValueError(f"num_samples should be a positive integer value, but got num_samples={self.num_samples}")

    @property
    def num_samples(self) -> int:
        """How many indices one pass yields; follows the dataset's size unless it was given."""
        return len(self.data_source) if self._num_samples is None else self._num_samples

    def __iter__(self) -> Iterator[int]:
        n = len(self.data_source)
        generator = self.generator
        if generator is None:
            generator = Generator()
            generator.manual_seed(draw_seed(None))
        if self.replacement:
            portions, rest = divmod(self.num_samples, _PORTION)
            for size in [_PORTION] * portions + [rest]:
                yield from randint(n, (size,), dtype=int64, device="cpu", generator=generator).tolist()
        else:
            passes, rest = divmod(self.num_samples, n)
            for count in itertools.chain(itertools.repeat(n, passes), (rest,)):
                yield from randperm(n, device="cpu", generator=generator).tolist()[:count]

    def __len__(self) -> int:
        return self.num_samples


class SubsetRandomSampler(Sampler[int]):
    """The given `indices` in random order."""

    indices: Sequence[int]

    def __init__(self, indices: Sequence[int], generator: Generator | None = None) -> None:
        self.indices = indices
        self.generator = generator

    def __iter__(self) -> Iterator[int]:
        for i in randperm(len(self.indices), device="cpu", generator=self.generator).tolist():
            yield self.indices[i]

    def __len__(self) -> int:
        return len(self.indices)


class WeightedRandomSampler(Sampler[int]):
    """`num_samples` indices of [0, len(weights)), drawn with the given weights, which need not sum to one.

    `ValueError` if `num_samples` is not a positive int, `replacement` no bool, or `weights` not one-dimensional.
    """

    weights: Tensor
    num_samples: int
    replacement: bool

    def __init__(
        self,
        weights: Sequence[float] | Tensor,
        num_samples: int,
        replacement: bool = True,
        generator: Generator | None = None,
    ) -> None:
        if not _positive_int(num_samples):
            raise ValueError(f"num_samples should be a positive integer value, but got num_samples={num_samples}")
        if not isinstance(replacement, bool):
            raise ValueError(f"replacement should be a boolean value, but got replacement={replacement}")
        self.weights = as_tensor(weights, dtype=float64)
        if len(self.weights.shape) != 1:
            raise ValueError(
                f"weights should be a 1d sequence but given weights have shape {tuple(self.weights.shape)}"
            )
        self.num_samples = num_samples
        self.replacement = replacement
        self.generator = generator

    def __iter__(self) -> Iterator[int]:
        yield from multinomial(self.weights, self.num_samples, self.replacement, generator=self.generator).tolist()

    def __len__(self) -> int:
        return self.num_samples


class BatchSampler(Sampler[list[int]]):
    """Lists of `batch_size` indices of `sampler`; the last one is shorter, or left out with `drop_last`.

    `ValueError` if `batch_size` is not a positive int or `drop_last` no bool.

        list(BatchSampler(range(10), 3, drop_last=False))      # [[0, 1, 2], [3, 4, 5], [6, 7, 8], [9]]
    """

    def __init__(self, sampler: Sampler[int] | Iterable[int], batch_size: int, drop_last: bool) -> None:
        if not _positive_int(batch_size):
            raise ValueError(f"batch_size should be a positive integer value, but got batch_size={batch_size}")
        if not isinstance(drop_last, bool):
            raise ValueError(f"drop_last should be a boolean value, but got drop_last={drop_last}")
        self.sampler = sampler
        self.batch_size = batch_size
        self.drop_last = drop_last

    def __iter__(self) -> Iterator[list[int]]:
        # A generator, not a chain of iterators: iter(self.sampler) must wait for the first batch to be asked for.
        indices = iter(self.sampler)
        while batch := list(itertools.islice(indices, self.batch_size)):
            if self.drop_last and len(batch) < self.batch_size:
                return
            yield batch

    def __len__(self) -> int:
        n = len(self.sampler)  # type: ignore[arg-type]  # a plain iterable may have no length: TypeError, as it should
        return n // self.batch_size if self.drop_last else (n + self.batch_size - 1) // self.batch_size
