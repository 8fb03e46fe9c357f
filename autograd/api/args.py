"""Reading PyTorch's arguments: dimensions, shapes."""

from __future__ import annotations

from typing import Any


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
    dims = (dim,) if isinstance(dim, int) else tuple(dim)
    axes = tuple(dim_of(int(d), ndim) for d in dims)
    if len(set(axes)) != len(axes):
        raise RuntimeError(f"dim {axes[-1]} appears multiple times in the list of dims")
    return axes if ndim else ()
