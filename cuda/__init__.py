"""torch.cuda's questions and switches, answered by the CuPy backend, and truthfully where there is no device.

Without CuPy or a device: questions (`is_available`, `device_count`, `memory_allocated`) say no or 0, seeds and caches
are accepted, and what needs a device raises `NoDevice`, which is AssertionError as in PyTorch's CPU builds.
"""

from __future__ import annotations

import importlib
import sys
from typing import Any

from ..autograd.api.legacy import LegacyType
from ..autograd.device import device as _device
from ..autograd.dtypes import ALL
from ..autograd.random import default_generator
from ..autograd.random import manual_seed as _manual_seed
from ..autograd.tensor import Tensor
from ..backends.cupy.memory import OutOfMemoryError as OutOfMemoryError
from ..backends.registry import BackendError, load

has_half = True
has_magma = False


class NoDevice(BackendError, AssertionError):
    """An NVIDIA device was asked for where there is none."""


def _backend() -> Any:
    """The CuPy backend. NoDevice where it cannot be used, saying why and how to install it."""
    try:
        return load("cupy")
    except BackendError as error:
        raise NoDevice(f"Torch not compiled with CUDA enabled: {error}") from None


def _runtime() -> Any:
    return _backend().xp.cuda.runtime


def _index(device: Any = None) -> int:
    """The number of a device given as such, as a string, or as None for the current one. ValueError for the CPU."""
    if device is None:
        return current_device()
    if isinstance(device, int):
        return device
    d = _device(device) if isinstance(device, str) else device
    if d.type != "cuda":
        raise ValueError(f"Expected a cuda device, but got: {d}")
    return current_device() if d.index is None else d.index


# ---- questions


def is_available() -> bool:
    """Whether CuPy is installed and finds a device."""
    return device_count() > 0


def device_count() -> int:
    """The number of NVIDIA devices that CuPy finds; 0 without CuPy."""
    try:
        return load("cupy").device_count()
    except BackendError:
        return 0


def is_initialized() -> bool:
    """Whether the CuPy backend can be used (it is loaded by the question)."""
    return is_available()


def init() -> None:
    """Loads the CuPy backend. NoDevice where there is none."""
    _backend()


def is_bf16_supported(including_emulation: bool = True) -> bool:
    """Whether there is a device that computes in bfloat16: one of capability 8.0 or more."""
    return is_available() and (including_emulation or get_device_capability()[0] >= 8)


def is_tf32_supported() -> bool:
    """Whether there is a device with TF32 units: one of capability 8.0 or more."""
    return is_available() and get_device_capability()[0] >= 8


def is_current_stream_capturing() -> bool:
    """Whether a CUDA graph is being recorded on the current stream."""
    return is_available() and bool(_backend().xp.cuda.get_current_stream().is_capturing())


def get_arch_list() -> list[str]:
    """The architectures that kernels were built for: none, they are compiled for the device at hand."""
    return []


def can_device_access_peer(device: Any, peer_device: Any) -> bool:
    """Whether one device reaches the memory of another directly."""
    return bool(_runtime().deviceCanAccessPeer(_index(device), _index(peer_device)))


# ---- devices


def current_device() -> int:
    """The index of the device where new work goes."""
    return int(_runtime().getDevice())


def set_device(device: Any) -> None:
    """Makes a device the current one; a negative index changes nothing. ValueError for the CPU."""
    if isinstance(device, int):
        index = device
    else:
        d = _device(device) if isinstance(device, str) else device
        if d.type != "cuda":
            raise ValueError(f"Expected a cuda device, but got: {d}")
        index = -1 if d.index is None else d.index
    runtime = _runtime()
    if index >= 0:
        runtime.setDevice(index)


def get_device_properties(device: Any = None) -> Any:
    """What CUDA tells of a device: name, major, minor, total_memory (bytes), multi_processor_count, warp_size, ..."""
    from types import SimpleNamespace

    raw = _runtime().getDeviceProperties(_index(device))
    return SimpleNamespace(
        name=raw["name"].decode(),
        major=raw["major"],
        minor=raw["minor"],
        total_memory=raw["totalGlobalMem"],
        multi_processor_count=raw["multiProcessorCount"],
        **{ours: raw[theirs] for ours, theirs in _PROPERTIES.items() if theirs in raw},
    )


# PyTorch's name -> CUDA's, where CuPy tells it
_PROPERTIES = {
    "warp_size": "warpSize", "L2_cache_size": "l2CacheSize", "is_integrated": "integrated",
    "max_threads_per_multi_processor": "maxThreadsPerMultiProcessor", "max_threads_per_block": "maxThreadsPerBlock",
    "regs_per_multiprocessor": "regsPerMultiprocessor", "shared_memory_per_block": "sharedMemPerBlock",
    "shared_memory_per_block_optin": "sharedMemPerBlockOptin",
    "shared_memory_per_multiprocessor": "sharedMemPerMultiprocessor", "clock_rate": "clockRate",
    "memory_clock_rate": "memoryClockRate", "memory_bus_width": "memoryBusWidth", "pci_bus_id": "pciBusID",
}  # fmt: skip


def get_device_name(device: Any = None) -> str:
    """The device's name, such as 'NVIDIA H200'."""
    return get_device_properties(device).name


def get_device_capability(device: Any = None) -> tuple[int, int]:
    """The compute capability (major, minor)."""
    properties = get_device_properties(device)
    return properties.major, properties.minor


