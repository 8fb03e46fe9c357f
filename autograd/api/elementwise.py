"""Elementwise functions which are more than one op: numbers in the place of tensors, options, other names.

Ops that are the public function themselves are declared where they are written (`public=` of `@op`).
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from ..coerce import OF_NUMBERS, cast, into, scalar_tensor
from ..dtypes import BOOL, COMPLEX, F32, F64, INT, complex128, dtype, float64, result_dtype, scalar_dtype
from ..inplace import inplace
from ..op import GRAPH, OPS
from ..ops import elementwise as op
from ..ops import rounding
from ..tensor import Tensor, wrap
from . import return_types
from .args import int_of
from .table import PUBLIC, Entry, declare, public

NUMBERS = (bool, int, float, complex, np.number, np.bool_)
NUMBERS_OR_TENSOR = (Tensor, *NUMBERS)


def plain(value: Any) -> Any:
    """A NumPy number as Python's; anything else as it is."""
    return value.item() if isinstance(value, np.generic) else value


def with_number(function: Callable[..., Any]) -> Callable[..., Any]:
    """Declares a public function whose first argument may be a number, with `out=` and the in-place method."""
    name = function.__name__

    @functools.wraps(function)
    def call(*args: Any, out: Any = None, **kwargs: Any) -> Any:
        for position, value in enumerate(args[:2]):
            if not isinstance(value, NUMBERS_OR_TENSOR):
                argument = ("input", "other")[position]
                raise TypeError(
                    f"{name}(): argument '{argument}' (position {position + 1}) must be Tensor or a number, "
                    f"not {type(value).__name__}"
                )
        if name not in OF_NUMBERS and len(args) > 1 and not any(isinstance(value, Tensor) for value in args[:2]):
            raise TypeError(f"{name}(): one of the arguments must be a Tensor, but both are numbers")
        result = function(*[plain(value) for value in args], **kwargs)
        return result if out is None else into(out, name, result)

    PUBLIC[name] = Entry(call, True, True, True)
    return call


def plain_float(t: Tensor, *numbers: Any) -> bool:
    """Whether it is a float32 or float64 tensor beside ints, floats and None: the usual case, of the tensor's dtype."""
    dt = t.array.dtype
    return (dt is F32 or dt is F64) and all(n is None or n.__class__ in (int, float) for n in numbers)


def result_of(*values: Any) -> dtype:
    """The dtype of an op on tensors and numbers, by PyTorch's rules of promotion."""
    tensors = [v for v in values if isinstance(v, Tensor)]
    sized = [t.dtype for t in tensors if t.array.ndim]
    flat = [t.dtype for t in tensors if not t.array.ndim]
    return result_dtype(sized, flat, [scalar_dtype(v) for v in values if v is not None and not isinstance(v, Tensor)])


def in_dtype(t: Tensor, target: dtype) -> Tensor:
    """The tensor in that dtype, recorded; itself where it has it."""
    return t if t.dtype is target else cast(t, target)


# ---- sums, products, quotients ---------------------------------------------------------------------------------------


def check_bool_difference(x: Any, y: Any) -> None:
    """RuntimeError where a bool is subtracted or subtracted from."""
    kinds = [v.array.dtype.kind == "b" if isinstance(v, Tensor) else isinstance(v, bool) for v in (x, y)]
    if all(kinds):
        raise RuntimeError(
            "Subtraction, the `-` operator, with two bool tensors is not supported. Use the `^` or `logical_xor()` "
            "operator instead."
        )
    if any(kinds):
        raise RuntimeError(
            "Subtraction, the `-` operator, with a bool tensor is not supported. If you are trying to invert a mask, "
            "use the `~` or `logical_not()` operator instead."
        )


