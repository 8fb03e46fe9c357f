"""Sorting, order statistics, unique values and histograms, with PyTorch's arguments."""

from __future__ import annotations

import builtins
import math
from typing import Any

from ...backends.registry import backend_of
from ..coerce import tidy
from ..ops import sort as op
from ..tensor import Tensor, wrap
from . import return_types
from .args import dim_of
from .reduce import along, need_elements, refuse
from .table import public


def made(input: Tensor, array: Any) -> Tensor:
    """A constant of that raw array, which was computed from the input's, on the input's device."""
    return wrap(tidy(input.array, array))


# ---- order


@public
def sort(input: Tensor, dim: int = -1, descending: bool = False, stable: bool = False) -> Any:
    """input sorted along dim, and the indices; always stable, nan last. (*S) -> (values, indices), each (*S)."""
    refuse(input, "c", " Sort does not support complex dtypes on CPU", RuntimeError)
    return return_types.sort(along(op.sort, input, dim, descending=bool(descending)))


@public
def argsort(input: Tensor, dim: int = -1, descending: bool = False, *, stable: bool = False) -> Tensor:
    """The indices that sort input along dim. (*S) -> (*S), int64."""
    return sort(input.detach(), dim, descending).indices


@public
def msort(input: Tensor) -> Tensor:
    """input sorted along its first dimension. (*S) -> (*S)."""
    return sort(input, 0).values


@public
def topk(input: Tensor, k: int, dim: int = -1, largest: bool = True, sorted: bool = True) -> Any:
    """The k largest (smallest) values along dim, in order, and their indices. (*S) -> two of (S with k along dim).

    Raises RuntimeError for k outside 0..size.
    """
    axis = dim_of(dim, input.array.ndim)
    refuse(input, "c", " topk does not support complex dtypes on CPU", RuntimeError)
    refuse(input, "b", "topk does not support bool dtypes on CPU", RuntimeError)
    if not 0 <= k <= (input.array.shape[axis] if input.array.ndim else 1):
        raise RuntimeError("selected index k out of range")
    return return_types.topk(along(op.topk, input, axis, k=int(k), largest=bool(largest)))


@public
def kthvalue(input: Tensor, k: int, dim: int = -1, keepdim: bool = False) -> Any:
    """The k-th smallest value along dim (k from 1) and its index. (*S) -> two of (S without dim)."""
    axis = dim_of(dim, input.array.ndim)
    need_elements(input, dim, "kthvalue")
    if not 1 <= k <= (input.array.shape[axis] if input.array.ndim else 1):
        raise RuntimeError(f"kthvalue(): selected number k out of range for dimension {axis}")
    refuse(input, "bc", "\"kthvalue_cpu\" not implemented for '{}'")
    return return_types.kthvalue(along(op.kthvalue, input, axis, k=int(k), keepdims=keepdim))


def _median(name: str, input: Tensor, dim: int | None, keepdim: bool) -> Any:
    refuse(input, "bc", "\"median_cpu\" not implemented for '{}'")
    if dim is None:
        return getattr(op, name + "_all")(input)
    need_elements(input, dim, "median")
    return getattr(return_types, name)(along(getattr(op, name + "_dim"), input, dim, keepdims=keepdim))


@public
def median(input: Tensor, dim: int | None = None, keepdim: bool = False) -> Any:
    """The median, of an even count the lower middle; nan if there is one. (*S) -> () or two of (S without dim)."""
    return _median("median", input, dim, keepdim)


@public
def nanmedian(input: Tensor, dim: int | None = None, keepdim: bool = False) -> Any:
    """The median of what is not nan, of an even count the lower middle. (*S) -> () or two of (S without dim)."""
    return _median("nanmedian", input, dim, keepdim)


@public
def mode(input: Tensor, dim: int = -1, keepdim: bool = False) -> Any:
    """The most frequent value along dim (the smallest of them) and its last index. (*S) -> two of (S without dim)."""
    need_elements(input, dim, "mode")
    refuse(input, "c", "\"mode_cpu\" not implemented for '{}'")
    return return_types.mode(along(op.mode, input, dim, keepdims=keepdim))


# ---- quantiles

_INTERPOLATIONS = ("linear", "lower", "higher", "midpoint", "nearest")


