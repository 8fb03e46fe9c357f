"""PyTorch's legacy types: FloatTensor(2, 3), isinstance(x, LongTensor), `x.type(FloatTensor)`."""

from __future__ import annotations

from typing import Any

from .. import dtypes
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


TYPES: dict[str, LegacyType] = {
    f"{d.legacy}Tensor": LegacyType(f"{d.legacy}Tensor", (), {"legacy_dtype": d})
    for d in dtypes.ALL
    if not d.legacy.startswith(("Complex", "UInt"))
}
