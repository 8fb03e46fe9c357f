"""Metrics by name, as Keras takes them: `Trainer(..., metrics=["accuracy", "binary_f1"])`."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from ...autograd.api.creation import tensor
from ...autograd.dtypes import float64
from ...autograd.tensor import Tensor
from .base import Metric, State, ratio, weights_of
from .labels import F1, Accuracy, ConfusionMatrix, Precision, Recall, TopKAccuracy
from .regression import MAE, MSE, R2, RMSE
from .scores import ROCAUC, Perplexity

# A fraction over 0 is 0 here, silently: in a first epoch it is no news that a class was never predicted.
_LABELS: dict[str, Callable[..., Metric]] = {
    "accuracy": Accuracy,
    "precision": partial(Precision, zero_division=0),
    "recall": partial(Recall, zero_division=0),
    "f1": partial(F1, zero_division=0),
    "roc_auc": ROCAUC,
    "confusion_matrix": ConfusionMatrix,
}
NAMES: dict[str, Callable[..., Metric]] = {
    **_LABELS,
    **{
        f"{task}_{name}": partial(make, task=task)
        for task in ("binary", "multilabel")
        for name, make in _LABELS.items()
    },
    "acc": Accuracy,
    "auc": ROCAUC,
    "top_k_accuracy": TopKAccuracy,
    **{f"top{k}_accuracy": partial(TopKAccuracy, k=k) for k in (2, 3, 5, 10)},
    "perplexity": Perplexity,
    "mae": MAE,
    "mse": MSE,
    "rmse": RMSE,
    "r2": R2,
}
"""Name -> what makes the metric. "binary_..." and "multilabel_..." are those tasks, on logits; the rest multiclass."""


def by_name(name: str) -> Metric:
    """The metric of that name, which is its name in a history too. ValueError for an unknown one lists the known.

    >>> by_name("binary_accuracy").name
    'binary_accuracy'
    """
    if name not in NAMES:
        raise ValueError(f"no metric is named {name!r}; known are {', '.join(sorted(NAMES))}; or give a Metric")
    return NAMES[name](name=name)


def as_metric(given: Any) -> Metric:
    """A Metric from a Metric, a name, or a function (pred, target) -> () or one number per sample, which is averaged.

    Raises TypeError for anything else, ValueError for an unknown name.
    """
    if isinstance(given, Metric):
        return given
    if isinstance(given, str):
        return by_name(given)
    if callable(given) and not isinstance(given, type):
        return MeanOf(given)
    raise TypeError(f"a metric is a Metric, a name or a function (pred, target), not {given!r}")


class MeanOf(Metric):
    """The mean over samples of function(pred, target) -> (N, *S), or of its means over batches, ().

    >>> bias = MeanOf(lambda pred, target: pred - target, name="bias")
    >>> bias.update(torch.tensor([1.0, 2.0]), torch.tensor([0.0, 0.0]))
    >>> bias.update(torch.tensor([6.0]), torch.tensor([0.0]))
    >>> bias.compute()
    3.0
    """

    def __init__(self, function: Callable[[Tensor, Tensor], Tensor], *, name: str | None = None):
        super().__init__(name=name or getattr(function, "__name__", type(function).__name__).strip("<>"))
        self.function = function

    def sums(self, pred: Tensor, target: Tensor, weight: Tensor | None) -> State:
        values = self.function(pred, target)
        if not isinstance(values, Tensor):
            values = tensor(values, dtype=float64, device=pred.device)
        if not values.ndim:
            values = values.expand(len(target))
        weights = weights_of(self._op, weight, values)
        return {"sum": (weights * values.to(float64)).sum(), "total": weights.sum()}

    def result(self, sums: State) -> float:
        return ratio(sums)
