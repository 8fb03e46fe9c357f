"""What every part of torch.distributed names: its errors, the reductions, the names of transports, and Work."""

from __future__ import annotations

import enum
from collections.abc import Callable
from datetime import timedelta
from typing import Any

default_pg_timeout = timedelta(minutes=30)


class DistError(RuntimeError):
    """An error of torch.distributed."""


class DistBackendError(DistError):
    """The transport failed, a process of the group died, or there is no transport."""


class DistNetworkError(DistError):
    """A connection failed."""


class DistStoreError(DistError):
    """The store of a rendezvous failed."""


class QueueEmptyError(DistStoreError):
    """Nothing was in a store's queue."""


class RedOpType(enum.IntEnum):
    SUM, AVG, PRODUCT, MIN, MAX, BAND, BOR, BXOR, PREMUL_SUM = range(9)

    def __str__(self) -> str:
        return f"RedOpType.{self.name}"


class ReduceOp:
    """How values of several processes become one: `ReduceOp.SUM` and its like.

    `ReduceOp(ReduceOp.SUM)` is an object of the same meaning. PREMUL_SUM multiplies each process's values by a factor
    of its own before they are summed; `_make_nccl_premul_sum(factor)` makes one.
    """

    RedOpType = RedOpType
    SUM, AVG, PRODUCT, MIN, MAX, BAND, BOR, BXOR, PREMUL_SUM = tuple(RedOpType)

    def __init__(self, op: Any, factor: Any = None):
        if not isinstance(op, RedOpType | ReduceOp):
            raise TypeError(f"ReduceOp(): expected a member such as ReduceOp.SUM, got {op!r}")
        self.op = RedOpType(int(op))
        self.factor = getattr(op, "factor", None) if factor is None else factor

    def __int__(self) -> int:
        return int(self.op)

    def __eq__(self, other: object) -> bool:
        return int(self) == int(other) if isinstance(other, RedOpType | ReduceOp) else NotImplemented

    def __hash__(self) -> int:
        return hash(self.op)

    def __repr__(self) -> str:
        return f"<RedOpType.{self.op.name}: {int(self.op)}>"


reduce_op = ReduceOp


def _make_nccl_premul_sum(factor: Any) -> ReduceOp:
    """A PREMUL_SUM by `factor`: a number, or a tensor of one element."""
    return ReduceOp(ReduceOp.PREMUL_SUM, float(factor))


class Backend(str):
    """The name of a transport, in small letters. ValueError for what is no string."""

    UNDEFINED, GLOO, NCCL, MPI, UCC, XCCL = "undefined", "gloo", "nccl", "mpi", "ucc", "xccl"
    backend_list = ("undefined", "gloo", "nccl", "mpi", "ucc", "xccl")

    def __new__(cls, name: Any) -> Backend:
        if not isinstance(name, str):
            raise ValueError("Backend constructor parameter must be string-ish")
        return super().__new__(cls, name.lower())


class Work:
    """A call under way: what `async_op=True`, `isend` and `irecv` give.

    The tensors of the call belong to it until `wait()` has returned or `is_completed()` has said True.

    Args:
        task: what the transport is doing (`poll()`, `wait(timeout in seconds)`); None for a call that is done.
        finish: called once after it, in the thread that asks: it puts the values where the caller wants them.
    """

    def __init__(self, result: Any = None, task: Any = None, finish: Callable[[], None] | None = None):
        self._result, self._task, self._finish = result, task, finish
        self._error: BaseException | None = None

    def wait(self, timeout: timedelta | None = None) -> bool:
        """True when the call is done; DistBackendError when a process died, or `timeout` (the group's) is over."""
        if self._task is not None:
            try:
                self._task.wait(None if not timeout else timeout.total_seconds())
            except BaseException as error:
                self._error = error
                raise
        self._finished()
        return True

    def _finished(self) -> None:
        finish, self._finish = self._finish, None
        if finish is not None:
            finish()

    def is_completed(self) -> bool:
        """Whether it is done, or failed; does not wait."""
        if self._task is None or self._task.poll():
            if self.exception() is None:
                self._finished()
            return True
        return False

    def is_success(self) -> bool:
        """Whether it is done without an error."""
        return self.is_completed() and self.exception() is None

    def exception(self) -> BaseException | None:
        """The error with which it failed, if any."""
        return self._error or getattr(self._task, "error", None)

    def synchronize(self) -> None:
        """What `wait` does, without an answer."""
        self.wait()

    def source_rank(self) -> int:
        """The rank in the group whose message came: of `irecv` only. RuntimeError for other calls."""
        notes = getattr(self._task, "notes", {})
        if "source" not in notes:
            raise RuntimeError(
                "sourceRank() may only be called on work objects that correspond to a recv or recv-from-any call."
            )
        return int(notes["source"])

    def result(self) -> Any:
        """The tensors of the call, as a list."""
        return self._result

    def get_future(self) -> Any:
        """A `torch.futures.Future` of the tensors."""
        from ..autograd.futures import Future

        def finish() -> Any:
            self.wait()
            return self._result

        return Future.from_call(self.is_completed, finish)
