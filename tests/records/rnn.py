"""Records of recurrent layers; the references go through each sequence by itself."""

from __future__ import annotations

import numpy as np
from scipy.special import expit

from .base import Record, S

SIZES = ((2, 2, 2), (3, 2, 2, 1))
HALF = ("float16", "float32", "float64")


def calls(gates, states, more=lambda rng: [()], **kw):
    """Samples of all sizes and both directions: gates (N, gates * 3), states of 3."""

    def samples(rng):
        found = []
        for sizes in SIZES:
            for reverse in (False, True):
                for extra in more(rng):
                    x = rng.normal(size=(sum(sizes), gates * 3))
                    width = extra[0].shape[1] if extra else 3
                    begin = [rng.normal(size=(sizes[0], width if k == 0 else 3)) for k in range(states)]
                    w = extra[0] if extra else rng.normal(size=(gates * 3, 3)) * 0.5
                    found.append(S(x, *begin, w, *extra[1:], batch_sizes=sizes, reverse=reverse, **kw))
        return found

    return samples


def each(step):
    """A reference made of step(x, states, *weights) -> (out, states), for one sequence at a time."""

    def reference(x, *arrays, batch_sizes, reverse, states=1, **kw):
        begin, weights = arrays[:states], arrays[states:]
        starts = np.cumsum([0, *batch_sizes])
        out, final = None, [np.array(s) for s in begin]
        for b in range(batch_sizes[0]):
            now = [s[b] for s in begin]
            places = [starts[t] + b for t, n in enumerate(batch_sizes) if b < n]
            for place in places[::-1] if reverse else places:
                h, now = step(x[place], now, *weights, **kw)
                out = np.zeros((len(x), len(h))) if out is None else out
                out[place] = h
            for f, s in zip(final, now, strict=True):
                f[b] = s
        return (out, *final)

    return reference


def lstm(z, states, w, r=None):
    i, f, g, o = np.split(z + w @ states[0], 4)
    c = expit(f) * states[1] + expit(i) * np.tanh(g)
    h = expit(o) * np.tanh(c)
    h = h if r is None else r @ h
    return h, [h, c]


def gru(x, states, w, b=0.0):
    (h,) = states
    xr, xz, xn = np.split(x, 3)
    hr, hz, hn = np.split(w @ h + b, 3)
    z = expit(xz + hz)
    new = (1 - z) * np.tanh(xn + expit(xr + hr) * hn) + z * h
    return new, [new]


def rnn(x, states, w, *, relu):
    z = x + w @ states[0]
    h = np.maximum(z, 0) if relu else np.tanh(z)
    return h, [h]


def projections(rng):
    return [(rng.normal(size=(12, 3)) * 0.5,), (rng.normal(size=(12, 2)) * 0.5, rng.normal(size=(2, 3)))]


def biases(rng):
    return [(rng.normal(size=(9, 3)) * 0.5,), (rng.normal(size=(9, 3)) * 0.5, rng.normal(size=9))]


def both_kinds(rng):
    return [s for relu in (False, True) for s in calls(1, 1, relu=relu)(rng)]


RECORDS = [
    Record("lstm_sequence", calls(4, 2, projections), lambda *a, **kw: each(lstm)(*a, states=2, **kw), dtypes=HALF),
    Record("gru_sequence", calls(3, 1, biases), each(gru), dtypes=HALF),
    Record("rnn_sequence", both_kinds, each(rnn), dtypes=HALF),
]
