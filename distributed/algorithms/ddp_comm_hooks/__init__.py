"""Communication hooks for DistributedDataParallel: other ways to average a bucket."""

from __future__ import annotations

from . import default_hooks

__all__ = ["default_hooks"]
