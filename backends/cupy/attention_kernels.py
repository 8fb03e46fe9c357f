"""Attention: through cuDNN where it serves, else by two matrix products forward and four backward.

Between the products stands one launch for mask, order and softmax. The weights are kept for the backward pass where all
scores take `SCORES` bytes at most; more are made in blocks of that size, and again in the backward pass.

cuDNN serves half precision without a mask. What is masked stays here: with a mask, cuDNN's backward passes have given
NaN (pytorch/pytorch#196678), and what a query gets that sees nothing is nowhere promised. Lengths that do not fill
cuDNN's tiles are told to it as a padding mask, without which its backward passes may take what lies behind the last key
for scores of zero (NVIDIA/cudnn-frontend#160 and #1072).
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from .. import cuda
from .. import cudnn as settings
from ..base import may_decline
from . import cudnn
from .launch import FLAG, FLAGS, TYPES, Kernel, contiguous, current, empty, row_blocks, served, type_of, vector
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
    WEIGHTS((type_of[q.dtype], kind, FLAG[wide]), grid, block, s, p, mask, rows, queries, keys, causal, steps)
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
    if mask is None and keep is None:
        found = by_cudnn(q, k, v, causal, scale)
        if found is not None:
            return found
    if not _fits(q, k, v, mask, keep):
        return NotImplemented
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
    if needs[3] or g.dtype != q.dtype or not g.size:
        return NotImplemented
    if weights is not None and weights.ndim < q.ndim:
        found = by_cudnn_backward(g, q, k, v, out, weights, causal, scale)
        if found is not None:
            return *[a if need else None for a, need in zip(found, needs, strict=False)], None
        weights = None
    if not _fits(q, k, v, mask, keep):
        return NotImplemented
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
LENGTHS = np.dtype("i4")


@dataclass(frozen=True, eq=False)
class Attention:
    """Attention as cuDNN has it, forward or backward.

    shapes, strides (in elements): of q (B, H, L, E), k (B, H, S, E), v (B, H, S, V) and out (B, H, L, V); gradients:
    the strides of those of q, k and v, while out's lies as out. uids: 1 to 4 these, 5 the statistics (B, H, L), 6 the
    gradient of out, 7 to 9 those of q, k, v, 10 and 11 the numbers of queries and keys of each of the B, if `padded`.
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


_one = functools.lru_cache(maxsize=4096)(Attention)  # the same object for the same fields


class Held(NamedTuple):
    """How an array (B, H, L, W), with axes of size 1 before its own, goes to cuDNN.

    strides: in elements; `lies`: they are the array's own, else a copy's. rows: the heads are within the rows, in the
    array and in what is made like it, whose strides are `made`.
    """

    shape: tuple[int, ...]
    strides: tuple[int, ...]
    lies: bool
    rows: bool
    made: tuple[int, ...]

    def new(self, dtype: Any) -> Any:
        """A new array like it."""
        batch, heads, length, width = self.shape
        if not self.rows:
            return empty(self.shape, dtype)
        return empty((batch, length, heads, width), dtype).transpose(0, 2, 1, 3)

    def of(self, x: Any) -> tuple[Any, int]:
        """(the array, or a copy that lies so; its address)."""
        address = current().pointer(x)
        if self.lies and not address & 15:
            return x, address
        copy = self.new(x.dtype)
        copy[...] = x  # axes of size 1 before the array's own are NumPy's to add
        return copy, current().pointer(copy)


