"""Sums, means, moments, extremes and norms over axes; running sums; products of matrices."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .graph import FAR, Graph, Item, Step
from .sizes import Dim, Size, product
from .table import emits

INT = np.dtype(np.int64)


def _axes(step: Step, x: Item) -> tuple[list[int] | None, bool]:
    """(axes, None for all; whether they are kept)."""
    axis = step.kw.get("axis")
    if axis is not None:
        axis = [int(a) for a in axis] if isinstance(axis, (tuple, list)) else [int(axis)]
    if not x.ndim:
        axis = None
    return axis, bool(step.kw.get("keepdims", False))


SIMPLE = {
    "sum": "ReduceSum", "sum_all": "ReduceSum", "mean": "ReduceMean", "mean_all": "ReduceMean", "prod": "ReduceProd",
    "prod_all": "ReduceProd", "max_all": "ReduceMax", "min_all": "ReduceMin", "amax": "ReduceMax", "amin": "ReduceMin",
    "logsumexp": "ReduceLogSumExp",
}  # fmt: skip


@emits(*SIMPLE)
def simple(g: Graph, step: Step) -> Any:
    """One reduction."""
    x = step.inputs[0]
    axes, keep = _axes(step, x)
    extreme = step.op in ("amax", "amin", "max_all", "min_all")
    work = INT if extreme and x.dtype == bool else step.out.dtype
    given = g.cast(x, work)
    if axes == []:
        return given
    made = g.reduce(SIMPLE[step.op], given, axes, keep)
    return g.cast(made, step.out.dtype, work)


@emits("nansum")
def nansum(g: Graph, step: Step) -> Any:
    """The sum with NaN counted as 0."""
    x = step.inputs[0]
    axes, keep = _axes(step, x)
    given: Any = g.cast(x, step.out.dtype)
    if x.dtype.kind == "f":
        given = g.node("Where", g.node("IsNaN", x), g.scalar(0, x), x)
    return given if axes == [] else g.reduce("ReduceSum", given, axes, keep)


@emits("not_nan")
def not_nan(g: Graph, step: Step) -> Any:
    """1 where x is a number."""
    return g.cast(g.node("Not", g.node("IsNaN", step.inputs[0])), step.out.dtype, np.bool_)


@emits("any", "all", "count_nonzero")
def of_truth(g: Graph, step: Step) -> Any:
    """Whether some or all elements are not 0; how many."""
    x = step.inputs[0]
    axes, keep = _axes(step, x)
    true = g.cast(g.cast(x, np.bool_), np.int64, np.bool_)
    if axes == []:
        return g.cast(true, step.out.dtype, INT)
    kind = {"any": "ReduceMax", "all": "ReduceMin", "count_nonzero": "ReduceSum"}[step.op]
    return g.cast(g.reduce(kind, true, axes, keep), step.out.dtype, INT)


def _count(g: Graph, sizes: list[Size], minus: float, like: Any) -> str:
    """max(the product of sizes - minus, 0) as a number of the dtype of `like`."""
    total = product(sizes)
    if not isinstance(total, Dim):
        return g.scalar(max(total - minus, 0), like)
    made = g.cast(g.number(total), like.dtype, INT)
    return g.node("Max", g.node("Sub", made, g.scalar(minus, like)), g.scalar(0, like))


@emits("var", "std", "var_mean", "std_mean")
def moments(g: Graph, step: Step) -> Any:
    """Variance or standard deviation over axes, and the mean."""
    x = step.inputs[0]
    axes, keep = _axes(step, x)
    over = list(range(x.ndim)) if axes is None else axes
    mean = g.reduce("ReduceMean", x, over, True) if over else x
    apart = g.node("Sub", x, mean)
    squares: Any = g.node("Mul", apart, apart)
    squares = g.reduce("ReduceSum", squares, over, keep) if over else squares
    count = _count(g, [x.shape[a] for a in over], float(step.kw["correction"]), x)
    made = g.node("Div", squares, count)
    made = g.node("Sqrt", made) if step.op.startswith("std") else made
    if not step.op.endswith("_mean"):
        return made
    return made, mean if keep or not over else g.squeeze(mean, *over)


@emits("aminmax", "max_dim", "min_dim", "argmax", "argmin")
def extremes(g: Graph, step: Step) -> Any:
    """Extremes over axes, and where they are."""
    x = step.inputs[0]
    axes, keep = _axes(step, x)
    given: Any = x
    if x.dtype == bool or x.dtype.kind == "u":
        given = g.cast(x, np.int32)
    if step.op == "aminmax":
        return tuple(
            g.cast(g.reduce(kind, given, axes, keep), x.dtype, np.int32 if given is not x else x.dtype)
            for kind in ("ReduceMin", "ReduceMax")
        )
    if not x.ndim:
        zero = g.constant(np.array(0, np.int64))
        return zero if step.op.startswith("arg") else (x, zero)
    which = "max" if "max" in step.op else "min"
    if axes is None:
        given, axes = g.reshape(given, (product(x.shape),), x.shape), [0]
        place = g.node(f"Arg{which.capitalize()}", given, axis=0, keepdims=0)
        return g.reshape(place, step.out.shape) if step.out.shape else place
    place = g.node(f"Arg{which.capitalize()}", given, axis=axes[0], keepdims=int(keep))
    if step.op.startswith("arg"):
        return place
    value = g.reduce(f"Reduce{which.capitalize()}", given, axes, keep)
    return g.cast(value, x.dtype, np.int32 if given is not x else x.dtype), place


@emits("vector_norm")
def vector_norm(g: Graph, step: Step) -> Any:
    """(sum |x|**p)**(1/p)."""
    x, p = step.inputs[0], float(step.kw["p"])
    axes, keep = _axes(step, x)
    if axes == []:
        axes = None if not x.ndim else axes
    if p in (1.0, 2.0) and axes != []:
        return g.reduce("ReduceL1" if p == 1.0 else "ReduceL2", x, axes, keep)
    size = g.node("Abs", x)
    if axes == [] and p != 0.0:
        return size
    if math.isinf(p):
        return g.reduce("ReduceMax" if p > 0 else "ReduceMin", size, axes, keep)
    if p == 0.0:
        found = g.cast(g.node("Not", g.node("Equal", x, g.scalar(0, x))), x.dtype, np.bool_)
        return found if axes == [] else g.reduce("ReduceSum", found, axes, keep)
    total = g.reduce("ReduceSum", g.node("Pow", size, g.scalar(p, x)), axes, keep)
    return g.node("Pow", total, g.scalar(1 / p, x))


@emits("cumsum")
def cumsum(g: Graph, step: Step) -> Any:
    """The running sum along an axis."""
    x = g.cast(step.inputs[0], step.out.dtype)
    if not step.out.ndim:
        return x
    return g.node("CumSum", x, g.scalar(step.kw["axis"], np.int64), reverse=int(bool(step.kw.get("reverse"))))


@emits("logcumsumexp")
def logcumsumexp(g: Graph, step: Step) -> Any:
    """The logarithm of the running sum of exponentials, off the largest along the axis."""
    x = step.inputs[0]
    if not x.ndim:
        return x
    axis = int(step.kw["axis"])
    top = g.reduce("ReduceMax", x, [axis], True)
    total = g.node("CumSum", g.node("Exp", g.node("Sub", x, top)), g.scalar(axis, np.int64))
    return g.node("Add", g.node("Log", total), top)


@emits("cummax", "cummin")
def cumulative_extreme(g: Graph, step: Step) -> Any:
    """The running extreme and where it is: each place compared with all before it."""
    x = step.inputs[0]
    if not x.ndim:
        return x, g.constant(np.array(0, np.int64))
    axis, n = int(step.kw["axis"]), x.ndim
    order = [i for i in range(n) if i != axis] + [axis]
    moved = g.transpose(x, order)
    size = x.shape[axis]
    places = g.range(size)
    hidden = g.node("Greater", places, g.unsqueeze(places, 1))
    high = step.op == "cummax"
    worst = (-np.inf if high else np.inf) if x.dtype.kind == "f" else (
        np.iinfo(x.dtype).min if high else np.iinfo(x.dtype).max
    )
    rows = g.node("Where", hidden, g.scalar(worst, x), g.unsqueeze(moved, n - 1))
    index = g.node("ArgMax" if high else "ArgMin", rows, axis=-1, keepdims=0, select_last_index=1)
    value = g.reduce("ReduceMax" if high else "ReduceMin", rows, [-1], False)
    back = [order.index(i) for i in range(n)]
    return g.transpose(value, back), g.transpose(index, back)


@emits("cumprod")
def cumprod(g: Graph, step: Step) -> Any:
    """The running product: each place's product of all before it."""
    x: Any = g.cast(step.inputs[0], step.out.dtype)
    shape, axis, n = step.out.shape, int(step.kw["axis"]), step.out.ndim
    if not n:
        return x
    order = [i for i in range(n) if i != axis] + [axis]
    places = g.range(shape[axis])
    hidden = g.node("Less" if step.kw.get("reverse") else "Greater", places, g.unsqueeze(places, 1))
    rows = g.node("Where", hidden, g.scalar(1, step.out), g.unsqueeze(g.transpose(x, order), n - 1))
    return g.transpose(g.reduce("ReduceProd", rows, [-1], False), [order.index(i) for i in range(n)])


