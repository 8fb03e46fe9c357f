"""torch.accelerator: the device beside the CPU, whichever it is. Here: an NVIDIA GPU through CuPy, or none."""

from __future__ import annotations

from typing import Any

from . import cuda
from .autograd.device import device


def is_available() -> bool:
    """Whether there is a device beside the CPU."""
    return cuda.is_available()


def device_count() -> int:
    """How many of them there are."""
    return cuda.device_count()


def current_accelerator(check_available: bool = False) -> device | None:
    """The type of the device, without an index; None where there is none."""
    return device("cuda") if cuda.is_available() else None


def _need() -> None:
    if not cuda.is_available():
        raise RuntimeError("Cannot access accelerator device when none is available.")


def current_device_index() -> int:
    """The index of the current device. RuntimeError where there is none, as for all below."""
    _need()
    return cuda.current_device()


current_device_idx = current_device_index


def set_device_index(device: Any, /) -> None:
    """Makes a device the current one."""
    _need()
    cuda.set_device(device)


set_device_idx = set_device_index


def current_stream(device: Any = None, /) -> Any:
    """The stream where new work goes."""
    _need()
    return cuda.current_stream(device)


def set_stream(stream: Any) -> None:
    """Makes a stream the current one."""
    _need()
    cuda.set_stream(stream)


def synchronize(device: Any = None, /) -> None:
    """Waits for all work queued on the device."""
    _need()
    cuda.synchronize(device)


class device_index:
    """Inside, the device of this index is the current one; None changes nothing."""

    def __init__(self, device: int | None, /):
        self.idx = device

    def __enter__(self) -> None:
        _need()
        self._before = cuda.current_device()
        if self.idx is not None:
            cuda.set_device(self.idx)

    def __exit__(self, *_: object) -> None:
        cuda.set_device(self._before)


def empty_cache() -> None:
    """Gives unused memory back to the device."""
    _need()
    cuda.empty_cache()


def memory_allocated(device_index: Any = None, /) -> int:
    """Bytes that living tensors take."""
    _need()
    return cuda.memory_allocated(device_index)


def memory_reserved(device_index: Any = None, /) -> int:
    """Bytes that the allocator holds."""
    _need()
    return cuda.memory_reserved(device_index)


def max_memory_allocated(device_index: Any = None, /) -> int:
    """The largest value seen of `memory_allocated`."""
    _need()
    return cuda.max_memory_allocated(device_index)


def max_memory_reserved(device_index: Any = None, /) -> int:
    """The largest value seen of `memory_reserved`."""
    _need()
    return cuda.max_memory_reserved(device_index)


def memory_stats(device_index: Any = None, /) -> dict[str, int]:
    """The figures above under PyTorch's keys."""
    _need()
    return cuda.memory_stats(device_index)


def reset_peak_memory_stats(device_index: Any = None, /) -> None:
    """Starts the peaks again."""
    _need()
    cuda.reset_peak_memory_stats(device_index)
