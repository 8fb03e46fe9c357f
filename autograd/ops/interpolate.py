"""Resizing of spatial dimensions, and rearrangements between channels and space.

Every way of resizing is a linear map of one dimension after the other, given by a table: for each new place, which old
places it is made of, and their weights. The adjoint is the transposed table, so the two ops differentiate into each
other.
"""

from __future__ import annotations

import math
from functools import lru_cache

from ..op import op
from .reduce import narrow, wide

# ---- tables ----------------------------------------------------------------------------------------------------------

# Each gives, per new place, its [(old place, weight), ...]. `real` is the type in which coordinates are computed: the
# tensor's own, as in PyTorch, so that the same place is taken where one falls between two by rounding alone.


def _step(real, n, size, align_corners, scale):
    """Distance of the new places in coordinates of the old ones. scale: new by old size, or None."""
    if align_corners:
        return real(n - 1) / real(size - 1) if size > 1 else real(0)
    return real(1 / scale) if scale else real(n) / real(size)


def _sources(real, n, size, align_corners, scale):
    """Where each new place lies, in coordinates of the old ones."""
    step = _step(real, n, size, align_corners, scale)
    if align_corners:
        return [real(i) * step for i in range(size)]
    # rounded once, as processors do that multiply and add in one instruction
    return [real(float(step) * (i + 0.5) - 0.5) for i in range(size)]


def _nearest(real, n, size, align_corners, scale):
    step = _step(real, n, size, False, scale)
    return [[(min(math.floor(step * real(i)), n - 1), 1)] for i in range(size)]


def _nearest_exact(real, n, size, align_corners, scale):
    half, zero = real(0.5), real(0)
    sources = _sources(real, n, size, False, scale)
    return [[(min(math.floor(max(x, zero) + half), n - 1), 1)] for x in sources]


def _linear(real, n, size, align_corners, scale):
    rows = []
    for x in _sources(real, n, size, align_corners, scale):
        x = max(float(x), 0.0)
        left = min(int(x), n - 1)
        share = min(x - left, 1.0)
        rows.append([(left, 1 - share), (min(left + 1, n - 1), share)])
    return rows


def _cubic_weight(x, a=-0.75):
    """Keys' kernel (1981, "Cubic convolution interpolation for digital image processing") with its constant a."""
    x = abs(x)
    if x <= 1:
        return ((a + 2) * x - (a + 3)) * x * x + 1
    return ((a * x - 5 * a) * x + 8 * a) * x - 4 * a if x < 2 else 0.0


def _cubic(real, n, size, align_corners, scale):
    rows = []
    for x in map(float, _sources(real, n, size, align_corners, scale)):
        left = min(math.floor(x), n - 1)
        share = min(max(x - left, 0.0), 1.0)
        rows.append([(min(max(left + k, 0), n - 1), _cubic_weight(share - k)) for k in (-1, 0, 1, 2)])
    return rows


def _area(real, n, size, align_corners, scale):
    rows = []
    for i in range(size):
        start, stop = i * n // size, -(-(i + 1) * n // size)
        rows.append([(k, 1 / (stop - start)) for k in range(start, stop)])
    return rows


def _antialias(real, n, size, align_corners, scale, reach, kernel):
    """Every new place is the mean of what lies within `reach` new places, weighted by `kernel` of the distance."""
    step = float(_step(real, n, size, align_corners, scale))
    width = max(step, 1.0)  # a kernel narrower than the old places would leave some out
    rows = []
    for i in range(size):
        centre = step * (i + 0.5)
        first = max(int(centre - reach * width + 0.5), 0)
        last = min(int(centre + reach * width + 0.5), n)
        weights = [kernel((k - centre + 0.5) / width) for k in range(first, last)]
        total = sum(weights)
        rows.append([(k, w / total if total else w) for k, w in zip(range(first, last), weights, strict=True)])
    return rows


def _linear_antialias(real, n, size, align_corners, scale):
    return _antialias(real, n, size, align_corners, scale, 1, lambda x: max(1 - abs(x), 0.0))


