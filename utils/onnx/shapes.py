"""Shapes: views, joins, copies that reorder, padding; and what writes through views are made of."""

from __future__ import annotations

from typing import Any

import numpy as np

from .graph import FAR, Graph, Item, Step
from .sizes import Dim, Size, each, product, same
from .table import emits

ALL: Any = slice(None)


@emits("view", "reshape")
def reshape(g: Graph, step: Step) -> Any:
    """Another shape."""
    return g.reshape(step.inputs[0], step.out.shape)


@emits("expand")
def expand(g: Graph, step: Step) -> Any:
    """Broadcast to a shape."""
    return g.expand(step.inputs[0], step.out.shape)


@emits("sum_to")
def sum_to(g: Graph, step: Step) -> Any:
    """Summed to a shape that broadcasts to x's."""
    x, shape = step.inputs[0], step.out.shape
    lead = x.ndim - len(shape)
    pairs = zip(x.shape[lead:], shape, strict=True)
    axes = [*range(lead), *[lead + i for i, (n, m) in enumerate(pairs) if m == 1 and not same(n, m)]]
    made: Any = g.reduce("ReduceSum", x, axes, True) if axes else x
    return g.squeeze(made, *range(lead)) if lead else made


@emits("permute")
def permute(g: Graph, step: Step) -> Any:
    """Dimensions reordered."""
    return g.transpose(step.inputs[0], [int(a) for a in step.kw["axes"]])


@emits("transpose", "t", "mT")
def transpose(g: Graph, step: Step) -> Any:
    """Two dimensions exchanged."""
    n = step.inputs[0].ndim
    order = list(range(n))
    if step.op == "transpose":
        a, b = int(step.kw["axis0"]), int(step.kw["axis1"])
    else:
        a, b = n - 2, n - 1
    if n > 1:
        order[a], order[b] = order[b], order[a]
    return g.transpose(step.inputs[0], order)


@emits("squeeze", "squeeze_dim", "squeeze_dims")
def squeeze(g: Graph, step: Step) -> Any:
    """Without dimensions of size 1."""
    x = step.inputs[0]
    axes = [int(a) for a in step.kw["axis"] if not isinstance(x.shape[a], Dim) and x.shape[a] == 1]
    return g.squeeze(x, *axes) if axes else x


@emits("unsqueeze")
def unsqueeze(g: Graph, step: Step) -> Any:
    """A new dimension of size 1."""
    return g.unsqueeze(step.inputs[0], int(step.kw["axis"]))


@emits("select")
def select(g: Graph, step: Step) -> Any:
    """One slice along an axis, which is dropped."""
    x, axis, index = step.inputs[0], int(step.kw["axis"]), step.kw["index"]
    return _picked(g, x, axis, index, x.shape[axis])


def _picked(g: Graph, x: Any, axis: int, index: Size, extent: Size) -> str:
    bound = g.bound(index, extent)
    at = g.number(index) if bound is None else g.constant(np.array(bound, np.int64))
    return g.node("Gather", x, at, axis=axis)


@emits("slice_view", "select_view", "unsqueeze_view", "alias_view")
def basic_index(g: Graph, step: Step) -> Any:
    """x[ints, slices, None]: one Slice, then one Gather per int, then the new dimensions."""
    x = step.inputs[0]
    shape, at = x.shape, 0
    parts: list[tuple[int, slice]] = []
    ints: list[tuple[int, Size]] = []
    new: list[int] = []
    to = 0
    for item in step.kw["index"]:
        if item is None:
            new.append(to)
            to += 1
            continue
        if isinstance(item, slice):
            if not (item.start == 0 and same(item.stop, shape[at]) and item.step == 1):
                parts.append((at, item))
            to += 1
        else:
            ints.append((at, item))
        at += 1
    made: Any = _sliced(g, x, shape, parts) if parts else x
    for axis, index in reversed(ints):
        made = _picked(g, made, axis, index, shape[axis])
    return g.unsqueeze(made, *new) if new else made


def _sliced(g: Graph, x: Any, shape: tuple[Size, ...], parts: list[tuple[int, slice]]) -> str:
    starts = _bounds(g, [(p.start, shape[a]) for a, p in parts])
    stops = _bounds(g, [(p.stop, shape[a]) for a, p in parts])
    return g.node("Slice", x, starts, stops, g.ints(*[a for a, _ in parts]), g.ints(*[int(p.step) for _, p in parts]))


