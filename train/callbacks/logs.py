"""An epoch's results for others to read: CSV, TensorBoard, the learning rate among them."""

from __future__ import annotations

import csv
import io
import json
import os
from typing import TYPE_CHECKING, Any

from ...utils.files import replacing
from .base import Callback

if TYPE_CHECKING:
    from ..trainer import Trainer


class CSVLogger(Callback):
    """The history as a CSV file: a column "epoch" (from 0, as in Keras) and one per quantity, a row per epoch.

    Written anew, whole, after each epoch, so that it has neither gaps nor repeated rows after a resume.
    """

    def __init__(self, path: str | os.PathLike[str], separator: str = ","):
        self.path, self.separator = os.fspath(path), separator

    def on_epoch_end(self, trainer: Trainer, logs: dict[str, Any]) -> None:
        history = trainer.history
        text = io.StringIO(newline="")
        writer = csv.writer(text, delimiter=self.separator, lineterminator="\n")
        writer.writerow(["epoch", *history])
        for row, epoch in enumerate(history.epoch):
            writer.writerow([epoch, *(_cell(history[name][row]) for name in history)])
        with replacing(self.path) as file:
            file.write(text.getvalue().encode())


def _cell(value: Any) -> Any:
    return "" if value is None else value if isinstance(value, (int, float)) else json.dumps(value)


class LearningRateMonitor(Callback):
    """The learning rate of each epoch's last step, as "lr"; of several parameter groups "lr_0", "lr_1", ..."""

    def __init__(self, groups: int = 1):
        self.adds = ("lr",) if groups == 1 else tuple(f"lr_{i}" for i in range(groups))
        self._last: list[float] = []

    def on_fit_start(self, trainer: Trainer) -> None:
        found = len(trainer.optimizer.param_groups)
        if found != len(self.adds):
            raise ValueError(f"LearningRateMonitor(groups={len(self.adds)}), but the optimizer has {found} groups")

    def on_epoch_log(self, trainer: Trainer, logs: dict[str, Any]) -> None:
        rates = [float(group["lr"]) for group in trainer.optimizer.param_groups]
        logs.update(zip(self.adds, rates, strict=True))


class TensorBoard(Callback):
    """An epoch's results for TensorBoard: scalars "loss/train" and "loss/validation", and so on, over epochs from 0.

    Args:
        folder: where the event files go. every_steps: also the batch's loss, "loss/step", every so many steps (it waits
            for the device then). histograms: of all parameters, after each epoch.

    An extra: `pip install 'tapegrad[tensorboard]'`; ImportError without, when it is made. After a resume a new event
    file takes over from the epoch resumed in.
    """

    def __init__(self, folder: str | os.PathLike[str], every_steps: int | None = None, histograms: bool = False):
        from ...utils import tensorboard

        self.folder, self.every_steps, self.histograms = os.fspath(folder), every_steps, histograms
        self._make: Any = tensorboard.SummaryWriter  # ImportError here, not after hours
        self._writer: Any = None

    def on_fit_start(self, trainer: Trainer) -> None:
        self._writer = self._make(self.folder, purge_step=trainer.epoch if trainer.step else None)

    def on_step_end(self, trainer: Trainer) -> None:
        if self.every_steps and trainer.step % self.every_steps == 0:
            self._writer.add_scalar("loss/step", trainer.last_loss, trainer.step)

    def on_epoch_end(self, trainer: Trainer, logs: dict[str, Any]) -> None:
        for name, value in logs.items():
            if isinstance(value, (int, float)):
                own = name.removeprefix("val_")
                self._writer.add_scalar(f"{own}/{'train' if own == name else 'validation'}", value, trainer.epoch)
        if self.histograms:
            for name, parameter in trainer.model.named_parameters():
                self._writer.add_histogram(f"parameters/{name}", parameter.detach(), trainer.epoch)
        self._writer.flush()

    def on_fit_end(self, trainer: Trainer) -> None:
        self._writer.close()

    def on_exception(self, trainer: Trainer, error: BaseException) -> None:
        if self._writer is not None:
            self._writer.close()
