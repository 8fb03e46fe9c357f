"""`tapegrad.linalg`, first part: factorisations (svd, qr, eigenvalues, lu, cholesky), and reading arguments."""

from __future__ import annotations

import functools
from typing import Any

from ...backends.registry import backend_of
from ..dtypes import FLOAT, INT, from_numpy_dtype
from ..modes import mode
from ..op import GRAPH
from ..ops import factor as op
from ..ops import ldl as ldl_op
from ..ops.factor import LinAlgError as LinAlgError
from ..tensor import Tensor
from . import return_types as types
from .args import tensor_beside as beside
from .table import PUBLIC, public

# ---- arguments


def also_named(**names: str) -> Any:
    """Further keywords of a public function: PyTorch's parsers take other names than its documentation has.

    names: further name -> the parameter. Stands above `@public`.
    """

    def named(call: Any) -> Any:
        @functools.wraps(call)
        def renamed(*args: Any, **kwargs: Any) -> Any:
            for other in kwargs.keys() & names.keys():
                kwargs[names[other]] = kwargs.pop(other)
            return call(*args, **kwargs)

        PUBLIC[call.__name__].function = renamed
        return renamed

    return named


def linalg(function: Any) -> Any:
    """Declares a function of `tapegrad.linalg`, no tapegrad.NAME and no method. `out=` and aliases as `public`.

    The first parameter, whatever its name, may be given as `input`.
    """
    name = "linalg_" + function.__name__
    call = public(function, name=name, method=False)
    PUBLIC[name].is_function = False
    first = function.__code__.co_varnames[0]
    return call if first in ("input", "tensors") else also_named(input=first)(call)


def matrices(name: str, A: Any, argument: str = "A", floating: bool = True) -> None:
    """Errors where A is no tensor of matrices, or (floating) not of float32, float64 or their complex counterparts."""
    if not isinstance(A, Tensor):
        shown = name.replace("linalg.", "linalg_").removeprefix("torch.")
        raise TypeError(f"{shown}(): argument '{argument}' (position 1) must be Tensor, not {type(A).__name__}")
    if A.array.ndim < 2:
        raise RuntimeError(f"{name}: The input tensor {argument} must have at least 2 dimensions.")
    if floating:
        floats(name, A)


def floats(name: str, A: Tensor) -> None:
    """RuntimeError for integers and for half precision, which LAPACK does not have."""
    dtype = from_numpy_dtype(A.array.dtype)
    if dtype.category < FLOAT:
        raise RuntimeError(f"{name}: Expected a floating point or complex tensor as input. Got {dtype.legacy}")
    if dtype.itemsize == 2:
        raise RuntimeError(f"{name}: Low precision dtypes not supported. Got {dtype.legacy}")


def for_kernel(kernel: str, A: Tensor) -> None:
    """NotImplementedError in the name of PyTorch's kernel for dtypes that LAPACK does not have."""
    dtype = from_numpy_dtype(A.array.dtype)
    if dtype.category < FLOAT or dtype.itemsize == 2:
        raise NotImplementedError(f"\"{kernel}\" not implemented for '{dtype.legacy}'")


def square(name: str, A: Any, argument: str = "A", floating: bool = True) -> None:
    """Errors where A is no tensor of square matrices."""
    matrices(name, A, argument, False)
    n, m = A.array.shape[-2:]
    if n != m:
        raise RuntimeError(f"{name}: A must be batches of square matrices, but they are {n} by {m} matrices")
    if floating:
        floats(name, A)


def empty(A: Tensor, dtype: Any = None) -> Tensor:
    """No element, beside A: PyTorch's place-holder for a part of a result that was not computed. -> (0,)."""
    return beside(A, backend_of(A.array).xp.empty(0, dtype or A.array.dtype))


def recorded(A: Tensor) -> bool:
    """Whether a gradient may be asked for: then the vectors that its rule needs are computed along."""
    return A._rg and mode.grad is not False


