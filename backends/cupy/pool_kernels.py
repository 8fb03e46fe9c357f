"""Pooling over one to three dimensions; the backward passes gather, so nothing is added twice.

A thread per output. Of images whose channels lie side by side it takes 16 bytes of them, and the result lies so too.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from ..base import may_decline
from .launch import FLAG, FLAGS, TYPES, Kernel, contiguous, empty, served, vector
from .layout import in_images, lies_last, new_images

MAX = Kernel("pool.cuh", "max_pool", "PPPiiS", T=TYPES, INDICES=FLAGS, VECTOR=FLAGS)
MAX_BACKWARD = Kernel("pool.cuh", "max_pool_backward", "PPPPiiS", T=TYPES, DILATED=FLAGS, VECTOR=FLAGS)
AVG = Kernel("pool.cuh", "avg_pool", "PPiiSfi", T=TYPES, VECTOR=FLAGS)
AVG_INPUT = Kernel("pool.cuh", "avg_pool_input", "PPiiSfi", T=TYPES, VECTOR=FLAGS)

MOST = 1 << 31  # elements

WINDOWS = np.dtype([(name, "i4", 3) for name in ("extent", "size", "kernel", "stride", "padding", "dilation")])


@functools.lru_cache(maxsize=1024)
def windows(extent: Any, size: Any, kernel: Any, stride: Any, padding: Any, dilation: Any) -> Any:
    """The struct Windows of the source, the leading dimensions of one or two filled up with single places."""

    def three(values: Any, fill: int) -> tuple[int, ...]:
        return (*[fill] * (3 - len(values)), *values)

    found = np.zeros(1, WINDOWS)
    found[0] = (
        three(extent, 1), three(size, 1), three(kernel, 1), three(stride, 1), three(padding, 0), three(dilation, 1)
    )  # fmt: skip
    return found


def _served(x: Any, rank: int, *more: Any) -> str | None:
    """As `launch.served`, and few enough elements for 32-bit numbers."""
    return served(x, *more) if rank <= 3 and x.size < MOST else None


def _taken(x: Any, rank: int, *more: Any) -> tuple[bool, int, list[Any]]:
    """(channels-last, channels beside each other in memory, the arrays in that layout), which is that of x."""
    last = x.ndim == rank + 2 and lies_last(x)
    if last:
        return True, x.shape[1], [in_images(a, True) for a in (x, *more)]
    return False, 1, [contiguous(a) for a in (x, *more)]


def _new(shape: Any, dtype: Any, last: bool) -> Any:
    return new_images(shape, dtype, True) if last else empty(shape, dtype)


def _threads(out: Any, inner: int, *arrays: Any) -> tuple[str, int, tuple[int]]:
    """(template argument VECTOR, threads, grid) for the elements of `out`, a thread taking 16 bytes where it can."""
    wide = inner > 1 and vector(inner, out, *arrays)
    total = out.size // (16 // out.itemsize) if wide else out.size
    return FLAG[wide], total, (-(-total // 256),)


def _max(x: Any, kernel: Any, stride: Any, padding: Any, dilation: Any, size: Any, indices: bool) -> Any:
    rank = len(kernel)
    name = _served(x, rank)
    shape = (*x.shape[: x.ndim - rank], *size)
    if name is None or not 0 < math.prod(shape) < MOST:
        return NotImplemented
    last, inner, (x,) = _taken(x, rank)
    out, found = _new(shape, x.dtype, last), _new(shape, "int64", last) if indices else None
    w = windows(x.shape[x.ndim - rank :], size, kernel, stride, padding, dilation)
    wide, total, grid = _threads(out, inner, x)
    MAX((name, FLAG[indices], wide), grid, (256,), x, out, found, total, inner, w)
    return out, found


@may_decline
def max_pool(x: Any, *, kernel: Any, stride: Any, padding: Any, dilation: Any, size: Any) -> Any:
    """Op max_pool."""
    found = _max(x, kernel, stride, padding, dilation, size, False)
    return found if found is NotImplemented else found[0]


@may_decline
def max_pool_with_indices(x: Any, *, kernel: Any, stride: Any, padding: Any, dilation: Any, size: Any) -> Any:
    """Op max_pool_with_indices."""
    return _max(x, kernel, stride, padding, dilation, size, True)


@may_decline
def max_pool_backward(
    g: Any, x: Any, out: Any, *, kernel: Any, stride: Any, padding: Any, dilation: Any, size: Any
) -> Any:
    """Composite max_pool_backward."""
    rank = len(kernel)
    name = _served(x, rank, g, out)
    if name is None or not out.size:
        return NotImplemented
    last, inner, (x, g, out) = _taken(x, rank, g, out)
    gx = _new(x.shape, x.dtype, last)
    w = windows(x.shape[x.ndim - rank :], size, kernel, stride, padding, dilation)
    wide, total, grid = _threads(gx, inner, g, x, out)
    MAX_BACKWARD((name, FLAG[max(dilation) > 1], wide), grid, (256,), g, x, out, gx, total, inner, w)
    return gx


def _divisor(divisor: Any) -> tuple[float, bool]:
    """(number or 0, whether padding is left out) as the source has it."""
    return (0.0, divisor == "inside") if isinstance(divisor, str) else (float(divisor), False)


def _avg(
    run: Kernel, x: Any, shape: Any, extent: Any, kernel: Any, stride: Any, padding: Any, size: Any, by: Any
) -> Any:
    rank = len(kernel)
    name = _served(x, rank)
    if name is None or not 0 < math.prod(shape) < MOST:
        return NotImplemented
    last, inner, (x,) = _taken(x, rank)
    out = _new(shape, x.dtype, last)
    w = windows(tuple(extent), size, kernel, stride, padding, (1,) * rank)
    wide, total, grid = _threads(out, inner, x)
    run((name, wide), grid, (256,), x, out, total, inner, w, *_divisor(by))
    return out


@may_decline
def avg_pool(x: Any, *, kernel: Any, stride: Any, padding: Any, size: Any, divisor: Any) -> Any:
    """Op avg_pool."""
    lead = x.ndim - len(kernel)
    return _avg(AVG, x, (*x.shape[:lead], *size), x.shape[lead:], kernel, stride, padding, size, divisor)


@may_decline
def avg_pool_input(g: Any, *, shape: Any, kernel: Any, stride: Any, padding: Any, size: Any, divisor: Any) -> Any:
    """Op avg_pool_input."""
    extent = shape[len(shape) - len(kernel) :]
    return _avg(AVG_INPUT, g, tuple(shape), extent, kernel, stride, padding, size, divisor)


KERNELS: dict[str, Callable[..., Any]] = {
    "max_pool": max_pool,
    "max_pool_with_indices": max_pool_with_indices,
    "max_pool_backward": max_pool_backward,
    "avg_pool": avg_pool,
    "avg_pool_input": avg_pool_input,
}
