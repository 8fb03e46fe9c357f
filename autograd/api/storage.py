"""Memory: storages, tensors over memory laid out at will, and tensors that are given other memory."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from ...backends.registry import backend_of
from ..device import device
from ..dtypes import as_dtype, dtype, get_default_dtype, uint8
from ..layout import channels_last, channels_last_3d, contiguous_format
from ..ops import shape as op
from ..tensor import Tensor, wrap
from ..versions import mark_written
from . import shape
from .args import sizes_of
from .creation import _constant
from .table import public

# ---- storages --------------------------------------------------------------------------------------------------------


class UntypedStorage:
    """The bytes that a tensor and its views share. UntypedStorage(n) makes n bytes of zeros on the CPU.

    Two are equal when they are the same memory.
    """

    def __init__(self, size: int = 0, *, device: Any = None):
        self._array = _constant((size,), 0, uint8.np, device).array

    @classmethod
    def _of(cls, array: Any) -> UntypedStorage:
        self = object.__new__(cls)
        backend = backend_of(array)
        self._array = backend.tidy(backend.storage_of(array))
        return self

    @property
    def _flat(self) -> Any:
        """All elements in the order in which they lie in memory. -> (N,)."""
        a = self._array
        order = sorted(range(a.ndim), key=lambda d: -a.strides[d])
        return a.transpose(order).reshape(-1)

    @property
    def _bytes(self) -> Any:
        return self._flat.view(np.uint8)

    @property
    def device(self) -> device:
        return wrap(self._array).device

    @property
    def is_cuda(self) -> bool:
        return self.device.type == "cuda"

    @property
    def _cdata(self) -> int:
        return shape.address(self._array)

    def data_ptr(self) -> int:
        """The address of the first byte; 0 where there is none."""
        return shape.address(self._array) if self._array.size else 0

    def nbytes(self) -> int:
        """How many bytes there are."""
        return self._array.nbytes

    size = __len__ = nbytes

    def element_size(self) -> int:
        """1: the elements are bytes."""
        return 1

    def is_shared(self) -> bool:
        """Whether other processes see this memory: never."""
        return False

    def share_memory_(self) -> UntypedStorage:
        """The storage itself: memory is shared among threads anyway."""
        return self

    def untyped(self) -> UntypedStorage:
        return self

    def tolist(self) -> list[int]:
        """The bytes as numbers."""
        return wrap(self._bytes).tolist()

    def __iter__(self) -> Iterator[int]:
        return iter(self.tolist())

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return UntypedStorage._of(self._bytes[index].copy())
        return wrap(self._bytes)[index].item()

    def __setitem__(self, index: Any, value: int) -> None:
        self._bytes[index] = value

    def fill_(self, value: int) -> UntypedStorage:
        """Writes one byte everywhere."""
        self._bytes[...] = value
        return self

    def copy_(self, source: UntypedStorage, non_blocking: bool = False) -> UntypedStorage:
        """Writes the bytes of another storage of this size."""
        self._bytes[...] = source.untyped()._bytes
        return self

    def clone(self) -> UntypedStorage:
        """A copy of the bytes."""
        return UntypedStorage._of(self._bytes.copy())

    def cpu(self) -> UntypedStorage:
        """The storage itself on the CPU, else a copy there."""
        return self if self.device.type == "cpu" else UntypedStorage._of(wrap(self._bytes).cpu().array)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, UntypedStorage) and other._cdata == self._cdata

    def __hash__(self) -> int:
        return self._cdata

    def __repr__(self) -> str:
        shown = "\n".join(f" {b}" for b in self.tolist())
        return f"{shown}\n[torch.storage.UntypedStorage(device={self.device}) of size {len(self)}]"


class TypedStorage:
    """A storage read as elements of one dtype; PyTorch's older form."""

    def __init__(self, *, wrap_storage: UntypedStorage, dtype: dtype):
        self._untyped_storage, self.dtype = wrap_storage, dtype

    @property
    def _typed(self) -> Any:
        return self._untyped_storage._bytes.view(self.dtype.np)

    @property
    def device(self) -> device:
        return self._untyped_storage.device

    is_sparse = is_cuda = False

    def untyped(self) -> UntypedStorage:
        """The bytes themselves."""
        return self._untyped_storage

    def data_ptr(self) -> int:
        """The address of the first element; 0 where there is none."""
        return self._untyped_storage.data_ptr()

    def nbytes(self) -> int:
        """How many bytes there are."""
        return self._untyped_storage.nbytes()

    def element_size(self) -> int:
        """The bytes of one element."""
        return self.dtype.itemsize

    def size(self) -> int:
        """How many elements there are."""
        return self.nbytes() // self.dtype.itemsize

    __len__ = size

    def is_shared(self) -> bool:
        """Whether other processes see this memory: never."""
        return False

    def tolist(self) -> list[Any]:
        """The elements as Python numbers."""
        return wrap(self._typed).tolist()

    def __iter__(self) -> Iterator[Any]:
        return iter(self.tolist())

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            raise RuntimeError("slices are only supported in UntypedStorage.__getitem__")
        return wrap(self._typed)[index].item()

    def __setitem__(self, index: Any, value: Any) -> None:
        self._typed[index] = value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, TypedStorage) and self._untyped_storage == other._untyped_storage

    def __hash__(self) -> int:
        return hash(self._untyped_storage)

    def __repr__(self) -> str:
        shown = "\n".join(f" {v}" for v in self.tolist())
        return (
            f"{shown}\n[torch.storage.TypedStorage(dtype={self.dtype}, device={self.device}) of size {self.size()}]"
        )


