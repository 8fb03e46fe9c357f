"""Reductions, with PyTorch's arguments. These shadow builtins: sum, max, min, any, all."""

from __future__ import annotations

import math
import warnings
from typing import Any

from ..coerce import into
from ..dtypes import FLOAT, as_dtype, from_numpy_dtype, get_default_dtype
from ..op import GRAPH
from ..ops import reduce as op
from ..ops import softmax as soft
from ..tensor import Tensor
from . import return_types
from .args import axes_of, dim_of, to_dtype
from .table import PUBLIC, public


def refuse(input: Tensor, kinds: str, text: str, error: type[Exception] = NotImplementedError) -> None:
    """`error` for a dtype of one of the NumPy kinds; {} in the text is PyTorch's word for the dtype."""
    if input.array.dtype.kind in kinds:
        raise error(text.format(input.dtype.legacy))


def need_elements(input: Tensor, dim: Any, name: str) -> None:
    """Errors for a reduction without identity over nothing."""
    if input.array.size:
        return
    if dim is None or (dim.__class__ in (tuple, list) and not dim):
        error = IndexError if name.startswith("arg") else RuntimeError
        more = "" if error is IndexError else " Specify the reduction dim with the 'dim' argument."
        raise error(f"{name}(): Expected reduction dim to be specified for input.numel() == 0.{more}")
    for axis in axes_of(input, dim):
        if input.array.shape[axis] == 0:
            raise IndexError(f"{name}(): Expected reduction dim {axis} to have non-zero size.")


def along(function: Any, input: Tensor, dim: int, **kw: Any) -> Any:
    """`function` along one dimension; a 0-d input is treated as one element, and its results become 0-d again."""
    if input.array.ndim:
        return function(input, axis=dim_of(dim, input.array.ndim), **kw)
    dim_of(dim, 0)
    result = function(GRAPH.reshape(input, shape=(1,)), axis=0, **kw)
    if result.__class__ is tuple:
        return tuple([GRAPH.reshape(r, shape=()) for r in result])
    return GRAPH.reshape(result, shape=())


# ---- sums, means, products


@public
def sum(input: Tensor, dim: Any = None, keepdim: bool = False, *, dtype: Any = None) -> Tensor:
    """Sum over dim (all where None); integers and bool are summed as int64. input: (*S) -> (S without dim)."""
    if dtype is not None:
        input = to_dtype(input, dtype)
    if dim is None and not keepdim:
        out = op.sum_all(input)
    else:
        out = op.sum(input, axis=axes_of(input, dim), keepdims=keepdim)
    return out if dtype is None else to_dtype(out, dtype)


@public
def nansum(input: Tensor, dim: Any = None, keepdim: bool = False, *, dtype: Any = None) -> Tensor:
    """Sum over dim with nan counted as 0. input: (*S) -> (S without dim)."""
    refuse(input, "c", "nansum on CPU does not support complex inputs", RuntimeError)
    if input.array.dtype.kind in "biu":
        return sum(input, dim, keepdim, dtype=dtype)
    if dtype is not None:
        input = to_dtype(input, dtype)
    return op.nansum(input, axis=axes_of(input, dim), keepdims=keepdim)


@public
def mean(input: Tensor, dim: Any = None, keepdim: bool = False, *, dtype: Any = None) -> Tensor:
    """Mean over dim (all where None). input: (*S), floating or complex -> (S without dim)."""
    if dtype is not None:
        if as_dtype(dtype).category < FLOAT:
            raise RuntimeError(
                "mean(): could not infer output dtype. Optional dtype must be either a floating point or complex "
                f"dtype. Got: {as_dtype(dtype).legacy}"
            )
        input = to_dtype(input, dtype)
    elif input.array.dtype.kind in "biu":
        raise RuntimeError(
            "mean(): could not infer output dtype. Input dtype must be either a floating point or complex dtype. "
            f"Got: {input.dtype.legacy}"
        )
    if dim is None and not keepdim:
        return op.mean_all(input)
    return op.mean(input, axis=axes_of(input, dim), keepdims=keepdim)


@public
def nanmean(input: Tensor, dim: Any = None, keepdim: bool = False, *, dtype: Any = None) -> Tensor:
    """Mean of what is not nan over dim. input: (*S), floating -> (S without dim)."""
    if input.array.dtype.kind in "biu":
        raise RuntimeError(
            f"nanmean(): expected input to have floating point or complex dtype but got {input.dtype.legacy}"
        )
    count = op.sum(op.not_nan(input.detach()), axis=axes_of(input, dim), keepdims=keepdim)
    total = nansum(input, dim, keepdim, dtype=dtype)
    return total / to_dtype(count, total.dtype)


