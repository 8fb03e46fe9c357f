"""Matrix products, with PyTorch's arguments."""

from __future__ import annotations

import math
from typing import Any

from ...backends.registry import backend_of
from ..inplace import inplace
from ..op import GRAPH
from ..ops import matrix as op
from ..tensor import Tensor
from .args import number_for, tensor_beside, to_dtype
from .table import public


def _dims(name: str, t: Any, ndim: int, argument: str) -> None:
    """RuntimeError where a tensor has not the dimensions that the function takes."""
    if not isinstance(t, Tensor):
        raise TypeError(f"{name}(): argument '{argument}' must be Tensor, not {type(t).__name__}")
    if t.array.ndim != ndim:
        kind = {1: "a 1-D tensor (vector)", 2: "a matrix", 3: "a 3D tensor"}[ndim]
        raise RuntimeError(f"{name}: {argument} must be {kind}, but it has {t.array.ndim} dimensions")


@public
def mm(input: Tensor, mat2: Tensor, out_dtype: Any = None) -> Tensor:
    """Matrix product, computed in out_dtype where one is given. input: (N, K), mat2: (K, M) -> (N, M)."""
    _dims("mm", input, 2, "self")
    _dims("mm", mat2, 2, "mat2")
    if out_dtype is not None:
        input, mat2 = to_dtype(input, out_dtype), to_dtype(mat2, out_dtype)
    return op.mm(input, mat2)


