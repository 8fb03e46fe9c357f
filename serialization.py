"""torch.save and torch.load, in PyTorch's own zip format: files go from one library to the other.

    NAME/data.pkl       the object, pickled (protocol 2); each storage is a persistent id
    NAME/data/0, 1 ...  the storages' bytes, as they lie in memory, at multiples of 64 bytes
    NAME/byteorder      "little" or "big";  NAME/version: 3

Tensors over one storage are tensors over one storage again after loading, with their strides. `load` runs no code
from the file unless `weights_only=False` is given: the names that it may use are a closed list, see unpickling.py.
"""

from __future__ import annotations

import collections
import io
import os
import pickle
import struct
import sys
import zipfile
from collections.abc import Callable
from typing import Any

import numpy as np

from .autograd.device import device as _device
from .autograd.dtypes import dtype
from .autograd.layout import layout
from .autograd.parameter import Buffer, Parameter
from .autograd.size import Size
from .autograd.tensor import RARE, Tensor
from .backends.registry import BackendError, backend_of
from .unpickling import (
    SafeUnpickler,
    Storage,
    TorchUnpickler,
    add_safe_globals,
    clear_safe_globals,
    get_safe_globals,
    safe_globals,
)

__all__ = ["add_safe_globals", "clear_safe_globals", "get_safe_globals", "load", "safe_globals", "save"]

DEFAULT_PROTOCOL = 2
_ALIGNMENT = 64


# ---- saving


class _Global:
    """A name that the file says by itself: this module writes torch's names without having torch."""

    def __init__(self, module: str, name: str):
        self.line = f"c{module}\n{name}\n".encode()

    def __call__(self) -> None:
        raise TypeError("a name of torch's, to be written, not called")


_NAMES = {
    name: _Global(module, name)
    for module, names in {
        "torch": "device Size",
        "torch._utils": "_rebuild_tensor_v2 _rebuild_tensor_v3 _rebuild_parameter _rebuild_parameter_with_state "
        "_rebuild_sparse_tensor",
        "torch._tensor": "_rebuild_from_type_v2",
        "torch.serialization": "_get_layout",
        "torch.nn.parameter": "Buffer",
    }.items()
    for name in names.split()
}
_UNTYPED = ("uint16", "uint32", "uint64")  # torch has no storage type for these


class _StorageOf:
    """One storage to be written: its bytes, which key it has, and where the tensor lived."""

    def __init__(self, key: str, memory: Any, d: dtype, location: str):
        self.key, self.memory, self.dtype, self.location = key, memory, d, location


_PythonPickler: Any = vars(pickle)["_Pickler"]  # the C one writes no name that it cannot import


