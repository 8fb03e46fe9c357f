"""`save`: pickles with torch's names, and the storages beside the pickle, in a zip archive."""

from __future__ import annotations

import collections
import io
import os
import pickle
import struct
import sys
import zipfile
from typing import Any

import numpy as np

from ..autograd.device import device as _device
from ..autograd.dtypes import dtype
from ..autograd.layout import layout
from ..autograd.parameter import Buffer, Parameter
from ..autograd.size import Size
from ..autograd.tensor import RARE, Tensor
from ..backends.registry import backend_of
from ..utils.files import replacing

DEFAULT_PROTOCOL = 2
_ALIGNMENT = 64
_PIECE = 1 << 20  # bytes per write: for larger ones Linux looks for large pages, which can take 7 x as long


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
            place = place[0], t.stride()  # an array's own are anything along dimensions of one element or none
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
        f: a path, or an object with `write`. A path is written under a temporary name in its folder, forced to the
            disk and renamed: a program killed at any moment leaves the old file or the new one, whole.
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
    with replacing(path) as file:
        _write(obj, file, name, pickle_protocol)


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
            _record(archive, f"{name}/data/{storage.key}", storage.memory.ravel("K").view(np.uint8))
        _record(archive, f"{name}/version", b"3\n")


def _record(archive: zipfile.ZipFile, name: str, data: Any) -> None:
    """One stored file of the archive, whose data begins at a multiple of 64 bytes (filler in the extra field)."""
    info = zipfile.ZipInfo(name)
    info.file_size = memoryview(data).nbytes
    large = info.file_size > zipfile.ZIP64_LIMIT // 2
    # the local header, the name, the filler's own header, and the field in which zipfile writes large sizes
    begin = archive.start_dir + 30 + len(name.encode()) + 4 + (20 if large else 0)
    filler = -begin % _ALIGNMENT
    info.extra = struct.pack("<HH", 0x4246, filler) + b"Z" * filler
    view = memoryview(data)
    with archive.open(info, "w", force_zip64=large) as entry:
        for begin in range(0, info.file_size, _PIECE):
            entry.write(view[begin : begin + _PIECE])
