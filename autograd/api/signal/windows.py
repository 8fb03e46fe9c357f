"""`tapegrad.signal.windows`: symmetric windows of M points, or periodic ones with sym=False.

>>> import tapegrad as torch
>>> torch.signal.windows.hann(5)
tensor([0.0000, 0.5000, 1.0000, 0.5000, 0.0000])

In the formulas k = 0, 1, ..., M - 1 and N = M - 1, or M where not symmetric. All give (M,), float32 or float64, and
raise ValueError for a negative M and for other dtypes and layouts.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

from ...dtypes import as_dtype, float32, float64, get_default_dtype
from ...layout import strided
from ...op import GRAPH
from ...tensor import Tensor
from ..creation import arange, empty, linspace, ones, tensor
from ..reduce import sum as _sum

__all__ = [
    "bartlett", "blackman", "cosine", "exponential", "gaussian", "general_cosine", "general_hamming", "hamming", "hann",
    "kaiser", "nuttall",
]  # fmt: skip


class _Window:
    """What all windows share: the checks, the short ones, and evenly spaced numbers."""

    def __init__(self, name: str, M: int, sym: bool, dtype: Any, layout: Any, device: Any, requires_grad: bool):
        self.dtype = get_default_dtype() if dtype is None else as_dtype(dtype)
        self.M, self.kw = M, {"dtype": self.dtype, "device": device, "requires_grad": requires_grad}
        self.steps = M if not sym else M - 1
        self.steps_above_1 = M if not sym and M > 1 else M - 1
        if M < 0:
            raise ValueError(f"{name} requires non-negative window length, got M={M}")
        if layout is not strided:
            raise ValueError(f"{name} is implemented for strided tensors only, got: {layout}")
        if self.dtype not in (float32, float64):
            raise ValueError(f"{name} expects float32 or float64 dtypes, got: {self.dtype}")

    def short(self, ones_below: int) -> Tensor | None:
        """The window of no point, and that of one where it is 1 by definition."""
        if not self.M:
            return empty((0,), **self.kw)
        return ones((1,), **self.kw) if ones_below > self.M else None

    def line(self, start: float, end: float) -> Tensor:
        return linspace(start, end, self.M, **self.kw)


def exponential(
    M: int, *, center: float | None = None, tau: float = 1.0, sym: bool = True, dtype: Any = None,
    layout: Any = strided, device: Any = None, requires_grad: bool = False,
) -> Tensor:  # fmt: skip
    """exp(-|k - center| / tau); center: N / 2, or given where not symmetric. -> (M,)."""
    w = _Window("exponential", M, sym, dtype, layout, device, requires_grad)
    if tau <= 0:
        raise ValueError(f"Tau must be positive, got: {tau} instead.")
    if sym and center is not None:
        raise ValueError("Center must be None for symmetric windows")
    if (found := w.short(1)) is not None:
        return found
    if center is None:
        center = w.steps_above_1 / 2
    scale = 1 / tau
    return GRAPH.exp(-GRAPH.abs(w.line(-center * scale, (-center + (M - 1)) * scale)))


def cosine(
    M: int, *, sym: bool = True, dtype: Any = None, layout: Any = strided, device: Any = None,
    requires_grad: bool = False,
) -> Tensor:  # fmt: skip
    """sin(pi (k + 1/2) / (N + 1)). -> (M,)."""
    w = _Window("cosine", M, sym, dtype, layout, device, requires_grad)
    if (found := w.short(1)) is not None:
        return found
    scale = math.pi / (w.steps_above_1 + 1)
    return GRAPH.sin(w.line(0.5 * scale, (0.5 + (M - 1)) * scale))


def gaussian(
    M: int, *, std: float = 1.0, sym: bool = True, dtype: Any = None, layout: Any = strided, device: Any = None,
    requires_grad: bool = False,
) -> Tensor:  # fmt: skip
    """exp(-((k - N / 2) / std)**2 / 2). -> (M,)."""
    w = _Window("gaussian", M, sym, dtype, layout, device, requires_grad)
    if std <= 0:
        raise ValueError(f"Standard deviation must be positive, got: {std} instead.")
    if (found := w.short(1)) is not None:
        return found
    start, scale = -w.steps_above_1 / 2, 1 / (std * math.sqrt(2))
    return GRAPH.exp(-(w.line(start * scale, (start + (M - 1)) * scale) ** 2))


def kaiser(
    M: int, *, beta: float = 12.0, sym: bool = True, dtype: Any = None, layout: Any = strided, device: Any = None,
    requires_grad: bool = False,
) -> Tensor:  # fmt: skip
    """i0(beta sqrt(1 - (2 k / N - 1)**2)) / i0(beta). -> (M,)."""
    w = _Window("kaiser", M, sym, dtype, layout, device, requires_grad)
    if beta < 0:
        raise ValueError(f"beta must be non-negative, got: {beta} instead.")
    if (found := w.short(2)) is not None:
        return found
    b = w.dtype.np.type(beta)  # rounded as the numbers are, or the square root below would be of less than 0
    end = min(b, -b + (M - 1) * (2 * b / w.steps))
    k = w.line(float(-b), float(end))
    return GRAPH.i0(GRAPH.sqrt(float(b * b) - k * k)) / GRAPH.i0(tensor(float(b), dtype=w.dtype, device=device))


def hamming(
    M: int, *, sym: bool = True, dtype: Any = None, layout: Any = strided, device: Any = None,
    requires_grad: bool = False,
) -> Tensor:  # fmt: skip
    """0.54 - 0.46 cos(2 pi k / N). -> (M,)."""
    return general_hamming(M, sym=sym, dtype=dtype, layout=layout, device=device, requires_grad=requires_grad)


def hann(
    M: int, *, sym: bool = True, dtype: Any = None, layout: Any = strided, device: Any = None,
    requires_grad: bool = False,
) -> Tensor:  # fmt: skip
    """(1 - cos(2 pi k / N)) / 2. -> (M,)."""
    return general_hamming(
        M, alpha=0.5, sym=sym, dtype=dtype, layout=layout, device=device, requires_grad=requires_grad
    )


def blackman(
    M: int, *, sym: bool = True, dtype: Any = None, layout: Any = strided, device: Any = None,
    requires_grad: bool = False,
) -> Tensor:  # fmt: skip
    """0.42 - 0.5 cos(2 pi k / N) + 0.08 cos(4 pi k / N). -> (M,)."""
    _Window("blackman", M, sym, dtype, layout, device, requires_grad)
    a = [0.42, 0.5, 0.08]
    return general_cosine(M, a=a, sym=sym, dtype=dtype, layout=layout, device=device, requires_grad=requires_grad)


def bartlett(
    M: int, *, sym: bool = True, dtype: Any = None, layout: Any = strided, device: Any = None,
    requires_grad: bool = False,
) -> Tensor:  # fmt: skip
    """1 - |2 k / N - 1|. -> (M,)."""
    w = _Window("bartlett", M, sym, dtype, layout, device, requires_grad)
    if (found := w.short(2)) is not None:
        return found
    return 1 - GRAPH.abs(w.line(-1, -1 + (M - 1) * (2 / w.steps)))


def general_cosine(
    M: int, *, a: Iterable[float], sym: bool = True, dtype: Any = None, layout: Any = strided, device: Any = None,
    requires_grad: bool = False,
) -> Tensor:  # fmt: skip
    """The sum over i of (-1)**i a[i] cos(2 pi i k / N). -> (M,). TypeError or ValueError: `a` no list, or empty."""
    w = _Window("general_cosine", M, sym, dtype, layout, device, requires_grad)
    if (found := w.short(2)) is not None:
        return found
    if not isinstance(a, Iterable):
        raise TypeError("Coefficients must be a list/tuple")
    if not a:
        raise ValueError("Coefficients cannot be empty")
    k = w.line(0, (M - 1) * (2 * math.pi / w.steps))
    signed = tensor([(-1) ** i * c for i, c in enumerate(a)], **w.kw)
    order = arange(signed.shape[0], **w.kw)
    return _sum(signed.unsqueeze(-1) * GRAPH.cos(order.unsqueeze(-1) * k), 0)


def general_hamming(
    M: int, *, alpha: float = 0.54, sym: bool = True, dtype: Any = None, layout: Any = strided, device: Any = None,
    requires_grad: bool = False,
) -> Tensor:  # fmt: skip
    """alpha - (1 - alpha) cos(2 pi k / N). -> (M,)."""
    a = [alpha, 1 - alpha]
    return general_cosine(M, a=a, sym=sym, dtype=dtype, layout=layout, device=device, requires_grad=requires_grad)


def nuttall(
    M: int, *, sym: bool = True, dtype: Any = None, layout: Any = strided, device: Any = None,
    requires_grad: bool = False,
) -> Tensor:  # fmt: skip
    """The general cosine window with 0.3635819, 0.4891775, 0.1365995, 0.0106411 (Nuttall, 1981, 4 terms). -> (M,)."""
    a = [0.3635819, 0.4891775, 0.1365995, 0.0106411]
    return general_cosine(M, a=a, sym=sym, dtype=dtype, layout=layout, device=device, requires_grad=requires_grad)
