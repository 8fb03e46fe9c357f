"""RMSprop."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ..autograd.tensor import Tensor
from .arithmetic import addcdiv_, addcmul_, added, lerp_
from .elementwise import FormulaOptimizer, check_options

__all__ = ["RMSprop"]


def rmsprop_step(
    xp: Any, p: Any, g: Any, square_avg: Any, momentum_buffer: Any, grad_avg: Any, *,
    lr: float, alpha: float, eps: float, weight_decay: float, momentum: float, centered: bool, maximize: bool,
    step: float,
) -> None:  # fmt: skip
    """v = alpha * v + (1 - alpha) * g^2; p -= lr * g / (sqrt(v) + eps), or through a buffer with momentum.

    centered: v less the square of the mean gradient. Tieleman, Hinton: lecture 6.5 of Neural Networks for Machine
    Learning (2012); centered: Graves, arXiv:1308.0850, section 2.4.
    """
    if maximize:
        g = -g
    if weight_decay != 0:
        g = added(g, p, weight_decay)
    square_avg *= alpha
    addcmul_(square_avg, g, g, 1 - alpha)
    if centered:
        lerp_(grad_avg, g, 1 - alpha)
        avg = square_avg - grad_avg * grad_avg
        avg = xp.sqrt(avg, out=avg)
    else:
        avg = xp.sqrt(square_avg)
    avg += eps
    if momentum > 0:
        momentum_buffer *= momentum
        momentum_buffer += g / avg
        p -= momentum_buffer * lr
    else:
        addcdiv_(p, g, avg, -lr)


class RMSprop(FormulaOptimizer):
    """RMSprop. Arguments, defaults and state (`step`, `square_avg`, `momentum_buffer`, `grad_avg`) are PyTorch's."""

    formula = staticmethod(rmsprop_step)
    option_names = ("lr", "alpha", "eps", "weight_decay", "momentum", "centered", "maximize")
    state_arrays = ("square_avg", "momentum_buffer", "grad_avg")
    optional_arrays = {"momentum_buffer": "momentum", "grad_avg": "centered"}
    later_options = {
        "momentum": 0, "centered": False, "foreach": None, "maximize": False, "differentiable": False,
        "capturable": False,
    }  # fmt: skip

    def __init__(
        self,
        params: Iterable[Any],
        lr: float | Tensor = 1e-2,
        alpha: float = 0.99,
        eps: float = 1e-8,
        weight_decay: float = 0,
        momentum: float = 0,
        centered: bool = False,
        capturable: bool = False,
        foreach: bool | None = None,
        maximize: bool = False,
        differentiable: bool = False,
    ) -> None:
        check_options(lr=lr, eps=eps, momentum=momentum, weight_decay=weight_decay, alpha=alpha)
        defaults = {
            "lr": lr, "momentum": momentum, "alpha": alpha, "eps": eps, "centered": centered,
            "weight_decay": weight_decay, "capturable": capturable, "foreach": foreach, "maximize": maximize,
            "differentiable": differentiable,
        }  # fmt: skip
        super().__init__(params, defaults)
