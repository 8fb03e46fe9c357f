"""Activation functions in blocks that fit the cache, every pass in place.

NumPy has no error function. With e = exp(-a**2 / 2) and a = |x|, the upper tail of the normal distribution is e * M(a),
M smooth and bounded, so one rational function and one exponential serve GELU and its derivative; both are nearer to
the exact value than PyTorch's float32 (largest error for |x| < 12: 2.4e-7 against 3.7e-7).
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from ..base import may_decline
from .blocks import CHEAP, F32, F64, SHARED_BLOCK, pointwise

LARGE = 1 << 11  # from so many elements on, memory and not the call decides
SIGN = np.array(-(1 << 31), np.int32)

add, multiply, subtract, divide = np.add, np.multiply, np.subtract, np.divide


def _numbers(*values: float) -> tuple[Any, ...]:
    """float32 constants as NumPy takes them fastest."""
    return tuple(np.array(v, np.float32) for v in values)


HALF, ONE = _numbers(0.5, 1.0)


@functools.cache
def _full(value: float) -> Any:
    """A block of one number: np.minimum and np.maximum take four times as long with a number. Not to be written."""
    return np.full(SHARED_BLOCK, value, np.float32)


def _single(*arrays: Any) -> bool:
    """Whether the arrays are float32, of one shape and not empty."""
    x = arrays[0]
    return x.size > 0 and all(a.dtype is F32 and a.shape == x.shape for a in arrays)


def _floats(*arrays: Any) -> bool:
    """Whether the arrays are float32 or float64, all the same, of one shape and large enough."""
    x = arrays[0]
    if x.size < LARGE:
        return False
    dt = x.dtype
    return (dt is F32 or dt is F64) and all(a.dtype is dt and a.shape == x.shape for a in arrays)


# ---- GELU

# M(a) = exp(a**2 / 2) * (1 - Phi(a)) for a >= 0, as a rational function fitted to an error of 1e-9 in e * M; highest
# power first, the denominator with leading coefficient 1.
_ABOVE = _numbers(0.398516489, 3.27556282, 10.9361558, 17.3083334)
_BELOW = _numbers(8.18179104, 28.7321366, 49.4924079, 34.6166668)
(_DENSITY,) = _numbers(1 / math.sqrt(2 * math.pi))
_FAR = 12.0  # beyond, the tail is below 2e-33, and exp(a**2 / 2) would overflow soon


def _tail(x: Any, a: Any, above: Any, below: Any, e: Any) -> None:
    """Writes a = min(|x|, _FAR), above / below = M(a), e = exp(a**2 / 2)."""
    np.minimum(np.abs(x, a), _full(_FAR)[: a.size], out=a)
    add(multiply(a, _ABOVE[0], above), _ABOVE[1], above)
    for c in _ABOVE[2:]:
        add(multiply(above, a, above), c, above)
    add(a, _BELOW[0], below)
    for c in _BELOW[1:]:
        add(multiply(below, a, below), c, below)
    np.exp(multiply(multiply(a, a, e), HALF, e), e)


def _gelu(out: Any, x: Any, a: Any, above: Any, below: Any) -> None:
    """x * Phi(x) = max(x, 0) - a * (1 - Phi(a))."""
    _tail(x, a, above, below, out)
    multiply(above, a, above)
    multiply(below, out, below)
    np.maximum(x, _full(0.0)[: a.size], out=out)
    subtract(out, divide(above, below, above), out)


_CUBE, _SCALE = 0.044715, math.sqrt(2 / math.pi)
_T0, _T1, _T2 = _numbers(_SCALE, _SCALE * _CUBE, 3 * _SCALE * _CUBE)


def _gelu_tanh(out: Any, x: Any) -> None:
    """x / 2 * (1 + tanh(x * (T0 + T1 * x**2)))."""
    multiply(x, x, out)
    add(multiply(out, _T1, out), _T0, out)
    np.tanh(multiply(out, x, out), out)
    multiply(add(out, ONE, out), x, out)
    multiply(out, HALF, out)


@may_decline
def gelu(x: Any, *, approximate: str = "none") -> Any:
    """Op gelu, in float32."""
    if not _single(x):
        return NotImplemented
    return pointwise(_gelu_tanh, 0, x) if approximate == "tanh" else pointwise(_gelu, 3, x)


def _gelu_backward(out: Any, g: Any, x: Any, a: Any, above: Any, below: Any) -> None:
    """g times 1/2 + sign(x) * (1/2 + (a / sqrt(2 pi) - M(a)) / exp(a**2 / 2))."""
    _tail(x, a, above, below, out)
    divide(above, below, above)
    subtract(multiply(a, _DENSITY, a), above, a)
    add(divide(a, out, a), HALF, a)
    bits = out.view(np.int32)
    np.bitwise_xor(np.bitwise_and(x.view(np.int32), SIGN, bits), a.view(np.int32), bits)
    multiply(add(out, HALF, out), g, out)


def _gelu_tanh_backward(out: Any, g: Any, x: Any, square: Any, t: Any) -> None:
    """g times (1 + t) / 2 * (1 + x * (1 - t) * (T0 + T2 * x**2)), t = tanh(x * (T0 + T1 * x**2))."""
    multiply(x, x, square)
    add(multiply(square, _T1, t), _T0, t)
    np.tanh(multiply(t, x, t), t)
    add(multiply(square, _T2, square), _T0, square)
    multiply(square, x, square)
    multiply(subtract(ONE, t, out), square, out)
    add(out, ONE, out)
    multiply(add(t, ONE, t), HALF, t)
    multiply(multiply(out, t, out), g, out)


@may_decline
def gelu_backward(g: Any, x: Any, *, approximate: str) -> Any:
    """Composite gelu_backward, in float32."""
    if not _single(g, x):
        return NotImplemented
    if approximate == "tanh":
        return pointwise(_gelu_tanh_backward, 2, g, x)
    return pointwise(_gelu_backward, 3, g, x)


# ---- logistic


def _sigmoid(out: Any, x: Any) -> None:
    """1 / (1 + exp(-x))."""
    np.negative(x, out=out)
    np.exp(out, out=out)
    out += 1
    np.divide(1, out, out=out)


def _silu(out: Any, x: Any) -> None:
    """x / (1 + exp(-x))."""
    np.negative(x, out=out)
    np.exp(out, out=out)
    out += 1
    np.divide(x, out, out=out)


@may_decline
def sigmoid(x: Any) -> Any:
    """Op sigmoid."""
    return pointwise(_sigmoid, 0, x) if _floats(x) else NotImplemented


def _sigmoid_backward(made: Any, g: Any, out: Any) -> None:
    np.subtract(1, out, made)
    multiply(made, out, made)
    multiply(made, g, made)


@may_decline
def sigmoid_backward(g: Any, out: Any) -> Any:
    """Composite sigmoid_backward."""
    return pointwise(_sigmoid_backward, 0, g, out, grain=CHEAP) if _floats(g, out) else NotImplemented


@may_decline
def silu(x: Any) -> Any:
    """Op silu."""
    return pointwise(_silu, 0, x) if _floats(x) else NotImplemented


def _silu_backward(out: Any, g: Any, x: Any, s: Any) -> None:
    """g times s * (1 + x * (1 - s)), s = sigmoid(x)."""
    _sigmoid(s, x)
    np.subtract(1, s, out=out)
    out *= x
    out += 1
    out *= s
    out *= g


@may_decline
def silu_backward(g: Any, x: Any) -> Any:
    """Composite silu_backward."""
    return pointwise(_silu_backward, 1, g, x) if _floats(g, x) else NotImplemented


# ---- log(1 + exp)


def log1p(out: Any, e: Any, u: Any) -> None:
    """log(1 + e) for finite e >= 0, with the part of e that 1 + e loses; NumPy's takes three times as long.

    e and u are written; out may be e.
    """
    add(e, 1, u)
    subtract(e, subtract(u, 1, u), e)  # exact: what was lost
    add(u, 1, u)
    divide(e, u, e)
    add(np.log(u, u), e, out)


@may_decline
def softplus(x: Any, *, beta: float = 1.0, threshold: float = 20.0) -> Any:
    """Op softplus."""
    if not _floats(x) or not 0 <= threshold <= 80:
        return NotImplemented

    def kernel(out: Any, x: Any, e: Any, u: Any) -> None:
        linear = np.greater(multiply(x, beta, e), threshold)
        np.exp(np.minimum(e, threshold, out=e), e)
        log1p(out, e, u)
        divide(out, beta, out)
        np.copyto(out, x, where=linear)

    return pointwise(kernel, 2, x)


@may_decline
def softplus_backward(g: Any, x: Any, *, beta: float, threshold: float) -> Any:
    """Composite softplus_backward."""
    if not _floats(g, x):
        return NotImplemented

    def kernel(out: Any, g: Any, x: Any, e: Any) -> None:
        linear = np.greater(multiply(x, beta, e), threshold)
        _sigmoid(out, e)
        multiply(out, g, out)
        np.copyto(out, g, where=linear)

    return pointwise(kernel, 1, g, x)


def _logsigmoid(out: Any, x: Any, e: Any, u: Any) -> None:
    """min(x, 0) - log(1 + exp(-|x|))."""
    np.exp(np.negative(np.abs(x, e), e), e)
    log1p(e, e, u)
    np.clip(x, -np.inf, 0, out=out)
    subtract(out, e, out)


@may_decline
def logsigmoid(x: Any) -> Any:
    """Op logsigmoid."""
    return pointwise(_logsigmoid, 2, x) if _floats(x) else NotImplemented


# ---- rectifier


@may_decline
def relu(x: Any) -> Any:
    """Op relu."""
    return pointwise(_relu, 0, x, grain=CHEAP) if _floats(x) else NotImplemented


def _relu(out: Any, x: Any) -> None:
    """np.maximum with a number takes four times as long as np.clip."""
    np.clip(x, 0, np.inf, out=out)


def _plain(bound: Any) -> bool:
    return bound is None or bound.__class__ is float or bound.__class__ is int


@may_decline
def clamp(x: Any, *, min: Any = None, max: Any = None) -> Any:
    """Op clamp."""
    if not (_floats(x) and _plain(min) and _plain(max)):
        return NotImplemented
    low, high = -np.inf if min is None else min, np.inf if max is None else max  # None would turn -0.0 into 0.0

    def bounded(out: Any, x: Any) -> None:
        np.clip(x, low, high, out=out)

    return pointwise(bounded, 0, x, grain=CHEAP)


@may_decline
def hardtanh(x: Any, *, min_val: Any = -1.0, max_val: Any = 1.0) -> Any:
    """Op hardtanh."""
    return clamp(x, min=min_val, max=max_val)


def _zero_below(out: Any, g: Any, y: Any) -> None:
    """The bits of g where y > 0 (or is NaN), else 0. g: floats, out: integers of their size."""
    np.copyto(out, np.less_equal(y, 0))
    out -= 1
    np.bitwise_and(out, g.view(out.dtype), out=out)


@may_decline
def relu_backward(g: Any, out: Any) -> Any:
    """Composite relu_backward."""
    if not _floats(g, out):
        return NotImplemented
    made = np.empty(g.shape, f"i{g.dtype.itemsize}")
    return pointwise(_zero_below, 0, g, out, made=made, grain=CHEAP).view(g.dtype)


KERNELS: dict[str, Callable[..., Any]] = {
    "gelu": gelu,
    "gelu_backward": gelu_backward,
    "sigmoid": sigmoid,
    "sigmoid_backward": sigmoid_backward,
    "softplus": softplus,
    "softplus_backward": softplus_backward,
    "logsigmoid": logsigmoid,
    "silu": silu,
    "silu_backward": silu_backward,
    "clamp": clamp,
    "hardtanh": hardtanh,
    "relu": relu,
    "relu_backward": relu_backward,
}
