"""Backward passes of pointwise functions, in one new array and in blocks that fit the cache."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

BLOCK = 1 << 15  # elements
F32 = np.dtype(np.float32)
ONE32 = np.ones((), np.float32)  # NumPy takes 0-d arrays faster than numbers


def tanh_backward(g: Any, out: Any) -> Any:
    """g * (1 - out**2)."""
    if not out.ndim:
        return g * (1 - out * out)
    if out.size > BLOCK and g.shape == out.shape and g.flags.c_contiguous and out.flags.c_contiguous:
        result = np.empty(out.shape, out.dtype)
        flat_g, flat_out, flat = g.reshape(-1), out.reshape(-1), result.reshape(-1)
        for i in range(0, flat.size, BLOCK):
            part = flat_out[i : i + BLOCK]
            r = np.multiply(part, part, flat[i : i + BLOCK])
            np.subtract(1, r, r)
            np.multiply(r, flat_g[i : i + BLOCK], r)
        return result
    r = np.multiply(out, out)
    if out.dtype is F32:
        np.subtract(ONE32, r, r)
    else:
        np.subtract(1, r, r)
    return np.multiply(r, g, r) if g.shape == r.shape else r * g


KERNELS: dict[str, Callable[..., Any]] = {"tanh_backward": tanh_backward}
