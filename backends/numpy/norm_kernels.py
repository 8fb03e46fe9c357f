"""Layer and root-mean-square normalisation in blocks of rows that fit the cache, some rows per thread.

Each block is read once from memory for all of its passes. Row sums are products with a vector of ones, which the BLAS
adds faster than np.sum along the last axis.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from ..base import may_decline
from .blocks import F32, F64, rows
from .rowwise import WIDTH, unbuffered


def _served(*arrays: Any) -> bool:
    """Whether the kernel takes these arrays: single or double precision, all the same, not empty."""
    dt = arrays[0].dtype
    return (dt is F32 or dt is F64) and all(a is None or (a.dtype is dt and a.size) for a in arrays)


def _over_rows(block: Callable[[int, int], None], count: int, width: int) -> None:
    """block(i, j) for blocks of rows, a factor per row being cheap where rows are long."""

    def fast(i: int, j: int) -> None:
        with unbuffered():
            block(i, j)

    rows(fast if width >= WIDTH else block, count, width)


def _forward(x: Any, w: Any, b: Any, n_axes: int, eps: float, centred: bool) -> tuple[Any, Any, Any]:
    """(out, mean, rstd); without `centred` nothing is taken off and mean is not filled."""
    width = math.prod(x.shape[x.ndim - n_axes :])
    count = x.size // width
    x2, out = np.ascontiguousarray(x).reshape(count, width), np.empty((count, width), x.dtype)
    weights = np.full(width, 1 / width, x.dtype)
    w1, b1 = (None if v is None else v.reshape(width) for v in (w, b))
    mean, rstd = np.empty((2, count), x.dtype)

    def block(i: int, j: int) -> None:
        part, o, r = x2[i:j], out[i:j], rstd[i:j]
        if centred:
            np.matmul(part, weights, out=mean[i:j])
            part = np.subtract(part, mean[i:j, None], out=o)
        np.vecdot(part, part, out=r)
        r *= 1 / width
        r += eps
        np.sqrt(r, out=r)
        np.reciprocal(r, out=r)
        # one pass over rows of two factors, as passes with a factor per row or column take twice the time of plain ones
        if centred:
            np.multiply(o, r[:, None] if w1 is None else r[:, None] * w1, out=o)
        elif w1 is None:
            np.multiply(part, r[:, None], out=o)
        else:
            np.multiply(np.multiply(r[:, None], w1, out=o), part, out=o)
        if b1 is not None:
            np.add(o, b1, out=o)

    _over_rows(block, count, width)
    lead = (*x.shape[: x.ndim - n_axes], *(1,) * n_axes)
    return out.reshape(x.shape), mean.reshape(lead), rstd.reshape(lead)


@may_decline
def layer_norm(x: Any, w: Any = None, b: Any = None, *, n_axes: int, eps: float) -> Any:
    """Op layer_norm: (out, mean, rstd)."""
    return _forward(x, w, b, n_axes, eps, True) if _served(x, w, b) else NotImplemented


@may_decline
def rms_norm(x: Any, w: Any = None, *, n_axes: int, eps: float) -> Any:
    """Op rms_norm: (out, rstd)."""
    return _forward(x, w, None, n_axes, eps, False)[::2] if _served(x, w) else NotImplemented


def _backward(g: Any, x: Any, w: Any, mean: Any, rstd: Any, needs: Any, n_axes: int) -> list[Any]:
    """Gradients for x, w and (layer norm) the bias; mean: None for rms_norm."""
    width = math.prod(x.shape[x.ndim - n_axes :])
    count = x.size // width
    g2, x2 = (np.ascontiguousarray(a).reshape(count, width) for a in (g, x))
    m, r = None if mean is None else mean.reshape(count), rstd.reshape(count)
    weights = np.ones(width, x.dtype) if w is None else w.reshape(width)
    gx = np.empty((count, width), x.dtype) if needs[0] else None
    sums: dict[int, tuple[Any, Any]] = {}  # of each block, added up in their order: the threads' order varies

    def block(i: int, j: int) -> None:
        gi, xi, ri = g2[i:j], x2[i:j], r[i:j]
        work = np.empty((2, j - i, width), x.dtype)
        centred = xi if m is None else np.subtract(xi, m[i:j, None], out=work[0])
        product = np.multiply(gi, centred, out=work[1])
        sums[i] = (
            np.matmul(ri, product) if needs[1] else None,
            np.matmul(np.ones(j - i, x.dtype), gi) if needs[2] else None,
        )
        if gx is None:
            return
        h = gx[i:j]  # r (g w - mean(g w) - r**2 centred mean(g w centred))
        along = np.matmul(product, weights)
        along *= ri * ri * ri / width
        np.multiply(centred, along[:, None], out=work[0])
        if m is not None:
            level = np.matmul(gi, weights)
            level *= ri / width
            np.add(work[0], level[:, None], out=work[0])
        np.multiply(gi, ri[:, None] if w is None else np.multiply(ri[:, None], weights, out=h), out=h)
        np.subtract(h, work[0], out=h)

    _over_rows(block, count, width)
    tail = x.shape[x.ndim - n_axes :]
    parts = zip(*[sums[i] for i in sorted(sums)], strict=True)
    gw, gb = [None if p[0] is None else np.add.reduce(p, axis=0).reshape(tail) for p in parts]
    return [None if gx is None else gx.reshape(x.shape), gw, gb]


@may_decline
def layer_norm_backward(g: Any, x: Any, w: Any, mean: Any, rstd: Any, *, needs: Any, n_axes: int, eps: float) -> Any:
    """Composite layer_norm_backward, from the forward's mean and rstd."""
    return tuple(_backward(g, x, w, mean, rstd, needs, n_axes)) if _served(g, x, w, mean, rstd) else NotImplemented


@may_decline
def rms_norm_backward(g: Any, x: Any, w: Any, rstd: Any, *, needs: Any, n_axes: int, eps: float) -> Any:
    """Composite rms_norm_backward, from the forward's rstd."""
    if not _served(g, x, w, rstd):
        return NotImplemented
    return tuple(_backward(g, x, w, None, rstd, (*needs, False), n_axes)[:2])


KERNELS: dict[str, Callable[..., Any]] = {
    "layer_norm": layer_norm,
    "layer_norm_backward": layer_norm_backward,
    "rms_norm": rms_norm,
    "rms_norm_backward": rms_norm_backward,
}
