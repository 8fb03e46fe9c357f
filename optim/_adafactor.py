"""Adafactor."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ..autograd.info import finfo
from ..autograd.tensor import Tensor, wrap
from ..backends.registry import backend_of
from .arithmetic import lerp_
from .elementwise import FormulaOptimizer, number
from .optimizer import Group, State

__all__ = ["Adafactor"]


def adafactor_step(
    xp: Any, p: Any, g: Any, row_var: Any, col_var: Any, variance: Any, *,
    lr: float, beta2_decay: float, eps: tuple[float, float], d: float, weight_decay: float, maximize: bool,
    step: float,
) -> None:  # fmt: skip
    """p -= alpha * u / max(1, rms(u) / d), u = g / sqrt(v), alpha = max(eps[1], rms(p)) * min(lr, 1 / sqrt(step)).

    v of a matrix (..., R, C) is the product of its row means (..., R, 1) and column means (..., 1, C) over the mean of
    the row means, so that R + C numbers are kept; of a vector it is kept whole. Shazeer, Stern: Adafactor,
    arXiv:1804.04235, Algorithms 4 and 5, in PyTorch's form (no step size relative to the parameter where lr is lower).
    """
    if maximize:
        g = -g
    eps1, eps2 = eps
    weight = step**beta2_decay
    alpha = max(eps2, _rms(p)) * min(lr, 1 / step**0.5)
    if weight_decay != 0:
        p *= 1 - lr * weight_decay
    if g.ndim > 1:
        squares = g * g
        lerp_(row_var, squares.mean(axis=-1, keepdims=True), weight)
        lerp_(col_var, squares.mean(axis=-2, keepdims=True), weight)
        v = xp.multiply(row_var, col_var, out=squares)
        v /= xp.maximum(row_var.mean(axis=-2, keepdims=True), eps1)
    else:
        lerp_(variance, g * g, weight)
        v = variance.copy()
    v = xp.maximum(v, eps1 * eps1, out=v)
    u = xp.sqrt(v, out=v)
    u = xp.divide(g, u, out=u)
    u *= alpha / max(1.0, _rms(u) / d)
    p -= u


def _rms(x: Any) -> float:
    """The root of the mean square of all elements."""
    flat = x.reshape(-1)
    return float(flat @ flat) ** 0.5 / max(1, flat.size) ** 0.5


class Adafactor(FormulaOptimizer):
    """Adafactor. Arguments, defaults and state (`step`, and `row_var`, `col_var` or `variance`) are PyTorch's."""

    formula = staticmethod(adafactor_step)
    elementwise = False
    checks_all = True
    option_names = ("lr", "beta2_decay", "d", "weight_decay", "maximize")
    state_arrays = ("row_var", "col_var", "variance")
    later_options = {"foreach": None}

    def __init__(
        self,
        params: Iterable[Any],
        lr: float | Tensor = 1e-2,
        beta2_decay: float = -0.8,
        eps: tuple[float | None, float] = (None, 1e-3),
        d: float = 1.0,
        weight_decay: float = 0.0,
        *,
        foreach: bool | None = None,
        maximize: bool = False,
    ) -> None:
        if isinstance(lr, Tensor) and lr.array.size != 1:
            raise ValueError("Tensor lr must be 1-element")
        for name, value, right, sense in (
            ("Learning rate", lr, 0.0 <= lr, ">= 0"),
            ("beta2_decay", beta2_decay, 0.0 >= beta2_decay, "<= 0"),
            ("epsilon1", eps[0], eps[0] is None or 0.0 <= eps[0], ">= 0"),
            ("epsilon2", eps[1], 0.0 <= eps[1], ">= 0"),
            ("Clipping threshold d", d, 1.0 <= d, ">= 1"),
            ("weight_decay", weight_decay, 0.0 <= weight_decay, ">= 0"),
        ):
            if not right:
                raise ValueError(f"{name} should be {sense} but is: {value}")
        defaults = {
            "lr": lr, "beta2_decay": beta2_decay, "eps": eps, "d": d, "weight_decay": weight_decay,
            "foreach": foreach, "maximize": maximize,
        }  # fmt: skip
        super().__init__(params, defaults)

    def init_state(self, state: State, p: Tensor, group: Group) -> None:
        state["step"] = self.new_counter(0.0, p, group)
        zeros, shape = backend_of(p.array).xp.zeros_like, tuple(p.shape)
        if len(shape) > 1:
            state["row_var"] = wrap(zeros(p.array[..., :1]))
            state["col_var"] = wrap(zeros(p.array[..., :1, :]))
        else:
            state["variance"] = wrap(zeros(p.array))

    def advance(self, state: State, p: Tensor, group: Group) -> dict[str, Any]:
        eps1, eps2 = group["eps"]
        if eps1 is None:
            eps1 = finfo(p.dtype).eps
        return {**super().advance(state, p, group), "eps": (number(eps1), number(eps2))}

    def check(self, p: Tensor, grad: Tensor, group: Group) -> None:
        if p.dtype.is_complex:
            raise RuntimeError("Adafactor does not support complex parameters")
        super().check(p, grad, group)
