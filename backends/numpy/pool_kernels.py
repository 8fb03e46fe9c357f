"""Pooling on NumPy arrays, tap by tap of the windows, in blocks of planes that stay in the cache.

Maxima are given back by comparisons. Worker threads share the planes.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import product
from typing import Any

import numpy as np

from .. import threads
from ..base import may_decline

Array = Any
Ints = tuple[int, ...]

# Bytes of input per block: near the second-level cache, and calls long enough that threads need not wait.
BLOCK = 1 << 20
# Elements per thread from which a second thread gains more than it costs: some passes over each.
GRAIN = 1 << 17


def meetings(extent: int, kernel: int, stride: int, padding: int, dilation: int, size: int) -> list[Any]:
    """For each tap of a window in one dimension: (windows that it serves, places that they see), or None."""
    found: list[Any] = []
    for k in range(kernel):
        offset = k * dilation - padding
        first = max(0, -(offset // stride))
        last = min(size, (extent - 1 - offset) // stride + 1)
        start = first * stride + offset
        places = slice(start, start + (last - first - 1) * stride + 1, stride)
        found.append((slice(first, last), places) if first < last else None)
    return found


def planes(rank: int, *arrays: Array) -> list[Array]:
    """Arrays (*B, *S) of `rank` spatial dimensions as (prod(B), *S)."""
    return [a.reshape(math.prod(a.shape[: a.ndim - rank]), *a.shape[a.ndim - rank :]) for a in arrays]


def over_planes(function: Callable[[slice], Any], x: Array) -> None:
    """function(planes) for runs of planes of x: (M, *S), of about BLOCK bytes; in several threads where that gains."""
    step = max(1, BLOCK // max(1, math.prod(x.shape[1:]) * x.itemsize))

    def some(start: int, stop: int) -> None:
        for first in range(start, stop, step):
            function(slice(first, min(first + step, stop)))

    if threads.worth(x.size, GRAIN):
        threads.over(some, len(x))
    else:
        some(0, len(x))


def max_pool(x: Array, *, kernel: Ints, stride: Ints, padding: Ints, dilation: Ints, size: Ints) -> Array:
    """The op max_pool: the last dimension first, then the others, each by its taps."""
    out = np.empty((*x.shape[: x.ndim - len(kernel)], *size), x.dtype)
    initial = np.iinfo(x.dtype).min if x.dtype.kind in "iu" else -math.inf
    _folded(np.maximum, initial, x, out, list(zip(kernel, stride, padding, dilation, size, strict=True)))
    return out


def _folded(fold: Any, initial: Any, x: Array, out: Array, geometry: list[Ints]) -> None:
    """The windows of x folded by a ufunc into `out`."""
    rank = len(geometry)
    flat, target = planes(rank, x, out)

    def block(part: slice) -> None:
        value = flat[part]
        for axis in range(-1, -rank - 1, -1):
            value = _along(fold, initial, value, axis, target[part] if axis == -rank else None, *geometry[axis])

    over_planes(block, flat)


def _along(
    fold: Any,
    initial: Any,
    x: Array,
    axis: int,
    out: Array,
    kernel: int,
    stride: int,
    padding: int,
    dilation: int,
    size: int,
) -> Array:
    """Windows of one dimension (from the end), into `out` where it is given."""
    rest = (slice(None),) * (-1 - axis)
    if out is None:
        out = np.empty((*x.shape[:axis], size, *x.shape[x.ndim + axis + 1 :]), x.dtype)
    met = [m for m in meetings(x.shape[axis], kernel, stride, padding, dilation, size) if m]
    whole = [m for m in met if m[0] == slice(0, size)]
    if len(whole) > 1:  # taps that serve every window: the first two need no initial value
        first, second = whole[:2]
        fold(x[(..., first[1], *rest)], x[(..., second[1], *rest)], out=out)
        met = [m for m in met if m is not first and m is not second]
    elif whole:
        np.copyto(out, x[(..., whole[0][1], *rest)])
        met.remove(whole[0])
    else:
        out.fill(initial)
    for windows, places in met:
        part = out[(..., windows, *rest)]
        fold(part, x[(..., places, *rest)], out=part)
    return out


def max_pool_backward(
    g: Array, x: Array, out: Array, *, kernel: Ints, stride: Ints, padding: Ints, dilation: Ints, size: Ints
) -> Array:
    """The composite max_pool_backward: each window's gradient to the first of its taps that equals the maximum."""
    rank = len(kernel)
    extents = x.shape[x.ndim - rank :]
    along = [meetings(*d) for d in zip(extents, kernel, stride, padding, dilation, size, strict=True)]
    taps = [tuple(zip(*tap, strict=True)) for tap in product(*along) if None not in tap]
    tiled = set(dilation) == {1} and _tiles(extents, kernel, stride, padding, size)
    gx = np.empty(x.shape, g.dtype) if tiled else np.zeros(x.shape, g.dtype)
    flat_x, flat_out, flat_g, flat_gx = planes(rank, x, out, g, gx)

    def block(part: slice) -> None:
        xs, top, gs, target = flat_x[part], flat_out[part], flat_g[part], flat_gx[part]
        free = np.ones(top.shape, bool)
        for windows, places in taps:
            here, there = (..., *windows), (..., *places)
            hit = xs[there] == top[here]
            hit &= free[here]
            free[here] ^= hit
            if tiled:
                np.multiply(gs, hit, out=target[there])
            else:
                target[there] += gs[here] * hit
        if free.any():  # a nan equals nothing
            _give_to_nan(gs, xs, target, free, taps)

    over_planes(block, flat_x)
    return gx


