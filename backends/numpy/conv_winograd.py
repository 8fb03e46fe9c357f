"""Convolution with kernels of height 3 by half the products: Winograd's F(4, 3) down the columns of images.

Lavin and Gray, Fast algorithms for convolutional neural networks, 2016, https://arxiv.org/abs/1509.09308. Four rows of
the output come from six rows of the input: each of six sums of rows (`INPUT`) is multiplied by its sum of the kernel's
rows (`KERNEL`), and the products are added up to the rows of the output (`OUTPUT`). Along a row the taps are columns,
as in `conv_rows`. All three kinds of sums are matrix products too: few calls, that take long enough for threads. In one
dimension the error stays near that of the plain sum: 2e-6 of the largest value for float32, where a sum over 576
products has 1e-6. A value that is not finite spreads over its tile: the caller looks for it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import as_strided

from .conv_rows import Shifts, even

Array = Any
Ints = tuple[int, ...]

INPUT = ((4, 0, -5, 0, 1, 0), (0, -4, -4, 1, 1, 0), (0, 4, -4, -1, 1, 0),
         (0, -2, -1, 2, 1, 0), (0, 2, -1, -2, 1, 0), (0, 4, 0, -5, 0, 1))  # fmt: skip
KERNEL = ((1 / 4, 0, 0), (-1 / 6, -1 / 6, -1 / 6), (-1 / 6, 1 / 6, -1 / 6),
          (1 / 24, 1 / 12, 1 / 6), (1 / 24, -1 / 12, 1 / 6), (0, 0, 1))  # fmt: skip
OUTPUT = ((1, 1, 1, 1, 1, 0), (0, 1, -1, 2, -2, 0), (0, 1, 1, 4, 4, 0), (0, 1, -1, 8, -8, 1))
# Bytes of columns and products per block.
BLOCK = 1 << 22
# Copies and sums cost as much as the products saved where inputs times outputs are fewer than this times their sum.
CHANNELS = 32


def pays(x: Array, outputs: int, kernel: Ints, stride: Ints, dilation: Ints, groups: int) -> bool:
    """Whether it is the faster way, for as many output channels."""
    fits = len(kernel) == 2 and kernel[0] == 3 and stride == dilation == (1, 1) and groups == 1 and x.dtype.kind == "f"
    return fits and x.shape[1] * outputs >= CHANNELS * (x.shape[1] + outputs)


class Tiles:
    """The six sums of rows of some images and tiles at a time. x: (N, C, H, W), zero beyond. A tile: 4 rows of output.

    Iterating gives (images, tiles, columns): slices, and (6, width of the kernel * C, places), the places in the order
    (tiles, images, W). The next block overwrites them.
    """

    def __init__(self, x: Array, wide: int, channels: int, size: Ints, low: Ints):
        self.x, self.size, self.low = x, size, low
        self.shifts = Shifts(wide, x.shape[3], size[1], low[1], 1)
        self.count = -(-size[0] // 4)
        tile = 6 * (wide * x.shape[1] + channels) * size[1] * x.itemsize
        self.images = even(len(x), BLOCK // (tile * self.count))
        self.tiles = even(self.count, BLOCK // tile)

    def __iter__(self) -> Iterator[tuple[slice, slice, Array]]:
        rows = sums = np.empty(0, self.x.dtype)
        weight = np.array(INPUT, self.x.dtype)
        channels, _, width = self.x.shape[1:]
        for first in range(0, len(self.x), self.images):
            images = slice(first, min(first + self.images, len(self.x)))
            length = channels * (images.stop - first) * width
            for top in range(0, self.count, self.tiles):
                tiles = slice(top, min(top + self.tiles, self.count))
                count = tiles.stop - top
                if rows.size != (4 * count + 2) * length:
                    rows = np.empty((4 * count + 2) * length, self.x.dtype)
                    sums = np.empty(6 * count * length, self.x.dtype)
                self._fill(rows.reshape(-1, channels, images.stop - first, width), images, tiles)
                step = length * rows.itemsize
                seen = as_strided(rows, (count, 6, length), (4 * step, step, rows.itemsize))
                source = np.matmul(weight, seen, out=sums.reshape(count, 6, length))
                source = source.reshape(count, 6, channels, images.stop - first, width).transpose(1, 2, 0, 3, 4)
                yield images, tiles, self.shifts.columns(source)

    def _fill(self, rows: Array, images: slice, tiles: slice) -> None:
        """The rows (rows, C, images, W) that the tiles see."""
        start = 4 * tiles.start - self.low[0]
        first = min(max(0, -start), len(rows))
        last = max(first, min(len(rows), self.x.shape[2] - start))
        rows[:first] = 0
        rows[last:] = 0
        if first < last:
            rows[first:last] = self.x[images, :, start + first : start + last].transpose(2, 1, 0, 3)


def sums_of_kernel(w: Array) -> Array:
    """The kernel's share of the products. w: (O, C, 3, wide) -> (6, O, wide * C)."""
    channels, depth, _, wide = w.shape
    rows = w.transpose(2, 0, 3, 1).reshape(3, channels * wide * depth)
    return np.matmul(np.array(KERNEL, w.dtype), rows).reshape(6, channels, wide * depth)


