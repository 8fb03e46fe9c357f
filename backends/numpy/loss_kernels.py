"""Losses: the kernels of softmax_cross_entropy with a reduction, and that of two classes in blocks."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from ..base import may_decline
from . import softmax_kernels
from .activation_kernels import _floats, _sigmoid, log1p
from .blocks import pointwise
from .reduce_kernels import sum_flat


@may_decline
def cross_entropy(logits: Any, target: Any, *, ignore_index: int, reduction: str) -> Any:
    """Op cross_entropy."""
    found = softmax_kernels.softmax_cross_entropy(logits, target, ignore_index=ignore_index)
    if found is NotImplemented:
        return found
    loss, top, total = found
    count = target.size - int(np.count_nonzero(target == ignore_index))
    if reduction == "none":
        return loss, top, total, count
    sum_ = np.add.reduce(loss, axis=None, dtype=np.float32 if loss.dtype.itemsize == 2 else None)
    if reduction == "mean":
        sum_ = sum_ / count if count else sum_ * math.nan
    return np.asarray(sum_, dtype=loss.dtype), top, total, count


def _logistic_loss(out: Any, x: Any, target: Any, e: Any, u: Any) -> None:
    """(1 - target) x + log(1 + exp(-x))."""
    np.exp(np.negative(np.abs(x, e), e), e)
    log1p(e, e, u)
    np.subtract(e, np.clip(x, -np.inf, 0, out=u), e)
    np.multiply(np.subtract(1, target, out), x, out)
    np.add(out, e, out)


@may_decline
def binary_cross_entropy_with_logits(
    x: Any, target: Any, weight: Any = None, pos_weight: Any = None, *, reduction: str
) -> Any:
    """Op binary_cross_entropy_with_logits, without weights."""
    if weight is not None or pos_weight is not None or not _floats(x, target):
        return NotImplemented
    loss = pointwise(_logistic_loss, 2, x, target)
    if reduction == "none":
        return loss
    total = sum_flat(loss)
    return np.asarray(total / loss.size if reduction == "mean" else total, dtype=x.dtype)


@may_decline
def binary_cross_entropy_with_logits_backward(
    g: Any, x: Any, target: Any, weight: Any, pos_weight: Any, *, reduction: str
) -> Any:
    """Composite binary_cross_entropy_with_logits_backward, without weights."""
    if weight is not None or pos_weight is not None or reduction == "none" or g.ndim or not _floats(x, target):
        return NotImplemented
    factor = np.asarray(g / x.size if reduction == "mean" else g, dtype=x.dtype)

    def slope(out: Any, x: Any, target: Any) -> None:
        _sigmoid(out, x)
        np.subtract(out, target, out)
        np.multiply(out, factor, out)

    return pointwise(slope, 0, x, target)


KERNELS: dict[str, Callable[..., Any]] = {
    "cross_entropy": cross_entropy,
    "binary_cross_entropy_with_logits": binary_cross_entropy_with_logits,
    "binary_cross_entropy_with_logits_backward": binary_cross_entropy_with_logits_backward,
}
