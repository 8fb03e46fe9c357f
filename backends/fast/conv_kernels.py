"""Convolutions by oneDNN: the three ops of the family, float32, one to three spatial dimensions.

The library is fastest on layouts of its own, so a batch is taken in blocks of images that stay in the cache: each is
put into the library's layout, convolved and put back; the blocks are shared out among `threads.over`'s workers. The
weights are put into its layout once per call, a hundredth of the time. What goes in and comes out is row-major, as
PyTorch's results are, so that `view` works on them.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np

from .. import threads
from ..base import may_decline
from . import onednn
from .onednn import (
    DIFF_DST,
    DIFF_SRC,
    DIFF_WEIGHTS,
    DST,
    SRC,
    WEIGHTS,
    Descriptor,
    Layout,
    Primitive,
    Space,
    address_of,
)

NEEDS = "onednn"

Array = Any
Ints = tuple[int, ...]

BLOCK = 1 << 20  # bytes of a block's activations, in and out: measured flat from 1/4 to 4 MB, worse where all is one
SHARE = 1 << 21  # multiplications for which a second thread is worth its start


class Geometry(NamedTuple):
    """A convolution without its batch. x: (C, *S), w: (O, C / groups, *K), y: (O, *T)."""

    x: Ints
    w: Ints
    y: Ints
    stride: Ints
    padding: Ints
    dilation: Ints
    groups: int
    bias: bool = False

    def work(self) -> int:
        """Multiplications per image."""
        return math.prod(self.w) * math.prod(self.y[1:])


def order(op: str, at: Geometry) -> Callable[[Ints], Layout]:
    """How the activations lie while they are convolved: in the library's blocks, channels last, or as they came.

    By measurement on AVX2. Channels last, the forward has a faster implementation, but rows whose distance is a
    multiple of a page meet in the same cache lines.
    """
    row = 4 * at.x[0] * at.x[-1]
    if op == "conv" and at.groups == 1 and at.x[0] > 4 and row % 4096:
        return Layout.channels_last
    if op == "conv_weight" and at.groups == 1:
        if at.x[0] < 8 and at.y[0] <= 16:
            return Layout.channels_last
        if at.x[0] * math.prod(at.w[2:]) >= 1024:  # tall columns: one large product
            return Layout.dense
    if op == "conv_input" and at.groups == 1 and (at.x[0] <= 4 or math.prod(at.w[2:]) == 1):
        return Layout.dense
    return Layout.any


class Plan:
    """One op on a fixed number of images: the primitive, and the copies into its layouts and out of them.

    Operands and result per op, each of them once as the caller has it and once as the primitive wants it:
    conv (x, w, y), conv_input (g, w, x), conv_weight (x, g, w).
    """

    def __init__(self, op: str, at: Geometry, images: int):
        x, w, y = (images, *at.x), at.w, (images, *at.y)
        if at.groups > 1:
            w = (at.groups, w[0] // at.groups, *w[1:])
        layout = order(op, at)
        numbers, users = {
            "conv": ((SRC, WEIGHTS, DST), (x, w, y)),
            "conv_input": ((DIFF_DST, WEIGHTS, DIFF_SRC), (y, w, x)),
            "conv_weight": ((SRC, DIFF_DST, DIFF_WEIGHTS), (x, y, w)),
        }[op]
        bias = Layout.dense(at.w[:1]) if at.bias else None
        made = _descriptor(op, at, layout(x), Layout.any(w), bias, layout(y))
        self.implementation = made.implementation()
        if self.implementation.startswith("ref"):  # plain loops
            raise onednn.Refused(self.implementation)
        inner = [made.layout(number) for number in numbers]
        outer = [Layout.dense(shape) for shape in users]
        self.primitive = Primitive(made, dict(zip(numbers, inner, strict=True)) | ({onednn.BIAS: bias} if bias else {}))
        self.copies = [onednn.reorder(outer[0], inner[0]), onednn.reorder(outer[1], inner[1])]
        self.back = onednn.reorder(inner[2], outer[2])
        self.sizes = [layout.bytes for layout in inner]

    def inward(self, which: int, address: int) -> tuple[int, Space | None]:
        """An operand in the primitive's layout: (address, its memory where it is a copy)."""
        copy = self.copies[which]
        if copy is None:
            return address, None
        space = Space(self.sizes[which])
        copy(address, space.address)
        return space.address, space

    def finish(self, first: int, second: int, out: int, *bias: int) -> None:
        """Computes from operands in the primitive's layout; the result goes to `out` in row-major order."""
        if self.back is None:
            self.primitive(first, second, out, *bias)
            return
        space = Space(self.sizes[2])
        self.primitive(first, second, space.address, *bias)
        self.back(space.address, out)


