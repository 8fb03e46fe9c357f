"""Records of the convolutions, and of windows as columns. The references walk over the output places one by one."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np

from .base import Record, S, Sample

FLOATS = ("float16", "bfloat16", "float32", "float64")


def _n(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return rng.standard_normal(shape)


def geometry(stride: Any, padding: Any, dilation: Any, groups: int = 1) -> dict[str, Any]:
    return {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}


# (x, w, keywords): one to three dimensions; strides, uneven paddings, dilations, groups, depthwise; 1x1; kernels that
# leave places unused; padding wider than the kernel; no batch; more than one block of images
CASES = [
    ((2, 3, 7), (4, 3, 3), geometry((2,), (1,), (1,))),
    ((2, 4, 9), (6, 2, 3), geometry((3,), (4,), (2,), 2)),
    ((2, 3, 5, 6), (4, 3, 3, 2), geometry((1, 1), (1, 0), (1, 1))),
    ((3, 2, 8, 7), (3, 2, 3, 3), geometry((2, 3), (2, 1), (1, 2))),
    ((2, 4, 5, 5), (8, 1, 3, 3), geometry((1, 2), (1, 1), (2, 1), 4)),
    ((2, 3, 4, 4), (5, 3, 1, 1), geometry((1, 1), (0, 0), (1, 1))),
    ((2, 3, 5, 5), (5, 3, 1, 1), geometry((2, 2), (0, 0), (1, 1))),
    ((2, 1, 6, 6), (9, 1, 3, 3), geometry((1, 1), (0, 0), (1, 1))),
    ((1, 2, 3, 4, 5), (4, 2, 2, 3, 2), geometry((1, 2, 1), (1, 1, 0), (1, 1, 2))),
    ((0, 2, 4, 4), (3, 2, 3, 3), geometry((1, 1), (1, 1), (1, 1))),
]


def out_shape(x: Any, w: Any, kw: dict[str, Any]) -> tuple[int, ...]:
    sizes = zip(x[2:], w[2:], kw["stride"], kw["padding"], kw["dilation"], strict=True)
    return (x[0], w[0], *[(n + 2 * p - d * (k - 1) - 1) // s + 1 for n, k, s, p, d in sizes])


def visits(padded: Any, kernel: Any, size: Any, stride: Any, dilation: Any) -> Any:
    """(output place, view of what it sees) for each place. The view: (N, C, *K)."""
    for place in product(*map(range, size)):
        see = [
            slice(t * s, t * s + d * (k - 1) + 1, d) for t, s, k, d in zip(place, stride, kernel, dilation, strict=True)
        ]
        yield place, padded[(slice(None), slice(None), *see)]


def padded(x: Any, padding: Any) -> Any:
    return np.pad(x, [(0, 0), (0, 0), *[(p, p) for p in padding]])


def cropped(x: Any, padding: Any) -> Any:
    return x[(slice(None), slice(None), *[slice(p, x.shape[2 + i] - p) for i, p in enumerate(padding)])]


def by_groups(x: Any, groups: int, axis: int) -> Any:
    return x.reshape(*x.shape[:axis], groups, x.shape[axis] // groups, *x.shape[axis + 1 :])


def conv(x: Any, w: Any, b: Any = None, *, stride: Any, padding: Any, dilation: Any, groups: int) -> Any:
    shape = out_shape(x.shape, w.shape, geometry(stride, padding, dilation))
    out = np.zeros(shape, x.dtype)
    for place, seen in visits(padded(x, padding), w.shape[2:], shape[2:], stride, dilation):
        value = np.einsum("ngck,gock->ngo", *flattened(by_groups(seen, groups, 1), by_groups(w, groups, 0)))
        out[(slice(None), slice(None), *place)] = value.reshape(shape[:2])
    return out if b is None else out + b.reshape(-1, *[1] * len(stride))


def flattened(*arrays: Any) -> Any:
    return [a.reshape(*a.shape[:3], np.prod(a.shape[3:], dtype=int)) for a in arrays]


def conv_input(
    g: Any, w: Any, b: Any = None, *, shape: Any, stride: Any, padding: Any, dilation: Any, groups: int
) -> Any:
    total = padded(np.zeros(shape, g.dtype), padding)
    for place, seen in visits(total, w.shape[2:], g.shape[2:], stride, dilation):
        value = by_groups(g[(slice(None), slice(None), *place)], groups, 1)
        seen += np.einsum("ngo,goc...->ngc...", value, by_groups(w, groups, 0)).reshape(seen.shape)
    out = cropped(total, padding)
    return out if b is None else out + b.reshape(-1, *[1] * len(stride))


def conv_weight(x: Any, g: Any, *, shape: Any, stride: Any, padding: Any, dilation: Any, groups: int) -> Any:
    out = np.zeros((groups, shape[0] // groups, *shape[1:]), x.dtype)
    for place, seen in visits(padded(x, padding), shape[2:], g.shape[2:], stride, dilation):
        value = by_groups(g[(slice(None), slice(None), *place)], groups, 1)
        out += np.einsum("ngo,ngc...->goc...", value, by_groups(seen, groups, 1))
    return out.reshape(shape)


def im2col(x: Any, *, kernel: Any, stride: Any, padding: Any, dilation: Any) -> Any:
    size = out_shape(x.shape, (1, 1, *kernel), geometry(stride, padding, dilation))[2:]
    columns = [seen.reshape(len(x), -1) for _, seen in visits(padded(x, padding), kernel, size, stride, dilation)]
    return np.stack(columns, -1)


def col2im(g: Any, *, shape: Any, kernel: Any, stride: Any, padding: Any, dilation: Any) -> Any:
    total = padded(np.zeros(shape), padding)
    size = out_shape(shape, (1, 1, *kernel), geometry(stride, padding, dilation))[2:]
    for i, (_, seen) in enumerate(visits(total, kernel, size, stride, dilation)):
        seen += g[:, :, i].reshape(seen.shape)
    return cropped(total, padding)


def conv_samples(rng: np.random.Generator) -> list[Sample]:
    biased = [S(_n(rng, *x), _n(rng, *w), _n(rng, w[0]), **kw) for x, w, kw in CASES]
    return [*biased, *[S(_n(rng, *x), _n(rng, *w), None, **kw) for x, w, kw in CASES[1:3]]]


def input_samples(rng: np.random.Generator) -> list[Sample]:
    samples = []
    for i, (x, w, kw) in enumerate(CASES):
        b = _n(rng, x[1]) if i % 2 else None
        samples.append(S(_n(rng, *out_shape(x, w, kw)), _n(rng, *w), b, shape=x, **kw))
    return samples


COLUMNS = [
    ((2, 2, 4, 5), {"kernel": (2, 3), "stride": (1, 2), "padding": (1, 0), "dilation": (2, 1)}),
    ((1, 3, 5, 5), {"kernel": (2, 2), "stride": (2, 2), "padding": (0, 0), "dilation": (1, 1)}),
]


def column_samples(rng: np.random.Generator) -> list[Sample]:
    made = [(x, im2col(np.zeros(x), **kw).shape, kw) for x, kw in COLUMNS]
    return [S(_n(rng, *shape), shape=x, **kw) for x, shape, kw in made]


RECORDS = [
    Record("conv", conv_samples, conv, complex=True, dtypes=(*FLOATS, "int64")),
    Record("conv_input", input_samples, conv_input, complex=True, dtypes=FLOATS),
    Record(
        "conv_weight",
        lambda rng: [S(_n(rng, *x), _n(rng, *out_shape(x, w, kw)), shape=w, **kw) for x, w, kw in CASES],
        conv_weight,
        complex=True,
        dtypes=FLOATS,
    ),
    Record(
        "channel_sum",
        lambda rng: [S(_n(rng, 2, 3)), S(_n(rng, 2, 3, 4)), S(_n(rng, 2, 3, 4, 5)), S(_n(rng, 0, 3, 4))],
        lambda g: g.sum(tuple(i for i in range(g.ndim) if i != 1)),
        grad=False,
        dtypes=FLOATS,
    ),
    Record(
        "im2col", lambda rng: [S(_n(rng, *x), **kw) for x, kw in COLUMNS], im2col, linear=True, complex=True,
        dtypes=FLOATS,
    ),
    Record("col2im", column_samples, col2im, linear=True, complex=True, dtypes=FLOATS),
]  # fmt: skip
