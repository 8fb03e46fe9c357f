"""Sorting, selection and running extremes for NumPy arrays.

NumPy sorts numbers with SIMD, but has no stable argsort with it. So values of at most 32 bits go into a 64-bit key with
their index, whose plain sort gives the stable order (5 times faster); for others the unstable argsort is taken, if no
two values are equal. Selection partitions values, and looks for the indices afterwards.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..base import may_decline
from .reduce_kernels import F32, F64

CHUNK = 1 << 19  # elements whose keys are sorted together
SIGN, LOW, HALF = np.uint32(1 << 31), np.uint64(0xFFFFFFFF), np.uint64(32)


def _by_rows(function: Callable[[Any], Any], x: Any, axis: int) -> tuple[Any, Any]:
    """`function` (rows -> values and indices) along axis, in pieces; its results with their last dimension at axis."""
    moved = np.moveaxis(x, axis, -1) if axis != x.ndim - 1 else x
    rows = np.ascontiguousarray(moved).reshape(-1, x.shape[axis])
    step = max(1, CHUNK // rows.shape[1])
    pieces = [function(rows[i : i + step]) for i in range(0, len(rows), step)]
    whole = pieces[0] if len(pieces) == 1 else [np.concatenate(p) for p in zip(*pieces, strict=True)]
    shaped = [w.reshape(*moved.shape[:-1], w.shape[1]) for w in whole]
    values, indices = [np.ascontiguousarray(np.moveaxis(s, -1, axis)) if axis != x.ndim - 1 else s for s in shaped]
    return values, indices


def _keys(rows: Any, descending: bool) -> Any:
    """Values as uint64 whose order is theirs, with the index in the low half; None where they need more than 32 bits.

    Floats: the sign bit is flipped for positive numbers, all bits for negative ones, and -0 becomes 0.
    """
    kind, width = rows.dtype.kind, rows.dtype.itemsize
    if kind == "f" and width <= 4:
        work = rows.astype(F32) + F32.type(0)
        if np.isnan(np.maximum.reduce(work, axis=None)):
            work[np.isnan(work)] = np.nan  # one kind of nan, the largest
        bits = work.view(np.uint32)
        flip = (bits.view(np.int32) >> 31).view(np.uint32)
        flip |= SIGN
        bits ^= flip
    elif kind in "bi" or (kind == "u" and width < 8):
        wide = rows.astype(np.int64)
        low = wide.min()
        if int(wide.max()) - int(low) > 0xFFFFFFFF:
            return None
        bits = (wide - low).astype(np.uint32)
    else:
        return None
    if descending:
        np.invert(bits, out=bits)
    keys = bits.astype(np.uint64)
    keys <<= HALF
    keys |= np.arange(rows.shape[1], dtype=np.uint64)
    return keys


def order(rows: Any, descending: bool) -> Any:
    """The stable sorting permutation of each row; nan is the largest. rows: (R, N) -> (R, N) int64."""
    if rows.size >= 512:
        keys = _keys(rows, descending)
        if keys is not None:
            keys.sort(axis=1)
            keys &= LOW
            return keys.view(np.int64)
        if rows.dtype.kind in "fiu":
            places = np.argsort(rows, axis=1)
            ranked = np.take_along_axis(rows, places, 1)
            if (ranked[:, 1:] > ranked[:, :-1]).all():  # no ties, no nan
                return np.flip(places, 1) if descending else places
    if descending:
        return rows.shape[1] - 1 - np.flip(np.argsort(np.flip(rows, 1), axis=1, kind="stable"), 1)
    return np.argsort(rows, axis=1, kind="stable")


def _picked(rows: Any, places: Any) -> tuple[Any, Any]:
    """(values, indices) at places. rows: (R, N), places: (R, K)."""
    places = np.ascontiguousarray(places)
    return rows.reshape(-1)[places + np.arange(0, rows.size, rows.shape[1])[:, None]], places


@may_decline
def sort(x: Any, *, axis: int, descending: bool) -> tuple[Any, Any]:
    """Op sort."""
    return _by_rows(lambda rows: _picked(rows, order(rows, descending)), x, axis) if x.size else NotImplemented


def _top(rows: Any, k: int, largest: bool) -> tuple[Any, Any]:
    """The k largest (smallest): those beyond the k-th value, put in order; by a full sort where values are equal."""
    n = rows.shape[1]
    if 0 < k <= n // 4 and rows.dtype.kind in "fiu":
        border = np.partition(rows, n - k if largest else k - 1, axis=1)[:, n - k if largest else k - 1, None]
        found = np.flatnonzero(rows >= border if largest else rows <= border)
        if found.size == len(rows) * k:
            places = (found % n).reshape(-1, k)
            values, _ = _picked(rows, places)
            return _picked(rows, np.take_along_axis(places, order(values, largest), 1))
    return _picked(rows, order(rows, largest)[:, :k])


@may_decline
def topk(x: Any, *, k: int, axis: int, largest: bool) -> tuple[Any, Any]:
    """Op topk."""
    return _by_rows(lambda rows: _top(rows, k, largest), x, axis) if x.size else NotImplemented


def _kth(rows: Any, k: int) -> tuple[Any, Any]:
    """The k-th smallest (from 1) by partition; by a full sort where it is not unique, or nan."""
    if rows.dtype.kind in "fiu":
        value = np.partition(rows, k - 1, axis=1)[:, k - 1, None]
        same = rows == value
        if np.count_nonzero(same) == len(rows) and same.any(1).all():
            return value, same.argmax(1)[:, None]
    return _picked(rows, order(rows, False)[:, k - 1 : k])


def _one(function: Callable[[Any], Any], x: Any, axis: int, keepdims: bool) -> Any:
    if not x.size:
        return NotImplemented
    values, indices = _by_rows(function, x, axis)
    return (values, indices) if keepdims else (values.squeeze(axis), indices.squeeze(axis))


@may_decline
def kthvalue(x: Any, *, k: int, axis: int, keepdims: bool) -> tuple[Any, Any]:
    """Op kthvalue."""
    return _one(lambda rows: _kth(rows, k), x, axis, keepdims)


def _middle(rows: Any, skip_nan: bool) -> tuple[Any, Any]:
    n = rows.shape[1]
    if rows.dtype.kind not in "fV" or not np.isnan(np.maximum.reduce(rows, axis=None)):
        return _kth(rows, (n + 1) // 2)
    nans = np.count_nonzero(np.isnan(rows), axis=1, keepdims=True)
    place = np.maximum(n - nans - 1, 0) // 2 if skip_nan else np.where(nans > 0, n - nans, (n - 1) // 2)
    return _picked(rows, np.take_along_axis(order(rows, False), place, 1))


@may_decline
def median_dim(x: Any, *, axis: int, keepdims: bool) -> tuple[Any, Any]:
    """Op median_dim."""
    return _one(lambda rows: _middle(rows, False), x, axis, keepdims)


@may_decline
def nanmedian_dim(x: Any, *, axis: int, keepdims: bool) -> tuple[Any, Any]:
    """Op nanmedian_dim."""
    return _one(lambda rows: _middle(rows, True), x, axis, keepdims)


def _median(x: Any, skip_nan: bool) -> Any:
    flat = x.reshape(-1)
    if x.dtype.kind in "fV":
        nan = np.isnan(flat)
        if nan.any():
            flat = flat[~nan] if skip_nan else flat[:0]
    if not flat.size:
        return np.full((), np.nan, x.dtype)
    middle = (flat.size - 1) // 2
    return np.asarray(np.partition(flat, middle)[middle])


def median_all(x: Any) -> Any:
    """Op median_all."""
    return _median(x, False)


def nanmedian_all(x: Any) -> Any:
    """Op nanmedian_all."""
    return _median(x, True)


def _latest(x: Any, values: Any, axis: int) -> tuple[Any, Any]:
    """A running extreme and the place where it was seen last; nan stays."""
    places = np.arange(x.shape[axis]).reshape([-1 if i == axis else 1 for i in range(x.ndim)])
    return values, np.maximum.accumulate(np.where((x == values) | (x != x), places, 0), axis)


def cummax(x: Any, *, axis: int) -> tuple[Any, Any]:
    """Op cummax."""
    return _latest(x, np.maximum.accumulate(x, axis), axis)


def cummin(x: Any, *, axis: int) -> tuple[Any, Any]:
    """Op cummin."""
    return _latest(x, np.minimum.accumulate(x, axis), axis)


@may_decline
def logcumsumexp(x: Any, *, axis: int) -> Any:
    """Op logcumsumexp."""
    if x.dtype != F32 and x.dtype != F64:
        return NotImplemented
    return np.logaddexp.accumulate(x.astype(F64, copy=False), axis).astype(x.dtype, copy=False)


KERNELS: dict[str, Callable[..., Any]] = {
    "sort": sort,
    "topk": topk,
    "kthvalue": kthvalue,
    "median_dim": median_dim,
    "nanmedian_dim": nanmedian_dim,
    "median_all": median_all,
    "nanmedian_all": nanmedian_all,
    "cummax": cummax,
    "cummin": cummin,
    "logcumsumexp": logcumsumexp,
}
