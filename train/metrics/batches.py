"""What the classification metrics share: their arguments, and how a batch becomes labels and weights."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from ...autograd.api.creation import full_like
from ...autograd.dtypes import float64, int64
from ...autograd.tensor import Tensor
from .base import Metric, State, weights_of


class Classification(Metric):
    """What the classification metrics share: arguments (see the module), and batches made into labels and weights."""

    settings: tuple[str, ...] = ("task", "num_classes", "threshold", "from_logits", "ignore_index", "class_dim")
    tasks: tuple[str, ...] = ("multiclass", "binary", "multilabel")

    def __init__(
        self, num_classes: int | None = None, *, task: str = "multiclass", threshold: float = 0.5,
        from_logits: bool = True, ignore_index: int | None = None, class_dim: int = 1,
        class_names: Sequence[str] | None = None, name: str | None = None,
    ):  # fmt: skip
        super().__init__(name=name)
        kind = type(self).__name__
        if task not in self.tasks:
            raise ValueError(f"{kind}: task must be one of {', '.join(self.tasks)}, not {task!r}")
        if not 0 < threshold < 1:
            raise ValueError(f"{kind}: threshold is on probabilities, between 0 and 1, not {threshold}")
        if task == "binary":
            if num_classes not in (None, 2):
                raise ValueError(f"{kind}: a binary task has 2 classes, not {num_classes}")
            num_classes = 2
        self.class_names = None if class_names is None else [str(each) for each in class_names]
        if self.class_names is not None:
            num_classes = len(self.class_names) if num_classes is None else num_classes
            if len(self.class_names) != num_classes:
                raise ValueError(f"{kind}: {len(self.class_names)} class_names for {num_classes} classes")
        if num_classes is not None and num_classes < 1:
            raise ValueError(f"{kind}: num_classes must be positive, not {num_classes}")
        self.task, self.num_classes, self.threshold, self.from_logits = task, num_classes, threshold, from_logits
        self.ignore_index, self.class_dim = ignore_index, class_dim

    def result(self, sums: State) -> Any:
        if bad := sums["bad"].item():
            raise ValueError(
                f"{self._op}: {bad:.0f} labels were outside 0 .. {(self.num_classes or 0) - 1}; "
                "give ignore_index for those that mark missing targets"
            )
        return self.value(sums)

    def value(self, sums: State) -> Any:
        raise TypeError(f"{type(self).__name__} defines no value(sums)")

    def _scores(self, pred: Tensor, target: Tensor) -> Tensor:
        """Scores with the classes last: (*target.shape, C)."""
        if not pred.is_floating_point():
            raise TypeError(f"{self._op}: scores are needed, floating, not {pred.dtype}")
        axis = self.class_dim if self.class_dim >= 0 else pred.ndim + self.class_dim
        if not 0 <= axis < pred.ndim or pred.shape[:axis] + pred.shape[axis + 1 :] != target.shape:
            raise ValueError(
                f"{self._op}: scores of shape {tuple(pred.shape)} with the classes in dimension {self.class_dim} need "
                f"a target of that shape without it, not {tuple(target.shape)}"
            )
        self._sized(pred.shape[axis])
        return pred.movedim(axis, -1)

    def _sized(self, found: int) -> None:
        """Takes the number of classes from the first batch; later ones must agree."""
        if self.num_classes not in (None, found):
            raise ValueError(f"{self._op}: {found} columns of scores, but num_classes is {self.num_classes}")
        self.num_classes = found

    def _marks(self, pred: Tensor, target: Tensor) -> Tensor:
        """0 and 1 of a binary or multilabel pred, from scores or as given."""
        self._same_shape(pred, target)
        if not pred.is_floating_point():
            return pred
        edge = math.log(self.threshold / (1 - self.threshold)) if self.from_logits else self.threshold
        return pred > edge

    def _same_shape(self, pred: Tensor, target: Tensor) -> None:
        if pred.shape != target.shape:
            raise ValueError(
                f"{self._op}: pred of shape {tuple(pred.shape)} and target of shape {tuple(target.shape)} must be "
                "alike; a column of scores loses its dimension by squeeze(1)"
            )
        if self.task == "multilabel":
            if target.ndim != 2:
                raise ValueError(f"{self._op}: multilabel needs (N, L), not {tuple(target.shape)}")
            self._sized(target.shape[1])

    def _predicted(self, pred: Tensor, target: Tensor) -> Tensor:
        """Labels of target's shape, by the task."""
        if pred.is_complex():
            raise TypeError(f"{self._op}: pred is {pred.dtype}; scores or labels are needed")
        if self.task != "multiclass":
            return self._marks(pred, target)
        if pred.is_floating_point():
            return self._scores(pred, target).argmax(-1)
        self._same_shape(pred, target)
        return pred

    def _clean(self, target: Tensor, what: str = "target") -> tuple[Tensor, Tensor, Tensor]:
        """(labels with 0 for those that do not count, which count, how many were out of range).

        Targets of binary and multilabel tasks may be floating, 0.0 and 1.0, as the losses of these tasks take them.
        """
        floating = target.is_floating_point()
        if target.is_complex() or (floating and self.task == "multiclass"):
            raise TypeError(f"{self._op}: {what} holds labels, integer or bool, not {target.dtype}")
        labels = (target == 1 if floating else target).to(int64)
        classes = 2 if self.task == "multilabel" else self.num_classes
        if what == "target" and self.ignore_index is not None:
            valid = (target if floating else labels) != self.ignore_index
        else:
            valid = full_like(labels, 1).bool()
        if floating:
            bad = valid & (target != 0) & (target != 1)
        else:
            bad = valid & ((labels < 0) | (labels >= classes)) if classes else valid & False
        if bad.device.type == "cpu" and bad.any():
            seen, wanted = target[bad], "0.0 and 1.0" if floating else f"0 .. {(classes or 0) - 1}"
            raise ValueError(
                f"{self._op}: {what} has labels from {seen.min().item()} to {seen.max().item()} outside {wanted}; "
                "give ignore_index for those that mark missing targets"
            )
        good = valid & ~bad
        return labels.where(good, full_like(labels, 0)), good, bad.sum().to(float64)

    def _batch(
        self, pred: Tensor, target: Tensor, weight: Tensor | None
    ) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """(predicted labels, target labels, weights with 0 for ignored ones, which count, number of bad labels)."""
        predicted = self._predicted(pred, target)
        weights = weights_of(self._op, weight, target)
        t, good, bad = self._clean(target)
        p = predicted.to(int64)
        if not pred.is_floating_point():  # labels; those of scores are in range
            p, fine, wrong = self._clean(predicted.where(good, full_like(predicted, 0)), "pred")
            good, bad = good & fine, bad + wrong
        return p, t, weights.where(good, full_like(weights, 0)), good, bad