def identity(A: Tensor, n: int, m: int | None = None) -> Tensor:
    """Ones on the diagonal, in A's dtype and for each matrix of A's batch. -> (*, n, m)."""
    xp, lead = backend_of(A.array).xp, A.array.shape[:-2]
    eye = xp.eye(n, m, dtype=A.array.dtype)
    return beside(A, xp.broadcast_to(eye, (*lead, *eye.shape)).copy() if lead else eye)


def linked_identity(A: Tensor) -> Tensor:
    """Ones on the diagonal, in A's shape and with a history that leads to A, by gradients of 0. (*, N, M) -> same."""
    n, m = A.array.shape[-2:]
    return identity(A, n, m) + GRAPH.tril(A, k=-n)


def H(A: Tensor) -> Tensor:
    """The conjugate transpose. (*, N, M) -> (*, M, N)."""
    return GRAPH.mT(GRAPH.conj(A)) if A.array.dtype.kind == "c" else GRAPH.mT(A)


def columns(A: Tensor, start: int, stop: int | None) -> Tensor:
    """Some columns of matrices, as a view. (*, M, N) -> (*, M, stop - start)."""
    return GRAPH.slice_view(A, index=(*(slice(None),) * (A.array.ndim - 1), slice(start, stop)))


def rows(A: Tensor, start: int, stop: int | None) -> Tensor:
    """Some rows of matrices, as a view. (*, M, N) -> (*, stop - start, N)."""
    return GRAPH.slice_view(A, index=(*(slice(None),) * (A.array.ndim - 2), slice(start, stop), slice(None)))


# ---- singular values


@linalg
def svd(A: Tensor, full_matrices: bool = True, *, driver: str | None = None) -> Any:
    """A = U @ diag(S) @ Vh with S falling. A: (*, M, N) -> U: (*, M, M), S: (*, K), Vh: (*, N, N), K = min(M, N).

    Without full_matrices, U: (*, M, K) and Vh: (*, K, N). Gradients exist for distinct singular values, and where the
    loss does not depend on the signs (phases) of the vectors. `driver` is accepted and means nothing on the CPU.

    >>> import tapegrad as torch
    >>> torch.linalg.svd(torch.tensor([[3.0, 0.0], [0.0, 2.0]])).S
    tensor([3., 2.])
    """
    matrices("linalg.svd", A)
    return types.linalg_svd(op.svd(A, full=full_matrices))


@linalg
def svdvals(A: Tensor, *, driver: str | None = None) -> Tensor:
    """The singular values, falling. (*, M, N) -> (*, min(M, N)), real."""
    matrices("linalg.svd", A)
    return op.svd(A, full=False)[1] if recorded(A) else op.svdvals(A)


# ---- eigenvalues


def _triangle(name: str, A: Any, UPLO: str) -> bool:
    square(name, A, floating=False)
    if UPLO.upper() not in ("L", "U"):
        raise RuntimeError(f"Expected UPLO argument to be 'L' or 'U', but got {UPLO}")
    for_kernel("linalg_eigh_cpu", A)
    return UPLO.upper() == "L"


@linalg
def eigh(A: Tensor, UPLO: str = "L") -> Any:
    """Eigenvalues, rising, and eigenvectors of Hermitian A, read from its lower (UPLO "L") or upper triangle.

    (*, N, N) -> eigenvalues: (*, N) real, eigenvectors: (*, N, N). Gradients as for `svd`.

    >>> import tapegrad as torch
    >>> torch.linalg.eigh(torch.tensor([[2.0, 0.0], [0.0, 1.0]])).eigenvalues
    tensor([1., 2.])
    """
    return types.linalg_eigh(op.eigh(A, lower=_triangle("linalg.eigh", A, UPLO)))


@linalg
def eigvalsh(A: Tensor, UPLO: str = "L") -> Tensor:
    """The eigenvalues of Hermitian A, rising. (*, N, N) -> (*, N), real."""
    lower = _triangle("linalg.eigh", A, UPLO)
    return op.eigh(A, lower=lower)[0] if recorded(A) else op.eigvalsh(A, lower=lower)


def _any_square(name: str, A: Any) -> None:
    square(name, A, floating=False)
    dtype = from_numpy_dtype(A.array.dtype)
    if dtype.category < FLOAT:
        raise RuntimeError(f"Unknown Complex ScalarType for {dtype.legacy}")


