"""This process's part in a program that mpiexec started: MPI itself, the engine, and who of the others is alive."""

from __future__ import annotations

import atexit
import faulthandler
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import numpy as np

from .liveness import Liveness, hub
from .progress import ANYONE, Engine, Pause, Task
from .types import DistBackendError, default_pg_timeout

GRACE = 2.0  # seconds that a message may still take whose sender has done its work
LINGER = 5.0  # seconds that a failed process waits for the others to notice: when it ends, mpiexec may end them


def load_mpi(timeout: timedelta) -> Any:
    """The module mpi4py.MPI, MPI begun. ImportError that names the extra where it is not installed.

    MPI_Init waits for all processes, for ever where one ended before it came, and it holds the interpreter: after
    `timeout` the process prints where it stands and ends with status 1.
    """
    watched = "mpi4py.MPI" not in sys.modules and sys.__stderr__ is not None
    if watched:
        faulthandler.dump_traceback_later(timeout.total_seconds(), exit=True, file=sys.__stderr__)
    try:
        import mpi4py

        # MPI_Finalize waits for all processes, for ever where one died: `Job.end` decides whether to call it
        mpi4py.rc.finalize = False
        from mpi4py import MPI
    except (ImportError, RuntimeError) as error:
        raise ImportError(
            "torch.distributed with several processes needs mpi4py and an MPI library: pip install 'tapegrad[mpi]', "
            f"and start the program with `mpiexec -n 4 python train.py` ({error})"
        ) from error
    finally:
        if watched:
            faulthandler.cancel_dump_traceback_later()
    return MPI


def _polled(request: Any, what: str, timeout: timedelta) -> None:
    """Waits for a request that nothing else looks after. DistBackendError after `timeout`."""
    pause, end = Pause(), time.monotonic() + timeout.total_seconds()
    while not request.Test():
        if time.monotonic() > end:
            raise DistBackendError(f"{what}: not all processes came within {timeout}")
        pause()


class Job:
    """What the process groups of this process share.

    Attributes:
        rank, size: this process's number among all that mpiexec started, and how many they are.
        local_size: how many of them run on this machine.
    """

    def __init__(self, timeout: timedelta = default_pg_timeout):
        before = sys.modules.get("mpi4py.MPI")
        self.MPI = load_mpi(timeout)
        self.finalizes = before is not None and not self.MPI.Is_finalized()  # mpi4py itself will, at the very end
        self.engine = Engine()
        self.comm, request = self.MPI.COMM_WORLD.Idup()
        _polled(request, "init_process_group", timeout)
        self.rank, self.size = self.comm.Get_rank(), self.comm.Get_size()
        local = self.comm.Split_type(self.MPI.COMM_TYPE_SHARED)
        self.local_size = local.Get_size()
        local.Free()
        self.liveness = self._connect(timeout)
        self.pid = os.getpid()
        self._watch()

    def _connect(self, timeout: timedelta) -> Liveness:
        listener, text = None, np.zeros(512, np.uint8)
        if self.rank == 0:
            found, listener = hub(self.local_size == self.size)
            line = json.dumps(found).encode()
            text[: len(line)] = np.frombuffer(line, np.uint8)
        _polled(self.comm.Ibcast(text, 0), "init_process_group", timeout)
        host, port, token = json.loads(text.tobytes().rstrip(b"\0"))
        return Liveness(self.rank, self.size, (host, port, token), listener)

    def _watch(self) -> None:
        """From now on the others learn how this process ends."""
        atexit.register(self.end)
        before = sys.excepthook

        def hook(kind: Any, error: Any, trace: Any) -> None:
            before(kind, error, trace)
            sys.stderr.flush()
            if os.getpid() == self.pid:
                self.liveness.fail(f"it raised {kind.__name__}: {error}")

        sys.excepthook = hook
        # `mpiexec -disable-auto-cleanup` tells the survivors of a death by this signal, which would end them
        if threading.current_thread() is threading.main_thread() and hasattr(signal, "SIGUSR1"):
            if signal.getsignal(signal.SIGUSR1) is signal.SIG_DFL:
                signal.signal(signal.SIGUSR1, signal.SIG_IGN)

    def trouble(self, task: Task, ranks: Sequence[int], everybody: bool) -> str | None:
        """Why a call cannot end, if so: who of `ranks` is gone. everybody: it needs all of them, not peers alone."""
        failed, left = self.liveness.failed, self.liveness.left
        if not failed and not left:
            return None
        peers = [rank for rank, _ in task.pending]
        awaited = set(ranks) - {self.rank} if ANYONE in peers else {ranks[peer] for peer in peers}
        for rank, why in tuple(failed.items()):
            if rank in (ranks if everybody else awaited):
                return f"rank {rank} of {self.size} is gone: {why}"
        ended = [rank for rank in awaited if time.monotonic() - max(left.get(rank, np.inf), task.begun) > GRACE]
        if ended and (ANYONE not in peers or len(ended) == len(awaited)):
            ago = time.monotonic() - left[ended[0]]
            return f"rank {ended[0]} of {self.size} is gone: its program ended {ago:.1f} s ago without making this call"
        return None

    def communicators(self, ranks: Sequence[int], number: int) -> tuple[Any, Any]:
        """Two communicators of the members alone: for collectives, and for messages with the user's tags."""
        members = self.comm.Get_group().Incl(ranks)
        tag = number % 10000
        return self.comm.Create_group(members, 2 * tag), self.comm.Create_group(members, 2 * tag + 1)

    def release(self, *communicators: Any) -> None:
        """Gives communicators back, unless a call on them failed and may be open still."""
        if not self.engine.abandoned and not self.liveness.failed:
            for comm in communicators:
                comm.Free()

    # ---- the end of the program

    def end(self) -> None:
        """Waits for the others, as MPI_Finalize does, but not for one that died."""
        if os.getpid() != self.pid:  # a forked child
            return
        self.liveness.leave()
        if not self.liveness.failed and self._all_came() and self.engine.take_back():
            self.engine.close()
            if not self.MPI.Is_finalized():
                self.MPI.Finalize()
            self.liveness.settle(LINGER)
            self.liveness.close()
            return
        self.engine.close()
        if self.rank in self.liveness.failed:
            self.liveness.settle(LINGER)
        time.sleep(0.2)  # the others read the last news, and mpiexec what was printed: it ends all after the first
        if self.finalizes:  # or mpi4py would wait for the dead
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(1)

    def _all_came(self) -> bool:
        """Whether all processes come to their end; False where one died instead."""
        request, pause = self.comm.Ibarrier(), Pause()
        while not request.Test():
            for task in tuple(self.engine.tasks):
                task.poll()
            if self.liveness.failed:
                return False
            pause()
        return all(task.done for task in self.engine.tasks)


_job: list[Job] = []


def job(timeout: timedelta) -> Job:
    """This process's Job, begun when first asked for."""
    if not _job:
        _job.append(Job(timeout))
    return _job[0]
