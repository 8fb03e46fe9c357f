"""Kernels over blocks that fit the cache, in as many threads as pay.

Threads that call NumPy wait for each other between its calls, so they get larger blocks, of which some fit the
third-level cache: layer norm on (4096, 768) takes 22 ms in two threads with blocks of 64 K elements, and of one thread,
12 ms with 512 K.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from .. import threads
from . import blas

BLOCK, SHARED_BLOCK = 1 << 16, 1 << 19  # elements, of one thread's blocks and where there are several
# Elements from which a thread of its own pays: of a chain of passes, of one or two
GRAIN, CHEAP = 1 << 17, 1 << 19
F32, F64 = np.dtype(np.float32), np.dtype(np.float64)


def pointwise(
    kernel: Callable[..., Any], buffers: int, *arrays: Any, made: Any = None, grain: int = GRAIN
) -> Any:
    """`kernel(out, *blocks, *buffers)` over arrays of one shape and dtype; gives the whole `out`.

    made: the array to write, of any dtype, row-major; a new one of the arrays' dtype where it is None.
    """
    x = arrays[0]
    out = np.empty(x.shape, x.dtype) if made is None else made
    size = x.size
    flat = [out.reshape(-1), *[np.ascontiguousarray(a).reshape(-1) for a in arrays]]
    if size <= BLOCK:
        kernel(*flat, *[np.empty(size, x.dtype) for _ in range(buffers)])
        return out

    shared = threads.worth(size, grain)

    def span(start: int, stop: int) -> None:
        step = min(stop - start, SHARED_BLOCK if shared else BLOCK)
        scratch = [np.empty(step, x.dtype) for _ in range(buffers)]
        for i in range(start, stop, step):
            j = min(i + step, stop)
            kernel(*[a[i:j] for a in flat], *[b[: j - i] for b in scratch])

    threads.over(span, size, 0 if shared else 1, 64)
    return out


def rows(kernel: Callable[[int, int], Any], count: int, width: int, grain: int = GRAIN) -> None:
    """`kernel(start, stop)` for blocks of the rows of `width` elements that fit the cache. It may call the BLAS."""
    shared = threads.worth(count * width, grain)
    step = max(1, (SHARED_BLOCK if shared else BLOCK) // max(width, 1))

    def span(start: int, stop: int) -> None:
        for i in range(start, stop, step):
            kernel(i, min(i + step, stop))

    if shared:
        with blas.alone():
            threads.over(span, count)
    else:
        span(0, count)
