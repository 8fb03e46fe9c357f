"""What `load` reads pickles with: torch's names become tapegrad's, and nothing else is run unless it is asked for."""

from __future__ import annotations

import collections
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np

from .autograd import dtypes
from .autograd.device import CPU
from .autograd.device import device as _device
from .autograd.layout import layout
from .autograd.parameter import Buffer, Parameter
from .autograd.size import Size
from .autograd.tensor import Tensor, wrap


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

    def view(self, d: Any, offset: int, size: tuple[int, ...], stride: tuple[int, ...]) -> Any:
        """An array over this memory; offset and stride in elements. RuntimeError where it would reach outside."""
        item = d.itemsize
        if len(size) != len(stride) or offset < 0 or any(n < 0 for n in (*size, *stride)):
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
    return wrap(storage.view(storage.dtype, storage_offset, tuple(size), tuple(stride)))


def _rebuild_tensor_v2(
    storage: Storage, storage_offset: int, size: Any, stride: Any, requires_grad: bool, hooks: Any, metadata: Any = None
) -> Tensor:
    t = _rebuild_tensor(storage, storage_offset, size, stride)
    t._rg = bool(requires_grad)
    return t


def _rebuild_tensor_v3(
    storage: Storage, storage_offset: int, size: Any, stride: Any, requires_grad: bool, hooks: Any, dtype: Any,
    metadata: Any = None,
) -> Tensor:  # fmt: skip
    typed = Storage(storage.memory, dtype, storage.device)
    return _rebuild_tensor_v2(typed, storage_offset, size, stride, requires_grad, hooks)


def _rebuild_parameter(data: Tensor, requires_grad: bool, hooks: Any) -> Parameter:
    return Parameter(data, bool(requires_grad))


def _rebuild_parameter_with_state(data: Tensor, requires_grad: bool, hooks: Any, state: Any) -> Parameter:
    return _with_state(Parameter(data, bool(requires_grad)), state)


def _rebuild_from_type_v2(func: Callable[..., Any], new_type: Any, args: Any, state: Any) -> Any:
    t = func(*args)
    if isinstance(new_type, type) and type(t) is not new_type:
        made: Any = object.__new__(new_type)
        made.array, made._rg, made._node = t.array, t._rg, None
        t = made
    if "__setstate__" in type(t).__dict__:
        t.__setstate__(state)
        return t
    return _with_state(t, state)


def _with_state(t: Any, state: Any) -> Any:
    if isinstance(state, tuple):  # (attributes, slots)
        state = {**(state[0] or {}), **(state[1] or {})}
    t.__dict__.update(state)
    return t


def _rebuild_sparse_tensor(kind: Any, data: Any) -> Any:
    from .sparse import sparse_coo_tensor

    indices, values, size, *rest = data
    return sparse_coo_tensor(indices, values, size, is_coalesced=rest[0] if rest else None)


def _get_layout(name: str) -> layout:
    from .autograd import layout as layouts

    return getattr(layouts, name.removeprefix("torch."))


def _names() -> dict[str, Any]:
    """Every name that a file may use under weights_only: the closed list."""
    rebuild = (
        _rebuild_tensor, _rebuild_tensor_v2, _rebuild_tensor_v3, _rebuild_parameter, _rebuild_parameter_with_state,
        _rebuild_sparse_tensor,
    )  # fmt: skip
    try:
        dtypes.by_name("bfloat16")
    except ImportError:
        pass  # a file with such tensors then fails by that name
    names: dict[str, Any] = {f"torch._utils.{f.__name__}": f for f in rebuild}
    names |= {f"torch.{d.name}": d for d in dtypes.ALL}
    names |= {f"torch.{d.legacy}Storage": StorageType(d) for d in dtypes.ALL}
    names |= {f"torch.storage.{d.legacy}Storage": StorageType(d) for d in dtypes.ALL}
    names |= {"torch.UntypedStorage": StorageType(None), "torch.storage.UntypedStorage": StorageType(None)}
    names |= {"torch.Tensor": Tensor, "torch._tensor.Tensor": Tensor, "torch.nn.parameter.Parameter": Parameter}
    names |= {"torch.nn.parameter.Buffer": Buffer, "torch.Size": Size, "torch.device": _device}
    names |= {"torch._tensor._rebuild_from_type_v2": _rebuild_from_type_v2}
    names |= {"torch.serialization._get_layout": _get_layout}
    names |= {"collections.OrderedDict": collections.OrderedDict, "collections.Counter": collections.Counter}
    plain = {"set": set, "bytearray": bytearray, "complex": complex, "frozenset": frozenset, "slice": slice}
    names |= {f"{module}.{name}": kind for module in ("builtins", "__builtin__") for name, kind in plain.items()}
    names["_codecs.encode"] = _encode
    return names


