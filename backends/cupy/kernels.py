"""Fused kernels of the CuPy backend, by op name. Raw arrays in, raw arrays out.

Every file `*_kernels.py` beside this one has a table KERNELS; a new file is found by its name. The files import no
CuPy: what they need of it they ask of launch.py's machine.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

KERNELS: dict[str, Callable[..., Any]] = {}
for _module in pkgutil.iter_modules([str(Path(__file__).parent)]):
    if _module.name.endswith("_kernels"):
        KERNELS.update(importlib.import_module(f"{__package__}.{_module.name}").KERNELS)
