"""Records of arithmetic, exponentials, trigonometry, comparisons and complex numbers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from .base import Failure, Record, S, Sample

ALL_FLOATS = ("float16", "bfloat16", "float32", "float64")
Rng = np.random.Generator


def away(rng: Rng, shape: Any, low: float, high: float, *kinks: float) -> np.ndarray:
    """Uniform numbers no nearer than 0.05 to a kink."""
    x = np.asarray(rng.uniform(low, high, shape))
    for k in kinks:
        x = np.where(np.abs(x - k) < 0.05, k + np.where(x < k, -0.05, 0.05), x)
    return x


def draw(low: float, high: float, *kinks: float, **kw: Any) -> Callable[[Rng], list[Sample]]:
    """Samples of one array: of two dimensions, of one, and empty."""
    shapes: tuple[Any, ...] = ((3, 4), (5,), (0, 3))
    return lambda rng: [S(away(rng, shape, low, high, *kinks), **kw) for shape in shapes]


def pair(low: float, high: float, *kinks: float, **kw: Any) -> Callable[[Rng], list[Sample]]:
    """Samples of two arrays, one of them broadcast."""
    shapes: tuple[Any, ...] = (((3, 4), (3, 4)), ((3, 4), (4,)), ((2, 1), (3,)))
    return lambda rng: [S(away(rng, a, low, high, *kinks), away(rng, b, low, high, *kinks), **kw) for a, b in shapes]


def apart(low: float, high: float) -> Callable[[Rng], list[Sample]]:
    """Pairs that differ by at least 0.05 in each place."""

    def samples(rng: Rng) -> list[Sample]:
        x = away(rng, (3, 4), low, high)
        step = np.asarray(rng.choice([-1, 1], (3, 4))) * rng.uniform(0.1, 1, (3, 4))
        return [S(x, x + step), S(x[:, :1], x[:, :1] + step[0, 0])]

    return samples


def triple(low: float, high: float, **kw: Any) -> Callable[[Rng], list[Sample]]:
    shapes: tuple[Any, ...] = (((3, 4), (3, 4), (3, 4)), ((3, 1), (4,), (1, 1)))
    return lambda rng: [S(*(rng.uniform(low, high, s) for s in row), **kw) for row in shapes]


def ints(low: int, high: int, dtype: str = "int64") -> Callable[[Rng], list[Sample]]:
    shapes: tuple[Any, ...] = (((3, 4), (3, 4)), ((3, 1), (4,)))
    return lambda rng: [S(*(rng.integers(low, high, s).astype(dtype) for s in row)) for row in shapes]


def z(rng: Rng, *shape: int) -> np.ndarray:
    return rng.uniform(0.2, 1, shape) + 1j * rng.uniform(-1, 1, shape)


def function(op: str, reference: Any, samples: Any, complex: bool = True, **kw: Any) -> Record:
    """An analytic function of one array."""
    return Record(op, samples, reference, dtypes=kw.pop("dtypes", ALL_FLOATS), complex=complex, **kw)


def step(op: str, reference: Any, samples: Any, **kw: Any) -> Record:
    """An op whose gradient is zero."""
    return Record(op, samples, reference, dtypes=ALL_FLOATS, second=False, **kw)


def question(op: str, reference: Any, samples: Any, **kw: Any) -> Record:
    """An op without gradient, whose result is bool."""
    return Record(op, samples, reference, grad=False, dtypes=ALL_FLOATS, out_dtype="bool", **kw)


def bits(op: str, reference: Any, samples: Any) -> Record:
    return Record(
        op,
        samples,
        reference,
        grad=False,
        dtypes=("float64",),  # no float array among the samples: they keep their own dtype
        out_dtype="int64",
        errors=[Failure(S(*[np.ones(2)] * len(samples(np.random.default_rng(0))[0].arrays)), RuntimeError, "Double")],
    )


def fraction_free(x: Any, y: Any) -> Any:
    return np.sign(x) * np.sign(y) * (np.abs(x) // np.abs(y))


WIDE = draw(-2.5, 2.5)
SPECIAL = np.array([[-np.inf, -2.0, -0.0], [0.0, np.nan, np.inf]])
SPECIALS = lambda rng: [S(SPECIAL), S(away(rng, (3, 4), -2, 2))]  # noqa: E731
WRONG_SHAPES = [Failure(S(np.ones(2), np.ones(3)), RuntimeError, "must match the size of tensor b")]

ARITHMETIC = [
    Record("add", pair(-2, 2), np.add, linear=True, dtypes=ALL_FLOATS, complex=True, errors=WRONG_SHAPES),
    Record("sub", pair(-2, 2), np.subtract, linear=True, dtypes=ALL_FLOATS, complex=True, errors=WRONG_SHAPES),
    Record("mul", pair(-2, 2), np.multiply, linear=True, dtypes=ALL_FLOATS, complex=True, errors=WRONG_SHAPES),
    Record("div", pair(0.3, 2), np.divide, dtypes=ALL_FLOATS, complex=True, errors=WRONG_SHAPES),
    Record(
        "neg", WIDE, np.negative, linear=True, dtypes=ALL_FLOATS, complex=True,
        errors=[Failure(S(np.array([True])), RuntimeError, "Negation")],
    ),
    function("reciprocal", np.reciprocal, draw(0.3, 3)),
    Record(
        "addcmul", triple(-2, 2, value=0.7), lambda x, a, b, value: x + value * a * b, linear=True, dtypes=ALL_FLOATS,
        complex=True,
    ),
    Record(
        "addcdiv", triple(0.3, 2, value=-0.7), lambda x, a, b, value: x + value * a / b, dtypes=ALL_FLOATS, complex=True
    ),
    Record("lerp", triple(-2, 2), lambda x, y, w: x + w * (y - x), complex=True),
    Record(
        "lerp_scalar", pair(-2, 2, weight=0.8), lambda x, y, weight: x + weight * (y - x), linear=True, complex=True
    ),
    Record(
        "where",
        lambda rng: [
            S(rng.random((3, 4)) < 0.5, rng.standard_normal((3, 4)), rng.standard_normal(4)),
            S(rng.random(4) < 0.5, rng.standard_normal((3, 1)), rng.standard_normal((3, 4))),
        ],
        np.where,
        linear=True,
        dtypes=ALL_FLOATS,
        complex=True,
    ),
    Record(
        "zero_where",
        lambda rng: [
            S(rng.standard_normal((3, 4)), rng.random((3, 4)) < 0.5),
            S(rng.standard_normal((60, 40)), rng.random((60, 40)) < 0.5),
            S(rng.standard_normal((60, 40)), rng.random(40) < 0.5),
        ],
        lambda x, mask: np.where(mask, 0, x),
        linear=True,
        dtypes=ALL_FLOATS,
        complex=True,
    ),
    step("floor_divide", np.floor_divide, pair(1.1, 1.9), errors=[
        Failure(S(np.ones(2, int), np.zeros(2, int)), RuntimeError, "ZeroDivisionError"),
        Failure(S(np.ones(2, bool), np.ones(2, bool)), NotImplementedError, "Bool"),
    ]),
    step("div_trunc", fraction_free, lambda rng: [S(np.array([5.5, -5.5, 5.5]), np.array([2.0, 2.0, -2.0]))]),
    Record(
        "remainder", lambda rng: [S(np.array([5.5, -5.5, 5.5]), np.array([2.0, 2.0, -2.0]))], np.remainder,
        second=False, dtypes=ALL_FLOATS,
        errors=[Failure(S(np.ones(2, int), np.zeros(2, int)), RuntimeError, "ZeroDivisionError")],
    ),
    Record(
        "fmod", lambda rng: [S(np.array([5.5, -5.5, 5.5]), np.array([2.0, 2.0, -2.0]))], np.fmod, second=False,
        dtypes=ALL_FLOATS,
    ),
    Record("pow", pair(0.3, 2), np.power, dtypes=ALL_FLOATS, complex=True),
    Record(
        "pow_scalar",
        lambda rng: [S(rng.uniform(0.3, 2, (3, 4)), exponent=e) for e in (2, 3, 0.5, -0.5, -1, -2, 0, 1, 2.7)],
        lambda x, exponent: x**exponent,
        complex=True,
    ),
    Record("pow_base", draw(-2, 2, base=1.7), lambda y, base: base**y, dtypes=ALL_FLOATS, complex=True),
    function("square", np.square, WIDE),
    function("sqrt", np.sqrt, draw(0.2, 3)),
    function("rsqrt", lambda x: 1 / np.sqrt(x), draw(0.2, 3)),
    *(
        Record(
            name, apart(-2, 2), getattr(np, name), second=False, dtypes=ALL_FLOATS,
            errors=[Failure(S(np.ones(2, complex), np.ones(2, complex)), NotImplementedError, "ComplexDouble")],
        )
        for name in ("maximum", "minimum", "fmax", "fmin")
    ),
    Record("clamp", draw(-2, 2, -1, 0.5, min=-1, max=0.5), lambda x, min, max: np.clip(x, min, max), dtypes=ALL_FLOATS),
    question("outside", lambda x, min, max: ~((x >= min) & (x <= max)), draw(-2, 2, -1, 0.5, min=-1, max=0.5)),
    Record(
        "clamp_tensor",
        lambda rng: [S(rng.uniform(-2, 2, (3, 4)), rng.uniform(-1, 0, (3, 4)), rng.uniform(0.1, 1, (1, 4)))],
        lambda x, low, high: np.minimum(np.maximum(x, low), high),
    ),
    Record("clamp_min_tensor", apart(-2, 2), np.maximum),
    Record("clamp_max_tensor", apart(-2, 2), np.minimum),
    Record(
        "abs", draw(-2, 2, 0), np.abs, dtypes=ALL_FLOATS, complex=True,
        errors=[Failure(S(np.array([True])), NotImplementedError, "Bool")],
    ),
    step("sign", np.sign, draw(-2, 2, 0)),
    Record("sgn", draw(-2, 2, 0), np.sign, dtypes=ALL_FLOATS, complex=True),
    question("signbit", np.signbit, SPECIALS),
    Record("copysign", pair(0.3, 2), np.copysign, second=False, dtypes=ALL_FLOATS),
    Record(
        "heaviside", lambda rng: [S(np.array([-1.0, 0.0, 2.0]), rng.standard_normal(3))], np.heaviside, grad=False,
        dtypes=ALL_FLOATS,
    ),
    Record("nextafter", apart(0.5, 2), np.nextafter, second=False, dtypes=("float32", "float64")),
    step("floor", np.floor, draw(1.1, 1.9)),
    step("ceil", np.ceil, draw(1.1, 1.9)),
    step("trunc", np.trunc, draw(-1.9, -1.1)),
    step("round", np.round, lambda rng: [S(rng.uniform(0.6, 1.4, 4)), S(rng.uniform(1.251, 1.349, 4), decimals=1)]),
    Record("frac", draw(-1.9, -1.1), lambda x: x - np.trunc(x), dtypes=ALL_FLOATS),
    Record("frexp", draw(1.1, 1.9), np.frexp, linear=False, second=False, dtypes=("float16", "float32", "float64")),
    Record("ldexp", pair(-2, 2), lambda x, y: x * 2.0**y, dtypes=ALL_FLOATS, complex=True),
    Record(
        "nan_to_num",
        lambda rng: [S(rng.standard_normal((3, 4))), S(rng.standard_normal(3), nan=1.0, posinf=2.0, neginf=3.0)],
        lambda x, **kw: x,
        linear=True,
        dtypes=ALL_FLOATS,
    ),
]

TRANSCENDENTAL = [
    *(function(name, getattr(np, name), WIDE) for name in "exp exp2 expm1 sin cos sinh cosh tanh".split()),
    *(function(name, getattr(np, name), draw(0.3, 3)) for name in ("log", "log2", "log10", "log1p")),
    function("tan", np.tan, draw(-1, 1)),
    function("asin", np.arcsin, draw(-0.8, 0.8)),
    function("acos", np.arccos, draw(-0.8, 0.8)),
    function("atan", np.arctan, WIDE),
    function("asinh", np.arcsinh, WIDE),
    function("acosh", np.arccosh, draw(1.2, 3)),
    function("atanh", np.arctanh, draw(-0.8, 0.8)),
    function("sinc", np.sinc, draw(-2, 2, 0)),
    function("deg2rad", np.deg2rad, WIDE, complex=False, linear=True),
    function("rad2deg", np.rad2deg, WIDE, complex=False, linear=True),
    Record("logaddexp", pair(-2, 2), np.logaddexp, dtypes=("float16", "float32", "float64"), complex=True),
    Record("logaddexp2", pair(-2, 2), np.logaddexp2, dtypes=("float16", "float32", "float64")),
    Record("xlogy", pair(0.2, 2), lambda x, y: x * np.log(y), dtypes=ALL_FLOATS),
    Record("atan2", pair(0.2, 2), np.arctan2, dtypes=ALL_FLOATS),
    Record("hypot", pair(0.2, 2), np.hypot, dtypes=ALL_FLOATS),
]

COMPLEX_ORDER = [Failure(S(np.ones(2, complex), np.ones(2, complex)), NotImplementedError, "ComplexDouble")]
COMPARISON = [
    question("eq", np.equal, lambda rng: [S(np.array([1.0, 2.0]), np.array([1.0, 3.0]))], errors=WRONG_SHAPES),
    question("ne", np.not_equal, lambda rng: [S(np.array([1.0, 2.0]), np.array([1.0, 3.0]))]),
    *(
        question(name, getattr(np, word), lambda rng: [S(np.array([1.0, 2.0, 5.0]), np.array([1.0, 3.0, 4.0]))],
                 errors=COMPLEX_ORDER)
        for name, word in (("lt", "less"), ("le", "less_equal"), ("gt", "greater"), ("ge", "greater_equal"))
    ),
    question(
        "isclose",
        np.isclose,
        lambda rng: [
            S(SPECIAL, SPECIAL + 1e-9),
            S(SPECIAL, SPECIAL, equal_nan=True),
            S(np.array([1.0, 2.0]), np.array([1.1, 2.5]), rtol=0.0, atol=0.2),
        ],
    ),
    *(question(name, getattr(np, name), SPECIALS) for name in ("isnan", "isinf", "isfinite", "isposinf", "isneginf")),
    Record("isreal", lambda rng: [S(np.array([1 + 1j, 2])), S(SPECIAL)], np.isreal, grad=False, dtypes=("complex64",),
           out_dtype="bool"),
    *(
        question(name, getattr(np, name), lambda rng: [S(np.array([0.0, 1.0, 2.0]), np.array([0.0, 0.0, np.nan]))])
        for name in ("logical_and", "logical_or", "logical_xor")
    ),
    question("logical_not", np.logical_not, SPECIALS),
    bits("bitwise_and", np.bitwise_and, ints(0, 99)),
    bits("bitwise_or", np.bitwise_or, ints(0, 99)),
    bits("bitwise_xor", np.bitwise_xor, ints(0, 99)),
    bits("bitwise_not", np.invert, lambda rng: [S(rng.integers(-9, 9, (3, 4)))]),
    bits("bitwise_left_shift", np.left_shift, ints(0, 9)),
    bits("bitwise_right_shift", np.right_shift, ints(0, 9)),
    bits("gcd", np.gcd, ints(-99, 99)),
    bits("lcm", np.lcm, ints(-99, 99)),
]


def real_of(name: str) -> str:
    return {"complex64": "float32", "complex128": "float64"}.get(name, name)


def complex_of(name: str) -> str:
    return {"float32": "complex64", "float64": "complex128"}[name]


COMPLEX = [
    Record("conj", lambda rng: [S(z(rng, 3, 4)), S(rng.standard_normal(3))], np.conj, linear=True,
           dtypes=("complex64", "complex128")),
    Record("real", lambda rng: [S(z(rng, 3, 4)), S(rng.standard_normal(3))], np.real, linear=True, second=False,
           dtypes=("complex64", "complex128"), out_dtype=real_of),
    Record("imag", lambda rng: [S(z(rng, 3, 4))], np.imag, linear=True, second=False,
           dtypes=("complex64", "complex128"), out_dtype=real_of),
    Record("complex", pair(-2, 2), lambda a, b: a + 1j * b, linear=True, out_dtype=complex_of),
    Record("polar", pair(0.2, 2), lambda a, b: a * np.exp(1j * b), out_dtype=complex_of),
    Record("angle", lambda rng: [S(z(rng, 3, 4)), S(np.array([-1.0, 2.0]))], np.angle,
           dtypes=("complex64", "complex128"), out_dtype=real_of),
    Record("view_as_real", lambda rng: [S(z(rng, 3, 4)), S(z(rng, 4, 3).T)],
           lambda x: np.stack([x.real, x.imag], -1), linear=True, dtypes=("complex64", "complex128"), out_dtype=real_of,
           errors=[Failure(S(np.ones(2)), RuntimeError, "only supported for complex")]),
    Record("view_as_complex", lambda rng: [S(rng.standard_normal((3, 4, 2)))],
           lambda x: x[..., 0] + 1j * x[..., 1], linear=True, out_dtype=complex_of,
           errors=[Failure(S(np.ones((2, 3))), RuntimeError, "size 2")]),
]  # fmt: skip

RECORDS = [*ARITHMETIC, *TRANSCENDENTAL, *COMPARISON, *COMPLEX]
