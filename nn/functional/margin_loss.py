"""Losses of margins: how far the right answer stays ahead of the wrong ones."""

from __future__ import annotations

from collections.abc import Callable

from ...autograd.api.creation import arange
from ...autograd.api.rearrange import broadcast_tensors
from ...autograd.op import GRAPH
from ...autograd.ops.kinds import WORDS
from ...autograd.tensor import Tensor
from .activation import logsigmoid
from .distance import pairwise_distance
from .loss import constants, how, reduced

__all__ = [
    "cosine_embedding_loss", "hinge_embedding_loss", "margin_ranking_loss", "multi_margin_loss",
    "multilabel_margin_loss", "multilabel_soft_margin_loss", "soft_margin_loss", "triplet_margin_loss",
    "triplet_margin_with_distance_loss",
]  # fmt: skip


def multi_margin_loss(
    input: Tensor,
    target: Tensor,
    p: int = 1,
    margin: float = 1.0,
    weight: Tensor | None = None,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Tensor:
    """Mean over classes i != y of max(0, margin - x_y + x_i)**p. (N, C), (N,) -> (N,) or (); or (C,) and ()."""
    reduction = how(reduction, size_average, reduce)
    if p not in (1, 2):
        raise ValueError("only p == 1 and p == 2 supported")
    if weight is not None and weight.dim() != 1:
        raise ValueError("weight must be one-dimensional")
    if input.dim() > 2 or not input.numel():
        raise RuntimeError(
            f"Expected non-empty vector or matrix with optional 0-dim batch size, but got: {list(input.shape)}"
        )
    x = GRAPH.reshape(input, shape=(-1, input.array.shape[-1] if input.dim() else 1))
    n, classes = x.array.shape
    if target.numel() != n or target.dim() > 1:
        raise RuntimeError(
            "multi_margin_loss: target tensor should be 1-D with size equal to the number of input samples (batch "
            f"size). Expected target size [{n}], but got {list(target.shape)}. Input has shape {list(input.shape)}."
        )
    if weight is not None and weight.numel() != classes:
        raise RuntimeError(f"inconsistent weight size, expected {classes} but got {list(weight.shape)}")
    if target.dtype.name != "int64":
        raise RuntimeError(f"expected scalar type Long but found {WORDS.get(target.array.dtype.name)}")
    if bool(((target < 0) | (target >= classes)).any()):
        raise RuntimeError("target out of range")
    y = GRAPH.reshape(target, shape=(-1, 1))
    z = (x - GRAPH.gather(x, y, axis=1) + margin).clamp_min(0)
    z = z if p == 1 else z * z
    z = z if weight is None else z * weight[y]
    z = z.masked_fill(y == arange(classes, device=x.device), 0.0).sum(1) / classes
    return reduced(z, reduction) if input.dim() > 1 else z.sum()


def multilabel_margin_loss(
    input: Tensor,
    target: Tensor,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Tensor:
    """Mean over classes i of the sum over labels y, i no label, of max(0, 1 - x_y + x_i). input: (N, C) or (C,).

    target: of input's shape, int64, the labels of a row up to its first -1 -> (N,) or ().
    """
    reduction = how(reduction, size_average, reduce)
    if input.dim() > 2 or not input.numel():
        raise RuntimeError(
            f"Expected non-empty vector or matrix with optional 0-dim batch size, but got: {list(input.shape)}"
        )
    if target.array.shape != input.array.shape:
        raise RuntimeError(f"inconsistent target size: {list(target.shape)} for input of size: {list(input.shape)}")
    x = GRAPH.reshape(input, shape=(-1, input.array.shape[-1] if input.dim() else 1))
    y = GRAPH.reshape(target, shape=x.array.shape)
    classes = x.array.shape[1]
    if bool(((y < -1) | (y >= classes)).any()):
        raise RuntimeError("argument #2 'target' is out of range")
    counted = (y < 0).cumsum(1) == 0
    y = y.masked_fill(~counted, 0)
    labels = counted.new_zeros(x.array.shape).to(input.dtype).scatter_add(1, y, counted.to(input.dtype)) > 0
    chosen = GRAPH.gather(x, y, axis=1)
    z = (x.unsqueeze(1) - chosen.unsqueeze(2) + 1).clamp_min(0)
    z = z.masked_fill(~counted.unsqueeze(2) | labels.unsqueeze(1), 0.0).sum((1, 2)) / classes
    return reduced(z, reduction) if input.dim() > 1 else z.sum()


def multilabel_soft_margin_loss(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Tensor:
    """The mean over classes of binary_cross_entropy_with_logits. input, target: (*, C) -> (*) or ()."""
    if size_average is not None or reduce is not None:
        reduction = how(reduction, size_average, reduce)
    loss = -(target * logsigmoid(input) + (1 - target) * logsigmoid(-input))
    loss = loss if weight is None else loss * weight
    loss = loss.sum(-1) / input.array.shape[-1]
    if reduction not in ("none", "mean", "sum"):
        raise ValueError(reduction + " is not valid")
    return reduced(loss, reduction)


def margin_ranking_loss(
    input1: Tensor,
    input2: Tensor,
    target: Tensor,
    margin: float = 0,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Tensor:
    """max(0, -target (input1 - input2) + margin), target 1 or -1. (*S), (*S), (*S) -> (*S) or ()."""
    reduction = how(reduction, size_average, reduce)
    if input1.dim() != input2.dim() or input1.dim() != target.dim():
        raise RuntimeError(
            "margin_ranking_loss : All input tensors should have same dimension but got sizes: "
            f"input1: {input1.size()}, input2: {input2.size()}, target: {target.size()} "
        )
    return reduced((-target * (input1 - input2) + margin).clamp_min(0), reduction)


def hinge_embedding_loss(
    input: Tensor,
    target: Tensor,
    margin: float = 1.0,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Tensor:
    """input where target is 1, max(0, margin - input) where it is -1. (*S), (*S) -> (*S) or ()."""
    reduction = how(reduction, size_average, reduce)
    input, target = broadcast_tensors(input, target)
    far = (margin - input).clamp_min(0).masked_fill(target == 1, 0.0)
    return reduced(far + input.masked_fill(target == -1, 0.0), reduction)


def soft_margin_loss(
    input: Tensor,
    target: Tensor,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Tensor:
    """log(1 + exp(-target input)), target 1 or -1. (*S), (*S) -> (*S) or ()."""
    constants("soft_margin_loss", target=target)
    return reduced(-logsigmoid(input * target), how(reduction, size_average, reduce))


def cosine_embedding_loss(
    input1: Tensor,
    input2: Tensor,
    target: Tensor,
    margin: float = 0,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Tensor:
    """1 - cos where target is 1, else max(0, cos - margin). (N, D), (N, D), (N,) -> (N,) or (); or (D,) and ()."""
    reduction = how(reduction, size_average, reduce)
    sizes = f"{list(input1.shape)} and {list(input2.shape)}"
    if target.dim() > 1:
        raise RuntimeError("0D or 1D target tensor expected, multi-target not supported")
    if target.dim() == 1 and (input1.dim() != 2 or input2.dim() != 2):
        raise RuntimeError(f"1D target tensor expects 2D input tensors, but found inputs with sizes {sizes}.")
    if target.dim() == 0 and (input1.dim() != 1 or input2.dim() != 1):
        raise RuntimeError(f"0D target tensor expects 1D input tensors, but found inputs with sizes {sizes}.")
    tiny = 1e-12
    dot = (input1 * input2).sum(-1)
    size = (((input1 * input1).sum(-1) + tiny) * ((input2 * input2).sum(-1) + tiny)).sqrt()
    cosine = dot / size
    zero = cosine.new_zeros(())
    near = (1 - cosine).where(target == 1, zero)
    far = (cosine - margin).clamp_min(0).where(target == -1, zero)
    return reduced(near + far, reduction)


def triplet_margin_loss(
    anchor: Tensor,
    positive: Tensor,
    negative: Tensor,
    margin: float = 1.0,
    p: float = 2,
    eps: float = 1e-6,
    swap: bool = False,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Tensor:
    """max(0, margin + |anchor - positive| - |anchor - negative|), in p-norms. (N, D) each -> (N,) or ()."""
    return triplet_margin_with_distance_loss(
        anchor,
        positive,
        negative,
        distance_function=lambda a, b: pairwise_distance(a, b, p, eps),
        margin=margin,
        swap=swap,
        reduction=how(reduction, size_average, reduce),
    )


def triplet_margin_with_distance_loss(
    anchor: Tensor,
    positive: Tensor,
    negative: Tensor,
    *,
    distance_function: Callable[[Tensor, Tensor], Tensor] | None = None,
    margin: float = 1.0,
    swap: bool = False,
    reduction: str = "mean",
) -> Tensor:
    """triplet_margin_loss with any distance. swap: the negative's distance is the smaller of those to the other two.

    (N, D) each -> (N,) or ().
    """
    if reduction not in ("mean", "sum", "none"):
        raise ValueError(f"{reduction} is not a valid value for reduction")
    if margin <= 0:
        raise ValueError(f"margin must be greater than 0, got {margin}")
    if not anchor.ndim == positive.ndim == negative.ndim:
        raise RuntimeError(
            "The anchor, positive, and negative tensors are expected to have the same number of dimensions, but got: "
            f"anchor {anchor.ndim}D, positive {positive.ndim}D, and negative {negative.ndim}D inputs"
        )
    distance = distance_function or pairwise_distance
    near, far = distance(anchor, positive), distance(anchor, negative)
    if swap:
        far = GRAPH.minimum(far, distance(positive, negative))
    return reduced((margin + near - far).clamp_min(0), reduction)
