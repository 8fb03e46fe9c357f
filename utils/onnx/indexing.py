"""Reading and writing by index arrays and masks; sorting."""

from __future__ import annotations

from typing import Any

import numpy as np

from .graph import FAR, Graph, Item, Step
from .sizes import Size, each, product, same
from .table import emits

INT = np.dtype(np.int64)


def _spread(g: Graph, indices: list[Item]) -> list[Any]:
    """Index arrays broadcast together."""
    if len(indices) == 1:
        return [indices[0].name]
    total: Any = None
    for index in indices:
        zero = g.node("Mul", g.cast(index, INT), g.scalar(0, INT))
        total = zero if total is None else g.node("Add", total, zero)
    return [g.node("Add", g.cast(i, INT), total) for i in indices]


def _places(step: Step) -> list[int]:
    return [int(p) for p in step.kw["places"]]


def _first(places: list[int]) -> int:
    """Where the broadcast shape of the indices stands in the result."""
    return places[0] if places == list(range(places[0], places[-1] + 1)) else 0


def _moved(x: Item, places: list[int]) -> list[int]:
    """The order with the indexed dimensions first."""
    return [*places, *[d for d in range(x.ndim) if d not in places]]


@emits("index")
def index(g: Graph, step: Step) -> Any:
    """x[i, :, j]."""
    x, *indices = step.inputs
    places = _places(step)
    if len(places) == 1:
        return g.node("Gather", x, g.cast(indices[0], INT), axis=places[0])
    stacked = g.node("Concat", *[g.unsqueeze(i, -1) for i in _spread(g, indices)], axis=-1)
    made = g.node("GatherND", g.transpose(x, _moved(x, places)), stacked)
    return _back(g, made, max(i.ndim for i in indices), _first(places), step.out.ndim)


def _back(g: Graph, made: Any, wide: int, first: int, ndim: int) -> Any:
    """The first `wide` dimensions moved behind `first` others."""
    rest = list(range(wide, ndim))
    return g.transpose(made, [*rest[:first], *range(wide), *rest[first:]])


@emits("index_put", "index_zero")
def index_put(g: Graph, step: Step) -> Any:
    """x with x[indices] replaced, or added to."""
    x: Any = step.inputs[0]
    indices: Any = step.inputs[1:] if step.op == "index_zero" else step.inputs[2:]
    places = _places(step)
    order, first = _moved(x, places), _first(places)
    shapes = _broadcast([i.shape for i in indices])
    rest = [x.shape[d] for d in order[len(places) :]]
    result: list[Size] = [*rest[:first], *shapes, *rest[first:]]
    stacked = g.node("Concat", *[g.unsqueeze(i, -1) for i in _spread(g, indices)], axis=-1)
    if step.op == "index_zero":
        value: Any = g.filled(0, x.dtype, [*shapes, *rest])
    else:
        wide = len(shapes)
        value = g.expand(step.inputs[1], result)
        moved = [*range(first, first + wide), *[d for d in range(len(result)) if not first <= d < first + wide]]
        value = g.transpose(value, moved)
    how: Any = {"reduction": "add"} if step.kw.get("accumulate") else {}
    made = g.node("ScatterND", g.transpose(x, order), stacked, value, **how)
    return g.transpose(made, [order.index(d) for d in range(x.ndim)])


def _broadcast(shapes: list[tuple[Size, ...]]) -> list[Size]:
    out: list[Size] = [1] * max(len(s) for s in shapes)
    for shape in shapes:
        for i, n in enumerate(shape, len(out) - len(shape)):
            if not same(n, 1):
                out[i] = n
    return out


@emits("index_select")
def index_select(g: Graph, step: Step) -> Any:
    """The slices that a vector names."""
    return g.node("Gather", step.inputs[0], step.inputs[1], axis=int(step.kw["axis"]))


@emits("embedding", "embedding_unpadded", "embedding_by_frequency")
def embedding(g: Graph, step: Step) -> Any:
    """Rows of w."""
    w, i = step.inputs
    made = g.node("Gather", w, i, axis=0)
    if step.op != "embedding_unpadded" or step.kw["padding"] < 0:
        return made
    hidden = g.unsqueeze(g.node("Equal", i, g.scalar(step.kw["padding"], i)), -1)
    return g.node("Where", hidden, g.scalar(0, w), made)


@emits("gather")
def gather(g: Graph, step: Step) -> Any:
    """Elements by index along an axis."""
    x, i = step.inputs
    if not x.ndim:
        return g.reshape(g.node("Gather", g.unsqueeze(x, 0), i, axis=0), step.out.shape)
    return g.node("GatherElements", x, i, axis=int(step.kw["axis"]))