def _scaled(input: Any, other: Any, alpha: Any) -> Any:
    """alpha * other, as `add(input, other, alpha=alpha)` means it."""
    if alpha.__class__ is int and alpha == 1:
        return other
    category = result_of(input, other).category
    if isinstance(alpha, bool) and category != BOOL:
        raise RuntimeError("Boolean alpha only supported for Boolean results.")
    if isinstance(alpha, float) and category <= INT:
        raise RuntimeError("For integral input tensors, argument alpha must not be a floating point number.")
    if isinstance(alpha, complex) and category != COMPLEX:
        raise RuntimeError("For non-complex input tensors, argument alpha must not be a complex number.")
    if category == BOOL:
        alpha = bool(alpha)
    return op.mul(other, alpha) if isinstance(other, Tensor) else other * alpha


@with_number
def add(input: Any, other: Any, *, alpha: Any = 1) -> Tensor:
    """input + alpha * other. input: (*S), other: (*T) or a number -> (*broadcast(S, T)).

    >>> torch.add(torch.tensor([1.0, 2.0]), torch.tensor([10.0, 20.0]), alpha=0.5)
    tensor([ 6., 12.])
    """
    return op.add(input, _scaled(input, other, alpha))


@with_number
def sub(input: Any, other: Any, *, alpha: Any = 1) -> Tensor:
    """input - alpha * other. input: (*S), other: (*T) or a number -> (*broadcast(S, T)). RuntimeError for bool."""
    check_bool_difference(input, other)
    return op.sub(input, _scaled(input, other, alpha))


@public(method=False)
def rsub(input: Tensor, other: Any, *, alpha: Any = 1) -> Tensor:
    """other - alpha * input. input: (*S), other: (*T) or a number -> (*broadcast(S, T))."""
    check_bool_difference(other, input)
    return op.sub(other, _scaled(other, input, alpha))


@with_number
def div(input: Any, other: Any, *, rounding_mode: str | None = None) -> Tensor:
    """input / other; with rounding_mode "floor" or "trunc" rounded down or towards zero, integers staying integers.

    input: (*S), other: (*T) or a number -> (*broadcast(S, T)).
    """
    if rounding_mode is None:
        return op.div(input, other)
    if rounding_mode == "floor":
        return op.floor_divide(input, other)
    if rounding_mode == "trunc":
        return op.div_trunc(input, other)
    raise RuntimeError(
        f"div expected rounding_mode to be one of None, 'trunc', or 'floor' but found '{rounding_mode}'"
    )


@with_number
def true_divide(input: Any, other: Any) -> Tensor:
    """input / other. input: (*S), other: (*T) or a number -> (*broadcast(S, T))."""
    return op.div(input, other)


@public(inplace=True)
def addcmul(input: Tensor, tensor1: Tensor, tensor2: Tensor, *, value: Any = 1) -> Tensor:
    """input + value * tensor1 * tensor2. (*S), (*T), (*U) -> (*broadcast(S, T, U))."""
    only_tensors("addcmul", tensor1=tensor1, tensor2=tensor2)
    return op.addcmul(input, tensor1, tensor2, value=_value_in(value, input, tensor1, tensor2))


@public(inplace=True)
def addcdiv(input: Tensor, tensor1: Tensor, tensor2: Tensor, *, value: Any = 1) -> Tensor:
    """input + value * tensor1 / tensor2. (*S), (*T), (*U) -> (*broadcast(S, T, U)). RuntimeError for integers."""
    only_tensors("addcdiv", tensor1=tensor1, tensor2=tensor2)
    if tensor1.dtype.category <= INT and tensor2.dtype.category <= INT:
        raise RuntimeError(
            "Integer division with addcdiv is no longer supported, and in a future  release addcdiv will perform a "
            "true division of tensor1 and tensor2. Use (input + value * torch.trunc(tensor1 / tensor2)).to("
            "input.dtype) or convert the inputs to floating point first."
        )
    return op.addcdiv(input, tensor1, tensor2, value=_value_in(value, input, tensor1, tensor2))


def _value_in(value: Any, *tensors: Tensor) -> Any:
    """A factor as a number of the result's category: PyTorch cuts 0.5 to 0 between integers."""
    return int(value) if isinstance(value, float) and result_of(*tensors).category <= INT else value


def only_tensors(name: str, **arguments: Any) -> None:
    """TypeError where an argument is no Tensor."""
    for argument, value in arguments.items():
        if not isinstance(value, Tensor):
            raise TypeError(f"{name}(): argument '{argument}' must be Tensor, not {type(value).__name__}")


