"""torch.distributions.studentT."""

from __future__ import annotations

import math
from typing import Any

from ..autograd import api as T
from ..autograd.tensor import Tensor
from . import constraints
from .chi2 import Chi2
from .distribution import Distribution
from .utils import broadcast_all, standard_normal


class StudentT(Distribution):
    """Student's t distribution of `df` degrees of freedom, shifted by loc and scaled. df, loc, scale: (*B)."""

    arg_constraints = {"df": constraints.positive, "loc": constraints.real, "scale": constraints.positive}
    support = constraints.real
    has_rsample = True

    def __init__(self, df: Any, loc: Any = 0.0, scale: Any = 1.0, validate_args: bool | None = None):
        self.df, self.loc, self.scale = broadcast_all(df, loc, scale)
        self._chi2 = Chi2(self.df)
        super().__init__(self.df.size(), (), validate_args)

    def expand(self, batch_shape: Any, _instance: Any = None) -> Any:
        new = super().expand(batch_shape, _instance)
        new._chi2 = self._chi2.expand(batch_shape)
        return new

    @property
    def mean(self) -> Tensor:
        return T.where(self.df <= 1, T.full_like(self.loc, math.nan), self.loc)

    @property
    def mode(self) -> Tensor:
        return self.loc

    @property
    def variance(self) -> Tensor:
        df, inf = self.df, T.full_like(self.df, math.inf)
        finite = self.scale.pow(2) * df / (df - 2)
        return T.where(df > 2, finite, T.where(df > 1, inf, T.full_like(df, math.nan)))

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        x = standard_normal(self._extended_shape(sample_shape), self.df.dtype, self.df.device)
        return self.loc + self.scale * x * T.rsqrt(self._chi2.rsample(sample_shape) / self.df)

    def log_prob(self, value: Tensor) -> Tensor:
        if self._validate_args:
            self._validate_sample(value)
        y = (value - self.loc) / self.scale
        z = self.scale.log() + 0.5 * self.df.log() + 0.5 * math.log(math.pi)
        z = z + T.lgamma(0.5 * self.df) - T.lgamma(0.5 * (self.df + 1.0))
        return -0.5 * (self.df + 1.0) * T.log1p(y**2.0 / self.df) - z

    def entropy(self) -> Tensor:
        half, more = 0.5 * self.df, 0.5 * (self.df + 1)
        beta = T.lgamma(half) + math.lgamma(0.5) - T.lgamma(more)
        return self.scale.log() + more * (T.digamma(more) - T.digamma(half)) + 0.5 * self.df.log() + beta
