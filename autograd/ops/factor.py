"""Factorisations of batches of matrices: svd, qr, eigh, eig, lu, cholesky. x: (*B, M, N), the last two the matrix.

The rules hold for real and complex matrices, in PyTorch's convention for complex gradients. Sources:
[G] M. Giles, An extended collection of matrix derivative results for forward and reverse mode AD, 2008.
[T] J. Townsend, Differentiating the singular value decomposition, 2016.
[M] I. Murray, Differentiation of the Cholesky decomposition, arXiv:1602.07527.
[B] C. Boeddeker et al., On the computation of complex-valued gradients, arXiv:1701.00392 (eig, eigh).
[R] M. Roberts and L. Roberts, QR and LQ decomposition matrix backpropagation, arXiv:2009.10071.
"""

from __future__ import annotations

from ..op import op


class LinAlgError(RuntimeError):
    """A matrix for which the result does not exist, or was not found: `tapegrad.linalg.LinAlgError`."""


def in_batch(failed):
    """Where the first true entry of a batch of flags stands, as PyTorch says it; "" for a single matrix. () or (*B)."""
    return f"(Batch element {int(failed.reshape(-1).argmax())}): " if failed.ndim else ""


def H(F, x):
    """The conjugate transpose. x: (*B, N, M) -> (*B, M, N)."""
    return F.mT(F.conj(x))


def across(F, s):
    """A factor per column. s: (*B, N) -> (*B, 1, N)."""
    return F.reshape(s, shape=(*s.shape[:-1], 1, s.shape[-1]))


def down(F, s):
    """A factor per row. s: (*B, N) -> (*B, N, 1)."""
    return F.reshape(s, shape=(*s.shape, 1))


def diag(F, s):
    """Matrices with s on the diagonal. s: (*B, N) -> (*B, N, N)."""
    n, lead = s.shape[-1], len(s.shape) - 1
    return F.diag_embed(s, shape=(*s.shape, n), offset=0, axis1=lead, axis2=lead + 1)


def diagonal_of(F, x):
    """The diagonals. x: (*B, N, M) -> (*B, min(N, M))."""
    lead = len(x.shape) - 2
    return F.diagonal(x, offset=0, axis1=lead, axis2=lead + 1)


def half_diagonal(F, x):
    """x with its diagonal halved. x: (*B, N, N) -> (*B, N, N)."""
    return x - diag(F, diagonal_of(F, x) * 0.5)


def columns(F, x, start, stop):
    """Some columns. x: (*B, M, N) -> (*B, M, stop - start)."""
    return F.slice_view(x, index=(*(slice(None),) * (len(x.shape) - 1), slice(start, stop)))


def rows(F, x, start, stop):
    """Some rows. x: (*B, M, N) -> (*B, stop - start, N)."""
    return F.slice_view(x, index=(*(slice(None),) * (len(x.shape) - 2), slice(start, stop), slice(None)))


def differences(F, s):
    """s_j - s_i, and 1 on the diagonal. s: (*B, N) -> (*B, N, N)."""
    return across(F, s) - down(F, s) + diag(F, F.ones_like(s))


# ---- singular values


def _svd(xp, x, full):
    try:
        return xp.linalg.svd(x, full_matrices=full)
    except ValueError:
        bad = ~xp.isfinite(x).all(axis=(-2, -1))
        cause = "input matrix contained non-finite values." if bad.any() else "input matrix is ill-conditioned."
        raise LinAlgError(f"linalg.svd: {in_batch(bad)}The algorithm failed to converge because the {cause}") from None


@op(outputs=("U", "S", "Vh"), grad_name="LinalgSvd")
def svd(xp, x, *, full):
    """x = U diag(S) Vh, S falling. x: (*B, M, N) -> U: (*B, M, K), S: (*B, K) real, Vh: (*B, K, N).

    K = min(M, N); with `full`, U: (*B, M, M) and Vh: (*B, N, N), of which only the first K carry gradients.
    """
    return tuple(_svd(xp, x, full))


