"""Arithmetic, comparisons, rounding, powers and functions of one number."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .graph import Graph, Item, Step
from .table import TABLE, emits

BOOL = np.dtype(bool)

# Ops that are one node with the same inputs in the same order.
SAME = {
    "div": "Div", "reciprocal": "Reciprocal", "sqrt": "Sqrt", "exp": "Exp", "log": "Log", "sin": "Sin", "cos": "Cos",
    "tan": "Tan", "asin": "Asin", "acos": "Acos", "atan": "Atan", "sinh": "Sinh", "cosh": "Cosh", "tanh": "Tanh",
    "asinh": "Asinh", "acosh": "Acosh", "atanh": "Atanh", "erf": "Erf", "floor": "Floor", "ceil": "Ceil", "abs": "Abs",
    "sigmoid": "Sigmoid", "bitwise_and": "BitwiseAnd", "bitwise_or": "BitwiseOr", "bitwise_xor": "BitwiseXor",
    "bitwise_not": "BitwiseNot", "det": "Det",
}  # fmt: skip
ON_BOOLS = {"bitwise_and": "And", "bitwise_or": "Or", "bitwise_xor": "Xor", "bitwise_not": "Not"}
WHOLE_STAYS = ("floor", "ceil", "trunc", "round")  # which leave integers as they are


def _one_node(g: Graph, step: Step) -> Any:
    x = step.inputs[0]
    if x.dtype == BOOL and step.op in ON_BOOLS:
        return g.node(ON_BOOLS[step.op], *step.inputs)
    if step.op in WHOLE_STAYS and x.dtype.kind in "iub":
        return x
    return g.node(SAME[step.op], *step.inputs)


TABLE.update(dict.fromkeys(SAME, _one_node))


@emits("clone", "clone_kept", "alias", "cut", "conj", "real", "transfer")
def same(g: Graph, step: Step) -> Any:
    """The same values."""
    return step.inputs[0]


@emits("cast")
def cast(g: Graph, step: Step) -> Any:
    """Another dtype."""
    return g.cast(step.inputs[0], step.out.dtype)


# ---- arithmetic

ARITHMETIC = {"add": "Add", "sub": "Sub", "mul": "Mul", "maximum": "Max", "minimum": "Min"}
OF_BOOLS = {"add": "Or", "mul": "And", "maximum": "Or", "minimum": "And"}


@emits(*ARITHMETIC)
def arithmetic(g: Graph, step: Step) -> Any:
    """x + y, x - y, x * y, and the larger or smaller."""
    if step.inputs[0].dtype == BOOL:
        return g.node(OF_BOOLS[step.op], *step.inputs)
    return g.node(ARITHMETIC[step.op], *step.inputs)


@emits("neg")
def neg(g: Graph, step: Step) -> Any:
    """-x."""
    return g.node("Neg", step.inputs[0])


@emits("fmax", "fmin")
def number_over_nan(g: Graph, step: Step) -> Any:
    """The larger (smaller); a number wins over NaN."""
    x, y = step.inputs
    made = g.node("Max" if step.op == "fmax" else "Min", x, y)
    if x.dtype.kind != "f":
        return made
    made = g.node("Where", g.node("IsNaN", x), y, made)
    return g.node("Where", g.node("IsNaN", y), x, made)


@emits("addcmul", "addcdiv")
def fused(g: Graph, step: Step) -> Any:
    """x + value * a * b, or / b."""
    x, a, b = step.inputs
    made = g.node("Mul" if step.op == "addcmul" else "Div", a, b)
    if step.kw["value"] != 1:
        made = g.node("Mul", made, g.scalar(step.kw["value"], x))
    return g.node("Add", x, made)


@emits("lerp", "lerp_scalar")
def lerp(g: Graph, step: Step) -> Any:
    """x + weight * (end - x)."""
    x, end = step.inputs[:2]
    weight: Any = step.inputs[2] if step.op == "lerp" else g.scalar(step.kw["weight"], x)
    return g.node("Add", x, g.node("Mul", weight, g.node("Sub", end, x)))


@emits("floor_divide", "div_trunc")
def divide_whole(g: Graph, step: Step) -> Any:
    """x / y rounded down, or towards zero."""
    x, y = step.inputs
    if x.dtype.kind == "f":
        quotient = g.node("Div", x, y)
        return g.node("Floor", quotient) if step.op == "floor_divide" else _trunc(g, quotient, x)
    if step.op == "div_trunc":
        return g.node("Div", x, y)
    return g.node("Div", g.node("Sub", x, g.node("Mod", x, y)), y)


@emits("remainder", "fmod")
def remainder(g: Graph, step: Step) -> Any:
    """What is left of a division, with the sign of y (fmod: of x)."""
    x, y = step.inputs
    if step.op == "fmod":
        return g.node("Mod", x, y, fmod=1)
    if x.dtype.kind != "f":
        return g.node("Mod", x, y)
    rest = g.node("Mod", x, y, fmod=1)
    zero = g.scalar(0, x)
    wrong = g.node("And", g.node("Not", g.node("Equal", rest, zero)),
                   g.node("Xor", g.node("Less", rest, zero), g.node("Less", y, zero)))  # fmt: skip
    return g.node("Where", wrong, g.node("Add", rest, y), rest)


@emits("pow", "pow_scalar", "pow_base")
def power(g: Graph, step: Step) -> Any:
    """x ** y, either of which may be a number."""
    x = step.inputs[0]
    if step.op == "pow":
        return g.node("Pow", *step.inputs)
    if step.op == "pow_base":
        return g.node("Pow", g.scalar(step.kw["base"], x), x)
    exponent = step.kw["exponent"]
    if exponent == 2:
        return g.node("Mul", x, x)
    if exponent == 0.5:
        return g.node("Sqrt", x)
    return g.node("Pow", x, g.scalar(exponent, x))


@emits("square")
def square(g: Graph, step: Step) -> Any:
    """x * x."""
    x = g.cast(step.inputs[0], step.out.dtype)
    return g.node("Mul", x, x)


@emits("rsqrt")
def rsqrt(g: Graph, step: Step) -> Any:
    """1 / sqrt(x)."""
    return g.node("Reciprocal", g.node("Sqrt", step.inputs[0]))


@emits("clamp")
def clamp(g: Graph, step: Step) -> Any:
    """x within numbers."""
    x = step.inputs[0]
    low, high = [None if step.kw.get(w) is None else g.scalar(step.kw[w], x) for w in ("min", "max")]
    return g.node("Clip", x, low, high)


@emits("clamp_tensor", "clamp_min_tensor", "clamp_max_tensor")
def clamp_tensor(g: Graph, step: Step) -> Any:
    """x within bounds per element."""
    x = step.inputs[0]
    if step.op == "clamp_tensor":
        return g.node("Min", g.node("Max", x, step.inputs[1]), step.inputs[2])
    return g.node("Max" if "min" in step.op else "Min", x, step.inputs[1])


@emits("sign", "sgn")
def sign(g: Graph, step: Step) -> Any:
    """-1, 0 or 1; 0 for NaN."""
    x = step.inputs[0]
    if x.dtype == BOOL:
        return x
    made = g.node("Sign", x)
    return g.node("Where", g.node("IsNaN", x), g.scalar(0, x), made) if x.dtype.kind == "f" else made


@emits("heaviside")
def heaviside(g: Graph, step: Step) -> Any:
    """0 below 0, 1 above, `values` at 0."""
    x, values = step.inputs
    zero = g.scalar(0, x)
    above = g.cast(g.node("Greater", x, zero), x.dtype, BOOL)
    return g.node("Where", g.node("Equal", x, zero), values, above)


@emits("signbit")
def signbit(g: Graph, step: Step) -> Any:
    """Whether the sign is minus: that of -0.0 shows in its reciprocal."""
    x = step.inputs[0]
    zero = g.scalar(0, x)
    below = g.node("Less", x, zero)
    if x.dtype.kind != "f":
        return below
    return g.node("Or", below, g.node("Less", g.node("Reciprocal", x), zero))


@emits("copysign")
def copysign(g: Graph, step: Step) -> Any:
    """|x| with the sign of y."""
    x, y = step.inputs
    zero = g.scalar(0, y)
    minus = g.node("Or", g.node("Less", y, zero), g.node("Less", g.node("Reciprocal", y), zero))
    size = g.node("Abs", x)
    return g.node("Where", minus, g.node("Neg", size), size)


# ---- comparisons

COMPARE = {"eq": "Equal", "lt": "Less", "le": "LessOrEqual", "gt": "Greater", "ge": "GreaterOrEqual"}


@emits(*COMPARE, "ne")
def compare(g: Graph, step: Step) -> Any:
    """x == y and its like."""
    x, y = step.inputs
    if step.op == "ne":
        return g.node("Not", g.node("Equal", x, y))
    if x.dtype == BOOL and step.op != "eq":
        x, y = g.cast(x, np.int32), g.cast(y, np.int32)
    return g.node(COMPARE[step.op], x, y)


@emits("isclose")
def isclose(g: Graph, step: Step) -> Any:
    """|x - y| <= atol + rtol |y|, or equal."""
    x, y = step.inputs
    apart = g.node("Abs", g.node("Sub", x, y))
    limit = g.node("Add", g.scalar(step.kw["atol"], x), g.node("Mul", g.scalar(step.kw["rtol"], x), g.node("Abs", y)))
    finite = g.node("Not", g.node("IsInf", apart))
    near = g.node("Or", g.node("Equal", x, y), g.node("And", finite, g.node("LessOrEqual", apart, limit)))
    if step.kw["equal_nan"]:
        near = g.node("Or", near, g.node("And", g.node("IsNaN", x), g.node("IsNaN", y)))
    return near


def _never(g: Graph, x: Item) -> str:
    return g.node("Not", g.node("Equal", x, x))


@emits("isnan", "isinf", "isposinf", "isneginf", "isfinite")
def special(g: Graph, step: Step) -> Any:
    """Which elements are not numbers, or infinite."""
    x = step.inputs[0]
    if x.dtype.kind != "f":
        never = _never(g, x)
        return g.node("Not", never) if step.op == "isfinite" else never
    if step.op == "isnan":
        return g.node("IsNaN", x)
    if step.op == "isfinite":
        return g.node("Not", g.node("Or", g.node("IsNaN", x), g.node("IsInf", x)))
    return g.node("IsInf", x, detect_negative=int(step.op != "isposinf"), detect_positive=int(step.op != "isneginf"))


@emits("logical_and", "logical_or", "logical_xor", "logical_not")
def logical(g: Graph, step: Step) -> Any:
    """And, or, xor, not, of anything as bool."""
    kind = {"and": "And", "or": "Or", "xor": "Xor", "not": "Not"}[step.op.partition("_")[2]]
    return g.node(kind, *[g.cast(x, BOOL) for x in step.inputs])


@emits("where")
def where(g: Graph, step: Step) -> Any:
    """x where the condition is true, else y."""
    return g.node("Where", g.cast(step.inputs[0], BOOL), *step.inputs[1:])


@emits("zero_where")
def zero_where(g: Graph, step: Step) -> Any:
    """x with zeros where the mask is true."""
    return g.node("Where", step.inputs[1], g.scalar(0, step.inputs[0]), step.inputs[0])


@emits("outside")
def outside(g: Graph, step: Step) -> Any:
    """Whether x lies outside of numbers, or is NaN."""
    x = step.inputs[0]
    found = g.node("IsNaN", x) if x.dtype.kind == "f" else _never(g, x)
    for word, kind in (("min", "Less"), ("max", "Greater")):
        if step.kw.get(word) is not None:
            found = g.node("Or", found, g.node(kind, x, g.scalar(step.kw[word], x)))
    return found


@emits("isreal", "angle")
def of_reals(g: Graph, step: Step) -> Any:
    """All reals are real; their angle is 0, or pi below 0."""
    x = step.inputs[0]
    if step.op == "isreal":
        return g.filled(True, BOOL, step.out.shape)
    like, given = step.out, g.cast(x, step.out.dtype)
    zero = g.scalar(0, like)
    made = g.node("Where", g.node("Less", given, zero), g.scalar(math.pi, like), zero)
    return g.node("Where", g.node("IsNaN", given), given, made)


@emits("ldexp")
def ldexp(g: Graph, step: Step) -> Any:
    """x * 2 ** y."""
    x, y = step.inputs
    return g.node("Mul", x, g.node("Pow", g.scalar(2, y), y))


# ---- rounding


def _trunc(g: Graph, x: Any, like: Any) -> str:
    below = g.node("Less", x, g.scalar(0, like))
    return g.node("Where", below, g.node("Ceil", x), g.node("Floor", x))


@emits("trunc", "frac")
def trunc(g: Graph, step: Step) -> Any:
    """x rounded towards zero, or what that leaves."""
    x = step.inputs[0]
    if x.dtype.kind != "f":
        return x
    whole = _trunc(g, x, x)
    return whole if step.op == "trunc" else g.node("Sub", x, whole)


@emits("round")
def rounded(g: Graph, step: Step) -> Any:
    """x rounded to so many decimals, halves to even."""
    x, decimals = step.inputs[0], step.kw.get("decimals", 0)
    if x.dtype.kind != "f":
        return x
    if not decimals:
        return g.node("Round", x)
    scale = g.scalar(10.0 ** abs(decimals), x)
    up, down = ("Mul", "Div") if decimals > 0 else ("Div", "Mul")
    return g.node(down, g.node("Round", g.node(up, x, scale)), scale)


@emits("nan_to_num")
def nan_to_num(g: Graph, step: Step) -> Any:
    """x with numbers for NaN and infinities."""
    x = step.inputs[0]
    if x.dtype.kind != "f":
        return x
    info = np.finfo(x.dtype)
    numbers = {w: step.kw[w] for w in ("nan", "posinf", "neginf")}
    defaults = {"nan": 0.0, "posinf": info.max, "neginf": info.min}
    nan, high, low = [g.scalar(defaults[w] if numbers[w] is None else numbers[w], x) for w in numbers]
    made = g.node("Where", g.node("IsNaN", x), nan, x)
    made = g.node("Where", g.node("IsInf", x, detect_negative=0, detect_positive=1), high, made)
    return g.node("Where", g.node("IsInf", x, detect_negative=1, detect_positive=0), low, made)


# ---- functions of one number, and of two


def _log1p(g: Graph, x: Any, like: Item) -> str:
    """log(1 + x) = x * log(u) / (u - 1), u = 1 + x, which keeps small x's digits (Kahan)."""
    one = g.scalar(1, like)
    u = g.node("Add", x, one)
    apart = g.node("Sub", u, one)
    exact = g.node("Equal", apart, g.scalar(0, like))
    inf = g.node("IsInf", u)
    safe = g.node("Where", g.node("Or", exact, inf), one, apart)
    ratio = g.node("Div", g.node("Log", u), safe)
    made = g.node("Where", inf, g.node("Log", u), g.node("Mul", x, ratio))
    return g.node("Where", exact, x, made)


