"""Exponentials, logarithms, trigonometric and hyperbolic functions, with their derivatives as complex functions."""

from __future__ import annotations

import math

from ..op import composite, op
from .kinds import only
from .reduce import narrow, wide

LN2, LN10 = math.log(2), math.log(10)

# ---- exponentials and logarithms -------------------------------------------------------------------------------------


@op(ufunc="exp", promote="float", holomorphic=True, public="inplace")
def exp(xp, x):
    """e**x. x: (*S) -> (*S)."""


exp.vjp(x=lambda F, g, *, out: g * out)


@op(ufunc="exp2", promote="float", holomorphic=True, public="inplace", grad_name="Exp2Backward0")
def exp2(xp, x):
    """2**x. x: (*S) -> (*S)."""


exp2.vjp(x=lambda F, g, *, out: g * (out * LN2))


@op(ufunc="expm1", promote="float", holomorphic=True, public="inplace", grad_name="Expm1Backward0")
def expm1(xp, x):
    """e**x - 1, accurate near 0. x: (*S) -> (*S)."""


expm1.vjp(x=lambda F, g, *, out: g * (out + 1))


@op(ufunc="log", promote="float", holomorphic=True, public="inplace")
def log(xp, x):
    """Natural logarithm. x: (*S) -> (*S)."""


log.vjp(x=lambda F, g, *, x: g / x)


@op(ufunc="log2", promote="float", holomorphic=True, public="inplace", grad_name="Log2Backward0")
def log2(xp, x):
    """Logarithm to the base 2. x: (*S) -> (*S)."""


log2.vjp(x=lambda F, g, *, x: g / (x * LN2))


@op(ufunc="log10", promote="float", holomorphic=True, public="inplace", grad_name="Log10Backward0")
def log10(xp, x):
    """Logarithm to the base 10. x: (*S) -> (*S)."""


log10.vjp(x=lambda F, g, *, x: g / (x * LN10))


@op(ufunc="log1p", promote="float", holomorphic=True, public="inplace", grad_name="Log1PBackward0")
def log1p(xp, x):
    """log(1 + x), accurate near 0. x: (*S) -> (*S)."""


log1p.vjp(x=lambda F, g, *, x: g / (x + 1))


@op(broadcasts=True, promote="same", holomorphic=True, public=True)
def logaddexp(xp, x, y):
    """log(e**x + e**y) without overflow. x: (*S), y: (*T) -> (*broadcast(S, T))."""
    only("fVc", "logaddexp", x)
    if x.dtype.kind != "c":
        return xp.logaddexp(x, y)
    larger = xp.where(x.real < y.real, y, x)
    return larger + xp.log(xp.exp(x - larger) + xp.exp(y - larger))


logaddexp.vjp(x=lambda F, g, *, x, y: g / (F.exp(y - x) + 1), y=lambda F, g, *, x, y: g / (F.exp(x - y) + 1))


@op(broadcasts=True, promote="same", public=True, grad_name="Logaddexp2Backward0")
def logaddexp2(xp, x, y):
    """log2(2**x + 2**y) without overflow. x: (*S), y: (*T) -> (*broadcast(S, T))."""
    only("fV", "logaddexp2", x)
    return xp.logaddexp2(x, y)


logaddexp2.vjp(x=lambda F, g, *, x, y: g / (F.exp2(y - x) + 1), y=lambda F, g, *, x, y: g / (F.exp2(x - y) + 1))


@op(broadcasts=True, promote="float", public="inplace")
def xlogy(xp, x, y):
    """x * log(y), and 0 where x = 0 unless y is NaN. x: (*S), y: (*T) -> (*broadcast(S, T))."""
    only("fV", "xlogy", x, y)
    out = x * xp.log(y)
    return xp.where((x == 0) & (y == y), 0, out).astype(out.dtype)


xlogy.vjp(
    x=lambda F, g, *, x, y: g * F.zero_where(F.log(y), F.logical_and(F.eq(x, 0), F.le(y, 0))),
    y=lambda F, g, *, x, y: g * x / y,
)

# ---- trigonometric ---------------------------------------------------------------------------------------------------


@op(ufunc="sin", promote="float", holomorphic=True, public="inplace")
def sin(xp, x):
    """Sine; x in radians. x: (*S) -> (*S)."""


sin.vjp(x=lambda F, g, *, x: g * F.cos(x))


@op(ufunc="cos", promote="float", holomorphic=True, public="inplace")
def cos(xp, x):
    """Cosine; x in radians. x: (*S) -> (*S)."""


cos.vjp(x=lambda F, g, *, x: -g * F.sin(x))


@op(ufunc="tan", promote="float", holomorphic=True, public="inplace")
def tan(xp, x):
    """Tangent; x in radians. x: (*S) -> (*S)."""


tan.vjp(x=lambda F, g, *, out: g * (out * out + 1))


@op(ufunc="arcsin", promote="float", holomorphic=True, public="inplace")
def asin(xp, x):
    """Inverse sine, in radians. x: (*S) -> (*S)."""


asin.vjp(x=lambda F, g, *, x: g * F.rsqrt(1 - x * x))


@op(ufunc="arccos", promote="float", holomorphic=True, public="inplace")
def acos(xp, x):
    """Inverse cosine, in radians. x: (*S) -> (*S)."""