@emits("gather_backward")
def gather_backward(g: Graph, step: Step) -> Any:
    """Zeros with values added at the places that an index names."""
    zeros = g.filled(0, step.out.dtype, step.out.shape)
    return g.node("ScatterElements", zeros, step.inputs[1], step.inputs[0], axis=int(step.kw["axis"]), reduction="add")


@emits("scatter", "scatter_fill", "scatter_add")
def scatter(g: Graph, step: Step) -> Any:
    """x with elements replaced, or added to, at the places that an index names."""
    x, i = step.inputs[:2]
    if step.op == "scatter_fill":
        src: Any = g.filled(step.kw["value"], x.dtype, i.shape)
    else:
        src = step.inputs[2]
    how: Any = {"reduction": "add"} if step.op == "scatter_add" else {}
    return g.node("ScatterElements", x, i, src, axis=int(step.kw["axis"]), **how)


REDUCTIONS = {"sum": "add", "mean": "add", "prod": "mul", "amax": "max", "amin": "min"}
STARTS = {"sum": 0.0, "mean": 0.0, "prod": 1.0, "amax": -np.inf, "amin": np.inf}


@emits("scatter_reduce")
def scatter_reduce(g: Graph, step: Step) -> Any:
    """x with values combined at the places that an index names."""
    x, i, src = step.inputs
    axis, how = int(step.kw["axis"]), step.kw["reduce"]
    base: Any = x
    if not step.kw["include_self"]:
        start = STARTS[how]
        if np.isinf(start) and x.dtype.kind in "iu":
            info = np.iinfo(x.dtype)
            start = info.min if start < 0 else info.max
        fill = g.filled(start, x.dtype, i.shape)
        base = g.node("ScatterElements", x, i, fill, axis=axis)
    made = g.node("ScatterElements", base, i, src, axis=axis, reduction=REDUCTIONS[how])
    if how != "mean":
        return made
    if x.dtype.kind != "f":
        raise step.refuse("the mean of integers is rounded")
    return g.node("Div", made, _met(g, x, i, axis, step.kw["include_self"]))


def _met(g: Graph, x: Item, i: Item, axis: int, include_self: bool) -> str:
    """How many values meet at each element, at least 1."""
    ones = g.filled(1, x.dtype, i.shape)
    start = g.filled(int(include_self), x.dtype, x.shape)
    made = g.node("ScatterElements", start, i, ones, axis=axis, reduction="add")
    return g.node("Max", made, g.scalar(1, x))


@emits("scatter_count")
def scatter_count(g: Graph, step: Step) -> Any:
    """How many values meet at each element."""
    x, i = step.inputs
    return _met(g, x, i, int(step.kw["axis"]), step.kw["include_self"])


@emits("index_add", "index_copy", "index_fill", "index_fill_tensor")
def index_write(g: Graph, step: Step) -> Any:
    """x with slices added, replaced or filled where a vector says."""
    x, i, *more = step.inputs
    axis = int(step.kw["axis"])
    shape: list[Size] = list(x.shape)
    if not shape:
        return more[0] if more else g.scalar(step.kw["value"], x)
    shape[axis] = i.shape[0] if i.ndim else 1
    own: list[Size] = [1] * len(shape)
    own[axis] = shape[axis]
    places = g.reshape(g.cast(i, INT), own, i.shape)
    if step.op == "index_fill":
        src: Any = g.filled(step.kw["value"], x.dtype, shape)
    else:
        src = g.expand(more[0], shape)
    if step.op in ("index_fill", "index_fill_tensor"):  # negative numbers are allowed
        places = g.node("Where", g.node("Less", places, g.scalar(0, INT)),
                        g.node("Add", places, g.number(x.shape[axis])), places)  # fmt: skip
    how: Any = {"reduction": "add"} if step.op == "index_add" else {}
    return g.node("ScatterElements", x, g.expand(places, shape, tuple(own)), src, axis=axis, **how)


@emits("take")
def take(g: Graph, step: Step) -> Any:
    """Elements by row-major number."""
    x = step.inputs[0]
    flat = g.reshape(x, (product(x.shape),))
    return g.node("Gather", flat, step.inputs[1], axis=0)


@emits("put")
def put(g: Graph, step: Step) -> Any:
    """x with elements replaced, or added to, at row-major numbers."""
    x, i, src = step.inputs
    total = product(x.shape)
    flat = [g.reshape(a, (product(a.shape),)) for a in (i, src)]
    how: Any = {"reduction": "add"} if step.kw["accumulate"] else {}
    made = g.node("ScatterElements", g.reshape(x, (total,)), *flat, axis=0, **how)
    return g.reshape(made, step.out.shape, (total,))