def scaled(function: str, before: float = 1.0, after: float = 1.0) -> Any:
    """after * function(before * x)."""

    def emit(g: Graph, step: Step) -> Any:
        x: Any = step.inputs[0]
        if before != 1.0:
            x = g.node("Mul", x, g.scalar(before, step.inputs[0]))
        made = g.node(function, x) if function else x
        return made if after == 1.0 else g.node("Mul", made, g.scalar(after, step.inputs[0]))

    return emit


TABLE.update(
    exp2=scaled("Exp", before=math.log(2)),
    log2=scaled("Log", after=1 / math.log(2)),
    log10=scaled("Log", after=1 / math.log(10)),
    deg2rad=scaled("", after=math.pi / 180),
    rad2deg=scaled("", after=180 / math.pi),
)


@emits("expm1", "erfc")
def near_one(g: Graph, step: Step) -> Any:
    """exp(x) - 1 by tanh, which keeps small x's digits: 2 t / (1 - t), t = tanh(x / 2); 1 - erf(x)."""
    x = step.inputs[0]
    one = g.scalar(1, x)
    if step.op == "erfc":
        return g.node("Sub", one, g.node("Erf", x))
    t = g.node("Tanh", g.node("Mul", x, g.scalar(0.5, x)))
    small = g.node("Div", g.node("Mul", g.scalar(2, x), t), g.node("Sub", one, t))
    return g.node("Where", g.node("Less", g.node("Abs", x), one), small, g.node("Sub", g.node("Exp", x), one))


