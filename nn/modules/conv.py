"""Convolution layers and their transposes."""

from __future__ import annotations

import math
from typing import Any

from ...autograd.api.creation import empty
from ...autograd.tensor import Tensor
from .. import functional as F
from .. import init
from ..functional.sizes import repeated
from ..parameter import Parameter
from .module import Module

__all__ = ["Conv1d", "Conv2d", "Conv3d", "ConvTranspose1d", "ConvTranspose2d", "ConvTranspose3d"]

_MODES = {"zeros", "reflect", "replicate", "circular"}
_NAMED = {"same", "valid"}


class _ConvNd(Module):
    """What all convolutions share. `rank`: the number of spatial dimensions."""

    __constants__ = [
        "stride", "padding", "dilation", "groups", "padding_mode", "output_padding", "in_channels", "out_channels",
        "kernel_size",
    ]  # fmt: skip
    rank: int
    in_channels: int
    out_channels: int
    kernel_size: tuple[int, ...]
    stride: tuple[int, ...]
    padding: str | tuple[int, ...]
    dilation: tuple[int, ...]
    transposed: bool
    output_padding: tuple[int, ...]
    groups: int
    padding_mode: str
    weight: Tensor
    bias: Tensor | None

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: tuple[int, ...],
        stride: tuple[int, ...],
        padding: str | tuple[int, ...],
        dilation: tuple[int, ...],
        transposed: bool,
        output_padding: tuple[int, ...],
        groups: int,
        bias: bool,
        padding_mode: str,
        device: Any = None,
        dtype: Any = None,
    ):
        super().__init__()
        _check(in_channels, out_channels, stride, padding, groups, padding_mode)
        self.in_channels = in_channels
        self.out_channels = out_channels
        self.kernel_size = kernel_size
        self.stride = stride
        self.padding = padding
        self.dilation = dilation
        self.transposed = transposed
        self.output_padding = output_padding
        self.groups = groups
        self.padding_mode = padding_mode
        self._reversed_padding_repeated_twice = _ends(padding, kernel_size, dilation)
        channels = (in_channels, out_channels) if transposed else (out_channels, in_channels)
        shape = (channels[0], channels[1] // groups, *kernel_size)
        self.weight = Parameter(empty(shape, device=device, dtype=dtype))
        if bias:
            self.bias = Parameter(empty(out_channels, device=device, dtype=dtype))
        else:
            self.register_parameter("bias", None)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draws weight, then bias: both uniform on +-1/sqrt(C / groups * K)."""
        init.kaiming_uniform_(self.weight, a=math.sqrt(5))
        if self.bias is not None:
            fan_in, _ = init._calculate_fan_in_and_fan_out(self.weight)
            bound = 1 / math.sqrt(fan_in) if fan_in > 0 else 0
            init.uniform_(self.bias, -bound, bound)

    def extra_repr(self) -> str:
        text = f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, stride={self.stride}"
        if self.padding != (0,) * len(self.padding):
            text += f", padding={self.padding}"
        if self.dilation != (1,) * len(self.dilation):
            text += f", dilation={self.dilation}"
        if self.output_padding != (0,) * len(self.output_padding):
            text += f", output_padding={self.output_padding}"
        if self.groups != 1:
            text += f", groups={self.groups}"
        if self.bias is None:
            text += ", bias=False"
        if self.padding_mode != "zeros":
            text += f", padding_mode={self.padding_mode}"
        return text

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self.__dict__.setdefault("padding_mode", "zeros")


def _check(in_channels: int, out_channels: int, stride: Any, padding: Any, groups: int, padding_mode: str) -> None:
    """ValueError for arguments that fit no convolution."""
    if groups <= 0:
        raise ValueError("groups must be a positive integer")
    if in_channels % groups != 0:
        raise ValueError("in_channels must be divisible by groups")
    if out_channels % groups != 0:
        raise ValueError("out_channels must be divisible by groups")
    if isinstance(padding, str):
        if padding not in _NAMED:
            raise ValueError(f"Invalid padding string {padding!r}, should be one of {_NAMED}")
        if padding == "same" and any(s != 1 for s in stride):
            raise ValueError("padding='same' is not supported for strided convolutions")
    if padding_mode not in _MODES:
        raise ValueError(f"padding_mode must be one of {_MODES}, but got padding_mode='{padding_mode}'")


def _ends(padding: Any, kernel: tuple[int, ...], dilation: tuple[int, ...]) -> Any:
    """The padding as F.pad takes it: before and after, last dimension first."""
    if not isinstance(padding, str):
        return tuple([p for p in reversed(padding) for _ in range(2)])
    found = []
    for d, k in zip(reversed(dilation), reversed(kernel), strict=True):
        total = d * (k - 1) if padding == "same" else 0
        found += [total // 2, total - total // 2]
    return found


class _Conv(_ConvNd):
    """conv in `rank` dimensions."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Any,
        stride: Any = 1,
        padding: Any = 0,
        dilation: Any = 1,
        groups: int = 1,
        bias: bool = True,
        padding_mode: str = "zeros",
        device: Any = None,
        dtype: Any = None,
    ):
        n = self.rank
        super().__init__(
            in_channels,
            out_channels,
            repeated(kernel_size, n),
            repeated(stride, n),
            padding if isinstance(padding, str) else repeated(padding, n),
            repeated(dilation, n),
            False,
            (0,) * n,
            groups,
            bias,
            padding_mode,
            device,
            dtype,
        )

    def _conv_forward(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        conv = _FUNCTIONS[self.rank]
        if self.padding_mode == "zeros":
            return conv(input, weight, bias, self.stride, self.padding, self.dilation, self.groups)
        padded = F.pad(input, self._reversed_padding_repeated_twice, mode=self.padding_mode)
        return conv(padded, weight, bias, self.stride, 0, self.dilation, self.groups)

    def forward(self, input: Tensor) -> Tensor:
        return self._conv_forward(input, self.weight, self.bias)


_FUNCTIONS = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}


