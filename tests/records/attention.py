"""Records of attention."""

from __future__ import annotations

import numpy as np
from scipy import special

from .base import Record, S

HALF = ("float16", "float32", "float64")


def calls(rng):
    def n(*shape):
        return rng.normal(size=shape)

    seen = rng.random((4, 5)) > 0.3
    seen[1] = False
    keep = (rng.random((2, 3, 4, 5)) > 0.4) / 0.6
    return [
        S(n(2, 3, 4, 6), n(2, 3, 5, 6), n(2, 3, 5, 7), causal=False, scale=0.4),
        S(n(2, 4, 6), n(2, 4, 6), n(2, 4, 2), causal=True, scale=1.0),
        S(n(2, 3, 4, 6), n(2, 3, 5, 6), n(2, 3, 5, 7), seen, None, causal=False, scale=0.4),
        S(n(2, 3, 4, 6), n(2, 3, 5, 6), n(2, 3, 5, 7), n(3, 1, 5), keep, causal=False, scale=0.4),
        S(n(2, 3, 4, 6), n(2, 3, 5, 6), n(2, 3, 5, 7), n(2, 3, 4, 5), None, causal=True, scale=0.4),
        S(n(4, 6), n(5, 6), n(5, 7), None, keep[0, 0], causal=False, scale=0.4),
        # scores whose rows lie hundreds apart
        S(np.array([[900.0], [-900.0], [0.5]]), np.array([[1.0], [0.999]]), n(2, 2), causal=False, scale=1.0),
    ]


def softmax(s):
    top = s.max(-1, keepdims=True)
    return np.where(top == -np.inf, 0.0, special.softmax(np.where(top == -np.inf, 0.0, s), -1))


def attention(q, k, v, mask=None, keep=None, *, causal, scale):
    s = q @ np.swapaxes(k, -1, -2) * scale
    if mask is not None:
        s = np.where(mask, s, -np.inf) if mask.dtype == bool else s + mask
    if causal:
        s = np.where(np.tri(*s.shape[-2:], dtype=bool), s, -np.inf)
    p = softmax(s)
    return (p if keep is None else p * keep) @ v


def rows(rng):
    x = rng.normal(size=(3, 4))
    hidden = x.copy()
    hidden[1] = hidden[2, 0] = -np.inf
    return [S(x), S(hidden)]


RECORDS = [
    Record("attention", calls, attention, dtypes=HALF, grad_rtol=1e-5),
    Record("safe_softmax", lambda rng: rows(rng)[:1], softmax, dtypes=HALF),
    Record(
        "future",
        lambda rng: [S(rng.normal(size=(2, 3, 5)))],
        lambda x: ~np.tri(3, 5, dtype=bool),
        grad=False,
        out_dtype="bool",
    ),
]
