"""The dtype of results: every pair of dtypes, with and without dimensions, and Python numbers, beside PyTorch."""

from __future__ import annotations

import itertools
import operator
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import tapegrad
from both import Programs, kind, said

program = Programs()
NAMES = "bool uint8 int8 int16 int32 int64 float16 bfloat16 float32 float64 complex64 complex128".split()
NUMBERS: dict[str, Any] = {
    "True": True,
    "2": 2,
    "-3": -3,
    "2.5": 2.5,
    "1j": 1 + 2j,
    "numpy 1.5": np.float64(1.5),
    "numpy 2": np.int32(2),
}
OPERATORS: dict[str, Callable[[Any, Any], Any]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "/": operator.truediv,
    "//": operator.floordiv,
    "%": operator.mod,
    "**": operator.pow,
    "<": operator.lt,
    "==": operator.eq,
    "!=": operator.ne,
    ">=": operator.ge,
    "&": operator.and_,
    "|": operator.or_,
    "^": operator.xor,
    "<<": operator.lshift,
    ">>": operator.rshift,
}
INPLACE = {
    w + "=": getattr(operator, f)
    for w, f in (
        ("+", "iadd"),
        ("*", "imul"),
        ("/", "itruediv"),
        ("-", "isub"),
        ("//", "ifloordiv"),
        ("**", "ipow"),
        ("&", "iand"),
    )
}
FUNCTIONS = """
add sub mul div true_divide floor_divide remainder fmod pow maximum minimum fmax fmin atan2 logical_and logical_or
logical_xor eq ne lt le gt ge bitwise_and bitwise_or bitwise_xor copysign hypot nextafter gcd lcm heaviside
logaddexp xlogy float_power ldexp where_ lerp_ addcmul_ cat_ stack_ dot_ matmul_ equal rsub""".split()


MORE_BOOL = (
    "ldexp",
    "addcmul_",
    "dot_",
    "matmul_",
)  # no kernels for bool there


def tensor(T: Any, name: str, shape: str) -> Any:
    """Small values that every dtype has, none of them zero."""
    values = [1, 1, 1] if name == "bool" else [3, 1, 2]
    t = T.tensor(values).to(getattr(T, name))
    return t if shape == "sized" else t[0]


def refused(call: Callable[[], Any]) -> Any:
    """The value of a call; "refused" for a RuntimeError (NotImplementedError is one); else the exception."""
    value = kind(call)
    return "refused" if getattr(value, "type", "") in ("RuntimeError", "NotImplementedError") else value


def signature(T: Any, value: Any) -> Any:
    """dtype, shape, and the values as far as they are finite, comparable numbers."""
    if not isinstance(value, T.Tensor):
        return value
    return [repr(value.dtype), tuple(value.shape), value.detach()]


HALVES = {"float16"}


def _pairs(shape_a: str, shape_b: str) -> list[tuple[str, str]]:
    return [
        (a, b)
        for a, b in itertools.product(NAMES, NAMES)
        if not (HALVES & {a, b} and "complex" in a + b and shape_a != shape_b)
    ]


def _operators(T: Any, shape_a: str, shape_b: str, table: dict[str, Any]) -> Any:
    found = {}
    for word, function in table.items():
        for a, b in _pairs(shape_a, shape_b):
            x, y = tensor(T, a, shape_a), tensor(T, b, shape_b)
            found[f"{a} {word} {b}"] = refused(lambda f=function, x=x, y=y: signature(T, f(x, y)))
    return found


@program
def sized_with_sized(T):
    return _operators(T, "sized", "sized", OPERATORS)


@program
def sized_with_flat(T):
    return _operators(T, "sized", "flat", OPERATORS)


@program
def flat_with_sized(T):
    return _operators(T, "flat", "sized", OPERATORS)


@program
def flat_with_flat(T):
    return _operators(T, "flat", "flat", OPERATORS)


@program
def in_place_sized(T):
    return _operators(T, "sized", "sized", INPLACE)


@program
def in_place_with_flat(T):
    return _operators(T, "sized", "flat", INPLACE)


def _numbers(T: Any, shape: str, table: dict[str, Any], reflected: bool) -> Any:
    found = {}
    for word, function in table.items():
        for name, (text, number) in itertools.product(NAMES, NUMBERS.items()):
            if text == "1j" and name in ("float16", "bfloat16") or (reflected and text.startswith("numpy")):
                continue
            x = tensor(T, name, shape)
            call = (
                (lambda f=function, x=x, n=number: f(n, x))
                if reflected
                else (lambda f=function, x=x, n=number: f(x, n))
            )
            found[f"{text} {word} {name}" if reflected else f"{name} {word} {text}"] = refused(
                lambda call=call: signature(T, call())
            )
    return found


@program
def sized_with_numbers(T):
    return _numbers(T, "sized", OPERATORS, False)


@program
def numbers_with_sized(T):
    return _numbers(T, "sized", OPERATORS, True)


@program
def flat_with_numbers(T):
    return _numbers(T, "flat", OPERATORS, False)


@program
def numbers_with_flat(T):
    return _numbers(T, "flat", OPERATORS, True)


@program
def in_place_with_numbers(T):
    return _numbers(T, "sized", INPLACE, False)


