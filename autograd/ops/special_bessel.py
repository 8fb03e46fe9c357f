"""Bessel functions of the first orders and Airy's function.

The modified functions of the first kind are power and asymptotic series; the others are SciPy's (or the backend's own).
"""

from __future__ import annotations

import functools
import math

from ..op import composite, op
from .special import by_parts, in_double, polynomial, single_or_double

# ---- modified, first kind --------------------------------------------------------------------------------------------

_FAR = 25  # from here on the asymptotic series: 20 terms are exact to 1e-17; below, 40 terms of the power series


@functools.cache
def _power_series(order):
    """Coefficients in x**2 / 4 of I_order(x) / (x / 2)**order. Abramowitz and Stegun 9.6.10."""
    return tuple(1 / (math.factorial(k) * math.factorial(k + order)) for k in range(40))


@functools.cache
def _asymptotic_series(order):
    """Coefficients in 1 / x of I_order(x) exp(-x) sqrt(2 pi x). Abramowitz and Stegun 9.7.1."""
    c = [1.0]
    for k in range(1, 20):
        c.append(c[-1] * ((2 * k - 1) ** 2 - 4 * order * order) / (8 * k))
    return tuple(c)


def bessel_i(order, scaled):
    """The kernel (xp, x) -> I_order(x), times exp(-|x|) where scaled; order 0 or 1. x: (*S) float64 -> (*S)."""

    def kernel(xp, x):
        def near(x):
            out = polynomial(x * x / 4, _power_series(order))
            out = out * xp.exp(-x) if scaled else out
            return out * (x / 2) if order else out

        def far(x):
            out = polynomial(1 / x, _asymptotic_series(order)) / xp.sqrt(2 * math.pi * x)
            return out if scaled else out * xp.exp(x)

        size = xp.absolute(x)
        parts = [(size < _FAR, near), ((size >= _FAR) & (size < math.inf), far)]
        out = by_parts(xp, size, [*parts, (size == math.inf, lambda x: 1 / x if scaled else x)])
        return xp.copysign(out, x) if order else out

    return kernel


@op(promote="float", public="inplace", grad_name="I0Backward0")
def i0(xp, x):
    """The modified Bessel function I_0. x: (*S) -> (*S)."""
    return in_double("i0", bessel_i(0, False), xp, x)


@op(promote="float", public="special", grad_name="SpecialI0EBackward0")
def i0e(xp, x):
    """exp(-|x|) I_0(x). x: (*S) -> (*S)."""
    return in_double("i0e", bessel_i(0, True), xp, x)


@op(promote="float", public="special", grad_name="SpecialI1Backward0")
def i1(xp, x):
    """The modified Bessel function I_1. x: (*S) -> (*S)."""
    return in_double("i1", bessel_i(1, False), xp, x)


@op(promote="float", public="special", grad_name="SpecialI1EBackward0")
def i1e(xp, x):
    """exp(-|x|) I_1(x). x: (*S) -> (*S)."""
    return in_double("i1e", bessel_i(1, True), xp, x)


@composite
def slope_of_odd(F, x, even, odd):
    """even - odd / x, and its limit 1 / 2 at 0. x, even, odd: (*S) -> (*S). Abramowitz and Stegun 9.6.26."""
    at_zero = F.eq(x, 0)
    return F.where(at_zero, 0.5, even - odd / F.where(at_zero, 1.0, x))


i0.vjp(x=lambda F, g, *, x: g * F.i1(x))
i0e.vjp(x=lambda F, g, *, x, out: g * (F.i1e(x) - F.sign(x) * out))
i1.vjp(x=lambda F, g, *, x, out: g * F.slope_of_odd(x, F.i0(x), out))
i1e.vjp(x=lambda F, g, *, x, out: g * (F.slope_of_odd(x, F.i0e(x), out) - F.sign(x) * out))


# PyTorch has them under these names too, for single and double precision and without gradients.


@op(promote="float", public="special")
def modified_bessel_i0(xp, x):
    """I_0, without a gradient. x: (*S) -> (*S), float32 or float64."""
    return in_double("modified_bessel_i0", bessel_i(0, False), xp, single_or_double("modified_bessel_i0", x))


@op(promote="float", public="special")
def modified_bessel_i1(xp, x):
    """I_1, without a gradient. x: (*S) -> (*S), float32 or float64."""
    return in_double("modified_bessel_i1", bessel_i(1, False), xp, single_or_double("modified_bessel_i1", x))


# ---- of the library: PyTorch gives none of them a gradient -----------------------------------------------------------


def _of_library(name, called, doc):
    """The op that is one function of the library. x: (*S) -> (*S)."""

    def forward(special, x):
        return getattr(special, called)(single_or_double(name, x))

    forward.__doc__ = f"{doc}. x: (*S) -> (*S), float32 or float64."
    return op(forward, name=name, promote="float", public="special", library="special")


modified_bessel_k0 = _of_library("modified_bessel_k0", "k0", "The modified Bessel function K_0; NaN below 0")
modified_bessel_k1 = _of_library("modified_bessel_k1", "k1", "The modified Bessel function K_1; NaN below 0")
scaled_modified_bessel_k0 = _of_library("scaled_modified_bessel_k0", "k0e", "exp(x) K_0(x); NaN below 0")
scaled_modified_bessel_k1 = _of_library("scaled_modified_bessel_k1", "k1e", "exp(x) K_1(x); NaN below 0")
bessel_j0 = _of_library("bessel_j0", "j0", "The Bessel function J_0")
bessel_j1 = _of_library("bessel_j1", "j1", "The Bessel function J_1")
bessel_y0 = _of_library("bessel_y0", "y0", "The Bessel function Y_0; NaN below 0")
bessel_y1 = _of_library("bessel_y1", "y1", "The Bessel function Y_1; NaN below 0")


@op(promote="float", public="special", library="special")
def airy_ai(special, x):
    """Airy's function Ai. x: (*S) -> (*S), float32 or float64."""
    x = single_or_double("airy_ai", x).clip(max=150)  # where Ai is 0 already; SciPy gives NaN far beyond
    return special.airy(x)[0]


@op(promote="float", public="special")
def spherical_bessel_j0(xp, x):
    """sin(x) / x, and 1 at 0. x: (*S) -> (*S), float32 or float64."""
    at_zero = single_or_double("spherical_bessel_j0", x) == 0
    out = xp.where(at_zero, 1, xp.sin(x) / xp.where(at_zero, 1, x))
    return xp.where(xp.isinf(x), 0, out).astype(x.dtype)
