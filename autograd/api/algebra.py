"""Linear algebra under its names in `tapegrad` itself and as Tensor methods: det, inverse, svd, qr, trace, cdist ..."""

from __future__ import annotations

import math
from typing import Any

from ...backends.registry import backend_of
from ..dtypes import FLOAT, from_numpy_dtype
from ..op import GRAPH
from ..ops import factor as factor_op
from ..ops import linalg as op
from ..tensor import Tensor
from . import factor, linalg
from . import return_types as types
from .args import axes_of, dim_of, int_of
from .factor import H, also_named, beside, columns, empty, identity, matrices, rows, square
from .reduce import _vector_norm
from .table import public

# ---- determinants and inverses


@public
def det(input: Tensor) -> Tensor:
    """The determinant. (*, N, N) -> (*)."""
    return linalg.det(input)


@public
def slogdet(input: Tensor) -> Any:
    """sign, logabsdet with det = sign * exp(logabsdet). (*, N, N) -> (*) and (*), real."""
    return types.slogdet(tuple(linalg.slogdet(input)))


@public
def logdet(input: Tensor) -> Tensor:
    """The logarithm of the determinant: -inf for 0, nan for a negative one. (*, N, N) -> (*)."""
    square("logdet", input)
    sign, size = op.slogdet(input)
    if input.array.dtype.kind == "c":
        return GRAPH.log(sign) + size
    return GRAPH.where(sign == -1, GRAPH.ones_like(size) * math.nan, size)


@public
def inverse(input: Tensor) -> Tensor:
    """The inverse. (*, N, N) -> (*, N, N). LinAlgError for a singular matrix."""
    return linalg.inv(input)


@public
def pinverse(input: Tensor, rcond: float = 1e-15) -> Tensor:
    """The Moore-Penrose inverse; singular values up to rcond times the largest count as 0. (*, M, N) -> (*, N, M)."""
    return linalg.pinv(input, rcond)


@public
def matrix_power(input: Tensor, n: int) -> Tensor:
    """input to an integer power. (*, N, N) -> (*, N, N)."""
    return linalg.matrix_power(input, n)


@also_named(input="A")
@public
def matrix_exp(A: Tensor) -> Tensor:
    """The matrix exponential. (*, N, N) -> (*, N, N)."""
    return linalg.matrix_exp(A)


# ---- factorisations


@public
def svd(input: Tensor, some: bool = True, compute_uv: bool = True) -> Any:
    """input = U @ diag(S) @ V^H; without compute_uv, U and V are zeros.

    (*, M, N) -> U: (*, M, K), S: (*, K), V: (*, N, K), K = min(M, N); with some=False, U: (*, M, M), V: (*, N, N).
    """
    matrices("linalg.svd", input)
    if compute_uv:
        U, S, Vh = factor_op.svd(input, full=not some)
        return types.svd((U, S, H(Vh)))
    xp, (m, n), lead = backend_of(input.array).xp, input.array.shape[-2:], input.array.shape[:-2]
    zeros = [beside(input, xp.zeros((*lead, k, k), input.array.dtype)) for k in (m, n)]
    return types.svd((zeros[0], linalg.svdvals(input), zeros[1]))


@public
def qr(input: Tensor, some: bool = True) -> Any:
    """input = Q @ R. (*, M, N) -> Q: (*, M, K), R: (*, K, N), K = min(M, N), or M where not some."""
    return types.qr(tuple(factor.qr(input, "reduced" if some else "complete")))


@public
def geqrf(input: Tensor) -> Any:
    """QR as LAPACK keeps it: R on and above a's diagonal, below it the reflections for `householder_product`.

    (*, M, N) -> a: (*, M, N), tau: (*, min(M, N)). Not differentiable.
    """
    matrices("torch.geqrf", input)
    a, tau = backend_of(input.array).xp.linalg.qr(input.array, mode="raw")
    return types.geqrf((beside(input, a.swapaxes(-1, -2).copy()), beside(input, tau)))


@also_named(input2="tau")
@public
def orgqr(input: Tensor, tau: Tensor) -> Tensor:
    """`linalg.householder_product`. input: (*, M, N), tau: (*, K) -> (*, M, N)."""
    return factor.householder_product(input, tau)