@public
def quantile(
    input: Tensor, q: Any, dim: int | None = None, keepdim: bool = False, *, interpolation: str = "linear"
) -> Tensor:
    """The q-quantiles along dim (all where None); nan where there is one. q: a float or (Q,) in [0, 1].

    (*S), float32 or float64 -> (S without dim), with Q in front where q is 1-d.
    """
    return _quantile("quantile", input, q, dim, keepdim, interpolation)


@public
def nanquantile(
    input: Tensor, q: Any, dim: int | None = None, keepdim: bool = False, *, interpolation: str = "linear"
) -> Tensor:
    """The q-quantiles along dim of what is not nan. q: a float or (Q,) in [0, 1].

    (*S), float32 or float64 -> (S without dim), with Q in front where q is 1-d.
    """
    return _quantile("nanquantile", input, q, dim, keepdim, interpolation)


def _levels(name: str, input: Tensor, q: Any, interpolation: str) -> Any:
    """q as a raw 1-d array in the dtype of input; the errors of wrong arguments."""
    array = input.array
    xp = backend_of(array).xp
    if not array.size:
        raise RuntimeError("quantile() input tensor must be non-empty")
    if array.dtype not in ("f4", "f8"):
        raise RuntimeError("quantile() input tensor must be either float or double dtype")
    if interpolation not in _INTERPOLATIONS:
        raise RuntimeError(
            "quantile() interpolation must be one of linear, lower, higher, midpoint or nearest, "
            f"but got {interpolation}"
        )
    if not isinstance(q, Tensor):
        if not isinstance(q, (int, float)):
            raise TypeError(f"{name}(): argument 'q' (position 2) must be float or Tensor, not {type(q).__name__}")
        if not 0 <= q <= 1:
            raise RuntimeError(f"quantile() q must be in the range [0, 1] but got {q:g}")
        return xp.full(1, q, array.dtype)
    if q.array.ndim > 1:
        raise RuntimeError("quantile() q must be a scalar or 1D tensor")
    if q.array.dtype != array.dtype:
        raise RuntimeError("quantile() q tensor must be same dtype as the input tensor")
    if not bool(((q.array >= 0) & (q.array <= 1)).all()):
        raise RuntimeError("quantile() q values must be in the range [0, 1]")
    return q.array.reshape(-1)


def _quantile(name: str, input: Tensor, q: Any, dim: int | None, keepdim: bool, interpolation: str) -> Tensor:
    """Two gathers from the sorted rows, and the line between them; only these are recorded."""
    levels = _levels(name, input, q, interpolation)
    xp, ndim = backend_of(input.array).xp, input.array.ndim
    axis = 0 if dim is None else dim_of(dim, ndim)
    rows = input.reshape(-1) if dim is None or not ndim else input.movedim(axis, -1)
    order = op.order_of(xp, rows.array, rows.array.ndim - 1, False)
    n = order.shape[-1]
    nans = (rows.array != rows.array).sum(-1, keepdims=True)
    last = xp.maximum(n - nans - 1, 0) if name == "nanquantile" else xp.full_like(nans, n - 1)
    place = (levels * last).astype(input.array.dtype)
    if name == "quantile":
        place = xp.where(nans > 0, last, place).astype(input.array.dtype)  # the last in order is nan where there is one
    if interpolation == "lower":
        place = xp.floor(place)
    elif interpolation == "higher":
        place = xp.ceil(place)
    elif interpolation == "nearest":
        place = xp.rint(place)
    low = xp.floor(place)
    below = rows.gather(-1, made(input, xp.take_along_axis(order, low.astype("i8"), axis=-1)))
    if interpolation in ("linear", "midpoint"):
        above = rows.gather(-1, made(input, xp.take_along_axis(order, xp.ceil(place).astype("i8"), axis=-1)))
        weight = made(input, xp.full_like(place, 0.5) if interpolation == "midpoint" else place - low)
        if isinstance(q, Tensor) and q.requires_grad and interpolation == "linear":
            slope = made(input, last.astype(place.dtype))
            weight = weight + (q - q.detach()).reshape(-1) * slope  # plus 0, which carries the gradient of q
        below = below.lerp(above, weight)
    return _arranged(below, q, axis, ndim, dim, keepdim)


def _arranged(result: Tensor, q: Any, axis: int, ndim: int, dim: int | None, keepdim: bool) -> Tensor:
    """From the rows' dimensions with the quantiles last to PyTorch's order: quantiles first, or none for one q."""
    if dim is None:
        result = result.reshape([*[1] * (ndim if keepdim else 0), -1])
    elif keepdim and ndim:
        result = result.unsqueeze(axis)
    if isinstance(q, Tensor) and q.array.ndim:
        return result.movedim(-1, 0)
    return result.squeeze(-1)


