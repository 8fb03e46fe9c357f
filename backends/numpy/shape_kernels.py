"""Shape operations whose NumPy function costs more than the work."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np


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


KERNELS: dict[str, Callable[..., Any]] = {"expand": expand}
