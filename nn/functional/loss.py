"""Loss functions. `reduction`: "mean", "sum" or "none"; size_average and reduce are PyTorch's older words for it."""

from __future__ import annotations

import math
import warnings
from typing import Any

from ...autograd.api.creation import ones_like, tensor
from ...autograd.modes import is_grad_enabled, no_grad
from ...autograd.op import GRAPH
from ...autograd.ops import ctc as ctc_ops
from ...autograd.ops import loss as op
from ...autograd.ops.kinds import WORDS, only
from ...autograd.tensor import Tensor
from .activation import log_softmax
from .linear import linear

__all__ = [
    "binary_cross_entropy", "binary_cross_entropy_with_logits", "cross_entropy", "ctc_loss", "gaussian_nll_loss",
    "huber_loss", "kl_div", "l1_loss", "linear_cross_entropy", "mse_loss", "nll_loss", "poisson_nll_loss",
    "smooth_l1_loss",
]  # fmt: skip


def how(reduction: str, size_average: bool | None = None, reduce: bool | None = None) -> str:
    """"none", "mean" or "sum" from the arguments of a loss. ValueError for another word."""
    if size_average is not None or reduce is not None:
        reduction = "none" if reduce is False else "sum" if size_average is False else "mean"
        text = f"size_average and reduce args will be deprecated, please use reduction='{reduction}' instead."
        warnings.warn(text, stacklevel=3)
    if reduction == "elementwise_mean":
        text = "reduction='elementwise_mean' is deprecated. Please use reduction='mean' instead."
        warnings.warn(text, stacklevel=3)
        return "mean"
    if reduction not in ("none", "mean", "sum"):
        raise ValueError(f"{reduction} is not a valid value for reduction")
    return reduction


def reduced(loss: Tensor, reduction: str) -> Tensor:
    return loss.mean() if reduction == "mean" else loss.sum() if reduction == "sum" else loss


def constants(name: str, **tensors: Tensor | None) -> None:
    """RuntimeError for arguments that require a gradient but get none."""
    for word, t in tensors.items():
        if t is not None and t.requires_grad and is_grad_enabled():
            raise RuntimeError(
                f"The function '{name}' is not differentiable with respect to argument '{word}'. This input cannot "
                "have requires_grad True."
            )


# ---- distances


def _pair(input: Tensor, target: Tensor) -> None:
    if input.array.shape != target.array.shape:
        warnings.warn(
            f"Using a target size ({target.size()}) that is different to the input size ({input.size()}). This will "
            "likely lead to incorrect results due to broadcasting. Please ensure they have the same size.",
            stacklevel=3,
        )


def _weighted(input: Tensor, loss: Tensor, weight: Tensor, reduction: str, by_weight: bool) -> Tensor:
    """Weighted element losses reduced; the mean divides by the weights' sum, or the count."""
    if weight.size() != input.size():
        raise ValueError("Weights and input must have the same size.")
    loss = loss * weight
    return loss.sum() / weight.sum() if reduction == "mean" and by_weight else reduced(loss, reduction)


def l1_loss(
    input: Tensor,
    target: Tensor,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
    weight: Tensor | None = None,
) -> Tensor:
    """|input - target|. input: (*S), target: (*T) -> (*broadcast(S, T)) or ()."""
    _pair(input, target)
    reduction = how(reduction, size_average, reduce)
    loss = (input - target).abs()
    return reduced(loss, reduction) if weight is None else _weighted(input, loss, weight, reduction, True)


def mse_loss(
    input: Tensor,
    target: Tensor,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
    weight: Tensor | None = None,
) -> Tensor:
    """(input - target)**2. input: (*S), target: (*T) -> (*broadcast(S, T)) or ().

    >>> import tapegrad as torch
    >>> torch.nn.functional.mse_loss(torch.tensor([1.0, 2.0]), torch.tensor([1.0, 4.0]))
    tensor(2.)
    """
    _pair(input, target)
    reduction = how(reduction, size_average, reduce)
    if weight is None:
        return op.mse_loss(input, target, reduction=reduction)
    return _weighted(input, (input - target) ** 2, weight, reduction, True)


