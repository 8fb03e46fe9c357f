"""Fused kernels of the NumPy backend, by op name. Raw arrays in, raw arrays out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from . import conv_kernels, loss_kernels, norm_kernels, pool_kernels, reduce_kernels, softmax_kernels, sort_kernels

KERNELS: dict[str, Callable[..., Any]] = {
    **conv_kernels.KERNELS,
    **loss_kernels.KERNELS,
    **norm_kernels.KERNELS,
    **pool_kernels.KERNELS,
    **reduce_kernels.KERNELS,
    **softmax_kernels.KERNELS,
    **sort_kernels.KERNELS,
}
