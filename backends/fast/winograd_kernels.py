"""Winograd's convolution F(4x4, 3x3), compiled: the 3x3 kernels with stride 1, which most of a network's time goes to.

36 products make 16 outputs instead of 144. Transforms and products are compiled (sources/winograd.py), one call per
thread. The three ops of the family are one bilinear form, so the adjoint in x is the convolution with the flipped
kernel, and the adjoint in w is the transposed transforms around the same products. The error is some 1e-6 of the
largest output.

A value that is not finite, or near the largest float, would spread over its tile: where a result is not finite, the
call is left to the kernels below.
"""

from __future__ import annotations

import functools
import math
from typing import Any, NamedTuple

import numpy as np

from .. import threads
from ..base import may_decline
from ..numpy import blas
from .compiled import Group, rows

NEEDS = "numba"
SOURCE = Group("winograd")

Array = Any
Ints = tuple[int, ...]

FEWEST = 16  # channels: below, the transforms cost what the products save
SMALLEST = 1 << 22  # multiplications of the plain form below which nothing is loaded
LINES = 12 * (4 * 1048 + 8) + 16  # of sources/winograd.py
WIDEST, LANES = 4096, 8  # columns of an image, for which its scratch memory suffices
SHARE = 1 << 23  # multiplications of the plain form for which a second thread is worth its start
TILES, LEAST, MOST = 4096, 128, 256  # tiles per block: TILES / channels, so that a block's arrays stay in the cache


@functools.cache
def _weights(flipped: bool) -> Array:
    """(36, 9): K (x) K of sources/winograd.py; for the kernel turned by 180 degrees."""
    a, b = 5 / 8, 3 / 2
    points = [(a, 2 * a * a * (a * a - b * b)), (b, 2 * b * b * (b * b - a * a))]
    signed = [(sign * p, norm) for p, norm in points for sign in (1, -1)]
    k = np.array([[1 / (a * b) ** 2, 0, 0], *[[1 / n, p / n, p * p / n] for p, n in signed], [0, 0, 1]])
    if flipped:
        k = k[:, ::-1]
    return np.kron(k, k).astype(np.float32)