@public(is_function=False)
def untyped_storage(self: Tensor) -> UntypedStorage:
    """The memory of the tensor, as bytes: data_ptr(), nbytes(), size()."""
    return UntypedStorage._of(self.array)


@public(is_function=False)
def storage(self: Tensor) -> TypedStorage:
    """The memory of the tensor, as elements of its dtype."""
    return TypedStorage(wrap_storage=UntypedStorage._of(self.array), dtype=self.dtype)


@public(method=False)
def is_storage(obj: Any) -> bool:
    """Whether the object is a storage."""
    return isinstance(obj, (UntypedStorage, TypedStorage))


@public(is_function=False)
def is_shared(self: Tensor) -> bool:
    """Whether other processes see this memory: never."""
    return False


@public(is_function=False)
def dim_order(self: Tensor, ambiguity_check: Any = False) -> tuple[int, ...]:
    """The dimensions from the one that lies outermost in memory to the innermost.

    ambiguity_check: True raises RuntimeError where dimensions of equal stride leave more than one order.
    """
    strides, sizes = self.stride(), self.array.shape
    if ambiguity_check is True and (1 in sizes or len(set(strides)) < len(strides)):
        raise RuntimeError(
            "The tensor does not have unique dim order, or cannot map to exact one of the given memory formats."
        )
    order: list[int] = []  # innermost first
    for d in reversed(range(len(sizes))):
        place = len(order)
        for k in range(len(order) - 1, -1, -1):  # stretched dimensions (stride 0) stay where they are
            other = order[k]
            if strides[d] and strides[other]:
                if (strides[d], sizes[d]) >= (strides[other], sizes[other]):
                    break
                place = k
        order.insert(place, d)
    return tuple(reversed(order))


# ---- tensors with strides of their own -------------------------------------------------------------------------------


def _strided(size: tuple[int, ...], stride: tuple[int, ...], d: dtype, place: Any, requires_grad: bool) -> Tensor:
    if len(size) != len(stride):
        raise RuntimeError(
            f"dimensionality of sizes ({len(size)}) must match dimensionality of strides ({len(stride)})"
        )
    if any(s < 0 for s in stride):
        raise RuntimeError(f"Storage size calculation overflowed with sizes={list(size)} and strides={list(stride)}")
    count = 0 if 0 in size else 1 + sum((n - 1) * s for n, s in zip(size, stride, strict=True))
    flat = _constant((count,), 0, d.np, place)
    view = op.as_strided.op.generic
    t = wrap(view(backend_of(flat.array).xp, flat.array, layout=(1,), size=size, stride=stride, offset=0))
    t.requires_grad = requires_grad
    return t