@public(inplace=True)
def lerp(input: Tensor, end: Tensor, weight: Any) -> Tensor:
    """input + weight * (end - input). input: (*S), end: (*T), weight: (*U) or a number -> (*broadcast)."""
    only_tensors("lerp", end=end)
    if isinstance(weight, Tensor):
        if not weight.array.ndim and weight.dtype is not input.dtype:
            weight = cast(weight, input.dtype)
        return op.lerp(input, end, weight)
    if not isinstance(weight, NUMBERS):
        raise TypeError(f"lerp(): argument 'weight' must be Tensor or a number, not {type(weight).__name__}")
    if isinstance(weight, complex) and not input.dtype.is_complex:
        raise RuntimeError(f"value cannot be converted to type {input.dtype.name} without overflow")
    return op.lerp_scalar(input, end, weight=plain(weight))


# ---- powers ----------------------------------------------------------------------------------------------------------


def pow_number(x: Tensor, exponent: Any) -> Tensor:
    """x ** exponent for a number: of x's dtype unless the number is of a higher category. (*S) -> (*S)."""
    if plain_float(x, exponent):
        return op.pow_scalar(x, exponent=exponent)
    target = result_of(x, exponent)
    if target.category <= INT and exponent < 0:
        raise RuntimeError("Integers to negative integer powers are not allowed.")
    if target.category == INT and not -(1 << (8 * target.itemsize - 1)) <= exponent < 1 << (8 * target.itemsize):
        raise RuntimeError(f"value cannot be converted to type {target.name}_t without overflow")
    if target.category == BOOL:
        return wrap(x.array | (not exponent))
    return op.pow_scalar(in_dtype(x, target), exponent=exponent)


def number_pow(base: Any, y: Tensor) -> Tensor:
    """base ** y for a number as base. (*S) -> (*S)."""
    if plain_float(y, base):
        return op.pow_base(y, base=base)
    return op.pow_base(in_dtype(y, result_of(y, base)), base=base)


@with_number
def pow(input: Any, exponent: Any) -> Tensor:
    """input ** exponent, of which one may be a number. input: (*S), exponent: (*T) -> (*broadcast(S, T)).

    >>> torch.pow(torch.tensor([1, 2, 3]), 2)
    tensor([1, 4, 9])
    """
    if not isinstance(exponent, Tensor):
        return pow_number(input, exponent)
    return op.pow(input, exponent) if isinstance(input, Tensor) else number_pow(input, exponent)


@with_number
def float_power(input: Any, exponent: Any) -> Tensor:
    """input ** exponent in double precision. input: (*S), exponent: (*T) or numbers -> (*broadcast(S, T))."""
    values = (input, exponent)
    target = complex128 if result_of(*values).is_complex else float64
    return pow(*(in_dtype(v, target) if isinstance(v, Tensor) else v for v in values))


@public
def positive(input: Tensor) -> Tensor:
    """The tensor itself. (*S) -> (*S). RuntimeError for bool."""
    if input.array.dtype.kind == "b":
        raise RuntimeError("The `+` operator, on a bool tensor is not supported.")
    return input


# ---- bounds, choices -------------------------------------------------------------------------------------------------


def _clamped(name: str, input: Tensor, min: Any, max: Any) -> Tensor:
    if min is None and max is None:
        raise RuntimeError("torch.clamp: At least one of 'min' or 'max' must not be None")
    if plain_float(input, min, max):
        return op.clamp(input, min=min, max=max)
    if input.dtype.is_complex:
        raise NotImplementedError(f"{name} is not supported for complex types")
    for value in (min, max):
        if value is not None and not isinstance(value, Tensor) and not isinstance(value, NUMBERS):
            raise TypeError(f"{name}(): the bounds must be Tensors or numbers, not {type(value).__name__}")
        if isinstance(value, complex):
            raise RuntimeError("value cannot be converted to type double without overflow")
    min, max = plain(min), plain(max)
    target = result_of(input, min, max)
    if isinstance(min, Tensor) or isinstance(max, Tensor):
        bounds = [b if b is None or isinstance(b, Tensor) else scalar_tensor(b, input, target.np) for b in (min, max)]
        if max is None:
            return op.clamp_min_tensor(input, bounds[0])
        return op.clamp_max_tensor(input, bounds[1]) if min is None else op.clamp_tensor(input, *bounds)
    if target.category == INT:
        low, high = (0, 1 << 8 * target.itemsize) if not target.is_signed else _signed_range(target)
        for value in (min, max):
            if value is not None and not low <= value < high:
                raise RuntimeError(f"value cannot be converted to type {target.name}_t without overflow")
    return op.clamp(in_dtype(input, target), min=min, max=max)


