"""Metrics of scores: the area under the ROC curve, and perplexity."""

from __future__ import annotations

import itertools
import math
import warnings
from typing import Any

from ...autograd.api.creation import full_like, tensor, zeros
from ...autograd.api.join import cat, stack
from ...autograd.api.masked import searchsorted
from ...autograd.dtypes import float32, float64
from ...autograd.modes import no_grad
from ...autograd.tensor import Tensor
from .base import State, on_host, ratio, weights_of
from .batches import Classification


class ROCAUC(Classification):
    """Area under the ROC curve, exact, as sklearn.metrics.roc_auc_score: it keeps every score, in float32 or float64.

    The chance that a positive has a larger score than a negative, ties counting half; by weights, the sum over pairs
    (i positive, j negative) of w_i w_j ([s_i > s_j] + [s_i = s_j] / 2), over that of w_i w_j. Sorted on the device.

    pred: scores, floating. binary and multilabel: logits or probabilities alike. multiclass: softmax is taken where
    `from_logits`; multi_class "ovr" (each class against the rest) or "ovo" (the mean over pairs of classes that occur).
    average: "macro", "weighted" (by true weight), "micro" (all columns as one; not with ovo), None (each column; not
    with ovo); a binary task has one value. NaN, with a UserWarning, where a class has no sample or all of them.
    Memory: 4 (float32) or 8 bytes for each score, 8 for each label and 8 for each weight.

    >>> auc = ROCAUC(task="binary")
    >>> auc.update(torch.tensor([0.1, 0.4]), torch.tensor([0, 0]))
    >>> auc.update(torch.tensor([0.35, 0.8]), torch.tensor([1, 1]))
    >>> auc.compute()
    0.75
    """

    higher_is_better = True

    def __init__(
        self, num_classes: int | None = None, *, average: str | None = "macro", multi_class: str = "ovr", **options: Any
    ):
        super().__init__(num_classes, **options)
        if average not in ("micro", "macro", "weighted", None) or multi_class not in ("ovr", "ovo"):
            raise ValueError(
                "ROCAUC: average must be micro, macro, weighted or None and multi_class ovr or ovo, "
                f"not {average!r} and {multi_class!r}"
            )
        if self.task == "multiclass" and multi_class == "ovo" and average not in ("macro", "weighted"):
            raise ValueError(f"ROCAUC: average={average!r} is not defined for multi_class='ovo'")
        self.average, self.multi_class, self._parts = average, multi_class, list[State]()

    def reset(self) -> None:
        super().reset()
        self._parts = []

    def sums(self, pred: Tensor, target: Tensor, weight: Tensor | None) -> State:
        if not pred.is_floating_point():
            raise TypeError(f"{self._op}: scores are needed, floating, not {pred.dtype}")
        if weight is not None and self.task == "multiclass" and self.multi_class == "ovo":
            raise ValueError(f"{self._op}: sample_weight has no meaning for multi_class='ovo', as in scikit-learn")
        scores = pred.to(float64 if pred.dtype == float64 else float32)
        if self.task == "multiclass":
            scores = self._scores(scores, target)
            scores = (scores.softmax(-1) if self.from_logits else scores).reshape(-1, scores.shape[-1])
        else:
            self._same_shape(pred, target)
        t, good, bad = self._clean(target)
        w = weights_of(self._op, weight, target)
        w = w.where(good, full_like(w, 0))
        width = target.shape[1:] if self.task == "multilabel" else ()
        scores = scores if self.task == "multiclass" else scores.reshape(-1, *width)
        t, w = t.reshape(-1, *width), w.reshape(-1, *width)
        return {"score": scores, "target": t, "weight": w, "bad": bad.reshape(1)}

    def _absorb(self, part: State) -> None:
        self._parts = [*self._parts, part]

    def _gathered(self) -> State:
        """All parts as one, on the device of the last, which from then on is the only one."""
        if len(self._parts) > 1:
            last = self._parts[-1]
            self._parts = [{name: cat([part[name].to(last[name].device) for part in self._parts]) for name in last}]
        return self._parts[0] if self._parts else {}

    def compute(self) -> Any:
        state = self._gathered()
        if not state:
            return math.nan
        with no_grad():
            problems = [_areas(*problem) for problem in self._problems(state)]
            sums = {name: stack([each[name] for each in problems]) for name in ("area", "positive", "negative", "nan")}
            return self.result(on_host({**sums, "bad": state["bad"].sum()}))

    def _problems(self, state: State) -> list[tuple[Tensor, Tensor, Tensor]]:
        """The binary problems whose areas are asked: (scores, positive or not, weights), each (n,)."""
        score, target, weight = state["score"], state["target"], state["weight"]
        if self.task == "binary":
            return [(score, target == 1, weight)]
        columns = range(score.shape[1])
        if self.task == "multilabel":
            truth, weights = target == 1, weight
        else:
            truth, weights = stack([target == c for c in columns], 1), weight.unsqueeze(1).expand(score.shape)
        if self.task == "multiclass" and self.multi_class == "ovo":
            return [
                (score[:, own], truth[:, own], weight * (truth[:, own] | truth[:, other]))
                for pair in itertools.combinations(columns, 2)
                for own, other in (pair, pair[::-1])
            ]
        if self.average == "micro":
            return [(score.reshape(-1), truth.reshape(-1), weights.reshape(-1))]
        return [(score[:, c], truth[:, c], weights[:, c]) for c in columns]

    def value(self, sums: State) -> Any:
        if any(sums["nan"].tolist()):
            raise ValueError(f"{self._op}: pred holds NaN, which has no rank")
        area, positive, negative = (sums[name].tolist() for name in ("area", "positive", "negative"))
        if not any(positive) and not any(negative):
            return math.nan
        columns = list(zip(area, positive, negative, strict=True))
        if self.task == "multiclass" and self.multi_class == "ovo":
            columns = [each for each in columns if each[1] and each[2]]  # pairs of classes that both occur
        values = [a / (p * n) if p and n else math.nan for a, p, n in columns]
        if any(map(math.isnan, values)) or not values:
            warnings.warn(
                "ROCAUC is not defined where only one class occurs, and is NaN there", UserWarning, stacklevel=4
            )
        if self.average is None and self.task != "binary":
            named = self.class_names and dict(zip(self.class_names, values, strict=True))
            return named or tensor(values, dtype=float64)
        if self.average != "weighted" or len(values) < 2:
            return math.fsum(values) / len(values) if values else math.nan
        ovo = self.task == "multiclass" and self.multi_class == "ovo"
        weights = [p + n if ovo else p for _, p, n in columns]
        total = math.fsum(weights)
        return math.fsum(v * w for v, w in zip(values, weights, strict=True) if w) / total if total else 0.0


