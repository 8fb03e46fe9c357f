"""gather and scatter: one index per element along a dimension, and every way to combine what falls on one place."""

from __future__ import annotations

import math

from ..op import composite, op
from .index import bounded, written


def flat_places(xp, index, shape, axis):
    """The row-major numbers, in an array of `shape`, of what index names along axis. index: (*I) -> (*I)."""
    offset, step, flat = None, 1, index
    for d in range(len(shape) - 1, -1, -1):
        n = index.shape[d]
        if d == axis:
            flat = index if step == 1 else index * step
        elif n > 1:
            place, after = xp.arange(n) * step, index.ndim - d - 1
            place = place.reshape((n,) + (1,) * after) if after else place
            offset = place if offset is None else offset + place
        step *= shape[d]
    return flat if offset is None else flat + offset


def checked(xp, index, shape, axis):
    """`index` as int64 in the range of that dimension. RuntimeError else."""
    return bounded(xp, index, shape[axis], axis, RuntimeError)


@op(index=("index",))
def gather(xp, x, index, *, axis):
    """out[i][j] = x[index[i][j]][j] for axis 0. x: (*S), index: (*I) int, no larger than S elsewhere -> (*I)."""
    index = checked(xp, index, x.shape, axis)
    return x.reshape(-1)[flat_places(xp, index, x.shape, axis)]


gather.vjp(x=lambda F, g, *, x_shape, index, axis: F.gather_backward(g, index, shape=x_shape, axis=axis))


@op(index=("index",))
def gather_backward(xp, g, index, *, shape, axis):
    """Zeros with g added at the places that index names. g, index: (*I) -> (*shape)."""
    out = xp.zeros(shape, g.dtype)
    xp.add.at(out.reshape(-1), flat_places(xp, index, shape, axis).reshape(-1), g.reshape(-1))
    return out


gather_backward.vjp(g=lambda F, h, *, index, axis: F.gather(h, index, axis=axis))


@op(index=("index",))
def scatter(xp, x, index, src, *, axis, inplace=False):
    """x with x[index[i][j]][j] = src[i][j] for axis 0. x: (*S), index, src: (*I) -> (*S). The last write stays."""
    places = flat_places(xp, checked(xp, index, x.shape, axis), x.shape, axis)

    def write(out):
        out.reshape(-1)[places] = src

    return written(xp, x, inplace, write)


scatter.vjp(
    x=lambda F, g, *, index, axis: F.scatter_fill(g, index, axis=axis, value=0),
    src=lambda F, g, *, index, axis: F.gather(g, index, axis=axis),
)


@op(index=("index",), grad_name="ScatterBackward1")
def scatter_fill(xp, x, index, *, axis, value, inplace=False):
    """x with one number at the places that index names. x: (*S), index: (*I) int -> (*S)."""
    places = flat_places(xp, checked(xp, index, x.shape, axis), x.shape, axis)

    def write(out):
        out.reshape(-1)[places] = value

    return written(xp, x, inplace, write)


scatter_fill.vjp(x=lambda F, g, *, index, axis: F.scatter_fill(g, index, axis=axis, value=0))


@op(index=("index",))
def scatter_add(xp, x, index, src, *, axis, inplace=False):
    """x with src added at the places that index names. x: (*S), index, src: (*I) -> (*S)."""
    places = flat_places(xp, checked(xp, index, x.shape, axis), x.shape, axis).reshape(-1)

    def write(out):
        xp.add.at(out.reshape(-1), places, src.reshape(-1))

    return written(xp, x, inplace, write)


scatter_add.vjp(x=lambda F, g: g, src=lambda F, g, *, index, axis: F.gather(g, index, axis=axis))

# ---- scatter_reduce --------------------------------------------------------------------------------------------------


def _start(x, reduce):
    """What the reduction starts from where x itself is left out."""
    if reduce in ("amax", "amin"):
        if x.dtype.kind in "fV":
            return -math.inf if reduce == "amax" else math.inf
        if x.dtype.kind == "b":
            return reduce == "amin"
        bits = 8 * x.dtype.itemsize - (x.dtype.kind == "i")
        return (2**bits - 1) * (reduce == "amin") - (2**bits) * (reduce == "amax" and x.dtype.kind == "i")
    return 1 if reduce == "prod" else 0


def _counts(xp, x, places, include_self):
    """How many values meet at each place, at least 1. -> (x.size,) int."""
    counts = xp.full(x.size, int(include_self))
    xp.add.at(counts, places, 1)
    return xp.maximum(counts, 1)


