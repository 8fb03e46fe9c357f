"""Parameter and Buffer: the tensors that a Module registers when they are assigned as attributes; and their lazy forms.

A lazy parameter has a dtype and a device, but no shape yet: the module it belongs to finds the shape at its first call.
"""

from __future__ import annotations

import sys
from typing import Any, Self

from ..autograd.api.creation import empty
from ..autograd.parameter import Buffer, Parameter
from ..autograd.tensor import Tensor, new

__all__ = [
    "Buffer", "Parameter", "UninitializedBuffer", "UninitializedParameter", "UninitializedTensorMixin", "is_lazy",
]  # fmt: skip

_array: Any = Tensor.__dict__["array"]  # the slot itself, which the property `array` below hides


class UninitializedTensorMixin:
    """What lazy parameters and buffers share: every op reads `tensor.array`, and here that is an error."""

    __slots__ = ()

    cls_to_become: type[Tensor]
    _rg: bool

    @property
    def array(self) -> Any:
        """ValueError: there is no array yet. PyTorch's text, with the name of the function that asked for it."""
        raise ValueError(
            f"Attempted to use an uninitialized parameter in {sys._getframe(1).f_code.co_name}. This error happens "
            "when you are using a `LazyModule` or explicitly manipulating "
            f"`torch.nn.parameter.{type(self).__name__}` objects. When using LazyModules Call `forward` with a dummy "
            "batch to initialize the parameters before calling torch functions"
        )

    @array.setter
    def array(self, value: Any) -> None:
        _array.__set__(self, value)

    def materialize(self, shape: Any, device: Any = None, dtype: Any = None) -> None:
        """Makes this an ordinary parameter or tensor, uninitialised, of `shape`.

        device, dtype: by default those that it has.
        """
        held = self.data
        values = empty(shape, device=device or held.device, dtype=dtype or held.dtype)
        _array.__set__(self, values.array)
        self.__class__ = self.cls_to_become  # type: ignore[assignment]

    @property
    def data(self) -> Tensor:
        """An empty tensor of the dtype and on the device that the values will have."""
        return Tensor._of(_array.__get__(self))

    @data.setter
    def data(self, value: Any) -> None:
        _array.__set__(self, value.data.array)

    @property
    def shape(self) -> Any:
        raise RuntimeError(
            "Can't access the shape of an uninitialized parameter or buffer. This error usually happens in "
            "`load_state_dict` when trying to load an uninitialized parameter into an initialized one. Call `forward` "
            "to initialize the parameters before accessing their attributes."
        )

    @property
    def dtype(self) -> Any:
        return self.data.dtype

    @property
    def device(self) -> Any:
        return self.data.device

    @property
    def requires_grad(self) -> bool:
        return self._rg

    @requires_grad.setter
    def requires_grad(self, value: bool) -> None:
        self._rg = self.data.requires_grad_(value).requires_grad  # type: ignore[misc]  # a slot of Tensor

    def size(self, dim: int | None = None) -> Any:
        """torch.Size([0]), as in PyTorch."""
        return self.data.size(dim)

    def is_floating_point(self) -> bool:
        return self.data.is_floating_point()

    def is_complex(self) -> bool:
        return self.data.is_complex()

    def to(self, *args: Any, **kwargs: Any) -> Self:
        """The same, of another dtype or on another device; itself where nothing changes."""
        return self._like(self.data.to(*args, **kwargs))

    def copy_(self, src: Any, non_blocking: bool = False) -> Self:
        """Takes nothing from another lazy tensor, since neither has values. RuntimeError for an ordinary tensor."""
        if not is_lazy(src):
            raise RuntimeError(
                f"Attempted to copy values into an uninitialized {type(self).__name__}. Call `forward` with a dummy "
                "batch, or materialize(shape), first"
            )
        return self

    def share_memory_(self) -> Self:
        raise RuntimeError(
            "Can't share memory on an uninitialized parameter or buffer. Call `forward` to initialize the parameters "
            "before calling `module.share_memory()`."
        )

    def _like(self, held: Tensor) -> Self:
        """A lazy tensor of this one's kind with the dtype and device of `held`."""
        if held.array is _array.__get__(self):
            return self
        kind: Any = type(self)
        made = kind(self._rg, held.device, held.dtype)
        made.__dict__.update(self.__dict__)
        return made

    def __repr__(self, *, tensor_contents: Any = None) -> str:
        return f"<{type(self).__name__}>"

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        if id(self) not in memo:
            kind: Any = type(self)
            memo[id(self)] = kind(self._rg, self.device, self.dtype)
        return memo[id(self)]

    def __reduce_ex__(self, protocol: Any) -> Any:
        return (type(self), (self._rg, str(self.device), self.dtype))


def _casting(name: str) -> Any:
    def cast(self: Any, *args: Any) -> Any:
        return self._like(getattr(self.data, name)(*args))

    cast.__name__ = name
    cast.__doc__ = f"The same after `Tensor.{name}`."
    return cast


for _name in ("half", "bfloat16", "float", "double", "char", "short", "int", "long", "cpu", "cuda", "type"):
    setattr(UninitializedTensorMixin, _name, _casting(_name))


class UninitializedParameter(UninitializedTensorMixin, Parameter):
    """A parameter whose shape is not known yet; `materialize(shape)` makes it a Parameter.

    Until then it can be cast and moved; any other operation raises ValueError, its shape RuntimeError.
    """

    __slots__ = ()
    cls_to_become = Parameter

    def __new__(cls, requires_grad: bool = True, device: Any = None, dtype: Any = None) -> UninitializedParameter:
        return _lazy(cls, requires_grad, device, dtype)

    def __init__(self, requires_grad: bool = True, device: Any = None, dtype: Any = None):
        """All is done in __new__."""


class UninitializedBuffer(UninitializedTensorMixin, Buffer):
    """A buffer whose shape is not known yet; `materialize(shape)` makes it a Tensor."""

    __slots__ = ()
    cls_to_become = Tensor

    def __new__(
        cls, requires_grad: bool = False, device: Any = None, dtype: Any = None, persistent: bool = True
    ) -> UninitializedBuffer:
        return _lazy(cls, requires_grad, device, dtype)

    def __init__(
        self, requires_grad: bool = False, device: Any = None, dtype: Any = None, persistent: bool = True
    ) -> None:
        self.persistent = persistent


def _lazy(cls: type, requires_grad: bool, device: Any, dtype: Any) -> Any:
    made: Any = new(cls)
    _array.__set__(made, empty(0, device=device, dtype=dtype).array)
    made._node, made._rg = None, requires_grad
    return made


def is_lazy(param: Any) -> bool:
    """Whether `param` is an UninitializedParameter or UninitializedBuffer."""
    return isinstance(param, UninitializedTensorMixin)
