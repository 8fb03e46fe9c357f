"""torch.sparse: tensors in coordinate form (COO), and functions of them. See autograd/sparse.py.

>>> import tapegrad as torch
>>> s = torch.eye(2).to_sparse()
>>> torch.sparse.mm(s, torch.ones(2, 1))
tensor([[1.],
        [1.]])
"""

from __future__ import annotations

from typing import Any

from .autograd import api as T
from .autograd.api.legacy import LegacyType
from .autograd.dtypes import ALL, int64
from .autograd.size import Size
from .autograd.sparse import SparseTensor
from .autograd.tensor import Tensor
from .nn import functional as F


def sparse_coo_tensor(
    indices: Any,
    values: Any = None,
    size: Any = None,
    *,
    dtype: Any = None,
    device: Any = None,
    pin_memory: bool = False,
    requires_grad: bool = False,
    check_invariants: bool | None = None,
    is_coalesced: bool | None = None,
) -> SparseTensor:
    """A sparse tensor of given elements; what is given twice counts twice.

    Args:
        indices: (D, N) integers, the place of each element in the first D dimensions; or, alone, the size of a
            tensor without elements.
        values: (N, *rest). A tensor is taken as it is, with its history.
        size: the shape; default: as much as the indices need.

    RuntimeError where the numbers of elements or dimensions disagree, or an index lies outside.
    """
    if values is None and size is None:
        return _empty(Size(tuple(indices)), dtype, device)
    given = isinstance(values, Tensor)
    values = values.to(dtype=dtype or values.dtype) if given else T.tensor(values, dtype=dtype, device=device)
    values = values if device is None else values.to(device)
    if not values.dim():
        values = values.expand(T.as_tensor(indices).shape[-1])
    indices = T.as_tensor(indices, device=values.device).to(int64)
    if indices.dim() != 2:
        raise RuntimeError(
            f"indices must be sparse_dim x nnz, but got: {list(indices.shape)}"
        )
    d, count = indices.shape
    if count != values.shape[0]:
        raise RuntimeError(
            f"indices and values must have same nnz, but got nnz from indices: {count}, nnz from values: "
            f"{values.shape[0]}"
        )
    shape = _size_of(size, indices, values)
    if len(shape) != d + values.dim() - 1:
        raise RuntimeError(
            f"'len(size) == sparse_dim + dense_dim' is not satisfied: len(size) = {len(shape)}, sparse_dim = {d}, "
            f"dense_dim = {values.dim() - 1}"
        )
    _check_bounds(indices, shape)
    if requires_grad:
        values = values.detach().requires_grad_()
    return SparseTensor._make(indices, values, shape, bool(is_coalesced))


def _empty(size: Size, dtype: Any, device: Any) -> SparseTensor:
    indices = T.zeros(len(size), 0, dtype=int64, device=device)
    return SparseTensor._make(indices, T.zeros(0, dtype=dtype, device=device), size, True)


def _size_of(size: Any, indices: Tensor, values: Tensor) -> Size:
    if size is not None:
        return Size(tuple(size))
    if indices.shape[1] == 0:
        return Size((0,) * indices.shape[0] + tuple(values.shape[1:]))
    return Size((indices.amax(1) + 1).tolist() + list(values.shape[1:]))


def _check_bounds(indices: Tensor, shape: Size) -> None:
    if indices.shape[1] == 0:
        return
    for d, (low, high) in enumerate(zip(indices.amin(1).tolist(), indices.amax(1).tolist(), strict=True)):
        if low < 0:
            raise RuntimeError(f"found negative index {low} for dim {d}")
        if high >= shape[d]:
            raise RuntimeError(
                f"size is inconsistent with indices: for dim {d}, size is {shape[d]} but found index {high}"
            )


def mm(mat1: Tensor, mat2: Tensor, reduce: str | None = None) -> Tensor:
    """mat1 @ mat2, mat1 or both sparse. (N, K), (K, M) -> (N, M), sparse where both are.

    reduce: "sum", "mean", "amax" or "amin" of the products with the kept elements of each row; rows without one give 0.
    """
    if reduce is None or reduce == "sum":
        return mat1 @ mat2
    if reduce not in ("mean", "amax", "amin"):
        raise RuntimeError(f"reduce argument must be either sum, mean, amax or amin, got {reduce}")
    s = mat1 if isinstance(mat1, SparseTensor) else mat1.to_sparse()
    parts = s._val.unsqueeze(1) * mat2.index_select(0, s._ind[1])
    rows = s._ind[0].unsqueeze(1).expand(parts.shape)
    return parts.new_zeros((s.shape[0], mat2.shape[1])).scatter_reduce(0, rows, parts, reduce, include_self=False)


