"""Softmax, cross-entropy and normalisation, compiled: each row is read from memory once, rows in all threads."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from .. import threads
from ..base import may_decline
from .compiled import Group, rows

NEEDS = "numba"
SOURCE = Group("rows")
SMALL = 1 << 11  # elements: below, NumPy's own calls take no longer, and nothing is loaded
# Elements that take as long as handing them to a thread and waiting for it (some 100 us on a virtual machine): of
# softmax, of layer norm, of batch norm
GRAIN, NORM, BATCH = 1 << 17, 1 << 18, 1 << 19
F32, F64 = np.dtype(np.float32), np.dtype(np.float64)
_SUFFIX = {F32: "_f4", F64: "_f8"}


def _kernel(name: str, *arrays: Any) -> Any:
    """The kernel for these arrays (None among them are left out): large, all float32 or all float64; else None."""
    x = arrays[0]
    dt = x.dtype
    if x.size < SMALL or (dt is not F32 and dt is not F64):
        return None
    for a in arrays[1:]:
        if a is not None and a.dtype is not dt:
            return None
    return SOURCE.get(name + _SUFFIX[dt])


def _along_last(name: str, axis: int, *arrays: Any) -> Any:
    """out = kernel(*arrays) over rows of arrays of one shape; NotImplemented where `axis` is not the last."""
    x = arrays[0]
    if axis != x.ndim - 1 or any(a.shape != x.shape for a in arrays):
        return NotImplemented
    run = _kernel(name, *arrays)
    if run is None:
        return NotImplemented
    width = x.shape[axis]
    out = np.empty(x.shape, x.dtype)
    run.over(x.size // width, *[rows(a) for a in arrays], out, width, size=x.size, grain=GRAIN)
    return out


@may_decline
def softmax(x: Any, *, axis: int) -> Any:
    """Op softmax."""
    return _along_last("softmax", axis, x)


@may_decline
def softmax_backward(g: Any, out: Any, *, axis: int) -> Any:
    """Composite softmax_backward."""
    return _along_last("softmax_backward", axis, g, out)


@may_decline
def log_softmax_backward(g: Any, out: Any, *, axis: int) -> Any:
    """Composite log_softmax_backward."""
    return _along_last("log_softmax_backward", axis, g, out)


def _row_sums(x: Any) -> Any:
    """(maximum, sum of exp(x - maximum)) of each row of contiguous x: (*N, C) -> (N,), (N,); None where not served."""
    run = _kernel("row_sums", x)
    if run is None:
        return None
    width = x.shape[-1]
    count = x.size // width
    top, total = np.empty(count, x.dtype), np.empty(count, x.dtype)
    run.over(count, x, top, total, width, size=x.size, grain=GRAIN)
    return top, total


@may_decline
def log_softmax(x: Any, *, axis: int) -> Any:
    """Op log_softmax: (x - maximum) - log(sum)."""
    if axis != x.ndim - 1 or x.size < SMALL:
        return NotImplemented
    x = rows(x)
    found = _row_sums(x)
    if found is None:
        return NotImplemented
    top, total = found
    np.log(total, out=total)
    width = x.shape[axis]
    out = np.empty(x.shape, x.dtype)
    run = _kernel("shifted", x)
    if run is None:
        return NotImplemented
    run.over(len(top), x, top, total, out, width, size=x.size)
    return out


# ---- cross-entropy of class indices


def _kept(classes: Any, count: int, ignore_index: int) -> Any:
    """None where every target counts, else which do. IndexError for a class that does not exist."""
    if not 0 <= ignore_index < count and classes.dtype.itemsize == 8 and classes.view("u8").max() < count:
        return None  # as unsigned numbers, negative ones are the largest
    kept = classes != ignore_index
    wrong = kept & ((classes < 0) | (classes >= count))
    if wrong.any():
        raise IndexError(f"Target {int(classes[wrong][0])} is out of bounds. (there are {count} classes)")
    return kept


@may_decline
def softmax_cross_entropy(logits: Any, target: Any, *, ignore_index: int = -100) -> Any:
    """Op softmax_cross_entropy."""
    if logits.size < SMALL:
        return NotImplemented
    logits = rows(logits)
    count, classes = logits.shape[-1], target.reshape(-1)
    kept = _kept(classes, count, ignore_index)
    found = _row_sums(logits)
    if found is None:
        return NotImplemented
    top, total = found
    places = (classes if kept is None else np.where(kept, classes, 0)) + np.arange(0, logits.size, count)
    loss = np.log(total) - (logits.reshape(-1)[places] - top)
    if kept is not None:
        loss[~kept] = 0
    return loss.reshape(target.shape), top, total


@may_decline
def cross_entropy(logits: Any, target: Any, *, ignore_index: int, reduction: str) -> Any:
    """Op cross_entropy."""
    found = softmax_cross_entropy(logits, target, ignore_index=ignore_index)
    if found is NotImplemented:
        return found
    loss, top, total = found
    count = target.size - int(np.count_nonzero(target == ignore_index))
    if reduction == "none":
        return loss, top, total, count
    sum_ = np.add.reduce(loss, axis=None)
    if reduction == "mean":
        sum_ = sum_ / count if count else sum_ * math.nan
    return np.asarray(sum_, dtype=loss.dtype), top, total, count


@may_decline
def softmax_cross_entropy_backward(g: Any, logits: Any, target: Any, top: Any, total: Any, *, ignore_index: int) -> Any:
    """Composite softmax_cross_entropy_backward: exp(logits - top) g / total, less g at each target."""
    run = _kernel("scaled_exp", logits, top, total)
    if run is None:
        return NotImplemented
    logits = rows(logits)
    count, classes = logits.shape[-1], target.reshape(-1)
    kept = _kept(classes, count, ignore_index)
    weight = np.array(g, logits.dtype).reshape(-1)
    if kept is not None:
        weight[~kept], classes = 0, np.where(kept, classes, 0)
    out = np.empty(logits.shape, logits.dtype)
    run.over(len(weight), logits, rows(top), weight / total, out, count, size=logits.size, grain=GRAIN)
    out.reshape(-1)[classes + np.arange(0, out.size, count)] -= weight
    return out


# ---- normalisation over the last dimensions


def _lines(x: Any, n_axes: int) -> tuple[int, int, tuple[int, ...]]:
    """(rows, row length, shape of a statistic) of x normalised over its last axes."""
    width = math.prod(x.shape[x.ndim - n_axes :])
    return x.size // width, width, (*x.shape[: x.ndim - n_axes], *(1,) * n_axes)


def _plain(w: Any) -> Any:
    return None if w is None else rows(w)


@may_decline
def layer_norm(x: Any, w: Any = None, b: Any = None, *, n_axes: int, eps: float) -> Any:
    """The op's forward: (out, mean, rstd)."""
    run = _kernel("layer_norm", x, w, b)
    if run is None:
        return NotImplemented
    count, width, lead = _lines(x, n_axes)
    mean, rstd, out = np.empty(lead, x.dtype), np.empty(lead, x.dtype), np.empty(x.shape, x.dtype)
    run.over(count, rows(x), _plain(w), _plain(b), out, mean, rstd, float(eps), width, size=x.size, grain=NORM)
    return out, mean, rstd