@emits("log1p")
def log1p(g: Graph, step: Step) -> Any:
    """log(1 + x)."""
    return _log1p(g, step.inputs[0], step.inputs[0])


@emits("logaddexp", "logaddexp2")
def logaddexp(g: Graph, step: Step) -> Any:
    """log(exp(x) + exp(y)), or to the base 2."""
    x, y = step.inputs
    base = math.log(2) if step.op == "logaddexp2" else 1.0
    apart = g.node("Neg", g.node("Abs", g.node("Sub", x, y)))
    apart = g.node("Where", g.node("Equal", x, y), g.scalar(0, x), apart)  # infinities of one sign
    if base != 1.0:
        apart = g.node("Mul", apart, g.scalar(base, x))
    tail = _log1p(g, g.node("Exp", apart), x)
    if base != 1.0:
        tail = g.node("Mul", tail, g.scalar(1 / base, x))
    return g.node("Add", g.node("Max", x, y), tail)


@emits("xlogy", "xlog1py")
def xlogy(g: Graph, step: Step) -> Any:
    """x log(y), or x log(1 + y); 0 where x is 0 and y a number."""
    x, y = step.inputs
    log = g.node("Log", y) if step.op == "xlogy" else _log1p(g, y, y)
    zero = g.node("And", g.node("Equal", x, g.scalar(0, x)), g.node("Not", g.node("IsNaN", y)))
    return g.node("Where", zero, g.scalar(0, x), g.node("Mul", x, log))


