"""Parameters that several distributions have in common: `probs` or `logits`, and `loc` and `scale`."""

from __future__ import annotations

from typing import Any

from ..autograd import api as T
from ..autograd.tensor import Tensor
from . import constraints
from .distribution import Distribution
from .transformed_distribution import TransformedDistribution
from .utils import broadcast_all, lazy_property, logits_to_probs, probs_to_logits


def given_of(probs: Any, logits: Any) -> tuple[str, Any]:
    """The name and value of the one parameter that is given. ValueError for both, or none."""
    if (probs is None) == (logits is None):
        raise ValueError("Either `probs` or `logits` must be specified, but not both.")
    return ("probs", probs) if logits is None else ("logits", logits)


class ProbsOrLogits(Distribution):
    """Distributions that keep `probs` or `logits`, as given, and compute the other where it is first asked for."""

    _is_binary = True  # logits are log-odds, else log-weights in the last dimension

    def _keep_given(self, probs: Any, logits: Any, *others: Any) -> tuple[Tensor, ...]:
        """Keeps the one given, of one shape with the other parameters, and returns these. (*B) each."""
        name, given = given_of(probs, logits)
        *rest, value = broadcast_all(*others, given)
        setattr(self, name, value)
        return tuple(rest)

    @lazy_property
    def logits(self) -> Tensor:
        return probs_to_logits(self.probs, self._is_binary)

    @lazy_property
    def probs(self) -> Tensor:
        return logits_to_probs(self.logits, self._is_binary)

    @property
    def _param(self) -> Tensor:
        return self.__dict__["probs"] if "probs" in self.__dict__ else self.logits

    @property
    def param_shape(self) -> Any:
        return self._param.size()

    def _first_numbers(self, count: int, dtype: Any, expand: bool) -> Tensor:
        """0 .. count-1 as a support. -> (count, *batch_shape), or ones for batch_shape where not expanded."""
        values = T.arange(count, dtype=dtype, device=self._param.device)
        values = values.view((-1,) + (1,) * len(self._batch_shape))
        return values.expand((-1, *self._batch_shape)) if expand else values


class LocScale(Distribution):
    """Distributions of the whole line with a place `loc` and a width `scale`. loc, scale: (*B)."""

    arg_constraints = {"loc": constraints.real, "scale": constraints.positive}
    support = constraints.real
    has_rsample = True

    def __init__(self, loc: Any, scale: Any, validate_args: bool | None = None):
        self.loc, self.scale = broadcast_all(loc, scale)
        super().__init__(self.loc.shape, (), validate_args)


class Relaxed(TransformedDistribution):
    """A transform of a distribution with `temperature` and `probs` or `logits`, which are its own too."""

    has_rsample = True

    @property
    def temperature(self) -> Any:
        return self.base_dist.temperature

    @property
    def logits(self) -> Tensor:
        return self.base_dist.logits

    @property
    def probs(self) -> Tensor:
        return self.base_dist.probs
