"""Files of PyTorch before 1.6 (`torch.save(..., _use_new_zipfile_serialization=False)` writes them still).

Five pickles (a magic number, the version, facts of the machine, the object, the keys of the storages), and then, for
each storage, the number of its elements (int64) and its bytes, always little-endian.
"""

from __future__ import annotations

import pickle
import sys
from collections.abc import Callable
from typing import Any

import numpy as np

from .archive import name_of, read_bytes, size_of, swapped
from .rebuilding import Storage
from .unpickling import checked_id, unpickle

_MAGIC = 0x1950A86A20F9469CFC6C
_VERSION = 1001


def load_legacy(file: Any, place: Callable[[Storage, str], Storage], safe: bool, arguments: dict[str, Any]) -> Any:
    """The object in a file of the old format, read from where the file stands.

    RuntimeError for a damaged file, pickle.UnpicklingError for what is none of torch.save's formats.
    """
    name = name_of(file)
    begin = file.tell()
    head = file.read(512)
    file.seek(begin)
    if head[257:262] == b"ustar":
        raise RuntimeError(
            f"{name} is in the .tar format of PyTorch before 0.1.10, which is not read here: load it with PyTorch "
            "(weights_only=False) and save it again"
        )
    if head[:1] != pickle.PROTO:
        raise pickle.UnpicklingError(
            f"Weights only load failed: {name} is no file of torch.save, neither in the zip format (PyTorch 1.6 and "
            "later) nor in the one before"
        )
    return _Legacy(file, name, place).load(safe, arguments)


class _Legacy:
    """One file while it is read: the object's storages are made when it names them, and filled afterwards."""

    def __init__(self, file: Any, name: str, place: Callable[[Storage, str], Storage]):
        self.file, self.name, self.place = file, name, place
        self.left = size_of(file) - file.tell()  # bytes that storages may have together
        self.storages: dict[str, Storage] = {}
        self.parts: dict[str, Storage] = {}
        self.sizes: dict[str, tuple[int, int]] = {}  # elements, bytes of each

    def load(self, safe: bool, arguments: dict[str, Any]) -> Any:
        def read(what: str, trusted: bool = True) -> Any:
            where = f"{what} of {self.name}"
            return unpickle(self.file, not trusted or safe, where, self.persistent_load, arguments)

        if read("the magic number", trusted=False) != _MAGIC:
            raise RuntimeError(f"Invalid magic number; corrupt file? ({self.name})")
        version = read("the protocol version", trusted=False)
        if version != _VERSION:
            raise RuntimeError(f"Invalid protocol version: {version!r} ({self.name})")
        read("the system information", trusted=False)
        made: list[Any] = []
        result = unpickle(self.file, safe, f"the object of {self.name}", self.persistent_load, arguments, made)
        keys = read("the list of storages", trusted=False)
        if type(keys) is not list or set(map(repr, keys)) != set(map(repr, self.storages)):
            raise RuntimeError(f"the storages of {self.name} are not those that its object names")
        for key in keys:
            self._fill(key)
        self._check(made)
        return result

    def persistent_load(self, pid: Any) -> Any:
        if type(pid) is tuple and len(pid) == 4 and pid[0] == "module" and isinstance(pid[1], type):
            return pid[1]  # a class, which the unpickler has let through, beside its source
        d, key, location, numel, *views = checked_id(pid)
        size = d.itemsize if d else 1
        if key not in self.storages:
            self.left -= numel * size
            if self.left < 0:
                raise RuntimeError(f"storage {key} has {numel} elements of {size} bytes, more than the file holds")
            self.storages[key] = self.place(Storage(np.zeros(numel * size, np.uint8), d), location)
            self.sizes[key] = numel, size
        found = self.storages[key]
        if not views or views[0] is None:
            return found
        part, offset, count = views[0]
        if part not in self.parts:
            begin, end = offset * size, (offset + count) * size
            if not 0 <= begin <= end <= found.memory.nbytes:
                raise RuntimeError(f"a part of storage {key}, {begin} to {end}, lies outside of it")
            self.parts[part] = Storage(found.memory[begin:end], d, found.device)
        return self.parts[part]

    def _check(self, made: list[Any]) -> None:
        """The indices of sparse tensors, which were not there yet when these were made."""
        if made:
            from ..sparse import _check_bounds
        for t in made:
            try:
                _check_bounds(t._indices(), t.shape)
            except RuntimeError as error:
                raise RuntimeError(f"{error} (a sparse tensor of {self.name})") from error

    def _fill(self, key: str) -> None:
        numel, size = self.sizes[key]
        storage = self.storages[key]
        where = f"storage {key!r} of {self.name}"
        begin = self.file.tell()
        try:
            count = int(read_bytes(self.file, begin, 8).view("<i8")[0])
            if count != numel:
                raise RuntimeError(f"{where} has wrong size: expected {numel} got {count}")
            memory = read_bytes(self.file, begin + 8, numel * size)
        except EOFError as error:
            raise RuntimeError(f"{where} is cut off: {error}") from error
        d = storage.dtype
        if sys.byteorder == "big" and d:
            memory = swapped(memory, size // 2 if d.is_complex else size)
        storage.fill(memory)
