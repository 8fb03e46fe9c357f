"""Checkpoints of several files, in the layout of the Hugging Face hub.

    model-00001-of-00002.safetensors ...
    model.safetensors.index.json     {"metadata": {"total_size": bytes}, "weight_map": {name: file}}

or model.safetensors alone, which is what counts where both are there. A checkpoint is replaced by one rename, that of
the index: its shards never have the names of those that an older index still speaks of.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
from typing import Any

from ...autograd.tensor import Tensor
from ..files import remove_litter, replacing
from .format import error_of
from .reading import safe_open
from .writing import check, save_file, state_of

_SINGLE, _INDEX = "model.safetensors", "model.safetensors.index.json"
_OURS = r"model(-[0-9a-f]{8})?-\d{5}-of-\d{5}\.safetensors"  # what earlier calls of save_sharded left
_UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12, "KI": 2**10, "MI": 2**20, "GI": 2**30, "TI": 2**40}


# ---- reading ---------------------------------------------------------------------------------------------------------


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object, in which no key may come twice."""
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise ValueError(f"{key!r} is there twice")
        found[key] = value
    return found


def _read_index(path: str) -> tuple[dict[str, str], dict[str, Any]]:
    """The index's weight_map and metadata. SafetensorError where it is no index."""
    try:
        with open(path, encoding="utf-8") as file:
            index = json.load(file, object_pairs_hook=_once)
        places, metadata = index["weight_map"], index.get("metadata") or {}
        if not isinstance(places, dict) or not isinstance(metadata, dict):
            raise TypeError("weight_map and metadata must be objects")
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise error_of(f"{path}: no index of shards ({type(error).__name__}: {error})") from error
    for key, name in places.items():
        if not isinstance(name, str) or not name or name != os.path.basename(name) or "\\" in name or name == "..":
            raise error_of(f"{path}: entry {key!r} is placed in {name!r}, which is no file name of this folder")
    return places, metadata


def _checkpoint(folder: str) -> tuple[str, str | None]:
    """(folder, path of the index, or None for a single file). FileNotFoundError where there is neither."""
    if not os.path.isdir(folder) and folder.endswith(".json"):
        return os.path.dirname(folder), folder
    if os.path.isfile(os.path.join(folder, _SINGLE)):
        return folder, None
    index = os.path.join(folder, _INDEX)
    if not os.path.isfile(index):
        raise FileNotFoundError(f"{folder}: there is neither {_SINGLE} nor {_INDEX}")
    return folder, index


class safe_open_sharded:
    """A checkpoint of several files, whose tensors are read one by one; as `safe_open`, for a folder or an index.

    Every shard is opened and its names are compared with the index, which reads no tensor.

    Raises FileNotFoundError for a shard that is not there; SafetensorError for an entry that the index has and its file
    has not, that a shard has and the index has not, and that two shards have. Each names file and entry.
    """

    def __init__(self, folder: Any, framework: str = "pt", device: Any = "cpu", *, backend: str = "mmap"):
        place, self._index = _checkpoint(os.fspath(folder))
        self._files: dict[str, safe_open] = {}
        self._metadata: dict[str, Any] | None
        if self._index is None:
            file = self._files[_SINGLE] = safe_open(os.path.join(place, _SINGLE), framework, device, backend=backend)
            self._metadata, self._places = file.metadata(), dict.fromkeys(file.offset_keys(), _SINGLE)
            return
        self._places, self._metadata = _read_index(self._index)
        for key, name in self._places.items():
            if name not in self._files:
                path = os.path.join(place, name)
                if not os.path.isfile(path):
                    raise FileNotFoundError(f"{path}: no such file, but {self._index} places entry {key!r} in it")
                self._files[name] = safe_open(path, framework, device, backend=backend)
        self._compare(place)

    def _compare(self, place: str) -> None:
        holds = {name: set(file.offset_keys()) for name, file in self._files.items()}
        for key, name in self._places.items():
            if key not in holds[name]:
                raise error_of(f"{os.path.join(place, name)}: no entry {key!r}, which {self._index} places there")
        for name, keys in holds.items():
            for key in sorted(keys):
                if self._places.get(key) != name:
                    other = f"is in {self._places[key]} by" if key in self._places else "is not in"
                    raise error_of(f"{os.path.join(place, name)}: has entry {key!r}, which {other} {self._index}")

    def _file(self, name: str) -> safe_open:
        if name not in self._places:
            source = self._index or self._files[_SINGLE]._filename
            raise error_of(f"{source}: File does not contain tensor {name}")
        return self._files[self._places[name]]

    def keys(self) -> list[str]:
        """The names of the tensors, sorted."""
        return sorted(self._places)

    def metadata(self) -> dict[str, Any] | None:
        """The metadata of the index, or of the single file."""
        return self._metadata

    def get_tensor(self, name: str) -> Tensor:
        """A tensor, as `safe_open.get_tensor`."""
        return self._file(name).get_tensor(name)

    def get_slice(self, name: str) -> Any:
        """As `safe_open.get_slice`."""
        return self._file(name).get_slice(name)

    def get_tensors(self) -> dict[str, Tensor]:
        """All tensors by name, in the order of the index."""
        return {name: self.get_tensor(name) for name in self._places}

    def __enter__(self) -> safe_open_sharded:
        return self

    def __exit__(self, *_: object) -> None:
        for file in self._files.values():
            file.__exit__()


