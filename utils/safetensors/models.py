"""The tensors of modules, of which several names may be one tensor."""

from __future__ import annotations

import os
from typing import Any

from .reading import load_file
from .shards import load_sharded
from .writing import duplicates, save_file, state_of


def save_model(
    model: Any, filename: Any, metadata: dict[str, str] | None = None, force_contiguous: bool = True
) -> None:
    """Writes a module's state. Tensors under several names are written once; metadata says which name was kept.

    Args:
        model: the module.
        filename: the file.
        metadata: further text for the file.
        force_contiguous: packs tensors that are not contiguous, which otherwise are a ValueError.
    """
    state, metadata = state_of(model, metadata, force_contiguous)
    try:
        save_file(state, filename, metadata)
    except ValueError as error:
        raise ValueError(f"{error} Or use save_model(..., force_contiguous=True).") from error


def load_model(
    model: Any, filename: Any, strict: bool = True, device: Any = "cpu", *, backend: str = "mmap"
) -> tuple[set[str], list[str]]:
    """Reads a module's state from a file, or a folder of shards. -> (missing names, unexpected names).

    A tensor under several names of the module need be in the file under one of them.

    Raises RuntimeError for missing and unexpected names, where `strict`.
    """
    read = load_sharded if os.path.isdir(filename) else load_file
    state = read(filename, device, backend=backend)
    removed = duplicates(model.state_dict(), state)
    absent, unexpected = model.load_state_dict(state, strict=False)
    missing, unexpected = set(absent), list(unexpected)
    for name in (name for names in removed.values() for name in names):
        if name in missing:
            missing.remove(name)
        else:
            unexpected.append(name)
    if strict and (missing or unexpected):
        text = f"Error(s) in loading state_dict for {type(model).__name__}:"
        for what, names in (("Missing", missing), ("Unexpected", unexpected)):
            if names:
                text += f"\n    {what} key(s) in state_dict: " + ", ".join(f'"{name}"' for name in sorted(names))
        raise RuntimeError(text)
    return missing, unexpected
