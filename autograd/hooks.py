"""Hooks on tensors and nodes, and recorders that change what nodes keep.

A node with hooks gets an op that wraps its own, so nodes without hooks pay nothing, not even a test.
"""

from __future__ import annotations

import threading
import weakref
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, NamedTuple

from .engine import OWNED
from .graph import AccumulateGrad, Node
from .modes import recording
from .op import GRAPH, raw_by_type
from .tensor import Tensor, wrap
from .versions import mark_written, version


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
    """Runs tensor hooks and node hooks around the rules of one node."""

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

    def _run(self, vjp: Any, node: Node, g: Any, F: Any, grads: dict[Any, Any]) -> None:
        outs = tuple(_as_tensor(v) for v in (g if type(g) is list else [g]))
        for hook in list(self.pre.values()):
            outs = _replaced(hook(outs), outs)
        if self.tensor_hooks or self.retain is not None:
            (out,) = outs
            for hook in list(self.tensor_hooks.values()):
                (out,) = _replaced(hook(out), (out,))
            outs = (out,)
            t = self.retain() if self.retain is not None else None
            if t is not None:
                held = getattr(t, "_grad", None)
                t._grad = out if held is None else GRAPH.add(held, out)
        back = [v if v is None or F is GRAPH else v.array for v in outs]
        value = back if type(g) is list else back[0]
        if not self.post:
            vjp(node, value, F, grads)
            return
        own: dict[Any, Any] = {edge: None for edge in node.edges if edge in grads}
        own[OWNED] = set()
        vjp(node, value, F, own)
        ins = tuple(_as_tensor(own.get(edge)) for edge in node.edges)
        for hook in list(self.post.values()):
            ins = _replaced(hook(ins, outs), ins)
        for edge, r in dict(zip(node.edges, ins, strict=True)).items():
            if edge in grads and r is not None:
                r = r if F is GRAPH else r.array
                held = grads[edge]
                grads[edge] = r if held is None else held + r


def _as_tensor(g: Any) -> Any:
    if g is None or isinstance(g, Tensor):
        return g
    return wrap(raw_by_type[g.__class__].backend.tidy(g))


def _replaced(result: Any, before: tuple[Any, ...]) -> tuple[Any, ...]:
    """What a hook's answer makes of the gradients: None leaves them."""
    if result is None:
        return before
    result = result if isinstance(result, tuple) else (result,)
    if len(result) != len(before):
        raise RuntimeError(f"hook has returned an incorrect number of values (got {len(result)}, but expected {len(before)})")
    for r, b in zip(result, before, strict=True):
        if r is not None and b is not None and r.array.shape != b.array.shape:
            raise RuntimeError(f"hook has changed the size of value (was {list(b.shape)}, got {list(r.shape)})")
        if r is not None and b is not None and r.array.dtype != b.array.dtype:
            raise RuntimeError(f"hook has changed the type of value (was {b.dtype} got {r.dtype})")
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


class _Several(list[Any]):
    """What was packed of a saved tuple of arrays; its own type, since a pack hook may itself give tuples."""


class PackedOp(WrappedOp):
    """A node's op whose saved arrays were handed to `pack`; they come back by `unpack` when the rules run."""

    def __init__(self, op: Any, unpack: Callable[[Any], Any], slots: dict[int, Any]):
        super().__init__(op)
        self.unpack = unpack
        self.slots = slots

    def vjp(self, node: Node, g: Any, F: Any, grads: dict[Any, Any]) -> None:
        self._run(self.op.vjp, node, g, F, grads)

    def vjp_graph(self, node: Node, g: Any, F: Any, grads: dict[Any, Any]) -> None:
        self._run(self.op.vjp_graph, node, g, F, grads)

    def _run(self, vjp: Any, node: Node, g: Any, F: Any, grads: dict[Any, Any]) -> None:
        packed = node.saved
        if packed is None:
            vjp(node, g, F, grads)
            return
        values = list(packed)
        for slot in self.slots:
            values[slot] = self._unpacked(packed[slot])
        node.saved = tuple(values)
        try:
            vjp(node, g, F, grads)
        finally:
            node.saved = packed

    def _unpacked(self, held: Any) -> Any:
        if type(held) is _Several:
            return tuple(self._unpacked(h) for h in held)
        value = self.unpack(held)
        if not isinstance(value, Tensor):
            raise TypeError(f"Output of saved tensor unpack_hook expected to be a Tensor but got {type(value).__name__}")
        return value.array

    def saved_arrays(self, node: Node) -> list[tuple[str, Any]]:
        """None of them is under autograd's eyes: what `pack` keeps is its own."""
        return []