@op()
def svdvals(xp, x):
    """The singular values, falling. x: (*B, M, N) -> (*B, min(M, N)) real. LinAlgError for nan or inf."""
    try:
        return xp.linalg.svd(x, compute_uv=False)
    except ValueError:
        return _svd(xp, x, False)[1]


def _svd_rule(F, g, *, x_shape, x_dtype, out):
    """[T] equations 25 to 31; the term of the phase for complex x from [B]."""
    gU, gS, gVh = g
    U, S, Vh = out
    m, n = x_shape[-2:]
    k = min(m, n)
    if U.shape[-1] > k:
        U, gU = columns(F, U, 0, k), None if gU is None else columns(F, gU, 0, k)
    if Vh.shape[-2] > k:
        Vh, gVh = rows(F, Vh, 0, k), None if gVh is None else rows(F, gVh, 0, k)
    if gU is None and gVh is None:
        return (U * across(F, gS)) @ Vh
    E = differences(F, S * S)
    core = None if gS is None else diag(F, gS)
    if gU is not None:
        inner = H(F, U) @ gU
        skew = inner - H(F, inner)
        part = skew / E * across(F, S)
        if x_dtype.kind == "c":
            part = part + diag(F, diagonal_of(F, skew) / (2 * S))
        core = part if core is None else core + part
    if gVh is not None:
        inner = Vh @ H(F, gVh)
        part = (inner - H(F, inner)) / E * down(F, S)
        core = part if core is None else core + part
    total = U @ core @ Vh
    if m > k and gU is not None:
        scaled = gU / across(F, S)
        total = total + (scaled - U @ (H(F, U) @ scaled)) @ Vh
    if n > k and gVh is not None:
        scaled = gVh / down(F, S)
        total = total + U @ (scaled - (scaled @ H(F, Vh)) @ Vh)
    return total


svd.vjp(x=_svd_rule)

# ---- eigenvalues


def _hermitian(xp, x, lower):
    """The Hermitian matrix whose lower (or upper) triangle x holds."""
    return x if lower else xp.conjugate(x.swapaxes(-1, -2))


@op(outputs=("eigenvalues", "eigenvectors"), grad_name="LinalgEigh")
def eigh(xp, x, *, lower):
    """Hermitian x = V diag(w) V^H, w rising, from one triangle. x: (*B, N, N) -> w: (*B, N) real, V: (*B, N, N)."""
    try:
        return tuple(xp.linalg.eigh(_hermitian(xp, x, lower)))
    except ValueError:
        raise _no_eigenvalues(xp, x, "linalg.eigh") from None


@op()
def eigvalsh(xp, x, *, lower):
    """The eigenvalues of a Hermitian matrix, rising. x: (*B, N, N) -> (*B, N) real."""
    try:
        return xp.linalg.eigvalsh(_hermitian(xp, x, lower))
    except ValueError:
        raise _no_eigenvalues(xp, x, "linalg.eigh") from None


def _no_eigenvalues(xp, x, name):
    bad = ~xp.isfinite(x).all(axis=(-2, -1))
    return LinAlgError(
        f"{name}: {in_batch(bad)}The algorithm failed to converge because the input matrix is ill-conditioned or has "
        "too many repeated eigenvalues."
    )


def _eigh_rule(F, g, *, out):
    """V (diag(gw) + (V^H gV) / E) V^H with E_ij = w_j - w_i: [G] 3.1, [B] 4.61."""
    gw, gV = g
    w, V = out
    if gV is None:
        return (V * across(F, gw)) @ H(F, V)
    inner = H(F, V) @ gV
    inner = (inner - H(F, inner)) * 0.5 / differences(F, w)
    inner = inner - diag(F, diagonal_of(F, inner))
    return V @ (inner if gw is None else inner + diag(F, gw)) @ H(F, V)


eigh.vjp(x=_eigh_rule)


def _complex_of(x):
    return "c16" if x.dtype.itemsize == 8 and x.dtype.kind == "f" else "c8" if x.dtype.kind == "f" else x.dtype


