"""Convolutions in one to three dimensions: through cuDNN, else as matrix products with columns.

Layout (`channels_last` of layout.py): where an input or the weight lies channels-last (NHWC), all operands do, and the
result does; else all are row-major (NCHW). Row-major operands are not turned here: cuDNN's plans turn them themselves
and run the kernel for NHWC where its heuristics find that worth it (in half precision and TF32 it is what they propose
first, with a workspace of the size of the turned operands). A bias is part of the forward's plan.

Without cuDNN, and for what it refuses, columns of some images at a time, so that they take `COLUMNS` bytes at most.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

from .. import cudnn as settings
from ..base import may_decline
from . import cudnn
from .launch import TYPES, Kernel, contiguous, empty
from .layout import WORDS, Ints, channels_last, dense, image_order, laid
from .matmul_kernels import product
from .pool_kernels import windows

SUMS = {"float32": "float", "float64": "double", "float16": "__half", "bfloat16": "__nv_bfloat16"}
WIDE = {"float32": "float32", "float64": "float64", "float16": "float32", "bfloat16": "float32"}

IM2COL = Kernel("conv.cuh", "im2col", "PPllliS", T=tuple(WORDS.values()))
COL2IM = Kernel("conv.cuh", "col2im", "PPPliS", T=(*TYPES, "double"))

COLUMNS = 1 << 28  # bytes
MOST = 1 << 31  # places of an image, or of its columns, in 32-bit numbers


@dataclass(frozen=True, eq=False)
class Convolution:
    """A member of the family as cuDNN has it, with at least two spatial dimensions.

    conv takes (x, w) to y, conv_input (y, w) to x, conv_weight (x, y) to w; uids 1 and 2, result 3, bias 4.
    """

    op: str
    dtype: str
    x: Ints
    w: Ints
    y: Ints
    stride: Ints
    padding: Ints
    dilation: Ints
    last: bool
    bias: bool

    def declare(self, frontend: Any, graph: Any) -> None:
        """The graph of the operation."""
        lie = cudnn.channels_last if self.last else cudnn.row_major

        def given(uid: int, shape: Ints) -> Any:
            return cudnn.operand(frontend, graph, uid, shape, lie(shape), self.dtype)

        how = {"padding": list(self.padding), "stride": list(self.stride), "dilation": list(self.dilation)}
        if self.op == "conv":
            out, shape = graph.conv_fprop(given(1, self.x), given(2, self.w), **how), self.y
        elif self.op == "conv_input":
            out, shape = graph.conv_dgrad(loss=given(1, self.y), filter=given(2, self.w), **how), self.x
        else:
            out, shape = graph.conv_wgrad(image=given(1, self.x), loss=given(2, self.y), **how), self.w
        if self.bias:
            out.set_dim(list(shape)).set_stride(lie(shape))
            channels = (1, shape[1], *[1] * (len(shape) - 2))
            b = cudnn.operand(frontend, graph, 4, channels, cudnn.row_major(channels), self.dtype)
            out = graph.add(a=out, b=b)
        cudnn.result(frontend, out, 3, shape, lie(shape), self.dtype)


_one = functools.lru_cache(maxsize=4096)(Convolution)  # the same object for the same fields


# ---- through cuDNN


class Way(NamedTuple):
    """What is decided for arrays that lie alike: the result's shape, the layout, whether each operand lies in it."""

    shape: Ints
    last: bool
    first_lies: bool
    second_lies: bool
    memory: Ints  # the shape of the result's memory, and its axes in the result's order
    axes: Ints
    at: Convolution
    plain: Convolution  # without a bias


def _planar(shape: Ints) -> Ints:
    """(N, C, L) as (N, C, 1, L)."""
    return shape if len(shape) > 3 else (*shape[:2], 1, shape[2])


