"""PyTorch's legacy types: FloatTensor(2, 3), isinstance(x, LongTensor), `x.type(FloatTensor)`."""

from __future__ import annotations

from typing import Any

from .. import dtypes
from ..device import device, set_default_device
from ..tensor import Tensor, wrap
from .creation import legacy_array


class LegacyType(type):
    """The class of FloatTensor and its like: called, they make a tensor; isinstance looks at the dtype."""

    legacy_dtype: dtypes.dtype

    def __call__(cls, *data: Any, device: Any = None) -> Tensor:
        return wrap(legacy_array(data, device, cls.legacy_dtype))

    def __instancecheck__(cls, instance: Any) -> bool:
        return isinstance(instance, Tensor) and instance.dtype is cls.legacy_dtype

    @property
    def dtype(cls) -> dtypes.dtype:
        return cls.legacy_dtype


def legacy_type(d: dtypes.dtype) -> LegacyType:
    """The legacy type of a dtype."""
    return LegacyType(f"{d.legacy}Tensor", (), {"legacy_dtype": d, "__module__": "torch"})


TYPES: dict[str, LegacyType] = {
    f"{d.legacy}Tensor": legacy_type(d)
    for d in dtypes.ALL
    if not d.legacy.startswith(("Complex", "UInt"))
}


def set_default_tensor_type(t: Any) -> None:
    """The old name of set_default_dtype: a legacy type or its name, such as "torch.DoubleTensor".

    A type of torch.cuda makes that device the default too. TypeError where there is none.
    """
    on_device = ".cuda." in t if isinstance(t, str) else getattr(t, "__module__", "") == "torch.cuda"
    if on_device:
        try:
            device("cuda").backend()
        except RuntimeError as error:
            shown = t if isinstance(t, str) else f"torch.cuda.{t.__name__}"
            raise TypeError(f"type {shown} not available. Torch not compiled with CUDA enabled. ({error})") from None
    if isinstance(t, str):
        t = TYPES.get(t.rpartition(".")[2], t)
    if not isinstance(t, LegacyType):
        raise TypeError(f"invalid type object: only floating-point types are supported as the default type, got {t!r}")
    dtypes.set_default_dtype(t.legacy_dtype)
    if on_device:
        set_default_device("cuda")


def typename(obj: Any) -> str:
    """The legacy type's name of a tensor, else the name of the object's type (of the object, where it has one)."""
    if isinstance(obj, Tensor):
        return obj.type()
    holder = obj if hasattr(obj, "__qualname__") else type(obj)
    module = getattr(holder, "__module__", None)
    return holder.__qualname__ if module in (None, "builtins") else f"{module}.{holder.__qualname__}"
