"""lobpcg: a few extreme eigenpairs of a large symmetric matrix, by products with it alone."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from ...backends.registry import backend_of
from ..dtypes import FLOAT, from_numpy_dtype, get_default_dtype
from ..modes import no_grad
from ..op import GRAPH
from ..tensor import Tensor
from .factor import H, beside, cholesky, columns, eigh, recorded
from .join import stack
from .linalg import solve_triangular
from .random import randn
from .table import public


def _times(M: Tensor | None, x: Tensor) -> Tensor:
    return x if M is None else M @ x


def _ordered(values: Tensor, vectors: Tensor, largest: bool) -> tuple[Tensor, Tensor]:
    """Eigenpairs, the wanted ones first. (n,) rising, (m, n)."""
    if largest:
        values, vectors = GRAPH.flip(values, axes=(values.array.ndim - 1,)), GRAPH.flip(vectors, axes=(1,))
    return values, vectors


class LOBPCG:
    """The state of one iteration, which a tracker sees: A, B, iK; E: (n,), X: (m, n), S: the basis, R: (m, n) residual.

    Each step takes the best approximations of span(X, preconditioned residuals, last directions), whose basis is kept
    B-orthonormal: A. Knyazev, Toward the optimal preconditioned eigensolver: locally optimal block preconditioned
    conjugate gradient method, 2001; A. Stathopoulos and K. Wu, A block orthogonalization procedure with constant
    synchronization requirements, 2002.
    """

    def __init__(
        self, A: Tensor, B: Tensor | None, X: Tensor, iK: Tensor | None, iparams: dict[str, int],
        fparams: dict[str, float], bparams: dict[str, bool], method: str, tracker: Callable[[Any], None] | None,
    ):  # fmt: skip
        self.A, self.B, self.iK, self.method, self.tracker = A, B, iK, method, tracker
        self.iparams, self.fparams, self.bparams = iparams, fparams, bparams
        self.ivars = {"istep": 0, "iterations_left": iparams["niter"], "converged_count": 0}
        self.fvars: dict[str, float] = {}
        self.bvars: dict[str, bool] = {}
        self.tvars: dict[str, Tensor] = {}
        norm = self._norm(X)
        self.fvars.update(X_norm=norm, A_norm=self._norm(A @ X) / norm, B_norm=self._norm(_times(B, X)) / norm)
        self.S = self._orthonormal(X)
        self.P: Tensor | None = None
        self._take_best(self.S.array.shape[-1])

    @staticmethod
    def _norm(x: Tensor) -> float:
        return math.sqrt(float((abs(x.array) ** 2).sum()))

    def _orthonormal(self, S: Tensor) -> Tensor:
        """A B-orthonormal basis of S's columns, without those that depend on the others. (m, s) -> (m, r)."""
        for _ in range(2):
            xp = backend_of(S.array).xp
            gram = (H(S) @ _times(self.B, S)).array
            scale = 1 / xp.sqrt(xp.maximum(xp.diagonal(gram).real, xp.finfo(S.array.dtype).tiny))
            values, vectors = xp.linalg.eigh(gram * scale[:, None] * scale)
            kept = values > xp.finfo(S.array.dtype).eps * values.size * values[-1:]
            change = (scale[:, None] * vectors[:, kept]) / xp.sqrt(values[kept])
            S = S @ beside(S, change.astype(S.array.dtype, copy=False))
        return S

    def _take_best(self, n: int) -> None:
        """Rayleigh-Ritz in the basis S: the n best approximations become X and E, and R what they leave."""
        values, vectors = eigh(H(self.S) @ (self.A @ self.S))
        values, vectors = _ordered(values, vectors, self.bparams["largest"])
        self.E, self.X = GRAPH.slice_view(values, index=(slice(0, n),)), self.S @ columns(vectors, 0, n)
        self.R = self.A @ self.X - _times(self.B, self.X) * self.E
        size = self.fvars["A_norm"] + abs(self.E.array) * self.fvars["B_norm"]
        error = (abs(self.R.array) ** 2).sum(axis=0) ** 0.5 / ((abs(self.X.array) ** 2).sum(axis=0) ** 0.5 * size)
        self.tvars["rerr"] = beside(self.E, error)
        good = (error < self.fparams["tol"]).tolist()
        self.ivars["converged_count"] = [*good, False].index(False)
        if self.S.array.shape[-1] > n:
            self.P = columns(self.S, n, None) @ GRAPH.slice_view(vectors, index=(slice(n, None), slice(0, n)))

    def update(self) -> None:
        """One step."""
        n, done = self.X.array.shape[-1], self.ivars["converged_count"]
        parts = [_times(self.iK, columns(self.R, done, None))]
        if self.P is not None:
            parts.append(columns(self.P, done, None))
        new = GRAPH.cat(*parts, axis=1) if len(parts) > 1 else parts[0]
        for _ in range(2):
            new = new - self.X @ (H(self.X) @ _times(self.B, new))
        self.S = GRAPH.cat(self.X, self._orthonormal(new), axis=1)
        self._take_best(n)
        self.ivars["istep"] += 1
        self.ivars["iterations_left"] -= 1

    def run(self) -> None:
        """Steps until the first k pairs have converged, niter steps are made, or the tracker sets "force_stop"."""
        if self.tracker is not None:
            self.tracker(self)
        while (
            not self.bvars.get("force_stop", False)
            and self.ivars["iterations_left"] != 0
            and self.ivars["converged_count"] < self.iparams["k"]
        ):
            self.update()
            if self.tracker is not None:
                self.tracker(self)


