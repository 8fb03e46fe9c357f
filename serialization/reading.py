"""`load`: files of torch.save, of either library, in the zip format and in the one before PyTorch 1.6."""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from typing import Any

import numpy as np

from ..autograd.device import device as _device
from ..autograd.tensor import Tensor, wrap
from ..backends.registry import BackendError
from .archive import Archive, name_of
from .legacy import load_legacy
from .rebuilding import Storage
from .unpickling import FromCaller, checked_id, unpickle


def load(
    f: Any,
    map_location: Any = None,
    pickle_module: Any = None,
    *,
    weights_only: bool | None = None,
    mmap: bool | None = None,
    **pickle_load_args: Any,
) -> Any:
    """The object that `save`, here or in PyTorch, wrote to a file; or the tensors of a safetensors file, by name.

    A safetensors file is known by its content, whatever its name (PyTorch goes by the name alone, `*.safetensors`, and
    takes only a device for `map_location` then). It holds no code, so `weights_only` does not matter; it needs the
    package: `pip install 'tapegrad[safetensors]'`.

    Args:
        f: a path, or an object with `read` and `seek`.
        map_location: where tensors go: a device, a dict of such (from: to), or a function (storage, location) ->
            storage; default: where they were.
        weights_only: True (the default): tensors, numbers, strings and containers of these, dtypes, devices and what
            `add_safe_globals` was given. False: whatever the file says, which may run any code.
        mmap: storages are mapped from the file (a path, in the zip format or safetensors), not read: memory is taken
            as it is touched, writes stay in this process, and the checksums are not compared.

    Raises pickle.UnpicklingError for what `weights_only` forbids and for a damaged pickle, RuntimeError for a damaged
    file, tensors outside of their storage and devices that are not there, EOFError for an empty file. Each names the
    file, and the entry in it. With weights_only=False, whatever the code in the file raises.
    """
    weights_only = True if weights_only is None else weights_only
    if weights_only and pickle_module is not None:
        raise RuntimeError("Can not safely load weights when explicit pickle_module is specified")
    pickle_load_args.setdefault("encoding", "utf-8")
    if isinstance(f, (str, os.PathLike)):
        with open(f, "rb") as file:
            return _load(file, map_location, weights_only, bool(mmap), pickle_load_args)
    if mmap:
        raise ValueError("f must be a file path in order to use the mmap argument")
    if not hasattr(f, "read") or not hasattr(f, "seek"):
        raise AttributeError(
            "You can only torch.load from a file that is seekable. Please pre-load the data into a buffer like "
            "io.BytesIO and try to load from it instead."
        )
    return _load(f, map_location, weights_only, False, pickle_load_args)


def _load(file: Any, map_location: Any, safe: bool, mmap: bool, arguments: dict[str, Any]) -> Any:
    place = _placer(map_location)
    begin = file.tell()
    head = file.read(4)
    file.seek(begin)
    if not head:
        raise EOFError(f"Ran out of input: {name_of(file)} is empty")
    try:
        if _is_safetensors(file, begin):
            return _load_safetensors(file, place, mmap)
        if head[:2] != b"PK":
            if mmap:
                raise RuntimeError(
                    "mmap can only be used with files saved with `torch.save(_use_new_zipfile_serialization=True)`, "
                    f"and {name_of(file)} is none"
                )
            return load_legacy(file, place, safe, arguments)
        if begin:  # an archive within a file: offsets count from its begin
            file = io.BytesIO(file.read())
        return _load_zip(Archive(file, mmap), place, safe, arguments)
    except FromCaller as error:
        raise error.error from None


def _load_zip(archive: Archive, place: Callable[[Storage, str], Storage], safe: bool, arguments: dict[str, Any]) -> Any:
    storages: dict[str, Storage] = {}

    def persistent_load(pid: Any) -> Storage:
        d, key, location, numel = checked_id(pid)[:4]
        if key not in storages:
            memory = archive.read(f"data/{key}", _part(d))
            size = d.itemsize if d else 1
            if memory.size // size != numel:
                raise RuntimeError(f"storage {key} has {memory.size} bytes, and not {numel} elements of {size}")
            if archive.swap and not d:
                raise RuntimeError(f"storage {key} has no dtype, and this machine has the other byte order")
            storages[key] = place(Storage(memory, d), location)
        return storages[key]

    data = io.BytesIO(archive.read("data.pkl"))
    with archive.reading_ahead():
        return unpickle(data, safe, f"entry '{archive.root}data.pkl' of {archive.name}", persistent_load, arguments)


def _is_safetensors(file: Any, begin: int) -> bool:
    """Whether a header's length and a JSON object stand there (neither archives nor pickles begin so), or should."""
    head = file.read(9)
    file.seek(begin)
    if head[8:] == b"{" and int.from_bytes(head[:8], "little") < 1 << 32:
        return True
    named = str(getattr(file, "name", "")).endswith(".safetensors")  # damaged: the format's own error says more
    return named and head[:2] != b"PK" and head[:1] != b"\x80"


def _load_safetensors(file: Any, place: Callable[[Storage, str], Storage], mmap: bool) -> dict[str, Tensor]:
    """The tensors of a file, by name, each in a storage of its own."""
    from ..utils import safetensors

    if type(file) is io.BufferedReader and file.tell() == 0:
        found = safetensors.load_file(file.name, backend="mmap" if mmap else "pread")
    else:
        found = safetensors.load(file.read())
    moved = {}
    for name, t in found.items():
        memory = t.array.reshape(-1).view(np.uint8)
        moved[name] = wrap(place(Storage(memory, t.dtype), "cpu").view(t.dtype, 0, tuple(t.shape), t.stride()))
    return moved


def _part(d: Any) -> int:
    """The size of the numbers in an element, whose bytes have an order: a complex one has two."""
    return 1 if d is None else d.itemsize // 2 if d.is_complex else d.itemsize


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
        try:
            given = map_location(storage, location)
        except Exception as error:
            raise FromCaller(error) from error
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
