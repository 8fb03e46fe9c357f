"""Records of running results."""

from __future__ import annotations

import numpy as np

from .base import Record, S
from .reduce import HALF, with_zeros


def along(rng):
    x = rng.permutation(30).reshape(2, 5, 3) / 10 - 1.4
    return [S(x, axis=1), S(x, axis=2), S(x[0, :, 0], axis=0), S(x[:, :1], axis=1)]


def both_ways(rng):
    return [s for a in along(rng) for s in (a, S(*a.arrays, **a.kw, reverse=True))]


def turned(function):
    """Reference of an op with `reverse`."""

    def reference(x, *, axis, reverse=False):
        return np.flip(function(np.flip(x, axis), axis), axis) if reverse else function(x, axis)

    return reference


def shifted(x, *, axis, by, fill=0):
    out = np.roll(x, by, axis)
    np.moveaxis(out, axis, 0)[0 if by > 0 else -1] = fill
    return out


def recurrence(a, b, *, axis, reverse=False):
    a, b = np.moveaxis(a, axis, 0), np.moveaxis(b, axis, 0)
    h, out = np.zeros(b.shape[1:]), np.zeros(b.shape)
    for i in range(len(b))[:: -1 if reverse else 1]:
        h = out[i] = a[i] * h + b[i]
    return np.moveaxis(out, 0, axis)


def running(fold, replaces):
    """Values and the latest index of a running extreme."""

    def reference(x, *, axis):
        values = fold.accumulate(x, axis)
        rows, places = np.moveaxis(x, axis, -1), np.zeros(np.moveaxis(x, axis, -1).shape, int)
        for place in np.ndindex(rows.shape[:-1]):
            best = 0
            for i, v in enumerate(rows[place]):
                best = i if replaces(v, rows[place][best]) else best
                places[(*place, i)] = best
        return values, np.moveaxis(places, -1, axis)

    return reference


RECORDS = [
    Record(
        "shift", lambda rng: [S(s.arrays[0], by=by, fill=f, **s.kw) for s in along(rng) for by, f in ((1, 0), (-1, 2))],
        shifted, dtypes=HALF,
    ),
    Record(
        "recurrence",
        lambda rng: [
            S(rng.normal(size=shape), rng.normal(size=shape), axis=axis, reverse=reverse)
            for shape, axis, reverse in (((2, 7), 1, False), ((9, 2), 0, True), ((1,), 0, False))
        ],
        recurrence,
        complex=True,
    ),
    Record("cumsum", both_ways, turned(np.cumsum), linear=True, complex=True, dtypes=HALF),
    Record(
        "cumprod",
        lambda rng: [*both_ways(rng), *[S(with_zeros(rng), axis=a, reverse=r) for a, r in ((1, False), (0, True))]],
        turned(np.cumprod), complex=True, dtypes=HALF,
    ),
    Record("logcumsumexp", along, lambda x, *, axis: np.log(np.cumsum(np.exp(x), axis)), complex=True, dtypes=HALF),
    Record("cummax", along, running(np.maximum, lambda v, w: v >= w), dtypes=HALF),
    Record("cummin", along, running(np.minimum, lambda v, w: v <= w), dtypes=HALF),
]  # fmt: skip
