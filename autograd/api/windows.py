"""Windows of the top level: hann_window and its like, periodic unless told otherwise.

In the dtype asked for, half precision by way of float32 (PyTorch rounds to it after each step).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from operator import index
from typing import Any

import numpy as np

from ..dtypes import COMPLEX, FLOAT, as_dtype, get_default_dtype
from ..layout import strided
from ..ops.special_bessel import i0
from ..tensor import Tensor
from .creation import finish
from .table import public

Array = np.ndarray[Any, Any]
Formula = Callable[[Array, int], Array]  # of 0, 1, ..., n and of n


def _window(
    name: str, formula: Formula, window_length: Any, periodic: Any, dtype: Any, layout: Any, device: Any,
    requires_grad: bool,
) -> Tensor:  # fmt: skip
    if isinstance(window_length, bool) or not hasattr(window_length, "__index__"):
        given = type(window_length).__name__
        raise TypeError(f"{name}(): argument 'window_length' (position 1) must be int, not {given}")
    length = index(window_length)
    if not isinstance(periodic, bool):
        raise TypeError(f"{name}(): argument 'periodic' (position 2) must be bool, not {type(periodic).__name__}")
    d = get_default_dtype() if dtype is None else as_dtype(dtype)
    if layout is not None and layout is not strided:
        raise RuntimeError(f"{name} is not implemented for sparse types, got: {layout}")
    if d.category < FLOAT:
        raise RuntimeError(f"{name} expects floating point dtypes, got: {d}")
    if length < 0:
        raise RuntimeError(f"{name} requires non-negative window_length, got window_length={length}")
    if length < 2:
        return finish(np.ones(length, d.np), device, requires_grad)
    if d.category == COMPLEX:
        raise NotImplementedError(f"\"arange_cpu\" not implemented for '{d.legacy}'")
    work = np.dtype(np.float32) if d.itemsize == 2 else d.np
    n = length if periodic else length - 1
    window = formula(np.arange(n + 1, dtype=work), n)
    return finish(window[:length].astype(d.np), device, requires_grad)


def _raised_cosine(alpha: float, beta: float) -> Formula:
    def formula(k: Array, n: int) -> Array:
        out: Array = np.cos(k * (2 * math.pi / n)) * -beta + alpha
        return out

    return formula


def _blackman(k: Array, n: int) -> Array:
    angle = k * (math.pi / n)
    out: Array = np.cos(angle * 4) * 0.08 - np.cos(angle * 2) * 0.5 + 0.42
    return out


def _bartlett(k: Array, n: int) -> Array:
    rise = k * (2 / n)
    return np.where(k > n >> 1, 2 - rise, rise)


def _kaiser(beta: float) -> Formula:
    def formula(k: Array, n: int) -> Array:
        half = n / 2
        out: Array = i0.op.generic(np, beta * np.sqrt(1 - ((k - half) / half) ** 2)) / i0.op.generic(np, np.array(beta))
        return out

    return formula


@public(method=False)
def hann_window(
    window_length: int, periodic: bool = True, *, dtype: Any = None, layout: Any = strided, device: Any = None,
    pin_memory: bool = False, requires_grad: bool = False,
) -> Tensor:  # fmt: skip
    """(1 - cos(2 pi k / N)) / 2, N = window_length, or one less where not periodic. -> (window_length,), floating.

    >>> torch.hann_window(4)
    tensor([0.0000, 0.5000, 1.0000, 0.5000])
    """
    formula = _raised_cosine(0.5, 0.5)
    return _window("hann_window", formula, window_length, periodic, dtype, layout, device, requires_grad)


@public(method=False)
def hamming_window(
    window_length: int, periodic: bool = True, alpha: float = 0.54, beta: float = 0.46, *, dtype: Any = None,
    layout: Any = strided, device: Any = None, pin_memory: bool = False, requires_grad: bool = False,
) -> Tensor:  # fmt: skip
    """alpha - beta cos(2 pi k / N), N as for hann_window. -> (window_length,), floating."""
    formula = _raised_cosine(alpha, beta)
    return _window("hamming_window", formula, window_length, periodic, dtype, layout, device, requires_grad)


@public(method=False)
def blackman_window(
    window_length: int, periodic: bool = True, *, dtype: Any = None, layout: Any = strided, device: Any = None,
    pin_memory: bool = False, requires_grad: bool = False,
) -> Tensor:  # fmt: skip
    """0.42 - 0.5 cos(2 pi k / N) + 0.08 cos(4 pi k / N), N as for hann_window. -> (window_length,), floating."""
    return _window("blackman_window", _blackman, window_length, periodic, dtype, layout, device, requires_grad)


@public(method=False)
def bartlett_window(
    window_length: int, periodic: bool = True, *, dtype: Any = None, layout: Any = strided, device: Any = None,
    pin_memory: bool = False, requires_grad: bool = False,
) -> Tensor:  # fmt: skip
    """1 - |2 k / N - 1|, N as for hann_window. -> (window_length,), floating."""
    return _window("bartlett_window", _bartlett, window_length, periodic, dtype, layout, device, requires_grad)


@public(method=False)
def kaiser_window(
    window_length: int, periodic: bool = True, beta: float = 12.0, *, dtype: Any = None, layout: Any = strided,
    device: Any = None, pin_memory: bool = False, requires_grad: bool = False,
) -> Tensor:  # fmt: skip
    """i0(beta sqrt(1 - (2 k / N - 1)**2)) / i0(beta), N as for hann_window. -> (window_length,), floating."""
    return _window("kaiser_window", _kaiser(beta), window_length, periodic, dtype, layout, device, requires_grad)
