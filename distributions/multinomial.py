"""torch.distributions.multinomial."""

from __future__ import annotations

from typing import Any

from ..autograd import api as T
from ..autograd.tensor import Tensor
from ..nn import functional as F
from . import constraints
from .binomial import Binomial
from .categorical import OverCategorical
from .utils import broadcast_all


class Multinomial(OverCategorical):
    """How often each of K outcomes comes in `total_count` draws. probs: (*B, K); events: (K,) counts."""

    _kept = ("total_count",)

    def __init__(self, total_count: int = 1, probs: Any = None, logits: Any = None, validate_args: bool | None = None):
        if not isinstance(total_count, int):
            raise NotImplementedError("inhomogeneous total_count is not supported")
        self.total_count = total_count
        super().__init__(probs, logits, validate_args)
        self._binomial = Binomial(total_count=total_count, probs=self.probs)

    def expand(self, batch_shape: Any, _instance: Any = None) -> Any:
        new = super().expand(batch_shape, _instance)
        new._binomial = Binomial(total_count=self.total_count, probs=new.probs)
        return new

    @constraints.dependent_property(is_discrete=True, event_dim=1)
    def support(self) -> Any:
        return constraints.multinomial(self.total_count)

    @property
    def mean(self) -> Tensor:
        return self.probs * self.total_count

    @property
    def variance(self) -> Tensor:
        return self.total_count * self.probs * (1 - self.probs)

    def sample(self, sample_shape: Any = ()) -> Tensor:
        draws = self._categorical.sample((self.total_count, *sample_shape))
        counts = F.one_hot(draws, self._categorical._num_events).sum(0)
        return counts.type_as(self.probs)

    def log_prob(self, value: Tensor) -> Tensor:
        if self._validate_args:
            self._validate_sample(value)
        logits, value = broadcast_all(self.logits, value)
        ways = T.lgamma(value.sum(-1) + 1) - T.lgamma(value + 1).sum(-1)
        never = (value == 0) & (logits == -float("inf"))
        return ways + (T.where(never, T.zeros_like(logits), logits) * value).sum(-1)

    def entropy(self) -> Tensor:
        n = T.tensor(float(self.total_count))
        support = self._binomial.enumerate_support(expand=False)[1:]
        weights = T.exp(self._binomial.log_prob(support))
        expected = (weights * T.lgamma(support + 1)).sum([0, -1])
        return n * self._categorical.entropy() - T.lgamma(n + 1) + expected