@linalg
def eig(A: Tensor) -> Any:
    """Eigenvalues and eigenvectors of any square A. (*, N, N) -> (*, N) and (*, N, N), both complex."""
    _any_square("linalg.eig", A)
    return types.linalg_eig(op.eig(A))


@linalg
def eigvals(A: Tensor) -> Tensor:
    """The eigenvalues of any square A. (*, N, N) -> (*, N), complex."""
    _any_square("linalg.eigvals", A)
    return op.eig(A)[0] if recorded(A) else op.eigvals(A)


# ---- orthogonal and triangular


@linalg
def qr(A: Tensor, mode: str = "reduced") -> Any:
    """A = Q @ R with orthonormal columns of Q and upper triangular R. (*, M, N) -> Q: (*, M, K), R: (*, K, N).

    mode "reduced": K = min(M, N); "complete": K = M; "r": Q is empty, and there is no gradient.
    """
    matrices("linalg.qr", A)
    if mode not in ("reduced", "complete", "r"):
        raise RuntimeError(
            f"qr received unrecognized mode '{mode}' but expected one of 'reduced' (default), 'r', or 'complete'"
        )
    if mode != "r":
        return types.linalg_qr(op.qr(A, complete=mode == "complete"))
    Q, R = op.qr(A, complete=False)
    if recorded(A):
        R.register_hook(_no_gradient_without_q)
    return types.linalg_qr((empty(Q), R))


def _no_gradient_without_q(g: Any) -> None:
    raise RuntimeError(
        "The derivative of linalg.qr depends on Q, which is not computed when mode='r'. Please use linalg.qr(A, "
        "mode='reduced') if you are going to differentiate through linalg.qr."
    )


@linalg
def householder_product(A: Tensor, tau: Tensor) -> Tensor:
    """The first N columns of H_1 ... H_K, H_i = 1 - tau_i v_i v_i^H, v_i below the diagonal of A's column i.

    A: (*, M, N), tau: (*, K) with K <= N <= M -> (*, M, N).
    """
    matrices("torch.linalg.householder_product", A, "input")
    (m, n), k = A.array.shape[-2:], tau.array.shape[-1]
    if m < n:
        raise RuntimeError(
            "torch.linalg.householder_product: input.shape[-2] must be greater than or equal to input.shape[-1]"
        )
    if n < k:
        raise RuntimeError(
            "torch.linalg.householder_product: input.shape[-1] must be greater than or equal to tau.shape[-1]"
        )
    return reflected(A, tau, linked_identity(A), range(k - 1, -1, -1))


def reflected(A: Tensor, tau: Tensor, out: Tensor, order: Any) -> Tensor:
    """The Householder reflections of A and tau applied to out from the left, in the given order."""
    unit = GRAPH.tril(A, k=-1) + identity(A, *A.array.shape[-2:])
    for i in order:
        v = columns(unit, i, i + 1)
        scale = GRAPH.unsqueeze(GRAPH.slice_view(tau, index=(*(slice(None),) * (tau.array.ndim - 1), slice(i, i + 1))),
                                axis=tau.array.ndim)  # fmt: skip
        out = out - (scale * v) @ (H(v) @ out)
    return out


# ---- lower and upper


@linalg
def lu(A: Tensor, *, pivot: bool = True) -> Any:
    """A = P @ L @ U with partial pivoting. (*, M, N) -> P: (*, M, M), L: (*, M, K), U: (*, K, N), K = min(M, N).

    pivot=False leaves out P (an empty tensor).
    """
    if A.array.ndim < 2:
        raise RuntimeError(f"linalg.lu: Expected tensor with 2 or more dimensions. Got size: {list(A.shape)} instead")
    for_kernel("lu_cpu", A)
    L, U, pivots = op.lu(A, pivot=pivot)
    if not pivot:
        return types.linalg_lu((empty(L), L, U))
    return types.linalg_lu((op.permutation(pivots, size=A.array.shape[-2], dtype=A.array.dtype), L, U))


