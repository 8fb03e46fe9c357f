"""Convolution on NumPy arrays: columns that stay in the cache, and matrix products with them.

Most rests on `correlate`: a convolution whose low padding, output size and output memory are free. It goes by rows
(`conv_rows`; with half the products where that pays, `conv_winograd`), image by image for kernels of one tap, and else
over columns of any dimensions (`conv_columns`). A transposed convolution with stride s is s correlations per dimension,
each with the taps that meet its phase of the output, so no product is spent on inserted zeros and nothing is scattered
(`gather`). Where the result has few channels or places, products first and sums after are less to move (`scatter`).

The worker threads share the images, each with buffers of its own: so the copies run on all of them, not only the
matrix products, which the BLAS then computes in the thread that asks.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from itertools import product
from typing import Any

import numpy as np

from .. import threads
from . import blas, conv_rows, conv_winograd
from .conv_columns import by_columns, weight_by_columns
from .conv_rows import by_rows, weight_by_rows
from .conv_winograd import by_tiles, sums_of_kernel, weight_by_tiles

Array = Any
Ints = tuple[int, ...]

# Bytes that stay in a usual second-level cache of 1 MB.
BLOCK = 1 << 20
# Products from which the threads share the images: half a millisecond of each. Every call of a thread may wait some
# microseconds for another that holds the interpreter.
SHARED = 6 << 20
# Products below which rows are not worth their calls, and inputs times outputs of a group below which the matrices of
# the weight's gradient by rows are too thin.
FEW, THIN = 1 << 19, 8
# Images whose values, next to each other in memory, are runs that are worth the interleaving.
MANY = 8


def over_images(function: Callable[[int, int], Any], count: int, products: int) -> None:
    """function(start, stop) over spans of the images or channels, in several threads where the work is worth it."""
    if count > 1 and products >= SHARED and threads.count() > 1 and blas.controlled():
        with blas.alone():
            threads.over(function, count)
    else:
        function(0, count)


def _widened(*arrays: Array) -> list[Array]:
    """Arrays of the 2-byte floats in float32, in which they are multiplied."""
    return [a.astype("f4") if a is not None and a.dtype.itemsize == 2 and a.dtype.kind in "fV" else a for a in arrays]


def _narrowed(out: Array, dtype: Any) -> Array:
    return out if out.dtype == dtype else out.astype(dtype)


def correlate(
    x: Array, w: Array, b: Array, out: Array, low: Ints, stride: Ints, dilation: Ints, groups: int
) -> Callable[[int, int], Any]:
    """How to compute, for the images from a first to a last,

    out[n, o, t] = b[o] + sum over c, k of w[o, c, k] * x[n, c, t * stride + k * dilation - low], x = 0 outside.
    """
    kernel = w.shape[2:]
    if not out.size or not w.size:  # no places, no channels or no taps
        return lambda i, j: np.copyto(out[i:j].swapaxes(0, 1), 0 if b is None else b.reshape(-1, *[1] * (out.ndim - 1)))
    if math.prod(kernel) == 1 and not any(low) and out.flags.c_contiguous and _inside(x, out, stride):
        seen = x[(..., *[slice(0, s * (n - 1) + 1, s) for n, s in zip(out.shape[2:], stride, strict=True)])]
        return lambda i, j: pointwise(seen[i:j], w, b, out[i:j], groups)

    rows = out.size * math.prod(w.shape[1:]) >= FEW and conv_rows.pays(
        w.shape[1], w.shape[0] // groups, kernel, x.shape[2], out.shape[2:], stride, dilation
    )

    def plain(i: int, j: int) -> None:
        if rows:
            by_rows(x[i:j], w, b, out[i:j], low, stride, groups)
        else:
            by_columns(x[i:j], w, b, out[i:j], low, stride, dilation, groups)

    if not conv_winograd.pays(x, out.shape[1], kernel, stride, dilation, groups):
        return plain
    sums = sums_of_kernel(w)

    def tiled(i: int, j: int) -> None:
        if not by_tiles(x[i:j], sums, b, out[i:j], low):
            plain(i, j)

    return tiled


def _inside(x: Array, out: Array, stride: Ints) -> bool:
    """Whether a tap without padding meets a place of x for each place of the output."""
    return all(s * (t - 1) < n for n, t, s in zip(x.shape[2:], out.shape[2:], stride, strict=True))


def pointwise(x: Array, w: Array, b: Array, out: Array, groups: int) -> None:
    """`correlate` with a kernel of one tap: the images are the columns."""
    count, places, channels = len(x), math.prod(out.shape[2:]), out.shape[1] // groups
    source = np.ascontiguousarray(x).reshape(count, groups, w.shape[1], places)
    target = out.reshape(count, groups, channels, places)
    weight = np.ascontiguousarray(w).reshape(groups, channels, w.shape[1])
    step = max(1, BLOCK // (out.itemsize * out.shape[1] * places))
    for first in range(0, count, step):
        block = target[first : first + step]
        np.matmul(weight, source[first : first + step], out=block)
        if b is not None:
            block += b.reshape(groups, channels, 1)


def conv(x: Array, w: Array, b: Array = None, *, stride: Ints, padding: Ints, dilation: Ints, groups: int) -> Array:
    """The op conv."""
    dtype = x.dtype
    x, w, b = _widened(x, w, b)
    geometry = zip(x.shape[2:], w.shape[2:], stride, padding, dilation, strict=True)
    size = [(n + 2 * p - d * (k - 1) - 1) // s + 1 for n, k, s, p, d in geometry]
    out = np.empty((x.shape[0], w.shape[0], *size), x.dtype)
    way = correlate(x, w, b, out, padding, stride, dilation, groups)
    over_images(way, len(x), out.size * math.prod(w.shape[1:]))
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
    way: Callable[[int, int], None]
    if 2 * scattered < gathered and g.size and w.size and not _short(g, w, shape, stride, dilation, groups):

        def way(i: int, j: int) -> None:
            scatter(g[i:j], w, b, out[i:j], stride, padding, dilation, groups)

    else:
        way = gather(g, w, b, out, stride, padding, dilation, groups)
    over_images(way, len(out), g.size * math.prod(w.shape[1:]))
    return _narrowed(out, dtype)


def _short(g: Array, w: Array, shape: Ints, stride: Ints, dilation: Ints, groups: int) -> bool:
    """Whether to gather by rows takes fewer planes than to scatter."""
    outputs, inputs, *kernel = w.shape
    outputs //= groups
    if math.prod(stride) > 1 or not conv_rows.pays(
        outputs, inputs, tuple(kernel), g.shape[2], shape[2:], stride, dilation
    ):
        return False
    return kernel[1] * outputs + kernel[0] * inputs <= math.prod(kernel) * inputs


def gather(
    g: Array, w: Array, b: Array, out: Array, stride: Ints, padding: Ints, dilation: Ints, groups: int
) -> Callable[[int, int], None]:
    """conv_input into `out`, for the images from a first to a last, by one correlation per phase of the stride."""
    kernel, channels = w.shape[2:], w.shape[0] // groups
    weight = w.reshape(groups, channels, *w.shape[1:]).swapaxes(1, 2).reshape(out.shape[1], channels, *kernel)
    ones = (1,) * len(kernel)
    ways = []
    for phase in product(*map(phases, out.shape[2:], kernel, stride, padding, dilation)):
        targets, taps, low, spread = zip(*phase, strict=True)
        ways.append(correlate(g, weight[(..., *taps)], b, out[(..., *targets)], low, ones, spread, groups))

    def all_phases(i: int, j: int) -> None:
        for way in ways:
            way(i, j)

    return all_phases


def scatter(g: Array, w: Array, b: Array, out: Array, stride: Ints, padding: Ints, dilation: Ints, groups: int) -> None:
    """conv_input into `out`, by columns that are products of w and g, added up tap by tap; images interleaved."""
    kernel, size, channels = w.shape[2:], g.shape[2:], w.shape[0] // groups
    rank, rows = len(kernel), w.shape[1] * math.prod(kernel)
    weight = np.ascontiguousarray(w.reshape(groups, channels, rows).swapaxes(1, 2))
    images = max(1, min(len(g), 2 * BLOCK // (groups * rows * math.prod(size) * g.itemsize)))
    images = images if images >= MANY else 1
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
    kernel, channels, depth = shape[2:], shape[0] // groups, shape[1]
    taps = math.prod(kernel)
    if not math.prod(shape) or not g.size:
        return np.zeros(shape, dtype)
    out = np.empty(shape, dtype)
    if conv_winograd.pays(x, channels, kernel, stride, dilation, groups) and _weight_by_tiles(x, g, out, padding):
        return out
    parts: dict[int, Array] = {}
    rows = conv_rows.pays(depth, channels, kernel, x.shape[2], g.shape[2:], stride, dilation)
    rows = rows and depth * channels >= THIN and g.size * depth * taps >= FEW

    def some(i: int, j: int) -> None:
        if rows:
            part = np.zeros((groups, kernel[0], channels, kernel[1], depth), x.dtype)
            weight_by_rows(x[i:j], g[i:j], part, padding, stride)
            parts[i] = part.transpose(0, 2, 4, 1, 3)
        else:
            part = np.zeros((groups, channels, depth * taps), x.dtype)
            weight_by_columns(x[i:j], g[i:j], part, kernel, padding, stride, dilation)
            parts[i] = part.reshape(groups, channels, depth, *kernel)

    over_images(some, len(x), g.size * depth * taps)
    _sum_of_parts(parts, out)
    return out


def _weight_by_tiles(x: Array, g: Array, out: Array, low: Ints) -> bool:
    """conv_weight into `out`, in half the products; whether all of it is finite.

    The threads share the images, or the output's channels where sums of all of them are large.
    """
    finite: list[bool] = []
    parts: dict[int, Array] = {}

    def channels(i: int, j: int) -> None:
        finite.append(weight_by_tiles(x, g[:, i:j], out[i:j], low))

    def images(i: int, j: int) -> None:
        parts[i] = np.empty(out.shape, x.dtype)
        finite.append(weight_by_tiles(x[i:j], g[i:j], parts[i], low))

    products = g.size * math.prod(out.shape[1:])
    if out.nbytes > BLOCK or len(x) < 2:
        over_images(channels, g.shape[1], products)
    else:
        over_images(images, len(x), products)
        _sum_of_parts(parts, out)
    return all(finite)


def _sum_of_parts(parts: dict[int, Array], out: Array) -> None:
    """The spans' sums, by their first image, added up in this order, however the threads ended."""
    first, *others = [parts[start] for start in sorted(parts)]
    for other in others:
        first += other
    out.reshape(first.shape)[...] = first


def channel_sum(g: Array) -> Array:
    """The composite channel_sum."""
    (wide,) = _widened(g)
    return _narrowed(np.einsum("ncp->c", wide.reshape(*g.shape[:2], math.prod(g.shape[2:]))), g.dtype)


KERNELS = {"conv": conv, "conv_input": conv_input, "conv_weight": conv_weight, "channel_sum": channel_sum}
