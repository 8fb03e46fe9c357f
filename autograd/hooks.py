"""Hooks on tensors and nodes, and places in the graph.

A node with hooks gets an op that wraps its own, so nodes without hooks pay nothing, not even a test.
"""

from __future__ import annotations

import threading
import weakref
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

from .engine import edge_of
from .graph import OWNED, AccumulateGrad, GradientEdge, Node, is_node, output_count, stand_in
from .modes import mode
from .op import GRAPH, raw_by_type
from .tensor import Tensor, alias_op, wrap
from .versions import mark_written


class RemovableHandle:
    """What registering a hook gives: `remove()` takes the hook away again. Also a context manager."""

    _next_id = 0

    def __init__(self, hooks: Any, *, extra_dict: Any = None):
        self.hooks = weakref.ref(hooks)
        self.id = RemovableHandle._next_id
        RemovableHandle._next_id += 1
        extras = [] if extra_dict is None else [extra_dict] if isinstance(extra_dict, dict) else list(extra_dict)
        self.extras = [weakref.ref(d) for d in extras]

    def remove(self) -> None:
        """Removes the hook; doing it twice is harmless."""
        for ref in (self.hooks, *self.extras):
            hooks = ref()
            if hooks is not None:
                hooks.pop(self.id, None)

    def __getstate__(self) -> tuple[Any, ...]:
        """The tables themselves, not the weak references: a copy of a module and its handles removes from the copy."""
        return (self.id, self.hooks(), *[ref() for ref in self.extras])

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.id, *tables = state
        self.hooks, *self.extras = [weakref.ref(OrderedDict() if table is None else table) for table in tables]
        RemovableHandle._next_id = max(RemovableHandle._next_id, self.id + 1)

    def __enter__(self) -> RemovableHandle:
        return self

    def __exit__(self, *_: object) -> None:
        self.remove()


class HookTable(OrderedDict[int, Callable[..., Any]]):
    """Hooks by the id of their handle, in order of registration (an OrderedDict, since handles refer to it weakly)."""


def add(table: HookTable, hook: Callable[..., Any]) -> RemovableHandle:
    """Adds a hook to a table. TypeError where it cannot be called."""
    if not callable(hook):
        raise TypeError(f"a hook must be callable, but got {type(hook).__name__}")
    handle = RemovableHandle(table)
    table[handle.id] = hook
    return handle


class WrappedOp:
    """An op's stand-in in one node; whatever it does not define is the op's own."""

    def __init__(self, op: Any):
        self.op = op

    def __getattr__(self, name: str) -> Any:
        return getattr(self.op, name)

    def vjp(self, node: Node, g: Any, F: Any, grads: dict[Any, Any]) -> None:
        self.op.vjp(node, g, F, grads)

    def vjp_graph(self, node: Node, g: Any, F: Any, grads: dict[Any, Any]) -> None:
        self.op.vjp_graph(node, g, F, grads)


class HookedOp(WrappedOp):
    """Runs tensor hooks and node hooks around the rules of one node.

    In PyTorch's order: tensor hooks, retain_grad, node pre-hooks, the rules, node post-hooks.
    """

    def __init__(self, op: Any):
        super().__init__(op)
        self.tensor_hooks = HookTable()  # hook(grad) -> grad or None
        self.retain: Any = None  # a weak reference to the tensor whose .grad is to be kept
        self.pre = HookTable()  # hook(grad_outputs) -> grad_outputs or None
        self.post = HookTable()  # hook(grad_inputs, grad_outputs) -> grad_inputs or None

    def vjp(self, node: Node, g: Any, F: Any, grads: dict[Any, Any]) -> None:
        self._run(self.op.vjp, node, g, F, grads)

    def vjp_graph(self, node: Node, g: Any, F: Any, grads: dict[Any, Any]) -> None:
        self._run(self.op.vjp_graph, node, g, F, grads)

    def _run(self, vjp: Callable[..., None], node: Node, g: Any, F: Any, grads: dict[Any, Any]) -> None:
        g = self._before(self.arrived(g))
        if g is None:
            return
        if not self.post:
            vjp(node, g, F, grads)
            return
        edges = node.edges
        outs = tuple(_as_tensor(v) for v in (g if type(g) is list else [g]))
        ins = tuple(_as_tensor(r) for r in gradients_by_input(vjp, node, g, F, grads))
        for hook in list(self.post.values()):
            ins = _replaced(hook, hook(ins, outs), ins)
        for edge, r in zip(edges, ins, strict=True):
            if edge in grads and r is not None:
                held = grads[edge]
                value = r if F is GRAPH else r.array
                grads[edge] = value if held is None else GRAPH.add(held, value) if F is GRAPH else held + value

    def arrived(self, g: Any) -> Any:
        """The finished gradient after the hooks of the tensor, whose `.grad` keeps it where it retains it."""
        if not self.tensor_hooks and self.retain is None:
            return g
        out = run_hooks(self.tensor_hooks, _as_tensor(g))
        t = self.retain() if self.retain is not None else None
        if t is not None:
            held = getattr(t, "_grad", None)
            t._grad = out if held is None else GRAPH.add(held, out)
        return out if isinstance(g, Tensor) else out.array

    def _before(self, g: Any) -> Any:
        """The gradient after the node's pre-hooks; None where they left nothing of it."""
        if not self.pre:
            return g
        given = g if type(g) is list else [g]
        recorded = any(isinstance(v, Tensor) for v in given)
        outs = tuple(_as_tensor(v) for v in given)
        for hook in list(self.pre.values()):
            outs = _replaced(hook, hook(outs), outs)
        if all(v is None for v in outs):
            return None
        back = [v if v is None or recorded else v.array for v in outs]
        return back if type(g) is list else back[0]


