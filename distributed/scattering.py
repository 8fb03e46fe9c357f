"""Collectives whose processes give or take different parts: gather, scatter, reduce_scatter, all_to_all."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from itertools import accumulate
from typing import Any

from ..autograd.tensor import Tensor
from . import reduction
from .buffers import check_dtypes, check_list, check_tensor, reads, writes
from .collectives import check_shapes, check_total, into, under_way
from .groups import group_of, is_stranger, peer
from .types import ReduceOp, Work


def gather(
    tensor: Tensor,
    gather_list: list[Tensor] | None = None,
    dst: int | None = None,
    group: Any = None,
    async_op: bool = False,
    group_dst: int | None = None,
) -> Work | None:
    """Fills a list of the process `dst` (default 0) with the tensors of all. ValueError for a list elsewhere."""
    check_tensor(tensor, "tensor")
    if gather_list:
        check_list(gather_list, "gather_list")
        check_dtypes(*gather_list, tensor)
    if is_stranger(group, "gather"):
        return None
    found = group_of(group)
    root = peer(found, "gather", dst, group_dst, 0)
    host, rank = found.transport.host, found.rank()
    given = reads(tensor, host)
    if rank != root:
        if gather_list:
            raise ValueError("Argument ``gather_list`` must NOT be specified on non-destination ranks.")
        return under_way(found.transport.exchange("gather", {root: given}, {}), [], lambda: None, async_op)
    if not gather_list:
        raise ValueError("Argument ``gather_list`` must be specified on destination rank.")
    if len(gather_list) != found.size():
        raise RuntimeError(
            f"gather: Incorrect output list size {len(gather_list)}. Output list size should be {found.size()}, same "
            "as size of the process group."
        )
    check_shapes("gather", gather_list, tensor)
    arrays, finish = into(gather_list, host)
    return under_way(found.transport.exchange("gather", {root: given}, arrays), [gather_list], finish, async_op)


def scatter(
    tensor: Tensor,
    scatter_list: list[Tensor] | None = None,
    src: int | None = None,
    group: Any = None,
    async_op: bool = False,
    group_src: int | None = None,
) -> Work | None:
    """Gives each process one tensor of a list of the process `src` (default 0). ValueError for a list elsewhere."""
    check_tensor(tensor, "tensor")
    if scatter_list:
        check_list(scatter_list, "scatter_list")
        check_dtypes(tensor, *scatter_list)
    if is_stranger(group, "scatter"):
        return None
    found = group_of(group)
    root = peer(found, "scatter", src, group_src, 0)
    host, rank = found.transport.host, found.rank()
    sends: dict[int, Any] = {}
    if rank != root:
        if scatter_list:
            raise ValueError("Argument ``scatter_list`` must NOT be specified on non-source ranks.")
    elif not scatter_list:
        raise ValueError("Argument ``scatter_list`` must be specified on source rank.")
    elif len(scatter_list) != found.size():
        raise RuntimeError(
            f"scatter: Incorrect input list size {len(scatter_list)}. Input list size should be {found.size()}, same "
            "as size of the process group."
        )
    else:
        check_shapes("scatter", scatter_list, tensor)
        sends = {p: reads(part, host) for p, part in enumerate(scatter_list)}
    array, finish = writes(tensor, host)
    return under_way(found.transport.exchange("scatter", sends, {root: array}), [tensor], finish, async_op)


def reduce_scatter(
    output: Tensor, input_list: list[Tensor], op: Any = ReduceOp.SUM, group: Any = None, async_op: bool = False
) -> Work | None:
    """Reduces a list over all processes and gives each its part. RuntimeError for a list of another length."""
    check_tensor(output, "output")
    check_list(input_list, "input_list")
    check_dtypes(output, *input_list)
    if is_stranger(group, "reduce_scatter"):
        return None
    transport = group_of(group).transport
    if len(input_list) != transport.size:
        raise RuntimeError("invalid input tensor list size, must be world size")
    check_shapes("reduce_scatter", input_list, output)
    op = reduction.checked(op, output.dtype, "reduce_scatter")
    array, finish = writes(output, transport.host)
    parts = [reads(part, transport.host) for part in input_list]
    return under_way(transport.reduce_scatter(parts, array, op), [output], finish, async_op)


def reduce_scatter_tensor(
    output: Tensor, input: Tensor, op: Any = ReduceOp.SUM, group: Any = None, async_op: bool = False
) -> Work | None:
    """Reduces a tensor over all processes and gives each its part. input: (N n, *) or (N, n, *), output: (n, *)."""
    check_tensor(output, "output")
    check_tensor(input, "input")
    if is_stranger(group, "reduce_scatter_tensor"):
        return None
    transport = group_of(group).transport
    check_dtypes(output, input)
    check_total("reduce_scatter_tensor", "input", input, output, transport.size)
    op = reduction.checked(op, output.dtype, "reduce_scatter_tensor")
    array, finish = writes(output, transport.host)
    parts = reads(input, transport.host).reshape(transport.size, array.size)
    return under_way(transport.reduce_scatter(parts, array, op), [output], finish, async_op)


def all_to_all(
    output_tensor_list: list[Tensor], input_tensor_list: list[Tensor], group: Any = None, async_op: bool = False
) -> Work | None:
    """Each process gives every other one tensor of a list. RuntimeError for lists of another length."""
    if is_stranger(group, "all_to_all"):
        return None
    check_list(output_tensor_list, "output_tensor_list")
    check_list(input_tensor_list, "input_tensor_list")
    check_dtypes(*output_tensor_list, *input_tensor_list)
    found = group_of(group)
    for name, tensors in (("input", input_tensor_list), ("output", output_tensor_list)):
        if len(tensors) != found.size():
            raise RuntimeError(
                f"alltoall: {name} tensor list size {len(tensors)} does not match world size {found.size()}"
            )
    rank = found.rank()
    if output_tensor_list[rank].numel() != input_tensor_list[rank].numel():
        raise RuntimeError("alltoall: input and output tensors must have the same size")
    host = found.transport.host
    sends = {p: reads(part, host) for p, part in enumerate(input_tensor_list)}
    arrays, finish = into(output_tensor_list, host)
    return under_way(found.transport.exchange("all_to_all", sends, arrays), [output_tensor_list], finish, async_op)


def _parts(tensor: Tensor, flat: Any, splits: Sequence[int] | None, size: int) -> dict[int, Any]:
    """The flat array in pieces of whole rows: as many rows each as `splits` says, equal ones where it is empty."""
    rows = tensor.shape[0] if tensor.ndim else 0
    if not splits:
        if rows % size:
            raise RuntimeError(f"Tensor's dim 0 does not divide equally across group size: {rows} rows, {size} ranks")
        splits = [rows // size] * size
    if len(splits) != size:
        raise RuntimeError("Number of tensor splits not equal to group size")
    if sum(splits) != rows or min(splits) < 0:
        raise RuntimeError(f"Split sizes doesn't match total dim 0 size: {list(splits)}, {rows} rows")
    width = tensor.numel() // rows if rows else 0
    ends = [0, *accumulate(n * width for n in splits)]
    return {p: flat[ends[p] : ends[p + 1]] for p in range(size)}


def all_to_all_single(
    output: Tensor,
    input: Tensor,
    output_split_sizes: Sequence[int] | None = None,
    input_split_sizes: Sequence[int] | None = None,
    group: Any = None,
    async_op: bool = False,
) -> Work | None:
    """Each process gives every other some rows of a tensor: equally many, or as the sizes say. RuntimeError else."""
    if is_stranger(group, "all_to_all_single"):
        return None
    check_tensor(output, "output")
    check_tensor(input, "input")
    check_dtypes(output, input)
    found = group_of(group)
    host, rank = found.transport.host, found.rank()
    sends = _parts(input, reads(input, host), input_split_sizes, found.size())
    array, finish = writes(output, host)
    receives = _parts(output, array, output_split_sizes, found.size())
    if sends[rank].size != receives[rank].size:
        raise RuntimeError(
            f"all_to_all_single: rank {rank} gives itself {sends[rank].size} elements and takes {receives[rank].size}"
        )
    return under_way(found.transport.exchange("all_to_all", sends, receives), [output], finish, async_op)


def monitored_barrier(group: Any = None, timeout: timedelta | None = None, wait_all_ranks: bool = False) -> None:
    """Waits for all processes; after `timeout` (the group's) a RuntimeError names the ranks that did not come."""
    if is_stranger(group, "monitored_barrier"):
        return
    task = group_of(group).transport.barrier("monitored_barrier")
    Work(None, task).wait(timeout)


