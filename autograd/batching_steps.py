"""Into a batch and out of it, on arrays and recorded on tensors. Each step's gradient is another step.

    enter   (n at a dimension)      ->  one example of a level          gradient: exit
    exit    one example of a level  ->  (n at a dimension)              gradient: enter
    lift    a tensor from outside   ->  the same one for all examples   gradient: unlift
    unlift  one example of levels   ->  the sum over them               gradient: lift
"""

from __future__ import annotations

from typing import Any

from ..backends.registry import backend_of
from .batching import Batched, Level, Scope, active, aligned, class_of_depth, joined
from .codegen import add_gradient
from .graph import Node, counter
from .modes import mode
from .op import GRAPH
from .tensor import wrap


def _parts(array: Any) -> tuple[Any, Scope]:
    return (array.value, array.scope) if isinstance(array, Batched) else (array, ())


def _made(value: Any, scope: Scope, like: Any) -> Any:
    """An array of that scope; a plain one where it is empty."""
    return class_of_depth(len(scope))(value, scope) if scope else backend_of(like).tidy(value)


def enter_array(array: Any, level: Level, dim: int) -> Any:
    value, scope = _parts(array)
    k, wider = len(scope), joined([scope, (level,)])
    order = [d for d in range(value.ndim) if d != k + dim]
    order.insert(wider.index(level), k + dim)
    return _made(value.transpose(order), wider, value)


def exit_array(array: Any, level: Level, dim: int) -> Any:
    value, own = _parts(array)
    scope = joined([own, (level,)])
    ndim, at, k = value.ndim - len(own), scope.index(level), len(scope)
    value = aligned(array, scope, ndim)
    if value.shape[at] != level.size:  # the same for all examples
        value = backend_of(value).xp.broadcast_to(value, (*value.shape[:at], level.size, *value.shape[at + 1 :]))
    order = [d for d in range(value.ndim) if d != at]
    order.insert(k - 1 + dim, at)
    return _made(value.transpose(order), tuple([s for s in scope if s is not level]), value)


def lift_array(array: Any, over: Scope) -> Any:
    value, own = _parts(array)
    scope = joined([own, over])
    return _made(aligned(array, scope, value.ndim - len(own)), scope, value)


def unlift_array(array: Any, over: Scope) -> Any:
    if isinstance(array, Batched) and array.total is not None and set(array.scope) == set(over):
        return array.total()
    value, scope = _parts(array)
    axes, times = [], 1
    for level in over:
        d = scope.index(level) if level in scope else None
        if d is not None:
            axes.append(d)
        if d is None or value.shape[d] != level.size:  # the same for all examples
            times *= level.size
    out = value.sum(axis=tuple(axes)) if axes else value
    return _made(out * times if times != 1 else out, tuple([s for s in scope if s not in over]), value)


class Step:
    """One of the four, as the op of its nodes. `saved` holds its parameters, which are its gradient's too."""

    saves_arrays = False
    view = False
    holomorphic = False
    requests = ()
    outputs = ()
    adjoint: Step

    def __init__(self, name: str, of_array: Any):
        self.name, self.of_array, self.grad_name = name, of_array, f"Vmap{name.capitalize()}Backward0"

    def __call__(self, t: Any, *parameters: Any) -> Any:
        """The step on a tensor, recorded."""
        out = wrap(self.of_array(t.array, *parameters))
        m = mode.grad
        if t._rg and m is not False:
            node = Node()
            node.op, node.edges, node.saved, node.seq = self, (t._node or t,), parameters, counter()
            out._rg, out._node = True, node
            if m is not True:
                m.recorded(node, (out,))
        return out

    def vjp(self, node: Any, g: Any, F: Any, grads: dict[Any, Any]) -> None:
        (edge,) = node.edges
        if edge in grads:
            r, held = self.adjoint.of_array(g, *node.saved), grads[edge]
            grads[edge] = r if held is None else add_gradient(held, r, edge, grads)

    def vjp_graph(self, node: Any, g: Any, F: Any, grads: dict[Any, Any]) -> None:
        (edge,) = node.edges
        if edge in grads:
            r, held = self.adjoint(g, *node.saved), grads[edge]
            grads[edge] = r if held is None else GRAPH.add(held, r)

    def saved_arrays(self, node: Any) -> list[Any]:
        return []


enter, leave = Step("enter", enter_array), Step("exit", exit_array)
lift, unlift = Step("lift", lift_array), Step("unlift", unlift_array)
enter.adjoint, leave.adjoint, lift.adjoint, unlift.adjoint = leave, enter, unlift, lift


def lifted(t: Any, scope: Scope) -> Any:
    """A tensor as one of that scope, the same for all examples of the levels it does not have."""
    array, own = t.array, scope_of(t)
    if own == scope and (not scope or array.depth == len(scope)):
        return t
    return lift(t, tuple([level for level in scope if level not in own]))


def scope_of(t: Any) -> Scope:
    """The levels that a tensor stands for one example of."""
    return t.array.scope if isinstance(t.array, Batched) else ()


def entered_at(t: Any, level: Level, dim: int, outer: Scope) -> Any:
    """A tensor's entries along `dim` as the examples of a level inside the vmaps `outer`."""
    return enter(lifted(t, joined([outer, scope_of(t)])), level, dim)


def inside(t: Any) -> Any:
    """A tensor as one of the vmaps that are under way: its gradient is asked for example by example."""
    depth = t.array.depth if isinstance(t.array, Batched) else 0
    if depth >= len(active.scope):
        return t
    own = t.array.scope if depth else ()
    return lifted(t, joined([active.scope, own]))

