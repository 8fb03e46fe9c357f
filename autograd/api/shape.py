"""Shapes, with PyTorch's arguments: views of the same memory, and what there is to ask about a tensor's layout."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from ...backends.registry import backend_of
from ..dtypes import dtype
from ..inplace import check_writable
from ..op import GRAPH
from ..ops import core
from ..ops import shape as op
from ..size import Size
from ..tensor import Tensor
from ..views import living_views
from .args import axes_of, dim_of, int_of, sizes_of
from .table import public


def inferred(shape: tuple[int, ...], size: int) -> tuple[int, ...]:
    """The shape with its -1 worked out for `size` elements. RuntimeError where that cannot be."""
    if not shape or min(shape) >= 0:
        return shape
    for i, n in enumerate(shape):
        if n < -1:
            raise RuntimeError(f"invalid shape dimension {n} at index {i} of shape {list(shape)}")
    if shape.count(-1) > 1:
        raise RuntimeError("only one dimension can be inferred")
    rest = -math.prod(shape)
    if rest == 0 and size == 0:
        raise RuntimeError(
            f"cannot reshape tensor of 0 elements into shape {list(shape)} because the unspecified dimension size -1 "
            "can be any value and is ambiguous"
        )
    if rest == 0 or size % rest:
        raise RuntimeError(f"shape '{list(shape)}' is invalid for input of size {size}")
    return tuple([size // rest if n < 0 else n for n in shape])


# ---- view and reshape ------------------------------------------------------------------------------------------------


@public(is_function=False)
def view(self: Tensor, *sizes: Any, size: Any = None, dtype: Any = None) -> Tensor:
    """The same memory in another shape (one size may be -1), or read as another dtype. (*S) -> (*size).

    Raises RuntimeError where the strides do not allow it; `reshape` copies then.
    """
    if dtype is not None or (len(sizes) == 1 and isinstance(sizes[0], _DTYPE)):
        return _view_dtype(self, sizes[0] if dtype is None else dtype)
    return op.view(self, shape=inferred(sizes_of(sizes, "view", "size", size), self.array.size))


_DTYPE = dtype


def _view_dtype(input: Tensor, target: dtype) -> Tensor:
    a, new = input.array, target.np
    if a.itemsize != new.itemsize:
        have = input.dtype
        if a.ndim == 0:
            raise RuntimeError(
                f"self.dim() cannot be 0 to view {have.legacy} as {target.legacy} (different element sizes)"
            )
        if a.strides[-1] != a.itemsize and a.shape[-1] != 1 and a.size:
            raise RuntimeError(
                f"self.stride(-1) must be 1 to view {have.legacy} as {target.legacy} (different element sizes), but "
                f"got {a.strides[-1] // a.itemsize}"
            )
        if a.shape[-1] * a.itemsize % new.itemsize:
            raise RuntimeError(
                f"self.size(-1) must be divisible by {new.itemsize // a.itemsize} to view {have.legacy} as "
                f"{target.legacy} (different element sizes), but got {a.shape[-1]}"
            )
    return op.view_dtype(input, dtype=new)


@public(is_function=False)
def view_as(self: Tensor, other: Tensor) -> Tensor:
    """The same memory in other's shape. (*S) -> (*T)."""
    return op.view(self, shape=other.array.shape)


@public
def reshape(input: Tensor, *sizes: Any, shape: Any = None) -> Tensor:
    """input in another shape: a view where its strides allow one, else a copy. input: (*S) -> (*shape)."""
    return _reshaped(input, inferred(sizes_of(sizes, "reshape", "shape", shape), input.array.size))


def _reshaped(input: Tensor, shape: tuple[int, ...]) -> Tensor:
    a = input.array
    if a.flags.c_contiguous or math.prod(shape) != a.size or op.can_view(a.shape, a.strides, shape):
        return op.view(input, shape=shape)
    return op.reshape(input, shape=shape)


@public(is_function=False)
def reshape_as(self: Tensor, other: Tensor) -> Tensor:
    """This tensor in other's shape, copied only where needed. (*S) -> (*T)."""
    return _reshaped(self, other.array.shape)


@public
def flatten(input: Tensor, start_dim: int = 0, end_dim: int = -1) -> Tensor:
    """Dimensions start_dim to end_dim as one. input: (*A, *B, *C) -> (*A, prod(B), *C)."""
    shape = input.array.shape
    start, end = dim_of(start_dim, len(shape)), dim_of(end_dim, len(shape))
    if start > end:
        raise RuntimeError("flatten() has invalid args: start_dim cannot come after end_dim")
    if not shape:
        return op.view(input, shape=(1,))
    if start == end:
        return input
    return _reshaped(input, (*shape[:start], math.prod(shape[start : end + 1]), *shape[end + 1 :]))