def _signed_range(d: dtype) -> tuple[int, int]:
    half = 1 << (8 * d.itemsize - 1)
    return -half, half


@public(inplace=True)
def clamp(input: Tensor, min: Any = None, max: Any = None) -> Tensor:
    """input, but at least min, and then at most max: numbers, tensors, or None. (*S) -> (*broadcast(S, T, U)).

    The gradient at a bound belongs to the input.

    >>> torch.tensor([-2.0, 0.5, 3.0]).clamp(-1, 1)
    tensor([-1.0000,  0.5000,  1.0000])
    """
    return _clamped("clamp", input, min, max)


@public(inplace=True)
def clamp_min(input: Tensor, min: Any) -> Tensor:
    """input, but at least min. input: (*S), min: (*T) or a number -> (*broadcast(S, T))."""
    return _clamped("clamp_min", input, min, None)


@public(inplace=True)
def clamp_max(input: Tensor, max: Any) -> Tensor:
    """input, but at most max. input: (*S), max: (*T) or a number -> (*broadcast(S, T))."""
    return _clamped("clamp_max", input, None, max)


@public(method=False, name="where")
def where(condition: Tensor, input: Any = None, other: Any = None) -> Any:
    """input where the condition holds, else other: tensors or numbers. (*S) bool, (*T), (*U) -> (*broadcast).

    With the condition alone, the indices of its true elements, one tensor per dimension, as `nonzero(as_tuple=True)`.
    """
    if not isinstance(condition, Tensor):
        raise TypeError(
            f"where(): argument 'condition' (position 1) must be Tensor, not {type(condition).__name__}"
        )
    if input is None and other is None:
        return PUBLIC["nonzero"].function(condition, as_tuple=True)
    kind = condition.array.dtype
    if kind.kind != "b":
        if kind.name != "uint8":
            raise RuntimeError(
                "where expected condition to be a boolean tensor, but got a tensor with dtype "
                f"{condition.dtype.legacy}"
            )
        condition = wrap(condition.array != 0)
    for argument, value in (("input", input), ("other", other)):
        if not isinstance(value, Tensor) and not isinstance(value, NUMBERS):
            raise TypeError(f"where(): argument '{argument}' must be Tensor or a number, not {type(value).__name__}")
    if not isinstance(input, Tensor):
        like = other if isinstance(other, Tensor) else condition
        input = scalar_tensor(plain(input), like, result_of(input, other).np)
    if not isinstance(other, Tensor):
        other = scalar_tensor(plain(other), input, result_of(input, other).np)
    return op.where(condition, input, other)


def _where_method(self: Tensor, condition: Tensor, other: Any) -> Tensor:
    """This tensor where the condition holds, else other. (*S), condition: (*T) bool, other: (*U) -> (*broadcast)."""
    return where(condition, self, other)


Tensor.where = _where_method  # type: ignore[attr-defined]  # the only method whose first argument is not the function's


@public(inplace=True)
def round(input: Tensor, *, decimals: int = 0) -> Tensor:
    """input to that many decimals, halves to the even digit. (*S) -> (*S).

    >>> torch.round(torch.tensor([0.5, 1.5, 2.5]))
    tensor([0., 2., 2.])
    """
    return rounding.round(input, decimals=int_of(decimals, "round", "decimals"))