def packed(L: Tensor, U: Tensor) -> Tensor:
    """L below the diagonal and U above, in one matrix. L: (*, M, K), U: (*, K, N) -> (*, M, N)."""
    (m, k), n = L.array.shape[-2:], U.array.shape[-1]
    lower, none = GRAPH.tril(L, k=-1), ((0, 0),) * (L.array.ndim - 2)
    if n > k:
        lower = GRAPH.pad_constant(lower, widths=(*none, (0, 0), (0, n - k)), value=0)
    if m > k:
        U = GRAPH.pad_constant(U, widths=(*none, (0, m - k), (0, 0)), value=0)
    return lower + U


def zero_pivots(U: Tensor) -> Any:
    """The place from 1 of the first zero on the diagonal, 0 where there is none. (*, K, N) -> (*), raw int32."""
    xp = backend_of(U.array).xp
    zero = xp.diagonal(U.array, 0, -2, -1) == 0
    if not zero.shape[-1]:
        return xp.zeros(zero.shape[:-1], "i4")
    return xp.asarray(xp.where(zero.any(axis=-1), zero.argmax(axis=-1) + 1, 0)).astype("i4")


@linalg
def lu_factor_ex(A: Tensor, *, pivot: bool = True, check_errors: bool = False) -> Any:
    """LU in one matrix, as LAPACK packs it. (*, M, N) -> LU: (*, M, N), pivots: (*, K) int32 from 1, info: (*) int32.

    info is the place of the first zero pivot, 0 where there is none.
    """
    if A.array.ndim < 2:
        raise RuntimeError(
            f"torch.lu_factor: Expected tensor with 2 or more dimensions. Got size: {list(A.shape)} instead"
        )
    for_kernel("lu_cpu", A)
    L, U, pivots = op.lu(A, pivot=pivot)
    info = zero_pivots(U)
    if check_errors and info.any():
        flat = info.reshape(-1)
        i = int(flat[int((flat > 0).argmax())])
        raise RuntimeError(
            f"torch.linalg.lu_factor: {op.in_batch(info > 0)}U[{i},{i}] is zero and using it on lu_solve would result "
            "in a division by zero. If you still want to perform the factorization, consider calling "
            "linalg.lu(A, pivot) or linalg.lu_factor_ex(A, pivot)"
        )
    return types.linalg_lu_factor_ex((packed(L, U), pivots, beside(A, info)))


@linalg
def lu_factor(A: Tensor, *, pivot: bool = True) -> Any:
    """LU in one matrix, as LAPACK packs it. (*, M, N) -> LU: (*, M, N), pivots: (*, K) int32 from 1."""
    return types.linalg_lu_factor(lu_factor_ex(A, pivot=pivot, check_errors=True)[:2])


@linalg
def lu_solve(LU: Tensor, pivots: Tensor, B: Tensor, *, left: bool = True, adjoint: bool = False) -> Tensor:
    """X with A X = B (or X A = B; A^H for adjoint) from A's `lu_factor`. LU: (*, N, N), B: (*, N, K) -> (*, N, K)."""
    square("torch.linalg.lu_solve", LU)
    if pivots.array.dtype != "i4":
        raise RuntimeError("linalg.lu_solve: pivots should be a Tensor of scalar type torch.int32")
    if not left:  # X A = B is A^H X^H = B^H
        return H(lu_solve(LU, pivots, H(B), adjoint=not adjoint))
    P = op.permutation(pivots, size=LU.array.shape[-1], dtype=LU.array.dtype)
    solve = GRAPH.solve_triangular
    if adjoint:
        return P @ solve(H(LU), solve(H(LU), B, upper=False), upper=True, unit=True)
    return solve(LU, solve(LU, GRAPH.mT(P) @ B, upper=False, unit=True), upper=True)


# ---- Cholesky


def cholesky_of(name: str | None, A: Any, upper: bool) -> Any:
    """(L, info), or (L^H, info) from the upper triangle; errors in the name of `name`, none raised for None."""
    square(name or "linalg.cholesky_ex", A)
    L, info = op.cholesky(H(A) if upper else A, name=name)
    return (H(L) if upper else L), info


