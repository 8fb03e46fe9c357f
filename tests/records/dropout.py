"""Dropout by a counter: the mask from Philox as its paper has it, one word at a time."""

from __future__ import annotations

import numpy as np

from .base import Record, S

WORD = 0xFFFFFFFF


def philox(seed: int, counter: int) -> list[int]:
    c, k = [counter & WORD, counter >> 32, 0, 0], [seed & WORD, seed >> 32]
    for _ in range(10):
        a, b = 0xD2511F53 * c[0], 0xCD9E8D57 * c[2]
        c = [(b >> 32) ^ c[1] ^ k[0], b & WORD, (a >> 32) ^ c[3] ^ k[1], a & WORD]
        k = [(k[0] + 0x9E3779B9) & WORD, (k[1] + 0xBB67AE85) & WORD]
    return c


def dropout(x, *, p, seed):
    drawn = np.array([philox(seed, i) for i in range(-(-x.size // 4))], np.uint64).reshape(-1)[: x.size]
    kept = (drawn >> np.uint64(8)) * 2.0**-24 >= np.float32(p)
    return np.where(kept.reshape(x.shape), x / (1 - p), 0.0)


def samples(rng):
    return [
        S(rng.normal(size=(5, 7)), p=0.5, seed=(11 << 32) + 7),
        S(rng.normal(size=(3, 2, 3)), p=0.1, seed=2**64 - 1),
        S(rng.normal(size=()), p=0.25, seed=0),
    ]


RECORDS = [Record("dropout", samples, dropout, linear=True, dtypes=("float16", "float32", "float64"), complex=True)]