@emits("shift")
def shift(g: Graph, step: Step) -> Any:
    """Moved by one place along an axis."""
    x, axis, fill = step.inputs[0], int(step.kw["axis"]), step.kw.get("fill", 0)
    if not x.ndim:
        return g.scalar(fill, x)
    shape: list[Size] = list(x.shape)
    shape[axis] = 1
    free = g.filled(fill, x.dtype, shape)
    if int(step.kw["by"]) > 0:
        return g.node("Concat", free, g.slice(x, axis, 0, -1), axis=axis)
    return g.node("Concat", g.slice(x, axis, 1, FAR), free, axis=axis)


# ---- matrices


@emits("mm", "bmm", "dot")
def matmul(g: Graph, step: Step) -> Any:
    """The product of matrices."""
    return g.node("MatMul", *step.inputs)


@emits("linear")
def linear(g: Graph, step: Step) -> Any:
    """x w^T + b."""
    x, w, b = (*step.inputs, None)[:3]
    if x.ndim == 2 and w.ndim == 2 and (b is None or b.ndim == 1):
        return g.node("Gemm", x, w, b, transB=1)
    made = g.node("MatMul", x, g.transpose(w, [1, 0]) if w.ndim == 2 else w)
    return made if b is None else g.node("Add", made, b)


