"""Orthogonal polynomials of degree n at x, by their recurrences; close to [-1, 1] by trigonometry for large n.

Abramowitz and Stegun, "Handbook of Mathematical Functions", 22.3 and 22.7; Chebyshev's V and W in J. C. Mason and
D. C. Handscomb, "Chebyshev Polynomials" (2003), 1.2. Computed in the dtype given, as PyTorch does; n is cut to a whole
number, and negative degrees give 0. None has a gradient, as in PyTorch.
"""

from __future__ import annotations

import math

from ..op import op
from .special import single_or_double


def _recurrence(xp, x, n, first, step):
    """Degree n of a sequence that begins 1, first and goes on by step(x, k, q, p), degree k + 1 from k and k - 1.

    x, n: (*S) -> (*S). An element that has become NaN or reached its degree is no longer computed.
    """
    out = xp.where(n < 0, 0, xp.where(n == 0, 1, first)).astype(x.dtype)
    todo = n > 1
    x, n, q = x[todo], n[todo], first[todo]
    p, result, places = xp.ones_like(x), xp.empty_like(x), xp.arange(x.size)
    k = 1
    while x.size:
        p, q = q, step(x, k, q, p)
        k += 1
        done = (n == k) | (q != q)
        if done.any():
            result[places[done]] = q[done]
            more = ~done
            x, n, p, q, places = x[more], n[more], p[more], q[more], places[more]
    out[todo] = result
    return out


def _fused(a, q, c):
    """a q - c with one rounding, as the processor's multiply-add gives it to PyTorch; in double with two."""
    return (a.astype("f8") * q - c).astype(a.dtype)


def _prepared(xp, name, x, n):
    """x and the whole numbers n, broadcast to one shape."""
    single_or_double(name, x)
    x, n = xp.broadcast_arrays(x, xp.asarray(n).astype("i8"))
    return x, n


_BY_ANGLE_ABOVE = {"t": (6, 6), "u": (8, 6), "v": (8, 6), "w": (8, 4)}  # PyTorch's bounds on n: (plain, shifted)


def _chebyshev(xp, name, x, n, kind, shifted):
    """The four kinds: 1, a x + b, and then 2 x q - p; where |x| < 1 and n is large, quotients of sines and cosines."""
    x, n = _prepared(xp, name, x, n)
    if shifted:
        x = x + x - 1
    a, b = {"t": (1, 0), "u": (2, 0), "v": (2, -1), "w": (2, 1)}[kind]
    end = xp.absolute(x) == 1
    wave = (xp.absolute(x) < 1) & (n > _BY_ANGLE_ABOVE[kind][shifted])
    rest = ~(end | wave) & (n >= 0)
    out = xp.zeros_like(x)
    out[end] = _at_ends(xp, x[end], n[end], kind)
    out[wave] = _by_angle(xp, x[wave], n[wave].astype(x.dtype), kind)
    out[rest] = _recurrence(xp, x[rest], n[rest], a * x[rest] + b, lambda x, k, q, p: _fused(x + x, q, p))
    return out


def _at_ends(xp, x, n, kind):
    """The values at 1 and -1."""
    count = {"t": xp.ones_like(n), "u": n + 1, "v": n + n + 1, "w": n + n + 1}[kind]
    at_one = 1 if kind == "v" else count
    at_minus_one = (1 if kind == "w" else count) * (1 - 2 * (n % 2))
    return xp.where(n < 0, 0, xp.where(x > 0, at_one, at_minus_one))


def _by_angle(xp, x, n, kind):
    """The values inside (-1, 1), by x = cos(angle)."""
    angle = xp.arccos(x)
    if kind == "t":
        return xp.cos(n * angle)
    if kind == "u":
        return xp.sin((n + 1) * angle) / xp.sin(angle)
    if kind == "v":
        return xp.cos((n + 0.5) * angle) / xp.cos(angle / 2)
    return xp.sin((n + 0.5) * angle) / xp.sin(angle / 2)


