"""Records of the activation functions: references written by their definitions, in pieces."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .base import Failure, Record, S
from .elementwise import ALL_FLOATS, away, draw

NO_INTEGERS = [Failure(S(np.array([1, 2])), NotImplementedError, "Long")]
erf = np.vectorize(math.erf, otypes=[float])


def gelu(x: Any, approximate: str = "none") -> Any:
    if approximate == "tanh":
        return x / 2 * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))
    return x / 2 * (1 + erf(x / math.sqrt(2)))


def activation(op: str, reference: Any, *kinks: float, errors: Any = NO_INTEGERS, **kw: Any) -> Record:
    return Record(op, draw(-4, 4, *kinks, **kw), reference, dtypes=ALL_FLOATS, errors=errors)


RECORDS = [
    activation(
        "relu", lambda x: np.where(x > 0, x, 0), 0, errors=[Failure(S(np.array([True])), RuntimeError, "Boolean")]
    ),
    activation(
        "threshold", lambda x, threshold, value: np.where(x > threshold, x, value), 1, errors=[], threshold=1.0,
        value=7.0,
    ),
    activation("leaky_relu", lambda x, negative_slope: np.where(x > 0, x, negative_slope * x), 0, negative_slope=0.1),
    Record(
        "prelu",
        lambda rng: [
            S(away(rng, (3, 4), -2, 2, 0), rng.uniform(0.1, 1, (1, 4))),
            S(away(rng, 5, -2, 2, 0), np.array(0.2)),
        ],
        lambda x, w: np.where(x > 0, x, w * x),
        dtypes=ALL_FLOATS,
    ),
    Record(
        "rrelu",
        lambda rng: [S(away(rng, (3, 4), -2, 2, 0), rng.uniform(0.1, 0.3, (3, 4)))],
        lambda x, noise: np.where(x > 0, x, noise * x),
        dtypes=ALL_FLOATS,
    ),
    activation(
        "elu",
        lambda x, alpha, scale, input_scale: (
            scale * np.where(x > 0, x, alpha * np.expm1(input_scale * np.minimum(x, 0)))
        ),
        0,
        alpha=0.7,
        scale=1.3,
        input_scale=0.9,
    ),
    Record(
        "gelu",
        lambda rng: [S(rng.uniform(-4, 4, (3, 4))), S(rng.uniform(-4, 4, 7), approximate="tanh")],
        gelu,
        dtypes=ALL_FLOATS,
        errors=NO_INTEGERS,
    ),
    activation("silu", lambda x: x / (1 + np.exp(-x))),
    activation("mish", lambda x: x * np.tanh(np.log1p(np.exp(x)))),
    activation(
        "softplus",
        lambda x, beta, threshold: np.where(beta * x > threshold, x, np.log1p(np.exp(beta * x)) / beta),
        3.0,
        beta=2.0,
        threshold=6.0,
    ),
    activation("logsigmoid", lambda x: -np.log1p(np.exp(-x))),
    activation("softsign", lambda x: x / (1 + np.abs(x)), 0),
    activation("tanhshrink", lambda x: x - np.tanh(x)),
    activation(
        "hardtanh", lambda x, min_val, max_val: np.clip(x, min_val, max_val), -1, 2, errors=[], min_val=-1, max_val=2
    ),
    activation("hardsigmoid", lambda x: np.clip(x / 6 + 0.5, 0, 1), -3, 3),
    activation("hardswish", lambda x: x * np.clip(x / 6 + 0.5, 0, 1), -3, 3),
    activation(
        "softshrink", lambda x, lambd: np.sign(x) * np.maximum(np.abs(x) - lambd, 0), -0.5, 0.5, lambd=0.5,
        errors=[*NO_INTEGERS, Failure(S(np.ones(2), lambd=-1), RuntimeError, "lambda must be")],
    ),
    activation("hardshrink", lambda x, lambd: np.where(np.abs(x) > lambd, x, 0), -0.5, 0.5, lambd=0.5),
]  # fmt: skip
