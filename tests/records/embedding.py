"""Records of look-up tables."""

from __future__ import annotations

import numpy as np

from .base import Failure, Record, S

INDEX = np.array([[1, 4, 1], [0, 2, 1]])


def _n(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return rng.standard_normal(shape)


def backward(g, index, *, rows, padding):
    out = np.zeros((rows, g.shape[-1]))
    np.add.at(out, index.reshape(-1), g.reshape(-1, g.shape[-1]))
    if padding >= 0:
        out[padding] = 0
    return out


def unpadded(w, index, *, padding):
    return np.where((index == padding)[..., None], 0, w[index])


def by_frequency(g, index):
    return g / np.bincount(index.reshape(-1))[index][..., None]


RECORDS = [
    Record(
        "embedding",
        lambda rng: [S(_n(rng, 5, 3), INDEX, padding=-1), S(_n(rng, 5, 40), INDEX, padding=-1)],
        lambda w, index, *, padding: w[index],
        linear=True,
        errors=[
            Failure(S(np.ones((5, 3)), np.array([5]), padding=-1), IndexError, "index out of range in self"),
            Failure(S(np.ones((5, 3)), np.array([-1]), padding=-1), IndexError, "index out of range in self"),
        ],
    ),
    Record(
        "embedding_backward",
        lambda rng: [S(_n(rng, 2, 3, 4), INDEX, rows=5, padding=-1), S(_n(rng, 2, 3, 40), INDEX, rows=5, padding=1)],
        backward,
        linear=True,
    ),
    Record(
        "embedding_unpadded",
        lambda rng: [S(_n(rng, 5, 3), INDEX, padding=-1), S(_n(rng, 5, 3), INDEX, padding=1)],
        unpadded,
        linear=True,
    ),
    Record("scale_by_frequency", lambda rng: [S(_n(rng, 2, 3, 4), INDEX)], by_frequency, linear=True),
    Record(
        "embedding_by_frequency",
        lambda rng: [S(_n(rng, 5, 3), INDEX, padding=-1)],
        lambda w, index, *, padding: w[index],
        grad=False,
        reference_note="by definition its gradient is not that of its forward: beside torch in test_nn_layers.py",
    ),
]