def _function(T: Any, name: str) -> Callable[[Any, Any], Any]:
    special: dict[str, Callable[[Any, Any], Any]] = {
        "where_": lambda x, y: T.where(T.tensor([True, False, True]), x, y),
        "lerp_": lambda x, y: T.lerp(x, y, 0.5),
        "addcmul_": lambda x, y: T.addcmul(x, y, y),
        "cat_": lambda x, y: T.cat([x, y]),
        "stack_": lambda x, y: T.stack([x, y]),
        "dot_": lambda x, y: T.dot(x, y),
        "matmul_": lambda x, y: x @ y,
    }
    return special.get(name) or getattr(T, name)


def _functions(T: Any, shape_a: str, shape_b: str) -> Any:
    found = {}
    for word in FUNCTIONS:
        function = said(_function, T, word)
        for a, b in _pairs(shape_a, shape_b):
            if word in MORE_BOOL and "bool" in (a, b) or word == "ldexp" and "complex" in a:
                continue
            x, y = tensor(T, a, shape_a), tensor(T, b, shape_b)
            found[f"{word}({a}, {b})"] = refused(lambda f=function, x=x, y=y: signature(T, f(x, y)))
    return found


@program
def functions_sized(T):
    return _functions(T, "sized", "sized")


@program
def functions_mixed(T):
    return _functions(T, "sized", "flat")


UNARY = """
abs neg exp log sin sqrt rsqrt reciprocal square sign floor ceil round trunc frac sigmoid tanh erf isnan isfinite
isinf logical_not bitwise_not sum prod mean std var max min argmax argmin all any cumsum cumprod sort median mode
norm logsumexp softmax_ relu_ sgn angle positive count_nonzero amax amin aminmax unique nansum clamp_ deg2rad exp2
expm1 log1p log2 log10 logit digamma lgamma sinc signbit nonzero flip roll_ diff conj real imag isreal""".split()


@program
def one_argument(T):
    special: dict[str, Any] = {
        "softmax_": lambda x: T.softmax(x, 0),
        "relu_": lambda x: T.relu(x),
        "clamp_": lambda x: T.clamp(x, 1, 2.5),
        "roll_": lambda x: T.roll(x, 1),
        "flip": lambda x: T.flip(x, [0]),
        "imag": lambda x: T.imag(x),
    }
    found = {}
    for word in UNARY:
        function = special.get(word) or getattr(T, word)
        for name in NAMES:
            x = tensor(T, name, "sized")

            def call(function=function, x=x):
                value = function(x)
                return [signature(T, v) for v in value] if isinstance(value, tuple) else signature(T, value)

            found[f"{word}({name})"] = kind(call)
    return found


@program
def results_with_another_default(T):
    T.set_default_dtype(T.float64)
    try:
        i, x, b = T.tensor([1, 2]), T.tensor([1.5], dtype=T.float32), T.tensor([True])
        return [
            (i / 2).dtype,
            (i * 1.5).dtype,
            (x * 1.5).dtype,
            (b * 1.5).dtype,
            i.sqrt().dtype,
            i.float().mean().dtype,
            (i * 1j).dtype,
            (x * 1j).dtype,
            (b / b).dtype,
            T.tensor(1.5).dtype,
        ]
    finally:
        T.set_default_dtype(T.float32)


@program
def integers_wrap(T):
    u, c = T.tensor([0, 1, 255], dtype=T.uint8), T.tensor([-128, 0, 127], dtype=T.int8)
    return [
        u - 1,
        u + 1,
        u * 2,
        -u,
        u + 300,
        c + 1,
        c * 2,
        c - 1,
        -c,
        abs(c),
        u // 2,
        c // 2,
        c % 3,
        u % 7,
        c >> 1,
        c << 1,
        ~u,
        ~c,
        u + c,
        u.sum(),
        c.prod(),
    ]


@program
def gradients_keep_the_dtype_of_their_inputs(T):
    found = []
    for a, b in itertools.product(("float16", "bfloat16", "float32", "float64"), repeat=2):
        for shape in ("sized", "flat"):
            x, y = tensor(T, a, "sized").requires_grad_(), tensor(T, b, shape).requires_grad_()
            z = x * y + x / y
            z.sum().backward()
            found.append([z.dtype, x.grad.dtype, y.grad.dtype, x.grad.float(), y.grad.float()])
    x = T.ones(2, requires_grad=True)
    (x * T.tensor([1, 2]) + T.tensor(2.0, dtype=T.float64) * x).sum().backward()
    z = T.ones(2, dtype=T.complex64, requires_grad=True)
    (z * x).abs().sum().backward()
    return [*found, x.grad, z.grad]


@pytest.mark.parametrize("name", program)
def test_program(name: str) -> None:
    """Result dtypes, values, and which pairs are refused."""
    program.check(name, rtol=1e-6)


def test_the_wider_tensor_decides_and_numbers_do_not() -> None:
    T = tapegrad
    x = T.ones(2)
    assert (x * 2.5).dtype is T.float32 and (x * T.tensor(2.0, dtype=T.float64)).dtype is T.float32
    assert (x * T.ones(2, dtype=T.float64)).dtype is T.float64
    assert (T.ones(2, dtype=T.float16) * T.tensor(2, dtype=T.int64)).dtype is T.float16
    assert (T.tensor([1, 2]) * 1.5).dtype is T.float32 and (T.tensor([1, 2]) / 2).dtype is T.float32
