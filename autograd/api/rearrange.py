"""Elements repeated, reordered, masked by their place, laid out in grids and padded, with PyTorch's arguments."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np

from ...backends.registry import backend_of
from ..coerce import broadcast_text
from ..dtypes import as_dtype, int64
from ..ops import core
from ..ops import index as index_op
from ..ops import shape as op
from ..size import Size
from ..tensor import Tensor
from .args import axes_of, dim_of, int_of, number_for, sizes_of, tensor_beside, tensors_of, to_dtype
from .creation import finish
from .join import stack
from .shape import _plane, _reshaped, expanded
from .table import public

# ---- repeated --------------------------------------------------------------------------------------------------------


@public(is_function=False)
def repeat(self: Tensor, *times: Any, repeats: Any = None) -> Tensor:
    """Copies end to end: repeats[i] times along dimension i, new dimensions in front. (*S) -> (repeats[i] * S[i])."""
    reps = sizes_of(times, "repeat", "repeats", repeats)
    shape = self.array.shape
    if len(reps) < len(shape):
        raise RuntimeError("Number of dimensions of repeat dims can not be smaller than number of dimensions of tensor")
    shape = (1,) * (len(reps) - len(shape)) + shape
    if any(r < 0 for r in reps):
        sizes = [r * n for r, n in zip(reps, shape, strict=True)]
        raise RuntimeError(f"Trying to create tensor with negative dimension {min(sizes)}: {sizes}")
    return op.repeat(_reshaped(self, shape) if len(shape) != self.array.ndim else self, reps=reps)


@public
def tile(input: Tensor, *times: Any, dims: Any = None) -> Tensor:
    """NumPy's tile: as repeat, but missing repeats are 1. input: (*S) -> (dims[i] * S[i])."""
    reps = sizes_of(times, "tile", "dims", dims)
    return repeat(input, (1,) * (input.array.ndim - len(reps)) + reps)


@public
def repeat_interleave(input: Tensor, repeats: Any = None, dim: Any = None, *, output_size: int | None = None) -> Tensor:
    """Each slice along dim repeated in place, `repeats` times or repeats[i] times; of all elements where dim is None.

    With one argument: i repeated input[i] times for each i. input: (*S) -> (S, sum of repeats at dim).
    """
    if repeats is None:
        return _repeated(input, input.array, len(input.array))
    if dim is None:
        input, dim = _reshaped(input, (input.array.size,)), 0
    axis = dim_of(dim, input.array.ndim)
    shape = input.array.shape
    if isinstance(repeats, Tensor) and repeats.array.size != 1:
        if len(repeats.array) != shape[axis]:
            raise RuntimeError(
                f"repeats must have the same size as input along dim, but got repeats.size(0) = {len(repeats.array)} "
                f"and input.size({axis}) = {shape[axis]}"
            )
        return index_op.index_select(input, _repeated(input, repeats.array, shape[axis]), axis=axis)
    times = int(repeats.item()) if isinstance(repeats, Tensor) else int_of(repeats, "repeat_interleave", "repeats")
    if times < 0:
        raise RuntimeError("Repeats must be non-negative")
    wide = expanded(op.unsqueeze(input, axis=axis + 1), (*shape[: axis + 1], times, *shape[axis + 1 :]))
    return op.reshape(wide, shape=(*shape[:axis], shape[axis] * times, *shape[axis + 1 :]))


def _repeated(input: Tensor, repeats: Any, n: int) -> Tensor:
    if repeats.dtype.kind not in "iu":
        raise RuntimeError("repeats has to be Long or Int tensor")
    if repeats.size and int(repeats.min()) < 0:
        raise RuntimeError("repeats can not be negative")
    xp = backend_of(input.array).xp
    return tensor_beside(input, xp.repeat(xp.arange(n), repeats))


# ---- reordered -------------------------------------------------------------------------------------------------------


@public
def flip(input: Tensor, *axes: Any, dims: Any = None) -> Tensor:
    """The order along dims reversed, a copy. input: (*S) -> (*S)."""
    dims = sizes_of(axes, "flip", "dims", dims)
    return op.flip(input, axes=axes_of(input, dims) if dims else ())


