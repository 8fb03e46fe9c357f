"""torch.distributions.negative_binomial."""

from __future__ import annotations

from typing import Any

from ..autograd import api as T
from ..autograd.modes import no_grad
from ..autograd.tensor import Tensor
from ..nn import functional as F
from . import constraints
from .gamma import Gamma
from .parameters import ProbsOrLogits


class NegativeBinomial(ProbsOrLogits):
    """The number of successes, of probability `probs`, before `total_count` failures. total_count, probs: (*B)."""

    arg_constraints = {
        "total_count": constraints.greater_than_eq(0), "probs": constraints.half_open_interval(0.0, 1.0),
        "logits": constraints.real,
    }  # fmt: skip
    support = constraints.nonnegative_integer

    def __init__(self, total_count: Any, probs: Any = None, logits: Any = None, validate_args: bool | None = None):
        (count,) = self._keep_given(probs, logits, total_count)
        self.total_count = count.type_as(self._param)
        super().__init__(self._param.shape, (), validate_args)

    @property
    def mean(self) -> Tensor:
        return self.total_count * T.exp(self.logits)

    @property
    def mode(self) -> Tensor:
        return ((self.total_count - 1) * self.logits.exp()).floor().clamp(min=0.0)

    @property
    def variance(self) -> Tensor:
        return self.mean / T.sigmoid(-self.logits)

    def sample(self, sample_shape: Any = ()) -> Tensor:
        with no_grad():
            rate = Gamma(self.total_count, T.exp(-self.logits), validate_args=False).sample(sample_shape)
            return T.poisson(rate)

    def log_prob(self, value: Tensor) -> Tensor:
        if self._validate_args:
            self._validate_sample(value)
        n = self.total_count
        unnormalized = n * F.logsigmoid(-self.logits) + value * F.logsigmoid(self.logits)
        normalizer = -T.lgamma(n + value) + T.lgamma(1.0 + value) + T.lgamma(n)
        return unnormalized - T.where(n + value == 0.0, T.zeros_like(normalizer), normalizer)
