"""The rooms that touch an array library: NumPy, CuPy, and what plug-ins bring. They know op names, never Tensors.

Beside them stand the settings that programs know as torch.backends: `cudnn`, `cuda`, `mps`, ...
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
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


class _Room(ModuleType):
    """This module: its attribute fp32_precision is the word of all float32 products; see precision.py."""

    @property
    def fp32_precision(self) -> str:
        from . import precision

        return precision.get("generic", "all")

    @fp32_precision.setter
    def fp32_precision(self, word: str) -> None:
        from . import precision

        precision.put("generic", "all", word)


sys.modules[__name__].__class__ = _Room


def set_flags(_fp32_precision: str | None = "none") -> tuple[str]:
    """Sets the word of all float32 products, unless None is given, and returns the one before in a tuple."""
    from . import precision

    before = precision.get("generic", "all")
    if _fp32_precision is not None:
        precision.put("generic", "all", _fp32_precision)
    return (before,)


@contextmanager
def flags(fp32_precision: str = "none") -> Iterator[None]:
    """Inside, the word of all float32 products is the one given; after it, what it was."""
    before = set_flags(fp32_precision)
    try:
        yield
    finally:
        set_flags(*before)