def _areas(score: Tensor, positive: Tensor, weight: Tensor) -> State:
    """Of one binary problem: the sum over pairs, the weights of both sides, whether a score is NaN.

    score, positive, weight: (n,). The positives above a score are found by their cumulated weights in sorted order;
    looking up both ends of each run of equal scores gives those that tie.
    """
    order = score.argsort()
    ranked = score[order]
    ups = (weight * positive)[order]
    downs = (weight * ~positive)[order]
    cumulated = cat([zeros(1, dtype=float64, device=score.device), ups.cumsum(0)])
    below = cumulated[searchsorted(ranked, ranked)]
    upto = cumulated[searchsorted(ranked, ranked, right=True)]
    pairs = downs * (cumulated[-1] - (upto + below) / 2)
    nan = (score.isnan() & (weight != 0)).any()
    return {"area": pairs.sum(), "positive": ups.sum(), "negative": downs.sum(), "nan": nan}


class Perplexity(Classification):
    """exp of the mean negative log-likelihood per token: exp(-sum w log p(target) / sum w).

    pred: logits (from_logits=False: probabilities), floating, with the vocabulary in class_dim, the last unless told:
    (*S, V); target: (*S) int, those equal to ignore_index (-100) left out. Log-likelihoods are taken in pred's
    precision (float32 for half), their sums in float64. Infinite above exp(709).

    >>> perplexity = Perplexity(ignore_index=0)
    >>> perplexity.update(torch.zeros(2, 3, 8), torch.tensor([[1, 2, 3], [4, 0, 0]]))
    >>> round(perplexity.compute(), 4)
    8.0
    """

    higher_is_better = False

    tasks = ("multiclass",)

    def __init__(
        self, num_classes: int | None = None, *, ignore_index: int | None = -100, class_dim: int = -1, **options: Any
    ):
        super().__init__(num_classes, ignore_index=ignore_index, class_dim=class_dim, **options)

    def sums(self, pred: Tensor, target: Tensor, weight: Tensor | None) -> State:
        scores = self._scores(pred, target)
        scores = scores.to(float64 if scores.dtype == float64 else float32)
        t, good, bad = self._clean(target)
        w = weights_of(self._op, weight, target)
        own = scores.gather(-1, t.unsqueeze(-1)).squeeze(-1)
        loss = scores.logsumexp(-1) - own if self.from_logits else -own.log()
        loss = loss.to(float64) * w
        nothing = full_like(w, 0)  # not times 0: an ignored loss may be infinite
        return {"sum": loss.where(good, nothing).sum(), "total": w.where(good, nothing).sum(), "bad": bad}

    def value(self, sums: State) -> float:
        try:
            return math.exp(ratio(sums))
        except OverflowError:
            return math.inf
