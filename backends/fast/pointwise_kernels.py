"""Pointwise functions and their gradients, compiled: one pass, in all threads."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..base import may_decline
from .compiled import Group, rows

NEEDS = "numba"
SOURCE = Group("pointwise")
SMALL = 1 << 12  # elements: below, NumPy's own calls take no longer, and nothing is loaded
# Elements that take as long as handing them to a thread and waiting for it (some 100 us on a virtual machine): of
# functions with an exponential, and of those that memory decides
GRAIN, CHEAP = 1 << 17, 1 << 19
F32, F64 = np.dtype(np.float32), np.dtype(np.float64)


def _pointwise(
    kernel: str, arrays: tuple[Any, ...], numbers: tuple[float, ...] = (), single: bool = False, grain: int = GRAIN
) -> Any:
    """out = kernel(*arrays, *numbers) on large arrays of one shape and floating dtype; NotImplemented for others.

    single: there is no float64 version.
    """
    x = arrays[0]
    dt = x.dtype
    if dt is F32:
        name = kernel if single else kernel + "_f4"
    elif dt is F64 and not single:
        name = kernel + "_f8"
    else:
        return NotImplemented
    for a in arrays[1:]:
        if a.shape != x.shape or a.dtype is not dt:
            return NotImplemented
    run = SOURCE.get(name)
    if run is None:
        return NotImplemented
    out = np.empty(x.shape, dt)
    run.over(x.size, *[rows(a) for a in arrays], out, *numbers, grain=grain, align=64)
    return out


def _one(kernel: str, grain: int = GRAIN) -> Callable[..., Any]:
    def forward(x: Any) -> Any:
        return _pointwise(kernel, (x,), grain=grain) if x.size >= SMALL else NotImplemented

    return may_decline(forward)


def _two(kernel: str, grain: int = GRAIN) -> Callable[..., Any]:
    def backward(g: Any, x: Any) -> Any:
        return _pointwise(kernel, (g, x), grain=grain) if x.size >= SMALL else NotImplemented

    return may_decline(backward)


def _ufunc(kernel: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """As `_one`, for an op that is NumPy's function: asking that one itself costs a small array less than declining."""

    def forward(x: Any) -> Any:
        if x.size < SMALL:
            return function(x)
        out = _pointwise(kernel, (x,))
        return function(x) if out is NotImplemented else out

    forward.below = (function, SMALL)  # type: ignore[attr-defined]  # a kernel's mark
    return forward


@may_decline
def gelu(x: Any, *, approximate: str = "none") -> Any:
    """Op gelu."""
    if x.size < SMALL:
        return NotImplemented
    if approximate == "tanh":
        return _pointwise("gelu_tanh_forward", (x,))
    return _pointwise("gelu_forward", (x,), single=True)


@may_decline
def gelu_backward(g: Any, x: Any, *, approximate: str) -> Any:
    """Composite gelu_backward."""
    if x.size < SMALL:
        return NotImplemented
    if approximate == "tanh":
        return _pointwise("gelu_tanh_backward", (g, x))
    return _pointwise("gelu_backward", (g, x), single=True)


@may_decline
def softplus(x: Any, *, beta: Any = 1.0, threshold: Any = 20.0) -> Any:
    """Op softplus."""
    if x.size < SMALL or not beta:
        return NotImplemented
    return _pointwise("softplus_forward", (x,), (float(beta), float(threshold)))


@may_decline
def softplus_backward(g: Any, x: Any, *, beta: Any, threshold: Any) -> Any:
    """Composite softplus_backward."""
    if x.size < SMALL:
        return NotImplemented
    return _pointwise("softplus_backward", (g, x), (float(beta), float(threshold)))


@may_decline
def elu_backward(g: Any, x: Any, *, alpha: Any, scale: Any, input_scale: Any) -> Any:
    """Composite elu_backward."""
    if x.size < SMALL:
        return NotImplemented
    return _pointwise(
        "elu_backward", (g, x), (float(alpha * scale * input_scale), float(input_scale), float(scale))
    )


KERNELS: dict[str, Callable[..., Any]] = {
    "exp": _ufunc("exp_forward", np.exp),
    "tanh": _ufunc("tanh_forward", np.tanh),
    "tanh_backward": _two("tanh_backward", CHEAP),
    "sigmoid": _one("sigmoid_forward"),
    "sigmoid_backward": _two("sigmoid_backward", CHEAP),
    "silu": _one("silu_forward"),
    "silu_backward": _two("silu_backward"),
    "gelu": gelu,
    "gelu_backward": gelu_backward,
    "softplus": softplus,
    "softplus_backward": softplus_backward,
    "logsigmoid": _one("logsigmoid_forward"),
    "logsigmoid_backward": _two("logsigmoid_backward"),
    "mish": _one("mish_forward"),
    "elu_backward": elu_backward,
    "relu": _one("relu_forward", CHEAP),
    "relu_backward": _two("relu_backward", CHEAP),
}
