"""Sorting and selection along one dimension (`axis`: a non-negative int). nan counts as the largest value.

Each op gives values and int64 indices; equal values keep their order, and gradients go to the indices.
"""

from __future__ import annotations

import math

from ..op import op
from .cumulative import cut, doubling
from .reduce import selected, shared_by_all, wide


def order_of(xp, x, axis, descending):
    """The stable sorting permutation, int64."""
    keys = wide(x)
    if not descending:
        return xp.argsort(keys, axis=axis, kind="stable")
    backwards = xp.argsort(xp.flip(keys, axis), axis=axis, kind="stable")
    return x.shape[axis] - 1 - xp.flip(backwards, axis)


def at(xp, x, index, axis, keepdims=True):
    """(values, indices) at one or more places along axis."""
    values = xp.take_along_axis(x, index, axis=axis)
    return (values, index) if keepdims else (xp.squeeze(values, axis), xp.squeeze(index, axis))


@op(grad_name="Unique2Backward0")
def unique_values(xp, x, values, *, what):
    """`values`, the distinct ones of x as PyTorch's function `what` finds them. x: (*S), values: (*T) -> (*T)."""
    return xp.array(values, copy=True)


def _no_derivative(F, g, *, what):
    raise NotImplementedError(f"the derivative for '{what}' is not implemented.")


unique_values.vjp(x=_no_derivative)


def _moved(F, g, *, x_shape, out, axis):
    return F.unpick(g[0], out[1], shape=x_shape, axis=axis, keepdims=True)


@op(outputs=("values", "indices"))
def sort(xp, x, *, axis, descending):
    """x sorted along axis, and where each value was. x: (*S) -> (*S), (*S) int64."""
    return at(xp, x, order_of(xp, x, axis, descending), axis)


@op(outputs=("values", "indices"))
def topk(xp, x, *, k, axis, largest):
    """The k largest (smallest) values along axis in order, and where they were. x: (*S) -> (S with k), (S with k)."""
    return at(xp, x, xp.ascontiguousarray(order_of(xp, x, axis, largest)[cut(axis, None, k)]), axis)


sort.vjp(x=_moved)
topk.vjp(x=_moved)


@op(outputs=("values", "indices"))
def kthvalue(xp, x, *, k, axis, keepdims):
    """The k-th smallest value along axis (k from 1) and its index. x: (*S) -> two of (S without axis)."""
    return at(xp, x, order_of(xp, x, axis, False)[cut(axis, k - 1, k)], axis, keepdims)


kthvalue.vjp(x=selected)


def _middle(xp, x, axis, keepdims, skip_nan):
    order = order_of(xp, x, axis, False)
    n = x.shape[axis]
    nans = xp.add.reduce(x != x, axis=axis, keepdims=True, dtype="i8")
    if skip_nan:
        place = xp.maximum(n - nans - 1, 0) // 2
    else:
        place = xp.where(nans > 0, n - nans, (n - 1) // 2)
    return at(xp, x, xp.take_along_axis(order, place, axis=axis), axis, keepdims)


@op(outputs=("values", "indices"), grad_name="MedianBackward1")
def median_dim(xp, x, *, axis, keepdims):
    """The lower median along axis (nan if there is one) and its index. x: (*S) -> two of (S without axis)."""
    return _middle(xp, x, axis, keepdims, False)


@op(outputs=("values", "indices"), grad_name="NanmedianBackward1")
def nanmedian_dim(xp, x, *, axis, keepdims):
    """The lower median of the numbers along axis and its index. x: (*S) -> two of (S without axis)."""
    return _middle(xp, x, axis, keepdims, True)


median_dim.vjp(x=selected)
nanmedian_dim.vjp(x=selected)


@op(grad_name="MedianBackward0")
def median_all(xp, x):
    """The lower median of all elements, nan if there is one; the gradient is split among ties. x: (*S) -> ()."""
    return _middle(xp, x.reshape(-1), 0, False, False)[0] if x.size else xp.full((), math.nan, x.dtype)


@op(grad_name="NanmedianBackward0")
def nanmedian_all(xp, x):
    """The lower median of all numbers, nan if there are none; the gradient is split among ties. x: (*S) -> ()."""
    return _middle(xp, x.reshape(-1), 0, False, True)[0] if x.size else xp.full((), math.nan, x.dtype)


median_all.vjp(x=shared_by_all)
nanmedian_all.vjp(x=shared_by_all)


@op(outputs=("values", "indices"))
def mode(xp, x, *, axis, keepdims):
    """The most frequent (smallest) value along axis, and its last index. x: (*S) -> two of (S without axis)."""
    order = order_of(xp, x, axis, False)
    values = xp.take_along_axis(x, order, axis=axis)
    place = xp.arange(x.shape[axis]).reshape([-1 if i == axis else 1 for i in range(x.ndim)])
    start = xp.broadcast_to(place, x.shape).copy()
    start[cut(axis, 1, None)] *= values[cut(axis, 1, None)] != values[cut(axis, None, -1)]
    for step in doubling(x.shape[axis]):  # where the run of equal values began
        start[cut(axis, step, None)] = xp.maximum(start[cut(axis, step, None)], start[cut(axis, None, -step)])
    best = xp.expand_dims(xp.argmax(place - start, axis=axis), axis)
    return at(xp, x, xp.take_along_axis(order, best, axis=axis), axis, keepdims)


mode.vjp(x=selected)
