"""Linear algebra on batches of matrices (*B, N, M): inverses, determinants, systems, exponential; and small products.

Rules marked holomorphic are complex derivatives; the engine conjugates around them. Formulas, where no other source is
named: M. Giles, An extended collection of matrix derivative results for forward and reverse mode AD, 2008.
"""

from __future__ import annotations

import math

from ..op import composite, op
from .factor import LinAlgError, in_batch, lu_in_place

# ---- systems of equations


def zero_pivot(xp, x):
    """The place, from 1, of the first zero pivot of LU, 0 where there is none. x: (*B, N, N) -> (*B) int32."""
    pivots = xp.diagonal(lu_in_place(xp, x)[0], 0, -2, -1)
    zero = pivots == 0
    return xp.asarray(xp.where(zero.any(axis=-1), zero.argmax(axis=-1) + 1, 0)).astype("i4")


def _each(xp, solver, x, y, info):
    """solver(x, y) matrix by matrix, nan where info names a zero pivot or x has nan, which LAPACK may call singular.

    x: (*B, N, N), y: (*B, N, K) -> (*B, N, K).
    """
    shape = xp.broadcast_shapes(x.shape[:-2], y.shape[:-2])
    x = xp.broadcast_to(x, (*shape, *x.shape[-2:])).reshape(-1, *x.shape[-2:])
    y = xp.broadcast_to(y, (*shape, *y.shape[-2:]))
    out = xp.full((x.shape[0], *y.shape[-2:]), math.nan, y.dtype)
    info = xp.broadcast_to(info, shape).reshape(-1)
    flat = y.reshape(out.shape)
    for i in range(x.shape[0]):
        if not info[i] and not xp.isnan(x[i]).any():
            out[i] = solver(x[i], flat[i])
    return out.reshape(y.shape)


@op(outputs=("inverse", "info"), grad_name="LinalgInvEx")
def inv(xp, x, *, name=None):
    """The inverse. x: (*B, N, N) -> (*B, N, N), and info (*B) int32: the place of a zero pivot, 0 where there is none.

    A zero pivot raises LinAlgError in the name of `name`; without a name the inverse is nan.
    """
    try:
        return xp.linalg.inv(x), xp.zeros(x.shape[:-2], "i4")
    except ValueError:
        info = zero_pivot(xp, x)
    failed = info > 0
    if name is not None and failed.any():
        place = int(info.reshape(-1)[int(failed.reshape(-1).argmax())])
        raise LinAlgError(
            f"{name}: {in_batch(failed)}The diagonal element {place} is zero, the inversion could not be completed "
            "because the input matrix is singular."
        )
    eye = xp.broadcast_to(xp.eye(x.shape[-1], dtype=x.dtype), x.shape)
    return _each(xp, xp.linalg.solve, x, eye, info), info


inv.vjp(x=lambda F, g, *, out: -(F.mT(F.conj(out[0])) @ g[0] @ F.mT(F.conj(out[0]))))


@op(promote="equal", broadcasts=True, holomorphic=True, grad_name="LinalgSolveEx")
def solve(xp, A, B, *, check=True):
    """X with A X = B. A: (*S, N, N), B: (*T, N, K) -> (*broadcast(S, T), N, K). LinAlgError, or nan, for singular A."""
    try:
        return xp.linalg.solve(A, B)
    except ValueError:
        if A.shape[-1] != B.shape[-2]:
            raise
        info = zero_pivot(xp, A)
    if check and info.any():
        raise LinAlgError(
            f"torch.linalg.solve: {in_batch(info > 0)}The solver failed because the input matrix is singular."
        )
    return _each(xp, xp.linalg.solve, A, B, info)


solve.vjp(
    A=lambda F, g, *, A, out: -(F.solve(F.mT(A), g) @ F.mT(out)),
    B=lambda F, g, *, A: F.solve(F.mT(A), g),
)


def _substituted(xp, A, B, upper):
    """Substitution row by row, for triangles with a zero on the diagonal: inf and nan as they fall."""
    shape = xp.broadcast_shapes(A.shape[:-2], B.shape[:-2])
    out = xp.broadcast_to(B, (*shape, *B.shape[-2:])).copy()
    n = A.shape[-1]
    for i in range(n - 1, -1, -1) if upper else range(n):
        known = slice(i + 1, n) if upper else slice(0, i)
        row = out[..., i, :] - (A[..., i, None, known] @ out[..., known, :])[..., 0, :]
        out[..., i, :] = row / A[..., i, i, None]
    return out


