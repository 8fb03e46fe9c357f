"""Losses: the kernels of softmax_cross_entropy with the reduction of cross_entropy."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from ..base import may_decline
from . import softmax_kernels


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


KERNELS: dict[str, Callable[..., Any]] = {"cross_entropy": cross_entropy}