class device:
    """Inside, the given device is the current one."""

    def __init__(self, device: Any):
        self.idx = device if isinstance(device, int) or device is None else _index(device)

    def __enter__(self) -> None:
        self._before = current_device()
        if self.idx is not None:
            set_device(self.idx)

    def __exit__(self, *_: object) -> None:
        set_device(self._before)


class device_of(device):
    """Inside, the device of a tensor is the current one; a tensor in host memory changes nothing."""

    def __init__(self, obj: Tensor):
        self.idx = obj.device.index if obj.is_cuda else None

    def __enter__(self) -> None:
        if self.idx is not None:
            super().__enter__()

    def __exit__(self, *_: object) -> None:
        if self.idx is not None:
            super().__exit__()


def synchronize(device: Any = None) -> None:
    """Waits for the work queued on a device. NoDevice where there is none."""
    backend = _backend()
    with backend.guard(_device("cuda", _index(device)).key):
        backend.synchronize()


# ---- seeds: one stream serves all devices


def manual_seed(seed: int) -> None:
    """Seeds the default stream, which serves all devices; nothing is drawn from a device, so without one: nothing."""
    if is_available():
        _manual_seed(seed)


def manual_seed_all(seed: int) -> None:
    """Seeds the default stream, which serves all devices; without a device: nothing."""
    manual_seed(seed)


def seed() -> None:
    """Starts an unpredictable stream on the devices; without a device: nothing."""
    if is_available():
        default_generator.seed()


seed_all = seed


def initial_seed() -> int:
    """The seed of the stream that serves the devices."""
    _backend()
    return default_generator.initial_seed()


def get_rng_state(device: Any = "cuda") -> Tensor:
    """The state of the stream that serves the devices."""
    _backend()
    return default_generator.get_state()


def set_rng_state(new_state: Tensor, device: Any = "cuda") -> None:
    """Sets the state of the stream that serves the devices; without a device: nothing."""
    if is_available():
        default_generator.set_state(new_state)


def get_rng_state_all() -> list[Tensor]:
    """The state per device: the same one for each."""
    return [default_generator.get_state() for _ in range(device_count())]


def set_rng_state_all(new_states: Any) -> None:
    """Sets the state of the stream that serves the devices, from the first of a list; an empty one changes nothing."""
    for state in list(new_states)[:1]:
        set_rng_state(state)


# ---- names that are loaded when they are first used

_LATE = {
    "Event": "streams", "ExternalStream": "streams", "Stream": "streams", "StreamContext": "streams",
    "current_stream": "streams", "default_stream": "streams", "set_stream": "streams", "stream": "streams",
    "get_stream_from_external": "streams",
    "CUDAGraph": "graphs", "graph": "graphs", "graph_pool_handle": "graphs", "make_graphed_callables": "graphs",
    "graph_step": "steps", "GraphedStep": "steps", "CaptureError": "capture",
    "empty_cache": "memory", "ipc_collect": "memory", "max_memory_allocated": "memory",
    "max_memory_cached": "memory", "max_memory_reserved": "memory", "mem_get_info": "memory",
    "memory_allocated": "memory", "memory_cached": "memory", "memory_reserved": "memory",
    "memory_stats": "memory", "memory_summary": "memory", "reset_accumulated_memory_stats": "memory",
    "reset_max_memory_allocated": "memory", "reset_max_memory_cached": "memory", "reset_peak_memory_stats": "memory",
    "set_per_process_memory_fraction": "memory", "get_per_process_memory_fraction": "memory",
    "get_allocator_backend": "memory", "memory_stats_as_nested_dict": "memory",
    "CudaError": "info", "DeferredCudaCallError": "info", "check_error": "info", "clock_rate": "info",
    "cudart": "info", "current_blas_handle": "info", "device_memory_used": "info", "memory_usage": "info",
    "nvtx": "info", "power_draw": "info", "temperature": "info", "utilization": "info",
}  # fmt: skip


class CudaType(LegacyType):
    """The class of torch.cuda.FloatTensor and its like: dtype and place. NoDevice-like TypeError where none is."""

    def __call__(cls, *data: Any, device: Any = None) -> Tensor:
        if not is_available():
            name = f"torch.cuda.{cls.__name__}"
            raise TypeError(f"type {name} not available. Torch not compiled with CUDA enabled. (CuPy finds no device)")
        return super().__call__(*data, device="cuda" if device is None else device)

    def __instancecheck__(cls, instance: Any) -> bool:
        return super().__instancecheck__(instance) and instance.is_cuda


def __getattr__(name: str) -> Any:
    if name == "default_generators":  # one stream serves all devices
        return (default_generator,) * device_count()
    if name == "random":
        return sys.modules[__name__]  # the functions of torch.cuda.random are torch.cuda's
    if name in ("amp", "graphs", "memory", "streams"):
        return importlib.import_module(f".{name}", __name__)
    if name in _LATE:
        return getattr(importlib.import_module(f".{_LATE[name]}", __name__), name)
    word = name.removesuffix("Tensor")
    if word != name:
        for d in ALL:
            if d.legacy == word:
                made = CudaType(name, (), {"legacy_dtype": d, "__module__": "torch.cuda"})
                globals()[name] = made
                return made
    raise AttributeError(f"module '{__name__}' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted({*globals(), *_LATE, "amp", *(f"{d.legacy}Tensor" for d in ALL)})