def _check_finite(xp, x):
    if not xp.isfinite(x).all():
        raise RuntimeError("torch.linalg.eig: input tensor should not contain infs or NaNs.")


@op(outputs=("eigenvalues", "eigenvectors"), grad_name="LinalgEig")
def eig(xp, x):
    """x V = V diag(w), columns of V of length 1. x: (*B, N, N) -> w: (*B, N), V: (*B, N, N), both complex."""
    _check_finite(xp, x)
    w, V = xp.linalg.eig(x)
    return w.astype(_complex_of(x), copy=False), V.astype(_complex_of(x), copy=False)


@op()
def eigvals(xp, x):
    """The eigenvalues of any square matrix. x: (*B, N, N) -> (*B, N) complex."""
    _check_finite(xp, x)
    return xp.linalg.eigvals(x).astype(_complex_of(x), copy=False)


def _eig_rule(F, g, *, x_dtype, out):
    """V^-H (diag(gw) + (V^H gV - V^H V diag(Re(V^H gV))) / conj(E)) V^H: [B] 4.77, columns of length 1."""
    gw, gV = g
    w, V = out
    VH = H(F, V)
    core = None if gw is None else diag(F, gw)
    if gV is not None:
        inner = VH @ gV
        inner = inner - (VH @ V) * across(F, F.real(diagonal_of(F, inner)))
        inner = inner / F.conj(differences(F, w))
        inner = inner - diag(F, diagonal_of(F, inner))
        core = inner if core is None else core + inner
    total = F.solve(VH, core @ VH)
    return total if x_dtype.kind == "c" else F.real(total)


eig.vjp(x=_eig_rule)

# ---- orthogonal and triangular


@op(outputs=("Q", "R"), grad_name="LinalgQr")
def qr(xp, x, *, complete):
    """x = Q R, R upper triangular. x: (*B, M, N) -> Q: (*B, M, K), R: (*B, K, N); K = min(M, N); complete: K = M."""
    return tuple(xp.linalg.qr(x, mode="complete" if complete else "reduced"))


def _qr_rule(F, g, *, out, x_shape, complete):
    """[R]: with X = triu(gR R^H - Q^H gQ), (gQ + Q (X + X^H with its diagonal once)) R^-H.

    A wide x = [x1 x2] has R = [R1 R2] with R2 = Q^H x2, whose gradient joins those of x2 and Q.
    """
    gQ, gR = g
    Q, R = out
    m, n = x_shape[-2:]
    if complete and m > n:
        raise RuntimeError("The QR decomposition is not differentiable when mode='complete' and nrows > ncols.")
    gQ = F.zeros_like(Q) if gQ is None else gQ
    gR = F.zeros_like(R) if gR is None else gR
    wide = None
    if n > m:
        R2, gR2 = columns(F, R, m, n), columns(F, gR, m, n)
        R, gR = columns(F, R, 0, m), columns(F, gR, 0, m)
        wide = Q @ gR2
        gQ = gQ + Q @ (R2 @ H(F, gR2))
    X = F.triu(gR @ H(F, R) - H(F, Q) @ gQ, k=0)
    X = half_diagonal(F, X + H(F, X))
    total = H(F, F.solve_triangular(R, H(F, gQ + Q @ X), upper=True))
    return total if wide is None else F.cat(total, wide, axis=len(x_shape) - 1)


qr.vjp(x=_qr_rule)


# ---- lower and upper

BLOCK = 32


def _size(xp, x):
    """What LAPACK compares pivots by: of complex numbers the sum of the sizes of their parts."""
    return abs(x.real) + abs(x.imag) if x.dtype.kind == "c" else abs(x)


def _panel(xp, A, pivots, start, stop):
    """LU with partial pivoting, in place, of the columns start to stop; whole rows are exchanged. A: (B, M, N)."""
    m, every = A.shape[1], xp.arange(A.shape[0])
    for j in range(start, stop):
        p = j + xp.argmax(_size(xp, A[:, j:, j]), axis=1)
        pivots[:, j] = p + 1
        A[every, p], A[:, j] = A[:, j].copy(), A[every, p]
        if j + 1 < m:
            pivot = A[:, j, j]
            A[:, j + 1 :, j] /= xp.where(pivot == 0, xp.ones((), A.dtype), pivot)[:, None]
            A[:, j + 1 :, j + 1 : stop] -= A[:, j + 1 :, j, None] * A[:, j, None, j + 1 : stop]


