"""What torch.cuda tells of a device beside memory and streams: NVIDIA's management library, profiler marks, handles."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

from . import _backend, _index, _runtime


class CudaError(RuntimeError):
    """A call of the CUDA runtime that failed."""

    def __init__(self, code: int):
        super().__init__(f"{_runtime().getErrorString(code)} ({code})")


class DeferredCudaCallError(Exception):
    """What was put off until the device was first used failed."""


def check_error(res: int) -> None:
    """CudaError for a result of the CUDA runtime that is not 0."""
    if res:
        raise CudaError(res)


def cudart() -> Any:
    """CuPy's binding of the CUDA runtime, in place of PyTorch's."""
    return _runtime()


def current_blas_handle() -> int:
    """The address of the current device's cuBLAS handle."""
    return int(_backend().xp.cuda.device.get_cublas_handle())


# ---- the management library, through the package pynvml as in PyTorch


def _managed(device: Any) -> tuple[Any, Any]:
    try:
        library = importlib.import_module("pynvml")
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError("pynvml does not seem to be installed or it can't be imported.") from error
    library.nvmlInit()
    bus = _runtime().deviceGetPCIBusId(_index(device))
    return library, library.nvmlDeviceGetHandleByPciBusId(bus.encode() if isinstance(bus, str) else bus)


def _question(doc: str, ask: Callable[[Any, Any], Any]) -> Callable[..., int]:
    def asked(device: Any = None) -> int:
        return int(ask(*_managed(device)))

    asked.__doc__ = doc
    return asked


utilization = _question(
    "Percent of the last second in which a kernel ran.", lambda lib, h: lib.nvmlDeviceGetUtilizationRates(h).gpu
)
memory_usage = _question(
    "Percent of the last second in which memory was read or written.",
    lambda lib, h: lib.nvmlDeviceGetUtilizationRates(h).memory,
)
temperature = _question("Degrees Celsius of the chip.", lambda lib, h: lib.nvmlDeviceGetTemperature(h, 0))
power_draw = _question("Milliwatts.", lambda lib, h: lib.nvmlDeviceGetPowerUsage(h))
clock_rate = _question("Megahertz of the multiprocessors.", lambda lib, h: lib.nvmlDeviceGetClockInfo(h, 1))
device_memory_used = _question(
    "Bytes that all processes hold on the device.", lambda lib, h: lib.nvmlDeviceGetMemoryInfo(h).used
)

# ---- marks for NVIDIA's profilers


def _range_push(msg: str) -> None:
    """Opens a range; ranges may lie in each other."""
    _backend().xp.cuda.nvtx.RangePush(msg)


def _range_pop() -> None:
    """Closes the range that was opened last."""
    _backend().xp.cuda.nvtx.RangePop()


def _mark(msg: str) -> None:
    """A moment, with its name."""
    _backend().xp.cuda.nvtx.Mark(msg)


@contextmanager
def _range(msg: str, *args: Any, **kwargs: Any) -> Iterator[None]:
    """A range around a block; `msg` is formatted with the other arguments."""
    _range_push(msg.format(*args, **kwargs))
    try:
        yield
    finally:
        _range_pop()


nvtx = SimpleNamespace(range_push=_range_push, range_pop=_range_pop, mark=_mark, range=_range)
