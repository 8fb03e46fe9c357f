"""`EarlyStopping`: no more epochs where they do not help."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from .base import Watching

if TYPE_CHECKING:
    from ..trainer import Trainer


class EarlyStopping(Watching):
    """Ends the training when `monitor` has not become better by more than `min_delta` for `patience` epochs.

    Args:
        monitor, mode: what to watch; "min", "max", or "auto": by the metric.
        min_delta: the least change that counts. patience: epochs to wait; 0 stops at the first without a better value.
        baseline: a value that must be passed within `patience` epochs.
        restore_best: at the end the model gets the weights of its best epoch (a copy is kept, in checkpoints too).
        start_from_epoch: the first epoch, from 0, that is looked at.
        check_finite: a NaN or infinite value ends the training at once.

    `best`, `best_epoch` and `stopped_epoch` (None without a stop) say what was found. The rules are Keras'.
    """

    def __init__(
        self, monitor: str = "val_loss", min_delta: float = 0.0, patience: int = 0, mode: str = "auto",
        baseline: float | None = None, restore_best: bool = False, start_from_epoch: int = 0,
        check_finite: bool = True,
    ):  # fmt: skip
        super().__init__(monitor, mode, min_delta)
        if patience < 0:
            raise ValueError(f"EarlyStopping: patience must be 0 or more, not {patience}")
        self.patience, self.baseline, self.restore_best = patience, baseline, restore_best
        self.start_from_epoch, self.check_finite = start_from_epoch, check_finite
        self._forget()

    def _forget(self) -> None:
        self.waited = 0
        self.best: float | None = None
        self.best_epoch: int | None = None
        self.stopped_epoch: int | None = None
        self._weights: dict[str, Any] | None = None

    def on_fit_start(self, trainer: Trainer) -> None:
        super().on_fit_start(trainer)
        if not trainer.step:  # a new training, not one that goes on
            self._forget()

    def on_epoch_end(self, trainer: Trainer, logs: dict[str, Any]) -> None:
        value = self.value(logs)
        if value is None or trainer.epoch < self.start_from_epoch:
            return
        if self.check_finite and not math.isfinite(value):
            self._stop(trainer)
            return
        self.waited += 1
        if self.better(value, self.best):
            self.best, self.best_epoch = value, trainer.epoch
            if self.restore_best:
                self._weights = {name: t.detach().clone() for name, t in trainer.model.state_dict().items()}
            if self.baseline is None or self.better(value, self.baseline):
                self.waited = 0
                return
        if self.waited >= self.patience and trainer.epoch > 0:
            self._stop(trainer)

    def _stop(self, trainer: Trainer) -> None:
        self.stopped_epoch = trainer.epoch
        trainer.stop = True

    def on_fit_end(self, trainer: Trainer) -> None:
        if self._weights is not None:
            trainer.model.load_state_dict(self._weights)

    def state_dict(self) -> dict[str, Any]:
        names = ("waited", "best", "best_epoch", "stopped_epoch", "_weights")
        return {name: getattr(self, name) for name in names}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        vars(self).update(state)
