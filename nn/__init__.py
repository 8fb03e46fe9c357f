"""Layers and models: Module, the layers, their functions (`functional`), initialisation (`init`) and `utils`."""
# ruff: noqa: F401, F403

from __future__ import annotations

from . import functional, grad, init, utils
from .modules import *
from .parallel import DataParallel
from .parameter import Buffer, Parameter, UninitializedBuffer, UninitializedParameter
