"""The rooms that touch an array library: NumPy, CuPy, and what plug-ins bring. They know op names, never Tensors.

Beside them stand the settings that programs know as torch.backends: `cudnn`, `cuda`, `mps`, ...
"""

from __future__ import annotations

import importlib
from typing import Any

_SETTINGS = ("cpu", "cuda", "cudnn", "mkl", "mkldnn", "mps", "openmp", "opt_einsum")


def __getattr__(name: str) -> Any:
    if name in _SETTINGS:
        return importlib.import_module(f".{name}", __name__)
    raise AttributeError(f"module '{__name__}' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted({*globals(), *_SETTINGS})