@public
def fliplr(input: Tensor) -> Tensor:
    """The order along dimension 1 reversed. input: (N, M, *S) -> the same."""
    if input.array.ndim < 2:
        raise RuntimeError("Input must be >= 2-d.")
    return op.flip(input, axes=(1,))


@public
def flipud(input: Tensor) -> Tensor:
    """The order along dimension 0 reversed. input: (N, *S) -> the same."""
    if input.array.ndim < 1:
        raise RuntimeError("Input must be >= 1-d.")
    return op.flip(input, axes=(0,))


@public
def roll(input: Tensor, shifts: Any, dims: Any = None) -> Tensor:
    """Moved by shifts[i] places along dims[i], around the end; of the flattened tensor without dims. (*S) -> (*S)."""
    shifts = sizes_of((shifts,), "roll", "shifts")
    if not shifts:
        raise RuntimeError("`shifts` required")
    if dims is None or dims == ():
        if len(shifts) != 1:
            raise RuntimeError(f"shifts and dimensions must align. shifts: {len(shifts)}, dims:0")
        n = input.array.size
        return _reshaped(op.roll(_reshaped(input, (n,)), shifts=shifts, axes=(0,)), input.array.shape)
    dims = sizes_of((dims,), "roll", "dims")
    if len(shifts) != len(dims):
        raise RuntimeError(f"shifts and dimensions must align. shifts: {len(shifts)}, dims:{len(dims)}")
    if not input.array.ndim:
        raise IndexError(f"Dimension specified as {dims[0]} but tensor has no dimensions")
    return op.roll(input, shifts=shifts, axes=tuple([dim_of(d, input.array.ndim) for d in dims]))


@public
def rot90(input: Tensor, k: int = 1, dims: Any = (0, 1)) -> Tensor:
    """Rotated k quarter turns in the plane of two dimensions. input: (*S)."""
    if len(dims) != 2:
        raise RuntimeError(f"expected total rotation dims == 2, but got dims = {len(dims)}")
    if input.array.ndim < 2:
        raise RuntimeError(f"expected total dims >= 2, but got total dims = {input.array.ndim}")
    axes = tuple([dim_of(d, input.array.ndim) for d in dims])
    if axes[0] == axes[1]:
        raise RuntimeError(f"expected rotation dims to be different, but got dim0 = {dims[0]} and dim1 = {dims[1]}")
    return op.rot90(input, k=k % 4, axes=axes)


# ---- triangles and diagonals -----------------------------------------------------------------------------------------


@public(inplace=True)
def tril(input: Tensor, diagonal: int = 0) -> Tensor:
    """The lower triangle of matrices, zeros elsewhere. input: (*B, N, M) -> (*B, N, M)."""
    if input.array.ndim < 2:
        raise RuntimeError("tril: input tensor must have at least 2 dimensions")
    return op.tril(input, k=diagonal)


@public(inplace=True)
def triu(input: Tensor, diagonal: int = 0) -> Tensor:
    """The upper triangle of matrices, zeros elsewhere. input: (*B, N, M) -> (*B, N, M)."""
    if input.array.ndim < 2:
        raise RuntimeError("triu: input tensor must have at least 2 dimensions")
    return op.triu(input, k=diagonal)


def _triangle(name: str, places: Any) -> None:
    def function(row: int, col: int, offset: int = 0, *, dtype: Any = None, device: Any = None, **_: Any) -> Tensor:
        for word, n in (("row", row), ("col", col)):
            if n < 0:
                raise RuntimeError(f"{word} must be non-negative, got{n}")
        kind = int64 if dtype is None else as_dtype(dtype)
        return finish(np.stack(places(row, offset, col)).astype(kind.np), device)

    function.__name__ = function.__qualname__ = name
    function.__doc__ = f"The rows and columns of the elements that {name[:4]} keeps. -> (2, N)."
    public(function, method=False)


_triangle("tril_indices", np.tril_indices)
_triangle("triu_indices", np.triu_indices)