@also_named(input2="tau", input3="other")
@public
def ormqr(input: Tensor, tau: Tensor, other: Tensor, left: bool = True, transpose: bool = False) -> Tensor:
    """Q other, or other Q where not left, Q^H for transpose; Q (M, M) as the reflections of `geqrf` give it.

    input: (*, M, N), tau: (*, K), other: (*, M, P) or (*, P, M) -> as other.
    """
    _check_reflections(input, tau, other, left)
    if not left:  # other Q is (Q^H other^H)^H
        return H(ormqr(input, tau, H(other), True, not transpose))
    order = range(tau.array.shape[-1])
    return factor.reflected(input, GRAPH.conj(tau) if transpose else tau, other, order if transpose else order[::-1])


def _check_reflections(input: Tensor, tau: Tensor, other: Tensor, left: bool) -> None:
    name, ndim = "torch.ormqr", input.array.ndim
    for t, word in ((input, "input"), (other, "other")):
        if t.array.ndim < 2:
            raise RuntimeError(f"{name}: {word} must have at least 2 dimensions.")
    side = -2 if left else -1
    if other.array.shape[side] != input.array.shape[-2]:
        raise RuntimeError(f"{name}: other.shape[{side}] must be equal to input.shape[-2]")
    if tau.array.shape[-1] != min(other.array.shape[side], input.array.shape[-1]):
        raise RuntimeError(f"{name}: tau.shape[-1] must be equal to min(other.shape[{side}], input.shape[-1])")
    if tau.array.ndim != ndim - 1:
        raise RuntimeError(
            f"{name}: Expected tau to have one dimension less than input, but got tau.ndim equal to "
            f"{tau.array.ndim} and input.ndim is equal to {ndim}"
        )
    if other.array.ndim != ndim:
        raise RuntimeError(
            f"{name}: Expected other to have the same number of dimensions as input, but got other.ndim equal to "
            f"{other.array.ndim} and input.ndim is equal to {ndim}"
        )
    for t, word in ((tau, "tau"), (other, "other")):
        if t.array.dtype != input.array.dtype:
            raise RuntimeError(
                f"{name}: Expected input and {word} to have the same dtype, but input has dtype{input.dtype.legacy} "
                f"and {word} has dtype {t.dtype.legacy}"
            )


@public
def cholesky(input: Tensor, upper: bool = False) -> Tensor:
    """L with input = L L^H; upper: its conjugate transpose. (*, N, N) -> (*, N, N)."""
    return factor.cholesky_of("cholesky", input, upper)[0]


@also_named(input="B", input2="L")
@public
def cholesky_solve(B: Tensor, L: Tensor, upper: bool = False) -> Tensor:
    """X with A X = B, where A = L L^H (A = L^H L for upper). B: (*, N, K), L: (*, N, N) -> (*, N, K)."""
    for t, word in ((B, "b"), (L, "u")):
        if t.array.ndim < 2:
            raise RuntimeError(f"{word} should have at least 2 dimensions, but has {t.array.ndim} dimensions instead")
    square("cholesky_solve", L)
    L = H(L) if upper else L
    return op.solve_triangular(H(L), op.solve_triangular(L, B, upper=False), upper=True)


@also_named(input="L")
@public
def cholesky_inverse(L: Tensor, upper: bool = False) -> Tensor:
    """The inverse of L L^H (L^H L for upper). (*, N, N) -> (*, N, N)."""
    square("cholesky_inverse", L)
    return cholesky_solve(identity(L, L.array.shape[-1]), L, upper)


@also_named(input="b")
@public
def triangular_solve(
    b: Tensor, A: Tensor, upper: bool = True, transpose: bool = False, unitriangular: bool = False
) -> Any:
    """X with A X = b, A triangular (A^T for transpose), and A. b: (*, N, K), A: (*, N, N) -> (*, N, K)."""
    if b.array.ndim < 2:
        raise RuntimeError(
            "torch.triangular_solve: Expected b to have at least 2 dimensions, but it has "
            f"{b.array.ndim} dimensions instead"
        )
    square("torch.triangular_solve", A)
    T, upper = (GRAPH.mT(A), not upper) if transpose else (A, upper)
    return types.triangular_solve((linalg.solve_triangular(T, b, upper=upper, unitriangular=unitriangular),
                                   GRAPH.clone(A)))  # fmt: skip


