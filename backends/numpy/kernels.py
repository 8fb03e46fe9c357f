"""Fused kernels of the NumPy backend, by op name. Raw arrays in, raw arrays out.

Every file `*_kernels.py` beside this one has a table KERNELS; a new file is found by its name.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from . import blas as blas  # follows the number of threads

KERNELS: dict[str, Callable[..., Any]] = {}
for _module in pkgutil.iter_modules([str(Path(__file__).parent)]):
    if _module.name.endswith("_kernels"):
        KERNELS.update(importlib.import_module(f"{__package__}.{_module.name}").KERNELS)
