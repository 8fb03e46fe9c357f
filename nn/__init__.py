"""Layers and models: Module, the layers, their functions (`functional`), initialisation (`init`) and `utils`."""
# ruff: noqa: F401, F403

from __future__ import annotations

import importlib
from typing import Any

from . import functional, grad, init, utils
from .modules import *
from .parallel import DataParallel
from .parameter import Buffer, Parameter, UninitializedBuffer, UninitializedParameter

_LATE = ("attention", "common_types")  # loaded when they are first named


def __getattr__(name: str) -> Any:
    if name in _LATE:
        return importlib.import_module(f".{name}", __name__)
    raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