@also_named(input="A")
@public
def lu(A: Tensor, pivot: bool = True, get_infos: bool = False) -> Any:
    """(LU, pivots), and info for get_infos, of `linalg.lu_factor_ex`. (*, M, N) -> (*, M, N), (*, min(M, N)) int32."""
    result = tuple(factor.lu_factor_ex(A, pivot=pivot))
    return types.named("_lu_with_info", ("LU", "pivots", "info"))(result) if get_infos else result[:2]


@also_named(input="b")
@public
def lu_solve(b: Tensor, LU_data: Tensor, LU_pivots: Tensor) -> Tensor:
    """X with A X = b from A's `lu_factor`. b: (*, N, K), LU_data: (*, N, N) -> (*, N, K)."""
    return factor.lu_solve(LU_data, LU_pivots, b)


@public(method=False)
def lu_unpack(LU_data: Tensor, LU_pivots: Tensor, unpack_data: bool = True, unpack_pivots: bool = True) -> Any:
    """P, L, U of `lu_factor`; what is not unpacked is empty. LU_data: (*, M, N) -> (*, M, M), (*, M, K), (*, K, N)."""
    array = LU_data.array
    m, k = array.shape[-2], min(array.shape[-2:])
    P = L = U = empty(LU_data)
    if unpack_pivots:
        if LU_pivots.array.dtype != "i4":
            raise RuntimeError(
                "torch.lu_unpack: LU_pivots is expected to be a contiguous tensor of torch.int32 dtype.\nNote: this "
                "function is intended to be used with the output produced by torch.linalg.lu_factor"
            )
        P = factor_op.permutation(LU_pivots, size=m, dtype=array.dtype)
    if unpack_data:
        L = GRAPH.tril(columns(LU_data, 0, k), k=-1) + identity(LU_data, m, k)
        U = GRAPH.triu(rows(LU_data, 0, k), k=0)
    return types.lu_unpack((P, L, U))


# ---- small products, norms, distances


@public
def trace(input: Tensor) -> Tensor:
    """The sum of the diagonal. (N, M) -> ().

    >>> import tapegrad as torch
    >>> torch.trace(torch.eye(3))
    tensor(3.)
    """
    if input.array.ndim != 2:
        raise RuntimeError(f"trace: expected a matrix, but got tensor with dim {input.array.ndim}")
    if input.array.dtype.kind == "b":
        raise NotImplementedError("\"trace\" not implemented for 'Bool'")
    return op.trace(input)


@public
def cross(input: Tensor, other: Tensor, dim: int | None = None) -> Tensor:
    """The vector product along dim, None: the first dimension of size 3. (*S), (*T) -> (*broadcast(S, T))."""
    if dim is None:
        threes = [i for i, n in enumerate(input.array.shape) if n == 3]
        if not threes:
            raise RuntimeError("no dimension of size 3 in input")
        dim = threes[0]
    return linalg.cross(input, other, dim=dim)


@public(method=False)
def vander(x: Tensor, N: int | None = None, increasing: bool = False) -> Tensor:
    """Vandermonde's matrix: the powers N - 1 to 0 of each element, 0 to N - 1 where increasing. x: (n,) -> (n, N)."""
    if x.array.ndim != 1:
        raise RuntimeError("x must be a one-dimensional tensor.")
    if N is not None and int_of(N, "vander", "N") < 0:
        raise RuntimeError("N must be non-negative.")
    if not N and N is not None or not x.array.size:
        return beside(x, backend_of(x.array).xp.zeros((x.array.shape[0], N or 0), x.array.dtype))
    powers = linalg.vander(x, N)
    return powers if increasing else GRAPH.flip(powers, axes=(1,))


@public(method=False)
def nuclear_norm(input: Tensor, dim: Any = (0, 1), keepdim: bool = False) -> Tensor:
    """The sum of the singular values of the matrices in two dims. (*S) -> (S without dim)."""
    return linalg.matrix_norm(input, "nuc", dim, keepdim)


