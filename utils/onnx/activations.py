"""Activation functions."""

from __future__ import annotations

import math
from typing import Any

from .elementwise import _log1p
from .graph import Graph, Step
from .table import TABLE, emits

SAME = {"relu": "Relu", "silu": "", "softsign": "Softsign", "mish": "Mish", "hardswish": "HardSwish"}


@emits("relu", "softsign", "mish", "hardswish")
def one_node(g: Graph, step: Step) -> Any:
    """Those that ONNX has by the same formula."""
    return g.node(SAME[step.op], step.inputs[0])


@emits("silu")
def silu(g: Graph, step: Step) -> Any:
    """x * sigmoid(x)."""
    return g.node("Mul", step.inputs[0], g.node("Sigmoid", step.inputs[0]))


@emits("leaky_relu")
def leaky_relu(g: Graph, step: Step) -> Any:
    """x, or negative_slope * x below 0."""
    return g.node("LeakyRelu", step.inputs[0], alpha=float(step.kw.get("negative_slope", 0.01)))


@emits("threshold")
def threshold(g: Graph, step: Step) -> Any:
    """x where it is larger than a number, else another number."""
    x = step.inputs[0]
    low = g.node("LessOrEqual", x, g.scalar(step.kw["threshold"], x))
    return g.node("Where", low, g.scalar(step.kw["value"], x), x)


@emits("prelu", "rrelu")
def prelu(g: Graph, step: Step) -> Any:
    """x where x > 0, else w * x."""
    x, w = step.inputs
    return g.node("Where", g.node("Greater", x, g.scalar(0, x)), x, g.node("Mul", x, w))


@emits("elu")
def elu(g: Graph, step: Step) -> Any:
    """scale * (x, or alpha * (exp(x * input_scale) - 1) below 0)."""
    x = step.inputs[0]
    alpha, scale, inside = (float(step.kw.get(w, 1.0)) for w in ("alpha", "scale", "input_scale"))
    if inside == 1.0 and scale == 1.0:
        return g.node("Elu", x, alpha=alpha)
    if inside == 1.0:
        return g.node("Selu", x, alpha=alpha, gamma=scale)
    low = g.node("Elu", g.node("Mul", x, g.scalar(inside, x)), alpha=alpha)
    made = g.node("Where", g.node("Greater", x, g.scalar(0, x)), x, low)
    return made if scale == 1.0 else g.node("Mul", made, g.scalar(scale, x))


@emits("gelu")
def gelu(g: Graph, step: Step) -> Any:
    """x times the normal distribution function, exactly or by tanh."""
    x, how = step.inputs[0], step.kw.get("approximate", "none")
    if g.opset >= 20:
        return g.node("Gelu", x, approximate=how)
    half, one = g.scalar(0.5, x), g.scalar(1, x)
    if how == "tanh":
        cube = g.node("Mul", g.node("Mul", x, g.node("Mul", x, x)), g.scalar(0.044715, x))
        inner = g.node("Tanh", g.node("Mul", g.node("Add", x, cube), g.scalar(math.sqrt(2 / math.pi), x)))
    else:
        inner = g.node("Erf", g.node("Div", x, g.scalar(math.sqrt(2), x)))
    return g.node("Mul", g.node("Mul", x, g.node("Add", inner, one)), half)


@emits("softplus")
def softplus(g: Graph, step: Step) -> Any:
    """log(1 + exp(beta x)) / beta, x above the threshold."""
    x, beta = step.inputs[0], float(step.kw.get("beta", 1.0))
    inner: Any = x if beta == 1.0 else g.node("Mul", x, g.scalar(beta, x))
    made = g.node("Softplus", inner)
    made = made if beta == 1.0 else g.node("Div", made, g.scalar(beta, x))
    return g.node("Where", g.node("Greater", inner, g.scalar(step.kw.get("threshold", 20.0), x)), x, made)


@emits("logsigmoid")
def logsigmoid(g: Graph, step: Step) -> Any:
    """log(sigmoid(x)) = min(x, 0) - log(1 + exp(-|x|))."""
    x = step.inputs[0]
    tail = _log1p(g, g.node("Exp", g.node("Neg", g.node("Abs", x))), x)
    return g.node("Sub", g.node("Min", x, g.scalar(0, x)), tail)


@emits("tanhshrink")
def tanhshrink(g: Graph, step: Step) -> Any:
    """x - tanh(x)."""
    return g.node("Sub", step.inputs[0], g.node("Tanh", step.inputs[0]))


@emits("hardtanh")
def hardtanh(g: Graph, step: Step) -> Any:
    """x within two numbers."""
    x = step.inputs[0]
    return g.node("Clip", x, g.scalar(step.kw.get("min_val", -1.0), x), g.scalar(step.kw.get("max_val", 1.0), x))


@emits("hardsigmoid")
def hardsigmoid(g: Graph, step: Step) -> Any:
    """(x + 3) / 6 within 0 and 1."""
    return g.node("HardSigmoid", step.inputs[0], alpha=1 / 6, beta=0.5)


@emits("softshrink", "hardshrink")
def shrink(g: Graph, step: Step) -> Any:
    """0 within -lambd..lambd, else x, moved by lambd towards 0 if soft."""
    x, lambd = step.inputs[0], float(step.kw.get("lambd", 0.5))
    return g.node("Shrink", x, lambd=lambd, bias=lambd if step.op == "softshrink" else 0.0)


@emits("softmax", "log_softmax")
def softmax(g: Graph, step: Step) -> Any:
    """Softmax along an axis, or its logarithm."""
    x = step.inputs[0]
    if not x.ndim:
        return g.scalar(1.0 if step.op == "softmax" else 0.0, x)
    return g.node("Softmax" if step.op == "softmax" else "LogSoftmax", x, axis=int(step.kw["axis"]))


@emits("safe_softmax")
def safe_softmax(g: Graph, step: Step) -> Any:
    """Softmax along the last dimension; rows of -inf alone give zeros."""
    made = g.node("Softmax", step.inputs[0], axis=-1)
    return g.node("Where", g.node("IsNaN", made), g.scalar(0, step.inputs[0]), made)


TABLE["dropout"] = lambda g, step: refuse_dropout(step)


def refuse_dropout(step: Step) -> Any:
    """Dropout that is active would be drawn once and for all."""
    raise step.refuse(
        "dropout is active: its mask would be the same for every input",
        "Use nn.Dropout, which export switches off, or F.dropout(x, p, training=self.training)",
    )
