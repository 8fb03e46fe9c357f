# mypy: ignore-errors
"""Pointwise functions and the products of gradients with their derivatives. All arrays have one length."""

from __future__ import annotations

import math

from .language import T, kernel
from .maths import exp, log1p_of_unit, mills, sigmoid, softplus, tanh

SCALE, CUBE = math.sqrt(2 / math.pi), 0.044715  # of the approximation of GELU by tanh
DENSITY = 1 / math.sqrt(2 * math.pi)


@kernel("T* T* i8 i8")
def exp_forward(x, out, start, stop):
    for i in range(start, stop):
        out[i] = exp(x[i])


@kernel("T* T* i8 i8")
def tanh_forward(x, out, start, stop):
    for i in range(start, stop):
        out[i] = tanh(x[i])


@kernel("T* T* T* i8 i8")
def tanh_backward(g, y, out, start, stop):
    for i in range(start, stop):
        out[i] = g[i] * (T(1) - y[i] * y[i])


@kernel("T* T* i8 i8")
def sigmoid_forward(x, out, start, stop):
    for i in range(start, stop):
        out[i] = sigmoid(x[i])


@kernel("T* T* T* i8 i8")
def sigmoid_backward(g, y, out, start, stop):
    for i in range(start, stop):
        out[i] = g[i] * ((T(1) - y[i]) * y[i])


@kernel("T* T* i8 i8")
def silu_forward(x, out, start, stop):
    for i in range(start, stop):
        out[i] = x[i] / (T(1) + exp(-x[i]))


@kernel("T* T* T* i8 i8")
def silu_backward(g, x, out, start, stop):
    for i in range(start, stop):
        s = sigmoid(x[i])
        out[i] = g[i] * (s * (T(1) + x[i] * (T(1) - s)))


@kernel("f4* f4* i8 i8")
def gelu_forward(x, out, start, stop):
    """x Phi(x) = max(x, 0) - a (1 - Phi(a)) with a = |x|."""
    for i in range(start, stop):
        v = x[i]
        a = abs(v)
        a = a if a < T(12) else T(12)
        out[i] = (T(0) if v < T(0) else v) - a * (mills(a) * exp(T(-0.5) * (a * a)))


@kernel("f4* f4* f4* i8 i8")
def gelu_backward(g, x, out, start, stop):
    """g (Phi(x) + x phi(x))."""
    for i in range(start, stop):
        v = x[i]
        a = abs(v)
        a = a if a < T(12) else T(12)
        e = exp(T(-0.5) * (a * a))
        rest = (mills(a) - a * T(DENSITY)) * e  # 1 - (Phi + a phi) at a
        slope = rest if v < T(0) else T(1) - rest
        out[i] = g[i] * (slope if v == v else v)


@kernel("T* T* i8 i8")
def gelu_tanh_forward(x, out, start, stop):
    for i in range(start, stop):
        v = x[i]
        t = tanh(v * (T(SCALE) + v * v * T(SCALE * CUBE)))
        out[i] = T(0.5) * v * (T(1) + t)


@kernel("T* T* T* i8 i8")
def gelu_tanh_backward(g, x, out, start, stop):
    for i in range(start, stop):
        v = x[i]
        square = v * v
        t = tanh(v * (T(SCALE) + square * T(SCALE * CUBE)))
        inner = v * (T(SCALE) + square * T(3 * SCALE * CUBE))
        out[i] = g[i] * (T(0.5) * (T(1) + t) * (T(1) + (T(1) - t) * inner))


@kernel("T* T* T T i8 i8")
def softplus_forward(x, out, beta, threshold, start, stop):
    for i in range(start, stop):
        v = x[i] * beta
        out[i] = x[i] if v > threshold else softplus(v) / beta


@kernel("T* T* T* T T i8 i8")
def softplus_backward(g, x, out, beta, threshold, start, stop):
    for i in range(start, stop):
        v = x[i] * beta
        out[i] = g[i] * (T(1) if v > threshold else sigmoid(v))


@kernel("T* T* i8 i8")
def logsigmoid_forward(x, out, start, stop):
    for i in range(start, stop):
        v = x[i]
        out[i] = (v if v < T(0) else T(0)) - log1p_of_unit(exp(-abs(v)))


@kernel("T* T* T* i8 i8")
def logsigmoid_backward(g, x, out, start, stop):
    for i in range(start, stop):
        out[i] = g[i] * sigmoid(-x[i])


@kernel("T* T* i8 i8")
def mish_forward(x, out, start, stop):
    """x tanh(log(1 + e)) = x n / (n + 2) with e = exp(x), n = e (e + 2)."""
    for i in range(start, stop):
        v = x[i]
        e = exp(v if v < T(20) else T(20))
        n = e * (e + T(2))
        out[i] = v * (n / (n + T(2))) if v == v else v


@kernel("T* T* T* T T T i8 i8")
def elu_backward(g, x, out, low_scale, input_scale, scale, start, stop):
    """low_scale: alpha * scale * input_scale."""
    for i in range(start, stop):
        v = x[i]
        out[i] = g[i] * (scale if v > T(0) else low_scale * exp(v * input_scale))


@kernel("T* T* i8 i8")
def relu_forward(x, out, start, stop):
    for i in range(start, stop):
        out[i] = T(0) if x[i] < T(0) else x[i]


@kernel("T* T* T* i8 i8")
def relu_backward(g, y, out, start, stop):
    for i in range(start, stop):
        out[i] = T(0) if y[i] <= T(0) else g[i]
