"""Running sums, products, extremes along one dimension (`axis`: a non-negative int), and the recurrence beneath them.

Gradients of running products divide by nothing: they are a linear recurrence, which is closed under differentiation
and therefore right at zeros, at every order.
"""

from __future__ import annotations

import math

from ..op import composite, op


def doubling(n):
    """The step widths 1, 2, 4, ... < n with which a running result over n elements takes log2(n) passes."""
    step = 1
    while step < n:
        yield step
        step *= 2


def cut(axis, start, stop):
    """The index of a slice along one axis."""
    return (slice(None),) * axis + (slice(start, stop),)


def deep(x):
    """The dtype in which running results are formed, as in PyTorch: one size larger, up to double."""
    return {"f2": "f4", "f4": "f8", "c8": "c16"}.get(x.dtype.str[1:], "f4" if x.dtype.kind == "V" else x.dtype)


def turned(xp, x, axis, reverse):
    """x, seen backwards along the axis if `reverse`; a 0-d x as one element."""
    x = x.reshape(1) if not x.ndim else x
    return xp.flip(x, axis) if reverse else x


@op()
def shift(xp, x, *, axis, by, fill=0):
    """x moved by one place along axis (by: 1 or -1); the free place takes `fill`. x: (*S) -> (*S)."""
    out = xp.full_like(x, fill)
    if not x.ndim:
        return out
    if by > 0:
        out[cut(axis, 1, None)] = x[cut(axis, None, -1)]
    else:
        out[cut(axis, None, -1)] = x[cut(axis, 1, None)]
    return out


shift.vjp(x=lambda F, g, *, axis, by: F.shift(g, axis=axis, by=-by))


@op(holomorphic=True)
def recurrence(xp, a, b, *, axis, reverse=False):
    """h[i] = a[i] h[i-1] + b[i] from h[-1] = 0; backwards from the end if `reverse`. a, b: (*S) -> (*S).

    By doubling: log2(n) passes over the array. Hillis & Steele, Data parallel algorithms, CACM 29 (1986).
    """
    h = turned(xp, b, axis, reverse).copy()
    a = turned(xp, a, axis, reverse).copy()
    for step in doubling(h.shape[axis]):
        late, early = cut(axis, step, None), cut(axis, None, -step)
        h[late] = h[late] + a[late] * h[early]
        a[late] = a[late] * a[early]
    return xp.ascontiguousarray(turned(xp, h, axis, reverse)).reshape(b.shape)


def _recurrence_rule(F, g, needs, *, a, out, axis, reverse):
    by = 1 if reverse else -1
    h = F.recurrence(F.shift(a, axis=axis, by=by), g, axis=axis, reverse=not reverse)
    return (h * F.shift(out, axis=axis, by=-by) if needs[0] else None, h)


recurrence.vjp_joint("a", "b", _recurrence_rule)


def _accumulated(xp, fold, x, axis, reverse):
    out = fold(turned(xp, x, axis, reverse), axis=axis, dtype=deep(x)).astype(x.dtype, copy=False)
    return xp.ascontiguousarray(turned(xp, out, axis, reverse)).reshape(x.shape)


@op()
def cumsum(xp, x, *, axis, reverse=False):
    """Running sum along axis, from the end if `reverse`. x: (*S) -> (*S)."""
    return _accumulated(xp, xp.cumsum, x, axis, reverse)


cumsum.vjp(x=lambda F, g, *, axis, reverse: F.cumsum(g, axis=axis, reverse=not reverse))


@op(holomorphic=True)
def cumprod(xp, x, *, axis, reverse=False):
    """Running product along axis, from the end if `reverse`. x: (*S) -> (*S)."""
    return _accumulated(xp, xp.cumprod, x, axis, reverse)


cumprod.vjp(x=lambda F, g, *, x, out, axis, reverse: F.cumprod_backward(g, x, out, axis=axis, reverse=reverse))


@composite
def cumprod_backward(F, g, x, out, *, axis, reverse):
    """The gradient of cumprod: h[i] y[i-1] with h[i] = g[i] + x[i+1] h[i+1]. g, x, out: (*S) -> (*S)."""
    by = 1 if reverse else -1
    h = F.recurrence(F.shift(x, axis=axis, by=by), g, axis=axis, reverse=not reverse)
    return h * F.shift(out, axis=axis, by=-by, fill=1)


@op(holomorphic=True)
def logcumsumexp(xp, x, *, axis):
    """log of the running sum of exp(x) along axis, without overflow. x: (*S) -> (*S)."""
    out = turned(xp, x, axis, False).astype(deep(x))
    if out.dtype.kind == "c":  # one by one, since the sheet of the logarithm depends on the order
        for i in range(1, out.shape[axis]):
            here = cut(axis, i, i + 1)
            out[here] = _log_add(xp, out[here], out[cut(axis, i - 1, i)])
        return out.reshape(x.shape).astype(x.dtype)
    for step in doubling(out.shape[axis]):
        late, early = cut(axis, step, None), cut(axis, None, -step)
        out[late] = xp.logaddexp(out[late], out[early])
    return out.reshape(x.shape).astype(x.dtype)


def _log_add(xp, x, y):
    """log(exp(x) + exp(y)) of complex numbers, for which NumPy has no function."""
    x, y = xp.where(x.real >= y.real, x, y), xp.where(x.real >= y.real, y, x)
    return xp.where(y.real == -xp.inf, x, x + xp.log1p(xp.exp(y - x)))


logcumsumexp.vjp(x=lambda F, g, *, x, out, axis: F.logcumsumexp_backward(g, x, out, axis=axis))


@composite
def logcumsumexp_backward(F, g, x, out, *, axis):
    """exp(x - y) r with r[i] = g[i] + exp(y[i] - y[i+1]) r[i+1]: every factor is at most 1. g, x, out: (*S) -> (*S)."""
    following = F.shift(out, axis=axis, by=-1, fill=math.inf)  # so that the step past the end is 0
    endless = F.logical_and(F.isinf(out), out == following)  # inf - inf would be nan
    steps = F.exp(F.zero_where(out - following, endless))
    return F.exp(x - out) * F.recurrence(steps, g, axis=axis, reverse=True)


def _running_extreme(xp, x, axis, smaller):
    """Values and the latest index of the running maximum (minimum); nan wins, and stays."""
    values = turned(xp, x, axis, False).copy()
    places = xp.arange(values.shape[axis], dtype="i8").reshape([-1 if i == axis else 1 for i in range(values.ndim)])
    places = xp.broadcast_to(places, values.shape).copy()
    for step in doubling(values.shape[axis]):
        late, early = cut(axis, step, None), cut(axis, None, -step)
        v, w = values[late], values[early]
        keep = (v <= w if smaller else v >= w) & (w == w) | (v != v)
        values[late], places[late] = xp.where(keep, v, w), xp.where(keep, places[late], places[early])
    return values.reshape(x.shape), places.reshape(x.shape)


@op(outputs=("values", "indices"))
def cummax(xp, x, *, axis):
    """Running maximum along axis and where it was seen last. x: (*S) -> (*S), (*S) int64."""
    return _running_extreme(xp, x, axis, False)


@op(outputs=("values", "indices"))
def cummin(xp, x, *, axis):
    """Running minimum along axis and where it was seen last. x: (*S) -> (*S), (*S) int64."""
    return _running_extreme(xp, x, axis, True)


def _seen_last(F, g, *, x_shape, out, axis):
    return F.unpick(g[0], out[1], shape=x_shape, axis=axis, keepdims=True)


cummax.vjp(x=_seen_last)
cummin.vjp(x=_seen_last)
