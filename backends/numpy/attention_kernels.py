"""Attention: a matrix product per head over contiguous slices, softmax in place on scores that fit the cache.

Halves are left to the generic form.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from ..base import may_decline

SMALLEST = {4: 1e-20, 8: 1e-200}  # below such a sum of a row, its own maximum must be taken off


def _heads(x: Any) -> Any:
    """(*B, M, N) as a row-major (heads, M, N)."""
    return np.ascontiguousarray(x).reshape(math.prod(x.shape[:-2]), *x.shape[-2:])


def _softmax_rows(s: Any, scores: Callable[[], Any]) -> None:
    """Softmax of each row of s: (L, S), in place. `scores()` makes s again.

    One maximum for the whole matrix is far cheaper than one per row; rows far below it are done again by themselves.
    """
    top = s.max()
    if not -math.inf < top < math.inf:
        top = 0.0  # nothing may be seen, or no number is left: the rows decide
    np.subtract(s, top, out=s)
    np.exp(s, out=s)
    total = np.add.reduce(s, axis=1)
    low = ~((total > SMALLEST[s.itemsize]) & (total < math.inf))
    if low.any():
        again = scores()[low]
        tops = again.max(axis=1, keepdims=True)
        again = np.exp(again - np.where(tops == -math.inf, 0, tops))
        s[low] = again
        sums = np.add.reduce(again, axis=1)
        total[low] = np.where(sums == 0, 1, sums)
    s *= (1 / total)[:, None]


@may_decline
def attention(q: Any, k: Any, v: Any, mask: Any = None, keep: Any = None, *, causal: bool, scale: float) -> Any:
    """Op attention."""
    if q.dtype.itemsize < 4 or q.dtype.kind != "f" or not q.size or not k.size or not v.size:
        return NotImplemented
    lead, rows, columns = q.shape[:-2], q.shape[-2], k.shape[-2]
    if k.shape[:-2] != lead or v.shape[:-2] != lead or k.shape[-1] != q.shape[-1] or v.shape[-2] != columns:
        return NotImplemented
    queries, keys, values = _heads(q), _heads(k), _heads(v)
    hidden = None
    if causal:
        hidden = np.triu(np.full((rows, columns), -math.inf, q.dtype), 1)
    if mask is not None:
        added = np.where(mask, 0, -math.inf).astype(q.dtype) if mask.dtype.kind == "b" else mask
        hidden = added if hidden is None else added + hidden
    hidden = None if hidden is None else np.broadcast_to(hidden, (*lead, rows, columns))
    factors = None if keep is None else _heads(keep)
    weights = np.empty((len(queries), rows, columns), q.dtype)
    out = np.empty((len(queries), rows, v.shape[-1]), q.dtype)
    scaled = np.empty(queries.shape[1:], q.dtype)
    dropped = None if keep is None else np.empty((rows, columns), q.dtype)
    for i, place in enumerate(np.ndindex(*lead)):
        s = weights[i]
        np.multiply(queries[i], scale, out=scaled)

        def scores(s: Any = None, i: int = i, place: Any = place) -> Any:
            s = np.matmul(scaled, keys[i].T, out=s)
            if hidden is not None:
                s += hidden[place]
            return s

        scores(s)
        with np.errstate(invalid="ignore", over="ignore"):
            _softmax_rows(s, scores)
        np.matmul(s if factors is None else np.multiply(s, factors[i], out=dropped), values[i], out=out[i])
    return out.reshape(*lead, rows, v.shape[-1]), weights.reshape(*lead, rows, columns)


@may_decline
def attention_backward(
    g: Any, q: Any, k: Any, v: Any, mask: Any, keep: Any, out: Any, weights: Any, *, needs: Any, causal: bool,
    scale: float
) -> Any:  # fmt: skip
    """Composite attention_backward."""
    if q.dtype.itemsize < 4 or not weights.size or not out.size:
        return NotImplemented
    lead = q.shape[:-2]
    grads, queries, keys, values, p = _heads(g), _heads(q), _heads(k), _heads(v), _heads(weights)
    factors = None if keep is None else _heads(keep)
    gq, gk, gv = (np.empty_like(x) if need else None for x, need in zip((queries, keys, values), needs, strict=False))
    scores = needs[0] or needs[1] or needs[3]
    deltas = np.einsum("hlv,hlv->hl", grads, _heads(out)) if scores else np.empty(0)
    gm = np.empty_like(p) if needs[3] else None
    work, dropped = np.empty_like(p[0]), None if keep is None else np.empty_like(p[0])
    for i in range(len(p)):
        if gv is not None:
            shown = p[i] if factors is None else np.multiply(p[i], factors[i], out=dropped)
            np.matmul(shown.T, grads[i], out=gv[i])
        if not scores:
            continue
        d = work if gm is None else gm[i]
        np.matmul(grads[i], values[i].T, out=d)
        if factors is not None:
            d *= factors[i]
        d -= deltas[i][:, None]
        d *= p[i]
        if gq is not None:
            np.matmul(d, keys[i], out=gq[i])
        if gk is not None:
            np.matmul(d.T, queries[i], out=gk[i])
    if gm is not None:
        gm = _summed(gm.reshape(*lead, *gm.shape[1:]), mask.shape)
    found = []
    for x, like, factor in ((gq, q, scale), (gk, k, scale), (gv, v, None)):
        if x is not None and factor is not None:
            x *= factor
        found.append(None if x is None else x.reshape(like.shape))
    return (*found, gm)


def _summed(x: Any, shape: tuple[int, ...]) -> Any:
    """x summed to the shape it was broadcast from."""
    lead = x.ndim - len(shape)
    x = np.add.reduce(x, axis=tuple(range(lead))) if lead else x
    stretched = tuple(i for i, n in enumerate(shape) if n == 1 and x.shape[i] != 1)
    return np.add.reduce(x, axis=stretched, keepdims=True) if stretched else x


KERNELS: dict[str, Callable[..., Any]] = {"attention": attention, "attention_backward": attention_backward}
