"""`tapegrad.linalg`, second part: norms, inverses, systems of equations, determinants, products."""

from __future__ import annotations

import math
from typing import Any

from ...backends.registry import backend_of
from ..dtypes import FLOAT, as_dtype, from_numpy_dtype, int64, promote_types
from ..op import GRAPH
from ..ops import linalg as op
from ..tensor import Tensor
from . import factor
from . import return_types as types
from .args import axes_of, dim_of, int_of, to_dtype
from .factor import also_named, beside, empty, floats, linalg, linked_identity, matrices, square, svdvals
from .reduce import _vector_norm
from .shape import _plane

# ---- norms


def _refuse_integers(name: str, A: Any) -> None:
    if from_numpy_dtype(A.array.dtype).category < FLOAT:
        raise RuntimeError(f"{name}: Expected a floating point or complex tensor as input. Got {A.dtype.legacy}")


def _in_dtype(name: str, A: Tensor, dtype: Any) -> Tensor:
    if dtype is None:
        return A
    if as_dtype(dtype).category < FLOAT:
        raise RuntimeError(f"{name}: dtype should be floating point or complex, but got {as_dtype(dtype).legacy}")
    real = A.array.dtype.kind != "c"
    if as_dtype(dtype).is_complex is real:
        word = "real" if real else "complex"
        raise RuntimeError(
            f"{name}: dtype should be {word} for {word} inputs, but got {as_dtype(dtype).legacy}"
        )
    if promote_types(A.dtype, as_dtype(dtype)) is not as_dtype(dtype):
        raise RuntimeError(
            f"{name}: the dtype of the input ({A.dtype.legacy}) should be convertible without narrowing to the "
            f"specified dtype ({as_dtype(dtype).legacy})"
        )
    return to_dtype(A, dtype)


@linalg
def vector_norm(x: Tensor, ord: Any = 2, dim: Any = None, keepdim: bool = False, *, dtype: Any = None) -> Tensor:
    """(sum |x|**ord)**(1/ord) over dims, all where None. (*S) -> (S without dim), real. The gradient at norm 0 is 0."""
    if isinstance(ord, str):
        raise TypeError("linalg_vector_norm(): argument 'ord' (position 2) must be Number, not str")
    _refuse_integers("linalg.vector_norm", x)
    return _vector_norm(_in_dtype("linalg.vector_norm", x, dtype), ord, axes_of(x, dim), keepdim)


@linalg
def matrix_norm(
    A: Tensor, ord: Any = "fro", dim: Any = (-2, -1), keepdim: bool = False, *, dtype: Any = None
) -> Tensor:
    """A norm of matrices that lie in two dims. (*S) -> (S without dim), real.

    ord: "fro" (root of the sum of squares), "nuc" (sum of singular values), 2 and -2 (largest and smallest singular
    value), 1 and -1 (largest and smallest column sum of sizes), inf and -inf (row sums).
    """
    name = "linalg.matrix_norm"
    matrices(name, A, floating=False)
    _refuse_integers(name, A)
    if not isinstance(dim, (tuple, list)) or len(dim) != 2:
        dims = dim if isinstance(dim, (tuple, list)) else (dim,)
        raise RuntimeError(f"{name}: dim must be a 2-tuple. Got {' '.join(map(str, dims))}")
    ndim = A.array.ndim
    first, second = dim_of(dim[0], ndim), dim_of(dim[1], ndim)
    if first == second:
        raise RuntimeError(f"{name}: dims must be different. Got ({dim[0]}, {dim[1]})")
    if (ord not in ("fro", "nuc")) if isinstance(ord, str) else abs(ord) not in (1, 2, math.inf):
        raise RuntimeError(f"{name}: Order {ord} not supported.")
    A = _in_dtype(name, A, dtype)
    if ord == "fro":
        return _vector_norm(A, 2, (first, second), keepdim)
    if ord == "nuc" or abs(ord) == 2:
        out = _of_singular_values(A, ord, first, second)
    else:
        across, along = (first, second) if abs(ord) == 1 else (second, first)
        sums = GRAPH.sum(GRAPH.abs(A), axis=(across,), keepdims=True)
        out = _extreme(sums, ord, along)
    shape = [1 if i in (first, second) else n for i, n in enumerate(A.array.shape)]
    kept = tuple(shape) if keepdim else tuple([n for i, n in enumerate(A.array.shape) if i not in (first, second)])
    return GRAPH.reshape(out, shape=kept)


