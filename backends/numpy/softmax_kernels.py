"""Softmax and cross-entropy for NumPy arrays: chunks that stay in the cache, temporaries written in place.

What works on a chunk reduces its second dimension: rows are (R, N), other layouts (O, N, I). np.exp takes half to two
thirds of the time, so little more is to be won in NumPy.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from .reduce_kernels import BLOCK, CHUNK, F32, F64, ones, row_extreme, sum_middle


def _top(x: Any) -> Any:
    """The maximum over the second dimension, kept as size 1."""
    if x.ndim == 3 or x.size < 4096:
        return np.maximum.reduce(x, axis=1, keepdims=True)
    return row_extreme(x)[:, None]


def _total(x: Any) -> Any:
    """The sum over the second dimension, kept as size 1."""
    if x.shape[1] > BLOCK:
        return sum_middle(x[:, :, None]) if x.ndim == 2 else sum_middle(x)[:, None]
    one = ones(x.shape[1], x.dtype)
    return x.dot(one)[:, None] if x.ndim == 2 else np.matmul(one, x)[:, None]


def _dot(x: Any, y: Any) -> Any:
    """The sum of x * y over the second dimension, kept as size 1."""
    return np.einsum("ij,ij->i", x, y)[:, None] if x.ndim == 2 else np.einsum("oni,oni->oi", x, y)[:, None]


def _run(kernel: Callable[..., None], axis: int, *arrays: Any) -> Any:
    """`kernel(out, *chunks)` over all of the arrays, which have one shape and dtype; gives the whole `out`."""
    shape = arrays[0].shape
    outer, n, inner = math.prod(shape[:axis]), shape[axis], math.prod(shape[axis + 1 :])
    out = np.empty(shape, arrays[0].dtype)
    layout = (outer, n) if inner == 1 else (outer, n, inner)
    views = [np.ascontiguousarray(v).reshape(layout) for v in (out, *arrays)]
    for rows in _parts(outer, n * inner):
        chunks = [v[rows] for v in views]
        if n * inner <= CHUNK or inner == 1:
            kernel(*chunks)
        else:
            for part in _parts(inner, n):
                kernel(*[c[:, :, part] for c in chunks])
    return out


def _parts(count: int, n: int) -> Iterator[slice]:
    """Slices of `count` rows (or columns) of n elements, as many as fit the cache."""
    step = max(1, CHUNK // n)
    return (slice(i, i + step) for i in range(0, count, step))


def _served(*arrays: Any) -> bool:
    return arrays[0].size > 0 and all(v.dtype == arrays[0].dtype and v.dtype in (F32, F64) for v in arrays)


def _in_float32(function: Callable[..., Any], axis: int, *arrays: Any) -> Any:
    """For 2-byte floats, mixed dtypes and empty arrays."""
    if not arrays[0].size:
        return arrays[0].copy()
    wide = np.result_type(F32, *[v.dtype for v in arrays if v.dtype.itemsize > 2])
    return function(*[v.astype(wide) for v in arrays], axis=axis).astype(arrays[0].dtype)


def _softmax(out: Any, x: Any) -> None:
    np.subtract(x, _top(x), out=out)
    np.exp(out, out=out)
    np.multiply(out, 1 / _total(out), out=out)


def softmax(x: Any, *, axis: int) -> Any:
    """Op softmax."""
    return _run(_softmax, axis, x) if _served(x) else _in_float32(softmax, axis, x)


def _softmax_backward(out: Any, g: Any, y: Any) -> None:
    np.subtract(g, _dot(g, y), out=out)
    np.multiply(out, y, out=out)


def softmax_backward(g: Any, out: Any, *, axis: int) -> Any:
    """Composite softmax_backward: out (g - sum(g out))."""
    return _run(_softmax_backward, axis, g, out) if _served(g, out) else _in_float32(softmax_backward, axis, g, out)


def _log_softmax(out: Any, x: Any) -> None:
    np.subtract(x, _top(x), out=out)
    np.subtract(out, np.log(_total(np.exp(out))), out=out)


def log_softmax(x: Any, *, axis: int) -> Any:
    """Op log_softmax."""
    return _run(_log_softmax, axis, x) if _served(x) else _in_float32(log_softmax, axis, x)


def _log_softmax_backward(out: Any, g: Any, y: Any) -> None:
    np.exp(y, out=out)
    np.multiply(out, _total(g), out=out)
    np.subtract(g, out, out=out)


def log_softmax_backward(g: Any, out: Any, *, axis: int) -> Any:
    """Composite log_softmax_backward: g - exp(out) sum(g)."""
    if _served(g, out):
        return _run(_log_softmax_backward, axis, g, out)
    return _in_float32(log_softmax_backward, axis, g, out)


def _row_sums(rows: Any) -> tuple[Any, Any]:
    """Each row's maximum (0 where that is infinite, as inf - inf is nan) and sum of exp(x - maximum). x: (R, N)."""
    top, total = np.empty(len(rows), rows.dtype), np.empty(len(rows), rows.dtype)
    for part in _parts(*rows.shape):
        x = rows[part]
        high = _top(x)
        infinite = np.isinf(high)
        if infinite.any():
            high[infinite] = 0
        e = np.subtract(x, high)
        np.exp(e, out=e)
        top[part], total[part] = high[:, 0], _total(e)[:, 0]
    return top, total