@op(promote="equal", broadcasts=True, holomorphic=True, grad_name="LinalgSolveTriangular")
def solve_triangular(xp, A, B, *, upper, unit=False):
    """X with A X = B, of A only one triangle, its diagonal taken as 1 for `unit`.

    A: (*S, N, N), B: (*T, N, K) -> (*broadcast(S, T), N, K).
    """
    T = xp.triu(A, 1 if unit else 0) if upper else xp.tril(A, -1 if unit else 0)
    if unit:
        T = T + xp.eye(A.shape[-1], dtype=A.dtype)
    if not (xp.diagonal(T, 0, -2, -1) == 0).any():
        return xp.linalg.solve(T, B)
    return _substituted(xp, T, B, upper)


def _triangular_A(F, g, *, A, out, upper, unit):
    full = -(F.solve_triangular(F.mT(A), g, upper=not upper, unit=unit) @ F.mT(out))
    k = 1 if unit else 0
    return F.triu(full, k=k) if upper else F.tril(full, k=-k)


solve_triangular.vjp(
    A=_triangular_A,
    B=lambda F, g, *, A, upper, unit: F.solve_triangular(F.mT(A), g, upper=not upper, unit=unit),
)

# ---- determinants


@op(holomorphic=True, grad_name="LinalgDet")
def det(xp, x):
    """The determinant. x: (*B, N, N) -> (*B)."""
    out = xp.linalg.det(x)
    return out if xp.all(out) else xp.where(xp.isnan(x).any(axis=(-2, -1)), math.nan, out).astype(x.dtype, copy=False)


det.vjp(x=lambda F, g, *, x: F.reshape(g, shape=(*x.shape[:-2], 1, 1)) * F.cofactor(x))


@op(holomorphic=True)
def cofactor(xp, x):
    """The cofactors, det(x) times the inverse's transpose, right for singular x too. x: (*B, N, N) -> (*B, N, N).

    Of singular x from its singular values: N. Higham, What is the adjugate of a matrix?, 2020.
    """
    d = xp.linalg.det(x)
    if (d != 0).all():
        try:
            return d[..., None, None] * xp.linalg.inv(x).swapaxes(-1, -2)
        except ValueError:  # zero pivot, though the determinant is not: in another order of summation
            pass
    bad = ~xp.isfinite(x).all(axis=(-2, -1), keepdims=True)
    U, S, Vh = xp.linalg.svd(xp.where(bad, 0, x).astype(x.dtype, copy=False))
    n = x.shape[-1]
    others = xp.where(xp.eye(n, dtype=bool), xp.ones((), S.dtype), S[..., None, :]).prod(axis=-1)
    sign = xp.linalg.det(U) * xp.linalg.det(Vh)
    out = xp.conjugate(U * (xp.conjugate(sign)[..., None] * others)[..., None, :] @ Vh)
    return xp.where(bad, math.nan, out).astype(x.dtype, copy=False)


@composite
def cofactor_backward(F, g, x):
    """The gradient through the cofactors K: (<g, K> K - K g^T K) / det. g, x: (*B, N, N) -> (*B, N, N)."""
    if x.shape[-1] == 1:  # the cofactor is 1
        return F.zeros_like(x)
    x = F.nudged(x)
    d = F.reshape(F.det(x), shape=(*x.shape[:-2], 1, 1))
    C = F.mT(F.inv(x)[0])
    axes = (len(x.shape) - 2, len(x.shape) - 1)
    return d * (F.sum(g * C, axis=axes, keepdims=True) * C - C @ F.mT(g) @ C)


cofactor.vjp(x=lambda F, g, *, x: F.cofactor_backward(g, x))


@op()
def nudged(xp, x):
    """x; where singular, its singular values at least sqrt(eps) times the largest. x: (*B, N, N) -> (*B, N, N)."""
    if x.size and (xp.linalg.det(x) == 0).any():
        U, S, Vh = xp.linalg.svd(x)
        least = math.sqrt(xp.finfo(x.dtype).eps) * xp.maximum(S[..., :1], xp.finfo(x.dtype).tiny)
        return (U * xp.maximum(S, least)[..., None, :]) @ Vh
    return x.copy()


nudged.vjp(x=lambda F, g: g)