@functools.lru_cache(maxsize=4096)
def way_of(
    op: str, dtypes: tuple[Any, ...], first: tuple[Ints, Ints], second: tuple[Ints, Ints], shape: Ints | None,
    stride: Ints, padding: Ints, dilation: Ints,
) -> Way | None:  # fmt: skip
    """The way of an op, from shape and strides of its operands; None where the kernels do not take them.

    dtypes: of the two operands and the bias, if there is one. shape: of the result, None for conv.
    """
    if shape is None:
        geometry = zip(first[0][2:], second[0][2:], stride, padding, dilation, strict=True)
        sizes = [(n + 2 * p - d * (k - 1) - 1) // s + 1 for n, k, s, p, d in geometry]
        shape = (first[0][0], second[0][0], *sizes)
    name = dtypes[0].name
    if name not in SUMS or len(set(dtypes)) > 1 or not math.prod((*first[0], *second[0], *shape)):
        return None
    size = dtypes[0].itemsize
    last = channels_last(size, first, second)
    x, y = {"conv": (first[0], shape), "conv_input": (shape, first[0]), "conv_weight": (first[0], second[0])}[op]
    w = shape if op == "conv_weight" else second[0]
    if len(stride) == 1:
        stride, padding, dilation = (1, *stride), (0, *padding), (1, *dilation)
    fields = op, name, _planar(x), _planar(w), _planar(y), stride, padding, dilation, last
    order = image_order(len(shape), last)
    return Way(
        shape, last, dense(*first, size, last), dense(*second, size, last), tuple([shape[i] for i in order]),
        tuple(sorted(range(len(order)), key=order.__getitem__)),
        _one(*fields, op == "conv" and len(dtypes) == 3), _one(*fields, False),
    )  # fmt: skip


def by_cudnn(way: Way, first: Any, second: Any, b: Any) -> Any:
    """The result through cuDNN; None where there is none, or it refuses."""
    library = cudnn.library() if settings.enabled else None
    if library is None:
        return None
    plan, fused = library.plan(way.at), way.at.bias
    if plan is None and fused:
        plan, fused = library.plan(way.plain), False
    if plan is None:
        return None
    pointer, last = library.machine.pointer, way.last
    at_first, at_second = pointer(first), pointer(second)
    if not way.first_lies or at_first & 15:  # cuDNN takes operands at multiples of 16 bytes
        first = laid(first, last)
        at_first = pointer(first)
    if not way.second_lies or at_second & 15:
        second = laid(second, last)
        at_second = pointer(second)
    out = empty(way.memory, first.dtype)
    addresses = {1: at_first, 2: at_second, 3: pointer(out)}
    if fused:
        if not b.flags.c_contiguous or pointer(b) & 15:
            b = b.copy()
        addresses[4] = pointer(b)
    library.run(plan, addresses)
    if last:
        out = out.transpose(way.axes)
    if b is not None and not fused:
        out += b.reshape(-1, *[1] * (out.ndim - 2))
    return out


# ---- by columns


def _blocks(images: int, each: int) -> Iterator[tuple[int, int]]:
    """(first, stop) of as many images at a time as have columns of `COLUMNS` bytes; `each`: bytes of one image's."""
    step = max(1, COLUMNS // max(1, each))
    for first in range(0, images, step):
        yield first, min(images, first + step)


def columns(x: Any, kernel: Ints, size: Ints, stride: Ints, padding: Ints, dilation: Ints, flat: bool = False) -> Any:
    """What each place of the output sees. x: (N, C, *S) row-major -> (N, C * K, T), or where `flat` (C * K, N * T)."""
    images, channels = x.shape[:2]
    places, rows = math.prod(size), channels * math.prod(kernel)
    out = empty((rows, images * places) if flat else (images, rows, places), x.dtype)
    steps = (images * places, places) if flat else (places, rows * places)
    total = images * channels * places
    w = windows(tuple(x.shape[2:]), tuple(size), tuple(kernel), stride, padding, dilation)
    IM2COL((WORDS[x.itemsize],), (-(-total // 256),), (256,), x, out, total, *steps, channels, w)
    return out


def _direct(kernel: Ints, stride: Ints, padding: Ints) -> bool:
    """Whether an image is its own columns."""
    return math.prod(kernel) == math.prod(stride) == 1 and not any(padding)


def _fits(rank: int, image: Ints, *sizes: int) -> bool:
    """Whether the kernels can count an image's places and its columns, and there is anything to do."""
    return rank <= 3 and math.prod(image) < MOST and all(0 < n < MOST for n in sizes)


def conv_by_columns(
    x: Any, w: Any, b: Any, shape: Ints, stride: Ints, padding: Ints, dilation: Ints, groups: int
) -> Any:
    """Op conv as products of the weight and columns."""
    kernel, size = w.shape[2:], shape[2:]
    rows, places, deep = w.shape[1] * math.prod(kernel), math.prod(size), shape[1] // groups
    if not _fits(len(kernel), x.shape[1:], groups * rows * places):
        return NotImplemented
    x, weight, out = contiguous(x), contiguous(w).reshape(groups, deep, rows), empty(shape, x.dtype)
    for i, j in _blocks(shape[0], groups * rows * places * x.itemsize):
        seen = x[i:j] if _direct(kernel, stride, padding) else columns(x[i:j], kernel, size, stride, padding, dilation)
        target = out[i:j].reshape(j - i, groups, deep, places)
        if b is not None:
            target[...] = b.reshape(groups, deep, 1)
        seen = seen.reshape(j - i, groups, rows, places)
        if product(weight, seen, out=target, beta=0.0 if b is None else 1.0) is NotImplemented:
            return NotImplemented
    return out


def input_by_columns(
    g: Any, w: Any, b: Any, shape: Ints, stride: Ints, padding: Ints, dilation: Ints, groups: int
) -> Any:
    """Op conv_input: columns are products of the weight and g, and each place of x gathers its own."""
    kernel, size, name = w.shape[2:], g.shape[2:], g.dtype.name
    rows, places, deep = w.shape[1] * math.prod(kernel), math.prod(size), w.shape[0] // groups
    if not _fits(len(kernel), shape[1:], groups * rows * places, math.prod(shape[1:])):
        return NotImplemented
    weight = contiguous(w).reshape(groups, deep, rows).swapaxes(1, 2)
    g, b, out = contiguous(g), contiguous(b), empty(shape, g.dtype)
    geometry = windows(tuple(shape[2:]), tuple(size), tuple(kernel), stride, padding, dilation)
    for i, j in _blocks(shape[0], groups * rows * places * (8 if name == "float64" else 4)):
        made = empty((j - i, groups, rows, places), WIDE[name])
        if product(weight, g[i:j].reshape(j - i, groups, deep, places), out=made) is NotImplemented:
            return NotImplemented
        part = out[i:j]
        grid = (-(-part.size // 256),)
        COL2IM((SUMS[name],), grid, (256,), made, b, part, part.size, shape[1], geometry)
    return out


def weight_by_columns(x: Any, g: Any, shape: Ints, stride: Ints, padding: Ints, dilation: Ints, groups: int) -> Any:
    """Op conv_weight: products of g and columns, added up over the images in wide numbers."""
    kernel, size, name = shape[2:], g.shape[2:], x.dtype.name
    rows, places, deep = shape[1] * math.prod(kernel), math.prod(size), shape[0] // groups
    if not _fits(len(kernel), x.shape[1:], groups * rows * places):
        return NotImplemented
    x, total = contiguous(x), empty((groups, deep, rows), WIDE[name])
    for i, j in _blocks(x.shape[0], groups * rows * places * x.itemsize):
        seen = columns(x[i:j], kernel, size, stride, padding, dilation, flat=True).reshape(groups, rows, -1)
        part = contiguous(g[i:j].swapaxes(0, 1)).reshape(groups, deep, (j - i) * places)
        if product(part, seen.swapaxes(1, 2), out=total, beta=1.0 if i else 0.0) is NotImplemented:
            return NotImplemented
    return (total if WIDE[name] == name else total.astype(x.dtype)).reshape(shape)


# ---- the ops


@may_decline
def conv(x: Any, w: Any, b: Any = None, *, stride: Ints, padding: Ints, dilation: Ints, groups: int) -> Any:
    """Op conv."""
    dtypes = (x.dtype, w.dtype) if b is None else (x.dtype, w.dtype, b.dtype)
    way = way_of("conv", dtypes, (x.shape, x.strides), (w.shape, w.strides), None, stride, padding, dilation)
    if way is None:
        return NotImplemented
    out = by_cudnn(way, x, w, b)
    return conv_by_columns(x, w, b, way.shape, stride, padding, dilation, groups) if out is None else out


@may_decline
def conv_input(
    g: Any, w: Any, b: Any = None, *, shape: Ints, stride: Ints, padding: Ints, dilation: Ints, groups: int
) -> Any:
    """Op conv_input."""
    dtypes = (g.dtype, w.dtype) if b is None else (g.dtype, w.dtype, b.dtype)
    way = way_of("conv_input", dtypes, (g.shape, g.strides), (w.shape, w.strides), shape, stride, padding, dilation)
    if way is None:
        return NotImplemented
    out = by_cudnn(way, g, w, b)
    return input_by_columns(g, w, b, shape, stride, padding, dilation, groups) if out is None else out


@may_decline
def conv_weight(x: Any, g: Any, *, shape: Ints, stride: Ints, padding: Ints, dilation: Ints, groups: int) -> Any:
    """Op conv_weight."""
    dtypes = x.dtype, g.dtype
    way = way_of("conv_weight", dtypes, (x.shape, x.strides), (g.shape, g.strides), shape, stride, padding, dilation)
    if way is None:
        return NotImplemented
    out = by_cudnn(way, x, g, None)
    return weight_by_columns(x, g, shape, stride, padding, dilation, groups) if out is None else out


KERNELS: dict[str, Callable[..., Any]] = {"conv": conv, "conv_input": conv_input, "conv_weight": conv_weight}
