"""Pooling over windows of the trailing dimensions, as many as `kernel` has entries: x (*B, *S) -> (*B, *size).

`kernel`, `stride`, `padding` and `dilation` are tuples, `size` the number of windows in each dimension. Window t covers
the places t * stride + k * dilation - padding; those outside x do not count. The maximum and the sum are folded one
dimension at a time: a sum of k terms per dimension instead of their product.
"""

from __future__ import annotations

import math
from itertools import product

from ..op import composite, op
from .index import bounded
from .reduce import narrow, wide


def meetings(extent, kernel, stride, padding, dilation, size):
    """For each tap of a window in one dimension: (windows that it serves, places that they see), as slices.

    A tap that meets no place at all gives None.
    """
    found = []
    for k in range(kernel):
        offset = k * dilation - padding
        first = max(0, -(offset // stride))
        last = min(size, (extent - 1 - offset) // stride + 1)
        start = first * stride + offset
        found.append(
            (slice(first, last), slice(start, start + (last - first - 1) * stride + 1, stride))
            if first < last
            else None
        )
    return found


def along(axis, index):
    """The index that applies `index` to one of the last dimensions, axis counted from the end (-1 the last)."""
    return (..., index, *[slice(None)] * (-1 - axis))


def lowest(xp, dtype):
    """The smallest value of a dtype."""
    return xp.iinfo(dtype).min if dtype.kind in "iu" else -math.inf


def _folded(xp, x, fold, initial, kernel, stride, padding, dilation, size):
    """The windows of x folded by a ufunc. The last dimension first: ties are then found in row-major order."""
    rank = len(kernel)
    for axis in range(-1, -rank - 1, -1):
        shape = list(x.shape)
        shape[axis] = size[axis]
        out = xp.full(tuple(shape), initial, x.dtype)
        for met in meetings(x.shape[axis], kernel[axis], stride[axis], padding[axis], dilation[axis], size[axis]):
            if met:
                part = out[along(axis, met[0])]
                fold(part, x[along(axis, met[1])], out=part)
        x = out
    return x


# ---- maximum ---------------------------------------------------------------------------------------------------------


@op(grad_name="MaxPool2DWithIndices")
def max_pool(xp, x, *, kernel, stride, padding, dilation, size):
    """The maximum of each window; nan if one is in it. x: (*B, *S) -> (*B, *size)."""
    work = wide(x)
    return narrow(_folded(xp, work, xp.maximum, lowest(xp, work.dtype), kernel, stride, padding, dilation, size), x)


max_pool.vjp(
    x=lambda F, g, *, x, out, kernel, stride, padding, dilation, size: F.max_pool_backward(
        g, x, out, kernel=kernel, stride=stride, padding=padding, dilation=dilation, size=size
    )
)


@composite
def max_pool_backward(F, g, x, out, *, kernel, stride, padding, dilation, size):
    """g at the first maximum of each window. g, out: (*B, *size), x: (*B, *S) -> (*B, *S)."""
    indices = F.max_pool_with_indices(x, kernel=kernel, stride=stride, padding=padding, dilation=dilation, size=size)[1]
    return F.pool_scatter(g, indices, shape=tuple(x.shape), rank=len(kernel))


def _argmax(xp, x, size, taps):
    """(maximum, its row-major number in S) over taps: each an index of x giving (*B, *size) and their numbers.

    The first maximum counts; of nans the last, as in PyTorch.
    """
    out, indices = None, None
    for at, numbers in taps:
        value = x[at]
        if out is None:
            out, indices = value.copy(), xp.broadcast_to(numbers, value.shape).copy()
            continue
        better = (value > out) | (value != value)
        out = xp.where(better, value, out)
        indices = xp.where(better, numbers, indices)
    return out, indices


def _clipped_places(xp, extent, kernel, stride, padding, dilation, size):
    """For each tap the place that each window sees, (size,) int; where it is outside, one that the window sees too."""
    windows = xp.arange(size) * stride - padding
    inner = windows + -(xp.minimum(windows, 0) // dilation) * dilation  # a window's first place inside
    steps = (extent - 1 - inner) // dilation
    return [xp.where(p < 0, inner, xp.where(p >= extent, inner + steps * dilation, p)) for p in
            [windows + k * dilation for k in range(kernel)]]  # fmt: skip


def _taps(xp, extents, places):
    """(index, row-major numbers) of each combination of places, one list of int arrays per dimension."""
    rank = len(extents)
    for chosen in product(*places):
        grid = [p.reshape([-1 if i == j else 1 for j in range(rank)]) for i, p in enumerate(chosen)]
        numbers = 0
        for p, n in zip(grid, extents, strict=True):
            numbers = numbers * n + p
        yield (..., *grid), numbers


@op(outputs=("out", "indices"), grad_name="MaxPool2DWithIndices")
def max_pool_with_indices(xp, x, *, kernel, stride, padding, dilation, size):
    """The maximum of each window and its number in its plane. x: (*B, *S) -> (*B, *size), (*B, *size) int64."""
    extents = x.shape[x.ndim - len(kernel) :]
    places = [
        _clipped_places(xp, *geometry)
        for geometry in zip(extents, kernel, stride, padding, dilation, size, strict=True)
    ]
    out, indices = _argmax(xp, wide(x), size, _taps(xp, extents, places))
    return narrow(out, x), indices


@op(outputs=("out", "indices"), grad_name="AdaptiveMaxPool2D")
def adaptive_max_pool(xp, x, *, size):
    """The maximum of each of `size` parts of S, and its number. x: (*B, *S) -> (*B, *size), (*B, *size) int64.

    Part i of m in n places covers floor(i n / m) .. ceil((i + 1) n / m) - 1.
    """
    extents = x.shape[x.ndim - len(size) :]
    places = []
    for n, m in zip(extents, size, strict=True):
        starts = [i * n // m for i in range(m)]
        stops = [-(-(i + 1) * n // m) for i in range(m)]
        longest = max([b - a for a, b in zip(starts, stops, strict=True)], default=0)
        places.append([xp.minimum(xp.asarray(starts) + k, xp.asarray(stops) - 1) for k in range(longest)])
    out, indices = _argmax(xp, wide(x), size, _taps(xp, extents, places))
    return narrow(out, x), indices


def _starts(xp, sample, extent, kernel, size):
    """Where the windows of a dimension begin, the last one at the end. sample: (*B) of [0, 1) -> (*B, size) int.

    Graham, Fractional max-pooling, 2014, in the arithmetic of the samples' dtype.
    """
    last = xp.full((*sample.shape, 1), extent - kernel, dtype="i8")
    if size == 1:
        return last
    step = xp.asarray(extent - kernel, dtype=sample.dtype) / xp.asarray(size - 1, dtype=sample.dtype)
    sample = sample[..., None]
    first = xp.trunc(sample * step)
    inner = xp.trunc((xp.arange(size - 1).astype(sample.dtype) + sample) * step) - first
    return xp.concatenate((inner.astype("i8"), last), axis=-1)


@op(outputs=("out", "indices"), grad_name="FractionalMaxPool2D")
def fractional_max_pool(xp, x, samples, *, kernel, size):
    """The maximum of each window at pseudo-random steps, and its number. x: (N, C, *S) -> (N, C, *size), (N, C, *size).

    samples: (N, C, R) numbers of [0, 1), one per dimension: width and height of images, but time first for volumes.
    """
    rank, extents = len(kernel), x.shape[2:]
    order = range(rank) if rank == 3 else reversed(range(rank))
    spread = [xp.arange(n).reshape(n, *[1] * (rank + 1 - i)) for i, n in enumerate(x.shape[:2])]
    places = []
    for d, i in enumerate(order):
        starts = _starts(xp, samples[..., i], extents[d], kernel[d], size[d])
        starts = starts.reshape(*x.shape[:2], *[size[d] if d == e else 1 for e in range(rank)])
        places.append([starts + k for k in range(kernel[d])])
    taps = []
    for chosen in product(*places):
        numbers = chosen[0]
        for p, n in zip(chosen[1:], extents[1:], strict=True):
            numbers = numbers * n + p
        taps.append(((*spread, *chosen), numbers))
    out, indices = _argmax(xp, wide(x), size, taps)
    return narrow(out, x), indices


for _op in (max_pool_with_indices, adaptive_max_pool, fractional_max_pool):
    _op.vjp(x=lambda F, g, *, x_shape, out, size: F.pool_scatter(g[0], out[1], shape=x_shape, rank=len(size)))


def _planes(x, rank):
    """x: (*B, *S) -> (prod(B), prod(S)), S the last `rank` dimensions."""
    lead = x.ndim - rank
    return x.reshape(math.prod(x.shape[:lead]), math.prod(x.shape[lead:]))


@op(index=("indices",), grad_name="MaxPool2DWithIndicesBackward")
def pool_scatter(xp, g, indices, *, shape, rank):
    """g summed at its places in each plane, the last `rank` dimensions. g, indices: (*B, *T) -> (*shape) = (*B, *S)."""
    out = xp.zeros(shape, wide(g).dtype)
    plane = math.prod(shape[len(shape) - rank :])
    at = _planes(indices, rank)
    at = at + xp.arange(at.shape[0])[:, None] * plane
    xp.add.at(out.reshape(-1), at.reshape(-1), wide(g).reshape(-1))
    return narrow(out, g)


@op(index=("indices",), grad_name="MaxPool2DWithIndicesBackward")
def pool_gather(xp, x, indices, *, rank):
    """The values at places of each plane, the last `rank` dimensions. x: (*B, *S), indices: (*B, *T) -> (*B, *T)."""
    return xp.take_along_axis(_planes(x, rank), _planes(indices, rank), axis=1).reshape(indices.shape)


pool_scatter.vjp(g=lambda F, h, *, indices, rank: F.pool_gather(h, indices, rank=rank))
pool_gather.vjp(x=lambda F, g, *, indices, x_shape, rank: F.pool_scatter(g, indices, shape=x_shape, rank=rank))


@op(index=("indices",), grad_name="MaxUnpool2D")
def max_unpool(xp, x, indices, *, size):
    """Zeros with x at its places in each plane. x, indices: (*B, *T) -> (*B, *size). RuntimeError outside."""
    rank, plane = len(size), math.prod(size)
    text = f"Found an invalid max index: {{bad}} (output volumes are of size {'x'.join(map(str, size))})"
    bounded(xp, indices, plane, 0, RuntimeError, text)
    out = xp.zeros((*x.shape[: x.ndim - rank], *size), x.dtype)
    at = _planes(indices, rank)
    out.reshape(-1)[(at + xp.arange(at.shape[0])[:, None] * plane).reshape(-1)] = x.reshape(-1)
    return out


max_unpool.vjp(x=lambda F, g, *, indices, size: F.pool_gather(g, indices, rank=len(size)))

# ---- average ---------------------------------------------------------------------------------------------------------


def _counts(extent, kernel, stride, padding, size, inside):
    """What each window of one dimension is divided by: how many places it has in x, or in x and its padding."""
    counts = []
    for t in range(size):
        start = t * stride - padding
        stop = min(start + kernel, extent + padding)
        counts.append(min(stop, extent) - max(start, 0) if inside else stop - start)
    return counts


def _averaged(xp, total, extents, kernel, stride, padding, size, divisor):
    """Window sums divided: by a number, or by the windows' sizes where divisor is "all" or "inside"."""
    if not isinstance(divisor, str):
        return total / divisor
    for axis in range(-len(kernel), 0):
        geometry = (extents[axis], kernel[axis], stride[axis], padding[axis], size[axis])
        counts = _counts(*geometry, divisor == "inside")
        if len(set(counts)) == 1:
            total = total / counts[0]
        else:
            total = total / xp.asarray(counts, dtype=total.dtype).reshape(-1, *[1] * (-1 - axis))
    return total


@op(grad_name="AvgPool2D")
def avg_pool(xp, x, *, kernel, stride, padding, size, divisor):
    """The mean of each window. x: (*B, *S) -> (*B, *size).

    divisor: a number, "all" (the window with its padding) or "inside" (what lies in x). Integers are divided towards 0.
    """
    ones = (1,) * len(kernel)
    total = _folded(xp, wide(x), xp.add, 0, kernel, stride, padding, ones, size)
    out = _averaged(xp, total, x.shape[x.ndim - len(kernel) :], kernel, stride, padding, size, divisor)
    return narrow(xp.trunc(out) if x.dtype.kind in "iu" else out, x)


@op(grad_name="AvgPool2DBackward")
def avg_pool_input(xp, g, *, shape, kernel, stride, padding, size, divisor):
    """avg_pool's adjoint: each window's share given back to its places. g: (*B, *size) -> (*shape) = (*B, *S)."""
    extents = shape[len(shape) - len(kernel) :]
    x = _averaged(xp, wide(g), extents, kernel, stride, padding, size, divisor)
    for axis in range(-len(kernel), 0):
        spread = xp.zeros((*x.shape[:axis], extents[axis], *x.shape[x.ndim + axis + 1 :]), x.dtype)
        geometry = (kernel[axis], stride[axis], padding[axis], 1, size[axis])
        for met in meetings(extents[axis], *geometry):
            if met:
                spread[along(axis, met[1])] += x[along(axis, met[0])]
        x = spread
    return narrow(x, g)


avg_pool.vjp(
    x=lambda F, g, *, x_shape, kernel, stride, padding, size, divisor: F.avg_pool_input(
        g, shape=x_shape, kernel=kernel, stride=stride, padding=padding, size=size, divisor=divisor
    )
)
avg_pool_input.vjp(
    g=lambda F, h, *, kernel, stride, padding, size, divisor: F.avg_pool(
        h, kernel=kernel, stride=stride, padding=padding, size=size, divisor=divisor
    )
)
