"""torch.distributed.algorithms: what is built on the calls of a process group."""

from __future__ import annotations

from . import ddp_comm_hooks as ddp_comm_hooks
from .join import Join, Joinable, JoinHook

__all__ = ["Join", "JoinHook", "Joinable", "ddp_comm_hooks"]
