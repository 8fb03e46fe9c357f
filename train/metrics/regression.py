"""Metrics of numbers: mean errors and R2, with several outputs."""

from __future__ import annotations

import math
import warnings
from typing import Any

from ...autograd.api.creation import full_like, tensor
from ...autograd.dtypes import float64
from ...autograd.tensor import Tensor
from .base import Metric, State, weights_of


class Regression(Metric):
    """What they share. pred, target: (N,) or (N, D) real, of the same shape; further dimensions are outputs too.

    multioutput: "uniform_average" (the mean of the outputs' values) or "raw_values" (float64 tensor (D,)).
    sample_weight: (N,), or of target's shape (then each output has weights of its own).
    """

    settings: tuple[str, ...] = ("multioutput",)
    averages: tuple[str, ...] = ("uniform_average", "raw_values")

    def __init__(self, *, multioutput: str = "uniform_average", name: str | None = None):
        super().__init__(name=name)
        if multioutput not in self.averages:
            raise ValueError(
                f"{type(self).__name__}: multioutput must be one of {', '.join(self.averages)}, not {multioutput!r}"
            )
        self.multioutput = multioutput

    def _columns(self, pred: Tensor, target: Tensor, weight: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        """pred - target, target and weights, float64 (N, D)."""
        if pred.is_complex() or target.is_complex():
            raise TypeError(f"{self._op}: real numbers are needed, not {pred.dtype} and {target.dtype}")
        if pred.shape != target.shape or not target.ndim:
            raise ValueError(
                f"{self._op}: pred of shape {tuple(pred.shape)} and target of shape {tuple(target.shape)} must be "
                "alike, (N,) or (N, D); a column of predictions loses its dimension by squeeze(1)"
            )
        w, truth = weights_of(self._op, weight, target), target.to(float64)
        shape = (len(target), math.prod(target.shape[1:]))
        return (pred.to(float64) - truth).reshape(shape), truth.reshape(shape), w.reshape(shape)

    def _averaged(self, values: list[float], weights: list[float] | None = None) -> Any:
        if self.multioutput == "raw_values":
            return tensor(values, dtype=float64)
        if not values:
            return math.nan
        weights = weights or [1.0] * len(values)
        return math.fsum(v * w for v, w in zip(values, weights, strict=True)) / math.fsum(weights)


class MAE(Regression):
    """Mean absolute error: sum w |pred - target| / sum w, as sklearn.metrics.mean_absolute_error.

    >>> mae = MAE(multioutput="raw_values")
    >>> mae.update(torch.tensor([[1.0, 2.0], [3.0, 4.0]]), torch.tensor([[0.0, 2.0], [5.0, 0.0]]))
    >>> mae.compute()
    tensor([1.5000, 2.0000], dtype=torch.float64)
    """

    higher_is_better = False

    def each(self, error: Tensor) -> Tensor:
        """The penalty of each error."""
        return error.abs()

    def mean(self, value: float) -> float:
        """What is made of the mean penalty of an output."""
        return value

    def sums(self, pred: Tensor, target: Tensor, weight: Tensor | None) -> State:
        error, _, w = self._columns(pred, target, weight)
        return {"sum": (w * self.each(error)).sum(0), "total": w.sum(0)}

    def result(self, sums: State) -> Any:
        pairs = zip(sums["sum"].tolist(), sums["total"].tolist(), strict=True)
        return self._averaged([self.mean(value / total) if total else math.nan for value, total in pairs])


class MSE(MAE):
    """Mean squared error: sum w (pred - target)^2 / sum w, as sklearn.metrics.mean_squared_error.

    >>> mse = MSE()
    >>> mse.update(torch.tensor([1.0, 2.0]), torch.tensor([0.0, 0.0]))
    >>> mse.compute()
    2.5
    """

    def each(self, error: Tensor) -> Tensor:
        return error * error


class RMSE(MSE):
    """The root of each output's mean squared error, in the target's unit, as sklearn.metrics.root_mean_squared_error.

    >>> rmse = RMSE()
    >>> rmse.update(torch.tensor([3.0]), torch.tensor([0.0]))
    >>> rmse.update(torch.tensor([4.0]), torch.tensor([0.0]))
    >>> round(rmse.compute(), 4)
    3.5355
    """

    def mean(self, value: float) -> float:
        return math.sqrt(value) if value >= 0 else math.nan


class R2(Regression):
    """1 - sum w (target - pred)^2 / sum w (target - mean)^2, as sklearn.metrics.r2_score: variance explained.

    A constant target gives 1 if met exactly, else 0. multioutput may be "variance_weighted" too. NaN, with a
    UserWarning, of fewer than two samples. Mean and spread of the target are joined from batch to batch after Chan,
    Golub and LeVeque (1979), which loses no digits where the mean is far from 0.

    >>> r2 = R2()
    >>> r2.update(torch.tensor([2.5, 0.0]), torch.tensor([3.0, -0.5]))
    >>> r2.update(torch.tensor([2.0, 8.0]), torch.tensor([2.0, 7.0]))
    >>> round(r2.compute(), 4)
    0.9486
    """

    higher_is_better = True

    averages = ("uniform_average", "raw_values", "variance_weighted")

    def sums(self, pred: Tensor, target: Tensor, weight: Tensor | None) -> State:
        error, truth, w = self._columns(pred, target, weight)
        total, count = w.sum(0), full_like(truth, 1).sum(0)
        # means as distances from a first target: equal ones have a spread of exactly 0, far ones lose no digits
        start = truth[0] if len(truth) else full_like(total, 0)
        away = truth - start
        shift = (w * away).sum(0) / _divisor(total)
        spread = (w * (away - shift) ** 2).sum(0)
        return {
            "residual": (w * error * error).sum(0), "total": total, "count": count, "start": start, "shift": shift,
            "spread": spread,
        }  # fmt: skip

    def _joined(self, a: State, b: State) -> State:
        """The sums of two parts, their means and spreads moved to the common mean."""
        joined = {name: a[name] + b[name] for name in a}
        apart = (b["start"] - a["start"]) + (b["shift"] - a["shift"])
        share = b["total"] / _divisor(joined["total"])
        empty = a["total"] == 0  # such a part has no mean
        joined["start"] = b["start"].where(empty, a["start"])
        joined["shift"] = b["shift"].where(empty, a["shift"] + apart * share)
        joined["spread"] = joined["spread"] + apart * apart * a["total"] * share
        return joined

    def result(self, sums: State) -> Any:
        residual, spread, count = (sums[name].tolist() for name in ("residual", "spread", "count"))
        if any(each < 2 for each in count):
            if any(count):
                warnings.warn("R2 is not defined for fewer than two samples, and is NaN", UserWarning, stacklevel=3)
            return math.nan
        values = [1 - r / s if s else float(not r) for r, s in zip(residual, spread, strict=True)]
        weigh = self.multioutput == "variance_weighted" and any(spread)
        return self._averaged(values, spread if weigh else None)


def _divisor(total: Tensor) -> Tensor:
    return total.where(total != 0, full_like(total, 1))
