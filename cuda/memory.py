"""Device memory: what CuPy's pool holds. Sizes in bytes. Without a device, questions give 0 and requests do nothing."""

from __future__ import annotations

from typing import Any

from . import _backend, _index, _runtime, is_available

_peak = {"allocated": 0, "reserved": 0}


def _pool() -> Any:
    return _backend().xp.get_default_memory_pool()


def memory_allocated(device: Any = None) -> int:
    """Bytes that living arrays take."""
    used = int(_pool().used_bytes()) if is_available() else 0
    _peak["allocated"] = max(_peak["allocated"], used)
    return used


def memory_reserved(device: Any = None) -> int:
    """Bytes that the pool holds, in use or not."""
    held = int(_pool().total_bytes()) if is_available() else 0
    _peak["reserved"] = max(_peak["reserved"], held)
    return held


def max_memory_allocated(device: Any = None) -> int:
    """The largest value that `memory_allocated` had when it was asked: CuPy's pool keeps no peak of its own."""
    memory_allocated(device)
    return _peak["allocated"]


def max_memory_reserved(device: Any = None) -> int:
    """The largest value that `memory_reserved` had when it was asked."""
    memory_reserved(device)
    return _peak["reserved"]


def reset_peak_memory_stats(device: Any = None) -> None:
    """Starts the peaks again."""
    _peak.update(allocated=0, reserved=0)


memory_cached, max_memory_cached = memory_reserved, max_memory_reserved
reset_max_memory_allocated = reset_max_memory_cached = reset_accumulated_memory_stats = reset_peak_memory_stats


def memory_stats(device: Any = None) -> dict[str, int]:
    """The figures above under PyTorch's keys; empty without a device."""
    if not is_available():
        return {}
    return {
        "allocated_bytes.all.current": memory_allocated(device),
        "allocated_bytes.all.peak": max_memory_allocated(device),
        "reserved_bytes.all.current": memory_reserved(device),
        "reserved_bytes.all.peak": max_memory_reserved(device),
    }


def memory_summary(device: Any = None, abbreviated: bool = False) -> str:
    """The figures of `memory_stats`, one a line."""
    return "\n".join(f"{name}: {value}" for name, value in memory_stats(device).items())


def mem_get_info(device: Any = None) -> tuple[int, int]:
    """(free, total) bytes of the device."""
    with _backend().xp.cuda.Device(_index(device)):
        free, total = _runtime().memGetInfo()
    return int(free), int(total)


def empty_cache() -> None:
    """Gives what the pool holds unused back to the device; nothing to do without one."""
    if is_available():
        _pool().free_all_blocks()


def ipc_collect() -> None:
    """Nothing is shared between processes. NoDevice without a device, as PyTorch."""
    _backend()


def set_per_process_memory_fraction(fraction: float, device: Any = None) -> None:
    """Lets the pool hold no more than this fraction of the device's memory. ValueError outside [0, 1]."""
    if not 0 <= fraction <= 1:
        raise ValueError(f"Invalid fraction value: {fraction}. Allowed range: 0~1")
    _pool().set_limit(fraction=fraction)
