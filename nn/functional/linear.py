"""Linear maps."""

from __future__ import annotations

from typing import Any

from ...autograd.coerce import into
from ...autograd.dtypes import from_numpy_dtype
from ...autograd.op import GRAPH
from ...autograd.ops.matrix import linear as _linear
from ...autograd.tensor import Tensor

__all__ = ["bilinear", "grouped_mm", "linear"]


def linear(input: Tensor, weight: Tensor, bias: Tensor | None = None, *, out: Tensor | None = None) -> Tensor:
    """input @ weight.T + bias. input: (*, K), weight: (M, K) or (K,), bias: (M,) or () -> (*, M) or (*)."""
    if out is not None:
        return into(out, "linear", linear(input, weight, bias))
    if isinstance(weight, Tensor) and weight.array.ndim == 1:
        product = input.matmul(weight)
        return product if bias is None else product + bias
    return _linear(input, weight, bias)


def bilinear(input1: Tensor, input2: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """sum_ij input1_i weight_kij input2_j + bias_k. input1: (*, I), input2: (*, J), weight: (K, I, J) -> (*, K)."""
    for t, side, word in ((input1, 1, "first"), (input2, 2, "second")):
        if t.array.shape[-1] != weight.array.shape[side]:
            raise RuntimeError(
                f"bilinear(): input{side} size does not match weight size: got {t.shape[-1]} but expected "
                f"{weight.shape[side]} ({word} input)"
            )
    if input1.array.shape[:-1] != input2.array.shape[:-1]:
        raise RuntimeError(
            f"bilinear(): input batch dimensions do not match: got {list(input1.shape)} and {list(input2.shape)}"
        )
    k, i, j = weight.array.shape
    lead = input1.array.shape[:-1]
    a = GRAPH.reshape(input1, shape=(-1, i))
    b = GRAPH.reshape(input2, shape=(-1, j))
    wide = GRAPH.mm(a, GRAPH.reshape(GRAPH.permute(weight, axes=(1, 0, 2)), shape=(i, k * j)))
    wide = GRAPH.reshape(wide, shape=(-1, k, j)) * GRAPH.reshape(b, shape=(-1, 1, j))
    total = wide.sum(2, dtype=from_numpy_dtype(input1.array.dtype))  # integers stay what they are
    out = GRAPH.reshape(total, shape=(*lead, k))
    return out if bias is None else out + bias


def grouped_mm(
    mat_a: Tensor, mat_b: Tensor, *, offs: Tensor | None = None, bias: Tensor | None = None, out_dtype: Any = None
) -> Tensor:
    """One matrix product per group, as layers of experts need it: offs[i] is the end of group i, in a 2-d operand.

    (M, K) x (G, K, N) -> (M, N), rows in groups; (G, M, K) x (K, N) -> (M, N), columns in groups; (M, K) x (K, N) ->
    (G, M, N), K in groups; (G, M, K) x (G, K, N) -> (G, M, N), without offs. What lies behind the last group gives
    zeros. float32 and halves; offs: (G,) int32.
    """
    _check_grouped(mat_a, mat_b, offs, bias, out_dtype)
    if offs is None:
        return GRAPH.bmm(mat_a, mat_b)
    ends = [int(n) for n in offs.tolist()]
    spans = list(zip([0, *ends], ends))  # noqa: B905  (one start more than ends)
    rows, columns = mat_a.array.ndim == 2, mat_b.array.ndim == 2
    if rows and columns:
        return GRAPH.stack(*[GRAPH.mm(mat_a[:, i:j], mat_b[i:j]) for i, j in spans], axis=0)
    if rows:
        parts = [GRAPH.mm(mat_a[i:j], mat_b[g]) for g, (i, j) in enumerate(spans)]
        rest = mat_a.new_zeros(mat_a.array.shape[0] - ends[-1], mat_b.array.shape[2])
        return GRAPH.cat(*parts, rest, axis=0)
    parts = [GRAPH.mm(mat_a[g], mat_b[:, i:j]) for g, (i, j) in enumerate(spans)]
    rest = mat_a.new_zeros(mat_a.array.shape[1], mat_b.array.shape[1] - ends[-1])
    return GRAPH.cat(*parts, rest, axis=1)


def _check_grouped(a: Tensor, b: Tensor, offs: Any, bias: Any, out_dtype: Any) -> None:
    """RuntimeError in PyTorch's words for what grouped_mm does not take."""
    for word, t in (("mat_a", a), ("mat_b", b)):
        if t.array.ndim not in (2, 3):
            raise RuntimeError(f"{word} has to be 2 or 3d")
        if t.dtype.name not in ("float32", "bfloat16", "float16"):
            raise RuntimeError(f"Expected {word} to be Float32, BFloat16 or Float16 matrix, got {t.dtype.legacy}")
    flat = a.array.ndim == 2 or b.array.ndim == 2
    if flat != (offs is not None):
        raise RuntimeError("Have to provide offsets if there is a 2d matrix, or no offset if both matrices are 3d")
    if a.array.shape[-1] != b.array.shape[-2]:
        raise RuntimeError("contraction dimension of mat_a and mat_b must match")
    groups = {t.array.shape[0] for t in (a, b) if t.array.ndim == 3}
    if offs is not None:
        if offs.array.ndim != 1:
            raise RuntimeError("offs has to be 1D")
        if offs.dtype.name != "int32":
            raise RuntimeError("Offsets have to be int32")
        groups.add(offs.array.shape[0])
    if len(groups) > 1:
        raise RuntimeError("matrix batch sizes have to match")
    if bias is not None:
        raise RuntimeError("Bias not supported yet")
    if out_dtype is not None and out_dtype is not a.dtype:
        raise RuntimeError("Grouped gemm output dtype must match `mat_a` dtype")
