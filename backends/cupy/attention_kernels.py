"""Attention: through cuDNN where it serves, else by two matrix products forward and four backward.

Between the products stands one launch for mask, order and softmax. The weights are kept for the backward pass where all
scores take `SCORES` bytes at most; more are made in blocks of that size, and again in the backward pass.

cuDNN serves half precision without a mask. What is masked stays here: with a mask, cuDNN's backward passes have given
NaN (pytorch/pytorch#196678), and what a query gets that sees nothing is nowhere promised. Lengths that do not fill
cuDNN's tiles are told to it as a padding mask, without which its backward passes may take what lies behind the last key
for scores of zero (NVIDIA/cudnn-frontend#160 and #1072).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

from .. import cuda
from .. import cudnn as settings
from ..base import may_decline
from . import cudnn
from .launch import FLAG, FLAGS, NAMES, TYPES, Kernel, aligned, contiguous, current, empty, row_blocks, served, vector
from .matmul_kernels import batch_stride, product
from .softmax_kernels import softmax_backward

WEIGHTS = Kernel("attention.cuh", "attention_weights", "PPPliiiS", T=TYPES, KIND=("0", "1", "2"), VECTOR=FLAGS)

SCORES = 1 << 28  # bytes of scores at once

STEPS = np.dtype(
    [("outer", "i8"), ("inner", "i8"), ("query", "i8"), ("key", "i8"), ("inner_size", "i4")], align=True
)


def mask_steps(mask: Any, shape: tuple[int, ...]) -> Any:
    """The struct MaskSteps of a mask that broadcasts to scores of that shape; None where two steps do not suffice."""
    made = np.zeros(1, STEPS)
    made["inner_size"] = 1
    if mask is None:
        return made
    missing = len(shape) - mask.ndim
    if missing < 0:
        return None
    own = (0,) * missing + tuple(
        0 if n == 1 else s // mask.itemsize for n, s in zip(mask.shape, mask.strides, strict=True)
    )
    batch = shape[:-2]
    for cut in range(len(batch) + 1):
        outer, inner = batch_stride(batch[:cut], own[: len(batch)][:cut]), batch_stride(batch[cut:], own[cut:-2])
        if outer is not None and inner is not None:
            size = int(np.prod(batch[cut:], dtype=np.int64))
            made[0] = (outer, inner, own[-2], own[-1], size)
            return made
    return None


def blocks(shape: tuple[int, ...]) -> Iterator[slice]:
    """Spans of the first axis of scores of that shape, each of `SCORES` bytes at most where it is more than one."""
    count = shape[0] if len(shape) > 2 else 1
    step = max(1, SCORES * count // (4 * math.prod(shape)))
    for first in range(0, count, step):
        yield slice(first, first + step) if len(shape) > 2 else slice(None)


def weights_of(q: Any, k: Any, mask: Any, causal: bool, scale: float) -> Any:
    """softmax(q k^T * scale + mask). q: (*B, L, E), k: (*B, S, E) -> (*B, L, S). NotImplemented for some masks."""
    shape = (*q.shape[:-1], k.shape[-2])
    steps = mask_steps(mask, shape)
    if steps is None:
        return NotImplemented
    s, p = product(q, k.swapaxes(-1, -2), alpha=scale, out=empty(shape, "float32")), empty(shape, q.dtype)
    if s is NotImplemented:
        return NotImplemented
    queries, keys = shape[-2:]
    rows, wide = s.size // keys, vector(keys, s, p)
    kind = "0" if mask is None else "1" if mask.dtype.kind == "b" else "2"
    grid, block = row_blocks(rows, keys, 4 if wide else 1)
    WEIGHTS((NAMES[q.dtype.name], kind, FLAG[wide]), grid, block, s, p, mask, rows, queries, keys, causal, steps)
    return p


def _fits(q: Any, k: Any, v: Any, mask: Any, keep: Any) -> bool:
    """Whether the kernels here take these."""
    if served(q, k, v, keep) is None or not k.size or not v.size or q.ndim < 2:
        return False
    if mask is not None and mask.dtype != q.dtype and mask.dtype.kind != "b":
        return False
    return bool(q.shape[:-2] == k.shape[:-2] == v.shape[:-2])


def _part(mask: Any, span: slice, ndim: int) -> Any:
    """The mask of a block of scores with `ndim` axes: of a first axis that it has, the block's."""
    return mask[span] if mask is not None and mask.ndim == ndim > 2 and mask.shape[0] > 1 else mask


