"""saved_tensors_hooks: what nodes keep for the backward pass is handed to the user, and asked back when it is needed.

A node whose saved arrays were packed gets an op that wraps its own, so other nodes pay nothing, not even a test.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import ContextDecorator
from typing import Any, NamedTuple

from .codegen import saved_as_tensor
from .graph import Node
from .hooks import WrappedOp
from .modes import mode, no_grad, recording
from .tensor import Tensor, wrap
from .versions import version


class _Packed(tuple[Any, ...]):
    """`node.saved` with what was packed in the places of the arrays."""


class _Several(list[Any]):
    """What was packed of a saved tuple of arrays; its own type, since a pack hook may itself give tuples."""


class PackedOp(WrappedOp):
    """A node's op whose saved arrays were handed to `pack`; they come back by `unpack` when they are needed."""

    def __init__(self, op: Any, unpack: Callable[[Any], Any], slots: list[int]):
        super().__init__(op)
        self.unpack = unpack
        self.slots = slots

    def vjp(self, node: Node, g: Any, F: Any, grads: dict[Any, Any]) -> None:
        self._unpacked(node, self.op.vjp, node, g, F, grads)

    def vjp_graph(self, node: Node, g: Any, F: Any, grads: dict[Any, Any]) -> None:
        self._unpacked(node, self.op.vjp_graph, node, g, F, grads)

    def saved_value(self, node: Node, name: str) -> Any:
        return self._unpacked(node, self.op.saved_value, node, name)

    def saved_tensors(self, node: Node) -> tuple[Any, ...]:
        return self._unpacked(node, self.op.saved_tensors, node)

    def _unpacked(self, node: Node, function: Callable[..., Any], *args: Any) -> Any:
        """function(*args) while the node's saved values are what `unpack` gives."""
        packed = node.saved
        if type(packed) is not _Packed:  # freed, or unpacked already
            return function(*args)
        values = list(packed)
        for slot in self.slots:
            values[slot] = self._value(packed[slot])
        node.saved = tuple(values)
        try:
            return function(*args)
        finally:
            node.saved = packed

    def _value(self, held: Any) -> Any:
        if type(held) is _Several:
            return tuple(self._value(h) for h in held)
        if held is None:
            return None
        value = self.unpack(held.packed)
        if not isinstance(value, Tensor):
            raise TypeError(
                "Output of saved tensor unpack_hook expected to be a Tensor but got result of type "
                f"{type(value).__name__}"
            )
        return value.array

    def saved_arrays(self, node: Node) -> list[tuple[str, Any]]:
        """None of them is under autograd's eyes: what `pack` keeps is its own."""
        return []


class _Held(NamedTuple):
    """What `pack` gave for one tensor; it may be anything, None included."""

    packed: Any


class saved_tensors_hooks(recording):
    """Inside, every saved tensor goes through `pack_hook`, and through `unpack_hook` when backward needs it.

    `pack_hook` is given inputs with their history (a leaf is the leaf itself), and runs without recording.

    >>> import tapegrad as torch
    >>> x = torch.ones(3, requires_grad=True)
    >>> with torch.autograd.graph.saved_tensors_hooks(lambda t: t.detach().numpy().copy(), torch.from_numpy):
    ...     y = (x * x).sum()
    >>> y.backward()
    >>> x.grad
    tensor([2., 2., 2.])
    """

    below: Any  # the recorder that this one covers, set by `recording`

    def __init__(self, pack_hook: Callable[[Tensor], Any], unpack_hook: Callable[[Any], Tensor]):
        super().__init__(self)
        self.pack_hook, self.unpack_hook = pack_hook, unpack_hook

    def __enter__(self) -> Any:
        if _disabled.message is not None:
            raise RuntimeError(_disabled.message)
        return super().__enter__()

    def recorded(self, node: Node, tensors: tuple[Tensor, ...]) -> None:
        """Packs what the new node keeps."""
        op, below = node.op, self.below
        if op.saves_arrays and not isinstance(op, PackedOp) and isinstance(node.saved, tuple):
            with no_grad():
                shown = [self._packed(self._shown(op, node, slot)) for slot in op.array_slots]
            values = list(node.saved)
            for slot, packed in zip(op.array_slots, shown, strict=True):
                values[slot] = packed
            slots = [s for s in op.array_slots if type(values[s]) in (_Held, _Several)]
            node.saved = _Packed(values)
            node.op = PackedOp(op, self.unpack_hook, slots)
        if below is not None:
            below.recorded(node, tensors)

    def _shown(self, op: Any, node: Node, slot: int) -> Any:
        """The saved value as tensors; an output without its history, since a hook that kept it would keep its node."""
        value, request = node.saved[slot], op.requests[slot]
        if request == "out" or request in getattr(op, "aux", ()):
            return tuple(wrap(v) for v in value) if type(value) is tuple else wrap(value)
        if request == "saved_tensors":
            own = [isinstance(tie, int) for tie in op.ties]
            pairs = zip(value, op.saved_tensors(node), own, strict=True)
            return tuple(wrap(v) if is_own else t for v, t, is_own in pairs)
        return saved_as_tensor(op, node, request)

    def _packed(self, value: Any) -> Any:
        if type(value) is tuple:
            return _Several(self._packed(v) for v in value)
        if not isinstance(value, Tensor):
            return value  # nothing, or a number
        before = version(value.array)
        packed = self.pack_hook(value)
        if version(value.array) != before:
            raise RuntimeError(
                "A saved tensor pack hook is modifying its input in place. Tensors provided as input to pack hook "
                "cannot be modified by in-place operations as this can lead to unexpected side-effects. Please open "
                "an issue if you need to perform in-place operations on the input to a pack hook."
            )
        return _Held(packed)


class save_on_cpu(saved_tensors_hooks):
    """Inside, saved tensors are kept in host memory and brought back to their device for the backward pass."""

    def __init__(self, pin_memory: bool = False):
        super().__init__(lambda t: (t.device, t.cpu()), lambda packed: packed[1].to(packed[0]))


def active_hooks() -> saved_tensors_hooks | None:
    """The innermost saved_tensors_hooks whose block this thread is in and records in."""
    recorder = mode.grad
    while recorder is not None and not isinstance(recorder, bool):
        if isinstance(recorder, saved_tensors_hooks):
            return recorder
        recorder = recorder.below
    return None


class disable_saved_tensors_hooks(ContextDecorator):
    """Inside, `saved_tensors_hooks` raises RuntimeError with the given text. Per thread."""

    def __init__(self, error_message: str):
        self.error_message = error_message

    def __enter__(self) -> None:
        if active_hooks() is not None:
            raise RuntimeError(self.error_message)
        self._before = _disabled.message
        _disabled.message = self.error_message

    def __exit__(self, *_: object) -> None:
        _disabled.message = self._before


class _Disabled(threading.local):
    message: str | None = None


_disabled = _Disabled()
