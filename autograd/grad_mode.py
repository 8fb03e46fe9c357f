"""torch.autograd.grad_mode: the switches of recording (see modes.py), and one that changes nothing here."""

from __future__ import annotations

from .modes import _ModeSwitch, mode
from .modes import enable_grad as enable_grad
from .modes import inference_mode as inference_mode
from .modes import no_grad as no_grad
from .modes import set_grad_enabled as set_grad_enabled

__all__ = ["enable_grad", "inference_mode", "no_grad", "set_grad_enabled", "set_multithreading_enabled"]

_enabled = [True]


class set_multithreading_enabled(_ModeSwitch):
    """Whether `backward` may use threads of its own; a function and a context manager.

    Here it never does: the walk runs in the thread that asks for it. What is set is kept, for programs that ask.
    """

    def __init__(self, mode: bool):
        self._previous, _enabled[0] = _enabled[0], bool(mode)
        self.mode = bool(mode)

    def __enter__(self) -> None:
        _enabled[0] = self.mode

    def __exit__(self, *_: object) -> None:
        _enabled[0] = self._previous

    def _clone(self) -> set_multithreading_enabled:
        return set_multithreading_enabled(self.mode)


def is_multithreading_enabled() -> bool:
    """What set_multithreading_enabled last said."""
    return _enabled[0]


def is_view_replay_enabled() -> bool:
    """Whether views are replayed on their base after an in-place write: always, while recording (see views.py)."""
    return mode.grad is not False
