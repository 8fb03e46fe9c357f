"""Moves and conversions: devices, dtypes, NumPy, Python lists; copies and fills in place."""

from __future__ import annotations

from typing import Any

import numpy as np

from ...backends.registry import backend_of
from .. import dtypes
from ..coerce import broadcast_text
from ..device import device as Device
from ..device import resolve
from ..dtypes import F32, F64, as_dtype, dtype, result_dtype, scalar_dtype
from ..inplace import assign, check_overlap, check_writable
from ..layout import preserve_format
from ..modes import mode
from ..ops import core as op
from ..ops import shape as shape_op
from ..tensor import Tensor, wrap
from ..versions import mark_written
from .args import number_as, number_of
from .table import public


@public(is_function=False)
def to(self: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    """to(dtype), to(device, dtype=None), to(other): this tensor in another dtype or on another device.

    Gives the tensor itself where nothing changes (unless copy=True). Recorded. (*S) -> (*S).
    """
    kwargs.pop("non_blocking", None)
    layout = kwargs.pop("memory_format", None)
    copy = kwargs.pop("copy", False)
    place, kind = kwargs.pop("device", None), kwargs.pop("dtype", None)
    if "other" in kwargs:
        args = (kwargs.pop("other"), *args)
    if kwargs:
        raise TypeError(f"to() received an invalid keyword argument: {next(iter(kwargs))}")
    for a in args:
        if isinstance(a, Tensor):
            place, kind = a.device, a.dtype
        elif isinstance(a, dtype) or a in (float, int, bool, complex):
            kind = a
        elif isinstance(a, (Device, str)) or (isinstance(a, int) and not isinstance(a, bool)):
            place = a
        elif isinstance(a, bool):
            copy = copy or (a and a is args[-1] and len(args) > 2)
        elif a is not None:
            raise TypeError(f"to() received an invalid combination of arguments - got ({type(a).__name__})")
    t = self
    if kind is not None and (wanted := as_dtype(kind).np) != t.array.dtype:
        t = op.cast(t if wanted.kind in "fcV" else t.detach(), dtype=wanted)  # integers have no gradient
    if place is not None:
        target = resolve(place)
        if not _same(target, t.device):
            t = op.transfer(t, device=target)
    if t is self and copy:
        return clone(self, memory_format=layout)
    return t if layout is None else arranged(t, layout)


def arranged(t: Tensor, memory_format: Any, copy: bool = False) -> Tensor:
    """The tensor in that order of memory: itself where it lies so (unless `copy`), else a copy. (*S) -> (*S)."""
    a = t.array
    word = "preserve_format" if memory_format is None else memory_format.name
    if word == "preserve_format":
        return (op.clone if a.flags.c_contiguous else op.clone_kept)(t) if copy else t
    if word == "contiguous_format":
        return op.clone(t) if copy or not a.flags.c_contiguous else t
    rank = 4 if word == "channels_last" else 5
    if a.ndim != rank:
        raise RuntimeError(f"required rank {rank} tensor to use {word} format")
    last = (0, *range(2, rank), 1)
    if not copy and a.transpose(last).flags.c_contiguous:
        return t
    return shape_op.permute(op.clone(shape_op.permute(t, axes=last)), axes=(0, rank - 1, *range(1, rank - 1)))


def _same(target: Device, have: Device) -> bool:
    if target.type != have.type:
        return False
    if target.index is None and target.type != "cpu":  # "cuda" is the current one
        backend = target.backend()
        return not backend.several or have.index == backend.current()
    return target.index == have.index or target.type == "cpu"


def _caster(name: str, dtype_name: str) -> Any:
    def cast(self: Tensor, memory_format: Any = None) -> Tensor:
        return to(self, dtypes.by_name(dtype_name))

    cast.__name__ = cast.__qualname__ = name
    cast.__doc__ = f"This tensor as {dtype_name}. (*S) -> (*S)."
    return public(cast, is_function=False)


for _name, _dtype in {
    "float": "float32", "double": "float64", "half": "float16", "bfloat16": "bfloat16", "long": "int64",
    "int": "int32", "short": "int16", "char": "int8", "byte": "uint8", "bool": "bool", "cfloat": "complex64",
    "cdouble": "complex128",
}.items():  # fmt: skip
    _caster(_name, _dtype)


@public(is_function=False)
def cpu(self: Tensor, memory_format: Any = None) -> Tensor:
    """This tensor in host memory. (*S) -> (*S)."""
    return to(self, "cpu")


@public(is_function=False)
def cuda(self: Tensor, device: Any = None, non_blocking: bool = False, memory_format: Any = None) -> Tensor:
    """This tensor on an NVIDIA GPU, by default the current one. BackendError where there is none. (*S) -> (*S)."""
    return to(self, "cuda" if device is None else device)


@public(is_function=False, name="type")
def type_(self: Tensor, dtype: Any = None, non_blocking: bool = False) -> Any:
    """Without an argument the legacy type's name, such as 'torch.FloatTensor'; else the tensor in that type.

    (*S) -> (*S).
    """
    if dtype is None:
        place = "" if self.device.type == "cpu" else f"{self.device.type}."
        return f"torch.{place}{self.dtype.legacy}Tensor"
    if isinstance(dtype, str):
        word = dtype.rpartition(".")[2].removesuffix("Tensor")
        found = [d for d in dtypes.ALL if d.legacy == word]
        if not found:
            raise ValueError(f"invalid type: '{dtype}'")
        return to(self, found[0])
    dtype = getattr(dtype, "legacy_dtype", dtype)
    if not isinstance(dtype, dtypes.dtype):
        if isinstance(dtype, type):
            raise ValueError(f"invalid type: '{dtype.__name__}'")
        raise TypeError("dtype must be a type, str, or dtype object")
    return to(self, dtype)


@public(is_function=False)
def type_as(self: Tensor, other: Tensor) -> Tensor:
    """This tensor in other's dtype and on its device. (*S) -> (*S)."""
    return to(self, other)


@public(is_function=False)
def numpy(self: Tensor, *, force: bool = False) -> Any:
    """The values as np.ndarray, sharing memory on the CPU. (*S) -> an array (*S).

    Raises RuntimeError for a tensor that requires grad (outside no_grad) and TypeError for one on another device,
    unless force=True.
    """
    t = self
    if t._rg:
        if not force and mode.grad is not False:
            raise RuntimeError("Can't call numpy() on Tensor that requires grad. Use tensor.detach().numpy() instead.")
        t = t.detach()
    if t.device.type != "cpu" and not force:
        raise TypeError(
            f"can't convert {t.device} device type tensor to numpy. Use Tensor.cpu() to copy the tensor to host memory "
            "first."
        )
    host = backend_of(t.array).to_numpy(t.array)
    return host.view() if host is t.array else host  # its shape may be assigned to


@public(is_function=False)
def tolist(self: Tensor) -> Any:
    """The values as nested Python lists (a number for a 0-d tensor)."""
    host = backend_of(self.array).to_numpy(self.array)
    return (host.astype(np.float32) if host.dtype.kind == "V" else host).tolist()


@public(is_function=False)
def copy_(self: Tensor, src: Tensor, non_blocking: bool = False) -> Tensor:
    """Writes src (a tensor or a number), broadcast and converted, into this tensor. src: (*T) -> (*S)."""
    if isinstance(src, (bool, int, float, complex)):
        src = wrap(backend_of(self.array).asarray(np.array(number_as(src, self.dtype), self.array.dtype)))
    if not isinstance(src, Tensor):
        raise TypeError(f"copy_(): argument 'other' (position 1) must be Tensor, not {type(src).__name__}")
    check_writable(self, "copy_")
    recorded = mode.grad is not False and (src._rg or self._rg)
    if src.array.ndim > self.array.ndim:  # NumPy drops leading dimensions of 1; PyTorch does not
        raise RuntimeError(_broadcast_text(self.array, src.array))
    if not recorded and src.device == self.device:
        check_overlap(self.array, "copy_")
        _write(self.array, src.array)
        mark_written(self)
        return self
    value = to(src, device=self.device, dtype=self.dtype)
    if value.array.shape != self.array.shape:
        if broadcast_text([value.shape, self.shape]) or np.broadcast_shapes(value.shape, self.shape) != self.shape:
            raise RuntimeError(_broadcast_text(self.array, src.array))
        value = op.expand(value, shape=self.array.shape)
    return assign(self, op.clone(value) if value._rg else value, "copy_")


def _write(target: Any, source: Any) -> None:
    if source.dtype.kind == "c" and target.dtype.kind != "c":
        source = source.real
    try:
        target[...] = source
    except ValueError as error:
        if "broadcast" not in str(error):
            raise
        raise RuntimeError(_broadcast_text(target, source)) from error


def _broadcast_text(target: Any, source: Any) -> str:
    shapes = target.shape, source.shape
    return broadcast_text(list(shapes)) or (
        f"output with shape {list(shapes[0])} doesn't match the broadcast shape {list(np.broadcast_shapes(*shapes))}"
    )


@public(method=False)
def fill(input: Tensor, value: Any) -> Tensor:
    """One value (a number or a 0-d tensor) everywhere, of input's shape and dtype. input: (*S) -> (*S)."""
    return fill_(op.clone(input), value)


@public
def fill_(input: Tensor, value: Any) -> Tensor:
    """Writes one value (a number or a 0-d tensor) everywhere. (*S) -> (*S)."""
    self = input
    if isinstance(value, Tensor):
        if value.array.ndim:
            raise RuntimeError(
                "fill_ only supports 0-dimension value tensor but got tensor with "
                f"{value.array.ndim} dimensions."
            )
        return copy_(self, value)
    check_writable(self, "fill_")
    value = number_as(number_of(value, "fill_", "value"), self.dtype)
    if self._rg and mode.grad is not False:
        backend = backend_of(self.array)
        return assign(self, wrap(backend.tidy(backend.xp.full_like(self.array, value))), "fill_")
    check_overlap(self.array, "fill_")
    self.array.fill(value)
    mark_written(self)
    return self


@public
def zero_(input: Tensor) -> Tensor:
    """Writes zeros everywhere. (*S) -> (*S)."""
    array = input.array
    if (input._rg and mode.grad is not False) or (array.dtype is not F32 and array.dtype is not F64):
        return fill_(input, 0)
    check_writable(input, "zero_")
    check_overlap(array, "zero_")
    array.fill(0)
    mark_written(input)
    return input


@public(method=False)
def detach_(input: Tensor) -> Tensor:
    """Cuts the tensor from its history, in place. (*S) -> (*S)."""
    return Tensor.detach_(input)


@public
def clone(input: Tensor, *, memory_format: Any = None) -> Tensor:
    """A copy in new memory, recorded; its order of memory is input's or the one given. input: (*S) -> (*S)."""
    if memory_format is None and input.array.flags.c_contiguous:
        return op.clone(input)
    return arranged(input, memory_format, copy=True)


@public(is_function=False)
def contiguous(self: Tensor, memory_format: Any = None) -> Tensor:
    """This tensor where it lies in row-major order (or the one given), else a copy that does. (*S) -> (*S)."""
    if memory_format is None or memory_format is preserve_format and self.array.flags.c_contiguous:
        return self if self.array.flags.c_contiguous else op.clone(self)
    if memory_format is preserve_format:
        raise RuntimeError("preserve memory format is unsupported by the contiguous operator")
    return arranged(self, memory_format)


@public(is_function=False)
def apply_(self: Tensor, callable: Any) -> Tensor:
    """Replaces each element by callable(element): slow, CPU only, not recorded. (*S) -> (*S)."""
    if self._rg:
        raise RuntimeError("apply_(): cannot be used on a tensor that requires grad")
    flat = [callable(v) for v in self.array.reshape(-1).tolist()]
    self.array[...] = np.array(flat, self.array.dtype).reshape(self.array.shape)
    mark_written(self)
    return self


@public
def is_floating_point(input: Tensor) -> bool:
    """Whether the dtype is a floating one."""
    return input.dtype.is_floating_point


@public
def is_complex(input: Tensor) -> bool:
    """Whether the dtype is a complex one."""
    return input.dtype.is_complex


@public
def is_signed(input: Tensor) -> bool:
    """Whether the dtype has negative numbers."""
    return input.dtype.is_signed


@public(name="is_inference", method=False)
def is_inference(input: Tensor) -> bool:
    """Whether the tensor was made in inference_mode."""
    return input.is_inference()


@public
def detach(input: Tensor) -> Tensor:
    """The same memory without history. (*S) -> (*S)."""
    return Tensor.detach(input)


@public(method=False)
def is_tensor(obj: Any) -> bool:
    """Whether the object is a Tensor."""
    return isinstance(obj, Tensor)


@public
def get_device(input: Tensor) -> int:
    """The index of the device; -1 on the CPU."""
    return -1 if input.device.index is None else input.device.index


@public(is_function=False)
def pin_memory(self: Tensor, device: Any = None) -> Tensor:
    """The tensor itself: host memory is not pinned here. (*S) -> (*S)."""
    return self


@public(is_function=False)
def record_stream(self: Tensor, stream: Any) -> None:
    """Keeps the memory from new tensors until the stream, which uses it too, is done. (*S) on a GPU -> None."""
    if not self.is_cuda:
        raise NotImplementedError(
            "Could not run 'aten::record_stream' with arguments from the 'CPU' backend: it is for tensors on a GPU"
        )
    backend_of(self.array).lend(self.array, stream.raw)


@public(is_function=False)
def is_pinned(self: Tensor, device: Any = None) -> bool:
    """Whether the memory is pinned: never."""
    return False


@public(is_function=False)
def share_memory_(self: Tensor) -> Tensor:
    """The tensor itself: memory is shared among threads anyway. (*S) -> (*S)."""
    return self


@public(is_function=False)
def is_set_to(self: Tensor, tensor: Tensor) -> bool:
    """Whether both show exactly the same memory in the same way."""
    a, b = self.array, tensor.array
    same_start = a.__array_interface__["data"] == b.__array_interface__["data"]
    return same_start and a.shape == b.shape and a.strides == b.strides


@public(method=False)
def result_type(tensor1: Any, tensor2: Any) -> dtype:
    """The dtype of an op on the two (tensors or numbers)."""
    sized: list[dtype] = []
    flat: list[dtype] = []
    scalars: list[dtype] = []
    for value in (tensor1, tensor2):
        if not isinstance(value, (Tensor, bool, int, float, complex, np.generic)):
            raise TypeError(f"result_type(): arguments must be Tensors or Numbers, not {type(value).__name__}")
        if not isinstance(value, Tensor):
            scalars.append(scalar_dtype(value))
        else:
            (sized if value.array.ndim else flat).append(value.dtype)
    return result_dtype(sized, flat, scalars)
