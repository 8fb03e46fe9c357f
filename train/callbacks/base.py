"""What a callback may do, and when."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ..trainer import Trainer


class Callback:
    """Subclasses write the hooks they need; each is called in the order of the list given to `fit`.

    trainer.epoch counts the epochs done (in on_epoch_... the number of the running one, from 0), trainer.step the
    optimizer's steps done, trainer.batch the batches of the running epoch done; `trainer.stop = True` ends the training
    after the running epoch. `adds` names what on_epoch_log adds.

    >>> class Shout(torch.train.Callback):
    ...     def on_epoch_end(self, trainer, logs):
    ...         print("epoch", trainer.epoch, "is over")
    """

    adds: tuple[str, ...] = ()
    monitor: str | None = None  # what it must find in an epoch's logs; `fit` checks before it begins

    def on_fit_start(self, trainer: Trainer) -> None:
        """Before the first epoch, or the one resumed in; the callback's state is restored by then."""

    def on_fit_end(self, trainer: Trainer) -> None:
        """After the last epoch; not after an error or an interruption."""

    def on_epoch_start(self, trainer: Trainer) -> None:
        """Before an epoch's first batch; not again where it is resumed within."""

    def on_step_end(self, trainer: Trainer) -> None:
        """After each step of the optimizer; trainer.last_loss is the last batch's loss, a tensor not waited for."""

    def on_validation_start(self, trainer: Trainer) -> None:
        """Before the validation after an epoch."""

    def on_validation_end(self, trainer: Trainer, logs: dict[str, Any]) -> None:
        """After it; logs: its results."""

    def on_epoch_log(self, trainer: Trainer, logs: dict[str, Any]) -> None:
        """An epoch's results, to add to before they go into the history; schedulers have not stepped yet."""

    def on_epoch_end(self, trainer: Trainer, logs: dict[str, Any]) -> None:
        """After the history has the epoch's results and the schedulers have stepped."""

    def on_exception(self, trainer: Trainer, error: BaseException) -> None:
        """When an error or an interruption ends the training; files are to be closed."""

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps of it: tensors, numbers, texts, containers of these."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continues from what `state_dict` gave."""


def overriding(callbacks: list[Callback], hook: str) -> list[Callback]:
    """Those that write that hook: a step costs nothing for the others."""
    return [each for each in callbacks if getattr(type(each), hook) is not getattr(Callback, hook)]


class Watching(Callback):
    """What looks for the best value of `monitor`: mode "min", "max", or "auto", by the metric."""

    monitor: str

    def __init__(self, monitor: str, mode: str, min_delta: float = 0.0):
        if mode not in ("auto", "min", "max"):
            raise ValueError(f"{type(self).__name__}: mode must be auto, min or max, not {mode!r}")
        self.monitor = monitor
        self.mode, self.min_delta, self.sign = mode, abs(min_delta), 0
        self.best: float | None = None

    def on_fit_start(self, trainer: Trainer) -> None:
        mode = trainer.direction(self.monitor) if self.mode == "auto" else self.mode
        self.sign = 1 if mode == "max" else -1

    def better(self, value: float, than: float | None) -> bool:
        """Whether a value is better, by more than min_delta; NaN never is."""
        return value == value and (than is None or self.sign * (value - than) > self.min_delta)

    def value(self, logs: Mapping[str, Any]) -> float | None:
        """The monitored number; None in an epoch without (validation every second one)."""
        value = logs.get(self.monitor)
        if value is not None and not isinstance(value, (int, float)):
            raise ValueError(f"{type(self).__name__} monitors {self.monitor!r}, which is no number but {value!r}")
        return value
