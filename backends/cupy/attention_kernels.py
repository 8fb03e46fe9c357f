"""Attention: two matrix products forward, four backward, and between them one launch for mask, order and softmax."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..base import may_decline
from .launch import FLAG, FLAGS, TYPES, Kernel, contiguous, empty, row_blocks, served, vector
from .matmul_kernels import batch_stride, product
from .softmax_kernels import softmax_backward

WEIGHTS = Kernel("attention.cuh", "attention_weights", "PPPliiiS", T=TYPES, KIND=("0", "1", "2"), VECTOR=FLAGS)

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


@may_decline
def attention(q: Any, k: Any, v: Any, mask: Any = None, keep: Any = None, *, causal: bool, scale: float) -> Any:
    """Op attention: (out, weights)."""
    name = served(q, k, v, keep)
    if name is None or q.ndim < 2 or not q.shape[:-2] == k.shape[:-2] == v.shape[:-2] or not k.size or not v.size:
        return NotImplemented
    if mask is not None and mask.dtype != q.dtype and mask.dtype.kind != "b":
        return NotImplemented
    shape = (*q.shape[:-1], k.shape[-2])
    steps = mask_steps(mask, shape)
    if steps is None:
        return NotImplemented
    s, p = product(q, k.swapaxes(-1, -2), alpha=scale, out=empty(shape, "float32")), empty(shape, q.dtype)
    queries, keys = shape[-2:]
    rows, wide = s.size // keys, vector(keys, s, p)
    kind = "0" if mask is None else "1" if mask.dtype.kind == "b" else "2"
    grid, block = row_blocks(rows, keys, 4 if wide else 1)
    WEIGHTS((name, kind, FLAG[wide]), grid, block, s, p, mask, rows, queries, keys, causal, steps)
    return product(p if keep is None else p * keep, v), p


@may_decline
def attention_backward(
    g: Any, q: Any, k: Any, v: Any, mask: Any, keep: Any, out: Any, weights: Any, *, needs: Any, causal: bool,
    scale: float,
) -> Any:  # fmt: skip
    """Composite attention_backward, from the forward's weights. A gradient of the mask is left to the body."""
    if weights is None or needs[3] or served(weights, g, q, k, v, keep) is None:
        return NotImplemented
    if not q.shape[:-2] == k.shape[:-2] == v.shape[:-2]:
        return NotImplemented
    gq = gk = gv = None
    if needs[2]:
        gv = product((weights if keep is None else weights * keep).swapaxes(-1, -2), g)
    if needs[0] or needs[1]:
        d = product(g, v.swapaxes(-1, -2))
        if keep is not None:
            d *= keep
        d = softmax_backward(d, contiguous(weights), axis=d.ndim - 1)
        gq = product(d, k, alpha=scale) if needs[0] else None
        gk = product(d.swapaxes(-1, -2), q, alpha=scale) if needs[1] else None
    return gq, gk, gv, None


KERNELS: dict[str, Callable[..., Any]] = {"attention": attention, "attention_backward": attention_backward}
