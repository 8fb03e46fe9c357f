"""Records of reductions."""

from __future__ import annotations

import math

import numpy as np
from scipy import special

from .base import Record, S


def cases(**extra):
    """Samples over one, several and all axes of distinct values, kept and dropped."""

    def samples(rng):
        x = rng.permutation(24).reshape(2, 3, 4) / 7 - 1.3 + rng.uniform(0, 0.1, (2, 3, 4))
        shapes = [(x, (2,), False), (x, (0, 2), True), (x, (1,), True), (x, (0, 1, 2), False)]
        shapes += [(rng.normal(size=(20, 30)), (1,), False), (rng.permutation(800).reshape(100, 8) / 100, (1,), True)]
        return [S(a, axis=axis, keepdims=keep, **extra) for a, axis, keep in shapes]

    return samples


def one_axis(rng):
    x = rng.permutation(24).reshape(2, 3, 4) / 7 - 1.3 + rng.uniform(0, 0.1, (2, 3, 4))
    wide = rng.permutation(600).reshape(20, 30) / 600
    return [S(x, axis=a, keepdims=k) for a, k in ((0, False), (1, True), (2, False))] + [S(wide, axis=1, keepdims=True)]


def whole(rng):
    return [S(rng.permutation(12).reshape(3, 4) / 5 - 1.0), S(rng.normal(size=(20, 30)))]


def with_zeros(rng):
    """Products of rows with no, one and two zeros."""
    x = rng.uniform(0.5, 1.5, (3, 4)) * rng.choice([-1, 1], (3, 4))
    x[1, 2] = x[2, 0] = x[2, 3] = 0
    return x


def pair(first, second):
    return lambda x, *, axis, keepdims: (first(x, axis, keepdims), second(x, axis, keepdims))


def over(function):
    """Reference of a reduction, from NumPy's."""
    return lambda x, *, axis, keepdims: function(x, axis, keepdims=keepdims)


def along(function, place):
    """Reference of an op that gives a value and its index along one axis."""

    def reference(x, *, axis, keepdims):
        index = np.expand_dims(place(x, axis), axis)
        values = np.take_along_axis(x, index, axis)
        return (values, index) if keepdims else (values.squeeze(axis), index.squeeze(axis))

    return reference


def moments(rng):
    return [S(s.arrays[0], correction=c, **s.kw) for s, c in zip(cases()(rng), (1, 0, 1.5, 1, 0, 2), strict=True)]


def variance(x, axis, correction, keepdims):
    n = np.prod([x.shape[i] for i in axis])
    centred = x - x.mean(axis, keepdims=True)
    return (centred * centred.conj()).real.sum(axis, keepdims=keepdims) / max(n - correction, 0)


def norms(rng):
    base = rng.uniform(0.3, 2, (3, 4)) * rng.choice([-1, 1], (3, 4))
    base[0, 1] = base[0].max() + 5
    return [
        S(base, p=p, axis=axis, keepdims=k)
        for p, axis, k in [
            (2, (1,), False), (1, (0, 1), False), (3, (1,), True), (1.5, (0,), False), (0.5, (1,), False),
            (math.inf, (1,), False), (-math.inf, (1,), True), (-1, (0, 1), False),
        ]
    ]  # fmt: skip


def norm(x, *, p, axis, keepdims):
    size = np.abs(x)
    if abs(p) == math.inf:
        return (np.max if p > 0 else np.min)(size, axis=axis, keepdims=keepdims)
    return (size**p).sum(axis, keepdims=keepdims) ** (1 / p)


def shares(x, out, *, axis, keepdims, nan_ties=False):
    same = x == (out if keepdims else np.expand_dims(out, axis))
    return same / same.sum(axis, keepdims=True)


def tied(rng):
    x = rng.integers(0, 3, (4, 6)) / 1.0
    return [S(x, x.max(1, keepdims=True), axis=(1,), keepdims=True), S(x[:, :1], x[:, 0], axis=(1,), keepdims=False)]


HALF = ("float16", "float32", "float64")
FLOATS = {"dtypes": HALF, "rtol": 1e-12}

