"""Columns of a convolution in any number of dimensions: blocks of im2col columns that stay in the cache."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import as_strided

Array = Any
Ints = tuple[int, ...]

# Bytes of columns per block: half of a usual second-level cache, measured best between 1/2 and 2 MB. Of images of
# which some fit, so many times as many: fewer and longer calls, for which threads need not wait.
BLOCK = 1 << 20
TOGETHER = 4
# Below so many values per column, interleaving the images costs more than it saves.
FEW = 32
# A weight's gradient adds a matrix of the weight's size per block: enough places to make that addition small.
PLACES = 1024
# NumPy keeps the interpreter during a matrix product of so few elements, however long it takes; long is from so many
# products.
KEPT, LONG = 500, 1 << 19


class Columns:
    """The im2col columns of an input, block by block: for each output place, the C * K values that it sees.

    Iterating gives (images, rows, columns): the slice of images, the slice of the first spatial dimension of the
    output, and an array (C * K, places), which the next block overwrites. Blocks hold about `limit` bytes: several
    images, one, or some rows of one. Outside of x is zero: place t sees t * stride + k * dilation - low.

    `order` takes an array (images, O, *rows) to (O, places) in the columns' order of places. Where a block
    holds more images than a row has places, they are interleaved, the batch last: longer runs to copy.
    """

    def __init__(self, x: Array, kernel: Ints, size: Ints, low: Ints, stride: Ints, dilation: Ints, limit: int):
        rank = len(kernel)
        extents = [(o - 1) * s + (k - 1) * d + 1 for o, s, k, d in zip(size, stride, kernel, dilation, strict=True)]
        starts = [max(0, -p) for p in low]
        stops = [min(n, e - p) for n, e, p in zip(x.shape[2:], extents, low, strict=True)]
        # a 1x1 kernel on whole images needs no copy: the columns are the image
        self.direct = math.prod(kernel) == 1 and x.flags.c_contiguous and x.shape[2:] == size and not any(low)
        self.x = x[(..., *[slice(a, max(a, b)) for a, b in zip(starts, stops, strict=True)])]
        self.padded = self.x.shape[2:] != tuple(extents)
        before = [max(0, p) for p in low]
        self.inside = tuple([slice(p, p + n) for p, n in zip(before, self.x.shape[2:], strict=True)])
        self.extents, self.kernel, self.size, self.stride, self.dilation = extents, kernel, size, stride, dilation
        self.height = x.shape[1] * math.prod(kernel)
        row = self.height * math.prod(size[1:]) * x.itemsize
        fit = limit // (row * size[0])
        self.images = max(1, min(len(x), TOGETHER * fit if fit >= TOGETHER else fit))
        parts = 1 if self.images > 1 else min(-(-size[0] * row // limit), size[0])
        self.rows = -(-size[0] // parts)
        self.interleaved = self.images > size[-1] * stride[-1] and self.height >= FEW and math.prod(kernel) > 1
        self.order = (1, *range(2, rank + 2), 0) if self.interleaved else (1, 0, *range(2, rank + 2))

    def __iter__(self) -> Iterator[tuple[slice, slice, Array]]:
        rank, source, columns = len(self.kernel), None, None
        for first in range(0, len(self.x), self.images):
            images = slice(first, min(first + self.images, len(self.x)))
            view, source = self._windows(self.x[images], source)
            for top in range(0, self.size[0], self.rows):
                rows = slice(top, min(top + self.rows, self.size[0]))
                part = view[(slice(None),) * (1 + rank + (not self.interleaved)) + (rows,)]
                width = part.size // self.height
                if self.direct and self.images == 1:
                    yield images, rows, part.reshape(self.height, width)
                    continue
                if columns is None:
                    columns = np.empty(part.size, part.dtype)
                block = columns[: part.size]
                np.copyto(block.reshape(part.shape), part)
                yield images, rows, block.reshape(self.height, width)

    def _windows(self, x: Array, source: Array) -> tuple[Array, Array]:
        """(what each place of these images sees, in the columns' order: a view; the buffer for the next images)."""
        channels, count = x.shape[1], len(x)
        if self.interleaved:
            if source is None:  # the zeros around the images stay as they are from block to block
                source = np.zeros((channels, *self.extents, count), x.dtype)
            source[(slice(None), *self.inside, slice(0, count))] = x.transpose(self.order)
            x = np.moveaxis(source, -1, 1)
        else:
            if self.padded:
                if source is None:
                    source = np.zeros((count, channels, *self.extents), x.dtype)
                source[(slice(0, count), slice(None), *self.inside)] = x
                x = source
            x = x.swapaxes(0, 1)
        first, batch, *steps = x.strides
        within = [s * d for s, d in zip(steps, self.dilation, strict=True)]
        between = [s * d for s, d in zip(steps, self.stride, strict=True)]
        if self.interleaved:
            shape, strides = (*self.kernel, *self.size, count), (*within, *between, batch)
        else:
            shape, strides = (*self.kernel, count, *self.size), (*within, batch, *between)
        return as_strided(x, (channels, *shape), (first, *strides)), source


def by_columns(x: Array, w: Array, b: Array, out: Array, low: Ints, stride: Ints, dilation: Ints, groups: int) -> None:
    """out[n, o, t] = b[o] + sum over c, k of w[o, c, k] * x[n, c, t * stride + k * dilation - low], x = 0 outside."""
    kernel, size, channels = w.shape[2:], out.shape[2:], out.shape[1]
    bias = 0 if b is None else b.reshape(-1, *[1] * (out.ndim - 1))
    if not out.size or not w.size:  # no places, no channels or no taps
        out.swapaxes(0, 1)[...] = bias
        return
    # contiguous: BLAS takes no negative strides
    weight = np.ascontiguousarray(w).reshape(groups, channels // groups, w.shape[1] * math.prod(kernel))
    blocks = Columns(x, kernel, size, low, stride, dilation, BLOCK)
    buffer = None
    for images, rows, columns in blocks:
        width = columns.shape[1]
        if buffer is None:
            buffer = np.empty(channels * width, out.dtype)
        result = buffer[: channels * width]
        factor = columns.reshape(groups, weight.shape[2], width)
        np.matmul(weight, factor, out=result.reshape(groups, channels // groups, width))
        target = out[images, :, rows].transpose(blocks.order)
        if b is None:
            np.copyto(target, result.reshape(target.shape))
        else:
            np.add(result.reshape(target.shape), bias, out=target)


def weight_by_columns(x: Array, g: Array, out: Array, kernel: Ints, low: Ints, stride: Ints, dilation: Ints) -> None:
    """out[o, c, k] += sum over n, t of g[n, o, t] * x[n, c, t * stride + k * dilation - low].

    out: (groups, O / groups, C / groups * K), contiguous.
    """
    groups, channels, rows = out.shape
    limit = max(BLOCK, x.shape[1] * math.prod(kernel) * PLACES * x.itemsize)
    blocks = Columns(x, kernel, g.shape[2:], low, stride, dilation, limit)
    for images, heights, columns in blocks:
        width = columns.shape[1]
        part = g[images, :, heights].transpose(blocks.order).reshape(groups, channels, width)
        out += over_places(part, columns.reshape(groups, rows, width))


def over_places(a: Array, b: Array) -> Array:
    """The products of the rows of a and b: (G, M, P), (G, K, P) -> (G, M, K).

    Small results are sums over spans of the places, so that other threads can work meanwhile.
    """
    (groups, rows, places), size = a.shape, len(a) * a.shape[1] * b.shape[1]
    few = KEPT // max(1, size) + 1
    spans = next((n for n in range(few, 4 * few) if places % n == 0), 1) if size * places >= LONG else 1
    if spans == 1:
        return np.matmul(a, b.swapaxes(1, 2))
    first = a.reshape(groups, rows, spans, places // spans).swapaxes(1, 2)
    second = b.reshape(groups, b.shape[1], spans, places // spans).transpose(0, 2, 3, 1)
    return np.matmul(first, second).sum(axis=1)
