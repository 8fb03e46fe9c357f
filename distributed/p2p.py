"""Messages from one process to another."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from ..autograd.tensor import Tensor
from .buffers import Finish, all_of, check_tensor, reads, writes
from .groups import get_global_rank, group_of, is_stranger, peer
from .types import Work


def isend(
    tensor: Tensor, dst: int | None = None, group: Any = None, tag: int = 0, group_dst: int | None = None
) -> Work | None:
    """Sends a tensor to a process without waiting. The tensor must stay as it is until the Work is done."""
    check_tensor(tensor, "tensor")
    if is_stranger(group, "isend"):
        return None
    found = group_of(group)
    to = peer(found, "send", dst, group_dst)
    if to == found.rank():
        raise ValueError(
            "Invalid destination rank: destination rank should not be the same as the rank of the current process."
        )
    task = found.transport.send(reads(tensor, found.transport.host), to, _checked_tag(tag))
    task.look_after()
    return Work([tensor], task)


def irecv(
    tensor: Tensor, src: int | None = None, group: Any = None, tag: int = 0, group_src: int | None = None
) -> Work | None:
    """Receives a tensor from a process, or from whichever sends first (neither src nor group_src), without waiting."""
    check_tensor(tensor, "tensor")
    if is_stranger(group, "irecv"):
        return None
    found = group_of(group)
    anyone = src is None and group_src is None
    source = None if anyone else peer(found, "recv", src, group_src)
    if source == found.rank():
        raise ValueError("Invalid source rank: source rank should not be the same as the rank of the current process.")
    array, finish = writes(tensor, found.transport.host)
    task = found.transport.receive(array, source, _checked_tag(tag))
    task.look_after()
    return Work([tensor], task, finish)


def _checked_tag(tag: int) -> int:
    if not isinstance(tag, int) or not 0 <= tag < 1 << 22:
        raise ValueError(f"tag must be a whole number from 0 to {(1 << 22) - 1}, got {tag!r}")
    return tag


def send(
    tensor: Tensor, dst: int | None = None, group: Any = None, tag: int = 0, group_dst: int | None = None
) -> None:
    """Sends a tensor to a process, and waits until its memory may be used again."""
    work = isend(tensor, dst, group, tag, group_dst)
    if work is not None:
        work.wait()


def recv(
    tensor: Tensor, src: int | None = None, group: Any = None, tag: int = 0, group_src: int | None = None
) -> int:
    """Receives a tensor from a process, or from whichever sends first. Gives the sender's number in the world."""
    work = irecv(tensor, src, group, tag, group_src)
    if work is None:
        return -1
    work.wait()
    return get_global_rank(group, work.source_rank())


class P2POp:
    """One of the messages of `batch_isend_irecv`.

    Args:
        op: `isend` or `irecv`.
        peer, group_peer: the other process, by its number in the world or in the group.
    """

    def __init__(
        self,
        op: Callable[..., Any],
        tensor: Tensor,
        peer: int | None = None,
        group: Any = None,
        tag: int = 0,
        group_peer: int | None = None,
    ):
        if op not in (isend, irecv):
            raise ValueError(
                "Invalid ``op``. Expected ``op`` to be of type ``torch.distributed.isend`` or "
                "``torch.distributed.irecv``."
            )
        check_tensor(tensor, "tensor")
        self.op, self.tensor, self.peer, self.group, self.tag = op, tensor, peer, group, tag
        self.group_peer = group_peer


def batch_isend_irecv(p2p_op_list: Sequence[P2POp]) -> list[Work]:
    """Begins many messages at once, receives first, and gives their Works in the order of the list."""
    if not p2p_op_list or not all(isinstance(op, P2POp) for op in p2p_op_list):
        raise ValueError(
            "Invalid ``p2p_op_list``. Each op is expected to to be of type ``torch.distributed.P2POp``."
            if p2p_op_list
            else "batch_isend_irecv: the list of P2POp is empty"
        )
    groups = {id(group_of(op.group)) for op in p2p_op_list if not is_stranger(op.group)}
    if len(groups) > 1:
        raise ValueError("All ops need to use the same group.")
    transport = group_of(p2p_op_list[0].group).transport
    if hasattr(transport, "batch"):
        together = _together(p2p_op_list, transport)
        if together is not None:
            return together
    return _one_by_one(p2p_op_list)


def _one_by_one(ops: Sequence[P2POp]) -> list[Work]:
    """Receives first: then no send needs a place to be kept."""
    works: dict[int, Work | None] = {}
    for number, op in sorted(enumerate(ops), key=lambda pair: pair[1].op is not irecv):
        works[number] = op.op(op.tensor, op.peer, op.group, op.tag, op.group_peer)
    return [work for _, work in sorted(works.items()) if work is not None]


def _together(ops: Sequence[P2POp], transport: Any) -> list[Work] | None:
    """All messages as one call of the transport with each peer; None where it does not take these arrays so."""
    found = group_of(ops[0].group)
    messages: list[tuple[bool, Any, int]] = []
    finishes: dict[int, list[Finish]] = {}
    for op in ops:
        to = peer(found, "send" if op.op is isend else "recv", op.peer, op.group_peer)
        if op.op is isend:
            messages.append((True, reads(op.tensor, False), to))
        else:
            array, finish = writes(op.tensor, False)
            messages.append((False, array, to))
            finishes.setdefault(to, []).append(finish)
    tasks = transport.batch(messages)
    if tasks is None:
        return None
    return [Work([op.tensor for op in ops], task, all_of(finishes.get(to, []))) for to, task in tasks.items()]
