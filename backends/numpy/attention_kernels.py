"""Attention by blocks of queries, some heads per thread; the scores of a block stay in the cache and are never kept.

Kept are, per query, lse = log(sum(exp(scores))), from which the backward pass makes the weights again as exp(scores -
lse): Dao et al., FlashAttention, 2022. Causal blocks end at their last visible key. Inside, arrays are (B, H, M, N)
whatever the caller's leading dimensions are. Halves are left to the generic form.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from .. import threads
from ..base import may_decline
from . import blas

SMALLEST = {4: 1e-20, 8: 1e-200}  # a sum of a row below it, or above 1 / it: its maximum must be taken off
BLOCK = 1 << 18  # scores that are worked on together
ROWS = 64  # queries of a block at least: products of fewer are slow
LITTLE = 1 << 19  # multiplications, 0.1 ms: one thread has done them before others have begun
FEW = 8  # queries per head: a token of a text that is generated, or those that share a head of keys
CAUSAL_ROWS = 128  # queries of a block at most, where later keys are hidden


class _Blocks:
    """What hides scores, and how the work is cut: heads into groups, queries into blocks."""

    def __init__(self, q: Any, k: Any, mask: Any, keep: Any, causal: bool):
        lead, rows, columns = q.shape[:-2], q.shape[-2], k.shape[-2]
        self.lead, self.rows, self.columns, self.causal, self.dtype = lead, rows, columns, causal, q.dtype
        outer, heads = math.prod(lead[:-1]), math.prod(lead[-1:])
        self.batch = (outer, heads)
        height = min(rows, max(ROWS, BLOCK // columns), CAUSAL_ROWS if causal else rows)
        ends = [(i, min(i + height, rows)) for i in range(0, rows, height)]
        self.cuts = [(i, j, min(j, columns) if causal else columns) for i, j in ends]
        little = q.size * columns <= LITTLE
        together = max(1, min(BLOCK // (rows * columns), -(-outer * heads // (1 if little else threads.count()))))
        step, many = min(together, heads), max(1, together // heads)
        self.groups = [
            (slice(b, b + many), slice(h, h + step)) for b in range(0, outer, many) for h in range(0, heads, step)
        ]
        self.integer = np.dtype(f"i{q.dtype.itemsize}")
        self.keep = None if keep is None else self.four(keep)
        self.bits = self.added = None
        if mask is not None and mask.dtype.kind == "b":
            self.bits = self.four(-mask.astype(self.integer))
        elif mask is not None:
            self.added = self.four(mask)
        if causal:
            self.order = -np.tri(height, dtype=self.integer)

    def four(self, x: Any) -> Any:
        """x, of which the leading dimensions may be broadcast, as (B, H, M, N)."""
        shape = (*self.lead, *x.shape[-2:])
        whole = x if x.shape == shape else np.broadcast_to(x, shape)
        return whole if len(shape) == 4 else whole.reshape(*self.batch, *shape[-2:])

    def empty(self, rows: int, columns: int) -> Any:
        """(B, H, rows, columns) in the memory order (B, rows, H, columns), as which the heads are joined next."""
        outer, heads = self.batch
        return np.empty((outer, rows, heads, columns), self.dtype).swapaxes(1, 2)

    def given(self, x: Any) -> Any:
        """An array from `empty` with the caller's leading dimensions."""
        return x if len(self.lead) == 2 else x.reshape(*self.lead, *x.shape[2:])

    def run(self, function: Callable[[tuple[slice, slice]], None]) -> None:
        """function(group) for all groups of heads."""
        groups = self.groups

        def span(start: int, stop: int) -> None:
            with np.errstate(invalid="ignore", over="ignore", divide="ignore"):
                for group in groups[start:stop]:
                    function(group)

        if len(groups) == 1:
            span(0, 1)
            return
        with blas.alone():
            threads.over(span, len(groups))

    def parts(self, group: tuple[slice, slice], i: int, j: int, end: int) -> list[Any]:
        """(numbers to add, bits, factors) of a block's scores; None where there are none."""
        found = []
        for x in (self.added, self.bits, self.keep):
            part = None if x is None else x[group]
            if part is not None:  # a dimension of size 1 stays so
                part = part[:, :, i:j] if part.shape[2] > 1 else part
                part = part[..., :end] if part.shape[3] > 1 else part
            found.append(part)
        return found

    def hide(self, e: Any, bits: Any, i: int) -> None:
        """Zeros where a key may not be seen, whatever stands there. e: (B, H, rows, keys), rows from i on."""
        if self.causal:
            part = e[..., i:].view(self.integer)
            np.bitwise_and(part, self.order[: part.shape[2], : part.shape[3]], out=part)
        if bits is not None:
            whole = e.view(self.integer)
            np.bitwise_and(whole, bits, out=whole)

    def careful(self, s: Any, bits: Any, i: int) -> tuple[Any, Any]:
        """Each row's maximum and sum of exp(s - maximum), which s becomes. A row that sees nothing has inf and 1."""
        if bits is not None:
            s[np.broadcast_to(bits, s.shape) == 0] = -math.inf
        if self.causal:
            part = s[..., i:]
            part[..., self.order[: part.shape[2], : part.shape[3]] == 0] = -math.inf
        top = s.max(axis=-1)
        blind = top == -math.inf
        np.exp(np.subtract(s, np.where(blind, 0, top)[..., None], out=s), out=s)
        total = np.add.reduce(s, axis=-1)
        total[blind], top[blind] = 1, math.inf
        return top, total