@public
def unflatten(input: Tensor, dim: int, sizes: Any) -> Tensor:
    """One dimension as several. input: (*A, n, *C) -> (*A, *sizes, *C)."""
    shape = input.array.shape
    axis, sizes = dim_of(dim, len(shape)), sizes_of((sizes,), "unflatten", "sizes")
    if not sizes:
        raise RuntimeError("unflatten: sizes must be non-empty")
    if -1 not in sizes and math.prod(sizes) != shape[axis]:
        raise RuntimeError(
            f"unflatten: Provided sizes {list(sizes)} don't multiply up to the size of dim {axis} ({shape[axis]}) in "
            "the input tensor"
        )
    return op.view(input, shape=(*shape[:axis], *inferred(sizes, shape[axis]), *shape[axis + 1 :]))


@public
def ravel(input: Tensor) -> Tensor:
    """One dimension of all elements. input: (*S) -> (N,)."""
    return op.view(input if input.array.flags.c_contiguous else core.clone(input), shape=(input.array.size,))


# ---- dimensions reordered --------------------------------------------------------------------------------------------


@public
def permute(input: Tensor, *order: Any, dims: Any = None) -> Tensor:
    """Dimensions in the order of dims, a view. input: (*S) -> (S[dims[0]], S[dims[1]], ...)."""
    dims = sizes_of(order, "permute", "dims", dims)
    ndim = input.array.ndim
    if len(dims) != ndim:
        raise RuntimeError(
            "permute(sparse_coo): number of dimensions in the tensor input does not match the length of the desired "
            f"ordering of dimensions i.e. input.dim() = {ndim} is not equal to len(dims) = {len(dims)}"
        )
    axes = tuple([d if 0 <= d < ndim else dim_of(d, ndim) for d in dims])
    if len(set(axes)) != ndim:
        raise RuntimeError("permute(): duplicate dims are not allowed.")
    return op.permute(input, axes=axes)


@public
def transpose(input: Tensor, dim0: int, dim1: int) -> Tensor:
    """Two dimensions exchanged, a view. input: (*S) -> (S with dim0 and dim1 exchanged)."""
    ndim = input.array.ndim
    axis0, axis1 = dim_of(int_of(dim0, "transpose", "dim0"), ndim), dim_of(int_of(dim1, "transpose", "dim1"), ndim)
    if not ndim:
        return core.alias(input)
    return op.transpose(input, axis0=axis0, axis1=axis1)


@public
def swapaxes(input: Tensor, axis0: int, axis1: int) -> Tensor:
    """NumPy's name of transpose. input: (*S) -> (S with axis0 and axis1 exchanged)."""
    return transpose(input, axis0, axis1)


public(transpose, name="swapdims")


@public
def t(input: Tensor) -> Tensor:
    """The transpose of a matrix; vectors and scalars as they are. input: (N, M) -> (M, N)."""
    if input.array.ndim > 2:
        raise RuntimeError(f"t() expects a tensor with <= 2 dimensions, but self is {input.array.ndim}D")
    return op.t(input)


@public
def movedim(input: Tensor, source: Any, destination: Any) -> Tensor:
    """Dimensions `source` moved to the places `destination`; the others keep their order. A view of input: (*S)."""
    ndim = input.array.ndim
    sources, places = sizes_of((source,), "movedim", "source"), sizes_of((destination,), "movedim", "destination")
    if len(sources) != len(places):
        raise RuntimeError(
            f"movedim: Invalid source or destination dims: source ({list(sources)} dims) should contain the same "
            f"number of dims as destination ({list(places)} dims)"
        )
    from_, to = [dim_of(d, ndim) for d in sources], [dim_of(d, ndim) for d in places]
    for word, dims, given in (("source", from_, sources), ("destination", to, places)):
        if len(set(dims)) != len(dims):
            raise RuntimeError(f"movedim: repeated dim in `{word}` ({list(given)})")
    rest = iter([d for d in range(ndim) if d not in from_])
    order = dict(zip(to, from_, strict=True))
    return op.permute(input, axes=tuple([order[d] if d in order else next(rest) for d in range(ndim)]))


public(movedim, name="moveaxis")


@public
def adjoint(input: Tensor) -> Tensor:
    """The conjugate transpose of matrices. input: (*B, N, M) -> (*B, M, N)."""
    if input.array.ndim < 2:
        raise RuntimeError(
            f"tensor.adjoint() is only supported on matrices or batches of matrices. Got {input.array.ndim}-D tensor."
        )
    out = transpose(input, -2, -1)
    return GRAPH.conj(out) if out.array.dtype.kind == "c" else out


