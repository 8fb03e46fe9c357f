"""Tensors written to files: at any moment there is the old file or the new one."""

from __future__ import annotations

import os
from typing import Any

import numpy as np

from ...autograd.tensor import Tensor
from ...backends.registry import backend_of
from ..files import replacing_name
from .format import DTYPES, error_of, library, naming, native

_NAMES = set(DTYPES.values())


def _extent(t: Tensor) -> tuple[int, int]:
    """The address of a tensor's first byte, and of the one after its last."""
    reach = sum((n - 1) * step for n, step in zip(t.shape, t.stride(), strict=True)) + 1 if t.numel() else 0
    return t.data_ptr(), t.data_ptr() + reach * t.element_size()


def shared_names(tensors: dict[str, Tensor]) -> list[set[str]]:
    """The names, in sets of those whose tensors overlap in memory."""
    storages: dict[Any, list[tuple[int, int, str]]] = {}
    for name, t in tensors.items():
        storage = t.untyped_storage()
        if storage.nbytes():
            storages.setdefault((t.device, storage.data_ptr()), []).append((*_extent(t), name))
    groups = []
    for areas in storages.values():
        reached = -1
        for start, stop, name in sorted(areas):
            if start >= reached:
                groups.append({name})
            else:
                groups[-1].add(name)
            reached = max(reached, stop)
    return groups


def check(tensors: Any) -> None:
    """Raises for what a file cannot hold."""
    if not isinstance(tensors, dict):
        raise ValueError(f"Expected a dict of [str, torch.Tensor] but received {type(tensors)}")
    for name, t in tensors.items():
        if not isinstance(t, Tensor):
            raise ValueError(f"Key `{name}` is invalid, expected torch.Tensor but received {type(t)}")
    sparse = [name for name, t in tensors.items() if t.is_sparse]
    if sparse:
        raise ValueError(
            f"You are trying to save a sparse tensors: `{sparse}` which this library does not support. "
            "`.to_dense()` makes dense ones of them, which may need much more room."
        )
    for name, t in tensors.items():
        if t.dtype.name not in _NAMES:
            raise ValueError(f"Key `{name}` is invalid: the format has no {t.dtype}, only {', '.join(sorted(_NAMES))}")
    shared = [group for group in shared_names(tensors) if len(group) > 1]
    if shared:
        raise RuntimeError(
            "Some tensors share memory, this will lead to duplicate memory on disk and potential differences when "
            f"loading them again: {shared}. Save the module with `save_model` or `save_sharded`, which write such "
            "tensors once, or `.clone()` them."
        )
    for name, t in tensors.items():
        if not t.is_contiguous():
            raise ValueError(
                f"You are trying to save a non contiguous tensor: `{name}` which is not allowed. "
                "`.contiguous()` packs it; where it is a part of another tensor, save that one."
            )


def specs_of(tensors: dict[str, Tensor]) -> tuple[dict[str, Any], list[Any]]:
    """What the library writes, and the arrays that must live until it has."""
    spec, specs, held = library().TensorSpec, {}, []
    for name, t in tensors.items():
        array = native(np.ascontiguousarray(backend_of(t.array).to_numpy(t.array)).reshape(-1))
        held.append(array)
        specs[name] = spec(
            dtype=t.dtype.name, shape=list(t.shape), data_ptr=array.ctypes.data, data_len=array.nbytes
        )
    return specs, held


def save(tensors: dict[str, Tensor], metadata: dict[str, str] | None = None) -> bytes:
    """The bytes of a file of these tensors, which must be contiguous and may not share memory.

    Raises ValueError for what is no such dict of tensors, RuntimeError for shared memory, TypeError for metadata other
    than text.
    """
    check(tensors)
    specs, held = specs_of(tensors)
    made = bytes(library().serialize(specs, metadata=metadata))
    del held
    return made


def save_file(tensors: dict[str, Tensor], filename: Any, metadata: dict[str, str] | None = None) -> None:
    """Writes tensors, by name, to a file. As `save`; SafetensorError where the file cannot be written."""
    filename = os.fspath(filename)
    if os.path.exists(filename) and not os.path.isfile(filename):  # a pipe or a device cannot be replaced
        data = save(tensors, metadata)
        with open(filename, "wb") as file:
            file.write(data)
        return
    check(tensors)
    specs, held = specs_of(tensors)
    try:
        with replacing_name(filename) as temporary, naming(filename, lambda: (b"", 0)):
            library().serialize_file(specs, temporary, metadata=metadata)
    except (FileNotFoundError, NotADirectoryError, PermissionError) as error:  # as the library says it
        raise error_of(f"{filename}: Error while serializing: I/O error: {error.strerror}") from error
    del held


# ---- the tensors of a module ----------------------------------------------------------------------------------------


def duplicates(state: dict[str, Tensor], preferred: Any = ()) -> dict[str, list[str]]:
    """Of names for one memory, the one to keep -> the others. RuntimeError where none is for all of its storage."""
    removed = {}
    for group in shared_names(state):
        complete = [name for name in sorted(group) if _is_complete(state[name])]
        if not complete:
            raise RuntimeError(
                "Error while trying to find names to remove to save state dict, but found no suitable name to keep for "
                f"saving amongst: {group}. None is covering the entire storage. Refusing to save/load the model since "
                "you could be storing much more memory than needed: `.clone()` such tensors first."
            )
        kept = next((name for name in complete if name in preferred), complete[0])
        if len(group) > 1:
            removed[kept] = sorted(group - {kept})
    return removed


def _is_complete(t: Tensor) -> bool:
    storage = t.untyped_storage()
    return t.data_ptr() == storage.data_ptr() and t.numel() * t.element_size() == storage.nbytes()


def state_of(
    model: Any, metadata: dict[str, str] | None, contiguous: bool
) -> tuple[dict[str, Tensor], dict[str, str] | None]:
    """A module's tensors, each memory once, and the metadata with the names that were left out."""
    state = dict(model.state_dict())
    for kept, names in duplicates(state).items():
        for name in names:
            metadata = {name: kept, **(metadata or {})}
            del state[name]
    return {name: t.contiguous() for name, t in state.items()} if contiguous else state, metadata