@public(method=False)
def empty_strided(
    size: Any, stride: Any, *, dtype: Any = None, layout: Any = None, device: Any = None, requires_grad: bool = False,
    pin_memory: bool = False,
) -> Tensor:  # fmt: skip
    """A tensor of that size with those strides (in elements); its values are not to be relied on. -> (*size)."""
    d = get_default_dtype() if dtype is None else as_dtype(dtype)
    sizes, strides = sizes_of((size,), "empty_strided"), sizes_of((stride,), "empty_strided", "stride")
    return _strided(sizes, strides, d, device, requires_grad)


@public(is_function=False)
def new_empty_strided(
    self: Tensor, size: Any, stride: Any, dtype: Any = None, layout: Any = None, device: Any = None,
    pin_memory: bool = False, requires_grad: bool = False,
) -> Tensor:  # fmt: skip
    """empty_strided of this tensor's dtype and device. -> (*size)."""
    d = self.dtype if dtype is None else as_dtype(dtype)
    sizes, strides = sizes_of((size,), "new_empty_strided"), sizes_of((stride,), "new_empty_strided", "stride")
    return _strided(sizes, strides, d, self.device if device is None else device, requires_grad)


@public(method=False)
def empty_permuted(
    size: Any, physical_layout: Any, *, dtype: Any = None, layout: Any = None, device: Any = None,
    requires_grad: bool = False, pin_memory: bool = False,
) -> Tensor:  # fmt: skip
    """A tensor whose dimensions lie in memory in the order physical_layout, outermost first. -> (*size)."""
    sizes, order = sizes_of((size,), "empty_permuted"), sizes_of((physical_layout,), "empty_permuted")
    if len(sizes) != len(order):
        raise RuntimeError(
            f"Number of dimensions in size does not match the length of the physical_layout; i.e. len(size) = "
            f"{len(sizes)} is not equal to len(physical_layout) = {len(order)}"
        )
    strides, step, seen = [0] * len(sizes), 1, set()
    for d in reversed(order):
        if not 0 <= d < len(sizes):
            raise RuntimeError(
                f"Dimension out of range (expected to be between 0 and {len(sizes) - 1}, but got {d} at index "
                f"{order.index(d)}).  NB: negative dims not currently supported; file an issue if you want it."
            )
        if d in seen:
            raise RuntimeError("Duplicate dim not allowed")
        seen.add(d)
        strides[d], step = step, step * max(sizes[d], 1)
    kind = get_default_dtype() if dtype is None else as_dtype(dtype)
    return _strided(sizes, tuple(strides), kind, device, requires_grad)


# ---- tensors that are given other memory -----------------------------------------------------------------------------


@public(is_function=False)
def resize_(self: Tensor, *sizes: Any, size: Any = None, memory_format: Any = None) -> Tensor:
    """This tensor with another size, over the same memory where that suffices, else over new memory with its content.

    (*S) -> (*sizes).

    New elements are not to be relied on. Views keep the old memory. RuntimeError where a gradient is required.
    """
    return _resized(self, sizes_of(sizes, "resize_", "size", size), memory_format)


@public
def resize_as_(input: Tensor, the_template: Tensor, *, memory_format: Any = None) -> Tensor:
    """This tensor with the size of the_template (see resize_). (*S), (*T) -> (*T)."""
    if memory_format is not None and memory_format is not contiguous_format:
        memory_format = channels_last if the_template.array.ndim == 4 else channels_last_3d
    return _resized(input, the_template.array.shape, memory_format)


def _resized(t: Tensor, size: tuple[int, ...], memory_format: Any) -> Tensor:
    if t._rg:
        raise RuntimeError("cannot resize variables that require grad")
    if any(n < 0 for n in size):
        raise RuntimeError(f"Trying to create tensor with negative dimension {min(size)}: {list(size)}")
    if memory_format is None and size == t.array.shape:
        return t
    flat = UntypedStorage._of(t.array)._bytes
    start, item = shape.storage_offset(t) * t.array.itemsize, t.array.itemsize
    count = math.prod(size)
    if start + count * item > flat.size:
        new = wrap(flat).new_zeros(start + count * item).array
        new[: flat.size] = flat
        flat = new
    part = flat[start : start + count * item].view(t.array.dtype)
    if "channels_last" in str(memory_format):
        outer = (size[0], *size[2:], size[1])
        t.array = part.reshape(outer).transpose(0, len(size) - 1, *range(1, len(size) - 1))
    else:
        t.array = part.reshape(size)
    t._view = None
    return t


