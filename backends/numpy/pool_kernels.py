"""Maximum pooling on NumPy arrays: comparisons over the windows' taps, in blocks of planes that stay in the cache."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import product
from typing import Any

import numpy as np

Array = Any
Ints = tuple[int, ...]

# Bytes of input per block, so that all passes over it and its windows stay in a second-level cache of 1 MB.
BLOCK = 1 << 18


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


def blocks(x: Array) -> Iterator[slice]:
    """Runs of planes of x: (M, *S) of about BLOCK bytes."""
    count = max(1, BLOCK // max(1, math.prod(x.shape[1:]) * x.itemsize))
    for first in range(0, len(x), count):
        yield slice(first, first + count)


def max_pool(x: Array, *, kernel: Ints, stride: Ints, padding: Ints, dilation: Ints, size: Ints) -> Array:
    """The op max_pool: the last dimension first, then the others, each by its taps."""
    rank = len(kernel)
    out = np.empty((*x.shape[: x.ndim - rank], *size), x.dtype)
    flat, target = planes(rank, x, out)
    for part in blocks(flat):
        value = flat[part]
        for axis in range(-1, -rank - 1, -1):
            final = target[part] if axis == -rank else None
            value = _max_along(
                value, axis, final, kernel[axis], stride[axis], padding[axis], dilation[axis], size[axis]
            )
    return out


def _max_along(
    x: Array, axis: int, out: Array, kernel: int, stride: int, padding: int, dilation: int, size: int
) -> Array:
    """Windows of one dimension (from the end), into `out` where it is given."""
    rest = (slice(None),) * (-1 - axis)
    if out is None:
        out = np.empty((*x.shape[:axis], size, *x.shape[x.ndim + axis + 1 :]), x.dtype)
    met = [m for m in meetings(x.shape[axis], kernel, stride, padding, dilation, size) if m]
    whole = [m for m in met if m[0] == slice(0, size)]
    if len(whole) > 1:  # taps that serve every window: the first two need no initial value
        first, second = whole[:2]
        np.maximum(x[(..., first[1], *rest)], x[(..., second[1], *rest)], out=out)
        met = [m for m in met if m is not first and m is not second]
    elif whole:
        np.copyto(out, x[(..., whole[0][1], *rest)])
        met.remove(whole[0])
    else:
        out.fill(np.iinfo(x.dtype).min if x.dtype.kind in "iu" else -math.inf)
    for windows, places in met:
        part = out[(..., windows, *rest)]
        np.maximum(part, x[(..., places, *rest)], out=part)
    return out


def max_pool_backward(
    g: Array, x: Array, out: Array, *, kernel: Ints, stride: Ints, padding: Ints, dilation: Ints, size: Ints
) -> Array:
    """The composite max_pool_backward: each window's gradient to the first of its taps that equals the maximum."""
    rank = len(kernel)
    extents = x.shape[x.ndim - rank :]
    along = [meetings(*d) for d in zip(extents, kernel, stride, padding, dilation, size, strict=True)]
    taps = [tuple(zip(*tap, strict=True)) for tap in product(*along) if None not in tap]
    # windows that neither overlap nor leave gaps write every place once
    tiled = set(dilation) == {1} and all(
        k == s == n / t and not p for k, s, n, t, p in zip(kernel, stride, extents, size, padding, strict=True)
    )
    gx = np.empty(x.shape, g.dtype) if tiled else np.zeros(x.shape, g.dtype)
    flat_x, flat_out, flat_g, flat_gx = planes(rank, x, out, g, gx)
    for part in blocks(flat_x):
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
    return gx


def _give_to_nan(g: Array, x: Array, gx: Array, free: Array, taps: Any) -> None:
    """The gradients of windows without a hit go to their last nan, as in PyTorch."""
    for windows, places in reversed(taps):
        here, there = (..., *windows), (..., *places)
        hit = np.isnan(x[there]) & free[here]
        free[here] ^= hit
        gx[there] += np.where(hit, g[here], np.zeros((), g.dtype))


KERNELS = {"max_pool": max_pool, "max_pool_backward": max_pool_backward}
