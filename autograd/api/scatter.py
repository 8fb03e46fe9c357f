"""Reading and writing by index tensors and masks, with PyTorch's arguments; NAME_ writes into the tensor itself."""

from __future__ import annotations

import functools
import types
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

from ...backends.registry import backend_of
from ..graph import counter
from ..inplace import assign, check_overlap, check_writable
from ..ops import index as op
from ..ops import scatter as scatter_op
from ..ops import shape as shape_op
from ..tensor import Tensor, wrap
from .args import dim_of, int_of, number_for, tensor_beside, to_dtype
from .index import read, unled
from .rearrange import broadcast_shapes
from .shape import _reshaped, expanded
from .table import PUBLIC, public


def writer(function: Callable[..., Any]) -> Callable[..., Any]:
    """Declares NAME and the method NAME_. `_inplace` tells the function that its op may write into the input."""
    public(function)
    name = function.__name__ + "_"
    call = PUBLIC[function.__name__].function

    @functools.wraps(function)
    def method(self: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        check_writable(self, name)
        check_overlap(self.array, name)
        since = counter()
        return assign(self, call(self, *args, _inplace=True, **kwargs), name, since)

    method.__name__ = method.__qualname__ = name
    method.__doc__ = f"In-place version of `{name[:-1]}`: the result is written into this tensor. (*S) -> (*S)."
    call.__wrapped__ = method.__wrapped__ = _shown(function)  # type: ignore[attr-defined]
    public(method, name=name, is_function=name == "index_put_")
    return call


def _shown(function: Any) -> Any:
    """What inspect.signature is to show of a writer: its function without the last parameter, `_inplace`."""
    code = function.__code__
    code = code.replace(co_kwonlyargcount=code.co_kwonlyargcount - 1)
    shown = types.FunctionType(code, function.__globals__, code.co_name, function.__defaults__)
    shown.__kwdefaults__, shown.__annotations__ = function.__kwdefaults__, function.__annotations__
    return shown


def _same_dtype(text: str, input: Tensor, src: Tensor) -> None:
    if src.array.dtype != input.array.dtype:
        raise RuntimeError(text.format(a=input.dtype.legacy, b=src.dtype.legacy))


_INDEX_CHARS = "".join({np.dtype(np.int64).char, np.dtype(np.int32).char})
_LONG = np.dtype(np.int64).char


def _is_index(index: Any, chars: str = _INDEX_CHARS) -> bool:
    return isinstance(index, Tensor) and index.array.dtype.char in chars


def _tensor(value: Any, name: str, what: str) -> Tensor:
    if not isinstance(value, Tensor):
        raise TypeError(f"{name}(): argument '{what}' must be Tensor, not {type(value).__name__}")
    return value


# ---- gather and scatter ----------------------------------------------------------------------------------------------


def _flat(t: Tensor) -> Tensor:
    """A 0-d tensor as one of one dimension."""
    return t if t.array.ndim else shape_op.view(t, shape=(1,))


def _along(name: str, input: Tensor, dim: int, index: Any, src: Tensor | None = None) -> int:
    """The axis, after the checks that gather and the scatters share."""
    a, i = input.array, _tensor(index, name, "index").array
    axis = dim_of(int_of(dim, name, "dim"), a.ndim)
    if i.dtype.char not in _INDEX_CHARS and (i.size or name != "gather"):
        raise RuntimeError(f"{name}(): Expected dtype int32/int64 for index")
    s = a if src is None else src.array
    if i.size and (i.ndim != a.ndim or i.ndim != s.ndim or i.shape != a.shape or i.shape != s.shape):
        _fitting(name, a, i, src, axis)
    return axis


def _fitting(name: str, a: Any, i: Any, src: Tensor | None, axis: int) -> None:
    """RuntimeError where the index has other dimensions than input or src, or is larger."""
    for word, other in (("input" if name == "gather" else "self", a), *([] if src is None else [("src", src.array)])):
        if max(i.ndim, 1) != max(other.ndim, 1):
            raise RuntimeError(f"Index tensor must have the same number of dimensions as {word} tensor")
    over = [d for d, (n, m) in enumerate(zip(i.shape, a.shape, strict=False)) if n > m and d != axis]
    if over and name == "gather":
        raise RuntimeError(
            f"Size does not match at dimension {over[0]} expected index {list(i.shape)} to be no larger than self "
            f"{list(a.shape)} apart from dimension {axis}"
        )
    short = src is not None and any(n > m for n, m in zip(i.shape, src.array.shape, strict=False))
    if over or short:
        tail = "" if src is None else f" and to be no larger size than src {list(src.array.shape)}"
        raise RuntimeError(
            f"Expected index {list(i.shape)} to be no larger than self {list(a.shape)} apart from dimension {axis}"
            f"{tail}"
        )


@public
def gather(input: Tensor, dim: int, index: Tensor, *, sparse_grad: bool = False) -> Tensor:
    """out[i][j] = input[index[i][j]][j] for dim 0. input: (*S), index: (*I) -> (*I)."""
    axis = _along("gather", input, dim, index)
    if not index.array.size:
        return op.take(input, index)
    out = scatter_op.gather(_flat(input), _flat(index), axis=axis)
    return out if index.array.ndim else shape_op.view(out, shape=())


@public
def take_along_dim(input: Tensor, indices: Tensor, dim: int | None = None) -> Tensor:
    """gather whose other dimensions broadcast; of the flattened input without dim. input: (*S), indices: (*I)."""
    if not _is_index(indices, _LONG):
        raise RuntimeError(f"torch.take_along_dim(): dtype of indices should be Long but got {indices.dtype.legacy}")
    if dim is None:
        input, indices, axis = _reshaped(input, (input.array.size,)), _reshaped(indices, (indices.array.size,)), 0
    else:
        if input.array.ndim != indices.array.ndim:
            raise RuntimeError(
                "torch.take_along_dim(): input and indices should have the same number of dimensions, but got "
                f"{input.array.ndim} dimensions for input, and {indices.array.ndim} dimensions for indices"
            )
        axis = dim_of(dim, input.array.ndim)
        have, want = list(input.array.shape), list(indices.array.shape)
        n, m = have[axis], want[axis]
        have[axis] = want[axis] = 1
        common = list(broadcast_shapes(have, want))
        input = expanded(input, (*common[:axis], n, *common[axis + 1 :]))
        indices = expanded(indices, (*common[:axis], m, *common[axis + 1 :]))
    i, n = indices.array, input.array.shape[axis]
    return scatter_op.gather(input, tensor_beside(indices, backend_of(i).xp.where(i < 0, i + n, i)), axis=axis)


def _fit(src: Tensor, index: Tensor) -> Tensor:
    """The part of src that index covers."""
    want = index.array.shape
    if src.array.shape == want:
        return src
    return shape_op.slice_view(src, index=(*[slice(0, n) for n in want], Ellipsis))


_DTYPES = "scatter(): Expected self.dtype to be equal to src.dtype"


@writer
def scatter(
    input: Tensor, dim: int, index: Tensor, src: Any = None, *, value: Any = None, reduce: str | None = None,
    _inplace: bool = False,
) -> Tensor:  # fmt: skip
    """input with input[index[i][j]][j] = src[i][j] for dim 0; src may be a number. reduce: "add" or "multiply".

    input: (*S), index: (*I), src: (*I) or larger -> (*S).
    """
    src = value if src is None else src
    if reduce not in (None, "add", "multiply"):
        raise RuntimeError("reduce argument must be either add or multiply.")
    if src is None:
        raise TypeError("scatter() missing 1 required argument: 'src' or 'value'")
    tensor = isinstance(src, Tensor)
    axis = _along("scatter", input, dim, index, src if tensor else None)
    if tensor:
        _same_dtype(_DTYPES, input, src)
        if reduce is not None:
            warnings.warn(
                "The reduce argument of torch.scatter with Tensor src is deprecated and will be removed in a future "
                "PyTorch release. Use torch.scatter_reduce instead for more reduction options.",
                UserWarning,
                stacklevel=3,
            )
    x, index = _flat(input), _flat(index)
    if not tensor and reduce is None:
        out = scatter_op.scatter_fill(x, index, axis=axis, value=number_for(src, input), inplace=_inplace)
    else:
        if not tensor:
            xp = backend_of(x.array).xp
            src = tensor_beside(x, xp.full(index.array.shape, number_for(src, input), x.array.dtype))
        src = _fit(_flat(src), index)
        if reduce is None:
            out = scatter_op.scatter(x, index, src, axis=axis, inplace=_inplace)
        elif reduce == "add":
            out = scatter_op.scatter_add(x, index, src, axis=axis, inplace=_inplace)
        else:
            out = scatter_op.scatter_reduce(x, index, src, axis=axis, reduce="prod", include_self=True)
    return out if input.array.ndim else shape_op.view(out, shape=())


@writer
def scatter_add(input: Tensor, dim: int, index: Tensor, src: Tensor, *, _inplace: bool = False) -> Tensor:
    """input with src[i][j] added to input[index[i][j]][j] for dim 0. input: (*S), index, src: (*I) -> (*S)."""
    axis = _along("scatter_add", input, dim, index, _tensor(src, "scatter_add", "src"))
    _same_dtype(_DTYPES, input, src)
    index = _flat(index)
    out = scatter_op.scatter_add(_flat(input), index, _fit(_flat(src), index), axis=axis, inplace=_inplace)
    return out if input.array.ndim else shape_op.view(out, shape=())


_REDUCTIONS = ("sum", "prod", "mean", "amax", "amin")


@public(inplace=True)
def scatter_reduce(
    input: Tensor, dim: int, index: Tensor, src: Tensor, reduce: str, *, include_self: bool = True
) -> Tensor:
    """input with src combined into it where index says: "sum", "prod", "mean", "amax" or "amin".

    Without include_self, input counts only where nothing falls. input: (*S), index, src: (*I) -> (*S).
    """
    if reduce not in _REDUCTIONS:
        raise RuntimeError(f"reduce argument must be either sum, prod, mean, amax or amin, got {reduce}")
    axis = _along("scatter_reduce", input, dim, index, _tensor(src, "scatter_reduce", "src"))
    _same_dtype("scatter_reduce(): Expected self.dtype to be equal to src.dtype", input, src)
    index = _flat(index)
    out = scatter_op.scatter_reduce(
        _flat(input), index, _fit(_flat(src), index), axis=axis, reduce=reduce, include_self=include_self
    )
    return out if input.array.ndim else shape_op.view(out, shape=())


# ---- by a vector of indices ------------------------------------------------------------------------------------------


@public
def index_select(input: Tensor, dim: int, index: Tensor) -> Tensor:
    """The slices along dim that index names. input: (*S), index: (N,) or () -> (S with N at dim)."""
    axis = dim_of(int_of(dim, "index_select", "dim"), input.array.ndim)
    if not _is_index(_tensor(index, "index_select", "index")):
        raise RuntimeError("index_select(): Expected dtype int32 or int64 for index")
    if index.array.ndim > 1:
        raise IndexError("index_select(): Index is supposed to be a vector")
    out = op.index_select(_flat(input), _flat(index), axis=axis)
    return out if input.array.ndim else shape_op.view(out, shape=())


def _vector(
    name: str, index: Tensor, input: Tensor, dim: int, kinds: Any, error: type[Exception], text: str
) -> tuple[int, Tensor]:
    """(axis, index as a vector), checked."""
    axis = dim_of(int_of(dim, name, "dim"), input.array.ndim)
    if not _is_index(_tensor(index, name, "index"), kinds):
        raise error(text.format(index.dtype.legacy))
    if index.array.ndim > 1:
        raise IndexError(
            f"{name}_(): Index is supposed to be a vector, but got dim: {index.array.ndim} with type: "
            f"{index.dtype.legacy} and size: {list(index.array.shape)}"
        )
    return axis, _flat(index)


@writer
def index_add(
    input: Tensor, dim: int, index: Tensor, source: Tensor, *, alpha: Any = 1, _inplace: bool = False
) -> Tensor:
    """input with alpha * source[i] added to slice index[i] along dim. input: (*S), index: (N,), source -> (*S)."""
    text = "index_add_(): Expected dtype int32/int64 for index but got: {}"
    axis, index = _vector("index_add", index, input, dim, _INDEX_CHARS, RuntimeError, text)
    x, src = _flat(input), _flat(_tensor(source, "index_add", "source"))
    _same_dtype("index_add_(): self ({a}) and source ({b}) must have the same scalar type", x, src)
    have, want = list(src.array.shape), list(x.array.shape)
    if have[axis : axis + 1] != [len(index.array)]:
        raise RuntimeError(
            f"index_add_(): Number of indices ({len(index.array)}) should be equal to source.size(dim): "
            f"({have[axis] if axis < len(have) else 0}), for dim: {axis}"
        )
    if have[:axis] + have[axis + 1 :] != want[:axis] + want[axis + 1 :] or source.array.ndim > input.array.ndim:
        raise RuntimeError(
            "source tensor shape must match self tensor shape, excluding the specified dimension. Got self.shape = "
            f"{list(input.array.shape)} source.shape = {have}"
        )
    out = op.index_add(x, index, src if alpha == 1 else src * alpha, axis=axis, inplace=_inplace)
    return out if input.array.ndim else shape_op.view(out, shape=())


@writer
def index_copy(input: Tensor, dim: int, index: Tensor, source: Tensor, *, _inplace: bool = False) -> Tensor:
    """input with source[i] as slice index[i] along dim. input: (*S), index: (N,), source: (S with N) -> (*S)."""
    text = "index_copy_(): Expected a long tensor for index, but got {}"
    axis, index = _vector("index_copy", index, input, dim, _LONG, RuntimeError, text)
    x, src = _flat(input), _flat(_tensor(source, "index_copy", "source"))
    text = "index_copy_(): self and source expected to have the same dtype, but got (self) {a} and (source) {b}"
    _same_dtype(text, x, src)
    have, want = list(src.array.shape), list(x.array.shape)
    if have[:axis] + have[axis + 1 :] != want[:axis] + want[axis + 1 :]:
        raise RuntimeError(
            "index_copy_(): Source/destination tensor must have same slice shapes. Destination slice shape: "
            f"{' '.join(map(str, want[:axis] + want[axis + 1 :]))} at dimension {axis} and source slice shape: "
            f"{' '.join(map(str, have[:axis] + have[axis + 1 :]))} at dimension {axis}."
        )
    if have[axis] != len(index.array):
        raise IndexError(
            f"index_copy_(): Number of indices ({len(index.array)}) should be equal to source.size(dim) ({have[axis]})"
        )
    out = op.index_copy(x, index, src, axis=axis, inplace=_inplace)
    return out if input.array.ndim else shape_op.view(out, shape=())


@writer
def index_fill(input: Tensor, dim: int, index: Tensor, value: Any, *, _inplace: bool = False) -> Tensor:
    """input with one value (a number or 0-d tensor) in the slices along dim that index names. input: (*S) -> (*S)."""
    text = "index_fill_(): Expected dtype int64 for index."
    axis, index = _vector("index_fill", index, input, dim, _LONG, IndexError, text)
    x = _flat(input)
    if isinstance(value, Tensor):
        _zero_dim("index_fill_", value)
        out = op.index_fill_tensor(x, index, to_dtype(value, input.dtype), axis=axis, inplace=_inplace)
    else:
        out = op.index_fill(x, index, axis=axis, value=number_for(value, input), inplace=_inplace)
    return out if input.array.ndim else shape_op.view(out, shape=())


def _zero_dim(name: str, value: Tensor) -> None:
    if value.array.ndim:
        raise RuntimeError(
            f"{name} only supports a 0-dimensional value tensor, but got tensor with {value.array.ndim} dimension(s)."
        )


@public(inplace=True)
def index_reduce(
    input: Tensor, dim: int, index: Tensor, source: Tensor, reduce: str, *, include_self: bool = True
) -> Tensor:
    """scatter_reduce with whole slices: source[i] combined into slice index[i] along dim. input: (*S) -> (*S)."""
    if reduce not in ("prod", "mean", "amax", "amin"):
        raise RuntimeError(f"reduce argument must be either prod, mean, amax or amin, got {reduce}.")
    text = "index_reduce(): Expected dtype int32/int64 for index but got: {}"
    axis, index = _vector("index_reduce", index, input, dim, _INDEX_CHARS, RuntimeError, text)
    shape = tuple([len(index.array) if d == axis else 1 for d in range(source.array.ndim)])
    wide = expanded(_reshaped(index, shape), source.array.shape)
    return scatter_reduce(input, axis, wide, source, reduce, include_self=include_self)


@writer
def index_put(
    input: Tensor, indices: Any, values: Tensor, accumulate: bool = False, *, _inplace: bool = False
) -> Tensor:
    """input with input[indices] = values, or += with accumulate. input: (*S), values: broadcast -> (*S)."""
    if not isinstance(indices, (tuple, list)):
        raise TypeError(
            f"index_put(): argument 'indices' (position 1) must be tuple of Tensors, not {type(indices).__name__}"
        )
    for i, index in enumerate(indices):
        if not isinstance(index, Tensor):
            raise TypeError(f"expected Tensor as element {i} in argument 0, but got {type(index).__name__}")
    _same_dtype(
        "Index put requires the source and destination dtypes match, got {a} for the destination and {b} for the "
        "source.", input, _tensor(values, "index_put", "values"),
    )  # fmt: skip
    _, _, places, arrays, _ = read(input, tuple([_flat(i) if i.array.dtype != "?" else i for i in indices]))
    values = unled(values, input.array.ndim - len(arrays) + max([a.ndim for a in arrays]))
    indexed = [wrap(a) for a in arrays]
    return op.index_put(input, values, *indexed, places=places, accumulate=accumulate, inplace=_inplace)


@public
def take(input: Tensor, index: Tensor) -> Tensor:
    """Elements by their row-major number. input: (*S), index: (*I) -> (*I)."""
    if not _is_index(_tensor(index, "take", "index"), _LONG):
        raise RuntimeError(f"take(): Expected a long tensor for index, but got {index.dtype.legacy}")
    return op.take(input, index)


@writer
def put(input: Tensor, index: Tensor, source: Tensor, accumulate: bool = False, *, _inplace: bool = False) -> Tensor:
    """input with source at row-major numbers, or added there. input: (*S), index, source: (*I) -> (*S)."""
    if not _is_index(_tensor(index, "put", "index"), _LONG):
        raise RuntimeError(f"put_(): Expected a long tensor for index, but got {index.dtype.legacy}")
    n, m = _tensor(source, "put", "source").array.size, index.array.size
    if n != m:
        raise IndexError(
            "put_(): Expected source and index to have the same number of elements, but got "
            f"source.numel() = {n}, index.numel() = {m}"
        )
    _same_dtype(
        "put_(): self and source expected to have the same dtype, but got self.dtype = {a} and source.dtype = {b}",
        input, source,
    )  # fmt: skip
    flat, src = _reshaped(index, (n,)), _reshaped(source, (n,))
    return op.put(input, flat, src, accumulate=accumulate, inplace=_inplace)
