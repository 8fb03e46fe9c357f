"""Records of special functions, against SciPy where it is installed and Python's math elsewhere."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .base import Record, S
from .elementwise import ALL_FLOATS, draw

try:
    from scipy import special
except ImportError:
    special = None


def reference(scipy_name: str, of_one: Any = None) -> Any:
    """SciPy's function, or Python's, element by element; None where there is neither."""
    if special is not None:
        return getattr(special, scipy_name)
    return None if of_one is None else np.vectorize(of_one, otypes=[float])


def record(op: str, scipy_name: str, low: float, high: float, of_one: Any = None, **kw: Any) -> Record:
    samples = draw(low, high, **kw.pop("sample", {}))
    return Record(
        op, samples, kw.pop("reference", reference(scipy_name, of_one)), dtypes=ALL_FLOATS,
        reference_note="SciPy is not installed", **kw,
    )  # fmt: skip


RECORDS = [
    Record(
        "erf", lambda rng: [S(rng.uniform(-2, 2, (3, 4))), S(np.array([4.1, -5.0]))], reference("erf", math.erf),
        dtypes=ALL_FLOATS, rtol=1e-15, reference_note="SciPy is not installed",
    ),
    Record(
        "erfc", lambda rng: [S(rng.uniform(-2, 2, (3, 4))), S(np.array([4.1, -5.0]))],
        reference("erfc", math.erfc), dtypes=ALL_FLOATS, rtol=2e-15, reference_note="SciPy is not installed",
    ),
    Record(
        "erfinv", lambda rng: [S(rng.uniform(-0.9, 0.9, (3, 4))), S(np.array([-0.95, 0.86]))],
        reference("erfinv"), dtypes=ALL_FLOATS, rtol=2e-15, reference_note="SciPy is not installed",
    ),
    Record(
        "lgamma", lambda rng: [S(rng.uniform(0.3, 5, (3, 4))), S(np.array([-3.5, -0.3, 12.9, 13.1, 1.0, 2.0]))],
        reference("gammaln", math.lgamma), dtypes=ALL_FLOATS, rtol=2e-14, reference_note="SciPy is not installed",
    ),
    Record(
        "digamma",
        lambda rng: [S(rng.uniform(0.5, 5, (3, 4))), S(np.linspace(-3.9, -3.1, 7)), S(np.linspace(5, 30, 7))],
        reference("digamma"), dtypes=ALL_FLOATS, rtol=2e-14, reference_note="SciPy is not installed",
    ),
    Record(
        "polygamma",
        lambda rng: [S(rng.uniform(0.7, 5, (3, 4)), order=n) for n in (1, 2, 3)] + [S(np.linspace(10, 30, 5), order=1)],
        None if special is None else lambda x, order: special.polygamma(order, x),
        dtypes=ALL_FLOATS, rtol=1e-13, reference_note="SciPy is not installed",
    ),
    record("sigmoid", "expit", -4, 4, lambda x: 1 / (1 + math.exp(-x)), complex=True),
    Record(
        "logit",
        lambda rng: [
            S(rng.uniform(0.1, 0.9, (3, 4))), S(rng.uniform(0.3, 0.7, 5), eps=0.2), S(np.array([0.1, 0.95]), eps=0.2),
        ],
        lambda x, eps=None: np.log((y := x if eps is None else np.clip(x, eps, 1 - eps)) / (1 - y)),
        dtypes=ALL_FLOATS,
    ),
]  # fmt: skip
