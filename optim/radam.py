"""RAdam: Adam with its variance rectified in the first steps."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ..autograd.tensor import Tensor
from .arithmetic import addcmul_, added, is_number, lerp_
from .elementwise import FormulaOptimizer, check_options

__all__ = ["RAdam"]


def radam_step(
    xp: Any, p: Any, g: Any, exp_avg: Any, exp_avg_sq: Any, *,
    lr: float, betas: tuple[float, float], eps: float, weight_decay: float, decoupled_weight_decay: bool,
    maximize: bool, step: float,
) -> None:  # fmt: skip
    """p -= lr * m^ while rho <= 5, then p -= lr * m^ * rectification * sqrt(1 - beta2^step) / (sqrt(v) + eps).

    m, m^ and v as in Adam; rho: the length of the average behind v. Liu and others: On the Variance of the Adaptive
    Learning Rate and Beyond, arXiv:1908.03265, Algorithm 2.
    """
    beta1, beta2 = betas
    if maximize:
        g = -g
    if weight_decay != 0:
        if decoupled_weight_decay:
            p *= 1 - lr * weight_decay
        else:
            g = added(g, p, weight_decay)
    lerp_(exp_avg, g, 1 - beta1)
    exp_avg_sq *= beta2
    addcmul_(exp_avg_sq, g, g, 1 - beta2)
    correction2 = 1 - beta2**step
    rho_inf = 2 / (1 - beta2) - 1
    rho = rho_inf - 2 * step * beta2**step / correction2
    update = exp_avg / (1 - beta1**step)
    update *= lr
    if not is_number(rho):  # on a device: both ways, since asking would wait
        known = xp.maximum(rho, 5.0)
        rect = ((known - 4) * (known - 2) * rho_inf / ((rho_inf - 4) * (rho_inf - 2) * known)) ** 0.5
        denom = xp.sqrt(exp_avg_sq)
        denom += eps
        update *= xp.where(rho > 5.0, correction2**0.5 * rect / denom, 1.0)
    elif rho > 5.0:
        rect = ((rho - 4) * (rho - 2) * rho_inf / ((rho_inf - 4) * (rho_inf - 2) * rho)) ** 0.5
        denom = xp.sqrt(exp_avg_sq)
        denom += eps
        update *= correction2**0.5 / denom
        update *= rect
    p -= update


class RAdam(FormulaOptimizer):
    """RAdam. Arguments, defaults and state (`step`, `exp_avg`, `exp_avg_sq`) are PyTorch's."""

    formula = staticmethod(radam_step)
    option_names = ("lr", "betas", "eps", "weight_decay", "decoupled_weight_decay", "maximize")
    state_arrays = ("exp_avg", "exp_avg_sq")
    later_options = {
        "foreach": None, "maximize": False, "differentiable": False, "decoupled_weight_decay": False,
        "capturable": False,
    }  # fmt: skip

    def __init__(
        self,
        params: Iterable[Any],
        lr: float | Tensor = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0,
        decoupled_weight_decay: bool = False,
        *,
        foreach: bool | None = None,
        maximize: bool = False,
        capturable: bool = False,
        differentiable: bool = False,
    ) -> None:
        check_options(lr=lr, eps=eps, betas=betas, weight_decay=weight_decay)
        defaults = {
            "lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay, "maximize": maximize,
            "foreach": foreach, "capturable": capturable, "decoupled_weight_decay": decoupled_weight_decay,
            "differentiable": differentiable,
        }  # fmt: skip
        super().__init__(params, defaults)
