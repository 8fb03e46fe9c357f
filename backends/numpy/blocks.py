"""Kernels over blocks that fit the cache, in as many threads as pay.

A block is large, as two threads that call NumPy wait for each other between its calls: with blocks of 16 K elements a
chain of nine passes takes 0.8 of one thread's time, with 64 K 0.53. Beyond the second-level cache there is a third,
which serves passes as well.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from .. import threads
from . import blas

BLOCK = 1 << 16  # elements
GRAIN = 1 << 15  # elements of a chain of passes from which a thread of its own pays
F32, F64 = np.dtype(np.float32), np.dtype(np.float64)


def pointwise(kernel: Callable[..., Any], buffers: int, *arrays: Any, made: Any = None) -> Any:
    """`kernel(out, *blocks, *buffers)` over arrays of one shape and dtype; gives the whole `out`.

    made: the array to write, of any dtype, row-major; a new one of the arrays' dtype where it is None.
    """
    x = arrays[0]
    out = np.empty(x.shape, x.dtype) if made is None else made
    size = x.size
    flat = [out.reshape(-1), *[np.ascontiguousarray(a).reshape(-1) for a in arrays]]
    if size <= BLOCK and size < 2 * GRAIN:
        kernel(*flat, *[np.empty(size, x.dtype) for _ in range(buffers)])
        return out

    def span(start: int, stop: int) -> None:
        step = min(stop - start, BLOCK)
        scratch = [np.empty(step, x.dtype) for _ in range(buffers)]
        for i in range(start, stop, step):
            j = min(i + step, stop)
            kernel(*[a[i:j] for a in flat], *[b[: j - i] for b in scratch])

    threads.over(span, size, 0 if threads.worth(size, GRAIN) else 1, 64)
    return out


def rows(kernel: Callable[[int, int], Any], count: int, width: int, grain: int = GRAIN) -> None:
    """`kernel(start, stop)` for blocks of the rows of `width` elements that fit the cache. It may call the BLAS."""
    step = max(1, BLOCK // max(width, 1))

    def span(start: int, stop: int) -> None:
        for i in range(start, stop, step):
            kernel(i, min(i + step, stop))

    if threads.worth(count * width, grain):
        with blas.alone():
            threads.over(span, count)
    else:
        span(0, count)
