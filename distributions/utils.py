"""What the distributions share: parameters of one shape and dtype, and probabilities against logits."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..autograd import api as T
from ..autograd.dtypes import get_default_dtype
from ..autograd.info import finfo
from ..autograd.tensor import Tensor
from ..nn import functional as F

euler_constant = 0.57721566490153286060


def is_number(value: Any) -> bool:
    """Whether a value is a Python number."""
    return isinstance(value, (int, float, complex))


def broadcast_all(*values: Any) -> tuple[Tensor, ...]:
    """Numbers and tensors as tensors of one shape; numbers take the dtype and device of the first tensor.

    ValueError for what is neither.
    """
    if not all(isinstance(v, Tensor) or is_number(v) for v in values):
        raise ValueError(
            "Input arguments must all be instances of Number, torch.Tensor or objects implementing __torch_function__."
        )
    like = next((v for v in values if isinstance(v, Tensor)), None)
    dtype, device = (get_default_dtype(), None) if like is None else (like.dtype, like.device)
    tensors = [v if isinstance(v, Tensor) else T.tensor(v, dtype=dtype, device=device) for v in values]
    if all(t.shape == tensors[0].shape for t in tensors):
        return tuple(tensors)  # themselves, not views of them
    return tuple(T.broadcast_tensors(*tensors))


def clamp_probs(probs: Tensor) -> Tensor:
    """Probabilities kept off 0 and 1 by the dtype's eps."""
    eps = finfo(probs.dtype).eps
    return probs.clamp(min=eps, max=1 - eps)


def logits_to_probs(logits: Tensor, is_binary: bool = False) -> Tensor:
    """Probabilities of log-odds (binary) or of unnormalised log-probabilities in the last dimension."""
    return T.sigmoid(logits) if is_binary else F.softmax(logits, dim=-1)


def probs_to_logits(probs: Tensor, is_binary: bool = False) -> Tensor:
    """Log-odds (binary) or log-probabilities."""
    p = clamp_probs(probs)
    return T.log(p) - T.log1p(-p) if is_binary else T.log(p)


def standard_normal(shape: Any, dtype: Any, device: Any) -> Tensor:
    """Standard normal values, drawn as torch.distributions draws them."""
    return T.normal(T.zeros(shape, dtype=dtype, device=device), T.ones(shape, dtype=dtype, device=device))


def sum_rightmost(value: Tensor, dim: int) -> Tensor:
    """The sum over the last `dim` dimensions."""
    return value if dim == 0 else value.reshape(*value.shape[:-dim], -1).sum(-1)


def tril_matrix_to_vec(mat: Tensor, diag: int = 0) -> Tensor:
    """The lower triangle of matrices, row by row. mat: (*B, N, N) -> (*B, K)."""
    n = mat.shape[-1]
    rows = T.arange(n, device=mat.device)
    return mat[..., rows.view(n, 1) + diag >= rows]


def vec_to_tril_matrix(vec: Tensor, diag: int = 0) -> Tensor:
    """The matrices whose lower triangle is given row by row. vec: (*B, K) -> (*B, N, N)."""
    n = int((-(1 + 2 * diag) + ((1 + 2 * diag) ** 2 + 8 * vec.shape[-1] + 4 * abs(diag) * (diag + 1)) ** 0.5) / 2)
    mat = T.zeros(*vec.shape[:-1], n, n, dtype=vec.dtype, device=vec.device)
    rows = T.arange(n, device=vec.device)
    mat[..., rows < rows.view(n, 1) + (diag + 1)] = vec
    return mat


class lazy_property:
    """A property computed at its first use and kept in the object."""

    def __init__(self, wrapped: Callable[[Any], Any]):
        self.wrapped = wrapped
        self.__doc__ = wrapped.__doc__

    def __get__(self, instance: Any, owner: Any = None) -> Any:
        if instance is None:
            return self
        value = instance.__dict__[self.wrapped.__name__] = self.wrapped(instance)
        return value


