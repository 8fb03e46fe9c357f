"""The gradient of reading rows by index, x[index]: sums in sorted order, the same bits every time."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from ..base import may_decline
from . import launch
from .embedding_kernels import embedding_backward
from .launch import served
from .loss_kernels import classes


@may_decline
def index_backward(g: Any, *indices: Any, shape: tuple[int, ...], places: tuple[int, ...], unique: bool = False) -> Any:
    """Op index_backward of one index along the first dimension. g: (*B, *shape[1:]) -> (*shape)."""
    if unique or places != (0,) or served(g) is None:
        return NotImplemented
    rows, index = shape[0], classes(indices[0]).reshape(-1)
    index = launch.current().xp.where(index < 0, index + rows, index)
    g = launch.contiguous(g).reshape(index.size, math.prod(shape[1:]))
    out = embedding_backward(g, index, rows=rows, padding=-1)
    return out if out is NotImplemented else out.reshape(shape)


KERNELS: dict[str, Callable[..., Any]] = {"index_backward": index_backward}