@public
def diag(input: Tensor, diagonal: int = 0) -> Tensor:
    """The matrix with this diagonal, or a copy of this matrix's. input: (N,) -> (N, N), or (N, M) -> (n,)."""
    a = input.array
    if a.ndim == 1:
        n = a.shape[0] + abs(diagonal)
        return op.diag_embed(input, shape=(n, n), offset=diagonal, axis1=0, axis2=1)
    if a.ndim != 2:
        raise RuntimeError(f"diag(): Supports 1D or 2D tensors. Got {a.ndim}D")
    return core.clone(op.diagonal(input, offset=diagonal, axis1=0, axis2=1))


@public
def diag_embed(input: Tensor, offset: int = 0, dim1: int = -2, dim2: int = -1) -> Tensor:
    """Matrices of zeros with input's last dimension on a diagonal. input: (*S, n) -> (*S with dim1 and dim2)."""
    axis1, axis2 = _plane(input, dim1, dim2, extra=1)
    n = input.array.shape[-1] + abs(offset)
    shape = list(input.array.shape[:-1])
    for axis in sorted((axis1, axis2)):
        shape.insert(axis, n)
    return op.diag_embed(input, shape=tuple(shape), offset=offset, axis1=axis1, axis2=axis2)


@public
def diagflat(input: Tensor, offset: int = 0) -> Tensor:
    """The matrix with all elements on a diagonal. input: (*S) -> (n, n)."""
    return diag(_reshaped(input, (input.array.size,)), offset)


# ---- grids -----------------------------------------------------------------------------------------------------------


def _given(tensors: tuple[Any, ...], name: str) -> tuple[Tensor, ...]:
    """The tensors that were given one by one, or as one list."""
    return tensors_of(tensors[0] if len(tensors) == 1 and not isinstance(tensors[0], Tensor) else tensors, name, Tensor)


@public(method=False)
def broadcast_tensors(*tensors: Any) -> Any:
    """The tensors stretched to their common shape, without copies. (*S), (*T), ... -> tuple of (*U)."""
    many = _given(tensors, "broadcast_tensors")
    shapes = [t.array.shape for t in many]
    text = broadcast_text(shapes) if len(shapes) == 2 else None
    if text:
        raise RuntimeError(text)
    shape = broadcast_shapes(*shapes)
    return tuple(expanded(t, tuple(shape)) for t in many)


@public(is_function=False)
def sum_to_size(self: Tensor, *sizes: Any, size: Any = None) -> Tensor:
    """Summed over the dimensions that broadcasting `size` to this shape would add or stretch. (*S) -> (*size)."""
    target, have = sizes_of(sizes, "sum_to_size", "size", size), self.array.shape
    lead = len(have) - len(target)
    if lead < 0 or any(n not in (1, m) for n, m in zip(target, have[lead:], strict=True)):
        raise RuntimeError(f"size {{{list(target)}}} is not expandable to size {{{list(have)}}}.")
    if target == have and target:
        return self
    return core.sum_to(to_dtype(self, int64) if self.array.dtype.kind in "biu" else self, shape=target)


@public(method=False)
def constant_pad_nd(input: Tensor, pad: Any, value: Any = 0) -> Tensor:
    """input with (before, after) elements of one value at the ends of the last dimension, then of the one before, ...

    input: (*S), pad: 2 ints for each dimension, negative ones cut off -> (S[i] + before + after ...).
    """
    pad, shape = sizes_of((pad,), "constant_pad_nd", "pad"), input.array.shape
    if len(pad) % 2:
        raise RuntimeError(f"Length of pad must be even but instead it equals {len(pad)}")
    if len(pad) > 2 * len(shape):
        raise RuntimeError(
            "Length of pad should be no more than twice the number of dimensions of the input. Pad length is "
            f"{len(pad)}while the input has {len(shape)}dimensions."
        )
    pairs = list(zip(pad[::2], pad[1::2], strict=True))[::-1]
    widths = ((0, 0),) * (len(shape) - len(pairs)) + tuple(pairs)
    for i, (n, (a, b)) in enumerate(zip(shape, widths, strict=True)):
        if n + min(a, 0) < 0 or n + min(a, 0) + min(b, 0) < 0:
            raise RuntimeError("narrow(): length must be non-negative.")
        if n + a + b < 0:
            raise RuntimeError(
                f"The input size {n}, plus negative padding {a} and {b} resulted in a negative output size, which is "
                f"invalid. Check dimension {i} of your input."
            )
    return op.pad_constant(input, widths=widths, value=number_for(value, input))