@public(method=False)
def frobenius_norm(input: Tensor, dim: Any = (), keepdim: bool = False) -> Tensor:
    """The root of the sum of squares over dims. (*S) -> (S without dim)."""
    return _vector_norm(input, 2, axes_of(input, dim), keepdim)


_MODES = {
    "use_mm_for_euclid_dist_if_necessary": None, "use_mm_for_euclid_dist": True, "donot_use_mm_for_euclid_dist": False,
}  # fmt: skip


@public(method=False)
def cdist(
    x1: Tensor, x2: Tensor, p: float = 2.0, compute_mode: str = "use_mm_for_euclid_dist_if_necessary"
) -> Tensor:
    """The p-norm of the difference of each row of x1 and each of x2. x1: (*B, P, D), x2: (*C, R, D) -> (*, P, R).

    p = 2 with more than 25 rows goes through a matrix product, which loses digits for close points, as PyTorch does.
    """
    for t, word in ((x1, "X1"), (x2, "X2")):
        if from_numpy_dtype(t.array.dtype).category < FLOAT:
            raise RuntimeError(f"cdist only supports floating-point dtypes, {word} got: {t.dtype.legacy}")
        if t.array.ndim < 2:
            raise RuntimeError(f"cdist only supports at least 2D tensors, {word} got: {t.array.ndim}D")
    if x1.array.shape[-1] != x2.array.shape[-1]:
        raise RuntimeError(
            f"X1 and X2 must have the same number of columns. X1: {x1.shape[-1]} X2: {x2.shape[-1]}"
        )
    if p < 0:
        raise RuntimeError("cdist only supports non-negative p values")
    if compute_mode not in _MODES:
        raise ValueError(f"{compute_mode} is not a valid value for compute_mode")
    if p == 2:
        lead = _broadcast(x1.array.shape[:-2], x2.array.shape[:-2])
        x1, x2 = _expanded(x1, lead), _expanded(x2, lead)
        products = _MODES[compute_mode]
        if products is None:
            products = x1.array.shape[-2] > 25 or x2.array.shape[-2] > 25
        return op.euclidean_distances(x1, x2, products=products)
    difference = GRAPH.unsqueeze(x1, axis=x1.array.ndim - 1) - GRAPH.unsqueeze(x2, axis=x2.array.ndim - 2)
    return _vector_norm_or_zero(difference, p)


@public(method=False)
def pdist(input: Tensor, p: float = 2.0) -> Tensor:
    """The p-norm of the difference of each two rows, (0, 1), (0, 2), ..., (1, 2), ... (N, D) -> (N (N - 1) / 2,)."""
    if input.array.ndim != 2:
        raise RuntimeError(f"pdist only supports 2D tensors, got: {input.array.ndim}D")
    if from_numpy_dtype(input.array.dtype).category < FLOAT:
        raise RuntimeError("pdist only supports floating-point dtypes")
    if p < 0:
        raise RuntimeError("pdist only supports non-negative p values")
    first, second = backend_of(input.array).xp.triu_indices(input.array.shape[0], 1)
    pairs = [GRAPH.index_select(input, beside(input, places), axis=0) for places in (first, second)]
    return _vector_norm_or_zero(pairs[0] - pairs[1], p)


def _broadcast(first: tuple[int, ...], second: tuple[int, ...]) -> tuple[int, ...]:
    n = max(len(first), len(second))
    pairs = zip((1,) * (n - len(first)) + first, (1,) * (n - len(second)) + second, strict=True)
    return tuple([b if a == 1 else a for a, b in pairs])


def _expanded(t: Tensor, lead: tuple[int, ...]) -> Tensor:
    shape = t.array.shape
    return t if shape[:-2] == lead else GRAPH.expand(t, shape=(*lead, *shape[-2:]))


def _vector_norm_or_zero(difference: Tensor, p: float) -> Tensor:
    """The norm over the last dimension; of points without coordinates 0."""
    last = dim_of(-1, difference.array.ndim)
    if not difference.array.shape[last]:
        return GRAPH.sum(difference, axis=(last,), keepdims=False)
    return _vector_norm(difference, p, (last,), False)
