"""Look-up tables and one-hot vectors."""

from __future__ import annotations

from ...autograd.api.creation import arange, ones
from ...autograd.api.masked import one_hot
from ...autograd.modes import no_grad
from ...autograd.op import GRAPH
from ...autograd.ops import embedding as op
from ...autograd.rows import with_sparse_gradient
from ...autograd.tensor import Tensor

__all__ = ["embedding", "embedding_bag", "one_hot"]


def _row(padding_idx: int | None, rows: int) -> int:
    """padding_idx as a row number; -1 where there is none."""
    if padding_idx is None:
        return -1
    if not -rows <= padding_idx < rows:
        raise AssertionError("Padding_idx must be within num_embeddings")
    return padding_idx + rows if padding_idx < 0 else padding_idx


def embedding(
    input: Tensor,
    weight: Tensor,
    padding_idx: int | None = None,
    max_norm: float | None = None,
    norm_type: float = 2.0,
    scale_grad_by_freq: bool = False,
    sparse: bool = False,
) -> Tensor:
    """Rows of weight. input: (*S) int32 or int64, weight: (V, D) -> (*S, D).

    The row padding_idx gets no gradient; max_norm scales rows that are longer down, in place. sparse: the gradient of
    a weight that is a leaf is a sparse tensor of the rows that were read, once each time (not with scale_grad_by_freq;
    with create_graph=True it is dense). Raises IndexError for an index outside [0, V), RuntimeError for another dtype.
    """
    _check_index("embedding", input, weight)
    padding = _row(padding_idx, weight.array.shape[0])
    if max_norm is not None:
        renorm_rows(weight, input, max_norm, norm_type)
    look_up = op.embedding_by_frequency if scale_grad_by_freq else op.embedding
    rows = look_up(weight, input, padding=padding)
    return with_sparse_gradient(rows, input, padding, weight.array.shape[0]) if sparse else rows


def _check_index(name: str, index: Tensor, weight: Tensor) -> None:
    if not isinstance(index, Tensor):
        raise TypeError(f"{name}(): argument 'indices' (position 2) must be Tensor, not {type(index).__name__}")
    if index.array.dtype.kind not in "iu" or index.array.dtype.itemsize < 4:
        raise RuntimeError(
            "Expected tensor for argument #1 'indices' to have one of the following scalar types: Long, Int; but got "
            f"{index.type()} instead (while checking arguments for {name})"
        )
    if weight.array.ndim != 2:
        raise RuntimeError("'weight' must be 2-D")


@no_grad()
def renorm_rows(weight: Tensor, index: Tensor, max_norm: float, norm_type: float) -> None:
    """Scales the rows of weight that index names down to max_norm, in place."""
    rows = index.unique()
    chosen = weight.detach()[rows]
    norms = chosen.norm(norm_type, dim=1, keepdim=True)
    weight.detach()[rows] = (chosen * (max_norm / (norms + 1e-7))).where(norms > max_norm, chosen)


