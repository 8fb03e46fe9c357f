"""Files of a training's epochs: all, some, or the best."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ...serialization import save
from .base import Watching

if TYPE_CHECKING:
    from ..trainer import Trainer


class ModelCheckpoint(Watching):
    """Writes a file after an epoch.

    Args:
        path: its name, with `{epoch:03d}` (from 1) and the epoch's results (`{val_loss:.3f}`) filled in.
        monitor, mode: what the best is; "min", "max", or "auto": by the metric. Only looked at with save_best_only.
        save_best_only: only after epochs better than all before.
        save_weights_only: the model's state_dict alone, for `model.load_state_dict(torch.load(path))`; else all that
            `fit(resume=path)` needs.
        every: only after every so many epochs. keep: how many files to keep, the newest; older ones are removed.

    `best`, `best_path` and `last_path` say what was found and written.
    """

    def __init__(
        self, path: str | os.PathLike[str], monitor: str = "val_loss", mode: str = "auto",
        save_best_only: bool = False, save_weights_only: bool = False, every: int = 1, keep: int | None = None,
    ):  # fmt: skip
        super().__init__(monitor, mode)
        for name, value in (("every", every), ("keep", 1 if keep is None else keep)):
            if value < 1:
                raise ValueError(f"{type(self).__name__}: {name} must be positive, not {value}")
        if not save_best_only:
            self.monitor = None  # type: ignore[assignment]  # nothing is looked for
        self.path, self.save_best_only, self.save_weights_only = os.fspath(path), save_best_only, save_weights_only
        self.every, self.keep = every, keep
        self._forget()

    def _forget(self) -> None:
        self.best: float | None = None
        self.best_path: str | None = None
        self.last_path: str | None = None
        self.written: list[str] = []

    def on_fit_start(self, trainer: Trainer) -> None:
        if self.save_best_only:
            super().on_fit_start(trainer)
        if not trainer.step:
            self._forget()

    def on_epoch_end(self, trainer: Trainer, logs: dict[str, Any]) -> None:
        self._remove_old()
        if (trainer.epoch + 1) % self.every:
            return
        if self.save_best_only:
            value = self.value(logs)
            if value is None or not self.better(value, self.best):
                return
            self.best = value
        path = self.path.format(**{**logs, "epoch": trainer.epoch + 1})
        self.last_path = path
        if self.save_best_only:
            self.best_path = path
        self.written = [*(each for each in self.written if each != path), path]
        if self.save_weights_only:
            if folder := os.path.dirname(path):
                os.makedirs(folder, exist_ok=True)
            save(trainer.model.state_dict(), path)
        else:
            trainer.save_checkpoint(path)

    def on_fit_end(self, trainer: Trainer) -> None:
        self._remove_old()

    def _remove_old(self) -> None:
        """What is too much; called when the newest file is there, since a checkpoint is written after the epoch."""
        while self.keep is not None and len(self.written) > self.keep:
            with contextlib.suppress(FileNotFoundError):
                os.remove(self.written.pop(0))

    def state_dict(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in ("best", "best_path", "last_path", "written")}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        vars(self).update(state)
        self.written = list(self.written)


class BestCheckpoint(ModelCheckpoint):
    """The best epoch's checkpoint, in one file: `ModelCheckpoint(path, monitor, mode, save_best_only=True)`."""

    def __init__(
        self, path: str | os.PathLike[str], monitor: str = "val_loss", mode: str = "auto",
        save_weights_only: bool = False,
    ):  # fmt: skip
        super().__init__(path, monitor, mode, save_best_only=True, save_weights_only=save_weights_only)