RECORDS = [
    Record("sum_all", whole, np.sum, linear=True, complex=True, **FLOATS),
    Record("sum", cases(), over(np.sum), linear=True, complex=True, **FLOATS),
    Record("mean_all", whole, np.mean, linear=True, complex=True, **FLOATS),
    Record("mean", cases(), over(np.mean), linear=True, complex=True, **FLOATS),
    Record(
        "nansum",
        lambda rng: [S(np.where(rng.random((3, 4)) < 0.3, np.nan, rng.normal(size=(3, 4))), axis=(1,), keepdims=False)],
        over(np.nansum),
        grad=False,
        reference_note="finite differences at nan are nan: test_api_reduce compares the gradient with PyTorch's",
        **FLOATS,
    ),
    Record("not_nan", lambda rng: [S(np.array([1.0, np.nan, np.inf]))], lambda x: 1.0 - np.isnan(x), grad=False),
    Record(
        "prod_all",
        lambda rng: [S(with_zeros(rng)[0]), S(with_zeros(rng)[1:2]), S(with_zeros(rng)[2])],
        np.prod,
        complex=True,
        dtypes=HALF,
    ),
    Record(
        "prod",
        lambda rng: [S(with_zeros(rng), axis=a, keepdims=k) for a, k in ((1, False), (0, True))],
        over(np.prod),
        complex=True,
        dtypes=HALF,
    ),
    Record(
        "var", moments, lambda x, *, axis, correction, keepdims: variance(x, axis, correction, keepdims),
        complex=True, dtypes=HALF,
    ),
    Record(
        "std",
        moments,
        lambda x, *, axis, correction, keepdims: np.sqrt(variance(x, axis, correction, keepdims)),
        complex=True,
        dtypes=HALF,
    ),
    Record(
        "var_mean",
        moments,
        lambda x, *, axis, correction, keepdims: (
            variance(x, axis, correction, keepdims),
            x.mean(axis, keepdims=keepdims),
        ),
        complex=True,
        dtypes=HALF,
    ),
    Record(
        "std_mean",
        moments,
        lambda x, *, axis, correction, keepdims: (
            np.sqrt(variance(x, axis, correction, keepdims)),
            x.mean(axis, keepdims=keepdims),
        ),
        complex=True,
        dtypes=HALF,
    ),
    Record("tie_shares", tied, shares, grad=False),
    Record("max_all", whole, np.max, **FLOATS),
    Record("min_all", whole, np.min, **FLOATS),
    Record("amax", cases(), over(np.max), **FLOATS),
    Record("amin", cases(), over(np.min), **FLOATS),
    Record(
        "aminmax",
        cases(),
        pair(lambda x, a, k: x.min(a, keepdims=k), lambda x, a, k: x.max(a, keepdims=k)),
        **FLOATS,
    ),
    Record("max_dim", one_axis, along(np.max, np.argmax), **FLOATS),
    Record("min_dim", one_axis, along(np.min, np.argmin), **FLOATS),
    Record("argmax", one_axis, np.argmax, grad=False, dtypes=HALF, out_dtype="int64"),
    Record("argmin", one_axis, np.argmin, grad=False, dtypes=HALF, out_dtype="int64"),
    Record(
        "any", cases(), np.any, grad=False, dtypes=("bool", "uint8", "float32", "complex64"),
        out_dtype=lambda name: "uint8" if name == "uint8" else "bool",
    ),
    Record(
        "all", cases(), np.all, grad=False, dtypes=("bool", "uint8", "float32", "complex64"),
        out_dtype=lambda name: "uint8" if name == "uint8" else "bool",
    ),
    Record(
        "count_nonzero",
        lambda rng: [S(with_zeros(rng), axis=(1,)), S(with_zeros(rng), axis=(0, 1))],
        lambda x, *, axis: np.count_nonzero(x, axis),
        grad=False,
        dtypes=("bool", "int32", "float32"),
        out_dtype="int64",
    ),
    Record("vector_norm", norms, norm, dtypes=HALF),
    Record(
        "logsumexp", cases(), lambda x, *, axis, keepdims: special.logsumexp(x, axis, keepdims=keepdims),
        complex=True, dtypes=HALF,
    ),
]  # fmt: skip
