"""Data parallelism on one device and in one process."""

from __future__ import annotations

from typing import Any

from .data_parallel import DataParallel, data_parallel

__all__ = ["DataParallel", "DistributedDataParallel", "data_parallel"]


def __getattr__(name: str) -> Any:
    if name == "DistributedDataParallel":  # late: it is the one that needs torch.distributed
        from .distributed import DistributedDataParallel

        return DistributedDataParallel
    raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