@public
def prod(input: Tensor, dim: Any = None, keepdim: bool = False, *, dtype: Any = None) -> Tensor:
    """Product over one dim (all where None); integers and bool as int64. input: (*S) -> (S without dim)."""
    if dim.__class__ in (tuple, list):
        raise TypeError("prod() received an invalid combination of arguments: dim must be int, not tuple")
    if dtype is not None:
        input = to_dtype(input, dtype)
    if dim is None:
        out = op.prod_all(input)
    else:
        out = along(op.prod, input, dim, keepdims=keepdim)
    return out if dtype is None else to_dtype(out, dtype)


# ---- variance


def _spread(name: str, input: Tensor, dim: Any, unbiased: Any, keepdim: bool, correction: Any) -> Any:
    """The arguments of var and its like, in either of PyTorch's two forms; warns where there are too few elements."""
    if isinstance(dim, bool):
        dim, unbiased = None, dim
    if input.array.dtype.kind in "biu":
        what = name if "_" in name else "std and var"
        raise RuntimeError(f"{what} only support floating point and complex dtypes")
    if correction is None:
        correction = 1 if unbiased is None else int(unbiased)
    axis = axes_of(input, dim)
    if math.prod([input.array.shape[i] for i in axis]) <= correction:
        warnings.warn(
            f"{name}(): degrees of freedom is <= 0. Correction should be strictly less than the reduction factor "
            "(input numel divided by output numel).",
            UserWarning,
            stacklevel=4,
        )
    return {"axis": axis, "correction": correction, "keepdims": keepdim}


@public
def var(
    input: Tensor, dim: Any = None, unbiased: Any = None, keepdim: bool = False, *, correction: Any = None
) -> Tensor:
    """Variance over dim, divided by n - correction (1 by default). input: (*S) -> (S without dim), real."""
    return op.var(input, **_spread("var", input, dim, unbiased, keepdim, correction))


@public
def std(
    input: Tensor, dim: Any = None, unbiased: Any = None, keepdim: bool = False, *, correction: Any = None
) -> Tensor:
    """Standard deviation over dim, with the divisor n - correction. input: (*S) -> (S without dim), real."""
    return op.std(input, **_spread("std", input, dim, unbiased, keepdim, correction))


@public(method=False)
def var_mean(
    input: Tensor, dim: Any = None, unbiased: Any = None, keepdim: bool = False, *, correction: Any = None
) -> Any:
    """(variance, mean) over dim. input: (*S) -> two of (S without dim)."""
    return op.var_mean(input, **_spread("var_mean", input, dim, unbiased, keepdim, correction))


@public(method=False)
def std_mean(
    input: Tensor, dim: Any = None, unbiased: Any = None, keepdim: bool = False, *, correction: Any = None
) -> Any:
    """(standard deviation, mean) over dim. input: (*S) -> two of (S without dim)."""
    return op.std_mean(input, **_spread("std_mean", input, dim, unbiased, keepdim, correction))


# ---- extremes


def _extreme(name: str, input: Tensor, dim: Any, keepdim: bool, other: Any) -> Any:
    if other is not None or isinstance(dim, Tensor):
        return PUBLIC[name + "imum"].function(input, dim if other is None else other)
    if dim is None:
        need_elements(input, None, name)
        refuse(input, "c", f"\"{name}_all\" not implemented for '{{}}'")
        return getattr(op, name + "_all")(input)
    if not hasattr(dim, "__index__"):
        raise TypeError(
            f"{name}() received an invalid combination of arguments: dim must be int, not {type(dim).__name__}"
        )
    need_elements(input, dim, name)
    refuse(input, "c", name + "(): does not support complex input", RuntimeError)
    return getattr(return_types, name)(along(getattr(op, name + "_dim"), input, dim, keepdims=keepdim))


@public
def max(input: Tensor, dim: Any = None, keepdim: bool = False, *, other: Any = None) -> Any:
    """max(input): the largest element; max(input, dim): values and first indices; max(input, other): elementwise.

    (*S) -> (), two of (S without dim), or (*broadcast(S, T)).
    """
    return _extreme("max", input, dim, keepdim, other)


@public
def min(input: Tensor, dim: Any = None, keepdim: bool = False, *, other: Any = None) -> Any:
    """min(input): the smallest element; min(input, dim): values and first indices; min(input, other): elementwise.

    (*S) -> (), two of (S without dim), or (*broadcast(S, T)).
    """
    return _extreme("min", input, dim, keepdim, other)