def _extreme(sizes: Tensor, ord: Any, axis: int) -> Tensor:
    """The largest size along axis, the smallest for negative orders; 0 for none."""
    if not sizes.array.shape[axis]:
        return GRAPH.sum(sizes, axis=(axis,), keepdims=True)
    return (GRAPH.amax if ord > 0 else GRAPH.amin)(sizes, axis=(axis,), keepdims=True)


def _of_singular_values(A: Tensor, ord: Any, first: int, second: int) -> Tensor:
    others = [i for i in range(A.array.ndim) if i not in (first, second)]
    order = (*others, first, second)
    values = svdvals(A if order == tuple(range(A.array.ndim)) else GRAPH.permute(A, axes=order))
    last = values.array.ndim - 1
    return GRAPH.sum(values, axis=(last,), keepdims=True) if ord == "nuc" else _extreme(values, ord, last)


@linalg
def norm(input: Tensor, ord: Any = None, dim: Any = None, keepdim: bool = False, *, dtype: Any = None) -> Tensor:
    """The norm of vectors (one dim) or matrices (two dims); ord None: the root of the sum of squares over dim.

    (*S) -> (S without dim), real.

    >>> import tapegrad as torch
    >>> torch.linalg.norm(torch.tensor([3.0, 4.0]))
    tensor(5.)
    """
    if not isinstance(input, Tensor):
        raise TypeError(f"linalg_norm(): argument 'input' (position 1) must be Tensor, not {type(input).__name__}")
    ndim = input.array.ndim
    dims = tuple(dim) if isinstance(dim, (tuple, list)) else None if dim is None else (dim,)
    if dims is not None:
        if len(dims) not in (1, 2) and not isinstance(ord, str):
            raise RuntimeError(f"linalg.norm: If dim is specified, it must be of length 1 or 2. Got {list(dims)}")
    elif ord is not None and ndim not in (1, 2):
        raise RuntimeError(
            f"linalg.norm: If dim is not specified but ord is, the input must be 1D or 2D. Got {ndim}D."
        )
    if isinstance(ord, str) or (ord is not None and (ndim if dims is None else len(dims)) == 2):
        return matrix_norm(input, ord, (0, 1) if dims is None else dims, keepdim, dtype=dtype)
    return vector_norm(input, 2 if ord is None else ord, dims, keepdim, dtype=dtype)


@linalg
def cond(A: Tensor, p: Any = None) -> Tensor:
    """The condition number: the largest over the smallest singular value (p None or 2; -2 the inverse), or
    norm(A, p) * norm(inv(A), p), inf for singular A. (*, N, N), for singular values (*, M, N) -> (*), real.
    """
    if A.array.ndim < 2:
        raise RuntimeError("linalg.cond: The input tensor must have at least 2 dimensions.")
    if p is None or p in (2, -2):
        values = svdvals(A)
        k = values.array.shape[-1] - 1
        if k < 0:
            return GRAPH.sum(values, axis=(values.array.ndim - 1,), keepdims=False)
        last = values.array.ndim - 1
        ends = [GRAPH.select(values, axis=last, index=i) for i in (0, k)]
        return ends[1] / ends[0] if p == -2 else ends[0] / ends[1]
    square(f"linalg.cond(ord={p})", A)
    inverse, info = op.inv(A)
    product = matrix_norm(A, p) * matrix_norm(inverse, p)
    if not info.array.any():
        return product
    return GRAPH.where(GRAPH.ne(info, GRAPH.zeros_like(info)), GRAPH.ones_like(product) * math.inf, product)


