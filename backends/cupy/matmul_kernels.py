"""Matrix products through cuBLASLt or cuBLAS, batched and with transposed operands as they lie: no copies, no widening.

cupy.matmul copies transposed operands above two dimensions, multiplies halves in float32 and has no bfloat16 there; the
ops' generic forms widen halves too. Here halves are multiplied as such and added up in float32. float32 follows the
switches of `backends.cuda.matmul` (TF32). A linear map's bias is added where the product is written, and its gradient
made where that of the weight is computed.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from .. import cuda as settings
from .. import precision
from ..base import may_decline
from .cublaslt import BIAS, BIAS_GRADIENT, GELU_BIAS, PLAIN, TYPES
from .launch import current, empty

# cublasComputeType_t
HALF, FLOAT, FLOAT_AS_TF32, DOUBLE = 64, 68, 77, 70
MOST = 1 << 31


class _Data(dict[Any, int]):
    """dtype -> its cudaDataType_t, -1 where there is none."""

    def __missing__(self, dtype: Any) -> int:
        number = next((n for n, name in TYPES.items() if name == dtype.name), -1)
        self[dtype] = number
        return number


DATA = _Data()


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
    sizes: tuple[int, int, int]  # columns and rows of one product's output, and the inner dimension
    batch: int


def operand(shape: tuple[int, ...], strides: tuple[int, ...], lead: tuple[int, ...]) -> Operand:
    """The operand as it lies; else of a copy in its own shape; else of one for each of the `lead` matrices."""
    whole = (*lead, *shape[-2:])
    for held, copy in ((strides, None), (row_major(shape), shape)):
        matrix = laid(*shape[-2:], *held[-2:])
        spread = [0 if n == 1 else s for n, s in zip(shape[:-2], held[:-2], strict=True)]
        step = batch_stride(lead, (*[0] * (len(whole) - len(shape)), *spread))
        if matrix is not None and step is not None and step >= 0:
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
    batch, rows = math.prod(lead), x_shape[-2]
    together = one_product(x, y, rows, x_shape[-1], batch)
    if together is not None and rows * batch < MOST:
        x, rows, batch = together, rows * batch, 1
    return Plan(shape, x, y, (y_shape[-1], rows, x_shape[-1]), batch)


def one_product(x: Operand, y: Operand, rows: int, columns: int, batch: int) -> Operand | None:
    """All matrices of x above each other as one, where they all meet the same y and lie so."""
    if batch == 1 or y.step or x.matrix.transposed:
        return None
    leading = x.step if rows == 1 else x.matrix.leading
    if leading < columns or x.step != leading * rows:
        return None
    return Operand(Matrix(False, leading), 0, x.copy)


def copied(x: Any, shape: tuple[int, ...]) -> Any:
    """The copy that a plan asks for, in row-major order."""
    xp = current().xp
    return xp.ascontiguousarray(x if x.shape == shape else xp.broadcast_to(x, shape))


def compute_type(data: int) -> int:
    """The arithmetic of a product of that cudaDataType_t: TF32, or sums in float16, where the program allows it."""
    if data == 0:
        return FLOAT_AS_TF32 if precision.tf32["matmul"] else FLOAT
    if data == 1:
        return DOUBLE
    return HALF if data == 2 and settings.FP16[0] else FLOAT


def product(
    x: Any, y: Any, alpha: float = 1.0, out: Any = None, beta: float = 0.0, epilogue: int = PLAIN, vector: Any = None
) -> Any:
    """alpha x y + beta out, into `out` where given, else a new array. NotImplemented for other dtypes and shapes.

    out: row-major, of the operands' dtype, or float32 for halves. epilogue: one of cublaslt.py's; NotImplemented where
    it cannot be computed. BIAS adds `vector` (M,) to each row; BIAS_GRADIENT writes x's sums (N,) over its rows.
    """
    data = DATA[x.dtype]
    if data < 0 or y.dtype != x.dtype:
        return NotImplemented
    found = plan(x.shape, x.strides, y.shape, y.strides, x.itemsize)
    if found is None:
        return NotImplemented
    machine = current()
    if epilogue != PLAIN and (machine.lt is None or (epilogue == BIAS_GRADIENT and not found.x.matrix.transposed)):
        return NotImplemented
    if found.x.copy is not None:
        x = copied(x, found.x.copy)
    if found.y.copy is not None:
        y = copied(y, found.y.copy)
    if out is None:
        out = empty(found.shape, x.dtype)
    (left, x_step, _), (right, y_step, _), sizes = found.x, found.y, found.sizes
    made = DATA[out.dtype]
    # cuBLAS's matrices lie by columns: ours are their transposes, and the product of transposes in the other order
    arguments = (
        (right.transposed, left.transposed), sizes, alpha, (y, right.leading, y_step), (x, left.leading, x_step), beta,
        (out, sizes[0], sizes[0] * sizes[1]), found.batch, (data, made), compute_type(data) if made == data else FLOAT,
    )  # fmt: skip
    if epilogue == PLAIN:
        machine.gemm(*arguments)
        return out
    return out if machine.gemm(*arguments, epilogue, vector) else NotImplemented


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
    """Op linear. Without an epilogue for it, the bias is what the product is added to."""
    if x.ndim < 2:
        out = linear(x[None], w, b) if x.ndim else NotImplemented
        return out if out is NotImplemented else out[0]
    if w.ndim != 2:
        return NotImplemented
    if b is None:
        return product(x, w.T)
    if b.shape != w.shape[:1] or b.dtype != x.dtype:
        return NotImplemented
    # an epilogue reads the bias without gaps, from a multiple of 16 bytes on
    if b.strides[0] == b.itemsize and not current().pointer(b) & 15:
        out = product(x, w.T, 1.0, None, 0.0, BIAS, b)
        if out is not NotImplemented:
            return out
    shape = (*x.shape[:-1], w.shape[0])
    if not math.prod(shape) or not x.size or x.shape[-1] != w.shape[1]:
        return NotImplemented
    out = empty(shape, x.dtype)
    out[...] = b
    return product(x, w.T, 1.0, out, 1.0)


@may_decline
def linear_parameters(g: Any, x: Any, *, needs: Any) -> Any:
    """Composite linear_parameters: (gradient of the weight, that of the bias), both where both are needed."""
    if not needs[0] or not g.size or not x.size:
        return NotImplemented
    g, x = (a if a.ndim == 2 else a.reshape(-1, a.shape[-1]) for a in (g, x))
    if not needs[1]:
        w = product(g.T, x)
        return w if w is NotImplemented else (w, None)
    if len(g) == 1:  # not served by cuBLASLt before 12.3, and nothing is summed
        return NotImplemented
    b = empty(g.shape[1:], g.dtype)
    w = product(g.T, x, epilogue=BIAS_GRADIENT, vector=b)
    return w if w is NotImplemented else (w, b)


@may_decline
def addmm_gelu(b: Any, x: Any, y: Any) -> Any:
    """GELU, its tanh approximation, of x y + b. x: (N, K), y: (K, M), b: (M,) -> (N, M)."""
    if x.ndim != 2 or y.ndim != 2 or b.shape != y.shape[1:] or b.dtype != x.dtype or not x.size or not y.size:
        return NotImplemented
    if b.strides[0] != b.itemsize or current().pointer(b) & 15:
        return NotImplemented
    return product(x, y, epilogue=GELU_BIAS, vector=b)


KERNELS: dict[str, Callable[..., Any]] = {
    "mm": mm, "bmm": bmm, "linear": linear, "linear_parameters": linear_parameters, "addmm_gelu": addmm_gelu,
}  # fmt: skip
