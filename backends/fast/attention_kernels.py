"""Attention without a mask but the causal one, compiled: all of some heads in one call, matrix products included.

What is kept (lse, the logarithm of each row's sum of exponentials) and the order of the results in memory are those of
the NumPy kernels, to which masks are left.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from .. import threads
from ..base import may_decline
from ..numpy.attention_kernels import _Blocks
from . import gang
from .compiled import Function, address, rows
from .rnn_kernels import SOURCE, WIDE

NEEDS = "numba"
SMALL = 1 << 14  # scores
SHARED = 1 << 15  # scores that are worth two threads
BLOCK = 48  # as in sources/products.py
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


class _Heads:
    """The sizes of a call, and how the heads are shared out."""

    def __init__(self, q: Any, k: Any, v: Any, keep: Any, causal: bool, scale: float):
        self.like = _Blocks(q, k, None, None, False)
        self.keep = None if keep is None else rows(keep)
        self.scale, self.count = float(scale), self.like.batch[0] * self.like.batch[1]
        length, columns, depth, width = q.shape[-2], k.shape[-2], q.shape[-1], v.shape[-1]
        wide = WIDE // q.itemsize
        self.numbers = [self.like.batch[1], length, columns, depth, width, int(causal), wide]
        self.parts = min(threads.count(), self.count) if self.count * length * columns >= SHARED else 1
        whole = [-(-n // wide) * wide for n in (columns, depth, width)]
        self.sizes = (length, columns, depth, width, *whole)

    def given(self, x: Any) -> Any:
        """An argument as (B, H, M, N) with contiguous rows."""
        x = self.like.four(x)
        ok = x.flags.aligned and (x.strides[3] == x.itemsize or x.shape[3] == 1)
        return x if ok and not any(s % x.itemsize for s in x.strides) else np.array(x, order="C")

    def run(self, run: Function, arrays: list[Any], own: list[Any], room: int) -> None:
        """arrays: (B, H, M, N) or None, with their strides; own: contiguous ones that follow them (see the sources)."""
        parts, size = self.parts, self.numbers[6]
        room += -room % size
        steps = np.zeros((len(arrays), 3), np.int64)
        for i, array in enumerate(arrays):
            if array is not None:
                steps[i] = array.strides[:3]
        steps //= arrays[0].itemsize
        work = np.empty(parts * room, arrays[0].dtype)
        per = -(-self.count // parts)
        args = [address(a) if isinstance(a, np.ndarray) else a or 0 for a in (*own, work, steps)]
        args += [self.scale, *self.numbers, room, per]
        if parts < 2:
            run(*args, 0, self.count)
        elif not gang.over(run, self.count, 1, args, parts):
            threads.over(lambda start, stop: run(*args, start, stop), self.count, parts)


@may_decline
def attention(q: Any, k: Any, v: Any, mask: Any = None, keep: Any = None, *, causal: bool, scale: float) -> Any:
    """Op attention: (out, lse)."""
    if not _fits(q, k, v, mask, keep):
        return NotImplemented
    run = _kernel("attention_forward", q, k, v, keep)
    if run is None:
        return NotImplemented
    heads = _Heads(q, k, v, keep, causal, scale)
    length, columns, depth, _, span, _, deep = heads.sizes
    out, lead = heads.like.empty(length, v.shape[-1]), q.shape[:-1]
    top, total = np.empty((2, *lead), q.dtype)
    arrays = [*[heads.given(x) for x in (q, k, v)], out]
    own = [*arrays[:3], heads.keep, out, top, total]
    heads.run(run, arrays, own, span * depth + deep * columns + BLOCK * (span + deep))
    return heads.like.given(out), np.add(np.log(total, out=total), top, out=top)


@may_decline
def attention_backward(
    g: Any, q: Any, k: Any, v: Any, mask: Any, keep: Any, out: Any, weights: Any, *, needs: Any, causal: bool,
    scale: float
) -> Any:  # fmt: skip
    """Composite attention_backward; `weights` is lse."""
    if not _fits(q, k, v, mask, keep) or weights.shape != q.shape[:-1] or out.shape != g.shape or needs[3]:
        return NotImplemented
    run = _kernel("attention_backward", q, k, v, keep, weights, g, out)
    if run is None:
        return NotImplemented
    heads = _Heads(q, k, v, keep, causal, scale)
    length, columns, depth, width, span, short, deep = heads.sizes
    given = [heads.given(x) for x in (q, k, v, g, out)]
    made = [heads.like.empty(*x.shape[-2:]) if need else None for x, need in zip((q, k, v), needs, strict=False)]
    own, lse = [*given, heads.keep, rows(weights), *made], None
    room = span * (depth + width) + (short + deep) * (columns + length) + short * columns
    heads.run(run, [*given, *made], own, room + BLOCK * (2 * span + short))
    return *[None if x is None else heads.like.given(x) for x in made], lse


KERNELS: dict[str, Callable[..., Any]] = {"attention": attention, "attention_backward": attention_backward}