@may_decline
def attention(q: Any, k: Any, v: Any, mask: Any = None, keep: Any = None, *, causal: bool, scale: float) -> Any:
    """Op attention: (out, what the backward pass takes), which is cuDNN's statistics (*B, L), the weights, or None."""
    if not _fits(q, k, v, mask, keep):
        return NotImplemented
    if mask is None and keep is None:
        found = by_cudnn(q, k, v, causal, scale)
        if found is not None:
            return found
    shape = (*q.shape[:-1], k.shape[-2])
    if 4 * math.prod(shape) <= SCORES:
        p = weights_of(q, k, mask, causal, scale)
        return p if p is NotImplemented else (product(p if keep is None else p * keep, v), p)
    out = empty((*q.shape[:-1], v.shape[-1]), q.dtype)
    for span in blocks(shape):
        p = weights_of(q[span], k[span], _part(mask, span, len(shape)), causal, scale)
        if p is NotImplemented:
            return NotImplemented
        product(p if keep is None else p * keep[span], v[span], out=out[span])
    return out, None


@may_decline
def attention_backward(
    g: Any, q: Any, k: Any, v: Any, mask: Any, keep: Any, out: Any, weights: Any, *, needs: Any, causal: bool,
    scale: float,
) -> Any:  # fmt: skip
    """Composite attention_backward. A gradient of the mask is left to the body."""
    if needs[3] or g.dtype != q.dtype or not g.size or not _fits(q, k, v, mask, keep):
        return NotImplemented
    if weights is not None and weights.ndim < q.ndim:
        found = by_cudnn_backward(g, q, k, v, out, weights, causal, scale)
        if found is not None:
            return *[a if need else None for a, need in zip(found, needs, strict=False)], None
        weights = None
    shape = (*q.shape[:-1], k.shape[-2])
    if weights is not None:
        return *_gradients(g, q, k, v, keep, contiguous(weights), needs, scale, [None] * 3), None
    made = [empty(a.shape, a.dtype) if need else None for a, need in zip((q, k, v), needs, strict=False)]
    for span in blocks(shape):
        p = weights_of(q[span], k[span], _part(mask, span, len(shape)), causal, scale)
        if p is NotImplemented:
            return NotImplemented
        into = [None if a is None else a[span] for a in made]
        drop = None if keep is None else keep[span]
        _gradients(g[span], q[span], k[span], v[span], drop, p, needs, scale, into)
    return *made, None


def _gradients(g: Any, q: Any, k: Any, v: Any, keep: Any, p: Any, needs: Any, scale: float, into: Any) -> list[Any]:
    """The gradients of q, k and v that are needed, from the weights p; in new arrays, or in those of `into`."""
    gq = gk = gv = None
    if needs[2]:
        gv = product((p if keep is None else p * keep).swapaxes(-1, -2), g, out=into[2])
    if needs[0] or needs[1]:
        d = product(g, v.swapaxes(-1, -2))
        if keep is not None:
            d *= keep
        d = softmax_backward(d, p, axis=d.ndim - 1)
        gq = product(d, k, alpha=scale, out=into[0]) if needs[0] else None
        gk = product(d.swapaxes(-1, -2), q, alpha=scale, out=into[1]) if needs[1] else None
    return [gq, gk, gv]


# ---- through cuDNN

TILE = 128  # queries and keys that its kernels take at a time


class Attention(NamedTuple):
    """Attention as cuDNN has it, forward or backward.

    shapes, strides (in elements): of q (B, H, L, E), k (B, H, S, E), v (B, H, S, V) and out (B, H, L, V), whose
    gradients lie alike. uids: 1 to 4 these, 5 the statistics (B, H, L), 6 the gradient of out, 7 to 9 those of q, k, v,
    10 and 11 the numbers of queries and keys of each of the B, where `padded`.
    """

    backward: bool
    dtype: str
    shapes: tuple[tuple[int, ...], ...]
    strides: tuple[tuple[int, ...], ...]
    gradients: tuple[tuple[int, ...], ...]
    causal: bool
    scale: float
    padded: bool
    deterministic: bool

    def declare(self, frontend: Any, graph: Any) -> None:
        """The graph of the operation."""
        batch, heads, queries, _ = self.shapes[0]
        rows, lengths = (batch, heads, queries, 1), (batch, 1, 1, 1)
        q, k, v = [self._given(frontend, graph, i + 1, i) for i in range(3)]
        how: dict[str, Any] = {"attn_scale": self.scale}
        if self.causal:
            how |= {"diagonal_alignment": frontend.diagonal_alignment.TOP_LEFT, "diagonal_band_right_bound": 0}
        if self.padded:
            length = [cudnn.operand(frontend, graph, u, lengths, cudnn.row_major(lengths), "int32") for u in (10, 11)]
            how |= {"use_padding_mask": True, "seq_len_q": length[0], "seq_len_kv": length[1]}
        if not self.backward:
            out, stats = graph.sdpa(q=q, k=k, v=v, generate_stats=True, **how)
            cudnn.result(frontend, out, 4, self.shapes[3], self.strides[3], self.dtype)
            cudnn.result(frontend, stats, 5, rows, cudnn.row_major(rows), "float32")
            return
        out, g = [self._given(frontend, graph, uid, 3) for uid in (4, 6)]
        stats = cudnn.operand(frontend, graph, 5, rows, cudnn.row_major(rows), "float32")
        if self.deterministic:
            how["use_deterministic_algorithm"] = True
        made = graph.sdpa_backward(q=q, k=k, v=v, o=out, dO=g, stats=stats, **how)
        for i, gradient in enumerate(made):
            cudnn.result(frontend, gradient, 7 + i, self.shapes[i], self.gradients[i], self.dtype)

    def _given(self, frontend: Any, graph: Any, uid: int, which: int) -> Any:
        return cudnn.operand(frontend, graph, uid, self.shapes[which], self.strides[which], self.dtype)