def _descriptor(op: str, at: Geometry, x: Layout, w: Layout, b: Layout | None, y: Layout) -> Descriptor:
    engine = onednn.library().engine
    padding = onednn.spatial(at.padding)
    places = (onednn.spatial(at.stride), onednn.spatial([d - 1 for d in at.dilation]), padding, padding)
    operands = (x.handle, w.handle, b and b.handle, y.handle)
    name = "dnnl_convolution_{}_primitive_desc_create"
    kind = onednn.CONVOLUTION_DIRECT
    forward = Descriptor(name.format("forward"), engine, onednn.FORWARD_TRAINING, kind, *operands, *places)
    if op == "conv":
        return forward
    if op == "conv_input":
        three = (x.handle, w.handle, y.handle)
        return Descriptor(name.format("backward_data"), engine, kind, *three, *places, forward.handle)
    return Descriptor(name.format("backward_weights"), engine, kind, *operands, *places, forward.handle)


@functools.lru_cache(maxsize=256)
def plan(op: str, at: Geometry, images: int) -> Plan | None:
    """The plan for so many images; None where the library refuses."""
    try:
        with onednn.in_this_thread():
            return Plan(op, at, images)
    except onednn.Refused:
        return None


class Cut(NamedTuple):
    """How a batch is cut: blocks of `images`, the last one of `rest`, in `parts` threads."""

    images: int
    rest: int
    parts: int


