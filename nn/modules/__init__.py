"""Module and all layers. A new file of layers declares `__all__` and gets one line here."""
# ruff: noqa: F401, F403

from __future__ import annotations

from .activation import *
from .batchnorm import *
from .container import *
from .distance import *
from .dropout import *
from .flatten import *
from .linear import *
from .module import Module
from .normalization import *
from .sparse import *

# the classes alone: the files' own names (`container`, ...) must not reach those who import everything from here
__all__ = [name for name in globals() if name[0].isupper()]