acos.vjp(x=lambda F, g, *, x: -g * F.rsqrt(1 - x * x))


@op(ufunc="arctan", promote="float", holomorphic=True, public="inplace")
def atan(xp, x):
    """Inverse tangent, in radians. x: (*S) -> (*S)."""


atan.vjp(x=lambda F, g, *, x: g / (x * x + 1))


@op(broadcasts=True, promote="float", public="inplace", grad_name="Atan2Backward0")
def atan2(xp, x, y):
    """The angle of the point (y, x), the first argument upwards. x: (*S), y: (*T) -> (*broadcast(S, T)), radians."""
    only("fV", "atan2", x)
    return xp.arctan2(x, y)


@composite
def inverse_square(F, x, y):
    """1 / (x**2 + y**2), and 0 at the origin. x: (*S), y: (*T) -> (*broadcast(S, T))."""
    square = x * x + y * y
    return F.zero_where(1 / square, F.eq(square, 0))


atan2.vjp(
    x=lambda F, g, *, x, y: g * (y * F.inverse_square(x, y)),
    y=lambda F, g, *, x, y: -g * (x * F.inverse_square(x, y)),
)


@op(broadcasts=True, promote="same", public="inplace")
def hypot(xp, x, y):
    """sqrt(x**2 + y**2) without overflow. x: (*S), y: (*T) -> (*broadcast(S, T))."""
    only("fV", "hypot", x)
    return xp.hypot(x, y)


hypot.vjp(x=lambda F, g, *, x, out: g * (x / out), y=lambda F, g, *, y, out: g * (y / out))


def _no_complex(name, x):
    if x.dtype.kind == "c":
        raise RuntimeError(f"{name} is not supported for complex tensors.")


@op(promote="float", public="inplace", grad_name="Deg2RadBackward0")
def deg2rad(xp, x):
    """x * pi / 180. x: (*S), degrees -> (*S), radians."""
    _no_complex("deg2rad", x)
    return (x * (math.pi / 180)).astype(x.dtype)


deg2rad.vjp(x=lambda F, g: g * (math.pi / 180))


@op(promote="float", public="inplace", grad_name="Rad2DegBackward0")
def rad2deg(xp, x):
    """x * 180 / pi. x: (*S), radians -> (*S), degrees."""
    _no_complex("rad2deg", x)
    return (x * (180 / math.pi)).astype(x.dtype)


rad2deg.vjp(x=lambda F, g: g * (180 / math.pi))


@op(promote="float", holomorphic=True, public="inplace")
def sinc(xp, x):
    """sin(pi x) / (pi x), and 1 at 0. x: (*S) -> (*S)."""
    z = wide(x) * math.pi
    at_zero = z == 0
    return narrow(xp.where(at_zero, 1, xp.sin(z) / xp.where(at_zero, 1, z)), x)


@composite
def sinc_backward(F, g, x):
    """g times the derivative of sinc at x, 0 at 0. g, x: (*S) -> (*S)."""
    z = x * math.pi
    return g * F.zero_where((F.cos(z) * z - F.sin(z)) / (z * x), F.eq(x, 0))


sinc.vjp(x=lambda F, g, *, x: F.sinc_backward(g, x))

# ---- hyperbolic ------------------------------------------------------------------------------------------------------


@op(ufunc="sinh", promote="float", holomorphic=True, public="inplace")
def sinh(xp, x):
    """Hyperbolic sine. x: (*S) -> (*S)."""


sinh.vjp(x=lambda F, g, *, x: g * F.cosh(x))


@op(ufunc="cosh", promote="float", holomorphic=True, public="inplace")
def cosh(xp, x):
    """Hyperbolic cosine. x: (*S) -> (*S)."""


cosh.vjp(x=lambda F, g, *, x: g * F.sinh(x))


@op(ufunc="tanh", promote="float", holomorphic=True, public="inplace")
def tanh(xp, x):
    """Hyperbolic tangent. x: (*S) -> (*S)."""


@composite
def tanh_backward(F, g, out):
    """g * (1 - out**2). g, out: (*S) -> (*S)."""
    return g * (1 - out * out)


tanh.vjp(x=lambda F, g, *, out: F.tanh_backward(g, out))


@op(ufunc="arcsinh", promote="float", holomorphic=True, public="inplace")
def asinh(xp, x):
    """Inverse hyperbolic sine. x: (*S) -> (*S)."""


asinh.vjp(x=lambda F, g, *, x: g * F.rsqrt(x * x + 1))


@op(ufunc="arccosh", promote="float", holomorphic=True, public="inplace")
def acosh(xp, x):
    """Inverse hyperbolic cosine. x: (*S) -> (*S)."""


def _acosh_rule(F, g, *, x, x_dtype):
    if x_dtype.kind != "c":
        return g * F.rsqrt(x * x - 1)
    return g * (F.rsqrt(x - 1) * F.rsqrt(x + 1))  # sqrt(x * x - 1) has another branch where the real part is negative


acosh.vjp(x=_acosh_rule)


@op(ufunc="arctanh", promote="float", holomorphic=True, public="inplace")
def atanh(xp, x):
    """Inverse hyperbolic tangent. x: (*S) -> (*S)."""


atanh.vjp(x=lambda F, g, *, x: g / (1 - x * x))
