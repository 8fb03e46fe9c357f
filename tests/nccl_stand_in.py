"""A stand-in for cupy and cupy.cuda.nccl: ranks are threads, device memory is host memory, streams keep a log.

Calls read and write at the addresses, counts and types that they are given, so that a wrong one gives a wrong result.
"""

from __future__ import annotations

import ctypes
import itertools
import threading
from types import SimpleNamespace
from typing import Any

import numpy as np

KINDS = {0: "i1", 1: "u1", 2: "i4", 3: "u4", 4: "i8", 5: "u8", 6: "f2", 7: "f4", 8: "f8"}
REDUCTIONS = {
    0: lambda rows: rows.sum(0, dtype=rows.dtype), 1: lambda rows: rows.prod(0, dtype=rows.dtype),
    2: lambda rows: rows.max(0), 3: lambda rows: rows.min(0), 4: lambda rows: (rows.mean(0)).astype(rows.dtype),
}  # fmt: skip


class Array(np.ndarray):
    """An array "on the device": its address is asked as CuPy's is."""

    @property
    def data(self) -> Any:
        return SimpleNamespace(ptr=self.ctypes.data)


def on_device(values: Any, dtype: Any = None) -> Any:
    return np.array(values, dtype).view(Array)


def at(address: int, count: int, kind: int) -> Any:
    dtype = np.dtype(KINDS[kind])
    return np.frombuffer((ctypes.c_char * (count * dtype.itemsize)).from_address(address), dtype)


class Event:
    def __init__(self, of: Stream):
        self.of, self.done = of, of.flowing


class Stream:
    """What it was asked, in order; `flowing`: whether its events are done at once."""

    def __init__(self, non_blocking: bool = False):
        self.non_blocking, self.log, self.flowing, self.ptr = non_blocking, [], True, id(self)

    def wait_event(self, event: Event) -> None:
        self.log.append(("wait for", event.of))

    def record(self) -> Event:
        self.log.append(("record",))
        return Event(self)

    def synchronize(self) -> None:
        self.log.append(("synchronize",))


class NcclError(RuntimeError):
    pass


class World:
    """The ranks' common memory: for each communicator and call, what every rank gave."""

    def __init__(self) -> None:
        self.lock, self.given, self.ids = threading.Condition(), {}, itertools.count(1)

    def meet(self, key: Any, size: int, rank: int, what: Any) -> list[Any]:
        """What all ranks gave, when all have come."""
        with self.lock:
            found = self.given.setdefault(key, {})
            assert rank not in found
            found[rank] = what
            self.lock.notify_all()
            assert self.lock.wait_for(lambda: len(found) == size, timeout=20), f"{key}: only ranks {sorted(found)} came"
            return [found[r] for r in range(size)]


class Communicator:
    def __init__(self, module: Nccl, size: int, unique: tuple[int, ...], rank: int):
        assert len(unique) == 128
        self.module, self.size, self.unique, self.rank = module, size, unique, rank
        self.calls, self.state, self.error = itertools.count(), "alive", None
        module.made.append(self)
        self.meet("init")

    def meet(self, what: Any) -> list[Any]:
        return self.module.world.meet((self.unique, next(self.calls)), self.size, self.rank, what)

    def _all(self, name: str, x: int, count: int, kind: int, op: int | None, stream: int) -> list[Any]:
        self.module.calls.append((name, count, kind, op))
        assert self.state == "alive"
        if self.module.refuse:
            raise NcclError("NCCL_ERROR_INVALID_ARGUMENT: invalid argument")
        found = self.meet((name, count, kind, op, at(x, count, kind).copy()))
        assert len({one[:4] for one in found}) == 1, "the ranks called different things"
        return [one[4] for one in found]

    def allReduce(self, x: int, out: int, count: int, kind: int, op: int, stream: int) -> None:
        at(out, count, kind)[...] = REDUCTIONS[op](np.stack(self._all("allReduce", x, count, kind, op, stream)))

    def reduce(self, x: int, out: int, count: int, kind: int, op: int, root: int, stream: int) -> None:
        rows = self._all("reduce", x, count, kind, op, stream)
        if self.rank == root:
            at(out, count, kind)[...] = REDUCTIONS[op](np.stack(rows))

    def reduceScatter(self, x: int, out: int, count: int, kind: int, op: int, stream: int) -> None:
        rows = np.stack(self._all("reduceScatter", x, count * self.size, kind, op, stream))
        at(out, count, kind)[...] = REDUCTIONS[op](rows).reshape(self.size, count)[self.rank]

    def allGather(self, x: int, out: int, count: int, kind: int, stream: int) -> None:
        at(out, count * self.size, kind)[...] = np.concatenate(self._all("allGather", x, count, kind, None, stream))

    def broadcast(self, x: int, out: int, count: int, kind: int, root: int, stream: int) -> None:
        at(out, count, kind)[...] = self._all("broadcast", x, count, kind, None, stream)[root]

    def send(self, x: int, count: int, kind: int, peer: int, stream: int) -> None:
        self.module.group.append((self, True, at(x, count, kind).copy(), peer))

    def recv(self, x: int, count: int, kind: int, peer: int, stream: int) -> None:
        self.module.group.append((self, False, at(x, count, kind), peer))

    def check_async_error(self) -> None:
        if self.error:
            raise NcclError(self.error)

    def abort(self) -> None:
        self.state = "aborted"

    def destroy(self) -> None:
        self.state = "destroyed"


class Nccl:
    """cupy.cuda.nccl of one rank."""

    available = True

    def __init__(self, world: World):
        self.world, self.calls, self.made, self.refuse = world, [], [], False
        self.group: list[Any] | None = None

    def get_unique_id(self) -> tuple[int, ...]:
        with self.world.lock:
            return (next(self.world.ids), -7, *range(126))  # CuPy gives 128 signed numbers

    def NcclCommunicator(self, size: int, unique: tuple[int, ...], rank: int) -> Communicator:
        return Communicator(self, size, unique, rank)

    def groupStart(self) -> None:
        assert self.group is None
        self.group = []

    def groupEnd(self) -> None:
        """Messages of a group meet whatever their order to different peers."""
        group, self.group = self.group, None
        assert len({communicator for communicator, *_ in group}) <= 1
        for communicator in {communicator for communicator, *_ in group}:
            self.calls.append(("messages", len(group)))
            sent = [(peer, x) for _, sending, x, peer in group if sending]
            found = communicator.meet(sent)
            for _, sending, x, peer in group:
                if not sending:
                    mine = next(i for i, (to, _) in enumerate(found[peer]) if to == communicator.rank)
                    x[...] = found[peer].pop(mine)[1]


def cupy(world: World) -> Any:
    """The module cupy of one rank."""
    current = Stream()
    cuda = SimpleNamespace(nccl=Nccl(world), Stream=Stream, get_current_stream=lambda: current)
    return SimpleNamespace(cuda=cuda, concatenate=np.concatenate)