@public(is_function=False)
def set_(self: Tensor, source: Any = None, storage_offset: int = 0, size: Any = None, stride: Any = None) -> Tensor:
    """Makes this tensor show the memory of a tensor or storage, with that offset, size and strides (in elements).

    (*S) -> (*size).

    Without arguments it becomes empty. RuntimeError where a gradient is required or the dtypes differ.
    """
    if self._rg:
        raise RuntimeError("cannot set_ the memory of a tensor that requires grad")
    if source is None:
        self.array, self._view = self.array.reshape(-1)[:0].copy(), None
        return self
    if isinstance(source, Tensor):
        if source.array.dtype != self.array.dtype:
            raise RuntimeError(
                "Could not set tensor of type "
                f"{source.dtype.legacy.lower()} to a tensor of type {self.dtype.legacy.lower()}"
            )
        if size is None:
            self.array, self._view = source.array, None
            return self
        source = source.untyped_storage()
    typed = wrap(source.untyped()._bytes.view(self.array.dtype))
    if size is None:
        size = (typed.array.size - storage_offset,)
    size = sizes_of((size,), "set_")
    if stride is None:
        stride = [math.prod(size[i + 1 :]) for i in range(len(size))]
    self.array, self._view = shape.as_strided(typed, size, stride, storage_offset).array, None
    return self


# ---- element by element in Python ------------------------------------------------------------------------------------


@public(is_function=False)
def map_(self: Tensor, tensor: Tensor, callable: Any) -> Tensor:
    """Replaces each element a by callable(a, b), b that of the other tensor: slow, CPU only, not recorded.

    (*S), (*T) -> (*S).
    """
    return _mapped(self, "map_", callable, tensor)


@public(is_function=False)
def map2_(self: Tensor, x: Tensor, y: Tensor, callable: Any) -> Tensor:
    """Replaces each element a by callable(a, b, c), of two other tensors: slow, CPU only, not recorded.

    (*S), (*T), (*U) -> (*S).
    """
    return _mapped(self, "map2_", callable, x, y)


def _mapped(t: Tensor, name: str, function: Any, *others: Tensor) -> Tensor:
    if t._rg or any(o._rg for o in others):
        raise RuntimeError(f"Can't call {name}() on Variable that requires grad. Use var.detach().{name}() instead.")
    lists = [shape.expanded(o, t.array.shape).reshape(-1).tolist() for o in others]
    made = [function(a, *rest) for a, *rest in zip(t.reshape(-1).tolist(), *lists, strict=True)]
    t.array[...] = np.array(made, t.array.dtype).reshape(t.array.shape)
    mark_written(t)
    return t


@public(is_function=False)
def module_load(self: Tensor, other: Tensor, assign: bool = False) -> Tensor:
    """What load_state_dict puts in this tensor's place: other itself where `assign`, else this with other's values.

    (*S), (*S) -> (*S).
    """
    return other.detach() if assign else self.copy_(other).detach()


@public(is_function=False)
def to_dense(self: Tensor, dtype: Any = None, *, masked_grad: bool | None = None) -> Tensor:
    """The tensor itself (every tensor is dense here), in another dtype if given. (*S) -> (*S)."""
    return self if dtype is None else self.to(dtype)


@public(is_function=False)
def chalf(self: Tensor, memory_format: Any = None) -> Tensor:
    """complex32 is not available: NumPy has no such dtype. RuntimeError always; `cfloat()` gives complex64."""
    raise RuntimeError("chalf(): complex32 is not available (NumPy has no such dtype); use cfloat() for complex64")


@public(is_function=False)
def is_distributed(self: Tensor) -> bool:
    """Whether the tensor is spread over processes: never."""
    return False


for _name in ("is_sparse_csr", "is_xla", "is_ipu", "is_vulkan", "is_mtia", "is_maia"):
    setattr(Tensor, _name, False)