@linalg
def cholesky(A: Tensor, *, upper: bool = False) -> Tensor:
    """L with A = L L^H, lower triangular; with upper, U with A = U^H U. (*, N, N) positive definite -> (*, N, N).

    >>> import tapegrad as torch
    >>> torch.linalg.cholesky(torch.tensor([[4.0, 2.0], [2.0, 5.0]]))
    tensor([[2., 0.],
            [1., 2.]])
    """
    return cholesky_of("linalg.cholesky", A, upper)[0]


@linalg
def cholesky_ex(A: Tensor, *, upper: bool = False, check_errors: bool = False) -> Any:
    """As `cholesky`, with info (*) int32: the order of the first leading minor that is not positive, else 0."""
    return types.linalg_cholesky_ex(cholesky_of("linalg.cholesky_ex" if check_errors else None, A, upper))


# ---- L D L^T, of which there are no gradients


@linalg
def ldl_factor_ex(A: Tensor, *, hermitian: bool = False, check_errors: bool = False) -> Any:
    """As `ldl_factor`, with info (*) int32: the place of a column of zeros, 0 where there is none."""
    square("torch.linalg.ldl_factor_ex", A, floating=False)
    if from_numpy_dtype(A.array.dtype).category < FLOAT:
        raise RuntimeError(
            "torch.linalg.ldl_factor_ex: Expected a floating point or complex tensor as input. Got " + A.dtype.legacy
        )
    for_kernel("ldl_factor_kernel_cpu", A)
    LD, pivots, info = ldl_op.ldl(backend_of(A.array).xp, A.array, hermitian)
    if check_errors:
        _check_factored("torch.linalg.ldl_factor_ex", info)
    return types.linalg_ldl_factor_ex((beside(A, LD), beside(A, pivots), beside(A, info)))


def _check_factored(name: str, info: Any) -> None:
    if info.any():
        raise RuntimeError(f"{name}: D is singular: its block at {int(info.reshape(-1).max())} is zero")


@linalg
def ldl_factor(A: Tensor, *, hermitian: bool = False) -> Any:
    """A = P L D L^T P^T (L^H for hermitian), D with blocks of 1 or 2, packed as LAPACK does; from the lower triangle.

    (*, N, N) -> LD: (*, N, N), pivots: (*, N) int32. For `ldl_solve`; no gradients. RuntimeError for a singular D.
    """
    LD, pivots, info = ldl_factor_ex(A, hermitian=hermitian)
    _check_factored("torch.linalg.ldl_factor", info.array)
    return types.linalg_ldl_factor((LD, pivots))


@linalg
def ldl_solve(LD: Tensor, pivots: Tensor, B: Tensor, *, hermitian: bool = False) -> Tensor:
    """X with A X = B from A's `ldl_factor`. LD: (*, N, N), pivots: (*, N), B: (*, N, K) -> (*, N, K). No gradients."""
    name = "torch.linalg.ldl_solve"
    square(name, LD, floating=False)
    if B.array.ndim < 2:
        raise IndexError(f"Dimension out of range (expected to be in range of [-1, 0], but got {-2})")
    (n, _), (m, k) = LD.array.shape[-2:], B.array.shape[-2:]
    if n != m:
        raise RuntimeError(
            f"Incompatible matrix sizes for {name}: each A matrix is {n} by {n} but each b matrix is {m} by {k}"
        )
    if LD.array.dtype != B.array.dtype:
        raise RuntimeError(
            f"Expected b and A to have the same dtype, but found b of type {B.dtype.legacy} and A of type "
            f"{LD.dtype.legacy} instead."
        )
    if pivots.array.shape != LD.array.shape[:-1]:
        raise RuntimeError(
            f"{name}: Expected LD.shape[:-1] and pivots.shape to be the same, but got pivots with shape "
            f"{list(pivots.shape)} instead"
        )
    if from_numpy_dtype(pivots.array.dtype).category != INT:
        raise RuntimeError(f"{name}: Expected pivots to be integers. Got {pivots.dtype.legacy}")
    return beside(LD, ldl_op.ldl_solved(backend_of(LD.array).xp, LD.array, pivots.array, B.array, hermitian))
