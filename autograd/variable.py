"""torch.autograd.Variable: the name that a Tensor which takes part in a graph had before PyTorch 0.4."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from .modes import mode
from .tensor import Tensor


class ImperativeEngine:
    """What PyTorch's programs reach as `Variable._execution_engine`."""

    def queue_callback(self, callback: Callable[[], Any]) -> None:
        """Calls `callback()` when the backward pass of this thread has ended without an error, before it returns.

        RuntimeError outside of a backward pass: it is for hooks and `Function.backward`.
        """
        if mode.walk is None:
            raise RuntimeError("Final callbacks can only be installed during backward pass.")
        mode.walk.at_end.append(callback)


class _VariableMeta(type):
    """Every Tensor is an instance of Variable; calling it gives a Tensor."""

    def __instancecheck__(cls, instance: Any) -> bool:
        return isinstance(instance, Tensor)

    def __call__(cls, data: Any = None, requires_grad: bool = False, volatile: bool = False) -> Any:
        if data is None:
            return Tensor()
        if not isinstance(data, Tensor):
            raise TypeError(f"Variable data has to be a tensor, but got {type(data).__name__}")
        t = data.detach()
        t.requires_grad = requires_grad
        return t


class Variable(metaclass=_VariableMeta):
    """`Variable(data, requires_grad=False)`: data's memory as a leaf of its own; a Tensor."""

    _execution_engine = ImperativeEngine()
