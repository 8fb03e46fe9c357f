"""Records of losses."""

from __future__ import annotations

import numpy as np
from scipy import special
from tapegrad.autograd.op import OPS

from .base import Failure, Record, S

REDUCTIONS = ("none", "mean", "sum")
HALF = ("float16", "float32", "float64")


def reduce(loss, reduction):
    return loss if reduction == "none" else loss.mean() if reduction == "mean" else loss.sum()


def pairs(**kw):
    """Pairs whose distances stay away from 0 and from 1."""

    def samples(rng):
        x = rng.normal(size=(3, 4))
        d = rng.choice([0.3, -0.4, 1.5, -2.0], (3, 4))
        return [S(x, x + d, reduction=r, **kw) for r in REDUCTIONS] + [S(x[:, :1] + 9, x, reduction="mean", **kw)]

    return samples


def mse(x, y, *, reduction):
    return reduce((x - y) ** 2, reduction)


def smooth_l1(x, y, *, reduction, beta):
    d = np.abs(x - y)
    return reduce(np.where(d < beta, d * d / (2 * beta), d - beta / 2), reduction)


def huber(x, y, *, reduction, delta):
    d = np.abs(x - y)
    return reduce(np.where(d <= delta, d * d / 2, delta * (d - delta / 2)), reduction)


def probabilities(rng):
    x, t, w = rng.uniform(0.1, 0.9, (3, 3, 4))
    return [S(x, t, None, reduction="none"), S(x, t, w, reduction="mean"), S(x, t, w, reduction="sum")]


def bce(x, t, w=None, *, reduction):
    loss = -(t * np.log(x) + (1 - t) * np.log(1 - x))
    return reduce(loss if w is None else loss * w, reduction)


def logits(rng):
    x, t = rng.normal(size=(3, 4)) * 3, rng.uniform(0.1, 0.9, (3, 4))
    w, p = rng.uniform(0.5, 2, (3, 4)), rng.uniform(0.5, 2, 4)
    return [S(x, t, reduction="none"), S(x, t, w, reduction="mean"), S(x, t, w, p, reduction="sum")]


def bce_logits(x, t, w=None, p=None, *, reduction):
    loss = -(t * special.log_expit(x) * (1 if p is None else p) + (1 - t) * special.log_expit(-x))
    return reduce(loss if w is None else loss * w, reduction)


TARGET = np.array([0, 4, -100, 2, 2])


def rows(rng):
    x = rng.normal(size=(5, 5)) * 2
    return [S(x, TARGET, ignore_index=-100, reduction=r) for r in REDUCTIONS] + [
        S(x[0], np.array(3), ignore_index=-100, reduction="mean"),
        S(rng.normal(size=(2, 3, 5)), np.array([[1, 1, 3], [0, 4, 4]]), ignore_index=4, reduction="mean"),
    ]


def cross_entropy(x, target, *, ignore_index, reduction):
    kept = target != ignore_index
    chosen = np.take_along_axis(special.log_softmax(x, -1), np.where(kept, target, 0)[..., None], -1)[..., 0]
    loss = np.where(kept, -chosen, 0.0)
    return loss.sum() / kept.sum() if reduction == "mean" else reduce(loss, reduction)


def with_sums(rng):
    """The gradient, the inputs, and what the forward kept: maxima, sums, and how many targets count."""
    found = []
    for s in rows(rng):
        x, target = s.arrays
        flat = x.reshape(-1, x.shape[-1])
        top = flat.max(1)
        total, count = np.exp(flat - top[:, None]).sum(1), np.array(float((target != s.kw["ignore_index"]).sum()))
        g = rng.normal(size=target.shape if s.kw["reduction"] == "none" else ())
        found.append(S(g, x, target, top, total, count, **s.kw))
    return found


def cross_entropy_backward(g, x, target, top, total, count, *, ignore_index, reduction):
    kept = target != ignore_index
    hot = np.zeros(x.shape)
    np.put_along_axis(hot, np.where(kept, target, 0)[..., None], 1.0, -1)
    g = g / count if reduction == "mean" else g
    return (special.softmax(x, -1) - hot) * (g * kept)[..., None]


def classes(rng):
    x, w = rng.normal(size=(5, 5)), rng.uniform(0.5, 2, 5)
    return [
        *[S(x, TARGET, w, ignore_index=-100, reduction=r) for r in REDUCTIONS],
        S(x, TARGET, ignore_index=-100, reduction="mean"),
        S(rng.normal(size=(2, 5, 3)), np.array([[1, 1, 3], [0, 4, 4]]), w, ignore_index=4, reduction="mean"),
        S(x[0], np.array(3), w, ignore_index=-100, reduction="sum"),
    ]


def nll(x, target, w=None, *, ignore_index, reduction):
    axis = 1 if x.ndim > 1 else 0
    kept = target != ignore_index
    safe = np.where(kept, target, 0)
    weight = (np.ones(x.shape[axis]) if w is None else w)[safe] * kept
    loss = -np.take_along_axis(x, np.expand_dims(safe, axis), axis).squeeze(axis) * weight
    return loss.sum() / weight.sum() if reduction == "mean" else reduce(loss, reduction)


