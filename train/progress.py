"""What is seen while it trains: a line per epoch, or a bar by tqdm or rich."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from ..utils.extras import require

INTERVAL = 0.1  # seconds between two looks at the loss, which wait for a device

Read = Callable[[], float]


class Silent:
    """Shows nothing. The others write the same five methods."""

    def __init__(self, epochs: int):
        self.epochs = epochs

    def start(self, epoch: int, done: int, total: int | None) -> None:
        """An epoch begins, or goes on after `done` of `total` batches."""

    def update(self, batches: int, read: Read) -> None:
        """That many more batches are done; `read()` gives the loss so far."""

    def finish(self, epoch: int, logs: Mapping[str, Any]) -> None:
        """The epoch is over."""

    def close(self) -> None:
        """The training is over, or was broken off."""


class Lines(Silent):
    """epoch 1/10: loss 0.6931, accuracy 0.5000 (0.8 s)"""

    def start(self, epoch: int, done: int, total: int | None) -> None:
        self._began = time.perf_counter()

    def finish(self, epoch: int, logs: Mapping[str, Any]) -> None:
        seconds = time.perf_counter() - self._began
        print(f"epoch {epoch + 1}/{self.epochs}: {text(logs)} ({seconds:.1f} s)", flush=True)


class _Bar(Silent):
    _last = 0.0

    def update(self, batches: int, read: Read) -> None:
        self._pending += batches
        now = time.perf_counter()
        if now - self._last >= INTERVAL:
            self._last = now
            self.show(f"loss {read():.4f}")

    def show(self, words: str) -> None:
        raise TypeError(f"{type(self).__name__} defines no show(words)")

    def _begin(self) -> None:
        self._pending = 0


class Tqdm(_Bar):
    """A bar per epoch, by tqdm."""

    def __init__(self, epochs: int):
        super().__init__(epochs)
        self._make: Any = require("tqdm", "progress", "progress='tqdm' needs").tqdm
        self._bar: Any = None

    def start(self, epoch: int, done: int, total: int | None) -> None:
        self._begin()
        self._bar = self._make(total=total, initial=done, desc=f"epoch {epoch + 1}/{self.epochs}", unit="batch")

    def show(self, words: str) -> None:
        self._bar.set_postfix_str(words, refresh=False)
        self._bar.update(self._pending)
        self._pending = 0

    def finish(self, epoch: int, logs: Mapping[str, Any]) -> None:
        self.show(text(logs))
        self.close()

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None


class Rich(_Bar):
    """A bar per epoch, by rich."""

    def __init__(self, epochs: int):
        super().__init__(epochs)
        rich = require("rich.progress", "progress", "progress='rich' needs")
        columns = (
            rich.TextColumn("{task.description}"), rich.BarColumn(), rich.MofNCompleteColumn(),
            rich.TimeElapsedColumn(), rich.TextColumn("{task.fields[words]}"),
        )  # fmt: skip
        self._bars: Any = rich.Progress(*columns)
        self._task: Any = None

    def start(self, epoch: int, done: int, total: int | None) -> None:
        self._begin()
        self._bars.start()
        self._task = self._bars.add_task(f"epoch {epoch + 1}/{self.epochs}", total=total, completed=done, words="")

    def show(self, words: str) -> None:
        self._bars.update(self._task, advance=self._pending, words=words)
        self._pending = 0

    def finish(self, epoch: int, logs: Mapping[str, Any]) -> None:
        self.show(text(logs))
        self._bars.stop_task(self._task)

    def close(self) -> None:
        self._bars.stop()


KINDS = {"tqdm": Tqdm, "rich": Rich}


def display(kind: str | None, verbose: bool, epochs: int) -> Silent:
    """The display of that name; None: a line per epoch where `verbose`. ImportError names the extra."""
    if kind is None:
        return Lines(epochs) if verbose else Silent(epochs)
    if kind not in KINDS:
        raise ValueError(f"progress must be None, {' or '.join(map(repr, KINDS))}, not {kind!r}")
    return KINDS[kind](epochs)


def text(logs: Mapping[str, Any]) -> str:
    """loss 0.6931, accuracy 0.5000; lists and dicts are left out."""
    return ", ".join(f"{name} {value:.4g}" for name, value in logs.items() if isinstance(value, (int, float)))
