"""Binomial and Poisson numbers, one after the other as torch draws them: each takes as many uniforms as it happens to.

Small means by counting waiting times, large ones by transformed rejection: Hoermann, "The generation of binomial random
variates", 1993, and "The transformed rejection method for generating Poisson random variables", 1993.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

Array = Any


class Uniforms:
    """The generator's next doubles in [0, 1) one by one; `close` leaves the stream behind the last one used."""

    def __init__(self, generator: Any):
        self.generator, self.start = generator, generator.get_state()
        self.used = 0
        self.block: list[float] = []

    def __call__(self) -> float:
        if not self.block:
            self.block = self.generator._unit(1024).tolist()[::-1]
        self.used += 1
        return self.block.pop()

    def close(self) -> None:
        self.generator.set_state(self.start)
        if self.used:
            self.generator._unit(self.used)


def binomial(generator: Any, count: Array, p: Array) -> Array:
    """Successes among count trials of probability p, in the dtype's own precision. count, p: (*S) -> (*S)."""
    work = np.float64 if count.dtype == np.float64 else np.float32
    with generator._lock, np.errstate(all="ignore"):
        draw = Uniforms(generator)
        made = [_binomial(work(n), work(q), draw, work) for n, q in zip(count.flat, p.flat, strict=True)]
        draw.close()
    return np.array(made, work).astype(count.dtype).reshape(count.shape)


def _binomial(n: Any, p: Any, draw: Uniforms, work: Any) -> Any:
    if n <= 0 or p <= 0:
        return work(0)
    if p >= 1:
        return n
    if p != p:
        return p
    small = p if p <= 0.5 else work(1) - p
    hits = (_rejected if n * small >= 10 else _counted)(n, small, draw, work)
    return hits if p <= 0.5 else n - hits


def _counted(n: Any, p: Any, draw: Uniforms, work: Any) -> Any:
    """Waiting times for successes, which are geometric, until they exceed n."""
    total, hits, log = work(0), 0, np.log1p(-p)
    while True:
        total = total + np.ceil(np.log(work(draw())) / log)
        if total > n:
            return work(hits)
        hits += 1


_TAIL = (
    0.0810614667953272, 0.0413406959554092, 0.0276779256849983, 0.02079067210376509, 0.0166446911898211,
    0.0138761288230707, 0.0118967099458917, 0.0104112652619720, 0.00925546218271273, 0.00833056343336287,
)  # fmt: skip


def _tail(k: Any) -> Any:
    """What Stirling's formula lacks of log(k!)."""
    if k <= 9:
        return _TAIL[int(k)]
    square = (k + 1) ** 2
    return (1 / 12 - (1 / 360 - 1 / 1260 / square) / square) / (k + 1)


def _rejected(n: Any, p: Any, draw: Uniforms, work: Any) -> Any:
    """Hoermann's BTRS, for n p >= 10."""
    n, p = float(n), float(p)
    deviation = math.sqrt(n * p * (1 - p))
    b = 1.15 + 2.53 * deviation
    a = -0.0873 + 0.0248 * b + 0.01 * p
    middle, squeeze, odds = n * p + 0.5, 0.92 - 4.2 / b, p / (1 - p)
    alpha, mode = (2.83 + 5.1 / b) * deviation, math.floor((n + 1) * p)
    while True:
        u = draw() - 0.5
        v = draw()
        us = 0.5 - abs(u)
        k = math.floor((2 * a / us + b) * u + middle)
        if us >= 0.07 and v <= squeeze:
            return work(k)
        if not 0 <= k <= n:
            continue
        bound = (
            (mode + 0.5) * math.log((mode + 1) / (odds * (n - mode + 1)))
            + (n + 1) * math.log((n - mode + 1) / (n - k + 1))
            + (k + 0.5) * math.log(odds * (n - k + 1) / (k + 1))
            + _tail(mode) + _tail(n - mode) - _tail(k) - _tail(n - k)
        )  # fmt: skip
        if math.log(v * alpha / (a / (us * us) + b)) <= bound:
            return work(k)


def poisson(generator: Any, rates: Array) -> Array:
    """Counts of the given rates. rates: (*S) floating -> (*S)."""
    with generator._lock:
        draw = Uniforms(generator)
        made = [_poisson(float(rate), draw) for rate in rates.flat]
        draw.close()
    return np.array(made, np.float64).astype(rates.dtype).reshape(rates.shape)


def _poisson(rate: float, draw: Uniforms) -> int:
    if rate == 0:
        return 0
    if rate < 10:  # products of uniforms: arrivals until one unit of time is over
        bound, hits, product = math.exp(-rate), 0, 1.0
        while True:
            product *= draw()
            if product <= bound:
                return hits
            hits += 1
    root, log = math.sqrt(rate), math.log(rate)
    b = 0.931 + 2.53 * root
    a = -0.059 + 0.02483 * b
    scale, squeeze = 1.1239 + 1.1328 / (b - 3.4), 0.9277 - 3.6224 / (b - 2)
    while True:
        u = draw() - 0.5
        v = draw()
        us = 0.5 - abs(u)
        k = math.floor((2 * a / us + b) * u + rate + 0.43)
        if us >= 0.07 and v <= squeeze:
            return k
        if k < 0 or (us < 0.013 and v > us):
            continue
        if math.log(v) + math.log(scale) - math.log(a / (us * us) + b) <= -rate + k * log - math.lgamma(k + 1):
            return k
