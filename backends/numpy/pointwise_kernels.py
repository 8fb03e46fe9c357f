"""Functions of one array in threads where it is large, and backward passes of them in one new array, in blocks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from .. import threads
from .blocks import BLOCK, CHEAP, F32, GRAIN, pointwise

ONE32 = np.ones((), np.float32)  # NumPy takes 0-d arrays faster than numbers
LARGE = 2 * GRAIN


def tanh_backward(g: Any, out: Any) -> Any:
    """g * (1 - out**2)."""
    if not out.ndim:
        return g * (1 - out * out)
    if out.size > BLOCK and g.shape == out.shape and g.dtype is out.dtype:
        return pointwise(_tanh_backward, 0, g, out, grain=CHEAP)
    r = np.multiply(out, out)
    if out.dtype is F32:
        np.subtract(ONE32, r, r)
    else:
        np.subtract(1, r, r)
    return np.multiply(r, g, r) if g.shape == r.shape else r * g


def _tanh_backward(made: Any, g: Any, out: Any) -> None:
    np.multiply(out, out, made)
    np.subtract(1, made, made)
    np.multiply(made, g, made)


def _in_threads(ufunc: Any) -> Callable[[Any], Any]:
    """The function, which takes so long per element that large arrays are worth the handing over.

    `below`: what record functions call for smaller ones without asking here (see op.Kernels).
    """

    def function(x: Any) -> Any:
        if x.size < LARGE or x.dtype.kind != "f" or not x.flags.c_contiguous:
            return ufunc(x)
        out = np.empty(x.shape, x.dtype)
        flat, result = x.reshape(-1), out.reshape(-1)
        threads.over(lambda start, stop: ufunc(flat[start:stop], result[start:stop]), x.size, align=64)
        return out

    function.below = (ufunc, LARGE)  # type: ignore[attr-defined]  # a kernel's mark
    return function


_SLOW = ("exp", "exp2", "expm1", "log", "log2", "log10", "log1p", "sin", "cos", "tan", "sinh", "cosh", "tanh")

KERNELS: dict[str, Callable[..., Any]] = {name: _in_threads(getattr(np, name)) for name in _SLOW}
KERNELS["tanh_backward"] = tanh_backward