def logsumexp(x: Any, *, axis: tuple[int, ...], keepdims: bool) -> Any:
    """Op logsumexp."""
    k = x.ndim - 1
    if axis == (k,) and _served(x):
        top, total = _row_sums(np.ascontiguousarray(x).reshape(-1, x.shape[k]))
        return (np.log(total) + top).reshape((*x.shape[:k], 1) if keepdims else x.shape[:k])
    work = x.astype(F32) if x.dtype.itemsize == 2 else x
    if not math.prod([x.shape[i] for i in axis]):
        return np.full_like(np.add.reduce(x, axis=axis, keepdims=keepdims), -np.inf)
    top = np.maximum.reduce(work.real, axis=axis, keepdims=True)
    top = np.where(np.isinf(top), top.dtype.type(0), top)
    out = np.log(np.add.reduce(np.exp(work - top), axis=axis, keepdims=True)) + top
    out = out if keepdims else out.squeeze(axis)
    return out if out.dtype == x.dtype else out.astype(x.dtype)


# ---- cross-entropy of class indices


def _kept(classes: Any, count: int, ignore_index: int) -> Any:
    """None where every target counts, else which do. IndexError for a class that does not exist."""
    if not classes.size or (not 0 <= ignore_index < count and classes.min() >= 0 and classes.max() < count):
        return None
    kept = classes != ignore_index
    wrong = kept & ((classes < 0) | (classes >= count))
    if wrong.any():
        raise IndexError(f"Target {int(classes[wrong][0])} is out of bounds. (there are {count} classes)")
    return kept


def _as_rows(logits: Any) -> Any:
    work = logits.astype(F32) if logits.dtype.itemsize == 2 else logits
    return np.ascontiguousarray(work).reshape(-1, logits.shape[-1])


def _like(out: Any, x: Any) -> Any:
    return out if out.dtype == x.dtype else out.astype(x.dtype)


def softmax_cross_entropy(logits: Any, target: Any, *, ignore_index: int = -100) -> tuple[Any, Any, Any]:
    """Op softmax_cross_entropy."""
    count, classes = logits.shape[-1], target.reshape(-1)
    kept = _kept(classes, count, ignore_index)
    if not logits.size:
        return np.zeros(target.shape, logits.dtype), None, None
    rows = _as_rows(logits)
    top, total = _row_sums(rows)
    places = (classes if kept is None else np.where(kept, classes, 0)) + np.arange(0, rows.size, count)
    loss = np.log(total) - (rows.reshape(-1)[places] - top)
    if kept is not None:
        loss[~kept] = 0
    return _like(loss.reshape(target.shape), logits), top, total


def softmax_cross_entropy_backward(g: Any, logits: Any, target: Any, top: Any, total: Any, *, ignore_index: int) -> Any:
    """Composite softmax_cross_entropy_backward: exp(logits - top) g / total, less g at each target."""
    if not logits.size:
        return np.zeros_like(logits)
    rows, classes = _as_rows(logits), target.reshape(-1)
    count = rows.shape[1]
    kept = _kept(classes, count, ignore_index)
    weight = np.array(g, rows.dtype).reshape(-1)
    if kept is not None:
        weight[~kept], classes = 0, np.where(kept, classes, 0)
    scale = weight / total
    out = np.empty_like(rows)
    for part in _parts(len(rows), count):
        r = out[part]
        np.subtract(rows[part], top[part, None], out=r)
        np.exp(r, out=r)
        np.multiply(r, scale[part, None], out=r)
    out.reshape(-1)[classes + np.arange(0, out.size, count)] -= weight
    return _like(out.reshape(logits.shape), logits)


KERNELS: dict[str, Callable[..., Any]] = {
    "softmax": softmax,
    "softmax_backward": softmax_backward,
    "log_softmax": log_softmax,
    "log_softmax_backward": log_softmax_backward,
    "logsumexp": logsumexp,
    "softmax_cross_entropy": softmax_cross_entropy,
    "softmax_cross_entropy_backward": softmax_cross_entropy_backward,
}