def _chebyshev_op(kind, doc, shifted=False):
    """The op of a kind. x: (*S), degree: (*T) -> (*broadcast(S, T))."""
    name = f"{'shifted_' if shifted else ''}chebyshev_polynomial_{kind}"

    def forward(xp, x, degree):
        return _chebyshev(xp, name, x, degree, kind, shifted)

    forward.__doc__ = f"{doc}. x: (*S), degree: (*T) -> (*broadcast(S, T))."
    return op(forward, name=name, broadcasts=True, promote="float", public="special")


chebyshev_polynomial_t = _chebyshev_op("t", "T_n(x) = cos(n arccos x)")
chebyshev_polynomial_u = _chebyshev_op("u", "U_n(cos t) = sin((n + 1) t) / sin(t)")
chebyshev_polynomial_v = _chebyshev_op("v", "V_n(cos t) = cos((n + 1/2) t) / cos(t / 2)")
chebyshev_polynomial_w = _chebyshev_op("w", "W_n(cos t) = sin((n + 1/2) t) / sin(t / 2)")
shifted_chebyshev_polynomial_t = _chebyshev_op("t", "T_n(2 x - 1)", shifted=True)
shifted_chebyshev_polynomial_u = _chebyshev_op("u", "U_n(2 x - 1)", shifted=True)
shifted_chebyshev_polynomial_v = _chebyshev_op("v", "V_n(2 x - 1)", shifted=True)
shifted_chebyshev_polynomial_w = _chebyshev_op("w", "W_n(2 x - 1)", shifted=True)


def _hermite(xp, name, x, n, a, step):
    """NaN for degrees whose coefficients overflow: above 128 in single precision and 512 in double."""
    x, n = _prepared(xp, name, x, n)
    high = n > (128 if x.dtype.itemsize == 4 else 512)
    return xp.where(high, math.nan, _recurrence(xp, x, xp.where(high, 0, n), a * x, step)).astype(x.dtype)


@op(broadcasts=True, promote="float", public="special")
def hermite_polynomial_h(xp, x, degree):
    """The physicist's H_n(x). x: (*S), degree: (*T) -> (*broadcast(S, T))."""
    return _hermite(xp, "hermite_polynomial_h", x, degree, 2, lambda x, k, q, p: _fused(x + x, q, 2 * k * p))


@op(broadcasts=True, promote="float", public="special")
def hermite_polynomial_he(xp, x, degree):
    """The probabilist's He_n(x). x: (*S), degree: (*T) -> (*broadcast(S, T))."""
    return _hermite(xp, "hermite_polynomial_he", x, degree, 1, lambda x, k, q, p: _fused(x, q, k * p))


@op(broadcasts=True, promote="float", public="special")
def laguerre_polynomial_l(xp, x, degree):
    """Laguerre's L_n(x). x: (*S), degree: (*T) -> (*broadcast(S, T))."""
    x, n = _prepared(xp, "laguerre_polynomial_l", x, degree)
    n = xp.where((x == 0) & (n > 0), 0, n)  # L_n(0) = 1
    return _recurrence(xp, x, n, 1 - x, lambda x, k, q, p: _fused(k + k + (1 - x), q, k * p) / (k + 1))


@op(broadcasts=True, promote="float", public="special")
def legendre_polynomial_p(xp, x, degree):
    """Legendre's P_n(x). x: (*S), degree: (*T) -> (*broadcast(S, T))."""
    x, n = _prepared(xp, "legendre_polynomial_p", x, degree)
    end = (xp.absolute(x) == 1) & (n > 1)
    n = xp.where(end, n % 2, n)  # P_n(1) = 1, P_n(-1) = (-1)**n
    return _recurrence(xp, x, n, x, lambda x, k, q, p: _fused((k + k + 1) * x, q, k * p) / (k + 1))
