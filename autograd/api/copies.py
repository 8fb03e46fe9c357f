"""The `*_copy` functions: what a view function shows, in memory of its own.

Each is its view function followed by a copy in row-major order, so values, errors and gradients are those of the view.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..coerce import into
from ..ops import core
from ..tensor import Tensor
from . import complexes, index, join, shape
from .table import public


def narrow_copy(input: Tensor, dim: int, start: int, length: int) -> Tensor:
    """A copy of `length` slices along dim from start on. input: (*S) -> (S with length at dim)."""
    sizes = input.array.shape
    if sizes and dim >= len(sizes):
        raise RuntimeError(f"Expected dim < static_cast<int64_t>(self_sizes.size()) to be true, but got false. ({dim})")
    if sizes and dim >= -len(sizes) and length < 0:
        raise RuntimeError(f"start ({start}) + length ({length}) exceeds dimension size ({sizes[dim]}).")
    return shape.narrow(input, dim, start, length)


def slice_of(input: Tensor, dim: int = 0, start: int | None = None, end: int | None = None, step: int = 1) -> Tensor:
    """start:end:step along dim, a view. input: (*S) -> (S with n at dim)."""
    ndim = input.array.ndim
    if not ndim:
        raise RuntimeError("slice() cannot be applied to a 0-dim tensor.")
    if step <= 0:
        raise RuntimeError("slice step must be positive")
    return index.getitem(input, (slice(None),) * shape.dim_of(dim, ndim) + (slice(start, end, step),))


# name -> the view, with PyTorch's parameters
_COPIES: dict[str, Callable[..., Tensor]] = {
    "alias_copy": lambda input: input,
    "as_strided_copy": lambda input, size, stride, storage_offset=None: shape.as_strided(
        input, size, stride, storage_offset
    ),
    "detach_copy": lambda input: input,  # PyTorch records this one
    "diagonal_copy": lambda input, offset=0, dim1=0, dim2=1: shape.diagonal(input, offset, dim1, dim2),
    "expand_copy": lambda input, size, *, implicit=False: shape.expand(input, size),
    "narrow_copy": narrow_copy,
    "permute_copy": lambda input, dims: shape.permute(input, dims),
    "select_copy": lambda input, dim, index: shape.select(input, dim, index),
    "slice_copy": slice_of,
    "squeeze_copy": lambda input, dim=None: shape.squeeze(input, dim),
    "t_copy": lambda input: shape.t(input),
    "transpose_copy": lambda input, dim0, dim1: shape.transpose(input, dim0, dim1),
    "unfold_copy": lambda input, dimension, size, step: shape.unfold(input, dimension, size, step),
    "unsqueeze_copy": lambda input, dim: shape.unsqueeze(input, dim),
    "view_as_complex_copy": lambda input: complexes.view_as_complex(input),
    "view_as_real_copy": lambda input: complexes.view_as_real(input),
    "view_copy": lambda input, size=None, dtype=None: (
        shape.reshape(input, size) if dtype is None and not hasattr(size, "np") else shape.view(input, dtype or size)
    ),
}
# the same for views of several parts
_MANY: dict[str, Callable[..., Any]] = {
    "split_copy": lambda input, split_size, dim=0, *, out=None: join.split(input, split_size, dim),
    "split_with_sizes_copy": lambda input, split_sizes, dim=0, *, out=None: join.split_with_sizes(
        input, split_sizes, dim
    ),
    "unbind_copy": lambda input, dim=0, *, out=None: join.unbind(input, dim),
}


def _declare(name: str, view: Callable[..., Any], copied: Callable[..., Any]) -> None:
    copied.__name__ = copied.__qualname__ = name
    copied.__doc__ = f"What `{name[:-5]}` shows of input, copied. input: (*S) -> the shape of that view."
    copied.__wrapped__ = view  # type: ignore[attr-defined]  # for inspect.signature
    public(copied, name=name, method=name == "narrow_copy")


def _checked(name: str, args: tuple[Any, ...]) -> None:
    if args and not isinstance(args[0], Tensor):
        raise TypeError(f"{name}(): argument 'input' (position 1) must be Tensor, not {type(args[0]).__name__}")


def _one(name: str, view: Callable[..., Tensor]) -> None:
    def copied(*args: Any, **kwargs: Any) -> Tensor:
        _checked(name, args)
        return core.clone(view(*args, **kwargs))

    _declare(name, view, copied)


def _many(name: str, view: Callable[..., Any]) -> None:
    def copied(*args: Any, out: Any = None, **kwargs: Any) -> Any:
        _checked(name, args)
        parts = [core.clone(part) for part in view(*args, **kwargs)]
        if out is None:
            return tuple(parts)
        if len(out) != len(parts):
            raise RuntimeError(f"{name}_out() expected an out= argument of size {len(parts)}, got size {len(out)}")
        for target, part in zip(out, parts, strict=True):
            into(target, name, part)
        return None

    _declare(name, view, copied)


for _name, _view in _COPIES.items():
    _one(_name, _view)
for _name, _view in _MANY.items():
    _many(_name, _view)
