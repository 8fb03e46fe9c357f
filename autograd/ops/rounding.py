"""Whole numbers near x, what is left of x, mantissa and exponent, and numbers in the place of NaN and infinity."""

from __future__ import annotations

import math

from ..op import op
from .elementwise import no_gradient
from .kinds import only
from .reduce import narrow, wide


def _rounded(name, round_floats, x):
    """Integers as they are, in new memory."""
    only("iufV", name, x)
    return round_floats(x) if x.dtype.kind in "fV" else x.copy()


@op(public="inplace")
def floor(xp, x):
    """The largest whole number <= x. x: (*S) -> (*S)."""
    return _rounded("floor", xp.floor, x)


@op(public="inplace")
def ceil(xp, x):
    """The smallest whole number >= x. x: (*S) -> (*S)."""
    return _rounded("ceil", xp.ceil, x)


@op(public="inplace")
def trunc(xp, x):
    """x without its fraction. x: (*S) -> (*S)."""
    return _rounded("trunc", xp.trunc, x)


@op()
def round(xp, x, *, decimals=0):
    """x to that many decimals, halves to the even digit. x: (*S) -> (*S)."""
    if not decimals:
        return _rounded("round", xp.rint, x)
    only("fV", "round", x)
    scale = 10.0 ** (decimals if decimals > 0 else -decimals)
    return narrow(xp.rint(wide(x) * scale) / scale if decimals > 0 else xp.rint(wide(x) / scale) * scale, x)


for _op in (floor, ceil, trunc, round):
    _op.vjp(x=no_gradient)


@op(public="inplace")
def frac(xp, x):
    """x - trunc(x). x: (*S) -> (*S)."""
    only("fV", "frac", x)
    return x - xp.trunc(x)


frac.vjp(x=lambda F, g: g)


@op(outputs=("mantissa", "exponent"))
def frexp(xp, x):
    """mantissa in [0.5, 1) and int32 exponent, mantissa * 2**exponent = x. x: (*S) -> (*S), (*S)."""
    return xp.frexp(x)


frexp.vjp(x=lambda F, g, *, out, x_dtype: g[0] / F.exp2(F.cast(out[1], dtype=x_dtype)))


@op(broadcasts=True, promote="float", holomorphic=True, public="inplace")
def ldexp(xp, x, y):
    """x * 2**y. x: (*S), y: (*T) -> (*broadcast(S, T))."""
    return x * xp.exp2(y)


ldexp.vjp(x=lambda F, g, *, y: g * F.exp2(y), y=lambda F, g, *, out: g * (out * math.log(2)))


@op()
def nan_to_num(xp, x, *, nan=0.0, posinf=None, neginf=None):
    """x with NaN and infinities replaced: by nan, posinf (None: the largest number), neginf. x: (*S) -> (*S)."""
    if x.dtype.kind == "c":
        out = xp.empty_like(x)
        out.real = _finite(xp, x.real, nan, posinf, neginf)
        out.imag = _finite(xp, x.imag, nan, posinf, neginf)
        return out
    return _finite(xp, x, nan, posinf, neginf) if x.dtype.kind in "fV" else x.copy()


def _finite(xp, x, nan, posinf, neginf):
    top = xp.asarray(3.3895313892515355e38 if x.dtype.kind == "V" else xp.finfo(x.dtype).max)
    out = xp.where(x == math.inf, top if posinf is None else posinf, x)
    out = xp.where(x == -math.inf, -top if neginf is None else neginf, out)
    return xp.where(x != x, nan, out).astype(x.dtype)


nan_to_num.vjp(x=lambda F, g, *, x: F.keep_where(g, F.isfinite(x)))
