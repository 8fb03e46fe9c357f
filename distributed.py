"""torch.distributed for a world of one process.

Everything that programs ask of a process group works, with this process as its only member: what is reduced over all
is what it was, what is gathered is one's own. More processes need a transport between them (NCCL, Gloo or MPI), which
is not there: `init_process_group` says so.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import timedelta
from typing import Any

from .autograd.modes import no_grad
from .autograd.tensor import Tensor

default_pg_timeout = timedelta(minutes=30)


class DistError(RuntimeError):
    """An error of torch.distributed."""


class DistBackendError(DistError):
    """The transport failed, or there is none."""


class DistNetworkError(DistError):
    """A connection failed."""


class DistStoreError(DistError):
    """The store of a rendezvous failed."""


class ReduceOp:
    """How values of several processes become one; over one process all but PREMUL_SUM give what was there."""

    SUM, AVG, PRODUCT, MIN, MAX, BAND, BOR, BXOR = range(8)


reduce_op = ReduceOp


class ProcessGroup:
    """A group of processes: this one.

    Attributes:
        name: the name of the backend that was asked for.
    """

    def __init__(self, backend: str, timeout: timedelta):
        self.backend, self.timeout = backend, timeout

    def size(self) -> int:
        """How many processes there are: 1."""
        return 1

    def rank(self) -> int:
        """The number of this process: 0."""
        return 0


class Backend(str):
    """The name of a transport."""

    UNDEFINED, GLOO, NCCL, MPI, UCC, XCCL = "undefined", "gloo", "nccl", "mpi", "ucc", "xccl"
    backend_list = ("undefined", "gloo", "nccl", "mpi", "ucc", "xccl")


class group:
    """`group.WORLD`: the group of all processes, None before `init_process_group`."""

    WORLD: ProcessGroup | None = None


GroupMember = group


class Work:
    """A call that is done: what `async_op=True` gives."""

    def __init__(self, result: Any = None):
        self._result = result

    def wait(self, timeout: timedelta | None = None) -> bool:
        """True at once."""
        return True

    def is_completed(self) -> bool:
        """Whether it is done: yes."""
        return True

    is_success = is_completed

    def result(self) -> Any:
        """The tensors of the call."""
        return self._result


# ---- the group


def is_available() -> bool:
    """Whether torch.distributed can be used: yes, by one process."""
    return True


def is_initialized() -> bool:
    """Whether `init_process_group` was called."""
    return group.WORLD is not None


def _absent() -> bool:
    """Whether there is such a transport: no."""
    return False


is_nccl_available = is_gloo_available = is_mpi_available = is_ucc_available = is_xccl_available = _absent
is_torchelastic_launched = _absent


def is_backend_available(backend: str) -> bool:
    """Whether a transport of that name is there: none is, one process needs none."""
    return False


def _from_environment(name: str) -> int:
    value = os.environ.get(name)
    if value is None:
        raise ValueError(
            f"Error initializing torch.distributed using env:// rendezvous: environment variable {name} expected, but "
            "not set"
        )
    return int(value)


def init_process_group(
    backend: str | None = None,
    init_method: str | None = None,
    timeout: timedelta | None = None,
    world_size: int = -1,
    rank: int = -1,
    store: Any = None,
    group_name: str = "",
    pg_options: Any = None,
    device_id: Any = None,
) -> None:
    """Starts the group of all processes. Rank and size come from the arguments, else from RANK and WORLD_SIZE.

    ValueError when it is started already or a variable is missing; DistBackendError for more than one process.
    """
    if group.WORLD is not None:
        raise ValueError("trying to initialize the default process group twice!")
    if store is not None and (world_size < 1 or rank < 0):
        raise ValueError("world_size must be positive and rank non-negative if using store")
    if world_size == -1:
        world_size = _from_environment("WORLD_SIZE")
    if rank == -1:
        rank = _from_environment("RANK")
    if world_size != 1:
        raise DistBackendError(
            f"init_process_group(backend={backend!r}): a world of {world_size} processes needs a transport between "
            "them (NCCL, Gloo or MPI), which tapegrad does not have. Start one process (WORLD_SIZE=1), which may use "
            "one device"
        )
    if rank != 0:
        raise ValueError(f"rank {rank} is outside of a world of 1 process")
    group.WORLD = ProcessGroup(backend or "undefined", timeout or default_pg_timeout)


def destroy_process_group(group: Any = None) -> None:
    """Ends the group. AssertionError where there is none."""
    if not is_initialized():
        raise AssertionError("Process group cannot be None")
    globals()["group"].WORLD = None


def _group(given: Any = None) -> ProcessGroup:
    found = given if given is not None else group.WORLD
    if group.WORLD is None or found is None:
        raise ValueError("Default process group has not been initialized, please make sure to call init_process_group.")
    return found


def get_rank(group: Any = None) -> int:
    """The number of this process: 0."""
    return _group(group).rank()


def get_world_size(group: Any = None) -> int:
    """How many processes there are: 1."""
    return _group(group).size()


def get_backend(group: Any = None) -> str:
    """The name of the transport that was asked for."""
    return _group(group).backend


def get_node_local_rank(fallback_rank: int | None = None) -> int:
    """The number of this process on its machine: LOCAL_RANK, else `fallback_rank`. RuntimeError without both."""
    if "LOCAL_RANK" in os.environ:
        return int(os.environ["LOCAL_RANK"])
    if fallback_rank is None:
        raise RuntimeError(
            "LOCAL_RANK is not in the environment. Consider passing fallback_rank to allow `get_node_local_rank` to "
            "work, assuming you are not running in a multi-device context and want the code to run locally instead."
        )
    return int(fallback_rank)


def new_group(ranks: Any = None, timeout: Any = None, backend: str | None = None, **_: Any) -> ProcessGroup:
    """A group of some of the processes: of this one. ValueError for a rank that is not there."""
    world = _group()
    for rank in ranks or ():
        _check_rank(rank)
    return ProcessGroup(backend or world.backend, timeout or world.timeout)


def get_process_group_ranks(group: Any = None) -> list[int]:
    """The numbers of a group's processes: [0]."""
    _group(group)
    return [0]