def _reversed(self: Tensor) -> Tensor:
    """All dimensions in reverse order, a view. (*S) -> (*S reversed)."""
    return op.permute(self, axes=tuple(range(self.array.ndim))[::-1])


def _matrix_transpose(self: Tensor) -> Tensor:
    """The transpose of matrices, a view. (*B, N, M) -> (*B, M, N)."""
    if self.array.ndim < 2:
        raise RuntimeError(
            f"tensor.mT is only supported on matrices or batches of matrices. Got {self.array.ndim}-D tensor."
        )
    return transpose(self, -2, -1)


def _hermitian(self: Tensor) -> Tensor:
    """The conjugate transpose of a matrix. (N, M) -> (M, N)."""
    if self.array.ndim not in (0, 2):
        raise RuntimeError(f"tensor.H is only supported on matrices (2-D tensors). Got {self.array.ndim}-D tensor.")
    return adjoint(self) if self.array.ndim else self


for _name, _function in {"T": _reversed, "mT": _matrix_transpose, "H": _hermitian, "mH": adjoint}.items():
    setattr(Tensor, _name, property(_function))

# ---- dimensions of size 1, and stretched ones ------------------------------------------------------------------------


@public
def squeeze(input: Tensor, dim: Any = None) -> Tensor:
    """Without the dimensions of size 1 (of those given in dim); a view. input: (*S) -> (S without them)."""
    ndim = input.array.ndim
    if dim is None:
        return op.squeeze(input, axis=tuple(range(ndim)))
    if isinstance(dim, (tuple, list)):
        return op.squeeze_dims(input, axis=axes_of(input, dim) if dim else ())
    axis = dim_of(int_of(dim, "squeeze", "dim"), ndim)
    return op.squeeze_dim(input, axis=(axis,) if ndim else ())


@public
def unsqueeze(input: Tensor, dim: int) -> Tensor:
    """With a new dimension of size 1 at dim; a view. input: (*S) -> (S with 1 at dim)."""
    return op.unsqueeze(input, axis=dim_of(int_of(dim, "unsqueeze", "dim"), input.array.ndim + 1))


@public(is_function=False)
def expand(self: Tensor, *sizes: Any, size: Any = None, implicit: bool = False) -> Tensor:
    """Dimensions of size 1 stretched, and new ones in front, without a copy; -1 leaves a size. (*S) -> (*size)."""
    return expanded(self, sizes_of(sizes, "expand", "size", size))


def expanded(input: Tensor, size: tuple[int, ...]) -> Tensor:
    """`input` stretched to `size`. RuntimeError, in PyTorch's words, where it does not fit."""
    have = input.array.shape
    new = len(size) - len(have)
    if new < 0:
        raise RuntimeError(
            f"expand(torch.{input.dtype.legacy}Tensor{{{list(have)}}}, size={list(size)}): the number of sizes "
            f"provided ({len(size)}) must be greater or equal to the number of dimensions in the tensor ({len(have)})"
        )
    target = list(size)
    for i, n in enumerate(size):
        if n == -1:
            if i < new:
                raise RuntimeError(
                    f"The expanded size of the tensor (-1) isn't allowed in a leading, non-existing dimension {i}"
                )
            target[i] = have[i - new]
        elif i >= new and have[i - new] not in (1, n):
            raise RuntimeError(
                f"The expanded size of the tensor ({n}) must match the existing size ({have[i - new]}) at "
                f"non-singleton dimension {i}.  Target sizes: {list(size)}.  Tensor sizes: {list(have)}"
            )
    return core.expand(input, shape=tuple(target))


@public(is_function=False)
def expand_as(self: Tensor, other: Tensor) -> Tensor:
    """Stretched to other's shape, without a copy. (*S) -> (*T)."""
    return expanded(self, other.array.shape)


@public
def broadcast_to(input: Tensor, *sizes: Any, size: Any = None) -> Tensor:
    """NumPy's name of expand. input: (*S) -> (*size)."""
    return expanded(input, sizes_of(sizes, "broadcast_to", "size", size))


# ---- parts of a tensor, as views -------------------------------------------------------------------------------------


