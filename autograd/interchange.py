"""Tensors to and from the outside: copies, pickles, DLPack."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..backends.base import DeviceKey
from ..backends.registry import backend_of, backend_of_device
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


def to_dlpack(t: Tensor, *, stream: int | None = -1, **kwargs: Any) -> Any:
    """The DLPack capsule of a tensor.

    stream: the address of the stream where the other library will work, which is made to wait for the current one;
    1 and None stand for the default stream, -1 for no waiting. BufferError for a tensor that requires grad; TypeError
    for a stream that is no int.
    """
    if t._rg:
        raise BufferError("Can't export tensors that require gradient, use tensor.detach()")
    if stream is not None and type(stream) is not int:
        raise TypeError("stream must be ``int`` or ``none``")
    backend = backend_of(t.array)
    if not t.is_cuda:
        return t.array.__dlpack__(stream=None, **kwargs)
    if stream == 2:
        raise BufferError("per-thread default stream is not supported.")
    with backend.guard(backend.device_of(t.array)):
        return t.array.__dlpack__(stream=1 if stream is None else stream, **kwargs)


def from_dlpack(ext_tensor: Any, *, device: Any = None, copy: bool | None = None) -> Tensor:
    """A tensor over the memory of any object with `__dlpack__` (NumPy, CuPy, torch, JAX, ...), without a copy.

    Work queued on the current stream from then on sees what the other library has queued. RuntimeError for an object
    that has no `__dlpack__`.
    """
    if not hasattr(ext_tensor, "__dlpack__"):
        raise RuntimeError(f"from_dlpack(): expected an object with __dlpack__, but got {type(ext_tensor).__name__}")
    kind, index = ext_tensor.__dlpack_device__() if hasattr(ext_tensor, "__dlpack_device__") else (1, 0)
    if kind == 1:
        array = np.from_dlpack(ext_tensor)
        if not array.flags.writeable:
            try:
                array.flags.writeable = True
            except ValueError:
                pass  # the exporter says read-only: writes will fail with NumPy's error
    else:
        backend = backend_of_device("cuda")
        with backend.guard(DeviceKey("cuda", index)):
            array = backend.xp.from_dlpack(ext_tensor)
    t = wrap(array)
    if copy:
        t = t.clone()
    return t if device is None else t.to(device)


def cuda_array_interface(t: Tensor) -> dict[str, Any]:
    """`Tensor.__cuda_array_interface__`: address, shape, strides in bytes (None in row-major order) and dtype.

    AttributeError for a tensor that is not on an NVIDIA GPU or is sparse, RuntimeError for one that requires grad.
    """
    if not t.is_cuda:
        raise AttributeError(
            f"Can't get __cuda_array_interface__ on non-CUDA tensor type: {t.type()} "
            "If CUDA data is required use tensor.cuda() to copy tensor to device memory."
        )
    if t.is_sparse:
        raise AttributeError(
            f"Can't get __cuda_array_interface__ on sparse type: {t.type()} "
            "Use Tensor.to_dense() to convert to a dense tensor first."
        )
    if t._rg:
        raise RuntimeError(
            "Can't get __cuda_array_interface__ on Variable that requires grad. "
            "If gradients aren't required, use var.detach() to get Variable that doesn't require grad."
        )
    a = t.array
    strides = None if a.flags.c_contiguous else a.strides
    data = (a.data.ptr if a.size else 0, False)
    return {"typestr": a.dtype.str, "shape": a.shape, "strides": strides, "data": data, "version": 2}


class _Bits:
    """Two-byte floats, which the interface can only call void, as integers."""

    def __init__(self, owner: Any, words: dict[str, Any]):
        self.owner = owner
        self.__cuda_array_interface__ = {k: v for k, v in words.items() if k != "descr"} | {"typestr": "<u2"}


def of_device_memory(obj: Any) -> Tensor:
    """A tensor over the memory of an object with `__cuda_array_interface__` (CuPy, Numba, torch), without a copy.

    What the interface calls void of 2 bytes is bfloat16, as PyTorch has it.
    """
    backend = backend_of_device("cuda")
    if isinstance(obj, backend.array_type):
        return wrap(obj.view())
    words = obj.__cuda_array_interface__
    if words["typestr"][1:] != "V2":
        return wrap(backend.xp.asarray(obj))
    return wrap(backend.xp.asarray(_Bits(obj, words)).view(by_name("bfloat16").np))