@public
def bmm(input: Tensor, mat2: Tensor, out_dtype: Any = None) -> Tensor:
    """A matrix product per batch entry, in out_dtype where given. input: (B, N, K), mat2: (B, K, M) -> (B, N, M)."""
    _dims("bmm", input, 3, "batch1")
    _dims("bmm", mat2, 3, "batch2")
    if input.array.shape[0] != mat2.array.shape[0]:
        raise RuntimeError(
            f"Expected size for first two dimensions of batch2 tensor to be: [{input.shape[0]}, {input.shape[2]}] but "
            f"got: [{mat2.shape[0]}, {mat2.shape[1]}]."
        )
    if out_dtype is not None:
        input, mat2 = to_dtype(input, out_dtype), to_dtype(mat2, out_dtype)
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
    if input.array.dtype != tensor.array.dtype:
        raise RuntimeError(
            f"dot : expected both vectors to have same dtype, but found {input.dtype.legacy} and {tensor.dtype.legacy}"
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
    out = op.linear(_rows(input), _rows(other))
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
        out = op.mm(_rows(input), other)
        return GRAPH.reshape(out, shape=(*input.array.shape[:-1], other.array.shape[1]))
    return op.bmm(input, other)


def _rows(t: Tensor) -> Tensor:
    """(*S, K) -> (N, K). Not by -1: what N is cannot be told where K is 0."""
    shape = t.array.shape
    return t if len(shape) == 2 else GRAPH.reshape(t, shape=(math.prod(shape[:-1]), shape[-1]))


def _rows_times(input: Tensor, vector: Tensor) -> Tensor:
    shape = input.array.shape
    rows = _rows(input)
    if shape[-1] != vector.array.shape[0]:
        raise RuntimeError(
            f"size mismatch, got input ({rows.shape[0]}), mat ({rows.shape[0]}x{shape[-1]}), vec ({vector.shape[0]})"
        )
    out = _column(rows, vector)
    return out if len(shape) == 2 else GRAPH.reshape(out, shape=shape[:-1])


def _factor(value: Any, input: Tensor) -> Any:
    """beta or alpha as input's dtype takes it: floats are cut to ints for integers. RuntimeError for complex ones."""
    return number_for(value, input) if input.array.dtype.kind in "iub" or value.__class__ is complex else value


def _combined(kernel: str, input: Tensor, product: Tensor, beta: Any, alpha: Any) -> Tensor:
    """beta * input + alpha * product, where beta 0 leaves input out, NaN and all."""
    if product.array.dtype.kind == "b":
        raise NotImplementedError(f"\"{kernel}\" not implemented for 'Bool'")
    if input.array.dtype != product.array.dtype:
        raise RuntimeError(
            f"self and mat2 must have the same dtype, but got {input.dtype.legacy} and {product.dtype.legacy}"
        )
    if alpha == 0:  # leaves the product out, NaN and all
        product, alpha = _nothing(product), 1
    return _added(input, product, _factor(beta, input), _factor(alpha, input))


def _nothing(t: Tensor) -> Tensor:
    """Zeros for every element of t, which give it a gradient of zeros."""
    return GRAPH.masked_fill(t, tensor_beside(t, backend_of(t.array).xp.ones((), "?")), value=0)


def _added(input: Tensor, product: Tensor, beta: Any, alpha: Any) -> Tensor:
    if alpha != 1:
        product = product * alpha
    if beta == 0:
        return product + _nothing(input) if input.requires_grad else product
    _check_expands(input.array.shape, product.array.shape)
    return (input if beta == 1 else input * beta) + product


def _check_expands(shape: tuple[int, ...], target: tuple[int, ...]) -> None:
    """RuntimeError where a tensor of that shape does not broadcast to the target."""
    if len(shape) > len(target):
        raise RuntimeError(
            f"expand({list(shape)}, size={list(target)}): the number of sizes provided ({len(target)}) must be greater "
            f"or equal to the number of dimensions in the tensor ({len(shape)})"
        )
    for d in range(-1, -len(shape) - 1, -1):
        if shape[d] != target[d] and shape[d] != 1:
            raise RuntimeError(
                f"The expanded size of the tensor ({target[d]}) must match the existing size ({shape[d]}) at "
                f"non-singleton dimension {len(target) + d}.  Target sizes: {list(target)}.  Tensor sizes: "
                f"{list(shape)}"
            )


@public(inplace=True)
def addmm(
    input: Tensor, mat1: Tensor, mat2: Tensor, out_dtype: Any = None, *, beta: Any = 1, alpha: Any = 1
) -> Tensor:
    """beta * input + alpha * mat1 @ mat2. mat1: (N, K), mat2: (K, M), input broadcasts -> (N, M)."""
    input = input if out_dtype is None else to_dtype(input, out_dtype)
    return _combined("addmm_impl_cpu_", input, mm(mat1, mat2, out_dtype), beta, alpha)


@public(inplace=True)
def addmv(input: Tensor, mat: Tensor, vec: Tensor, *, beta: Any = 1, alpha: Any = 1) -> Tensor:
    """beta * input + alpha * mat @ vec. mat: (N, M), vec: (M,), input broadcasts -> (N,)."""
    if input.array.ndim > 1 or mat.array.ndim != 2 or vec.array.ndim != 1:
        raise RuntimeError(
            f"vector + matrix @ vector expected, got {input.array.ndim}, {mat.array.ndim}, {vec.array.ndim}"
        )
    return _combined("addmv_impl_cpu", input, mv(mat, vec), beta, alpha)


@public(inplace=True)
def addr(input: Tensor, vec1: Tensor, vec2: Tensor, *, beta: Any = 1, alpha: Any = 1) -> Tensor:
    """beta * input + alpha * outer(vec1, vec2). vec1: (N,), vec2: (M,), input broadcasts -> (N, M)."""
    product = outer(vec1, vec2)
    integral = product.array.dtype.kind in "iub" and input.array.dtype.kind in "iub"
    for word, value in (("beta", beta), ("alpha", alpha)):
        if integral and isinstance(value, (float, complex)):
            raise RuntimeError(f"For integral input tensors, argument {word} must not be a floating point number.")
    return _added(input, product, _factor(beta, input), _factor(alpha, input))


@public(inplace=True)
def baddbmm(
    input: Tensor, batch1: Tensor, batch2: Tensor, out_dtype: Any = None, *, beta: Any = 1, alpha: Any = 1
) -> Tensor:
    """beta * input + alpha * batch1 @ batch2. batch1: (B, N, K), batch2: (B, K, M) -> (B, N, M)."""
    input = input if out_dtype is None else to_dtype(input, out_dtype)
    return _combined("baddbmm", input, bmm(batch1, batch2, out_dtype), beta, alpha)


@public
def addbmm(input: Tensor, batch1: Tensor, batch2: Tensor, *, beta: Any = 1, alpha: Any = 1) -> Tensor:
    """beta * input + alpha * the sum of batch1 @ batch2 over the batch. -> (N, M)."""
    products = bmm(batch1, batch2)
    total = GRAPH.sum(products, axis=(0,), keepdims=False)
    total = total if total.array.dtype == products.array.dtype else GRAPH.cast(total, dtype=products.array.dtype)
    return _combined("addmm_impl_cpu_", input, total, beta, alpha)


@public(name="addbmm_", is_function=False)
def addbmm_(self: Tensor, batch1: Tensor, batch2: Tensor, *, beta: Any = 1, alpha: Any = 1) -> Tensor:
    """In-place version of `addbmm`, the only one of its kind that takes on the result's shape. (*S) -> (N, M)."""

    def total(t: Tensor) -> Tensor:
        out = addbmm(t, batch1, batch2, beta=beta, alpha=alpha)
        if out.array.shape != self.array.shape and getattr(self, "_view", None) is None:
            self.array = backend_of(out.array).xp.empty_like(out.array)
        return out

    return inplace(total, "addbmm_")(self)


@public
def chain_matmul(*matrices: Any) -> Tensor:
    """The product of several matrices, in the order that costs least. (N, K), (K, L), ..., (P, M) -> (N, M)."""
    from .linalg import multi_dot

    items = matrices[0] if len(matrices) == 1 and isinstance(matrices[0], (tuple, list)) else matrices
    for t in items:
        if t.array.ndim != 2:
            raise RuntimeError(f"Tensor dimension is {t.array.ndim}, expected 2 instead.")
    return items[0] if len(items) == 1 else multi_dot(items)
