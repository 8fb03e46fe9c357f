"""Records of the pooling ops. The references walk over the windows one by one."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np

from .base import Failure, Record, S, Sample

FLOATS = ("float16", "bfloat16", "float32", "float64")


def _n(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return rng.standard_normal(shape)


def _distinct(rng: np.random.Generator, *shape: int) -> np.ndarray:
    """Numbers far from one another: the maximum stays where it is."""
    return rng.permutation(np.prod(shape)).reshape(shape) / 4.0


def geometry(kernel: Any, stride: Any, padding: Any, dilation: Any, size: Any) -> dict[str, Any]:
    return {"kernel": kernel, "stride": stride, "padding": padding, "dilation": dilation, "size": size}


# (x, windows): tiled, overlapping, with gaps, padded, dilated, running over the end, in one to three dimensions, with
# and without a batch
CASES = [
    ((2, 3, 4, 6), geometry((2, 2), (2, 2), (0, 0), (1, 1), (2, 3))),
    ((2, 2, 5, 7), geometry((3, 2), (1, 2), (1, 1), (1, 1), (5, 4))),
    ((2, 6, 6), geometry((2, 1), (3, 2), (0, 0), (1, 1), (2, 3))),
    ((1, 2, 5, 5), geometry((3, 3), (2, 2), (1, 1), (2, 1), (2, 3))),
    ((1, 2, 5, 4), geometry((2, 3), (2, 2), (0, 1), (1, 1), (3, 3))),
    ((2, 3, 7), geometry((3,), (2,), (1,), (1,), (4,))),
    ((1, 2, 3, 4, 5), geometry((2, 2, 3), (1, 2, 2), (1, 0, 1), (1, 1, 1), (4, 2, 3))),
]
SUMMED = [(x, {k: v for k, v in kw.items() if k != "dilation"}) for x, kw in CASES if set(kw["dilation"]) == {1}]
DIVISORS = ["all", "inside", 3, "all", "inside", -2]


def visits(extents: Any, kernel: Any, stride: Any, padding: Any, dilation: Any, size: Any) -> Any:
    """(window, the places in it that exist, in row-major order) for each window."""
    for window in product(*map(range, size)):
        spans = [
            [t * s + k * d - p for k in range(n)]
            for t, n, s, p, d in zip(window, kernel, stride, padding, dilation, strict=True)
        ]
        yield window, [at for at in product(*spans) if all(0 <= a < e for a, e in zip(at, extents, strict=True))]


def max_pool_with_indices(x: Any, *, size: Any, **kw: Any) -> Any:
    rank = len(size)
    lead, extents = x.shape[:-rank], x.shape[-rank:]
    out, where = np.zeros((*lead, *size), x.dtype), np.zeros((*lead, *size), int)
    for window, places in visits(extents, size=size, **kw):
        _largest(x, window, places, out, where)
    return out, where


def _largest(x: Any, window: Any, places: Any, out: Any, where: Any) -> None:
    extents = x.shape[x.ndim - len(window) :]
    seen = np.stack([x[(..., *at)] for at in places])
    best = seen.argmax(0)
    out[(..., *window)] = seen.max(0)
    where[(..., *window)] = np.array([np.ravel_multi_index(at, extents) for at in places])[best]


def max_pool_backward(g: Any, x: Any, out: Any, **kw: Any) -> Any:
    _, where = max_pool_with_indices(x, **kw)
    return pool_scatter(g, where, shape=x.shape, rank=len(kw["size"]))


def pool_scatter(g: Any, indices: Any, *, shape: Any, rank: int) -> Any:
    out = np.zeros(shape, g.dtype)
    planes = out.reshape(-1, int(np.prod(shape[-rank:])))
    values, at = g.reshape(len(planes), -1), indices.reshape(len(planes), -1)
    for plane, v, i in zip(planes, values, at, strict=True):
        for one, place in zip(v, i, strict=True):
            plane[place] += one
    return out


def pool_gather(x: Any, indices: Any, *, rank: int) -> Any:
    planes = x.reshape(-1, int(np.prod(x.shape[-rank:])))
    at = indices.reshape(len(planes), -1)
    return np.stack([p[i] for p, i in zip(planes, at, strict=True)]).reshape(indices.shape)


def max_unpool(x: Any, indices: Any, *, size: Any) -> Any:
    out = np.zeros((*x.shape[: x.ndim - len(size)], *size), x.dtype)
    planes = out.reshape(-1, int(np.prod(size)))
    for plane, v, i in zip(planes, x.reshape(len(planes), -1), indices.reshape(len(planes), -1), strict=True):
        plane[i] = v
    return out


def adaptive_max_pool(x: Any, *, size: Any) -> Any:
    extents = x.shape[-len(size) :]
    out = np.zeros((*x.shape[: -len(size)], *size), x.dtype)
    where = np.zeros(out.shape, int)
    for part in product(*map(range, size)):
        spans = [range(i * n // m, -(-(i + 1) * n // m)) for i, n, m in zip(part, extents, size, strict=True)]
        _largest(x, part, list(product(*spans)), out, where)
    return out, where


def avg_pool(x: Any, *, kernel: Any, stride: Any, padding: Any, size: Any, divisor: Any) -> Any:
    rank, extents = len(kernel), x.shape[-len(kernel) :]
    out = np.zeros((*x.shape[:-rank], *size))
    ones = (1,) * rank
    wide = [n + 2 * p for n, p in zip(extents, padding, strict=True)]
    allowed = dict(visits(wide, kernel, stride, (0,) * rank, ones, size))
    for window, places in visits(extents, kernel, stride, padding, ones, size):
        count = {"all": len(allowed[window]), "inside": len(places)}.get(divisor, divisor)
        out[(..., *window)] = sum(x[(..., *at)] for at in places) / count
    return out


def avg_pool_input(g: Any, *, shape: Any, **kw: Any) -> Any:
    """By the forward map of each unit vector."""
    rank = len(kw["kernel"])
    units = np.eye(int(np.prod(shape[-rank:]))).reshape(-1, *shape[-rank:])
    matrix = avg_pool(units, **kw).reshape(len(units), -1)
    planes = int(np.prod(shape[:-rank]))
    return (g.reshape(planes, -1) @ matrix.T).reshape(shape)


def fractional_max_pool(x: Any, samples: Any, *, kernel: Any, size: Any) -> Any:
    out, where = np.zeros((*x.shape[:2], *size)), np.zeros((*x.shape[:2], *size), int)
    rank, extents = len(size), x.shape[2:]
    for n, c in np.ndindex(x.shape[:2]):
        numbers = samples[n, c] if rank == 3 else samples[n, c][::-1]
        starts = []
        for u, extent, k, m in zip(numbers, extents, kernel, size, strict=True):
            step = (extent - k) / (m - 1) if m > 1 else 0.0
            starts.append([int((i + u) * step) - int(u * step) for i in range(m - 1)] + [extent - k])
        for part in product(*map(range, size)):
            spans = [range(s[i], s[i] + k) for s, i, k in zip(starts, part, kernel, strict=True)]
            places = list(product(*spans))
            _largest(x[n, c], part, places, out[n, c], where[n, c])
    return out, where


def scatter_samples(rng: np.random.Generator) -> list[Sample]:
    return [
        S(_n(rng, 2, 3, 2, 2), rng.integers(0, 12, (2, 3, 2, 2)), shape=(2, 3, 3, 4), rank=2),
        S(_n(rng, 2, 5), rng.integers(0, 4, (2, 5)), shape=(2, 4), rank=1),
    ]


RECORDS = [
    Record(
        "max_pool",
        lambda rng: [S(_distinct(rng, *x), **kw) for x, kw in CASES],
        lambda x, **kw: max_pool_with_indices(x, **kw)[0],
        dtypes=(*FLOATS, "int64", "uint8"),
    ),
    Record(
        "max_pool_with_indices",
        lambda rng: [S(_distinct(rng, *x), **kw) for x, kw in CASES],
        max_pool_with_indices,
        dtypes=(*FLOATS, "int64"),
    ),
    Record(
        "max_pool_backward",
        lambda rng: [
            S(_n(rng, *x[: len(x) - len(kw["size"])], *kw["size"]), v, max_pool_with_indices(v, **kw)[0], **kw)
            for x, kw in CASES
            for v in (_distinct(rng, *x), rng.integers(0, 3, x).astype("f8"))
        ],
        max_pool_backward,
        grad=False,
        dtypes=("float32", "float64"),
    ),
    Record(
        "adaptive_max_pool",
        lambda rng: [S(_distinct(rng, 2, 2, 5, 7), size=(3, 4)), S(_distinct(rng, 2, 5), size=(7,))],
        adaptive_max_pool,
        dtypes=FLOATS,
    ),
    Record(
        "fractional_max_pool",
        lambda rng: [
            S(_distinct(rng, 2, 2, 7, 6), rng.random((2, 2, 2)), kernel=(2, 3), size=(4, 2)),
            S(_distinct(rng, 1, 2, 5, 4, 6), rng.random((1, 2, 3)), kernel=(2, 1, 2), size=(3, 1, 4)),
        ],
        fractional_max_pool,
        dtypes=("float32", "float64"),
    ),
    Record("pool_scatter", scatter_samples, pool_scatter, linear=True, dtypes=("float16", "float32", "float64")),
    Record(
        "pool_gather",
        lambda rng: [
            S(_n(rng, 2, 3, 3, 4), rng.integers(0, 12, (2, 3, 2, 2)), rank=2),
            S(_n(rng, 2, 4), rng.integers(0, 4, (2, 5)), rank=1),
        ],
        pool_gather,
        linear=True,
        dtypes=FLOATS,
    ),
    Record(
        "max_unpool",
        lambda rng: [S(_n(rng, 2, 3, 2, 2), np.tile(rng.permutation(12)[:4].reshape(2, 2), (2, 3, 1, 1)), size=(3, 4))],
        max_unpool,
        linear=True,
        dtypes=FLOATS,
        errors=[
            Failure(
                S(np.ones((1, 1, 1, 2)), np.array([[[[0, 4]]]]), size=(2, 2)),
                RuntimeError,
                r"invalid max index: 4 \(output volumes are of size 2x2\)",
            )
        ],
    ),
    Record(
        "avg_pool",
        lambda rng: [S(_n(rng, *x), **kw, divisor=d) for (x, kw), d in zip(SUMMED, DIVISORS, strict=True)],
        avg_pool,
        linear=True,
        dtypes=FLOATS,
    ),
    Record(
        "avg_pool_input",
        lambda rng: [
            S(_n(rng, *x[: len(x) - len(kw["size"])], *kw["size"]), shape=x, **kw, divisor=d)
            for (x, kw), d in zip(SUMMED, DIVISORS, strict=True)
        ],
        avg_pool_input,
        linear=True,
        dtypes=FLOATS,
    ),
]
