"""The same model on all processes: shapes compared, values taken from one of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ... import distributed as dist
from ...autograd.api.join import cat
from ...autograd.modes import no_grad
from ...autograd.tensor import Tensor
from ...distributed.grad_bucket import views_of
from .buckets import assign


def verify_shapes(parameters: Sequence[Tensor], names: Sequence[str], group: Any) -> None:
    """RuntimeError on every process where their models differ: in number, names' order, shapes or dtypes."""
    rank = dist.get_rank(group)
    mine = [(list(p.shape), str(p.dtype)) for p in parameters]
    every: list[Any] = [None] * dist.get_world_size(group)
    dist.all_gather_object(every, mine, group=group)
    for other, theirs in enumerate(every):
        if len(theirs) != len(mine):
            raise RuntimeError(
                f"DDP expects same model across all ranks, but Rank {rank} has {len(mine)} params, while rank {other} "
                f"has inconsistent {len(theirs)} params."
            )
        for i, (here, there) in enumerate(zip(mine, theirs, strict=True)):
            if here != there:
                raise RuntimeError(
                    f"[{rank}]: params[{i}] ({names[i]}) in this process with sizes {here[0]} and dtype {here[1]} "
                    f"appears not to match sizes {there[0]} and dtype {there[1]} of the same param in process {other}."
                )


@no_grad()
def broadcast_coalesced(tensors: Sequence[Tensor], src: int, group: Any, size: int = 250 * 1024 * 1024) -> None:
    """Gives all processes the values of the process `src` of the group, in flat messages of about `size` bytes.

    Autograd does not see the writes, as in PyTorch: a buffer may be saved for a backward pass that is still to come.
    """
    root = dist.get_global_rank(group, src) if group is not None else src
    for places in assign(tensors, range(len(tensors)), [size]):
        parts = [tensors[i].detach() for i in places]
        flat = cat([t.reshape(-1) for t in parts])
        dist.broadcast(flat, root, group=group)
        if dist.get_rank(group) != src:
            for t, view in zip(parts, views_of(flat, parts), strict=True):
                t.data.copy_(view)
