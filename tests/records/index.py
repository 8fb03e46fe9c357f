"""Records of indexing: index, gather, scatter, masks."""

from __future__ import annotations

from typing import Any

import numpy as np

from .base import Failure, Record, S
from .shape import ALL, ANY, _n, linear


def _ints(*values: Any) -> np.ndarray:
    return np.array(values, np.int64)


def _key(indices: Any, places: Any) -> Any:
    key = [ALL] * (max(places) + 1)
    for p, i in zip(places, indices, strict=True):
        key[p] = i
    return tuple(key)


def _index(x: Any, *indices: Any, places: Any, unique: bool = False) -> Any:
    return x[_key(indices, places)]


def _index_sum(g: Any, *indices: Any, shape: Any, places: Any, unique: bool = False) -> Any:
    out = np.zeros(shape)
    np.add.at(out, _key(indices, places), g)
    return out


def _index_put(x: Any, value: Any, *indices: Any, places: Any, accumulate: bool = False, inplace: bool = False) -> Any:
    out = x.copy()
    if accumulate:
        np.add.at(out, _key(indices, places), value)
    else:
        out[_key(indices, places)] = value
    return out


def _index_zero(x: Any, *indices: Any, places: Any) -> Any:
    return _index_put(x, 0.0, *indices, places=places)


def _rows(x: Any, index: Any, src: Any, axis: int, add: bool) -> Any:
    return _index_put(x, src, index, places=(axis,), accumulate=add)


def _take(x: Any, index: Any) -> Any:
    return x.reshape(-1)[index]


def _put(x: Any, index: Any, src: Any, accumulate: bool = False) -> Any:
    return _index_put(x.reshape(-1), src, index, places=(0,), accumulate=accumulate).reshape(x.shape)


def _masked_scatter(x: Any, mask: Any, src: Any) -> Any:
    out = x.copy()
    out[mask] = src.reshape(-1)[: mask.sum()]
    return out


def _masked_spread(g: Any, mask: Any) -> Any:
    return _masked_scatter(np.zeros(mask.shape), mask, g)


def _each(index: Any, axis: int) -> Any:
    """(place in the index, place it names) for every element."""
    for place in np.ndindex(index.shape):
        yield place, (*place[:axis], int(index[place]), *place[axis + 1 :])


def _gather(x: Any, index: Any, axis: int) -> Any:
    out = np.empty(index.shape)
    for place, named in _each(index, axis):
        out[place] = x[named]
    return out


def _combine(x: Any, index: Any, src: Any, axis: int, reduce: str = "set", include_self: bool = True) -> Any:
    found: dict[Any, list[float]] = {}
    for place, named in _each(index, axis):
        found.setdefault(named, [x[named]] if include_self and reduce != "set" else []).append(
            src[place] if isinstance(src, np.ndarray) else src
        )
    out = x.copy()
    ways = {"sum": np.sum, "prod": np.prod, "mean": np.mean, "amax": np.max, "amin": np.min, "set": lambda v: v[-1]}
    for named, values in found.items():
        out[named] = ways[reduce](values)
    return out


def _count(x: Any, index: Any, axis: int, include_self: bool) -> Any:
    ones = _combine(np.full(x.shape, float(include_self)), index, 1.0, axis, "sum")
    return np.maximum(ones, 1)


def _shares(x: Any, index: Any, src: Any, out: Any, axis: int, include_self: bool) -> Any:
    own = (x == out).astype(float)
    if not include_self:
        own = _combine(own, index, 0.0, axis)
    other = (src == _gather(out, index, axis)).astype(float)
    ties = np.maximum(_combine(own, index, other, axis, "sum"), 1)
    return own / ties, other / _gather(ties, index, axis)


def _places(x: Any) -> Any:
    return np.argwhere(x) if x.ndim else np.zeros((int(x != 0), 0))


def _searched(edges: Any, x: Any, right: bool) -> Any:
    side: Any = "right" if right else "left"
    if edges.ndim == 1:
        return np.searchsorted(edges, x, side)
    return np.stack([np.searchsorted(e, v, side) for e, v in zip(edges, x, strict=True)])


