"""Files of tensors, read: whole, or one tensor or slice at a time."""

from __future__ import annotations

import errno
import mmap
import os
import threading
import weakref
from typing import Any, NamedTuple

import numpy as np

from ...autograd.device import device as _device
from ...autograd.dtypes import by_name
from ...autograd.tensor import Tensor, wrap
from ..files import room
from .format import DTYPES, LONGEST_HEADER, error_of, library, naming, native, nbytes

_FRAMEWORKS = ("pt", "torch", "pytorch", "tapegrad")


class _Entry(NamedTuple):
    """Where a tensor lies: the format's dtype, the shape, its first byte in the file and the one after its last."""

    code: str
    shape: tuple[int, ...]
    begin: int
    end: int


def _array(memory: Any, code: str, shape: tuple[int, ...], where: str) -> Any:
    """The array over an entry's bytes (writable); `where` names file and entry in errors. -> (*shape)."""
    if code not in DTYPES:
        raise error_of(f"{where}: tapegrad has no dtype for {code}; it reads {', '.join(DTYPES)}")
    try:
        d = by_name(DTYPES[code]).np
    except ImportError as error:
        error.add_note(f"while reading {where}")
        raise
    if 0 in shape:
        return np.empty(shape, d)
    flat = np.frombuffer(memory, d)
    # Other writers' headers may end anywhere; NumPy computes slowly, and compiled kernels not at all, on such memory.
    return native(flat if flat.flags.aligned else flat.copy()).reshape(shape)


def _head_of(filename: str) -> tuple[bytes, int]:
    with open(filename, "rb") as file:
        head = file.read(8)
        return head + file.read(min(int.from_bytes(head, "little"), LONGEST_HEADER)), os.fstat(file.fileno()).st_size


class _Slice:
    """A tensor of a file, of which only what is indexed is read: `f.get_slice("w")[:10]`."""

    def __init__(self, file: safe_open, name: str):
        self._file, self._name, self._entry = file, name, file._entry(name)

    def get_shape(self) -> list[int]:
        """The whole tensor's sizes."""
        return list(self._entry.shape)

    def get_dtype(self) -> str:
        """The format's word for the dtype: "F32", "BF16", ..."""
        return self._entry.code

    def __getitem__(self, index: Any) -> Tensor:
        return self._file._host(self._name)[index].to(self._file._device)