class saved_tensors_hooks(recording):
    """Inside, every saved tensor goes through `pack_hook`, and through `unpack_hook` when backward needs it.

    >>> import tapegrad as torch
    >>> x = torch.ones(3, requires_grad=True)
    >>> with torch.autograd.graph.saved_tensors_hooks(lambda t: t.numpy().copy(), torch.from_numpy):
    ...     y = (x * x).sum()
    >>> y.backward()
    >>> x.grad
    tensor([2., 2., 2.])
    """

    def __init__(self, pack_hook: Callable[[Tensor], Any], unpack_hook: Callable[[Any], Tensor]):
        super().__init__(self)
        self.pack_hook, self.unpack_hook = pack_hook, unpack_hook

    def __enter__(self) -> Any:
        if _disabled.message is not None:
            raise RuntimeError(_disabled.message)
        return super().__enter__()

    def recorded(self, node: Node, tensors: tuple[Tensor, ...]) -> None:
        """Packs what the new node keeps."""
        op = node.op
        below = self.below
        if op.saves_arrays and not isinstance(op, PackedOp) and isinstance(node.saved, tuple):
            values, slots = list(node.saved), {}
            for slot in op.array_slots:
                if values[slot] is not None and not isinstance(values[slot], (int, float, complex)):
                    values[slot] = self._packed(values[slot])
                    slots[slot] = True
            node.saved = tuple(values)
            node.op = PackedOp(op, self.unpack_hook, slots)
        if below is not None:
            below.recorded(node, tensors)

    def _packed(self, value: Any) -> Any:
        if type(value) is tuple:
            return _Several(self._packed(v) for v in value)
        t = wrap(value)
        before = version(value)
        packed = self.pack_hook(t)
        if version(value) != before:
            raise RuntimeError(
                "A saved tensor pack hook is modifying its input in place. Tensors provided as input to pack hook "
                "can not be modified by in-place operations as this can lead to unexpected side-effects. Please open "
                "an issue if you need to perform in-place operations on the input to a pack hook."
            )
        return packed


class save_on_cpu(saved_tensors_hooks):
    """Inside, saved tensors are kept in host memory and brought back to their device for the backward pass."""

    def __init__(self, pin_memory: bool = False):
        super().__init__(lambda t: (t.device, t.cpu()), lambda packed: packed[1].to(packed[0]))


class GradientEdge(NamedTuple):
    """A place in the graph: a node and the number of its output. `autograd.grad` takes it for an input or output."""

    node: Any
    output_nr: int


def get_gradient_edge(tensor: Tensor) -> GradientEdge:
    """The place in the graph where the tensor's gradient arrives."""
    if not tensor._rg:
        raise RuntimeError("It is not possible to get the gradient edge for a Tensor that does not require gradients")
    if tensor._node is None:
        return GradientEdge(AccumulateGrad(tensor), 0)
    return GradientEdge(tensor.grad_fn, tensor.output_nr)


def increment_version(tensor: Tensor) -> None:
    """Tells autograd that the tensor's memory was written by other means."""
    mark_written(tensor)


def register_multi_grad_hook(tensors: Any, fn: Callable[..., None], *, mode: str = "all") -> RemovableHandle:
    """Calls `fn(gradients)` when all ("all") or the first ("any") of the tensors' gradients of one backward are there.

    Raises ValueError for another mode.
    """
    if mode not in ("all", "any"):
        raise ValueError(f"Expects mode to be one of ('all', 'any') but got {mode}")
    tensors = tuple(tensors)
    state: dict[str, Any] = {"seen": {}}

    def receive(place: int) -> Callable[[Tensor], None]:
        def hook(g: Tensor) -> None:
            state["seen"][place] = g
            if mode == "any" and len(state["seen"]) == 1:
                fn(g)
            if len(state["seen"]) == len(tensors):
                seen, state["seen"] = state["seen"], {}
                if mode == "all":
                    fn([seen.get(i) for i in range(len(tensors))])

        return hook

    handles = [register_hook(t, receive(i)) for i, t in enumerate(tensors)]

    class _All(RemovableHandle):
        def __init__(self) -> None:
            self.handles = handles

        def remove(self) -> None:
            for handle in self.handles:
                handle.remove()

    return _All()


class disable_saved_tensors_hooks:
    """Inside, `saved_tensors_hooks` raises RuntimeError with the given text. Per thread."""

    def __init__(self, error_message: str):
        self.error_message = error_message

    def __enter__(self) -> None:
        self._before = _disabled.message
        _disabled.message = self.error_message

    def __exit__(self, *_: object) -> None:
        _disabled.message = self._before


class _Disabled(threading.local):
    message: str | None = None


_disabled = _Disabled()
