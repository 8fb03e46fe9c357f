"""Normalisation in blocks that fit the cache: each block of rows is read once from memory for all of its passes.

Row sums are products with a vector of ones, which the BLAS adds faster than np.sum along the last axis.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from ..base import may_decline

BLOCK = 1 << 16  # elements of a block: 256 KB of float32


def _rows(x: Any, n_axes: int) -> tuple[int, int, int]:
    """(rows, row length, rows per block) of x normalised over its last axes."""
    width = math.prod(x.shape[x.ndim - n_axes :])
    count = x.size // width if width else 0
    return count, width, max(1, BLOCK // max(width, 1))


def _served(*arrays: Any) -> bool:
    """Whether the kernel takes these arrays: single and double precision, not empty."""
    return all(a is None or (a.dtype.itemsize in (4, 8) and a.dtype.kind == "f" and a.size) for a in arrays)


@may_decline
def layer_norm(x: Any, w: Any = None, b: Any = None, *, n_axes: int, eps: float) -> Any:
    """The op's forward: (out, mean, rstd)."""
    if not _served(x, w, b):
        return NotImplemented
    count, width, step = _rows(x, n_axes)
    x2, out = np.ascontiguousarray(x).reshape(count, width), np.empty((count, width), x.dtype)
    weights = np.full(width, 1 / width, x.dtype)
    w1 = None if w is None else w.reshape(width)
    b1 = None if b is None else b.reshape(width)
    mean, rstd = np.empty(count, x.dtype), np.empty(count, x.dtype)
    for i in range(0, count, step):
        block, o = x2[i : i + step], out[i : i + step]
        m = mean[i : i + step]
        np.matmul(block, weights, out=m)
        np.subtract(block, m[:, None], out=o)
        r = rstd[i : i + step]
        np.vecdot(o, o, out=r)
        r *= 1 / width
        r += eps
        np.sqrt(r, out=r)
        np.reciprocal(r, out=r)
        # one pass over rows of two factors, as passes with a factor per row or column take twice the time of plain ones
        o *= r[:, None] if w1 is None else r[:, None] * w1
        if b1 is not None:
            o += b1
    lead = (*x.shape[: x.ndim - n_axes], *(1,) * n_axes)
    return out.reshape(x.shape), mean.reshape(lead), rstd.reshape(lead)


@may_decline
def layer_norm_backward(g: Any, x: Any, w: Any, mean: Any, rstd: Any, *, needs: Any, n_axes: int, eps: float) -> Any:
    """The composite, from the forward's mean and rstd."""
    if not _served(g, x, w):
        return NotImplemented
    count, width, step = _rows(x, n_axes)
    g2, x2 = (np.ascontiguousarray(a).reshape(count, width) for a in (g, x))
    m, r = mean.reshape(count), rstd.reshape(count)
    weights = np.ones(width, x.dtype) if w is None else w.reshape(width)
    gx = np.empty((count, width), x.dtype) if needs[0] else None
    gw = np.zeros(width, x.dtype) if needs[1] else None
    gb = np.zeros(width, x.dtype) if needs[2] else None
    buffers = np.empty((2, min(step, count), width), x.dtype)
    for i in range(0, count, step):
        gi, ri = g2[i : i + step], r[i : i + step]
        centred, product = buffers[:, : len(gi)]
        np.subtract(x2[i : i + step], m[i : i + step, None], out=centred)
        np.multiply(gi, centred, out=product)
        if gw is not None:
            gw += ri @ product
        if gb is not None:
            gb += np.ones(len(gi), x.dtype) @ gi
        if gx is not None:  # r (g w - mean(g w) - r**2 centred mean(g w centred))
            h = gx[i : i + step]
            along = product @ weights
            along *= ri * ri * ri / width
            level = gi @ weights
            level *= ri / width
            np.multiply(gi, ri[:, None] if w is None else np.multiply(ri[:, None], weights, out=h), out=h)
            centred *= along[:, None]
            centred += level[:, None]
            h -= centred
    tail = x.shape[x.ndim - n_axes :]
    return (
        None if gx is None else gx.reshape(x.shape),
        None if gw is None else gw.reshape(tail),
        None if gb is None else gb.reshape(tail),
    )


KERNELS: dict[str, Callable[..., Any]] = {
    "layer_norm": layer_norm,
    "layer_norm_backward": layer_norm_backward,
}