@public
def amax(input: Tensor, dim: Any = (), keepdim: bool = False) -> Tensor:
    """Maximum over dims; ties share the gradient. input: (*S) -> (S without dim)."""
    need_elements(input, dim, "amax")
    refuse(input, "c", "\"max_values_cpu\" not implemented for '{}'")
    return op.amax(input, axis=axes_of(input, dim), keepdims=keepdim)


@public
def amin(input: Tensor, dim: Any = (), keepdim: bool = False) -> Tensor:
    """Minimum over dims; ties share the gradient. input: (*S) -> (S without dim)."""
    need_elements(input, dim, "amin")
    refuse(input, "c", "\"min_values_cpu\" not implemented for '{}'")
    return op.amin(input, axis=axes_of(input, dim), keepdims=keepdim)


@public
def aminmax(input: Tensor, *, dim: int | None = None, keepdim: bool = False, out: Any = None) -> Any:
    """Minimum and maximum, over one dim or all. input: (*S) -> (min, max), each (S without dim)."""
    if dim is None and not input.array.size:
        raise RuntimeError(
            "aminmax(): cannot compute aminmax over an empty dimension as the operation has no identity."
        )
    if dim is not None and not input.array.size and 0 in [input.array.shape[i] for i in axes_of(input, dim)]:
        raise IndexError(f"aminmax: Expected reduction dim {dim} to have non-zero size.")
    refuse(input, "c", "\"aminmax_cpu\" not implemented for '{}'")
    result = op.aminmax(input, axis=axes_of(input, dim), keepdims=keepdim)
    if out is not None:
        for given in out:
            if given.dtype is not input.dtype:
                want, have = input.dtype.legacy.lower(), given.dtype.legacy.lower()
                raise RuntimeError(f"Expected out tensor to have dtype {want}, but got {have} instead")
        result = tuple([into(given, "aminmax", r) for given, r in zip(out, result, strict=True)])
    return return_types.aminmax(result)


def _arg_extreme(name: str, input: Tensor, dim: Any, keepdim: bool) -> Tensor:
    if dim is not None and not hasattr(dim, "__index__"):
        raise TypeError(f"{name}(): argument 'dim' (position 1) must be int, not {type(dim).__name__}")
    need_elements(input, dim, name)
    refuse(input, "c", name + "(): does not support complex input", RuntimeError)
    refuse(input, "b", name + "(): does not support bool input", RuntimeError)
    function = getattr(op, name)
    if dim is None:
        return function(input, axis=None, keepdims=keepdim)
    return along(function, input, dim, keepdims=keepdim)


@public
def argmax(input: Tensor, dim: int | None = None, keepdim: bool = False) -> Tensor:
    """The first index of the maximum along dim, or in the flattened input. (*S) -> (S without dim), int64."""
    return _arg_extreme("argmax", input, dim, keepdim)


@public
def argmin(input: Tensor, dim: int | None = None, keepdim: bool = False) -> Tensor:
    """The first index of the minimum along dim, or in the flattened input. (*S) -> (S without dim), int64."""
    return _arg_extreme("argmin", input, dim, keepdim)


# ---- truth and counts


def _truth_axes(input: Tensor, dim: Any) -> tuple[int, ...]:
    return () if dim.__class__ in (tuple, list) and not dim else axes_of(input, dim)


@public
def any(input: Tensor, dim: Any = None, keepdim: bool = False) -> Tensor:
    """Whether some element is true, over dims (none for an empty tuple). (*S) -> (S without dim), bool or uint8."""
    return op.any(input, axis=_truth_axes(input, dim), keepdims=keepdim)


@public
def all(input: Tensor, dim: Any = None, keepdim: bool = False) -> Tensor:
    """Whether all elements are true, over dims (none for an empty tuple). (*S) -> (S without dim), bool or uint8."""
    return op.all(input, axis=_truth_axes(input, dim), keepdims=keepdim)


@public
def count_nonzero(input: Tensor, dim: Any = None) -> Tensor:
    """How many elements are not 0, over dims. (*S) -> (S without dim), int64."""
    return op.count_nonzero(input, axis=axes_of(input, dim))


# ---- norms


@public
def logsumexp(input: Tensor, dim: Any, keepdim: bool = False) -> Tensor:
    """log(sum(exp(input))) over dims, without overflow. (*S) -> (S without dim)."""
    if input.array.dtype.kind in "biu":
        input = to_dtype(input, get_default_dtype())
    return op.logsumexp(input, axis=axes_of(input, dim), keepdims=keepdim)


