"""Tensors to and from the outside: copies, pickles, DLPack."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..backends.registry import backend_of
from .device import device
from .dtypes import by_name
from .parameter import Parameter
from .tensor import RARE, Tensor, new, wrap


def deepcopy(t: Tensor, memo: dict[int, Any]) -> Tensor:
    """copy.deepcopy: leaves only. Views of one memory stay views of one memory within one deepcopy."""
    import copy

    if not t.is_leaf:
        raise RuntimeError(
            "Only Tensors created explicitly by the user (graph leaves) support the deepcopy protocol at the moment.  "
            "If you were attempting to deepcopy a module, this may be because of a torch.nn.utils.weight_norm usage, "
            "see https://github.com/pytorch/pytorch/pull/103001"
        )
    found = memo.get(id(t))
    if found is not None:
        return found
    made = new(type(t))
    memo[id(t)] = made
    made.array, made._rg, made._node, made._view = _copied_array(t.array, memo), t._rg, None, None
    if isinstance(t, Parameter):
        return made  # PyTorch's copies of parameters come without gradient and attributes
    if getattr(t, "_grad", None) is not None:
        made._grad = copy.deepcopy(t._grad, memo)
    for key, value in _own(t).items():
        made.__dict__[key] = copy.deepcopy(value, memo)
    return made


def _own(t: Tensor) -> dict[str, Any]:
    """The attributes that the user gave the tensor."""
    return {key: value for key, value in t.__dict__.items() if key not in RARE}


def shallow_copy(t: Tensor) -> Tensor:
    """copy.copy: a leaf over the same memory, with the same attributes."""
    made = new(type(t))
    made.array, made._rg, made._node, made._view = t.array, t._rg, None, None
    made.__dict__.update(_own(t))
    return made


def _copied_array(array: Any, memo: dict[int, Any]) -> Any:
    """A copy with the same strides; arrays over one NumPy storage get copies over one storage."""
    storage = backend_of(array).storage_of(array)
    if not isinstance(storage, np.ndarray) or not (storage.flags.c_contiguous or storage.flags.f_contiguous):
        storage = array  # offsets into the copy would not be those into the storage: each array is copied by itself
    base = memo.get(id(storage))
    if base is None:
        base = memo[id(storage)] = storage.copy(order="K")
    if storage is array:
        return base
    offset = array.__array_interface__["data"][0] - storage.__array_interface__["data"][0]
    memory = base.view(f"u{base.itemsize}") if base.dtype.kind == "V" else base  # bfloat16 has no buffer protocol
    return np.ndarray(array.shape, array.dtype, memory, offset, array.strides).view(type(array))


def reduce(t: Tensor) -> Any:
    """Pickling: values in host memory, device, requires_grad, attributes; not the gradient, nor the history."""
    host = np.ascontiguousarray(backend_of(t.array).to_numpy(t.array)).reshape(t.array.shape)
    values = (host.tobytes(), host.shape, t.dtype.name)
    return (_restore, (type(t), *values, str(t.device), t._rg, _own(t)))


def _restore(
    cls: type, values: bytes, shape: tuple[int, ...], dtype_name: str, place: str, requires_grad: bool, attributes: Any
) -> Tensor:
    made = new(cls if cls in (Tensor, Parameter) or issubclass(cls, Tensor) else Tensor)
    host = np.frombuffer(values, by_name(dtype_name).np).reshape(shape).copy()
    where = device(place)
    made.array = host if where.type == "cpu" else where.backend().asarray(host, device=where.key)
    made._rg, made._node = requires_grad, None
    made.__dict__.update(attributes)
    return made


def to_dlpack(t: Tensor, **kwargs: Any) -> Any:
    """The DLPack capsule of a tensor. RuntimeError (BufferError) for one that requires grad, as PyTorch."""
    if t._rg:
        raise BufferError("Can't export tensors that require gradient, use tensor.detach()")
    return t.array.__dlpack__(**kwargs)


def from_dlpack(ext_tensor: Any, *, device: Any = None, copy: bool | None = None) -> Tensor:
    """A tensor over the memory of any object with `__dlpack__` (NumPy, CuPy, torch, JAX, ...), without a copy.

    RuntimeError for an object that has none.
    """
    if not hasattr(ext_tensor, "__dlpack__"):
        raise RuntimeError(f"from_dlpack(): expected an object with __dlpack__, but got {type(ext_tensor).__name__}")
    kind, _ = ext_tensor.__dlpack_device__() if hasattr(ext_tensor, "__dlpack_device__") else (1, 0)
    if kind == 1:
        array = np.from_dlpack(ext_tensor)
        if not array.flags.writeable:
            try:
                array.flags.writeable = True
            except ValueError:
                pass  # the exporter says read-only: writes will fail with NumPy's error
    else:
        from ..backends.registry import load

        array = load("cupy").xp.from_dlpack(ext_tensor)
    t = wrap(array)
    if copy:
        t = t.clone()
    return t if device is None else t.to(device)