@public
def select(input: Tensor, dim: int, index: int) -> Tensor:
    """The slice of one index along dim, a view. input: (*S) -> (S without dim)."""
    a = input.array
    if not a.ndim:
        raise IndexError("select() cannot be applied to a 0-dim tensor.")
    axis, i = dim_of(dim, a.ndim), int_of(index, "select", "index")
    n = a.shape[axis]
    if not -n <= i < n:
        raise IndexError(f"select(): index {i} out of range for tensor of size {list(a.shape)} at dimension {axis}")
    return op.select(input, axis=axis, index=i + n if i < 0 else i)


@public
def narrow(input: Tensor, dim: int, start: Any, length: int) -> Tensor:
    """`length` slices along dim from start on, a view. input: (*S) -> (S with length at dim)."""
    a = input.array
    if not a.ndim:
        raise RuntimeError("narrow() cannot be applied to a 0-dim tensor.")
    if isinstance(start, Tensor) and (start.array.ndim or start.array.dtype.kind not in "iu"):
        raise RuntimeError("start must be an 0-dim integral Tensor.")
    axis, first = dim_of(dim, a.ndim), int_of(start, "narrow", "start")
    n = a.shape[axis]
    if length < 0:
        raise RuntimeError("narrow(): length must be non-negative.")
    if not -n <= first <= n:
        raise IndexError(f"start out of range (expected to be in range of [{-n}, {n}], but got {first})")
    first += n * (first < 0)
    if first + length > n:
        raise RuntimeError(f"start ({first}) + length ({length}) exceeds dimension size ({n}).")
    return op.slice_view(input, index=(*(slice(None),) * axis, slice(first, first + length), Ellipsis))


def _plane(input: Tensor, dim1: int, dim2: int, extra: int = 0) -> tuple[int, int]:
    axis1, axis2 = dim_of(dim1, input.array.ndim + extra), dim_of(dim2, input.array.ndim + extra)
    if axis1 == axis2:
        raise RuntimeError(f"diagonal dimensions cannot be identical {dim1}, {dim2}")
    return axis1, axis2


@public
def diagonal(input: Tensor, offset: int = 0, dim1: int = 0, dim2: int = 1) -> Tensor:
    """The diagonal of two dimensions as the last one, a view. input: (*S) -> (S without dim1 and dim2, n)."""
    axis1, axis2 = _plane(input, dim1, dim2)
    return op.diagonal(input, offset=offset, axis1=axis1, axis2=axis2)


@public(is_function=False)
def unfold(self: Tensor, dimension: int, size: int, step: int) -> Tensor:
    """Windows of `size` every `step` along a dimension, as a new last one; a view. (*S) -> (S with n there, size)."""
    a = self.array
    axis = dim_of(dimension, a.ndim)
    n = a.shape[axis] if a.ndim else 1
    if size > n:
        raise RuntimeError(f"maximum size for tensor at dimension {axis} is {n} but size is {size}")
    if step <= 0:
        raise RuntimeError(f"step is {step} but must be > 0")
    if size < 0:
        raise RuntimeError(f"size is {size} but must be >= 0")
    if not a.ndim:
        return narrow(op.view(self, shape=(1,)), 0, 0, size)
    return op.unfold(self, axis=axis, size=size, step=step)


@public
def as_strided(input: Tensor, size: Any, stride: Any, storage_offset: int | None = None) -> Tensor:
    """Any sizes and strides (in elements) over input's memory, a view. input: (*S) -> (*size)."""
    base, kw = strided_part(input, size, stride, storage_offset)
    return op.as_strided(base, **kw)