@op(outputs=("sign", "logabsdet"), grad_name="LinalgSlogdet")
def slogdet(xp, x):
    """Sign (phase) of the determinant and log of its size; 0 and -inf for 0. x: (*B, N, N) -> (*B), (*B) real."""
    sign, size = xp.linalg.slogdet(x)
    if not xp.isfinite(size).all():  # LAPACK may call a matrix with nan singular
        size = xp.where(xp.isnan(x).any(axis=(-2, -1)), math.nan, size).astype(size.dtype, copy=False)
        sign = xp.where(xp.isnan(size), 0, sign).astype(x.dtype, copy=False)
    return sign, size


def _slogdet_rule(F, g, *, x, x_dtype, out):
    """(g of the log, and of the phase i Im) times the inverse's conjugate transpose; the sign of a real one is flat."""
    gsign, glog = g
    factor = None if glog is None else glog
    if x_dtype.kind == "c":
        factor = F.zeros_like(out[0]) if glog is None else F.cast(glog, dtype=x_dtype)
        if gsign is not None:
            factor = factor - F.cast(F.imag(F.conj(gsign) * out[0]), dtype=x_dtype) * 1j
    if factor is None:
        return F.zeros_like(x)
    inverse = F.inv(x)[0]
    return F.reshape(factor, shape=(*x.shape[:-2], 1, 1)) * F.mT(F.conj(inverse))


slogdet.vjp(x=_slogdet_rule)

# ---- pseudo-inverse


@op(grad_name="Pinverse")
def pinv(xp, x, *, atol, rtol, hermitian=False):
    """The Moore-Penrose inverse; singular values up to max(atol, rtol times the largest) count as 0.

    x: (*B, M, N); atol, rtol: numbers or arrays (*B) -> (*B, N, M).
    """
    if not x.size:
        return xp.zeros((*x.shape[:-2], x.shape[-1], x.shape[-2]), x.dtype)
    if hermitian:
        s, U = xp.linalg.eigh(x)
        Vh = xp.conjugate(U.swapaxes(-1, -2))
    else:
        U, s, Vh = xp.linalg.svd(x, full_matrices=False)
    size = abs(s)
    bound = xp.maximum(xp.asarray(atol)[..., None], xp.asarray(rtol)[..., None] * size.max(axis=-1, keepdims=True))
    kept = size > bound
    s = xp.where(kept, 1 / xp.where(kept, s, 1), 0).astype(s.dtype)
    return xp.conjugate((U * s[..., None, :] @ Vh).swapaxes(-1, -2))


def _pinv_rule(F, g, *, x, out):
    """G. Golub and V. Pereyra, The differentiation of pseudo-inverses and nonlinear least squares problems, 1973."""
    Y, YH, gH = out, F.mT(F.conj(out)), F.mT(F.conj(g))
    left = gH @ Y @ YH
    right = YH @ Y @ gH
    return (left - x @ (Y @ left)) + (right - right @ Y @ x) - YH @ g @ YH


pinv.vjp(x=_pinv_rule)

# ---- exponential

# N. Higham, The scaling and squaring method for the matrix exponential revisited, 2005: Pade order 13.
PADE = (
    64764752532480000, 32382376266240000, 7771770303897600, 1187353796428800, 129060195264000, 10559470521600,
    670442572800, 33522128640, 1323241920, 40840800, 960960, 16380, 182, 1,
)  # fmt: skip
THETA = 5.371920351148152


@op(holomorphic=True, grad_name="LinalgMatrixExp")
def matrix_exp(xp, x):
    """The matrix exponential. x: (*B, N, N) -> (*B, N, N). Scaling and squaring with a Pade approximant.

    Single precision is computed in double: squaring doubles the relative error each time.
    """
    if not x.size:
        return x.copy()
    given = x.dtype
    x = x.astype("c16" if given.kind == "c" else "f8", copy=False)
    size = abs(x).sum(axis=-2).max(axis=-1)
    ratio = xp.where(xp.isfinite(size) & (size > THETA), size, THETA) / THETA
    halvings = xp.ceil(xp.log2(ratio)).astype(int)
    A = x * (0.5 ** halvings.astype(size.dtype))[..., None, None]
    eye, b = xp.eye(x.shape[-1], dtype=x.dtype), [n / PADE[0] for n in PADE]
    A2 = A @ A
    A4 = A2 @ A2
    A6 = A4 @ A2
    U = A @ (A6 @ (b[13] * A6 + b[11] * A4 + b[9] * A2) + b[7] * A6 + b[5] * A4 + b[3] * A2 + b[1] * eye)
    V = A6 @ (b[12] * A6 + b[10] * A4 + b[8] * A2) + b[6] * A6 + b[4] * A4 + b[2] * A2 + b[0] * eye
    out = xp.linalg.solve(V - U, V + U)
    for i in range(int(halvings.max())):
        out = xp.where((halvings > i)[..., None, None], out @ out, out)
    return out.astype(given, copy=False)