def load_sharded(folder: Any, device: Any = "cpu", *, backend: str = "mmap") -> dict[str, Tensor]:
    """The tensors, by name, of a folder (or its index). Arguments and errors are those of `safe_open_sharded`."""
    with safe_open_sharded(folder, "pt", device, backend=backend) as files:
        return files.get_tensors()


# ---- writing ---------------------------------------------------------------------------------------------------------


def _bytes_of(size: int | str) -> int:
    """5GB, 200 MiB, 1000 -> bytes. ValueError for what is no positive size."""
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*(?:([KMGT]I?)?B)?\s*", str(size).upper())
    number = int(float(match[1]) * _UNITS[match[2] or ""]) if match else 0
    if number < 1:
        raise ValueError(f"max_shard_size must be a number of bytes or a text such as '5GB' or '200MiB', not {size!r}")
    return number


def _split(tensors: dict[str, Tensor], limit: int) -> list[dict[str, Tensor]]:
    """The tensors, in their order, in shards of at most `limit` bytes; a larger tensor has one of its own."""
    shards: list[dict[str, Tensor]] = []
    current: dict[str, Tensor] = {}
    room = limit
    for name, t in tensors.items():
        size = t.numel() * t.element_size()
        if size > limit:
            shards.append({name: t})
            continue
        if size > room:
            shards.append(current)
            current, room = {}, limit
        current[name] = t
        room -= size
    return [*shards, current] if current or not shards else shards


def _remove(folder: str, kept: Any) -> None:
    """Removes the shards of earlier checkpoints, and what programs killed in writing them left."""
    remove_litter(folder, "|".join([_OURS, re.escape(_SINGLE), re.escape(_INDEX)]))
    for name in os.listdir(folder):
        if re.fullmatch(_OURS, name) and name not in kept:
            with contextlib.suppress(FileNotFoundError):
                os.remove(os.path.join(folder, name))


def save_sharded(
    tensors: Any, folder: Any, max_shard_size: int | str = "5GB", metadata: dict[str, str] | None = None
) -> None:
    """Writes tensors to a folder, in files of at most a size each, with an index; in one file where they fit.

    Args:
        tensors: a dict of tensors, as for `save_file`; or a module, of which shared tensors are written once.
        folder: is made where it is not there. Another checkpoint in it is replaced: a program that is killed
            leaves the old one or the new one whole, and files that the next call removes.
        max_shard_size: bytes, or a text such as "5GB" or "200MiB". A tensor that is larger has a file of its own.
        metadata: text for every file and the index, besides {"format": "pt"}, for which transformers looks.

    Raises what `save_file` raises, before anything is written.
    """
    limit, folder = _bytes_of(max_shard_size), os.fspath(folder)
    if hasattr(tensors, "state_dict"):
        tensors, metadata = state_of(tensors, metadata, True)
    check(tensors)
    text = {"format": "pt", **(metadata or {})}
    os.makedirs(folder, exist_ok=True)
    shards = _split(tensors, limit)
    if len(shards) == 1:
        save_file(tensors, os.path.join(folder, _SINGLE), text)
        with contextlib.suppress(FileNotFoundError):
            os.remove(os.path.join(folder, _INDEX))
        _remove(folder, ())
        return
    names = [f"-{i:05d}-of-{len(shards):05d}.safetensors" for i in range(1, len(shards) + 1)]
    taken = any(os.path.exists(os.path.join(folder, "model" + name)) for name in names)
    stem = f"model-{os.urandom(4).hex()}" if taken else "model"
    places: dict[str, str] = {}
    for name, shard in zip(names, shards, strict=True):
        save_file(shard, os.path.join(folder, stem + name), text)
        places.update(dict.fromkeys(shard, stem + name))
    total = sum(t.numel() * t.element_size() for t in tensors.values())
    index = {"metadata": {**(metadata or {}), "total_size": total}, "weight_map": dict(sorted(places.items()))}
    with replacing(os.path.join(folder, _INDEX)) as file:
        file.write(json.dumps(index, indent=2).encode() + b"\n")
    with contextlib.suppress(FileNotFoundError):
        os.remove(os.path.join(folder, _SINGLE))
    _remove(folder, places.values())