# ---- unique values


def _results(what: str, input: Tensor, values: Any, inverse: Any, counts: Any) -> Any:
    """The tensors that were asked for; the values require a gradient where input does, which only raises."""
    found = [made(input, a) for a in (values, inverse, counts) if a is not None]
    if input.requires_grad:
        found[0] = op.unique_values(input, found[0], what=what)
    return found[0] if len(found) == 1 else tuple(found)


@public
def unique(
    input: Tensor,
    sorted: bool = True,
    return_inverse: bool = False,
    return_counts: bool = False,
    dim: int | None = None,
) -> Any:
    """The distinct values of input (or slices along dim), sorted; no gradient.

    (*S) -> (K,), then as asked: inverse (*S), the index of each value among them; counts (K,). int64.
    """
    refuse(input, "c", "\"unique\" not implemented for '{}'")
    array = input.array
    xp = backend_of(array).xp
    axis = None if dim is None else dim_of(dim, array.ndim)
    order: Any = None
    if axis is not None:
        rows, shape = _slices(xp, array, axis)
        order = xp.lexsort(xp.flip(rows.T, 0)) if rows.shape[1] else xp.arange(rows.shape[0])
    else:
        rows, shape = array.reshape(-1), None
        order = xp.argsort(rows) if return_inverse else None
    ranked = xp.sort(rows) if order is None else rows[order]
    first, inverse, counts = _runs(xp, ranked, return_inverse, return_counts)
    if inverse is not None:
        placed = xp.empty_like(inverse)
        placed[order] = inverse
        inverse = placed if axis is not None else placed.reshape(array.shape)
    what = "_unique2" if axis is None else "unique_dim"
    return _results(what, input, _unsliced(xp, ranked[first], shape, axis), inverse, counts)


@public
def unique_consecutive(
    input: Tensor, return_inverse: bool = False, return_counts: bool = False, dim: int | None = None
) -> Any:
    """input without repetitions of neighbours (values, or slices along dim); no gradient.

    (*S) -> (K,), then as asked: inverse (*S) and counts (K,), int64.
    """
    array = input.array
    xp = backend_of(array).xp
    axis = None if dim is None else dim_of(dim, array.ndim)
    rows, shape = (array.reshape(-1), None) if axis is None else _slices(xp, array, axis)
    first, inverse, counts = _runs(xp, rows, return_inverse, return_counts)
    if inverse is not None and axis is None:
        inverse = inverse.reshape(array.shape)
    return _results("unique_consecutive", input, _unsliced(xp, rows[first], shape, axis), inverse, counts)


def _slices(xp: Any, array: Any, axis: int) -> tuple[Any, Any]:
    """Each slice along axis as a row, and the slices' shape."""
    if not array.size and array.shape[axis]:
        raise RuntimeError("There are 0 sized dimensions, and they aren't selected, so unique cannot be applied")
    moved = xp.moveaxis(array, axis, 0)
    return moved.reshape(moved.shape[0], math.prod(moved.shape[1:])), moved.shape[1:]


def _unsliced(xp: Any, rows: Any, shape: Any, axis: int | None) -> Any:
    return rows if axis is None else xp.ascontiguousarray(xp.moveaxis(rows.reshape(len(rows), *shape), 0, axis))


def _runs(xp: Any, rows: Any, inverse: bool, counts: bool) -> tuple[Any, Any, Any]:
    """Where runs of equal rows begin, the run of each row, and the lengths of the runs."""
    n = len(rows)
    new = xp.ones(n, dtype=bool)
    if n > 1:
        differ = rows[1:] != rows[:-1]
        new[1:] = differ if differ.ndim == 1 else differ.any(1)
    first = xp.flatnonzero(new)
    run = xp.cumsum(new, dtype="i8") - 1 if inverse else None
    size = xp.diff(xp.concatenate([first, xp.full(1, n, first.dtype)])).astype("i8") if counts else None
    return first, run, size


# ---- histograms


