"""Process groups: who takes part, over which transport, and how a program becomes part of one."""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from ..backends import threads
from .job import job
from .launch import launched
from .single import SingleTransport
from .types import Backend, DistBackendError, default_pg_timeout


class ProcessGroup:
    """A group of processes.

    Attributes:
        backend: the name of the transport that was asked for.
        timeout: how long a call may take.
        ranks: the members' numbers in the world, in the order of their ranks in the group.
        transport: what moves the arrays.
    """

    def __init__(self, backend: str, timeout: timedelta, transport: Any, group_name: str = "0", group_desc: str = ""):
        self.backend, self.timeout, self.transport = backend, timeout, transport
        self.group_name, self.group_desc = group_name, group_desc or "undefined"

    @property
    def ranks(self) -> tuple[int, ...]:
        return tuple(self.transport.ranks)

    def size(self) -> int:
        """How many processes there are."""
        return int(self.transport.size)

    def rank(self) -> int:
        """The number of this process in the group."""
        return int(self.transport.rank)

    def name(self) -> str:
        """The name of the transport that was asked for."""
        return self.backend

    def __repr__(self) -> str:
        return f"<ProcessGroup {self.backend}: ranks {list(self.ranks)}, this is rank {self.rank()}>"


class group:
    """`group.WORLD`: the group of all processes, None before `init_process_group`."""

    WORLD: ProcessGroup | None = None


class GroupMember:
    """What `new_group` gives a process that is not in the group: NON_GROUP_MEMBER. WORLD is `group.WORLD`'s."""

    NON_GROUP_MEMBER = -100


_members: list[ProcessGroup] = []  # every group of this process, the world first
_count = [0]  # groups made so far, by all processes alike


def is_available() -> bool:
    """Whether torch.distributed can be used: yes; several processes need the extra `mpi`."""
    return True


def is_initialized() -> bool:
    """Whether `init_process_group` was called."""
    return group.WORLD is not None


def _from_environment(name: str) -> int:
    value = os.environ.get(name)
    if value is None:
        raise ValueError(
            f"Error initializing torch.distributed using env:// rendezvous: environment variable {name} expected, but "
            "not set"
        )
    return int(value)


def _seconds(timeout: Any) -> timedelta:
    if timeout is None:
        return default_pg_timeout
    if not isinstance(timeout, timedelta):
        raise TypeError(f"Expected timeout argument to be of type datetime.timedelta, got {timeout}")
    return timeout


def _known(backend: str | None) -> str:
    name = Backend("undefined" if backend is None else backend)
    parts = [part.rpartition(":")[2] for part in name.split(",")]
    for part in parts:
        if part not in Backend.backend_list:
            raise AssertionError(f"Unknown backend type {part}: known are {', '.join(Backend.backend_list[1:])}")
    return str(name)


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
    """Makes this process part of the group of all.

    Under `mpiexec -n N python program.py` its number and N come from MPI; `backend` None, "gloo" and "mpi" are MPI,
    with arrays of GPUs going through the host's memory; "nccl" is NCCL for those, and MPI for the CPU's.
    Otherwise they come from the arguments, else from RANK and WORLD_SIZE (env://); one process needs no transport.

    Each process is given its share of the machine's cores for kernels and BLAS (`torch.set_num_threads` afterwards
    chooses otherwise; OMP_NUM_THREADS beforehand does), so that N processes do not start N times as many threads.

    Args:
        timeout: how long a call may take before it raises; 30 minutes. A process that dies is noticed much sooner.

    ValueError when it is started already, a variable is missing, or numbers contradict each other; ImportError that
    names the extra `mpi`; DistBackendError for several processes that mpiexec did not start.
    """
    if group.WORLD is not None:
        raise ValueError("trying to initialize the default process group twice!")
    if store is not None and (world_size < 1 or rank < 0):
        raise ValueError("world_size must be positive and rank non-negative if using store")
    name, limit, started = _known(backend), _seconds(timeout), launched()
    if started is not None and started[0] > 1:
        transport = _over_mpi(started, world_size, rank, limit)
        if "nccl" in name:
            from .nccl import NCCLTransport, load_cupy

            transport = NCCLTransport(transport, load_cupy())
        name = "mpi" if name == "undefined" else name
    else:
        _alone(backend, world_size, rank)
        transport = SingleTransport()
    _count[0] += 1
    group.WORLD = ProcessGroup(name, limit, transport, group_name or "0", "default_pg")
    _members.append(group.WORLD)


