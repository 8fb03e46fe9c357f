"""Layer, root-mean-square and batch normalisation. Statistics are float32, whatever the inputs are."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from ..base import may_decline
from .launch import (
    FLAG,
    FLAGS,
    TYPES,
    Kernel,
    aligned,
    blocks_for,
    contiguous,
    empty,
    row_blocks,
    served,
    vector,
)  # fmt: skip

ROWS = Kernel("norm.cuh", "norm_rows", "PPPPPPlif", T=TYPES, RMS=FLAGS, VECTOR=FLAGS)
ROWS_BACKWARD = Kernel("norm.cuh", "norm_rows_backward", "PPPPPPli", T=TYPES, RMS=FLAGS, VECTOR=FLAGS)
COLUMN_SUMS = Kernel("norm.cuh", "norm_columns", "PPPPPPli", T=TYPES, RMS=FLAGS)
SUM_PARTS = Kernel("norm.cuh", "sum_parts", "PPii", T=TYPES)
CHANNEL_SUMS = Kernel("norm.cuh", "channel_sums", "PPPPlii", T=TYPES, VECTOR=FLAGS)
CHANNEL_MOMENTS = Kernel("norm.cuh", "channel_moments", "PPPPPiiiff", T=TYPES)
CHANNEL_SLOPES = Kernel("norm.cuh", "channel_slopes", "PPPPPPiif", T=TYPES)
CHANNEL_AFFINE = Kernel("norm.cuh", "channel_affine", "PPPPPPiii", T=TYPES, VECTOR=FLAGS)
CHANNEL_MIX = Kernel("norm.cuh", "channel_mix", "PPPPPiii", T=TYPES, VECTOR=FLAGS)


# ---- over rows


def _normalised(rms: bool, x: Any, w: Any, b: Any, n_axes: int, eps: float) -> Any:
    """(out, mean, rstd) of either norm; mean is None for rms."""
    name = served(x, w, b)
    if name is None:
        return NotImplemented
    x, w, b = contiguous(x), contiguous(w), contiguous(b)
    lead = x.ndim - n_axes
    n = math.prod(x.shape[lead:])
    rows, out = x.size // n, empty(x.shape, x.dtype)
    kept = (*x.shape[:lead], *(1,) * n_axes)
    mean, rstd = None if rms else empty(kept, "float32"), empty(kept, "float32")
    wide = vector(n, x, w, b, out)
    grid, block = row_blocks(rows, n, 16 // x.itemsize if wide else 1)
    ROWS((name, FLAG[rms], FLAG[wide]), grid, block, x, w, b, out, mean, rstd, rows, n, eps)
    return out, mean, rstd


def _gradients(rms: bool, g: Any, x: Any, w: Any, mean: Any, rstd: Any, needs: Any, n_axes: int) -> Any:
    """The gradients of x, w and b where needed."""
    name = served(x, g, w)
    if name is None or g.shape != x.shape or rstd is None or rstd.dtype.name != "float32":
        return NotImplemented
    g, x, w = contiguous(g), contiguous(x), contiguous(w)
    tail = x.shape[x.ndim - n_axes :]
    n = math.prod(tail)
    rows, gx = x.size // n, None
    if needs[0]:
        gx = empty(x.shape, x.dtype)
        wide = vector(n, g, x, w, gx)
        grid, block = row_blocks(rows, n, 16 // x.itemsize if wide else 1)
        ROWS_BACKWARD((name, FLAG[rms], FLAG[wide]), grid, block, g, x, w, mean, rstd, gx, rows, n)
    needs_b = len(needs) > 2 and needs[2]
    if not (needs[1] or needs_b):
        return gx, None, None
    columns = -(-n // 32)
    count = max(1, min(-(-rows // 64), blocks_for(1 << 30, 1) // columns))
    parts_w, parts_b = (empty((count, n), "float32") if need else None for need in (needs[1], needs_b))
    COLUMN_SUMS((name, FLAG[rms]), (columns, count), (32, 8), g, x, mean, rstd, parts_w, parts_b, rows, n)
    return gx, _summed(name, parts_w, tail, x.dtype), _summed(name, parts_b, tail, x.dtype)


def _summed(name: str, parts: Any, shape: Any, dtype: Any) -> Any:
    """The parts (count, n) added up, in the shape and dtype of a parameter."""
    if parts is None:
        return None
    out = empty(shape, dtype)
    SUM_PARTS((name,), (-(-out.size // 256),), (256,), parts, out, *parts.shape)
    return out


@may_decline
def layer_norm(x: Any, w: Any = None, b: Any = None, *, n_axes: int, eps: float) -> Any:
    """Op layer_norm."""
    return _normalised(False, x, w, b, n_axes, eps)


@may_decline
def layer_norm_backward(g: Any, x: Any, w: Any, mean: Any, rstd: Any, *, needs: Any, n_axes: int, eps: float) -> Any:
    """Composite layer_norm_backward."""
    return _gradients(False, g, x, w, mean, rstd, needs, n_axes)


@may_decline
def rms_norm(x: Any, w: Any = None, *, n_axes: int, eps: float) -> Any:
    """Op rms_norm."""
    found = _normalised(True, x, w, None, n_axes, eps)
    return found if found is NotImplemented else (found[0], found[2])


@may_decline
def rms_norm_backward(g: Any, x: Any, w: Any, rstd: Any, *, needs: Any, n_axes: int, eps: float) -> Any:
    """Composite rms_norm_backward."""
    found = _gradients(True, g, x, w, None, rstd, needs, n_axes)
    return found if found is NotImplemented else found[:2]


# ---- over channels

MOST = 1 << 31  # elements, numbered with 32 bits: divisions of 64 bits take longer than the memory


def _geometry(x: Any) -> tuple[int, int, int]:
    """(images, channels, elements of an image's channel)."""
    return x.shape[0], x.shape[1], math.prod(x.shape[2:])


def _channel_sums(name: str, g: Any, x: Any, mean: Any, wide: bool) -> Any:
    """What channel_sums leaves: (2, parts, channels)."""
    images, channels, length = _geometry(x)
    count = max(1, min(images, -(-images * length // 4096), blocks_for(1 << 30, 1) // channels))
    parts = empty((2, count, channels), "float32")
    CHANNEL_SUMS((name, FLAG[wide]), (channels, count), (256,), g, x, mean, parts, images, channels, length)
    return parts


def _affine(name: str, x: Any, mean: Any, rstd: Any, w: Any, b: Any, wide: bool) -> Any:
    out = empty(x.shape, x.dtype)
    _, channels, length = _geometry(x)
    wide = wide and aligned(out)
    grid = (blocks_for(x.size, 256 * (16 // x.itemsize if wide else 1)),)
    CHANNEL_AFFINE((name, FLAG[wide]), grid, (256,), x, mean, rstd, w, b, out, x.size, channels, length)
    return out


@may_decline
def batch_norm(x: Any, w: Any = None, b: Any = None, *, eps: float) -> Any:
    """Op batch_norm."""
    name = served(x, w, b)
    if name is None or x.size >= MOST:
        return NotImplemented
    x, w, b = contiguous(x), contiguous(w), contiguous(b)
    _, channels, length = _geometry(x)
    wide = vector(length, x)
    parts = _channel_sums(name, None, x, None, wide)
    mean, var, rstd = (empty((channels,), "float32") for _ in range(3))
    size = x.size // channels
    CHANNEL_MOMENTS(
        (name,), (-(-channels // 256),), (256,), x, parts, mean, var, rstd, parts.shape[1], channels, length, size, eps
    )
    return _affine(name, x, mean, rstd, w, b, wide), mean, var, mean, rstd


@may_decline
def batch_norm_backward(g: Any, x: Any, w: Any, centre: Any, rstd: Any, *, needs: Any, eps: float) -> Any:
    """Composite batch_norm_backward."""
    name = served(x, g, w)
    if name is None or x.size >= MOST or g.shape != x.shape or rstd is None or rstd.dtype.name != "float32":
        return NotImplemented
    g, x, w = contiguous(g), contiguous(x), contiguous(w)
    _, channels, length = _geometry(x)
    wide = vector(length, g, x)
    parts = _channel_sums(name, g, x, centre, wide)
    gw, gb = (empty((channels,), x.dtype) if need else None for need in needs[1:3])
    factors = empty((3, channels), "float32")
    grid = (-(-channels // 256),)
    size = x.size // channels
    CHANNEL_SLOPES((name,), grid, (256,), parts, w, rstd, gw, gb, factors, parts.shape[1], channels, size)
    if not needs[0]:
        return None, gw, gb
    gx = empty(x.shape, x.dtype)
    wide = wide and aligned(gx)
    grid = (blocks_for(x.size, 256 * (16 // x.itemsize if wide else 1)),)
    CHANNEL_MIX((name, FLAG[wide]), grid, (256,), g, x, centre, factors, gx, x.size, channels, length)
    return gx, gw, gb


@may_decline
def scale_shift(x: Any, scale: Any, shift: Any) -> Any:
    """Op scale_shift."""
    name = served(x, scale, shift)
    if name is None or x.size >= MOST:
        return NotImplemented
    x, scale, shift = contiguous(x), contiguous(scale), contiguous(shift)
    return _affine(name, x, None, None, scale, shift, vector(_geometry(x)[2], x))


KERNELS: dict[str, Callable[..., Any]] = {
    "layer_norm": layer_norm,
    "layer_norm_backward": layer_norm_backward,
    "rms_norm": rms_norm,
    "rms_norm_backward": rms_norm_backward,
    "batch_norm": batch_norm,
    "batch_norm_backward": batch_norm_backward,
    "scale_shift": scale_shift,
}
