"""torch.distributions.multivariate_normal."""

from __future__ import annotations

import math
from typing import Any

from .. import linalg
from ..autograd import api as T
from ..autograd.tensor import Tensor
from . import constraints
from .distribution import Distribution
from .utils import lazy_property, standard_normal


class MultivariateNormal(Distribution):
    """The normal distribution of vectors. loc: (*B, K); one of covariance_matrix, precision_matrix, scale_tril.

    The matrices are (*B, K, K). Sampling and densities use the Cholesky factor `scale_tril`; to give it saves work.
    """

    arg_constraints = {
        "loc": constraints.real_vector, "covariance_matrix": constraints.positive_definite,
        "precision_matrix": constraints.positive_definite, "scale_tril": constraints.lower_cholesky,
    }  # fmt: skip
    support = constraints.real_vector
    has_rsample = True

    def __init__(
        self,
        loc: Tensor,
        covariance_matrix: Tensor | None = None,
        precision_matrix: Tensor | None = None,
        scale_tril: Tensor | None = None,
        validate_args: bool | None = None,
    ):
        if loc.dim() < 1:
            raise ValueError("loc must be at least one-dimensional.")
        names = ("covariance_matrix", "scale_tril", "precision_matrix")
        matrices = (covariance_matrix, scale_tril, precision_matrix)
        given = {name: matrix for name, matrix in zip(names, matrices, strict=True) if matrix is not None}
        if len(given) != 1:
            raise ValueError("Exactly one of covariance_matrix or precision_matrix or scale_tril may be specified.")
        ((name, matrix),) = given.items()
        if matrix.dim() < 2:
            raise ValueError(
                f"{name} {'matrix ' if name == 'scale_tril' else ''}must be at least two-dimensional, with optional "
                "leading batch dimensions"
            )
        batch = T.broadcast_shapes(matrix.shape[:-2], loc.shape[:-1])
        self.loc = loc.expand((*batch, -1))
        setattr(self, name, matrix.expand((*batch, -1, -1)))
        super().__init__(batch, self.loc.shape[-1:], validate_args)
        if name == "scale_tril":
            self._unbroadcasted_scale_tril: Any = matrix
        elif name == "covariance_matrix":
            self._unbroadcasted_scale_tril = linalg.cholesky(matrix)
        else:
            self._unbroadcasted_scale_tril = _precision_to_scale_tril(matrix)

    _kept = ("_unbroadcasted_scale_tril",)

    @lazy_property
    def scale_tril(self) -> Tensor:
        return self._unbroadcasted_scale_tril.expand((*self._batch_shape, *self._event_shape, *self._event_shape))

    @lazy_property
    def covariance_matrix(self) -> Tensor:
        scale = self._unbroadcasted_scale_tril
        return (scale @ scale.mT).expand((*self._batch_shape, *self._event_shape, *self._event_shape))

    @lazy_property
    def precision_matrix(self) -> Tensor:
        scale = self._unbroadcasted_scale_tril
        inverse = linalg.solve_triangular(scale, T.eye(scale.shape[-1], dtype=scale.dtype), upper=False)
        return (inverse.mT @ inverse).expand((*self._batch_shape, *self._event_shape, *self._event_shape))

    @property
    def mean(self) -> Tensor:
        return self.loc

    mode = mean

    @property
    def variance(self) -> Tensor:
        spread = self._unbroadcasted_scale_tril.pow(2).sum(-1)
        return spread.expand((*self._batch_shape, *self._event_shape))

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        z = standard_normal(self._extended_shape(sample_shape), self.loc.dtype, self.loc.device)
        return self.loc + T.matmul(self._unbroadcasted_scale_tril, z.unsqueeze(-1)).squeeze(-1)

    def log_prob(self, value: Tensor) -> Tensor:
        if self._validate_args:
            self._validate_sample(value)
        mahalanobis = batch_mahalanobis(self._unbroadcasted_scale_tril, value - self.loc)
        half_log_det = self._unbroadcasted_scale_tril.diagonal(dim1=-2, dim2=-1).log().sum(-1)
        return -0.5 * (self._event_shape[0] * math.log(2 * math.pi) + mahalanobis) - half_log_det

    def entropy(self) -> Tensor:
        half_log_det = self._unbroadcasted_scale_tril.diagonal(dim1=-2, dim2=-1).log().sum(-1)
        h = 0.5 * self._event_shape[0] * (1.0 + math.log(2 * math.pi)) + half_log_det
        return h if len(self._batch_shape) == 0 else h.expand(self._batch_shape)


def batch_mahalanobis(scale_tril: Tensor, x: Tensor) -> Tensor:
    """x^T (L L^T)^-1 x. scale_tril: (*B, K, K), x: (*S, K) -> (*broadcast(S, B))."""
    shape = T.broadcast_shapes(scale_tril.shape[:-2], x.shape[:-1])
    k = x.shape[-1]
    columns = x.expand((*shape, k)).unsqueeze(-1)
    solved = linalg.solve_triangular(scale_tril.expand((*shape, k, k)), columns, upper=False)
    return solved.pow(2).sum([-2, -1])


def _precision_to_scale_tril(p: Tensor) -> Tensor:
    """The Cholesky factor of the inverse of p, by factoring p from its last row up."""
    flipped = linalg.cholesky(T.flip(p, (-2, -1)))
    inverse = T.transpose(T.flip(flipped, (-2, -1)), -2, -1)
    return linalg.solve_triangular(inverse, T.eye(p.shape[-1], dtype=p.dtype, device=p.device), upper=False)
