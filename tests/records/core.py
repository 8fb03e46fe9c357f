"""Records of the ops that the engine and the in-place machinery rest on."""

from __future__ import annotations

from typing import Any

import numpy as np
import tapegrad

from .base import Failure, Record, S
from .shape import ANY, REST, _n, linear

# A matrix; its transpose; the second row of that; every second element there.
CHAIN = (
    ("transpose", {"axis0": 0, "axis1": 1}),
    ("select", {"axis": 0, "index": 1}),
    ("slice_view", {"index": (slice(0, 3, 2), REST)}),
)


def _write(x: Any, value: Any) -> Any:
    out = x.copy()
    out.T[1][0:3:2] = value
    return out


def _cast(x: Any, dtype: Any) -> Any:
    return (x.real if x.dtype.kind == "c" and dtype.kind != "c" else x).astype(dtype)


RECORDS = [
    linear("alias", lambda rng: [S(_n(rng, 2, 3)), S(_n(rng))], lambda x: x),
    linear("clone_kept", lambda rng: [S(_n(rng, 2, 3)), S(_n(rng, 4, 3).T), S(_n(rng, 0))], np.array),
    linear("clone", lambda rng: [S(_n(rng, 2, 3)), S(_n(rng, 0))], np.array),
    Record(
        "cast",
        lambda rng: [S(_n(rng, 3), dtype=np.dtype(np.float64)), S(_n(rng, 3), dtype=np.dtype(np.complex128))],
        _cast,
        dtypes=ANY,
    ),
    linear(
        "sum_to",
        lambda rng: [S(_n(rng, 2, 3, 4), shape=(3, 1)), S(_n(rng, 2), shape=())],
        lambda x, shape: x.sum(axis=tuple(range(x.ndim - len(shape)))).sum(
            axis=tuple(i for i, n in enumerate(shape) if n == 1), keepdims=True
        ),
    ),
    linear(
        "expand",
        lambda rng: [S(_n(rng, 3, 1), shape=(2, 3, 4)), S(_n(rng), shape=(2,)), S(_n(rng, 2), shape=(2,))],
        lambda x, shape: np.broadcast_to(x, shape),
        errors=[Failure(S(np.ones(3), shape=(2,)), RuntimeError, "3")],
    ),
    Record("zeros_like", lambda rng: [S(_n(rng, 2, 3))], np.zeros_like, grad=False, dtypes=ANY),
    Record("ones_like", lambda rng: [S(_n(rng, 2, 3))], np.ones_like, grad=False, dtypes=ANY),
    Record(
        "cut",
        lambda rng: [S(_n(rng, 2, 3))],
        lambda x: x,
        grad=False,
        reference_note="zero by purpose, not the gradient of its forward; test_views.py follows overwritten tensors",
    ),
    Record(
        "sampled",
        lambda rng: [S(_n(rng, 2, 3), _n(rng, 2, 3))],
        lambda x, draw: draw,
        grad=False,
        reference_note="zero by definition: PyTorch's gradient of a random sample; test_api_more.py compares it",
    ),
    linear("copy_slices", lambda rng: [S(_n(rng, 3, 4), _n(rng, 2), chain=CHAIN)], lambda x, v, chain: _write(x, v)),
    linear("zero_region", lambda rng: [S(_n(rng, 3, 4), chain=CHAIN)], lambda x, chain: _write(x, 0.0)),
    linear("transfer", lambda rng: [S(_n(rng, 2), device=tapegrad.device("cpu"))], lambda x, device: x),
]
