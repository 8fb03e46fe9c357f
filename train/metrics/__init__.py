"""Metrics accumulated over batches, equal to scikit-learn's on the whole set.

A metric keeps sums, in float64 and on the device of the batches, so that a result does not depend on how the data were
cut into batches, and memory does not grow; `ROCAUC` alone keeps every score, since its definition ranks them all.
`update` never waits for a device, `compute` reads from it once.

>>> f1 = F1(average="macro")
>>> for logits, labels in [([[2.0, 1.0], [0.0, 1.0]], [0, 1]), ([[3.0, 0.0]], [1])]:
...     f1.update(torch.tensor(logits), torch.tensor(labels))
>>> round(f1.compute(), 4)
0.6667

What the classification metrics read is stated by `task`:

- "multiclass" (default): `pred` holds scores (logits or probabilities: the largest wins, the first of equal ones),
  floating, (N, C) or (N, C, *S) with the classes in `class_dim`, or labels, integer, (N, *S); `target` labels
  0 .. C - 1, (N, *S).
- "binary": `pred` holds a score per element, floating, which `threshold` (on probabilities) makes 0 or 1, logits where
  `from_logits` (default), else probabilities; or labels 0 and 1, integer or bool. `target` labels 0 and 1, same shape,
  also floating (0.0 and 1.0), as BCEWithLogitsLoss takes them.
- "multilabel": as binary, both (N, L): L independent questions.

`num_classes` is learnt from the first scores; where `pred` holds labels it must be given, or `class_names`. Elements
whose target is `ignore_index` count nowhere. `sample_weight` is (N,) or of the target's shape. Without a single sample
the result is NaN (scikit-learn: an error). A label outside 0 .. C - 1 raises ValueError, in `update` on the CPU;
elsewhere, where looking would wait for the device, in `compute`.

Several processes each send their `state_dict()` to one, which gives it to `merge`.
"""

from __future__ import annotations

from .base import Metric as Metric
from .labels import F1 as F1
from .labels import Accuracy as Accuracy
from .labels import ConfusionMatrix as ConfusionMatrix
from .labels import Precision as Precision
from .labels import Recall as Recall
from .labels import TopKAccuracy as TopKAccuracy
from .names import NAMES as NAMES
from .names import MeanOf as MeanOf
from .names import by_name as by_name
from .regression import MAE as MAE
from .regression import MSE as MSE
from .regression import R2 as R2
from .regression import RMSE as RMSE
from .scores import ROCAUC as ROCAUC
from .scores import Perplexity as Perplexity
