"""Resilient backpropagation."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ..autograd.tensor import Tensor
from .elementwise import FormulaOptimizer, check_options, full_like, number
from .optimizer import Group, State

__all__ = ["Rprop"]


def rprop_step(
    xp: Any, p: Any, g: Any, prev: Any, step_size: Any, *,
    etas: tuple[float, float], step_sizes: tuple[float, float], maximize: bool, step: float,
) -> None:  # fmt: skip
    """Each element has its own step size, which grows by etas[1] while the gradient keeps its sign, else shrinks.

    p -= sign(g) * step_size, but not where the sign has just turned: there the gradient counts as zero, now and as the
    next step's `prev`. Riedmiller, Braun: A direct adaptive method for faster backpropagation learning (1993).
    """
    if maximize:
        g = -g
    factor = xp.sign(g * prev)
    turned = factor < 0
    xp.copyto(factor, etas[1], where=factor > 0)
    xp.copyto(factor, 1.0, where=factor == 0)
    xp.copyto(factor, etas[0], where=turned)
    step_size *= factor
    step_size[...] = xp.clip(step_size, *step_sizes)
    prev[...] = g
    xp.copyto(prev, 0.0, where=turned)
    p -= xp.sign(prev) * step_size


class Rprop(FormulaOptimizer):
    """Rprop. Arguments, defaults and state (`step`, `prev`, `step_size`) are PyTorch's. For whole batches only."""

    formula = staticmethod(rprop_step)
    option_names = ("etas", "step_sizes", "maximize")
    state_arrays = ("prev", "step_size")
    later_options = {"foreach": None, "maximize": False, "differentiable": False, "capturable": False}

    def __init__(
        self,
        params: Iterable[Any],
        lr: float | Tensor = 1e-2,
        etas: tuple[float, float] = (0.5, 1.2),
        step_sizes: tuple[float, float] = (1e-6, 50),
        *,
        capturable: bool = False,
        foreach: bool | None = None,
        maximize: bool = False,
        differentiable: bool = False,
    ) -> None:
        check_options(lr=lr)
        if not 0.0 < etas[0] < 1.0 < etas[1]:
            raise ValueError(f"Invalid eta values: {etas[0]}, {etas[1]}")
        defaults = {
            "lr": lr, "etas": etas, "step_sizes": step_sizes, "foreach": foreach, "maximize": maximize,
            "differentiable": differentiable, "capturable": capturable,
        }  # fmt: skip
        super().__init__(params, defaults)

    def init_state(self, state: State, p: Tensor, group: Group) -> None:
        state["step"] = self.new_counter(0.0, p, group)
        state["prev"] = full_like(p)
        state["step_size"] = full_like(p, number(group["lr"]))