class _Sums:
    """Sums over rows taken in several spans at once: each span has its own, added up at the end in their order."""

    def __init__(self, width: int, dtype: Any, wanted: bool):
        self.width, self.dtype, self.wanted = width, dtype, wanted
        self.parts: dict[int, Any] = {}

    def part(self, start: int) -> Any:
        """Zeros for the span that begins at `start`; None where no sum is wanted."""
        if not self.wanted:
            return None
        made = self.parts[start] = np.zeros(self.width, self.dtype)
        return made

    def total(self, shape: tuple[int, ...]) -> Any:
        """The sum of all parts."""
        if not self.wanted:
            return None
        first, *rest = [self.parts[start] for start in sorted(self.parts)]
        for part in rest:
            first += part
        return first.reshape(shape)


def _in_spans(span: Callable[[int, int], None], count: int, size: int) -> None:
    if threads.worth(size, NORM):
        threads.over(span, count)
    else:
        span(0, count)


@may_decline
def layer_norm_backward(g: Any, x: Any, w: Any, mean: Any, rstd: Any, *, needs: Any, n_axes: int, eps: float) -> Any:
    """The composite, from the forward's mean and rstd."""
    run = _kernel("layer_norm_backward", x, g, w, mean, rstd)
    if run is None or g.shape != x.shape:
        return NotImplemented
    count, width, _ = _lines(x, n_axes)
    tail = x.shape[x.ndim - n_axes :]
    weights = np.ones(width, x.dtype) if w is None else rows(w)
    gx = np.empty(x.shape, x.dtype) if needs[0] else None
    gw, gb = _Sums(width, x.dtype, needs[1]), _Sums(width, x.dtype, needs[2])
    g, x, mean, rstd = rows(g), rows(x), rows(mean), rows(rstd)

    def span(start: int, stop: int) -> None:
        run(g, x, weights, mean, rstd, gx, gw.part(start), gb.part(start), width, start, stop)

    _in_spans(span, count, x.size)
    return gx, gw.total(tail), gb.total(tail)