# ---- inverses


@linalg
def inv(A: Tensor) -> Tensor:
    """The inverse. (*, N, N) -> (*, N, N). LinAlgError for a singular matrix.

    >>> import tapegrad as torch
    >>> torch.linalg.inv(torch.tensor([[2.0, 0.0], [0.0, 4.0]]))
    tensor([[0.5000, 0.0000],
            [0.0000, 0.2500]])
    """
    square("linalg.inv", A)
    return op.inv(A, name="linalg.inv")[0]


@linalg
def inv_ex(A: Tensor, *, check_errors: bool = False) -> Any:
    """As `inv`, with info (*) int32: the place of a zero pivot, then with a nan inverse instead of an error; else 0."""
    square("linalg.inv", A)
    return types.linalg_inv_ex(op.inv(A, name="linalg.inv_ex" if check_errors else None))


def _tolerances(A: Tensor, atol: Any, rtol: Any) -> tuple[Any, Any]:
    """rtol = max(M, N) eps by default, unless an absolute tolerance above 0 is given. Numbers or raw arrays."""
    atol = atol.array if isinstance(atol, Tensor) else atol
    rtol = rtol.array if isinstance(rtol, Tensor) else rtol
    if rtol is None:
        xp = backend_of(A.array).xp
        rtol = float(xp.finfo(A.array.dtype).eps) * max(A.array.shape[-2:])
        if atol is not None:
            rtol = xp.where(xp.asarray(atol) > 0, 0.0, rtol)
    return (0.0 if atol is None else atol), rtol


@linalg
def pinv(A: Tensor, rcond: Any = None, hermitian: bool = False, *, atol: Any = None, rtol: Any = None) -> Tensor:
    """The Moore-Penrose inverse; singular values up to max(atol, rtol * largest) count as 0. (*, M, N) -> (*, N, M)."""
    dtype = from_numpy_dtype(A.array.dtype)
    if A.array.ndim < 2 or dtype.category < FLOAT:
        raise RuntimeError(
            f"linalg.pinv({dtype.legacy}{{{list(A.shape)}}}): expected a tensor with 2 or more dimensions of float, "
            "double, cfloat or cdouble types"
        )
    if hermitian:
        square("linalg.pinv", A)
    atol, rtol = _tolerances(A, atol, rcond if rtol is None else rtol)
    return op.pinv(A, atol=atol, rtol=rtol, hermitian=hermitian)


@linalg
def matrix_rank(
    A: Tensor, tol: Any = None, hermitian: bool = False, *, atol: Any = None, rtol: Any = None
) -> Tensor:
    """How many singular values exceed max(atol, rtol * largest). (*, M, N) -> (*) int64."""
    matrices("torch.linalg.matrix_rank", A, "input", False)
    if from_numpy_dtype(A.array.dtype).category < FLOAT:
        raise RuntimeError("This function doesn't handle types other than float and double")
    xp = backend_of(A.array).xp
    if tol is not None:
        atol, rtol = tol, 0.0
    if not A.array.size:
        return beside(A, xp.zeros(A.array.shape[:-2], "i8"))
    atol, rtol = _tolerances(A, atol, rtol)
    A = A.detach()
    values = abs(factor.eigvalsh(A).array) if hermitian else svdvals(A).array
    bound = xp.maximum(xp.asarray(atol)[..., None], xp.asarray(rtol)[..., None] * values.max(axis=-1, keepdims=True))
    return beside(A, (values > bound).sum(axis=-1))


# ---- systems


