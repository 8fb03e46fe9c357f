"""How a Tensor shows itself: `repr`, `str`, `format`."""

from __future__ import annotations

from typing import Any

from ..backends.registry import backend_of
from .device import get_default_device
from .dtypes import get_default_dtype
from .parameter import Parameter
from .printing import shows_dtype, tensor_format, tensor_repr
from .tensor import Tensor


def show(t: Tensor) -> str:
    """The text PyTorch prints for the tensor."""
    host = backend_of(t.array).to_numpy(t.array)
    fn = t.grad_fn
    plain = type(t) in (Tensor, Parameter)
    return tensor_repr(
        host,
        dtype_name=repr(t.dtype),
        show_dtype=shows_dtype(t.dtype.np, host.size, get_default_dtype().np),
        device=None if t.device.type == get_default_device().type else str(t.device),
        requires_grad=t._rg,
        grad_fn_name=None if fn is None else fn.name(),
        class_name="tensor" if plain else type(t).__name__,
        is_parameter=isinstance(t, Parameter),
    )


def format_tensor(t: Tensor, spec: str) -> Any:
    """What an f-string shows: a plain 0-d tensor formats as its number."""
    if type(t) is not Tensor or t.array.ndim:
        return object.__format__(t, spec)
    return tensor_format(t, backend_of(t.array).to_numpy(t.array), spec, plain=True)
