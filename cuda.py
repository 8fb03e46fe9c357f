"""torch.cuda's questions that programs ask before they choose a device, answered by the CuPy backend."""

from __future__ import annotations

from typing import Any

from .autograd.random import manual_seed as _manual_seed
from .backends.registry import BackendError, load


def _backend() -> Any:
    return load("cupy")


def is_available() -> bool:
    """Whether CuPy is installed and finds a device."""
    try:
        return device_count() > 0
    except BackendError:
        return False


def device_count() -> int:
    """The number of NVIDIA devices that CuPy finds; 0 without CuPy."""
    try:
        return _backend().device_count()
    except BackendError:
        return 0


def manual_seed(seed: int) -> None:
    """Seeds the default stream, which serves all devices."""
    _manual_seed(seed)


def manual_seed_all(seed: int) -> None:
    """Seeds the default stream, which serves all devices."""
    _manual_seed(seed)


def synchronize(device: Any = None) -> None:
    """Waits for the work queued on the current device. BackendError where there is none."""
    _backend().synchronize()


def is_initialized() -> bool:
    """Whether the CuPy backend was loaded."""
    return is_available()
