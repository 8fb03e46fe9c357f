"""Reading PyTorch's arguments: dimensions, shapes."""

from __future__ import annotations

from operator import index
from typing import Any

from ..dtypes import as_dtype
from ..op import GRAPH


def dim_of(dim: int, ndim: int) -> int:
    """`dim` as a non-negative index. IndexError when it is out of range for `ndim` dimensions."""
    n = ndim if ndim else 1
    if not -n <= dim < n:
        raise IndexError(f"Dimension out of range (expected to be in range of [{-n}, {n - 1}], but got {dim})")
    return dim + n if dim < 0 else dim


def axes_of(input: Any, dim: Any) -> tuple[int, ...]:
    """The axes that a reduction's `dim` means: all for None or (), else each one, checked and distinct."""
    ndim = input.array.ndim
    if dim is None or (dim.__class__ in (tuple, list) and not dim):
        return tuple(range(ndim))
    if dim.__class__ is int:
        axis = dim_of(dim, ndim)
        return (axis,) if ndim else ()
    dims = (dim,) if hasattr(dim, "__index__") else tuple(dim)
    axes = tuple([dim_of(index(d), ndim) for d in dims])
    if len(set(axes)) != len(axes):
        twice = next(a for i, a in enumerate(axes) if a in axes[:i])
        raise RuntimeError(f"dim {twice} appears multiple times in the list of dims")
    return axes if ndim else ()


def to_dtype(input: Any, dtype: Any) -> Any:
    """`input` in the dtype given as `dtype=`, recorded; itself where it has it."""
    target = as_dtype(dtype).np
    return input if input.array.dtype is target or input.array.dtype == target else GRAPH.cast(input, dtype=target)
