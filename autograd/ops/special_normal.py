"""The normal distribution, and x log x with its limits."""

from __future__ import annotations

import math

from ..op import op
from .kinds import only
from .reduce import narrow, wide
from .special import by_parts, erfc, erfcx, in_double, normal_middle, normal_tail, single_or_double

_ROOT_HALF = math.sqrt(0.5)


@op(promote="float", public="special", grad_name="MulBackward0")
def ndtr(xp, x):
    """The distribution function of the standard normal: erfc(-x / sqrt(2)) / 2. x: (*S) -> (*S)."""
    return in_double("ndtr", lambda xp, x: erfc.op.generic(xp, x * -_ROOT_HALF) / 2, xp, x)


ndtr.vjp(x=lambda F, g, *, x: g * (F.exp(x * x * -0.5) * (1 / math.sqrt(2 * math.pi))))


def _log_ndtr(xp, x):
    t = x * _ROOT_HALF
    low = x < -1
    return by_parts(
        xp,
        t,
        [
            (low, lambda t: xp.log(erfcx.op.generic(xp, -t) / 2) - t * t),
            (~low, lambda t: xp.log1p(erfc.op.generic(xp, t) * -0.5)),
        ],
    )


@op(promote="float", public="special", grad_name="SpecialLogNdtr")
def log_ndtr(xp, x):
    """log(ndtr(x)), accurate far below 0. x: (*S) -> (*S), float32 or float64."""
    return in_double("log_ndtr", _log_ndtr, xp, single_or_double("log_ndtr", x))


log_ndtr.vjp(x=lambda F, g, *, x: g * (math.sqrt(2 / math.pi) / F.erfcx(x * -_ROOT_HALF)))


def _ndtri(xp, p):
    q = p - 0.5
    middle = xp.absolute(q) <= 0.425
    return by_parts(
        xp,
        p,
        [
            (middle, lambda p: normal_middle(p - 0.5)),
            (~middle & (p > 0) & (p < 0.5), lambda p: -normal_tail(xp, p)),
            (~middle & (p < 1) & (p > 0.5), lambda p: normal_tail(xp, 1 - p)),
            (p == 0, lambda p: xp.full_like(p, -math.inf)),
            (p == 1, lambda p: xp.full_like(p, math.inf)),
        ],
    )


@op(promote="float", public="special", grad_name="SpecialNdtri")
def ndtri(xp, x):
    """The inverse of ndtr; infinite at 0 and 1, NaN outside. x: (*S) -> (*S), float32 or float64."""
    return in_double("ndtri", _ndtri, xp, single_or_double("ndtri", x))


ndtri.vjp(x=lambda F, g, *, out: g * (F.exp(out * out * 0.5) * math.sqrt(2 * math.pi)))


@op(promote="float", public="special", grad_name="SpecialEntr")
def entr(xp, x):
    """-x log(x), 0 at 0, and -infinity below. x: (*S) -> (*S)."""
    only("fV", "entr", x)
    z = wide(x)
    out = xp.where(z == 0, 0, -z * xp.log(xp.absolute(z)))
    return narrow(xp.where(z < 0, -math.inf, out).astype(z.dtype), x)


entr.vjp(x=lambda F, g, *, x: g * (-1 - F.log(x)))


@op(broadcasts=True, promote="float", public="special", grad_name="SpecialXlog1Py")
def xlog1py(xp, x, y):
    """x log(1 + y), and 0 where x = 0 unless y is NaN. x: (*S), y: (*T) -> (*broadcast(S, T))."""
    only("fV", "xlog1py", x)
    a, b = wide(x), wide(y)
    out = xp.where((a == 0) & (b == b), 0, a * xp.log1p(b))
    return out.astype(x.dtype)


xlog1py.vjp(
    x=lambda F, g, *, x, y: g * F.zero_where(F.log1p(y), F.logical_and(F.eq(x, 0), F.le(y, -1))),
    y=lambda F, g, *, x, y: g * x / (y + 1),
)
