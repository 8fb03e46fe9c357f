"""The gradient of a look-up table: the rows of g sorted by where they go, so that no two threads meet in one row.

A place with few rows is served in rounds, each with the next row of every place; one with many by a product with ones.
np.add.at takes 5 to 10 times as long.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from .. import threads
from ..base import may_decline
from . import blas
from .blocks import F32, F64

NARROW = 16  # columns: for fewer, the generic form
FEW = 8  # rows of one place that are added in rounds
LOW, HALF = np.int64(0xFFFFFFFF), np.int64(32)
GRAIN = 1 << 16  # elements of g that a thread of its own is worth


def zeros(rows: int, columns: int, dtype: Any) -> Any:
    """Zeros, filled by all threads where they are many."""
    if not threads.worth(rows * columns, 1 << 19):
        return np.zeros((rows, columns), dtype)
    out = np.empty((rows, columns), dtype)

    def fill(start: int, stop: int) -> None:
        out[start:stop] = 0

    threads.over(fill, rows)
    return out


class _Sorted:
    """Rows of g in the order of their places. starts, counts: of the rows of each place that occurs."""

    def __init__(self, g: Any, index: Any, out: Any):
        keys = index << HALF
        keys |= np.arange(len(index))
        keys.sort()
        places = keys >> HALF
        keys &= LOW
        self.g, self.out, self.order = g, out, keys
        starts = np.flatnonzero(places[1:] != places[:-1]) + 1
        self.starts = np.concatenate((np.zeros(1, np.int64), starts))
        self.counts = np.diff(np.append(self.starts, len(index)))
        self.places = places[self.starts]
        self.ones = np.ones(int(self.counts.max()), g.dtype)

    def add(self, start: int, stop: int) -> None:
        """Writes the sums of the places from start to stop."""
        starts, counts, places = self.starts[start:stop], self.counts[start:stop], self.places[start:stop]
        many = counts > FEW
        if many.any():
            for first, count, place in zip(starts[many], counts[many], places[many], strict=True):
                rows = self.g.take(self.order[first : first + count], 0)
                np.matmul(self.ones[:count], rows, out=self.out[place])
            few = ~many
            starts, counts, places = starts[few], counts[few], places[few]
        if not len(starts):
            return
        self.out[places] = self.g.take(self.order[starts], 0)
        for k in range(1, int(counts.max())):
            live = counts > k
            self.out[places[live]] += self.g.take(self.order[starts[live] + k], 0)


@may_decline
def embedding_backward(g: Any, index: Any, *, rows: int, padding: int) -> Any:
    """Op embedding_backward, for rows of some length and indices from 0 to rows - 1."""
    width, dt = g.shape[-1], g.dtype
    if (dt is not F32 and dt is not F64) or width < NARROW or not index.size or rows > LOW:
        return NotImplemented
    places = index.reshape(-1).astype(np.int64)
    if places.min() < 0 or places.max() >= rows:
        return NotImplemented
    out = zeros(rows, width, dt)
    work = _Sorted(np.ascontiguousarray(g).reshape(-1, width), places, out)
    if threads.worth(g.size, GRAIN):
        with blas.alone():
            threads.over(work.add, len(work.places))
    else:
        work.add(0, len(work.places))
    if padding >= 0:
        out[padding] = 0
    return out


KERNELS: dict[str, Callable[..., Any]] = {"embedding_backward": embedding_backward}
