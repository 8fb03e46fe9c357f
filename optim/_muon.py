"""Muon."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ..autograd.tensor import Tensor
from .arithmetic import lerp_
from .elementwise import FormulaOptimizer, full_like
from .optimizer import Group, State

__all__ = ["Muon"]


def muon_step(
    xp: Any, p: Any, g: Any, momentum_buffer: Any, *,
    lr: float, weight_decay: float, momentum: float, nesterov: bool, ns_coefficients: tuple[float, float, float],
    eps: float, ns_steps: int, scale: float,
) -> None:  # fmt: skip
    """b = lerp(b, g, 1 - momentum); u = lerp(g, b, momentum) with nesterov, else b; p -= lr * scale * U V^T of u.

    All are matrices (A, B). p is first shrunk by 1 - lr * weight_decay. Jordan: Muon: An optimizer for hidden layers in
    neural networks (2024); the scale that matches AdamW's updates: Liu et al.: Muon is Scalable for LLM Training,
    arXiv:2502.16982.
    """
    lerp_(momentum_buffer, g, 1 - momentum)
    update = momentum_buffer
    if nesterov:
        update = g.copy()
        lerp_(update, momentum_buffer, momentum)
    update = orthogonal(xp, update, ns_coefficients, ns_steps, eps)
    p *= 1 - lr * weight_decay
    p -= update.astype(p.dtype, copy=False) * (lr * scale)


def orthogonal(xp: Any, g: Any, coefficients: tuple[float, float, float], steps: int, eps: float) -> Any:
    """About U V^T where g = U S V^T: g (A, B) -> (A, B) float32 holding bfloat16 values.

    A quintic Newton-Schulz iteration drives all singular values towards one; its coefficients are steep at zero rather
    than convergent, so they end between about 0.5 and 1.5. It is calculated in bfloat16, as in PyTorch: every product
    in float32, then rounded, which needs no bfloat16 type.
    """
    a, b, c = (xp.float32(value) for value in coefficients)
    tall = g.shape[0] > g.shape[1]
    x = to_bfloat16(xp, g.T if tall else g)
    norm = to_bfloat16(xp, xp.sqrt((x * x).sum(keepdims=True)))
    x = to_bfloat16(xp, x / xp.maximum(norm, to_bfloat16(xp, xp.full_like(norm, eps))))
    for _ in range(steps):
        gram = to_bfloat16(xp, x @ x.T)
        update = to_bfloat16(xp, b * gram + c * (gram @ gram))
        x = to_bfloat16(xp, a * x + update @ x)
    return x.T if tall else x


def to_bfloat16(xp: Any, x: Any) -> Any:
    """x (*S) in float32, rounded to the nearest value that bfloat16 has, ties to even; NaN and infinities stay."""
    x = xp.ascontiguousarray(x, dtype="float32")
    bits = x.view("uint32")
    rounded = (bits + (0x7FFF + ((bits >> 16) & 1))) & 0xFFFF0000
    return xp.where(xp.isnan(x), x, rounded.astype("uint32").view("float32"))


class Muon(FormulaOptimizer):
    """Muon, for parameters that are matrices (A, B); biases and embeddings want another optimizer beside it.

    The momentum is orthogonalised before it is applied. adjust_lr_fn: None or "original" multiplies the rate by
    sqrt(max(1, A / B)), "match_rms_adamw" by 0.2 * sqrt(max(A, B)). Arguments, defaults and state (`momentum_buffer`)
    are PyTorch's. Raises ValueError for a parameter that is no matrix, RuntimeError for complex ones.

    >>> import tapegrad as torch
    >>> w = torch.eye(2, requires_grad=True)
    >>> optimizer = torch.optim.Muon([w], lr=0.1, weight_decay=0.0)
    >>> w.sum().backward()
    >>> optimizer.step()
    >>> w.shape
    torch.Size([2, 2])
    """

    formula = staticmethod(muon_step)
    elementwise = False
    checks_all = True
    option_names = ("lr", "weight_decay", "momentum", "nesterov", "ns_coefficients", "eps")
    state_arrays = ("momentum_buffer",)
    counters = ()

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        weight_decay: float = 0.1,
        momentum: float = 0.95,
        nesterov: bool = True,
        ns_coefficients: tuple[float, float, float] = (3.4445, -4.7750, 2.0315),
        eps: float = 1e-7,
        ns_steps: int = 5,
        adjust_lr_fn: str | None = None,
    ) -> None:
        if isinstance(lr, Tensor) and lr.array.size != 1:
            raise ValueError("Tensor lr must be 1-element")
        for name, value in (("Learning rate", lr), ("momentum", momentum), ("weight decay", weight_decay)):
            if not 0.0 <= value:
                raise ValueError(f"{name} should be >= 0 but is: {value}")
        if adjust_lr_fn not in (None, "original", "match_rms_adamw"):
            raise ValueError(f"Adjust learning rate function {adjust_lr_fn} is not supported")
        defaults = {
            "lr": lr, "weight_decay": weight_decay, "momentum": momentum, "nesterov": nesterov,
            "ns_coefficients": ns_coefficients, "eps": eps, "ns_steps": ns_steps, "adjust_lr_fn": adjust_lr_fn,
        }  # fmt: skip
        super().__init__(params, defaults)
        for group in self.param_groups:
            for p in group["params"]:
                if p.ndim != 2:
                    raise ValueError(
                        f"Muon only supports 2D parameters whereas we found a parameter with size: {p.size()}"
                    )

    def init_state(self, state: State, p: Tensor, group: Group) -> None:
        state["momentum_buffer"] = full_like(p)

    def advance(self, state: State, p: Tensor, group: Group) -> dict[str, Any]:
        rows, columns = p.array.shape
        if group["adjust_lr_fn"] == "match_rms_adamw":
            scale = 0.2 * max(rows, columns) ** 0.5
        else:
            scale = max(1, rows / columns) ** 0.5
        return {"ns_steps": group["ns_steps"], "scale": scale}

    def check(self, p: Tensor, grad: Tensor, group: Group) -> None:
        if p.dtype.is_complex:
            raise RuntimeError("Muon does not support complex parameters")
        super().check(p, grad, group)
        if p.ndim != 2:  # of a group added later
            raise ValueError("Param gradient must be a 2D matrix")
        if group["ns_steps"] >= 100:
            raise ValueError("Number of steps must be less than 100 for computational efficiency")
        if len(group["ns_coefficients"]) != 3:
            raise ValueError("Coefficients must be a tuple of exactly 3 values")
