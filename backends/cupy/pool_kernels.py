"""Pooling over one to three dimensions, a thread per output; the backward passes gather, so nothing is added twice."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from ..base import may_decline
from .launch import FLAG, FLAGS, TYPES, Kernel, contiguous, empty, served

MAX = Kernel("pool.cuh", "max_pool", "PPPiS", T=TYPES, INDICES=FLAGS)
MAX_BACKWARD = Kernel("pool.cuh", "max_pool_backward", "PPPPiS", T=TYPES, DILATED=FLAGS)
AVG = Kernel("pool.cuh", "avg_pool", "PPiSfi", T=TYPES)
AVG_INPUT = Kernel("pool.cuh", "avg_pool_input", "PPiSfi", T=TYPES)

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


def _grid(total: int) -> tuple[int]:
    return (-(-total // 256),)


def _max(x: Any, kernel: Any, stride: Any, padding: Any, dilation: Any, size: Any, indices: bool) -> Any:
    rank = len(kernel)
    name = _served(x, rank)
    shape = (*x.shape[: x.ndim - rank], *size)
    if name is None or not 0 < math.prod(shape) < MOST:
        return NotImplemented
    x, out = contiguous(x), empty(shape, x.dtype)
    found = empty(shape, "int64") if indices else None
    w = windows(x.shape[x.ndim - rank :], size, kernel, stride, padding, dilation)
    MAX((name, FLAG[indices]), _grid(out.size), (256,), x, out, found, out.size, w)
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
    g, x, out = contiguous(g), contiguous(x), contiguous(out)
    gx = empty(x.shape, x.dtype)
    w = windows(x.shape[x.ndim - rank :], size, kernel, stride, padding, dilation)
    MAX_BACKWARD((name, FLAG[max(dilation) > 1]), _grid(gx.size), (256,), g, x, out, gx, gx.size, w)
    return gx


def _divisor(divisor: Any) -> tuple[float, bool]:
    """(number or 0, whether padding is left out) as the source has it."""
    return (0.0, divisor == "inside") if isinstance(divisor, str) else (float(divisor), False)


def _avg(
    run: Kernel, x: Any, shape: Any, extent: Any, kernel: Any, stride: Any, padding: Any, size: Any, by: Any
) -> Any:
    name = _served(x, len(kernel))
    if name is None or not 0 < math.prod(shape) < MOST:
        return NotImplemented
    x, out = contiguous(x), empty(shape, x.dtype)
    w = windows(tuple(extent), size, kernel, stride, padding, (1,) * len(kernel))
    run((name,), _grid(out.size), (256,), x, out, out.size, w, *_divisor(by))
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
