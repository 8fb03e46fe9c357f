"""NumPy's functions that are neither elementwise nor mere views, over a library. F: the NumPy-like module."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

FUNCTIONS: dict[str, Any] = {}


def _numpy(function: Any) -> Any:
    FUNCTIONS[function.__name__.rstrip("_")] = function
    return function


# ---- new arrays ------------------------------------------------------------------------------------------------------


@_numpy
def asarray(F: Any, value: Any, dtype: Any = None, **_: Any) -> Any:
    """An Array as it is (cast where need be); a number, list or NumPy array as an Array."""
    if hasattr(value, "shadow"):
        return value if dtype is None else value.astype(dtype, copy=False)
    if isinstance(value, (list, tuple)) and any(hasattr(v, "shadow") for v in value):
        return stack(F, [asarray(F, v) for v in value]).astype(dtype or asarray(F, value[0]).dtype)
    return F.wrap(F.library.import_(np.asarray(value, dtype)))


@_numpy
def array(F: Any, value: Any, dtype: Any = None, copy: Any = True, order: str = "K", **_: Any) -> Any:
    """A copy. order "C": row-major; "K": the dimensions lie as those of `value`."""
    if not hasattr(value, "shadow"):
        return asarray(F, value, dtype)
    if dtype is not None and np.dtype(dtype) != value.dtype:
        return value.astype(dtype)
    if not copy and (order == "K" or value.flags.c_contiguous):
        return value
    shadow = np.empty_like(value.shadow, order="C" if order == "C" else "K")
    by_stride = sorted(range(value.ndim), key=lambda d: -shadow.strides[d])
    back = [by_stride.index(d) for d in range(value.ndim)]
    inner = value.transpose(by_stride).value if value.ndim else value.value
    return F.wrap(F.library.astype(inner, F.library.dtype(value.dtype), copy=True)).transpose(back)


@_numpy
def ascontiguousarray(F: Any, x: Any, dtype: Any = None) -> Any:
    x = asarray(F, x, dtype)
    return x if x.flags.c_contiguous and x.ndim else x.copy("C").reshape(x.shape or (1,))


@_numpy
def copy(F: Any, x: Any, order: str = "K") -> Any:
    return array(F, x, order=order)


def _shape(shape: Any) -> tuple[int, ...]:
    return tuple([int(n) for n in shape]) if isinstance(shape, (tuple, list)) else (int(shape),)


@_numpy
def full(F: Any, shape: Any, fill_value: Any, dtype: Any = None, **_: Any) -> Any:
    if hasattr(fill_value, "shadow"):
        out = full(F, shape, 0, dtype or fill_value.dtype)
        out.put_all(fill_value)
        return out
    dtype = np.asarray(fill_value, dtype).dtype
    number = np.asarray(fill_value).astype(dtype).item() if dtype.kind != "V" else float(fill_value)
    return F.wrap(F.library.full(_shape(shape), number, dtype=F.library.dtype(dtype)))


@_numpy
def zeros(F: Any, shape: Any, dtype: Any = float, **_: Any) -> Any:
    return F.wrap(F.library.zeros(_shape(shape), dtype=F.library.dtype(dtype)))


@_numpy
def ones(F: Any, shape: Any, dtype: Any = float, **_: Any) -> Any:
    return F.wrap(F.library.ones(_shape(shape), dtype=F.library.dtype(dtype)))


@_numpy
def empty(F: Any, shape: Any, dtype: Any = float, **_: Any) -> Any:
    return zeros(F, shape, dtype)


@_numpy
def zeros_like(F: Any, x: Any, dtype: Any = None, shape: Any = None, **_: Any) -> Any:
    return zeros(F, x.shape if shape is None else shape, dtype or x.dtype)


@_numpy
def ones_like(F: Any, x: Any, dtype: Any = None, **_: Any) -> Any:
    return ones(F, x.shape, dtype or x.dtype)


@_numpy
def empty_like(F: Any, x: Any, dtype: Any = None, shape: Any = None, **_: Any) -> Any:
    return zeros(F, x.shape if shape is None else shape, dtype or x.dtype)


@_numpy
def full_like(F: Any, x: Any, fill_value: Any, dtype: Any = None, **_: Any) -> Any:
    return full(F, x.shape, fill_value, dtype or x.dtype)


@_numpy
def arange(F: Any, *args: Any, dtype: Any = None, **_: Any) -> Any:
    """Numbers of start, stop, step alone: they are made on the host."""
    return asarray(F, np.arange(*args, dtype=dtype))


@_numpy
def linspace(F: Any, *args: Any, **kw: Any) -> Any:
    return asarray(F, np.linspace(*args, **kw))


@_numpy
def eye(F: Any, *args: Any, **kw: Any) -> Any:
    return asarray(F, np.eye(*args, **kw))


@_numpy
def tril_indices(F: Any, *args: Any) -> Any:
    return tuple([asarray(F, i) for i in np.tril_indices(*args)])


@_numpy
def triu_indices(F: Any, *args: Any) -> Any:
    return tuple([asarray(F, i) for i in np.triu_indices(*args)])


# ---- joins and copies ------------------------------------------------------------------------------------------------


@_numpy
def concatenate(F: Any, arrays: Any, axis: Any = 0, dtype: Any = None, out: Any = None) -> Any:
    xs = [asarray(F, x) for x in arrays]
    dtype = np.dtype(dtype) if dtype is not None else np.result_type(*[x.dtype for x in xs])
    if not any(x.size for x in xs) or len({x.ndim for x in xs}) > 1:  # NumPy says what does not fit
        shown = np.concatenate([np.broadcast_to(np.zeros((), dtype), x.shape) for x in xs], axis)
        result = zeros(F, shown.shape, dtype)
    else:
        _check_sizes(xs, axis)
        axis = None if axis is None else range(xs[0].ndim)[axis]
        result = F.wrap(F.library.concat([x.astype(dtype, copy=False).value for x in xs], axis=axis))
    if out is not None:
        out.put_all(result)
    return result if out is None else out


def _check_sizes(xs: Any, axis: Any) -> None:
    if axis is not None:
        first = [n for d, n in enumerate(xs[0].shape) if d != axis % xs[0].ndim]
        for x in xs[1:]:
            if [n for d, n in enumerate(x.shape) if d != axis % x.ndim] != first:
                raise ValueError("all the input array dimensions except for the concatenation axis must match exactly")


@_numpy
def stack(F: Any, arrays: Any, axis: int = 0) -> Any:
    xs = [asarray(F, x) for x in arrays]
    return concatenate(F, [F.expand_dims(x, axis) for x in xs], axis)


@_numpy
def tile(F: Any, x: Any, reps: Any) -> Any:
    reps = _shape(reps)
    x = x.reshape((1,) * (len(reps) - x.ndim) + x.shape)
    reps = (1,) * (x.ndim - len(reps)) + reps
    spread = x.reshape([n for size in x.shape for n in (1, size)])
    wide = [n for pair in zip(reps, x.shape, strict=True) for n in pair]
    return F.broadcast_to(spread, wide).copy().reshape([r * n for r, n in zip(reps, x.shape, strict=True)])


@_numpy
def repeat(F: Any, x: Any, repeats: Any, axis: Any = None) -> Any:
    x = x.reshape(-1) if axis is None else x
    axis = axis or 0
    counts = repeats.host() if hasattr(repeats, "shadow") else np.asarray(repeats)
    numbers = np.repeat(np.arange(x.shape[axis]), counts)
    return take(F, x, asarray(F, numbers), axis)


@_numpy
def roll(F: Any, x: Any, shift: Any, axis: Any = None) -> Any:
    return F.wrap(F.library.roll(x.value, shift, axis=axis))


@_numpy
def tril(F: Any, x: Any, k: int = 0) -> Any:
    keep = np.tri(x.shape[-2], x.shape[-1], k, dtype=bool)
    return where(F, keep, x, zeros(F, (), x.dtype))


@_numpy
def triu(F: Any, x: Any, k: int = 0) -> Any:
    drop = np.tri(x.shape[-2], x.shape[-1], k - 1, dtype=bool)
    return where(F, drop, zeros(F, (), x.dtype), x)


@_numpy
def reshape(F: Any, x: Any, shape: Any, **kw: Any) -> Any:
    return x.reshape(shape, **kw)


@_numpy
def ravel(F: Any, x: Any) -> Any:
    return x.reshape(-1)


@_numpy
def real(F: Any, x: Any) -> Any:
    return x.real


@_numpy
def imag(F: Any, x: Any) -> Any:
    return x.imag


@_numpy
def conj(F: Any, x: Any) -> Any:
    return F.conjugate(x)


# ---- choice ----------------------------------------------------------------------------------------------------------


@_numpy
def where(F: Any, condition: Any, *choices: Any) -> Any:
    """x where the condition is true, else y; with the condition alone, the places where it is."""
    if not choices:
        return nonzero(F, asarray(F, condition))
    xp = F.library
    dtype = np.result_type(*[c.dtype if hasattr(c, "dtype") else c for c in choices])
    x, y = [asarray(F, c if hasattr(c, "dtype") else np.asarray(c, dtype)).astype(dtype, copy=False) for c in choices]
    condition = asarray(F, condition).astype(bool, copy=False)
    shape = np.broadcast_shapes(condition.shape, x.shape, y.shape)
    return F.wrap(xp.where(*[xp.broadcast_to(a.value, shape) for a in (condition, x, y)]))


@_numpy
def clip(F: Any, x: Any, a_min: Any = None, a_max: Any = None, out: Any = None, **kw: Any) -> Any:
    low, high = kw.get("min", a_min), kw.get("max", a_max)
    found = x if low is None else F.maximum(x, low)
    found = found if high is None else F.minimum(found, high)
    found = found.copy() if found is x else found
    if out is not None:
        out.put_all(found)
    return found if out is None else out


@_numpy
def copyto(F: Any, dst: Any, src: Any, where: Any = True, **_: Any) -> None:
    if where is True:
        dst.put_all(src)
    else:
        src = src if hasattr(src, "dtype") else asarray(F, np.asarray(src).astype(dst.dtype))
        dst.put_all(FUNCTIONS["where"](F, where, src, dst))


@_numpy
def putmask(F: Any, x: Any, mask: Any, values: Any) -> None:
    copyto(F, x, values, where=mask)


@_numpy
def nonzero(F: Any, x: Any) -> Any:
    x = x.astype(bool, copy=False)
    return tuple([F.wrap(found).astype("i8", copy=False) for found in F.library.nonzero(x.value)])


@_numpy
def flatnonzero(F: Any, x: Any) -> Any:
    return nonzero(F, x.reshape(-1))[0]


@_numpy
def count_nonzero(F: Any, x: Any, axis: Any = None, keepdims: bool = False) -> Any:
    return F.reduction("sum", x.astype(bool, copy=False).astype("i8"), axis, None, keepdims)


@_numpy
def isin(F: Any, x: Any, values: Any, assume_unique: bool = False, invert: bool = False) -> Any:
    values = asarray(F, values).reshape(-1)
    found = F.logical_or.reduce(x[..., None] == values, axis=-1)
    return ~found if invert else found


@_numpy
def take(F: Any, x: Any, indices: Any, axis: Any = None, **_: Any) -> Any:
    x = x.reshape(-1) if axis is None else x
    return x[(*(slice(None),) * ((axis or 0) % x.ndim), indices if hasattr(indices, "shadow") else asarray(F, indices))]


def _along(F: Any, x: Any, indices: Any, axis: int) -> Any:
    """The index of every element that take_along_axis names."""
    grid = np.ix_(*[np.arange(n) for n in indices.shape])
    return tuple([indices if d == axis % x.ndim else asarray(F, g) for d, g in enumerate(grid)])


@_numpy
def take_along_axis(F: Any, x: Any, indices: Any, axis: Any = -1) -> Any:
    if axis is None:
        return x.reshape(-1)[indices]
    shape = [1 if d == axis % x.ndim else n for d, n in enumerate(np.broadcast_shapes(
        [1 if d == axis % x.ndim else n for d, n in enumerate(x.shape)],
        [1 if d == axis % x.ndim else n for d, n in enumerate(indices.shape)]))]  # fmt: skip
    x = F.broadcast_to(x, [x.shape[d] if d == axis % x.ndim else n for d, n in enumerate(shape)])
    indices = F.broadcast_to(indices, [indices.shape[d] if d == axis % x.ndim else n for d, n in enumerate(shape)])
    return x[_along(F, x, indices, axis)]


@_numpy
def put_along_axis(F: Any, x: Any, indices: Any, values: Any, axis: int) -> None:
    x[_along(F, x, indices, axis)] = values


# ---- sorts -----------------------------------------------------------------------------------------------------------


def _sortable(x: Any) -> Any:
    return x.astype("u1") if x.dtype.kind == "b" else x


@_numpy
def argsort(F: Any, x: Any, axis: Any = -1, **_: Any) -> Any:
    if axis is None or not x.ndim:
        x, axis = x.reshape(-1), -1
    order = F.wrap(F.library.argsort(_sortable(_nan_last(F, x)).value, axis=axis, stable=True)).astype("i8", copy=False)
    return _nans_after(F, x, order, axis)


def _nan_last(F: Any, x: Any) -> Any:
    """x with NaN as infinity: the standard leaves it open where a sort puts NaN."""
    return where(F, x != x, np.inf, x) if x.dtype.kind == "f" else x


def _nans_after(F: Any, x: Any, order: Any, axis: int) -> Any:
    """The order with NaN behind infinity, by one more stable sort."""
    if x.dtype.kind != "f":
        return order
    wrong = take_along_axis(F, x != x, order, axis).astype("u1")
    if not bool(wrong.any()):
        return order
    second = F.wrap(F.library.argsort(wrong.value, axis=axis, stable=True)).astype("i8", copy=False)
    return take_along_axis(F, order, second, axis)


@_numpy
def sort(F: Any, x: Any, axis: Any = -1, **_: Any) -> Any:
    return take_along_axis(F, x, argsort(F, x, axis), axis)


@_numpy
def lexsort(F: Any, keys: Any, axis: int = -1) -> Any:
    order = argsort(F, keys[0], axis)
    for key in list(keys)[1:]:
        order = take_along_axis(F, order, argsort(F, take_along_axis(F, key, order, axis), axis), axis)
    return order


@_numpy
def searchsorted(F: Any, a: Any, v: Any, side: str = "left", sorter: Any = None) -> Any:
    v = asarray(F, v)
    a = a if sorter is None else a[sorter]
    dtype = np.result_type(a.dtype, v.dtype)
    a, flat = a.astype(dtype, copy=False), v.astype(dtype, copy=False).reshape(-1)
    return F.wrap(F.library.searchsorted(a.value, flat.value, side=side)).astype("i8", copy=False).reshape(v.shape)


def _extreme(F: Any, name: str, x: Any, axis: Any, keepdims: bool, out: Any) -> Any:
    if not x.size:
        shown = getattr(np, name)(np.zeros(x.shape, x.dtype), axis=axis, keepdims=keepdims)  # NumPy's error
        return asarray(F, np.asarray(shown))
    value = _sortable(x)
    if x.dtype.kind == "f":  # the first NaN counts, as in NumPy
        nan = x != x
        if bool(nan.any()):
            value = _nan_first(F, name, x, nan, axis)
    found = F.wrap(getattr(F.library, name)(value.value, axis=axis, keepdims=keepdims))
    return found.astype("i8", copy=False)


def _nan_first(F: Any, name: str, x: Any, nan: Any, axis: Any) -> Any:
    """What has the same extreme as x has where there is no NaN, and else at the first NaN."""
    seen = F.any(nan, axis=axis, keepdims=True)
    marks = nan.astype(x.dtype) * (1 if name == "argmax" else -1)
    return where(F, seen, marks, where(F, nan, 0, x))


@_numpy
def argmax(F: Any, x: Any, axis: Any = None, out: Any = None, keepdims: bool = False) -> Any:
    return _extreme(F, "argmax", x, axis, keepdims, out)


@_numpy
def argmin(F: Any, x: Any, axis: Any = None, out: Any = None, keepdims: bool = False) -> Any:
    return _extreme(F, "argmin", x, axis, keepdims, out)


# ---- sums ------------------------------------------------------------------------------------------------------------


def _reduction(name: str) -> Any:
    def reduce(
        F: Any, x: Any, axis: Any = None, dtype: Any = None, out: Any = None, keepdims: bool = False,
        initial: Any = None, where: Any = True,
    ) -> Any:  # fmt: skip
        x = asarray(F, x)
        if name == "mean":
            result = F.reduction(name, x, axis, dtype, keepdims)
        else:
            ufunc = getattr(F, _UFUNC[name])
            result = ufunc.reduce(x, axis, dtype, None, keepdims, initial, where)
        if out is not None:
            out.put_all(result)
        return result if out is None else out

    return reduce


_UFUNC = {"sum": "add", "prod": "multiply", "max": "maximum", "min": "minimum", "amax": "maximum", "amin": "minimum",
          "any": "logical_or", "all": "logical_and", "mean": ""}  # fmt: skip
for _name in _UFUNC:
    FUNCTIONS[_name] = _reduction(_name)


@_numpy
def cumsum(F: Any, x: Any, axis: Any = None, dtype: Any = None, out: Any = None) -> Any:
    return _cumulative(F, F.add, x, axis, dtype, out)


@_numpy
def cumprod(F: Any, x: Any, axis: Any = None, dtype: Any = None, out: Any = None) -> Any:
    return _cumulative(F, F.multiply, x, axis, dtype, out)


def _cumulative(F: Any, ufunc: Any, x: Any, axis: Any, dtype: Any, out: Any) -> Any:
    x = x.reshape(-1) if axis is None or not x.ndim else x
    dtype = dtype or {"b": "i8", "i": "i8", "u": "u8"}.get(x.dtype.kind, x.dtype)
    return ufunc.accumulate(x, axis or 0, dtype, out)


@_numpy
def var(F: Any, x: Any, axis: Any = None, ddof: int = 0, keepdims: bool = False, **_: Any) -> Any:
    centred = x - F.mean(x, axis=axis, keepdims=True)
    axes = range(x.ndim) if axis is None else axis if isinstance(axis, tuple) else (axis,)
    count = math.prod(x.shape[d] for d in axes)
    return F.sum(F.absolute(centred) ** 2, axis=axis, keepdims=keepdims) / max(count - ddof, 0)


@_numpy
def std(F: Any, x: Any, **kw: Any) -> Any:
    return F.sqrt(var(F, x, **kw))


@_numpy
def diff(F: Any, x: Any, n: int = 1, axis: int = -1, prepend: Any = None, append: Any = None) -> Any:
    x = concatenate(F, [p for p in (prepend, x, append) if p is not None], axis)
    lead = (slice(None),) * (axis % x.ndim)
    for _ in range(n):
        later, earlier = x[(*lead, slice(1, None))], x[(*lead, slice(None, -1))]
        x = later != earlier if x.dtype.kind == "b" else later - earlier
    return x


@_numpy
def bincount(F: Any, x: Any, weights: Any = None, minlength: int = 0) -> Any:
    if x.size and int(x.min()) < 0:
        raise ValueError("'list' argument must have no negative elements")
    size = max(int(x.max()) + 1 if x.size else 0, minlength)
    weights = ones(F, x.shape, "i8") if weights is None else weights.astype("f8", copy=False)
    out = zeros(F, size, weights.dtype)
    F.add.at(out, x, weights)
    return out


# ---- products --------------------------------------------------------------------------------------------------------


@_numpy
def matmul(F: Any, x: Any, y: Any, out: Any = None) -> Any:
    x, y = asarray(F, x), asarray(F, y)
    dtype = np.result_type(x.dtype, y.dtype)
    inner = (x.shape[-1:], y.shape[-2:-1] if y.ndim > 1 else y.shape)
    if not x.ndim or not y.ndim or inner[0] != inner[1]:
        raise ValueError(f"matmul: Input operand 1 has a mismatch in its core dimension 0 ({x.shape} and {y.shape})")
    np.broadcast_shapes(x.shape[:-2], y.shape[:-2])
    work = np.dtype("i8") if dtype.kind == "b" else dtype
    value = F.library.matmul(x.astype(work, copy=False).value, y.astype(work, copy=False).value)
    result = F.wrap(value).astype(dtype, copy=False)
    if out is not None:
        out.put_all(result)
    return result if out is None else out


@_numpy
def dot(F: Any, x: Any, y: Any, out: Any = None) -> Any:
    return matmul(F, x, y, out) if x.ndim and y.ndim else F.multiply(x, y)


# ---- shapes ----------------------------------------------------------------------------------------------------------


class _Broadcast:
    def __init__(self, shape: tuple[int, ...]):
        self.shape = shape


@_numpy
def broadcast(F: Any, *arrays: Any) -> Any:
    """An object with the shape that arrays broadcast to."""
    return _Broadcast(np.broadcast_shapes(*[np.shape(getattr(a, "shadow", a)) for a in arrays]))


@_numpy
def broadcast_arrays(F: Any, *arrays: Any) -> Any:
    xs = [asarray(F, a) for a in arrays]
    shape = np.broadcast_shapes(*[x.shape for x in xs])
    return [F.broadcast_to(x, shape) for x in xs]


@_numpy
def shape(F: Any, x: Any) -> Any:
    return np.shape(getattr(x, "shadow", x))


@_numpy
def ndim(F: Any, x: Any) -> int:
    return np.ndim(getattr(x, "shadow", x))


@_numpy
def unravel_index(F: Any, indices: Any, shape: Any) -> Any:
    found, rest = [], indices.astype("i8", copy=False)
    for n in reversed(shape):
        found.append(rest % n)
        rest = rest // n
    return tuple(found[::-1])
