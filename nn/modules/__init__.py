"""Module and all layers. A new file of layers declares `__all__` and gets one line here."""
# ruff: noqa: F401, F403

from __future__ import annotations

from .activation import *
from .adaptive import *
from .attention import *
from .batchnorm import *
from .channelshuffle import *
from .container import *
from .conv import *
from .distance import *
from .dropout import *
from .flatten import *
from .fold import *
from .instancenorm import *
from .lazy import *
from .linear import *
from .linear_cross_entropy_options import *
from .loss import *
from .module import Module
from .normalization import *
from .padding import *
from .pixelshuffle import *
from .pooling import *
from .rnn import *
from .sparse import *
from .transformer import *
from .upsampling import *

# the classes alone: the files' own names (`container`, ...) must not reach those who import everything from here
__all__ = [name for name in globals() if name[0].isupper()]
