"""Python's operators on Tensors.

The method of a binary operator is the record function of its op, so `x * y` is one call. It is generated a second time,
since an operator answers otherwise to what it cannot take: NotImplemented, so that the other operand is asked, where
the function raises a TypeError.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from .. import codegen, coerce
from ..codegen import ENVIRONMENT
from ..dtypes import F32, F64
from ..inplace import inplace
from ..op import OPS, Op
from ..tensor import Tensor, wrap
from . import complexes, elementwise  # noqa: F401  (complexes fills the table)
from .table import PUBLIC

OPERANDS = (Tensor, *elementwise.NUMBERS)
ARITHMETIC = {
    "add": "add", "sub": "sub", "mul": "mul", "truediv": "div", "floordiv": "floor_divide", "mod": "remainder",
    "and": "bitwise_and", "or": "bitwise_or", "xor": "bitwise_xor", "lshift": "bitwise_left_shift",
    "rshift": "bitwise_right_shift",
}  # fmt: skip
COMMUTATIVE = {"add", "mul"}  # whose record function also serves 2 + x: no op's rule tells its inputs apart
COMPARISONS = ("eq", "ne", "lt", "le", "gt", "ge")


def _check(op: Op, args: tuple[Any, ...]) -> None:
    if op.name == "sub":
        elementwise.check_bool_difference(*args)


def slow_operator(op: Op, args: tuple[Any, ...], kw: dict[str, Any]) -> Any:
    """What the guard of an operator turns away: NotImplemented, or the op on repaired arguments."""
    if not isinstance(args[0], OPERANDS) or not isinstance(args[1], OPERANDS):
        if op.name == "eq" and isinstance(args[1], np.ndarray):  # PyTorch compares with arrays in this one operator
            return OPS["eq"].fn(args[0], wrap(args[1]))
        return NotImplemented
    _check(op, args)
    if op.run is None:
        ENVIRONMENT["materialise"](op.name)
    return coerce.slow(op, args, kw)


def explain_operator(op: Op, error: Exception, arrays: tuple[Any, ...], kw: dict[str, Any]) -> Exception:
    """The exception to raise for a kernel's failure."""
    if op.name == "sub" and arrays[0].dtype.kind == "b":
        _check(op, tuple([Tensor._of(a) for a in arrays]))
    return coerce.explain(op, error, arrays, kw)


ENVIRONMENT.update(slow_operator=slow_operator, explain_operator=explain_operator)


@functools.cache
def operator_of(op_name: str, method: str) -> Callable[..., Any]:
    """The record function of an op, as the method of an operator."""
    ENVIRONMENT["materialise"](op_name)
    op = OPS[op_name]
    source = codegen._record_source(op, method, guard=True)
    for word in ("slow", "explain"):
        source = source.replace(f" {word}(", f" {word}_operator(")
    return codegen._define(op, method, source)


def _set_operator(cls: Any, op_name: str, method: str, made: str | None = None) -> None:
    """Sets a method which at its first call puts the generated function in its place."""

    def first(self: Any, other: Any) -> Any:
        function = operator_of(op_name, made or method)
        function.__wrapped__ = first  # type: ignore[attr-defined]  # for inspect.signature: (self, other)
        setattr(cls, method, function)
        return function(self, other)

    first.__name__ = first.__qualname__ = method
    setattr(cls, method, first)


def _set_reflected(cls: Any, op_name: str, method: str) -> None:
    """Sets `number - tensor` and its like: the number first."""
    op, quick = OPS[op_name], f"st_{op_name}"  # the op's record function for a number and a float tensor

    def reflected(self: Any, other: Any) -> Any:
        c = other.__class__
        if c is float or c is int:
            dt = self.array.dtype
            if (dt is F32 or dt is F64) and (function := ENVIRONMENT.get(quick)) is not None:
                return function(other, self)
        return slow_operator(op, (other, self), {})

    reflected.__name__ = reflected.__qualname__ = method
    setattr(cls, method, reflected)


def _set_inplace(cls: Any, function: Callable[..., Any], word: str, method: str) -> None:
    """Sets `x += y`."""
    write = inplace(function, word)

    def inplace_operator(self: Any, other: Any) -> Any:
        return write(self, other) if isinstance(other, OPERANDS) else NotImplemented

    inplace_operator.__name__ = inplace_operator.__qualname__ = method
    setattr(cls, method, inplace_operator)


# ---- operators with a rule of their own ------------------------------------------------------------------------------


def _pow(self: Any, other: Any) -> Any:
    c = other.__class__
    if c is float or c is int:
        dt = self.array.dtype
        if dt is F32 or dt is F64:
            return _pow_scalar(self, exponent=other)
        return elementwise.pow_number(self, other)
    return elementwise.pow(self, other) if isinstance(other, OPERANDS) else NotImplemented


def _rpow(self: Any, other: Any) -> Any:
    if other.__class__ is int or other.__class__ is float:
        return elementwise.number_pow(other, self)
    return elementwise.pow(other, self) if isinstance(other, OPERANDS) else NotImplemented


def _matmul(self: Any, other: Any) -> Any:
    return _matrix_product(self, other) if isinstance(other, Tensor) else NotImplemented


def _rmatmul(self: Any, other: Any) -> Any:
    return _matrix_product(other, self) if isinstance(other, Tensor) else NotImplemented


def _invert(self: Any) -> Any:
    if self.array.dtype.kind not in "biu":
        raise TypeError("~ (operator.invert) is only implemented on integer and Boolean-type tensors")
    return OPS["bitwise_not"].fn(self)


def _part(name: str) -> property:
    """The attribute .real or .imag."""
    read = PUBLIC[name].function

    def write(self: Any, value: Any) -> None:
        read(self).copy_(value)

    return property(read, write, doc=f"The {name} part, sharing memory.")


_pow_scalar = OPS["pow_scalar"].fn
_matrix_product = PUBLIC["matmul"].function


def attach(cls: Any) -> None:
    """Sets the operators of the Tensor class."""
    for name, op_name in ARITHMETIC.items():
        _set_operator(cls, op_name, f"__{name}__")
        if name in COMMUTATIVE:
            _set_operator(cls, op_name, f"__r{name}__", f"__{name}__")
        else:
            _set_reflected(cls, op_name, f"__r{name}__")
        function = PUBLIC[op_name].function if op_name in PUBLIC else OPS[op_name].fn
        _set_inplace(cls, function, f"{op_name}_", f"__i{name}__")
    for name in COMPARISONS:
        _set_operator(cls, name, f"__{name}__")
    cls.__pow__, cls.__rpow__ = _pow, _rpow
    cls.__matmul__, cls.__rmatmul__ = _matmul, _rmatmul
    cls.__neg__, cls.__abs__, cls.__pos__ = OPS["neg"].fn, OPS["abs"].fn, PUBLIC["positive"].function
    cls.__invert__ = _invert
    cls.__rdiv__ = lambda self, other: self.reciprocal() * other  # Python 2's operator, kept in PyTorch
    cls.real, cls.imag = _part("real"), _part("imag")
    _set_inplace(cls, elementwise.pow, "pow_", "__ipow__")
