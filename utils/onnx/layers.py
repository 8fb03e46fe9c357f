"""Normalisation and attention."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .graph import Graph, Step
from .table import emits


@emits("layer_norm")
def layer_norm(g: Graph, step: Step) -> Any:
    """Normalised over the last dimensions."""
    x, w, b = (*step.inputs, None, None)[:3]
    n = int(step.kw["n_axes"])
    last = x.shape[x.ndim - n :]
    if w is None and any(not isinstance(s, int) for s in last):
        return _normalised(g, x, b, list(range(x.ndim - n, x.ndim)), float(step.kw["eps"]))
    scale = g.filled(1, x.dtype, last) if w is None else w
    return g.node("LayerNormalization", x, scale, b, axis=-n, epsilon=float(step.kw["eps"]))


def _normalised(g: Graph, x: Any, b: Any, axes: list[int], eps: float) -> Any:
    """(x - mean) / sqrt(var + eps), plus b."""
    mean = g.reduce("ReduceMean", x, axes, True)
    apart = g.node("Sub", x, mean)
    var = g.reduce("ReduceMean", g.node("Mul", apart, apart), axes, True)
    made = g.node("Div", apart, g.node("Sqrt", g.node("Add", var, g.scalar(eps, x))))
    return made if b is None else g.node("Add", made, b)


@emits("rms_norm")
def rms_norm(g: Graph, step: Step) -> Any:
    """Divided by the root mean square over the last dimensions."""
    x, w = (*step.inputs, None)[:2]
    n = int(step.kw["n_axes"])
    axes = list(range(x.ndim - n, x.ndim))
    mean = g.reduce("ReduceMean", g.node("Mul", x, x), axes, True)
    made = g.node("Div", x, g.node("Sqrt", g.node("Add", mean, g.scalar(step.kw["eps"], x))))
    return made if w is None else g.node("Mul", made, w)


@emits("batch_norm")
def batch_norm(g: Graph, step: Step) -> Any:
    """Each channel normalised by its own statistics."""
    x, w, b = (*step.inputs, None, None)[:3]
    axes = [0, *range(2, x.ndim)]
    mean = g.reduce("ReduceMean", x, axes, True)
    apart = g.node("Sub", x, mean)
    var = g.reduce("ReduceMean", g.node("Mul", apart, apart), axes, True)
    made = g.node("Div", apart, g.node("Sqrt", g.node("Add", var, g.scalar(step.kw["eps"], x))))
    if w is not None:
        made = g.node("Mul", made, _per_channel(g, w, x.ndim))
    if b is not None:
        made = g.node("Add", made, _per_channel(g, b, x.ndim))
    return made, g.squeeze(mean, *axes), g.squeeze(var, *axes)


def _per_channel(g: Graph, v: Any, ndim: int) -> Any:
    """A value per channel, so that it broadcasts over (N, C, *)."""
    return v if ndim == 2 else g.unsqueeze(v, *range(1, ndim - 1))


@emits("scale_shift")
def scale_shift(g: Graph, step: Step) -> Any:
    """x * scale + shift per channel."""
    x, scale, shift = step.inputs
    made = g.node("Mul", x, _per_channel(g, scale, x.ndim))
    return g.node("Add", made, _per_channel(g, shift, x.ndim))


@emits("future")
def future(g: Graph, step: Step) -> Any:
    """Which scores a causal mask hides. x: (*B, L, S) -> (L, S)."""
    return _future(g, step.inputs[0].shape[-2], step.inputs[0].shape[-1])


def _future(g: Graph, queries: Any, keys: Any) -> str:
    return g.node("Greater", g.range(keys), g.unsqueeze(g.range(queries), 1))


@emits("attention")
def attention(g: Graph, step: Step) -> Any:
    """softmax(q k^T * scale + mask) v."""
    q, k, v, mask, keep = (*step.inputs, None, None)[:5]
    if keep is not None:
        raise step.refuse("attention drops weights at random", "Set its dropout to 0 when the model is in eval mode")
    n = k.ndim
    keys = g.transpose(k, [*range(n - 2), n - 1, n - 2])
    scores = g.node("MatMul", g.node("Mul", q, g.scalar(step.kw["scale"], q)), keys)
    hidden = g.scalar(-math.inf, q)
    if mask is not None:
        is_bool = mask.dtype == np.bool_
        scores = g.node("Where", mask, scores, hidden) if is_bool else g.node("Add", scores, mask)
    if step.kw["causal"]:
        scores = g.node("Where", _future(g, q.shape[-2], k.shape[-2]), hidden, scores)
    weights = g.node("Softmax", scores, axis=-1)
    if mask is not None:  # a query that sees nothing gives zeros
        weights = g.node("Where", g.node("IsNaN", weights), g.scalar(0, q), weights)
    return g.node("MatMul", weights, v)
