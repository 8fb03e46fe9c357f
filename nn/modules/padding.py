"""Padding layers. `padding`: a number for all ends, or (before, after) of the last dimension, of the one before, ..."""

from __future__ import annotations

from typing import Any

from ...autograd.tensor import Tensor
from .. import functional as F
from ..functional.sizes import repeated
from .module import Module

__all__ = [
    "CircularPad1d", "CircularPad2d", "CircularPad3d", "ConstantPad1d", "ConstantPad2d", "ConstantPad3d",
    "ReflectionPad1d", "ReflectionPad2d", "ReflectionPad3d", "ReplicationPad1d", "ReplicationPad2d", "ReplicationPad3d",
    "ZeroPad1d", "ZeroPad2d", "ZeroPad3d",
]  # fmt: skip


class _Pad(Module):
    """A layer that continues its input at the ends of the last `rank` dimensions. `mode`: F.pad's word."""

    __constants__ = ["padding"]
    rank: int
    mode: str
    padding: tuple[int, ...]

    def __init__(self, padding: Any):
        super().__init__()
        self.padding = repeated(padding, 2 * self.rank)

    def forward(self, input: Tensor) -> Tensor:
        return F.pad(input, self.padding, self.mode)

    def extra_repr(self) -> str:
        return f"{self.padding}"


class _ConstantPadNd(_Pad):
    """Padding with one value."""

    __constants__ = ["padding", "value"]
    mode = "constant"
    value: float

    def __init__(self, padding: Any, value: float):
        super().__init__(padding)
        self.value = value

    def forward(self, input: Tensor) -> Tensor:
        return F.pad(input, self.padding, "constant", self.value)

    def extra_repr(self) -> str:
        return f"padding={self.padding}, value={self.value}"


class ConstantPad1d(_ConstantPadNd):
    """`value` at both ends of the last dimension. input: (N, C, L) or (C, L)."""

    rank = 1


class ConstantPad2d(_ConstantPadNd):
    """`value` around the last two dimensions. input: (N, C, H, W) or (C, H, W)."""

    rank = 2


class ConstantPad3d(_ConstantPadNd):
    """`value` around the last three dimensions. input: (N, C, D, H, W) or (C, D, H, W)."""

    rank = 3


class ZeroPad1d(ConstantPad1d):
    """Zeros at both ends of the last dimension. input: (N, C, L) or (C, L)."""

    def __init__(self, padding: Any):
        super().__init__(padding, 0.0)

    def extra_repr(self) -> str:
        return f"{self.padding}"


class ZeroPad2d(ConstantPad2d):
    """Zeros around the last two dimensions. input: (N, C, H, W) or (C, H, W)."""

    def __init__(self, padding: Any):
        super().__init__(padding, 0.0)

    def extra_repr(self) -> str:
        return f"{self.padding}"


class ZeroPad3d(ConstantPad3d):
    """Zeros around the last three dimensions. input: (N, C, D, H, W) or (C, D, H, W)."""

    def __init__(self, padding: Any):
        super().__init__(padding, 0.0)

    def extra_repr(self) -> str:
        return f"{self.padding}"


class ReflectionPad1d(_Pad):
    """Continued by its mirror image, without the last element again. input: (N, C, L) or (C, L)."""

    rank, mode = 1, "reflect"


class ReflectionPad2d(_Pad):
    """Continued by its mirror image, without the last element again. input: (N, C, H, W) or (C, H, W)."""

    rank, mode = 2, "reflect"


class ReflectionPad3d(_Pad):
    """Continued by its mirror image, without the last element again. input: (N, C, D, H, W) or (C, D, H, W)."""

    rank, mode = 3, "reflect"


class ReplicationPad1d(_Pad):
    """Continued by its last element. input: (N, C, L) or (C, L)."""

    rank, mode = 1, "replicate"


class ReplicationPad2d(_Pad):
    """Continued by its last elements. input: (N, C, H, W) or (C, H, W)."""

    rank, mode = 2, "replicate"


class ReplicationPad3d(_Pad):
    """Continued by its last elements. input: (N, C, D, H, W) or (C, D, H, W)."""

    rank, mode = 3, "replicate"


class _CircularPadNd(_Pad):
    """Continued by its other end."""

    mode = "circular"

    def forward(self, input: Tensor) -> Tensor:
        if input.dim() not in (self.rank + 1, self.rank + 2):
            raise ValueError(f"expected {self.rank + 1}D or {self.rank + 2}D input (got {input.dim()}D input)")
        return super().forward(input)


class CircularPad1d(_CircularPadNd):
    """Continued by its other end. input: (N, C, L) or (C, L)."""

    rank = 1


class CircularPad2d(_CircularPadNd):
    """Continued by its other end. input: (N, C, H, W) or (C, H, W)."""

    rank = 2


class CircularPad3d(_CircularPadNd):
    """Continued by its other end. input: (N, C, D, H, W) or (C, D, H, W)."""

    rank = 3
