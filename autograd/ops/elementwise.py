"""Elementwise arithmetic. Binary ops broadcast; the engine sums each gradient back to its input's shape."""

from __future__ import annotations

import cmath
import math

from ..op import composite, op
from .index import on_host
from .kinds import kind, only
from .reduce import narrow, wide


def no_gradient(F, g):
    """The rule of a step function: PyTorch gives zeros, not an absent gradient."""
    return F.zeros_like(g)


@op(broadcasts=True, grad_name="MaskedFill")
def zero_where(xp, x, mask):
    """x with zeros where the mask is true, whatever stood there (NaN times 0 would stay NaN).

    x: (*S), mask: (*T) bool -> (*broadcast(S, T)). Done on the bits: `where` takes a branch per element and eight times
    as long for a random mask. (An array module that cannot read bits says so by `reinterprets`.)
    """
    if x.size < 2048 or x.dtype.kind != "f" or not getattr(xp, "reinterprets", True):
        return xp.where(mask, 0, x)
    integer = f"i{x.dtype.itemsize}"
    bits = mask.astype(integer)
    bits -= 1
    return (bits & x.view(integer)).view(x.dtype)


zero_where.vjp(x=lambda F, g, *, mask: F.zero_where(g, mask))


@composite
def keep_where(F, x, mask):
    """x, but zeros where the mask is false. x: (*S), mask: (*T) bool -> (*broadcast(S, T))."""
    return F.zero_where(x, F.logical_not(mask))

# ---- sums, products --------------------------------------------------------------------------------------------------


@op(ufunc="add", broadcasts=True, promote="same", scalars=True)
def add(xp, x, y):
    """x + y. x: (*S), y: (*T) -> (*broadcast(S, T))."""


add.vjp(x=lambda F, g: g, y=lambda F, g: g)


@op(ufunc="subtract", broadcasts=True, promote="same", scalars=True)
def sub(xp, x, y):
    """x - y. x: (*S), y: (*T) -> (*broadcast(S, T))."""


sub.vjp(x=lambda F, g: g, y=lambda F, g: -g)


@op(ufunc="multiply", broadcasts=True, promote="same", scalars=True, holomorphic=True, public="inplace")
def mul(xp, x, y):
    """x * y. x: (*S), y: (*T) -> (*broadcast(S, T))."""


mul.vjp(x=lambda F, g, *, y: g * y, y=lambda F, g, *, x: g * x)


@op(ufunc="true_divide", broadcasts=True, promote="float", scalars=True, holomorphic=True)
def div(xp, x, y):
    """x / y, true division. x: (*S), y: (*T) -> (*broadcast(S, T))."""


div.vjp(x=lambda F, g, *, y: g / y, y=lambda F, g, *, x, y: -g * (x / y) / y)


@op(public="inplace")
def neg(xp, x):
    """-x. x: (*S) -> (*S). RuntimeError for bool."""
    if x.dtype.kind == "b":
        raise RuntimeError(
            "Negation, the `-` operator, on a bool tensor is not supported. If you are trying to invert a mask, use "
            "the `~` or `logical_not()` operator instead."
        )
    return xp.negative(x)


neg.vjp(x=lambda F, g: -g)


@op(promote="float", holomorphic=True, public="inplace")
def reciprocal(xp, x):
    """1 / x. x: (*S) -> (*S)."""
    return 1 / x


reciprocal.vjp(x=lambda F, g, *, out: -g * out * out)


@op(broadcasts=True, promote="same", holomorphic=True)
def addcmul(xp, x, a, b, *, value):
    """x + value * a * b. x: (*S), a: (*T), b: (*U) -> (*broadcast(S, T, U))."""
    a, b = wide(a), wide(b)
    return narrow(wide(x) + (a * b if value == 1 else a * value * b), x)


addcmul.vjp(
    x=lambda F, g: g,
    a=lambda F, g, *, b, value: g * b if value == 1 else g * b * value,
    b=lambda F, g, *, a, value: g * a if value == 1 else g * a * value,
)


@op(broadcasts=True, promote="same", holomorphic=True)
def addcdiv(xp, x, a, b, *, value):
    """x + value * a / b. x: (*S), a: (*T), b: (*U) -> (*broadcast(S, T, U))."""
    a, b = wide(a), wide(b)
    return narrow(wide(x) + (a / b if value == 1 else a * value / b), x)