def smooth_l1_loss(
    input: Tensor,
    target: Tensor,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
    beta: float = 1.0,
) -> Tensor:
    """d**2 / (2 beta) where d = |input - target| < beta, else d - beta / 2. (*S), (*T) -> (*broadcast(S, T)) or ()."""
    _pair(input, target)
    reduction = how(reduction, size_average, reduce)
    if beta == 0.0:
        return reduced((input - target).abs(), reduction)
    if beta < 0:
        raise RuntimeError("smooth_l1_loss does not support negative values for beta.")
    return op.smooth_l1_loss(input, target, reduction=reduction, beta=float(beta))


def huber_loss(
    input: Tensor, target: Tensor, reduction: str = "mean", delta: float = 1.0, weight: Tensor | None = None
) -> Tensor:
    """d**2 / 2 where d = |input - target| <= delta, else delta (d - delta / 2). (*S), (*T) -> (*broadcast) or ()."""
    _pair(input, target)
    if delta <= 0:
        raise RuntimeError("huber_loss does not support non-positive values for delta.")
    if weight is None:
        return op.huber_loss(input, target, reduction=how(reduction), delta=float(delta))
    if reduction not in ("none", "mean", "sum"):
        raise ValueError(f"Invalid reduction mode: {reduction}. Expected one of 'none', 'mean', 'sum'.")
    loss = op.huber_loss(input, target, reduction="none", delta=float(delta))
    return _weighted(input, loss, weight, reduction, False)


# ---- two classes


def _same_dtype(input: Tensor, *others: Tensor | None) -> None:
    for t in others:
        if t is not None and t.array.dtype != input.array.dtype:
            found, wanted = (WORDS.get(a.dtype.name, "Undefined") for a in (t, input))
            raise RuntimeError(f"Found dtype {found} but expected {wanted}")


