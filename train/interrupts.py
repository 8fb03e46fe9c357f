"""Ctrl-C and SIGTERM that wait for the end of a step."""

from __future__ import annotations

import os
import signal
import threading
from types import FrameType
from typing import Any, NoReturn


class Interrupts:
    """Inside, the first signal is noted, for `asked`; the second acts at once, as outside.

    Only in the main thread, and only where nobody else handles the signal.
    """

    def __init__(self) -> None:
        self.asked: int | None = None
        self._before: dict[int, Any] = {}
        self._process = os.getpid()

    def __enter__(self) -> Interrupts:
        if threading.current_thread() is threading.main_thread():
            for number, usual in ((signal.SIGINT, signal.default_int_handler), (signal.SIGTERM, signal.SIG_DFL)):
                if signal.getsignal(number) == usual:
                    self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}

    def _note(self, number: int, frame: FrameType | None) -> None:
        if os.getpid() != self._process:  # a forked worker, which Ctrl-C reaches too: its parent ends it
            if number == signal.SIGTERM:
                os._exit(128 + number)
            return
        if self.asked is not None:
            self.leave()
        self.asked = number
        os.write(2, b"\nfinishing the step; once more to stop at once\n")

    def leave(self, note: str | None = None) -> NoReturn:
        """Raises what the signal asked for: KeyboardInterrupt, or SystemExit(143) for SIGTERM."""
        error: BaseException = SystemExit(128 + signal.SIGTERM) if self.asked == signal.SIGTERM else KeyboardInterrupt()
        if note:
            error.add_note(note)
        raise error