def _solvable(name: str, A: Any, B: Tensor, left: bool, vector: bool) -> None:
    if A.array.dtype != B.array.dtype:
        raise RuntimeError(
            f"{name}: Expected A and B to have the same dtype, but found A of type {A.dtype.legacy} and B of type "
            f"{B.dtype.legacy} instead"
        )
    n, (rows, columns) = A.array.shape[-1], (*B.array.shape, 1)[-2:] if vector else B.array.shape[-2:]
    if (rows if left else columns) != n:
        equation = "AX = B" if left else "XA = B"
        raise RuntimeError(
            f"{name}: Incompatible shapes of A and B for the equation {equation} ({n}x{n} and {rows}x{columns})"
        )


def _solved(A: Any, B: Any, left: bool, check: bool) -> Tensor:
    square("linalg.solve", A)
    ndim, shape = B.array.ndim, A.array.shape
    vector = ndim == 1 or (A.array.ndim - 1 == ndim and B.array.shape == shape[:-1])
    _solvable("linalg.solve", A, B, left, vector)
    if vector:
        out = op.solve(A, GRAPH.unsqueeze(B, axis=ndim), check=check)
        return GRAPH.squeeze_dim(out, axis=(out.array.ndim - 1,))
    if left:
        return op.solve(A, B, check=check)
    return GRAPH.mT(op.solve(GRAPH.mT(A), GRAPH.mT(B), check=check))


@linalg
def solve(A: Tensor, B: Tensor, *, left: bool = True) -> Tensor:
    """X with A X = B, or X A = B where not left. A: (*, N, N), B: (*, N, K) or (*, N) -> as B. LinAlgError if singular.

    >>> import tapegrad as torch
    >>> torch.linalg.solve(torch.tensor([[2.0, 0.0], [0.0, 4.0]]), torch.tensor([2.0, 2.0]))
    tensor([1.0000, 0.5000])
    """
    return _solved(A, B, left, True)


@linalg
def solve_ex(A: Tensor, B: Tensor, *, left: bool = True, check_errors: bool = False) -> Any:
    """As `solve`, with info (*) int32: the place of a zero pivot, with a nan result instead of an error; else 0."""
    result, xp = _solved(A, B, left, check_errors), backend_of(A.array).xp
    info = xp.zeros(A.array.shape[:-2], "i4") if xp.isfinite(result.array).all() else op.zero_pivot(xp, A.array)
    return types.linalg_solve_ex((result, beside(A, info)))


@linalg
def solve_triangular(
    A: Tensor, B: Tensor, *, upper: bool, left: bool = True, unitriangular: bool = False
) -> Tensor:
    """X with A X = B, or X A = B where not left, from one triangle of A; with unitriangular its diagonal counts as 1.

    A: (*, N, N), B: (*, N, K) -> (*, N, K). A zero on the diagonal gives inf and nan, not an error.
    """
    name = "linalg.solve_triangular"
    matrices(name, A, floating=False)
    matrices(name, B, "B", False)
    square(name, A)
    _solvable(name, A, B, left, False)
    if left:
        return op.solve_triangular(A, B, upper=upper, unit=unitriangular)
    return GRAPH.mT(op.solve_triangular(GRAPH.mT(A), GRAPH.mT(B), upper=not upper, unit=unitriangular))


_DRIVERS = ("gels", "gelsy", "gelsd", "gelss")


