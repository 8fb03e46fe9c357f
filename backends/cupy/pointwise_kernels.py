"""Activation functions and their backward composites, sums and products, one pass over memory each.

The memory order of the input is kept: an array that is dense in some order of its dimensions is taken as flat memory.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..base import may_decline
from .launch import TYPES, Kernel, aligned, blocks_for, served
from .layout import in_layout, new_like, same_flat

# op -> (function in pointwise.cuh, its keywords in the order a, b, c)
FUNCTIONS: dict[str, tuple[str, tuple[str, ...]]] = {
    "relu": ("Relu", ()),
    "sigmoid": ("Sigmoid", ()),
    "tanh": ("Tanh", ()),
    "silu": ("Silu", ()),
    "mish": ("Mish", ()),
    "softplus": ("Softplus", ("beta", "threshold")),
    "logsigmoid": ("LogSigmoid", ()),
    "softsign": ("Softsign", ()),
    "tanhshrink": ("Tanhshrink", ()),
    "leaky_relu": ("LeakyRelu", ("negative_slope",)),
    "elu": ("Elu", ("alpha", "scale", "input_scale")),
    "threshold": ("Threshold", ("threshold", "value")),
    "hardtanh": ("Hardtanh", ("min_val", "max_val")),
    "hardsigmoid": ("Hardsigmoid", ()),
    "hardswish": ("Hardswish", ()),
    "softshrink": ("Softshrink", ("lambd",)),
    "hardshrink": ("Hardshrink", ("lambd",)),
}
# composites whose name is not the forward's with _backward; softshrink and hardshrink share one, threshold has none
BACKWARD_NAMES = {"softshrink": "shrink_backward", "hardshrink": None, "threshold": None}

ALL = (*[name for name, _ in FUNCTIONS.values()], "Gelu", "GeluTanh")
SLOPES = tuple(name for name in ALL if name not in ("Threshold", "Hardshrink"))

FORWARD = Kernel("pointwise.cuh", "forward", "PPlifff", F=ALL, T=TYPES)
BACKWARD = Kernel("pointwise.cuh", "backward", "PPPlifff", F=SLOPES, T=TYPES)
# op -> function in pointwise.cuh
SUMS = {"add": "Plus", "sub": "Minus", "mul": "Times"}
BINARY = Kernel("pointwise.cuh", "binary", "PPPli", F=tuple(SUMS.values()), T=TYPES)


def run_forward(function: str, x: Any, *numbers: Any) -> Any:
    """function(x), see pointwise.cuh; NotImplemented for what the kernels do not take."""
    name = served(x)
    if name is None:
        return NotImplemented
    x, out = new_like(x)
    a, b, c = (*numbers, 0.0, 0.0, 0.0)[:3]
    grid = (blocks_for(x.size, 256 * 16 // x.itemsize),)
    FORWARD((function, name), grid, (256,), x, out, x.size, aligned(x, out), a, b, c)
    return out


def run_backward(function: str, g: Any, saved: Any, *numbers: Any) -> Any:
    """The gradient g taken through the function at what was saved of it."""
    name = served(saved, g)
    if name is None or g.shape != saved.shape:
        return NotImplemented
    saved, out = new_like(saved)
    g = in_layout(g, saved)
    a, b, c = (*numbers, 0.0, 0.0, 0.0)[:3]
    grid = (blocks_for(g.size, 256 * 16 // g.itemsize),)
    BACKWARD((function, name), grid, (256,), g, saved, out, g.size, aligned(g, saved, out), a, b, c)
    return out


def run_binary(function: str, x: Any, y: Any) -> Any:
    """function(x, y) of two arrays that lie alike; NotImplemented for all others, and for numbers."""
    if x.__class__ is not y.__class__ or not hasattr(x, "strides") or x.shape != y.shape:
        return NotImplemented
    name = served(x, y)
    if name is None or not same_flat(x, y):
        return NotImplemented
    _, out = new_like(x)
    grid = (blocks_for(x.size, 256 * 16 // x.itemsize),)
    BINARY((function, name), grid, (256,), x, y, out, x.size, aligned(x, y, out))
    return out


def _numeric(numbers: Any) -> bool:
    return all(n.__class__ is float or n.__class__ is int for n in numbers)


def _forward(function: str, keywords: tuple[str, ...]) -> Callable[..., Any]:
    @may_decline
    def kernel(x: Any, **kw: Any) -> Any:
        numbers = [kw[k] for k in keywords] if len(kw) == len(keywords) else None
        return run_forward(function, x, *numbers) if numbers is not None and _numeric(numbers) else NotImplemented

    return kernel


def _backward(function: str, keywords: tuple[str, ...]) -> Callable[..., Any]:
    @may_decline
    def kernel(g: Any, saved: Any, **kw: Any) -> Any:
        numbers = [kw[k] for k in keywords]
        return run_backward(function, g, saved, *numbers) if _numeric(numbers) else NotImplemented

    return kernel


@may_decline
def gelu(x: Any, *, approximate: str = "none") -> Any:
    """Op gelu."""
    return run_forward("GeluTanh" if approximate == "tanh" else "Gelu", x)


@may_decline
def gelu_backward(g: Any, x: Any, *, approximate: str) -> Any:
    """Composite gelu_backward."""
    return run_backward("GeluTanh" if approximate == "tanh" else "Gelu", g, x)


def _binary(function: str) -> Callable[..., Any]:
    @may_decline
    def kernel(x: Any, y: Any, out: Any = None) -> Any:
        return run_binary(function, x, y) if out is None else NotImplemented

    return kernel


KERNELS: dict[str, Callable[..., Any]] = {"gelu": gelu, "gelu_backward": gelu_backward}
KERNELS.update({name: _binary(function) for name, function in SUMS.items()})
for _op, (_function, _keywords) in FUNCTIONS.items():
    KERNELS[_op] = _forward(_function, _keywords)
    if _name := BACKWARD_NAMES.get(_op, f"{_op}_backward"):
        KERNELS[_name] = _backward(_function, _keywords)