def lu_in_place(xp, x):
    """(LU, pivots): L below the diagonal of LU and U above, pivots counted from 1. x: (*B, M, N) -> and (*B, K) int32.

    Blocks of columns, so that most of the work is matrix products: Golub and Van Loan, Matrix Computations, 3.2.11.
    """
    m, n = x.shape[-2:]
    k = min(m, n)
    A = xp.array(x.reshape(-1, m, n) if x.size else xp.zeros((0, m, n), x.dtype), copy=True, order="C")
    pivots = xp.zeros((A.shape[0], k), "i4")
    for start in range(0, k, BLOCK):
        stop = min(start + BLOCK, k)
        _panel(xp, A, pivots, start, stop)
        if stop < n and A.shape[0]:
            L = xp.tril(A[:, start:stop, start:stop], -1) + xp.eye(stop - start, dtype=A.dtype)
            A[:, start:stop, stop:] = xp.linalg.solve(L, A[:, start:stop, stop:])
            A[:, stop:, stop:] -= A[:, stop:, start:stop] @ A[:, start:stop, stop:]
    return A.reshape(x.shape), pivots.reshape(*x.shape[:-2], k)


def _order(xp, pivots, n):
    """The row of x that stands in each place after the exchanges. pivots: (*B, K) -> (B, n) int."""
    flat = pivots.reshape(-1, pivots.shape[-1]) if pivots.size else xp.zeros((pivots.size, 0), "i8")
    order = xp.broadcast_to(xp.arange(n), (flat.shape[0], n)).copy()
    every = xp.arange(flat.shape[0])
    for j in range(flat.shape[1]):
        p = flat[:, j] - 1
        order[every, p], order[:, j] = order[:, j].copy(), order[every, p]
    return order


@op()
def permutation(xp, pivots, *, size, dtype):
    """P of x = P L U: the exchanges that pivots name. pivots: (*B, K) int from 1 -> (*B, size, size)."""
    order = _order(xp, pivots, size)
    if not pivots.shape[-1]:
        return xp.broadcast_to(xp.eye(size, dtype=dtype), (*pivots.shape[:-1], size, size)).copy()
    rows = xp.arange(size)[:, None]
    return (order[:, None, :] == rows).astype(dtype).reshape(*pivots.shape[:-1], size, size)


@op(outputs=("L", "U", "pivots"), grad_name="LinalgLu")
def lu(xp, x, *, pivot=True):
    """x = P L U. x: (*B, M, N) -> L: (*B, M, K), U: (*B, K, N), pivots: (*B, K) int32 from 1; K = min(M, N)."""
    m, n = x.shape[-2:]
    k = min(m, n)
    A, pivots = lu_in_place(xp, x) if pivot else _lu_unpivoted(xp, x)
    return xp.tril(A[..., :k], -1) + xp.eye(m, k, dtype=x.dtype), xp.triu(A[..., :k, :]), pivots


def _lu_unpivoted(xp, x):
    """LU without exchanges; a zero pivot gives inf and nan. (*B, M, N) -> (*B, M, N), (*B, K) int32."""
    A, k = xp.array(x, copy=True, order="C"), min(x.shape[-2:])
    for j in range(k):
        A[..., j + 1 :, j] /= A[..., j, None, j]
        A[..., j + 1 :, j + 1 :] -= A[..., j + 1 :, j, None] * A[..., j, None, j + 1 :]
    return A, xp.broadcast_to(xp.arange(1, k + 1, dtype="i4"), (*x.shape[:-2], k)).copy()


