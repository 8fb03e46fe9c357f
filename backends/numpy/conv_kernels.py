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
# A weight's gradient adds a matrix of the weight's size per block: enough places to make that addition small.
PLACES = 1024


def _widened(*arrays: Array) -> list[Array]:
    """Arrays of the 2-byte floats in float32, in which they are multiplied."""
    return [a.astype("f4") if a is not None and a.dtype.itemsize == 2 and a.dtype.kind in "fV" else a for a in arrays]


def _narrowed(out: Array, dtype: Any) -> Array:
    return out if out.dtype == dtype else out.astype(dtype)


class Source:
    """The part of an input that a correlation reads, with zeros around it; kept in one buffer for a few images."""

    def __init__(self, x: Array, kernel: Ints, size: Ints, low: Ints, stride: Ints, dilation: Ints):
        extents = [(o - 1) * s + (k - 1) * d + 1 for o, s, k, d in zip(size, stride, kernel, dilation, strict=True)]
        starts = [max(0, -p) for p in low]
        stops = [min(n, e - p) for n, e, p in zip(x.shape[2:], extents, low, strict=True)]
        self.x = x[(..., *[slice(a, max(a, b)) for a, b in zip(starts, stops, strict=True)])]
        self.shape = (x.shape[1], *extents)
        before = [max(0, p) for p in low]
        self.inside = (..., *[slice(p, p + n) for p, n in zip(before, self.x.shape[2:], strict=True)])
        self.buffer: Array = None
        n = len(kernel)
        self.order = (1, *range(2, 2 + n), 0, *range(2 + n, 2 + 2 * n))
        self.view_shape, self.stride, self.dilation = (*kernel, *size), stride, dilation

    def windows(self, first: int, last: int) -> Array:
        """What each output place sees of images first..last. -> (C, *K, images, *T), no copy."""
        x = self.x[first:last]
        if x.shape[1:] != self.shape:
            if self.buffer is None:  # the zeros around the images stay as they are from block to block
                self.buffer = np.zeros((last - first, *self.shape), x.dtype)
            buffer = self.buffer[: last - first]
            buffer[self.inside] = x
            x = buffer
        step = x.strides[2:]
        within = [s * d for s, d in zip(step, self.dilation, strict=True)]
        between = [s * d for s, d in zip(step, self.stride, strict=True)]
        view = as_strided(x, (*x.shape[:2], *self.view_shape), (*x.strides[:2], *within, *between))
        return view.transpose(self.order)