@also_named(b="B")
@linalg
def lstsq(A: Tensor, B: Tensor, rcond: float | None = None, *, driver: str | None = None) -> Any:
    """The X of least norm(A X - B). A: (*, M, N), B: (*, M, K) or (*, M) -> solution, residuals, rank, singular_values.

    driver, PyTorch's names: "gelsy" (default), "gelsd", "gelss", and "gels", which needs full rank. The solution is the
    one of least norm, from the singular values in each case; rcond: those up to rcond times the largest count as 0.
    residuals: (*, K), empty for "gelsy" and unless M > N at full rank; rank: (*), empty for "gels"; singular_values:
    (*, min(M, N)), empty for "gels" and "gelsy".
    """
    name = "torch.linalg.lstsq"
    if from_numpy_dtype(A.array.dtype).category < FLOAT:
        raise RuntimeError("This function doesn't handle types other than float and double")
    if A.array.ndim < 2:
        raise RuntimeError(f"{name}: input must have at least 2 dimensions.")
    if driver not in (None, *_DRIVERS):
        raise RuntimeError(f"{name}: parameter `driver` should be one of ({', '.join(_DRIVERS)})")
    m, n = A.array.shape[-2:]
    vector = B.array.ndim == A.array.ndim - 1 and B.array.shape == A.array.shape[:-1]
    if (B.array.shape[-1] if vector else B.array.shape[-2] if B.array.ndim > 1 else None) != m:
        raise RuntimeError(f"{name}: input.size(-2) should match other.size(-2)")
    xp = backend_of(A.array).xp
    right = GRAPH.unsqueeze(B, axis=B.array.ndim) if vector else B
    atol, rtol = _tolerances(A, None, rcond)
    inverse = op.pinv(A, atol=atol, rtol=rtol)
    rank = xp.rint((inverse.array.swapaxes(-1, -2) * A.array).sum(axis=(-2, -1)).real).astype("i8")
    if driver == "gels" and (rank < min(m, n)).any():
        raise factor.LinAlgError(
            f"{name}: The least squares solution could not be computed because the input matrix does not have full "
            f"rank (error code: {int(rank.min()) + 1})."
        )
    solution = inverse @ right
    none = empty(A, "f8" if A.array.dtype in ("f8", "c16") else "f4")
    flat = GRAPH.reshape(solution, shape=(solution.array.size,))
    residuals = GRAPH.abs(GRAPH.slice_view(flat, index=(slice(0, 0),)))  # of no element, but with a history
    if m > n and driver not in (None, "gelsy") and (rank == n).all():
        misfit = GRAPH.square(GRAPH.abs(A @ solution - right))
        residuals = GRAPH.sum(misfit, axis=(misfit.array.ndim - 2,), keepdims=False)
    return types.linalg_lstsq((
        GRAPH.squeeze_dim(solution, axis=(solution.array.ndim - 1,)) if vector else solution,
        residuals,
        empty(A, "i8") if driver == "gels" else beside(A, rank),
        svdvals(A.detach()) if driver in ("gelsd", "gelss") else none,
    ))  # fmt: skip


@also_named(other="B")
@linalg
def tensorsolve(A: Tensor, B: Tensor, dims: Any = None) -> Tensor:
    """X with tensordot(A, X, X.ndim) = B. A: (*B.shape, *S), as many elements in S -> (*S). dims move to A's end."""
    ndim = A.array.ndim
    if dims is not None:
        last = [dim_of(d, ndim) for d in dims]
        A = GRAPH.permute(A, axes=(*[i for i in range(ndim) if i not in last], *last))
    shape = A.array.shape[B.array.ndim :]
    if math.prod(shape) != B.array.size or math.prod(A.array.shape[: B.array.ndim]) != math.prod(shape):
        raise RuntimeError(
            "Expected self to satisfy the requirement prod(self.shape[other.ndim:]) == prod(self.shape[:other.ndim]), "
            f"but got {math.prod(shape)} != {math.prod(A.array.shape[: B.array.ndim])}"
        )
    n = math.prod(shape)
    return GRAPH.reshape(solve(GRAPH.reshape(A, shape=(n, n)), GRAPH.reshape(B, shape=(n,))), shape=shape)


