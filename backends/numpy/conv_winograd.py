"""Convolution with kernels of height 3 by half the products: Winograd's F(4, 3) down the columns of images.

Lavin and Gray, Fast algorithms for convolutional neural networks, 2016, https://arxiv.org/abs/1509.09308. Four rows of
the output come from six rows of the input: each of six sums of rows (`Tiles`) is multiplied by its sum of the kernel's
rows (`KERNEL`), and the products are added up to the rows of the output. Along a row the taps are columns, as in
`conv_rows`. In one dimension the error stays near that of the plain sum: 2e-6 of the largest value for float32, where
a sum over 576 products has 1e-6. A value that is not finite spreads over its tile: the caller looks for it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

Array = Any
Ints = tuple[int, ...]

KERNEL = ((1 / 4, 0, 0), (-1 / 6, -1 / 6, -1 / 6), (-1 / 6, 1 / 6, -1 / 6),
          (1 / 24, 1 / 12, 1 / 6), (1 / 24, -1 / 12, 1 / 6), (0, 0, 1))  # fmt: skip
# Places of a matrix product, and elements of one sum of rows (channels x places) that stay in a second-level cache.
PLACES, ELEMENTS = 1100, 1 << 16
# Copies and sums cost as much as the products saved where inputs times outputs are fewer than this times their sum.
# The same with fewer products in an image.
CHANNELS, PRODUCTS = 32, 1 << 23


def pays(x: Array, outputs: int, kernel: Ints, stride: Ints, dilation: Ints, groups: int) -> bool:
    """Whether it is the faster way, for as many output channels."""
    fits = len(kernel) == 2 and kernel[0] == 3 and stride == dilation == (1, 1) and groups == 1 and x.dtype.kind == "f"
    enough = outputs * math.prod(kernel) * math.prod(x.shape[1:]) >= PRODUCTS
    return fits and enough and x.shape[1] * outputs >= CHANNELS * (x.shape[1] + outputs)


class Tiles:
    """The six sums of rows of some images and tiles at a time. x: (N, C, H, W), zero beyond. A tile: 4 rows of output.

    A row of a buffer holds the row of each image in turn, `width` places apart: so a shift by a tap is a shift of the
    whole buffer, and the last places of each image mean nothing.
    """

    def __init__(self, x: Array, wide: int, channels: int, size: Ints, low: Ints):
        self.x, self.wide, self.size, self.low = x, wide, size, low
        self.depth, self.width = x.shape[1], size[1] + wide - 1
        tiles = -(-size[0] // 4)
        places = min(PLACES, max(1, ELEMENTS // max(self.depth, channels)))
        at_once = min(tiles, max(1, places // self.width))
        self.tiles = -(-tiles // -(-tiles // at_once))
        at_once = min(len(x), max(1, places // (self.width * tiles)))
        self.images = -(-len(x) // -(-len(x) // at_once))
        self.blocks = [
            (slice(n, min(n + self.images, len(x))), slice(p, min(p + self.tiles, tiles)))
            for n in range(0, len(x), self.images)
            for p in range(0, tiles, self.tiles)
        ]
        self.count = 0

    def _allocate(self, count: int) -> None:
        """Buffers for a number of images; zeros around the rows stay from block to block."""
        self.count, self.places = count, self.tiles * count * self.width
        self.rows = np.zeros((4, self.depth, self.tiles + 1, count, self.width), self.x.dtype)
        self.shifted = np.zeros(self.wide * self.depth * self.places, self.x.dtype)
        self.sums = np.empty((2, self.depth, self.tiles, count * self.width), self.x.dtype)

    def _fill(self, images: slice, tiles: slice) -> list[Array]:
        """Six views (C, tiles, places): the rows that each tile sees."""
        left, extent = self.low[1], self.x.shape[3]
        seen = slice(max(0, -left), max(0, -left, min(extent, self.width - left)))
        for q in range(4):
            row = 4 * tiles.start - self.low[0] + q
            first = min(max(0, -(row // 4)), self.tiles + 1)
            last = max(first, min(self.tiles + 1, (self.x.shape[2] - 1 - row) // 4 + 1))
            self.rows[q, :, :first] = 0
            self.rows[q, :, last:] = 0
            if first < last:
                source = self.x[images, :, row + 4 * first : row + 4 * last - 3 : 4, seen]
                target = self.rows[q, :, first:last, :, seen.start + left : seen.stop + left]
                target[...] = source.transpose(1, 2, 0, 3)
        return [self.rows[j % 4][:, j // 4 : j // 4 + self.tiles].reshape(self.depth, self.tiles, -1)
                for j in range(6)]  # fmt: skip

    def each(self, images: slice, tiles: slice, use: Callable[[int, Array], Any]) -> None:
        """use(i, columns (wide * C, places)) for each of the six sums; the next one overwrites the columns."""
        if images.stop - images.start != self.count:
            self._allocate(images.stop - images.start)
        d = self._fill(images, tiles)
        whole = self.depth * self.places
        first = self.shifted[:whole].reshape(d[0].shape)
        columns = self.shifted.reshape(self.wide * self.depth, self.places)

        def done(i: int) -> None:
            for k in range(1, self.wide):
                self.shifted[k * whole : (k + 1) * whole - k] = self.shifted[k:whole]
            use(i, columns)

        a, b = self.sums
        np.multiply(d[2], 4, out=a)
        np.subtract(d[4], a, out=a)
        np.multiply(d[1], 4, out=b)
        np.subtract(d[3], b, out=b)
        np.add(a, b, out=first)
        done(1)
        np.subtract(a, b, out=first)
        done(2)
        np.subtract(d[4], d[2], out=a)
        np.subtract(d[3], d[1], out=b)
        b *= 2
        np.add(a, b, out=first)
        done(3)
        np.subtract(a, b, out=first)
        done(4)
        np.subtract(d[0], d[2], out=first)
        first *= 4
        first += a
        done(0)
        b *= 2
        np.subtract(d[5], d[3], out=first)
        first -= b
        done(5)


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
    blocks = Tiles(x, wide, channels, size, low)
    bias = 0 if b is None else b.reshape(channels, 1, 1)
    space = np.empty(8 * channels * blocks.tiles * blocks.images * blocks.width, out.dtype)
    for images, tiles in blocks.blocks:
        count = images.stop - images.start
        places = blocks.tiles * count * blocks.width
        parts = space[: 8 * channels * places].reshape(8, channels, places)

        def multiply(i: int, columns: Array, parts: Array = parts) -> None:
            np.matmul(sums[i], columns, out=parts[i])

        blocks.each(images, tiles, multiply)
        _rows_of_output(parts)
        for q in range(4):
            target = out[images, :, 4 * tiles.start + q : 4 * tiles.stop : 4]
            result = parts[q].reshape(channels, blocks.tiles, count, blocks.width)
            result = result[:, : target.shape[2], :, : size[1]].transpose(2, 0, 1, 3)
            np.add(result, bias, out=target)
    return finite(*out)


def _rows_of_output(m: Array) -> None:
    """From the six products the four rows of the output, in place. m: (8, ...), the last two free."""
    difference, other = m[6], m[7]
    np.subtract(m[1], m[2], out=difference)
    m[1] += m[2]
    np.subtract(m[3], m[4], out=other)
    m[3] += m[4]
    m[0] += m[1]
    m[0] += m[3]
    m[3] *= 4
    np.add(m[1], m[3], out=m[2])
    other *= 2
    np.add(difference, other, out=m[1])
    other *= 4
    difference += other
    np.add(difference, m[5], out=m[3])


def weight_by_tiles(x: Array, g: Array, out: Array, low: Ints) -> bool:
    """out[o, c, k] = sum over n, t of g[n, o, t] * x[n, c, t + k - low]; whether all of it is finite."""
    channels, depth, _, wide = out.shape
    blocks = Tiles(x, wide, channels, g.shape[2:], low)
    total = np.zeros((6, channels, wide * depth), x.dtype)
    product = np.empty_like(total[0])
    for images, tiles in blocks.blocks:
        rows = np.zeros((4, channels, blocks.tiles, images.stop - images.start, blocks.width), g.dtype)
        for q in range(4):
            part = g[images, :, 4 * tiles.start + q : 4 * tiles.stop : 4]
            rows[q, :, : part.shape[2], :, : part.shape[3]] = part.transpose(1, 2, 0, 3)
        rows = rows.reshape(4, channels, -1)
        sums = np.empty_like(rows[0])

        def add(i: int, columns: Array, rows: Array = rows, sums: Array = sums) -> None:
            part = _sum_of_rows(i, rows, sums)
            np.matmul(part, columns.T, out=product)
            np.add(total[i], product, out=total[i])

        blocks.each(images, tiles, add)
    kernel = np.matmul(np.array(KERNEL, x.dtype).T, total.reshape(6, -1))
    out[...] = kernel.reshape(3, channels, wide, depth).transpose(1, 3, 0, 2)
    return finite(kernel)


def _sum_of_rows(i: int, g: Array, out: Array) -> Array:
    """The adjoint of `_rows_of_output`: what the i-th product gets of the rows g: (4, ...); may be one of them."""
    if i in (0, 5):
        return g[0 if i == 0 else 3]
    step = (0, 1, -1, 2, -2)[i]
    np.multiply(g[3], step, out=out)  # Horner's rule
    for row in (g[2], g[1]):
        out += row
        out *= step
    out += g[0]
    return out


def finite(*arrays: Array) -> bool:
    """Whether all values are finite, but for sums that overflow."""
    return all(math.isfinite(np.add.reduce(a, axis=None)) for a in arrays)