@public
def bincount(input: Tensor, weights: Tensor | None = None, minlength: int = 0) -> Tensor:
    """How often each value 0, 1, ... occurs, or the sum of its weights. (N,) int -> (max(input) + 1 or minlength,).

    int64; with float32 weights float32, with others float64.
    """
    array = input.array
    refuse(input, "fc", "\"bincount_cpu\" not implemented for '{}'")
    if minlength < 0:
        raise RuntimeError("minlength should be >= 0")
    if array.ndim != 1 or (array.size and array.dtype.kind == "i" and int(array.min()) < 0):
        raise RuntimeError("bincount only supports 1-d non-negative integral inputs.")
    xp = backend_of(array).xp
    if weights is None:
        return made(input, xp.bincount(array, minlength=minlength).astype("i8", copy=False))
    if weights.array.shape != array.shape:
        raise RuntimeError("weights should be 1-d and have the same length as input")
    summed = xp.bincount(array, weights.array.astype("f8"), minlength)
    return made(input, summed.astype("f4" if weights.array.dtype == "f4" else "f8", copy=False))


@public
def histc(input: Tensor, bins: int = 100, min: float = 0, max: float = 0) -> Tensor:
    """Counts in equal bins from min to max (of the data where both are 0). (*S), floating -> (bins,)."""
    refuse(input, "biuc", "\"histogram_cpu\" not implemented for '{}'")
    if max < min:
        raise RuntimeError("torch.histc: max must be larger than min")
    low, high = _range("histc", input, float(min), float(max), min == max, 1.0)
    edges = _edges(input, bins, low, high)
    return made(input, _counts(input, edges, None, low, high, search=False))


@public
def histogram(
    input: Tensor, bins: Any, *, range: Any = None, weight: Tensor | None = None, density: bool = False
) -> Any:
    """Counts (or sums of weights) in bins, and the bins' edges. (*S), floating -> (hist (B,), bin_edges (B + 1,)).

    bins: a number of equal bins over range, or the 1-d tensor of edges. density: the integral over the bins is 1.
    """
    refuse(input, "biuc", "\"histogramdd\" not implemented for '{}'")
    edges, low, high = _dimension(input, bins, range, 0)
    hist = _counts(input, edges, weight, low, high)
    if density:
        hist = hist / hist.sum() / (edges[1:] - edges[:-1])
    return return_types.histogram((made(input, hist.astype(input.array.dtype, copy=False)), made(input, edges)))


def _range(name: str, input: Tensor, low: float, high: float, from_data: bool, pad: float) -> tuple[float, float]:
    """The range of the bins: that of the data if asked, widened by `pad` where it is a point."""
    if from_data:
        low, high = (float(input.array.min()), float(input.array.max())) if input.array.size else (0.0, 1.0)
    if not (math.isfinite(low) and math.isfinite(high)):
        raise RuntimeError(f"torch.{name}: range of [{low:g}, {high:g}] is not finite")
    return (low - pad, high + pad) if low == high else (low, high)


def _edges(input: Tensor, bins: int, low: float, high: float, k: int = 0) -> Any:
    if bins <= 0:
        raise RuntimeError(f"torch.histogram(): bins must be > 0, but got {bins} for dimension {k}")
    return backend_of(input.array).xp.linspace(low, high, bins + 1).astype(input.array.dtype)


def _bins(xp: Any, x: Any, edges: Any, low: float | None, high: float | None, search: bool = True) -> Any:
    """Each value's bin, -1 outside: by division where bins are equal, by search in the edges else. (N,) -> (N,) int.

    The last bin is closed. search: compare the bin that the division gives with its edges, since it is rounded (histc
    does not).
    """
    n = len(edges) - 1
    inside = (x >= edges[0]) & (x <= edges[-1])
    x = xp.where(inside, x, edges[0])
    if low is None or high is None:
        place = xp.searchsorted(edges, x, side="right") - 1
    else:
        place = ((x - low) * n / (high - low)).astype("i8")
        if search:
            place -= x < edges[xp.minimum(place, n)]
            place += (x >= edges[xp.minimum(place + 1, n)]) & (place < n)
    return xp.where(inside, xp.clip(place, 0, n - 1), -1)


def _counts(
    input: Tensor, edges: Any, weight: Tensor | None, low: float | None, high: float | None, search: bool = True
) -> Any:
    """How many values, or what weight of them, each bin has. -> (len(edges) - 1,)."""
    xp = backend_of(input.array).xp
    place = _bins(xp, input.array.reshape(-1), edges, low, high, search)
    return _summed(xp, input, place, weight, len(edges) - 1)