@linalg
def tensorinv(A: Tensor, ind: int = 2) -> Tensor:
    """The inverse of A as a map from its last dimensions to its first `ind`. A: (*S, *T) -> (*T, *S)."""
    if ind <= 0:
        raise RuntimeError(f"Expected a strictly positive integer for 'ind', but got {ind}")
    first, last = A.array.shape[:ind], A.array.shape[ind:]
    if math.prod(first) != math.prod(last):
        raise RuntimeError(
            "Expected self to satisfy the requirement prod(self.shape[ind:]) == prod(self.shape[:ind]), but got "
            f"{math.prod(last)} != {math.prod(first)}"
        )
    n = math.prod(first)
    return GRAPH.reshape(inv(GRAPH.reshape(A, shape=(n, n))), shape=(*last, *first))


# ---- determinants


@linalg
def det(A: Tensor) -> Tensor:
    """The determinant. (*, N, N) -> (*). Its gradient is right for singular matrices too (PyTorch's is 0 there)."""
    square("linalg.det", A, floating=False)
    floats_or_kernel("linalg.det", A)
    return op.det(A)


def floats_or_kernel(name: str, A: Tensor) -> None:
    """As PyTorch refuses dtypes in determinants: integers by its check, half precision by the lack of a kernel."""
    if A.array.dtype.itemsize == 2 and from_numpy_dtype(A.array.dtype).category == FLOAT:
        factor.for_kernel("lu_cpu", A)
    floats(name, A)


@linalg
def slogdet(A: Tensor) -> Any:
    """sign, logabsdet with det = sign * exp(logabsdet); 0 and -inf for singular A. (*, N, N) -> (*) and (*), real."""
    square("linalg.slogdet", A, floating=False)
    floats_or_kernel("linalg.slogdet", A)
    return types.linalg_slogdet(op.slogdet(A))


# ---- functions of matrices and products


@linalg
def matrix_exp(A: Tensor) -> Tensor:
    """The matrix exponential, the sum of A^k / k!. (*, N, N) -> (*, N, N)."""
    square("linalg.matrix_exp", A)
    return op.matrix_exp(A)


@linalg
def matrix_power(A: Tensor, n: int) -> Tensor:
    """A to an integer power by squaring; negative: of the inverse. (*, N, N) -> (*, N, N)."""
    n, given = _power(n), A
    square("linalg.matrix_power", A, floating=False)
    if n == 0:
        return linked_identity(A)
    if n < 0:
        A, n = inv(A), -n
    while not n & 1:
        A, n = A @ A, n >> 1
    out, power = A, A
    while n := n >> 1:
        power = power @ power
        if n & 1:
            out = out @ power
    return GRAPH.clone(out) if out is given else out


def _power(n: Any) -> int:
    if not hasattr(n, "__index__"):
        raise TypeError(f"linalg_matrix_power(): argument 'n' (position 2) must be int, not {type(n).__name__}")
    return int_of(n, "linalg_matrix_power", "n")


@linalg
def multi_dot(tensors: Any) -> Tensor:
    """The product of several matrices in the order that costs least; first and last may be vectors.

    (N, K), (K, L), ..., (P, M) -> (N, M). T. Cormen et al., Introduction to Algorithms, 15.2.
    """
    items = list(tensors)
    if len(items) < 2:
        raise RuntimeError(f"multi_dot(): expected at least 2 tensors but got {len(items)}")
    for place, word in ((0, "first"), (-1, "last")):
        if items[place].array.ndim not in (1, 2):
            raise RuntimeError(f"multi_dot(): the {word} tensor must be 1D or 2D but got {items[place].array.ndim}D")
    for i, t in enumerate(items[1:-1], 1):
        if t.array.ndim != 2:
            raise RuntimeError(f"multi_dot(): tensor {i} must be 2D but got {t.array.ndim}D")
    first, last = items[0].array.ndim == 1, items[-1].array.ndim == 1
    if first:
        items[0] = GRAPH.unsqueeze(items[0], axis=0)
    if last:
        items[-1] = GRAPH.unsqueeze(items[-1], axis=1)
    for i, (x, y) in enumerate(zip(items, items[1:], strict=False)):
        if x.array.shape[1] != y.array.shape[0]:
            raise RuntimeError(
                f"multi_dot(): tensors {i} and {i + 1} with shapes {list(x.shape)} and {list(y.shape)} cannot be "
                "multiplied"
            )
    out = _chain(items, _splits([t.array.shape[0] for t in items] + [items[-1].array.shape[1]]), 0, len(items) - 1)
    n, m = out.array.shape
    shape = (*(() if first else (n,)), *(() if last else (m,)))
    return out if len(shape) == 2 else GRAPH.reshape(out, shape=shape)