def _bounds(g: Graph, places: list[tuple[Size, Size]]) -> str:
    found = [g.bound(size, extent) for size, extent in places]
    if all(f is not None for f in found):
        return g.ints(*found)
    return g.vector([size if f is None else f for f, (size, _) in zip(found, places, strict=True)])


@emits("zeros_like", "ones_like", "zeros_of")
def filled(g: Graph, step: Step) -> Any:
    """Zeros or ones."""
    return g.filled(int(step.op == "ones_like"), step.out.dtype, step.out.shape)


# ---- diagonals and windows: elements of a flattened plane, or of an axis, by a table of constants


def _taken_last(g: Graph, x: Any, table: Any) -> str:
    return g.node("Gather", x, g.constant(np.asarray(table, np.int64)), axis=-1)


@emits("diagonal")
def diagonal(g: Graph, step: Step) -> Any:
    """The diagonal of two axes, as the last dimension."""
    x = step.inputs[0]
    a, b = int(step.kw["axis1"]), int(step.kw["axis2"])
    n, m = step.all_static([x.shape[a], x.shape[b]], "a dimension of a diagonal")
    rest = [i for i in range(x.ndim) if i not in (a, b)]
    moved = g.transpose(x, [*rest, a, b])
    lead = tuple(x.shape[i] for i in rest)
    flat = g.reshape(moved, (*lead, n * m), (*lead, n, m))
    return _taken_last(g, flat, np.diagonal(np.arange(n * m).reshape(n, m), int(step.kw["offset"])))


@emits("diag_embed")
def diag_embed(g: Graph, step: Step) -> Any:
    """Zeros with x on the diagonal of two axes: x with a zero at its end, taken by a table."""
    x, shape = step.inputs[0], step.out.shape
    a, b = int(step.kw["axis1"]), int(step.kw["axis2"])
    n, m = step.all_static([shape[a], shape[b]], "a dimension of a diagonal")
    count = step.static(x.shape[-1], "the length of a diagonal")
    table = np.full((n, m), count)
    table[np.arange(n)[:, None] + int(step.kw["offset"]) == np.arange(m)] = np.arange(count)
    lead = x.shape[:-1]
    zero = g.filled(0, x.dtype, (*lead, 1))
    made = _taken_last(g, g.node("Concat", x, zero, axis=-1), table)
    rest = [i for i in range(len(shape)) if i not in (a, b)]
    order = [*rest, a, b]
    return g.transpose(made, [order.index(i) for i in range(len(shape))])


