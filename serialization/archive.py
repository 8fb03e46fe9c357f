"""A zip archive of torch.save, read as data: each entry checked before it is read, and storages mapped if asked."""

from __future__ import annotations

import contextlib
import mmap
import os
import pickle
import struct
import sys
import zipfile
from collections.abc import Iterator
from typing import Any

import numpy as np

from ..utils.files import room
from .ahead import Ahead, crc32

_HEADER = 30  # bytes of a local file header before the name
_MAP_ALIGNMENT = 16  # kernels may read this many bytes at once
_SMALL = 1 << 20  # bytes up to which an entry is read when it is asked for


def name_of(file: Any) -> str:
    """What errors call a file."""
    name = getattr(file, "name", None)
    return repr(os.fspath(name)) if isinstance(name, (str, os.PathLike)) else f"a {type(file).__name__}"


def size_of(file: Any) -> int:
    """The number of bytes of an open file, whose position stays."""
    here = file.tell()
    file.seek(0, os.SEEK_END)
    size = file.tell()
    file.seek(here)
    return size


def damaged(entry: str, name: str, why: Any) -> RuntimeError:
    """The error of PyTorch's reader."""
    return RuntimeError(f"PytorchStreamReader failed reading zip archive: entry {entry!r} of {name}: {why}")


def refused(entry: str, name: str, why: str) -> pickle.UnpicklingError:
    """What torch.save never writes, and a reader can be harmed by."""
    return pickle.UnpicklingError(f"Weights only load failed: entry {entry!r} of {name} {why}")


