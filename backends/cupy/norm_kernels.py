"""Layer, root-mean-square and batch normalisation, and means over images. Statistics are float32 for all inputs.

What lies over channels is taken as it lies, row-major or channels-last, and the result lies as the input does.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

from ..base import may_decline
from .launch import (
    FLAG,
    FLAGS,
    TYPES,
    Kernel,
    blocks_for,
    contiguous,
    empty,
    row_blocks,
    served,
    vector,
)  # fmt: skip
from .layout import in_images, lies_last, new_images

ROWS = Kernel("norm.cuh", "norm_rows", "PPPPPPlif", T=TYPES, RMS=FLAGS, VECTOR=FLAGS)
ROWS_BACKWARD = Kernel("norm.cuh", "norm_rows_backward", "PPPPPPli", T=TYPES, RMS=FLAGS, VECTOR=FLAGS)
COLUMN_SUMS = Kernel("norm.cuh", "norm_columns", "PPPPPPli", T=TYPES, RMS=FLAGS)
SUM_PARTS = Kernel("norm.cuh", "sum_parts", "PPii", T=TYPES)
CHANNEL_SUMS = Kernel("norm.cuh", "channel_sums", "PPPPlii", T=TYPES, VECTOR=FLAGS)
CHANNEL_MOMENTS = Kernel("norm.cuh", "channel_moments", "PPPPPiiiff", T=TYPES)
CHANNEL_SLOPES = Kernel("norm.cuh", "channel_slopes", "PPPPPPiif", T=TYPES)
CHANNEL_AFFINE = Kernel("norm.cuh", "channel_affine", "PPPPPPiii", T=TYPES, VECTOR=FLAGS)
CHANNEL_MIX = Kernel("norm.cuh", "channel_mix", "PPPPPiii", T=TYPES, VECTOR=FLAGS)
SUMS_COLUMNS = Kernel("norm.cuh", "channel_sums_columns", "PPPPli", T=TYPES, VECTOR=FLAGS)
AFFINE_COLUMNS = Kernel("norm.cuh", "channel_affine_columns", "PPPPPPli", T=TYPES, VECTOR=FLAGS)
MIX_COLUMNS = Kernel("norm.cuh", "channel_mix_columns", "PPPPPli", T=TYPES, VECTOR=FLAGS)
IMAGE_MEANS = Kernel("norm.cuh", "image_means", "PPii", T=TYPES, VECTOR=FLAGS)


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


class Channels(NamedTuple):
    """Arrays (N, C, *S) that lie alike, as the kernels see them: (images, channels, length) row-major.

    Channels side by side in memory, be it NHWC or (N, C), are columns: `length` is 1, `images` counts the rows.
    """

    images: int
    channels: int
    length: int
    last: bool  # whether they lie channels-last

    def new(self, x: Any) -> Any:
        """A new array like x."""
        return new_images(x.shape, x.dtype, self.last)

    def wide(self, *arrays: Any) -> bool:
        """Whether these can be read 16 bytes at a time."""
        return vector(self.channels if self.length == 1 else self.length, *arrays)

    def parts(self, each: int) -> tuple[int, int, tuple[int, int]]:
        """(blocks across the channels, most blocks over the images, block) for threads with `each` channels."""
        if self.length > 1:
            return self.channels, max(1, min(self.images, -(-self.images * self.length // 4096))), (256, 1)
        across, block = column_blocks(self.channels, each)
        return across, max(1, -(-self.images // (4 * block[1]))), block


def seen(*arrays: Any) -> tuple[Channels, list[Any]]:
    """How arrays (N, C, *S) of one shape are taken, and they in that layout: as the first one lies."""
    shape, last = arrays[0].shape, lies_last(arrays[0])
    images, channels, length = shape[0], shape[1], math.prod(shape[2:])
    at = Channels(images * length, channels, 1, True) if last else Channels(images, channels, length, False)
    return at, [in_images(a, last) for a in arrays]


def column_blocks(columns: int, each: int) -> tuple[int, tuple[int, int]]:
    """(blocks, block) for columns of which a thread takes `each`: 256 threads, of which few are idle."""
    packs = -(-columns // each)
    beside = min((32, 16, 8), key=lambda n: -(-packs // n) * n) if packs >= 8 else 1 << (packs - 1).bit_length()
    return -(-packs // beside), (beside, 256 // beside)


def _channel_sums(name: str, at: Channels, g: Any, x: Any, mean: Any) -> Any:
    """What channel_sums leaves: (2, parts, channels)."""
    wide = at.wide(x) if g is None else at.wide(g, x)
    across, most, block = at.parts(16 // x.itemsize if wide else 1)
    count = max(1, min(most, blocks_for(1 << 30, 1) // (across if at.length > 1 else 4 * across)))
    parts = empty((2, count, at.channels), "float32")
    if at.length > 1:
        CHANNEL_SUMS((name, FLAG[wide]), (across, count), (256,), g, x, mean, parts, *at[:3])
    else:
        SUMS_COLUMNS((name, FLAG[wide]), (across, count), block, g, x, mean, parts, *at[:2])
    return parts


def _each(flat: Kernel, columns: Kernel, name: str, at: Channels, wide: bool, x: Any, *rest: Any) -> None:
    """One pass over all elements, with numbers for each channel. rest: arguments behind x and before the sizes."""
    each = 16 // x.itemsize if wide else 1
    if at.length > 1:
        flat((name, FLAG[wide]), (blocks_for(x.size, 256 * each),), (256,), x, *rest, x.size, *at[1:3])
        return
    across, most, block = at.parts(each)
    count = max(1, min(most, blocks_for(1 << 30, 1) // across))
    columns((name, FLAG[wide]), (across, count), block, x, *rest, *at[:2])


def _affine(name: str, at: Channels, x: Any, mean: Any, rstd: Any, w: Any, b: Any) -> Any:
    out = at.new(x)
    _each(CHANNEL_AFFINE, AFFINE_COLUMNS, name, at, at.wide(x, out), x, mean, rstd, w, b, out)
    return out


@may_decline
def batch_norm(x: Any, w: Any = None, b: Any = None, *, eps: float) -> Any:
    """Op batch_norm."""
    name = served(x, w, b)
    if name is None or x.size >= MOST:
        return NotImplemented
    (at, (x,)), w, b = seen(x), contiguous(w), contiguous(b)
    parts = _channel_sums(name, at, None, x, None)
    mean, var, rstd = (empty((at.channels,), "float32") for _ in range(3))
    grid, size = (-(-at.channels // 32),), x.size // at.channels
    CHANNEL_MOMENTS((name,), grid, (32, 8), x, parts, mean, var, rstd, parts.shape[1], *at[1:3], size, eps)
    return _affine(name, at, x, mean, rstd, w, b), mean, var, mean, rstd


@may_decline
def batch_norm_backward(g: Any, x: Any, w: Any, centre: Any, rstd: Any, *, needs: Any, eps: float) -> Any:
    """Composite batch_norm_backward."""
    name = served(x, g, w)
    if name is None or x.size >= MOST or g.shape != x.shape or rstd is None or rstd.dtype.name != "float32":
        return NotImplemented
    (at, (x, g)), w = seen(x, g), contiguous(w)
    parts = _channel_sums(name, at, g, x, centre)
    gw, gb = (empty((at.channels,), x.dtype) if need else None for need in needs[1:3])
    factors = empty((3, at.channels), "float32")
    grid, size = (-(-at.channels // 32),), x.size // at.channels
    CHANNEL_SLOPES((name,), grid, (32, 8), parts, w, rstd, gw, gb, factors, parts.shape[1], at.channels, size)
    if not needs[0]:
        return None, gw, gb
    gx = at.new(x)
    _each(CHANNEL_MIX, MIX_COLUMNS, name, at, at.wide(g, x, gx), g, x, centre, factors, gx)
    return gx, gw, gb


@may_decline
def scale_shift(x: Any, scale: Any, shift: Any) -> Any:
    """Op scale_shift."""
    name = served(x, scale, shift)
    if name is None or x.size >= MOST:
        return NotImplemented
    at, (x,) = seen(x)
    return _affine(name, at, x, None, None, contiguous(scale), contiguous(shift))


@may_decline
def mean(x: Any, *, axis: Any, keepdims: bool) -> Any:
    """Op mean, where it is each channel's of images that lie channels-last: global average pooling."""
    if not axis or axis != tuple(range(2, x.ndim)) or not lies_last(x):
        return NotImplemented
    name = served(x)
    if name is None or x.shape[0] > 65535 or x.size >= MOST:
        return NotImplemented
    at, _ = seen(x)
    out = empty((x.shape[0], at.channels, *(1,) * (x.ndim - 2 if keepdims else 0)), x.dtype)
    wide = at.wide(x, out)
    across, block = column_blocks(at.channels, 16 // x.itemsize if wide else 1)
    grid, length = (across, x.shape[0]), at.images // x.shape[0]
    IMAGE_MEANS((name, FLAG[wide]), grid, block, x, out, length, at.channels)
    return out


KERNELS: dict[str, Callable[..., Any]] = {
    "layer_norm": layer_norm,
    "layer_norm_backward": layer_norm_backward,
    "rms_norm": rms_norm,
    "rms_norm_backward": rms_norm_backward,
    "batch_norm": batch_norm,
    "batch_norm_backward": batch_norm_backward,
    "scale_shift": scale_shift,
    "mean": mean,
}