@public(inplace=True)
def nan_to_num(
    input: Tensor, nan: float | None = None, posinf: float | None = None, neginf: float | None = None
) -> Tensor:
    """input with NaN as nan (default 0), infinities as posinf and neginf (default: the largest). (*S) -> (*S)."""
    for word, number in (("nan", nan), ("posinf", posinf), ("neginf", neginf)):
        if number is not None and not isinstance(number, (int, float)):
            raise TypeError(f"nan_to_num(): argument '{word}' must be float, not {type(number).__name__}")
    return rounding.nan_to_num(input, nan=0.0 if nan is None else nan, posinf=posinf, neginf=neginf)


@public
def frexp(input: Tensor) -> Any:
    """(mantissa, exponent) with mantissa * 2**exponent = input, 0.5 <= |mantissa| < 1. (*S) -> (*S), (*S) int32."""
    if not input.dtype.is_floating_point:
        raise RuntimeError("torch.frexp() only supports floating-point dtypes")
    return return_types.frexp(rounding.frexp(input))


# ---- comparisons -----------------------------------------------------------------------------------------------------


@public
def equal(input: Tensor, other: Tensor) -> bool:
    """Whether both have the same shape and elements. Gives a Python bool. input: (*S), other: (*T)."""
    only_tensors("equal", other=other)
    x, y = input.array, other.array
    return x.shape == y.shape and bool((x == y).all())


@public
def is_nonzero(input: Tensor) -> bool:
    """Whether the one element of the tensor is not 0. RuntimeError for more or fewer elements."""
    return bool(input)


@public
def isclose(input: Tensor, other: Tensor, rtol: float = 1e-05, atol: float = 1e-08, equal_nan: bool = False) -> Tensor:
    """Whether |input - other| <= atol + rtol * |other|, or both are equal. (*S), (*T) -> (*broadcast(S, T)) bool."""
    only_tensors("isclose", other=other)
    if input.dtype is not other.dtype:
        raise RuntimeError(f"{input.dtype.legacy} did not match {other.dtype.legacy}")
    for name, value in (("rtol", rtol), ("atol", atol)):
        if not value >= 0:
            raise RuntimeError(f"{name} must be greater than or equal to zero, but got {value}")
    return GRAPH.isclose(input, other, rtol=rtol, atol=atol, equal_nan=equal_nan)


@public
def allclose(input: Tensor, other: Tensor, rtol: float = 1e-05, atol: float = 1e-08, equal_nan: bool = False) -> bool:
    """Whether `isclose` holds everywhere. Gives a Python bool. input: (*S), other: (*T)."""
    return bool(isclose(input, other, rtol, atol, equal_nan).array.all())


# ---- special functions -----------------------------------------------------------------------------------------------


@public(inplace=True)
def logit(input: Tensor, eps: float | None = None) -> Tensor:
    """log(input / (1 - input)); input is first brought into [eps, 1 - eps], where eps is given. (*S) -> (*S)."""
    return GRAPH.logit(input, eps=eps)


def _polygamma(n: int, input: Tensor) -> Tensor:
    if n < 0:
        raise RuntimeError("polygamma(n, x) does not support negative n.")
    return GRAPH.polygamma(input, order=n) if n else GRAPH.digamma(input)


@public(method=False)
def polygamma(n: int, input: Tensor) -> Tensor:
    """The n-th derivative of digamma, n >= 0. input: (*S) -> (*S)."""
    if isinstance(n, Tensor):
        raise TypeError("polygamma(): argument 'n' (position 1) must be int, not Tensor")
    return _polygamma(int_of(n, "polygamma", "n"), input)


def _polygamma_method(self: Tensor, n: int) -> Tensor:
    """The n-th derivative of digamma at this tensor. (*S) -> (*S)."""
    return _polygamma(int_of(n, "polygamma", "n"), self)


Tensor.polygamma = _polygamma_method  # type: ignore[attr-defined]
Tensor.polygamma_ = inplace(_polygamma_method, "polygamma_")  # type: ignore[attr-defined]