def _cubic_antialias(real, n, size, align_corners, scale):
    return _antialias(real, n, size, align_corners, scale, 2, lambda x: _cubic_weight(x, -0.5))


def _lanczos_weight(x):
    """Duchon's window (1979, "Lanczos filtering in one and two dimensions"): sinc(x) sinc(x / 3) up to 3."""
    if not abs(x) < 3:
        return 0.0
    return math.sin(math.pi * x) * math.sin(math.pi * x / 3) * 3 / (math.pi * x) ** 2 if x else 1.0


def _lanczos_antialias(real, n, size, align_corners, scale):
    return _antialias(real, n, size, align_corners, scale, 3, _lanczos_weight)


_METHODS = {
    "nearest": _nearest,
    "nearest-exact": _nearest_exact,
    "linear": _linear,
    "cubic": _cubic,
    "linear-antialias": _linear_antialias,
    "cubic-antialias": _cubic_antialias,
    "lanczos-antialias": _lanczos_antialias,
    "area": _area,
}


def _transposed(rows, n):
    columns: list[list[tuple[int, float]]] = [[] for _ in range(n)]
    for i, row in enumerate(rows):
        for k, weight in row:
            columns[k].append((i, weight))
    return columns


@lru_cache(maxsize=128)
def _table(xp, dtype, n, size, method, align_corners, scale, adjoint):
    """(index, weight), each (T, places): new place i is the sum over t of weight[t, i] * old[index[t, i]].

    n, size: old and new size of the forward map. Rows with fewer than T terms repeat a place of their own, with weight
    0, so that a nan elsewhere cannot reach them. weight is None where all are 1.
    """
    real = xp.float64 if dtype.kind == "f" and dtype.itemsize == 8 else xp.float32
    rows = _METHODS[method](real, n, size, align_corners, scale)
    if adjoint:
        rows = _transposed(rows, n)
    longest = max([len(row) for row in rows], default=0)
    if longest == 1 and all(row and row[0][1] == 1 for row in rows):
        return xp.asarray([[row[0][0] for row in rows]]), None
    full = [row + [(row[0][0] if row else 0, 0.0)] * (longest - len(row)) for row in rows]
    index = xp.asarray([[row[t][0] for row in full] for t in range(longest)], dtype="i8").reshape(longest, len(full))
    weight = xp.asarray([[row[t][1] for row in full] for t in range(longest)]).reshape(longest, len(full))
    return index, weight.astype(dtype)


@lru_cache(maxsize=128)
def _byte_table(xp, n, size, method, align_corners, scale):
    """(index, weight, bits): `_table` with weights in units of 2**-bits, the smallest for which they fit in 16 bits."""
    rows = []
    for row in _METHODS[method](xp.float64, n, size, align_corners, scale):
        merged: dict[int, float] = {}  # a place at the edge may be named several times, but is rounded once
        for k, w in row:
            merged[k] = merged.get(k, 0.0) + w
        rows.append(list(merged.items()))
    top = max(abs(w) for row in rows for _, w in row)
    bits = next(b for b in range(23) if b == 22 or int(0.5 + top * 2 ** (b + 1)) >= 2**15)
    longest = max(len(row) for row in rows)
    full = [row + [(row[0][0], 0.0)] * (longest - len(row)) for row in rows]
    index = xp.asarray([[row[t][0] for row in full] for t in range(longest)])
    weight = xp.asarray([[row[t][1] for row in full] for t in range(longest)]) * 2**bits
    return index, xp.trunc(weight + xp.where(weight < 0, -0.5, 0.5)).astype("i4"), bits


def _mapped_bytes(xp, x, axis, size, method, align_corners, scale):
    """One dimension of a uint8 array, rounded to uint8 after it: Pillow's fixed-point arithmetic, as in PyTorch."""
    index, weight, bits = _byte_table(xp, x.shape[axis], size, method, align_corners, scale)
    out = None
    for i, w in zip(index, weight, strict=True):
        part = x.take(i, axis).astype("i4")
        part *= w.reshape(-1, *[1] * (-1 - axis))
        out = part + 2 ** (bits - 1) if out is None else xp.add(out, part, out=out)
    return xp.clip(out >> bits, 0, 255).astype("u1")


