"""Batch normalisation, some channels at a time: all images of a block of channels stay in the cache for every pass.

Row sums are products with ones and dot products, which the BLAS adds up. A factor per channel is written out along the
row: NumPy multiplies two rows at twice the speed of a row and a column. Worker threads share the channels.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from .. import threads
from ..base import may_decline
from .rowwise import unbuffered

Array = Any

BLOCK = 1 << 19  # elements of a block of channels: 2 MB of float32
SPAN = 1 << 16  # elements of one pass over some images of a block, so that it is read again from the nearest cache
# Elements that a thread must have: threads that call NumPy wait for each other between the passes; one alone is twice
# as fast at 512 K
GRAIN = 1 << 20
# Where mean**2 is more than this times the variance, sums of squares lose digits: the mean is taken off first.
LEVEL = 8


def _served(*arrays: Array) -> bool:
    """Whether the kernels take these arrays: single and double precision, at least 64 values per channel."""
    x = arrays[0]
    floats = all(a is None or (a.dtype.itemsize in (4, 8) and a.dtype.kind == "f") for a in arrays)
    return floats and bool(x.size) and x.size // x.shape[1] >= 64


def _over_channels(function: Callable[[int, int], Any], shape: tuple[int, ...]) -> None:
    """function(first, last) for blocks of channels of (N, C, L), in several threads where that is worth it."""
    count, channels, length = shape
    step = max(1, BLOCK // (count * length))

    def some(start: int, stop: int) -> None:
        with unbuffered():
            for first in range(start, stop, step):
                function(first, min(first + step, stop))

    if threads.worth(count * channels * length, GRAIN):
        threads.over(some, channels)
    else:
        some(0, channels)


def _spread(length: int, *columns: Array) -> list[Array]:
    """Values per channel (C,) along rows of C * length."""
    return [np.repeat(c, length) for c in columns]


def _spans(count: int, width: int) -> list[slice]:
    """Slices of the images, each of some rows of `width` elements."""
    step = max(1, SPAN // width)
    return [slice(first, first + step) for first in range(0, count, step)]


def _flat(x: Array, first: int, last: int) -> Array:
    """(N, C, *) -> rows (N, (last - first) * L) of some channels, a view."""
    length = x.size // (x.shape[0] * x.shape[1])
    return x.reshape(x.shape[0], -1)[:, first * length : last * length]


def _moments(x3: Array, first: int, last: int) -> tuple[Array, Array]:
    """(sums, sums of squares) of channels over (N, C, L)."""
    part = x3[:, first:last]
    sums = np.matmul(part, np.ones(x3.shape[2], x3.dtype)).sum(0)
    return sums, np.vecdot(part, part).sum(0)


@may_decline
def batch_norm(x: Array, w: Array = None, b: Array = None, *, eps: float) -> Any:
    """The op's forward: (out, mean, var, mean, rstd)."""
    if not _served(x, w, b):
        return NotImplemented
    n, c = x.shape[:2]
    x3 = np.ascontiguousarray(x).reshape(n, c, -1)
    length = x3.shape[2]
    out = np.empty(x.shape, x.dtype)  # returned as it is: a view would be copied where it is kept
    mean, var, rstd = (np.empty(c, x.dtype) for _ in range(3))
    one = x.dtype.type(1 / (n * length))

    def block(first: int, last: int) -> None:
        part = slice(first, last)
        rows, level = _flat(x3, first, last), None
        sums, squares = _moments(x3, first, last)
        m = sums * one
        v = squares * one - m * m
        if not (m * m <= LEVEL * v).all():
            level = m
            centred = np.subtract(x3[:, part], level[:, None])
            rows = centred.reshape(n, -1)
            sums, squares = _moments(centred, 0, last - first)
            m = sums * one
            v = np.maximum(squares * one - m * m, 0)
        r = 1 / np.sqrt(v + x.dtype.type(eps))
        scale = r if w is None else r * w[part]
        shift = -m * scale
        if b is not None:
            shift += b[part]
        factor, term = _spread(length, scale, shift)
        target = _flat(out, first, last)
        for images in _spans(n, rows.shape[1]):
            o = np.multiply(rows[images], factor, out=target[images])
            o += term
        mean[part], var[part], rstd[part] = m if level is None else level + m, v, r

    _over_channels(block, x3.shape)
    return out, mean, var, mean, rstd


@may_decline
def batch_norm_backward(g: Array, x: Array, w: Array, centre: Array, rstd: Array, *, needs: Any, eps: float) -> Any:
    """The composite, from the forward's mean and rstd."""
    if not _served(g, x, w):
        return NotImplemented
    n, c = x.shape[:2]
    g3, x3 = (np.ascontiguousarray(a).reshape(n, c, -1) for a in (g, x))
    length = x3.shape[2]
    total, slope = (np.empty(c, x.dtype) for _ in range(2))
    gx = np.empty(x.shape, x.dtype) if needs[0] else None
    one = x.dtype.type(1 / (n * length))

    def block(first: int, last: int) -> None:
        part = slice(first, last)
        m, r = centre[part], rstd[part]
        rows, seen = _flat(x3, first, last), x3[:, part]
        if not (m * m * r * r <= LEVEL).all():
            seen = np.subtract(seen, m[:, None])
            rows, m = seen.reshape(n, -1), np.zeros_like(m)
        total[part] = t = np.matmul(g3[:, part], np.ones(length, x.dtype)).sum(0)
        slope[part] = s = (np.vecdot(g3[:, part], seen).sum(0) - m * t) * r
        if gx is None:
            return
        a = r if w is None else r * w[part]  # a (g - total / n - (x - m) r slope / n)
        k = -a * r * s * one
        factor, along, term = _spread(length, a, k, -a * t * one - k * m)
        given, target = _flat(g3, first, last), _flat(gx, first, last)
        spans = _spans(n, rows.shape[1])
        buffer = np.empty((spans[0].stop, rows.shape[1]), x.dtype)
        for images in spans:
            o = np.multiply(given[images], factor, out=target[images])
            h = np.multiply(rows[images], along, out=buffer[: len(o)])
            h += term
            o += h

    _over_channels(block, x3.shape)
    return gx, slope if needs[1] else None, total if needs[2] else None


KERNELS: dict[str, Callable[..., Any]] = {"batch_norm": batch_norm, "batch_norm_backward": batch_norm_backward}
