"""torch.distributions.half_cauchy."""

from __future__ import annotations

import math

from ..autograd import api as T
from ..autograd.tensor import Tensor
from .cauchy import Cauchy
from .half import Half


class HalfCauchy(Half):
    """|x| of a Cauchy variable of median 0. scale: (*B)."""

    _whole = Cauchy

    @property
    def mean(self) -> Tensor:
        return T.full(self._extended_shape(), math.inf, dtype=self.scale.dtype, device=self.scale.device)

    @property
    def variance(self) -> Tensor:
        return self.base_dist.variance