@emits("atan2")
def atan2(g: Graph, step: Step) -> Any:
    """The angle of (x, y), x the first input being the ordinate."""
    up, right = step.inputs
    zero, half = g.scalar(0, up), g.scalar(math.pi / 2, up)
    on_axis = g.node("Equal", right, zero)
    angle = g.node("Atan", g.node("Div", up, g.node("Where", on_axis, g.scalar(1, up), right)))
    pi = g.scalar(math.pi, up)
    turn = g.node("Where", g.node("Less", up, zero), g.node("Neg", pi), pi)
    angle = g.node("Where", g.node("Less", right, zero), g.node("Add", angle, turn), angle)
    return g.node("Where", on_axis, g.node("Mul", g.node("Sign", up), half), angle)


@emits("hypot")
def hypot(g: Graph, step: Step) -> Any:
    """sqrt(x x + y y) without overflow."""
    x, y = [g.node("Abs", i) for i in step.inputs]
    like = step.inputs[0]
    large, small = g.node("Max", x, y), g.node("Min", x, y)
    zero = g.node("Equal", large, g.scalar(0, like))
    ratio = g.node("Div", small, g.node("Where", zero, g.scalar(1, like), large))
    return g.node("Mul", large, g.node("Sqrt", g.node("Add", g.scalar(1, like), g.node("Mul", ratio, ratio))))


