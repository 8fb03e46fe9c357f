"""Collectives of Python objects: pickled, sent as bytes, unpickled. Take none from processes you do not trust."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np

from ..autograd.tensor import Tensor
from . import collectives, p2p, scattering
from .groups import group_of, is_stranger, peer


def _packed(obj: Any) -> Tensor:
    return Tensor._of(np.frombuffer(pickle.dumps(obj), np.uint8))


def _empty(length: int) -> Tensor:
    return Tensor._of(np.empty(length, np.uint8))


def _numbers(values: Any) -> Tensor:
    return Tensor._of(np.array(values, np.int64))


def _object(tensor: Tensor) -> Any:
    return pickle.loads(tensor.array.tobytes())


def all_gather_object(object_list: list[Any], obj: Any, group: Any = None) -> None:
    """Fills a list with the objects of all processes. ValueError for a list that is too short."""
    if is_stranger(group, "all_gather_object"):
        return
    size = group_of(group).size()
    if len(object_list) < size:
        raise ValueError(f"all_gather_object: the list has {len(object_list)} places for {size} processes")
    mine = _packed(obj)
    lengths = [_numbers([0]) for _ in range(size)]
    collectives.all_gather(lengths, _numbers([mine.numel()]), group)
    # all_to_all takes pieces of different lengths, all_gather does not
    found = [_empty(length.item()) for length in lengths]
    scattering.all_to_all(found, [mine] * size, group)
    object_list[:size] = [_object(tensor) for tensor in found]


def gather_object(
    obj: Any,
    object_gather_list: list[Any] | None = None,
    dst: int | None = None,
    group: Any = None,
    group_dst: int | None = None,
) -> None:
    """Fills a list of the process `dst` (default 0) with the objects of all. ValueError for a list elsewhere."""
    if is_stranger(group, "gather_object"):
        return
    found = group_of(group)
    root, size = peer(found, "gather", dst, group_dst, 0), found.size()
    here = found.rank() == root
    if here and not object_gather_list:
        raise ValueError("Argument ``gather_list`` must be specified on destination rank.")
    if not here and object_gather_list:
        raise ValueError("Argument ``gather_list`` must NOT be specified on non-destination ranks.")
    if here and len(object_gather_list or ()) < size:
        raise ValueError(f"gather_object: the list has {len(object_gather_list or ())} places for {size} processes")
    mine = _packed(obj)
    lengths = [_numbers([0]) for _ in range(size)]
    collectives.all_gather(lengths, _numbers([mine.numel()]), group)
    nothing = _empty(0)
    parts = [_empty(length.item()) if here else nothing for length in lengths]
    scattering.all_to_all(parts, [mine if rank == root else nothing for rank in range(size)], group)
    if here and object_gather_list is not None:
        object_gather_list[:size] = [_object(part) for part in parts]


def broadcast_object_list(
    object_list: list[Any],
    src: int | None = None,
    group: Any = None,
    device: Any = None,
    group_src: int | None = None,
) -> None:
    """Gives all processes the objects of `src`, whose list is as long as theirs."""
    if not isinstance(object_list, list):
        raise TypeError(f"Expected ``object_list`` to be a list, got {type(object_list)}")
    if is_stranger(group, "broadcast_object_list"):
        return
    found = group_of(group)
    root = peer(found, "broadcast", src, group_src, 0)
    here = found.rank() == root
    mine = [_packed(obj) for obj in object_list] if here else []
    lengths = _numbers([t.numel() for t in mine] if here else [0] * len(object_list))
    collectives.broadcast(lengths, group=group, group_src=root)
    for i, length in enumerate(lengths.tolist()):
        part = mine[i] if here else _empty(length)
        collectives.broadcast(part, group=group, group_src=root)
        if not here:
            object_list[i] = _object(part)


def scatter_object_list(
    scatter_object_output_list: list[Any],
    scatter_object_input_list: list[Any] | None = None,
    src: int | None = None,
    group: Any = None,
    group_src: int | None = None,
) -> None:
    """Gives each process one object of a list of `src` (default 0), in the first place of a list."""
    if is_stranger(group, "scatter_object_list"):
        return
    if not isinstance(scatter_object_output_list, list) or len(scatter_object_output_list) < 1:
        raise ValueError("Expected argument scatter_object_output_list to be a list of size at least 1.")
    found = group_of(group)
    root, size = peer(found, "scatter", src, group_src, 0), found.size()
    here = found.rank() == root
    given = scatter_object_input_list or []
    if here and len(given) != size:
        raise ValueError(f"scatter_object_list: the list has {len(given)} objects for {size} processes")
    nothing = _empty(0)
    parts = [_packed(obj) for obj in given] if here else [nothing] * size
    length = _numbers([0])
    lengths = [_numbers([part.numel()]) for part in parts] if here else None
    scattering.scatter(length, lengths, group=group, group_src=root)
    taken = [_empty(length.item()) if rank == root else nothing for rank in range(size)]
    scattering.all_to_all(taken, parts, group)
    scatter_object_output_list[0] = _object(taken[root])


def send_object_list(
    object_list: list[Any],
    dst: int | None = None,
    group: Any = None,
    device: Any = None,
    group_dst: int | None = None,
    use_batch: bool = False,
) -> None:
    """Sends a list of objects to a process, which calls `recv_object_list`."""
    if is_stranger(group, "send_object_list"):
        return
    parts = [_packed(obj) for obj in object_list]
    p2p.send(_numbers([part.numel() for part in parts]), dst, group, group_dst=group_dst)
    for part in parts:
        p2p.send(part, dst, group, group_dst=group_dst)


def recv_object_list(
    object_list: list[Any],
    src: int | None = None,
    group: Any = None,
    device: Any = None,
    group_src: int | None = None,
    use_batch: bool = False,
) -> int:
    """Receives a list of as many objects. Gives the sender's number in the world."""
    if is_stranger(group, "recv_object_list"):
        return -1
    lengths = _numbers([0] * len(object_list))
    sender = p2p.recv(lengths, src, group, group_src=group_src)
    for i, length in enumerate(lengths.tolist()):
        part = _empty(length)
        p2p.recv(part, sender, group)
        object_list[i] = _object(part)
    return sender