def adjoints(rng):
    found = []
    for s in classes(rng):
        g = rng.normal(size=s.arrays[1].shape if s.kw["reduction"] == "none" else ())
        found.append(S(g, *s.arrays[1:], shape=s.arrays[0].shape, **s.kw))
    return found


def nll_backward(g, target, w=None, *, shape, **kw):
    """By the definition of an adjoint: the gradient of each element is the loss of a unit vector."""
    out = np.zeros(shape)
    for place in np.ndindex(*shape):
        unit = np.zeros(shape)
        unit[place] = 1
        out[place] = np.sum(g * nll(unit, target, w, **kw))
    return out


def alignments(rng):
    x = special.log_softmax(rng.normal(size=(6, 3, 4)), -1)
    targets = np.array([[1, 2, 2], [3, 1, 0], [2, 0, 0]])
    lengths = np.array([6, 5, 4]), np.array([3, 2, 0])
    return [S(x, targets, *lengths, blank=0, zero_infinity=False)]


def ctc_sums(x, targets, steps, lengths, blank):
    """Per sequence: the probability of its target, and the part of it that passes each (step, class), path by path."""
    whole, parts = np.zeros(x.shape[1]), np.zeros(x.shape)
    for n in range(x.shape[1]):
        for path in np.ndindex(*(x.shape[2],) * int(steps[n])):
            merged = [c for i, c in enumerate(path) if i == 0 or c != path[i - 1]]
            if [c for c in merged if c != blank] == list(targets[n, : lengths[n]]):
                p = np.exp(sum(x[t, n, c] for t, c in enumerate(path)))
                whole[n] += p
                for t, c in enumerate(path):
                    parts[t, n, c] += p
    return whole, parts


def ctc(x, targets, steps, lengths, *, blank, zero_infinity):
    return -np.log(ctc_sums(x, targets, steps, lengths, blank)[0])


def with_alpha(rng):
    found = []
    for s in alignments(rng):
        out, alpha = OPS["ctc_loss"].generic(np, *s.arrays, **s.kw)
        found.append(S(rng.normal(size=out.shape), *s.arrays, out, alpha, **s.kw))
    return found


def ctc_backward(g, x, targets, steps, lengths, out, alpha, *, blank, zero_infinity):
    whole, parts = ctc_sums(x, targets, steps, lengths, blank)
    alive = (np.arange(len(x))[:, None] < steps)[..., None]
    return alive * (np.exp(x) - parts / whole[:, None]) * g[:, None]


RECORDS = [
    Record("mse_loss", pairs(), mse, dtypes=HALF),
    Record("smooth_l1_loss", pairs(beta=1.0), smooth_l1, dtypes=HALF),
    Record("huber_loss", pairs(delta=1.2), huber, dtypes=HALF),
    Record(
        "binary_cross_entropy",
        probabilities,
        bce,
        dtypes=HALF,
        errors=[
            Failure(
                S(np.array([1.5]), np.array([0.5]), reduction="mean"), RuntimeError, "all elements of input should be"
            ),
            Failure(
                S(np.array([0.5]), np.array([-1.0]), reduction="mean"), RuntimeError, "all elements of target should be"
            ),
        ],
    ),
    Record("binary_cross_entropy_with_logits", logits, bce_logits, dtypes=HALF),
    Record(
        "cross_entropy",
        rows,
        cross_entropy,
        dtypes=HALF,
        errors=[
            Failure(
                S(np.zeros((1, 3)), np.array([3]), ignore_index=-100, reduction="mean"), IndexError, "Target 3 is out"
            ),
            Failure(
                S(np.zeros((1, 3), int), np.array([1]), ignore_index=-100, reduction="mean"),
                NotImplementedError,
                "not implemented for 'Long'",
            ),
        ],
    ),
    Record("cross_entropy_backward", with_sums, cross_entropy_backward, grad=False),
    Record(
        "nll_loss",
        classes,
        nll,
        dtypes=HALF,
        errors=[
            Failure(
                S(np.zeros((1, 3)), np.array([-1]), ignore_index=-100, reduction="mean"), IndexError, "Target -1 is out"
            )
        ],
    ),
    Record("nll_loss_2d", lambda rng: classes(rng)[4:5], nll, dtypes=HALF),
    Record("nll_loss_backward", adjoints, nll_backward, linear=True, dtypes=("float32", "float64")),
    Record(
        "ctc_loss",
        alignments,
        ctc,
        grad=False,
        reference_note="its gradient is that of PyTorch, right behind log_softmax: test_nn_loss.py",
    ),
    Record(
        "ctc_loss_backward",
        with_alpha,
        ctc_backward,
        grad=False,
        reference_note="the rule of ctc_loss: test_nn_loss.py",
    ),
]