def _encode(text: str, encoding: str = "latin1") -> bytes:
    """How protocol 2 writes bytes."""
    return text.encode(encoding)


# ---- names that the user calls safe

_added: dict[str, Any] = {}


def _full_name(item: Any) -> tuple[str, Any]:
    if isinstance(item, tuple):
        return item[1], item[0]
    return f"{item.__module__}.{item.__qualname__}", item


def add_safe_globals(safe_globals: list[Any]) -> None:
    """Lets `load(weights_only=True)` use these classes and functions; a pair (object, name) gives the name it has."""
    _added.update(map(_full_name, safe_globals))


def get_safe_globals() -> list[Any]:
    """What was added so far."""
    return list(_added.values())


def clear_safe_globals() -> None:
    """Forgets all that was added."""
    _added.clear()


class safe_globals:
    """Inside, `load(weights_only=True)` may use these classes and functions."""

    def __init__(self, safe_globals: list[Any]):
        self.safe_globals = safe_globals

    def __enter__(self) -> None:
        self._before = dict(_added)
        add_safe_globals(self.safe_globals)

    def __exit__(self, *_: object) -> None:
        _added.clear()
        _added.update(self._before)


# ---- the two readers


def _forbidden(what: str) -> pickle.UnpicklingError:
    return pickle.UnpicklingError(
        "Weights only load failed. This file can still be loaded, with weights_only=False, which can run any code that "
        f"the file holds: do so only if you trust where it comes from.\n{what}"
    )


# In Python, since the C one lets no subclass say which objects may be called or given a state.
_PythonUnpickler: Any = vars(pickle)["_Unpickler"]


class SafeUnpickler(_PythonUnpickler):
    """Reads data: the names of the closed list and those the user added. UnpicklingError for anything else."""

    dispatch = dict(_PythonUnpickler.dispatch)
    for _code in (pickle.INST, pickle.OBJ, pickle.EXT1, pickle.EXT2, pickle.EXT4, pickle.NEWOBJ_EX):
        del dispatch[_code[0]]

    def __init__(self, file: Any, **arguments: Any):
        super().__init__(file, **arguments)
        self.names = {**_names(), **_added}
        self.callable = {id(v) for v in self.names.values() if not isinstance(v, (StorageType, dtypes.dtype))}

    def load(self) -> Any:
        try:
            return super().load()
        except KeyError as error:
            raise _forbidden(f"the file uses an operation that data does not need ({error})") from error

    def find_class(self, module: str, name: str) -> Any:
        full = f"{module}.{name}"
        if full not in self.names:
            raise _forbidden(
                f"WeightsUnpickler error: Unsupported global: GLOBAL {full} was not an allowed global by default. "
                f"Use torch.serialization.add_safe_globals([{name}]) to allow it if you trust it"
            )
        return self.names[full]

    def _checked(self, function: Any) -> Any:
        if id(function) not in self.callable:
            raise _forbidden(f"Trying to call reduce for unrecognized function {function!r}")
        return function

    def load_reduce(self) -> None:
        arguments = self.stack.pop()
        function = self._checked(self.stack[-1])
        self.stack[-1] = function(*arguments)

    def load_newobj(self) -> None:
        arguments = self.stack.pop()
        kind = self._checked(self.stack.pop())
        self.append(kind.__new__(kind, *arguments))

    def load_build(self) -> None:
        state = self.stack.pop()
        target = self.stack[-1]
        if isinstance(target, Tensor):
            _with_state(target, state)
        elif type(target) in (collections.OrderedDict, collections.Counter):
            target.__dict__.update(state)
        elif type(target) in _added.values():
            if hasattr(target, "__setstate__"):
                target.__setstate__(state)
            else:
                _with_state(target, state)
        else:
            raise _forbidden(f"Can only build Tensor, Parameter, OrderedDict or types allowlisted, got {type(target)}")

    dispatch[pickle.REDUCE[0]] = load_reduce
    dispatch[pickle.NEWOBJ[0]] = load_newobj
    dispatch[pickle.BUILD[0]] = load_build


class TorchUnpickler(pickle.Unpickler):
    """Reads anything; torch's names mean tapegrad's."""

    def __init__(self, file: Any, **arguments: Any):
        super().__init__(file, **arguments)
        self.names = _names()

    def find_class(self, module: str, name: str) -> Any:
        found = self.names.get(f"{module}.{name}")
        if found is not None:
            return found
        if module.partition(".")[0] == "torch":
            from .compat import module_for

            value: Any = module_for(module)
            for word in name.split("."):
                value = getattr(value, word)
            return value
        return super().find_class(module, name)