def gradients_by_input(vjp: Callable[..., None], node: Node, g: Any, F: Any, wanted: Any) -> list[Any]:
    """What a node's rules give for each of its edges that are in `wanted`, else None; apart where two edges are one."""
    edges = node.edges
    slots = tuple(stand_in(edge, alias_op()) if edge in wanted else None for edge in edges)
    own: dict[Any, Any] = {slot: None for slot in slots if slot is not None}
    own[OWNED] = set()
    node.edges = slots
    try:
        vjp(node, g, F, own)
    finally:
        node.edges = edges
    return [own.get(slot) for slot in slots]


def _as_tensor(g: Any) -> Any:
    if g is None or isinstance(g, Tensor):
        return g
    return wrap(raw_by_type[g.__class__].backend.tidy(g))


def run_hooks(hooks: Any, g: Tensor) -> Tensor:
    """The gradient after the hooks of a tensor."""
    for hook in list(hooks.values()):
        result = hook(g)
        if result is not None:
            g = _checked(hook, result, g)
    return g


def _checked(hook: Any, result: Any, before: Any) -> Any:
    """What a hook answered in a gradient's place. TypeError or RuntimeError where it does not fit."""
    if not isinstance(result, Tensor):
        raise TypeError(f"expected Variable, but hook returned '{type(result).__name__}'")
    name = getattr(hook, "__name__", type(hook).__name__)
    if result.shape != before.shape:
        raise RuntimeError(
            f"hook '{name}' has changed the size of value (was {list(before.shape)}, got {list(result.shape)})"
        )
    if result.dtype != before.dtype or result.is_sparse is not before.is_sparse:
        raise RuntimeError(f"hook '{name}' has changed the type of value (was {before.type()} got {result.type()})")
    return result


def _replaced(hook: Any, result: Any, before: tuple[Any, ...]) -> tuple[Any, ...]:
    """What a node hook's answer makes of the gradients: None leaves them."""
    if result is None:
        return before
    if not isinstance(result, tuple):
        raise TypeError(f"expected tuple, but hook returned '{type(result).__name__}'")
    if len(result) != len(before):
        name = getattr(hook, "__name__", type(hook).__name__)
        raise RuntimeError(
            f"hook '{name}' has returned an incorrect number of values (got {len(result)}, but expected {len(before)})"
        )
    for r, b in zip(result, before, strict=True):
        if r is not None:
            if b is None:
                raise RuntimeError("can't replace a None gradient with a non-None value")
            _checked(hook, r, b)
    return result


def hooked(node: Node) -> HookedOp:
    """The hooks of a node, made when first asked for."""
    if not isinstance(node.op, HookedOp):
        node.op = HookedOp(node.op)
    return node.op


def add_node_hook(node: Node, kind: str, hook: Callable[..., Any]) -> RemovableHandle:
    """A hook of the node itself: kind 'pre' or 'post'."""
    return add(getattr(hooked(node), kind), hook)


def register_hook(t: Tensor, hook: Callable[[Tensor], Tensor | None]) -> RemovableHandle:
    """Tensor.register_hook."""
    if not t._rg:
        raise RuntimeError("cannot register a hook on a tensor that doesn't require gradient")
    if t._node is not None:
        return add(hooked(t._node).tensor_hooks, hook)
    if getattr(t, "_hooks", None) is None:
        t._hooks = HookTable()
    return add(t._hooks, hook)


def register_post_accumulate_grad_hook(t: Tensor, hook: Callable[[Tensor], None]) -> RemovableHandle:
    """Tensor.register_post_accumulate_grad_hook: leaves only."""
    if not t._rg:
        raise RuntimeError("cannot register a hook on a tensor that doesn't require gradient")
    if t._node is not None:
        raise RuntimeError("post accumulate grad hooks cannot be registered on non-leaf tensors")
    if getattr(t, "_after_hooks", None) is None:
        t._after_hooks = HookTable()
    return add(t._after_hooks, hook)


