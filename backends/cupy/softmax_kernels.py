"""softmax and log_softmax with their backward composites: rows along the last axis, columns along another."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from ..base import may_decline
from .launch import FLAG, FLAGS, TYPES, Kernel, contiguous, empty, row_blocks, served, vector

ROWS = Kernel("softmax.cuh", "softmax_rows", "PPli", T=TYPES, LOG=FLAGS, VECTOR=FLAGS)
ROWS_BACKWARD = Kernel("softmax.cuh", "softmax_rows_backward", "PPPli", T=TYPES, LOG=FLAGS, VECTOR=FLAGS)
COLUMNS = Kernel("softmax.cuh", "softmax_columns", "PPlil", T=TYPES, LOG=FLAGS)
COLUMNS_BACKWARD = Kernel("softmax.cuh", "softmax_columns_backward", "PPPlil", T=TYPES, LOG=FLAGS)


def _run(rows: Kernel, columns: Kernel, log: bool, axis: int, *arrays: Any) -> Any:
    """A kernel over arrays of one shape, along an axis; a new array of that shape."""
    x = arrays[-1]
    name = served(x, *arrays)
    if name is None or any(a.shape != x.shape for a in arrays):
        return NotImplemented
    shape = x.shape or (1,)
    n, inner = shape[axis], math.prod(shape[axis + 1 :])
    arrays = tuple(contiguous(a) for a in arrays)
    out = empty(x.shape, x.dtype)
    if inner == 1:
        wide = vector(n, *arrays, out)
        grid, block = row_blocks(x.size // n, n, 16 // x.itemsize if wide else 1)
        rows((name, FLAG[log], FLAG[wide]), grid, block, *arrays, out, x.size // n, n)
    else:
        count = x.size // n
        columns((name, FLAG[log]), (-(-count // 256),), (256,), *arrays, out, count, n, inner)
    return out


@may_decline
def softmax(x: Any, *, axis: int) -> Any:
    """Op softmax."""
    return _run(ROWS, COLUMNS, False, axis, x)


@may_decline
def softmax_backward(g: Any, out: Any, *, axis: int) -> Any:
    """Composite softmax_backward: out (g - sum(g out))."""
    return _run(ROWS_BACKWARD, COLUMNS_BACKWARD, False, axis, g, out)


@may_decline
def log_softmax(x: Any, *, axis: int) -> Any:
    """Op log_softmax."""
    return _run(ROWS, COLUMNS, True, axis, x)


@may_decline
def log_softmax_backward(g: Any, out: Any, *, axis: int) -> Any:
    """Composite log_softmax_backward: g - exp(out) sum(g)."""
    return _run(ROWS_BACKWARD, COLUMNS_BACKWARD, True, axis, g, out)


KERNELS: dict[str, Callable[..., Any]] = {
    "softmax": softmax,
    "softmax_backward": softmax_backward,
    "log_softmax": log_softmax,
    "log_softmax_backward": log_softmax_backward,
}
