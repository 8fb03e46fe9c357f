"""The same formulas on recorded tensors, for `differentiable=True`: gradients flow through the optimizer's step.

A formula writes its arrays in place, which the graph of a step could not bear. So it is given cells: each holds a
tensor, and writing into a cell puts a new tensor in it. What the formula computes is the same.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..autograd.api.complexes import view_as_complex, view_as_real
from ..autograd.tensor import Tensor


def _value(x: Any) -> Any:
    return x.tensor if isinstance(x, Cell) else x


class Cell:
    """Stands for a raw array, or a number that is a tensor, within a formula."""

    __slots__ = ("tensor",)
    __hash__ = None  # type: ignore[assignment]

    def __init__(self, tensor: Any):
        self.tensor = tensor

    def __neg__(self) -> Cell:
        return Cell(-self.tensor)

    def __bool__(self) -> bool:
        return bool(self.tensor)

    def __setitem__(self, index: Any, value: Any) -> None:
        if index is not Ellipsis:
            raise TypeError("a formula may only assign whole arrays, array[...] = value")
        self.tensor = _value(value)


def _define(name: str) -> None:
    """x + y, y + x and x += y of cells, for one operator; comparisons have the first form only."""

    def binary(self: Cell, other: Any) -> Cell:
        return Cell(getattr(self.tensor, f"__{name}__")(_value(other)))

    def reflected(self: Cell, other: Any) -> Cell:
        return Cell(getattr(self.tensor, f"__r{name}__")(_value(other)))

    def in_place(self: Cell, other: Any) -> Cell:
        self.tensor = getattr(self.tensor, f"__{name}__")(_value(other))
        return self

    setattr(Cell, f"__{name}__", binary)
    if name in ("add", "sub", "mul", "truediv", "pow"):
        setattr(Cell, f"__r{name}__", reflected)
        setattr(Cell, f"__i{name}__", in_place)


for _name in ("add", "sub", "mul", "truediv", "pow", "lt", "gt", "eq", "ne"):
    _define(_name)


class _CellModule:
    """The array module of cells: the functions that the formulas of differentiable optimizers call."""

    @staticmethod
    def _put(tensor: Any, out: Cell | None) -> Cell:
        if out is None:
            return Cell(tensor)
        out.tensor = tensor
        return out

    def sqrt(self, x: Cell, out: Cell | None = None) -> Cell:
        return self._put(x.tensor.sqrt(), out)

    def maximum(self, x: Cell, y: Cell, out: Cell | None = None) -> Cell:
        return self._put(x.tensor.maximum(y.tensor), out)

    def abs(self, x: Cell) -> Cell:
        return Cell(x.tensor.abs())

    def sign(self, x: Cell) -> Cell:
        return Cell(x.tensor.sign())

    def clip(self, x: Cell, low: float, high: float) -> Cell:
        return Cell(x.tensor.clamp(low, high))

    def copyto(self, x: Cell, value: float, where: Cell) -> None:
        x.tensor = x.tensor.masked_fill(where.tensor, value)


CELLS = _CellModule()


def check(p: Tensor) -> None:
    """RuntimeError for a parameter that a recorded step cannot write, before anything is changed."""
    if p.is_leaf and p.requires_grad:
        raise RuntimeError("a leaf Variable that requires grad is being used in an in-place operation.")


def option(value: Any) -> Any:
    """A tensor option as a 0-d cell, so that gradients reach it, alone or in a tuple; other options as they are."""
    if isinstance(value, tuple):
        return tuple(map(option, value))
    return Cell(value.reshape(())) if isinstance(value, Tensor) else value


def update(
    formula: Callable[..., None], p: Tensor, grad: Tensor, state: dict[str, Any], names: tuple[str, ...],
    options: dict[str, Any],
) -> None:  # fmt: skip
    """Applies the formula to one parameter and its state, recorded; state tensors are replaced, p is written in place.

    Complex tensors go through the formula as pairs of real numbers, as PyTorch takes them.
    """
    is_complex = p.dtype.is_complex

    def cell(tensor: Any) -> Cell:
        return Cell(view_as_real(tensor) if is_complex else tensor)

    cells = [cell(state[name]) if name in state else None for name in names]
    parameter = cell(p)
    formula(CELLS, parameter, cell(grad), *cells, **options)
    for name, changed in zip(names, cells, strict=True):
        if changed is not None:
            state[name] = _back(changed.tensor, is_complex)
    p.copy_(_back(parameter.tensor, is_complex))


def _back(tensor: Any, is_complex: bool) -> Any:
    return view_as_complex(tensor) if is_complex else tensor
