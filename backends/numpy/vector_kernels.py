"""The 2-norm of a whole array, by the BLAS' dot product: it reads the array once and makes none."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from .. import threads
from ..base import may_decline

BLOCK = 1 << 15  # elements whose squares are added in the array's precision; sums of blocks are added in float64


@may_decline
def vector_norm(x: Any, *, p: Any, axis: tuple[int, ...], keepdims: bool) -> Any:
    """Op vector_norm."""
    if p != 2 or len(axis) != x.ndim or x.dtype.kind != "f" or x.dtype.itemsize < 4 or not x.flags.forc:
        return NotImplemented
    flat = x.reshape(-1, order="A")
    if x.size <= BLOCK:
        total = float(np.dot(flat, flat))
    else:
        sums = np.empty(-(-x.size // BLOCK))

        def span(start: int, stop: int) -> None:
            for first in range(start, stop, BLOCK):
                block = flat[first : min(first + BLOCK, stop)]
                sums[first // BLOCK] = np.dot(block, block)

        threads.over(span, x.size, 0 if threads.worth(x.size) else 1, BLOCK)
        total = math.fsum(sums) if np.isfinite(sums).all() else float(np.add.reduce(sums))
    out = np.sqrt(x.dtype.type(total))  # infinite where the sum of squares is
    return np.full((1,) * x.ndim, out) if keepdims else out


KERNELS: dict[str, Callable[..., Any]] = {"vector_norm": vector_norm}
