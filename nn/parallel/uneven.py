"""DistributedDataParallel on a process that has no data left while others go on."""

from __future__ import annotations

from typing import Any

from ... import distributed as dist
from ...autograd.api.creation import tensor
from ...distributed.algorithms.join import JoinHook


def common_rank(ddp: Any, candidate: bool) -> int:
    """The largest rank in the group among those that call it with `candidate`; all must call it."""
    own = dist.get_rank(ddp.process_group) if candidate else -1
    found = tensor([own], device=ddp.device)
    dist.all_reduce(found, op=dist.ReduceOp.MAX, group=ddp.process_group)
    return int(found.item())


def synced_by_any(ddp: Any, goes_on: bool) -> bool:
    """Whether a process that goes on will average the gradients of this iteration; all must call it."""
    flag = tensor([float(goes_on and ddp.require_backward_grad_sync)], device=ddp.device)
    dist.all_reduce(flag, group=ddp.process_group)
    return bool(flag.item())


class DDPJoinHook(JoinHook):
    """Makes the calls of one iteration with zeros, in the order of `DistributedDataParallel.forward` and backward."""

    def __init__(self, ddp: Any, divide_by_initial_world_size: bool):
        self.ddp = ddp
        ddp.divide_by_initial_world_size = divide_by_initial_world_size

    def main_hook(self) -> None:
        ddp = self.ddp
        ddp.reducer.rebuild_buckets()
        ddp._sync_buffers_if_due(goes_on=False)
        ddp.require_forward_param_sync = synced_by_any(ddp, goes_on=False)
        if ddp.require_forward_param_sync:
            ddp.reducer.join_iteration()

    def post_hook(self, is_last_joiner: bool) -> None:
        """The model of a process that went on to the end, for all."""
        self.ddp._sync_module_states(common_rank(self.ddp, is_last_joiner), self.ddp.forward_sync_buffers)