@may_decline
def rms_norm(x: Any, w: Any = None, *, n_axes: int, eps: float) -> Any:
    """The op's forward: (out, rstd)."""
    run = _kernel("rms_norm", x, w)
    if run is None:
        return NotImplemented
    count, width, lead = _lines(x, n_axes)
    rstd, out = np.empty(lead, x.dtype), np.empty(x.shape, x.dtype)
    run.over(count, rows(x), _plain(w), out, rstd, float(eps), width, size=x.size, grain=NORM)
    return out, rstd


@may_decline
def rms_norm_backward(g: Any, x: Any, w: Any, rstd: Any, *, needs: Any, n_axes: int, eps: float) -> Any:
    """The composite, from the forward's rstd."""
    run = _kernel("rms_norm_backward", x, g, w, rstd)
    if run is None or g.shape != x.shape:
        return NotImplemented
    count, width, _ = _lines(x, n_axes)
    weights = np.ones(width, x.dtype) if w is None else rows(w)
    gx = np.empty(x.shape, x.dtype) if needs[0] else None
    gw = _Sums(width, x.dtype, needs[1])
    g, x, rstd = rows(g), rows(x), rows(rstd)

    def span(start: int, stop: int) -> None:
        run(g, x, weights, rstd, gx, gw.part(start), width, start, stop)

    _in_spans(span, count, x.size)
    return gx, gw.total(x.shape[x.ndim - n_axes :])


# ---- batch normalisation

SHORTEST = 8  # elements of a channel in an image; of shorter ones, columns of a matrix, NumPy has the better order


def _channels(x: Any) -> tuple[int, int, int]:
    """(N, C, elements of a channel in an image) of x: (N, C, *)."""
    n, c = x.shape[:2]
    return n, c, math.prod(x.shape[2:])


@may_decline
def batch_norm(x: Any, w: Any = None, b: Any = None, *, eps: float) -> Any:
    """The op's forward: (out, mean, var, mean, rstd)."""
    run = _kernel("batch_norm", x, w, b)
    if run is None:
        return NotImplemented
    n, c, length = _channels(x)
    if length < SHORTEST:
        return NotImplemented
    mean, var, rstd = (np.empty(c, x.dtype) for _ in range(3))
    out = np.empty(x.shape, x.dtype)
    run.over(
        c, rows(x), _plain(w), _plain(b), out, mean, var, rstd, float(eps), n, c, length, size=x.size, grain=BATCH
    )
    return out, mean, var, mean, rstd


@may_decline
def batch_norm_backward(g: Any, x: Any, w: Any, centre: Any, rstd: Any, *, needs: Any, eps: float) -> Any:
    """The composite, from the forward's mean and rstd."""
    run = _kernel("batch_norm_backward", x, g, w, centre, rstd)
    if run is None or g.shape != x.shape:
        return NotImplemented
    n, c, length = _channels(x)
    if length < SHORTEST:
        return NotImplemented
    gx = np.empty(x.shape, x.dtype) if needs[0] else None
    gw, gb = np.empty(c, x.dtype), np.empty(c, x.dtype)
    run.over(
        c, rows(g), rows(x), _plain(w), rows(centre), rows(rstd), gx, gw, gb, n, c, length, size=x.size, grain=BATCH
    )
    return gx, gw if needs[1] else None, gb if needs[2] else None


KERNELS: dict[str, Callable[..., Any]] = {
    "softmax": softmax,
    "softmax_backward": softmax_backward,
    "log_softmax": log_softmax,
    "log_softmax_backward": log_softmax_backward,
    "softmax_cross_entropy": softmax_cross_entropy,
    "softmax_cross_entropy_backward": softmax_cross_entropy_backward,
    "cross_entropy": cross_entropy,
    "layer_norm": layer_norm,
    "layer_norm_backward": layer_norm_backward,
    "rms_norm": rms_norm,
    "rms_norm_backward": rms_norm_backward,
    "batch_norm": batch_norm,
    "batch_norm_backward": batch_norm_backward,
}
