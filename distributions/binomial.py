"""torch.distributions.binomial."""

from __future__ import annotations

from typing import Any

from ..autograd import api as T
from ..autograd.modes import no_grad
from ..autograd.tensor import Tensor
from . import constraints
from .parameters import ProbsOrLogits


class Binomial(ProbsOrLogits):
    """The number of successes in `total_count` trials. total_count, probs: (*B)."""

    arg_constraints = {
        "total_count": constraints.nonnegative_integer, "probs": constraints.unit_interval, "logits": constraints.real
    }  # fmt: skip
    has_enumerate_support = True

    def __init__(self, total_count: Any = 1, probs: Any = None, logits: Any = None, validate_args: bool | None = None):
        (count,) = self._keep_given(probs, logits, total_count)
        self.total_count = count.type_as(self._param)
        super().__init__(self._param.shape, (), validate_args)

    @constraints.dependent_property(is_discrete=True, event_dim=0)
    def support(self) -> Any:
        return constraints.integer_interval(0, self.total_count)

    @property
    def mean(self) -> Tensor:
        return self.total_count * self.probs

    @property
    def mode(self) -> Tensor:
        return ((self.total_count + 1) * self.probs).floor().clamp(max=self.total_count)

    @property
    def variance(self) -> Tensor:
        return self.total_count * self.probs * (1 - self.probs)

    def sample(self, sample_shape: Any = ()) -> Tensor:
        shape = self._extended_shape(sample_shape)
        with no_grad():
            return T.binomial(self.total_count.expand(shape), self.probs.expand(shape))

    def log_prob(self, value: Tensor) -> Tensor:
        if self._validate_args:
            self._validate_sample(value)
        n, logits = self.total_count, self.logits
        ways = T.lgamma(n + 1) - T.lgamma(value + 1) - T.lgamma(n - value + 1)
        # n log(1 + exp(logits)), with exp of what is not positive; relu's mean with its mirror image has slope 1/2 at 0
        above = (logits.clamp(min=0) + logits - logits.clamp(max=0)) / 2
        normalizer = n * above + n * T.log1p(T.exp(-T.abs(logits)))
        return value * logits + ways - normalizer

    def entropy(self) -> Tensor:
        total = int(self.total_count.max())
        if not bool((self.total_count == total).all()):
            raise NotImplementedError("Inhomogeneous total count not supported by `entropy`.")
        log_prob = self.log_prob(self.enumerate_support(False))
        return -(T.exp(log_prob) * log_prob).sum(0)

    def enumerate_support(self, expand: bool = True) -> Tensor:
        total = int(self.total_count.max())
        if not bool((self.total_count == total).all()):
            raise NotImplementedError("Inhomogeneous total count not supported by `enumerate_support`.")
        return self._first_numbers(1 + total, self._param.dtype, expand)
