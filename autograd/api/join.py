"""Tensors joined to one and cut into several, with PyTorch's arguments.

split and unbind have as many outputs as there are parts. Each part is a view (slice or select) of the input; all share
one node, whose gradient is one `cat` or `stack` of theirs.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..codegen import ENVIRONMENT, HOST, prepare
from ..graph import Node, counter
from ..modes import mode
from ..op import OPS
from ..ops import shape as op
from ..tensor import Tensor, wrap
from ..versions import UNTRACKED
from ..views import link_view
from .args import dim_of, int_of, sizes_of, tensors_of
from .shape import unsqueeze
from .table import public

# ---- joined ----------------------------------------------------------------------------------------------------------


@public(method=False)
def cat(tensors: Any, dim: int = 0) -> Tensor:
    """Tensors one after the other along dim, in their common dtype. tensors: (*S) but for dim -> (S with the sum).

    1-D tensors without elements are skipped, as PyTorch does for old programs.
    """
    tensors = tensors_of(tensors, "cat", Tensor)
    if not tensors:
        raise ValueError("torch.cat(): expected a non-empty list of Tensors")
    shapes = [t.array.shape for t in tensors]
    if () in shapes:
        raise RuntimeError(f"zero-dimensional tensor (at position {shapes.index(())}) cannot be concatenated")
    shape = shapes[0]
    if shape == (0,):
        shape = next((s for s in shapes if s != (0,)), shape)
    axis = dim_of(int_of(dim, "cat", "dim"), len(shape))
    starts = None
    if len(shapes) > 8:
        starts = op.starts_of([s[axis] if len(s) > axis else 0 for s in shapes])
    return op.cat(*tensors, axis=axis, starts=starts)


public(cat, name="concat", method=False)
public(cat, name="concatenate", method=False)


@public(method=False)
def stack(tensors: Any, dim: int = 0) -> Tensor:
    """Tensors of one shape along a new dimension. tensors: (*S) -> (S with len(tensors) at dim)."""
    tensors = tensors_of(tensors, "stack", Tensor)
    if not tensors:
        raise RuntimeError("stack expects a non-empty TensorList")
    return op.stack(*tensors, axis=dim_of(int_of(dim, "stack", "dim"), tensors[0].array.ndim + 1))


def _at_least(tensors: Any, name: str, at_least: Any) -> list[Tensor]:
    tensors = tensors_of(tensors, name, Tensor)
    if not tensors:
        raise RuntimeError(f"{name} expects a non-empty TensorList")
    return [at_least(t) for t in tensors]


@public(method=False)
def hstack(tensors: Any) -> Tensor:
    """Joined along dimension 1 (0 for 1-D tensors). tensors: (M, N_i, *S) -> (M, sum N_i, *S)."""
    tensors = _at_least(tensors, "hstack", atleast_1d)
    return cat(tensors, 0 if tensors[0].array.ndim == 1 else 1)


@public(method=False)
def vstack(tensors: Any) -> Tensor:
    """Joined along dimension 0, 1-D tensors as rows. tensors: (N_i, *S) -> (sum N_i, *S)."""
    return cat(_at_least(tensors, "vstack", atleast_2d), 0)


public(vstack, name="row_stack", method=False)


@public(method=False)
def dstack(tensors: Any) -> Tensor:
    """Joined along dimension 2. tensors: (M, N, K_i) -> (M, N, sum K_i)."""
    return cat(_at_least(tensors, "dstack", atleast_3d), 2)


@public(method=False)
def column_stack(tensors: Any) -> Tensor:
    """Joined along dimension 1, 1-D tensors as columns. tensors: (M,) or (M, N_i) -> (M, sum N_i)."""
    columns = _at_least(tensors, "column_stack", lambda t: t if t.array.ndim > 1 else unsqueeze(atleast_1d(t), 1))
    return cat(columns, 1)


def _each(tensors: tuple[Any, ...], one: Any) -> Any:
    """`one` of a single tensor, or the tuple for several (given one by one or as a list)."""
    if len(tensors) == 1 and isinstance(tensors[0], Tensor):
        return one(tensors[0])
    many = tensors_of(tensors[0] if len(tensors) == 1 else tensors, "atleast", Tensor)
    return tuple(one(t) for t in many)


@public(method=False)
def atleast_1d(*tensors: Any) -> Any:
    """Scalars as 1-D tensors; others as they are. () -> (1,), (*S) -> (*S)."""
    return _each(tensors, lambda t: t if t.array.ndim else op.view(t, shape=(1,)))


@public(method=False)
def atleast_2d(*tensors: Any) -> Any:
    """Scalars and vectors as matrices of one row; others as they are. () -> (1, 1), (N,) -> (1, N)."""
    return _each(tensors, lambda t: t if t.array.ndim > 1 else unsqueeze(atleast_1d(t), 0))


@public(method=False)
def atleast_3d(*tensors: Any) -> Any:
    """Tensors of fewer dimensions with 3; others as they are.

    () -> (1, 1, 1), (N,) -> (1, N, 1), (M, N) -> (M, N, 1).
    """
    return _each(tensors, lambda t: t if t.array.ndim > 2 else unsqueeze(atleast_2d(t), -1))


@public(method=False)
def block_diag(*tensors: Any) -> Tensor:
    """Matrices along the diagonal of one matrix of zeros. tensors: (N_i, M_i) -> (sum N_i, sum M_i)."""
    if not tensors:
        return wrap(np.zeros((1, 0), np.float32))
    for i, t in enumerate(tensors):
        if t.array.ndim > 2:
            raise RuntimeError(
                "torch.block_diag: Input tensors must have 2 or fewer dimensions. "
                f"Input {i} has {t.array.ndim} dimensions"
            )
    blocks = [atleast_2d(t) for t in tensors]
    width, left, rows = sum(b.array.shape[1] for b in blocks), 0, []
    for b in blocks:
        n = b.array.shape[1]
        rows.append(op.pad_constant(b, widths=((0, 0), (left, width - left - n)), value=0))
        left += n
    return cat(rows, 0)


# ---- cut -------------------------------------------------------------------------------------------------------------


def _parts(name: str, x: Tensor, step: str, steps: list[dict[str, Any]], kw: dict[str, Any]) -> tuple[Tensor, ...]:
    """Records one node with as many outputs as there are parts; part i is the view `step(x, **steps[i])`."""
    made = OPS[name]
    if made.run is None:
        prepare(made)
        made.run = made.fn
    array = x.array
    if array.__class__ is HOST and step == "slice_view":  # what the kernel does, with the indices that are at hand
        arrays = [array[how["index"]] for how in steps]
    else:
        arrays = made.kernels[array.__class__](array, **kw)
    parts = tuple([wrap(a) for a in arrays])
    recorder = mode.grad
    if x._rg and recorder and parts:
        node = Node()
        node.op, node.seq, node.edges = made, counter(), (x._node or x,)
        known = {"x_shape": x.array.shape, **kw}
        node.saved = tuple([known[r] for r in made.requests])
        ENVIRONMENT["attach_outputs"](node, parts)
        if recorder is not True:
            recorder.recorded(node, parts)
    word = made.grad_name.removesuffix("Backward0")
    for i, part in enumerate(parts):
        link_view(x, part, step, steps[i])
        if part._view is not UNTRACKED:
            part._view.multiple = (word, i)
    return parts


def split_op(name: str) -> Any:
    """The recording function of `split` and `split_with_sizes`."""

    def record(x: Tensor, *, axis: int, sizes: tuple[int, ...]) -> tuple[Tensor, ...]:
        lead, start, steps = (slice(None),) * axis, 0, []
        for n in sizes:
            steps.append({"index": (*lead, slice(start, start + n), Ellipsis)})
            start += n
        return _parts(name, x, "slice_view", steps, {"axis": axis, "sizes": sizes})

    OPS[name].fn = record
    return record


def unbind_op(x: Tensor, *, axis: int) -> tuple[Tensor, ...]:
    """The recording function of `unbind`."""
    steps = [{"axis": axis, "index": i} for i in range(x.array.shape[axis])]
    return _parts("unbind", x, "select", steps, {"axis": axis})


OPS["unbind"].fn = unbind_op
_split, _split_with_sizes = split_op("split"), split_op("split_with_sizes")


def _dimension(t: Tensor, dim: int, name: str) -> tuple[int, int]:
    """(axis, its size). RuntimeError for a 0-d tensor."""
    if not t.array.ndim:
        raise RuntimeError(f"{name} expects at least a 1-dimensional tensor")
    axis = dim_of(int_of(dim, name, "dim"), t.array.ndim)
    return axis, t.array.shape[axis]


@public
def split(tensor: Tensor, split_size_or_sections: Any = None, dim: int = 0, *, split_size: Any = None) -> Any:
    """Views of split_size slices each (the last may be smaller), or of the given sizes. tensor: (*S) -> tuple."""
    how = split_size if split_size_or_sections is None else split_size_or_sections
    axis, n = _dimension(tensor, dim, "split")
    if isinstance(how, (tuple, list)):
        sizes = sizes_of((how,), "split_with_sizes", "split_sizes")
        if any(s < 0 for s in sizes):
            raise RuntimeError(
                "split_with_sizes expects split_sizes have only non-negative entries, but got "
                f"split_sizes={list(sizes)}"
            )
        if sum(sizes) != n:
            raise RuntimeError(
                f"split_with_sizes expects split_sizes to sum exactly to {n} (input tensor's size at dimension {axis})"
                f", but got split_sizes={list(sizes)}"
            )
        return _split_with_sizes(tensor, axis=axis, sizes=sizes)
    width = int_of(how, "split", "split_size")
    if width < 0:
        raise RuntimeError(f"split expects split_size be non-negative, but got split_size={width}")
    if width == 0 and n:
        raise RuntimeError(f"split_size can only be 0 if dimension size is 0, but got dimension size of {n}")
    return _in_steps(tensor, axis, n, width)


def _in_steps(t: Tensor, axis: int, n: int, width: int) -> tuple[Tensor, ...]:
    """`t`, of size n along axis, in parts of `width`, the last one perhaps smaller."""
    whole, rest = divmod(n, width) if width else (1, 0)
    return _split(t, axis=axis, sizes=(width,) * whole + ((rest,) if rest else ()) or (0,))


@public
def split_with_sizes(input: Tensor, split_sizes: Any, dim: int = 0) -> Any:
    """Views of the given sizes along dim. input: (*S) -> tuple."""
    return split(input, list(split_sizes), dim)


@public
def chunk(input: Tensor, chunks: int, dim: int = 0) -> Any:
    """At most `chunks` views of equal size (the last may be smaller). input: (*S) -> tuple."""
    if chunks <= 0:
        raise RuntimeError(f"chunk expects `chunks` to be greater than 0, got: {chunks}")
    axis, n = _dimension(input, dim, "chunk")
    if not n:
        return _split_with_sizes(input, axis=axis, sizes=(0,) * chunks)
    return _in_steps(input, axis, n, -(-n // chunks))


@public
def tensor_split(
    input: Tensor, indices_or_sections: Any = None, dim: int = 0, *, indices: Any = None, sections: Any = None
) -> Any:
    """Views of nearly equal size, or cut before the given indices. input: (*S) -> tuple."""
    how = _sections("tensor_split", indices_or_sections, indices, sections)
    axis, n = _dimension(input, dim, "tensor_split")
    how = how.tolist() if isinstance(how, Tensor) else how
    if isinstance(how, (tuple, list)):
        ends = [int(i) for i in how]
        bounds = [slice(i, j).indices(n)[:2] for i, j in zip([0, *ends], [*ends, n], strict=True)]
    else:
        if how <= 0:
            raise RuntimeError(f"number of sections must be larger than 0, got {how}")
        small, more = divmod(n, how)
        ends = [small * (i + 1) + min(i + 1, more) for i in range(how)]
        bounds = list(zip([0, *ends], ends, strict=False))
    lead = (slice(None),) * axis
    return tuple(op.slice_view(input, index=(*lead, slice(a, max(a, b)), Ellipsis)) for a, b in bounds)


def _sections(name: str, *given: Any) -> Any:
    """What says how to cut: the one that was given. TypeError for anything but an int, a sequence or a Tensor."""
    how = next((g for g in given if g is not None), None)
    if isinstance(how, (tuple, list, Tensor)) or hasattr(how, "__index__"):
        return how
    raise TypeError(
        f"{name}() received an invalid combination of arguments - got ({type(how).__name__}); expected an int, a tuple "
        "of ints or a Tensor"
    )


def _axis_split(name: str, dims: int, axis_of: Any) -> None:
    def function(input: Tensor, indices_or_sections: Any = None, *, indices: Any = None, sections: Any = None) -> Any:
        indices_or_sections = _sections(name, indices_or_sections, indices, sections)
        ndim = input.array.ndim
        if ndim < dims:
            raise RuntimeError(
                f"torch.{name} requires a tensor with at least {dims} dimension, but got a tensor with {ndim} "
                "dimensions!"
            )
        axis = axis_of(ndim)
        n = input.array.shape[axis]
        if isinstance(indices_or_sections, int) and (indices_or_sections <= 0 or n % indices_or_sections):
            raise RuntimeError(
                f"torch.{name} attempted to split along dimension {axis}, but the size of the dimension {n} is not "
                f"divisible by the split_size {indices_or_sections}!"
            )
        return tensor_split(input, indices_or_sections, axis)

    function.__name__ = function.__qualname__ = name
    function.__doc__ = f"tensor_split along the dimension that {name} names. (*S) -> tuple of (S, shorter there)."
    public(function)


_axis_split("hsplit", 1, lambda ndim: 0 if ndim == 1 else 1)
_axis_split("vsplit", 2, lambda ndim: 0)
_axis_split("dsplit", 3, lambda ndim: 2)


def _unsafe(name: str, cut: Any) -> None:
    """Declares unsafe_NAME: the same parts, which may be written in place."""

    def function(*args: Any, **kwargs: Any) -> Any:
        parts = cut(*args, **kwargs)
        for part in parts:
            if part._view is not UNTRACKED:
                part._view.multiple = None
        return parts

    function.__name__ = function.__qualname__ = name
    function.__doc__ = f"`{name[7:]}` whose parts, views of input: (*S), may be written in place. -> tuple."
    function.__wrapped__ = cut  # type: ignore[attr-defined]  # for inspect.signature
    public(function)


_unsafe("unsafe_chunk", lambda input, chunks, dim=0: chunk(input, chunks, dim))
_unsafe("unsafe_split", lambda input, split_size, dim=0: split(input, split_size, dim))
_unsafe("unsafe_split_with_sizes", lambda input, split_sizes, dim=0: split_with_sizes(input, split_sizes, dim))


@public
def unbind(input: Tensor, dim: int = 0) -> Any:
    """The slices along dim, which is dropped, as views. input: (*S) -> tuple of (S without dim)."""
    if not input.array.ndim:
        raise IndexError("Dimension specified as 0 but tensor has no dimensions")
    return unbind_op(input, axis=dim_of(int_of(dim, "unbind", "dim"), input.array.ndim))