class Conv1d(_Conv):
    """1-d convolution (cross-correlation). input: (N, in_channels, L) or without N -> (N, out_channels, L').

    weight: (out_channels, in_channels / groups, kernel_size), bias: (out_channels,); both uniform on
    +-1/sqrt(in_channels / groups * kernel_size) at the start. padding: numbers, "same" or "valid".
    """

    rank = 1


class Conv2d(_Conv):
    """2-d convolution (cross-correlation). input: (N, in_channels, H, W) or without N -> (N, out_channels, H', W').

    weight: (out_channels, in_channels / groups, *kernel_size), bias: (out_channels,); both uniform on
    +-1/sqrt(in_channels / groups * prod(kernel_size)) at the start. padding: numbers, "same" or "valid"; padding_mode:
    "zeros", "reflect", "replicate" or "circular".

    >>> import tapegrad as torch
    >>> torch.nn.Conv2d(3, 8, 3, stride=2, padding=1)(torch.zeros(4, 3, 32, 32)).shape
    torch.Size([4, 8, 16, 16])
    """

    rank = 2


class Conv3d(_Conv):
    """3-d convolution. input: (N, in_channels, D, H, W) -> (N, out_channels, D', H', W'); N may lack.

    weight: (out_channels, in_channels / groups, *kernel_size), bias: (out_channels,), started as Conv2d's.
    """

    rank = 3


class _ConvTransposeNd(_ConvNd):
    """The transpose of conv in `rank` dimensions."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Any,
        stride: Any = 1,
        padding: Any = 0,
        output_padding: Any = 0,
        groups: int = 1,
        bias: bool = True,
        dilation: Any = 1,
        padding_mode: str = "zeros",
        device: Any = None,
        dtype: Any = None,
    ):
        if padding_mode != "zeros":
            raise ValueError(f'Only "zeros" padding mode is supported for {type(self).__name__}')
        n = self.rank
        super().__init__(
            in_channels,
            out_channels,
            repeated(kernel_size, n),
            repeated(stride, n),
            repeated(padding, n),
            repeated(dilation, n),
            True,
            repeated(output_padding, n),
            groups,
            bias,
            padding_mode,
            device,
            dtype,
        )

    def forward(self, input: Tensor, output_size: Any = None) -> Tensor:
        if self.padding_mode != "zeros":
            raise ValueError(f"Only `zeros` padding mode is supported for {type(self).__name__}")
        extra = self.output_padding if output_size is None else self._output_padding(input, list(output_size))
        return _TRANSPOSES[self.rank](
            input, self.weight, self.bias, self.stride, self.padding, extra, self.groups, self.dilation
        )

    def _output_padding(self, input: Tensor, output_size: list[int]) -> list[int]:
        """What is to be added at the ends for an output of that size. ValueError for a size that is out of reach."""
        n = self.rank
        lead = 2 if input.dim() == n + 2 else 1
        wanted = output_size[lead:] if len(output_size) == lead + n else output_size
        if len(wanted) != n:
            raise ValueError(
                f"ConvTranspose{n}D: for {input.dim()}D input, output_size must have {n} or {lead + n} elements (got "
                f"{len(wanted)})"
            )
        padding: Any = self.padding
        smallest = [
            (size - 1) * s - 2 * p + d * (k - 1) + 1
            for size, s, p, d, k in zip(
                input.shape[lead:], self.stride, padding, self.dilation, self.kernel_size, strict=True
            )
        ]
        largest = [least + s - 1 for least, s in zip(smallest, self.stride, strict=True)]
        if any(not a <= size <= b for a, size, b in zip(smallest, wanted, largest, strict=True)):
            raise ValueError(
                f"requested an output size of {wanted}, but valid sizes range from {smallest} to {largest} (for an "
                f"input of {input.size()[2:]})"
            )
        return [size - least for size, least in zip(wanted, smallest, strict=True)]


_TRANSPOSES = {1: F.conv_transpose1d, 2: F.conv_transpose2d, 3: F.conv_transpose3d}


class ConvTranspose1d(_ConvTransposeNd):
    """Conv1d's adjoint in its input. input: (N, in_channels, L) or (in_channels, L) -> the same with out_channels, L'.

    L' = (L - 1) * stride - 2 * padding + dilation * (kernel_size - 1) + output_padding + 1; `output_size` in the call
    sets output_padding. weight: (in_channels, out_channels / groups, kernel_size), bias: (out_channels,).
    """

    rank = 1


class ConvTranspose2d(_ConvTransposeNd):
    """Conv2d's adjoint in its input. input: (N, in_channels, H, W) or without N -> (N, out_channels, H', W').

    H' = (H - 1) * stride - 2 * padding + dilation * (kernel_size - 1) + output_padding + 1; `output_size` in the call
    sets output_padding. weight: (in_channels, out_channels / groups, *kernel_size), bias: (out_channels,).

    >>> import tapegrad as torch
    >>> up = torch.nn.ConvTranspose2d(8, 3, 3, stride=2, padding=1)
    >>> up(torch.zeros(4, 8, 16, 16), output_size=(32, 32)).shape
    torch.Size([4, 3, 32, 32])
    """

    rank = 2


class ConvTranspose3d(_ConvTransposeNd):
    """Conv3d's adjoint in its input. input: (N, in_channels, D, H, W) or without N -> (N, out_channels, D', H', W').

    weight: (in_channels, out_channels / groups, *kernel_size), bias: (out_channels,); sizes as in ConvTranspose2d.
    """

    rank = 3
