"""Reductions in NumPy, in the order of the ranks: ((x0 + x1) + x2) + ... whatever the sizes and the transport's mood.

So every process gets the same bits, on every run. Halves (float16, bfloat16) are added in float32 and rounded once.
Booleans: SUM and MAX are "or", PRODUCT and MIN are "and".
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .types import ReduceOp

_FUNCTIONS = {
    ReduceOp.SUM: np.add, ReduceOp.AVG: np.add, ReduceOp.PREMUL_SUM: np.add, ReduceOp.PRODUCT: np.multiply,
    ReduceOp.MIN: np.minimum, ReduceOp.MAX: np.maximum, ReduceOp.BAND: np.bitwise_and, ReduceOp.BOR: np.bitwise_or,
    ReduceOp.BXOR: np.bitwise_xor,
}  # fmt: skip
_INTEGRAL = (ReduceOp.BAND, ReduceOp.BOR, ReduceOp.BXOR)
_ORDERED = (ReduceOp.MIN, ReduceOp.MAX)
_FRACTIONS = (ReduceOp.AVG, ReduceOp.PREMUL_SUM)


def checked(op: Any, dtype: Any, name: str) -> ReduceOp:
    """The reduction as a ReduceOp, where `dtype` (a tapegrad dtype) has it.

    TypeError for what is no reduction; RuntimeError for one of integers on others, or of fractions on integers;
    ValueError for an order of complex numbers.
    """
    if not isinstance(op, (ReduceOp, ReduceOp.RedOpType)):
        raise TypeError(f"{name}(): op must be a ReduceOp such as ReduceOp.SUM, got {op!r}")
    op = ReduceOp(op)
    exact = not (dtype.is_floating_point or dtype.is_complex)
    if op in _INTEGRAL and not exact:
        raise RuntimeError(f"Cannot use ReduceOp.{op.op.name} with non-integral dtype")
    if op in _ORDERED and dtype.is_complex:
        raise ValueError(f"{name} does not support {op.op} on complex tensors")
    if op in _FRACTIONS and exact:
        raise RuntimeError(f"result type Float can't be cast to the desired output type {dtype.legacy}")
    if op == ReduceOp.PREMUL_SUM and op.factor is None:
        raise ValueError(f"{name}(): PREMUL_SUM needs a factor: op=torch.distributed._make_nccl_premul_sum(factor)")
    return op


def is_half(dtype: np.dtype[Any]) -> bool:
    """Whether numbers of the type are two bytes of a float: float16, or bfloat16 (which NumPy does not know)."""
    return dtype.itemsize == 2 and dtype.kind in "fV"


def combine(rows: Any, out: Any, op: ReduceOp) -> None:
    """Writes the reduction of `rows`, (N, n) in the order of the ranks, into `out`: (n,), which no row shares.

    AVG divides by the number of rows.
    """
    function: Any = _FUNCTIONS[op.op]
    wide = is_half(out.dtype)
    total = np.empty(out.shape, np.float32) if wide else out
    first = [row.astype(np.float32) if wide else row for row in rows[:2]]
    if len(first) == 2:
        function(*first, out=total)
    else:
        total[...] = first[0]
    for row in rows[2:]:
        function(total, row.astype(np.float32) if wide else row, out=total)
    if op == ReduceOp.AVG:
        np.divide(total, len(rows), out=total)
    if wide:
        out[...] = total.astype(out.dtype)


def premultiplied(x: Any, op: ReduceOp) -> Any:
    """The values as PREMUL_SUM sends them: times this process's factor; those of other reductions as they are."""
    return (x * x.dtype.type(op.factor)).astype(x.dtype, copy=False) if op == ReduceOp.PREMUL_SUM else x
