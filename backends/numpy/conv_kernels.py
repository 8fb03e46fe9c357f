"""Convolution on NumPy arrays: blocks of im2col columns that stay in the cache, one matrix product per block.

Most rests on `correlate`: a convolution whose low padding, output size and output memory are free. A transposed
convolution with stride s is s correlations per dimension, each with the taps that meet its phase of the output, so no
product is spent on inserted zeros and nothing is scattered (`gather`). Where the result has few channels or places,
products first and sums after are less to move (`scatter`).

Depthwise convolutions go the same way, one small product per channel: adding up shifted products of whole images, tap
by tap, was measured 1.0 to 2.5 times as slow.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import product
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import as_strided

Array = Any
Ints = tuple[int, ...]

# Bytes of columns per block: half of a usual second-level cache, measured best between 1/2 and 2 MB.
BLOCK = 1 << 20
# Below so many values per column, interleaving the images costs more than it saves.
FEW = 32
# A weight's gradient adds a matrix of the weight's size per block: enough places to make that addition small.
PLACES = 1024


def _widened(*arrays: Array) -> list[Array]:
    """Arrays of the 2-byte floats in float32, in which they are multiplied."""
    return [a.astype("f4") if a is not None and a.dtype.itemsize == 2 and a.dtype.kind in "fV" else a for a in arrays]


def _narrowed(out: Array, dtype: Any) -> Array:
    return out if out.dtype == dtype else out.astype(dtype)


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
        self.images = max(1, min(len(x), limit // (row * size[0])))
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


def correlate(x: Array, w: Array, b: Array, out: Array, low: Ints, stride: Ints, dilation: Ints, groups: int) -> None:
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


def conv(x: Array, w: Array, b: Array = None, *, stride: Ints, padding: Ints, dilation: Ints, groups: int) -> Array:
    """The op conv."""
    dtype = x.dtype
    x, w, b = _widened(x, w, b)
    geometry = zip(x.shape[2:], w.shape[2:], stride, padding, dilation, strict=True)
    size = [(n + 2 * p - d * (k - 1) - 1) // s + 1 for n, k, s, p, d in geometry]
    out = np.empty((x.shape[0], w.shape[0], *size), x.dtype)
    correlate(x, w, b, out, padding, stride, dilation, groups)
    return _narrowed(out, dtype)


def phases(
    extent: int, kernel: int, stride: int, padding: int, dilation: int
) -> Iterator[tuple[slice, slice, int, int]]:
    """A transposed convolution's phases in one dimension: (places of the output, taps, low padding, dilation).

    Output place r + stride * q meets tap k at input place q + (r + padding - k * dilation) / stride, where whole. Taps
    are taken from the last to the first, so that the input places ascend. No taps: an empty slice.
    """
    step = stride // math.gcd(stride, dilation)
    for r in range(min(stride, extent)):
        taps = [k for k in range(kernel) if (k * dilation - r - padding) % stride == 0]
        if not taps:
            yield slice(r, None, stride), slice(0, 0), 0, 1
            continue
        last = taps[-1]
        low = (last * dilation - r - padding) // stride
        stop = taps[0] - 1 if taps[0] else None
        yield slice(r, None, stride), slice(last, stop, -step), low, step * dilation // stride


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
    dtype = g.dtype
    g, w, b = _widened(g, w, b)
    out = np.empty(shape, g.dtype)
    gathered = w.shape[0] * math.prod(shape[2:]) // math.prod(stride)
    scattered = shape[1] * math.prod(g.shape[2:])
    if 2 * scattered < gathered and g.size and w.size:
        scatter(g, w, b, out, stride, padding, dilation, groups)
    else:
        gather(g, w, b, out, stride, padding, dilation, groups)
    return _narrowed(out, dtype)


def gather(g: Array, w: Array, b: Array, out: Array, stride: Ints, padding: Ints, dilation: Ints, groups: int) -> None:
    """conv_input into `out`, by one correlation per phase of the stride."""
    kernel, channels = w.shape[2:], w.shape[0] // groups
    weight = w.reshape(groups, channels, *w.shape[1:]).swapaxes(1, 2).reshape(out.shape[1], channels, *kernel)
    ones = (1,) * len(kernel)
    for phase in product(*map(phases, out.shape[2:], kernel, stride, padding, dilation)):
        targets, taps, low, spread = zip(*phase, strict=True)
        correlate(g, weight[(..., *taps)], b, out[(..., *targets)], low, ones, spread, groups)


def scatter(g: Array, w: Array, b: Array, out: Array, stride: Ints, padding: Ints, dilation: Ints, groups: int) -> None:
    """conv_input into `out`, by columns that are products of w and g, added up tap by tap; images interleaved."""
    kernel, size, channels = w.shape[2:], g.shape[2:], w.shape[0] // groups
    rank, rows = len(kernel), w.shape[1] * math.prod(kernel)
    weight = np.ascontiguousarray(w.reshape(groups, channels, rows).swapaxes(1, 2))
    images = max(1, min(len(g), BLOCK // (groups * rows * math.prod(size) * g.itemsize)))
    extents = [n + 2 * p for n, p in zip(out.shape[2:], padding, strict=True)]
    inside = (slice(None), *[slice(p, p + n) for n, p in zip(out.shape[2:], padding, strict=True)])
    bias = 0 if b is None else b.reshape(-1, *[1] * rank)
    for first in range(0, len(g), images):
        block = g[first : first + images]
        part = block.transpose(1, *range(2, rank + 2), 0).reshape(groups, channels, math.prod(size) * len(block))
        columns = np.matmul(weight, part).reshape(out.shape[1], *kernel, *size, len(block))
        total = np.zeros((out.shape[1], *extents, len(block)), g.dtype)
        for tap in product(*map(range, kernel)):
            steps = zip(tap, dilation, stride, size, strict=True)
            target = (slice(None), *[slice(k * d, k * d + s * (n - 1) + 1, s) for k, d, s, n in steps])
            total[target] += columns[(slice(None), *tap)]
        finished = total[inside].transpose(rank + 1, *range(rank + 1))
        np.add(finished, bias, out=out[first : first + images])


def conv_weight(x: Array, g: Array, *, shape: Ints, stride: Ints, padding: Ints, dilation: Ints, groups: int) -> Array:
    """The op conv_weight."""
    dtype = x.dtype
    x, g = _widened(x, g)
    kernel, channels = shape[2:], shape[0]
    rows = shape[1] * math.prod(kernel)
    out = np.zeros((groups, channels // groups, rows), x.dtype)
    if out.size and g.size:
        limit = max(BLOCK, x.shape[1] * math.prod(kernel) * PLACES * x.itemsize)
        blocks = Columns(x, kernel, g.shape[2:], padding, stride, dilation, limit)
        for images, heights, columns in blocks:
            width = columns.shape[1]
            part = g[images, :, heights].transpose(blocks.order).reshape(groups, channels // groups, width)
            out += np.matmul(part, columns.reshape(groups, rows, width).swapaxes(1, 2))
    return _narrowed(out, dtype).reshape(shape)


def channel_sum(g: Array) -> Array:
    """The composite channel_sum."""
    (wide,) = _widened(g)
    return _narrowed(np.einsum("ncp->c", wide.reshape(*g.shape[:2], math.prod(g.shape[2:]))), g.dtype)


KERNELS = {"conv": conv, "conv_input": conv_input, "conv_weight": conv_weight, "channel_sum": channel_sum}
