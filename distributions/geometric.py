"""torch.distributions.geometric."""

from __future__ import annotations

from typing import Any

from ..autograd import api as T
from ..autograd.info import finfo
from ..autograd.modes import no_grad
from ..autograd.tensor import Tensor
from ..nn import functional as F
from . import constraints
from .parameters import ProbsOrLogits
from .utils import broadcast_all


class Geometric(ProbsOrLogits):
    """The number of failures before the first success of probability `probs`. probs: (*B)."""

    arg_constraints = {"probs": constraints.unit_interval, "logits": constraints.real}
    support = constraints.nonnegative_integer

    def __init__(self, probs: Any = None, logits: Any = None, validate_args: bool | None = None):
        self._keep_given(probs, logits)
        super().__init__(self._param.shape, (), validate_args)
        value = self._param
        if self._validate_args and probs is not None and not bool((value > 0).all()):
            invalid = value.data[~(value > 0)]
            raise ValueError(
                f"Expected parameter probs ({type(value).__name__} of shape {tuple(value.shape)}) of distribution "
                f"{self!r} to be positive but found invalid values:\n{invalid}"
            )

    @property
    def mean(self) -> Tensor:
        return 1.0 / self.probs - 1.0

    @property
    def mode(self) -> Tensor:
        return T.zeros_like(self.probs)

    @property
    def variance(self) -> Tensor:
        return (1.0 / self.probs - 1.0) / self.probs

    def sample(self, sample_shape: Any = ()) -> Tensor:
        shape = self._extended_shape(sample_shape)
        with no_grad():
            u = T.empty(shape, dtype=self.probs.dtype, device=self.probs.device)
            u.uniform_(finfo(self.probs.dtype).tiny, 1)
            return (u.log() / (-self.probs).log1p()).floor()

    def log_prob(self, value: Tensor) -> Tensor:
        if self._validate_args:
            self._validate_sample(value)
        value, probs = broadcast_all(value, self.probs)
        certain = (probs == 1) & (value == 0)
        return value * (-T.where(certain, T.zeros_like(probs), probs)).log1p() + self.probs.log()

    def entropy(self) -> Tensor:
        return F.binary_cross_entropy_with_logits(self.logits, self.probs, reduction="none") / self.probs