@public(inplace=True)
def mvlgamma(input: Tensor, p: int) -> Tensor:
    """The log of the multivariate gamma function of dimension p, for input > (p - 1) / 2. (*S) -> (*S)."""
    if p < 1:
        raise RuntimeError(f"p has to be greater than or equal to 1, but got {p}")
    terms = [GRAPH.lgamma(input - j / 2) for j in range(p)]
    return functools.reduce(op.add, terms) + p * (p - 1) / 4 * math.log(math.pi)


# ---- activations that PyTorch has at its top level -------------------------------------------------------------------

SELU_ALPHA, SELU_SCALE = 1.6732632423543772848170429916717, 1.0507009873554804934193349852946


@public(method=False)
def selu(input: Tensor) -> Tensor:
    """scale * (input where positive, else alpha * (exp(input) - 1)). (*S) -> (*S). arXiv:1706.02515."""
    return GRAPH.elu(input, alpha=SELU_ALPHA, scale=SELU_SCALE)


@public(method=False)
def celu(input: Tensor, alpha: float = 1.0) -> Tensor:
    """input where positive, else alpha * (exp(input / alpha) - 1). (*S) -> (*S). arXiv:1704.07483."""
    if alpha == 0:
        raise RuntimeError("ZeroDivisionError: alpha cannot be 0 for CELU")
    return GRAPH.elu(input, alpha=alpha, input_scale=1 / alpha)


@public(method=False)
def threshold(input: Tensor, threshold: float, value: float) -> Tensor:
    """input where it is larger than threshold, else value. (*S) -> (*S)."""
    return GRAPH.threshold(input, threshold=threshold, value=value)


@public
def hardshrink(input: Tensor, lambd: float = 0.5) -> Tensor:
    """input, and 0 where |input| <= lambd. (*S) -> (*S)."""
    return GRAPH.hardshrink(input, lambd=lambd)


@public
def prelu(input: Tensor, weight: Tensor) -> Tensor:
    """input where positive, else weight * input; weight: (1) or (C), S = (N, C, ...). (*S) -> (*S)."""
    only_tensors("prelu", weight=weight)
    n, shape = weight.array.size, input.array.shape
    if weight.array.ndim > 1:
        raise RuntimeError(f"prelu: Expected `weight` to be a scalar or 1D tensor, but got: ndim = {weight.array.ndim}")
    if n != 1:
        if not shape:
            raise RuntimeError("Not allow zero-dim input tensor.")
        channels = shape[1] if len(shape) > 1 else 1
        if n != channels:
            raise RuntimeError(
                f"Mismatch of parameter numbers and input channel size. Found parameter numbers = {n} and channel "
                f"size = {channels}."
            )
    if len(shape) > 1 and weight.array.ndim:
        weight = GRAPH.reshape(weight, shape=(1, n) + (1,) * (len(shape) - 2))
    elif weight.array.ndim and not shape:
        weight = GRAPH.reshape(weight, shape=())
    return GRAPH.prelu(input, weight)


# ---- other names -----------------------------------------------------------------------------------------------------

ALIASES = {
    "absolute": "abs", "negative": "neg", "subtract": "sub", "multiply": "mul", "divide": "div", "clip": "clamp",
    "fix": "trunc", "arcsin": "asin", "arccos": "acos", "arctan": "atan", "arcsinh": "asinh", "arccosh": "acosh",
    "arctanh": "atanh", "arctan2": "atan2", "not_equal": "ne", "less": "lt", "less_equal": "le", "greater": "gt",
    "greater_equal": "ge",
}  # fmt: skip
for _alias, _name in ALIASES.items():
    if _name in PUBLIC:
        PUBLIC[_alias] = PUBLIC[_name]
    else:
        declare(_alias, OPS[_name].fn, True)

# torch.special's names for functions of the top level.
SPECIAL = {
    "digamma": "digamma", "erf": "erf", "erfc": "erfc", "erfinv": "erfinv", "exp2": "exp2", "expit": "sigmoid",
    "expm1": "expm1", "gammaln": "lgamma", "log1p": "log1p", "logit": "logit", "multigammaln": "mvlgamma",
    "polygamma": "polygamma", "psi": "digamma", "round": "round", "sinc": "sinc", "xlogy": "xlogy",
}  # fmt: skip
