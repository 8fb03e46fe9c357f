"""torch.distributed.algorithms: what is built on the calls of a process group."""

from __future__ import annotations

from .join import Join, Joinable, JoinHook

__all__ = ["Join", "JoinHook", "Joinable"]