spmm = mm


def sampled_addmm(input: Any, mat1: Tensor, mat2: Tensor, *, beta: Any = 1.0, alpha: Any = 1.0) -> SparseTensor:
    """beta * input + alpha * (mat1 @ mat2) at the places that input keeps. sparse (N, M), (N, K), (K, M) -> (N, M)."""
    s = input.coalesce()
    rows, columns = s._ind
    products = (mat1.index_select(0, rows) * mat2.t().index_select(0, columns)).sum(-1)
    return s._with(beta * s._val + alpha * products)


def addmm(mat: Tensor, mat1: Tensor, mat2: Tensor, *, beta: Any = 1.0, alpha: Any = 1.0) -> Tensor:
    """beta * mat + alpha * (mat1 @ mat2), mat1 sparse. mat: (N, M), mat1: (N, K), mat2: (K, M) -> (N, M)."""
    return beta * mat + alpha * (mat1 @ mat2)


def sum(input: Tensor, dim: Any = None, dtype: Any = None) -> Tensor:
    """The sum of all elements, or over sparse dimensions: then a sparse tensor of the rest."""
    return input.sum(dim, dtype=dtype)


def softmax(input: Any, dim: int, *, dtype: Any = None) -> SparseTensor:
    """softmax along a sparse dimension over the kept elements alone. sparse (*S) -> sparse (*S)."""
    return _along(F.softmax, input, dim, dtype)


def log_softmax(input: Any, dim: int, *, dtype: Any = None) -> SparseTensor:
    """log_softmax along a sparse dimension over the kept elements alone. sparse (*S) -> sparse (*S)."""
    return _along(F.log_softmax, input, dim, dtype)


def _along(function: Any, input: Any, dim: int, dtype: Any) -> SparseTensor:
    """A softmax whose missing elements are -inf."""
    s = input.coalesce() if dtype is None else input.coalesce().to(dtype)
    mask = s._with(T.ones_like(s._val)).to_dense() != 0
    dense = T.where(mask, s.to_dense(), float("-inf"))
    return s._with(s._read(T.where(mask, function(dense, dim=dim), 0)))


def spdiags(diagonals: Tensor, offsets: Tensor, shape: Any, layout: Any = None) -> SparseTensor:
    """The matrix whose diagonals at `offsets` are given. diagonals: (D, K), offsets: (D,) -> sparse (*shape)."""
    rows_of, columns = T.atleast_2d(diagonals), int(shape[1])
    offsets = T.atleast_1d(offsets)
    if len(set(offsets.tolist())) != offsets.numel():
        raise RuntimeError("Offset tensor contains duplicate values")
    places: list[tuple[int, int]] = []
    values: list[Tensor] = []
    for row, k in zip(rows_of, offsets.tolist(), strict=True):
        for j in range(max(k, 0), min(columns, int(shape[0]) + k, rows_of.shape[1])):
            places.append((j - k, j))
            values.append(row[j])
    if not places:
        return _empty(Size(tuple(shape)), diagonals.dtype, diagonals.device)
    return sparse_coo_tensor(T.tensor(places).T, T.stack(values), shape)


class check_sparse_tensor_invariants:
    """Indices are always checked here; accepted as a switch, a context manager and a decorator."""

    def __init__(self, enable: bool = True):
        self.enable_ = enable

    @staticmethod
    def is_enabled() -> bool:
        """Whether indices are checked: always."""
        return True

    @staticmethod
    def enable() -> None:
        """Nothing to do."""

    @staticmethod
    def disable() -> None:
        """Nothing to do: the check stays."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, *_: object) -> None:
        return None

    def __call__(self, function: Any) -> Any:
        return function


class SparseType(LegacyType):
    """The class of torch.sparse.FloatTensor and its like: FloatTensor(indices, values, size), FloatTensor(2, 3)."""

    def __call__(cls, *data: Any, device: Any = None) -> Any:
        kind = cls.legacy_dtype
        if data and isinstance(data[0], Tensor):
            return sparse_coo_tensor(*data, dtype=kind, device=device)
        size = data[0] if len(data) == 1 and not isinstance(data[0], int) else data
        return _empty(Size(tuple(size)), kind, device)

    def __instancecheck__(cls, instance: Any) -> bool:
        return isinstance(instance, SparseTensor) and instance.dtype is cls.legacy_dtype


def __getattr__(name: str) -> Any:
    word = name.removesuffix("Tensor")
    for d in ALL if word != name else ():
        if d.legacy == word:
            made = globals()[name] = SparseType(name, (), {"legacy_dtype": d, "__module__": "torch.sparse"})
            return made
    raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
