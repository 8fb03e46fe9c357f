"""Cross-entropy of class indices: one reading of the logits forward, one backward."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..base import may_decline
from . import bounds
from .launch import FLAG, FLAGS, TYPES, Kernel, contiguous, empty, row_blocks, served, type_of, vector

ROWS = Kernel("loss.cuh", "cross_entropy_rows", "PPPPPPlilPi", T=TYPES, VECTOR=FLAGS)
ROWS_BACKWARD = Kernel("loss.cuh", "cross_entropy_rows_backward", "PPPPPPliliP", T=TYPES, VECTOR=FLAGS)
REDUCE = Kernel("loss.cuh", "reduce_losses", "PPPPll", T=TYPES, MEAN=FLAGS)

CODE = bounds.code("cross_entropy", "Target {index} is out of bounds. (there are {size} classes)")


def classes(target: Any) -> Any:
    """The targets as the kernels take them: int64, in row-major order."""
    return contiguous(target if target.dtype.itemsize == 8 else target.astype("int64"))


def _rows(logits: Any, target: Any, ignore_index: int, narrow: bool) -> Any:
    """(losses, top, total, targets): losses in the logits' dtype where `narrow`, else float32."""
    name = served(logits)
    if name is None:
        return NotImplemented
    logits, target = contiguous(logits), classes(target)
    n = logits.shape[-1]
    rows = logits.size // n
    loss = empty(target.shape, logits.dtype if narrow else "float32")
    top, total = empty((rows,), "float32"), empty((rows,), "float32")
    wide = vector(n, logits)
    grid, block = row_blocks(rows, n, 16 // logits.itemsize if wide else 1)
    both = (loss, None) if narrow else (None, loss)
    keys = (name, FLAG[wide])
    ROWS(keys, grid, block, logits, target, *both, top, total, rows, n, ignore_index, bounds.flag(), CODE)
    return loss, top, total, target


@may_decline
def softmax_cross_entropy(logits: Any, target: Any, *, ignore_index: int = -100) -> Any:
    """Op softmax_cross_entropy. A class that does not exist is reported by the next synchronisation."""
    found = _rows(logits, target, ignore_index, True)
    return found if found is NotImplemented else found[:3]


@may_decline
def cross_entropy(logits: Any, target: Any, *, ignore_index: int, reduction: str) -> Any:
    """Op cross_entropy. The count of targets stays on the device, float32."""
    found = _rows(logits, target, ignore_index, reduction == "none")
    if found is NotImplemented:
        return found
    loss, top, total, target = found
    count = empty((), "float32")
    if reduction == "none":
        wide, out = loss.astype("float32", copy=False), empty((), "float32")
        REDUCE(("float", "false"), (1,), (1024,), wide, target, out, count, target.size, ignore_index)
        return loss, top, total, count
    out = empty((), logits.dtype)
    keys = (type_of[logits.dtype], FLAG[reduction == "mean"])
    REDUCE(keys, (1,), (1024,), loss, target, out, count, target.size, ignore_index)
    return out, top, total, count


def _rows_backward(
    g: Any, logits: Any, target: Any, top: Any, total: Any, ignore_index: int, each: bool, count: Any
) -> Any:
    name = served(logits)
    if name is None or total is None or total.dtype.name != "float32":
        return NotImplemented
    if count is not None and getattr(count, "dtype", None) != "float32":
        return NotImplemented
    logits, target = contiguous(logits), classes(target)
    g = contiguous(g.astype(logits.dtype, copy=False))
    n, out = logits.shape[-1], empty(logits.shape, logits.dtype)
    rows, wide = logits.size // n, vector(n, logits, out)
    grid, block = row_blocks(rows, n, 16 // logits.itemsize if wide else 1)
    keys = (name, FLAG[wide])
    ROWS_BACKWARD(keys, grid, block, g, logits, target, top, total, out, rows, n, ignore_index, each, count)
    return out


@may_decline
def softmax_cross_entropy_backward(g: Any, logits: Any, target: Any, top: Any, total: Any, *, ignore_index: int) -> Any:
    """Composite softmax_cross_entropy_backward, from the forward's top and total."""
    return _rows_backward(g, logits, target, top, total, ignore_index, True, None)


@may_decline
def cross_entropy_backward(
    g: Any, logits: Any, target: Any, top: Any, total: Any, count: Any, *, ignore_index: int, reduction: str
) -> Any:
    """Composite cross_entropy_backward in one launch: the count stays on the device."""
    count = count if reduction == "mean" else None
    return _rows_backward(g, logits, target, top, total, ignore_index, reduction == "none", count)


KERNELS: dict[str, Callable[..., Any]] = {
    "softmax_cross_entropy": softmax_cross_entropy,
    "softmax_cross_entropy_backward": softmax_cross_entropy_backward,
    "cross_entropy": cross_entropy,
    "cross_entropy_backward": cross_entropy_backward,
}
