"""Winograd's convolution F(4x4, 3x3), compiled: the 3x3 kernels with stride 1, which most of a network's time goes to.

36 products make 16 outputs instead of 144. The transforms are compiled (sources/winograd.py); between them stands a
matrix product per point of the transformed tile, NumPy's. The three ops of the family are one bilinear form, so the
adjoint in x is the convolution with the flipped kernel, and the adjoint in w is the transposed transforms around the
same products. The error is some 1e-6 of the largest output.

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
from .compiled import Group, address, rows

NEEDS = "numba"
SOURCE = Group("winograd")

Array = Any
Ints = tuple[int, ...]

FEWEST = 32  # channels: below, the transforms cost what the products save
SMALLEST = 1 << 22  # multiplications of the plain form below which nothing is loaded
PHASE = 1048  # of sources/winograd.py
WIDEST = 4096  # columns of an image, for which its scratch memory suffices
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
    """K w K' of each kernel. w: (O, C, 3, 3) -> (36, O, C)."""
    with blas.alone():  # its threads would go on waiting for more, on the cores that ours need
        return np.matmul(_weights(flipped), w.reshape(-1, 9).T).reshape(36, *w.shape[:2])


class Cut(NamedTuple):
    """How the tiles of a result (N, O, H, W) are cut. Rows of tiles are counted through the batch."""

    down: int  # rows of an image
    across: int  # tiles of a row
    total: int  # rows of the batch
    rows: int  # rows of a block
    parts: int  # threads

    @property
    def blocks(self) -> int:
        """How many blocks."""
        return -(-self.total // self.rows)

    def plane(self, channels: int) -> int:
        """Numbers from one point's values in a block to the next's; not a power of two, which would share its lines."""
        return channels * self.rows * self.across + 16


def cut_up(count: int, size: Ints, channels: int, work: int) -> Cut:
    """work: multiplications of the plain form."""
    down, across = -(-size[0] // 4), -(-size[1] // 4)
    total = count * down
    parts = max(1, min(threads.count(), work // SHARE, total))
    share = -(-total // parts)
    tiles = max(LEAST, min(MOST, TILES // channels))
    pieces = max(1, round(share * across / tiles))
    return Cut(down, across, total, -(-share // pieces), parts)


class Scratch:
    """What a span needs beside its arrays in the transformed domain; sizes as sources/winograd.py says."""

    def __init__(self, width: int):
        self.zeros = np.zeros(width, np.float32)
        self.work = np.empty(24 * PHASE, np.float32)
        self.phases = np.zeros(48 * PHASE, np.float32)


def _planes(domain: Array, plane: int) -> list[int]:
    """The addresses of the first six planes."""
    return [address(domain) + 4 * plane * point for point in range(6)]


def _domain(space: Array, channels: int, plane: int, tiles: int) -> Array:
    """A block's values in the transformed domain as (36, channels, tiles), in memory with planes so far apart."""
    return np.lib.stride_tricks.as_strided(space, (36, channels, tiles), (4 * plane, 4 * tiles, 4))


def _convolved(x: Array, u: Array, b: Array | None, out: Array, low: int, work: int) -> Array:
    """out = conv(x padded by low) + b with the transformed weights u: (36, O, C)."""
    tiles_in, tiles_out = SOURCE.get("tiles_in"), SOURCE.get("tiles_out")
    if tiles_in is None or tiles_out is None:
        return NotImplemented
    (_, channels, height, width), (_, results, *size) = x.shape, out.shape
    cut = cut_up(len(x), tuple(size), max(channels, results), work)
    checks = np.zeros((cut.blocks, results), x.dtype)
    plane_in, plane_out = cut.plane(channels), cut.plane(results)

    def span(start: int, stop: int) -> None:
        own = Scratch(width)
        before, after = np.empty(36 * plane_in, x.dtype), np.empty(36 * plane_out, x.dtype)
        for block in range(start, stop):
            first = block * cut.rows
            height_ = min(cut.rows, cut.total - first)
            grid = (cut.down, cut.across, first, height_)
            v = _domain(before, channels, plane_in, height_ * cut.across)
            m = _domain(after, results, plane_out, height_ * cut.across)
            planes = _planes(before, plane_in)
            size_in = (channels, height, width, low)
            tiles_in(x, own.zeros, *planes, own.work, own.phases, *size_in, *grid, plane_in, 0, channels)
            np.matmul(u, v, out=m)
            size_out = (results, *size)
            tiles_out(m, b, out, checks[block], own.work, own.phases, *size_out, *grid, plane_out, 0, results)

    with blas.alone():
        threads.over(span, cut.blocks, cut.parts)
    return out if np.isfinite(checks.sum()) else NotImplemented


@may_decline
def conv(x: Array, w: Array, b: Array = None, *, stride: Ints, padding: Ints, dilation: Ints, groups: int) -> Array:
    """The op conv."""
    if not _served(x, w, b, w.shape, stride, padding, dilation, groups):
        return NotImplemented
    size = tuple([n + 2 * p - 2 for n, p in zip(x.shape[2:], padding, strict=True)])
    work = x.shape[0] * math.prod(w.shape) * math.prod(size)
    if not _worth(size, work):
        return NotImplemented
    u = _transformed(w, False)
    out = np.empty((x.shape[0], w.shape[0], *size), x.dtype)
    return _convolved(rows(x), u, None if b is None else rows(b), out, padding[0], work)


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
    u = _transformed(w, True).swapaxes(1, 2)
    return _convolved(rows(g), u, None if b is None else rows(b), np.empty(shape, g.dtype), 2 - padding[0], work)


@may_decline
def conv_weight(x: Array, g: Array, *, shape: Ints, stride: Ints, padding: Ints, dilation: Ints, groups: int) -> Array:
    """The op conv_weight."""
    size = g.shape[2:]
    work = len(x) * math.prod(shape) * math.prod(size)
    if not _served(x, g, None, shape, stride, padding, dilation, groups) or not _worth(size, work):
        return NotImplemented
    tiles_in, gradients_in = SOURCE.get("tiles_in"), SOURCE.get("gradients_in")
    if tiles_in is None or gradients_in is None:
        return NotImplemented
    x, g = rows(x), rows(g)
    (_, channels, height, width), results = x.shape, g.shape[1]
    cut = cut_up(len(x), size, max(channels, results), work)
    plane_x, plane_g = cut.plane(channels), cut.plane(results)
    sums: dict[int, Array] = {}  # by the span's first block: added up in their order, whichever ends first

    def span(start: int, stop: int) -> None:
        own, part = Scratch(max(width, size[1])), None
        one, two = np.empty(36 * plane_x, x.dtype), np.empty(36 * plane_g, x.dtype)
        for block in range(start, stop):
            first = block * cut.rows
            height_ = min(cut.rows, cut.total - first)
            grid = (cut.down, cut.across, first, height_)
            v = _domain(one, channels, plane_x, height_ * cut.across)
            m = _domain(two, results, plane_g, height_ * cut.across)
            planes = _planes(one, plane_x)
            size_x = (channels, height, width, padding[0])
            tiles_in(x, own.zeros, *planes, own.work, own.phases, *size_x, *grid, plane_x, 0, channels)
            planes = _planes(two, plane_g)
            gradients_in(g, own.zeros, *planes, own.work, own.phases, results, *size, *grid, plane_g, 0, results)
            if start not in sums:
                sums[start] = np.matmul(m, v.swapaxes(1, 2))
            else:
                part = np.matmul(m, v.swapaxes(1, 2), out=part)
                sums[start] += part

    with blas.alone():
        threads.over(span, cut.blocks, cut.parts)
        total, *others = [sums[start] for start in sorted(sums)]
        for other in others:
            total += other
        out = np.ascontiguousarray(np.matmul(_weights(False).T, total.reshape(36, -1)).T).reshape(shape)
    return out if np.isfinite(out).all() else NotImplemented


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
    return work >= SMALLEST and 0 < min(size) and size[1] <= WIDEST and covered <= 2 * math.prod(size)


KERNELS = {"conv": conv, "conv_input": conv_input, "conv_weight": conv_weight}