def strided_part(
    input: Tensor, size: Any, stride: Any, storage_offset: int | None, move: bool = True
) -> tuple[Tensor, dict[str, Any]]:
    """The tensor and the keywords of the op that as_strided means, checked.

    move: the tensor becomes input's base where the part begins before input does.
    """
    size, stride = sizes_of((size,), "as_strided"), sizes_of((stride,), "as_strided", "stride")
    if len(size) != len(stride):
        raise RuntimeError("mismatch in length of strides and shape")
    if any(s < 0 for s in stride):
        raise RuntimeError(f"as_strided: Negative strides are not supported at the moment, got strides: {list(stride)}")
    here, item = input.storage_offset(), input.array.itemsize
    start = here if storage_offset is None else storage_offset
    last = start + sum((n - 1) * s for n, s in zip(size, stride, strict=True))
    room = backend_of(input.array).storage_of(input.array).nbytes
    if 0 not in size and (last + 1) * item > room:
        raise RuntimeError(
            f"setStorage: sizes {list(size)}, strides {list(stride)}, storage offset {start}, and itemsize {item} "
            f"requiring a storage size of {(last + 1) * item} are out of bounds for storage of size {room}"
        )
    base = input._base
    if move and start < here and base is not None:
        input, here = base, base.storage_offset()
    layout = tuple(s // item for s in input.array.strides)
    return input, {"layout": layout, "size": size, "stride": stride, "offset": start - here}


# ---- what there is to ask --------------------------------------------------------------------------------------------


@public(is_function=False)
def size(self: Tensor, dim: Any = None) -> Any:
    """The shape, or its entry at dim."""
    shape = self.array.shape
    return Size(shape) if dim is None else shape[dim_of(int_of(dim, "size", "dim"), len(shape))]


@public(is_function=False)
def stride(self: Tensor, dim: Any = None) -> Any:
    """The distance in memory, in elements, between neighbours along each dimension, or along dim."""
    a = self.array
    strides = [s // a.itemsize for s in a.strides]
    if 1 in a.shape or not a.size:  # libraries differ in the strides of what has no neighbour; PyTorch's are these
        for d in range(a.ndim - 1, -1, -1):
            if not a.size or (a.shape[d] == 1 and not strides[d]):
                strides[d] = strides[d + 1] * max(a.shape[d + 1], 1) if d + 1 < a.ndim else 1
    return tuple(strides) if dim is None else strides[dim_of(int_of(dim, "stride", "dim"), a.ndim)]


def address(array: Any) -> int:
    """Where an array's first element lies in its device's memory, or in what its backend has in place of addresses."""
    if (known := getattr(array, "address", None)) is not None:
        return known
    found = getattr(array, "__cuda_array_interface__", None) or array.__array_interface__
    return found["data"][0]


@public(is_function=False)
def data_ptr(self: Tensor) -> int:
    """The address of the first element; 0 where there is none."""
    return address(self.array) if self.array.size else 0


public(data_ptr, name="const_data_ptr", is_function=False)


@public(is_function=False)
def storage_offset(self: Tensor) -> int:
    """The place of the first element in its storage, in elements."""
    a = self.array
    return (address(a) - address(backend_of(a).storage_of(a))) // a.itemsize if a.size else 0


@public(is_function=False)
def is_contiguous(self: Tensor, memory_format: Any = None) -> bool:
    """Whether the elements lie in row-major order (or, for channels_last, with the channels innermost)."""
    a = self.array
    if "channels_last" in str(memory_format):
        return a.ndim > 3 and a.transpose((0, *range(2, a.ndim), 1)).flags.c_contiguous
    return a.flags.c_contiguous


@public(is_function=False)
def element_size(self: Tensor) -> int:
    """The bytes of one element."""
    return self.array.itemsize


@public
def numel(input: Tensor) -> int:
    """How many elements there are."""
    return input.array.size


@public(is_function=False)
def nelement(self: Tensor) -> int:
    """How many elements there are."""
    return self.array.size


@public(is_function=False)
def dim(self: Tensor) -> int:
    """How many dimensions there are."""
    return self.array.ndim


@public(is_function=False)
def ndimension(self: Tensor) -> int:
    """How many dimensions there are."""
    return self.array.ndim


@public
def is_same_size(input: Tensor, other: Tensor) -> bool:
    """Whether the shapes are equal."""
    if not isinstance(other, Tensor):
        raise TypeError(f"is_same_size(): argument 'other' (position 2) must be Tensor, not {type(other).__name__}")
    return input.array.shape == other.array.shape


# ---- views in place --------------------------------------------------------------------------------------------------


def _in_place(name: str, function: Callable[..., Any]) -> None:
    """Declares the method NAME, which gives a tensor the shape (not the values) that the view function has."""

    def method(self: Any, *args: Any, **kwargs: Any) -> Tensor:
        check_writable(self, name)
        out = function(self, *args, **kwargs)
        if self._base is None:
            if any(v is not out for v in living_views(self)) and self._rg:
                raise RuntimeError(f"{name} of a tensor that has views and a history is not supported; use {name[:-1]}")
            self.array, self._rg, self._node = out.array, out._rg, out._node
        else:
            self.array, self._rg, self._node, self._view = out.array, out._rg, out._node, out._view
        return self

    method.__name__ = method.__qualname__ = name
    method.__doc__ = f"`{name[:-1]}` of the tensor itself, whose memory stays: (*S) -> the shape of that view."
    public(method, name=name, is_function=name == "as_strided_")


for _name, _function in {
    "squeeze_": squeeze, "unsqueeze_": unsqueeze, "t_": t, "transpose_": transpose, "swapaxes_": swapaxes,
    "swapdims_": transpose, "as_strided_": as_strided,
}.items():  # fmt: skip
    _in_place(_name, _function)