def by_tiles(x: Array, sums: Array, b: Array, out: Array, low: Ints) -> bool:
    """out[n, o, t] = b[o] + sum over c, k of w[o, c, k] * x[n, c, t + k - low]; whether all of it is finite.

    sums: `sums_of_kernel` of w.
    """
    channels, wide, size = out.shape[1], sums.shape[2] // x.shape[1], out.shape[2:]
    bias = 0 if b is None else b.reshape(channels, 1, 1)
    weight = np.array(OUTPUT, x.dtype)
    products = rows = np.empty(0, out.dtype)
    for images, tiles, columns in Tiles(x, wide, channels, size, low):
        length = channels * columns.shape[2]
        if products.size != 6 * length:
            products, rows = np.empty(6 * length, out.dtype), np.empty(4 * length, out.dtype)
        np.matmul(sums, columns, out=products.reshape(6, channels, -1))
        np.matmul(weight, products.reshape(6, length), out=rows.reshape(4, length))
        if not finite(rows):
            return False
        parts = rows.reshape(4, channels, tiles.stop - tiles.start, images.stop - images.start, size[1])
        for q in range(4):
            target = out[images, :, 4 * tiles.start + q : 4 * tiles.stop : 4]
            np.add(parts[q, :, : target.shape[2]].transpose(2, 0, 1, 3), bias, out=target)
    return True


def weight_by_tiles(x: Array, g: Array, out: Array, low: Ints) -> bool:
    """out[o, c, k] = sum over n, t of g[n, o, t] * x[n, c, t + k - low]; whether all of it is finite."""
    channels, depth, _, wide = out.shape
    total = np.zeros((6, channels, wide * depth), x.dtype)
    weight = np.array(OUTPUT, x.dtype).T
    rows = sums = np.empty(0, x.dtype)
    for images, tiles, columns in Tiles(x, wide, channels, g.shape[2:], low):
        length = channels * columns.shape[2]
        if rows.size != 4 * length:
            rows, sums = np.empty(4 * length, x.dtype), np.empty(6 * length, x.dtype)
        parts = rows.reshape(4, channels, tiles.stop - tiles.start, images.stop - images.start, g.shape[3])
        for q in range(4):
            source = g[images, :, 4 * tiles.start + q : 4 * tiles.stop : 4].transpose(1, 2, 0, 3)
            parts[q, :, : source.shape[1]] = source
            parts[q, :, source.shape[1] :] = 0
        np.matmul(weight, rows.reshape(4, length), out=sums.reshape(6, length))
        total += np.matmul(sums.reshape(6, channels, -1), columns.swapaxes(1, 2))
    kernel = np.matmul(np.array(KERNEL, x.dtype).T, total.reshape(6, -1))
    out[...] = kernel.reshape(3, channels, wide, depth).transpose(1, 3, 0, 2)
    return finite(kernel)


def finite(a: Array) -> bool:
    """Whether all values are finite, but for sums that overflow."""
    return math.isfinite(np.add.reduce(a, axis=None))
