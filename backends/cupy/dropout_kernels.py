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
def dropout(x: Any, *, p: float, seed: int, offset: int, base: Any = None) -> Any:
    """x / (1 - p) where an element is kept, else 0. x: (*S) -> (*S). Its own adjoint: the gradient is dropout(g).

    seed, offset: 64 bits each; base: uint64 (2,) on the device, added to them, for recorded graphs. 0 <= p < 1.
    """
    name = served(x)
    if name is None:
        return NotImplemented
    x = contiguous(x)
    out = empty(x.shape, x.dtype)
    grid = (blocks_for(x.size, 1024),)
    DROPOUT((name,), grid, (256,), x, out, x.size, aligned(x, out), p, 1.0 / (1.0 - p), seed, offset, base)
    return out


KERNELS: dict[str, Callable[..., Any]] = {"dropout": dropout}
