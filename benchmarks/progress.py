"""The progress bar: tqdm's where it is installed and a terminal looks on, else a line per workload."""

from __future__ import annotations

import sys
import time
from typing import Any


class Progress:
    """Counts parts of a run; `tell` says what goes on inside one."""

    def __init__(self, total: int):
        self.total, self.count, self.began = total, 0, time.monotonic()
        self.bar: Any = None
        if sys.stderr.isatty():
            try:
                from tqdm import tqdm
            except ImportError:
                return
            self.bar = tqdm(total=total, leave=False, bar_format="{l_bar}{bar:30}{r_bar}")

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *raised: object) -> None:
        if self.bar is not None:
            self.bar.close()

    def tell(self, text: str) -> None:
        """What is being done now."""
        if self.bar is not None:
            self.bar.set_postfix_str(text)

    def done(self, name: str) -> None:
        """One part more is over."""
        self.count += 1
        if self.bar is not None:
            self.bar.update()
        else:
            seconds = time.monotonic() - self.began
            print(f"[{self.count}/{self.total}, {seconds:.0f} s] {name}", file=sys.stderr, flush=True)