def blocks(x: Array, kernel: Ints, size: Ints, low: Ints, stride: Ints, dilation: Ints, limit: int) -> Iterator[Any]:
    """(first image, last, first row, last, columns (C * K, places)) of blocks of at most `limit` bytes, about."""
    source = Source(x, kernel, size, low, stride, dilation)
    rows_in_block = x.shape[1] * math.prod(kernel)
    row = rows_in_block * math.prod(size[1:]) * x.itemsize
    height, count = size[0], x.shape[0]
    images = max(1, min(count, limit // (row * height)))
    parts = 1 if images > 1 else -(-height * row // limit)
    rows = -(-height // min(parts, height))
    places = rows * math.prod(size[1:])
    # a 1x1 kernel on whole images needs no copy: the columns are the image
    direct = images == 1 and math.prod(kernel) == 1 and x.flags.c_contiguous and x.shape[2:] == size and not any(low)
    buffer = None if direct else np.empty(rows_in_block * images * places, x.dtype)
    for first in range(0, count, images):
        last = min(first + images, count)
        view = source.windows(first, last)
        for top in range(0, height, rows):
            bottom = min(top + rows, height)
            part = view[(slice(None),) * (2 + len(kernel)) + (slice(top, bottom),)]
            width = part.size // rows_in_block
            if direct:
                yield first, last, top, bottom, part.reshape(rows_in_block, width)
            else:
                columns = buffer[: part.size]  # type: ignore[index]
                np.copyto(columns.reshape(part.shape), part)
                yield first, last, top, bottom, columns.reshape(rows_in_block, width)


def correlate(x: Array, w: Array, b: Array, out: Array, low: Ints, stride: Ints, dilation: Ints, groups: int) -> None:
    """out[n, o, t] = b[o] + sum over c, k of w[o, c, k] * x[n, c, t * stride + k * dilation - low], x = 0 outside."""
    kernel, size, channels = w.shape[2:], out.shape[2:], out.shape[1]
    bias = 0 if b is None else b.reshape(-1, *[1] * (out.ndim - 1))
    if not out.size or not w.size:  # no places, no channels or no taps
        out.swapaxes(0, 1)[...] = bias
        return
    # contiguous: BLAS takes no negative strides
    weight = np.ascontiguousarray(w).reshape(groups, channels // groups, w.shape[1] * math.prod(kernel))
    buffer = None
    for first, last, top, bottom, columns in blocks(x, kernel, size, low, stride, dilation, BLOCK):
        width = columns.shape[1]
        if buffer is None:
            buffer = np.empty(channels * width, out.dtype)
        result = buffer[: channels * width]
        np.matmul(
            weight,
            columns.reshape(groups, weight.shape[2], width),
            out=result.reshape(groups, channels // groups, width),
        )
        target = out[first:last, :, top:bottom].swapaxes(0, 1)
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
    """conv_input into `out`, by columns that are products of w and g, added up tap by tap."""
    kernel, size, channels = w.shape[2:], g.shape[2:], w.shape[0] // groups
    rows = w.shape[1] * math.prod(kernel)
    weight = np.ascontiguousarray(w.reshape(groups, channels, rows).swapaxes(1, 2))
    images = max(1, min(len(g), BLOCK // (groups * rows * math.prod(size) * g.itemsize)))
    extents = [n + 2 * p for n, p in zip(out.shape[2:], padding, strict=True)]
    buffer = np.empty((out.shape[1], images, *extents), g.dtype)
    inside = (..., *[slice(p, p + n) for n, p in zip(out.shape[2:], padding, strict=True)])
    bias = 0 if b is None else b.reshape(-1, *[1] * len(kernel))
    for first in range(0, len(g), images):
        block = g[first : first + images]
        part = block.swapaxes(0, 1).reshape(groups, channels, len(block) * math.prod(size))
        columns = np.matmul(weight, part).reshape(out.shape[1], *kernel, len(block), *size)
        total: Array = buffer[:, : len(block)]
        total.fill(0)
        for tap in product(*map(range, kernel)):
            steps = zip(tap, dilation, stride, size, strict=True)
            target = (..., *[slice(k * d, k * d + s * (n - 1) + 1, s) for k, d, s, n in steps])
            total[target] += columns[(slice(None), *tap)]
        np.add(total[inside].swapaxes(0, 1), bias, out=out[first : first + images])


def conv_weight(x: Array, g: Array, *, shape: Ints, stride: Ints, padding: Ints, dilation: Ints, groups: int) -> Array:
    """The op conv_weight."""
    dtype = x.dtype
    x, g = _widened(x, g)
    kernel, channels = shape[2:], shape[0]
    rows = shape[1] * math.prod(kernel)
    out = np.zeros((groups, channels // groups, rows), x.dtype)
    if not out.size or not g.size:
        return _narrowed(out, dtype).reshape(shape)
    limit = max(BLOCK, x.shape[1] * math.prod(kernel) * PLACES * x.itemsize)
    for first, last, top, bottom, columns in blocks(x, kernel, g.shape[2:], padding, stride, dilation, limit):
        part = g[first:last, :, top:bottom].swapaxes(0, 1).reshape(groups, channels // groups, columns.shape[1])
        out += np.matmul(part, columns.reshape(groups, rows, columns.shape[1]).swapaxes(1, 2))
    return _narrowed(out, dtype).reshape(shape)


def channel_sum(g: Array) -> Array:
    """The composite channel_sum."""
    (wide,) = _widened(g)
    return _narrowed(np.einsum("ncp->c", wide.reshape(*g.shape[:2], math.prod(g.shape[2:]))), g.dtype)


KERNELS = {"conv": conv, "conv_input": conv_input, "conv_weight": conv_weight, "channel_sum": channel_sum}
