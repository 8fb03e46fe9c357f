"""Convolution in two dimensions by rows: the taps along a row are copied, the taps of a column are added up.

The columns hold, for each tap along a row, the rows of x shifted by it: (width of the kernel, channels, images, rows,
places). One matrix product with all rows of the kernel gives what each row of x adds to the rows of the output, and the
sums of its shifted rows are the output. So a 3x3 kernel writes 3 columns instead of 9 and 3 products instead of one,
both in runs of whole images, and the matrices are neither flat nor thin. The gradient of the weight takes the same
columns, and copies of the output's gradient shifted by rows.

With a stride from row to row, rows of x that meet other taps are other products (`_phases`).
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from .conv_columns import over_places

Array = Any
Ints = tuple[int, ...]

# Bytes of columns and products per block.
BLOCK = 1 << 22
PAGE = 4096


def pays(inputs: int, outputs: int, kernel: Ints, high: int, size: Ints, stride: Ints, dilation: Ints) -> bool:
    """Whether it is faster than whole columns, for as many channels of a group and rows of x.

    It writes fewer planes, and not many more rows: the products are of all rows of x.
    """
    if len(kernel) != 2 or kernel[0] == 1 or dilation != (1, 1) or 4 * high > 5 * size[0] * stride[0]:
        return False
    return math.prod(kernel) * inputs >= kernel[1] * inputs + kernel[0] * outputs


def even(count: int, most: int) -> int:
    """The length of equal parts of `count`, at most `most`."""
    return -(-count // -(-count // max(1, most)))


def _apart(source: Array, size: int) -> Array:
    """Memory for `size` elements, three quarters of a page from the source, page by page.

    A processor takes a load for one that depends on a store just before it where the last 12 bits of their addresses
    are equal: copies of whole planes, shifted by some places, then take three to twelve times as long.
    """
    buffer = np.empty(size + PAGE // source.itemsize, source.dtype)
    start, there = (a.__array_interface__["data"][0] for a in (buffer, source))
    first = (there + PAGE * 3 // 4 - start) % PAGE // source.itemsize
    return buffer[first : first + size]


@functools.lru_cache(maxsize=256)
def _gap(rows: int, length: int, itemsize: int, least: int, most: int) -> int:
    """Elements by which to lengthen rows so that a matrix ends `least` to `most` bytes after it began in its page."""
    return next((gap for gap in range(PAGE) if least <= rows * (length + gap) * itemsize % PAGE <= most), 0)


class Shifts:
    """Rows, shifted by each tap along them: what `width` places see of `extent`, zero beyond.

    Place t sees t * step + k - low through tap k.
    """

    def __init__(self, wide: int, extent: int, width: int, low: int, step: int):
        self.wide, self.extent, self.width, self.low, self.step = wide, extent, width, low, step
        # rows that are as long as those of the source; rows with room for all of their shifts
        self.same = step == 1 and width == extent and max(low, wide - 1 - low) < width
        self.full = step == 1 and low == wide - 1 == width - extent
        self.buffer: Array = None

    def columns(self, source: Array) -> Array:
        """(G, C, *B, rows, extent) -> (G, wide * C, prod(B) * rows * width). The next call overwrites them."""
        groups, depth, *batch, _ = source.shape
        length = math.prod(batch) * self.width
        gap = _gap(depth, length, source.itemsize, 64, PAGE // 2 // max(1, self.wide - 1)) if self.full else 0
        shape = (groups, self.wide, depth, length + gap)
        if self.buffer is None or self.buffer.size < math.prod(shape):
            self.buffer = _apart(source, math.prod(shape))
        flat = self.buffer[: math.prod(shape)].reshape(shape)[..., :length]
        columns = flat.reshape(*shape[:3], *batch, self.width)
        if self.same:
            self._shift(columns, source)
        elif self.full:
            self._shift_all(columns, flat, source)
        else:
            for k, places, seen in self._met():
                columns[:, k, ..., : places.start] = 0
                columns[:, k, ..., places.stop :] = 0
                columns[:, k, ..., places] = source[..., seen]
        return flat.reshape(groups, self.wide * depth, length)

    def _met(self) -> Iterator[tuple[int, slice, slice]]:
        """For each tap: its number, the places that see something through it, and what they see."""
        for k in range(self.wide):
            offset = k - self.low
            first = max(0, -(offset // self.step))
            last = max(first, min(self.width, (self.extent - 1 - offset) // self.step + 1))
            start = first * self.step + offset
            yield k, slice(first, last), slice(start, max(start, start + (last - first - 1) * self.step + 1), self.step)

    def _shift(self, columns: Array, source: Array) -> None:
        """Planes are shifted as a whole, and what crosses borders cleared."""
        length = math.prod(source.shape[-2:])
        flat = source.reshape(*source.shape[:-2], length)
        target = columns.reshape(*columns.shape[:-2], length)
        for k in range(self.wide):
            by = k - self.low
            target[:, k, ..., max(0, -by) : length - max(0, by)] = flat[..., max(0, by) : length - max(0, -by)]
            if by < 0:
                columns[:, k, ..., :-by] = 0
            elif by > 0:
                columns[:, k, ..., -by:] = 0

    def _shift_all(self, columns: Array, flat: Array, source: Array) -> None:
        """All of the source is shifted at once: what crosses a border is zero."""
        columns[:, -1, ..., : self.extent] = source
        columns[:, -1, ..., self.extent :] = 0
        for by in range(1, self.wide):
            flat[:, -1 - by, :, :by] = 0
            flat[:, -1 - by, :, by:] = flat[:, -1, :, :-by]


class Rows:
    """What the rows of an image meet, some images and rows of the output at a time. x: (N, C, H, W), zero beyond.

    Iterating gives (images, rows, phases): slices, and for each phase (taps, columns, met): the taps down a column as a
    slice, the columns (groups, width of the kernel * C / groups, images * places), and for each of the taps which rows
    of the output, and which rows of the columns, it joins; None where none. The next phase overwrites the columns.
    """

    def __init__(self, x: Array, kernel: Ints, size: Ints, low: Ints, stride: Ints, groups: int, channels: int):
        self.x, self.kernel, self.size, self.low, self.stride, self.groups = x, kernel, size, low, stride, groups
        self.depth = x.shape[1] // groups
        row = groups * (kernel[1] * self.depth + kernel[0] * channels) * size[1] * x.itemsize
        whole = row * (-(-x.shape[2] // stride[0]))
        self.images = even(len(x), BLOCK // whole)
        self.rows = size[0] if whole <= BLOCK else even(size[0], max(BLOCK // row, kernel[0]))
        self.shifts = Shifts(kernel[1], x.shape[3], size[1], low[1], stride[1])

    def __iter__(self) -> Iterator[tuple[slice, slice, Iterator[tuple[slice, Array, list[Any]]]]]:
        for first in range(0, len(self.x), self.images):
            images = slice(first, min(first + self.images, len(self.x)))
            for top in range(0, self.size[0], self.rows):
                rows = slice(top, min(top + self.rows, self.size[0]))
                yield images, rows, self._phases(self.x[images], rows)

    def _phases(self, x: Array, rows: slice) -> Iterator[tuple[slice, Array, list[Any]]]:
        """Row y of the output sees row (y + j + ahead) * stride + start of x through tap p + j * stride."""
        step, extent = self.stride[0], x.shape[2]
        for p in range(min(step, self.kernel[0])):
            taps = slice(p, self.kernel[0], step)
            count = len(range(p, self.kernel[0], step))
            ahead, start = divmod(p - self.low[0], step)
            first = max(0, rows.start + ahead)
            last = min((extent - start - 1) // step + 1, rows.stop + count - 1 + ahead)
            if first >= last:
                continue
            met: list[Any] = []
            for by in range(ahead, ahead + count):
                top, bottom = max(rows.start, first - by), min(rows.stop, last - by)
                ys, qs = slice(top - rows.start, bottom - rows.start), slice(top + by - first, bottom + by - first)
                met.append((ys, qs) if top < bottom else None)
            seen = x[:, :, start + step * first : start + step * (last - 1) + 1 : step]
            source = seen.reshape(len(x), self.groups, self.depth, last - first, x.shape[3]).transpose(1, 2, 0, 3, 4)
            yield taps, self.shifts.columns(source), met


def by_rows(x: Array, w: Array, b: Array, out: Array, low: Ints, stride: Ints, groups: int) -> None:
    """out[n, o, t] = b[o] + sum over c, k of w[o, c, k] * x[n, c, t * stride + k - low], x = 0 outside."""
    kernel, size, channels = w.shape[2:], out.shape[2:], out.shape[1] // groups
    blocks = Rows(x, kernel, size, low, stride, groups, channels)
    # (groups, height, O / groups, width, C / groups)
    weight = np.ascontiguousarray(w.reshape(groups, channels, *w.shape[1:]).transpose(0, 3, 1, 4, 2))
    bias = None if b is None else b.reshape(groups, channels, 1, 1, 1)
    target = out.reshape(len(out), groups, channels, *size) if groups > 1 else out[:, None]
    buffers: dict[int, Array] = {}
    for images, rows, phases in blocks:
        parts: list[Any] = []
        for taps, columns, met in phases:
            factor = weight[:, taps].reshape(groups, -1, columns.shape[1])
            places = columns.shape[2]
            shape = (groups, factor.shape[1], places + _gap(channels, places, out.itemsize, PAGE // 4, PAGE * 3 // 8))
            buffer = buffers.get(taps.start)
            if buffer is None or buffer.size < math.prod(shape):
                buffer = buffers[taps.start] = np.empty(math.prod(shape), out.dtype)
            products = np.matmul(factor, columns, out=buffer[: math.prod(shape)].reshape(shape)[:, :, :places])
            products = products.reshape(groups, len(met), channels, images.stop - images.start, -1, size[1])
            parts += [(m[0], products[:, j, ..., m[1], :]) for j, m in enumerate(met) if m]
        _add_up(parts, bias, target[images, :, :, rows].transpose(1, 2, 0, 3, 4))


def _add_up(parts: list[tuple[slice, Array]], bias: Array, out: Array) -> None:
    """out = bias + the sum of the parts, each at its rows. out: (groups, O / groups, images, rows, places).

    Summed in the part that has all rows: it is in one piece and near, and `out` is written once.
    """
    whole = max(range(len(parts)), key=lambda i: parts[i][1].shape[3], default=None)
    if whole is None or parts[whole][1].shape[3] < out.shape[3]:
        total = np.zeros(out.shape, out.dtype)
    else:
        total = parts.pop(whole)[1]
    last = parts.pop() if parts and bias is None else None
    for rows, part in parts:
        total[:, :, :, rows] += part
    if last is None:
        np.add(total, 0 if bias is None else bias, out=out)
        return
    rows, part = last
    np.add(total[:, :, :, rows], part, out=out[:, :, :, rows])
    for rest in (slice(0, rows.start), slice(rows.stop, None)):
        out[:, :, :, rest] = total[:, :, :, rest]


def weight_by_rows(x: Array, g: Array, out: Array, low: Ints, stride: Ints) -> None:
    """out[k, o, l, c] += sum over n, t of g[n, o, t] * x[n, c, t * stride + (k, l) - low].

    out: (groups, height of the kernel, O / groups, width, C / groups).
    """
    groups, high, channels, wide, depth = out.shape
    blocks = Rows(x, (high, wide), g.shape[2:], low, stride, groups, channels)
    buffer = np.empty(0, g.dtype)
    for images, rows, phases in blocks:
        source = g[images, :, rows].reshape(-1, groups, channels, rows.stop - rows.start, g.shape[3])
        source = source.transpose(1, 2, 0, 3, 4)
        for taps, columns, met in phases:
            shape = (groups, len(met), channels, columns.shape[2])
            if buffer.size < math.prod(shape):
                buffer = _apart(source, math.prod(shape))
            shifted = buffer[: math.prod(shape)].reshape(*shape[:3], source.shape[2], -1, g.shape[3])
            for j, m in enumerate(met):
                if m is None:
                    shifted[:, j] = 0
                    continue
                shifted[:, j, ..., : m[1].start, :] = 0
                shifted[:, j, ..., m[1].stop :, :] = 0
                shifted[:, j, ..., m[1], :] = source[..., m[0], :]
            product = over_places(shifted.reshape(groups, -1, shape[3]), columns)
            out[:, taps] += product.reshape(groups, len(met), channels, wide, depth)
