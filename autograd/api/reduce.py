"""Reductions, with PyTorch's arguments."""

from __future__ import annotations

from typing import Any

from ..dtypes import INT
from ..ops import reduce as op
from ..op import GRAPH
from ..tensor import Tensor
from .args import axes_of
from .table import public


@public
def sum(input: Tensor, dim: Any = None, keepdim: bool = False, *, dtype: Any = None) -> Tensor:
    """Sum over dim (all where None); integers and bool are summed as int64. input: (*S) -> (S without dim)."""
    if dtype is not None:
        input = GRAPH.cast(input, dtype=dtype.np)
    elif input.dtype.category <= INT and input.array.dtype != "i8":
        input = GRAPH.cast(input, dtype=__import__("numpy").dtype("i8"))
    return op.sum(input, axis=axes_of(input, dim), keepdims=keepdim)
