"""FLOPs of the ops that have a formula: matrix products, convolutions, attention, recurrent layers.

By PyTorch's conventions: a multiplication and an addition are two operations, a product (N, K) x (K, M) takes 2 N K M,
and everything else is not counted.
"""

from __future__ import annotations

from collections.abc import Callable
from math import prod
from typing import Any

Shape = tuple[int, ...]
# PyTorch's word for the operation, and its FLOPs
Counted = tuple[str, int]


def _mm(x: Any, y: Any, **_: Any) -> Counted:
    return "aten.mm", 2 * x.shape[0] * x.shape[1] * y.shape[1]


def _bmm(x: Any, y: Any, *, out_val: Any, **_: Any) -> Counted:
    return "aten.bmm", 2 * prod(out_val.shape) * x.shape[-1]


def _dot(x: Any, y: Any, **_: Any) -> Counted:
    return "aten.dot", 2 * x.shape[0]


def _linear(x: Any, w: Any, b: Any = None, **_: Any) -> Counted:
    return "aten.mm" if b is None else "aten.addmm", 2 * prod(x.shape) * w.shape[0]


def _linear_parameters(g: Any, x: Any, *, needs: Any, **_: Any) -> Counted:
    return "aten.mm", 2 * prod(g.shape) * x.shape[-1] if needs[0] else 0


def _conv(x: Any, w: Any, b: Any = None, *, out_val: Any, **_: Any) -> Counted:
    return "aten.convolution", 2 * x.shape[0] * prod(out_val.shape[2:]) * prod(w.shape)


def _conv_input(g: Any, w: Any, b: Any = None, **_: Any) -> Counted:
    return "aten.convolution", 2 * g.shape[0] * prod(g.shape[2:]) * prod(w.shape)


def _conv_weight(x: Any, g: Any, *, shape: Shape, **_: Any) -> Counted:
    # PyTorch does not divide by the number of groups here
    return "aten.convolution_backward", 2 * prod(g.shape) * x.shape[1] * prod(shape[2:])


def _attention_products(q: Any, k: Any, v: Any) -> tuple[int, int]:
    """FLOPs of q k^T and of the weights times v."""
    scores = 2 * prod(q.shape[:-1]) * k.shape[-2]
    return scores * q.shape[-1], scores * v.shape[-1]


def _attention(q: Any, k: Any, v: Any, *_: Any, **__: Any) -> Counted:
    return "aten._scaled_dot_product_flash_attention", sum(_attention_products(q, k, v))


def _attention_backward(g: Any, q: Any, k: Any, v: Any, *_: Any, **__: Any) -> Counted:
    scores, values = _attention_products(q, k, v)  # the scores again; gradients of weights and v; of q and k
    return "aten._scaled_dot_product_flash_attention_backward", scores + 2 * values + 2 * scores


def _recurrent(factor: int, gates: Any, w: Any, r: Any = None) -> Counted:
    return "aten.mm", 2 * factor * gates.shape[0] * (prod(w.shape) + (0 if r is None else prod(r.shape)))


# op of this library -> formula(*arrays, **keywords, out_val=result) -> (PyTorch's word, FLOPs)
FORMULAS: dict[str, Callable[..., Counted]] = {
    "mm": _mm,
    "bmm": _bmm,
    "dot": _dot,
    "linear": _linear,
    "linear_parameters": _linear_parameters,
    "conv": _conv,
    "conv_input": _conv_input,
    "conv_weight": _conv_weight,
    "attention": _attention,
    "attention_backward": _attention_backward,
    # a recurrent layer's products of state and weights; a backward pass has two for each
    "lstm_sequence": lambda gates, h, c, w, r=None, **_: _recurrent(1, gates, w, r),
    "lstm_sequence_backward": lambda g, gates, h, c, w, r=None, *_, **__: _recurrent(2, gates, w, r),
    "gru_sequence": lambda gates, h, w, b=None, **_: _recurrent(1, gates, w),
    "gru_sequence_backward": lambda g, gates, h, w, *_, **__: _recurrent(2, gates, w),
    "rnn_sequence": lambda gates, h, w, **_: _recurrent(1, gates, w),
    "rnn_sequence_backward": lambda g, gates, h, w, *_, **__: _recurrent(2, gates, w),
}
# op -> a user's formula, by its name: (*shapes, **keywords, out_shape=shape) -> FLOPs
flop_registry: dict[str, Callable[..., int]] = {}


def has_formula(name: str) -> bool:
    """Whether calls of the op `name` are counted."""
    return name in FORMULAS or name in flop_registry


def flops(name: str, arrays: tuple[Any, ...], kw: dict[str, Any], out: Any) -> Counted | None:
    """(PyTorch's word, FLOPs) of one call of the op `name`; None where it has no formula."""
    if name in flop_registry:
        return name, flop_registry[name](*arrays, **kw, out_val=out)
    return FORMULAS[name](*arrays, **kw, out_val=out) if name in FORMULAS else None