def _tiles(extents: Ints, kernel: Ints, stride: Ints, padding: Ints, size: Ints) -> bool:
    """Whether the windows neither overlap nor leave gaps: every place is in one."""
    geometry = zip(kernel, stride, extents, size, padding, strict=True)
    return all((k == s or t == 1) and k * t == n and not p for k, s, n, t, p in geometry)


def _give_to_nan(g: Array, x: Array, gx: Array, free: Array, taps: Any) -> None:
    """The gradients of windows without a hit go to their last nan, as in PyTorch."""
    for windows, places in reversed(taps):
        here, there = (..., *windows), (..., *places)
        hit = np.isnan(x[there]) & free[here]
        free[here] ^= hit
        gx[there] += np.where(hit, g[here], np.zeros((), g.dtype))


def _divisor(extents: Ints, kernel: Ints, stride: Ints, padding: Ints, size: Ints, divisor: Any) -> Any:
    """The number by which all window sums are divided; None where the windows at the borders have another."""
    if not isinstance(divisor, str):
        return divisor
    geometry = zip(extents, kernel, stride, padding, size, strict=True)
    whole = all((t - 1) * s + k <= n and not p for n, k, s, p, t in geometry)
    return math.prod(kernel) if whole else None


@may_decline
def avg_pool(x: Array, *, kernel: Ints, stride: Ints, padding: Ints, size: Ints, divisor: Any) -> Array:
    """The op avg_pool, for single and double precision and windows of one size."""
    rank = len(kernel)
    extents = x.shape[x.ndim - rank :]
    number = _divisor(extents, kernel, stride, padding, size, divisor)
    if number is None or x.dtype.kind != "f" or x.dtype.itemsize < 4:
        return NotImplemented
    out = np.empty((*x.shape[: x.ndim - rank], *size), x.dtype)
    if kernel == extents and math.prod(size) == 1 and not any(padding):  # one window: a row sum
        rows = x.reshape(-1, math.prod(extents))
        np.matmul(rows, np.ones(rows.shape[1], x.dtype), out=out.reshape(-1))
    else:
        _folded(np.add, 0, x, out, [(k, s, p, 1, t) for k, s, p, t in zip(kernel, stride, padding, size, strict=True)])
    out /= number
    return out


@may_decline
def avg_pool_input(
    g: Array, *, shape: Ints, kernel: Ints, stride: Ints, padding: Ints, size: Ints, divisor: Any
) -> Array:
    """The op avg_pool_input, for single and double precision and windows that tile the plane."""
    rank = len(kernel)
    extents = shape[len(shape) - rank :]
    number = _divisor(extents, kernel, stride, padding, size, divisor)
    fits = number is not None and _tiles(extents, kernel, stride, padding, size)
    if not fits or g.dtype.kind != "f" or g.dtype.itemsize < 4:
        return NotImplemented
    gx = np.empty(shape, g.dtype)
    (share,) = planes(rank, g / number)
    # (M, T1, K1, T2, K2, ...): a tap of a dimension is a plane of this, a window's row is repeated along the last
    tiled = gx.reshape(len(share), *[n for pair in zip(size, kernel, strict=True) for n in pair])

    def block(part: slice) -> None:
        for tap in product(*map(range, kernel)):
            tiled[(part, *[i for k in tap for i in (slice(None), k)])] = share[part]

    if math.prod(size) == 1:
        gx.reshape(len(share), -1)[...] = share.reshape(len(share), 1)
    else:
        over_planes(block, share)
    return gx


KERNELS = {
    "max_pool": max_pool,
    "max_pool_backward": max_pool_backward,
    "avg_pool": avg_pool,
    "avg_pool_input": avg_pool_input,
}
