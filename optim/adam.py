"""Adam, and the formula that it shares with AdamW."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ..autograd.tensor import Tensor
from .arithmetic import addcdiv_, addcmul_, added, lerp_
from .elementwise import FormulaOptimizer, check_options

__all__ = ["Adam"]


def adam_step(
    xp: Any, p: Any, g: Any, exp_avg: Any, exp_avg_sq: Any, max_exp_avg_sq: Any, *,
    lr: float, betas: tuple[float, float], eps: float, weight_decay: float, amsgrad: bool, maximize: bool,
    decoupled_weight_decay: bool, step: float,
) -> None:  # fmt: skip
    """m = lerp(m, g, 1 - beta1); v = beta2 * v + (1 - beta2) * g^2; p -= lr * m^ / (sqrt(v^) + eps).

    m^ and v^ are m and v freed of their start at zero: divided by 1 - beta^step. Kingma, Ba: Adam, arXiv:1412.6980,
    Algorithm 1; amsgrad: Reddi, Kale, Kumar: On the Convergence of Adam and Beyond; decoupled_weight_decay: Loshchilov,
    Hutter: Decoupled Weight Decay Regularization, arXiv:1711.05101.
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
    if amsgrad:
        exp_avg_sq = xp.maximum(max_exp_avg_sq, exp_avg_sq, out=max_exp_avg_sq)
    denom = xp.sqrt(exp_avg_sq)
    denom /= (1 - beta2**step) ** 0.5
    denom += eps
    addcdiv_(p, exp_avg, denom, -(lr / (1 - beta1**step)))


class Adam(FormulaOptimizer):
    """Adam. Arguments, defaults and state (`step`, `exp_avg`, `exp_avg_sq`, `max_exp_avg_sq`) are PyTorch's.

    >>> import tapegrad as torch
    >>> x = torch.tensor([1.0], requires_grad=True)
    >>> optimizer = torch.optim.Adam([x], lr=0.5)
    >>> (x * x).sum().backward()
    >>> optimizer.step()
    >>> x
    tensor([0.5000], requires_grad=True)
    """

    formula = staticmethod(adam_step)
    option_names = ("lr", "betas", "eps", "weight_decay", "amsgrad", "maximize", "decoupled_weight_decay")
    state_arrays = ("exp_avg", "exp_avg_sq", "max_exp_avg_sq")
    optional_arrays = {"max_exp_avg_sq": "amsgrad"}
    later_options = {
        "amsgrad": False, "maximize": False, "foreach": None, "capturable": False, "differentiable": False,
        "decoupled_weight_decay": False, "fused": None,
    }  # fmt: skip
    no_sparse = "Adam does not support sparse gradients, please consider SparseAdam instead"

    def __init__(
        self,
        params: Iterable[Any],
        lr: float | Tensor = 1e-3,
        betas: tuple[float | Tensor, float | Tensor] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0,
        amsgrad: bool = False,
        *,
        foreach: bool | None = None,
        maximize: bool = False,
        capturable: bool = False,
        differentiable: bool = False,
        fused: bool | None = None,
        decoupled_weight_decay: bool = False,
    ) -> None:
        if isinstance(lr, Tensor) and foreach and not capturable:
            raise ValueError("lr as a Tensor is not supported for capturable=False and foreach=True")
        check_options(lr=lr, eps=eps, betas=betas, weight_decay=weight_decay)
        _check_beta_types(betas, bool(foreach and not capturable))
        defaults = {
            "lr": lr, "betas": tuple(map(_squeezed, betas)), "eps": eps, "weight_decay": weight_decay,
            "amsgrad": amsgrad, "maximize": maximize, "foreach": foreach, "capturable": capturable,
            "differentiable": differentiable, "fused": fused, "decoupled_weight_decay": decoupled_weight_decay,
        }  # fmt: skip
        super().__init__(params, defaults)
        self.check_fused()


def _squeezed(beta: float | Tensor) -> float | Tensor:
    """A tensor of one element as a 0-d one, a view of it."""
    return beta.squeeze() if isinstance(beta, Tensor) and beta.ndim else beta


def _check_beta_types(betas: tuple[Any, Any], foreach_only: bool) -> None:
    kinds = [isinstance(beta, Tensor) for beta in betas]
    if not (all(kinds) or all(isinstance(beta, float) for beta in betas)):
        raise ValueError("betas must be either both floats or both Tensors")
    for i, beta in enumerate(betas):
        if kinds[i]:
            if foreach_only:
                raise ValueError(f"betas[{i}] as a Tensor is not supported for capturable=False and foreach=True")
            if beta.array.size != 1:
                raise ValueError(f"Tensor betas[{i}] must be 1-element")
