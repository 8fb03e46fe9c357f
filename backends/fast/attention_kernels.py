"""Attention without a mask but the causal one: NumPy's matrix products by blocks of queries, compiled between them.

Blocks, memory orders and what is kept (lse, the logarithm of each row's sum of exponentials) are those of the NumPy
kernels, to which masks are left.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..base import may_decline
from ..numpy.attention_kernels import _add_product, _Blocks
from .compiled import Function, Group, rows

NEEDS = "numba"
SOURCE = Group("attention")
SMALL = 1 << 14  # scores
F32, F64 = np.dtype(np.float32), np.dtype(np.float64)
_SUFFIX = {F32: "_f4", F64: "_f8"}


def _kernel(name: str, *arrays: Any) -> Function | None:
    """The kernel for arrays that are all float32 or all float64 (None are left out); None where there is none."""
    dt = arrays[0].dtype
    if (dt is not F32 and dt is not F64) or any(a is not None and a.dtype is not dt for a in arrays):
        return None
    return SOURCE.get(name + _SUFFIX[dt])


def _fits(q: Any, k: Any, v: Any, mask: Any, keep: Any) -> bool:
    """Whether the shapes are plain and large enough."""
    lead, scores = q.shape[:-2], q.size // max(q.shape[-1], 1) * k.shape[-2]
    return (
        mask is None and scores >= SMALL and q.shape[-1] == k.shape[-1] and k.shape[:-2] == lead == v.shape[:-2]
        and v.shape[-2] == k.shape[-2] and v.size > 0 and q.size > 0
        and (keep is None or keep.shape == (*lead, q.shape[-2], k.shape[-2]))
    )  # fmt: skip


def _product(x: Any, y: Any) -> Any:
    """x y^T, row-major whatever the order of the factors is."""
    return np.matmul(x, y.swapaxes(-1, -2), out=np.empty((*x.shape[:3], y.shape[2]), x.dtype))


def _part(keep: Any, i: int, j: int, end: int) -> Any:
    return None if keep is None else rows(keep[:, :, i:j, :end])


@may_decline
def attention(q: Any, k: Any, v: Any, mask: Any = None, keep: Any = None, *, causal: bool, scale: float) -> Any:
    """Op attention: (out, lse)."""
    if not _fits(q, k, v, mask, keep):
        return NotImplemented
    weigh = _kernel("weigh", q, k, v, keep)
    if weigh is None:
        return NotImplemented
    blocks = _Blocks(q, k, None, keep, causal)
    out = blocks.empty(q.shape[-2], v.shape[-1])
    lse = np.empty((*blocks.batch, blocks.rows), q.dtype)
    whole = [blocks.four(x) for x in (q, k, v)]
    kept: Any = blocks.keep

    def work(group: Any) -> None:
        queries, keys, values, results, level = (x[group] for x in (*whole, out, lse))
        factors = None if kept is None else kept[group]
        for i, j, end in blocks.cuts:
            s = _product(queries[:, :, i:j], keys[:, :, :end])
            top, total = np.empty((2, *s.shape[:3]), s.dtype)
            weigh(s, _part(factors, i, j, end), top, total, scale, j - i, end, i, causal, 0, top.size)
            np.matmul(s, values[:, :, :end], out=results[:, :, i:j])
            np.add(np.log(total, out=total), top, out=level[..., i:j])

    blocks.run(work)
    return blocks.given(out), lse.reshape(*q.shape[:-2], blocks.rows)


@may_decline
def attention_backward(
    g: Any, q: Any, k: Any, v: Any, mask: Any, keep: Any, out: Any, weights: Any, *, needs: Any, causal: bool,
    scale: float
) -> Any:  # fmt: skip
    """Composite attention_backward; `weights` is lse."""
    if not _fits(q, k, v, mask, keep) or weights.shape != q.shape[:-1] or out.shape != g.shape or needs[3]:
        return NotImplemented
    run, dots = _kernel("score_gradients", q, k, v, keep, weights, g, out), _kernel("row_dots", q)
    if run is None or dots is None:
        return NotImplemented
    blocks = _Blocks(q, k, None, keep, causal)
    made = _Backward(blocks, [blocks.four(x) for x in (g, q, k, v, out)], weights, needs, scale, run, dots)
    blocks.run(made.work)
    return *[None if x is None else blocks.given(x) for x in (made.gq, made.gk, made.gv)], None


class _Backward:
    """What the backward pass reads and writes. gq, gk, gv: None where not needed."""

    def __init__(self, blocks: Any, arrays: Any, lse: Any, needs: Any, scale: float, run: Function, dots: Function):
        self.blocks, self.scale, self.run, self.dots = blocks, scale, run, dots
        self.arrays = arrays
        self.lse = lse.reshape(*blocks.batch, blocks.rows)
        self.made = [
            blocks.empty(*x.shape[-2:]) if need else None for x, need in zip(arrays[1:4], needs, strict=False)
        ]
        self.gq, self.gk, self.gv = self.made

    def delta(self, g: Any, out: Any) -> Any:
        """The sums of g * out along rows. g, out: (B, H, L, V) -> (B, H, L)."""
        size = g.itemsize
        if g.strides[3] != size or out.strides[3] != size:
            g, out = rows(g), rows(out)
        made = np.empty(g.shape[:3], g.dtype)
        steps = np.array([*g.strides[:3], *out.strides[:3]], np.int64) // size
        self.dots(g, out, made, steps, *g.shape[1:], 0, made.size)
        return made

    def work(self, group: Any) -> None:
        """A group of heads; the last block of queries first, as it may see all keys."""
        blocks = self.blocks
        g, q, k, v, out, lse = (x[group] for x in (*self.arrays, self.lse))
        gq, gk, gv = (None if x is None else x[group] for x in self.made)
        delta, factors = self.delta(g, out), None if blocks.keep is None else blocks.keep[group]
        for i, j, end in reversed(blocks.cuts):
            p, d = _product(q[:, :, i:j], k[:, :, :end]), _product(g[:, :, i:j], v[:, :, :end])
            level, share = rows(lse[..., i:j]), rows(delta[..., i:j])
            keep = _part(factors, i, j, end)
            self.run(p, d, keep, level, share, self.scale, j - i, end, i, blocks.causal, 0, level.size)
            if gq is not None:
                np.matmul(d, k[:, :, :end], out=gq[:, :, i:j])
            for made, weights, x in ((gk, d, q), (gv, p, g)):
                if made is not None:
                    _add_product(made, weights, x[:, :, i:j], j == blocks.rows)


KERNELS: dict[str, Callable[..., Any]] = {"attention": attention, "attention_backward": attention_backward}
