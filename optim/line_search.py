"""A line search for the strong Wolfe conditions, as L-BFGS uses it."""

from __future__ import annotations

from collections.abc import Callable
from math import copysign, inf, isnan, sqrt
from typing import Any, NamedTuple


class Point(NamedTuple):
    """A step length t along the direction, and there: the value, the gradient (n,), and the slope along the line."""

    t: float
    f: float
    g: Any
    slope: float


def cubic_minimum(a: Point, b: Point, bounds: tuple[float, float] | None = None) -> float:
    """The minimum, within `bounds`, of the cubic with the values and slopes of two points.

    The middle of the bounds where the cubic has none. Nocedal, Wright: Numerical Optimization, equation 3.59.
    """
    low, high = bounds or (min(a.t, b.t), max(a.t, b.t))
    if a.t > b.t:
        a, b = b, a
    d1 = a.slope + b.slope - 3 * _ratio(a.f - b.f, a.t - b.t)
    square = d1 * d1 - a.slope * b.slope
    if not square >= 0:
        return (low + high) / 2.0
    d2 = sqrt(square)
    t = b.t - (b.t - a.t) * _ratio(b.slope + d2 - d1, b.slope - a.slope + 2 * d2)
    return (low + high) / 2.0 if isnan(t) else min(max(t, low), high)


def _ratio(x: float, y: float) -> float:
    """x / y, with IEEE's infinity where Python raises ZeroDivisionError."""
    if y == 0:
        return x * copysign(inf, y)
    return x / y


def strong_wolfe(
    evaluate: Callable[[float], tuple[float, Any]], t: float, d: Any, start: Point,
    c1: float = 1e-4, c2: float = 0.9, tolerance_change: float = 1e-9, max_ls: int = 25,
) -> tuple[Point, int]:  # fmt: skip
    """A point where f is low enough (c1) and its slope flat enough (c2), and the count of evaluations.

    evaluate(t) -> (value, gradient (n,)) at x + t * d. The best point so far when `max_ls` steps find none. Nocedal,
    Wright: Numerical Optimization, Algorithms 3.5 (bracketing) and 3.6 (zoom).
    """

    def at(t: float) -> Point:
        f, g = evaluate(t)
        return Point(t, f, g, float(g @ d))

    def too_high(point: Point) -> bool:
        return point.f > start.f + c1 * point.t * start.slope

    def flat(point: Point) -> bool:
        return abs(point.slope) <= -c2 * start.slope

    before, point = start, at(t)
    steps = 0
    while steps < max_ls:
        if too_high(point) or (steps > 1 and point.f >= before.f):
            break
        if flat(point):
            return point, steps + 1
        if point.slope >= 0:
            break
        bounds = (point.t + 0.01 * (point.t - before.t), point.t * 10)
        before, point = point, at(cubic_minimum(before, point, bounds))
        steps += 1
    else:
        before = start
    bracket = [before, point]
    low = 0 if before.f <= point.f else 1
    longest = float(abs(d).max())
    stuck = False
    while steps < max_ls and not abs(bracket[1].t - bracket[0].t) * longest < tolerance_change:
        a, b = bracket
        t, stuck = _inside(cubic_minimum(a, b), a, b, stuck)
        point = at(t)
        steps += 1
        if too_high(point) or point.f >= bracket[low].f:
            bracket[1 - low] = point
            low = 0 if bracket[0].f <= bracket[1].f else 1
        elif flat(point):
            return point, steps + 1
        else:
            if point.slope * (bracket[1 - low].t - bracket[low].t) >= 0:
                bracket[1 - low] = bracket[low]
            bracket[low] = point
    return bracket[low], steps + 1


def _inside(t: float, a: Point, b: Point, stuck: bool) -> tuple[float, bool]:
    """t moved a tenth into the bracket when it lies at its end for the second time, or outside."""
    left, right = min(a.t, b.t), max(a.t, b.t)
    margin = 0.1 * (right - left)
    if min(right - t, t - left) >= margin:
        return t, False
    if not (stuck or t >= right or t <= left):
        return t, True
    return (right - margin if abs(t - right) < abs(t - left) else left + margin), False
