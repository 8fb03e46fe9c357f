"""Faster kernels for the NumPy backend, where the extra `tapegrad[fast]` is installed: same arrays, same results.

Every file `*_kernels.py` here has a table KERNELS (op name -> kernel on NumPy arrays) and NEEDS, the package without
which its kernels are left out. The files import that package when one of their kernels first runs, not before. A
kernel that answers NotImplemented leaves the call to the NumPy backend's own, and that one to the op's generic form.

TAPEGRAD_FAST=0 in the environment leaves the extra out.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import os
import pkgutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ..base import first_of


def _onednn() -> bool:
    from . import onednn

    return onednn.path() is not None


# package of the extra -> whether it is installed
_PROBE: dict[str, Callable[[], bool]] = {
    "numba": lambda: importlib.util.find_spec("numba") is not None,
    "onednn": _onednn,
}


def _off() -> bool:
    return os.environ.get("TAPEGRAD_FAST", "1") == "0"


@functools.cache
def has(package: str) -> bool:
    """Whether a package of the extra is installed and not switched off; nothing is imported."""
    return not _off() and _PROBE[package]()


def tables() -> list[tuple[str, str, Mapping[str, Callable[..., Any]]]]:
    """(file, package, kernels) of every file whose package is installed."""
    found: list[tuple[str, str, Mapping[str, Callable[..., Any]]]] = []
    if _off():
        return found
    for module in pkgutil.iter_modules([str(Path(__file__).parent)]):
        if module.name.endswith("_kernels"):
            loaded = importlib.import_module(f"{__package__}.{module.name}")
            if has(loaded.NEEDS):
                found.append((module.name, loaded.NEEDS, loaded.KERNELS))
    return found


def over(kernels: Mapping[str, Callable[..., Any]]) -> dict[str, Callable[..., Any]]:
    """The NumPy backend's kernels with those of the extra before them."""
    merged = dict(kernels)
    for _, _, table in tables():
        for name, kernel in table.items():
            below = merged.get(name)
            if below is not None and getattr(kernel, "may_decline", False):
                kernel = first_of(kernel, below)
            merged[name] = kernel
    return merged
