"""torch.backends.mkl: whether Intel's MKL does the linear algebra; that is NumPy's affair, and it is not asked."""

from __future__ import annotations

VERBOSE_OFF, VERBOSE_ON = 0, 1


def is_available() -> bool:
    """Whether this library calls MKL itself: no."""
    return False


class verbose:
    """Accepted; there is no log to write."""

    def __init__(self, enable: int):
        self.enable = enable

    def __enter__(self) -> verbose:
        return self

    def __exit__(self, *_: object) -> None:
        return None
