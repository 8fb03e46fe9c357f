"""The loss of a batch, with weights, and how the losses of batches make that of all samples.

Let l_i be the loss of sample i (of an image's pixels, a text's tokens: their mean) and w_i its weight, sample weight
times class weight. A loss of reduction "mean" gives, over the N samples of a batch,

    without weights             sum l_i / N
    with weights                sum w_i l_i / N                 Keras' "sum_over_batch_size", its default
    with weighted_mean=True     sum w_i l_i / sum w_i           Keras' "mean_with_sample_weight", and
                                                                torch.nn.CrossEntropyLoss(weight=...)
    of reduction "sum"          sum w_i l_i

CrossEntropyLoss and NLLLoss with `weight` or `ignore_index` divide by the sum of their own weights v_i of the targets
that count, as in PyTorch; then the three lines above hold with v_i l_i for l_i, and sum v_i for N.

The divisor is the batch's size here, in the sense that the losses of batches, each times its size, add up to the loss
of all their samples times the sum of sizes: so an epoch's loss does not depend on the batches, and N accumulated
batches give the gradient of one big one.
"""

from __future__ import annotations

import copy
import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from numbers import Integral
from typing import Any

from ..autograd.api.creation import full_like, tensor, zeros_like
from ..autograd.dtypes import float64, int64
from ..autograd.tensor import Tensor
from ..nn import functional as F
from ..nn.modules import loss as L

LOSSES: dict[str, type[L._Loss]] = {
    "cross_entropy": L.CrossEntropyLoss, "nll": L.NLLLoss, "binary_cross_entropy": L.BCELoss,
    "binary_cross_entropy_with_logits": L.BCEWithLogitsLoss, "mse": L.MSELoss, "mae": L.L1Loss, "huber": L.HuberLoss,
}  # fmt: skip
_OF_FUNCTION = {F.cross_entropy: L.CrossEntropyLoss, F.nll_loss: L.NLLLoss}  # these skip ignore_index=-100


class LossRule:
    """A loss (a module, a function (output, target), or a name of LOSSES) with the arithmetic above."""

    def __init__(self, loss: Any, weighted_mean: bool = False):
        if isinstance(loss, str):
            if loss not in LOSSES:
                raise ValueError(f"no loss is named {loss!r}; known: {', '.join(sorted(LOSSES))}; or give a function")
            loss = LOSSES[loss]()
        if loss in _OF_FUNCTION:
            loss = _OF_FUNCTION[loss]()
        if isinstance(loss, type) or not callable(loss):
            raise TypeError(f"loss must be a module, a function (output, target) or a name, not {loss!r}")
        self.loss: Callable[..., Tensor] = loss
        self.weighted_mean = weighted_mean
        self.reduction = getattr(loss, "reduction", "mean")
        self.indexed = isinstance(loss, (L.CrossEntropyLoss, L.NLLLoss))

    @property
    def summed(self) -> bool:
        """Whether losses of batches add up as they are."""
        return self.reduction == "sum"

    def size(self, target: Any, weight: Tensor | None) -> float | Tensor:
        """What the batch's mean divides by, up to a factor that all batches share: a number, or () on a device."""
        own = self._own(target)
        if weight is not None and self.weighted_mean:
            own = weight if own is None else own * _aligned(weight, own)
        if own is None:
            return rows(target)
        total = own.sum(dtype=float64 if own.is_floating_point() else None)
        return total.item() if total.is_cpu else total.to(float64)

    def __call__(self, output: Any, target: Any, weight: Tensor | None = None) -> Tensor:
        """The batch's loss, (). weight: (N,), or of the shape of the loss of each element; None: all 1."""
        if weight is None:
            value = self.loss(output, target)
            return value.mean() if value.ndim else value
        each = self._each(output, target)
        w = _aligned(weight, each).to(each.dtype)
        total = (each * w).sum()
        if self.summed:
            return total
        own = self._own(target)
        if own is not None and own.shape == each.shape:
            divisor = (own * w if self.weighted_mean else own).sum()
            return total / divisor.to(each.dtype)
        if self.weighted_mean:
            return total / w.expand(each.shape).sum()
        return total / (rows(target) if self.reduction == "batchmean" else each.numel())

    def _own(self, target: Any) -> Tensor | None:
        """The loss's own weights v of its targets, of target's shape; None where all are 1."""
        if not self.indexed or not isinstance(target, Tensor) or target.is_floating_point():
            return None
        loss: Any = self.loss
        valid = target != loss.ignore_index
        if loss.weight is None:
            return valid
        labels = target.where(valid, zeros_like(target))
        return loss.weight.to(target.device)[labels] * valid

    def _each(self, output: Any, target: Any) -> Tensor:
        """The loss of each sample or element: (N, *S)."""
        each = self._elementwise(output, target)
        if each.ndim == 0 or each.shape[0] != rows(target):
            raise ValueError(
                f"weights need the loss of each sample, (N, ...) with N = {rows(target)}, but the loss gives "
                f"{tuple(each.shape)}: use a loss with `reduction`, or a function that takes it or does not reduce"
            )
        return each

    @functools.cached_property
    def _elementwise(self) -> Callable[..., Tensor]:
        loss: Any = self.loss
        if hasattr(loss, "reduction"):
            made = copy.copy(loss)
            made.reduction = "none"
            return made
        try:
            takes = "reduction" in inspect.signature(loss).parameters
        except (TypeError, ValueError):  # a built-in without a signature
            takes = False
        return functools.partial(loss, reduction="none") if takes else loss


