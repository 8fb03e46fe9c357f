"""Records of sorting and selection."""

from __future__ import annotations

import numpy as np

from .base import Record, S
from .reduce import HALF, whole


def rows(rng):
    """Distinct values, far enough apart for finite differences."""
    return rng.permutation(30).reshape(2, 5, 3) / 10 - 1.4


def along(*variants):
    """Samples along each axis of `rows`, with the keywords of each variant."""
    return lambda rng: [S(rows(rng), axis=axis, **kw) for axis in (0, 1, 2) for kw in variants]


def order(x, axis, descending=False):
    return np.argsort(-x if descending else x, axis=axis, kind="stable")


def at(x, index, axis, keepdims=True):
    values = np.take_along_axis(x, index, axis)
    return (values, index) if keepdims else (values.squeeze(axis), index.squeeze(axis))


def kth(x, k, axis, keepdims):
    return at(x, order(x, axis).take([k - 1], axis), axis, keepdims)


def median(x, *, axis, keepdims):
    return kth(x, (x.shape[axis] + 1) // 2, axis, keepdims)


def middle(x):
    return np.sort(x.reshape(-1))[(x.size - 1) // 2]


def repeated(rng):
    """Each row holds one value two or three times, far from the others."""
    x = rng.permutation(12).reshape(2, 6) / 1.0
    x[0, 4], x[1, [0, 5]] = x[0, 1], x[1, 2]
    return x


def mode(x, *, axis, keepdims):
    index = []
    for row in x:
        values, counts = np.unique(row, return_counts=True)
        index.append([np.flatnonzero(row == values[counts.argmax()])[-1]])
    return at(x, np.array(index), axis, keepdims)


KEPT = ({"keepdims": False}, {"keepdims": True})

RECORDS = [
    Record(
        "sort",
        along({"descending": False}, {"descending": True}),
        lambda x, *, axis, descending: at(x, order(x, axis, descending), axis),
        dtypes=HALF,
    ),
    Record(
        "topk",
        along({"k": 2, "largest": True}, {"k": 1, "largest": False}),
        lambda x, *, k, axis, largest: at(x, order(x, axis, largest).take(range(k), axis), axis),
        dtypes=HALF,
    ),
    Record(
        "kthvalue",
        along({"k": 2, "keepdims": False}, {"k": 1, "keepdims": True}),
        lambda x, *, k, axis, keepdims: kth(x, k, axis, keepdims),
        dtypes=HALF,
    ),
    Record("median_dim", along(*KEPT), median, dtypes=HALF),
    Record("nanmedian_dim", along(*KEPT), median, dtypes=HALF),
    Record("median_all", whole, middle, dtypes=HALF),
    Record("nanmedian_all", whole, middle, dtypes=HALF),
    Record(
        "unique_values",
        lambda rng: [S(rng.standard_normal((2, 3)), rng.standard_normal(4), what="_unique2")],
        lambda x, values, *, what: values,
        dtypes=HALF,
        grad=False,
        reference_note="its rule only raises, as PyTorch's does: see test_edge_values",
    ),
    Record(
        "mode",
        lambda rng: [S(repeated(rng), axis=1, **kw) for kw in KEPT],
        mode,
        dtypes=HALF,
        grad=False,
        reference_note="a step of finite differences separates the repeated values: see test_api_sort",
    ),
]
