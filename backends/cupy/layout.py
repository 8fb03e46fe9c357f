"""How arrays lie: row-major, with the channels side by side (NHWC), or dense in some other order of their dimensions.

PyTorch's rule for networks, in one place: where images or volumes lie channels-last, what layers make of them does.
"""

from __future__ import annotations

import functools
import math
from typing import Any

from ..base import refcount
from .launch import Kernel, current, empty

Ints = tuple[int, ...]

WORDS = {2: "unsigned short", 4: "unsigned int", 8: "unsigned long long"}
TURN = Kernel("conv.cuh", "turn", "PPiiii", T=tuple(WORDS.values()))
SIDE = 32  # of a tile of `turn`
MOST = 1 << 31  # elements, numbered with 32 bits


# ---- images


def image_order(rank: int, last: bool) -> Ints:
    """The axes of (N, C, *S) in the order of memory."""
    return (0, *range(2, rank), 1) if last else tuple(range(rank))


def dense(shape: Ints, strides: Ints, size: int, last: bool) -> bool:
    """Whether an array of elements of `size` bytes lies in that layout without gaps."""
    for axis in reversed(image_order(len(shape), last)):
        if shape[axis] > 1 and strides[axis] != size:
            return False
        size *= shape[axis]
    return True


def channels_last(size: int, *arrays: tuple[Ints, Ints]) -> bool:
    """Whether a layer of these is computed, and its result given, with the channels side by side. PyTorch's rule.

    Images and volumes only: PyTorch has no such layout for (N, C, L), whose results are always row-major. arrays:
    shape and strides of each.
    """
    return len(arrays[0][0]) > 3 and any(
        dense(*array, size, True) and not dense(*array, size, False) for array in arrays
    )


def lies_last(x: Any) -> bool:
    """Whether an array (N, C, *S) lies channels-last, and not row-major as well."""
    return not x.flags.c_contiguous and channels_last(x.itemsize, (x.shape, x.strides))


def in_images(x: Any, last: bool) -> Any:
    """An array (N, C, *S) in that layout: itself, or a copy."""
    return x if dense(x.shape, x.strides, x.itemsize, last) else laid(x, last)


def new_images(shape: Ints, dtype: Any, last: bool) -> Any:
    """A new array (N, C, *S) in that layout."""
    if not last:
        return empty(shape, dtype)
    rank = len(shape)
    return empty((shape[0], *shape[2:], shape[1]), dtype).transpose(0, rank - 1, *range(1, rank - 1))


def laid(x: Any, last: bool) -> Any:
    """A copy of an array (N, C, *S) in that layout."""
    own = x.transpose(image_order(x.ndim, last))
    if dense(x.shape, x.strides, x.itemsize, last):
        copy = own.copy()  # lies so, but not where it may
    elif dense(x.shape, x.strides, x.itemsize, not last) and x.size < MOST:
        copy = empty(own.shape, x.dtype)
        places = math.prod(x.shape[2:])
        rows, columns = (x.shape[1], places) if last else (places, x.shape[1])
        across, tiles = -(-columns // SIDE), -(-columns // SIDE) * -(-rows // SIDE)
        TURN((WORDS[x.itemsize],), (x.shape[0] * tiles,), (SIDE, 8), x, copy, rows, columns, across, tiles)
    else:
        copy = current().xp.ascontiguousarray(own)
    return copy.transpose(0, x.ndim - 1, *range(1, x.ndim - 1)) if last else copy


# ---- flat memory


@functools.lru_cache(maxsize=4096)
def order_of(shape: Ints, strides: Ints, size: int) -> Ints | None:
    """The order of dimensions in which an array is row-major in memory without gaps; None where there is no such order.

    size: bytes of an element.
    """
    axes = tuple(sorted(range(len(shape)), key=lambda i: (-strides[i], shape[i] == 1)))
    for axis in reversed(axes):
        if shape[axis] > 1 and strides[axis] != size:
            return None
        size *= shape[axis]
    return axes


def _back(axes: Ints) -> list[int]:
    return sorted(range(len(axes)), key=axes.__getitem__)


def new_like(x: Any) -> tuple[Any, Any]:
    """x, copied to row-major order where it has gaps, and a new array of its layout."""
    if x.flags.c_contiguous:
        return x, empty(x.shape, x.dtype)
    axes = order_of(x.shape, x.strides, x.itemsize)
    if axes is None:
        return current().xp.ascontiguousarray(x), empty(x.shape, x.dtype)
    return x, empty(tuple([x.shape[i] for i in axes]), x.dtype).transpose(_back(axes))


def same_flat(x: Any, y: Any) -> bool:
    """Whether two arrays of one shape are the same places of flat memory without gaps."""
    if x.flags.c_contiguous:
        return bool(y.flags.c_contiguous)
    if order_of(x.shape, x.strides, x.itemsize) is None:
        return False
    return x.strides == y.strides or all(
        n == 1 or a == b for n, a, b in zip(x.shape, x.strides, y.strides, strict=True)
    )


def gradient_for(leaf: Any, g: Any, spare: bool) -> Any:
    """The gradient g in the layout of a leaf that has gaps or lies in another dense order; row-major for the former.

    A copy, or g itself where it lies so and is the one view of memory that nobody else refers to (`spare`: nor to g).
    """
    axes = order_of(leaf.shape, leaf.strides, leaf.itemsize)
    if axes is None:
        return g.copy()
    if spare and same_flat(leaf, g) and g.base is not None and refcount(g.base) <= 2 and g.base.size == g.size:
        return g
    return g.transpose(axes).copy().transpose(_back(axes))


def in_layout(g: Any, x: Any) -> Any:
    """g in the memory layout of x, which is dense: itself, or a copy."""
    if g.strides == x.strides or (g.flags.c_contiguous and x.flags.c_contiguous):
        return g
    if lies_last(x):
        return in_images(g, True)
    _, copy = new_like(x)
    axes = order_of(x.shape, x.strides, x.itemsize)
    copy.transpose(axes)[...] = g.transpose(axes)  # so that what is written lies side by side
    return copy
