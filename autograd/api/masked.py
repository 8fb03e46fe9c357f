"""Masks and conditions, parts replaced out of place, and places found by value, with PyTorch's arguments."""

from __future__ import annotations

from typing import Any

import numpy as np

from ...backends.registry import backend_of
from ..coerce import broadcast_text
from ..ops import core
from ..ops import index as op
from ..ops import shape as shape_op
from ..tensor import Tensor, wrap
from .args import dim_of, int_of, number_for, sizes_of, tensor_beside, to_dtype
from .convert import fill_, result_type
from .scatter import _same_dtype, _tensor, _zero_dim, writer
from .shape import _plane, as_strided, expanded, strided_part
from .table import public


def _mask(mask: Any, name: str, text: str) -> Tensor:
    if _tensor(mask, name, "mask").array.dtype != "?":
        raise RuntimeError(text.format(mask.dtype.legacy))
    return mask


def _word(mask: Any) -> str:
    return mask.dtype.legacy.lower() if isinstance(mask, Tensor) else ""


def _common(input: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Both in their common shape, stretched without copies."""
    a, m = input.array.shape, mask.array.shape
    if a == m:
        return input, mask
    text = broadcast_text([m, a])
    if text:
        raise RuntimeError(text)
    shape = np.broadcast_shapes(a, m)
    return input if a == shape else expanded(input, shape), mask if m == shape else expanded(mask, shape)


@writer
def masked_fill(input: Tensor, mask: Tensor, value: Any, *, _inplace: bool = False) -> Tensor:
    """input with one value (a number or 0-d tensor) where mask is True. input, mask: broadcast -> (*S)."""
    _mask(mask, "masked_fill", f"masked_fill_ only supports boolean masks, but got mask with dtype {_word(mask)}")
    x, wide = _common(input, mask)
    into = _inplace and x is input
    if not isinstance(value, Tensor):
        return op.masked_fill(x, mask if x is input else wide, value=number_for(value, input), inplace=into)
    _zero_dim("masked_fill_", value)
    if value.array.dtype.kind == "c" and input.array.dtype.kind != "c":
        number_for(value, input)  # RuntimeError
    return op.masked_fill_tensor(x, wide, to_dtype(value, input.dtype), inplace=into)


@writer
def masked_scatter(input: Tensor, mask: Tensor, source: Tensor, *, _inplace: bool = False) -> Tensor:
    """input with the first elements of source, in order, where mask is True. input, mask: (*S), source: (*T)."""
    _mask(mask, "masked_scatter", "masked_scatter_ only supports boolean masks, but got mask with dtype {}")
    text = "masked_scatter: expected self and source to have same dtypes but got{a} and {b}"
    _same_dtype(text, input, _tensor(source, "masked_scatter", "source"))
    x, wide = _common(input, mask)
    return op.masked_scatter(x, wide, source, inplace=_inplace and x is input)


@public
def masked_select(input: Tensor, mask: Tensor) -> Tensor:
    """The elements where mask is True, in row-major order. input: (*S), mask: broadcasts with it -> (N,)."""
    _mask(mask, "masked_select", "masked_select: expected BoolTensor for mask")
    return op.masked_select(*_common(input, mask))


@public
def nonzero(input: Tensor, *, as_tuple: bool = False) -> Any:
    """The places of the elements that are not 0: (N, ndim) int64, or a tuple of one (N,) per dimension."""
    if not as_tuple:
        return op.nonzero(input)
    places = op.nonzero(input if input.array.ndim else shape_op.view(input, shape=(1,))).array
    return tuple(tensor_beside(input, column.copy()) for column in places.T)


@public
def nonzero_static(input: Tensor, *, size: int, fill_value: int = -1) -> Tensor:
    """The first `size` places of elements that are not 0, then rows of fill_value. (*S) -> (size, ndim) int64."""
    if size < 0:
        raise RuntimeError("nonzero_static: 'size' must be an non-negative integer")
    found = op.nonzero(input).array[:size]
    out = backend_of(found).xp.full((size, input.array.ndim), fill_value, found.dtype)
    out[: len(found)] = found
    return tensor_beside(input, out)


@public(method=False)
def isin(elements: Any, test_elements: Any, *, assume_unique: bool = False, invert: bool = False) -> Tensor:
    """Whether each element is (invert: is not) one of test_elements. (*S), (*T), either a number at most -> (*S) bool.

    assume_unique: a hint that is not needed here.
    """
    like = elements if isinstance(elements, Tensor) else test_elements
    if not isinstance(like, Tensor):
        raise TypeError(
            "isin() received an invalid combination of arguments - got "
            f"({type(elements).__name__}, {type(test_elements).__name__}), but expected a Tensor"
        )
    kind = result_type(elements, test_elements)
    if kind.np.kind in "bc":
        raise RuntimeError(f"Unsupported input type encountered for isin(): {kind.legacy}")
    a, b = (
        to_dtype(v, kind) if isinstance(v, Tensor) else like.new_tensor(v, dtype=kind)
        for v in (elements, test_elements)
    )
    return tensor_beside(like, backend_of(like.array).xp.isin(a.array, b.array, invert=invert))


@public
def argwhere(input: Tensor) -> Tensor:
    """The places of the elements that are not 0. input: (*S) -> (N, ndim) int64."""
    return op.nonzero(input)


# ---- parts replaced --------------------------------------------------------------------------------------------------


def _replaced(made: Any, input: Tensor, src: Tensor, part: tuple[int, ...], step: tuple[str, dict[str, Any]]) -> Tensor:
    """`input` with the view that `step` takes of it, which has the shape `part`, replaced by src."""
    have = _tensor(src, made.__name__, "src").array.shape
    if part != have:
        raise RuntimeError(
            f"expected src to have a size equal to the slice of self. src size = {list(have)}, "
            f"slice size = {list(part)}"
        )
    return made(input, to_dtype(src, input.dtype), chain=(step,))


@public
def select_scatter(input: Tensor, src: Tensor, dim: int, index: int) -> Tensor:
    """A copy of input in which the slice at index along dim is src. input: (*S), src: (S without dim) -> (*S)."""
    shape = input.array.shape
    axis, i = dim_of(dim, len(shape)), int_of(index, "select_scatter", "index")
    n = shape[axis]
    if not -n <= i < n:
        raise IndexError(f"select(): index {i} out of range for tensor of size {list(shape)} at dimension {axis}")
    step = ("select", {"axis": axis, "index": i % n})
    return _replaced(shape_op.select_scatter, input, src, shape[:axis] + shape[axis + 1 :], step)


@public
def slice_scatter(
    input: Tensor, src: Tensor, dim: int = 0, start: int | None = None, end: int | None = None, step: int = 1
) -> Tensor:
    """A copy of input in which start:end:step along dim is src. input: (*S), src: (S with n at dim) -> (*S)."""
    shape = input.array.shape
    axis = dim_of(dim, len(shape))
    if step <= 0:
        raise RuntimeError("slice step must be positive")
    first, last, _ = slice(start, end).indices(shape[axis])
    places = range(first, max(first, last), step)
    index = (*(slice(None),) * axis, slice(first, max(first, last), step), Ellipsis)
    part = (*shape[:axis], len(places), *shape[axis + 1 :])
    return _replaced(shape_op.slice_scatter, input, src, part, ("slice_view", {"index": index}))


@public
def diagonal_scatter(input: Tensor, src: Tensor, offset: int = 0, dim1: int = 0, dim2: int = 1) -> Tensor:
    """A copy of input in which a diagonal is src. input: (*S), src: (S without dim1 and dim2, n) -> (*S)."""
    axis1, axis2 = _plane(input, dim1, dim2)
    kw = {"offset": offset, "axis1": axis1, "axis2": axis2}
    part = input.array.diagonal(offset, axis1, axis2).shape
    return _replaced(shape_op.diagonal_scatter, input, src, part, ("diagonal", kw))


@public
def as_strided_scatter(
    input: Tensor, src: Tensor, size: Any, stride: Any, storage_offset: int | None = None
) -> Tensor:
    """A copy of input in which what as_strided shows is src. input: (*S), src: (*size) -> (*S)."""
    _, kw = strided_part(input, size, stride, storage_offset, move=False)
    return _replaced(shape_op.as_strided_scatter, input, src, kw["size"], ("as_strided", kw))


@public(name="fill_diagonal_", is_function=False)
def fill_diagonal_(self: Tensor, fill_value: Any, wrap: bool = False) -> Tensor:
    """Writes one number on the main diagonal; `wrap`: again below it where a matrix has more rows. (*S) -> (*S)."""
    a = self.array
    if a.ndim < 2:
        raise RuntimeError("dimensions must larger than 1")
    if a.ndim > 2 and len(set(a.shape)) > 1:
        raise RuntimeError("all dimensions of input must be of equal length")
    stride = self.stride()
    count = min(a.shape)
    if wrap and a.ndim == 2 and a.shape[0] > a.shape[1] + 1:
        count = -(-a.shape[0] * a.shape[1] // (a.shape[1] + 1))
    fill_(as_strided(self, (count,), (sum(stride),)), fill_value)
    return self


# ---- places by value -------------------------------------------------------------------------------------------------


def one_hot(tensor: Tensor, num_classes: int = -1) -> Tensor:
    """torch.nn.functional.one_hot: 1 at each class number. tensor: (*S) int64 -> (*S, num_classes) int64.

    num_classes: by default one more than the largest class.
    """
    a = _tensor(tensor, "one_hot", "self").array
    if a.dtype != "i8":
        raise RuntimeError("one_hot is only applicable to index tensor of type LongTensor.")
    if not a.size:
        if num_classes <= 0:
            raise RuntimeError("Can not infer total number of classes from empty tensor.")
    elif num_classes == -1 or op.on_host(backend_of(a).xp):  # else the op has them checked where they are
        if int(a.min()) < 0:
            raise RuntimeError("Class values must be non-negative.")
        largest = int(a.max())
        if num_classes == -1:
            num_classes = largest + 1
        elif largest >= num_classes:
            raise RuntimeError("Class values must be smaller than num_classes.")
    return op.one_hot(tensor, classes=num_classes)


def _searched(edges: Tensor, input: Any, right: bool, out_int32: bool) -> Tensor:
    if not isinstance(input, Tensor):
        backend = backend_of(edges.array)
        input = wrap(backend.asarray(np.asarray(input), device=backend.device_of(edges.array)))
    found = op.searchsorted(edges, input, right=right)
    return core.cast(found, dtype=np.dtype(np.int32)) if out_int32 else found


@public(method=False)
def searchsorted(
    sorted_sequence: Tensor, input: Any, *, out_int32: bool = False, right: bool = False, side: str | None = None,
    sorter: Tensor | None = None,
) -> Tensor:  # fmt: skip
    """Where each value would be inserted into its sorted row, before (right: after) equal ones.

    sorted_sequence: (*B, N), or (N,) for all; input: (*B, M), or any shape, or a number -> int64 of input's shape.
    sorter: (*B, N), the places that sort an unsorted sequence.
    """
    if side not in (None, "left", "right"):
        raise RuntimeError(f"torch.searchsorted(): side can only be 'left' or 'right' but got {side}")
    if side == "left" and right:
        raise RuntimeError(
            f"torch.searchsorted(): side and right can't be set to opposites, got side of {side} while right was True"
        )
    edges, shape = sorted_sequence, sorted_sequence.array.shape
    if isinstance(input, Tensor) and len(shape) != 1 and input.array.shape[:-1] != shape[:-1]:
        raise RuntimeError(
            "torch.searchsorted(): boundaries tensor should be 1 dimension or the first N-1 dimensions of boundaries "
            f"tensor and input value tensor must match, but we got boundaries tensor {list(shape)} and input value "
            f"tensor {list(input.array.shape)}"
        )
    if sorter is not None:
        if sorter.array.shape != shape:
            raise RuntimeError(
                "torch.searchsorted(): boundary and sorter must have the same size, but got boundary tensor "
                f"{list(shape)}and got sorter tensor {list(sorter.array.shape)}"
            )
        edges = tensor_beside(edges, backend_of(edges.array).xp.take_along_axis(edges.array, sorter.array, -1))
    return _searched(edges, input, right or side == "right", out_int32)


@public(method=False, numbers=True)
def bucketize(input: Any, boundaries: Tensor, *, out_int32: bool = False, right: bool = False) -> Tensor:
    """The number of the bucket between sorted boundaries that each value falls into. input: (*S) -> (*S) int64."""
    if boundaries.array.ndim != 1:
        raise RuntimeError(f"boundaries tensor must be 1 dimension, but got dim({boundaries.array.ndim})")
    return _searched(boundaries, input, right, out_int32)


@public(method=False)
def unravel_index(indices: Tensor, shape: Any) -> Any:
    """Row-major numbers as one index per dimension of a shape. indices: (*I) int -> tuple of (*I)."""
    shape = sizes_of((shape,), "unravel_index", "shape")
    places = backend_of(indices.array).xp.unravel_index(indices.array, shape)
    return tuple(tensor_beside(indices, p) for p in places)
