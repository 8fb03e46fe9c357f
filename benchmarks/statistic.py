"""The arithmetic of the tables: medians, quartiles, ratios, geometric means, fitted exponents."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from typing import Any


def quartiles(values: Sequence[float]) -> tuple[float, float, float]:
    """The 25 %, 50 % and 75 % points, interpolated; of one value three times that."""
    if len(values) == 1:
        return values[0], values[0], values[0]
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
    return low, middle, high


def geometric_mean(values: Sequence[float]) -> float:
    """exp of the mean logarithm; NaN of nothing."""
    return math.exp(sum(map(math.log, values)) / len(values)) if values else math.nan


def summary(rounds: Sequence[Sequence[float]]) -> dict[str, Any]:
    """Median and quartiles over all samples, and each round's median; seconds per step."""
    low, middle, high = quartiles([sample for one in rounds for sample in one])
    return {
        "seconds": middle, "low": low, "high": high, "samples": sum(map(len, rounds)),
        "rounds": [statistics.median(one) for one in rounds],
    }  # fmt: skip


def agree(losses: Sequence[float], reference: Sequence[float], tolerance: float) -> bool:
    """Whether the first losses of two libraries are the same within `tolerance` (relative, or absolute below 1e-3)."""
    return len(losses) == len(reference) and all(
        math.isfinite(a) and abs(a - b) <= tolerance * max(abs(b), 1e-3) for a, b in zip(losses, reference, strict=True)
    )


def exponent(sizes: Sequence[float], values: Sequence[float]) -> float:
    """The slope of log(value) against log(size) by least squares: 1 is linear growth."""
    x, y = [math.log(s) for s in sizes], [math.log(v) for v in values]
    mean_x, mean_y = sum(x) / len(x), sum(y) / len(y)
    return sum((a - mean_x) * (b - mean_y) for a, b in zip(x, y, strict=True)) / sum((a - mean_x) ** 2 for a in x)