def _transformed(w: Array, flipped: bool) -> Array:
    """K w K' of each kernel, in fours: (O, C, 3, 3) -> (36, O / 4, C, 4); of the kernel turned by 180 degrees, and with
    O and C exchanged.
    """
    if flipped:
        w = w.swapaxes(0, 1)
    results, channels = w.shape[:2]
    spare = -results % 4
    if spare:
        w = np.concatenate([w, np.zeros((spare, *w.shape[1:]), w.dtype)])
    fours = w.reshape(-1, 4, channels, 9).swapaxes(1, 2)
    out, one = np.empty((36, w.size // 9), w.dtype), 4 * channels

    def span(start: int, stop: int) -> None:
        part = fours[start:stop].reshape(-1, 9)
        np.matmul(_weights(flipped), part.T, out=out[:, start * one : stop * one])

    with blas.alone():  # its threads would go on waiting for more, on the cores that ours need
        threads.over(span, len(fours), 0 if threads.worth(w.size) else 1)
    return out


class Cut(NamedTuple):
    """How the tiles of a result (N, O, H, W) are cut. Rows of tiles are counted through the batch."""

    down: int  # rows of an image
    across: int  # tiles of a row
    total: int  # rows of the batch
    rows: int  # rows of a block
    group: int  # rows that are put into vectors together
    wide: int  # numbers from one channel's tiles in a block to the next's

    @property
    def blocks(self) -> int:
        """How many blocks."""
        return -(-self.total // self.rows)


@functools.lru_cache(maxsize=256)
def cut_up(count: int, size: Ints, channels: int, parts: int, alone: bool) -> Cut:
    """parts: threads. alone: each row of tiles must be put into vectors by itself."""
    down, across = -(-size[0] // 4), -(-size[1] // 4)
    total = count * down
    share = -(-total // max(1, min(parts, total)))
    tiles = max(LEAST, min(MOST, TILES // channels))
    pieces = max(1, round(share * across / tiles))
    rows = -(-share // pieces)
    whole = LANES // math.gcd(LANES, across)  # so many rows are whole vectors
    group = 1 if alone or across > 128 else -(-max(1, 64 // across) // whole) * whole
    room = 0 if group >= rows or not group % whole else LANES
    wide = -(-(rows * across + room) // 16)
    return Cut(down, across, total, rows, group, 16 * (wide | 1))  # not a power of two: rows would share cache lines


def _threads(work: int) -> int:
    """Of how many threads a convolution of so many multiplications is worth the start."""
    return max(1, min(threads.count(), work // SHARE))


def _widened(x: Array) -> Array:
    """Contiguous x: (N, C, H, W), with zeros to the right where a row is shorter than a vector."""
    short = LANES - x.shape[3]
    return rows(x) if short <= 0 else np.pad(x, ((0, 0), (0, 0), (0, 0), (0, short)))


def _convolved(x: Array, w: Array, flipped: bool, b: Array | None, out: Array, low: int, work: int) -> Array:
    """out = conv(x padded by low) + b with the weight w, or the one of its adjoint in x."""
    run = SOURCE.get("convolved")
    if run is None:
        return NotImplemented
    u, x, width = _transformed(w, flipped), _widened(x), out.shape[3]
    (images, channels), results, deep = x.shape[:2], out.shape[1], -(-out.shape[1] // 4) * 4
    cut = cut_up(images, out.shape[2:], max(channels, results), _threads(work), not low)
    if width < LANES:
        out = np.empty((*out.shape[:3], LANES), out.dtype)
    checks, zeros, b = np.empty(cut.blocks, x.dtype), np.zeros(x.shape[3], x.dtype), None if b is None else rows(b)

    def span(start: int, stop: int) -> None:
        space = np.empty(LINES + 36 * (channels + deep) * cut.wide + 16, x.dtype)
        run(x, u, b, out, checks, zeros, space, *x.shape[1:], low, results, deep, *out.shape[2:], *cut, start, stop)

    threads.over(span, cut.blocks, _threads(work))
    if not np.isfinite(checks).all():
        return NotImplemented
    return out if width >= LANES else np.ascontiguousarray(out[..., :width])


@may_decline
def conv(x: Array, w: Array, b: Array = None, *, stride: Ints, padding: Ints, dilation: Ints, groups: int) -> Array:
    """The op conv."""
    if not _served(x, w, b, w.shape, stride, padding, dilation, groups):
        return NotImplemented
    size = tuple([n + 2 * p - 2 for n, p in zip(x.shape[2:], padding, strict=True)])
    work = x.shape[0] * math.prod(w.shape) * math.prod(size)
    if not _worth(size, work):
        return NotImplemented
    return _convolved(x, w, False, b, np.empty((x.shape[0], w.shape[0], *size), x.dtype), padding[0], work)


@may_decline
def conv_input(
    g: Array,
    w: Array,
    b: Array = None,
    *,
    shape: Ints,
    stride: Ints,
    padding: Ints,
    dilation: Ints,
    groups: int,
) -> Array:
    """The op conv_input."""
    work = shape[0] * math.prod(w.shape) * math.prod(shape[2:])
    if not _served(g, w, b, w.shape, stride, padding, dilation, groups) or not _worth(shape[2:], work):
        return NotImplemented
    return _convolved(g, w, True, b, np.empty(shape, g.dtype), 2 - padding[0], work)


@may_decline
def conv_weight(x: Array, g: Array, *, shape: Ints, stride: Ints, padding: Ints, dilation: Ints, groups: int) -> Array:
    """The op conv_weight."""
    size = g.shape[2:]
    work = len(x) * math.prod(shape) * math.prod(size)
    if not _served(x, g, None, shape, stride, padding, dilation, groups) or not _worth(size, work):
        return NotImplemented
    run = SOURCE.get("weight_sums")
    if run is None:
        return NotImplemented
    x, g = _widened(x), _widened(g)
    channels, results, even, deep = x.shape[1], g.shape[1], x.shape[1] + x.shape[1] % 2, -(-g.shape[1] // 4) * 4
    cut = cut_up(len(x), size, max(channels, results), _threads(work), not padding[0])
    zeros = np.zeros(max(x.shape[3], g.shape[3]), x.dtype)
    parts: dict[int, Array] = {}  # by the span's first block: added up in their order, whichever ends first

    def span(start: int, stop: int) -> None:
        sums = parts[start] = np.empty(36 * deep * even, x.dtype)
        space = np.empty(LINES + 36 * (even + deep) * cut.wide + 16, x.dtype)
        shapes = (channels, even, *x.shape[2:], padding[0], results, deep, *g.shape[2:])
        run(x, g, sums, zeros, space, *shapes, *cut, start, stop)

    threads.over(span, cut.blocks, _threads(work))
    total, *others = [parts[start] for start in sorted(parts)]
    for other in others:
        total += other
    with blas.alone():
        out = np.matmul(total.reshape(36, -1).T, _weights(False)).reshape(deep // 4, even, 4, 9)
    out = out.swapaxes(1, 2).reshape(deep, even, 9)[:results, :channels]
    return np.ascontiguousarray(out).reshape(shape) if np.isfinite(out).all() else NotImplemented


def _served(
    first: Array, second: Array, b: Array | None, kernel: Ints, stride: Ints, padding: Ints, dilation: Ints, groups: int
) -> bool:
    """Whether this is a convolution of the right kind."""
    if first.dtype != np.float32 or second.dtype != np.float32 or (b is not None and b.dtype != np.float32):
        return False
    if len(kernel) != 4 or kernel[2:] != (3, 3) or min(kernel[:2]) < FEWEST or groups != 1 or not len(first):
        return False
    return stride == dilation == (1, 1) and padding[0] == padding[1] and 0 <= padding[0] <= 2


def _worth(size: Ints, work: int) -> bool:
    """Whether it is large enough, and the last tiles not mostly outside of the image."""
    covered = math.prod([-(-n // 4) * 4 for n in size])
    return work >= SMALLEST and 0 < size[0] and 4 < size[1] <= WIDEST and covered <= 2 * math.prod(size)


KERNELS = {"conv": conv, "conv_input": conv_input, "conv_weight": conv_weight}
