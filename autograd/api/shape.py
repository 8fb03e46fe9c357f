"""Shape functions, with PyTorch's arguments."""

from __future__ import annotations

from typing import Any

from ..ops import shape as op
from ..tensor import Tensor
from .table import public


@public(is_function=False)
def view(self: Tensor, *shape: Any) -> Tensor:
    """The same memory in another shape. (*S) -> (*shape)."""
    if len(shape) == 1 and isinstance(shape[0], (tuple, list)):
        shape = tuple(shape[0])
    return op.view(self, shape=shape)
