"""Scaled dot-product attention as one op. Vaswani et al., Attention is all you need, 2017.

The composite's body works out the weights again from the inputs; the auxiliary `weights` serves fused kernels.
"""

from __future__ import annotations

import math

from ..op import composite, op
from .matrix import product
from .reduce import narrow, wide


def hidden_by_order(xp, x):
    """Which keys lie behind their query: x: (*B, L, S) -> (L, S) bool, True where column > row."""
    rows, columns = x.shape[-2:]
    return xp.arange(columns) > xp.arange(rows)[:, None]


@op()
def future(xp, x):
    """Which scores a causal mask hides. x: (*B, L, S) -> (L, S) bool."""
    return hidden_by_order(xp, x)


@op()
def safe_softmax(xp, x):
    """Softmax along the last dimension; rows of -inf alone give zeros. x: (*S, N) -> (*S, N)."""
    if not x.size:
        return x.copy()
    work = wide(x)
    top = xp.max(work, axis=-1, keepdims=True)
    e = xp.exp(work - xp.where(top == -math.inf, xp.zeros((), top.dtype), top))
    total = xp.add.reduce(e, axis=-1, keepdims=True)
    return narrow(e / xp.where(total == 0, xp.ones((), total.dtype), total), x)


safe_softmax.vjp(x=lambda F, g, *, out: F.softmax_backward(g, out, axis=len(out.shape) - 1))


@op(aux=("weights",), grad_name="ScaledDotProductFlashAttentionForCpu")
def attention(xp, q, k, v, mask=None, keep=None, *, causal, scale):
    """softmax(q k^T * scale + mask) v. q: (*B, L, E), k: (*B, S, E), v: (*B, S, V) -> (*B, L, V).

    mask: broadcasts to (*B, L, S); bool: True where a key may be seen, else added. keep: (*B, L, S), factors of the
    weights (a dropout mask, scaled). causal: query i sees keys 0..i. A query that sees nothing gives zeros.
    """
    s = product(xp, q * scale, xp.swapaxes(k, -1, -2))
    if mask is not None:
        s = xp.where(mask, s, -math.inf) if mask.dtype.kind == "b" else s + mask
    if causal:
        s = xp.where(hidden_by_order(xp, s), -math.inf, s)
    p = safe_softmax.op.generic(xp, s.astype(q.dtype, copy=False))
    return product(xp, p if keep is None else p * keep, v), p


@composite
def attention_backward(F, g, q, k, v, mask, keep, out, weights, *, needs, causal, scale):
    """Gradients of attention for q, k, v and mask where needed, else None; names as there.

    g, out: (*B, L, V) -> ((*B, L, E), (*B, S, E), (*B, S, V), mask's shape).
    """
    scaled = q * scale
    s = F.bmm(scaled, F.mT(k))
    if mask is not None:
        s = F.masked_fill(s, F.logical_not(mask), value=-math.inf) if _is_bool(mask) else s + mask
    if causal:
        s = F.masked_fill(s, F.future(s), value=-math.inf)
    p = F.safe_softmax(s)
    gq = gk = gv = gm = None
    if needs[2]:
        gv = F.bmm(F.mT(p if keep is None else p * keep), g)
    if needs[0] or needs[1] or needs[3]:
        d = F.bmm(g, F.mT(v))
        d = F.softmax_backward(d if keep is None else d * keep, p, axis=len(d.shape) - 1)
        gq = F.bmm(d, k) * scale if needs[0] else None
        gk = F.bmm(F.mT(d), scaled) if needs[1] else None
        if needs[3]:
            gm = d if d.shape == mask.shape else F.sum_to(d, shape=mask.shape)
    return gq, gk, gv, gm


def _is_bool(mask):
    """Of a raw array or a tensor."""
    return getattr(mask, "array", mask).dtype.kind == "b"


attention.vjp_joint(
    "q", "k", "v", "mask",
    lambda F, g, needs, *, q, k, v, mask, keep, out, weights, causal, scale: F.attention_backward(
        g, q, k, v, mask, keep, out, weights, needs=needs, causal=causal, scale=scale
    ),
)  # fmt: skip
