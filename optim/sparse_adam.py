"""SparseAdam: Adam on the entries that a sparse gradient has."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ..autograd.tensor import Tensor
from .elementwise import FormulaOptimizer, full_like
from .optimizer import Group, State

__all__ = ["SparseAdam"]


def sparse_adam_step(
    xp: Any, p: Any, g: Any, exp_avg: Any, exp_avg_sq: Any, *,
    lr: float, betas: tuple[float, float], eps: float, maximize: bool, step: float,
) -> None:  # fmt: skip
    """m = lerp(m, g, 1 - beta1); v = lerp(v, g^2, 1 - beta2); p -= lr * sqrt(1 - beta2^t) / (1 - beta1^t) * m / d.

    d = sqrt(v) + eps, so eps counts more in the first steps than in `Adam`. Kingma, Ba: Adam, arXiv:1412.6980, the
    form at the end of section 2.
    """
    beta1, beta2 = betas
    if maximize:
        g = -g
    exp_avg += (g - exp_avg) * (1 - beta1)
    exp_avg_sq += (g * g - exp_avg_sq) * (1 - beta2)
    denom = xp.sqrt(exp_avg_sq)
    denom += eps
    p -= exp_avg / denom * (lr * (1 - beta2**step) ** 0.5 / (1 - beta1**step))


class SparseAdam(FormulaOptimizer):
    """Adam for sparse gradients: only the entries that a gradient has change, in the parameter and in the state.

    Parameters are dense and real (else ValueError); their gradients are sparse COO tensors, RuntimeError for a dense
    one. Arguments, defaults and state (`step`, `exp_avg`, `exp_avg_sq`) are PyTorch's.
    """

    formula = staticmethod(sparse_adam_step)
    option_names = ("lr", "betas", "eps", "maximize")
    state_arrays = ("exp_avg", "exp_avg_sq")
    counters = ()  # `step` is a Python number here, as in PyTorch
    later_options = {"maximize": False}
    takes_sparse = True
    checks_all = True

    def __init__(
        self,
        params: Iterable[Any],
        lr: float | Tensor = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        maximize: bool = False,
    ) -> None:
        if isinstance(lr, Tensor) and lr.array.size != 1:
            raise ValueError("Tensor lr must be 1-element")
        for label, value in (("learning rate", lr), ("epsilon value", eps)):
            if not 0.0 < value:
                raise ValueError(f"Invalid {label}: {value}")
        for i, beta in enumerate(betas):
            if not 0.0 <= beta < 1.0:
                raise ValueError(f"Invalid beta parameter at index {i}: {beta}")
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps, "maximize": maximize})
        places = [(p, [i, j]) for i, group in enumerate(self.param_groups) for j, p in enumerate(group["params"])]
        if sparse := [place for p, place in places if p.is_sparse]:
            raise ValueError(f"Sparse params at indices {sparse}: SparseAdam requires dense parameter tensors")
        if complexes := [place for p, place in places if p.dtype.is_complex]:
            raise ValueError(f"Complex params at indices {complexes}: SparseAdam does not support complex parameters")

    def init_state(self, state: State, p: Tensor, group: Group) -> None:
        state.update(step=0, exp_avg=full_like(p), exp_avg_sq=full_like(p))

    def advance(self, state: State, p: Tensor, group: Group) -> dict[str, Any]:
        state["step"] += 1
        return {"step": state["step"]}

    def check(self, p: Tensor, grad: Tensor, group: Group) -> None:
        if not grad.is_sparse:
            raise RuntimeError("SparseAdam does not support dense gradients, please consider Adam instead")
