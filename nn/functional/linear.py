"""Linear maps."""

from __future__ import annotations

from ...autograd.coerce import into
from ...autograd.dtypes import from_numpy_dtype
from ...autograd.op import GRAPH
from ...autograd.ops.matrix import linear as _linear
from ...autograd.tensor import Tensor

__all__ = ["bilinear", "linear"]


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
