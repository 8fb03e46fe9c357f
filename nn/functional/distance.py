"""Distances and similarities of vectors."""

from __future__ import annotations

from ...autograd.api.algebra import pdist
from ...autograd.api.rearrange import broadcast_tensors
from ...autograd.tensor import Tensor

__all__ = ["cosine_similarity", "pairwise_distance", "pdist"]


def cosine_similarity(x1: Tensor, x2: Tensor, dim: int = 1, eps: float = 1e-8) -> Tensor:
    """x1 . x2 / (max(|x1|, eps) max(|x2|, eps)) along dim. x1: (*S), x2: (*T) -> broadcast(S, T) without dim."""
    for t in (x1, x2):
        if t.array.dtype.kind not in "fcV":
            raise RuntimeError(f"expected common dtype to be floating point, yet common dtype is {t.dtype}")
    x1, x2 = broadcast_tensors(x1, x2)
    n1 = x1.norm(2, dim, keepdim=True).clamp_min(eps)
    n2 = x2.norm(2, dim, keepdim=True).clamp_min(eps)
    return ((x1 / n1) * (x2 / n2)).sum(dim)


def pairwise_distance(x1: Tensor, x2: Tensor, p: float = 2.0, eps: float = 1e-6, keepdim: bool = False) -> Tensor:
    """The p-norm of x1 - x2 + eps along the last dimension. x1: (*, D), x2: (*, D) -> (*)."""
    return (x1 - x2 + eps).norm(p, -1, keepdim)