addcdiv.vjp(
    x=lambda F, g: g,
    a=lambda F, g, *, b, value: g / b if value == 1 else g * value / b,
    b=lambda F, g, *, a, b, value: -g * (a * value / b) / b,
)


@op(broadcasts=True, promote="equal", holomorphic=True, grad_name="LerpBackward1")
def lerp(xp, x, end, weight):
    """x + weight * (end - x), exact at both ends. x: (*S), end: (*T), weight: (*U) -> (*broadcast(S, T, U))."""
    only("fVc", "lerp", x)
    near = x + weight * (end - x)
    return xp.where(xp.absolute(weight) < 0.5, near, end - (end - x) * (1 - weight))


lerp.vjp(
    x=lambda F, g, *, weight: g * (1 - weight),
    end=lambda F, g, *, weight: g * weight,
    weight=lambda F, g, *, x, end: g * (end - x),
)


@op(broadcasts=True, promote="equal", holomorphic=True, grad_name="LerpBackward0")
def lerp_scalar(xp, x, end, *, weight):
    """x + weight * (end - x) for a number. x: (*S), end: (*T) -> (*broadcast(S, T))."""
    only("fVc", "lerp", x)
    near = math.hypot(weight.real, weight.imag) < 0.5
    return narrow(x + weight * (end - x) if near else end - (end - x) * (1 - weight), x)


lerp_scalar.vjp(x=lambda F, g, *, weight: g * (1 - weight), end=lambda F, g, *, weight: g * weight)


@op(broadcasts=True, promote="same", index=("condition",))
def where(xp, condition, x, y):
    """x where the condition is true, else y. condition: (*S) bool, x: (*T), y: (*U) -> (*broadcast(S, T, U))."""
    return xp.where(condition, x, y)


where.vjp(
    x=lambda F, g, *, condition: F.keep_where(g, condition),
    y=lambda F, g, *, condition: F.zero_where(g, condition),
)

# ---- divisions with remainder ----------------------------------------------------------------------------------------


def _check_integers(xp, name, x, y):
    """Refuses bool and complex, and a zero divisor of integers, for which NumPy gives 0; devices give anything."""
    only("iufV", name, x, y)
    if kind(x, y) in "iu" and on_host(xp) and not (y.all() if hasattr(y, "all") else y):
        raise RuntimeError("ZeroDivisionError")


@op(broadcasts=True, promote="same", scalars=True, public="inplace", grad_name="DivBackward2")
def floor_divide(xp, x, y):
    """The largest whole number <= x / y. x: (*S), y: (*T) -> (*broadcast(S, T))."""
    if kind(x, y) != "f":
        _check_integers(xp, "floor_divide", x, y)
    return xp.floor_divide(x, y)


floor_divide.vjp(x=no_gradient, y=no_gradient)


@op(broadcasts=True, promote="same", scalars=True, grad_name="DivBackward2")
def div_trunc(xp, x, y):
    """x / y rounded towards zero. x: (*S), y: (*T) -> (*broadcast(S, T))."""
    if kind(x, y) in "fV":
        return xp.trunc(x / y)
    _check_integers(xp, "div_trunc", x, y)
    q, r = x // y, x % y
    return q + ((r != 0) & ((x < 0) != (y < 0))).astype(q.dtype)


div_trunc.vjp(x=no_gradient, y=no_gradient)


@op(broadcasts=True, promote="same", scalars=True, public="inplace")
def remainder(xp, x, y):
    """x - y * floor(x / y), with the sign of y. x: (*S), y: (*T) -> (*broadcast(S, T))."""
    if kind(x, y) not in "fV":
        _check_integers(xp, "remainder", x, y)
        return xp.remainder(x, y)
    rest = xp.fmod(x, y)  # with the sign of x also where it is 0, unlike NumPy's remainder
    return xp.where((rest != 0) & ((rest < 0) != (y < 0)), rest + y, rest)


remainder.vjp(x=lambda F, g: g, y=lambda F, g, *, x, y: -g * F.floor_divide(x, y))


@op(broadcasts=True, promote="same", scalars=True, public="inplace")
def fmod(xp, x, y):
    """x - y * trunc(x / y), with the sign of x. x: (*S), y: (*T) -> (*broadcast(S, T))."""
    if kind(x, y) != "f":
        _check_integers(xp, "fmod", x, y)
    return xp.fmod(x, y)


