"""`tapegrad.masked`: reductions and normalisations that leave out elements where a mask is False.

mask: bool, broadcasts to input, with no more dimensions than it; None keeps everything. dim: an int, several, or None
or () for all. Masked-out elements are replaced by the identity of the operation: 0 for sums, 1 for products, the
smallest value for maxima. Their gradient is 0. A result of masked-out elements only is that identity, or nan where
there is none (mean, median, var, std). These shadow builtins: sum.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..dtypes import FLOAT, INT, as_dtype, bool_, float32, from_numpy_dtype, int64
from ..op import GRAPH
from ..tensor import Tensor
from . import cumulative, linalg, reduce
from .args import dim_of, number_for, to_dtype
from .sort import nanmedian
from .table import PUBLIC, public


def masked(function: Any) -> Any:
    """Declares a function of `tapegrad.masked`, no tapegrad.NAME and no method."""
    name = "masked_" + function.__name__
    call = public(function, name=name, method=False)
    PUBLIC[name].is_function = False
    return call


# ---- masks and identities


def _input_mask(input: Tensor, *args: Any, mask: Tensor | None = None, **kwargs: Any) -> Tensor:
    """The mask as bool in input's shape, under PyTorch's name. IndexError where it has more dimensions.

    Further arguments, those of the masked function, mean nothing here.
    """
    if mask is None:
        raise ValueError("_input_mask requires explicit mask")
    if mask.array.shape != input.array.shape:
        if mask.array.ndim > input.array.ndim:
            raise IndexError(
                "_input_mask expected broadcastable mask (got mask dimensionality higher than of the input)"
            )
        mask = GRAPH.expand(mask, shape=input.array.shape)
    return to_dtype(mask, bool_)


def _smallest(input: Tensor, name: str) -> Any:
    return -math.inf if input.array.dtype.kind in "fcV" else _range_of(input, name).min


def _largest(input: Tensor, name: str) -> Any:
    return math.inf if input.array.dtype.kind in "fV" else _range_of(input, name).max


def _range_of(input: Tensor, name: str) -> Any:
    if from_numpy_dtype(input.array.dtype).category != INT:
        raise NotImplementedError(f"identity of {name} on {input.dtype} input")
    return np.iinfo(input.array.dtype)


def filled(input: Tensor, mask: Tensor | None, identity: Any, name: str = "") -> Tensor:
    """input with the identity of `name` (a number, or what gives it for input's dtype) where the mask is False."""
    if mask is None:
        return input
    left_out = GRAPH.logical_not(_input_mask(input, mask=mask))
    value = number_for(identity(input, name) if callable(identity) else identity, input)
    return GRAPH.masked_fill(input, left_out, value=value)


def _axes(input: Tensor, dim: Any) -> tuple[int, ...]:
    """The axes that dim means, in rising order."""
    ndim = input.array.ndim
    if dim is None or dim == ():
        return tuple(range(ndim))
    found: list[int] = []
    for d in (dim,) if hasattr(dim, "__index__") else dim:
        if d in found:
            raise RuntimeError(f"dim={d} appears multiple times in the list of dims")
        found.append(dim_of(d, ndim))
    return tuple(sorted(found))


def _cast(result: Tensor, dtype: Any, input: Tensor) -> Tensor:
    return to_dtype(result, input.dtype if dtype is None else dtype)


# ---- sums and products


def _summing_dtype(input: Tensor, dtype: Any) -> Any:
    """Small integers are summed as int64."""
    if dtype is not None:
        return dtype
    return int64 if from_numpy_dtype(input.array.dtype).category <= INT else input.dtype


def _sum(input: Tensor, dim: Any, keepdim: Any, dtype: Any, mask: Tensor | None) -> Tensor:
    x = to_dtype(filled(input, mask, 0), _summing_dtype(input, dtype))
    return to_dtype(GRAPH.sum(x, axis=_kept(x, dim), keepdims=bool(keepdim)), x.dtype)


def _kept(x: Tensor, dim: Any) -> tuple[int, ...]:
    """As `_axes`, none for a 0-d tensor."""
    axes = _axes(x, dim)
    return axes if x.array.ndim else ()


@masked
def sum(
    input: Tensor, dim: Any = None, *, keepdim: bool | None = False, dtype: Any = None, mask: Tensor | None = None
) -> Tensor:
    """The sum of the elements that the mask keeps, over dim. input: (*S) -> (S without dim).

    >>> import tapegrad as torch
    >>> torch.masked.sum(torch.tensor([1.0, 2.0, 4.0]), mask=torch.tensor([True, False, True]))
    tensor(5.)
    """
    return _sum(input, dim, keepdim, dtype, mask)


@masked
def prod(
    input: Tensor, dim: Any = None, *, keepdim: bool | None = False, dtype: Any = None, mask: Tensor | None = None
) -> Tensor:
    """The product of the elements that the mask keeps, over dim. input: (*S) -> (S without dim)."""
    out = to_dtype(filled(input, mask, 1), _summing_dtype(input, dtype))
    for d in reversed(_axes(input, dim)):
        out = reduce.prod(out, d, bool(keepdim))
    return out


@masked
def cumsum(input: Tensor, dim: int, *, dtype: Any = None, mask: Tensor | None = None) -> Tensor:
    """The running sum along dim of the elements that the mask keeps. input: (*S) -> (*S)."""
    d = input.dtype if dtype is None else dtype
    return to_dtype(cumulative.cumsum(filled(input, mask, 0), _axes(input, dim)[0], dtype=d), d)


@masked
def cumprod(input: Tensor, dim: int, *, dtype: Any = None, mask: Tensor | None = None) -> Tensor:
    """The running product along dim of the elements that the mask keeps. input: (*S) -> (*S)."""
    d = input.dtype if dtype is None else dtype
    return to_dtype(cumulative.cumprod(filled(input, mask, 1), _axes(input, dim)[0], dtype=d), d)


# ---- extremes


@masked
def amax(
    input: Tensor, dim: Any = None, *, keepdim: bool | None = False, dtype: Any = None, mask: Tensor | None = None
) -> Tensor:
    """The largest of the elements that the mask keeps, over dim; ties share the gradient. input: (*S) -> (S without
    dim)."""
    return _cast(reduce.amax(filled(input, mask, _smallest, "amax"), _axes(input, dim), bool(keepdim)), dtype, input)


@masked
def amin(
    input: Tensor, dim: Any = None, *, keepdim: bool | None = False, dtype: Any = None, mask: Tensor | None = None
) -> Tensor:
    """The smallest of the elements that the mask keeps, over dim; ties share the gradient. input: (*S) -> (S without
    dim)."""
    return _cast(reduce.amin(filled(input, mask, _largest, "amin"), _axes(input, dim), bool(keepdim)), dtype, input)


@masked
def argmax(
    input: Tensor, dim: int | None = None, *, keepdim: bool | None = False, dtype: Any = None,
    mask: Tensor | None = None,
) -> Tensor:  # fmt: skip
    """The place of `amax`, in input's dtype unless another is given. input: (*S) -> (S without dim)."""
    return _cast(reduce.argmax(filled(input, mask, _smallest, "argmax"), dim, bool(keepdim)), dtype, input)


@masked
def argmin(
    input: Tensor, dim: int | None = None, *, keepdim: bool | None = False, dtype: Any = None,
    mask: Tensor | None = None,
) -> Tensor:  # fmt: skip
    """The place of `amin`, in input's dtype unless another is given. input: (*S) -> (S without dim)."""
    return _cast(reduce.argmin(filled(input, mask, _largest, "argmin"), dim, bool(keepdim)), dtype, input)


# ---- means and spreads


def _count(input: Tensor, dim: Any, keepdim: Any, mask: Tensor | None) -> Tensor:
    """How many elements count for each result, int64."""
    counted = GRAPH.cast(GRAPH.ones_like(input), dtype=int64.np) if mask is None else _input_mask(input, mask=mask)
    return _sum(counted, dim, keepdim, int64, None)


@masked
def mean(
    input: Tensor, dim: Any = None, *, keepdim: bool | None = False, dtype: Any = None, mask: Tensor | None = None
) -> Tensor:
    """The mean of the elements that the mask keeps, over dim; nan of none. input: (*S) float -> (S without dim)."""
    source, d = ("Input", input.dtype) if dtype is None else ("Optional", as_dtype(dtype))
    if d.category < FLOAT:
        raise ValueError(
            f"mean(): Could not infer output dtype. {source} dtype must be either a floating point or complex dtype. "
            f"Got: {d}"
        )
    return _sum(input, dim, keepdim, d, mask) / _count(input, dim, keepdim, mask)


@masked
def median(
    input: Tensor, dim: int = -1, *, keepdim: bool = False, dtype: Any = None, mask: Tensor | None = None
) -> Tensor:
    """The lower median along dim of the elements that the mask keeps; nan of none. input: (*S) -> (S without dim)."""
    d = input.dtype if dtype is None else dtype
    axis, floating = _axes(input, dim)[0], from_numpy_dtype(input.array.dtype).category == FLOAT
    x = input if floating else to_dtype(input, float32)
    out = nanmedian(filled(x, mask, math.nan), axis, keepdim).values
    if floating:
        return out
    if GRAPH.ne(out, out).array.any():
        raise ValueError("masked median expects no fully masked out rows if dtype is not floating point")
    return to_dtype(out, d)


def _spread(
    input: Tensor, dim: Any, unbiased: bool | None, correction: Any, keepdim: Any, dtype: Any, mask: Tensor | None
) -> Tensor:
    if unbiased is not None and correction is not None:
        raise AssertionError("Only one of unbiased and correction may be given")
    correction = (1.0 if unbiased in (None, True) else 0.0) if correction is None else float(correction)
    d = input.dtype if dtype is None else as_dtype(dtype)
    if dtype is None and d.category < FLOAT:
        d = float32
    compute = d if d.category >= FLOAT else float32
    count = _count(input, dim, True, mask)
    x = input - _sum(input, dim, True, d, mask) / count
    total = _sum(x * GRAPH.conj(x), dim, keepdim, compute, mask)
    if not keepdim:
        count = GRAPH.reshape(count, shape=total.array.shape)
    if correction:
        count = GRAPH.relu(to_dtype(count, compute.to_real()) - correction)
    return to_dtype(total / count, d)


@masked
def var(
    input: Tensor, dim: Any = None, unbiased: bool | None = None, *, correction: Any = None,
    keepdim: bool | None = False, dtype: Any = None, mask: Tensor | None = None,
) -> Tensor:  # fmt: skip
    """The variance over dim of the elements that the mask keeps: sum |x - mean|^2 / max(0, count - correction).

    correction: 1 by default, 0 for unbiased=False. input: (*S) -> (S without dim), nan of none.
    """
    return _spread(input, dim, unbiased, correction, keepdim, dtype, mask)


@masked
def std(
    input: Tensor, dim: Any = None, unbiased: bool | None = None, *, correction: Any = None,
    keepdim: bool | None = False, dtype: Any = None, mask: Tensor | None = None,
) -> Tensor:  # fmt: skip
    """The root of `var`. input: (*S) -> (S without dim)."""
    return GRAPH.sqrt(_spread(input, dim, unbiased, correction, keepdim, dtype, mask))


@masked
def norm(
    input: Tensor, ord: float | None = 2.0, dim: Any = None, *, keepdim: bool | None = False, dtype: Any = None,
    mask: Tensor | None = None,
) -> Tensor:  # fmt: skip
    """The norm (sum |x|^ord)^(1/ord) over dim of the elements that the mask keeps. input: (*S) -> (S without dim)."""
    x = filled(input, mask, _largest if ord == -math.inf else 0, "norm")
    d = input.dtype if dtype is None else dtype
    return linalg.vector_norm(x, ord, _axes(input, dim), bool(keepdim), dtype=d)


# ---- logarithms of sums


@masked
def logsumexp(
    input: Tensor, dim: Any = None, *, keepdim: bool = False, dtype: Any = None, mask: Tensor | None = None
) -> Tensor:
    """log(sum(exp(x))) over dim of the elements that the mask keeps. input: (*S) -> (S without dim)."""
    x = filled(input, mask, _smallest, "logsumexp")
    return _cast(reduce.logsumexp(x, _axes(input, dim), keepdim), dtype, input)


@masked
def logaddexp(
    input: Tensor, other: Tensor, *, dtype: Any = None, input_mask: Tensor | None = None,
    other_mask: Tensor | None = None,
) -> Tensor:  # fmt: skip
    """log(exp(x) + exp(y)), where a masked-out x or y counts as -inf. input: (*S), other: (*T) -> broadcast."""
    x, y = filled(input, input_mask, _smallest, "logaddexp"), filled(other, other_mask, _smallest, "logaddexp")
    return _cast(GRAPH.logaddexp(x, y), dtype, input)


# ---- normalisations


@masked
def softmax(input: Tensor, dim: int, *, dtype: Any = None, mask: Tensor | None = None) -> Tensor:
    """exp(x) over its sum along dim, of the elements that the mask keeps; 0 for the others. input: (*S) -> (*S)."""
    d = input.dtype if dtype is None else dtype
    return reduce.softmax(filled(input, mask, _smallest, "amax"), _axes(input, dim)[0], dtype=d)


@masked
def log_softmax(input: Tensor, dim: int, *, dtype: Any = None, mask: Tensor | None = None) -> Tensor:
    """The logarithm of `softmax`; -inf where the mask is False. input: (*S) -> (*S)."""
    d = input.dtype if dtype is None else dtype
    return reduce.log_softmax(filled(input, mask, _smallest, "amax"), _axes(input, dim)[0], dtype=d)


@masked
def softmin(input: Tensor, dim: int, *, dtype: Any = None, mask: Tensor | None = None) -> Tensor:
    """`softmax` of -input. input: (*S) -> (*S)."""
    d = input.dtype if dtype is None else dtype
    return reduce.softmax(-filled(input, mask, _largest, "amin"), _axes(input, dim)[0], dtype=d)


@masked
def normalize(
    input: Tensor, ord: float, dim: int, *, eps: float = 1e-12, dtype: Any = None, mask: Tensor | None = None
) -> Tensor:
    """x / max(norm along dim, eps), of the elements that the mask keeps; 0 for the others. input: (*S) -> (*S)."""
    size = norm(input, ord, dim, keepdim=True, dtype=dtype, mask=mask)
    return filled(input, mask, 0) / GRAPH.maximum(size, GRAPH.ones_like(size) * eps)
