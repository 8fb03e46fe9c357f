"""The compound in-place updates that the formulas share, rounded in PyTorch's order. All arrays have one shape."""

from __future__ import annotations

from typing import Any

import numpy as np


def is_number(value: Any) -> bool:
    """Whether the host has the value: a Python number, or an array in its memory; else it is an array on a device."""
    return value.__class__ is np.ndarray or not hasattr(value, "dtype")


def read(array: Any) -> Any:
    """A 0-d array's value as a number; the array itself where it is on a device, for which nobody is to wait."""
    return array.item() if array.__class__ is np.ndarray else array


def added(x: Any, y: Any, alpha: Any) -> Any:
    """A new array x + alpha * y."""
    out = y * alpha
    out += x
    return out


def lerp_(x: Any, end: Any, weight: Any) -> None:
    """x += weight * (end - x), taken from the nearer end as PyTorch does."""
    t = end - x
    if weight.__class__ is not float and hasattr(weight, "dtype"):  # on a device: asking which end is nearer would wait
        t *= weight
        x += t
    elif weight < 0.5:
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
