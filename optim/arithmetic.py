"""The compound in-place updates that the formulas share, rounded in PyTorch's order. All arrays have one shape."""

from __future__ import annotations

from typing import Any


def added(x: Any, y: Any, alpha: Any) -> Any:
    """A new array x + alpha * y."""
    out = y * alpha
    out += x
    return out


def lerp_(x: Any, end: Any, weight: Any) -> None:
    """x += weight * (end - x), taken from the nearer end as PyTorch does."""
    t = end - x
    if weight < 0.5:
        t *= weight
        x += t
    else:
        t *= 1 - weight
        x[...] = end - t


def addcmul_(x: Any, a: Any, b: Any, value: Any) -> None:
    """x += value * a * b."""
    t = a * value
    t *= b
    x += t


def addcdiv_(x: Any, a: Any, b: Any, value: Any) -> None:
    """x += value * a / b."""
    t = a * value
    t /= b
    x += t
