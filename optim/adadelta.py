"""Adadelta."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ..autograd.tensor import Tensor
from .arithmetic import addcmul_, added
from .elementwise import FormulaOptimizer, check_options

__all__ = ["Adadelta"]


def adadelta_step(
    xp: Any, p: Any, g: Any, square_avg: Any, acc_delta: Any, *,
    lr: float, rho: float, eps: float, weight_decay: float, maximize: bool, step: float,
) -> None:  # fmt: skip
    """v = rho * v + (1 - rho) * g^2; d = g * sqrt(u + eps) / sqrt(v + eps); u = rho * u + (1 - rho) * d^2; p -= lr * d.

    Zeiler: ADADELTA, arXiv:1212.5701, Algorithm 1.
    """
    if maximize:
        g = -g
    if weight_decay != 0:
        g = added(g, p, weight_decay)
    square_avg *= rho
    addcmul_(square_avg, g, g, 1 - rho)
    std = square_avg + eps
    std = xp.sqrt(std, out=std)
    delta = acc_delta + eps
    delta = xp.sqrt(delta, out=delta)
    delta /= std
    delta *= g
    acc_delta *= rho
    addcmul_(acc_delta, delta, delta, 1 - rho)
    p -= delta * lr


class Adadelta(FormulaOptimizer):
    """Adadelta. Arguments, defaults and state (`step`, `square_avg`, `acc_delta`) are PyTorch's."""

    formula = staticmethod(adadelta_step)
    option_names = ("lr", "rho", "eps", "weight_decay", "maximize")
    state_arrays = ("square_avg", "acc_delta")
    later_options = {"foreach": None, "maximize": False, "differentiable": False, "capturable": False}

    def __init__(
        self,
        params: Iterable[Any],
        lr: float | Tensor = 1.0,
        rho: float = 0.9,
        eps: float = 1e-6,
        weight_decay: float = 0,
        foreach: bool | None = None,
        *,
        capturable: bool = False,
        maximize: bool = False,
        differentiable: bool = False,
    ) -> None:
        check_options(lr=lr)
        if not 0.0 <= rho <= 1.0:
            raise ValueError(f"Invalid rho value: {rho}")
        check_options(eps=eps, weight_decay=weight_decay)
        defaults = {
            "lr": lr, "rho": rho, "eps": eps, "weight_decay": weight_decay, "maximize": maximize,
            "capturable": capturable, "foreach": foreach, "differentiable": differentiable,
        }  # fmt: skip
        super().__init__(params, defaults)