def _blocks(n, size, method, align_corners, scale):
    """(repeats, divisor) where the forward map repeats each place or takes means of equal parts, else None.

    repeats > 0: each place is shown that many times; repeats < 0: that many places are made one.
    """
    if method == "area" and size and n % size == 0:
        return -(n // size), n // size
    if method.startswith("nearest") and n and size % n == 0 and scale in (None, size / n):
        return size // n, 1
    return None


def _repeated(xp, x, axis, count):
    """Each place along axis (from the end) `count` times."""
    if count > 8:
        return xp.repeat(x, count, axis)
    axis += x.ndim
    out = xp.empty((*x.shape[: axis + 1], count, *x.shape[axis + 1 :]), x.dtype)
    for i in range(count):
        out[(slice(None),) * (axis + 1) + (i,)] = x
    return out.reshape(*x.shape[:axis], x.shape[axis] * count, *x.shape[axis + 1 :])


def _summed(xp, x, axis, count):
    """Sums of each `count` places along axis (from the end)."""
    axis += x.ndim
    parts = x.reshape(*x.shape[:axis], x.shape[axis] // count, count, *x.shape[axis + 1 :])
    if count > 8:
        return xp.add.reduce(parts, axis=axis + 1)
    lead = (slice(None),) * (axis + 1)
    out = parts[(*lead, 0)].copy(order="C")
    for i in range(1, count):
        out += parts[(*lead, i)]
    return out


def _mapped(xp, x, axis, n, size, method, align_corners, scale, adjoint):
    """One dimension (axis from the end) through a table, or its transpose."""
    blocks = _blocks(n, size, method, align_corners, scale)
    if blocks:
        count, divisor = blocks
        if (count > 0) != adjoint:
            out = _repeated(xp, x, axis, abs(count))
        else:
            out = _summed(xp, x, axis, abs(count))
        return out if divisor == 1 else out / divisor
    index, weight = _table(xp, x.dtype, n, size, method, align_corners, scale, adjoint)
    if weight is None:
        return x.take(index[0], axis)
    out = None
    for i, w in zip(index, weight, strict=True):
        part = x.take(i, axis)
        part *= w.reshape(-1, *[1] * (-1 - axis))
        out = part if out is None else xp.add(out, part, out=out)
    if out is None:
        return xp.zeros((*x.shape[:axis], index.shape[1], *x.shape[x.ndim + axis + 1 :]), x.dtype)
    return out


# ---- ops -------------------------------------------------------------------------------------------------------------


# One op per method, since PyTorch has a name for the node of each.
OP_OF_METHOD = {
    "nearest": "upsample_nearest",
    "nearest-exact": "upsample_nearest_exact",
    "linear": "upsample_linear",
    "cubic": "upsample_cubic",
    "linear-antialias": "upsample_linear",
    "cubic-antialias": "upsample_cubic",
    "lanczos-antialias": "upsample_lanczos",
    "area": "adaptive_avg_pool",
}


def _resample(xp, x, *, size, method, align_corners, scales):
    """The last dimensions in a new size. x: (*B, *S) -> (*B, *size).

    method: "nearest", "nearest-exact", "linear", "cubic", the latter two with "-antialias", "lanczos-antialias", or
    "area" (means of the parts floor(i n / m) .. ceil((i + 1) n / m) - 1). scales: None or new by old size, to be used
    instead of the sizes' own ratio.
    """
    out = wide(x)
    for axis in range(-1, -len(size) - 1, -1):
        scale = scales and scales[axis]
        if _same(x.shape[axis], size[axis], method, scale):
            continue
        if x.dtype.kind == "u" and method.startswith(("linear", "cubic", "lanczos")):
            out = _mapped_bytes(xp, out, axis, size[axis], method, align_corners, scale)
        else:
            out = _mapped(xp, out, axis, x.shape[axis], size[axis], method, align_corners, scale, False)
    return narrow(out, x) if out is not x else x.copy()


def _same(n, size, method, scale):
    """Whether a dimension stays as it is."""
    return n == size and (scale is None or method == "linear") and not method.endswith("antialias")


@op(grad_name="UpsampleBackward")
def resample_adjoint(xp, g, *, shape, rank, method, align_corners, scales):
    """The adjoint of resizing the last `rank` dimensions of an x of that shape. g: (*B, *T) -> (*shape) = (*B, *S)."""
    out = wide(g)
    for axis in range(-rank, 0):
        scale = scales and scales[axis]
        if not _same(shape[axis], g.shape[axis], method, scale):
            out = _mapped(xp, out, axis, shape[axis], g.shape[axis], method, align_corners, scale, True)
    return narrow(out, g) if out is not g else g.copy()


resample_adjoint.vjp(
    g=lambda F, h, *, g_shape, rank, method, align_corners, scales: getattr(F, OP_OF_METHOD[method])(
        h, size=g_shape[len(g_shape) - rank :], method=method, align_corners=align_corners, scales=scales
    )
)

upsample_nearest = op(_resample, name="upsample_nearest", grad_name="UpsampleNearest2D")
upsample_nearest_exact = op(_resample, name="upsample_nearest_exact", grad_name="UpsampleNearestExact2D")
upsample_linear = op(_resample, name="upsample_linear", grad_name="UpsampleBilinear2D")
upsample_cubic = op(_resample, name="upsample_cubic", grad_name="UpsampleBicubic2D")
upsample_lanczos = op(_resample, name="upsample_lanczos", grad_name="UpsampleLanczos2DAa")
adaptive_avg_pool = op(_resample, name="adaptive_avg_pool", grad_name="AdaptiveAvgPool2D")
for _op in (
    upsample_nearest, upsample_nearest_exact, upsample_linear, upsample_cubic, upsample_lanczos, adaptive_avg_pool
):  # fmt: skip
    _op.vjp(
        x=lambda F, g, *, x_shape, size, method, align_corners, scales: F.resample_adjoint(
            g, shape=x_shape, rank=len(size), method=method, align_corners=align_corners, scales=scales
        )
    )

# ---- channels and space ----------------------------------------------------------------------------------------------


@op()
def pixel_shuffle(xp, x, *, factor):
    """Each r * r channels as squares of pixels, r = factor. x: (*B, C r r, H, W) -> (*B, C, H r, W r)."""
    *lead, c, h, w = x.shape
    parts = x.reshape(*lead, c // factor**2, factor, factor, h, w)
    n = len(lead)
    parts = parts.transpose(*range(n), n, n + 3, n + 1, n + 4, n + 2)
    return xp.array(parts, copy=True, order="C").reshape(*lead, c // factor**2, h * factor, w * factor)


@op()
def pixel_unshuffle(xp, x, *, factor):
    """Each square of r * r pixels as channels, r = factor. x: (*B, C, H r, W r) -> (*B, C r r, H, W)."""
    *lead, c, h, w = x.shape
    parts = x.reshape(*lead, c, h // factor, factor, w // factor, factor)
    n = len(lead)
    parts = parts.transpose(*range(n), n, n + 2, n + 4, n + 1, n + 3)
    return xp.array(parts, copy=True, order="C").reshape(*lead, c * factor**2, h // factor, w // factor)


pixel_shuffle.vjp(x=lambda F, g, *, factor: F.pixel_unshuffle(g, factor=factor))
pixel_unshuffle.vjp(x=lambda F, g, *, factor: F.pixel_shuffle(g, factor=factor))


@op()
def channel_shuffle(xp, x, *, groups):
    """Channels dealt out: channel i of group j becomes channel i * groups + j. x: (N, C, *S) -> (N, C, *S)."""
    parts = x.reshape(x.shape[0], groups, x.shape[1] // groups, *x.shape[2:])
    return xp.array(parts.swapaxes(1, 2), copy=True, order="C").reshape(x.shape)


channel_shuffle.vjp(
    x=lambda F, g, *, x_shape, groups: F.channel_shuffle(g, groups=x_shape[1] // groups if x_shape[1] else 1)
)