def _over_mpi(started: tuple[int, int], world_size: int, rank: int, timeout: timedelta) -> Any:
    """The transport of all processes that mpiexec started."""
    for what, asked, found in (("world_size", world_size, started[0]), ("rank", rank, started[1])):
        if asked not in (-1, found):
            raise ValueError(
                f"init_process_group({what}={asked}): mpiexec started {started[0]} processes, of which this one is "
                f"rank {started[1]}. Leave {what} out"
            )
    from .mpi import MPITransport

    own = job(timeout)
    transport = MPITransport(own, range(own.size), timeout, 0)
    if not os.environ.get("OMP_NUM_THREADS"):
        threads.set_count(max(1, threads.count() // own.local_size))
    return transport


def _alone(backend: str | None, world_size: int, rank: int) -> None:
    """Checks that this process is the whole world."""
    if backend == "mpi" and world_size == rank == -1:
        return  # as MPI does: a program that mpiexec did not start is a world of its own
    world_size = _from_environment("WORLD_SIZE") if world_size == -1 else world_size
    rank = _from_environment("RANK") if rank == -1 else rank
    if world_size != 1:
        raise DistBackendError(
            f"init_process_group(backend={backend!r}): a world of {world_size} processes needs a transport between "
            f"them, MPI, and this process was not started by it. Start all with `mpiexec -n {world_size} python "
            "program.py` (mpiexec comes with pip install 'tapegrad[mpi]'), without RANK and WORLD_SIZE"
        )
    if rank != 0:
        raise ValueError(f"rank {rank} is outside of a world of 1 process")


def destroy_process_group(group: Any = None) -> None:
    """Ends a group, or all of them. AssertionError where there is none."""
    found = globals()["group"].WORLD if group is None else group
    if found == GroupMember.NON_GROUP_MEMBER:
        return
    if found is None:
        raise AssertionError("Process group cannot be None")
    if found not in _members:
        raise ValueError("Invalid process group specified")
    ended = list(_members) if found is globals()["group"].WORLD else [found]
    for one in ended:
        _members.remove(one)
        one.transport.close()
    if not _members or found is globals()["group"].WORLD:
        globals()["group"].WORLD = None


def group_of(given: Any = None) -> ProcessGroup:
    """The group meant: the world by default. ValueError before `init_process_group`."""
    found = given if given is not None else group.WORLD
    if group.WORLD is None or found is None:
        raise ValueError("Default process group has not been initialized, please make sure to call init_process_group.")
    if not isinstance(found, ProcessGroup):
        raise TypeError(f"group must be a ProcessGroup, as new_group gives it, got {found!r}")
    return found


def is_stranger(given: Any, call: str = "") -> bool:
    """Whether this process is not in the group that a call names; warns as PyTorch does."""
    if given != GroupMember.NON_GROUP_MEMBER:
        return False
    if call:
        warnings.warn(
            f"Running {call} on global rank {get_rank()} which does not belong to the given group.", stacklevel=3
        )
    return True


def get_rank(group: Any = None) -> int:
    """The number of this process in the group; -1 where it is not in it."""
    return -1 if is_stranger(group) else group_of(group).rank()


def get_world_size(group: Any = None) -> int:
    """How many processes there are; -1 where this one is not in the group."""
    return -1 if is_stranger(group) else group_of(group).size()


def get_backend(group: Any = None) -> str:
    """The name of the transport that was asked for; "mpi" by default under mpiexec."""
    if is_stranger(group):
        raise ValueError("Invalid process group specified")
    return group_of(group).backend


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


def new_group(
    ranks: Sequence[int] | None = None,
    timeout: timedelta | None = None,
    backend: str | None = None,
    pg_options: Any = None,
    use_local_synchronization: bool = False,
    group_desc: str | None = None,
    device_id: Any = None,
) -> Any:
    """A group of some of the processes, in ascending order; all of the world call this, in the same order.

    Gives `GroupMember.NON_GROUP_MEMBER` where this process is not in it. ValueError for a rank that is not there, or
    twice there.
    """
    world = group_of()
    chosen = sorted(range(world.size()) if ranks is None else ranks)
    for rank in chosen:
        if rank not in range(world.size()):
            raise ValueError(
                f"The new group's rank should be within the world_size set by init_process_group: {rank} is outside of "
                f"the world of {world.size()} process" + "es" * (world.size() > 1)
            )
    if len(set(chosen)) < len(chosen):
        raise ValueError(f"new_group: a rank is named twice in {chosen}")
    name = world.backend if backend is None else _known(backend)
    limit = world.timeout if timeout is None else _seconds(timeout)
    _count[0] += 1
    if world.rank() not in chosen:
        return GroupMember.NON_GROUP_MEMBER
    made = ProcessGroup(name, limit, world.transport.part(chosen, limit, _count[0]), str(_count[0]), group_desc or "")
    _members.append(made)
    return made


def get_process_group_ranks(group: Any = None) -> list[int]:
    """The numbers in the world of a group's processes."""
    return list(group_of(group).ranks)


def get_global_rank(group: Any, group_rank: int) -> int:
    """The number in the world of a group's process. ValueError where the group has no such rank."""
    ranks = group_of(group).ranks
    if group_rank not in range(len(ranks)):
        raise ValueError(f"Group rank {group_rank} is not part of group {group_of(group)!r}")
    return ranks[group_rank]


def get_group_rank(group: Any, global_rank: int) -> int:
    """The rank in a group of a process of the world. ValueError where it is not in the group."""
    ranks = group_of(group).ranks
    if global_rank not in ranks:
        raise ValueError(f"Global rank {global_rank} is not part of group {group_of(group)!r}")
    return ranks.index(global_rank)


def peer(group: ProcessGroup, what: str, rank: int | None, group_rank: int | None, default: int | None = None) -> int:
    """The rank in the group of the process that `rank` (of the world) or `group_rank` names. Exactly one is given."""
    if rank is None and group_rank is None:
        if default is None:
            raise ValueError("Must specify global_rank or group_rank")
        rank = default
    if rank is not None and group_rank is not None:
        raise ValueError("Can't specify both group_rank and global_rank")
    if group_rank is None:
        if group is not globals()["group"].WORLD:
            return get_group_rank(group, rank)  # type: ignore[arg-type]  # one is given
        group_rank = rank
    if group_rank not in range(group.size()):
        raise RuntimeError(f"{what}: invalid root rank: {group_rank} (the group has {group.size()})")
    return int(group_rank)  # type: ignore[arg-type]  # as above