def _lu_rule(F, g, *, out, x_shape, x_dtype, pivot):
    """P L^-H (tril(L^H gL, -1) + triu(gU U^H)) U^-H for square x.

    The part beyond the square, of L or of U, is one triangular solve of x's, whose gradient joins the square's.
    """
    gL, gU = g[0], g[1]
    L, U, pivots = out
    m, n = x_shape[-2:]
    k = min(m, n)
    gL = F.zeros_like(L) if gL is None else gL
    gU = F.zeros_like(U) if gU is None else gU
    rest = None
    if n > k:
        U2, gU2 = columns(F, U, k, n), columns(F, gU, k, n)
        U, gU = columns(F, U, 0, k), columns(F, gU, 0, k)
        rest = F.solve_triangular(H(F, L), gU2, upper=True, unit=True)
        gL = gL - rest @ H(F, U2)
    if m > k:
        L2, gL2 = rows(F, L, k, m), rows(F, gL, k, m)
        L, gL = rows(F, L, 0, k), rows(F, gL, 0, k)
        rest = H(F, F.solve_triangular(U, H(F, gL2), upper=True))
        gU = gU - H(F, L2) @ rest
    core = F.tril(H(F, L) @ gL, k=-1) + F.triu(gU @ H(F, U), k=0)
    total = F.solve_triangular(H(F, L), core, upper=True, unit=True)
    total = H(F, F.solve_triangular(U, H(F, total), upper=True))
    if rest is not None:
        total = F.cat(total, rest, axis=len(x_shape) - (2 if m > k else 1))
    return F.permutation(pivots, size=m, dtype=x_dtype) @ total if pivot else total


lu.vjp(x=_lu_rule)

# ---- Cholesky


def _cholesky(xp, x):
    """The factor. ValueError where x is not positive definite, or has nan, which LAPACK lets pass."""
    L = xp.linalg.cholesky(x)
    if L.size and xp.isnan(L[..., -1, -1]).any():  # every nan reaches the last element
        raise ValueError("nan")
    return L


def _first_minor(xp, x):
    """The order of the first leading minor that is not positive, 0 where all are. x: (*B, N, N) -> (*B) int."""
    info = xp.zeros(x.shape[:-2], "i4")
    for j in range(x.shape[-1], 0, -1):
        for place in range(info.size):
            try:
                _cholesky(xp, x.reshape(-1, *x.shape[-2:])[place, :j, :j])
            except ValueError:
                info.reshape(-1)[place] = j
    return info


@op(outputs=("L", "info"), grad_name="LinalgCholeskyEx")
def cholesky(xp, x, *, name=None):
    """x = L L^H from x's lower triangle. x: (*B, N, N) -> L: (*B, N, N), info: (*B) int32.

    info: 0, or the order of the first leading minor that is not positive; then a LinAlgError is raised in the name of
    `name`, or where that is None, L is nan.
    """
    try:
        return _cholesky(xp, x), xp.zeros(x.shape[:-2], "i4")
    except ValueError:
        info = _first_minor(xp, x)
    if name is None:
        flat = xp.full((info.size, *x.shape[-2:]), float("nan"), x.dtype)
        for place in range(info.size):
            if not info.reshape(-1)[place]:
                flat[place] = xp.linalg.cholesky(x.reshape(flat.shape)[place])
        return flat.reshape(x.shape), info
    failed = info > 0
    order = int(info.reshape(-1)[int(failed.reshape(-1).argmax())])
    raise LinAlgError(
        f"{name}: {in_batch(failed)}The factorization could not be completed because the input is not "
        f"positive-definite (the leading minor of order {order} is not positive-definite)."
    )


def _cholesky_rule(F, g, *, out):
    """The Hermitian part of L^-H tril(L^H gL, diagonal halved) L^-1: [M] equation 9, and x counts as Hermitian."""
    L = out[0]
    LH = H(F, L)
    inner = half_diagonal(F, F.tril(LH @ g[0], k=0))
    inner = F.solve_triangular(LH, (inner + H(F, inner)) * 0.5, upper=True)
    return H(F, F.solve_triangular(LH, H(F, inner), upper=True))


cholesky.vjp(x=_cholesky_rule)
