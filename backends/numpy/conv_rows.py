"""Convolution over images row by row: columns of a row's places, of which those of neighbouring rows share memory.

Only the shifts along a row are copied, kernel-width times; a row of the output is one matrix product with the rows of
the buffer that it sees, which stand one after the other (rows, width of the kernel, channels, places). So a 3x3 kernel
writes 3 columns instead of 9, and the places of several images are one matrix's width.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import as_strided

Array = Any
Ints = tuple[int, ...]

# Bytes of shifted rows per block, and places per matrix product: best at all shapes measured, within some percent.
BLOCK = 1 << 20
PLACES, ENOUGH = 512, 128
# Below so many places a product spends its time on packing the weights; whole columns have the places of many rows.
NARROW = 192
# Rows of a matrix that lie a multiple of these bytes apart fall into the same lines of a cache.
CONFLICT, APART = 512, 16


def pays(count: int, kernel: Ints, size: Ints, stride: Ints, dilation: Ints) -> bool:
    """Whether it is faster than whole columns: where rows are seen by several rows of the output, and are not short."""
    shared = len(kernel) == 2 and kernel[0] > 1 and stride[0] == 1 and dilation == (1, 1)
    return shared and min(count * size[1], PLACES) >= NARROW


def _even(count: int, most: int) -> int:
    """The length of equal parts of `count`, at most `most`."""
    return -(-count // -(-count // most))


class Rows:
    """Shifted rows of x, some images and rows of the output at a time; beyond x is zero.

    x: (N, C, H, W). Iterating gives (images, rows, columns): slices, and (groups, rows, C / groups * K, places), the
    values of a column in the order (height, width, channel), the places in the order (images, width). The next block
    overwrites them. Place t sees t * stride + k - low.
    """

    def __init__(self, x: Array, kernel: Ints, size: Ints, low: Ints, stride: Ints, groups: int):
        self.x, self.kernel, self.size, self.low, self.stride, self.groups = x, kernel, size, low, stride, groups
        self.depth = x.shape[1] // groups
        (high, wide), width = kernel, size[1]
        count, place = len(x), x.shape[1] * wide * x.itemsize  # bytes of one place in one row of the buffer
        fit = BLOCK // (place * width * ((size[0] - 1) * stride[0] + high))  # images whose rows fit all
        self.images = _even(count, min(max(fit, -(-ENOUGH // width)), max(1, PLACES // width)))
        self.rows = _even(size[0], max(1, (BLOCK // (place * width * self.images) - high) // stride[0] + 1))
        self.places = self.images * width
        gap = APART if self.places * x.itemsize % CONFLICT == 0 else 0
        tall = (self.rows - 1) * stride[0] + high
        self.buffer = np.empty((groups, tall, wide, self.depth, self.places + gap), x.dtype)
        # whether the rows of the output are as long as those of x, and one tap sees them whole
        self.same = stride[1] == 1 and width == x.shape[3] and 0 <= low[1] < wide
        self._blank()

    def _view(self, images: int) -> Array:
        """(groups, rows, width of the kernel, channels, images, width) of the buffer."""
        flat = self.buffer[..., : self.places]
        return flat.reshape(*flat.shape[:-1], self.images, self.size[1])[..., :images, :]

    def _met(self) -> Iterator[tuple[int, slice, slice]]:
        """For each tap along a row: its number, the places that see something through it, and what they see."""
        step, extent = self.stride[1], self.x.shape[3]
        for k in range(self.kernel[1]):
            offset = k - self.low[1]
            first = max(0, -(offset // step))
            last = max(first, min(self.size[1], (extent - 1 - offset) // step + 1))
            start = first * step + offset
            yield k, slice(first, last), slice(start, max(start, start + (last - first - 1) * step + 1), step)

    def _blank(self) -> None:
        """Zeros where places see beyond the row; they stay from block to block."""
        view = self._view(self.images)
        for k, places, _ in self._met():
            view[:, :, k, ..., : places.start] = 0
            view[:, :, k, ..., places.stop :] = 0

    def __iter__(self) -> Iterator[tuple[slice, slice, Array]]:
        rows_of_column = self.depth * math.prod(self.kernel)
        outer, row, _, channel, one = self.buffer.strides
        for first in range(0, len(self.x), self.images):
            images = slice(first, min(first + self.images, len(self.x)))
            width = (images.stop - first) * self.size[1]
            for top in range(0, self.size[0], self.rows):
                rows = slice(top, min(top + self.rows, self.size[0]))
                self._fill(self.x[images], rows)
                shape = (self.groups, rows.stop - top, rows_of_column, width)
                yield images, rows, as_strided(self.buffer, shape, (outer, row * self.stride[0], channel, one))

    def _fill(self, x: Array, rows: slice) -> None:
        count, _, extent, width = x.shape
        start = rows.start * self.stride[0] - self.low[0]
        stop = (rows.stop - 1) * self.stride[0] + self.kernel[0] - self.low[0]
        first = min(max(start, 0), max(stop, 0), extent)
        last = max(first, min(stop, extent))
        view = self._view(count)
        view[:, : min(first, stop) - start] = 0
        view[:, last - start : stop - start] = 0
        if first < last:
            source = x[:, :, first:last].reshape(count, self.groups, self.depth, last - first, width)
            source = source.transpose(1, 3, 2, 0, 4)
            rows = slice(first - start, last - start)
            if self.same:
                self._shift(view[:, rows], source, rows)
                return
            for k, places, seen in self._met():
                view[:, rows, k, ..., places] = source[..., seen]

    def _shift(self, view: Array, source: Array, rows: slice) -> None:
        """The rows as they are, and from them the shifted ones: longer runs than places of one image."""
        middle = self.low[1]
        view[:, :, middle] = source
        flat = self.buffer[:, rows].reshape(self.groups, view.shape[1], self.kernel[1], -1)
        for k, places, _ in self._met():
            by = k - middle
            if by:
                length = flat.shape[3] - abs(by)
                flat[:, :, k, max(0, -by) :][..., :length] = flat[:, :, middle, max(0, by) :][..., :length]
                view[:, :, k, ..., : places.start] = 0
                view[:, :, k, ..., places.stop :] = 0


def by_rows(x: Array, w: Array, b: Array, out: Array, low: Ints, stride: Ints, groups: int) -> None:
    """out[n, o, t] = b[o] + sum over c, k of w[o, c, k] * x[n, c, t * stride + k - low], x = 0 outside."""
    kernel, size, channels = w.shape[2:], out.shape[2:], out.shape[1] // groups
    blocks = Rows(x, kernel, size, low, stride, groups)
    weight = w.reshape(groups, channels, *w.shape[1:]).transpose(0, 1, 3, 4, 2)
    weight = np.ascontiguousarray(weight).reshape(groups, 1, channels, math.prod(w.shape[1:]))
    bias = 0 if b is None else b.reshape(groups, channels, 1, 1)
    buffer = np.empty(groups * blocks.rows * channels * blocks.places, out.dtype)
    for images, rows, columns in blocks:
        count, height = images.stop - images.start, rows.stop - rows.start
        shape = (groups, height, channels, columns.shape[3])
        result = np.matmul(weight, columns, out=buffer[: math.prod(shape)].reshape(shape))
        result = result.reshape(groups, height, channels, count, size[1]).transpose(3, 0, 2, 1, 4)
        target = out.reshape(len(out), groups, channels, *size) if groups > 1 else out[:, None]
        np.add(result, bias, out=target[images, :, :, rows])


def weight_by_rows(x: Array, g: Array, out: Array, kernel: Ints, low: Ints, stride: Ints) -> None:
    """out[o, k, c] += sum over n, t of g[n, o, t] * x[n, c, t * stride + k - low].

    out: (groups, O / groups, K * C / groups), contiguous.
    """
    groups, channels, values = out.shape
    blocks = Rows(x, kernel, g.shape[2:], low, stride, groups)
    at_once = max(1, BLOCK // (8 * out.itemsize * out.size))  # rows whose products are added up by one sum
    for images, rows, columns in blocks:
        part = g[images, :, rows].reshape(-1, groups, channels, rows.stop - rows.start, g.shape[3])
        part = part.transpose(1, 3, 2, 0, 4).reshape(*columns.shape[:2], channels, columns.shape[3])
        columns = columns.swapaxes(2, 3)
        for top in range(0, rows.stop - rows.start, at_once):
            some = slice(top, top + at_once)
            products = np.matmul(part[:, some], columns[:, some])
            out += products[:, 0] if at_once == 1 else products.sum(axis=1)