class Archive:
    """The entries of an archive, in whichever folder they are.

    Args:
        file: open, binary, the archive from its first byte.
        map: whether storages are mapped from the file, copy-on-write, and not read. They are not checked then.

    Attributes:
        root: the folder within the archive, with its slash.
        swap: whether the storages were written with another byte order than this machine's.

    RuntimeError for a damaged archive, pickle.UnpicklingError for one with entries that torch.save never writes.
    """

    def __init__(self, file: Any, map: bool = False):
        self.file, self.name, self.size = file, name_of(file), size_of(file)
        with self._reading("(the directory at its end)"):
            infos = zipfile.ZipFile(file).infolist()
        self.entries = {info.filename: info for info in infos}
        self.root = infos[0].filename.partition("/")[0] + "/" if infos else "archive/"
        if self.root + "constants.pkl" in self.entries:
            raise RuntimeError(f"{self.name} is a TorchScript archive, whose code cannot be run here")
        self._refuse(infos)
        self.map: Any = None
        self.ahead: Ahead | None = None
        if map:
            self.map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
        order = self.root + "byteorder"
        written = bytes(self.read("byteorder")).strip() if order in self.entries else b"little"
        if written not in (b"little", b"big"):
            raise damaged(order, self.name, f"Unknown endianness type: {written[:20]!r}")
        self.swap = written.decode() != sys.byteorder

    @contextlib.contextmanager
    def reading_ahead(self) -> Iterator[None]:
        """Inside, large storages are read by several threads, in their order, before they are asked for."""
        places = {}
        for name, info in {} if self.map else self.entries.items():
            if name.startswith(self.root + "data/") and info.file_size > _SMALL:
                with contextlib.suppress(RuntimeError), self._reading(name):  # `read` will say it, if it is asked for
                    places[name] = self._begin(info), info.file_size
        self.ahead = Ahead(self.file, places, {name for name in places if self.entries[name].CRC})
        try:
            yield
        finally:
            self.ahead.close()

    def _refuse(self, infos: list[zipfile.ZipInfo]) -> None:
        """UnpicklingError for entries that hide, overlap, unfold or lie outside."""
        for info in infos:
            name = info.orig_filename
            if info.flag_bits & 0x2041:
                raise refused(name, self.name, "is encrypted")
            if info.compress_type != zipfile.ZIP_STORED or info.compress_size != info.file_size:
                raise refused(name, self.name, "is compressed; torch.save stores (unpack it, and pack it by `zip -0`)")
            if name.startswith("/") or "\\" in name or "\0" in name or ":" in name or ".." in name.split("/"):
                raise refused(name, self.name, "has a name that leads out of the archive")
        if len(self.entries) != len(infos):
            names = [info.filename for info in infos]
            twice = next(name for i, name in enumerate(names) if name in names[:i])
            raise refused(twice, self.name, "is there twice")
        if sum(info.file_size for info in infos) > self.size:
            largest = max(infos, key=lambda info: info.file_size)
            if largest.file_size > self.size:
                raise damaged(largest.filename, self.name, f"{largest.file_size} bytes in a file of {self.size}")
            raise refused(largest.filename, self.name, "overlaps others: they have more bytes together than the file")

    @contextlib.contextmanager
    def _reading(self, entry: str) -> Iterator[None]:
        """Whatever goes wrong inside is a damaged archive: zipfile and files have a dozen errors for that."""
        try:
            yield
        except pickle.UnpicklingError:
            raise
        except Exception as error:
            if type(error) is RuntimeError:
                raise
            raise damaged(entry, self.name, str(error) or type(error).__name__) from error

    def _begin(self, info: zipfile.ZipInfo) -> int:
        """Where an entry's bytes begin; the header before them must agree with the directory."""
        entry = info.filename
        if info.header_offset < 0:
            raise damaged(entry, self.name, "begins before the file")
        self.file.seek(info.header_offset)
        head = self.file.read(_HEADER)
        if len(head) < _HEADER or head[:4] != b"PK\x03\x04":
            raise damaged(entry, self.name, "no header where the directory says")
        name, extra = struct.unpack("<HH", head[26:])
        if self.file.read(name) not in (info.orig_filename.encode(), info.orig_filename.encode("cp437", "replace")):
            raise damaged(entry, self.name, "its header has another name than the directory")
        begin = info.header_offset + _HEADER + name + extra
        if begin + info.file_size > self.size:
            raise damaged(entry, self.name, f"{info.file_size} bytes from {begin} in a file of {self.size}")
        return begin

    def read(self, entry: str, itemsize: int = 1) -> Any:
        """An entry's bytes, in this machine's order: an array of uint8 of its own memory, or of the map.

        itemsize: of the numbers whose byte order counts. RuntimeError where the entry is missing or damaged.
        """
        info = self.entries.get(self.root + entry)
        if info is None:
            raise RuntimeError(f"PytorchStreamReader failed locating file {entry}: file not found in {self.name}")
        with self._reading(info.filename):
            begin, count = self._begin(info), info.file_size
            swap = itemsize > 1 and self.swap
            if self.map is not None and count and entry.startswith("data/"):
                mapped = np.frombuffer(self.map, np.uint8, count, begin)
                if not swap and begin % _MAP_ALIGNMENT == 0:
                    return mapped
                memory = mapped.copy()
            else:
                memory, crc = self._checked(info, begin, count)
                if info.CRC and crc != info.CRC:  # 0: PyTorch was told not to compute it
                    raise damaged(info.filename, self.name, "Bad CRC-32: its bytes are not those that were written")
            return swapped(memory, itemsize) if swap else memory

    def _checked(self, info: zipfile.ZipInfo, begin: int, count: int) -> tuple[Any, int]:
        """An entry's bytes, read, and their CRC-32 (0 where the directory has none)."""
        taken = self.ahead.take(info.filename) if self.ahead else None
        if taken is not None:
            return taken
        memory = read_bytes(self.file, begin, count)
        return memory, crc32(memory) if info.CRC else 0


def swapped(memory: Any, itemsize: int) -> Any:
    """uint8 memory with the bytes of each number in the other order."""
    whole = memory[: memory.size // itemsize * itemsize]
    whole.view(f"u{itemsize}").byteswap(inplace=True)
    return memory


def read_bytes(file: Any, begin: int, count: int) -> Any:
    """`count` bytes of a file from `begin`, an array of uint8 of its own. EOFError where there are fewer."""
    file.seek(begin)
    memory = room(count)
    done = 0
    while done < count:
        if hasattr(file, "readinto"):
            got = file.readinto(memory[done:])
        else:
            data = file.read(count - done)
            got = len(data)
            memory[done : done + got] = np.frombuffer(data, np.uint8)
        if not got:
            raise EOFError(f"the file ends after {done} of {count} bytes")
        done += got
    return memory