class _Pickler(_PythonPickler):
    """Pickles with torch's names for tensors, dtypes, devices and sizes, and collects the storages."""

    dispatch = dict(_PythonPickler.dispatch)

    def __init__(self, file: Any, protocol: int):
        super().__init__(file, protocol)
        self.storages: dict[Any, _StorageOf] = {}
        self.kinds: dict[str, _Global] = {}
        self.held: list[Any] = []  # ids are keys: what has one must not be freed

    def persistent_id(self, obj: Any) -> Any:
        if not isinstance(obj, _StorageOf):
            return None
        size, module, name = obj.dtype.itemsize, "torch", f"{obj.dtype.legacy}Storage"
        if obj.dtype.name in _UNTYPED:
            size, module, name = 1, "torch.storage", "UntypedStorage"
        kind = self.kinds.setdefault(name, _Global(module, name))
        return ("storage", kind, obj.key, obj.location, obj.memory.nbytes // size)

    def save_name(self, obj: Any) -> None:
        """A name as it stands."""
        self.write(obj.line if isinstance(obj, _Global) else f"ctorch\n{obj.name}\n".encode())
        self.memoize(obj)

    dispatch[_Global] = dispatch[dtype] = save_name

    def reducer_override(self, obj: Any) -> Any:
        if isinstance(obj, Tensor):
            return self._tensor(obj)
        kind = type(obj)
        if kind is _device:
            return _NAMES["device"], (obj.type,) if obj.index is None else (obj.type, obj.index)
        if kind is Size:
            return _NAMES["Size"], (tuple(obj),)
        if kind is layout:
            return _NAMES["_get_layout"], (repr(obj),)
        return NotImplemented

    def _tensor(self, t: Tensor) -> Any:
        state = {key: value for key, value in t.__dict__.items() if key not in RARE}
        if t.is_sparse:
            parts = (t._indices(), t._values(), t.shape, t.is_coalesced())
            return _NAMES["_rebuild_sparse_tensor"], (t.layout, parts)
        if type(t) is Parameter:
            tail: tuple[Any, ...] = (t.requires_grad, collections.OrderedDict())
            if state:
                return _NAMES["_rebuild_parameter_with_state"], (t.detach(), *tail, state)
            return _NAMES["_rebuild_parameter"], (t.detach(), *tail)
        made = self._plain(t)
        if type(t) is Tensor and not state:
            return made
        kind = _NAMES["Buffer"] if type(t) is Buffer else _Global("torch", "Tensor") if type(t) is Tensor else type(t)
        self.held.append(kind)
        return _NAMES["_rebuild_from_type_v2"], (made[0], kind, made[1], state)

    def _plain(self, t: Tensor) -> Any:
        storage, offset, stride = self._storage(t)
        args: tuple[Any, ...] = (storage, offset, tuple(t.shape), stride, t.requires_grad, collections.OrderedDict())
        if t.dtype.name in _UNTYPED:
            return _NAMES["_rebuild_tensor_v3"], (*args, t.dtype, {})
        return _NAMES["_rebuild_tensor_v2"], args

    def _storage(self, t: Tensor) -> tuple[_StorageOf, int, tuple[int, ...]]:
        """The storage under a tensor, and where in it the tensor lies, in elements."""
        array, size = t.array, t.array.dtype.itemsize
        base = backend_of(array).storage_of(array)
        place = _place(array, base)
        if place is None:  # on a device, or over memory with holes: the tensor's own values
            key: Any = (id(base), *_where(array))
            base = array
            memory = np.ascontiguousarray(backend_of(array).to_numpy(array))
            place = 0, tuple(s // size for s in memory.strides)
        else:
            memory, key = base, id(base)
        found = self.storages.get(key)
        if found is None:
            found = self.storages[key] = _StorageOf(str(len(self.storages)), memory, t.dtype, str(t.device))
            self.held.append(base)
        elif found.dtype is not t.dtype:
            raise RuntimeError(
                "Cannot save multiple tensors or storages that view the same data as different types "
                f"({found.dtype} and {t.dtype})"
            )
        return found, *place


def _where(array: Any) -> tuple[Any, ...]:
    start = array.ctypes.data if isinstance(array, np.ndarray) else array.data.ptr
    return start, array.shape, array.strides


def _place(array: Any, base: Any) -> tuple[int, tuple[int, ...]] | None:
    """(offset, strides) in elements of a host array within the array that owns its memory; None where it has none."""
    if not isinstance(base, np.ndarray) or not (base.flags.c_contiguous or base.flags.f_contiguous):
        return None
    size = array.dtype.itemsize
    offset = array.ctypes.data - base.ctypes.data if array.size else 0
    if offset < 0 or offset % size or base.nbytes % size or any(s < 0 or s % size for s in array.strides):
        return None
    return offset // size, tuple(s // size for s in array.strides)


def save(
    obj: Any,
    f: Any,
    pickle_module: Any = pickle,
    pickle_protocol: int = DEFAULT_PROTOCOL,
    _use_new_zipfile_serialization: bool = True,
    _disable_byteorder_record: bool = False,
) -> None:
    """Writes an object, with all tensors in it, to a file that `load`, here and in PyTorch, reads.

    Args:
        obj: tensors, state dicts, or whatever can be pickled.
        f: a path, or an object with `write`. A path is written under a temporary name and then renamed, so that a
            program that stops in between leaves the old file whole.
        pickle_protocol: of the pickle inside.

    Raises AttributeError for an `f` that is neither; ValueError for PyTorch's format before 1.6.

    >>> import io, tapegrad as torch
    >>> file = io.BytesIO()
    >>> torch.save({"w": torch.ones(2)}, file)
    >>> _ = file.seek(0)
    >>> torch.load(file)
    {'w': tensor([1., 1.])}
    """
    if not _use_new_zipfile_serialization:
        raise ValueError("save(): only the zip format is written: leave out _use_new_zipfile_serialization=False")
    if not isinstance(f, (str, os.PathLike)):
        if not hasattr(f, "write"):
            raise AttributeError("expected 'f' to be string, path, or a file-like object with a 'write' attribute")
        _write(obj, f, "archive", pickle_protocol)
        return
    path = os.fspath(f)
    name = os.path.splitext(os.path.basename(path))[0] or "archive"
    folder = os.path.dirname(path)
    if folder and not os.path.isdir(folder):
        raise RuntimeError(f"Parent directory {folder} does not exist.")
    if os.path.exists(path) and not os.path.isfile(path):  # a pipe or a device cannot be replaced
        with open(path, "wb") as file:
            _write(obj, file, name, pickle_protocol)
        return
    path = os.path.realpath(path)
    temporary = f"{path}.{os.getpid()}.tmp"
    try:
        with open(temporary, "wb") as file:
            _write(obj, file, name, pickle_protocol)
        os.replace(temporary, path)
    except BaseException:
        if os.path.exists(temporary):
            os.remove(temporary)
        raise


def _write(obj: Any, file: Any, name: str, protocol: int) -> None:
    buffer = io.BytesIO()
    pickler = _Pickler(buffer, protocol)
    pickler.dump(obj)
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        _record(archive, f"{name}/data.pkl", buffer.getvalue())
        _record(archive, f"{name}/.format_version", b"1")
        _record(archive, f"{name}/.storage_alignment", str(_ALIGNMENT).encode())
        _record(archive, f"{name}/byteorder", sys.byteorder.encode())
        for storage in pickler.storages.values():
            memory = storage.memory
            _record(archive, f"{name}/data/{storage.key}", memory.tobytes("F" if memory.flags.f_contiguous else "C"))
        _record(archive, f"{name}/version", b"3\n")


def _record(archive: zipfile.ZipFile, name: str, data: bytes) -> None:
    """One stored file of the archive, whose data begins at a multiple of 64 bytes (filler in the extra field)."""
    info = zipfile.ZipInfo(name)
    begin = archive.start_dir + 30 + len(name.encode()) + 4  # the local header, the name, the filler's own header
    filler = -begin % _ALIGNMENT
    if len(data) < zipfile.ZIP64_LIMIT:
        info.extra = struct.pack("<HH", 0x4246, filler) + b"Z" * filler
    archive.writestr(info, data)


# ---- loading


class _Reader:
    """The records of an archive, wherever its folder is named."""

    def __init__(self, file: Any, path: str | None, mmap: bool):
        try:
            self.archive = zipfile.ZipFile(file)
            self.names = self.archive.namelist()
            self.root = next(name for name in self.names if name.endswith("/data.pkl"))[: -len("data.pkl")]
        except (zipfile.BadZipFile, StopIteration) as error:
            raise RuntimeError(f"PytorchStreamReader failed reading zip archive: {error or 'no data.pkl'}") from error
        self.path = path if mmap else None
        order = self.root + "byteorder"
        self.swap = order in self.names and self.archive.read(order).decode().strip() != sys.byteorder

    def pickle(self) -> Any:
        return io.BytesIO(self.archive.read(self.root + "data.pkl"))

    def bytes(self, key: str, itemsize: int) -> Any:
        """A storage's bytes, writable. RuntimeError where the archive has none of that key."""
        try:
            info = self.archive.getinfo(f"{self.root}data/{key}")
        except KeyError:
            raise RuntimeError(f"PytorchStreamReader failed locating file data/{key}: file not found") from None
        if self.path is not None and info.compress_type == zipfile.ZIP_STORED and info.file_size:
            with open(self.path, "rb") as file:
                file.seek(info.header_offset + 26)
                name, extra = struct.unpack("<HH", file.read(4))
            begin = info.header_offset + 30 + name + extra
            mapped = np.memmap(self.path, np.uint8, "c", begin, (info.file_size,))
            return np.asarray(mapped)
        memory = np.frombuffer(bytearray(self.archive.read(info)), np.uint8)
        if self.swap and itemsize > 1:
            memory = memory.view(f"u{itemsize}").byteswap().view(np.uint8)
        return memory


def load(
    f: Any,
    map_location: Any = None,
    pickle_module: Any = None,
    *,
    weights_only: bool | None = None,
    mmap: bool | None = None,
    **pickle_load_args: Any,
) -> Any:
    """The object that `save`, here or in PyTorch, wrote to a file.

    Args:
        f: a path, or an object with `read` and `seek`.
        map_location: where tensors go: a device, a dict of such (from: to), or a function (storage, location) ->
            storage; default: where they were.
        weights_only: True (the default): tensors, numbers, strings and containers of these, dtypes, devices and what
            `add_safe_globals` was given. False: whatever the file says, which may run any code.
        mmap: storages are mapped from the file (a path), not read: memory is taken as it is touched.

    Raises pickle.UnpicklingError for what `weights_only` forbids, RuntimeError for a damaged file and for tensors of
    a device that is not there.
    """
    weights_only = True if weights_only is None else weights_only
    if weights_only and pickle_module is not None:
        raise RuntimeError("Can not safely load weights when explicit pickle_module is specified")
    if isinstance(f, (str, os.PathLike)):
        with open(f, "rb") as file:
            return _load(file, os.fspath(f), map_location, weights_only, bool(mmap), pickle_load_args)
    if mmap:
        raise ValueError("f must be a file path in order to use the mmap argument")
    if not hasattr(f, "read") or not hasattr(f, "seek"):
        raise AttributeError(
            "You can only torch.load from a file that is seekable. Please pre-load the data into a buffer like "
            "io.BytesIO and try to load from it instead."
        )
    return _load(f, None, map_location, weights_only, False, pickle_load_args)


def _load(file: Any, path: str | None, map_location: Any, safe: bool, mmap: bool, arguments: dict[str, Any]) -> Any:
    begin = file.tell()
    head = file.read(4)
    file.seek(begin)
    if head[:2] != b"PK":
        if not head:
            raise EOFError("Ran out of input")
        raise pickle.UnpicklingError(
            "Weights only load failed: this is no file of torch.save in the zip format (PyTorch 1.6 and later). "
            "Files of the older format, and plain pickles, are not read here"
        )
    if begin:  # an archive within a file: offsets count from its begin
        file = io.BytesIO(file.read())
    reader = _Reader(file, path, mmap)
    storages: dict[str, Storage] = {}
    place = _placer(map_location)

    def persistent_load(pid: Any) -> Storage:
        if not isinstance(pid, tuple) or pid[0] != "storage":
            raise RuntimeError(f"Unknown typename for persistent_load, expected 'storage' but got '{pid[0]}'")
        _, kind, key, location, _ = pid
        if key not in storages:
            d: dtype | None = getattr(kind, "dtype", None)
            storages[key] = place(Storage(reader.bytes(key, d.itemsize if d else 1), d), location)
        return storages[key]

    unpickler: Any = (SafeUnpickler if safe else TorchUnpickler)(reader.pickle(), **arguments)
    unpickler.persistent_load = persistent_load
    return unpickler.load()


def _placer(map_location: Any) -> Callable[[Storage, str], Storage]:
    """The function (storage, location) -> storage that a `map_location` means."""
    if map_location is None:
        return _at
    if isinstance(map_location, dict):
        return lambda storage, location: _at(storage, str(map_location.get(location, location)))
    if isinstance(map_location, (str, _device)):
        return lambda storage, location: _at(storage, str(map_location))
    if not callable(map_location):
        raise TypeError(f"map_location must be a device, a dict or a function, not {type(map_location).__name__}")

    def called(storage: Storage, location: str) -> Storage:
        given = map_location(storage, location)
        return _at(storage, location) if given is None else given

    return called


def _at(storage: Storage, location: str) -> Storage:
    """The storage at a location. RuntimeError where there is no such device."""
    try:
        place = _device(location)
    except RuntimeError:
        raise RuntimeError(
            f"don't know how to restore data location of {type(storage).__name__} (tagged with {location})"
        ) from None
    try:
        count = place.backend().device_count()
    except BackendError as error:
        kind = place.type.upper()
        raise RuntimeError(
            f"Attempting to deserialize object on a {kind} device but torch.{kind.lower()}.is_available() is False. If "
            "you are running on a CPU-only machine, please use torch.load with map_location=torch.device('cpu') to "
            f"map your storages to the CPU. ({error})"
        ) from error
    if place.index is not None and place.index >= count and place.type != "cpu":
        raise RuntimeError(
            f"Attempting to deserialize object on {place.type.upper()} device {place.index} but "
            f"torch.{place.type}.device_count() is {count}. Please use torch.load with map_location to map your "
            "storages to an existing device."
        )
    return storage.to(location)