@emits("masked_fill", "masked_fill_tensor")
def masked_fill(g: Graph, step: Step) -> Any:
    """x with one number where the mask is true."""
    x, mask, *value = step.inputs
    return g.node("Where", mask, value[0] if value else g.scalar(step.kw["value"], x), x)


@emits("masked_scatter")
def masked_scatter(g: Graph, step: Step) -> Any:
    """x with the first elements of src, in order, where the mask is true: element n takes src[how many before]."""
    x, mask, src = step.inputs
    total = product(x.shape)
    flat = g.reshape(g.cast(mask, INT), (total,), mask.shape)
    before = g.node("CumSum", flat, g.scalar(0, np.int64), exclusive=1)
    last = g.number(product(src.shape))
    before = g.node("Min", before, g.node("Sub", last, g.scalar(1, INT)))
    taken = g.node("Gather", g.reshape(src, (product(src.shape),)), before, axis=0)
    return g.node("Where", mask, g.reshape(taken, x.shape, (total,)), x)


@emits("nonzero", "masked_select", "unique_values")
def by_value(g: Graph, step: Step) -> Any:
    """Refused: later shapes would depend on values."""
    raise step.refuse(
        "how many elements it gives depends on values, so that later shapes cannot be known",
        "Use torch.where(mask, x, y), masked_fill, topk with a fixed k, or multiply by the mask",
    )


@emits("one_hot")
def one_hot(g: Graph, step: Step) -> Any:
    """1 at each class number."""
    i = step.inputs[0]
    classes = g.range(step.kw["classes"])
    return g.cast(g.node("Equal", g.unsqueeze(g.cast(i, INT), -1), classes), INT, np.bool_)


@emits("searchsorted")
def searchsorted(g: Graph, step: Step) -> Any:
    """How many edges lie before each x."""
    edges, x = step.inputs
    row = edges if edges.ndim == 1 else g.unsqueeze(edges, -2)
    before = g.node("LessOrEqual" if step.kw["right"] else "Less", row, g.unsqueeze(x, -1))
    return g.reduce("ReduceSum", g.cast(before, INT, np.bool_), [-1], False)


# ---- order


def _topk(g: Graph, x: Any, k: Size, axis: int, largest: bool) -> tuple[str, str]:
    return g.node("TopK", x, g.vector([k]), axis=axis, largest=int(largest), sorted=1, outputs=2)


def _sortable(g: Graph, step: Step) -> tuple[Any, Any]:
    """(x in a dtype that TopK has, what brings values back)."""
    x = step.inputs[0]
    if x.dtype.kind == "f" and x.dtype.itemsize > 2 or x.dtype == INT:
        return x, lambda name: name
    work = np.dtype(np.float32) if x.dtype.kind == "f" else INT
    return g.cast(x, work), lambda name: g.cast(name, x.dtype, work)


@emits("sort", "topk")
def sort(g: Graph, step: Step) -> Any:
    """Values in order along an axis, and where they were."""
    x = step.inputs[0]
    if not x.ndim:
        return x, g.constant(np.array(0, np.int64))
    axis = int(step.kw["axis"])
    work, back = _sortable(g, step)
    descending = step.kw["largest"] if step.op == "topk" else step.kw["descending"]
    k = step.kw["k"] if step.op == "topk" else x.shape[axis]
    values, indices = _topk(g, work, k, axis, descending)
    return back(values), indices


@emits("kthvalue", "median_dim", "median_all")
def kthvalue(g: Graph, step: Step) -> Any:
    """The k-th smallest value along an axis, and where it was."""
    x = step.inputs[0]
    work, back = _sortable(g, step)
    if step.op == "median_all":
        n: Size = product(x.shape)
        work, axis, keep = g.reshape(work, (n,), x.shape), 0, False
    else:
        if not x.ndim:
            return x, g.constant(np.array(0, np.int64))
        axis, keep = int(step.kw["axis"]), bool(step.kw["keepdims"])
        n = x.shape[axis]
    k = step.kw["k"] if step.op == "kthvalue" else each(lambda m: (m + 1) // 2, n)
    found = [g.slice(part, axis, -1, FAR) for part in _topk(g, work, k, axis, False)]
    if not keep:
        found = [g.squeeze(part, axis) for part in found]
    return back(found[0]) if step.op == "median_all" else (back(found[0]), found[1])
