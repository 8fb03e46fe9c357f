"""Device memory: what CuPy's pool holds. Sizes in bytes. Without a device, questions give 0 and requests do nothing."""

from __future__ import annotations

from typing import Any

from . import _backend, _device, _index, _runtime, is_available


def _at(device: Any) -> Any:
    """Makes the device of a question the current one inside."""
    return _backend().guard(_device("cuda", _index(device)).key)


def _held(device: Any) -> tuple[int, int]:
    if not is_available():
        return 0, 0
    with _at(device):
        return _backend().memory.held()


def _peak(device: Any) -> list[int]:
    if not is_available():
        return [0, 0]
    with _at(device):
        return _backend().memory.peak(_index(device))


def memory_allocated(device: Any = None) -> int:
    """Bytes that living arrays take."""
    return _held(device)[0]


def memory_reserved(device: Any = None) -> int:
    """Bytes that the pool holds, in use or not."""
    return _held(device)[1]


def max_memory_allocated(device: Any = None) -> int:
    """The largest value of `memory_allocated` since the first use of the device or `reset_peak_memory_stats`."""
    return _peak(device)[0]


def max_memory_reserved(device: Any = None) -> int:
    """The largest value of `memory_reserved` since the first use of the device or `reset_peak_memory_stats`."""
    return _peak(device)[1]


def reset_peak_memory_stats(device: Any = None) -> None:
    """Starts the peaks again."""
    if is_available():
        with _at(device):
            _backend().memory.start_peak(_index(device))


memory_cached, max_memory_cached = memory_reserved, max_memory_reserved
reset_max_memory_allocated = reset_max_memory_cached = reset_accumulated_memory_stats = reset_peak_memory_stats


def memory_stats(device: Any = None) -> dict[str, int]:
    """The figures above under PyTorch's keys; empty without a device."""
    if not is_available():
        return {}
    used, held = _held(device)
    most_used, most_held = _peak(device)
    return {
        "allocated_bytes.all.current": used,
        "allocated_bytes.all.peak": most_used,
        "reserved_bytes.all.current": held,
        "reserved_bytes.all.peak": most_held,
    }


def memory_summary(device: Any = None, abbreviated: bool = False) -> str:
    """The figures of `memory_stats`, one a line, and the largest pieces that living tensors hold."""
    lines = [f"{name}: {value}" for name, value in memory_stats(device).items()]
    if lines and not abbreviated:
        from ..backends.cupy.memory import holders, shown

        pieces = sorted(holders(_backend().array_type), key=lambda found: -found[0])[:8]
        lines += [f"{shown(size)}: {who}" for size, who in pieces]
    return "\n".join(lines)


def mem_get_info(device: Any = None) -> tuple[int, int]:
    """(free, total) bytes of the device."""
    with _at(device):
        free, total = _runtime().memGetInfo()
    return int(free), int(total)


def empty_cache() -> None:
    """Gives what the pool holds unused back to the device; nothing to do without one."""
    if is_available():
        _backend().memory.empty_cache()


def ipc_collect() -> None:
    """Nothing is shared between processes. NoDevice without a device, as PyTorch."""
    _backend()


def memory_stats_as_nested_dict(device: Any = None) -> dict[str, Any]:
    """The figures of `memory_stats`, a dictionary for each part of their keys."""
    found: dict[str, Any] = {}
    for key, value in memory_stats(device).items():
        *path, last = key.split(".")
        inner = found
        for word in path:
            inner = inner.setdefault(word, {})
        inner[last] = value
    return found


def get_allocator_backend() -> str:
    """Which allocator serves: "native", CuPy's pool."""
    return "native"


def get_per_process_memory_fraction(device: Any = None) -> float:
    """What fraction of the device's memory the pool may hold."""
    with _at(device):
        limit = _backend().xp.get_default_memory_pool().get_limit()
        return limit / int(_runtime().memGetInfo()[1]) if limit else 1.0


def set_per_process_memory_fraction(fraction: float, device: Any = None) -> None:
    """Lets the pool hold no more than this fraction of the device's memory. ValueError outside [0, 1]."""
    if not 0 <= fraction <= 1:
        raise ValueError(f"Invalid fraction value: {fraction}. Allowed range: 0~1")
    with _at(device):
        _backend().xp.get_default_memory_pool().set_limit(fraction=fraction)