@op(index=("index",))
def scatter_reduce(xp, x, index, src, *, axis, reduce, include_self):
    """x with src combined at the places that index names: "sum", "prod", "mean", "amax" or "amin".

    Without include_self, x counts only where nothing falls. x: (*S), index, src: (*I) -> (*S).
    """
    places = flat_places(xp, checked(xp, index, x.shape, axis), x.shape, axis).reshape(-1)
    out = xp.array(x, copy=True, order="C")
    flat, values = out.reshape(-1), src.reshape(-1)
    if not include_self:
        flat[places] = _start(x, reduce)
    combine = {"prod": xp.multiply, "amax": xp.maximum, "amin": xp.minimum}.get(reduce, xp.add)
    combine.at(flat, places, values)
    if reduce == "mean":
        counts = _counts(xp, x, places, include_self).astype(x.dtype)
        flat[...] = flat // counts if x.dtype.kind in "iu" else flat / counts
    return out


@op(index=("index",))
def scatter_count(xp, x, index, *, axis, include_self):
    """How many values meet at each element of x, at least 1. x: (*S), index: (*I) -> (*S) of x's dtype."""
    places = flat_places(xp, index, x.shape, axis).reshape(-1)
    return _counts(xp, x, places, include_self).reshape(x.shape).astype(x.dtype)


@op(index=("index",), outputs=("own", "other"))
def scatter_shares(xp, x, index, src, out, *, axis, include_self):
    """The parts of an extreme's gradient that go to x and to src: equal among those that tie. Constants.

    x, out: (*S), index, src: (*I) -> (*S), (*I).
    """
    places = flat_places(xp, index, x.shape, axis)
    own = (x == out).astype(x.dtype)
    if not include_self:
        own.reshape(-1)[places] = 0
    other = (src == out.reshape(-1)[places]).astype(x.dtype)
    ties = own.reshape(-1).copy()
    xp.add.at(ties, places.reshape(-1), other.reshape(-1))
    ties = xp.where(ties == 0, xp.asarray(math.nan, ties.dtype), ties)  # nan equals nothing
    return own / ties.reshape(x.shape), other / ties[places]


@op()
def is_zero(xp, x):
    """Where x is 0. x: (*S) -> (*S) bool."""
    return x == 0


@composite
def scatter_prod_backward(F, g, needs, x, index, src, out, *, axis, include_self, dtype):
    """The gradients of scatter_reduce's product, right where one factor is 0. g, x: (*S), src: (*I) -> (*S), (*I)."""
    gx = gsrc = None
    if needs[0]:
        whole = F.masked_fill(x, F.is_zero(x), value=1)
        product = F.scatter_reduce(whole, index, src, axis=axis, reduce="prod", include_self=include_self)
        gx = g * product / whole
        if not include_self:
            gx = F.scatter_fill(gx, index, axis=axis, value=0)
    if needs[1]:
        zero = F.is_zero(src)
        zeros = F.scatter_add(F.zeros_like(x), index, F.cast(zero, dtype=dtype), axis=axis)
        single = F.cast(zero, dtype=dtype) * F.cast(F.is_zero(F.gather(zeros, index, axis=axis) - 1), dtype=dtype)
        others = F.masked_fill(src, F.is_zero(single - 1), value=1)
        product = F.scatter_reduce(x, index, others, axis=axis, reduce="prod", include_self=include_self)
        usual = F.gather(g * out, index, axis=axis) / F.masked_fill(src, zero, value=1)
        gsrc = F.gather(g * product, index, axis=axis) * single + usual * (1 - single)
    return gx, gsrc


@composite
def scatter_reduce_backward(F, g, needs, x, index, src, out, *, axis, reduce, include_self, dtype):
    """The gradients of scatter_reduce in x and src. g, x, out: (*S), index, src: (*I) -> (*S), (*I)."""
    if reduce == "prod":
        return F.scatter_prod_backward(g, needs, x, index, src, out, axis=axis, include_self=include_self, dtype=dtype)
    if reduce in ("amax", "amin"):
        own, other = F.scatter_shares(x, index, src, out, axis=axis, include_self=include_self)
        return g * own, F.gather(g, index, axis=axis) * other
    if reduce == "mean":
        g = g / F.scatter_count(g, index, axis=axis, include_self=include_self)
    gx = g if include_self else F.scatter_fill(g, index, axis=axis, value=0)
    return gx, F.gather(g, index, axis=axis)


scatter_reduce.vjp_joint(
    "x",
    "src",
    lambda F, g, needs, *, x, index, src, out, axis, reduce, include_self, x_dtype: F.scatter_reduce_backward(
        g, needs, x, index, src, out, axis=axis, reduce=reduce, include_self=include_self, dtype=x_dtype
    ),
)
