"""Records of the shape ops: views, joins, copies that reorder, padding."""

from __future__ import annotations

from typing import Any

import numpy as np

from .base import Failure, Record, S

ANY = ("float16", "float32", "float64", "int64", "bool")
ALL, REST = slice(None), Ellipsis


def _n(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return rng.standard_normal(shape)


def linear(op: str, samples: Any, reference: Any, **options: Any) -> Record:
    """The record of an op that only moves elements."""
    return Record(
        op, samples, reference, linear=True, complex=True, dtypes=("float16", "float32", "float64"), **options
    )


def _zeros_at(g: Any, shape: Any, index: Any) -> Any:
    out = np.zeros(shape)
    out[index] = g
    return out


def _diag_embed(x: Any, shape: Any, offset: int, axis1: int, axis2: int) -> Any:
    out = np.zeros(shape)
    for place in np.ndindex(x.shape):
        full: list[Any] = [None] * len(shape)
        full[axis1], full[axis2] = place[-1] + max(-offset, 0), place[-1] + max(offset, 0)
        rest = iter(place[:-1])
        out[tuple(next(rest) if i is None else i for i in full)] = x[place]
    return out


def _windows(x: Any, axis: int, size: int, step: int) -> Any:
    starts = range(0, x.shape[axis] - size + 1, step)
    return np.stack([np.moveaxis(x.take(range(s, s + size), axis), axis, -1) for s in starts], axis)


def _fold(g: Any, shape: Any, axis: int, size: int, step: int) -> Any:
    out = np.zeros(shape)
    for place in np.ndindex(g.shape):
        at = list(place[:-1])
        at[axis] = at[axis] * step + place[-1]
        out[tuple(at)] += g[place]
    return out


def _strided(x: Any, layout: Any, size: Any, stride: Any, offset: int) -> Any:
    """For a contiguous x."""
    flat = x.reshape(-1)
    out = np.empty(size)
    for place in np.ndindex(tuple(size)):
        out[place] = flat[offset + sum(i * s for i, s in zip(place, stride, strict=True))]
    return out


def _strided_sum(g: Any, shape: Any, layout: Any, size: Any, stride: Any, offset: int) -> Any:
    out = np.zeros(int(np.prod(shape)))
    for place in np.ndindex(g.shape):
        out[offset + sum(i * s for i, s in zip(place, stride, strict=True))] += g[place]
    return out.reshape(shape)


def _with_places(base: Any, value: Any, places: Any) -> Any:
    out = np.array(base)
    out.reshape(-1)[np.array(places)] = value
    return out


def _replaced(base: Any, value: Any, chain: Any) -> Any:
    out = base.copy()
    ((name, kw),) = chain
    if name == "select":
        out[(ALL,) * kw["axis"] + (kw["index"],)] = value
    elif name == "slice_view":
        out[kw["index"]] = value
    else:
        out[np.arange(len(value)), np.arange(len(value)) + kw["offset"]] = value
    return out


_MODES = {"reflect": "reflect", "replicate": "edge", "circular": "wrap"}
_WINDOW = {"axis": 1, "size": 3, "step": 2}
_OVERLAP = {"layout": (4, 1), "size": (3, 3), "stride": (2, 1), "offset": 1}

VIEWS = [
    linear(
        "view",
        lambda rng: [S(_n(rng, 2, 6), shape=(3, 4)), S(_n(rng, 0, 3), shape=(3, 0))],
        np.reshape,
        errors=[
            Failure(S(np.ones((2, 3)), shape=(4,)), RuntimeError, r"shape '\[4\]' is invalid for input of size 6"),
            Failure(S(np.ones((2, 3, 2)).transpose(0, 2, 1)[:, :, :2], shape=(12,)), RuntimeError, "invalid for input"),
        ],
    ),
    linear("reshape", lambda rng: [S(_n(rng, 2, 6), shape=(3, 4)), S(_n(rng), shape=(1, 1))], np.reshape),
    Record(
        "view_dtype",
        lambda rng: [S(_n(rng, 2, 3), dtype=np.dtype(np.int64))],
        lambda x, dtype: x.view(dtype),
        grad=False,
        dtypes=("float64",),
        out_dtype="float64",
    ),
    linear("permute", lambda rng: [S(_n(rng, 2, 3, 4), axes=(2, 0, 1)), S(_n(rng), axes=())], np.transpose),
    linear(
        "transpose",
        lambda rng: [S(_n(rng, 2, 3, 4), axis0=0, axis1=2)],
        lambda x, axis0, axis1: x.swapaxes(axis0, axis1),
    ),
    linear("t", lambda rng: [S(_n(rng, 2, 3))], np.transpose),
    *[
        linear(
            name,
            lambda rng: [S(_n(rng, 1, 3, 1), axis=(0, 1)), S(_n(rng, 2, 1), axis=()), S(_n(rng, 1), axis=(0,))],
            lambda x, axis: np.squeeze(x, tuple(i for i in axis if x.shape[i] == 1)),
        )
        for name in ("squeeze", "squeeze_dim", "squeeze_dims")
    ],
    linear(
        "unsqueeze",
        lambda rng: [S(_n(rng, 2, 3), axis=1), S(_n(rng, 2), axis=1), S(_n(rng), axis=0)],
        lambda x, axis: np.expand_dims(x, axis),
    ),
    linear(
        "select",
        lambda rng: [S(_n(rng, 2, 3), axis=1, index=2), S(_n(rng, 4), axis=0, index=1)],
        lambda x, axis, index: x.take(index, axis),
    ),
    *[
        linear(
            name,
            lambda rng: [
                S(_n(rng, 4, 5), index=(1, slice(0, 4, 2), REST)),
                S(_n(rng, 4), index=(None, slice(2, 3), REST)),
                S(_n(rng, 2, 3), index=(1, 2, REST)),
                S(_n(rng, 3), index=(REST,)),
            ],
            lambda x, index: x[index],
        )
        for name in ("slice_view", "select_view", "unsqueeze_view", "alias_view")
    ],
    linear(
        "slice_backward",
        lambda rng: [
            S(_n(rng, 2), shape=(4, 5), index=(1, slice(0, 4, 2), REST)),
            S(_n(rng), shape=(2,), index=(1, REST)),
        ],
        _zeros_at,
    ),
    linear(
        "diagonal",
        lambda rng: [S(_n(rng, 3, 4), offset=1, axis1=0, axis2=1), S(_n(rng, 2, 3, 4), offset=-1, axis1=2, axis2=1)],
        np.diagonal,
    ),
    linear(
        "diag_embed",
        lambda rng: [
            S(_n(rng, 3), shape=(4, 4), offset=1, axis1=0, axis2=1),
            S(_n(rng, 2, 3), shape=(3, 2, 4), offset=0, axis1=0, axis2=2),
            S(_n(rng, 2), shape=(3, 3), offset=-1, axis1=0, axis2=1),
        ],
        _diag_embed,
    ),
    linear("unfold", lambda rng: [S(_n(rng, 2, 6), **_WINDOW), S(_n(rng, 5), axis=0, size=1, step=1)], _windows),
    linear("fold", lambda rng: [S(_n(rng, 2, 2, 3), shape=(2, 6), **_WINDOW)], _fold),
    linear("as_strided", lambda rng: [S(_n(rng, 3, 4), **_OVERLAP)], _strided),
    linear("as_strided_gather", lambda rng: [S(_n(rng, 3, 4), **_OVERLAP)], _strided),
    linear("as_strided_backward", lambda rng: [S(_n(rng, 3, 3), shape=(3, 4), **_OVERLAP)], _strided_sum),
    *[
        linear(
            name,
            lambda rng: [S(_n(rng, 2, 5), axis=1, sizes=(2, 1, 2)), S(_n(rng, 3), axis=0, sizes=(3,))],
            lambda x, axis, sizes: np.split(x, np.cumsum(sizes)[:-1], axis),
        )
        for name in ("split", "split_with_sizes")
    ],
    linear(
        "unbind",
        lambda rng: [S(_n(rng, 3, 2), axis=1), S(_n(rng, 3), axis=0)],
        lambda x, axis: list(np.moveaxis(x, axis, 0)),
    ),
    Record(
        "zeros_of", lambda rng: [S(_n(rng, 2), shape=(3, 1))], lambda x, shape: np.zeros(shape), grad=False, dtypes=ANY
    ),
]

COPIES = [
    linear(
        "cat",
        lambda rng: [
            S(_n(rng, 2, 3), _n(rng, 2, 0), _n(rng, 2, 1), axis=1),
            S(_n(rng, 2), _n(rng, 3), axis=0, starts=(0, 2)),
        ],
        lambda *xs, axis, starts=None: np.concatenate(xs, axis),
        errors=[
            Failure(
                S(np.ones((2, 3)), np.ones((2, 2)), axis=0), RuntimeError, "Expected size 3 but got size 2 for tensor"
            ),
            Failure(S(np.ones((2, 3)), np.ones(2), axis=0), RuntimeError, "same number of dimensions: got 2 and 1"),
        ],
    ),
    linear(
        "stack",
        lambda rng: [S(_n(rng, 2, 3), _n(rng, 2, 3), axis=1), S(_n(rng), _n(rng), axis=0)],
        lambda *xs, axis: np.stack(xs, axis),
        errors=[Failure(S(np.ones(2), np.ones(3), axis=0), RuntimeError, r"got \[2\] at entry 0 and \[3\] at entry 1")],
    ),
    linear(
        "repeat",
        lambda rng: [S(_n(rng, 2, 3), reps=(2, 3)), S(_n(rng, 2), reps=(0,))],
        lambda x, reps: np.tile(x, reps),
    ),
    linear(
        "flip", lambda rng: [S(_n(rng, 2, 3), axes=(0, 1)), S(_n(rng, 2), axes=())], lambda x, axes: np.flip(x, axes)
    ),
    linear(
        "roll",
        lambda rng: [S(_n(rng, 3, 4), shifts=(1, -2), axes=(0, 1)), S(_n(rng, 3), shifts=(4,), axes=(0,))],
        lambda x, shifts, axes: np.roll(x, shifts, axes),
    ),
    linear(
        "rot90",
        lambda rng: [S(_n(rng, 2, 3), k=1, axes=(0, 1)), S(_n(rng, 2, 3, 2), k=2, axes=(2, 0))],
        lambda x, k, axes: np.rot90(x, k, axes),
    ),
    linear("tril", lambda rng: [S(_n(rng, 3, 4), k=0), S(_n(rng, 2, 3, 3), k=-1)], lambda x, k: np.tril(x, k)),
    linear("triu", lambda rng: [S(_n(rng, 3, 4), k=0), S(_n(rng, 2, 3, 3), k=1)], lambda x, k: np.triu(x, k)),
    linear(
        "pad_constant",
        lambda rng: [S(_n(rng, 2, 3), widths=((1, 0), (2, 1)), value=0)],
        lambda x, widths, value: np.pad(x, widths, constant_values=value),
    ),
    linear(
        "pad_edge",
        lambda rng: [
            S(_n(rng, 3, 4), widths=((0, 0), (2, 3)), how="reflect"),
            S(_n(rng, 3, 4), widths=((2, 1), (0, 5)), how="replicate"),
            S(_n(rng, 3, 4), widths=((1, 1), (4, 0)), how="circular"),
        ],
        lambda x, widths, how: np.pad(x, widths, mode=_MODES[how]),
    ),
    linear(
        "pad_edge_backward",
        lambda rng: [S(_n(rng, 3, 6), widths=((0, 0), (2, 1)), how=how) for how in _MODES],
        lambda g, widths, how: g @ np.eye(3)[np.pad(np.arange(3), widths[1], mode=_MODES[how])],
    ),
    *[
        linear(name, samples, _replaced)
        for name, samples in {
            "select_scatter": lambda rng: [
                S(_n(rng, 3, 4), _n(rng, 3), chain=(("select", {"axis": 1, "index": 2}),)),
            ],
            "slice_scatter": lambda rng: [
                S(_n(rng, 3, 4), _n(rng, 3, 2), chain=(("slice_view", {"index": (ALL, slice(0, 4, 2), REST)}),)),
            ],
            "diagonal_scatter": lambda rng: [
                S(_n(rng, 3, 4), _n(rng, 3), chain=(("diagonal", {"offset": 1, "axis1": 0, "axis2": 1}),)),
            ],
        }.items()
    ],
    linear(
        "as_strided_scatter",
        lambda rng: [
            S(
                _n(rng, 3, 4), _n(rng, 2, 2),
                chain=(("as_strided", {"layout": (4, 1), "size": (2, 2), "stride": (5, 1), "offset": 2}),),
            ),
        ],
        lambda base, value, chain: _with_places(base, value, [[2, 3], [7, 8]]),
    ),
]

RECORDS = VIEWS + COPIES
