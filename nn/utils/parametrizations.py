"""Ready parametrizations: orthogonal weights, weight normalisation, spectral normalisation."""

from __future__ import annotations

from enum import Enum, auto
from typing import Any

from ...autograd.api.creation import empty, eye, zeros
from ...autograd.api.factor import householder_product
from ...autograd.api.linalg import solve
from ...autograd.api.random import randn
from ...autograd.info import finfo
from ...autograd.modes import no_grad
from ...autograd.op import GRAPH
from ...autograd.tensor import Tensor
from .. import functional as F
from ..modules.conv import _ConvTransposeNd
from ..modules.module import Module
from .parametrize import register_parametrization
from .weight_norm import norm_except_dim

__all__ = ["orthogonal", "spectral_norm", "weight_norm"]


def _is_orthogonal(q: Tensor) -> bool:
    """Whether q^H q is the identity, up to rounding. q: (*, N, K)."""
    n, k = q.shape[-2:]
    identity = eye(k, dtype=q.dtype, device=q.device)
    return (q.mH @ q).allclose(identity.expand(*q.shape[:-2], k, k), atol=10.0 * n * finfo(q.dtype).eps)


def _make_orthogonal(a: Tensor) -> Tensor:
    """The Q of a = QR with a diagonal of R that is real and not negative. a: (*, N, K) -> same."""
    reflections, tau = a.geqrf()
    signs = reflections.diagonal(dim1=-2, dim2=-1).sgn()
    return householder_product(reflections, tau) * signs.unsqueeze(-2)


class _OrthMaps(Enum):
    matrix_exp = auto()
    cayley = auto()
    householder = auto()


class _Orthogonal(Module):
    """Any matrix -> one with orthonormal columns (rows, if it is wide). (*, N, K) -> same.

    With the buffer `base`, an orthogonal matrix B, the map gives B Q: the weight at the start is B, where the map is
    well conditioned. Lezcano-Casado, "Trivializations for gradient-based optimization on manifolds", 2019,
    arXiv:1909.09501.
    """

    base: Tensor

    def __init__(self, weight: Tensor, orthogonal_map: _OrthMaps, *, use_trivialization: bool = True):
        super().__init__()
        # Reflections of a complex matrix do not determine tau, nor does every tau give a unitary matrix
        if weight.is_complex() and orthogonal_map is _OrthMaps.householder:
            raise ValueError("The householder parametrization does not support complex tensors.")
        self.shape = weight.shape
        self.orthogonal_map = orthogonal_map
        if use_trivialization:
            self.register_buffer("base", None)

    def forward(self, X: Tensor) -> Tensor:
        wide = X.size(-2) < X.size(-1)
        tall = X.mT if wide else X
        q = self._by_reflections(tall) if self.orthogonal_map is _OrthMaps.householder else self._by_exponential(tall)
        if hasattr(self, "base"):
            q = self.base @ q
        return q.mT if wide else q

    def _by_exponential(self, x: Tensor) -> Tensor:
        """exp(A), or its Cayley form (I - A/2)^-1 (I + A/2), of the skew-Hermitian A below the diagonal of x."""
        n, k = x.shape[-2:]
        x = x.tril()
        if n != k:
            x = GRAPH.cat(x, zeros(*x.shape[:-1], n - k, dtype=x.dtype, device=x.device), axis=x.ndim - 1)
        a = x - x.mH
        if self.orthogonal_map is _OrthMaps.matrix_exp:
            q = a.matrix_exp()
        else:
            identity = eye(n, dtype=a.dtype, device=a.device)
            q = solve(identity.add(a, alpha=-0.5), identity.add(a, alpha=0.5))
        return q if n == k else q[..., :k]

    def _by_reflections(self, x: Tensor) -> Tensor:
        """The product of the Householder reflections below the diagonal of x, columns signed by the diagonal."""
        a = x.tril(diagonal=-1)
        tau = 2.0 / (1.0 + (a * a).sum(dim=-2))
        signs = x.diagonal(dim1=-2, dim2=-1).int().unsqueeze(-2)  # integers: the diagonal is not trained
        return householder_product(a, tau) * signs

    @no_grad()
    def right_inverse(self, Q: Tensor) -> Tensor:
        """The matrix that gives Q; of a Q that is not orthogonal, the one that gives the Q of its QR decomposition."""
        if Q.shape != self.shape:
            raise ValueError(
                f"Expected a matrix or batch of matrices of shape {self.shape}. Got a tensor of shape {Q.shape}."
            )
        wide = Q.size(-2) < Q.size(-1)
        tall = Q.mT if wide else Q
        n, k = tall.shape[-2:]
        if not hasattr(self, "base"):
            if self.orthogonal_map is not _OrthMaps.householder:
                raise NotImplementedError(
                    "It is not possible to assign to the matrix exponential or the Cayley parametrizations when "
                    "use_trivialization=False."
                )
            a, tau = tall.geqrf()
            diagonal = a.diagonal(dim1=-2, dim2=-1)
            signs = diagonal.sign()
            diagonal.copy_(signs.where(tau != 0, -signs))  # tau is exactly 0 where LAPACK leaves a reflection out
            return a.mT if wide else a
        if n != k:  # completed to a basis by random columns
            more = randn(*tall.shape[:-2], n, n - k, dtype=tall.dtype, device=tall.device)
            self.base = _make_orthogonal(GRAPH.cat(tall, more, axis=tall.ndim - 1))
        else:
            self.base = tall.clone() if _is_orthogonal(tall) else _make_orthogonal(tall)
        minus_identity = Q.new_zeros(Q.shape)  # both maps give the identity for it
        minus_identity.diagonal(dim1=-2, dim2=-1).fill_(-1.0)
        return minus_identity