@public(method=False)
def broadcast_shapes(*shapes: Any) -> Size:
    """The shape to which shapes (tuples or ints) broadcast. RuntimeError where they do not."""
    found: list[int] = []
    for i, given in enumerate(shapes):
        shape = (given,) if isinstance(given, int) else tuple(given)
        found = [1] * (len(shape) - len(found)) + found
        for j in range(-1, -1 - len(shape), -1):
            if shape[j] < 0:
                raise RuntimeError(f"Trying to create tensor with negative dimension ({shape[j]}): ({shape[j]})")
            if shape[j] == 1 or shape[j] == found[j]:
                continue
            if found[j] != 1:
                raise RuntimeError(
                    f"Attempting to broadcast a dimension of length {shape[j]} at {j}! Mismatching argument at index "
                    f"{i} had {shape}; but expected shape should be broadcastable to {found}"
                )
            found[j] = shape[j]
    return Size(found)


@public(method=False)
def meshgrid(*tensors: Any, indexing: str | None = None) -> Any:
    """Grids of coordinates: view i is tensors[i] along dimension i. tensors: (N_i,) -> tuple of (N_0, N_1, ...).

    indexing: "ij" (the default), or "xy", which exchanges the first two dimensions.
    """
    many = _given(tensors, "meshgrid")
    if not many:
        raise RuntimeError("meshgrid expects a non-empty TensorList")
    for t in many:
        if t.array.ndim > 1:
            raise RuntimeError(
                f"torch.meshgrid: Expected 0D or 1D tensor in the tensor list but got: {list(t.array.shape)}"
            )
        if t.array.dtype != many[0].array.dtype:
            raise RuntimeError("meshgrid expects all tensors to have the same dtype")
    if indexing not in (None, "ij", "xy"):
        raise RuntimeError(f'torch.meshgrid: indexing must be one of "xy" or "ij", but received: {indexing}')
    swap = indexing == "xy" and len(many) > 1
    if swap:
        many = (many[1], many[0], *many[2:])
    shape = tuple([t.array.size for t in many])
    grids = []
    for i, t in enumerate(many):
        row = op.view(t, shape=tuple([n if i == j else 1 for j, n in enumerate(shape)]))
        grids.append(expanded(row, shape))
    return (grids[1], grids[0], *grids[2:]) if swap else tuple(grids)


def _vector(t: Tensor) -> Tensor:
    if t.array.ndim != 1:
        raise RuntimeError(f"Expect a 1D vector, but got shape {list(t.array.shape)}")
    return t


@public(method=False)
def cartesian_prod(*tensors: Any) -> Tensor:
    """All combinations of one element of each vector. tensors: (N_i,) -> (prod N_i, len(tensors))."""
    many = [_vector(t) for t in tensors_of(tensors, "cartesian_prod", Tensor)]
    if len(many) == 1:
        return many[0]
    grids = meshgrid(*many, indexing="ij")
    return stack([_reshaped(grid, (grid.array.size,)) for grid in grids], dim=1)


@public
def combinations(input: Tensor, r: int = 2, with_replacement: bool = False) -> Tensor:
    """The combinations of r elements of a vector. input: (N,) -> (count, r)."""
    if r < 0:
        raise RuntimeError(f"Expect a non-negative number, but got {r}")
    n = len(_vector(input).array)
    if r == 0:
        return tensor_beside(input, backend_of(input.array).xp.zeros((0,), input.array.dtype))
    choose = itertools.combinations_with_replacement if with_replacement else itertools.combinations
    places = np.array(list(choose(range(n), r)), np.int64).reshape(-1, r)
    return index_op.index(input, finish(places, input.device), places=(0,))
