"""Gamma and Dirichlet samples, with PyTorch's values for one seed, and their gradients."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..autograd import api as T
from ..autograd.dtypes import F64
from ..autograd.function import Function, once_differentiable
from ..autograd.random import default_generator
from ..autograd.tensor import Tensor
from ..backends.numpy.random_gamma import standard_gamma as _draw


class _StandardGamma(Function):
    """Gamma values; the gradient is that of the quantile function, dx/da at a fixed probability."""

    @staticmethod
    def forward(ctx: Any, concentration: Tensor) -> Tensor:
        host = _draw(default_generator.raw, concentration.detach().cpu().array)
        value = T.from_numpy(host.astype(concentration.array.dtype)).to(concentration.device)
        ctx.save_for_backward(concentration, value)
        return value

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, g: Tensor) -> Any:
        concentration, value = ctx.saved_tensors
        slope = gamma_slope(concentration.detach().cpu().array, value.detach().cpu().array)
        return g * T.from_numpy(slope.astype(value.array.dtype)).to(value.device)


def standard_gamma(concentration: Tensor) -> Tensor:
    """Gamma values of scale 1, differentiable by the concentration. concentration: (*S) -> (*S)."""
    return _StandardGamma.apply(concentration)


def sample_dirichlet(concentration: Tensor) -> Tensor:
    """Points of the simplex: gamma values divided by their sum, in float64. concentration: (*S, K) -> (*S, K)."""
    gammas = standard_gamma(concentration.double())
    value = (gammas / gammas.sum(-1, keepdim=True)).to(concentration.dtype)
    kept = value.detach()
    np_dtype = value.array.dtype
    below_one = float(np.nextafter(np_dtype.type(1), np_dtype.type(0)))
    kept.clamp_(min=float(np.finfo(np_dtype).tiny), max=below_one)  # as PyTorch, without a word to autograd
    return value


def gamma_slope(a: Any, x: Any) -> Any:
    """dx/da of the gamma quantile: -(dP(a, x)/da) / (dP(a, x)/dx). a, x: (*S) -> (*S) float64.

    P(a, x) = sum_n t_n with t_n = x^(a+n) e^-x / Gamma(a+n+1), so dP/da = sum_n t_n (log x - psi(a+n+1)), and dP/dx =
    t_0 a / x (DLMF 8.7.1). Above a = 1000 the sum is long, and the derivative of Wilson and Hilferty's cube root
    approximation at a fixed normal quantile is right to 1e-6.
    """
    a, x = np.broadcast_arrays(np.asarray(a, np.float64), np.asarray(x, np.float64))
    out = np.empty(a.shape)
    large, zero = a > 1000, x <= 0
    out[zero] = 0
    if (large & ~zero).any():
        out[large & ~zero] = _slope_of_large(a[large & ~zero], x[large & ~zero])
    small = ~large & ~zero
    if small.any():
        out[small] = _slope_by_series(a[small], x[small])
    return out


def _slope_by_series(a: Any, x: Any) -> Any:
    psi = T.digamma(T.from_numpy(a + 1)).array.astype(F64)
    term = np.ones_like(a)  # t_n / t_0
    total = np.log(x) - psi
    log_x = np.log(x)
    for n in range(1, 100_000):
        psi = psi + 1 / (a + n)
        term = term * (x / (a + n))
        total = total + term * (log_x - psi)
        if n > 8 and (term * (1 + np.abs(log_x - psi)) <= 1e-17 * np.abs(total) + 1e-300).all() and (a + n > x).all():
            break
    return -total * x / a


def _slope_of_large(a: Any, x: Any) -> Any:
    # x = a w^3 with w = 1 - 1/(9a) + z/(3 sqrt a) at a fixed z
    w = np.cbrt(x / a)
    z = 3 * np.sqrt(a) * (w - 1 + 1 / (9 * a))
    return w**3 + 3 * a * w**2 * (1 / (9 * a**2) - z / (6 * a ** (3 / 2)))
