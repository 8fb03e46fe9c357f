"""Records of softmax and cross-entropy."""

from __future__ import annotations

import numpy as np
from scipy import special

from .base import Failure, Record, S
from .reduce import HALF


def along(rng):
    x = rng.normal(size=(3, 4, 5)) * 2
    return [S(x, axis=2), S(x, axis=1), S(x[0], axis=0), S(rng.normal(size=(300, 40)), axis=1), S(x[:, :, :1], axis=2)]


def losses(rng):
    x = rng.normal(size=(6, 5)) * 3
    target = np.array([0, 4, -100, 2, 2, -100])
    return [
        S(x, target, ignore_index=-100),
        S(x.reshape(2, 3, 5), np.array([[1, 1, 3], [0, 4, 4]]), ignore_index=4),
        S(x[0], np.array(3), ignore_index=-100),
        S(rng.normal(size=(100, 60)), rng.integers(0, 60, 100), ignore_index=-100),
    ]


def cross_entropy(x, target, *, ignore_index):
    kept = target != ignore_index
    chosen = np.take_along_axis(special.log_softmax(x, -1), np.where(kept, target, 0)[..., None], -1)[..., 0]
    return np.where(kept, -chosen, 0.0)


def mask(target, x, *, ignore_index):
    return (target[..., None] == np.arange(x.shape[-1])) * (target != ignore_index)[..., None] * 1.0


def results(function):
    """Samples of a backward that rests on the forward's result."""

    def samples(rng):
        return [S(rng.normal(size=s.arrays[0].shape), function(s.arrays[0], s.kw["axis"]), **s.kw) for s in along(rng)]

    return samples


def softmax_backward(g, out, *, axis):
    return out * (g - (g * out).sum(axis, keepdims=True))


def log_backward(g, out, *, axis):
    return g - np.exp(out) * g.sum(axis, keepdims=True)


def with_sums(rng):
    found = []
    for s in losses(rng):
        x, target = s.arrays
        rows = x.reshape(-1, x.shape[-1])
        top = rows.max(1)
        found.append(S(rng.normal(size=target.shape), x, target, top, np.exp(rows - top[:, None]).sum(1), **s.kw))
    return found


def cross_entropy_backward(g, x, target, top, total, *, ignore_index):
    hot = mask(target, x, ignore_index=ignore_index)
    return (special.softmax(x, -1) * hot.sum(-1, keepdims=True) - hot) * g[..., None]


COMPOSITE = "a composite: its gradients are those of its ops"

RECORDS = [
    Record("softmax", along, lambda x, *, axis: special.softmax(x, axis), dtypes=HALF),
    Record("log_softmax", along, lambda x, *, axis: special.log_softmax(x, axis), dtypes=HALF),
    Record(
        "softmax_cross_entropy",
        losses,
        cross_entropy,
        dtypes=HALF,
        errors=[
            Failure(S(np.zeros((2, 3)), np.array([0, 3])), IndexError, "Target 3 is out of bounds"),
            Failure(S(np.zeros((2, 3)), np.array([-1, 0])), IndexError, "Target -1 is out of bounds"),
        ],
    ),
    Record("softmax_backward", results(special.softmax), softmax_backward, grad=False, reference_note=COMPOSITE),
    Record("log_softmax_backward", results(special.log_softmax), log_backward, grad=False, reference_note=COMPOSITE),
    Record("softmax_cross_entropy_backward", with_sums, cross_entropy_backward, grad=False, reference_note=COMPOSITE),
    Record("class_mask", lambda rng: [S(s.arrays[1], s.arrays[0], **s.kw) for s in losses(rng)], mask, grad=False),
]