@emits("trace")
def trace(g: Graph, step: Step) -> Any:
    """The sum of the diagonal."""
    x = step.inputs[0]
    rows, columns = g.range(x.shape[-2]), g.range(x.shape[-1])
    on = g.node("Equal", g.unsqueeze(rows, 1), columns)
    kept = g.node("Where", on, g.cast(x, step.out.dtype), g.scalar(0, step.out))
    return g.reduce("ReduceSum", kept, [-2, -1], False)


@emits("cross")
def cross(g: Graph, step: Step) -> Any:
    """The vector product along an axis of size 3."""
    x, y = step.inputs
    axis = int(step.kw["axis"])

    def turned(a: Any, by: int) -> str:
        return g.node("Gather", a, g.constant((np.arange(3) + by) % 3), axis=axis)

    one = g.node("Mul", turned(x, 1), turned(y, 2))
    return g.node("Sub", one, g.node("Mul", turned(x, 2), turned(y, 1)))


@emits("euclidean_distances")
def distances(g: Graph, step: Step) -> Any:
    """Distances between the rows of two matrices. x: (*B, N, D), y: (*B, M, D) -> (*B, N, M)."""
    x, y = step.inputs
    apart = g.node("Sub", g.unsqueeze(x, -2), g.unsqueeze(y, -3))
    return g.reduce("ReduceL2", apart, [-1], False)