def _four(x: Any) -> Any:
    """The array with axes of size 1 before its own, four in all."""
    return x if x.ndim == 4 else x[(None,) * (4 - x.ndim)]


def _held(x: Any) -> Any:
    """The array as cuDNN takes it: rows without gaps that begin at multiples of 16 bytes, none of them twice."""
    steps = [s for n, s in zip(x.shape[:3], x.strides, strict=False) if n > 1]
    if x.strides[3] == x.itemsize and all(s > 0 and s % 16 == 0 for s in steps) and aligned(x):
        return x
    made = _made_like(x, x.shape)
    made[...] = x
    return made


def _made_like(x: Any, shape: tuple[int, ...]) -> Any:
    """A new array (B, H, L, W), the heads within the rows where x has them so."""
    if not 0 < x.strides[1] < x.strides[2]:
        return empty(shape, x.dtype)
    batch, heads, length, width = shape
    return empty((batch, length, heads, width), x.dtype).transpose(0, 2, 1, 3)


def _strides(*arrays: Any) -> tuple[tuple[int, ...], ...]:
    """In elements; of an axis of size 1, which may have any, the array's size."""
    return tuple(
        [tuple([s // a.itemsize if n > 1 else a.size for n, s in zip(a.shape, a.strides, strict=True)]) for a in arrays]
    )


def _library(q: Any, v: Any) -> cudnn.Library | None:
    """cuDNN, where it takes such heads and the program's switches let it."""
    if q.itemsize != 2 or q.ndim > 4 or q.shape[-1] % 8 or v.shape[-1] % 8:
        return None
    return cudnn.library() if settings.enabled and cuda.cudnn_sdp_enabled() else None


def _described(backward: bool, given: list[Any], made: list[Any], causal: bool, scale: float) -> Attention:
    q, k, v, out = given
    return Attention(
        backward, q.dtype.name, tuple([a.shape for a in given]), _strides(*given), _strides(*made), causal, scale,
        bool(q.shape[2] % TILE or k.shape[2] % TILE), backward and settings.deterministic,
    )  # fmt: skip


def _lengths(at: Attention) -> dict[int, Any]:
    """The operands 10 and 11. Made anew each time: a captured graph then holds what fills them."""
    if not at.padded:
        return {}
    batch, xp = at.shapes[0][0], current().xp
    queries, keys = at.shapes[0][2], at.shapes[1][2]
    first = xp.full((batch,), queries, "int32")
    return {10: first, 11: first if keys == queries else xp.full((batch,), keys, "int32")}


def by_cudnn(q: Any, k: Any, v: Any, causal: bool, scale: float) -> Any:
    """(out, statistics (*B, L)) of attention without a mask; None where cuDNN does not serve."""
    library = _library(q, v)
    if library is None:
        return None
    shape = (*q.shape[:-1], v.shape[-1])
    given = [_held(_four(a)) for a in (q, k, v)]
    out = _made_like(given[0], (*given[0].shape[:3], shape[-1]))
    at = _described(False, [*given, out], [], causal, scale)
    plan = library.plan(at)
    if plan is None:
        return None
    stats = empty(shape[:-1], "float32")
    library.run(plan, {1: given[0], 2: given[1], 3: given[2], 4: out, 5: stats, **_lengths(at)})
    return out[(0,) * (4 - q.ndim)], stats


def by_cudnn_backward(g: Any, q: Any, k: Any, v: Any, out: Any, stats: Any, causal: bool, scale: float) -> Any:
    """The gradients of q, k and v; None where cuDNN does not serve."""
    library = _library(q, v)
    if library is None:
        return None
    given = [_held(_four(a)) for a in (q, k, v, out)]
    made = [_made_like(a, a.shape) for a in given[:3]]
    at = _described(True, given, made, causal, scale)
    plan = library.plan(at)
    if plan is None:
        return None
    g = _four(g)
    if _strides(g) != at.strides[3:] or not aligned(g):  # the frontend's kernels want it to lie as out does
        copy = _made_like(given[3], g.shape)
        if _strides(copy) != at.strides[3:]:
            return None
        copy[...] = g
        g = copy
    arrays = {1: given[0], 2: given[1], 3: given[2], 4: given[3], 5: stats, 6: g, **_lengths(at)}
    library.run(plan, arrays | {7 + i: a for i, a in enumerate(made)})
    return [a[(0,) * (4 - q.ndim)] for a in made]


KERNELS: dict[str, Callable[..., Any]] = {"attention": attention, "attention_backward": attention_backward}
