"""Sums and extremes for NumPy arrays.

NumPy adds along rows without SIMD over the row; a product with ones runs at the speed of memory (3 times faster on
rows of 768, 10 times on columns of 65536 x 16). BLAS adds in a few long chains, so products are taken over blocks of
BLOCK elements, and the blocks' sums are added pairwise: the relative error of positive float32 numbers stays below
1e-6 (NumPy's bound with pairwise summation: 3e-7; observed: below 1e-7 for both, up to 16 M elements).
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from ..base import may_decline

add_reduce: Any = np.add.reduce
F32, F64 = np.dtype(np.float32), np.dtype(np.float64)
BLOCK = 4096  # elements that one product with ones adds up
LONGEST = 4 * BLOCK  # a whole array of at most so many is one product
SMALL = 256  # fewer elements are summed by NumPy itself
SHORT = 32  # rows of at most so many elements are worked on as columns
CHUNK = 1 << 16  # elements that several passes work on while they stay in the cache


@functools.cache
def _ones(dtype: Any) -> Any:
    return np.ones(LONGEST, dtype)


def ones(n: int, dtype: Any) -> Any:
    """n <= LONGEST ones; shared, not to be written."""
    return _ones(dtype)[:n]


def fast(x: Any) -> bool:
    """Whether the products with ones serve x: a float array without gaps, in C's or Fortran's order."""
    dt = x.dtype
    return (dt is F32 or dt is F64) and x.size >= SMALL and x.flags.forc


def sum_flat(x: Any) -> Any:
    """The sum of an array of any shape without gaps."""
    x = x.ravel("K")
    if x.size <= LONGEST:
        return x.dot(_ones(x.dtype)[: x.size])
    whole = x.size - x.size % BLOCK
    total = np.add.reduce(x[:whole].reshape(-1, BLOCK).dot(ones(BLOCK, x.dtype)))
    return total if whole == x.size else total + x[whole:].dot(ones(x.size - whole, x.dtype))


def sum_middle(x: Any) -> Any:
    """The sum over the second of three dimensions. x: (O, R, I) contiguous, or a slice of one along R -> (O, I)."""
    outer, n, inner = x.shape
    if n <= BLOCK:
        one = ones(n, x.dtype)
        return x[..., 0].dot(one)[:, None] if inner == 1 else np.matmul(one, x)
    whole, one = n - n % BLOCK, ones(BLOCK, x.dtype)
    blocks = x[:, :whole].reshape(outer, whole // BLOCK, BLOCK, inner)
    total = np.add.reduce(np.matmul(blocks[..., 0], one)[..., None] if inner == 1 else np.matmul(one, blocks), axis=1)
    return total if whole == n else total + sum_middle(x[:, whole:])


def sum_axes(x: Any, axis: tuple[int, ...]) -> Any:
    """The sum of a contiguous array over some axes, one run of neighbouring axes after the other, the last first."""
    shape = x.shape
    if len(shape) == 2 and shape[axis[0]] <= BLOCK:
        one = ones(shape[axis[0]], x.dtype)
        return x.dot(one) if axis[0] else one.dot(x)
    rest = sorted(axis)
    while rest:
        last = first = rest.pop()
        while rest and rest[-1] == first - 1:
            first = rest.pop()
        shape = x.shape
        flat = x.reshape(math.prod(shape[:first]), math.prod(shape[first : last + 1]), math.prod(shape[last + 1 :]))
        x = (sum_middle(flat) if x.size >= SMALL else np.add.reduce(flat, axis=1)).reshape(
            shape[:first] + shape[last + 1 :]
        )
    return x


@may_decline
def sum_all(x: Any) -> Any:
    """Op sum_all."""
    if fast(x):
        return sum_flat(x)
    dt = x.dtype
    if dt is F32 or dt is F64:
        return np.add.reduce(x, axis=None)
    return np.asarray(np.count_nonzero(x)) if dt.kind == "b" else NotImplemented


@may_decline
def sum_(x: Any, *, axis: tuple[int, ...], keepdims: bool) -> Any:
    """Op sum."""
    if fast(x):
        if len(axis) == x.ndim:
            out = sum_flat(x)
        elif x.flags.c_contiguous:
            out = sum_axes(x, axis)
        else:
            out = sum_axes(x.T, tuple([x.ndim - 1 - a for a in axis])).T
        return out.reshape(kept_shape(x.shape, axis)) if keepdims else out
    dt = x.dtype
    return add_reduce(x, axis=axis, keepdims=keepdims) if dt is F32 or dt is F64 else NotImplemented


def kept_shape(shape: tuple[int, ...], axis: tuple[int, ...]) -> tuple[int, ...]:
    """`shape` with 1 at each axis."""
    return tuple([1 if i in axis else n for i, n in enumerate(shape)])


@may_decline
def mean_all(x: Any) -> Any:
    """Op mean_all."""
    return sum_flat(x) / x.dtype.type(x.size) if fast(x) else NotImplemented


@may_decline
def mean(x: Any, *, axis: tuple[int, ...], keepdims: bool) -> Any:
    """Op mean."""
    if not fast(x):
        return NotImplemented
    n = math.prod([x.shape[i] for i in axis])
    return sum_(x, axis=axis, keepdims=keepdims) / x.dtype.type(n)


def _moments(x: Any, axis: tuple[int, ...], correction: float) -> tuple[Any, Any]:
    """(variance, mean) with the reduced axes kept; the sums by products with ones, which is also more accurate."""
    n = math.prod([x.shape[i] for i in axis])
    centre = sum_(x, axis=axis, keepdims=True) / x.dtype.type(n)
    c = x - centre
    np.multiply(c, c, out=c)
    return sum_(c, axis=axis, keepdims=True) / x.dtype.type(n - correction), centre


def _spread(x: Any, axis: tuple[int, ...], correction: float, keepdims: bool, root: bool, both: bool) -> Any:
    if not fast(x) or math.prod([x.shape[i] for i in axis]) <= correction:
        return NotImplemented
    variance, centre = _moments(x, axis, correction)
    if root:
        np.sqrt(variance, out=variance)
    if not keepdims:
        variance, centre = variance.squeeze(axis), centre.squeeze(axis)
    return (variance, centre) if both else variance


@may_decline
def var(x: Any, *, axis: tuple[int, ...], correction: float, keepdims: bool) -> Any:
    """Op var."""
    return _spread(x, axis, correction, keepdims, False, False)


@may_decline
def std(x: Any, *, axis: tuple[int, ...], correction: float, keepdims: bool) -> Any:
    """Op std."""
    return _spread(x, axis, correction, keepdims, True, False)


@may_decline
def var_mean(x: Any, *, axis: tuple[int, ...], correction: float, keepdims: bool) -> Any:
    """Op var_mean."""
    return _spread(x, axis, correction, keepdims, False, True)


@may_decline
def std_mean(x: Any, *, axis: tuple[int, ...], correction: float, keepdims: bool) -> Any:
    """Op std_mean."""
    return _spread(x, axis, correction, keepdims, True, True)


def row_extreme(x: Any, smallest: bool = False) -> Any:
    """The maximum (minimum) of each row; nan wins. x: (R, N) contiguous float -> (R,).

    NumPy finds the place of an extreme with SIMD along the row, but not its value.
    """
    rows, n = x.shape
    if n <= SHORT and x.size >= 8192:  # the cost per row rules, so the rows are laid side by side
        fold = np.minimum if smallest else np.maximum
        out = np.empty(rows, x.dtype)
        step = CHUNK // 2 // n
        for i in range(0, rows, step):
            fold.reduce(np.ascontiguousarray(x[i : i + step].T), axis=0, out=out[i : i + step])
        return out
    places = x.argmin(1) if smallest else x.argmax(1)
    places += np.arange(0, x.size, n)
    return x.reshape(-1)[places]


def max_all(x: Any) -> Any:
    """Op max_all."""
    return np.maximum.reduce(x, axis=None)


def min_all(x: Any) -> Any:
    """Op min_all."""
    return np.minimum.reduce(x, axis=None)


def argmax(x: Any, *, axis: int | None, keepdims: bool) -> Any:
    """Op argmax."""
    return x.argmax(axis, keepdims=keepdims)


def argmin(x: Any, *, axis: int | None, keepdims: bool) -> Any:
    """Op argmin."""
    return x.argmin(axis, keepdims=keepdims)


def _extreme(x: Any, axis: tuple[int, ...], keepdims: bool, smallest: bool) -> Any:
    k = x.ndim - 1
    if axis != (k,) or not k or not fast(x) or not x.flags.c_contiguous:
        return NotImplemented
    out = row_extreme(x.reshape(-1, x.shape[k]), smallest)
    return out.reshape((*x.shape[:k], 1) if keepdims else x.shape[:k])


@may_decline
def amax(x: Any, *, axis: tuple[int, ...], keepdims: bool) -> Any:
    """Op amax."""
    return _extreme(x, axis, keepdims, False)


@may_decline
def amin(x: Any, *, axis: tuple[int, ...], keepdims: bool) -> Any:
    """Op amin."""
    return _extreme(x, axis, keepdims, True)


def _with_index(x: Any, index: Any, axis: int, keepdims: bool) -> tuple[Any, Any]:
    """The values at each slice's index, taken from flat memory: a quarter of take_along_axis's fixed cost."""
    shape = x.shape
    inner = math.prod(shape[axis + 1 :])
    places = index.reshape(-1, inner) * inner if inner > 1 else index.reshape(-1, 1)
    places = places + np.arange(len(places))[:, None] * (shape[axis] * inner)
    if inner > 1:
        places += np.arange(inner)
    values = x.reshape(-1)[places].reshape(index.shape)
    if keepdims:
        kept = (*shape[:axis], 1, *shape[axis + 1 :])
        return values.reshape(kept), index.reshape(kept)
    return values, index


def max_dim(x: Any, *, axis: int, keepdims: bool) -> tuple[Any, Any]:
    """Op max_dim."""
    return _with_index(x, np.asarray(x.argmax(axis)), axis, keepdims)


def min_dim(x: Any, *, axis: int, keepdims: bool) -> tuple[Any, Any]:
    """Op min_dim."""
    return _with_index(x, np.asarray(x.argmin(axis)), axis, keepdims)


KERNELS: dict[str, Callable[..., Any]] = {
    "sum_all": sum_all,
    "sum": sum_,
    "mean_all": mean_all,
    "mean": mean,
    "var": var,
    "std": std,
    "var_mean": var_mean,
    "std_mean": std_mean,
    "max_all": max_all,
    "min_all": min_all,
    "argmax": argmax,
    "argmin": argmin,
    "amax": amax,
    "amin": amin,
    "max_dim": max_dim,
    "min_dim": min_dim,
}