fmod.vjp(x=lambda F, g: g, y=lambda F, g, *, x, y: -g * F.div_trunc(x, y))

# ---- powers ----------------------------------------------------------------------------------------------------------


@op(holomorphic=True, grad_name="PowBackward0")
def pow_scalar(xp, x, *, exponent):
    """x ** exponent for a number. x: (*S) -> (*S). The usual exponents without the general power."""
    if exponent == 2:
        return x * x
    if x.dtype.kind in "fc":
        if exponent == 0.5:
            return xp.sqrt(x)
        if exponent == -1:
            return 1 / x
        if exponent == -0.5:
            return 1 / xp.sqrt(x)
    elif x.dtype.kind in "iu":
        exponent = xp.asarray(exponent).astype(x.dtype)
    else:
        only("V", "pow", x)
        return xp.power(x, exponent).astype(x.dtype)  # bfloat16, which widens beside a number
    if exponent == 3:
        return x * x * x
    return xp.power(x, exponent)


def _pow_rule(F, g, *, x, exponent):
    if exponent == 2:
        return g * (x * 2)
    if exponent == 0:
        return F.zeros_like(g)
    return g * (F.pow_scalar(x, exponent=exponent - 1) * exponent)


pow_scalar.vjp(x=_pow_rule)


def _integer_power(xp, x, y):
    """x ** y of integers; where y < 0 the whole part of the fraction, as in PyTorch."""
    if hasattr(y, "dtype") and y.dtype.kind == "i" and (y < 0).any():
        fraction = xp.where(x == 1, 1, xp.where(x == -1, 1 - 2 * (y % 2), 0))
        return xp.where(y < 0, fraction, xp.power(x, xp.maximum(y, 0))).astype(y.dtype)
    return xp.power(x, y)


@op(broadcasts=True, promote="same", holomorphic=True, grad_name="PowBackward1")
def pow(xp, x, y):
    """x ** y. x: (*S), y: (*T) -> (*broadcast(S, T)). The gradient at x = y = 0 is 0 for both."""
    only("iufVc", "pow", x)
    return _integer_power(xp, x, y) if x.dtype.kind in "iu" else xp.power(x, y)


pow.vjp(
    x=lambda F, g, *, x, y: F.zero_where(g * (y * F.pow(x, y - 1)), F.eq(y, 0)),
    y=lambda F, g, *, x, y, out: g * F.zero_where(out * F.log(x), F.logical_and(F.eq(x, 0), F.ge(F.real(y), 0))),
)


@op(holomorphic=True, grad_name="PowBackward2")
def pow_base(xp, y, *, base):
    """base ** y for a number as base. y: (*S) -> (*S)."""
    only("iufVc", "pow", y)
    if y.dtype.kind in "iu":
        return _integer_power(xp, xp.asarray(base).astype(y.dtype), y)
    return narrow(xp.power(base, wide(y)), y)


def _pow_base_rule(F, g, *, y, out, base):
    if base == 0:
        return F.zero_where(g * (out * -math.inf), F.ge(F.real(y), 0))
    if isinstance(base, complex):
        return g * (out * cmath.log(base))
    return g * (out * (math.log(base) if base > 0 else math.nan))


pow_base.vjp(y=_pow_base_rule)


@op(holomorphic=True, public="inplace", grad_name="PowBackward0")
def square(xp, x):
    """x * x; bool gives int64. x: (*S) -> (*S)."""
    return x.astype("i8") if x.dtype.kind == "b" else x * x


square.vjp(x=lambda F, g, *, x: g * (x * 2))


@op(ufunc="sqrt", promote="float", holomorphic=True, public="inplace")
def sqrt(xp, x):
    """The square root. x: (*S) -> (*S). The gradient at 0 is infinite."""


sqrt.vjp(x=lambda F, g, *, out: g / (out * 2))


@op(promote="float", holomorphic=True, public="inplace")
def rsqrt(xp, x):
    """1 / sqrt(x). x: (*S) -> (*S)."""
    return narrow(1 / xp.sqrt(wide(x)), x)


rsqrt.vjp(x=lambda F, g, *, out: g * (out * out * out) * -0.5)

# ---- the larger, the smaller, bounds ---------------------------------------------------------------------------------


