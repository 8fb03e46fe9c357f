"""Gamma numbers, one after the other as torch draws them: each takes as many normals and uniforms as it happens to.

Source: Marsaglia and Tsang, "A simple method for generating gamma variables", 2000; the order of the draws is that of
ATen/native/Distributions.h. In float64, about 10 us each.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

Array = Any
_THIRD = float(np.float32(1) / np.float32(3))  # as torch writes it


def standard_gamma(generator: Any, alpha: Array) -> Array:
    """Gamma values of shape `alpha` and scale 1. alpha: (*S) -> (*S) float64."""
    alpha = np.asarray(alpha, np.float64)
    with generator._lock:
        made = [_gamma(generator, a) for a in alpha.reshape(-1).tolist()]
    return np.array(made, np.float64).reshape(alpha.shape)


def _gamma(generator: Any, alpha: float) -> float:
    scale = 1.0
    if alpha < 1.0:  # a value of alpha + 1, scaled down, is accepted more often
        if alpha == 0.0:
            return 0.0
        scale = math.pow(1 - float(generator._unit(1)[0]), 1 / alpha)
        alpha += 1
    if not alpha > 0:
        return math.nan
    d = alpha - _THIRD
    c = 1 / math.sqrt(9 * d)
    while True:
        y = 0.0
        while y <= 0:
            x = float(generator._standard_normals(1)[0])
            y = 1 + c * x
        v = y * y * y
        u = 1 - float(generator._unit(1)[0])
        xx = x * x
        if u < 1 - 0.0331 * xx * xx or math.log(u) < 0.5 * xx + d * (1 - v + math.log(v)):
            return scale * d * v
