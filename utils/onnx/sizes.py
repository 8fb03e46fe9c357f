"""Which numbers of a trace are sizes, and how each follows from the sizes of tensors that are at hand.

A program is traced with several sizes of its dynamic axes. A number that comes out the same each time is a constant;
one that does not is a `Dim`: what it was in each trace. Two numbers that were the same in every trace are the same
size, so a `Dim` is looked up among the dimensions of tensors; one that is no dimension is solved for as a function of
one or two of them: a ratio and an offset, a quotient rounded down, a product, a sum or difference.
"""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from itertools import combinations_with_replacement
from typing import Any

MANY = 6  # traces from which on a quotient that is rounded can be told from other functions

# An expression: ("dim", value name, axis), ("const", n), (operator, expression, expression); operators of ONNX.
Expression = tuple[Any, ...]


class Dim(tuple[int, ...]):
    """A number that depends on the dynamic axes: what it was in each trace."""

    __slots__ = ()

    def __repr__(self) -> str:
        return f"<size {' or '.join(map(str, self))}>"


Size = int | Dim


def joined(numbers: Any) -> Size:
    """The number of each trace as one: an int where they agree."""
    first = numbers[0]
    return int(first) if all(n == first for n in numbers) else Dim(int(n) for n in numbers)


def each(function: Callable[..., int], *sizes: Size) -> Size:
    """function(numbers...) in every trace."""
    count = next((len(s) for s in sizes if isinstance(s, Dim)), 1)
    rows = [s if isinstance(s, Dim) else (s,) * count for s in sizes]
    return joined([function(*column) for column in zip(*rows, strict=True)])


def product(sizes: Any) -> Size:
    """The product of sizes."""
    out: Size = 1
    for size in sizes:
        out = each(lambda a, b: a * b, out, size)
    return out


def same(a: Any, b: Any) -> bool:
    """Whether two sizes are equal in every trace."""
    return type(a) is type(b) and a == b


class Sizes:
    """The dimensions that are known, and what other sizes are in terms of them."""

    def __init__(self) -> None:
        self.dims: dict[Dim, tuple[str, int]] = {}
        self.inputs: dict[Dim, str] = {}  # names of the dynamic axes of the graph's inputs
        self._solved: dict[Dim, Expression | None] = {}

    def add(self, name: str, shape: tuple[Size, ...]) -> None:
        """Takes note of the dimensions of a value."""
        for axis, size in enumerate(shape):
            if isinstance(size, Dim) and size not in self.dims:
                self.dims[size] = name, axis

    def expression(self, size: Dim) -> Expression | None:
        """How to compute a size; None where no way was found."""
        if size in self.dims:
            return ("dim", *self.dims[size])
        if self._solved.get(size) is None:
            self._solved[size] = self._solve(size)
        return self._solved[size]

    def _solve(self, size: Dim) -> Expression | None:
        known = list(self.dims)
        for dim in known:
            if (found := _linear(size, dim)) is not None:
                return _of_linear(("dim", *self.dims[dim]), *found)
        for dim in known:
            if (quotient := _rounded(size, dim)) is not None:
                by, plus = quotient
                return "Div", _plus(("dim", *self.dims[dim]), plus), ("const", by)
        for combine, name in ((_times, "Mul"), (_added, "Add"), (_taken, "Sub")):
            for a, b in combinations_with_replacement(known, 2):
                for one, two in ((a, b), (b, a)):
                    if (found := _linear(size, Dim(combine(one, two)))) is not None and found[0] > 0:
                        both = name, ("dim", *self.dims[one]), ("dim", *self.dims[two])
                        return _of_linear(both, *found)
        return self._solve_products(size)

    def _solve_products(self, size: Dim) -> Expression | None:
        """A multiple of the product of several dimensions: what is left after dividing by one is solved again."""
        for dim in self.dims:
            if all(d and n % d == 0 for n, d in zip(size, dim, strict=True)):
                rest = Dim(n // d for n, d in zip(size, dim, strict=True))
                if max(rest) < max(size) and len(set(rest)) > 1 and (inner := self.expression(rest)) is not None:
                    return "Mul", ("dim", *self.dims[dim]), inner
        return None


def _times(a: Dim, b: Dim) -> list[int]:
    return [x * y for x, y in zip(a, b, strict=True)]


def _added(a: Dim, b: Dim) -> list[int]:
    return [x + y for x, y in zip(a, b, strict=True)]


def _taken(a: Dim, b: Dim) -> list[int]:
    return [x - y for x, y in zip(a, b, strict=True)]


def _linear(size: Dim, dim: Dim) -> tuple[Fraction, int] | None:
    """(ratio, offset) with size = ratio * dim + offset in every trace; the ratio's denominator is at most 64."""
    if len(set(dim)) < 3:
        return None
    points = sorted(set(zip(dim, size, strict=True)))
    (x0, y0), (x1, y1) = points[0], points[-1]
    if x0 == x1:
        return None
    ratio = Fraction(y1 - y0, x1 - x0)
    offset = y0 - ratio * x0
    if ratio == 0 or ratio.denominator > 64 or offset.denominator != 1:
        return None
    return (ratio, int(offset)) if all(ratio * x + offset == y for x, y in points) else None


def _rounded(size: Dim, dim: Dim) -> tuple[int, int] | None:
    """(by, plus) with size = (dim + plus) // by in every trace; of few traces, too many such pairs are right."""
    if len(set(dim)) < MANY or len(set(size)) < 2:
        return None
    for by in range(2, 33):
        for plus in sorted(range(-by, 2 * by), key=lambda n: (n not in (0, by - 1), abs(n))):
            if all((x + plus) // by == y for x, y in zip(dim, size, strict=True)):
                return by, plus
    return None


def _of_linear(inner: Expression, ratio: Fraction, offset: int) -> Expression:
    out = inner
    if ratio.numerator != 1:
        out = "Mul", out, ("const", ratio.numerator)
    if ratio.denominator != 1:
        out = "Div", out, ("const", ratio.denominator)
    return _plus(out, offset)


def _plus(inner: Expression, n: int) -> Expression:
    return inner if n == 0 else ("Add", inner, ("const", n))