@public
def norm(input: Tensor, p: Any = "fro", dim: Any = None, keepdim: bool = False, dtype: Any = None) -> Tensor:
    """The p-norm of vectors over dims (all where None); "fro" is p = 2, "nuc" the sum of singular values.

    (*S), floating or complex -> (S without dim), real.
    """
    if p == "nuc":
        return _nuclear(input, dim, keepdim, dtype)
    if p is None or p == "fro":
        if p == "fro" and dim.__class__ in (tuple, list) and len(dim) > 2:
            raise RuntimeError(f"linalg.matrix_norm: dim must be a 2-tuple. Got {' '.join(map(str, dim))}")
        p = 2
    if isinstance(p, str):
        raise RuntimeError(f"linalg.matrix_norm: Order {p} not supported.")
    if input.array.dtype.kind in "biu":
        raise RuntimeError(
            f"linalg.vector_norm: Expected a floating point or complex tensor as input. Got {input.dtype.legacy}"
        )
    if dtype is not None:
        if as_dtype(dtype).category < FLOAT:
            raise RuntimeError(
                f"linalg.vector_norm: dtype should be floating point or complex, but got {as_dtype(dtype).legacy}"
            )
        input = to_dtype(input, dtype)
    return _vector_norm(input, p, axes_of(input, dim), keepdim)


def _vector_norm(input: Tensor, p: Any, axis: tuple[int, ...], keepdim: bool) -> Tensor:
    p = p.item() if isinstance(p, Tensor) else p
    if input.array.dtype.kind == "c":
        input = GRAPH.abs(input)
    if p < 0 or p == math.inf:
        for i in axis:
            if input.array.shape[i] == 0:
                where = "an empty tensor because" if len(axis) == input.array.ndim else (
                    f"the dimension {i} because this dimension is empty and"
                )  # fmt: skip
                raise RuntimeError(
                    f"linalg.vector_norm cannot compute the {p} norm on {where} the operation does not have an identity"
                )
    return op.vector_norm(input, p=p, axis=axis, keepdims=keepdim)


def _nuclear(input: Tensor, dim: Any, keepdim: bool, dtype: Any) -> Tensor:
    axis = axes_of(input, dim)
    if len(axis) != 2:
        raise RuntimeError(f"linalg.matrix_norm: dim must be a 2-tuple. Got {' '.join(map(str, axis))}")
    if dtype is not None:
        input = to_dtype(input, dtype)
    total = sum(GRAPH.svd(input.movedim(axis, (-2, -1)), full=False)[1], -1)
    return total.reshape([1 if i in axis else n for i, n in enumerate(input.array.shape)]) if keepdim else total


@public
def dist(input: Tensor, other: Tensor, p: Any = 2) -> Tensor:
    """The p-norm of input - other. (*S), (*T) -> ()."""
    difference = input - other
    if difference.array.dtype.kind in "biu":
        raise RuntimeError(
            f"norm(): input dtype should be either floating point or complex. Got {difference.dtype.legacy} instead."
        )
    return _vector_norm(difference, p, axes_of(difference, None), False)


@public(inplace=True)
def renorm(input: Tensor, p: Any, dim: int, maxnorm: float) -> Tensor:
    """Each slice along dim scaled down to the p-norm maxnorm where it is larger. (*S) -> (*S)."""
    ndim = input.array.ndim
    if p <= 0:
        raise RuntimeError("renorm: non-positive-norm not supported")
    if maxnorm < 0:
        raise RuntimeError(f"renorm: expected maxnorm to be >= 0 but got {maxnorm:g}")
    if ndim < 2:
        raise RuntimeError(f"renorm: input needs at least 2 dimensions, got {ndim} dimensions")
    axis = dim_of(dim, ndim)
    size = norm(input, p, tuple([i for i in range(ndim) if i != axis]), True)
    scale = maxnorm / (size + 1e-7)  # PyTorch's guard against 0
    return input * GRAPH.where(size > maxnorm, scale, GRAPH.ones_like(scale))


# ---- softmax


def _soft(name: str, input: Tensor, dim: int, dtype: Any) -> Tensor:
    if dtype is not None:
        input = to_dtype(input, dtype)
    if from_numpy_dtype(input.array.dtype).category != FLOAT:
        raise NotImplementedError(f"\"{name}_kernel_impl\" not implemented for '{input.dtype.legacy}'")
    return along(getattr(soft, name), input, dim)


@public
def softmax(input: Tensor, dim: int, dtype: Any = None) -> Tensor:
    """exp(input) / sum(exp(input)) along dim. (*S), floating -> (*S)."""
    return _soft("softmax", input, dim, dtype)


@public
def log_softmax(input: Tensor, dim: int, dtype: Any = None) -> Tensor:
    """log(softmax(input)) along dim, computed as input - logsumexp(input). (*S), floating -> (*S)."""
    return _soft("log_softmax", input, dim, dtype)
