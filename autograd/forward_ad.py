"""torch.autograd.forward_ad: tangents carried along with a computation.

There is no second set of rules for it here. A dual tensor is a tensor whose gradient can be asked for, with its tangent
noted beside it; `unpack_dual` asks for the gradient of the result and, since that is linear in what it is asked for,
for its own gradient along the tangents. That is the product with the Jacobian, at the cost of two backward passes for
each unpacking. So what is computed under no_grad carries no tangent.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from .func import _outer as depends_on_others
from .functional import gradients
from .modes import enable_grad
from .op import GRAPH
from .tensor import Tensor

__all__ = ["UnpackedDualTensor", "dual_level", "enter_dual_level", "exit_dual_level", "make_dual", "unpack_dual"]


class UnpackedDualTensor(NamedTuple):
    """What `unpack_dual` gives: the value, and its tangent, None where it has none."""

    primal: Tensor
    tangent: Tensor | None


class _Duals(threading.local):
    open: list[tuple[Tensor, Tensor]] | None = None  # the dual tensors of the level, with their tangents


_duals = _Duals()


def enter_dual_level() -> int:
    """Opens the level in which duals can be made; gives its number, 0. RuntimeError where one is open."""
    if _duals.open is not None:
        raise RuntimeError("Nested forward mode AD is not supported at the moment")
    _duals.open = []
    return 0


def exit_dual_level(*, level: int | None = None) -> None:
    """Closes the level: what was computed in it has no tangents any more. RuntimeError where none is open."""
    if _duals.open is None:
        raise RuntimeError("Dual level must be a positive number.")
    if level not in (None, 0):
        raise RuntimeError(
            f"Trying to exit a forward AD level that was not the last one that was created ({level}). This is not "
            "supported."
        )
    _duals.open = None


@contextmanager
def dual_level() -> Iterator[int]:
    """A level for the time of the block.

    >>> import tapegrad as torch
    >>> import tapegrad.autograd.forward_ad as fwAD
    >>> with fwAD.dual_level():
    ...     x = fwAD.make_dual(torch.tensor([1.0, 2.0]), torch.tensor([1.0, 0.0]))
    ...     fwAD.unpack_dual(x**2).tangent
    tensor([2., 0.])
    """
    level = enter_dual_level()
    try:
        yield level
    finally:
        exit_dual_level(level=level)


def make_dual(tensor: Tensor, tangent: Tensor, *, level: int | None = None) -> Tensor:
    """A tensor of the same value which carries a tangent. tensor, tangent: (*S) -> (*S).

    RuntimeError outside of a level and for another shape; ValueError for integers.
    """
    if _duals.open is None:
        raise RuntimeError(
            "Trying to create a dual Tensor for forward AD but no level exists, make sure to enter_dual_level() first."
        )
    for word, t in (("primal", tensor), ("tangent", tangent)):
        if not (t.is_floating_point() or t.is_complex()):
            raise ValueError(f"Expected {word} to be floating point or complex, but got: {t.dtype}")
    if tensor.array.shape != tangent.array.shape:
        raise RuntimeError(
            "Trying to set a forward gradient that has a different size than that of the original Tensor, this is not "
            f"supported. Tensor is of size {list(tensor.shape)} while the given forward gradient is of size "
            f"{list(tangent.shape)}."
        )
    with enable_grad():
        dual = GRAPH.alias(tensor) if tensor._rg else tensor.detach().requires_grad_()
    _duals.open.append((dual, tangent))
    return dual


def unpack_dual(tensor: Tensor, *, level: int | None = None) -> UnpackedDualTensor:
    """The value of a tensor and its tangent, J times the tangents of the duals it was computed from."""
    pairs = _duals.open
    if not pairs:
        return UnpackedDualTensor(tensor, None)
    outer = tensor._rg and depends_on_others((), [tensor], [dual for dual, _ in pairs])
    primal = tensor if outer else tensor.detach()
    for dual, tangent in pairs:
        if dual is tensor:
            return UnpackedDualTensor(primal, tangent)
    if not tensor._rg:
        return UnpackedDualTensor(tensor, None)
    with enable_grad():
        probe = GRAPH.zeros_like(tensor.detach()).requires_grad_()
        back = gradients((tensor,), [dual for dual, _ in pairs], (probe,), True)
        reached = [(b, tangent) for b, (_, tangent) in zip(back, pairs, strict=True) if b is not None]
        if not reached:
            return UnpackedDualTensor(tensor, None)
        keep = outer or any(tangent._rg for _, tangent in reached)
        seeds = [t if t.dtype is b.dtype else t.to(b.dtype) for b, t in reached]
        (found,) = gradients([b for b, _ in reached], (probe,), seeds, keep)
    if found is None:
        found = GRAPH.zeros_like(tensor.detach())
    return UnpackedDualTensor(primal, found if keep else found.detach())

