"""torch.distributions.half_normal."""

from __future__ import annotations

import math

from ..autograd.tensor import Tensor
from .half import Half
from .normal import Normal


class HalfNormal(Half):
    """|x| of a normal variable of mean 0 and standard deviation `scale`. scale: (*B)."""

    _whole = Normal

    @property
    def mean(self) -> Tensor:
        return self.scale * math.sqrt(2 / math.pi)

    @property
    def variance(self) -> Tensor:
        return self.scale.pow(2) * (1 - 2 / math.pi)
