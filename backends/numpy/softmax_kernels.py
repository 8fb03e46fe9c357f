"""Softmax and cross-entropy for NumPy arrays: chunks that stay in the cache, some per thread, temporaries in place.

The maximum is taken off only where it must be: exp(x) is summed first, and only where a sum is too small or too large
does the chunk start again. What works on a chunk reduces its second dimension: rows are (R, N), other layouts
(O, N, I). np.exp takes more than half of the time, so little more is to be won in NumPy.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from .. import threads
from ..base import may_decline
from . import blas
from .blocks import rows
from .reduce_kernels import BLOCK, CHUNK, F32, F64, ones, row_extreme, sum_middle

SMALL = 4096  # elements that need neither chunks nor products with ones
NARROW = 96  # rows of at most so many elements are multiplied by repeated factors: a pass by rows costs 40 ns for each
# Bounds of a sum of exponentials: within the first its terms are accurate, within the second its logarithm to 1e-6.
SAFE, NEAR = {4: 1e-20, 8: 1e-200}, 1e-6


def _top(x: Any) -> Any:
    """The maximum over the second dimension, kept as size 1."""
    if x.ndim == 3 or x.size < SMALL:
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
    return np.vecdot(x, y)[:, None] if x.ndim == 2 else np.einsum("oni,oni->oi", x, y)[:, None]


def _within(total: Any, smallest: float) -> Any:
    """Whether all sums lie between smallest and its inverse; nan does not."""
    return total.min() > smallest and total.max() < 1 / smallest


def _spread(factor: Any, x: Any) -> Any:
    """Factors of the rows of x in a shape that multiplies fast. factor: (R, 1), x: (R, N)."""
    return factor.repeat(x.shape[1], 1) if x.ndim == 2 and x.shape[1] <= NARROW else factor


def _run(kernel: Callable[..., None], axis: int, *arrays: Any) -> Any:
    """`kernel(out, *chunks)` over all of the arrays, which have one shape and dtype; gives the whole `out`."""
    shape = arrays[0].shape
    outer, n, inner = math.prod(shape[:axis]), shape[axis], math.prod(shape[axis + 1 :])
    out = np.empty(shape, arrays[0].dtype)
    layout = (outer, n) if inner == 1 else (outer, n, inner)
    views = [np.ascontiguousarray(v).reshape(layout) for v in (out, *arrays)]
    if inner == 1 or n * inner <= CHUNK:
        rows(lambda i, j: kernel(*[v[i:j] for v in views]), outer, n * inner)
        return out
    chunks = [(slice(i, i + 1), slice(None), part) for i in range(outer) for part in _parts(inner, n)]

    def span(start: int, stop: int) -> None:
        for place in chunks[start:stop]:
            kernel(*[v[place] for v in views])

    with blas.alone():
        threads.over(span, len(chunks))
    return out


def _parts(count: int, n: int) -> Iterator[slice]:
    """Slices of `count` rows (or columns) of n elements, as many as fit the cache."""
    step = max(1, CHUNK // n)
    return (slice(i, i + step) for i in range(0, count, step))


def _served(*arrays: Any) -> bool:
    dt = arrays[0].dtype
    return (dt is F32 or dt is F64) and arrays[0].size > 0 and arrays[-1].dtype is dt


def _softmax(out: Any, x: Any) -> None:
    np.exp(x, out=out)
    total = _total(out)
    if not _within(total, SAFE[x.itemsize]):
        np.exp(np.subtract(x, _top(x), out=out), out=out)
        total = _total(out)
    np.multiply(out, _spread(1 / total, out), out=out)


@may_decline
def softmax(x: Any, *, axis: int) -> Any:
    """Op softmax."""
    if not _served(x):
        return NotImplemented
    if x.size > SMALL:
        return _run(_softmax, axis, x)
    e = x - np.maximum.reduce(x, axis=axis, keepdims=True)
    np.exp(e, out=e)
    return np.divide(e, np.add.reduce(e, axis=axis, keepdims=True), out=e)


def _softmax_backward(out: Any, g: Any, y: Any) -> None:
    np.subtract(g, _spread(_dot(g, y), g), out=out)
    np.multiply(out, y, out=out)


@may_decline
def softmax_backward(g: Any, out: Any, *, axis: int) -> Any:
    """Composite softmax_backward: out (g - sum(g out))."""
    return _run(_softmax_backward, axis, g, out) if _served(g, out) else NotImplemented


def _log_softmax(out: Any, x: Any) -> None:
    total = _total(np.exp(x, out=out))
    if not _within(total, NEAR):
        x = np.subtract(x, _top(x), out=out)
        total = _total(np.exp(x))
    np.subtract(x, _spread(np.log(total), x), out=out)


@may_decline
def log_softmax(x: Any, *, axis: int) -> Any:
    """Op log_softmax."""
    if not _served(x):
        return NotImplemented
    if x.size > SMALL:
        return _run(_log_softmax, axis, x)
    z = x - np.maximum.reduce(x, axis=axis, keepdims=True)
    return np.subtract(z, np.log(np.add.reduce(np.exp(z), axis=axis, keepdims=True)), out=z)


def _log_softmax_backward(out: Any, g: Any, y: Any) -> None:
    np.exp(y, out=out)
    np.multiply(out, _spread(_total(g), g), out=out)
    np.subtract(g, out, out=out)


@may_decline
def log_softmax_backward(g: Any, out: Any, *, axis: int) -> Any:
    """Composite log_softmax_backward: g - exp(out) sum(g)."""
    return _run(_log_softmax_backward, axis, g, out) if _served(g, out) else NotImplemented


def _row_sums(x: Any, finite: bool) -> tuple[Any, Any]:
    """A number for each row, its maximum or 0, and the sum of exp(x - number). x: (R, N).

    finite: 0 is taken for an infinite maximum, as inf - inf is nan.
    """
    top, total = np.zeros(len(x), x.dtype), np.empty(len(x), x.dtype)
    small = x.size < SMALL

    def block(i: int, j: int) -> None:
        part = x[i:j]
        if not small:
            e = np.exp(part)
            sums = _total(e)
        if small or not _within(sums, NEAR):
            high = _top(part)
            if finite and not np.isfinite(np.add.reduce(high, axis=None)):
                high[np.isinf(high)] = 0
            e = np.subtract(part, high)
            top[i:j], sums = high[:, 0], _total(np.exp(e, out=e))
        total[i:j] = sums[:, 0]

    rows(block, *x.shape)
    return top, total


@may_decline
def logsumexp(x: Any, *, axis: tuple[int, ...], keepdims: bool) -> Any:
    """Op logsumexp."""
    k = x.ndim - 1
    if axis != (k,) or not _served(x):
        return NotImplemented
    top, total = _row_sums(np.ascontiguousarray(x).reshape(-1, x.shape[k]), True)
    return (np.log(total) + top).reshape((*x.shape[:k], 1) if keepdims else x.shape[:k])


# ---- cross-entropy of class indices


def _kept(classes: Any, count: int, ignore_index: int) -> Any:
    """None where every target counts, else which do. IndexError for a class that does not exist."""
    if not 0 <= ignore_index < count and (
        classes.size == 0 or classes.dtype.itemsize == 8 and classes.view("u8").max() < count
    ):  # as unsigned numbers, negative ones are the largest
        return None
    kept = classes != ignore_index
    wrong = kept & ((classes < 0) | (classes >= count))
    if wrong.any():
        raise IndexError(f"Target {int(classes[wrong][0])} is out of bounds. (there are {count} classes)")
    return kept


@may_decline
def softmax_cross_entropy(logits: Any, target: Any, *, ignore_index: int = -100) -> tuple[Any, Any, Any]:
    """Op softmax_cross_entropy."""
    if not _served(logits):
        return NotImplemented
    count, classes = logits.shape[-1], target.reshape(-1)
    kept = _kept(classes, count, ignore_index)
    x = np.ascontiguousarray(logits).reshape(-1, count)
    top, total = _row_sums(x, False)  # the loss of an infinite row is nan, and all of its gradient
    places = (classes if kept is None else np.where(kept, classes, 0)) + np.arange(0, x.size, count)
    below = top - x.reshape(-1)[places]
    loss = np.log(total * np.exp(below))  # accurate for a loss near 0 too
    np.maximum(loss, 0, out=loss)
    if not np.isfinite(np.add.reduce(loss)):
        loss = np.log(total) + below
    if kept is not None:
        loss[~kept] = 0
    return loss.reshape(target.shape), top, total


@may_decline
def softmax_cross_entropy_backward(g: Any, logits: Any, target: Any, top: Any, total: Any, *, ignore_index: int) -> Any:
    """Composite softmax_cross_entropy_backward: exp(logits - top) g / total, less g at each target."""
    if not _served(logits):
        return NotImplemented
    count, classes = logits.shape[-1], target.reshape(-1)
    x = np.ascontiguousarray(logits).reshape(-1, count)
    kept = _kept(classes, count, ignore_index)
    weight = np.array(g, x.dtype).reshape(-1)
    if kept is not None:
        weight[~kept], classes = 0, np.where(kept, classes, 0)
    scale = (weight / total)[:, None]
    out = np.empty_like(x)
    lowered = top.any()

    def block(i: int, j: int) -> None:
        r = out[i:j]
        np.exp(np.subtract(x[i:j], top[i:j, None], out=r) if lowered else x[i:j], out=r)
        np.multiply(r, _spread(scale[i:j], r), out=r)

    rows(block, *x.shape)
    out.reshape(-1)[classes + np.arange(0, out.size, count)] -= weight
    return out.reshape(logits.shape)


KERNELS: dict[str, Callable[..., Any]] = {
    "softmax": softmax,
    "softmax_backward": softmax_backward,
    "log_softmax": log_softmax,
    "log_softmax_backward": log_softmax_backward,
    "logsumexp": logsumexp,
    "softmax_cross_entropy": softmax_cross_entropy,
    "softmax_cross_entropy_backward": softmax_cross_entropy_backward,
}
