"""Parameter: a Tensor that a Module registers when it is assigned as an attribute. nn re-exports it."""

from __future__ import annotations

from typing import Any

from .coerce import PLAIN
from .tensor import Tensor, new


class Parameter(Tensor):
    """A tensor that is a module's parameter; a leaf, requires_grad=True unless told otherwise.

    Args:
        data: the tensor whose memory it shares (default: an empty one).
        requires_grad: whether it is trained.
    """

    __slots__ = ()

    def __new__(cls, data: Tensor | None = None, requires_grad: bool = True) -> Parameter:
        self = new(cls)
        if data is None:
            data = Tensor()
        self.array, self._node, self._view = data.array, None, None
        self._rg = False
        self.requires_grad = requires_grad
        return self

    def __init__(self, data: Any = None, requires_grad: bool = True):
        """All is done in __new__; Tensor.__init__ would read `data` as the legacy constructor does."""


class Buffer(Tensor):
    """A tensor that a Module registers as a buffer when it is assigned as an attribute."""

    __slots__ = ()

    def __new__(cls, data: Tensor | None = None, *, persistent: bool = True) -> Buffer:
        self = new(cls)
        self.array, self._rg = (data if data is not None else Tensor()).array, False
        self._node = self._view = None
        return self

    def __init__(self, data: Any = None, *, persistent: bool = True):
        self.persistent = persistent


PLAIN.update((Parameter, Buffer))
