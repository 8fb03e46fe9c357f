"""Metrics of labels: accuracy, top-k, precision, recall, F1, the confusion matrix."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from typing import Any

from ...autograd.api.creation import full_like, tensor, zeros
from ...autograd.api.join import cat, stack
from ...autograd.dtypes import float64, int64
from ...autograd.tensor import Tensor
from .base import State, counts, ratio, weights_of
from .batches import Classification


class Accuracy(Classification):
    """The share of labels that are right: sum w [pred = target] / sum w, as sklearn.metrics.accuracy_score.

    multilabel: the share of rows whose L labels are all right; ignored ones are not asked, rows without any left count
    nowhere, and sample_weight is (N,).

    >>> accuracy = Accuracy(task="binary", from_logits=False)
    >>> accuracy.update(torch.tensor([0.2, 0.7, 0.9]), torch.tensor([0, 0, 1]), torch.tensor([1.0, 1.0, 2.0]))
    >>> accuracy.compute()
    0.75
    """

    higher_is_better = True

    def sums(self, pred: Tensor, target: Tensor, weight: Tensor | None) -> State:
        rows = self.task == "multilabel"
        p, t, w, good, bad = self._batch(pred, target, None if rows else weight)
        right = p == t
        if rows:
            right = (right | ~good).all(1)
            w = weights_of(self._op, weight, right) * good.any(1)
        return {"sum": (w * right).sum(), "total": w.sum(), "bad": bad}

    def value(self, sums: State) -> float:
        return ratio(sums)


class TopKAccuracy(Classification):
    """The share of targets among the k largest scores, as sklearn.metrics.top_k_accuracy_score; pred: scores.

    Of equal scores the later class counts as larger, as in scikit-learn; a NaN is never among the k.

    >>> top2 = TopKAccuracy(k=2)
    >>> top2.update(torch.tensor([[3.0, 2.0, 1.0], [3.0, 2.0, 1.0]]), torch.tensor([1, 2]))
    >>> top2.compute()
    0.5
    """

    higher_is_better = True

    settings = ("k", *Classification.settings)
    tasks = ("multiclass",)

    def __init__(self, num_classes: int | None = None, *, k: int = 5, **options: Any):
        super().__init__(num_classes, **options)
        if k < 1:
            raise ValueError(f"TopKAccuracy: k must be positive, not {k}")
        self.k = k

    def sums(self, pred: Tensor, target: Tensor, weight: Tensor | None) -> State:
        scores = self._scores(pred, target)
        t, good, bad = self._clean(target)
        weights = weights_of(self._op, weight, target)
        own = scores.gather(-1, t.unsqueeze(-1))
        classes = (zeros(scores.shape[-1], dtype=int64, device=t.device) + 1).cumsum(0) - 1
        later = (scores == own) & (classes > t.unsqueeze(-1))
        rank = ((scores > own) | later).sum(-1)
        own = own.squeeze(-1)
        w = weights.where(good, full_like(weights, 0))
        return {"sum": (w * ((rank < self.k) & (own == own))).sum(), "total": w.sum(), "bad": bad}

    def value(self, sums: State) -> float:
        return ratio(sums)


class ByClass(Classification):
    """Precision, recall and F1: a fraction of each class's weights predicted, true, and both; and its averages.

    average: "binary" (class 1; the default of a binary task), "macro" (mean over classes; else the default), "micro"
    (of the summed weights), "weighted" (mean by true weight), or None: a float64 tensor (C,), with class_names a dict.
    labels: the classes to take; without them those that occur in target or pred, with average=None all.
    zero_division: the value of a fraction over 0: 0, 1, nan (left out of means), or "warn": 0 and a UserWarning.
    task, num_classes, ignore_index, ...: see the module.
    """

    higher_is_better = True

    def __init__(
        self, num_classes: int | None = None, *, average: str | None = "default", zero_division: Any = "warn",
        labels: Sequence[int] | None = None, **options: Any,
    ):  # fmt: skip
        super().__init__(num_classes, **options)
        kind = type(self).__name__
        if average == "default":
            average = "binary" if self.task == "binary" else "macro"
        if average not in ("binary", "micro", "macro", "weighted", None):
            raise ValueError(f"{kind}: average must be binary, micro, macro, weighted or None, not {average!r}")
        if average == "binary" and self.task != "binary":
            raise ValueError(f"{kind}: average='binary' is for task='binary', not {self.task!r}")
        if zero_division != "warn" and zero_division not in (0, 1) and not math.isnan(zero_division):
            raise ValueError(f"{kind}: zero_division must be 'warn', 0, 1 or nan, not {zero_division!r}")
        if labels is not None and (not len(labels) or average == "binary"):
            raise ValueError(f"{kind}: labels chooses among classes; it must not be empty, nor average 'binary'")
        self.average, self.zero_division = average, zero_division
        self.labels = None if labels is None else [int(each) for each in labels]

    def sums(self, pred: Tensor, target: Tensor, weight: Tensor | None) -> State:
        p, t, w, good, bad = self._batch(pred, target, weight)
        if self.task == "multilabel":
            both, said, true, seen = ((w * p * t).sum(0), (w * p).sum(0), (w * t).sum(0), good.to(float64).sum(0))
        else:
            if self.num_classes is None:
                raise ValueError(f"{self._op}: labels alone do not say how many classes there are: give num_classes")
            p, t, w, count = p.reshape(-1), t.reshape(-1), w.reshape(-1), good.to(float64).reshape(-1)
            both, said, true, seen = (
                counts(index, of, self.num_classes)
                for index, of in ((t, w * (p == t)), (p, w), (t, w), (cat([p, t]), cat([count, count])))
            )
        return {"both": both, "predicted": said, "true": true, "seen": seen, "bad": bad}

    def _nothing(self) -> Any:
        if self.average is None and self.num_classes:
            return self._named(tensor([math.nan] * len(self.labels or range(self.num_classes)), dtype=float64))
        return math.nan

    def fraction(self, both: float, predicted: float, true: float) -> tuple[float, float]:
        """Numerator and denominator."""
        raise TypeError(f"{type(self).__name__} defines no fraction(both, predicted, true)")

    def value(self, sums: State) -> Any:
        seen = sums["seen"].tolist()
        if self.labels is not None:
            chosen = self.labels
            if not all(0 <= label < len(seen) for label in chosen):
                raise ValueError(f"{type(self).__name__}.compute(): labels {chosen} outside 0 .. {len(seen) - 1}")
        elif self.average == "binary":
            chosen = [1] if any(seen) else []
        else:
            every = self.average is None or (self.task == "multilabel" and any(seen))
            chosen = [label for label, count in enumerate(seen) if count or every]
        if not chosen:
            return math.nan
        table = [[sums[name].tolist()[label] for label in chosen] for name in ("both", "predicted", "true")]
        if self.average == "micro":
            table = [[math.fsum(row)] for row in table]
        values = self._divided([self.fraction(*column) for column in zip(*table, strict=True)])
        if self.average is None:
            return self._named(tensor(values, dtype=float64))
        return average_of(values, table[2] if self.average == "weighted" else None)

    def _divided(self, fractions: list[tuple[float, float]]) -> list[float]:
        fill = 0.0 if self.zero_division == "warn" else float(self.zero_division)
        if self.zero_division == "warn" and any(not below for _, below in fractions):
            warnings.warn(
                f"{type(self).__name__} is not defined where its denominator is 0, and was set to 0 there: "
                "zero_division says what it shall be",
                UserWarning,
                stacklevel=5,
            )
        return [above / below if below else fill for above, below in fractions]

    def _named(self, values: Tensor) -> Any:
        if self.class_names is None:
            return values
        names = self.class_names if self.labels is None else [self.class_names[label] for label in self.labels]
        return dict(zip(names, values.tolist(), strict=True))


def average_of(values: Sequence[float], weights: Sequence[float] | None = None) -> float:
    """The mean without NaNs, as scikit-learn: unweighted where the weights are all 0, NaN where nothing is left."""
    pairs = [(v, w) for v, w in zip(values, weights or [1.0] * len(values), strict=True) if not math.isnan(v)]
    total = math.fsum(w for _, w in pairs)
    if not total:
        pairs, total = [(v, 1.0) for v, _ in pairs], float(len(pairs))
    return math.fsum(v * w for v, w in pairs) / total if pairs else math.nan


class Precision(ByClass):
    """Right ones among those predicted: tp / (tp + fp), as sklearn.metrics.precision_score. Averages: see `ByClass`.

    >>> precision = Precision(average=None, class_names=["cat", "dog"])
    >>> precision.update(torch.tensor([0, 0, 1]), torch.tensor([0, 1, 1]))
    >>> precision.compute()
    {'cat': 0.5, 'dog': 1.0}
    """

    def fraction(self, both: float, predicted: float, true: float) -> tuple[float, float]:
        return both, predicted


class Recall(ByClass):
    """Right ones among those there are: tp / (tp + fn), as sklearn.metrics.recall_score. Averages: see `ByClass`.

    >>> recall = Recall(task="binary")
    >>> recall.update(torch.tensor([2.0, -1.0, 3.0]), torch.tensor([1, 1, 0]))
    >>> recall.compute()
    0.5
    """

    def fraction(self, both: float, predicted: float, true: float) -> tuple[float, float]:
        return both, true


class F1(ByClass):
    """2 tp / (2 tp + fp + fn), as sklearn.metrics.f1_score. Averages: see `ByClass`.

    >>> f1 = F1(num_classes=3, average="micro", ignore_index=-1)
    >>> f1.update(torch.tensor([0, 2, 1, 1]), torch.tensor([0, 2, 2, -1]))
    >>> round(f1.compute(), 4)
    0.6667
    """

    def fraction(self, both: float, predicted: float, true: float) -> tuple[float, float]:
        return 2 * both, predicted + true


class ConfusionMatrix(Classification):
    """Weight of target i predicted as j, float64 (C, C), as sklearn.metrics.confusion_matrix(labels=range(C)).

    multilabel: (L, 2, 2), [[tn, fp], [fn, tp]] for each label. normalize: "true" (rows sum to 1), "pred" (columns),
    "all" or None; 0 where nothing was counted. `table()` is the same as text, with class_names.

    >>> confusion = ConfusionMatrix(class_names=["cat", "dog"])
    >>> confusion.update(torch.tensor([0, 1, 1]), torch.tensor([0, 0, 1]))
    >>> confusion.compute()
    tensor([[1., 1.],
            [0., 1.]], dtype=torch.float64)
    >>> print(confusion.table())
    true \\ pred  cat  dog
    cat            1    1
    dog            0    1
    """

    def __init__(self, num_classes: int | None = None, *, normalize: str | None = None, **options: Any):
        super().__init__(num_classes, **options)
        if normalize not in (None, "true", "pred", "all"):
            raise ValueError(f"ConfusionMatrix: normalize must be true, pred, all or None, not {normalize!r}")
        self.normalize = normalize

    def sums(self, pred: Tensor, target: Tensor, weight: Tensor | None) -> State:
        p, t, w, _, bad = self._batch(pred, target, weight)
        if self.task == "multilabel":
            parts = [(w * a * b).sum(0) for a in (1 - t, t) for b in (1 - p, p)]
            return {"matrix": stack(parts, -1).reshape(-1, 2, 2), "bad": bad}
        if self.num_classes is None:
            raise ValueError(f"{self._op}: labels alone do not say how many classes there are: give num_classes")
        size = self.num_classes
        matrix = counts((t * size + p).reshape(-1), w.reshape(-1), size * size)
        return {"matrix": matrix.reshape(size, size), "bad": bad}

    def value(self, sums: State) -> Tensor:
        matrix = sums["matrix"]
        dims = {"true": (-1,), "pred": (-2,), "all": (-2, -1)}
        if self.normalize is None:
            return matrix
        total = matrix.sum(dims[self.normalize], keepdim=True)
        return matrix / total.where(total != 0, full_like(total, 1))

    def _nothing(self) -> Any:
        size = self.num_classes or 0
        return zeros((size, 2, 2) if self.task == "multilabel" else (size, size), dtype=float64)

    def table(self) -> str:
        """Text with a row for each target and a column for each prediction; not for multilabel."""
        if self.task == "multilabel":
            raise ValueError("ConfusionMatrix.table(): a multilabel task has a matrix for each label")
        rows = [[f"{each:.4g}" for each in row] for row in self.compute().tolist()]
        names = self.class_names or [str(i) for i in range(len(rows))]
        lines = [["true \\ pred", *names], *([name, *row] for name, row in zip(names, rows, strict=True))]
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        return "\n".join(
            "  ".join([line[0].ljust(widths[0]), *(x.rjust(n) for x, n in zip(line[1:], widths[1:], strict=True))])
            for line in lines
        )