def _scores(q: Any, k: Any, added: Any, out: Any) -> None:
    np.matmul(q, k.swapaxes(-1, -2), out=out)
    if added is not None:
        np.add(out, added, out=out)


def _forward(blocks: _Blocks, q: Any, k: Any, v: Any, out: Any, lse: Any, scale: Any) -> Callable[..., None]:
    """The function that does a group of heads. Rows that exp(scores) without their maximum does not serve are rare."""
    smallest, ones = SMALLEST[out.dtype.itemsize], np.ones(blocks.columns, out.dtype)

    def work(group: tuple[slice, slice]) -> None:
        queries, keys, values, results = q[group] * scale, k[group], v[group], out[group]  # fewer than the scores
        shape = queries.shape[:2]
        buffer = np.empty(math.prod(shape) * max([(j - i) * end for i, j, end in blocks.cuts]), out.dtype)
        for i, j, end in blocks.cuts:
            s = buffer[: math.prod(shape) * (j - i) * end].reshape(*shape, j - i, end)
            added, bits, keep = blocks.parts(group, i, j, end)
            _scores(queries[:, :, i:j], keys[:, :, :end], added, s)
            np.exp(s, out=s)
            blocks.hide(s, bits, i)
            top, total = 0, np.matmul(s, ones[:end])
            if not (total.min() > smallest and total.max() < 1 / smallest):
                _scores(queries[:, :, i:j], keys[:, :, :end], added, s)
                top, total = blocks.careful(s, bits, i)
            part = results[:, :, i:j]
            np.matmul(s if keep is None else np.multiply(s, keep, out=s), values[:, :, :end], out=part)
            np.multiply(part, (1 / total)[..., None], out=part)
            lse[group][..., i:j] = np.log(total) + top

    return work


def _few(q: Any, k: Any, v: Any, mask: Any, scale: Any) -> tuple[Any, Any]:
    """attention for so few scores that all are there at once: no blocks, and no threads to wait for."""
    s = np.matmul(q * scale, k.swapaxes(-1, -2))
    if mask is not None:
        s = np.where(mask, s, s.dtype.type(-math.inf)) if mask.dtype.kind == "b" else np.add(s, mask, out=s)
    top = s.max(axis=-1, keepdims=True)
    blind = None if mask is None else top == -math.inf
    with np.errstate(invalid="ignore"):
        np.subtract(s, top if blind is None else np.where(blind, 0, top), out=s)
        np.exp(s, out=s)
    total = np.add.reduce(s, axis=-1, keepdims=True)
    if blind is not None:
        total[blind], top[blind] = 1, math.inf
    out = np.matmul(s, v)
    np.divide(out, total, out=out)
    return out, (np.log(total) + top)[..., 0]


@may_decline
def attention(q: Any, k: Any, v: Any, mask: Any = None, keep: Any = None, *, causal: bool, scale: float) -> Any:
    """Op attention: (out, lse). lse: (*B, L), inf for a query that sees nothing."""
    if q.dtype.itemsize < 4 or q.dtype.kind != "f" or not q.size or not k.size or not v.size:
        return NotImplemented
    lead, columns = q.shape[:-2], k.shape[-2]
    if k.shape[:-2] != lead or v.shape[:-2] != lead or k.shape[-1] != q.shape[-1] or v.shape[-2] != columns:
        return NotImplemented
    if q.shape[-2] <= FEW and keep is None and not causal and q.size * columns <= LITTLE:
        return _few(q, k, v, mask, q.dtype.type(scale))
    blocks = _Blocks(q, k, mask, keep, causal)
    out = blocks.empty(q.shape[-2], v.shape[-1])
    lse = np.empty((*blocks.batch, blocks.rows), q.dtype)
    q, k, v = (blocks.four(x) for x in (q, k, v))
    blocks.run(_forward(blocks, q, k, v, out, lse, q.dtype.type(scale)))
    return blocks.given(out), lse.reshape(*lead, blocks.rows)