def rows(target: Any) -> int:
    """How many samples a batch's target has: the length of the first tensor in it."""
    while not isinstance(target, Tensor):
        target = next(iter(target.values() if isinstance(target, Mapping) else target))
    return target.shape[0] if target.ndim else 1


def _aligned(weight: Tensor, like: Tensor) -> Tensor:
    """Weights (N,), (N, 1, ...) or (N, *S) for what has shape (N, *S)."""
    fits = weight.ndim <= like.ndim and weight.shape[:1] == like.shape[:1]
    if not fits or any(a not in (1, b) for a, b in zip(weight.shape, like.shape, strict=False)):
        raise ValueError(
            f"sample weights of shape {tuple(weight.shape)} do not fit losses of shape {tuple(like.shape)}: "
            f"{tuple(like.shape[:1])} or {tuple(like.shape)} is needed"
        )
    return weight.reshape(*weight.shape, *(1,) * (like.ndim - weight.ndim))


class ClassWeights:
    """Weights of samples by their class: {class: weight} (others 1), or one for each class 0 .. C - 1.

    As in Keras, a target of floating numbers with several columns is one-hot, and its class the largest; other
    floating targets are rounded to whole numbers.
    """

    def __init__(self, given: Mapping[int, float] | Sequence[float] | Tensor):
        if isinstance(given, str):
            raise TypeError(f"class_weight is {{class: weight}} or one weight for each class, not {given!r}")
        found = dict(given) if isinstance(given, Mapping) else dict(enumerate(tensor(given).tolist()))
        if not found or not all(isinstance(label, Integral) and label >= 0 for label in found):
            raise ValueError(f"class_weight: classes are integers from 0, not {sorted(map(str, found))}")
        pairs = {int(label): float(weight) for label, weight in found.items()}
        if not all(weight >= 0 for weight in pairs.values()):
            raise ValueError(f"class_weight: a weight is negative, or no number: {pairs}")
        self.table = tensor([pairs.get(label, 1.0) for label in range(max(pairs) + 1)] + [1.0])

    def __call__(self, target: Any, weight: Tensor | None) -> Tensor:
        """Weights of target's labels, times `weight`. target: (N, *S) labels or (N, C) one-hot -> (N, *S)."""
        if not isinstance(target, Tensor):
            raise TypeError(f"class_weight needs a tensor of labels as target, not {type(target).__name__}")
        if target.is_floating_point():
            wide = target.ndim > 1 and target.shape[-1] > 1
            target = target.argmax(-1) if wide else target.round()
        if target.ndim == 2 and target.shape[1] == 1:
            target = target.squeeze(1)
        other = len(self.table) - 1
        labels = target.to(int64)
        labels = labels.where((labels >= 0) & (labels < other), full_like(labels, other))
        self.table = self.table.to(target.device)
        own = self.table[labels]
        return own if weight is None else own * _aligned(weight, own)


class Penalty:
    """l1 sum |w| + l2 sum w^2 over the parameters that `chosen(name, parameter)` takes (Keras' L1L2).

    Without `chosen`: the parameters of two dimensions and more, so neither biases nor the scales of normalisations.
    """

    def __init__(self, l1: float, l2: float, chosen: Callable[[str, Tensor], bool] | None):
        for name, value in (("l1", l1), ("l2", l2)):
            if not value >= 0:
                raise ValueError(f"{name} must be 0 or more, not {value}")
        self.l1, self.l2 = float(l1), float(l2)
        self.chosen = chosen or (lambda name, parameter: parameter.ndim > 1)

    def __call__(self, model: Any) -> Tensor | None:
        """The penalty, (), recorded; None where there is none."""
        if not (self.l1 or self.l2):
            return None
        terms = []
        for name, w in model.named_parameters():
            if w.requires_grad and self.chosen(name, w):
                terms += [self.l1 * w.abs().sum()] if self.l1 else []
                terms += [self.l2 * (w * w).sum()] if self.l2 else []
        return sum(terms[1:], terms[0]) if terms else None
