"""Decompositions of low rank from random projections."""

from __future__ import annotations

from typing import Any

from ..dtypes import FLOAT, from_numpy_dtype, get_default_dtype
from ..op import GRAPH
from ..tensor import Tensor
from . import factor
from .factor import H
from .random import randn
from .table import public


def _basis(A: Tensor, q: int, niter: int, M: Tensor | None) -> Tensor:
    """Q: (*, M, q) with orthonormal columns and Q Q^H A close to A: algorithm 4.4 of the source of `svd_lowrank`."""
    dtype = A.dtype if from_numpy_dtype(A.array.dtype).category >= FLOAT else get_default_dtype()

    def times(x: Tensor, adjoint: bool) -> Tensor:
        out = (H(A) if adjoint else A) @ x
        return out if M is None else out - (H(M) if adjoint else M) @ x

    Q = factor.qr(times(randn(A.array.shape[-1], q, dtype=dtype, device=A.device), False)).Q
    for _ in range(niter):
        Q = factor.qr(times(Q, True)).Q
        Q = factor.qr(times(Q, False)).Q
    return Q


@public(method=False)
def svd_lowrank(A: Tensor, q: int | None = 6, niter: int | None = 2, M: Tensor | None = None) -> Any:
    """U, S, V with A - M close to U diag(S) V^H, of rank q, from a random projection and niter power iterations.

    A: (*, M, N), M: broadcasts to it -> U: (*, M, q), S: (*, q) falling, V: (*, N, q). N. Halko, P. Martinsson, J.
    Tropp, Finding structure with randomness, arXiv:0909.4061, algorithm 5.1.
    """
    q, niter = (6 if q is None else q), (2 if niter is None else niter)
    m, n = A.array.shape[-2:]
    if M is not None:
        M = GRAPH.expand(M, shape=A.array.shape)
    if m < n:
        A, M = H(A), None if M is None else H(M)
    Q = _basis(A, q, niter, M)
    B = H(Q) @ A
    if M is not None:
        B = B - H(Q) @ M
    U, S, Vh = factor.svd(B, full_matrices=False)
    U, V = Q @ U, H(Vh)
    return (V, S, U) if m < n else (U, S, V)


@public(method=False)
def pca_lowrank(A: Tensor, q: int | None = None, center: bool = True, niter: int = 2) -> Any:
    """`svd_lowrank` of A with the mean of its rows taken off where center: V's columns are principal directions.

    A: (*, M, N), rows are samples -> U: (*, M, q), S: (*, q), V: (*, N, q); q None: min(6, M, N).
    """
    m, n = A.array.shape[-2:]
    if q is None:
        q = min(6, m, n)
    elif not 0 <= q <= min(m, n):
        raise ValueError(f"q(={q}) must be non-negative integer and not greater than min(m, n)={min(m, n)}")
    if niter < 0:
        raise ValueError(f"niter(={niter}) must be non-negative integer")
    if center:
        A = A - GRAPH.mean(A, axis=(A.array.ndim - 2,), keepdims=True)
    return svd_lowrank(A, q, niter)
