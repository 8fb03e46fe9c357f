"""The transport over NCCL, through CuPy, for arrays on GPUs; MPI starts it, carries CPU arrays, and knows who is alive.

Each group has a communicator, made at its first call with a GPU array on the device that is current then, and a stream
of its own: it waits for what the current stream was asked so far, and `wait()` makes the current stream wait for it, so
the host does not stand still. A thread asks the events. When a process dies or the group's timeout is over it aborts
the communicator, and that call's `wait()` and every later call raise.

Moves (broadcast, gather, all_to_all, messages) go as bytes, of any dtype. Reductions are NCCL's: booleans as uint8 (SUM
and MAX are "or"), complex sums as twice as many floats; their order is NCCL's, not the ranks'.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any

import numpy as np

from ..autograd.dtypes import from_numpy_dtype
from ..backends import registry
from . import reduction
from .mpi import MPITransport
from .progress import Steps, Task
from .types import DistBackendError, ReduceOp

# ncclDataType_t and ncclRedOp_t of nccl.h, which CuPy passes on as they are; it does not name all of them
TYPES = {
    "int8": 0, "uint8": 1, "bool": 1, "int32": 2, "uint32": 3, "int64": 4, "uint64": 5, "float16": 6, "float32": 7,
    "float64": 8, "bfloat16": 9, "complex64": 7, "complex128": 8,
}  # fmt: skip
OPS = {
    ReduceOp.SUM: 0, ReduceOp.PREMUL_SUM: 0, ReduceOp.PRODUCT: 1, ReduceOp.MAX: 2, ReduceOp.MIN: 3, ReduceOp.AVG: 4,
}  # fmt: skip
BYTE = TYPES["int8"]


def load_cupy() -> Any:
    """CuPy with NCCL. DistBackendError that names what is missing."""
    try:
        cupy: Any = getattr(registry.load("cupy"), "cupy")  # noqa: B009  # of that backend alone
    except (ImportError, RuntimeError) as error:
        raise DistBackendError(f"init_process_group(backend='nccl') needs CuPy and an NVIDIA GPU: {error}") from error
    if not cupy.cuda.nccl.available:
        raise DistBackendError(
            "init_process_group(backend='nccl'): CuPy found no NCCL: pip install nvidia-nccl-cu12 (or -cu13, as CuPy's "
            "CUDA)"
        )
    return cupy


def kind_of(dtype: Any, op: ReduceOp) -> tuple[int, int, int]:
    """(data type, reduction, numbers per element) of NCCL. TypeError and ValueError for what it does not have."""
    named = from_numpy_dtype(dtype)
    if named.name not in TYPES:
        raise TypeError(f"Input tensor data type is not supported for NCCL process group: {named.legacy}")
    if op.op not in OPS:
        raise ValueError(f"Cannot use ReduceOp.{op.op.name} with NCCL")
    if named.is_complex and op == ReduceOp.PRODUCT:
        raise ValueError("Cannot use ReduceOp.PRODUCT of complex numbers with NCCL")
    code = OPS[op.op]
    if named.name == "bool":
        code = OPS[ReduceOp.MAX if op in (ReduceOp.SUM, ReduceOp.MAX) else ReduceOp.MIN]
    return TYPES[named.name], code, 1 + named.is_complex


class _Queued:
    """A request that is done when the stream has come to an event."""

    def __init__(self, event: Any, communicator: Any):
        self.event, self.communicator = event, communicator

    def Test(self) -> bool:
        self.communicator.check_async_error()
        return bool(self.event.done)


class NCCLTask(Task):
    """A call on the stream; `keep`: arrays whose memory it uses."""

    transport: NCCLTransport
    keep: tuple[Any, ...]
    event: Any

    def fail(self, error: BaseException, reason: str | None = None) -> None:
        """Aborts the communicator too: its kernels would wait for ever."""
        super().fail(error, reason)
        if self in self.engine.abandoned:  # what NCCL aborted writes nothing any more
            self.engine.abandoned.remove(self)
        if self.transport.broken is None:
            self.transport.broken = self.error
            self.transport.abort()

    def wait(self, timeout: float | None = None) -> None:
        """Makes the current stream wait for the call; with a timeout in seconds the host waits."""
        if timeout is not None:
            super().wait(timeout)
        if self.error is not None:
            raise self.error
        self.transport.cupy.cuda.get_current_stream().wait_event(self.event)


class NCCLTransport:
    """What the processes of one group do together, on flat contiguous CuPy arrays; NumPy arrays go over MPI.

    Args:
        control: the MPI transport of the same group.
        cupy: the module.
    """

    name, host = "nccl", False

    def __init__(self, control: MPITransport, cupy: Any):
        self.control, self.cupy = control, cupy
        self.ranks, self.size, self.rank = control.ranks, control.size, control.rank
        self.made: dict[tuple[int, ...], tuple[Any, Any]] = {}  # members -> communicator, stream
        self.broken: BaseException | None = None

    def part(self, ranks: Sequence[int], timeout: timedelta, number: int) -> NCCLTransport:
        """The transport of a group of these ranks; they all call it."""
        return NCCLTransport(self.control.part(ranks, timeout, number), self.cupy)

    def _communicator(self, members: tuple[int, ...]) -> tuple[Any, Any]:
        """(communicator, stream) of some ranks, all of which come here; the first of them makes the id."""
        if members not in self.made:
            nccl = self.cupy.cuda.nccl
            text = np.zeros(1024, np.int64)
            if self.rank == members[0]:
                found = nccl.get_unique_id()
                text[: len(found) + 1] = [len(found), *found]
            if len(members) == self.size:
                self.control.broadcast(text, members[0]).wait()
            elif self.rank == members[0]:
                self.control.send(text, members[1], ID_TAG).wait()
            else:
                self.control.receive(text, members[0], ID_TAG).wait()
            unique = tuple(text[1 : 1 + text[0]].tolist())
            made = nccl.NcclCommunicator(len(members), unique, members.index(self.rank))
            self.made[members] = made, self.cupy.cuda.Stream(non_blocking=True)
        return self.made[members]

    def _queue(self, what: str, keep: tuple[Any, ...], call: Callable[[Any, Any], None], members: Any = None) -> Task:
        """call(communicator, stream) behind what the current stream was asked; all errors are DistBackendError."""
        if self.broken is not None:
            raise DistBackendError(f"{what}: the group's communicator was aborted: {self.broken}") from self.broken
        members = tuple(range(self.size)) if members is None else members
        communicator, stream = self._communicator(members)
        stream.wait_event(self.cupy.cuda.get_current_stream().record())
        try:
            call(communicator, stream)
        except (RuntimeError, ValueError) as error:  # NcclError is a RuntimeError
            raise DistBackendError(f"NCCL error in: {what}: {error}") from error
        event = stream.record()
        job, everybody = self.control.job, len(members) == self.size
        awaited = [(rank, _Queued(event, communicator)) for rank in members if rank != self.rank]

        def steps() -> Steps:
            yield awaited

        def trouble(task: Task) -> str | None:
            return job.trouble(task, self.ranks, everybody)

        task = NCCLTask.__new__(NCCLTask)  # the event is asked for by __init__
        task.transport, task.keep, task.event = self, keep, event
        task.__init__(job.engine, what, steps(), self.control.timeout.total_seconds(), trouble)  # type: ignore[misc]
        task.look_after(watched=True)
        return task

    # ---- collectives

    def all_reduce(self, x: Any, op: ReduceOp) -> Task:
        """x: (n,) becomes the reduction over all ranks."""
        if type(x) is np.ndarray:
            return self.control.all_reduce(x, op)
        kind, code, width = kind_of(x.dtype, op)
        given = reduction.premultiplied(x, op)

        def call(communicator: Any, stream: Any) -> None:
            communicator.allReduce(given.data.ptr, x.data.ptr, width * x.size, kind, code, stream.ptr)

        return self._queue("all_reduce", (x, given), call)

    def reduce(self, x: Any, root: int, op: ReduceOp) -> Task:
        """x: (n,) of `root` becomes the reduction over all ranks."""
        if type(x) is np.ndarray:
            return self.control.reduce(x, root, op)
        kind, code, width = kind_of(x.dtype, op)
        given = reduction.premultiplied(x, op)

        def call(communicator: Any, stream: Any) -> None:
            communicator.reduce(given.data.ptr, x.data.ptr, width * x.size, kind, code, root, stream.ptr)

        return self._queue("reduce", (x, given), call)

    def reduce_scatter(self, parts: Any, out: Any, op: ReduceOp) -> Task:
        """out: (n,) becomes the reduction over all ranks of their parts[rank]; parts: N of (n,), or (N, n)."""
        if type(out) is np.ndarray:
            return self.control.reduce_scatter(parts, out, op)
        kind, code, width = kind_of(out.dtype, op)
        given = reduction.premultiplied(self.cupy.concatenate(list(parts)) if isinstance(parts, list) else parts, op)

        def call(communicator: Any, stream: Any) -> None:
            communicator.reduceScatter(given.data.ptr, out.data.ptr, width * out.size, kind, code, stream.ptr)

        return self._queue("reduce_scatter", (given, out), call)

    def all_gather(self, x: Any, out: Any) -> Task:
        """out: (N * n,), whose parts become the x: (n,) of the ranks."""
        if type(x) is np.ndarray:
            return self.control.all_gather(x, out)

        def call(communicator: Any, stream: Any) -> None:
            communicator.allGather(x.data.ptr, out.data.ptr, x.nbytes, BYTE, stream.ptr)

        return self._queue("all_gather", (x, out), call)

    def broadcast(self, x: Any, root: int) -> Task:
        """x: (n,) of `root` goes to all."""
        if type(x) is np.ndarray:
            return self.control.broadcast(x, root)

        def call(communicator: Any, stream: Any) -> None:
            communicator.broadcast(x.data.ptr, x.data.ptr, x.nbytes, BYTE, root, stream.ptr)

        return self._queue("broadcast", (x,), call)

    def exchange(self, what: str, sends: dict[int, Any], receives: dict[int, Any]) -> Task:
        """Gives and takes one array from each of the peers named: gather, scatter, all_to_all."""
        every = [*sends.values(), *receives.values()]
        if type(every[0]) is np.ndarray:
            return self.control.exchange(what, sends, receives)
        if self.rank in receives:
            receives[self.rank][...] = sends[self.rank]
        messages = [(True, x, peer) for peer, x in sends.items() if peer != self.rank]
        messages += [(False, x, peer) for peer, x in receives.items() if peer != self.rank]
        return self._messages(what, messages, None)

    def _messages(self, what: str, messages: Sequence[tuple[bool, Any, int]], members: Any) -> Task:
        """Sends (True) and receives in one group of calls, which NCCL runs side by side."""
        nccl = self.cupy.cuda.nccl

        def call(communicator: Any, stream: Any) -> None:
            nccl.groupStart()
            try:
                for sending, x, peer in messages:
                    to = peer if members is None else members.index(peer)
                    if x.size:
                        (communicator.send if sending else communicator.recv)(
                            x.data.ptr, x.nbytes, BYTE, to, stream.ptr
                        )
            finally:
                nccl.groupEnd()

        return self._queue(what, tuple(x for _, x, _ in messages), call, members)

    def barrier(self, what: str = "barrier") -> Task:
        """Done when every rank has called it; over MPI, after this process's work on its GPU is done."""
        self.cupy.cuda.get_current_stream().synchronize()
        return self.control.barrier(what)

    # ---- point to point: a communicator for each pair

    def _pair(self, peer: int) -> tuple[int, ...]:
        return (min(self.rank, peer), max(self.rank, peer))

    def send(self, x: Any, peer: int, tag: int) -> Task:
        """x: (n,) goes to one rank. NCCL has no tags: messages are taken in the order in which they were sent."""
        if type(x) is np.ndarray:
            return self.control.send(x, peer, tag)
        return self._messages("send", [(True, x, peer)], self._pair(peer))

    def receive(self, x: Any, peer: int | None, tag: int) -> Task:
        """x: (n,) comes from one rank. ValueError without its number, which NCCL wants."""
        if type(x) is np.ndarray:
            return self.control.receive(x, peer, tag)
        if peer is None:
            raise ValueError("recv: NCCL receives from a named process only: pass src=")
        task = self._messages("recv", [(False, x, peer)], self._pair(peer))
        task.notes["source"] = peer
        return task

    def batch(self, messages: Sequence[tuple[bool, Any, int]]) -> dict[int, Task] | None:
        """One task for the messages with each peer, whose order does not matter then; None for NumPy arrays."""
        if any(type(x) is np.ndarray for _, x, _ in messages):
            return None
        peers = sorted({peer for _, _, peer in messages}, key=lambda peer: self._pair(peer))
        return {
            peer: self._messages("batch_isend_irecv", [m for m in messages if m[2] == peer], self._pair(peer))
            for peer in peers
        }

    # ---- the end

    def abort(self) -> None:
        """Ends the kernels of all calls."""
        for communicator, _ in self.made.values():
            communicator.abort()
        self.made.clear()

    def close(self) -> None:
        """Gives the communicators back."""
        for communicator, stream in self.made.values():
            stream.synchronize()
            self.control.job.engine.poll()  # calls that were done ask the communicator once more
            communicator.destroy()
        self.made.clear()
        self.control.close()


ID_TAG = (1 << 22) + 1  # above all tags of programs
