"""This process's part in a program that mpiexec started: MPI itself, the engine, and who of the others is alive."""

from __future__ import annotations

import atexit
import os
import sys
import threading
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from .progress import Engine, Pause, Task
from .types import DistBackendError

def load_mpi() -> Any:
    """The module mpi4py.MPI, MPI begun. ImportError that names the extra where it is not installed."""
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
    return MPI


class Job:
    """What the process groups of this process share.

    Attributes:
        rank, size: this process's number among all that mpiexec started, and how many they are.
        local_size: how many of them run on this machine.
    """

    def __init__(self) -> None:
        self.MPI = load_mpi()
        self.engine = Engine()
        self.comm = self.MPI.COMM_WORLD.Dup()
        self.rank, self.size = self.comm.Get_rank(), self.comm.Get_size()
        local = self.comm.Split_type(self.MPI.COMM_TYPE_SHARED)
        self.local_size = local.Get_size()
        local.Free()
        self.main = threading.current_thread()
        atexit.register(self.end)

    def trouble(self, task: Task, ranks: Sequence[int], everybody: bool) -> str | None:
        """Why a call cannot end, if so: who of `ranks` is gone."""
        return None

    def communicators(self, ranks: Sequence[int], timeout: timedelta, number: int) -> tuple[Any, Any]:
        """Two communicators of the members alone: for collectives, and for messages with the user's tags."""
        members = self.comm.Get_group().Incl(ranks)
        tag = number % 10000
        return self.comm.Create_group(members, 2 * tag), self.comm.Create_group(members, 2 * tag + 1)

    def release(self, *communicators: Any) -> None:
        """Gives communicators back, unless a call on them failed and may be open still."""
        if not self.engine.abandoned:
            for comm in communicators:
                comm.Free()

    def end(self) -> None:
        """At the end of the program: waits for the others, as MPI_Finalize does."""
        self.engine.close()
        request, pause = self.comm.Ibarrier(), Pause()
        while not request.Test():
            pause()
        self.MPI.Finalize()


_job: list[Job] = []


def job() -> Job:
    """This process's Job, begun when first asked for."""
    if not _job:
        _job.append(Job())
    return _job[0]