def _weight_of(module: Module, name: str) -> Tensor:
    weight = getattr(module, name, None)
    if not isinstance(weight, Tensor):
        raise ValueError(f"Module '{module}' has no parameter or buffer with name '{name}'")
    return weight


def orthogonal(
    module: Module, name: str = "weight", orthogonal_map: str | None = None, *, use_trivialization: bool = True
) -> Module:
    """Keeps a weight orthogonal: Q^H Q = I for (*, M, N) with M >= N, Q Q^H = I for M < N. Gives the module.

    Args:
        module: the module, changed in place.
        name: its matrix, or batch of matrices.
        orthogonal_map: "matrix_exp", "cayley" or "householder"; by default the first where the matrix is square or
            complex, else the last.
        use_trivialization: keep the starting value in a matrix of its own, and train only what turns it. Without
            it nothing can be assigned to the weight, except with "householder".

    Raises ValueError for fewer than 2 dimensions, an unknown map, a complex weight with "householder".
    """
    weight = _weight_of(module, name)
    if weight.ndim < 2:
        raise ValueError(f"Expected a matrix or batch of matrices. Got a tensor of {weight.ndim} dimensions.")
    if orthogonal_map is None:
        square = weight.size(-2) == weight.size(-1)
        orthogonal_map = "matrix_exp" if square or weight.is_complex() else "householder"
    if orthogonal_map not in _OrthMaps.__members__:
        raise ValueError(
            f'orthogonal_map has to be one of "matrix_exp", "cayley", "householder". Got: {orthogonal_map}'
        )
    orth = _Orthogonal(weight, _OrthMaps[orthogonal_map], use_trivialization=use_trivialization)
    return register_parametrization(module, name, orth, unsafe=True)