@op(broadcasts=True, promote="same", public=True)
def maximum(xp, x, y):
    """The larger of both; NaN wins. x: (*S), y: (*T) -> (*broadcast(S, T)). Equal values share the gradient."""
    only("biufV", "maximum", x)
    return xp.maximum(x, y)


@op(broadcasts=True, promote="same", public=True)
def minimum(xp, x, y):
    """The smaller of both; NaN wins. x: (*S), y: (*T) -> (*broadcast(S, T)). Equal values share the gradient."""
    only("biufV", "minimum", x)
    return xp.minimum(x, y)


@composite
def shared(F, g, x, y, *, lost):
    """g where the input was chosen, half of it where x = y, 0 where lost. g: (*U), x: (*S), y: (*T) -> (*U)."""
    return F.zero_where(g, lost) - F.zero_where(g, F.ne(x, y)) * 0.5


maximum.vjp(
    x=lambda F, g, *, x, y: F.shared(g, x, y, lost=F.lt(x, y)),
    y=lambda F, g, *, x, y: F.shared(g, x, y, lost=F.gt(x, y)),
)
minimum.vjp(
    x=lambda F, g, *, x, y: F.shared(g, x, y, lost=F.gt(x, y)),
    y=lambda F, g, *, x, y: F.shared(g, x, y, lost=F.lt(x, y)),
)


@op(broadcasts=True, promote="same", public=True)
def fmax(xp, x, y):
    """The larger; a number wins over NaN. x: (*S), y: (*T) -> (*broadcast(S, T)). On a tie x has the gradient."""
    only("biufV", "fmax", x)
    return xp.fmax(x, y)


@op(broadcasts=True, promote="same", public=True)
def fmin(xp, x, y):
    """The smaller; a number wins over NaN. x: (*S), y: (*T) -> (*broadcast(S, T)). On a tie x has the gradient."""
    only("biufV", "fmin", x)
    return xp.fmin(x, y)


def _first(F, better, y):
    """Where fmax and fmin take x."""
    return F.logical_or(better, F.isnan(y))


fmax.vjp(
    x=lambda F, g, *, x, y: F.keep_where(g, _first(F, F.ge(x, y), y)),
    y=lambda F, g, *, x, y: F.zero_where(g, _first(F, F.ge(x, y), y)),
)
fmin.vjp(
    x=lambda F, g, *, x, y: F.keep_where(g, _first(F, F.le(x, y), y)),
    y=lambda F, g, *, x, y: F.zero_where(g, _first(F, F.le(x, y), y)),
)


@op(grad_name="ClampBackward1")
def clamp(xp, x, *, min=None, max=None):
    """x, but at least min, then at most max (numbers or None). x: (*S) -> (*S). The gradient at a bound is 1."""
    only("biufV", "clamp", x)
    out = x if min is None else xp.maximum(min, x)  # the second of equal zeros is taken: x keeps its sign
    return narrow(out if max is None else xp.minimum(max, out), x)


clamp.vjp(x=lambda F, g, *, x, min, max: F.zero_where(g, F.outside(x, min=min, max=max)))


@op()
def outside(xp, x, *, min=None, max=None):
    """Whether x lies below min or above max, or is NaN. x: (*S) -> (*S) bool."""
    inside = True if min is None else x >= min
    return xp.logical_not(inside if max is None else inside & (x <= max))


@op(broadcasts=True, promote="same", grad_name="ClampBackward0")
def clamp_tensor(xp, x, min, max):
    """clamp with bounds per element. x: (*S), min: (*T), max: (*U) -> (*broadcast(S, T, U))."""
    return xp.minimum(max, xp.maximum(min, x))


@op(broadcasts=True, promote="same", grad_name="ClampBackward0")
def clamp_min_tensor(xp, x, min):
    """x, but at least min. x: (*S), min: (*T) -> (*broadcast(S, T))."""
    return xp.maximum(min, x)


@op(broadcasts=True, promote="same", grad_name="ClampBackward0")
def clamp_max_tensor(xp, x, max):
    """x, but at most max. x: (*S), max: (*T) -> (*broadcast(S, T))."""
    return xp.minimum(max, x)


