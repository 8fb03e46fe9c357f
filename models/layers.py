"""The layers models are built of: those of `nn`, whose starting values are left out while a checkpoint is read."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import Any

from .. import nn
from ..autograd.tensor import Tensor
from ..nn import functional as F

__all__ = [
    "ACTIVATION_NAMES", "Conv2d", "Embedding", "Linear", "SelfAttention", "activation", "initialising",
    "skip_initialisation",
]  # fmt: skip

_skipping: ContextVar[bool] = ContextVar("skipping", default=False)


@contextlib.contextmanager
def skip_initialisation() -> Iterator[None]:
    """Within it, this module's layers leave their parameters as they are in memory: a checkpoint replaces them.

    Only the current thread (or task) is concerned; no random number is drawn.
    """
    token = _skipping.set(True)
    try:
        yield
    finally:
        _skipping.reset(token)


def initialising() -> bool:
    """Whether new layers get starting values here."""
    return not _skipping.get()


class Linear(nn.Linear):
    """`nn.Linear`. input: (*, in_features) -> (*, out_features)."""

    def reset_parameters(self) -> None:
        if initialising():
            super().reset_parameters()


class Embedding(nn.Embedding):
    """`nn.Embedding`. input: (*S) int -> (*S, embedding_dim)."""

    def reset_parameters(self) -> None:
        if initialising():
            super().reset_parameters()


class Conv2d(nn.Conv2d):
    """`nn.Conv2d`. input: (N, C, H, W) -> (N, K, H', W')."""

    def reset_parameters(self) -> None:
        if initialising():
            super().reset_parameters()


class SelfAttention(nn.Module):
    """Attention of every token to every token that is not masked, in heads; without the projection that follows.

    Vaswani et al., Attention is all you need, 2017 (arXiv:1706.03762), equation 1.
    """

    def __init__(self, size: int, heads: int, dropout: float = 0.0, bias: bool = True):
        super().__init__()
        self.heads, self.dropout_p = heads, dropout
        self.query, self.key, self.value = (Linear(size, size, bias=bias) for _ in range(3))

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """x: (N, L, H), mask: (N, 1, 1 or L, L) bool, False where nothing is seen -> (N, L, H)."""
        shape = (*x.shape[:2], self.heads, -1)
        q, k, v = (layer(x).view(shape).transpose(1, 2) for layer in (self.query, self.key, self.value))
        dropout = self.dropout_p if self.training else 0.0
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, dropout_p=dropout)
        return mixed.transpose(1, 2).reshape(x.shape)


def _tanh_gelu(x: Tensor) -> Tensor:
    return F.gelu(x, approximate="tanh")


def _quick_gelu(x: Tensor) -> Tensor:
    return x * (1.702 * x).sigmoid()


def _linear(x: Tensor) -> Tensor:
    return x


# what configurations call them; gelu_new, gelu_fast and gelu_python are spellings of the two formulas of Hendrycks
_ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "gelu": F.gelu, "gelu_python": F.gelu, "gelu_new": _tanh_gelu, "gelu_fast": _tanh_gelu,
    "gelu_pytorch_tanh": _tanh_gelu, "quick_gelu": _quick_gelu, "relu": F.relu, "relu6": F.relu6, "silu": F.silu,
    "swish": F.silu, "mish": F.mish, "sigmoid": F.sigmoid, "tanh": F.tanh, "linear": _linear,
}  # fmt: skip
ACTIVATION_NAMES = tuple(_ACTIVATIONS)


def activation(name: Any) -> Callable[[Tensor], Tensor]:
    """The function that a configuration names. (*S) -> (*S). ValueError for a name that is not known."""
    if name not in _ACTIVATIONS:
        raise ValueError(f"activation {name!r} is unknown; known are {', '.join(_ACTIVATIONS)}")
    return _ACTIVATIONS[name]