def _summed(xp: Any, input: Tensor, place: Any, weight: Tensor | None, n: int) -> Any:
    inside = place >= 0
    if weight is None:
        return xp.bincount(place[inside], None, n)[:n].astype(input.array.dtype)
    out = xp.zeros(n, input.array.dtype)  # summed in this dtype, as PyTorch does
    xp.add.at(out, place[inside], weight.array.reshape(-1)[inside])
    return out


@public(method=False)
def histogramdd(
    input: Tensor, bins: Any, *, range: Any = None, weight: Tensor | None = None, density: bool = False
) -> Any:
    """Counts (or sums of weights) of points in boxes, and the edges. (*S, D) -> (hist (B1, ..., BD), (B + 1,) each).

    bins: how many equal ones, for all dimensions or for each, or the edges of each; range: lowest and highest edge of
    each dimension, one after the other; weight: (*S). density: the integral over the boxes is 1.
    """
    refuse(input, "biuc", "\"histogramdd\" not implemented for '{}'")
    shape = input.array.shape
    if len(shape) < 2:
        raise RuntimeError("torch.histogramdd: input tensor should have at least 2 dimensions")
    d = shape[-1]
    given = [bins] * d if isinstance(bins, int) else list(bins)
    if len(given) != d:
        raise RuntimeError(
            "histogramdd: The size of bins must be equal to the innermost dimension of the input."
            if not any(isinstance(b, Tensor) for b in given)
            else f"torch.histogramdd: expected {d} sequences of bin edges for a {d}-dimensional histogram, but got "
            f"{len(given)}"
        )
    if weight is not None and weight.array.shape != shape[:-1]:
        raise RuntimeError(
            "torch.histogramdd: if weight tensor is provided it should have the same shape as the input tensor "
            f"excluding its innermost dimension, but got input with shape {list(shape)} and weight with shape "
            f"{list(weight.array.shape)}"
        )
    if range is not None and len(range) != 2 * d:
        raise RuntimeError(
            f"torch.histogramdd: for a {d}-dimensional histogram range should have {2 * d} elements, but got "
            f"{len(range)}"
        )
    columns = [wrap(input.array[..., k]) for k in builtins.range(d)]
    ranges = [range and range[2 * k : 2 * k + 2] for k in builtins.range(d)]
    found = [_dimension(columns[k], given[k], ranges[k], k) for k in builtins.range(d)]
    xp = backend_of(input.array).xp
    place, size = 0, 1
    for column, (edges, low, high) in zip(columns, found, strict=True):
        one = _bins(xp, column.array.reshape(-1), edges, low, high)
        n = len(edges) - 1
        place = xp.where((one < 0) | (xp.asarray(place) < 0), -1, place * n + one)
        size *= n
    hist = _summed(xp, input, place, weight, size).reshape([len(edges) - 1 for edges, _, _ in found])
    if density:
        hist = hist / hist.sum()
        for k, (edges, _, _) in enumerate(found):
            hist = hist / (edges[1:] - edges[:-1]).reshape(-1, *(1,) * (d - 1 - k))
    edges = tuple(made(input, edges) for edges, _, _ in found)
    return return_types.histogramdd((made(input, hist.astype(input.array.dtype, copy=False)), edges))


def _dimension(column: Tensor, bins: Any, range: Any, k: int) -> tuple[Any, float | None, float | None]:
    """(edges, lowest, highest; None for both where the edges were given) of one dimension of a histogram."""
    if isinstance(bins, Tensor):
        if bins.array.ndim != 1:
            raise RuntimeError(
                f"torch.histogramdd: bins tensor should have one dimension, but got {bins.array.ndim} dimensions in "
                f"the bins tensor for dimension {k}"
            )
        if bins.array.dtype != column.array.dtype:
            raise RuntimeError(
                "torch.histogramdd: input tensor and bins tensors should have the same dtype, but got input with dtype "
                f"{column.dtype.legacy.lower()} and bins for dimension {k} with dtype {bins.dtype.legacy.lower()}"
            )
        return bins.array, None, None
    if range and range[0] > range[1]:
        raise RuntimeError(
            "torch.histogramdd: min should not exceed max, "
            f"but got min {range[0]:g} max {range[1]:g} for dimension {k}"
        )
    low, high = (float(range[0]), float(range[1])) if range else (0.0, 0.0)
    low, high = _range("histogram", column, low, high, not range, 0.5)
    return _edges(column, bins, low, high, k), low, high
