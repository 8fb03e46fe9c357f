"""The layers models are built of: those of `nn`, whose starting values are left out while a checkpoint is read."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import Any

from .. import nn
from ..autograd.tensor import Tensor
from ..nn import functional as F

__all__ = ["ACTIVATION_NAMES", "Conv2d", "Embedding", "Linear", "activation", "initialising", "skip_initialisation"]

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
