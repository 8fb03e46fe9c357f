"""Losses, for models that give one beside their output."""

from __future__ import annotations

from typing import Any

import numpy as np

from .graph import Graph, Item, Step
from .table import emits


def _reduced(g: Graph, name: str, step: Step) -> str:
    how = step.kw["reduction"]
    return name if how == "none" else g.reduce("ReduceMean" if how == "mean" else "ReduceSum", name, None, False)


@emits("mse_loss", "smooth_l1_loss", "huber_loss")
def of_difference(g: Graph, step: Step) -> Any:
    """Losses of x - y."""
    x, y = step.inputs
    d = g.node("Sub", x, y)
    square = g.node("Mul", d, d)
    if step.op == "mse_loss":
        return _reduced(g, square, step)
    d, limit = g.node("Abs", d), float(step.kw["beta" if step.op == "smooth_l1_loss" else "delta"])
    if step.op == "smooth_l1_loss":
        near = g.node("Mul", square, g.scalar(0.5 / limit if limit else 0.0, x))
        far = g.node("Sub", d, g.scalar(0.5 * limit, x))
        inside = g.node("Less", d, g.scalar(limit, x))
    else:
        near = g.node("Mul", square, g.scalar(0.5, x))
        far = g.node("Mul", g.node("Sub", d, g.scalar(0.5 * limit, x)), g.scalar(limit, x))
        inside = g.node("LessOrEqual", d, g.scalar(limit, x))
    return _reduced(g, g.node("Where", inside, near, far), step)


@emits("binary_cross_entropy")
def binary_cross_entropy(g: Graph, step: Step) -> Any:
    """-weight (target log x + (1 - target) log(1 - x)), logarithms at least -100."""
    x, t, weight = (*step.inputs, None)[:3]
    one, floor = g.scalar(1, x), g.scalar(-100, x)
    yes = g.node("Max", g.node("Log", x), floor)
    no = g.node("Max", g.node("Log", g.node("Sub", one, x)), floor)
    loss = g.node("Sub", g.node("Mul", g.node("Sub", t, one), no), g.node("Mul", t, yes))
    return _reduced(g, loss if weight is None else g.node("Mul", loss, weight), step)


@emits("binary_cross_entropy_with_logits")
def with_logits(g: Graph, step: Step) -> Any:
    """The same of sigmoid(x), without overflow."""
    x, t, weight, positive = (*step.inputs, None, None)[:4]
    one = g.scalar(1, x)
    tail = g.node("Log", g.node("Add", one, g.node("Exp", g.node("Neg", g.node("Abs", x)))))
    tail = g.node("Sub", tail, g.node("Min", x, g.scalar(0, x)))
    if positive is not None:
        tail = g.node("Mul", tail, g.node("Add", g.node("Mul", g.node("Sub", positive, one), t), one))
    loss = g.node("Add", g.node("Mul", g.node("Sub", one, t), x), tail)
    return _reduced(g, loss if weight is None else g.node("Mul", loss, weight), step)


def _chosen(g: Graph, x: Any, target: Item, ignored: int, axis: int) -> tuple[str, str, str]:
    """(x at the target's class along an axis, safe classes, whether a target counts)."""
    kept = g.node("Not", g.node("Equal", target, g.scalar(ignored, target)))
    classes = g.cast(g.node("Where", kept, target, g.scalar(0, target)), np.int64, target.dtype)
    taken = g.squeeze(g.node("GatherElements", x, g.unsqueeze(classes, axis), axis=axis), axis)
    return taken, classes, kept


@emits("softmax_cross_entropy", "cross_entropy")
def cross_entropy(g: Graph, step: Step) -> Any:
    """-log softmax(logits)[target], classes last."""
    x, target = step.inputs
    axis = x.ndim - 1
    logs = g.node("LogSoftmax", x, axis=axis)
    taken, _, kept = _chosen(g, logs, target, int(step.kw["ignore_index"]), axis)
    loss = g.node("Where", kept, g.node("Neg", taken), g.scalar(0, x))
    how = step.kw.get("reduction", "none")
    if how == "none":
        return loss
    total = g.reduce("ReduceSum", loss, None, False)
    if how == "sum":
        return total
    return g.node("Div", total, g.reduce("ReduceSum", g.cast(kept, x.dtype, np.bool_), None, False))


@emits("nll_loss", "nll_loss_2d")
def nll_loss(g: Graph, step: Step) -> Any:
    """-weight[target] x[target], the mean over the sum of those weights."""
    x, target, weight = (*step.inputs, None)[:3]
    axis = 1 if x.ndim > 1 else 0
    taken, classes, kept = _chosen(g, x, target, int(step.kw["ignore_index"]), axis)
    weights = g.scalar(1, x) if weight is None else g.node("Gather", weight, classes, axis=0)
    weights = g.node("Where", kept, weights, g.scalar(0, x))
    loss = g.node("Where", kept, g.node("Neg", g.node("Mul", taken, weights)), g.scalar(0, x))
    how = step.kw["reduction"]
    if how == "none":
        return loss
    total = g.reduce("ReduceSum", loss, None, False)
    return total if how == "sum" else g.node("Div", total, g.reduce("ReduceSum", weights, None, False))
