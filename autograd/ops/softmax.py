"""Softmax and the losses made of it. `axis`: a non-negative int.

Each rule is one call of a `*_backward` composite, which a backend may serve by one fused kernel.
"""

from __future__ import annotations

from ..op import composite, op
from .index import on_host
from .reduce import narrow, wide


@op(row_major=True)
def softmax(xp, x, *, axis):
    """exp(x) / sum(exp(x)) along axis. x: (*S) -> (*S)."""
    if not x.size:
        return x.copy()
    work = wide(x)
    e = xp.exp(work - xp.max(work, axis=axis, keepdims=True))
    return narrow(e / xp.add.reduce(e, axis=axis, keepdims=True), x)


softmax.vjp(x=lambda F, g, *, out, axis: F.softmax_backward(g, out, axis=axis))


@composite
def softmax_backward(F, g, out, *, axis):
    """out (g - sum(g out)). g, out: (*S) -> (*S)."""
    weighted = g * out
    return weighted - out * F.sum(weighted, axis=_axes(out, axis), keepdims=True)


@op(grad_name="LogSoftmax", row_major=True)
def log_softmax(xp, x, *, axis):
    """x - log(sum(exp(x))) along axis. x: (*S) -> (*S)."""
    if not x.size:
        return x.copy()
    work = wide(x)
    z = work - xp.max(work, axis=axis, keepdims=True)
    return narrow(z - xp.log(xp.add.reduce(xp.exp(z), axis=axis, keepdims=True)), x)


log_softmax.vjp(x=lambda F, g, *, out, axis: F.log_softmax_backward(g, out, axis=axis))


@composite
def log_softmax_backward(F, g, out, *, axis):
    """g - softmax sum(g), from out = log_softmax. g, out: (*S) -> (*S)."""
    return g - F.exp(out) * F.sum(g, axis=_axes(out, axis), keepdims=True)


def _axes(x, axis):
    """The axis as a reduction takes it; a 0-d array has none."""
    return (axis,) if len(x.shape) else ()


# ---- cross-entropy of class indices


@op(index=("target",), aux=("top", "total"))
def softmax_cross_entropy(xp, logits, target, *, ignore_index=-100):
    """-log softmax(logits)[target] per row. logits: (*N, C), target: (*N) int -> (*N), 0 where target is ignore_index.

    Raises IndexError for a class outside 0..C-1. Auxiliaries: each row's maximum and sum of exp(logits - maximum).
    """
    rows, classes = wide(logits).reshape(target.size, logits.shape[-1]), target.reshape(-1)
    kept = checked_classes(xp, classes, rows.shape[1], ignore_index)
    if not rows.size:
        return xp.zeros(target.shape, logits.dtype), None, None
    top = xp.max(rows, axis=1)
    total = xp.add.reduce(xp.exp(rows - top[:, None]), axis=1)
    chosen = xp.take_along_axis(rows, xp.where(kept, classes, 0)[:, None], axis=1)[:, 0]
    loss = xp.where(kept, xp.log(total) + top - chosen, xp.zeros((), rows.dtype))
    return narrow(loss.reshape(target.shape), logits), top, total


NO_CLASS = "Target {index} is out of bounds. (there are {size} classes)"


def checked_classes(xp, target, count, ignore_index):
    """Which targets are to be counted, (N,) bool. IndexError for a class that does not exist."""
    kept = target != ignore_index
    if not on_host(xp):
        xp.check_index(xp.where(kept, target, 0), 0, count, count, NO_CLASS)
        return kept
    wrong = kept & ((target < 0) | (target >= count))
    if wrong.any():
        raise IndexError(NO_CLASS.format(index=int(target[wrong][0]), size=count))
    return kept


softmax_cross_entropy.vjp(
    logits=lambda F, g, *, logits, target, top, total, ignore_index: F.softmax_cross_entropy_backward(
        g, logits, target, top, total, ignore_index=ignore_index
    )
)


@composite
def softmax_cross_entropy_backward(F, g, logits, target, top, total, *, ignore_index):
    """g (softmax(logits) - onehot(target)). g, target: (*N), logits: (*N, C) -> (*N, C)."""
    hot = F.class_mask(target, logits, ignore_index=ignore_index)
    axis = len(logits.shape) - 1
    kept = F.sum(hot, axis=(axis,), keepdims=True)
    g = F.reshape(g, shape=(*logits.shape[:-1], 1)) * kept
    return g * (F.softmax(logits, axis=axis) - hot)


@op(index=("target",))
def class_mask(xp, target, logits, *, ignore_index):
    """1 at each row's class, 0 elsewhere and in ignored rows. target: (*N) int, logits: (*N, C) -> (*N, C)."""
    return (target[..., None] == xp.arange(logits.shape[-1])).astype(logits.dtype) * (target != ignore_index)[..., None]