FIRST, SECOND = _ints([0, 2], [1, 1]), _ints([3, 0], [-1, 3])
G = _ints([0, 1], [2, 0], [0, 1])  # along axis 0 of (4, 3)
MASK = np.array([[True, False, True], [False, False, True]])
TWICE = _ints(*([5] * 12), 1, 0, 3)  # one row more often than the rounds of add_rows
INDICES: list[dict[str, Any]] = [
    {"indices": (_ints(2, 0, 2, -1),), "places": (0,), "shape": (3, 4)},
    {"indices": (FIRST,), "places": (1,), "shape": (2, 3, 2)},
    {"indices": (FIRST, SECOND), "places": (0, 1), "shape": (3, 4)},
    {"indices": (FIRST, SECOND), "places": (0, 2), "shape": (3, 2, 4)},
    {"indices": (FIRST, SECOND), "places": (1, 2), "shape": (2, 3, 4)},
    {"indices": (_ints(),), "places": (0,), "shape": (3, 4)},
    {"indices": (TWICE,), "places": (0,), "shape": (6, 40)},
]


def _reads(rng: np.random.Generator) -> Any:
    found = [S(_n(rng, *k["shape"]), *k["indices"], places=k["places"]) for k in INDICES]
    return [*found, S(_n(rng, 2, 3), *np.nonzero(MASK), places=(0, 1), unique=True)]


def _sums(rng: np.random.Generator) -> Any:
    found = []
    for k in INDICES:
        shape = np.zeros(k["shape"])[_key(k["indices"], k["places"])].shape
        found.append(S(_n(rng, *shape), *k["indices"], places=k["places"], shape=k["shape"]))
    return [*found, S(_n(rng, 3), *np.nonzero(MASK), places=(0, 1), shape=(2, 3), unique=True)]


def _puts(rng: np.random.Generator) -> Any:
    once = _ints([0, 2], [1, -1])
    return [
        S(_n(rng, 4, 3), _n(rng, 2, 2, 3), once, places=(0,)),
        S(_n(rng, 4, 3), _n(rng, 3), once, places=(0,)),
        S(_n(rng, 3, 4), _n(rng), FIRST, once, places=(0, 1)),
        S(_n(rng, 3, 4), _n(rng, 2, 1), FIRST, SECOND, places=(0, 1), accumulate=True),
        S(_n(rng, 30, 4), _n(rng, 1), FIRST, SECOND, places=(0, 1), accumulate=True),
        S(_n(rng, 2, 4), _n(rng, 2, 1), _ints(0, 3), places=(1,), accumulate=True),
    ]


OUT = Failure(S(np.ones((3, 2)), _ints(0, 3), places=(0,)), IndexError, "index 3 is out of bounds for dimension 0 with")

