"""What a file of torch.save may name: the closed list, with what each of torch's names means here."""

from __future__ import annotations

import collections
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np

from ..autograd import dtypes
from ..autograd.device import CPU
from ..autograd.device import device as _device
from ..autograd.layout import layout, sparse_coo, strided
from ..autograd.parameter import Buffer, Parameter
from ..autograd.size import Size
from ..autograd.tensor import RARE, Tensor, wrap
from ..backends.registry import backend_of


class Storage:
    """The memory of one or more tensors, as `map_location` functions see it.

    Attributes:
        memory: the bytes, an array of uint8 on `device`.
    """

    def __init__(self, memory: Any, dtype: Any = None, device: _device = CPU):
        self.memory, self.dtype, self.device = memory, dtype, device

    def to(self, location: Any) -> Storage:
        """The same bytes on a device; itself where it is there already."""
        place = _device(location)
        if place == self.device:
            return self
        backend = place.backend()
        return Storage(backend.asarray(self.memory, device=place.key), self.dtype, place)

    def cpu(self) -> Storage:
        """The same bytes in host memory."""
        return self.to(CPU)

    def cuda(self, device: Any = None) -> Storage:
        """The same bytes on an NVIDIA device."""
        return self.to("cuda" if device is None else device if not isinstance(device, int) else f"cuda:{device}")

    def nbytes(self) -> int:
        """The number of bytes."""
        return self.memory.nbytes

    def fill(self, memory: Any) -> None:
        """Other bytes, as many, in the same memory: tensors over it have them too."""
        same = self.device.type == "cpu"
        self.memory[...] = memory if same else self.device.backend().asarray(memory, device=self.device.key)

    def view(self, d: Any, offset: int, size: tuple[int, ...], stride: tuple[int, ...]) -> Any:
        """An array over this memory; offset and stride in elements. RuntimeError where it would reach outside."""
        item = d.itemsize
        counts = (offset, *size, *stride)
        if len(size) != len(stride) or any(type(n) is not int or n < 0 for n in counts):
            raise RuntimeError(f"a tensor of size {list(size)}, stride {list(stride)}, offset {offset} cannot be")
        end = offset + 1 + sum((n - 1) * s for n, s in zip(size, stride, strict=True)) if all(size) else 0
        if end * item > self.memory.nbytes:
            raise RuntimeError(
                f"setStorage: sizes {list(size)}, strides {list(stride)}, storage offset {offset}, and itemsize {item} "
                f"requiring a storage size of {end * item} are out of bounds for storage of size {self.memory.nbytes}"
            )
        strides = tuple(s * item for s in stride)
        if self.device.type != "cpu":
            backend = self.device.backend()
            whole = self.memory[: self.memory.nbytes // item * item].view(d.np)[offset:]
            return backend.tidy(backend.xp.lib.stride_tricks.as_strided(whole, size, strides))
        if not end:
            return np.empty(size, d.np)
        return np.ndarray(size, d.np, self.memory, offset * item, strides)


class StorageType:
    """What the names torch.FloatStorage and its like mean in a file: the dtype of a storage."""

    def __init__(self, dtype: Any):
        self.dtype = dtype


# ---- what torch's functions of these names do


def _rebuild_tensor(storage: Storage, storage_offset: int, size: Any, stride: Any) -> Tensor:
    if not isinstance(storage, Storage) or not isinstance(size, tuple | list) or not isinstance(stride, tuple | list):
        raise pickle.UnpicklingError("a tensor is made of a storage, an offset, a size and a stride")
    d = dtypes.uint8 if storage.dtype is None else storage.dtype
    return wrap(storage.view(d, storage_offset, tuple(size), tuple(stride)))


def _rebuild_tensor_v2(
    storage: Storage, storage_offset: int, size: Any, stride: Any, requires_grad: bool, hooks: Any, metadata: Any = None
) -> Tensor:
    t = _rebuild_tensor(storage, storage_offset, size, stride)
    if metadata:
        t = _with_pending(t, metadata)
    t._rg = bool(requires_grad)
    return t


def _with_pending(t: Tensor, metadata: Any) -> Tensor:
    """What PyTorch's conj() and its .imag only note ("conj", "neg"), computed: such a tensor has memory of its own."""
    if not isinstance(metadata, dict):
        raise pickle.UnpicklingError(f"a tensor's metadata is a dict, not {type(metadata).__name__}")
    array = t.array
    pending = metadata.get("conj") or metadata.get("neg")
    if pending and array.size > backend_of(array).storage_of(array).nbytes:  # expanded: a few bytes may say terabytes
        raise pickle.UnpicklingError("a conjugated or negated tensor has more elements than its storage")
    if metadata.get("conj"):
        array = backend_of(array).xp.conj(array)
    if metadata.get("neg"):
        array = -array
    return t if array is t.array else wrap(array)


def _rebuild_tensor_v3(
    storage: Storage, storage_offset: int, size: Any, stride: Any, requires_grad: bool, hooks: Any, dtype: Any,
    metadata: Any = None,
) -> Tensor:  # fmt: skip
    if not isinstance(storage, Storage) or not isinstance(dtype, dtypes.dtype):
        raise pickle.UnpicklingError("a tensor of a dtype is made of a storage and a dtype")
    typed = Storage(storage.memory, dtype, storage.device)
    return _rebuild_tensor_v2(typed, storage_offset, size, stride, requires_grad, hooks, metadata)


def _rebuild_parameter(data: Tensor, requires_grad: bool, hooks: Any) -> Parameter:
    return Parameter(_tensor(data), bool(requires_grad))


def _rebuild_parameter_with_state(data: Tensor, requires_grad: bool, hooks: Any, state: Any) -> Parameter:
    return with_state(Parameter(_tensor(data), bool(requires_grad)), state)


def _tensor(data: Any) -> Tensor:
    if not isinstance(data, Tensor):
        raise pickle.UnpicklingError(f"a tensor is expected, not {type(data).__name__}")
    return data


def _rebuild_from_type_v2(func: Callable[..., Any], new_type: Any, args: Any, state: Any) -> Any:
    if func not in _REBUILD:  # it is called: whatever else the file has named must not be
        raise pickle.UnpicklingError(f"Trying to rebuild a tensor by unrecognized function {func!r}")
    t = func(*args)
    if not isinstance(new_type, type) or not issubclass(new_type, Tensor):
        raise pickle.UnpicklingError(f"a tensor of type {new_type!r} cannot be")
    if type(t) is not new_type:
        made: Any = object.__new__(new_type)
        made.array, made._rg, made._node = t.array, t._rg, None
        t = made
    if "__setstate__" in type(t).__dict__:
        t.__setstate__(state)
        return t
    return with_state(t, state)


def with_state(t: Any, state: Any) -> Any:
    if isinstance(state, tuple):  # (attributes, slots)
        state = {**(state[0] or {}), **(state[1] or {})}
    if isinstance(t, Tensor):  # hooks and the like are this process's own
        state = {key: value for key, value in state.items() if key not in RARE}
    t.__dict__.update(state)
    return t


def _rebuild_sparse_tensor(kind: Any, data: Any) -> Any:
    from ..sparse import sparse_coo_tensor

    if not isinstance(kind, layout) or kind.name != "sparse_coo":
        raise pickle.UnpicklingError(f"sparse tensors of layout {kind!r} are not known here, only torch.sparse_coo")
    indices, values, size, *rest = data
    if _tensor(indices).array.size > backend_of(indices.array).storage_of(indices.array).nbytes:
        raise pickle.UnpicklingError("a sparse tensor has more indices than its storage")
    _tensor(values)
    return sparse_coo_tensor(indices, values, size, is_coalesced=rest[0] if rest else None)


def _get_layout(name: str) -> layout:
    found = {"torch.strided": strided, "torch.sparse_coo": sparse_coo}.get(name)
    if found is None:
        raise pickle.UnpicklingError(f"layout {name!r} is not known here")
    return found


_REBUILD = (
    _rebuild_tensor, _rebuild_tensor_v2, _rebuild_tensor_v3, _rebuild_parameter, _rebuild_parameter_with_state,
    _rebuild_sparse_tensor,
)  # fmt: skip


def names() -> dict[str, Any]:
    """Every name that a file may use under weights_only: the closed list."""
    try:
        dtypes.by_name("bfloat16")
    except ImportError:
        pass  # a file with such tensors then fails by that name
    found: dict[str, Any] = {f"torch._utils.{f.__name__}": f for f in _REBUILD}
    found |= {f"torch.{d.name}": d for d in dtypes.ALL}
    found |= {f"torch.{d.legacy}Storage": StorageType(d) for d in dtypes.ALL}
    found |= {f"torch.storage.{d.legacy}Storage": StorageType(d) for d in dtypes.ALL}
    found |= {"torch.UntypedStorage": StorageType(None), "torch.storage.UntypedStorage": StorageType(None)}
    found |= {"torch.Tensor": Tensor, "torch._tensor.Tensor": Tensor, "torch.nn.parameter.Parameter": Parameter}
    found |= {"torch.nn.parameter.Buffer": Buffer, "torch.Size": Size, "torch.device": _device}
    found |= {"torch._tensor._rebuild_from_type_v2": _rebuild_from_type_v2}
    found |= {"torch.serialization._get_layout": _get_layout}
    found |= {"collections.OrderedDict": collections.OrderedDict, "collections.Counter": collections.Counter}
    plain = {"set": set, "bytearray": bytearray, "complex": complex, "frozenset": frozenset}
    found |= {f"{module}.{name}": kind for module in ("builtins", "__builtin__") for name, kind in plain.items()}
    found["_codecs.encode"] = _encode
    return found


def _encode(text: str, encoding: str = "latin1") -> bytes:
    """How protocol 2 writes bytes."""
    if encoding not in ("latin1", "latin-1", "utf-8", "ascii"):  # others may be any module of the path
        raise pickle.UnpicklingError(f"bytes by the encoding {encoding!r}")
    return text.encode(encoding)


# ---- names that the user calls safe

added: dict[str, Any] = {}


def _full_name(item: Any) -> tuple[str, Any]:
    if isinstance(item, tuple):
        return item[1], item[0]
    return f"{item.__module__}.{item.__qualname__}", item


def add_safe_globals(safe_globals: list[Any]) -> None:
    """Lets `load(weights_only=True)` use these classes and functions; a pair (object, name) gives the name it has."""
    added.update(map(_full_name, safe_globals))


def get_safe_globals() -> list[Any]:
    """What was added so far."""
    return list(added.values())


def clear_safe_globals() -> None:
    """Forgets all that was added."""
    added.clear()


class safe_globals:
    """Inside, `load(weights_only=True)` may use these classes and functions."""

    def __init__(self, safe_globals: list[Any]):
        self.safe_globals = safe_globals

    def __enter__(self) -> None:
        self._before = dict(added)
        add_safe_globals(self.safe_globals)

    def __exit__(self, *_: object) -> None:
        added.clear()
        added.update(self._before)