def embedding_bag(
    input: Tensor,
    weight: Tensor,
    offsets: Tensor | None = None,
    max_norm: float | None = None,
    norm_type: float = 2,
    scale_grad_by_freq: bool = False,
    mode: str = "mean",
    sparse: bool = False,
    per_sample_weights: Tensor | None = None,
    include_last_offset: bool = False,
    padding_idx: int | None = None,
) -> Tensor:
    """Sums, means or maxima of rows of weight in bags. weight: (V, D) -> (B, D).

    input: (B, N), or (N,) with offsets (B,), where each bag begins. Empty bags give zeros; rows of padding_idx do not
    count. per_sample_weights, of input's shape, with mode 'sum' only. sparse: as of `embedding`, not with mode 'max'.
    """
    if input.dim() == 2:
        if offsets is not None:
            raise ValueError(
                "if input is 2D, then offsets has to be None, as input is treated is a mini-batch of fixed length "
                f"sequences. However, found offsets of type {type(offsets)}"
            )
        offsets = arange(0, input.numel(), input.size(1), device=input.device)
        input = input.reshape(-1)
        if per_sample_weights is not None:
            per_sample_weights = per_sample_weights.reshape(-1)
        include_last_offset = False
    elif input.dim() == 1:
        if offsets is None:
            raise ValueError("offsets has to be a 1D Tensor but got None")
        if offsets.dim() != 1:
            raise ValueError("offsets has to be a 1D Tensor")
    else:
        raise ValueError(f"input has to be 1D or 2D Tensor, but got Tensor of dimension {input.dim()}")
    if per_sample_weights is not None and per_sample_weights.shape != input.shape:
        raise ValueError(
            f"embedding_bag: If per_sample_weights ({per_sample_weights.shape}) is not None, then it must have the "
            f"same shape as the input ({input.shape})"
        )
    if mode not in ("sum", "mean", "max"):
        raise ValueError("mode has to be one of sum, mean or max")
    if per_sample_weights is not None and mode != "sum":
        raise NotImplementedError(
            "embedding_bag: per_sample_weights was not None. per_sample_weights is only supported for mode='sum' "
            f"(got mode='{mode}'). Please open a feature request on GitHub."
        )
    if mode == "max" and scale_grad_by_freq:
        raise ValueError("max mode does not support scaling the gradient by the frequency")
    if mode == "max" and sparse:
        raise ValueError("max mode does not support sparse weights")
    bag, count = _bags(input, offsets, include_last_offset)
    try:
        rows = embedding(input, weight, padding_idx, max_norm, norm_type, scale_grad_by_freq, sparse)
    except IndexError:
        values, bound = input.tolist(), weight.array.shape[0]
        place = next(i for i, n in enumerate(values) if not 0 <= n < bound)
        raise RuntimeError(
            f"Index {place} of input takes value {values[place]} which is not in the valid range [0, {bound})"
        ) from None
    return _reduced(rows, input, bag, count, mode, per_sample_weights, _row(padding_idx, weight.array.shape[0]))


def _bags(input: Tensor, offsets: Tensor, include_last: bool) -> tuple[Tensor, int]:
    """(the bag of each element, how many bags)."""
    count = offsets.numel() - int(include_last)
    if offsets.numel() and offsets[0].item() != 0:
        raise RuntimeError(
            "offsets[0] has to be 0, i.e., the first sequence in the mini-batch has to start from position 0. "
            f"However, got {offsets[0].item()}"
        )
    if offsets.numel() and offsets[-1].item() > input.numel():
        raise RuntimeError(
            f"offsets[-1] can not be greater than input's length({input.numel()}) "
            f"but got offsets[-1] of {offsets[-1].item()}"
        )
    marks = ones(1, dtype=offsets.dtype, device=offsets.device).new_zeros(input.numel() + 1)
    starts = offsets[1:count]
    marks.index_add_(0, starts.long(), starts.new_ones(starts.numel()))
    return marks[:-1].cumsum(0), count


def _reduced(
    rows: Tensor, input: Tensor, bag: Tensor, count: int, mode: str, weights: Tensor | None, padding: int
) -> Tensor:
    if padding >= 0:
        kept = (input != padding).nonzero().reshape(-1)
        rows, bag = rows[kept], bag[kept]
        weights = None if weights is None else weights[kept]
    if weights is not None:
        rows = rows * weights.unsqueeze(1)
    zeros = rows.new_zeros(count, rows.shape[1])
    if mode == "max":
        place = bag.unsqueeze(1).expand(rows.shape)
        filled = (zeros - float("inf")).scatter_reduce(0, place, rows, "amax")
        return filled.masked_fill(filled == -float("inf"), 0.0)
    total = zeros.index_add(0, bag, rows)
    if mode == "sum":
        return total
    sizes = bag.new_zeros(count).index_add(0, bag, bag.new_ones(bag.numel())).clamp(min=1)
    return GRAPH.div(total, sizes.to(rows.dtype).unsqueeze(1))