class _WeightNorm(Module):
    """Lengths g and directions v -> g v / |v|."""

    def __init__(self, dim: int | None = 0):
        super().__init__()
        self.dim = -1 if dim is None else dim

    def forward(self, weight_g: Tensor, weight_v: Tensor) -> Tensor:
        return weight_v * (weight_g / norm_except_dim(weight_v, self.dim))

    def right_inverse(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        return norm_except_dim(weight, self.dim), weight


def weight_norm(module: Module, name: str = "weight", dim: int | None = 0) -> Module:
    """Trains the lengths and the directions of the weight's vectors apart: w = g v / |v|. Gives the module.

    Args:
        module: the module, changed in place.
        name: its weight; g and v are then parametrizations.<name>.original0 and original1. Files of
            `nn.utils.weight_norm`, with <name>_g and <name>_v, can be loaded.
        dim: the dimension along which the vectors are counted; None: one length for the whole weight.

    Salimans and Kingma, "Weight Normalization", 2016, arXiv:1602.07868.

    >>> import tapegrad as torch
    >>> layer = torch.nn.utils.parametrizations.weight_norm(torch.nn.Linear(20, 40))
    >>> layer.parametrizations.weight.original0.shape
    torch.Size([40, 1])
    """
    register_parametrization(module, name, _WeightNorm(dim), unsafe=True)

    def rename(state_dict: Any, prefix: str, *_: Any) -> None:
        if f"{prefix}{name}_g" in state_dict and f"{prefix}{name}_v" in state_dict:
            for number, letter in enumerate("gv"):
                state_dict[f"{prefix}parametrizations.{name}.original{number}"] = state_dict.pop(
                    f"{prefix}{name}_{letter}"
                )

    module._register_load_state_dict_pre_hook(rename)
    return module


class _SpectralNorm(Module):
    """W -> W / s(W), s being the largest singular value, estimated by the power method. (*S) -> (*S).

    `_u` and `_v`, the singular vectors, get nearer with each use in training. They are written in place.
    """

    _u: Tensor
    _v: Tensor

    def __init__(self, weight: Tensor, n_power_iterations: int = 1, dim: int = 0, eps: float = 1e-12):
        super().__init__()
        ndim = weight.ndim
        if not -ndim <= dim < ndim:
            raise IndexError(
                f"Dimension out of range (expected to be in range of [-{ndim}, {ndim - 1}] but got {dim})"
            )
        if n_power_iterations <= 0:
            raise ValueError(
                f"Expected n_power_iterations to be positive, but got n_power_iterations={n_power_iterations}"
            )
        self.dim = dim % ndim
        self.eps = eps
        if ndim > 1:
            self.n_power_iterations = n_power_iterations
            matrix = self._as_matrix(weight)
            for name, length in zip(("_u", "_v"), matrix.shape, strict=True):
                start = empty(length, dtype=matrix.dtype, device=matrix.device)
                with no_grad():
                    start.normal_(0, 1)
                self.register_buffer(name, start)
            for name in ("_u", "_v"):
                self._buffers[name] = F.normalize(self._buffers[name], dim=0, eps=eps)
            self._power_method(matrix, 15)

    def _as_matrix(self, weight: Tensor) -> Tensor:
        if self.dim != 0:
            weight = weight.permute(self.dim, *[d for d in range(weight.ndim) if d != self.dim])
        return weight.flatten(1)

    @no_grad()
    def _power_method(self, matrix: Tensor, n_power_iterations: int) -> None:
        for _ in range(n_power_iterations):
            self._u.copy_(F.normalize(matrix.mv(self._v), dim=0, eps=self.eps))
            self._v.copy_(F.normalize(matrix.mH.mv(self._u), dim=0, eps=self.eps))

    def forward(self, weight: Tensor) -> Tensor:
        if weight.ndim == 1:
            return F.normalize(weight, dim=0, eps=self.eps)
        matrix = self._as_matrix(weight)
        if self.training:
            self._power_method(matrix, self.n_power_iterations)
        # copies: the next forward writes into the vectors, perhaps before this one's backward
        u, v = self._u.clone(), self._v.clone()
        return weight / u.vdot(matrix.mv(v))

    def right_inverse(self, value: Tensor) -> Tensor:
        return value


def spectral_norm(
    module: Module, name: str = "weight", n_power_iterations: int = 1, eps: float = 1e-12, dim: int | None = None
) -> Module:
    """Divides a weight by its largest singular value. Gives the module.

    Args:
        module: the module, changed in place.
        name: its weight; one of more than 2 dimensions is taken as a matrix of its first one by the others.
        n_power_iterations: steps of the power method at each use in training.
        eps: what norms are at least.
        dim: the dimension of the outputs: by default 0, for transposed convolutions 1.

    Miyato et al., "Spectral Normalization for Generative Adversarial Networks", 2018, arXiv:1802.05957.
    """
    weight = _weight_of(module, name)
    if dim is None:
        dim = 1 if isinstance(module, _ConvTransposeNd) else 0
    return register_parametrization(module, name, _SpectralNorm(weight, n_power_iterations, dim, eps))
