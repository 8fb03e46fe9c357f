"""Stochastic gradient descent, with momentum."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ..autograd.tensor import Tensor
from .arithmetic import added
from .elementwise import FormulaOptimizer, check_options, full_like
from .optimizer import Group, State

__all__ = ["SGD"]


def sgd_step(
    xp: Any, p: Any, g: Any, momentum_buffer: Any, *,
    lr: float, momentum: float, dampening: float, weight_decay: float, nesterov: bool, maximize: bool, first: bool,
) -> None:  # fmt: skip
    """b = momentum * b + (1 - dampening) * g (b = g at first); p -= lr * b, with nesterov p -= lr * (g + momentum * b).

    Sutskever, Martens, Dahl, Hinton: On the importance of initialization and momentum in deep learning (2013), in
    PyTorch's form, where lr multiplies the buffer and is not inside it.
    """
    if maximize:
        g = -g
    if weight_decay != 0:
        g = added(g, p, weight_decay)
    if momentum != 0:
        b = momentum_buffer
        if first:
            b[...] = g
        else:
            b *= momentum
            b += g * (1 - dampening) if dampening != 0 else g
        g = added(g, b, momentum) if nesterov else b
    p -= g * lr


class SGD(FormulaOptimizer):
    """Stochastic gradient descent. Arguments, defaults and state (`momentum_buffer`) are PyTorch's.

    >>> import tapegrad as torch
    >>> x = torch.tensor([1.0, 2.0], requires_grad=True)
    >>> optimizer = torch.optim.SGD([x], lr=0.5)
    >>> (x * x).sum().backward()
    >>> optimizer.step()
    >>> x
    tensor([0., 0.], requires_grad=True)
    """

    formula = staticmethod(sgd_step)
    option_names = ("lr", "momentum", "dampening", "weight_decay", "nesterov", "maximize")
    state_arrays = ("momentum_buffer",)
    counters = ()
    takes_sparse = True
    together = False  # its few operations cost no more than the copies
    later_options = {"nesterov": False, "maximize": False, "foreach": None, "differentiable": False, "fused": False}

    def __init__(
        self,
        params: Iterable[Any],
        lr: float | Tensor = 1e-3,
        momentum: float = 0,
        dampening: float = 0,
        weight_decay: float | Tensor = 0,
        nesterov: bool = False,
        *,
        maximize: bool = False,
        foreach: bool | None = None,
        differentiable: bool = False,
        fused: bool | None = None,
    ) -> None:
        check_options(lr=lr, momentum=momentum, weight_decay=weight_decay)
        if nesterov and (momentum <= 0 or dampening != 0):
            raise ValueError("Nesterov momentum requires a momentum and zero dampening")
        defaults = {
            "lr": lr, "momentum": momentum, "dampening": dampening, "weight_decay": weight_decay, "nesterov": nesterov,
            "maximize": maximize, "foreach": foreach, "differentiable": differentiable, "fused": fused,
        }  # fmt: skip
        super().__init__(params, defaults)
        self.check_fused()

    def state_of(self, p: Tensor, group: Group) -> State:
        return self.state[p] if group["momentum"] != 0 else {}

    def check(self, p: Tensor, grad: Tensor, group: Group) -> None:
        super().check(p, grad, group)
        if grad.is_sparse and group["fused"]:
            raise RuntimeError("`_fused_sgd` does not support sparse gradients")
        if grad.is_sparse and group["weight_decay"] != 0:
            raise RuntimeError("add(sparse, dense) is not supported. Use add(dense, sparse) instead.")

    def _ready(self, group: Group) -> list[tuple[Tensor, Tensor]]:
        """As for all, but momentum moves every entry that ever had a gradient: it takes a sparse one as dense."""
        entries = super()._ready(group)
        if group["momentum"] == 0:
            return entries
        return [(p, grad.to_dense() if grad.is_sparse else grad) for p, grad in entries]

    def advance(self, state: State, p: Tensor, group: Group) -> dict[str, Any]:
        first = group["momentum"] != 0 and state.get("momentum_buffer") is None
        if first:
            state["momentum_buffer"] = full_like(p)
        return {"first": first}
