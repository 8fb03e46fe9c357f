"""Module and all layers. A new file of layers declares `__all__` and gets one line here."""
# ruff: noqa: F401, F403

from __future__ import annotations

from .container import *
from .linear import *
from .module import Module

# the classes alone: the files' own names (`container`, ...) must not reach those who import everything from here
__all__ = [name for name in globals() if name[0].isupper()]
