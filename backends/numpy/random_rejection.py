"""torch's CPU samplers that draw until a draw is accepted: gamma, Poisson and binomial, one seed giving torch's values.

How many words a value takes depends on the values, so each element is drawn in turn, in Python: about 10 us each.
Sources: Marsaglia and Tsang, "A simple method for generating gamma variables" (2000); Hoermann, "The transformed
rejection method for generating Poisson random variables" (1993) and "The generation of binomial random variates"
(1993); the order of the draws is that of ATen/native/Distributions.h. All arithmetic is float64.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

Array = np.ndarray


def _each(generator: Any, sample: Callable[..., float], *parameters: Array) -> Array:
    """sample(uniform, normal, *element) for the elements of broadcast float64 arrays, in row-major order. -> (*S)."""

    def uniform() -> float:
        return float(generator._unit(1)[0])

    def normal() -> float:
        return float(generator._standard_normals(1)[0])

    arrays = np.broadcast_arrays(*(np.asarray(p, np.float64) for p in parameters))
    out = np.empty(arrays[0].shape)
    flat = out.reshape(-1)
    with generator._lock:
        for i, element in enumerate(zip(*(a.reshape(-1).tolist() for a in arrays), strict=True)):
            flat[i] = sample(uniform, normal, *element)
    return out


def standard_gamma(generator: Any, alpha: Array) -> Array:
    """Gamma values of shape `alpha` and scale 1. alpha: (*S) -> (*S) float64."""
    return _each(generator, _gamma, alpha)


_THIRD = float(np.float32(1) / np.float32(3))  # as torch writes it


def _gamma(uniform: Callable[[], float], normal: Callable[[], float], alpha: float) -> float:
    scale = 1.0
    if alpha < 1.0:  # a value of alpha + 1, scaled down, is accepted more often
        if alpha == 0.0:
            return 0.0
        scale = math.pow(1 - uniform(), 1 / alpha)
        alpha += 1
    if not alpha > 0:
        return math.nan
    d = alpha - _THIRD
    c = 1 / math.sqrt(9 * d)
    while True:
        x = normal()
        y = 1 + c * x
        while y <= 0:
            x = normal()
            y = 1 + c * x
        v = y * y * y
        u = 1 - uniform()
        xx = x * x
        if u < 1 - 0.0331 * xx * xx or math.log(u) < 0.5 * xx + d * (1 - v + math.log(v)):
            return scale * d * v


def poisson(generator: Any, rate: Array) -> Array:
    """Poisson counts. rate: (*S), not negative -> (*S) float64."""
    return _each(generator, _poisson, rate)


def _poisson(uniform: Callable[[], float], normal: Callable[[], float], rate: float) -> float:
    if rate == 0:
        return 0.0
    if rate < 10:  # the number of uniforms whose product stays above exp(-rate)
        bound, product, count = math.exp(-rate), 1.0, 0
        while True:
            product *= uniform()
            if product <= bound:
                return float(count)
            count += 1
    root = math.sqrt(rate)
    b = 0.931 + 2.53 * root
    a = -0.059 + 0.02483 * b
    inverse_alpha = 1.1239 + 1.1328 / (b - 3.4)
    v_r = 0.9277 - 3.6224 / (b - 2)
    while True:
        u = uniform() - 0.5
        v = uniform()
        us = 0.5 - abs(u)
        k = math.floor((2 * a / us + b) * u + rate + 0.43) if us else -1
        if us >= 0.07 and v <= v_r:
            return float(k)
        if k < 0 or (us < 0.013 and v > us):
            continue
        left = math.log(v) + math.log(inverse_alpha) - math.log(a / (us * us) + b) if v else -math.inf
        if left <= -rate + k * math.log(rate) - math.lgamma(k + 1):
            return float(k)


def binomial(generator: Any, count: Array, prob: Array) -> Array:
    """Successes in `count` trials. count, prob: (*S), (*T) -> (*broadcast(S, T)) float64."""
    return _each(generator, _binomial, count, prob)


def _binomial(uniform: Callable[[], float], normal: Callable[[], float], count: float, prob: float) -> float:
    if count <= 0 or prob <= 0:
        return 0.0
    if prob >= 1:
        return count
    if math.isnan(prob):
        return math.nan
    if prob > 0.5:
        q = 1 - prob
        return count - (_transformed if count * q >= 10 else _inversion)(uniform, count, q)
    return (_transformed if count * prob >= 10 else _inversion)(uniform, count, prob)


def _inversion(uniform: Callable[[], float], count: float, prob: float) -> float:
    """Adds up geometric waiting times."""
    log_failure = math.log1p(-prob)
    total, successes = 0.0, 0
    while True:
        u = uniform()
        total += math.ceil(math.log(u) / log_failure) if u else math.inf
        if total > count:
            return float(successes)
        successes += 1


def _transformed(uniform: Callable[[], float], count: float, prob: float) -> float:
    """Hoermann's BTRS."""
    stddev = math.sqrt(count * prob * (1 - prob))
    b = 1.15 + 2.53 * stddev
    a = -0.0873 + 0.0248 * b + 0.01 * prob
    c = count * prob + 0.5
    v_r = 0.92 - 4.2 / b
    r = prob / (1 - prob)
    alpha = (2.83 + 5.1 / b) * stddev
    m = math.floor((count + 1) * prob)
    while True:
        u = uniform() - 0.5
        v = uniform()
        us = 0.5 - abs(u)
        k = math.floor((2 * a / us + b) * u + c) if us else -1
        if k < 0 or k > count:
            continue
        if us >= 0.07 and v <= v_r:
            return float(k)
        bound = (
            (m + 0.5) * math.log((m + 1) / (r * (count - m + 1)))
            + (count + 1) * math.log((count - m + 1) / (count - k + 1))
            + (k + 0.5) * math.log(r * (count - k + 1) / (k + 1))
            + _tail(m) + _tail(count - m) - _tail(k) - _tail(count - k)
        )  # fmt: skip
        if not v or math.log(v * alpha / (a / (us * us) + b)) <= bound:
            return float(k)


_TAIL = (
    0.0810614667953272, 0.0413406959554092, 0.0276779256849983, 0.02079067210376509, 0.0166446911898211,
    0.0138761288230707, 0.0118967099458917, 0.0104112652619720, 0.00925546218271273, 0.00833056343336287,
)  # fmt: skip


def _tail(k: float) -> float:
    """log(k!) less Stirling's formula. https://en.wikipedia.org/wiki/Stirling's_approximation"""
    if k <= 9:
        return _TAIL[int(k)]
    kp1sq = (k + 1) * (k + 1)
    return (1 / 12 - (1 / 360 - 1 / 1260 / kp1sq) / kp1sq) / (k + 1)
