"""Matrix products, with PyTorch's arguments."""

from __future__ import annotations

from typing import Any

from ..op import GRAPH
from ..ops import matrix as op
from ..tensor import Tensor
from .table import public


def _dims(name: str, t: Any, ndim: int, argument: str) -> None:
    """RuntimeError where a tensor has not the dimensions that the function takes."""
    if not isinstance(t, Tensor):
        raise TypeError(f"{name}(): argument '{argument}' must be Tensor, not {type(t).__name__}")
    if t.array.ndim != ndim:
        kind = {1: "a 1-D tensor (vector)", 2: "a matrix", 3: "a 3D tensor"}[ndim]
        raise RuntimeError(f"{name}: {argument} must be {kind}, but it has {t.array.ndim} dimensions")


@public
def mm(input: Tensor, mat2: Tensor) -> Tensor:
    """Matrix product. input: (N, K), mat2: (K, M) -> (N, M)."""
    _dims("mm", input, 2, "self")
    _dims("mm", mat2, 2, "mat2")
    return op.mm(input, mat2)


@public
def bmm(input: Tensor, mat2: Tensor) -> Tensor:
    """A matrix product per batch entry. input: (B, N, K), mat2: (B, K, M) -> (B, N, M)."""
    _dims("bmm", input, 3, "batch1")
    _dims("bmm", mat2, 3, "batch2")
    if input.array.shape[0] != mat2.array.shape[0]:
        raise RuntimeError(
            f"Expected size for first two dimensions of batch2 tensor to be: [{input.shape[0]}, {input.shape[2]}] but "
            f"got: [{mat2.shape[0]}, {mat2.shape[1]}]."
        )
    return op.bmm(input, mat2)


@public
def mv(input: Tensor, vec: Tensor) -> Tensor:
    """Matrix times vector. input: (N, M), vec: (M,) -> (N,)."""
    _dims("mv", input, 2, "input")
    _dims("mv", vec, 1, "vec")
    if input.array.shape[1] != vec.array.shape[0]:
        raise RuntimeError(
            f"size mismatch, got input ({input.shape[0]}), mat ({input.shape[0]}x{input.shape[1]}), "
            f"vec ({vec.shape[0]})"
        )
    return _column(input, vec)


def _column(matrix: Tensor, vector: Tensor) -> Tensor:
    out = op.mm(matrix, GRAPH.view(vector, shape=(vector.array.shape[0], 1)) if vector.array.flags.c_contiguous
                else GRAPH.reshape(vector, shape=(vector.array.shape[0], 1)))  # fmt: skip
    return GRAPH.reshape(out, shape=(out.array.shape[0],))


@public
def dot(input: Tensor, tensor: Tensor) -> Tensor:
    """Inner product of two vectors, without conjugation. input, tensor: (N,) -> ()."""
    for t, word in ((input, "self"), (tensor, "tensor")):
        if t.array.ndim != 1:
            raise RuntimeError(
                f"1D tensors expected, but got {t.array.ndim}D and {tensor.array.ndim}D tensors ({word})"
            )
    return op.dot(input, tensor)


@public
def vdot(input: Tensor, other: Tensor) -> Tensor:
    """Inner product of two vectors, the first conjugated. input, other: (N,) -> ()."""
    return dot(GRAPH.conj(input), other)


@public
def inner(input: Tensor, other: Tensor) -> Tensor:
    """Products summed over the last dimension of both. input: (*S, K), other: (*T, K) -> (*S, *T)."""
    if not input.array.ndim or not other.array.ndim:
        return input * other
    if input.array.shape[-1] != other.array.shape[-1]:
        raise RuntimeError(
            "inner() the last dimension must match on both input tensors but got shapes "
            f"{list(input.shape)} and {list(other.shape)}"
        )
    k = input.array.shape[-1]
    out = op.linear(GRAPH.reshape(input, shape=(-1, k)), GRAPH.reshape(other, shape=(-1, k)))
    return GRAPH.reshape(out, shape=(*input.array.shape[:-1], *other.array.shape[:-1]))


@public(name="outer")
def outer(input: Tensor, vec2: Tensor) -> Tensor:
    """All products of two vectors. input: (N,), vec2: (M,) -> (N, M)."""
    for t, word in ((input, "self"), (vec2, "vec2")):
        if t.array.ndim != 1:
            raise RuntimeError(f"outer: Expected 1-D argument {word}, but got {t.array.ndim}-D")
    n = input.array.shape[0]
    return GRAPH.reshape(input, shape=(n, 1)) * vec2


public(outer.__wrapped__, name="ger")


