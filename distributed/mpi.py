"""The transport over MPI: mpi4py, on the memory of the arrays.

Collectives are programs of non-blocking sends and receives (`progress.py`), and reductions are done here
(`reduction.py`). MPI moves bytes only: every dtype is served, nothing is pickled, and the bits of a result do not
depend on which algorithm an MPI library picks. With N processes and B bytes, one process sends

    all_reduce       up to 16 KiB: N-1 messages of B; else 2 (N-1) messages, 2 B (N-1)/N bytes
    reduce_scatter   N-1 messages, B (N-1)/N bytes of its input of B
    all_gather       N-1 messages of its B
    broadcast        up to log2(N) messages of B (a binomial tree); reduce: N-1 to the root, of B in all
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import numpy as np

from . import reduction
from .job import Job
from .progress import ANYONE, Requests, Steps, Task
from .types import ReduceOp

SMALL = 16384  # bytes up to which an all_reduce sends everything to everybody: one round instead of two
TAGS = 4096  # calls of one group that may be under way at once


def as_bytes(x: Any) -> Any:
    """The memory of a flat contiguous array as bytes."""
    return x.view(np.uint8)


class _WithStatus:
    """A request that notes whose message came, and how long it was."""

    def __init__(self, request: Any, status: Any):
        self.request, self.status = request, status

    def Test(self) -> bool:
        return bool(self.request.Test(self.status))

    def Cancel(self) -> None:
        self.request.Cancel()


class MPITransport:
    """What the processes of one group do together, on flat contiguous NumPy arrays; every method gives a Task.

    Args:
        job: this process's part in the program that mpiexec started.
        ranks: the members' numbers in the world, in the order of their ranks here.
        timeout: for each call.
    """

    name, host = "mpi", True

    def __init__(self, job: Job, ranks: Sequence[int], timeout: timedelta, number: int):
        self.job, self.ranks, self.timeout = job, tuple(ranks), timeout
        self.size, self.rank = len(ranks), self.ranks.index(job.rank)
        self.calls = 0
        self.collective, self.direct = job.communicators(self.ranks, number)

    def part(self, ranks: Sequence[int], timeout: timedelta, number: int) -> MPITransport:
        """The transport of a group of these ranks; they all call it.

        Making a communicator waits inside MPI, so they first meet where a death is noticed.
        """
        tag = 2 * TAGS + number % TAGS
        one, scratch = np.zeros(1, np.uint8), np.empty((self.size, 1), np.uint8)
        others = [rank for rank in ranks if rank != self.rank]

        def steps() -> Steps:
            yield self._exchange(dict.fromkeys(others, one), {p: scratch[p] for p in others}, tag)

        self._task("new_group", steps()).wait(timeout.total_seconds())
        return MPITransport(self.job, [self.ranks[rank] for rank in ranks], timeout, number)

    # ---- messages

    def _task(self, what: str, steps: Steps, everybody: bool = True) -> Task:
        def trouble(task: Task) -> str | None:
            return self.job.trouble(task, self.ranks, everybody)

        return Task(self.job.engine, what, steps, self.timeout.total_seconds(), trouble)

    def _tag(self) -> int:
        self.calls += 1
        return 2 * (self.calls % TAGS)  # and the next one for a second round

    def _send(self, x: Any, peer: int, tag: int) -> tuple[int, Any]:
        return peer, self.collective.Isend(as_bytes(x), peer, tag)

    def _receive(self, x: Any, peer: int, tag: int) -> tuple[int, Any]:
        return peer, self.collective.Irecv(as_bytes(x), peer, tag)

    def _others(self) -> list[int]:
        """The other ranks, beginning after this one, so that not all send to the same one first."""
        return [(self.rank + i) % self.size for i in range(1, self.size)]

    def _exchange(self, sends: dict[int, Any], receives: dict[int, Any], tag: int) -> Requests:
        """Posts messages; what goes to this rank itself is copied."""
        if self.rank in receives:
            receives[self.rank][...] = sends[self.rank]
        posted = [self._receive(receives[p], p, tag) for p in self._others() if p in receives and receives[p].size]
        return posted + [self._send(sends[p], p, tag) for p in self._others() if p in sends and sends[p].size]

    # ---- collectives

    def exchange(self, what: str, sends: dict[int, Any], receives: dict[int, Any]) -> Task:
        """Gives and takes one array from each of the peers named: gather, scatter, all_gather, all_to_all."""
        tag = self._tag()

        def steps() -> Steps:
            yield self._exchange(sends, receives, tag)

        return self._task(what, steps())

    def all_gather(self, x: Any, out: Any) -> Task:
        """out: (N * n,), whose parts become the x: (n,) of the ranks. x may be a part of it."""
        parts = out.reshape(self.size, x.size)
        return self.exchange("all_gather", dict.fromkeys(range(self.size), x), dict(enumerate(parts)))

    def barrier(self, what: str = "barrier") -> Task:
        """Done when every rank has called it."""
        one = np.zeros(1, np.uint8)
        scratch = np.empty((self.size, 1), np.uint8)
        return self.exchange(what, dict.fromkeys(range(self.size), one), dict(enumerate(scratch)))

    def broadcast(self, x: Any, root: int) -> Task:
        """x: (n,) of `root` goes to all, along a binomial tree."""
        tag = self._tag()
        place = (self.rank - root) % self.size

        def steps() -> Steps:
            step = 1
            while step < self.size:
                if step <= place < 2 * step:
                    yield [self._receive(x, (place - step + root) % self.size, tag)]
                step *= 2
            step = 1 << place.bit_length()
            sends = []
            while place + step < self.size:
                sends.append(self._send(x, (place + step + root) % self.size, tag))
                step *= 2
            yield sends

        return self._task("broadcast", steps())

    def all_reduce(self, x: Any, op: ReduceOp) -> Task:
        """x: (n,) becomes the reduction over all ranks, the same bits everywhere."""
        tag = self._tag()

        def small() -> Steps:
            rows = np.empty((self.size, x.size), x.dtype)
            rows[self.rank] = reduction.premultiplied(x, op)
            yield self._exchange(
                dict.fromkeys(self._others(), rows[self.rank]), {p: rows[p] for p in self._others()}, tag
            )
            reduction.combine(rows, x, op)

        def large() -> Steps:
            ends = [x.size * i // self.size for i in range(self.size + 1)]
            parts = [x[a:b] for a, b in zip(ends, ends[1:], strict=False)]
            yield from self._reduce_parts(parts, parts[self.rank], op, tag)
            mine = parts[self.rank]
            others = self._others()
            yield self._exchange(dict.fromkeys(others, mine), {p: parts[p] for p in others}, tag + 1)

        return self._task("all_reduce", small() if x.nbytes <= SMALL else large())

    def _reduce_parts(self, parts: Sequence[Any], out: Any, op: ReduceOp, tag: int) -> Steps:
        """Sends part p to rank p, and reduces what comes into `out`, which may be this rank's part."""
        given = [reduction.premultiplied(part, op) for part in parts]
        rows = np.empty((self.size, out.size), out.dtype)
        rows[self.rank] = given[self.rank]
        others = self._others()
        yield self._exchange({p: given[p] for p in others}, {p: rows[p] for p in others}, tag)
        reduction.combine(rows, out, op)

    def reduce_scatter(self, parts: Sequence[Any], out: Any, op: ReduceOp) -> Task:
        """out: (n,) becomes the reduction over all ranks of their parts[rank], each (n,)."""
        return self._task("reduce_scatter", self._reduce_parts(parts, out, op, self._tag()))

    def reduce(self, x: Any, root: int, op: ReduceOp) -> Task:
        """x: (n,) of `root` becomes the reduction over all ranks."""
        tag = self._tag()

        def steps() -> Steps:
            given = reduction.premultiplied(x, op)
            if self.rank != root:
                yield self._exchange({root: given}, {}, tag)
                return
            rows = np.empty((self.size, x.size), x.dtype)
            rows[root] = given
            yield self._exchange({}, {p: rows[p] for p in self._others()}, tag)
            reduction.combine(rows, x, op)

        return self._task("reduce", steps())

    # ---- point to point

    def send(self, x: Any, peer: int, tag: int) -> Task:
        """x: (n,) goes to one rank."""

        def steps() -> Steps:
            yield [(peer, self.direct.Isend(as_bytes(x), peer, tag))]

        return self._task("send", steps(), everybody=False)

    def receive(self, x: Any, peer: int | None, tag: int) -> Task:
        """x: (n,) comes from one rank, or from whichever sends first (None)."""
        MPI = self.job.MPI
        status = MPI.Status()
        notes: dict[str, int] = {}

        def steps() -> Steps:
            source = MPI.ANY_SOURCE if peer is None else peer
            request = self.direct.Irecv(as_bytes(x), source, tag)
            yield [(ANYONE if peer is None else peer, _WithStatus(request, status))]
            notes["source"], sent = status.Get_source(), status.Get_count(MPI.BYTE)
            if sent != x.nbytes:
                raise RuntimeError(
                    f"rank {notes['source']} of the group sent {sent} bytes, and the tensor to fill holds {x.nbytes}"
                )

        task = self._task("recv", steps(), everybody=False)
        task.notes = notes
        return task

    def close(self) -> None:
        """Gives the communicators back."""
        self.job.release(self.collective, self.direct)
