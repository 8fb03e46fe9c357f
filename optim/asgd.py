"""Averaged stochastic gradient descent."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ..autograd.tensor import Tensor
from ..backends.registry import backend_of
from .arithmetic import added, is_number
from .elementwise import FormulaOptimizer, check_options, full_like, number, placed
from .optimizer import Group, State

__all__ = ["ASGD"]


def asgd_step(
    xp: Any, p: Any, g: Any, ax: Any, *,
    lambd: float, weight_decay: float, maximize: bool, step: float, eta: float, mu: float,
) -> None:  # fmt: skip
    """p = (1 - lambd * eta) * p - eta * g; ax += mu * (p - ax), and ax = p while mu is 1.

    Polyak, Juditsky: Acceleration of stochastic approximation by averaging (1992).
    """
    if maximize:
        g = -g
    if weight_decay != 0:
        g = added(g, p, weight_decay)
    p *= 1 - lambd * eta
    p -= g * eta
    if is_number(mu) and mu == 1:
        ax[...] = p
    else:
        ax += (p - ax) * mu


class ASGD(FormulaOptimizer):
    """Averaged SGD. Arguments, defaults and state (`step`, `eta`, `mu`, and the average `ax`) are PyTorch's."""

    formula = staticmethod(asgd_step)
    option_names = ("lambd", "weight_decay", "maximize")
    state_arrays = ("ax",)
    counters = ("step", "eta", "mu")
    later_options = {"foreach": None, "maximize": False, "differentiable": False, "capturable": False}

    def __init__(
        self,
        params: Iterable[Any],
        lr: float | Tensor = 1e-2,
        lambd: float = 1e-4,
        alpha: float = 0.75,
        t0: float = 1e6,
        weight_decay: float = 0,
        foreach: bool | None = None,
        maximize: bool = False,
        differentiable: bool = False,
        capturable: bool = False,
    ) -> None:
        check_options(lr=lr, weight_decay=weight_decay)
        defaults = {
            "lr": lr, "lambd": lambd, "alpha": alpha, "t0": t0, "weight_decay": weight_decay, "foreach": foreach,
            "maximize": maximize, "differentiable": differentiable, "capturable": capturable,
        }  # fmt: skip
        super().__init__(params, defaults)

    def init_state(self, state: State, p: Tensor, group: Group) -> None:
        state["step"] = self.new_counter(0.0, p, group)
        state["eta"] = self.new_counter(number(group["lr"]), p, group)
        state["mu"] = self.new_counter(1.0, p, group)
        state["ax"] = full_like(p)

    def advance(self, state: State, p: Tensor, group: Group) -> dict[str, Any]:
        """This step's eta and mu, which the state held; those of the next step take their place.

        They are rounded to a counter's precision even where loading has cast them to a wider one, as in PyTorch.
        """
        numbers = super().advance(state, p, group)
        eta, mu, step = state["eta"].array, state["mu"].array, numbers["step"]
        lambd, alpha, t0 = (number(group[name]) for name in ("lambd", "alpha", "t0"))
        if not is_number(step):
            lr, xp = placed("lr", group["lr"]), backend_of(eta).xp
            numbers.update(eta=eta.copy(), mu=mu.copy())
            eta[...] = lr / (1 + lambd * lr * step) ** alpha
            mu[...] = 1 / xp.maximum(1, step - t0)
            return numbers
        lr = number(group["lr"])
        numbers.update(eta=eta.item(), mu=mu.item())
        eta[...] = self.new_counter(lr / (1 + lambd * lr * step) ** alpha, p, group).array
        mu[...] = self.new_counter(1 / max(1, step - t0), p, group).array
        return numbers