def _splits(sizes: list[int]) -> dict[tuple[int, int], int]:
    """Where to cut each run of matrices, whose sizes are sizes[i] by sizes[i + 1], for the fewest multiplications."""
    n = len(sizes) - 1
    cost = {(i, i): 0 for i in range(n)}
    cut: dict[tuple[int, int], int] = {}
    for length in range(1, n):
        for i in range(n - length):
            j = i + length
            price = {k: cost[i, k] + cost[k + 1, j] + sizes[i] * sizes[k + 1] * sizes[j + 1] for k in range(i, j)}
            cut[i, j] = min(price, key=price.__getitem__)
            cost[i, j] = price[cut[i, j]]
    return cut


def _chain(items: list[Tensor], cut: dict[tuple[int, int], int], i: int, j: int) -> Tensor:
    if i == j:
        return items[i]
    k = cut[i, j]
    return _chain(items, cut, i, k) @ _chain(items, cut, k + 1, j)


@linalg
def vecdot(x: Tensor, y: Tensor, *, dim: int = -1) -> Tensor:
    """sum(conj(x) * y) along dim. x: (*S), y: (*T) -> (broadcast(S, T) without dim)."""
    _refuse_integers("linalg.vecdot", x)
    product = (GRAPH.conj(x) if x.array.dtype.kind == "c" else x) * y
    return GRAPH.sum(product, axis=(dim_of(dim, product.array.ndim),), keepdims=False)


@linalg
def cross(input: Tensor, other: Tensor, *, dim: int = -1) -> Tensor:
    """The vector product of vectors of 3 along dim. input: (*S), other: (*T) -> (*broadcast(S, T))."""
    ndim = input.array.ndim
    if ndim != other.array.ndim:
        raise RuntimeError("linalg.cross: inputs must have the same number of dimensions.")
    axis = dim_of(dim, ndim) - ndim
    if input.array.shape[axis] != 3 or other.array.shape[axis] != 3:
        raise RuntimeError(
            f"linalg.cross: inputs dimension {dim} must have length 3. Got {input.shape[axis]} and {other.shape[axis]}"
        )
    return op.cross(input, other, axis=axis)


@linalg
def diagonal(A: Tensor, *, offset: int = 0, dim1: int = -2, dim2: int = -1) -> Tensor:
    """The diagonal of two dims as the last dimension, a view. (*S) -> (S without dim1 and dim2, n)."""
    axis1, axis2 = _plane(A, dim1, dim2)
    return GRAPH.diagonal(A, offset=offset, axis1=axis1, axis2=axis2)


@linalg
def vander(x: Tensor, N: int | None = None) -> Tensor:
    """The powers 0 to N - 1 of each element (N: as many as elements). x: (*, n) -> (*, n, N)."""
    x = x if x.array.ndim else GRAPH.reshape(x, shape=(1,))
    shape = x.array.shape
    count = shape[-1] if N is None else N
    if count <= 1:
        raise RuntimeError("N must be greater than 1.")
    if x.array.dtype.kind in "biu":
        x = to_dtype(x, int64)
    column = GRAPH.unsqueeze(x, axis=len(shape))
    powers = [GRAPH.ones_like(column)]
    if count > 1:
        powers.append(GRAPH.cumprod(GRAPH.expand(column, shape=(*shape, count - 1)), axis=len(shape)))
    return GRAPH.cat(*powers, axis=len(shape)) if count > 1 else powers[0]
