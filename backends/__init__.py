"""The rooms that touch an array library: NumPy, CuPy, and what plug-ins bring. They know op names, never Tensors.

Beside them stand the settings that programs know as torch.backends: `cudnn`, `cuda`, `mps`, ...
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

_SETTINGS = ("cpu", "cuda", "cudnn", "mkl", "mkldnn", "mps", "openmp", "opt_einsum")


def __getattr__(name: str) -> Any:
    if name in _SETTINGS:
        return importlib.import_module(f".{name}", __name__)
    raise AttributeError(f"module '{__name__}' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted({*globals(), *_SETTINGS})


@contextmanager
def set_inside(held: dict[str, Any], new: dict[str, Any]) -> Iterator[None]:
    """Inside, the settings have the new values; after it, what they had."""
    before = {name: held[name] for name in new}
    held.update(new)
    try:
        yield
    finally:
        held.update(before)
