"""Adamax."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ..autograd.tensor import Tensor
from .arithmetic import addcdiv_, added, lerp_
from .elementwise import FormulaOptimizer, check_options

__all__ = ["Adamax"]


def adamax_step(
    xp: Any, p: Any, g: Any, exp_avg: Any, exp_inf: Any, *,
    lr: float, betas: tuple[float, float], eps: float, weight_decay: float, maximize: bool, step: float,
) -> None:  # fmt: skip
    """m = lerp(m, g, 1 - beta1); u = max(beta2 * u, |g| + eps); p -= lr / (1 - beta1^step) * m / u.

    Kingma, Ba: Adam, arXiv:1412.6980, Algorithm 2.
    """
    beta1, beta2 = betas
    if maximize:
        g = -g
    if weight_decay != 0:
        g = added(g, p, weight_decay)
    lerp_(exp_avg, g, 1 - beta1)
    exp_inf *= beta2
    size = xp.abs(g)
    size += eps
    exp_inf = xp.maximum(exp_inf, size, out=exp_inf)
    addcdiv_(p, exp_avg, exp_inf, -(lr / (1 - beta1**step)))


class Adamax(FormulaOptimizer):
    """Adamax. Arguments, defaults and state (`step`, `exp_avg`, `exp_inf`) are PyTorch's."""

    formula = staticmethod(adamax_step)
    option_names = ("lr", "betas", "eps", "weight_decay", "maximize")
    state_arrays = ("exp_avg", "exp_inf")
    later_options = {"foreach": None, "maximize": False, "differentiable": False, "capturable": False}

    def __init__(
        self,
        params: Iterable[Any],
        lr: float | Tensor = 2e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0,
        foreach: bool | None = None,
        *,
        maximize: bool = False,
        differentiable: bool = False,
        capturable: bool = False,
    ) -> None:
        check_options(lr=lr, eps=eps, betas=betas, weight_decay=weight_decay)
        defaults = {
            "lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay, "foreach": foreach,
            "maximize": maximize, "differentiable": differentiable, "capturable": capturable,
        }  # fmt: skip
        super().__init__(params, defaults)