def get_global_rank(group: Any, group_rank: int) -> int:
    """The number in the world of a group's process."""
    _check_rank(group_rank)
    return 0


get_group_rank = get_global_rank


def _check_rank(rank: int | None) -> None:
    if rank not in (0, None):
        raise ValueError(f"the rank {rank} is outside of the world of 1 process")


# ---- what processes do together


def _check_tensor(value: Any, name: str) -> None:
    if not isinstance(value, Tensor):
        raise TypeError(f"Invalid function argument. Expected parameter `{name}` of type torch.Tensor.")


def _check_one(tensors: Any, name: str) -> Tensor:
    if not isinstance(tensors, (list, tuple)) or len(tensors) != 1:
        raise ValueError(f"Invalid function argument. Expected `{name}` to have one tensor per process: 1")
    _check_tensor(tensors[0], name)
    return tensors[0]


def _done(asked: bool, *tensors: Any) -> Work | None:
    return Work(list(tensors)) if asked else None


def _copy(target: Tensor, source: Tensor) -> None:
    with no_grad():
        target.copy_(source.reshape(target.shape))


def all_reduce(tensor: Tensor, op: Any = ReduceOp.SUM, group: Any = None, async_op: bool = False) -> Work | None:
    """Reduces a tensor over all processes, in place: it is what it was."""
    _group(group)
    _check_tensor(tensor, "tensor")
    return _done(async_op, tensor)


def reduce(
    tensor: Tensor, dst: int | None = None, op: Any = ReduceOp.SUM, group: Any = None, async_op: bool = False, **_: Any
) -> Work | None:
    """Reduces a tensor to one process, in place: it is what it was."""
    _check_rank(dst)
    return all_reduce(tensor, op, group, async_op)


def broadcast(
    tensor: Tensor, src: int | None = None, group: Any = None, async_op: bool = False, **_: Any
) -> Work | None:
    """Gives all processes the tensor of one, in place: it is what it was."""
    _check_rank(src)
    return all_reduce(tensor, None, group, async_op)


def all_gather(tensor_list: list[Tensor], tensor: Tensor, group: Any = None, async_op: bool = False) -> Work | None:
    """Fills a list with the tensors of all processes. RuntimeError where it has not one tensor per process."""
    _group(group)
    _copy(_check_one(tensor_list, "tensor_list"), tensor)
    return _done(async_op, *tensor_list)


