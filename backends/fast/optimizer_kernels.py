"""The optimizers' formulas, compiled: one pass over each parameter and its state, in all threads.

Names and arguments are those of the formulas in optim/, without `xp`. They decline what does not lie row-major in
float32 or float64, and parameters of a few elements until something else has loaded the machine code.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..base import may_decline
from .compiled import Function, Group

NEEDS = "numba"
SOURCE = Group("optimizers")
SMALL = 1 << 14  # elements of a parameter that are worth loading machine code for
GRAIN = 1 << 15
F32, F64 = np.dtype(np.float32), np.dtype(np.float64)
_SUFFIX = {F32: "_f4", F64: "_f8"}


def _kernel(name: str, p: Any, *others: Any) -> Function | None:
    """The kernel for a parameter and its arrays (None among them are left out); None where it does not serve them."""
    dt = p.dtype
    if (dt is not F32 and dt is not F64) or p.size < SMALL and not SOURCE.functions:
        return None
    for a in (p, *others):
        if a is not None and (a.dtype is not dt or not a.flags.c_contiguous or not a.flags.aligned):
            return None
    return SOURCE.get(name + _SUFFIX[dt])


def _run(run: Function, p: Any, *args: Any) -> None:
    run.over(p.size, p, *args, grain=GRAIN, align=64)


def _decay(lr: float, weight_decay: float, decoupled: bool, maximize: bool) -> tuple[float, float, float]:
    """(sign, l2, decay) of a formula with either kind of weight decay."""
    sign = -1.0 if maximize else 1.0
    return (sign, 0.0, 1 - lr * weight_decay) if decoupled else (sign, weight_decay, 1.0)


@may_decline
def adam_step(
    p: Any, g: Any, exp_avg: Any, exp_avg_sq: Any, max_exp_avg_sq: Any, *,
    lr: float, betas: tuple[float, float], eps: float, weight_decay: float, amsgrad: bool, maximize: bool,
    decoupled_weight_decay: bool, step: float,
) -> Any:  # fmt: skip
    """See optim/adam.py."""
    run = _kernel("adam", p, g, exp_avg, exp_avg_sq, max_exp_avg_sq)
    if run is None:
        return NotImplemented
    beta1, beta2 = betas
    _run(
        run, p, g, exp_avg, exp_avg_sq, max_exp_avg_sq if amsgrad else None,
        *_decay(lr, weight_decay, decoupled_weight_decay, maximize),
        1 - beta1, beta2, 1 - beta2, (1 - beta2**step) ** -0.5, eps, lr / (1 - beta1**step),
    )  # fmt: skip
    return None


@may_decline
def sgd_step(
    p: Any, g: Any, momentum_buffer: Any, *,
    lr: float, momentum: float, dampening: float, weight_decay: float, nesterov: bool, maximize: bool, first: bool,
) -> Any:  # fmt: skip
    """See optim/sgd.py."""
    run = _kernel("sgd_momentum" if momentum else "sgd", p, g, momentum_buffer)
    if run is None:
        return NotImplemented
    sign = -1.0 if maximize else 1.0
    if not momentum:
        _run(run, p, g, sign, weight_decay, lr)
        return None
    old, new = (momentum, 1.0) if nesterov else (1.0, 0.0)
    _run(run, p, g, momentum_buffer, sign, weight_decay, lr, 0.0 if first else momentum, 1 - dampening, old, new)
    return None


@may_decline
def rmsprop_step(
    p: Any, g: Any, square_avg: Any, momentum_buffer: Any, grad_avg: Any, *,
    lr: float, alpha: float, eps: float, weight_decay: float, momentum: float, centered: bool, maximize: bool,
    step: float,
) -> Any:  # fmt: skip
    """See optim/rmsprop.py."""
    run = _kernel("rmsprop", p, g, square_avg, momentum_buffer, grad_avg)
    if run is None:
        return NotImplemented
    _run(
        run, p, g, square_avg, momentum_buffer if momentum > 0 else None, grad_avg if centered else None,
        -1.0 if maximize else 1.0, weight_decay, lr, alpha, 1 - alpha, eps, momentum,
    )  # fmt: skip
    return None


@may_decline
def adagrad_step(
    p: Any, g: Any, sum: Any, *, lr: float, lr_decay: float, eps: float, weight_decay: float, maximize: bool,
    step: float,
) -> Any:  # fmt: skip
    """See optim/adagrad.py."""
    run = _kernel("adagrad", p, g, sum)
    if run is None:
        return NotImplemented
    _run(run, p, g, sum, -1.0 if maximize else 1.0, weight_decay, lr / (1 + (step - 1) * lr_decay), eps)
    return None


@may_decline
def adamax_step(
    p: Any, g: Any, exp_avg: Any, exp_inf: Any, *,
    lr: float, betas: tuple[float, float], eps: float, weight_decay: float, maximize: bool, step: float,
) -> Any:  # fmt: skip
    """See optim/adamax.py."""
    run = _kernel("adamax", p, g, exp_avg, exp_inf)
    if run is None:
        return NotImplemented
    beta1, beta2 = betas
    rate = lr / (1 - beta1**step)
    _run(run, p, g, exp_avg, exp_inf, -1.0 if maximize else 1.0, weight_decay, 1 - beta1, beta2, eps, rate)
    return None


@may_decline
def adadelta_step(
    p: Any, g: Any, square_avg: Any, acc_delta: Any, *,
    lr: float, rho: float, eps: float, weight_decay: float, maximize: bool, step: float,
) -> Any:  # fmt: skip
    """See optim/adadelta.py."""
    run = _kernel("adadelta", p, g, square_avg, acc_delta)
    if run is None:
        return NotImplemented
    _run(run, p, g, square_avg, acc_delta, -1.0 if maximize else 1.0, weight_decay, lr, rho, 1 - rho, eps)
    return None


@may_decline
def nadam_step(
    p: Any, g: Any, exp_avg: Any, exp_avg_sq: Any, *,
    lr: float, betas: tuple[float, float], eps: float, weight_decay: float, decoupled_weight_decay: bool,
    maximize: bool, step: float, mu: float, mu_next: float, mu_product: float,
) -> Any:  # fmt: skip
    """See optim/nadam.py."""
    run = _kernel("nadam", p, g, exp_avg, exp_avg_sq)
    if run is None:
        return NotImplemented
    beta1, beta2 = betas
    _run(
        run, p, g, exp_avg, exp_avg_sq, *_decay(lr, weight_decay, decoupled_weight_decay, maximize),
        1 - beta1, beta2, 1 - beta2, 1 / (1 - beta2**step), eps,
        lr * (1 - mu) / (1 - mu_product), lr * mu_next / (1 - mu_product * mu_next),
    )  # fmt: skip
    return None


@may_decline
def radam_step(
    p: Any, g: Any, exp_avg: Any, exp_avg_sq: Any, *,
    lr: float, betas: tuple[float, float], eps: float, weight_decay: float, decoupled_weight_decay: bool,
    maximize: bool, step: float,
) -> Any:  # fmt: skip
    """See optim/radam.py."""
    run = _kernel("radam", p, g, exp_avg, exp_avg_sq)
    if run is None:
        return NotImplemented
    beta1, beta2 = betas
    correction2 = 1 - beta2**step
    rho_inf = 2 / (1 - beta2) - 1
    rho = rho_inf - 2 * step * beta2**step / correction2
    rectified = 0.0
    if rho > 5.0:
        rectified = (correction2 * (rho - 4) * (rho - 2) * rho_inf / ((rho_inf - 4) * (rho_inf - 2) * rho)) ** 0.5
    _run(
        run, p, g, exp_avg, exp_avg_sq, *_decay(lr, weight_decay, decoupled_weight_decay, maximize),
        1 - beta1, beta2, 1 - beta2, eps, lr / (1 - beta1**step), rectified,
    )  # fmt: skip
    return None


KERNELS: dict[str, Callable[..., Any]] = {
    formula.__name__: formula
    for formula in (
        adam_step, sgd_step, rmsprop_step, adagrad_step, adamax_step, adadelta_step, nadam_step, radam_step
    )
}  # fmt: skip