class _Gradients:
    """What the backward pass reads and writes. gq, gk, gv, gm: None where not needed."""

    def __init__(self, blocks: _Blocks, arrays: Any, lse: Any, needs: Any, scale: Any):
        self.blocks, self.scale = blocks, scale
        self.g, self.q, self.k, self.v, self.out = arrays
        self.lse = lse.reshape(*blocks.batch, blocks.rows)
        self.gq, self.gk, self.gv = [
            blocks.empty(*x.shape[-2:]) if need else None for x, need in zip(arrays[1:4], needs, strict=False)
        ]
        self.gm = np.zeros((*blocks.batch, blocks.rows, blocks.columns), self.q.dtype) if needs[3] else None
        self.scores = needs[0] or needs[1] or needs[3]

    def work(self, group: tuple[slice, slice]) -> None:
        """A group of heads; the last block of queries first, as it may see all keys."""
        blocks = self.blocks
        g, q, k, v, lse = [x[group] for x in (self.g, self.q, self.k, self.v, self.lse)]
        q = q * self.scale  # for the scores, and for what arrives at the keys
        gq, gk, gv, gm = [None if x is None else x[group] for x in (self.gq, self.gk, self.gv, self.gm)]
        shape = q.shape[:2]
        delta = np.einsum("bhlv,bhlv->bhl", g, self.out[group]) if self.scores else None
        buffers = np.empty((2, math.prod(shape) * max([(j - i) * end for i, j, end in blocks.cuts])), q.dtype)
        for i, j, end in reversed(blocks.cuts):
            p, d = [x[: math.prod(shape) * (j - i) * end].reshape(*shape, j - i, end) for x in buffers]
            added, bits, keep = blocks.parts(group, i, j, end)
            _scores(q[:, :, i:j], k[:, :, :end], added, p)
            np.subtract(p, lse[..., i:j, None], out=p)
            np.exp(p, out=p)
            blocks.hide(p, bits, i)
            if gv is not None:
                _add_product(gv, p if keep is None else np.multiply(p, keep, out=d), g[:, :, i:j], j == blocks.rows)
            if delta is None:
                continue
            np.matmul(g[:, :, i:j], v[:, :, :end].swapaxes(-1, -2), out=d)
            if keep is not None:
                np.multiply(d, keep, out=d)
            np.subtract(d, delta[..., i:j, None], out=d)
            np.multiply(d, p, out=d)
            if gm is not None:
                gm[:, :, i:j, :end] = d
            if gq is not None:
                part = np.matmul(d, k[:, :, :end], out=gq[:, :, i:j])
                np.multiply(part, self.scale, out=part)
            if gk is not None:
                _add_product(gk, d, q[:, :, i:j], j == blocks.rows)


def _add_product(out: Any, weights: Any, x: Any, first: bool) -> None:
    """Adds weights^T x to the first keys of out; `first`: to zeros. weights: (B, H, rows, keys), x: (B, H, rows, N)."""
    end = weights.shape[3]
    if first:
        np.matmul(weights.swapaxes(-1, -2), x, out=out[:, :, :end])
        out[:, :, end:] = 0
    else:
        out[:, :, :end] += np.matmul(weights.swapaxes(-1, -2), x)


@may_decline
def attention_backward(
    g: Any, q: Any, k: Any, v: Any, mask: Any, keep: Any, out: Any, weights: Any, *, needs: Any, causal: bool,
    scale: float
) -> Any:  # fmt: skip
    """Composite attention_backward; `weights` is lse."""
    if q.dtype.itemsize < 4 or not weights.size or not out.size or weights.shape != q.shape[:-1]:
        return NotImplemented
    blocks = _Blocks(q, k, mask, keep, causal)
    arrays = [blocks.four(x) for x in (g, q, k, v, out)]
    made = _Gradients(blocks, arrays, weights, needs, q.dtype.type(scale))
    blocks.run(made.work)
    found = [None if x is None else blocks.given(x) for x in (made.gq, made.gk, made.gv, made.gm)]
    if found[3] is not None:
        found[3] = _summed(found[3], mask.shape)
    return tuple(found)


def _summed(x: Any, shape: tuple[int, ...]) -> Any:
    """x summed to the shape it was broadcast from."""
    lead = x.ndim - len(shape)
    x = np.add.reduce(x, axis=tuple(range(lead))) if lead else x
    stretched = tuple(i for i, n in enumerate(shape) if n == 1 and x.shape[i] != 1)
    return np.add.reduce(x, axis=stretched, keepdims=True) if stretched else x


KERNELS: dict[str, Callable[..., Any]] = {"attention": attention, "attention_backward": attention_backward}
