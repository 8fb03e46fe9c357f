"""Records of the matrix products."""

from __future__ import annotations

import numpy as np

from .base import Failure, Record, S

RECORDS = [
    Record(
        "mm",
        lambda rng: [S(rng.standard_normal((2, 3)), rng.standard_normal((3, 4)))],
        np.matmul,
        linear=True,
        complex=True,
        errors=[Failure(S(np.ones((2, 3)), np.ones((2, 3))), RuntimeError, "mat1 and mat2 shapes")],
    ),
    Record("mT", lambda rng: [S(rng.standard_normal((2, 3, 4)))], lambda x: np.swapaxes(x, -1, -2), linear=True),
]
