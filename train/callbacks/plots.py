"""`LivePlot`: the curves while they grow."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ..history import new_figure
from .base import Callback

if TYPE_CHECKING:
    from ..trainer import Trainer


class LivePlot(Callback):
    """`History.plot` after every `every` epochs: into the file `path`, or in a window where path is None.

    names: which quantities; all by default. A window needs an interactive backend of matplotlib. An extra:
    `pip install 'tapegrad[plot]'`; ImportError without, when it is made.
    """

    def __init__(
        self, path: str | os.PathLike[str] | None = "training.png", names: Sequence[str] | None = None, every: int = 1
    ):
        self.path, self.names, self.every = path, names, every
        self.figure: Any = new_figure()

    def on_fit_start(self, trainer: Trainer) -> None:
        if self.path is None:
            from matplotlib import pyplot

            pyplot.ion()
            self.figure = pyplot.figure("training")

    def on_epoch_end(self, trainer: Trainer, logs: dict[str, Any]) -> None:
        if (trainer.epoch + 1) % self.every == 0:
            self._draw(trainer)

    def on_fit_end(self, trainer: Trainer) -> None:
        if len(trainer.history):
            self._draw(trainer)

    def _draw(self, trainer: Trainer) -> None:
        trainer.history.plot(self.names, self.path, self.figure)
        if self.path is None:
            self.figure.canvas.draw_idle()
            self.figure.canvas.start_event_loop(0.001)  # the window's events
