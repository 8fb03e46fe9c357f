"""Embedding gradients, maximum pooling in two dimensions and the 2-norm, compiled."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from .. import threads
from ..base import may_decline
from .compiled import Function, Group, rows

NEEDS = "numba"
SOURCE = Group("places")
SMALL = 1 << 12
GRAIN, CHEAP = 1 << 15, 1 << 18  # elements that are worth a thread; of pooling by halves, which is a tenth of the work
F32, F64 = np.dtype(np.float32), np.dtype(np.float64)
_SUFFIX = {F32: "_f4", F64: "_f8"}


def _kernel(name: str, *arrays: Any) -> Function | None:
    """The kernel for arrays that are all float32 or all float64; None where there is none."""
    dt = arrays[0].dtype
    if (dt is not F32 and dt is not F64) or any(a.dtype is not dt for a in arrays):
        return None
    return SOURCE.get(name + _SUFFIX[dt])


@may_decline
def embedding_backward(g: Any, index: Any, *, rows: int, padding: int) -> Any:
    """Op embedding_backward: threads share the columns, so that each sum has one order."""
    width = g.shape[-1]
    if g.size < SMALL or not width or index.dtype.kind not in "iu":
        return NotImplemented
    add = _kernel("add_rows", g)
    zero = _kernel("zero", g)
    if add is None or zero is None:
        return NotImplemented
    out = np.empty((rows, width), g.dtype)
    zero.over(out.size, out, align=64)
    places = _contiguous(index.reshape(-1).astype(np.int64, copy=False))
    add.over(width, _contiguous(g), places, out, places.size, width, padding, size=g.size, grain=GRAIN, align=16)
    return out


_contiguous = rows  # `rows` is also the op's name for the height of its table


@may_decline
def vector_norm(x: Any, *, p: Any, axis: tuple[int, ...], keepdims: bool) -> Any:
    """Op vector_norm: the 2-norm of a whole array."""
    if p != 2 or x.size < SMALL or len(axis) != x.ndim:
        return NotImplemented
    run = _kernel("squares", x)
    if run is None:
        return NotImplemented
    x = rows(x)
    sums: dict[int, Any] = {}

    def span(start: int, stop: int) -> None:
        sums[start] = np.empty(1)
        run(x, sums[start], start, stop)

    if threads.worth(x.size):
        threads.over(span, x.size, align=4096)
    else:
        span(0, x.size)
    total = math.fsum(float(sums[start][0]) for start in sums) if len(sums) > 1 else float(sums[0][0])
    return np.full((1,) * x.ndim if keepdims else (), math.sqrt(total) if total == total else math.nan, x.dtype)


# ---- maximum pooling

NARROW = 16  # windows in a row, below which NumPy over whole planes is as fast


def _ranges(extent: int, kernel: int, stride: int, padding: int, dilation: int, size: int) -> Any:
    """(offset, first window, end of the windows) of each tap in one dimension: int64 (kernel, 3)."""
    found = []
    for k in range(kernel):
        offset = k * dilation - padding
        found.append((offset, max(0, -(offset // stride)), min(size, (extent - 1 - offset) // stride + 1)))
    return np.array(found, np.int64)


def _pooled(x: Any, kernel: Any, stride: Any, padding: Any, dilation: Any, size: Any) -> Any:
    """(planes, ranges of the rows, of the columns, H, W, OH, OW, taps and steps) of pooling in two dimensions."""
    each = zip(x.shape[-2:], kernel, stride, padding, dilation, size, strict=True)
    ranges = [_ranges(*d) for d in each]
    return math.prod(x.shape[:-2]), (*ranges, *x.shape[-2:], *size, *kernel, *stride)


def _halves(kernel: Any, stride: Any, padding: Any, dilation: Any) -> bool:
    return tuple(kernel) == tuple(stride) == (2, 2) and not any(padding) and set(dilation) == {1}


@may_decline
def max_pool(x: Any, *, kernel: Any, stride: Any, padding: Any, dilation: Any, size: Any) -> Any:
    """Op max_pool in two dimensions."""
    if len(kernel) != 2 or x.size < SMALL:
        return NotImplemented
    halves = _halves(kernel, stride, padding, dilation)
    halves = halves and all(2 * n <= extent for n, extent in zip(size, x.shape[-2:], strict=True))
    if size[1] < NARROW and not halves:
        return NotImplemented
    run = _kernel("max_pool_2x2" if halves else "max_pool", x)
    if run is None:
        return NotImplemented
    planes, geometry = _pooled(x, kernel, stride, padding, dilation, size)
    out = np.empty((*x.shape[:-2], *size), x.dtype)
    numbers = geometry[2:6] if halves else (*geometry, -math.inf)
    run.over(planes, rows(x), out, *numbers, size=x.size, grain=CHEAP if halves else GRAIN)
    return out


@may_decline
def max_pool_backward(
    g: Any, x: Any, out: Any, *, kernel: Any, stride: Any, padding: Any, dilation: Any, size: Any
) -> Any:
    """Composite max_pool_backward in two dimensions."""
    if len(kernel) != 2 or x.size < SMALL:
        return NotImplemented
    covered = _halves(kernel, stride, padding, dilation) and tuple(x.shape[-2:]) == (2 * size[0], 2 * size[1])
    if covered and size[1] >= 4 and x.dtype is g.dtype is out.dtype is F32:
        run = SOURCE.get("max_pool_2x2_backward")
        if run is None:
            return NotImplemented
        gx = np.empty(x.shape, x.dtype)
        run.over(math.prod(x.shape[:-2]), rows(g), rows(x), rows(out), gx, *size, size=x.size, grain=CHEAP)
        return gx
    if size[1] < NARROW:
        return NotImplemented
    run = _kernel("max_pool_backward", x, g, out)
    if run is None or math.prod(x.shape[-2:]) >= 1 << 29:
        return NotImplemented
    planes, geometry = _pooled(x, kernel, stride, padding, dilation, size)
    g, x, out, gx = rows(g), rows(x), rows(out), np.empty(x.shape, x.dtype)

    def span(start: int, stop: int) -> None:
        run(g, x, out, gx, np.empty(size[1], f"i{x.itemsize}"), *geometry, start, stop)

    if threads.worth(x.size, GRAIN):
        threads.over(span, planes)
    else:
        span(0, planes)
    return gx


KERNELS: dict[str, Callable[..., Any]] = {
    "embedding_backward": embedding_backward,
    "vector_norm": vector_norm,
    "max_pool": max_pool,
    "max_pool_backward": max_pool_backward,
}
