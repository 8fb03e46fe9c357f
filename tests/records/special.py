"""Records of special functions, against SciPy where it is installed and Python's math elsewhere."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .base import Failure, Record, S
from .elementwise import ALL_FLOATS, draw, pair

try:
    from scipy import special
except ImportError:
    special = None


def reference(scipy_name: str, of_one: Any = None) -> Any:
    """SciPy's function, or Python's, element by element; None where there is neither."""
    if special is not None:
        return getattr(special, scipy_name)
    return None if of_one is None else np.vectorize(of_one, otypes=[float])


WIDE = ("float32", "float64")
HALF = np.ones(2, np.float16)


def no_gradient(op: str, scipy: Any, samples: Any, **kw: Any) -> Record:
    """A function to which PyTorch gives no gradient and no half precision."""
    halves = [HALF] * len(samples(np.random.default_rng(0))[0].arrays)
    return Record(
        op, samples, scipy if special is not None else None, grad=False, dtypes=WIDE,
        errors=[Failure(S(*halves), NotImplementedError, "not implemented for 'Half'")],
        reference_note="SciPy is not installed", **kw,
    )  # fmt: skip


def of_degree(op: str, function: Any, x_of: Any = lambda x: x) -> Record:
    """An orthogonal polynomial: whole and broken degrees, below 0 and above, and all sides of [-1, 1]."""

    def samples(rng: np.random.Generator) -> list[Any]:
        x = np.concatenate([rng.uniform(-1.5, 1.5, 6), [-1.0, 0.0, 1.0]])
        return [S(x, np.array([[-1.0], [0], [1], [2], [5.7], [12]])), S(x[:1], np.array([3.0])), S(x[:0], x[:0])]

    def expected(x: Any, n: Any) -> Any:
        n = np.trunc(n)
        return np.where(n < 0, 0, function(np.maximum(n, 0).astype(int), x_of(x)))

    return no_gradient(op, expected, samples)


def by_scipy(name: str, of: Any = lambda n, x: (n, x)) -> Any:
    """SciPy's polynomial of that name, of degree and place as `of` gives them."""
    return lambda n, x: getattr(special, name)(*of(n, x))


def third_kind(n: Any, x: Any) -> Any:
    """V_n = U_n - U_(n-1); the fourth is (-1)**n V_n(-x). Mason and Handscomb, 1.2.3."""
    return special.eval_chebyu(n, x) - np.where(n > 0, special.eval_chebyu(np.maximum(n - 1, 0), x), 0)


def fourth_kind(n: Any, x: Any) -> Any:
    return (-1.0) ** n * third_kind(n, -x)


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

def _polynomials() -> list[Record]:
    kinds = {"t": by_scipy("eval_chebyt"), "u": by_scipy("eval_chebyu"), "v": third_kind, "w": fourth_kind}
    others = {
        "hermite_polynomial_h": "eval_hermite", "hermite_polynomial_he": "eval_hermitenorm",
        "laguerre_polynomial_l": "eval_laguerre", "legendre_polynomial_p": "eval_legendre",
    }  # fmt: skip
    return [
        *(of_degree(f"chebyshev_polynomial_{k}", f) for k, f in kinds.items()),
        *(of_degree(f"shifted_chebyshev_polynomial_{k}", f, lambda x: 2 * x - 1) for k, f in kinds.items()),
        *(of_degree(name, by_scipy(theirs)) for name, theirs in others.items()),
    ]


def _bessel() -> list[Record]:
    """SciPy's own functions are only passed on; what is checked is which, their dtypes and devices."""
    names = {
        "modified_bessel_i0": "i0", "modified_bessel_i1": "i1", "modified_bessel_k0": "k0", "modified_bessel_k1": "k1",
        "scaled_modified_bessel_k0": "k0e", "scaled_modified_bessel_k1": "k1e", "bessel_j0": "j0", "bessel_j1": "j1",
        "bessel_y0": "y0", "bessel_y1": "y1",
    }  # fmt: skip
    found = [no_gradient(op, reference(name), draw(0.1, 30)) for op, name in names.items()]
    return [
        *found,
        no_gradient("airy_ai", lambda x: special.airy(x)[0], draw(-8, 8)),
        no_gradient("spherical_bessel_j0", lambda x: special.spherical_jn(0, x), draw(-8, 8)),
    ]


def both_signs(*more: float) -> Any:
    return lambda rng: [S(rng.uniform(-4, 4, (3, 4))), S(np.array(more))]


RECORDS += [
    Record(
        "i0", both_signs(-24.9, 25.1, 60), reference("i0"), dtypes=ALL_FLOATS, rtol=1e-14,
        reference_note="SciPy is not installed",
    ),
    record("i0e", "i0e", 0.1, 60, rtol=1e-14),
    record("i1", "i1", -5, 5, rtol=1e-14),
    record("i1e", "i1e", 0.1, 60, rtol=1e-14),
    record("ndtr", "ndtr", -4, 4, rtol=1e-14),
    record("entr", "entr", 0.05, 4, rtol=1e-14),
    Record(
        "log_ndtr", both_signs(-30, -1.1, -0.9), reference("log_ndtr"), rtol=1e-14,
        reference_note="SciPy is not installed", errors=[Failure(S(HALF), NotImplementedError, "Half")],
    ),
    Record(
        "ndtri", lambda rng: [S(rng.uniform(0.1, 0.9, (3, 4))), S(np.array([0.03, 0.97]))], reference("ndtri"),
        rtol=1e-14, reference_note="SciPy is not installed", errors=[Failure(S(HALF), NotImplementedError, "Half")],
    ),
    Record(
        "erfcx", lambda rng: [S(rng.uniform(-2, 2, (3, 4))), S(np.array([0.1, 3.9, 4.1, 1e5]))], reference("erfcx"),
        rtol=1e-14, reference_note="SciPy is not installed", errors=[Failure(S(HALF), NotImplementedError, "Half")],
    ),
    Record(
        "xlog1py", pair(0.2, 3), reference("xlog1py"), dtypes=ALL_FLOATS, rtol=1e-14,
        reference_note="SciPy is not installed",
    ),
    Record(
        "zeta", lambda rng: [S(rng.uniform(1.5, 9, (3, 1)), rng.uniform(0.3, 30, 4)), S(np.ones((0, 2)), np.ones(2))],
        reference("zeta"), grad=False, rtol=1e-13, reference_note="no gradient for x; that for y: test_special.py",
        errors=[Failure(S(HALF, HALF), NotImplementedError, "Half")],
    ),
    *[
        Record(
            op, pair(0.2, 4), reference(name), grad=False, dtypes=ALL_FLOATS,
            reference_note="no gradient for x; that for y: test_special.py",
            errors=[Failure(S(np.ones(2, int), np.ones(2, int)), NotImplementedError, "not implemented for 'Long'")],
        )
        for op, name in (("igamma", "gammainc"), ("igammac", "gammaincc"))
    ],
    *_polynomials(),
    *_bessel(),
]  # fmt: skip
