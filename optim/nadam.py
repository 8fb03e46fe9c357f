"""NAdam: Adam with Nesterov momentum."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ..autograd.tensor import Tensor
from .arithmetic import addcdiv_, addcmul_, added, lerp_, read
from .elementwise import FormulaOptimizer, check_options, full_like, number
from .optimizer import Group, State

__all__ = ["NAdam"]


def nadam_step(
    xp: Any, p: Any, g: Any, exp_avg: Any, exp_avg_sq: Any, *,
    lr: float, betas: tuple[float, float], eps: float, weight_decay: float, decoupled_weight_decay: bool,
    maximize: bool, step: float, mu: float, mu_next: float, mu_product: float,
) -> None:  # fmt: skip
    """p -= lr * ((1 - mu) / (1 - mu_product) * g + mu_next / (1 - mu_product * mu_next) * m) / (sqrt(v^) + eps).

    m, v and v^ as in Adam; mu and mu_next: the momentum of this step and the next, mu_product: of all so far. Dozat:
    Incorporating Nesterov Momentum into Adam (2016).
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
    denom = exp_avg_sq / (1 - beta2**step)
    denom = xp.sqrt(denom, out=denom)
    denom += eps
    addcdiv_(p, g, denom, -lr * (1 - mu) / (1 - mu_product))
    addcdiv_(p, exp_avg, denom, -lr * mu_next / (1 - mu_product * mu_next))


class NAdam(FormulaOptimizer):
    """NAdam. Arguments, defaults and state (`step`, `mu_product`, `exp_avg`, `exp_avg_sq`) are PyTorch's."""

    formula = staticmethod(nadam_step)
    option_names = ("lr", "betas", "eps", "weight_decay", "decoupled_weight_decay", "maximize")
    state_arrays = ("exp_avg", "exp_avg_sq")
    counters = ("step", "mu_product")
    later_options = {
        "maximize": False, "foreach": None, "capturable": False, "differentiable": False,
        "decoupled_weight_decay": False,
    }  # fmt: skip

    def __init__(
        self,
        params: Iterable[Any],
        lr: float | Tensor = 2e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0,
        momentum_decay: float = 4e-3,
        decoupled_weight_decay: bool = False,
        *,
        foreach: bool | None = None,
        maximize: bool = False,
        capturable: bool = False,
        differentiable: bool = False,
    ) -> None:
        check_options(lr=lr, eps=eps, betas=betas, weight_decay=weight_decay, momentum_decay=momentum_decay)
        defaults = {
            "lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay, "momentum_decay": momentum_decay,
            "decoupled_weight_decay": decoupled_weight_decay, "maximize": maximize, "foreach": foreach,
            "capturable": capturable, "differentiable": differentiable,
        }  # fmt: skip
        super().__init__(params, defaults)

    def init_state(self, state: State, p: Tensor, group: Group) -> None:
        state["step"] = self.new_counter(0.0, p, group)
        state["mu_product"] = self.new_counter(1.0, p, group)
        state["exp_avg"] = full_like(p)
        state["exp_avg_sq"] = full_like(p)

    def advance(self, state: State, p: Tensor, group: Group) -> dict[str, Any]:
        numbers = super().advance(state, p, group)
        step, decay, beta1 = numbers["step"], number(group["momentum_decay"]), number(group["betas"][0])
        mu = beta1 * (1.0 - 0.5 * 0.96 ** (step * decay))
        product = state["mu_product"].array  # kept in the precision of a counter, as PyTorch keeps it
        product *= mu
        mu_next = beta1 * (1.0 - 0.5 * 0.96 ** ((step + 1) * decay))
        return {**numbers, "mu": mu, "mu_next": mu_next, "mu_product": read(product)}
