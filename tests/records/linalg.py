"""Records of linear algebra. Factorisations with free signs are smooth where LAPACK keeps the signs: away from ties."""

from __future__ import annotations

from typing import Any

import numpy as np

from .base import Failure, Record, S

SYMMETRIC = "the rule takes x as symmetric, differences do not: test_api_linalg.py::test_symmetric_gradients"


def _n(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return rng.standard_normal(shape)


def _regular(rng: np.random.Generator, *shape: int) -> np.ndarray:
    """Well conditioned square matrices."""
    return _n(rng, *shape) * 0.5 + 2 * np.eye(shape[-1])


def _spread(rng: np.random.Generator, *shape: int) -> np.ndarray:
    """Matrices with singular values 1, 2, ... apart."""
    U, _, Vh = np.linalg.svd(_n(rng, *shape), full_matrices=False)
    return U * np.arange(1.0, U.shape[-1] + 1) @ Vh


def _positive(rng: np.random.Generator, *shape: int) -> np.ndarray:
    x = _n(rng, *shape)
    return x @ np.swapaxes(x, -1, -2) + np.eye(shape[-1])


def _cofactor(x: np.ndarray) -> np.ndarray:
    n = x.shape[-1]
    out = np.empty_like(x)
    for i in range(n):
        for j in range(n):
            rest = np.delete(np.delete(x, i, -2), j, -1)
            out[..., i, j] = (-1) ** (i + j) * np.linalg.det(rest)
    return out


def _lu(x: np.ndarray, pivot: bool = True) -> Any:
    """One matrix at a time, column by column."""
    m, n = x.shape[-2:]
    k = min(m, n)
    Ls, Us, pivots = [], [], []
    for A in x.reshape(-1, m, n).copy():
        p = []
        for j in range(k):
            i = j + int(np.argmax(abs(A[j:, j]))) if pivot else j
            A[[j, i]] = A[[i, j]]
            p.append(i + 1)
            A[j + 1 :, j] /= A[j, j]
            A[j + 1 :, j + 1 :] -= np.outer(A[j + 1 :, j], A[j, j + 1 :])
        Ls.append(np.tril(A[:, :k], -1) + np.eye(m, k))
        Us.append(np.triu(A[:k]))
        pivots.append(p)
    lead = x.shape[:-2]
    return (
        np.reshape(Ls, (*lead, m, k)),
        np.reshape(Us, (*lead, k, n)),
        np.reshape(pivots, (*lead, k)),
    )


def _permutation(pivots: np.ndarray, size: int, dtype: Any) -> np.ndarray:
    out = []
    for row in pivots.reshape(-1, pivots.shape[-1]):
        P = np.eye(size)
        for j, p in enumerate(row):
            P[:, [j, p - 1]] = P[:, [p - 1, j]]
        out.append(P)
    return np.reshape(out, (*pivots.shape[:-1], size, size))


def _triangular(A: np.ndarray, B: np.ndarray, upper: bool, unit: bool = False) -> np.ndarray:
    T = np.triu(A) if upper else np.tril(A)
    if unit:
        T = T * (1 - np.eye(len(T[0]))) + np.eye(A.shape[-1])
    return np.linalg.solve(T, B)


def _exp(x: np.ndarray) -> np.ndarray:
    """Taylor's series of x / 1024, squared ten times."""
    out = term = np.broadcast_to(np.eye(x.shape[-1]), x.shape)
    for i in range(1, 20):
        term = term @ (x / 1024) / i
        out = out + term
    for _ in range(10):
        out = out @ out
    return out


def _distances(x: np.ndarray, y: np.ndarray, products: bool) -> np.ndarray:
    return np.linalg.norm(x[..., :, None, :] - y[..., None, :, :], axis=-1)


def _nudged(x: np.ndarray) -> np.ndarray:
    U, s, Vh = np.linalg.svd(x)
    return U * np.maximum(s, 1.4901161193847656e-08 * s[..., :1])[..., None, :] @ Vh


TO_REAL = {"complex64": "float32", "complex128": "float64"}
TO_COMPLEX = {"float32": "complex64", "float64": "complex128"}
SINGULAR = np.array([[1.0, 2.0], [2.0, 4.0]])

RECORDS = [
    Record(
        "svd",
        lambda rng: [S(_spread(rng, *s), full=False) for s in ((3, 3), (2, 4, 3), (2, 3))]
        + [S(_spread(rng, 3, 3), full=True)],
        lambda x, full: np.linalg.svd(x, full_matrices=full),
        errors=[Failure(S(np.full((2, 2), np.nan), full=False), RuntimeError, "linalg.svd: The algorithm failed")],
    ),
    Record("svdvals", lambda rng: [S(_n(rng, 2, 4, 3))], lambda x: np.linalg.svd(x, compute_uv=False), grad=False),
    Record(
        "eigh",
        lambda rng: [S(_positive(rng, 3, 3), lower=True), S(_positive(rng, 2, 3, 3), lower=False)],
        lambda x, lower: np.linalg.eigh(x if lower else np.swapaxes(x, -1, -2)),
        grad=False,
        reference_note=SYMMETRIC,
    ),
    Record(
        "eigvalsh",
        lambda rng: [S(_positive(rng, 2, 3, 3), lower=True), S(_positive(rng, 3, 3), lower=False)],
        lambda x, lower: np.linalg.eigvalsh(x),
        grad=False,
    ),
    Record(
        "eig",
        lambda rng: [S(_n(rng, 3, 3)), S(_n(rng, 2, 4, 4))],
        lambda x: tuple(a.astype("c16") for a in np.linalg.eig(x)),
        grad=False,
        out_dtype=TO_COMPLEX.__getitem__,
        reference_note="vectors have a free phase, on which the rule must not be asked: "
        "test_api_linalg.py::test_eig_gradients",
        errors=[Failure(S(np.full((2, 2), np.nan)), RuntimeError, "should not contain infs or NaNs")],
    ),
    Record(
        "eigvals",
        lambda rng: [S(_n(rng, 2, 4, 4))],
        np.linalg.eigvals,
        grad=False,
        out_dtype=TO_COMPLEX.__getitem__,
    ),
    Record(
        "qr",
        lambda rng: [S(_n(rng, *s), complete=False) for s in ((3, 3), (2, 4, 3), (2, 3, 5))]
        + [S(_n(rng, 3, 4), complete=True)],
        lambda x, complete: np.linalg.qr(x, mode="complete" if complete else "reduced"),
        complex=True,
    ),
    Record(
        "lu",
        lambda rng: [S(_regular(rng, 3, 3)), S(_n(rng, 2, 4, 3)), S(_n(rng, 2, 3, 4)), S(_n(rng, 40, 40))]
        + [S(_regular(rng, 3, 3), pivot=False)],
        _lu,
        complex=True,
        grad_rtol=1e-5,
    ),
    Record(
        "permutation",
        lambda rng: [
            S(np.array([3, 3, 3], "i4"), size=3, dtype=np.dtype("f8")),
            S(np.array([[2, 2], [1, 4]], "i4"), size=4, dtype=np.dtype("f8")),
        ],
        _permutation,
        grad=False,
    ),
    Record(
        "cholesky",
        lambda rng: [S(_positive(rng, 3, 3)), S(_positive(rng, 2, 3, 3), name="f")],
        lambda x, name=None: (np.linalg.cholesky(x), np.zeros(x.shape[:-2])),
        grad=False,
        reference_note=SYMMETRIC,
        errors=[Failure(S(np.diag([1.0, -1.0]), name="f"), RuntimeError, "^f: .*minor of order 2 is not positive")],
    ),
    Record(
        "inv",
        lambda rng: [S(_regular(rng, 3, 3)), S(_regular(rng, 2, 3, 3), name="f"), S(np.zeros((0, 2, 2)))],
        lambda x, name=None: (np.linalg.inv(x), np.zeros(x.shape[:-2])),
        complex=True,
        errors=[
            Failure(S(SINGULAR, name="f"), RuntimeError, "^f: The diagonal element 2 is zero, the inversion"),
            Failure(S(np.stack([np.eye(2), SINGULAR]), name="f"), RuntimeError, r"^f: \(Batch element 1\): "),
        ],
    ),
    Record(
        "solve",
        lambda rng: [
            S(_regular(rng, 3, 3), _n(rng, 3, 2)),
            S(_regular(rng, 2, 1, 3, 3), _n(rng, 4, 3, 2)),
            S(_regular(rng, 3, 3), _n(rng, 4, 3, 1)),
        ],
        np.linalg.solve,
        complex=True,
        core_dims=2,
        errors=[Failure(S(SINGULAR, np.ones((2, 1))), RuntimeError, "the input matrix is singular")],
    ),
    Record(
        "solve_triangular",
        lambda rng: [
            S(_regular(rng, 3, 3), _n(rng, 3, 2), upper=True),
            S(_regular(rng, 2, 3, 3), _n(rng, 3, 2), upper=False),
            S(_regular(rng, 3, 3), _n(rng, 2, 3, 2), upper=False, unit=True),
            S(_regular(rng, 3, 3), _n(rng, 3, 2), upper=True, unit=True),
        ],
        _triangular,
        complex=True,
        core_dims=2,
    ),
    Record(
        "det",
        lambda rng: [S(_n(rng, 3, 3)), S(_n(rng, 2, 4, 4)), S(SINGULAR)],
        np.linalg.det,
        complex=True,
    ),
    Record(
        "cofactor",
        lambda rng: [S(_n(rng, 3, 3)), S(_n(rng, 2, 4, 4))],
        _cofactor,
        complex=True,
    ),
    Record("nudged", lambda rng: [S(_n(rng, 3, 3)), S(np.stack([SINGULAR, np.eye(2)]))], _nudged,
           grad=False, reference_note="its rule is the identity's by intent: records of det, cofactor"),
    Record(
        "slogdet",
        lambda rng: [S(_n(rng, 3, 3)), S(_n(rng, 2, 4, 4))],
        np.linalg.slogdet,
        complex=True,
    ),
    Record(
        "pinv",
        lambda rng: [S(_n(rng, *s), atol=0.0, rtol=1e-15) for s in ((3, 3), (2, 4, 3), (2, 3, 4), (0, 3))]
        + [S(_n(rng, 2, 3, 4), atol=0.0, rtol=np.full(2, 1e-15))],
        lambda x, atol, rtol: np.linalg.pinv(x),
        complex=True,
    ),
    Record(
        "matrix_exp",
        lambda rng: [S(_n(rng, 3, 3)), S(_n(rng, 2, 3, 3) * np.array([0.1, 9.0])[:, None, None])]
        + [S(np.zeros((0, 2, 2)))],
        _exp,
        complex=True,
        grad_rtol=1e-5,
    ),
    Record(
        "trace",
        lambda rng: [S(_n(rng, 3, 4)), S(_n(rng, 3, 2))],
        np.trace,
        linear=True,
        dtypes=("float16", "float32", "float64"),
    ),
    Record(
        "cross",
        lambda rng: [S(_n(rng, 2, 3), _n(rng, 2, 3), axis=-1), S(_n(rng, 3, 4), _n(rng, 3, 1), axis=-2)],
        lambda x, y, axis: np.cross(x, y, axis=axis),
        linear=True,
        complex=True,
        core_dims=1,
    ),
    Record(
        "euclidean_distances",
        lambda rng: [
            S(_n(rng, 3, 2), _n(rng, 4, 2), products=True),
            S(_n(rng, 2, 3, 2), _n(rng, 2, 4, 2), products=False),
        ],
        _distances,
    ),
]  # fmt: skip
