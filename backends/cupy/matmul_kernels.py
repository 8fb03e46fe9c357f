"""Matrix products through cuBLAS, batched and with transposed operands as they lie: nothing is copied or widened.

cupy.matmul copies transposed operands above two dimensions, multiplies halves in float32 and has no bfloat16 there; the
ops' generic forms widen halves too. Here halves are multiplied as such and added up in float32. float32 follows the
switches of `backends.cuda.matmul` (TF32).
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from .. import cuda as settings
from ..base import may_decline
from .launch import current, empty

# cudaDataType_t and cublasComputeType_t
DATA = {"float32": 0, "float64": 1, "float16": 2, "bfloat16": 14}
FLOAT, FLOAT_AS_TF32, DOUBLE = 68, 77, 70
MOST = 1 << 31


class Matrix(NamedTuple):
    """An operand as cuBLAS takes it: whether it lies transposed, and the elements from one row to the next."""

    transposed: bool
    leading: int


def laid(rows: int, columns: int, row: int, column: int) -> Matrix | None:
    """A matrix with `row` elements from one row to the next, `column` between columns; None: only a copy will do."""
    if (columns == 1 or column == 1) and (rows == 1 or row >= columns):
        return Matrix(False, row if rows > 1 else columns)
    if (rows == 1 or row == 1) and (columns == 1 or column >= rows):
        return Matrix(True, column if columns > 1 else rows)
    return None


def batch_stride(shape: tuple[int, ...], strides: tuple[int, ...]) -> int | None:
    """The one stride (0 for a repeated matrix) that runs through the leading dimensions; None where there is none."""
    found: int | None = None
    span = 1  # matrices that the dimensions seen so far hold
    for size, stride in zip(reversed(shape), reversed(strides), strict=True):
        if size == 1:
            continue
        if found is None:
            found = stride if span == 1 else None
        elif stride != found * span:
            return None
        span *= size
    return 0 if found is None else found


class Operand(NamedTuple):
    """How one operand goes into a product, and where a copy must be made of it first, the copy's shape."""

    matrix: Matrix
    step: int  # elements from one matrix to the next, 0 for one that is repeated
    copy: tuple[int, ...] | None


class Plan(NamedTuple):
    """What a product of operands of given shapes, strides and dtype needs."""

    shape: tuple[int, ...]
    x: Operand
    y: Operand
    batch: int


def operand(shape: tuple[int, ...], strides: tuple[int, ...], lead: tuple[int, ...]) -> Operand:
    """The operand as it lies; else of a copy in its own shape; else of one for each of the `lead` matrices."""
    whole = (*lead, *shape[-2:])
    for held, copy in ((strides, None), (row_major(shape), shape)):
        matrix = laid(*shape[-2:], *held[-2:])
        spread = [0 if n == 1 else s for n, s in zip(shape[:-2], held[:-2], strict=True)]
        step = batch_stride(lead, (*[0] * (len(whole) - len(shape)), *spread))
        if matrix is not None and step is not None:
            return Operand(matrix, step, copy)
    return Operand(Matrix(False, shape[-1]), shape[-2] * shape[-1], whole)


def row_major(shape: tuple[int, ...]) -> tuple[int, ...]:
    """The strides, in elements, of an array without gaps."""
    return tuple(math.prod(shape[i + 1 :]) for i in range(len(shape)))


@functools.lru_cache(maxsize=4096)
def plan(
    x_shape: tuple[int, ...], x_strides: tuple[int, ...], y_shape: tuple[int, ...], y_strides: tuple[int, ...],
    size: int,
) -> Plan | None:  # fmt: skip
    """The plan for x (*B, N, K) times y (*C, K, M), `size` bytes an element; None where the shapes do not fit."""
    if len(x_shape) < 2 or len(y_shape) < 2 or x_shape[-1] != y_shape[-2]:
        return None
    try:
        lead = np.broadcast_shapes(x_shape[:-2], y_shape[:-2])
    except ValueError:
        return None
    shape = (*lead, x_shape[-2], y_shape[-1])
    if not math.prod(shape) or not x_shape[-1] or max(*x_shape[-2:], *y_shape[-2:], math.prod(lead)) >= MOST:
        return None
    x, y = (
        operand(own, tuple(s // size for s in strides), lead)
        for own, strides in ((x_shape, x_strides), (y_shape, y_strides))
    )
    return Plan(shape, x, y, math.prod(lead))


def copied(x: Any, how: Operand) -> Any:
    """The operand, or the copy that its plan asks for."""
    if how.copy is None:
        return x
    xp = current().xp
    return xp.ascontiguousarray(x if x.shape == how.copy else xp.broadcast_to(x, how.copy))


def compute_type(name: str) -> int:
    """The arithmetic of a product: TF32 where the program allows it."""
    if name == "float64":
        return DOUBLE
    tf32 = settings.matmul.allow_tf32 or settings.matmul.fp32_precision == "tf32"
    return FLOAT_AS_TF32 if name == "float32" and tf32 else FLOAT


def product(x: Any, y: Any, alpha: float = 1.0, out: Any = None, beta: float = 0.0) -> Any:
    """alpha x y + beta out, into `out` where given, else a new array. NotImplemented for other dtypes and shapes.

    out: row-major, of the operands' dtype, or float32 for halves.
    """
    name = x.dtype.name
    if name not in DATA or y.dtype != x.dtype:
        return NotImplemented
    found = plan(x.shape, x.strides, y.shape, y.strides, x.itemsize)
    if found is None:
        return NotImplemented
    x, y = copied(x, found.x), copied(y, found.y)
    n, k, m = found.shape[-2], x.shape[-1], found.shape[-1]
    if out is None:
        out = empty(found.shape, x.dtype)
    (left, x_step, _), (right, y_step, _) = found.x, found.y
    # cuBLAS's matrices lie by columns: ours are their transposes, and the product of transposes in the other order
    current().gemm(
        (right.transposed, left.transposed), (m, n, k), alpha, (y, right.leading, y_step), (x, left.leading, x_step),
        beta, (out, m, n * m), found.batch, (DATA[name], DATA[out.dtype.name]), compute_type(name),
    )  # fmt: skip
    return out


@may_decline
def mm(x: Any, y: Any) -> Any:
    """Op mm."""
    return product(x, y) if x.ndim == y.ndim == 2 else NotImplemented


@may_decline
def bmm(x: Any, y: Any) -> Any:
    """Op bmm."""
    return product(x, y)


@may_decline
def linear(x: Any, w: Any, b: Any = None) -> Any:
    """Op linear; the bias is what the product is added to."""
    if x.ndim < 1 or w.ndim != 2 or x.shape[-1] != w.shape[1]:
        return NotImplemented
    shape = (*x.shape[:-1], w.shape[0])
    if b is None or not math.prod(shape):
        out = product(x.reshape(-1, x.shape[-1]), w.T)
    else:
        out = empty((math.prod(shape[:-1]), w.shape[0]), x.dtype)
        out[...] = b
        out = product(x.reshape(-1, x.shape[-1]), w.T, out=out, beta=1.0)
    return out if out is NotImplemented else out.reshape(shape)


KERNELS: dict[str, Callable[..., Any]] = {"mm": mm, "bmm": bmm, "linear": linear}
