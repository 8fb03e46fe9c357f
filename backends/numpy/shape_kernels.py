"""Shape operations whose NumPy function costs more than the work."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from .. import threads

LARGE = 1 << 15  # elements
LINE = 64  # bytes of a line of the cache


def clone(x: Any) -> Any:
    """np.array(x, order="C"); a transposed array in strips of as many columns as a line of the cache holds.

    NumPy writes such an array column after column, each to as many lines as there are rows.
    """
    if x.size < LARGE or x.ndim < 2 or x.strides[-2] != x.itemsize or x.strides[-1] < LINE or x.dtype.hasobject:
        return np.array(x, copy=True, order="C")
    out, step = np.empty(x.shape, x.dtype), max(1, LINE // x.itemsize)

    def strips(start: int, stop: int) -> None:
        for i in range(start * step, stop * step, step):
            out[..., i : i + step] = x[..., i : i + step]

    threads.over(strips, -(-x.shape[-1] // step), 0 if threads.worth(x.size) else 1)
    return out


def expand(x: Any, *, shape: tuple[int, ...]) -> Any:
    """np.broadcast_to without its iterator: the strides are known. The view may be written where x may be."""
    have = x.shape
    lead = len(shape) - len(have)
    if lead >= 0 and x.flags.c_contiguous and x.dtype.kind in "fciub":
        strides = [0] * lead
        for n, m, s in zip(have, shape[lead:], x.strides, strict=True):
            if n == m:
                strides.append(s)
            elif n == 1:
                strides.append(0)
            else:
                break
        else:
            return np.ndarray(shape, x.dtype, x, 0, strides)
    out = np.broadcast_to(x, shape)
    if x.flags.writeable:
        out.flags.writeable = True
    return out


KERNELS: dict[str, Callable[..., Any]] = {"clone": clone, "expand": expand}