def retain_grad(t: Tensor) -> None:
    """Tensor.retain_grad."""
    if not t._rg:
        raise RuntimeError("can't retain_grad on Tensor that has requires_grad=False")
    if t._node is None or getattr(t, "_retains", False):
        return
    t._retains = True
    t._grad = None
    hooked(t._node).retain = weakref.ref(t)


def move_retained(t: Tensor, old: Any) -> None:
    """After an in-place write: what `t` retains is the gradient of its present value. `old`: its node before."""
    if is_node(old) and isinstance(old.op, HookedOp):
        old.op.retain = None
    hooked(t._node).retain = weakref.ref(t)


def call_node(node: Node, gradients: tuple[Any, ...]) -> Any:
    """`grad_fn(*gradients)`: what the node's rules make of these gradients; one per input, alone where it is one."""
    count = output_count(node)
    if count and len(gradients) != count:
        raise TypeError(f"expected {count} arguments, got {len(gradients)} instead")
    record = mode.grad is not False
    given = [g if record or g is None else g.array for g in gradients]
    F = GRAPH if record else raw_by_type[next(g.array.__class__ for g in gradients if g is not None)]
    vjp = node.op.vjp_graph if record else node.op.vjp
    wanted = {edge for edge in node.edges if edge is not None}
    found = gradients_by_input(vjp, node, given[0] if count == 1 else given, F, wanted)
    return _as_tensor(found[0]) if len(found) == 1 else tuple(_as_tensor(r) for r in found)


def get_gradient_edge(tensor: Tensor) -> GradientEdge:
    """The place in the graph where the tensor's gradient arrives."""
    if not tensor._rg:
        raise RuntimeError("It is not possible to get the gradient edge for a Tensor that does not require gradients")
    if tensor._node is None:
        return GradientEdge(AccumulateGrad(tensor), 0, tensor)
    return GradientEdge(tensor.grad_fn, tensor.output_nr, tensor._node)


def increment_version(tensor: Tensor) -> None:
    """Tells autograd that the tensor's memory was written by other means."""
    mark_written(tensor)


def register_multi_grad_hook(tensors: Any, fn: Callable[..., None], *, mode: str = "all") -> RemovableHandle:
    """Calls `fn(gradients)` when all ("all") or the first ("any") of the tensors' gradients of one backward are there.

    Raises ValueError for another mode.
    """
    if mode not in ("all", "any"):
        raise ValueError(f"Expects mode to be one of ('all', 'any') but got {mode}")
    counts = _Counts(tuple(tensors), fn, mode)
    return _MultiHandle([register_hook(t, counts.receiver(i)) for i, t in enumerate(counts.tensors)])


class _MultiHandle(RemovableHandle):
    """The handle of hooks on several tensors."""

    def __init__(self, handles: list[RemovableHandle]):
        self.handles = handles

    def remove(self) -> None:
        for handle in self.handles:
            handle.remove()


class _Counts:
    """What `register_multi_grad_hook` has seen of each backward pass under way.

    How many gradients are to come is known when the first arrives: the table of the walk still has an entry for each
    place that is to be reached.
    """

    def __init__(self, tensors: tuple[Tensor, ...], fn: Callable[..., None], how: str):
        self.tensors, self.fn, self.how = tensors, fn, how
        self.lock = threading.Lock()
        self.seen: Any = weakref.WeakKeyDictionary()  # walk -> {place: gradient}
        self.expected: Any = weakref.WeakKeyDictionary()  # walk -> how many

    def receiver(self, place: int) -> Callable[[Tensor], None]:
        """The hook of one of the tensors."""

        def receive(g: Tensor) -> None:
            walk = mode.walk
            with self.lock:
                first = walk not in self.seen
                if first:
                    self.seen[walk] = {}
                    others = [t for i, t in enumerate(self.tensors) if i != place]
                    self.expected[walk] = 1 + sum(edge_of(t) in walk.table for t in others)
                    walk.at_end.append(lambda: self.finish(walk))
                seen = self.seen[walk]
                seen[place] = g
                complete = len(seen) == self.expected[walk]
            if self.how == "any" and first:
                self.fn(g)
            elif complete:
                self.finish(walk)

        return receive

    def finish(self, walk: Any) -> None:
        """Calls the user's function with what has arrived, None for a tensor that the walk did not reach; once."""
        seen = self.seen.pop(walk, None)
        if seen is not None and self.how == "all":
            self.fn([seen.get(i) for i in range(len(self.tensors))])