@public
def matmul(input: Tensor, other: Tensor) -> Tensor:
    """Matrix product of vectors, matrices or batches. input: (*B, N, K), other: (*C, K, M) -> (*broadcast(B, C), N, M).

    A vector stands for a row on the left and a column on the right, and its dimension is dropped from the result.
    """
    if not isinstance(other, Tensor):
        raise TypeError(f"matmul(): argument 'other' (position 2) must be Tensor, not {type(other).__name__}")
    n, m = input.array.ndim, other.array.ndim
    if n == 2 and m == 2:
        return op.mm(input, other)
    if n == 0 or m == 0:
        raise RuntimeError(f"both arguments to matmul need to be at least 1D, but they are {n}D and {m}D")
    if n == 1 and m == 1:
        return op.dot(input, other)
    if m == 1:
        return _rows_times(input, other)
    if n == 1:
        row = GRAPH.reshape(input, shape=(1, input.array.shape[0]))
        out = matmul.__wrapped__(row, other)
        return GRAPH.reshape(out, shape=(*out.array.shape[:-2], out.array.shape[-1]))
    if m == 2 and n > 2:  # one matrix for all batches: a single larger product
        shape = input.array.shape
        out = op.mm(GRAPH.reshape(input, shape=(-1, shape[-1])), other)
        return GRAPH.reshape(out, shape=(*shape[:-1], other.array.shape[1]))
    return op.bmm(input, other)


def _rows_times(input: Tensor, vector: Tensor) -> Tensor:
    shape = input.array.shape
    rows = input if len(shape) == 2 else GRAPH.reshape(input, shape=(-1, shape[-1]))
    if shape[-1] != vector.array.shape[0]:
        raise RuntimeError(
            f"size mismatch, got input ({rows.shape[0]}), mat ({rows.shape[0]}x{shape[-1]}), vec ({vector.shape[0]})"
        )
    out = _column(rows, vector)
    return out if len(shape) == 2 else GRAPH.reshape(out, shape=shape[:-1])


def _combined(input: Tensor, product: Tensor, beta: Any, alpha: Any) -> Tensor:
    """beta * input + alpha * product, where beta 0 leaves input out, NaN and all."""
    if alpha != 1:
        product = product * alpha
    if beta == 0:
        return product
    total = (input if beta == 1 else input * beta) + product
    if total.array.shape != product.array.shape:
        raise RuntimeError(
            f"The expanded size of the tensor {list(product.shape)} must match the existing size {list(input.shape)}"
        )
    return total


@public(inplace=True)
def addmm(input: Tensor, mat1: Tensor, mat2: Tensor, *, beta: Any = 1, alpha: Any = 1) -> Tensor:
    """beta * input + alpha * mat1 @ mat2. mat1: (N, K), mat2: (K, M), input broadcasts -> (N, M)."""
    return _combined(input, mm(mat1, mat2), beta, alpha)


@public(inplace=True)
def addmv(input: Tensor, mat: Tensor, vec: Tensor, *, beta: Any = 1, alpha: Any = 1) -> Tensor:
    """beta * input + alpha * mat @ vec. mat: (N, M), vec: (M,), input broadcasts -> (N,)."""
    return _combined(input, mv(mat, vec), beta, alpha)


@public(inplace=True)
def addr(input: Tensor, vec1: Tensor, vec2: Tensor, *, beta: Any = 1, alpha: Any = 1) -> Tensor:
    """beta * input + alpha * outer(vec1, vec2). vec1: (N,), vec2: (M,), input broadcasts -> (N, M)."""
    return _combined(input, outer(vec1, vec2), beta, alpha)


@public(inplace=True)
def baddbmm(input: Tensor, batch1: Tensor, batch2: Tensor, *, beta: Any = 1, alpha: Any = 1) -> Tensor:
    """beta * input + alpha * batch1 @ batch2. batch1: (B, N, K), batch2: (B, K, M) -> (B, N, M)."""
    return _combined(input, bmm(batch1, batch2), beta, alpha)


@public(inplace=True)
def addbmm(input: Tensor, batch1: Tensor, batch2: Tensor, *, beta: Any = 1, alpha: Any = 1) -> Tensor:
    """beta * input + alpha * the sum of batch1 @ batch2 over the batch. -> (N, M)."""
    return _combined(input, GRAPH.sum(bmm(batch1, batch2), axis=(0,), keepdims=False), beta, alpha)


@public
def chain_matmul(*matrices: Any) -> Tensor:
    """The product of several matrices, from left to right. (N, K), (K, L), ... -> (N, M)."""
    items = matrices[0] if len(matrices) == 1 and isinstance(matrices[0], (tuple, list)) else matrices
    out = items[0]
    for m in items[1:]:
        out = mm(out, m)
    return out
