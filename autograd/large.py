"""The gradients of sums, products and their like for large arrays of the host, where memory decides the time.

The rules are those of the ops (`g * y` and so on). Here the backend's kernels compute them, which share the work among
threads, and the output's gradient, where nobody else refers to it any more, becomes the memory of an input's: a new
array would be read before it is written, and push others out of the cache.
"""

from __future__ import annotations

from typing import Any

from ..backends.base import refcount
from .coerce import S32, S64, np
from .dtypes import F32, F64
from .graph import OWNED

LARGE = 1 << 17  # elements of the output's gradient from which this is asked


def large_vjp(told: tuple[Any, Any], n: Any, g: Any, F: Any, grads: dict[Any, Any]) -> None:
    """What the op's vjp function does. told: the op and, for each edge, (input's place, rule, the slots it reads)."""
    op, steps = told
    spare = refcount(g) == _ALONE and F.backend.may_keep(g) and g.flags.writeable
    saved = n.saved
    if saved is None and op.saves_arrays:
        from .codegen import raise_freed

        raise_freed(n)
    shapes = saved[-1] if op.broadcasts else None
    wanted = [(edge, step) for edge, step in zip(n.edges, steps, strict=True) if edge in grads]
    if len(wanted) == 2 and wanted[0][0] is wanted[1][0] and op.name == "mul" and saved[0] is saved[1]:
        r = _applied(F, "g *", g, saved, spare)
        _added(F, F.add(r, r, out=r), wanted[0][0], grads, True)  # g * x + g * x
        return
    for i, (edge, (place, rule, slots)) in enumerate(wanted):
        mine = spare and i == len(wanted) - 1
        r = _applied(F, rule, g, [saved[slot] for slot in slots], mine)
        own = rule.__class__ is str and (r is not g or mine)
        if shapes is not None and r.shape != shapes[place]:
            r, own = F.sum_to(r, shape=shapes[place]), False
        _added(F, r, edge, grads, own)
        spare = spare and grads[edge] is not g


def _applied(F: Any, rule: Any, g: Any, values: Any, spare: bool) -> Any:
    """The rule's result; spare: g may be written over."""
    if rule.__class__ is not str:
        return rule(F, g, *values)
    if rule == "g":
        return g
    dt = g.dtype
    if dt is not F32 and dt is not F64:
        return -g if rule == "-g" else g * values[0] if rule == "g *" else g / values[0]
    value = (S32 if dt is F32 else S64)[-1.0] if rule == "-g" else values[0]
    function = F.div if rule == "g /" else F.mul
    return function(g, value, out=g if spare and getattr(value, "dtype", None) is dt else None)


def _added(F: Any, r: Any, edge: Any, grads: dict[Any, Any], own: bool) -> None:
    """Adds r to the edge's gradient in the table; own: it is new memory, which nobody else refers to."""
    held, owned = grads[edge], grads[OWNED]
    if held is None:
        grads[edge] = r
        if own:
            owned.add(edge)
        return
    kept = edge in owned
    if held.__class__ is np.ndarray and r.__class__ is np.ndarray and held.dtype is r.dtype and held.shape == r.shape:
        r = F.add(held, r, out=held if kept else r if own else None)
    elif kept:
        held += r
        r = held
    else:
        r = held + r
    owned.add(edge)
    grads[edge] = r


def _references() -> int:
    """How many references `refcount` sees in large_vjp of a gradient that only the walk and the vjp function hold."""

    def counted(told: Any, g: Any) -> int:
        return refcount(g)

    def vjp(g: Any) -> int:
        return counted((), g)

    g = object()
    return vjp(g)


_ALONE = _references()