clamp_tensor.vjp(
    x=lambda F, g, *, x, min, max: F.keep_where(g, F.logical_and(F.ge(x, min), F.le(x, max))),
    min=lambda F, g, *, x, min, max: F.keep_where(g, F.logical_and(F.lt(x, min), F.lt(min, max))),
    max=lambda F, g, *, x, min, max: F.keep_where(g, F.logical_or(F.gt(x, max), F.lt(max, min))),
)
clamp_min_tensor.vjp(
    x=lambda F, g, *, x, min: F.keep_where(g, F.ge(x, min)), min=lambda F, g, *, x, min: F.keep_where(g, F.lt(x, min))
)
clamp_max_tensor.vjp(
    x=lambda F, g, *, x, max: F.keep_where(g, F.le(x, max)), max=lambda F, g, *, x, max: F.keep_where(g, F.gt(x, max))
)

# ---- signs -----------------------------------------------------------------------------------------------------------


@op(public="inplace")
def abs(xp, x):
    """The absolute value; real for complex x. x: (*S) -> (*S). The gradient at 0 is 0."""
    only("iufVc", "abs", x)
    return xp.absolute(x)


abs.vjp(x=lambda F, g, *, x: g * F.sgn(x))


def _sign(xp, x):
    """-1, 0 or 1; NumPy's sign of NaN is NaN, PyTorch's is 0."""
    if x.dtype.kind in "bu":
        return (x != 0).astype(x.dtype)
    out = (x > 0).astype(x.dtype)
    out -= x < 0
    return out


@op(public="inplace")
def sign(xp, x):
    """-1, 0 or 1; 0 for NaN. x: (*S) -> (*S)."""
    only("biufV", "sign", x)
    return _sign(xp, x)


sign.vjp(x=no_gradient)


@op(public="inplace")
def sgn(xp, x):
    """x / |x|, or 0 where x is 0. x: (*S) -> (*S)."""
    if x.dtype.kind != "c":
        return _sign(xp, x)
    size = xp.absolute(x)
    return x / xp.where(size == 0, 1, size)


def _sgn_rule(F, g, *, x, x_dtype, out):
    if x_dtype.kind != "c":
        return F.zeros_like(g)
    radial = F.real(g * F.conj(out)) * out
    return F.zero_where((g - radial) / F.abs(x), F.eq(x, 0))


sgn.vjp(x=_sgn_rule)


@op(public=True)
def signbit(xp, x):
    """Whether the sign is minus, that of -0.0 too. x: (*S) -> (*S) bool."""
    only("biufV", "signbit", x)
    return xp.signbit(x) if x.dtype.kind in "fV" else x < 0


@op(broadcasts=True, promote="float", scalars=True, public="inplace")
def copysign(xp, x, y):
    """|x| with the sign of y, that of -0.0 too. x: (*S), y: (*T) -> (*broadcast(S, T))."""
    only("fV", "copysign", x, y)
    return xp.copysign(x, y)


copysign.vjp(x=lambda F, g, *, x, out: g * F.zero_where(out / x, F.eq(x, 0)), y=no_gradient)


@op(broadcasts=True, promote="equal", public="inplace")
def heaviside(xp, x, values):
    """0 for x < 0, values for x = 0, 1 for x > 0. x: (*S), values: (*T) -> (*broadcast(S, T))."""
    only("biufV", "heaviside", x)
    return xp.where(x == 0, values, (x > 0).astype(x.dtype))


@op(broadcasts=True, promote="same", public="inplace")
def nextafter(xp, x, y):
    """The number next to x towards y. x: (*S), y: (*T) -> (*broadcast(S, T))."""
    only("fV", "nextafter", x)
    return xp.nextafter(x, y)


nextafter.vjp(x=lambda F, g, *, x, y: F.zero_where(g, F.eq(x, y)), y=no_gradient)


@op(public="inplace")
def relu(xp, x):
    """max(x, 0). x: (*S) -> (*S). The gradient at 0 is 0."""
    if x.dtype.kind in "bc":
        if x.dtype.kind == "b":
            raise RuntimeError("Boolean inputs not supported for relu")
        only("", "relu", x)
    return xp.maximum(0, x)  # the second of equal zeros is taken: -0.0 stays


@composite
def relu_backward(F, g, out):
    """g where out > 0, else 0. g, out: (*S) -> (*S)."""
    return F.zero_where(g, F.le(out, 0))


relu.vjp(x=lambda F, g, *, out: F.relu_backward(g, out))
