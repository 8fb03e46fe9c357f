"""Elementwise functions with more arguments than their ops."""

from __future__ import annotations

from typing import Any

from ..ops import elementwise as op
from ..tensor import Tensor
from .table import public


@public(inplace=True)
def add(input: Tensor, other: Any, *, alpha: Any = 1) -> Tensor:
    """input + alpha * other. input: (*S), other: (*T) or a number -> (*broadcast(S, T))."""
    return op.add(input, other if alpha == 1 else op.mul(other, alpha) if isinstance(other, Tensor) else other * alpha)