BY_INDEX = [
    linear(
        "index",
        _reads,
        _index,
        errors=[
            OUT,
            Failure(S(np.ones((3, 2)), _ints(0, 1), _ints(0, 1, 0), places=(0, 1)), IndexError, r"shapes \[2\], \[3\]"),
        ],
    ),
    linear("index_backward", _sums, _index_sum),
    linear(
        "index_put",
        _puts,
        _index_put,
        errors=[
            Failure(
                S(np.ones((3, 2)), np.ones(3), _ints(0, 1), places=(0,)),
                RuntimeError,
                r"value tensor of shape \[3\] cannot be broadcast to indexing result of shape \[2, 2\]",
            ),
            Failure(S(np.ones((3, 2)), np.ones(2), _ints(-4), places=(0,)), IndexError, "index -4 is out of bounds"),
        ],
    ),
    linear("index_zero", lambda rng: [S(_n(rng, 3, 4), FIRST, SECOND, places=(0, 1))], _index_zero),
    linear(
        "index_select",
        lambda rng: [
            S(_n(rng, 2, 3), _ints(2, 0, 2), axis=1), S(_n(rng, 3), _ints(), axis=0),
            S(_n(rng, 4, 3), _ints(2, 0, 2), axis=0),
        ],  # fmt: skip
        lambda x, index, axis: x.take(index, axis),
        errors=[Failure(S(np.ones(3), _ints(-1), axis=0), IndexError, "index out of range in self")],
    ),
    linear(
        "index_add",
        lambda rng: [
            S(_n(rng, 4, 3), _ints(1, 3, 1), _n(rng, 3, 3), axis=0),
            S(_n(rng, 2, 3), _ints(0, 0), _n(rng, 2, 2), axis=1),
            S(_n(rng, 6, 40), TWICE, _n(rng, 15, 40), axis=0),
        ],
        lambda x, index, src, axis: _rows(x, index, src, axis, True),
        errors=[Failure(S(np.ones(3), _ints(3), np.ones(1), axis=0), RuntimeError, "index 3 is out of bounds")],
    ),
    linear(
        "index_copy",
        lambda rng: [
            S(_n(rng, 4, 3), _ints(1, 3), _n(rng, 2, 3), axis=0),
            S(_n(rng, 2, 3), _ints(2), _n(rng, 2, 1), axis=1),
        ],
        lambda x, index, src, axis: _rows(x, index, src, axis, False),
        errors=[Failure(S(np.ones(3), _ints(-1), np.ones(1), axis=0), IndexError, r"index_copy_\(\): index -1")],
    ),
    Record(
        "index_fill",
        lambda rng: [S(_n(rng, 4, 3), _ints(1, -1), axis=0, value=2.5), S(_n(rng, 2, 3), _ints(2), axis=1, value=0)],
        lambda x, index, axis, value: _index_put(x, value, index, places=(axis,)),
        errors=[Failure(S(np.ones(3), _ints(5), axis=0, value=1), IndexError, "index 5 is out of bounds")],
    ),
    linear(
        "index_fill_tensor",
        lambda rng: [S(_n(rng, 4, 3), _ints(1, -1), _n(rng), axis=0)],
        lambda x, index, value, axis: _index_put(x, value, index, places=(axis,)),
    ),
    linear(
        "take",
        lambda rng: [S(_n(rng, 2, 3), _ints([0, 5], [-1, 0]))],
        _take,
        errors=[Failure(S(np.ones(3), _ints(0, -4)), IndexError, "access index -4 on a tensor of 3 elements")],
    ),
    linear(
        "put",
        lambda rng: [
            S(_n(rng, 2, 3), _ints(0, -1), _n(rng, 2)),
            S(_n(rng, 2, 3), _ints(0, 0, 5), _n(rng, 3), accumulate=True),
        ],
        _put,
        errors=[Failure(S(np.ones(3), _ints(3), np.ones(1)), IndexError, "access index 3 on a tensor of 3 elements")],
    ),
]

BY_MASK = [
    Record(
        "masked_fill",
        lambda rng: [S(_n(rng, 2, 3), MASK, value=2.5), S(_n(rng, 2, 3), MASK[:1], value=0)],
        lambda x, mask, value: np.where(mask, value, x),
    ),
    linear(
        "masked_fill_tensor",
        lambda rng: [S(_n(rng, 2, 3), MASK, _n(rng))],
        lambda x, mask, value: np.where(mask, value, x),
    ),
    linear("masked_select", lambda rng: [S(_n(rng, 2, 3), MASK)], lambda x, mask: x[mask]),
    linear("masked_spread", lambda rng: [S(_n(rng, 3), MASK)], _masked_spread),
    linear(
        "masked_scatter",
        lambda rng: [S(_n(rng, 2, 3), MASK, _n(rng, 2, 2)), S(_n(rng, 2, 3), MASK, _n(rng, 3))],
        _masked_scatter,
        errors=[
            Failure(S(np.ones((2, 3)), MASK, np.ones(2)), RuntimeError, "Number of elements of source < number of ones")
        ],
    ),
    Record(
        "nonzero",
        lambda rng: [S(np.array([[0.0, 2.0], [1.0, 0.0]])), S(np.array(3.0)), S(np.array(0.0)), S(np.zeros(2))],
        _places,
        grad=False,
        out_dtype="int64",
        dtypes=ANY,
    ),
    Record(
        "one_hot",
        lambda rng: [S(_ints([0, 2], [1, 1]), classes=4), S(_ints(), classes=2)],
        lambda index, classes: np.eye(classes)[index],
        grad=False,
        out_dtype="int64",
        dtypes=("int64",),
    ),
    Record(
        "searchsorted",
        lambda rng: (
            [
                S(np.array([1.0, 2.0, 2.0, 5.0]), np.array([[2.0, 0.0], [9.0, 3.0]]), right=right)
                for right in (False, True)
            ]
            + [S(np.array([[1.0, 2.0], [3.0, 4.0]]), np.array([[1.0, 1.5], [3.0, 9.0]]), right=True)]
        ),
        _searched,
        grad=False,
        out_dtype="int64",
    ),
]