@emits("sinc")
def sinc(g: Graph, step: Step) -> Any:
    """sin(pi x) / (pi x), 1 at 0."""
    x = step.inputs[0]
    angle = g.node("Mul", x, g.scalar(math.pi, x))
    zero = g.node("Equal", x, g.scalar(0, x))
    made = g.node("Div", g.node("Sin", angle), g.node("Where", zero, g.scalar(1, x), angle))
    return g.node("Where", zero, g.scalar(1, x), made)


@emits("logit")
def logit(g: Graph, step: Step) -> Any:
    """log(x / (1 - x)), x brought into [eps, 1 - eps] where eps is given."""
    x: Any = step.inputs[0]
    like, eps = step.inputs[0], step.kw.get("eps")
    if eps is not None and eps >= 0:
        x = g.node("Clip", x, g.scalar(eps, like), g.scalar(1 - eps, like))
    return g.node("Log", g.node("Div", x, g.node("Sub", g.scalar(1, like), x)))


@emits("entr")
def entropy(g: Graph, step: Step) -> Any:
    """-x log(x), 0 at 0, -inf below."""
    x = step.inputs[0]
    zero = g.scalar(0, x)
    inside = g.node("Neg", g.node("Mul", x, g.node("Log", x)))
    made = g.node("Where", g.node("Equal", x, zero), zero, inside)
    return g.node("Where", g.node("Less", x, zero), g.scalar(-math.inf, x), made)


@emits("ndtr")
def ndtr(g: Graph, step: Step) -> Any:
    """The normal distribution function."""
    x = step.inputs[0]
    tail = g.node("Erf", g.node("Mul", x, g.scalar(math.sqrt(0.5), x)))
    return g.node("Mul", g.scalar(0.5, x), g.node("Add", g.scalar(1, x), tail))