def all_gather_into_tensor(
    output_tensor: Tensor, input_tensor: Tensor, group: Any = None, async_op: bool = False
) -> Work | None:
    """Fills a tensor with those of all processes."""
    _group(group)
    _copy(output_tensor, input_tensor)
    return _done(async_op, output_tensor)


def gather(
    tensor: Tensor, gather_list: Any = None, dst: int | None = None, group: Any = None, async_op: bool = False, **_: Any
) -> Work | None:
    """Fills a list of one process with the tensors of all."""
    _check_rank(dst)
    return all_gather(gather_list, tensor, group, async_op)


def scatter(
    tensor: Tensor, scatter_list: Any = None, src: int | None = None, group: Any = None, async_op: bool = False,
    **_: Any,
) -> Work | None:  # fmt: skip
    """Gives each process one tensor of a list of one process."""
    _group(group)
    _check_rank(src)
    _copy(tensor, _check_one(scatter_list, "scatter_list"))
    return _done(async_op, tensor)


def reduce_scatter(
    output: Tensor, input_list: list[Tensor], op: Any = ReduceOp.SUM, group: Any = None, async_op: bool = False
) -> Work | None:
    """Reduces a list over all processes and gives each its part."""
    _group(group)
    _copy(output, _check_one(input_list, "input_list"))
    return _done(async_op, output)


def reduce_scatter_tensor(
    output: Tensor, input: Tensor, op: Any = ReduceOp.SUM, group: Any = None, async_op: bool = False
) -> Work | None:
    """Reduces a tensor over all processes and gives each its part."""
    return all_gather_into_tensor(output, input, group, async_op)


def all_to_all(
    output_tensor_list: list[Tensor], input_tensor_list: list[Tensor], group: Any = None, async_op: bool = False
) -> Work | None:
    """Each process gives every other one tensor."""
    return all_gather(output_tensor_list, _check_one(input_tensor_list, "input_tensor_list"), group, async_op)


def all_to_all_single(
    output: Tensor, input: Tensor, output_split_sizes: Any = None, input_split_sizes: Any = None, group: Any = None,
    async_op: bool = False,
) -> Work | None:  # fmt: skip
    """Each process gives every other a part of one tensor."""
    return all_gather_into_tensor(output, input, group, async_op)


def barrier(group: Any = None, async_op: bool = False, device_ids: Any = None) -> Work | None:
    """Waits for all processes: for none."""
    _group(group)
    return _done(async_op)


def monitored_barrier(group: Any = None, timeout: Any = None, wait_all_ranks: bool = False) -> None:
    """Waits for all processes: for none."""
    _group(group)


def all_gather_object(object_list: list[Any], obj: Any, group: Any = None) -> None:
    """Fills a list with the objects of all processes; a copy of each, as if it had travelled."""
    import pickle

    _group(group)
    object_list[0] = pickle.loads(pickle.dumps(obj))


def gather_object(
    obj: Any, object_gather_list: Any = None, dst: int | None = None, group: Any = None, **_: Any
) -> None:
    """Fills a list of one process with the objects of all."""
    _check_rank(dst)
    all_gather_object(object_gather_list, obj, group)


def broadcast_object_list(object_list: list[Any], src: int | None = None, group: Any = None, **_: Any) -> None:
    """Gives all processes the objects of one: they are what they were."""
    _group(group)
    _check_rank(src)


def scatter_object_list(
    scatter_object_output_list: list[Any], scatter_object_input_list: Any = None, src: int | None = None,
    group: Any = None, **_: Any,
) -> None:  # fmt: skip
    """Gives each process one object of a list."""
    _group(group)
    _check_rank(src)
    scatter_object_output_list[0] = scatter_object_input_list[0]


def _alone(name: str) -> Callable[..., Any]:
    def call(*args: Any, **kwargs: Any) -> Any:
        _group(kwargs.get("group"))
        raise ValueError(f"{name}(): there is no other process in a world of one: a process cannot {name} to itself")

    call.__name__, call.__doc__ = name, f"`{name}` needs a second process. ValueError in a world of one."
    return call


send, recv, isend, irecv = (_alone(name) for name in ("send", "recv", "isend", "irecv"))