SCATTERS = [
    linear(
        "gather",
        lambda rng: [S(_n(rng, 4, 3), G, axis=0), S(_n(rng, 3, 3), G, axis=1), S(_n(rng, 3), _ints(1, 1), axis=0)],
        _gather,
        errors=[
            Failure(S(np.ones((4, 3)), _ints([4]), axis=0), RuntimeError, "index 4 is out of bounds for dimension 0"),
            Failure(S(np.ones((4, 3)), _ints([-1]), axis=1), RuntimeError, "index -1 is out of bounds for dimension 1"),
        ],
    ),
    linear(
        "gather_backward",
        lambda rng: [S(_n(rng, 3, 2), G, shape=(4, 3), axis=0)],
        lambda g, index, shape, axis: _combine(np.zeros(shape), index, g, axis, "sum"),
    ),
    linear(
        "scatter",
        lambda rng: [S(_n(rng, 4, 3), _ints([0, 1], [2, 0], [1, 2]), _n(rng, 3, 2), axis=0)],
        _combine,
        errors=[Failure(S(np.ones(2), _ints(2), np.ones(1), axis=0), RuntimeError, "index 2 is out of bounds")],
    ),
    Record(
        "scatter_fill",
        lambda rng: [S(_n(rng, 4, 3), G, axis=0, value=1.5)],
        lambda x, index, axis, value: _combine(x, index, value, axis),
        errors=[Failure(S(np.ones(2), _ints(2), axis=0, value=1), RuntimeError, "index 2 is out of bounds")],
    ),
    linear(
        "scatter_add",
        lambda rng: [S(_n(rng, 4, 3), G, _n(rng, 3, 2), axis=0)],
        lambda x, index, src, axis: _combine(x, index, src, axis, "sum"),
        errors=[Failure(S(np.ones(2), _ints(2), np.ones(1), axis=0), RuntimeError, "index 2 is out of bounds")],
    ),
    Record(
        "scatter_reduce",
        lambda rng: [
            S(_n(rng, 4, 3), G, _n(rng, 3, 2), axis=0, reduce=reduce, include_self=include)
            for reduce in ("sum", "prod", "mean", "amax", "amin")
            for include in (True, False)
        ],
        _combine,
        grad_rtol=1e-5,
    ),
    Record(
        "scatter_count",
        lambda rng: [S(_n(rng, 4, 3), G, axis=0, include_self=b) for b in (True, False)],
        _count,
        grad=False,
    ),
    Record(
        "scatter_shares",
        lambda rng: [
            S(
                np.array([1.0, 5.0, 2.0]),
                _ints(0, 0, 2, 2),
                np.array([1.0, 0.0, 3.0, 3.0]),
                np.array([1.0, 5.0, 3.0]),
                axis=0,
                include_self=b,
            )
            for b in (True, False)
        ],
        _shares,
        grad=False,
    ),
    Record(
        "is_zero",
        lambda rng: [S(np.array([0.0, 1.0, -0.0]))],
        lambda x: x == 0,
        grad=False,
        out_dtype="bool",
        dtypes=ANY,
    ),
]

RECORDS = BY_INDEX + BY_MASK + SCATTERS
