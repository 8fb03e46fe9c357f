"""Dropout whose mask is computed from (seed, offset) each time it is needed, forward and backward alike."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..base import may_decline
from .launch import TYPES, Kernel, aligned, blocks_for, contiguous, empty, served

DROPOUT = Kernel("dropout.cuh", "dropout", "PPliffuuP", T=TYPES)


def counters(size: int) -> int:
    """By how much a call on `size` elements moves the offset on: four numbers come of each counter."""
    return -(-size // 4)


@may_decline
def dropout(x: Any, *, p: float, seed: Any, offset: int = 0) -> Any:
    """Op dropout: x / (1 - p) where an element is kept, else 0. x: (*S) -> (*S). 0 <= p < 1.

    seed, offset: 64 bits each; or seed.array, uint64 (2,) on the device, is both, for recorded graphs.
    """
    name = served(x)
    if name is None:
        return NotImplemented
    base = None
    if not isinstance(seed, int):
        seed, base = 0, seed.array
    x = contiguous(x)
    out = empty(x.shape, x.dtype)
    grid = (blocks_for(x.size, 1024),)
    DROPOUT((name,), grid, (256,), x, out, x.size, aligned(x, out), p, 1.0 / (1.0 - p), seed, offset, base)
    return out


KERNELS: dict[str, Callable[..., Any]] = {"dropout": dropout}