@composite
def matrix_exp_backward(F, g, x):
    """The upper right block of exp([[x^T, g], [0, x^T]]). g, x: (*B, N, N) -> (*B, N, N).

    R. Mathias, A chain rule for matrix functions and applications, 1996.
    """
    xT, n, last = F.mT(x), x.shape[-1], len(x.shape) - 1
    upper = F.cat(xT, g, axis=last)
    lower = F.cat(F.zeros_like(x), xT, axis=last)
    both = F.matrix_exp(F.cat(upper, lower, axis=last - 1))
    return F.slice_view(both, index=(*(slice(None),) * (last - 1), slice(0, n), slice(n, None)))


matrix_exp.vjp(x=lambda F, g, *, x: F.matrix_exp_backward(g, x))

# ---- small products


@op(grad_name="Trace")
def trace(xp, x):
    """The sum of the diagonal, of integers as int64. x: (N, M) -> ()."""
    diagonal = xp.diagonal(x)
    if x.dtype.itemsize == 2 and x.dtype.kind in "fV":
        return xp.add.reduce(diagonal.astype("f4")).astype(x.dtype)
    return xp.add.reduce(diagonal, dtype="i8" if x.dtype.kind in "iu" else None)


trace.vjp(
    x=lambda F, g, *, x_shape: F.diag_embed(
        F.expand(g, shape=(min(x_shape),)), shape=x_shape, offset=0, axis1=0, axis2=1
    )
)


@op(promote="same", broadcasts=True, holomorphic=True, grad_name="LinalgCross")
def cross(xp, x, y, *, axis):
    """The vector product along axis (a size of 3), counted from the end. x: (*S), y: (*T) -> (*broadcast(S, T))."""

    def part(a, i):
        return xp.take(a, i, axis=axis)

    parts = [part(x, i - 2) * part(y, i - 1) - part(x, i - 1) * part(y, i - 2) for i in range(3)]
    return xp.stack(parts, axis=axis)


cross.vjp(x=lambda F, g, *, y, axis: F.cross(y, g, axis=axis), y=lambda F, g, *, x, axis: F.cross(g, x, axis=axis))


@op(promote="same", grad_name="EuclideanDist", row_major=True)
def euclidean_distances(xp, x, y, *, products):
    """The distance of each point of x from each of y; `products`: through one matrix product, quick but less exact.

    x: (*B, P, D), y: (*B, R, D) -> (*B, P, R). The gradient where a distance is 0 is 0.
    """
    if not products:
        out = x[..., :, None, :] - y[..., None, :, :]
        out *= out
        return xp.sqrt(xp.add.reduce(out, axis=-1))
    # |x|^2 - 2 x y + |y|^2 in one product, for that rounds as PyTorch's does
    ones = xp.ones((*x.shape[:-1], 1), x.dtype), xp.ones((*y.shape[:-1], 1), y.dtype)
    x = xp.concatenate([-2 * x, xp.add.reduce(x * x, axis=-1, keepdims=True), ones[0]], axis=-1)
    y = xp.concatenate([y, ones[1], xp.add.reduce(y * y, axis=-1, keepdims=True)], axis=-1)
    squares = x @ y.swapaxes(-1, -2)
    return xp.sqrt(xp.maximum(squares, 0, out=squares), out=squares)


def _distance_rule(F, ratio, x, y):
    """sum_j ratio_ij (x_i - y_j)."""
    return x * F.sum(ratio, axis=(len(x.shape) - 1,), keepdims=True) - ratio @ y


euclidean_distances.vjp(
    x=lambda F, g, *, x, y, out: _distance_rule(F, F.divide_or_zero(g, out), x, y),
    y=lambda F, g, *, x, y, out: _distance_rule(F, F.mT(F.divide_or_zero(g, out)), y, x),
)
