"""Constants of a trace that depend on sizes: what `arange(n)`, `zeros(n, m)` or `eye(n)` made, found from examples.

A constant that is the same in every trace is written as it is. One that differs is recognised as one of a few forms
(one number everywhere; a start and steps along the dimensions; one number on and above a diagonal, another below;
a number that is a size, or a power of one), each checked against every trace element by element.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .graph import Graph, Item
from .sizes import Dim, Size, joined


def constant(g: Graph, item: Item, arrays: list[Any]) -> str | None:
    """The name of a value that gives these arrays in the traces; None where no form fits."""
    for form in (_number, _even, _steps, _diagonal):
        found = form(g, item, arrays)
        if found is not None:
            return found
    return None


def _number(g: Graph, item: Item, arrays: list[Any]) -> str | None:
    """One number per trace, everywhere: a size, or a constant times a power of one."""
    if not all(a.size and (a == a.reshape(-1)[0]).all() for a in arrays):
        return None
    numbers = [a.reshape(-1)[0].item() for a in arrays]
    if all(n == numbers[0] for n in numbers):
        return None
    kind = item.dtype.kind
    if kind in "iuf" and all(float(n).is_integer() for n in numbers):
        size = Dim(int(n) for n in numbers)
        if g.sizes.expression(size) is not None:
            return _shaped(g, g.cast(g.number(size), item.dtype, np.int64), item)
    if kind != "f":
        return None
    for dim in g.sizes.dims:
        for power in (-1.0, 0.5, -0.5, 1.0):
            factors = [n / d**power if d else 0.0 for n, d in zip(numbers, dim, strict=True)]
            if factors[0] and len(set(dim)) > 2 and np.allclose(factors, factors[0], rtol=1e-6, atol=0):
                wide = g.cast(g.number(dim), np.float64, np.int64)
                wide = g.node("Pow", wide, g.scalar(power, np.float64))
                made = g.node("Mul", wide, g.scalar(factors[0], np.float64))
                return _shaped(g, g.cast(made, item.dtype, np.float64), item)
    return None


def _shaped(g: Graph, name: str, item: Item) -> str:
    return g.expand(name, item.shape, ()) if item.shape else name


def _even(g: Graph, item: Item, arrays: list[Any]) -> str | None:
    """The same number everywhere, in another shape."""
    present = [a for a in arrays if a.size]
    if not present:
        return g.filled(0, item.dtype, item.shape)
    number = present[0].reshape(-1)[0]
    equal = (a != a if number != number else a == number for a in present)
    return g.filled(number, item.dtype, item.shape) if all(e.all() for e in equal) else None


def _steps(g: Graph, item: Item, arrays: list[Any]) -> str | None:
    """start + sum of step[d] * place[d]; the start may be a size."""
    if item.dtype.kind not in "iuf" or not all(a.size for a in arrays):
        return None
    starts = [a[(0,) * a.ndim].item() for a in arrays]
    steps: list[float] = []
    for axis in range(item.ndim):
        found = {
            a[(0,) * axis + (1,) + (0,) * (a.ndim - axis - 1)].item() - a[(0,) * a.ndim].item()
            for a in arrays
            if a.shape[axis] > 1
        }
        if len(found) > 1:
            return None
        steps.append(found.pop() if found else 0)
    for array, start in zip(arrays, starts, strict=True):
        wanted = np.asarray(start, np.float64)
        for axis, step in enumerate(steps):
            wanted = wanted + step * np.arange(array.shape[axis]).reshape(-1, *[1] * (array.ndim - axis - 1))
        if not np.array_equal(np.broadcast_to(wanted, array.shape).astype(array.dtype), array):
            return None
    if not all(float(n).is_integer() for n in (*starts, *steps)):
        return _emit_steps(g, item, starts, steps, np.float64) if all(n == starts[0] for n in starts) else None
    return _emit_steps(g, item, starts, steps, np.int64)


def _emit_steps(g: Graph, item: Item, starts: list[Any], steps: list[float], dtype: Any) -> str | None:
    start: Size | float = joined(starts) if dtype is np.int64 else starts[0]
    if isinstance(start, Dim):
        if g.sizes.expression(start) is None:
            return None
        total = g.number(start)
    else:
        total = g.scalar(start, dtype)
    own: list[Size] = [1] * item.ndim
    for axis, step in enumerate(steps):
        if not step:
            continue
        part = g.cast(g.range(item.shape[axis]), dtype, np.int64)
        if axis < item.ndim - 1:
            part = g.unsqueeze(part, *range(1, item.ndim - axis))
        part = part if step == 1 else g.node("Mul", part, g.scalar(step, dtype))
        total = part if total == g.scalar(0, dtype) else g.node("Add", total, part)
        own[axis] = item.shape[axis]
    own = own[next((i for i, s in enumerate(steps) if s), item.ndim) :]
    return g.expand(g.cast(total, item.dtype, dtype), item.shape, tuple(own))


def _diagonal(g: Graph, item: Item, arrays: list[Any]) -> str | None:
    """One number where column - row >= k (or == k) in the last two dimensions, another elsewhere."""
    if item.ndim < 2 or any(min(a.shape[-2:]) < 2 for a in arrays):
        return None
    if not all((a == a.reshape(-1, *a.shape[-2:])[0]).all() for a in arrays):
        return None
    planes = [a.reshape(-1, *a.shape[-2:])[0] for a in arrays]
    values = sorted({v.item() for p in planes for v in np.unique(p)})
    if len(values) != 2:
        return None
    largest = max(planes, key=lambda p: p.size)
    for high, low in (values, values[::-1]):
        for k in range(-largest.shape[0] + 1, largest.shape[1]):
            for kind, compare in (("GreaterOrEqual", np.greater_equal), ("Equal", np.equal)):
                if all(
                    np.array_equal(np.where(compare(_places(p), k), high, low).astype(p.dtype), p) for p in planes
                ):
                    rows, columns = g.range(item.shape[-2]), g.range(item.shape[-1])
                    apart = g.node("Sub", columns, g.unsqueeze(rows, 1))
                    where = g.node(kind, apart, g.scalar(k, np.int64))
                    made = g.node("Where", where, g.scalar(high, item), g.scalar(low, item))
                    return g.expand(made, item.shape, item.shape[-2:])
    return None


def _places(plane: Any) -> Any:
    return np.arange(plane.shape[1]) - np.arange(plane.shape[0])[:, None]