def _dense(A: Tensor, B: Tensor | None, k: int, largest: bool) -> tuple[Tensor, Tensor]:
    """The eigenpairs out of all, which can be differentiated in any order."""
    A = (A + A.mT) / 2
    if B is None:
        values, vectors = eigh(A)
    else:
        L = cholesky((B + B.mT) / 2)
        half = solve_triangular(L, A, upper=False)
        values, vectors = eigh(solve_triangular(L, H(half), upper=False))
        vectors = solve_triangular(H(L), vectors, upper=True)
    last = values.array.ndim - 1
    if largest:
        values, vectors = GRAPH.flip(values, axes=(last,)), GRAPH.flip(vectors, axes=(last + 1,))
    return GRAPH.slice_view(values, index=(..., slice(0, k))), columns(vectors, 0, k)


def _sizes(A: Tensor, k: int | None, B: Tensor | None, X: Tensor | None, n: int | None) -> tuple[int, int, int]:
    """(m, n, k), checked: m rows, n vectors that are iterated, k wanted."""
    if A.array.shape[-2] != A.array.shape[-1]:
        raise AssertionError(f"A must be square, got shape {A.shape}")
    if B is not None and B.array.shape != A.array.shape:
        raise AssertionError(f"A and B must have same shape, got {A.shape} vs {B.shape}")
    m = A.array.shape[-1]
    k = (1 if X is None else X.array.shape[-1]) if k is None else k
    n = (k if n is None else n) if X is None else X.array.shape[-1]
    if m < 3 * n:
        raise ValueError(
            f"LOBPCG algorithm is not applicable when the number of A rows (={m}) is smaller than 3 x the number of "
            f"requested eigenpairs (={n})"
        )
    return m, n, k


def _one(t: Tensor, i: int) -> Tensor:
    """The i-th matrix of a batch. (*, m, n) -> (m, n)."""
    count = math.prod(t.array.shape[:-2])
    return GRAPH.select(GRAPH.reshape(t.detach(), shape=(count, *t.array.shape[-2:])), axis=0, index=i)


@public(method=False)
def lobpcg(
    A: Tensor, k: int | None = None, B: Tensor | None = None, X: Tensor | None = None, n: int | None = None,
    iK: Tensor | None = None, niter: int | None = None, tol: float | None = None, largest: bool | None = None,
    method: str | None = None, tracker: Any = None, ortho_iparams: Any = None, ortho_fparams: Any = None,
    ortho_bparams: Any = None,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """The k largest (or smallest) eigenvalues of A x = e B x and their vectors, A symmetric, B positive definite.

    A, B: (*, m, m), X: (*, m, n) where to start, random by default, iK: (m, m) a preconditioner, close to A's inverse
    -> E: (*, k), X: (*, m, k). Stops when the residual is below tol (the root of the dtype's precision) or after niter
    (1000) steps; `tracker` is called with the state at each. Where a gradient is asked for, the pairs are taken out of
    all eigenpairs. method and the ortho_* parameters are accepted; the basis is always kept orthonormal.

    >>> import tapegrad as torch
    >>> torch.lobpcg(torch.diag(torch.arange(9.0)), k=2, X=torch.ones(9, 2).tril())[0].round()
    tensor([8., 7.])
    """
    m, n, k = _sizes(A, k, B, X, n)
    if method not in (None, "basic", "ortho"):
        raise ValueError(f"method must be 'basic' or 'ortho', but got {method!r}")
    dtype = A.dtype if from_numpy_dtype(A.array.dtype).category >= FLOAT else get_default_dtype()
    tol = (2.23e-16 if dtype.itemsize == 8 else 1.2e-07) ** 0.5 if tol is None else tol
    iparams = {"m": m, "n": n, "k": k, "niter": 1000 if niter is None else niter} | (ortho_iparams or {})
    fparams = {"tol": tol} | (ortho_fparams or {})
    bparams = {"largest": largest is not False} | (ortho_bparams or {})
    lead = A.array.shape[:-2]
    dense, workers = recorded(A) or (B is not None and recorded(B)), []
    with no_grad():
        for i in range(math.prod(lead)):
            start = randn(m, n, dtype=dtype, device=A.device) if X is None else _one(X, i)  # drawn in any case
            if start.array.shape != (m, n):
                raise AssertionError(f"X shape mismatch: got {start.shape}, expected {(m, n)}")
            if not dense:
                numbers = iparams | ({"batch_index": i} if lead else {})
                state = LOBPCG(_one(A, i), B if B is None else _one(B, i), start, iK, numbers, fparams, bparams,
                               method or "ortho", tracker)  # fmt: skip
                state.run()
                workers.append(state)
    if dense:
        return _dense(A, B, k, bparams["largest"])
    E = [GRAPH.slice_view(w.E, index=(slice(0, k),)) for w in workers]
    V = [columns(w.X, 0, k) for w in workers]
    if not lead:
        return GRAPH.clone(E[0]), GRAPH.clone(V[0])
    return stack(E).reshape(*lead, k), stack(V).reshape(*lead, m, k)
