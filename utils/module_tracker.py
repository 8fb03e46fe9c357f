"""torch.utils.module_tracker: which modules a program is in, in forward and in backward."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

from ..autograd.graph import Node
from ..autograd.hooks import WrappedOp
from ..autograd.modes import recording
from ..nn.modules.hooks import register_module_forward_hook, register_module_forward_pre_hook
from ..nn.modules.module import Module

__all__ = ["ModuleTracker", "ModuleStack"]


class _PlacedOp(WrappedOp):
    """The op of a node that was recorded inside modules: its rules run as if inside them."""

    def __init__(self, op: Any, stack: ModuleStack):
        super().__init__(op)
        self.stack, self.modules = stack, tuple(stack.modules)

    def vjp(self, node: Node, g: Any, F: Any, grads: dict[Any, Any]) -> None:
        self._inside(self.op.vjp, node, g, F, grads)

    def vjp_graph(self, node: Node, g: Any, F: Any, grads: dict[Any, Any]) -> None:
        self._inside(self.op.vjp_graph, node, g, F, grads)

    def _inside(self, vjp: Callable[..., None], *args: Any) -> None:
        stack = self.stack
        before = stack.modules, stack.is_bw
        stack.modules, stack.is_bw = list(self.modules), True
        try:
            vjp(*args)
        finally:
            stack.modules, stack.is_bw = before


class ModuleStack:
    """The modules whose forward is under way while it is open, the outermost first; in backward, those of each node.

    A node is placed when it is recorded, so what a module's gradient costs is the module's, however the walk goes.

    entered: called with (module, args, keywords) after a module is entered. left: with (module, output) before it is
    left.
    """

    def __init__(self, entered: Callable[..., None] | None = None, left: Callable[..., None] | None = None):
        self.modules: list[Module] = []
        self.is_bw = False
        self._entered, self._left = entered, left
        self.below: Any = None
        self._recording = recording(self)

    def recorded(self, node: Node, tensors: tuple[Any, ...]) -> None:
        """Places a new node."""
        if self.modules:
            node.op = _PlacedOp(node.op, self)
        if self.below is not None:
            self.below.recorded(node, tensors)

    def __enter__(self) -> ModuleStack:
        self.modules, self.is_bw = [], False
        self._handles = [
            register_module_forward_pre_hook(self._enter),
            register_module_forward_hook(self._leave, always_call=True),
        ]
        self._recording.__enter__()
        return self

    def __exit__(self, *failed: object) -> None:
        self._recording.__exit__(*failed)
        for handle in self._handles:
            handle.remove()

    def _enter(self, module: Module, args: Any) -> None:
        self.modules.append(module)
        if self._entered is not None:
            self._entered(module, args)

    def _leave(self, module: Module, args: Any, output: Any) -> None:
        if module not in self.modules:  # its forward began before
            return
        if self._left is not None:
            self._left(module, output)
        while self.modules.pop() is not module:
            pass


class ModuleTracker:
    """Names of the modules whose forward or backward is under way while it is open.

    `parents` holds "Global" and a name such as "Net.layer1.0" for each; the root's name is that of its class.
    `is_bw` says whether a backward pass runs.

    >>> import tapegrad as torch
    >>> seen = set()
    >>> class Net(torch.nn.Module):
    ...     def __init__(self):
    ...         super().__init__()
    ...         self.act = torch.nn.ReLU()
    ...         self.act.register_forward_pre_hook(lambda *_: seen.update(tracker.parents))
    ...     def forward(self, x):
    ...         return self.act(x)
    >>> with torch.utils.module_tracker.ModuleTracker() as tracker:
    ...     y = Net()(torch.ones(2))
    >>> sorted(seen)
    ['Global', 'Net', 'Net.act']
    """

    def __init__(self) -> None:
        self._stack = ModuleStack(self._named)
        self._names: weakref.WeakKeyDictionary[Module, str] = weakref.WeakKeyDictionary()

    @property
    def parents(self) -> set[str]:
        return {"Global", *map(self._name, self._stack.modules)}

    @property
    def is_bw(self) -> bool:
        return self._stack.is_bw

    def __enter__(self) -> ModuleTracker:
        self._stack.__enter__()
        return self

    def __exit__(self, *failed: object) -> None:
        self._stack.__exit__(*failed)

    def _named(self, module: Module, args: Any) -> None:
        self._name(module)

    def _name(self, module: Module) -> str:
        if module not in self._names:
            root = type(module).__name__
            for name, part in module.named_modules():
                if part not in self._names:
                    self._names[part] = f"{root}.{name}" if name else root
        return self._names[module]