@functools.lru_cache(maxsize=4096)
def held(shape: tuple[int, ...], strides: tuple[int, ...], size: int) -> Held:
    """How an array of that shape and those strides (in bytes) goes to cuDNN.

    cuDNN takes rows without gaps that begin at multiples of 16 bytes, none of them twice.
    """
    missing = 4 - len(shape)
    shape, steps = (1,) * missing + shape, [0] * missing + [s // size for s in strides]
    rows, count = 0 < steps[1] < steps[2], math.prod(shape)
    outer = zip(shape[:3], steps[:3], strict=True)
    lies = steps[3] == 1 and all(n == 1 or (s > 0 and s * size % 16 == 0) for n, s in outer)
    _, heads, length, width = shape
    own = (heads * length * width, *((width, heads * width) if rows else (length * width, width)), 1)
    # an axis of size 1 may have any stride
    made, used = [
        tuple([s if n > 1 else count for n, s in zip(shape, given, strict=True)]) for given in (own, steps)
    ]
    return Held(shape, used if lies else made, lies, rows, made)


Lies = tuple[tuple[int, ...], tuple[int, ...]]  # an array's shape and strides


@functools.lru_cache(maxsize=4096)
def forward_of(
    dtypes: tuple[Any, ...], q: Lies, k: Lies, v: Lies, causal: bool, scale: float
) -> tuple[Attention, list[Held], Held] | None:
    """(what cuDNN is to do, how q, k and v go in, how the result lies); None for what it does not take."""
    ndim, size = len(q[0]), dtypes[0].itemsize
    wide = q[0][-1] % 8 or v[0][-1] % 8 or len(set(dtypes)) > 1 or dtypes[0].name not in ("float16", "bfloat16")
    if wide or not 2 <= ndim <= 4 or not q[0][:-2] == k[0][:-2] == v[0][:-2]:
        return None
    given = [held(*a, size) for a in (q, k, v)]
    shape = (*given[0].shape[:3], v[0][-1])
    if not math.prod((*shape, q[0][-1], k[0][-2])):
        return None
    rows = (shape[0], shape[2], shape[1], shape[3])
    step = [size * math.prod(rows[i + 1 :]) for i in range(4)]
    plain = tuple([size * math.prod(shape[i + 1 :]) for i in range(4)])
    out = held(shape, (step[0], step[2], step[1], step[3]) if given[0].rows else plain, size)
    return _attention(dtypes[0].name, [*given, out], [], causal, scale, False), given, out


@functools.lru_cache(maxsize=4096)
def backward_of(
    dtype: Any, q: Lies, k: Lies, v: Lies, out: Lies, causal: bool, scale: float, deterministic: bool
) -> tuple[Attention, list[Held]]:
    """(what cuDNN is to do, how q, k, v and out go in), for what it took forward."""
    given = [held(*a, dtype.itemsize) for a in (q, k, v, out)]
    return _attention(dtype.name, given, given[:3], causal, scale, deterministic), given


def _attention(
    dtype: str, given: list[Held], made: list[Held], causal: bool, scale: float, deterministic: bool
) -> Attention:
    shapes, strides = tuple([a.shape for a in given]), tuple([a.strides for a in given])
    padded = bool(shapes[0][2] % TILE or shapes[1][2] % TILE)
    gradients = tuple([a.made for a in made])
    return _one(bool(made), dtype, shapes, strides, gradients, causal, scale, padded, deterministic)


def _plan(at: Attention) -> tuple[cudnn.Library | None, cudnn.Plan | None]:
    """cuDNN and its plan, where the program's switches let it and it does not refuse."""
    library = cudnn.library() if settings.enabled and cuda.cudnn_attends() else None
    return library, None if library is None else library.plan(at)


def _lengths(at: Attention) -> list[Any]:
    """The operands 10 and 11. Made anew each time: a captured graph then holds what fills them."""
    if not at.padded:
        return []
    batch, queries, keys = at.shapes[0][0], at.shapes[0][2], at.shapes[1][2]
    first = current().xp.full((batch,), queries, LENGTHS)
    return [first, first if keys == queries else current().xp.full((batch,), keys, LENGTHS)]


def _run(library: cudnn.Library, plan: cudnn.Plan, at: Attention, addresses: dict[int, int]) -> None:
    lengths = _lengths(at)
    for uid, array in zip((10, 11), lengths, strict=False):
        addresses[uid] = library.machine.pointer(array)
    library.run(plan, addresses)


def by_cudnn(q: Any, k: Any, v: Any, causal: bool, scale: float) -> Any:
    """(out, statistics (*B, L)) of attention without a mask; None where cuDNN does not serve."""
    lies = [(a.shape, a.strides) for a in (q, k, v)]
    found = forward_of((q.dtype, k.dtype, v.dtype), *lies, bool(causal), scale)
    if found is None:
        return None
    at, given, like = found
    library, plan = _plan(at)
    if library is None or plan is None:
        return None
    (_q, at_q), (_k, at_k), (_v, at_v) = [how.of(a) for how, a in zip(given, (q, k, v), strict=True)]
    out, stats = like.new(q.dtype), empty(q.shape[:-1], np.float32)
    pointer = library.machine.pointer
    _run(library, plan, at, {1: at_q, 2: at_k, 3: at_v, 4: pointer(out), 5: pointer(stats)})
    return out if q.ndim == 4 else out[(0,) * (4 - q.ndim)], stats


def by_cudnn_backward(g: Any, q: Any, k: Any, v: Any, out: Any, stats: Any, causal: bool, scale: float) -> Any:
    """The gradients of q, k and v; None where cuDNN does not serve."""
    lies = [(a.shape, a.strides) for a in (q, k, v, out)]
    at, given = backward_of(q.dtype, *lies, bool(causal), scale, settings.is_deterministic())
    if not given[3].lies or given[3].strides != given[3].made:
        return None
    library, plan = _plan(at)
    if library is None or plan is None:
        return None
    arrays = [how.of(a) for how, a in zip(given, (q, k, v, out), strict=True)]
    pointer = library.machine.pointer
    how = held(g.shape, g.strides, g.itemsize)
    if how.strides != at.strides[3]:  # it must lie as out does
        how = given[3]._replace(lies=False)
    g, at_g = how.of(g)
    made = [a.new(q.dtype) for a in given[:3]]
    addresses = {1 + i: address for i, (_, address) in enumerate(arrays)} | {5: pointer(stats), 6: at_g}
    _run(library, plan, at, addresses | {7 + i: pointer(a) for i, a in enumerate(made)})
    return made if q.ndim == 4 else [a[(0,) * (4 - q.ndim)] for a in made]


KERNELS: dict[str, Callable[..., Any]] = {"attention": attention, "attention_backward": attention_backward}
