"""Records of the matrix products."""

from __future__ import annotations

import numpy as np

from .base import Failure, Record, S


def _n(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return rng.standard_normal(shape)


RECORDS = [
    Record(
        "mm",
        lambda rng: [S(_n(rng, 2, 3), _n(rng, 3, 4)), S(_n(rng, 2, 0), _n(rng, 0, 4))],
        np.matmul,
        linear=True,
        complex=True,
        dtypes=("float16", "float32", "float64"),
        errors=[
            Failure(S(np.ones((2, 3)), np.ones((2, 3))), RuntimeError, r"cannot be multiplied \(2x3 and 2x3\)"),
            Failure(S(np.ones((2, 3)), np.ones((3, 2), "f4")), RuntimeError, "same dtype"),
        ],
    ),
    Record(
        "bmm",
        lambda rng: [S(_n(rng, 2, 2, 3), _n(rng, 2, 3, 4)), S(_n(rng, 5, 1, 2, 3), _n(rng, 2, 3, 4))],
        np.matmul,
        linear=True,
        complex=True,
        dtypes=("float16", "float32", "float64"),
        core_dims=2,
        errors=[Failure(S(np.ones((1, 2, 3)), np.ones((1, 2, 3))), RuntimeError, "batch2")],
    ),
    Record(
        "dot",
        lambda rng: [S(_n(rng, 4), _n(rng, 4))],
        np.dot,
        linear=True,
        complex=True,
        errors=[Failure(S(np.ones(2), np.ones(3)), RuntimeError, "same number of elements")],
    ),
    Record(
        "linear",
        lambda rng: [
            S(_n(rng, 2, 3), _n(rng, 4, 3), _n(rng, 4)),
            S(_n(rng, 2, 5, 3), _n(rng, 4, 3), None),
            S(_n(rng, 3), _n(rng, 4, 3), _n(rng, 4)),
        ],
        lambda x, w, b=None: x @ w.T + (0 if b is None else b),
        dtypes=("float16", "float32", "float64"),
        errors=[Failure(S(np.ones((2, 3)), np.ones((4, 2)), None), RuntimeError, r"\(2x3 and 2x4\)")],
    ),
    Record("mT", lambda rng: [S(_n(rng, 2, 3, 4))], lambda x: np.swapaxes(x, -1, -2), linear=True),
]
