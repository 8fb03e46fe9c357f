"""torch.nn.functional: the mathematics of the layers. A new file declares `__all__` and gets one line here."""
# ruff: noqa: F403

from __future__ import annotations

from ...autograd.coerce import name_calls
from .activation import *
from .attention import *
from .conv import *
from .distance import *
from .dropout import *
from .fractional import *
from .grid import *
from .linear import *
from .loss import *
from .margin_loss import *
from .normalization import *
from .padding import *
from .pooling import *
from .sparse import *
from .vision import *

name_calls(globals(), __name__, but=(".activation", ".linear"))
