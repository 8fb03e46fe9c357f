"""Adagrad."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ..autograd.tensor import Tensor
from .arithmetic import addcdiv_, added
from .elementwise import FormulaOptimizer, check_options, full_like
from .optimizer import Group, State

__all__ = ["Adagrad"]


def adagrad_step(
    xp: Any, p: Any, g: Any, sum: Any, *,
    lr: float, lr_decay: float, eps: float, weight_decay: float, maximize: bool, step: float,
) -> None:  # fmt: skip
    """s += g^2; p -= lr / (1 + (step - 1) * lr_decay) * g / (sqrt(s) + eps).

    Duchi, Hazan, Singer: Adaptive Subgradient Methods for Online Learning and Stochastic Optimization (2011).
    """
    if maximize:
        g = -g
    if weight_decay != 0:
        g = added(g, p, weight_decay)
    sum += g * g
    std = xp.sqrt(sum)
    std += eps
    addcdiv_(p, g, std, -(lr / (1 + (step - 1) * lr_decay)))


class Adagrad(FormulaOptimizer):
    """Adagrad. Arguments, defaults and state (`step`, `sum`, there from the beginning) are PyTorch's."""

    formula = staticmethod(adagrad_step)
    option_names = ("lr", "lr_decay", "eps", "weight_decay", "maximize")
    state_arrays = ("sum",)
    takes_sparse = True
    later_options = {"foreach": None, "maximize": False, "differentiable": False, "fused": None}

    def __init__(
        self,
        params: Iterable[Any],
        lr: float | Tensor = 1e-2,
        lr_decay: float = 0,
        weight_decay: float = 0,
        initial_accumulator_value: float = 0,
        eps: float = 1e-10,
        foreach: bool | None = None,
        *,
        maximize: bool = False,
        differentiable: bool = False,
        fused: bool | None = None,
    ) -> None:
        check_options(
            lr=lr, lr_decay=lr_decay, weight_decay=weight_decay, initial_accumulator_value=initial_accumulator_value,
            eps=eps,
        )  # fmt: skip
        defaults = {
            "lr": lr, "lr_decay": lr_decay, "eps": eps, "weight_decay": weight_decay,
            "initial_accumulator_value": initial_accumulator_value, "foreach": foreach, "maximize": maximize,
            "differentiable": differentiable, "fused": fused,
        }  # fmt: skip
        super().__init__(params, defaults)
        self.check_fused()
        for group in self.param_groups:
            for p in group["params"]:
                self.state_of(p, group)

    def init_state(self, state: State, p: Tensor, group: Group) -> None:
        state["step"] = self.new_counter(0.0, p, group)
        state["sum"] = full_like(p, self.defaults["initial_accumulator_value"])

    def check(self, p: Tensor, grad: Tensor, group: Group) -> None:
        super().check(p, grad, group)
        if grad.is_sparse and group["weight_decay"] != 0:
            raise RuntimeError("weight_decay option is not compatible with sparse gradients")
        if grad.is_sparse and group["fused"]:
            raise RuntimeError("`fused` does not support sparse grad or complex param")

    def share_memory(self) -> None:
        """Does nothing: workers are threads and share all memory."""