@functools.lru_cache(maxsize=256)
def cut(op: str, at: Geometry, count: int, allowed: int) -> Cut:
    """Even shares for the threads, in blocks that fit the cache. `allowed`: threads."""
    parts = max(1, min(count, allowed, at.work() * count // SHARE))
    limit = BLOCK
    if op == "conv_weight":  # each block adds a gradient of the weight's size
        limit = max(limit, 32 * math.prod(at.w))
    share = -(-count // parts)
    images = max(1, min(share, limit // (4 * (math.prod(at.x) + math.prod(at.y)))))
    images = -(-share // -(-share // images))
    return Cut(images, count % images, parts)


class Run:
    """One call on a batch: its blocks in order, and the plan of each."""

    def __init__(self, op: str, at: Geometry, count: int):
        self.cut = cut(op, at, count, threads.count())
        self.count = count
        # Plans, or None where the library has no way: `served` is asked first
        self.whole: Any = plan(op, at, self.cut.images)
        self.rest: Any = plan(op, at, self.cut.rest) if self.cut.rest else self.whole

    @property
    def served(self) -> bool:
        """Whether the library has a way."""
        return self.whole is not None and self.rest is not None

    def blocks(self, start: int, stop: int) -> Iterator[tuple[Plan, int]]:
        """(plan, first image) of the blocks of a span."""
        images = self.cut.images
        for block in range(start, stop):
            first = block * images
            yield (self.whole if first + images <= self.count else self.rest), first

    def over(self, span: Callable[[int, int], None]) -> None:
        """span(start, stop) over the blocks, in this call's threads."""

        def alone(start: int, stop: int) -> None:
            with onednn.in_this_thread():
                span(start, stop)

        threads.over(alone, -(-self.count // self.cut.images), self.cut.parts)


def _convolved(op: str, at: Geometry, source: Array, w: Array, b: Array | None, out: Array) -> Array:
    """conv and conv_input: out[n] = source[n] with w."""
    run = Run(op, at, len(source))
    if not run.served:
        return NotImplemented
    source, w = np.ascontiguousarray(source), np.ascontiguousarray(w)
    begin, end, step_in, step_out = address_of(source), address_of(out), source[0].nbytes, out[0].nbytes
    b = None if b is None else np.ascontiguousarray(b)
    bias = () if b is None else (address_of(b),)
    weights: dict[Plan, tuple[int, Space | None]] = {}
    with onednn.in_this_thread():
        for which in {run.whole, run.rest}:
            weights[which] = which.inward(1, address_of(w))

    def span(start: int, stop: int) -> None:
        for which, first in run.blocks(start, stop):
            address, memory = which.inward(0, begin + first * step_in)
            which.finish(address, weights[which][0], end + first * step_out, *bias)
            del memory

    run.over(span)
    return out


@may_decline
def conv(x: Array, w: Array, b: Array = None, *, stride: Ints, padding: Ints, dilation: Ints, groups: int) -> Array:
    """The op conv."""
    size = tuple(
        [
            (n + 2 * p - d * (k - 1) - 1) // s + 1
            for n, k, s, p, d in zip(x.shape[2:], w.shape[2:], stride, padding, dilation, strict=True)
        ]
    )
    at = Geometry(x.shape[1:], w.shape, (w.shape[0], *size), stride, padding, dilation, groups, b is not None)
    if not served("conv", at, x, w, b):
        return NotImplemented
    out = np.empty((x.shape[0], *at.y), x.dtype)
    if len(x) == 1 and groups == 1 and threads.worth(at.work(), SHARE):
        return _one_image(at, x, w, b, out)
    return _convolved("conv", at, x, w, b, out)


def _one_image(at: Geometry, x: Array, w: Array, b: Array | None, out: Array) -> Array:
    """conv of a batch of one: the threads share its channels."""
    refused = []

    def span(start: int, stop: int) -> None:
        part = at._replace(w=(stop - start, *at.w[1:]), y=(stop - start, *at.y[1:]))
        bias = None if b is None else b[start:stop]
        if _convolved("conv", part, x, w[start:stop], bias, out[:, start:stop]) is NotImplemented:
            refused.append(start)

    threads.over(span, len(w), align=16)
    return NotImplemented if refused else out


@may_decline
def conv_input(
    g: Array,
    w: Array,
    b: Array = None,
    *,
    shape: Ints,
    stride: Ints,
    padding: Ints,
    dilation: Ints,
    groups: int,
) -> Array:
    """The op conv_input."""
    at = Geometry(tuple(shape[1:]), w.shape, g.shape[1:], stride, padding, dilation, groups)
    if not served("conv_input", at, g, w, b):
        return NotImplemented
    out = _convolved("conv_input", at, g, w, None, np.empty(shape, g.dtype))
    if b is not None and out is not NotImplemented:
        out += b.reshape(-1, *[1] * len(stride))
    return out


@may_decline
def conv_weight(x: Array, g: Array, *, shape: Ints, stride: Ints, padding: Ints, dilation: Ints, groups: int) -> Array:
    """The op conv_weight."""
    at = Geometry(x.shape[1:], tuple(shape), g.shape[1:], stride, padding, dilation, groups)
    if not served("conv_weight", at, x, g):
        return NotImplemented
    run = Run("conv_weight", at, len(x))
    if not run.served:
        return NotImplemented
    x, g = np.ascontiguousarray(x), np.ascontiguousarray(g)
    begin_x, begin_g, step_x, step_g = address_of(x), address_of(g), x[0].nbytes, g[0].nbytes
    sums: dict[int, Array] = {}  # by the span's first block: added up in their order, whichever ends first

    def span(start: int, stop: int) -> None:
        total, part = np.empty(shape, x.dtype), None
        for which, first in run.blocks(start, stop):
            if first > start * run.cut.images and part is None:
                part = np.empty(shape, x.dtype)
            target = total if part is None else part
            one, memory = which.inward(0, begin_x + first * step_x)
            two, more = which.inward(1, begin_g + first * step_g)
            which.finish(one, two, address_of(target))
            del memory, more
            if part is not None:
                total += part
        sums[start] = total

    run.over(span)
    first, *others = [sums[start] for start in sorted(sums)]
    for other in others:
        first += other
    return first


def served(op: str, at: Geometry, first: Array, second: Array, bias: Array | None = None) -> bool:
    """Whether a convolution is one that oneDNN takes and is faster at than NumPy."""
    if first.dtype != np.float32 or second.dtype != np.float32 or (bias is not None and bias.dtype != np.float32):
        return False
    if not 1 <= len(at.stride) <= 3 or not len(first) or min(*at.x, *at.w, *at.y, *at.stride) < 1:
        return False
    pointwise = math.prod(at.w[2:]) == 1 and at.groups == 1 and not any(at.padding)
    return not pointwise or (op == "conv_input" and max(at.stride) > 1)  # the others are one matrix product


KERNELS = {"conv": conv, "conv_input": conv_input, "conv_weight": conv_weight}