class safe_open:
    """A file whose tensors are read one by one.

    Args:
        filename: the file.
        framework: "pt" (as programs for PyTorch say it).
        device: where tensors go.
        backend: "mmap": tensors on the CPU are the file's own pages, copied as they are written to; "pread": tensors
            are read into memory (for files that somebody else may cut short meanwhile).

    Raises FileNotFoundError, and SafetensorError naming the file, and the entry where one is at fault.

    >>> import tapegrad as torch
    >>> from tapegrad.utils.safetensors import safe_open, save_file
    >>> save_file({"w": torch.eye(3)}, "w.safetensors", {"made": "today"})
    >>> with safe_open("w.safetensors", framework="pt") as f:
    ...     f.keys(), f.metadata(), f.get_slice("w").get_shape(), f.get_slice("w")[1]
    (['w'], {'made': 'today'}, [3, 3], tensor([0., 1., 0.]))
    """

    def __init__(self, filename: Any, framework: str = "pt", device: Any = "cpu", *, backend: str = "mmap"):
        library()  # what lacks is said first
        self._filename = os.fspath(filename)
        if framework not in _FRAMEWORKS:
            raise error_of(f"framework {framework} is invalid: {self._filename} is opened for 'pt'")
        if backend not in ("mmap", "pread"):
            raise error_of(f'{self._filename}: backend "{backend}" is invalid (expected one of: "mmap", "pread")')
        if os.path.isdir(self._filename):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), self._filename)
        self._device = _device(device)
        self._closed, self._lock = False, threading.Lock()
        flags = os.O_RDONLY | getattr(os, "O_BINARY", 0)
        while True:
            descriptor = os.open(self._filename, flags)
            self._release = weakref.finalize(self, os.close, descriptor)
            self._read_header(descriptor)
            # the library opened the name by itself: has it been given to another file in between?
            if os.path.samestat(os.fstat(descriptor), os.stat(self._filename)):
                break
            self._release()
        self._map = None
        if backend == "mmap":
            self._map = mmap.mmap(descriptor, 0, access=mmap.ACCESS_COPY)
            self._release()
        self._descriptor = descriptor

    def _read_header(self, descriptor: int) -> None:
        """Lets the library check the file; takes the names, and where each tensor lies."""
        with naming(self._filename, lambda: _head_of(self._filename)):
            with library().safe_open(self._filename, framework="numpy") as checked:
                self._metadata, self._names = checked.metadata(), checked.keys()
                with open(descriptor, "rb", closefd=False) as file:
                    position = 8 + int.from_bytes(file.read(8), "little")
                self._entries: dict[str, _Entry] = {}
                for name in checked.offset_keys():  # they follow each other without gaps: the library checks it
                    part = checked.get_slice(name)
                    code, shape = part.get_dtype(), tuple(part.get_shape())
                    begin, position = position, position + nbytes(code, shape)
                    self._entries[name] = _Entry(code, shape, begin, position)

    def _entry(self, name: str) -> _Entry:
        if self._closed:
            raise error_of(f"{self._filename}: File is closed")
        if name not in self._entries:
            raise error_of(f"{self._filename}: File does not contain tensor {name}")
        return self._entries[name]

    def _host(self, name: str) -> Tensor:
        """The tensor on the CPU."""
        entry, where = self._entry(name), f"{self._filename}: entry {name!r}"
        if self._map is not None:
            return wrap(_array(memoryview(self._map)[entry.begin : entry.end], entry.code, entry.shape, where))
        memory = room(entry.end - entry.begin)
        with self._lock, open(self._descriptor, "rb", closefd=False) as file:
            file.seek(entry.begin)
            count = file.readinto(memory.data)
        if count != memory.size:
            raise error_of(f"{where} has {memory.size} bytes, but the file gave only {count}")
        return wrap(_array(memory, entry.code, entry.shape, where))

    def keys(self) -> list[str]:
        """The names of the tensors, sorted."""
        return list(self._names)

    def offset_keys(self) -> list[str]:
        """The names of the tensors, in the order in which they lie in the file."""
        return list(self._entries)

    def metadata(self) -> dict[str, str] | None:
        """What the file says besides tensors."""
        return self._metadata

    def get_tensor(self, name: str) -> Tensor:
        """A tensor. SafetensorError where the file has none of that name, or one of a dtype that is not known here."""
        return self._host(name).to(self._device)

    def get_slice(self, name: str) -> Any:
        """What can be indexed, and has `get_shape()` and `get_dtype()`, without reading the tensor."""
        return _Slice(self, name)

    def get_tensors(self) -> dict[str, Tensor]:
        """All tensors by name."""
        return {name: self.get_tensor(name) for name in self._entries}

    def __enter__(self) -> safe_open:
        return self

    def __exit__(self, *_: object) -> None:
        self._closed, self._map = True, None  # the pages live as long as tensors over them
        self._release()


def load_file(filename: Any, device: Any = "cpu", *, backend: str = "mmap") -> dict[str, Tensor]:
    """The tensors of a file, by name. Arguments and errors are those of `safe_open`."""
    with safe_open(filename, "pt", device, backend=backend) as file:
        return file.get_tensors()


def load(data: bytes) -> dict[str, Tensor]:
    """The tensors, by name, of a file's bytes. SafetensorError where they are damaged.

    >>> import tapegrad as torch
    >>> from tapegrad.utils import safetensors
    >>> safetensors.load(safetensors.save({"w": torch.ones(2)}))
    {'w': tensor([1., 1.])}
    """
    with naming("bytes", lambda: (data[:LONGEST_HEADER], len(data))):
        found = library().deserialize(data)
    return {
        name: wrap(_array(item["data"], item["dtype"], tuple(item["shape"]), f"bytes: entry {name!r}"))
        for name, item in sorted(found, key=lambda pair: pair[0])  # the library gives them in any order
    }