@emits("unfold")
def unfold(g: Graph, step: Step) -> Any:
    """Windows along an axis, as a last dimension."""
    x, axis, size, by = step.inputs[0], int(step.kw["axis"]), int(step.kw["size"]), int(step.kw["step"])
    n: Size = each(lambda extent: (extent - size) // by + 1, x.shape[axis])
    if isinstance(n, Dim):
        starts = g.node("Mul", g.range(n), g.scalar(by, np.int64))
        at: Any = g.node("Add", g.unsqueeze(starts, 1), g.constant(np.arange(size, dtype=np.int64)))
    else:
        at = g.constant(np.arange(n)[:, None] * by + np.arange(size, dtype=np.int64))
    taken = g.node("Gather", x, at, axis=axis)
    order = [i for i in range(x.ndim + 1) if i != axis + 1]
    return g.transpose(taken, [*order, axis + 1])


@emits("as_strided", "as_strided_gather")
def as_strided(g: Graph, step: Step) -> Any:
    """Other sizes and strides: elements by number, which the op itself gives for a tensor of numbers; 0 is none."""
    from ...autograd.op import raw_namespace

    x = step.inputs[0]
    shape = step.all_static((*x.shape, *step.out.shape), "a dimension of as_strided")[: x.ndim]
    numbers = np.arange(1, int(np.prod(shape)) + 1).reshape(shape)
    table = raw_namespace(np.ndarray).as_strided_gather(numbers, **step.kw)
    flat = g.node("Concat", g.constant(np.zeros(1, x.dtype)), g.reshape(x, (numbers.size,)), axis=0)
    return _taken_last(g, flat, table)


# ---- joins


@emits("cat")
def cat(g: Graph, step: Step) -> Any:
    """Joined along an axis; arrays of shape (0,) go with any others."""
    ndim = step.out.ndim
    parts = [x for x in step.inputs if x is not None and (x.ndim == ndim and x.shape != (0,) or ndim == 1)]
    if len(parts) == 1:
        return parts[0]
    return g.node("Concat", *parts, axis=int(step.kw["axis"]))


@emits("stack")
def stack(g: Graph, step: Step) -> Any:
    """Joined along a new axis."""
    axis = int(step.kw["axis"])
    return g.node("Concat", *[g.unsqueeze(x, axis) for x in step.inputs], axis=axis)


@emits("repeat")
def repeat(g: Graph, step: Step) -> Any:
    """Repeated end to end."""
    return g.node("Tile", step.inputs[0], g.vector(step.kw["reps"]))


# ---- copies that reorder


def _reversed(g: Graph, x: Any, axes: Any) -> Any:
    axes = [int(a) for a in axes]
    if not axes:
        return x
    count = len(axes)
    return g.node("Slice", x, g.ints(*[-1] * count), g.ints(*[-FAR] * count), g.ints(*axes), g.ints(*[-1] * count))


@emits("flip")
def flip(g: Graph, step: Step) -> Any:
    """The order reversed along axes."""
    return _reversed(g, step.inputs[0], step.kw["axes"])


@emits("rot90")
def rot90(g: Graph, step: Step) -> Any:
    """Rotated quarter turns in the plane of two axes."""
    x, k, (a, b) = step.inputs[0], int(step.kw["k"]) % 4, step.kw["axes"]
    n = x.ndim
    a, b = int(a) % n, int(b) % n
    if k == 0:
        return x
    if k == 2:
        return _reversed(g, x, (a, b))
    order = list(range(n))
    order[a], order[b] = b, a
    return g.transpose(_reversed(g, x, (b,)), order) if k == 1 else _reversed(g, g.transpose(x, order), (b,))


@emits("roll")
def roll(g: Graph, step: Step) -> Any:
    """Moved around the end along axes."""
    x: Any = step.inputs[0]
    shape = x.shape
    shifts, axes = step.kw["shifts"], step.kw["axes"]
    pairs = zip(shifts, axes, strict=True) if isinstance(axes, tuple) else [(shifts, axes)]
    if axes is None:
        raise step.refuse("it rolls the flattened tensor", "Flatten it yourself and give dims=0")
    for shift, axis in pairs:
        axis = int(axis)
        n = shape[axis]
        if isinstance(shift, Dim) or isinstance(n, Dim):
            shift = each(lambda s, m: s % m, shift, n) if not isinstance(shift, int) or shift > 0 else shift
        elif n:
            shift = shift % n
        if shift == 0:
            continue
        at = g.ints(-shift) if isinstance(shift, int) else g.node("Neg", g.size(shift))
        late = g.node("Slice", x, at, g.ints(FAR), g.ints(axis))
        early = g.node("Slice", x, g.ints(0), at, g.ints(axis))
        x = g.node("Concat", late, early, axis=axis)
    return x


@emits("tril", "triu")
def triangle(g: Graph, step: Step) -> Any:
    """Zeros above or below a diagonal."""
    x, k = step.inputs[0], step.kw["k"]
    as_int = x.dtype.kind not in "fiu" or x.dtype.itemsize < 4
    given = g.cast(x, np.int64) if as_int else x
    made = g.node("Trilu", given, g.number(k), upper=int(step.op == "triu"))
    return g.cast(made, x.dtype, np.int64) if as_int else made


# ---- padding


@emits("pad_constant")
def pad_constant(g: Graph, step: Step) -> Any:
    """One value added along each dimension; negative widths cut off."""
    x, widths = step.inputs[0], step.kw["widths"]
    is_bool = x.dtype == bool
    value = g.scalar(int(step.kw["value"]) if is_bool else step.kw["value"], np.int32 if is_bool else x)
    pads = g.vector([*[w[0] for w in widths], *[w[1] for w in widths]])
    made = g.node("Pad", g.cast(x, np.int32) if is_bool else x, pads, value)
    return g.cast(made, bool, np.int32) if is_bool else made


@emits("pad_edge")
def pad_edge(g: Graph, step: Step) -> Any:
    """Continued beyond the edges."""
    x: Any = step.inputs[0]
    how, widths = step.kw["how"], step.kw["widths"]
    if how != "circular":
        pads = g.vector([*[w[0] for w in widths], *[w[1] for w in widths]])
        return g.node("Pad", x, pads, mode={"reflect": "reflect", "replicate": "edge"}[how])
    for axis, (before, after) in enumerate(widths):
        before, after = step.all_static([before, after], "a width of circular padding")
        if before or after:
            parts = [g.slice(x, axis, -before, FAR)] if before else []
            parts.append(x)
            parts += [g.slice(x, axis, 0, after)] if after else []
            x = g.node("Concat", *parts, axis=axis)
    return x


@emits("pixel_unshuffle")
def pixel_unshuffle(g: Graph, step: Step) -> Any:
    """Blocks of space made channels."""
    x, r = step.inputs[0], int(step.kw["factor"])
    *lead, c, h, w = x.shape
    high, wide = each(lambda n: n // r, h), each(lambda n: n // r, w)
    k = len(lead)
    made = g.reshape(x, (*lead, c, high, r, wide, r))
    made = g.transpose(made, [*range(k), k, k + 2, k + 4, k + 1, k + 3])
    return g.reshape(made, step.out.shape, (*lead, c, r, r, high, wide))


@emits("pixel_shuffle")
def pixel_shuffle(g: Graph, step: Step) -> Any:
    """Channels made blocks of space."""
    x, r = step.inputs[0], int(step.kw["factor"])
    *lead, c, h, w = x.shape
    if len(lead) == 1:
        return g.node("DepthToSpace", x, blocksize=r, mode="CRD")
    k, channels = len(lead), each(lambda n: n // (r * r), c)
    made = g.reshape(x, (*lead, channels, r, r, h, w))
    made = g.transpose(made, [*range(k), k, k + 3, k + 1, k + 4, k + 2])
    return g.reshape(made, step.out.shape, (*lead, channels, h, r, w, r))


@emits("channel_shuffle")
def channel_shuffle(g: Graph, step: Step) -> Any:
    """Channels of groups interleaved."""
    x, groups = step.inputs[0], int(step.kw["groups"])
    n, c, *rest = x.shape
    per = each(lambda m: m // groups, c)
    made = g.reshape(x, (n, groups, per, *rest))
    made = g.transpose(made, [0, 2, 1, *range(3, 3 + len(rest))])
    return g.reshape(made, step.out.shape, (n, per, groups, *rest))


# ---- writes through views


@emits("numbers_of")
def numbers_of(g: Graph, step: Step) -> Any:
    """0, 1, ... in the shape of x."""
    total = product(step.out.shape)
    return g.reshape(g.range(total), step.out.shape, (total,))


@emits("write_at")
def write_at(g: Graph, step: Step) -> Any:
    """base with the elements of those row-major numbers replaced."""
    base, at, value = step.inputs
    flat = g.reshape(base, (product(base.shape),))
    places = g.reshape(at, (product(at.shape),))
    new = g.expand(value, at.shape)
    new = g.reshape(new, (product(at.shape),), at.shape)
    made = g.node("ScatterElements", flat, places, new, axis=0)
    return g.reshape(made, step.out.shape, (product(base.shape),))


def write_chain(g: Graph, step: Step, base: Item, value: Item) -> Any:
    """base with the part that a chain of basic views shows replaced by value."""
    total = product(base.shape)
    at = Item(g.reshape(g.range(total), base.shape, (total,)), base.shape, np.dtype(np.int64))
    from .table import TABLE

    for op, kw in step.kw["chain"]:
        if op not in TABLE:
            raise step.refuse(f"it writes through the view '{op}'")
        own = _plain_chain(kw, at.shape)
        shape = value.shape if op == step.kw["chain"][-1][0] else at.shape
        made = TABLE[op](g, Step(op, (at,), own, (Item("", shape, at.dtype),), step.where, step.module))
        at = Item(made if isinstance(made, str) else made.name, shape, at.dtype)
    return write_at(g, Step("write_at", (base, at, value), {}, step.outputs, step.where, step.module))


def _plain_chain(kw: dict[str, Any], shape: tuple[Size, ...]) -> dict[str, Any]:
    """A view's keywords with its index as traces have it: numbers in place of what a slice leaves open."""
    if not isinstance(kw.get("index"), tuple):
        return kw
    items = list(kw["index"])
    place = next((i for i, item in enumerate(items) if item is Ellipsis), None)
    if place is not None:
        left = len(shape) - sum(item is not None and item is not Ellipsis for item in items)
        items[place : place + 1] = [slice(None)] * left
    found: list[Any] = []
    axis = 0
    for item in items:
        if isinstance(item, slice):
            start = 0 if item.start is None else item.start
            item = slice(start, shape[axis] if item.stop is None else item.stop, 1 if item.step is None else item.step)
        axis += item is not None
        found.append(item)
    return {**kw, "index": tuple(found)}


@emits("select_scatter", "slice_scatter", "diagonal_scatter", "copy_slices")
def scatter_view(g: Graph, step: Step) -> Any:
    """A copy of base in which a view is replaced."""
    base, value = step.inputs
    if len(step.kw["chain"]) != 1:
        raise step.refuse("it writes through several views at once")
    return write_chain(g, step, base, value)
