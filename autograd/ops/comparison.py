"""Comparisons, questions to each element, logic and bits. Without rules: their results are constants."""

from __future__ import annotations

import math

from ..op import op
from .kinds import only

# ---- comparisons -----------------------------------------------------------------------------------------------------


@op(ufunc="equal", broadcasts=True, promote="same", scalars=True, public="inplace")
def eq(xp, x, y):
    """x == y. x: (*S), y: (*T) -> (*broadcast(S, T)) bool."""


@op(ufunc="not_equal", broadcasts=True, promote="same", scalars=True, public="inplace")
def ne(xp, x, y):
    """x != y. x: (*S), y: (*T) -> (*broadcast(S, T)) bool."""


# NumPy orders complex numbers by their real parts first; PyTorch refuses.


@op(broadcasts=True, promote="same", scalars=True, public="inplace")
def lt(xp, x, y):
    """x < y. x: (*S), y: (*T) -> (*broadcast(S, T)) bool."""
    if x.dtype.kind == "c":
        only("", "lt_cpu", x)
    return xp.less(x, y)


@op(broadcasts=True, promote="same", scalars=True, public="inplace")
def le(xp, x, y):
    """x <= y. x: (*S), y: (*T) -> (*broadcast(S, T)) bool."""
    if x.dtype.kind == "c":
        only("", "le_cpu", x)
    return xp.less_equal(x, y)


@op(broadcasts=True, promote="same", scalars=True, public="inplace")
def gt(xp, x, y):
    """x > y. x: (*S), y: (*T) -> (*broadcast(S, T)) bool."""
    if x.dtype.kind == "c":
        only("", "gt_cpu", x)
    return xp.greater(x, y)


@op(broadcasts=True, promote="same", scalars=True, public="inplace")
def ge(xp, x, y):
    """x >= y. x: (*S), y: (*T) -> (*broadcast(S, T)) bool."""
    if x.dtype.kind == "c":
        only("", "ge_cpu", x)
    return xp.greater_equal(x, y)


@op(broadcasts=True, promote="equal")
def isclose(xp, x, y, *, rtol=1e-5, atol=1e-8, equal_nan=False):
    """x == y, or both finite and |x - y| <= atol + rtol * |y|. x: (*S), y: (*T) -> (*broadcast(S, T)) bool."""
    close = x == y
    if equal_nan:
        close = close | ((x != x) & (y != y))
    if x.dtype.kind in "bu":
        x, y = x.astype("f8"), y.astype("f8")
    return close | (xp.isfinite(x) & xp.isfinite(y) & (xp.absolute(x - y) <= atol + rtol * xp.absolute(y)))


# ---- questions to each element ---------------------------------------------------------------------------------------


@op(ufunc="isnan", public=True)
def isnan(xp, x):
    """Whether x is NaN. x: (*S) -> (*S) bool."""


@op(ufunc="isinf", public=True)
def isinf(xp, x):
    """Whether x is infinite, of either sign. x: (*S) -> (*S) bool."""


@op(ufunc="isfinite", public=True)
def isfinite(xp, x):
    """Whether x is neither infinite nor NaN. x: (*S) -> (*S) bool."""


def _infinite(name, x, value):
    if x.dtype.kind == "c":
        raise RuntimeError(f"{name} does not support complex inputs.")
    return x == value


@op(public=True)
def isposinf(xp, x):
    """Whether x is plus infinity. x: (*S) -> (*S) bool."""
    return _infinite("isposinf", x, math.inf)


@op(public=True)
def isneginf(xp, x):
    """Whether x is minus infinity. x: (*S) -> (*S) bool."""
    return _infinite("isneginf", x, -math.inf)


@op(public=True)
def isreal(xp, x):
    """Whether the imaginary part is 0. x: (*S) -> (*S) bool."""
    return x.imag == 0 if x.dtype.kind == "c" else xp.ones(x.shape, bool)


# ---- logic -----------------------------------------------------------------------------------------------------------


@op(ufunc="logical_and", broadcasts=True, public="inplace")
def logical_and(xp, x, y):
    """x != 0 and y != 0. x: (*S), y: (*T) -> (*broadcast(S, T)) bool."""


@op(ufunc="logical_or", broadcasts=True, public="inplace")
def logical_or(xp, x, y):
    """x != 0 or y != 0. x: (*S), y: (*T) -> (*broadcast(S, T)) bool."""


@op(ufunc="logical_xor", broadcasts=True, public="inplace")
def logical_xor(xp, x, y):
    """Whether one of x and y is 0. x: (*S), y: (*T) -> (*broadcast(S, T)) bool."""


@op(ufunc="logical_not", public="inplace")
def logical_not(xp, x):
    """x == 0. x: (*S) -> (*S) bool."""


# ---- bits and whole numbers ------------------------------------------------------------------------------------------


@op(broadcasts=True, promote="same", public="inplace")
def bitwise_and(xp, x, y):
    """The bits set in both; logical for bool. x: (*S), y: (*T) -> (*broadcast(S, T))."""
    only("biu", "bitwise_and_cpu", x)
    return xp.bitwise_and(x, y)


@op(broadcasts=True, promote="same", public="inplace")
def bitwise_or(xp, x, y):
    """The bits set in either; logical for bool. x: (*S), y: (*T) -> (*broadcast(S, T))."""
    only("biu", "bitwise_or_cpu", x)
    return xp.bitwise_or(x, y)


@op(broadcasts=True, promote="same", public="inplace")
def bitwise_xor(xp, x, y):
    """The bits set in one of both; logical for bool. x: (*S), y: (*T) -> (*broadcast(S, T))."""
    only("biu", "bitwise_xor_cpu", x)
    return xp.bitwise_xor(x, y)


@op(public="inplace")
def bitwise_not(xp, x):
    """All bits inverted; logical for bool. x: (*S) -> (*S)."""
    only("biu", "bitwise_not_cpu", x)
    return xp.invert(x)


@op(broadcasts=True, promote="same", public="inplace")
def bitwise_left_shift(xp, x, y):
    """x moved y bits up; 0 where y is negative or no less than the width. x: (*S), y: (*T) -> (*broadcast(S, T))."""
    only("iu", "lshift_cpu", x)
    return xp.left_shift(x, y)


@op(broadcasts=True, promote="same", public="inplace")
def bitwise_right_shift(xp, x, y):
    """x moved y bits down, the sign kept. x: (*S), y: (*T) -> (*broadcast(S, T))."""
    only("iu", "rshift_cpu", x)
    return xp.right_shift(x, y)


@op(broadcasts=True, promote="same", public="inplace")
def gcd(xp, x, y):
    """The greatest common divisor, not negative. x: (*S), y: (*T) -> (*broadcast(S, T))."""
    only("iu", "gcd_cpu", x)
    return xp.gcd(x, y)


@op(broadcasts=True, promote="same", public="inplace")
def lcm(xp, x, y):
    """The least common multiple, not negative. x: (*S), y: (*T) -> (*broadcast(S, T))."""
    only("iu", "lcm_cpu", x)
    return xp.lcm(x, y)
