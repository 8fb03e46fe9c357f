"""Sums, differences, products and quotients in threads where arrays are so large that memory decides.

NumPy's function itself serves smaller ones, and record functions call it without asking here (see op.Kernels).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from .. import threads
from .blocks import CHEAP

LARGE = 2 * CHEAP


def _in_threads(ufunc: Any) -> Callable[..., Any]:
    """ufunc(x, y), into `out` where it is given, which may be x or y."""

    def function(x: Any, y: Any, out: Any = None) -> Any:
        large = x if getattr(x, "size", 1) >= getattr(y, "size", 1) else y
        if getattr(large, "size", 1) < LARGE or threads.count() < 2:
            return ufunc(x, y, out)
        first, second = _spanned(x, large), _spanned(y, large)
        if first is None or second is None:
            return ufunc(x, y, out)
        made = np.empty(large.shape, large.dtype) if out is None else out
        if made.dtype is not large.dtype or made.shape != large.shape or not made.flags.c_contiguous:
            return ufunc(x, y, out)
        flat, (a, cut_a), (b, cut_b) = made.reshape(-1), first, second

        def span(start: int, stop: int) -> None:
            ufunc(a[start:stop] if cut_a else a, b[start:stop] if cut_b else b, flat[start:stop])

        threads.over(span, large.size, align=64)
        return made

    function.below = (ufunc, LARGE)  # type: ignore[attr-defined]  # a kernel's mark
    return function


def _spanned(a: Any, large: Any) -> tuple[Any, bool] | None:
    """(operand, whether it is cut into spans) beside `large`; None for other shapes, orders and dtypes."""
    if a.__class__ is not np.ndarray or a.dtype is not large.dtype or a.dtype.kind != "f":
        return None
    one = a.ndim <= large.ndim if a.size == 1 else a.shape == large.shape and not any(a.strides)
    if one:  # a number, broadcast or by itself
        return a[(0,) * a.ndim + (...,)], False
    return (a.reshape(-1), True) if a.shape == large.shape and a.flags.c_contiguous else None


KERNELS: dict[str, Callable[..., Any]] = {
    "add": _in_threads(np.add),
    "sub": _in_threads(np.subtract),
    "mul": _in_threads(np.multiply),
    "div": _in_threads(np.divide),
}
