"""What the processes of a group do together: PyTorch's collectives on tensors.

A tensor whose memory is contiguous is sent from and received into where it is; others are copied once. `async_op=True`
gives a Work, and the call goes on while the program computes. Every process of the group makes the same calls in the
same order.
"""

from __future__ import annotations

from typing import Any

from ..autograd.tensor import Tensor
from . import reduction
from .buffers import Finish, all_of, check_dtypes, check_list, check_tensor, reads, writes
from .groups import group_of, is_stranger, peer
from .types import ReduceOp, Work


def under_way(task: Any, result: Any, finish: Finish, async_op: bool) -> Work | None:
    """The call's Work, or None after it is done."""
    work = Work(result, task, finish)
    if async_op:
        task.look_after()
        return work
    work.wait()
    return None


def _shape(tensor: Tensor) -> str:
    return "(" + ", ".join(map(str, tensor.shape)) + ")"


def check_shapes(call: str, tensors: Any, like: Tensor) -> None:
    for i, tensor in enumerate(tensors):
        if tensor.shape != like.shape:
            raise RuntimeError(
                f"{call}: invalid tensor size at index {i} (expected {_shape(like)}, got {_shape(tensor)})"
            )


def into(tensors: Any, host: bool) -> tuple[dict[int, Any], Finish]:
    """Arrays to receive into, by rank, and what brings them into the tensors."""
    pairs = [writes(tensor, host) for tensor in tensors]
    return {rank: array for rank, (array, _) in enumerate(pairs)}, all_of([finish for _, finish in pairs])


def all_reduce(tensor: Tensor, op: Any = ReduceOp.SUM, group: Any = None, async_op: bool = False) -> Work | None:
    """Reduces a tensor over all processes, in place; all get the same bits: reduced in the order of the ranks."""
    check_tensor(tensor, "tensor")
    if is_stranger(group, "all_reduce"):
        return None
    transport = group_of(group).transport
    op = reduction.checked(op, tensor.dtype, "all_reduce")
    array, finish = writes(tensor, transport.host)
    return under_way(transport.all_reduce(array, op), [tensor], finish, async_op)


def reduce(
    tensor: Tensor,
    dst: int | None = None,
    op: Any = ReduceOp.SUM,
    group: Any = None,
    async_op: bool = False,
    group_dst: int | None = None,
) -> Work | None:
    """Reduces a tensor to the process `dst`, in place; elsewhere it is what it was."""
    check_tensor(tensor, "tensor")
    if is_stranger(group, "reduce"):
        return None
    found = group_of(group)
    root = peer(found, "reduce", dst, group_dst)
    op = reduction.checked(op, tensor.dtype, "reduce")
    array, finish = writes(tensor, found.transport.host)
    return under_way(found.transport.reduce(array, root, op), [tensor], finish, async_op)


def broadcast(
    tensor: Tensor, src: int | None = None, group: Any = None, async_op: bool = False, group_src: int | None = None
) -> Work | None:
    """Gives all processes the tensor of `src`, in place."""
    check_tensor(tensor, "tensor")
    if is_stranger(group, "broadcast"):
        return None
    found = group_of(group)
    root = peer(found, "broadcast", src, group_src)
    array, finish = writes(tensor, found.transport.host)
    return under_way(found.transport.broadcast(array, root), [tensor], finish, async_op)


def all_gather(tensor_list: list[Tensor], tensor: Tensor, group: Any = None, async_op: bool = False) -> Work | None:
    """Fills a list with the tensors of all processes, all of one shape. RuntimeError for a list of another length."""
    check_list(tensor_list, "tensor_list")
    check_tensor(tensor, "tensor")
    check_dtypes(*tensor_list, tensor)
    if is_stranger(group, "all_gather"):
        return None
    found = group_of(group)
    if len(tensor_list) != found.size():
        raise RuntimeError(
            f"allgather: invalid output tensor list at index 0 (expected length {found.size()}, got {len(tensor_list)})"
        )
    check_shapes("allgather", tensor_list, tensor)
    arrays, finish = into(tensor_list, found.transport.host)
    given = dict.fromkeys(range(found.size()), reads(tensor, found.transport.host))
    return under_way(found.transport.exchange("all_gather", given, arrays), [tensor_list], finish, async_op)


def all_gather_into_tensor(
    output_tensor: Tensor, input_tensor: Tensor, group: Any = None, async_op: bool = False
) -> Work | None:
    """Fills a tensor with those of all processes, one after the other. input: (n, *), output: (N n, *) or (N, n, *).

    The input may be this process's part of the output.
    """
    check_tensor(input_tensor, "input_tensor")
    check_tensor(output_tensor, "output_tensor")
    if is_stranger(group, "all_gather_into_tensor"):
        return None
    transport = group_of(group).transport
    check_dtypes(output_tensor, input_tensor)
    check_total("all_gather_into_tensor", "output", output_tensor, input_tensor, transport.size)
    out, finish = writes(output_tensor, transport.host)
    task = transport.all_gather(reads(input_tensor, transport.host), out)
    return under_way(task, [output_tensor], finish, async_op)


def check_total(call: str, name: str, whole: Tensor, part: Tensor, size: int) -> None:
    if whole.numel() != size * part.numel():
        raise RuntimeError(
            f"{call}: {name} tensor size must be equal to world_size times the other's: {_shape(whole)} is not "
            f"{size} x {_shape(part)}"
        )


def barrier(group: Any = None, async_op: bool = False, device_ids: Any = None) -> Work | None:
    """Waits until all processes have called it."""
    if is_stranger(group, "barrier"):
        return None
    return under_way(group_of(group).transport.barrier(), None, lambda: None, async_op)