def binary_cross_entropy(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Tensor:
    """-(target log(input) + (1 - target) log(1 - input)), logarithms at least -100. (*S), (*S) -> (*S) or ()."""
    reduction = how(reduction, size_average, reduce)
    if target.array.shape != input.array.shape:
        raise ValueError(
            f"Using a target size ({target.size()}) that is different to the input size ({input.size()}) is "
            "deprecated. Please ensure they have the same size."
        )
    if weight is not None:
        weight = weight.expand(target.array.shape)
    constants("binary_cross_entropy", weight=weight)
    _same_dtype(input, target, weight)
    return op.binary_cross_entropy(input, target, weight, reduction=reduction)


def binary_cross_entropy_with_logits(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
    pos_weight: Tensor | None = None,
) -> Tensor:
    """binary_cross_entropy of sigmoid(input), without overflow. input, target: (*S) -> (*S) or ().

    weight scales every element, pos_weight those of target 1; both broadcast to (*S).
    """
    reduction = how(reduction, size_average, reduce)
    if target.array.shape != input.array.shape:
        raise ValueError(f"Target size ({target.size()}) must be the same as input size ({input.size()})")
    constants("binary_cross_entropy_with_logits", weight=weight, pos_weight=pos_weight)
    if target.array.dtype.kind not in "fV":
        word, found = (WORDS.get(a.dtype.name) for a in (target.array, input.array))
        raise RuntimeError(f"result type {found} can't be cast to the desired output type {word}")
    kinds = {t.array.dtype for t in (input, target, weight, pos_weight) if t is not None}
    if len(kinds) > 1:
        wide = max(kinds, key=lambda kind: kind.itemsize)
        given: tuple[Any, ...] = (input, target, weight, pos_weight)
        input, target, weight, pos_weight = (
            t if t is None or t.array.dtype == wide else GRAPH.cast(t, dtype=wide) for t in given
        )
    return op.binary_cross_entropy_with_logits(input, target, weight, pos_weight, reduction=reduction)


# ---- several classes


def nll_loss(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    size_average: bool | None = None,
    ignore_index: int = -100,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Tensor:
    """-input[target], weighted. input: (N, C, *) or (C,) log-probabilities, target: (N, *) or () int64."""
    return _nll(input, target, weight, ignore_index, how(reduction, size_average, reduce))


def _nll(input: Tensor, target: Tensor, weight: Tensor | None, ignore_index: int, reduction: str) -> Tensor:
    if not input.array.ndim:
        raise ValueError("Expected 1 or more dimensions (got 0)")
    _check_classes(input, target, weight)
    if input.array.ndim > 2:
        return op.nll_loss_2d(input, target, weight, ignore_index=ignore_index, reduction=reduction)
    if input.array.ndim == 1 and target.array.ndim == 1:
        target = target.squeeze(0)
    return op.nll_loss(input, target, weight, ignore_index=ignore_index, reduction=reduction)


def _check_classes(input: Tensor, target: Tensor, weight: Tensor | None) -> None:
    """ValueError or RuntimeError where class indices, classes' weights and input do not fit."""
    x, t = input.array.shape, target.array.shape
    classes = x[1] if len(x) > 1 else x[0]
    if len(x) == 1:
        if len(t) == 1 and t[0] != 1:
            raise ValueError(f"For 1D input, 1D target must have size 1, but got target size: {t[0]}")
        if len(t) > 1:
            raise RuntimeError("0D or 1D target tensor expected, multi-target not supported")
    else:
        if not t:
            raise ValueError(f"Expected input batch_size ({x[0]}) to match target batch_size (0).")
        if x[0] != t[0]:
            raise ValueError(f"Expected input batch_size ({x[0]}) to match target batch_size ({t[0]}).")
        if len(x) == 2 and len(t) > 1:
            raise RuntimeError("0D or 1D target tensor expected, multi-target not supported")
        if t != (x[0], *x[2:]):
            if len(x) == 4 and len(t) == 3:
                raise RuntimeError(f"size mismatch (got input: {list(x)} , target: {list(t)}")
            raise RuntimeError(f"Expected target size {[x[0], *x[2:]]}, got {list(t)}")
    if target.dtype.name not in ("int64", "uint8"):
        word = WORDS.get(target.array.dtype.name)
        raise RuntimeError(f"expected target dtype to be Long or Byte, but got {word}")
    if weight is not None and weight.array.shape != (classes,):
        raise RuntimeError(
            f"weight tensor should be defined either for all {classes} classes or no classes but got weight tensor of "
            f"shape: {list(weight.shape)}"
        )


def cross_entropy(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    size_average: bool | None = None,
    ignore_index: int = -100,
    reduce: bool | None = None,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
) -> Tensor:
    """-log softmax(input)[target]. input: (N, C, *) or (C,) logits -> (N, *) or ().

    target: (N, *) or () int64, classes in 0..C-1 or ignore_index; or probabilities of input's shape. label_smoothing
    mixes the target with the uniform distribution (Szegedy et al., 2015). IndexError for a class that does not exist.

    >>> import tapegrad as torch
    >>> torch.nn.functional.cross_entropy(torch.zeros(2, 4), torch.tensor([0, 3]))
    tensor(1.3863)
    """
    reduction = how(reduction, size_average, reduce)
    if not 0.0 <= label_smoothing <= 1.0:
        raise RuntimeError(f"label_smoothing must be between 0.0 and 1.0. Got: {label_smoothing:g}")
    if _is_half(input) and (weight is None or weight.array.dtype == input.array.dtype):
        weight = None if weight is None else weight.float()
        target = target.float() if _is_half(target) else target
        loss = cross_entropy(
            input.float(), target, weight, ignore_index=ignore_index, reduction=reduction,
            label_smoothing=label_smoothing,
        )  # fmt: skip
        return loss.to(input.dtype)
    axis = 1 if input.array.ndim > 1 else 0
    if target.array.shape == input.array.shape:
        if target.array.dtype.kind not in "fV":
            kind = WORDS.get(target.array.dtype.name)
            raise RuntimeError(
                f"Expected floating point type for target with class probabilities, got {kind}. (cross_entropy: the "
                f"target has the input's shape {list(input.shape)}; classes have it without the dimension of classes)"
            )
        if ignore_index >= 0:
            raise RuntimeError("ignore_index is not supported for floating point target")
        return _of_probabilities(input, target, weight, reduction, label_smoothing, axis)
    if label_smoothing > 0.0:
        return _smoothed(input, target, weight, reduction, ignore_index, label_smoothing, axis)
    if weight is not None:
        return _nll(log_softmax(input, axis), target, weight, ignore_index, reduction)
    if not input.array.ndim:
        raise ValueError("Expected 1 or more dimensions (got 0)")
    _check_classes(input, target, None)
    only("fV", "log_softmax_lastdim_kernel_impl", input.array)
    if input.array.ndim > 2:
        input = GRAPH.permute(input, axes=(0, *range(2, input.array.ndim), 1))
    elif input.array.ndim == 1 and target.array.ndim:
        target = target.squeeze(0)
    return op.cross_entropy(input, target, ignore_index=ignore_index, reduction=reduction)


def _is_half(t: Tensor) -> bool:
    """Whether a tensor is of float16 or bfloat16: a loss of such ones is computed in float32 and rounded once."""
    return t.array.dtype.itemsize == 2 and t.array.dtype.kind in "fV"


def _by_class(weight: Tensor, ndim: int, axis: int) -> Tensor:
    """Classes' weights (C,) as they broadcast over the input."""
    return GRAPH.reshape(weight, shape=(-1, *(1,) * (ndim - axis - 1)))


def _of_probabilities(
    input: Tensor, target: Tensor, weight: Tensor | None, reduction: str, smoothing: float, axis: int
) -> Tensor:
    classes = input.array.shape[axis]
    if weight is not None and weight.array.shape != (classes,):
        raise RuntimeError(
            f"cross_entropy: weight tensor should be defined either for all {classes} classes or no classes but got "
            f"weight tensor of shape: {list(weight.shape)}"
        )
    if smoothing > 0.0:
        target = target * (1 - smoothing) + smoothing / classes
    products = log_softmax(input, axis) * target
    if weight is not None:
        products = products * _by_class(weight, input.array.ndim, axis)
    if reduction == "mean":
        return -(products.sum() / (input.numel() / classes if classes else 0))
    return -products.sum(axis) if reduction == "none" else -products.sum()


def _smoothed(
    input: Tensor, target: Tensor, weight: Tensor | None, reduction: str, ignore: int, smoothing: float, axis: int
) -> Tensor:
    """(1 - smoothing) times the loss of the target plus smoothing times the mean loss of all classes."""
    logs = log_softmax(input, axis)
    loss = _nll(logs, target, weight, ignore, reduction)
    spread = logs if weight is None else logs * _by_class(weight, input.array.ndim, axis)
    if target.array.ndim and input.array.ndim == 1:
        target = target.squeeze(0)
    ignored = target == ignore
    spread = (-spread.sum(axis)).masked_fill(ignored, 0.0)
    if reduction == "mean":
        if weight is None:
            count: Any = target.numel() - ignored.sum()
            if count.is_cpu:
                spread = spread.sum() / int(count) if int(count) else spread.sum() * math.nan
            else:  # 0 / 0 is nan there, and asking would wait
                spread = spread.sum() / count
        else:
            spread = spread.sum() / weight[target.masked_fill(ignored, 0).long()].masked_fill(ignored, 0.0).sum()
    elif reduction == "sum":
        spread = spread.sum()
    return loss * (1 - smoothing) + spread * (smoothing / input.array.shape[axis])


def linear_cross_entropy(
    input: Tensor,
    linear_weight: Tensor,
    target: Tensor,
    *,
    linear_bias: Tensor | None = None,
    weight: Tensor | None = None,
    reduction: str = "mean",
    ignore_index: int | None = None,
    label_smoothing: float = 0.0,
    options: Any = None,
) -> Tensor:
    """cross_entropy of linear(input, linear_weight, linear_bias). input: (N, K) or (K,), linear_weight: (C, *, K).

    options: accepted; they ask PyTorch to work in chunks of the batch.
    """
    x, w = input.array.shape, linear_weight.array.shape
    if not 1 <= len(x) <= 2:
        raise RuntimeError(f"expected input with dimensionality 1 or 2, got {len(x)}")
    if len(w) < 2:
        raise RuntimeError(f"expected linear_weight with dimensionality at least 2, got {len(w)}")
    if x[-1] != w[-1]:
        raise RuntimeError(
            f"expected equal input and linear_weight last dimensions (in_features), got {x[-1]} and {w[-1]}, "
            "respectively"
        )
    if linear_bias is not None and linear_bias.array.shape != w[:-1]:
        raise RuntimeError(f"expected linear_bias shape {w[:-1]}, got {tuple(linear_bias.shape)}")
    if len(w) > 2 and len(x) == 1:
        raise RuntimeError(
            f"K-dimensional loss defined by linear_weight shape {w} requires batched input, (N, {x[-1]}), got "
            f"unbatched input with shape {x}"
        )
    logits_shape = (*x[:-1], *w[:-1])
    if target.array.shape == logits_shape and ignore_index is not None:
        raise RuntimeError("ignore_index cannot be specified when target contains probabilities")
    if _is_half(input) and input.array.dtype == linear_weight.array.dtype:
        tensors = (input, linear_weight, target, linear_bias, weight)
        input, linear_weight, target, linear_bias, weight = (  # type: ignore[assignment]
            t.float() if t is not None and _is_half(t) else t for t in tensors
        )
        loss = linear_cross_entropy(
            input, linear_weight, target, linear_bias=linear_bias, weight=weight, reduction=reduction,
            ignore_index=ignore_index, label_smoothing=label_smoothing,
        )  # fmt: skip
        return loss.to(tensors[0].dtype)
    flat = GRAPH.reshape(linear_weight, shape=(-1, w[-1])) if len(w) > 2 else linear_weight
    bias = linear_bias if linear_bias is None or len(w) == 2 else GRAPH.reshape(linear_bias, shape=(-1,))
    logits = GRAPH.reshape(linear(input, flat, bias), shape=logits_shape)
    ignore = -100 if ignore_index is None else ignore_index
    return cross_entropy(
        logits, target, weight, reduction=reduction, ignore_index=ignore, label_smoothing=label_smoothing
    )


# ---- distributions


def kl_div(
    input: Tensor,
    target: Tensor,
    size_average: bool | None = None,
    reduce: bool | None = None,
    reduction: str = "mean",
    log_target: bool = False,
) -> Tensor:
    """target (log(target) - input). input: (*S) log-probabilities, target: (*S) probabilities, or their logarithms.

    reduction "batchmean" divides the sum by the first dimension.
    """
    if size_average is not None or reduce is not None:
        how_ = how("mean", size_average, reduce)
    else:
        if reduction == "mean":
            warnings.warn(
                "reduction: 'mean' divides the total loss by both the batch size and the support size."
                "'batchmean' divides only by the batch size, and aligns with the KL div math definition."
                "'mean' will be changed to behave the same as 'batchmean' in the next major release.",
                stacklevel=2,
            )
        how_ = "sum" if reduction == "batchmean" else how(reduction)
    loss = target.exp() * (target - input) if log_target else target.xlogy(target) - target * input
    loss = reduced(loss, how_)
    return loss / input.array.shape[0] if reduction == "batchmean" and input.array.ndim else loss


def poisson_nll_loss(
    input: Tensor,
    target: Tensor,
    log_input: bool = True,
    full: bool = False,
    size_average: bool | None = None,
    eps: float = 1e-8,
    reduce: bool | None = None,
    reduction: str = "mean",
) -> Tensor:
    """exp(input) - target input, or input - target log(input + eps). (*S), (*S) -> (*S) or (). full: Stirling too."""
    reduction = how(reduction, size_average, reduce)
    loss = input.exp() - target * input if log_input else input - target * (input + eps).log()
    if full:
        stirling = target * target.log() - target + 0.5 * (2 * math.pi * target).log()
        loss = loss + stirling.masked_fill(target <= 1, 0)
    return reduced(loss, reduction)


def _differing(x: Tensor, y: Tensor) -> list[int]:
    """The sizes of y that x has not."""
    return [b for a, b in zip(x.shape, y.shape, strict=True) if a != b]


def gaussian_nll_loss(
    input: Tensor, target: Tensor, var: Tensor | float, full: bool = False, eps: float = 1e-6, reduction: str = "mean"
) -> Tensor:
    """(log(var) + (input - target)**2 / var) / 2, var at least eps. (*S), (*S), var: (*S), (*S, 1) or a number."""
    variance = var * ones_like(input) if isinstance(var, float) else var
    if bool((variance < 0).any()):
        raise ValueError("var has negative entry/entries")
    if variance.size() != input.size():
        if input.size()[:-1] == variance.size():
            variance = variance.unsqueeze(-1)
        elif input.ndim != variance.ndim or _differing(input, variance) != [1]:
            raise ValueError("var is of incorrect size")
    if reduction not in ("none", "mean", "sum"):
        raise ValueError(reduction + " is not valid")
    variance = variance.clone()
    with no_grad():  # the gradient is that of the formula, at the value that was raised to eps
        variance.clamp_(min=eps)
    loss = 0.5 * (variance.log() + (input - target) ** 2 / variance)
    return reduced(loss + 0.5 * math.log(2 * math.pi) if full else loss, reduction)


# ---- sequences


def _lengths(name: str, lengths: Any, batch: int, device: Any) -> Tensor:
    """(N,) int64, from a tensor or a tuple of ints."""
    t = lengths if isinstance(lengths, Tensor) else tensor(list(lengths))
    if t.array.dtype.kind not in "iu":
        raise RuntimeError(f"{name} must be integral")
    if t.array.ndim == 0:
        t = t.unsqueeze(0)
    if t.numel() != batch:
        raise RuntimeError(f"{name} must be of size batch_size")
    return t.long().to(device)


def ctc_loss(
    log_probs: Tensor,
    targets: Tensor,
    input_lengths: Any,
    target_lengths: Any,
    blank: int = 0,
    reduction: str = "mean",
    zero_infinity: bool = False,
) -> Tensor:
    """-log of the probability of each target, over all alignments with blanks. Graves et al., 2006.

    log_probs: (T, N, C) or (T, C), targets: (N, S) or (sum of the lengths,), lengths: (N,) or () -> (N,) or ().
    "mean" divides by the target lengths first. As in PyTorch, the gradient supposes that log_probs comes from
    log_softmax, and cannot be differentiated again.
    """
    reduction = how(reduction)
    batched = log_probs.dim() == 3
    x = log_probs if batched else log_probs.unsqueeze(1)
    if not x.array.size:
        raise RuntimeError("log_probs tensor must not be empty")
    steps, batch, classes = x.array.shape
    taken = _lengths("input_lengths", input_lengths, batch, x.device)
    wanted = _lengths("target_lengths", target_lengths, batch, x.device)
    if not 0 <= blank < classes:
        raise RuntimeError("blank must be in label range")
    where = "(while checking arguments for ctc_loss_allocate_outputs)"
    for length in taken.tolist():
        if length > steps:
            raise RuntimeError(f"Expected input_lengths to have value at most {steps}, but got value {length} {where}")
    counts = wanted.tolist()
    if not batched and targets.dim() == 1:
        targets = targets.unsqueeze(0)
    dim, needed = (0, sum(counts)) if targets.dim() == 1 else (1, max(counts, default=0))
    if targets.array.shape[dim] < needed or (dim == 0 and targets.array.shape[0] != needed):
        raise RuntimeError(
            f"Expected tensor to have size {'at least ' if dim else ''}{needed} at dimension {dim}, but got size "
            f"{targets.array.shape[dim]} for argument #2 'targets' {where}"
        )
    loss = ctc_ops.ctc_loss(x, targets.long(), taken, wanted, blank=blank, zero_infinity=zero_infinity)
    if reduction == "mean":
        return (loss / wanted.clamp(min=1).to(loss.dtype)).mean()
    return loss.sum() if reduction == "sum" else loss if batched else loss.squeeze(0)
