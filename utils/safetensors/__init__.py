"""Files of tensors that hold no code, by the package safetensors: the functions of `safetensors.torch`, and shards.

    load_file, save_file        a dict of tensors, in a file
    load, save                  the same, in bytes
    safe_open                   one tensor, or a slice of one, without reading the rest
    load_model, save_model      a module, of which several names may be one tensor
    load_sharded, save_sharded, safe_open_sharded
                                several files and an index, in the layout of the Hugging Face hub

Files are mapped copy-on-write: loading costs no time, memory is taken as it is touched, writing into a tensor changes
no file. Whatever is written goes to a temporary name in the same folder, is flushed to the disk, and is then renamed.

The format: https://huggingface.co/docs/safetensors. An extra: `pip install 'tapegrad[safetensors]'`.
"""

from __future__ import annotations

from typing import Any

from .format import library
from .models import load_model, save_model
from .reading import load, load_file, safe_open
from .shards import load_sharded, safe_open_sharded, save_sharded
from .writing import save, save_file

__all__ = [
    "SafetensorError", "load", "load_file", "load_model", "load_sharded", "safe_open", "safe_open_sharded", "save",
    "save_file", "save_model", "save_sharded",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name == "SafetensorError":
        return library().SafetensorError
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
