"""What a run was made on: processor, cores, memory, system, versions."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from pathlib import Path
from typing import Any

from .process import cores

VECTORS = ("avx512f", "avx2", "avx", "asimd", "sve")  # the widest that is found is told


def _fields(path: str) -> dict[str, str]:
    """The first value of each "key : value" line of a file in /proc; empty where there is none."""
    out: dict[str, str] = {}
    try:
        lines = Path(path).read_text().splitlines()
    except OSError:
        return out
    for line in lines:
        key, _, value = line.partition(":")
        out.setdefault(key.strip(), value.strip())
    return out


def processor() -> dict[str, Any]:
    """Model, family numbers, widest vector unit, cores in the machine and cores that this process may use."""
    found = _fields("/proc/cpuinfo")
    flags = (found.get("flags") or found.get("Features") or "").split()
    return {
        "model": found.get("model name") or platform.processor() or platform.machine(),
        "vendor": found.get("vendor_id", ""),
        "family": found.get("cpu family", ""),
        "number": found.get("model", ""),
        "vectors": next((name for name in VECTORS if name in flags), ""),
        "cores": os.cpu_count(),
        "usable": len(cores()),
    }


def machine() -> dict[str, Any]:
    """The processor, memory in bytes, system and Python."""
    memory = _fields("/proc/meminfo").get("MemTotal", "0").split()
    return {
        "processor": processor(),
        "memory": int(memory[0]) * 1024,
        "system": platform.platform(),
        "python": platform.python_version(),
    }


def version(package: str) -> str | None:
    """A distribution's version in this environment."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
