"""Training with uneven inputs: a process whose data is at an end takes part in the calls of those that go on."""

from __future__ import annotations

import abc
import warnings
from types import TracebackType
from typing import Any, NamedTuple

from ... import distributed as dist
from ...autograd.api.creation import ones, zeros

__all__ = ["Join", "JoinHook", "Joinable"]

_MANY = 1000  # iterations that a process may be behind before it is told


class JoinHook:
    """What a process that has joined does; each method does nothing by default."""

    def main_hook(self) -> None:
        """Called for every iteration of the others: makes the same calls of the process group."""

    def post_hook(self, is_last_joiner: bool) -> None:
        """Called once all have joined. is_last_joiner: whether this process was among the last."""


class _JoinConfig(NamedTuple):
    """What a `Joinable` knows of the context manager it is in."""

    enable: bool = False
    throw_on_early_termination: bool = False
    is_first_joinable: bool = False


class Joinable(abc.ABC):
    """Something whose iterations make calls of a process group; it gives a hook that makes them in its place."""

    @abc.abstractmethod
    def __init__(self) -> None:
        super().__init__()
        self._join_config = _JoinConfig()

    @abc.abstractmethod
    def join_hook(self, **kwargs: Any) -> JoinHook:
        """The hook; kwargs are those of `Join`."""

    @property
    @abc.abstractmethod
    def join_device(self) -> Any:
        """The device of the messages of `Join` itself."""

    @property
    @abc.abstractmethod
    def join_process_group(self) -> Any:
        """The group of the messages of `Join` itself."""


class Join:
    """A context manager around a training loop whose length differs between processes.

    A process that leaves it runs the `main_hook` of each joinable for every iteration that another one still makes,
    and when all have left, each `post_hook`. The first joinable must call `Join.notify_join_context(self)` at the
    beginning of its iteration (DistributedDataParallel does so in forward).

    Args:
        joinables: their hooks run in this order; of one process group (ValueError).
        enable: False where inputs are known to be even: nothing is exchanged.
        throw_on_early_termination: RuntimeError on all processes when the first one has no data left.
        **kwargs: for every `join_hook`.
    """

    def __init__(
        self, joinables: list[Joinable], enable: bool = True, throw_on_early_termination: bool = False, **kwargs: Any
    ):
        if not joinables:
            raise ValueError("The join context manager requires at least one joinable")
        groups = [joinable.join_process_group for joinable in joinables]
        if any(group is not groups[0] for group in groups):
            raise ValueError("Using join context manager with multiple process groups")
        self._joinables = joinables
        self._join_hooks = [joinable.join_hook(**kwargs) for joinable in joinables]
        self._enable, self._throw_on_early_termination = enable, throw_on_early_termination
        for i, joinable in enumerate(joinables):
            joinable._join_config = _JoinConfig(enable, throw_on_early_termination, i == 0)
        self._process_group, self._device = groups[0], joinables[0].join_device

    def __enter__(self) -> Join:
        return self

    def __exit__(
        self, type: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if not self._enable or type:
            return
        last, behind = True, 0
        try:
            while self._count(zeros(1, device=self._device)):
                if self._throw_on_early_termination:
                    self._count(ones(1, device=self._device))
                    raise RuntimeError(f"Rank {dist.get_rank(self._process_group)} exhausted all inputs.")
                for hook in self._join_hooks:
                    hook.main_hook()
                last, behind = False, behind + 1
                if behind == _MANY:
                    rank = dist.get_rank(self._process_group)
                    warnings.warn(
                        f"Detected uneven input skew of greater than {_MANY}. This means that rank {rank} has at least "
                        f"{_MANY} fewer inputs than other currently-active ranks. This level of skew could lead to "
                        "performance degradation during training.",
                        stacklevel=2,
                    )
            for hook in self._join_hooks:
                hook.post_hook(last)
        finally:
            for joinable in self._joinables:
                joinable._join_config = _JoinConfig()

    def _count(self, own: Any) -> float:
        dist.all_reduce(own, group=self._process_group)
        return float(own)

    @staticmethod
    def notify_join_context(joinable: Joinable) -> Any:
        """Says to the processes that have joined that this one goes on; the call under way, whose result counts those
        that do (`result()[0]`), or None where there is nobody to tell.

        Only the first joinable of a `Join` sends anything. RuntimeError where another process has no data left and
        `throw_on_early_termination` is set.
        """
        config = joinable._join_config
        if not (config.enable and config.is_first_joinable):
            return None
        group, device = joinable.join_process_group, joinable.join_device
        work = dist.all_reduce(ones(1, device=device), group=group, async_op=True)
        if config.throw_on_early_termination:
            over = zeros(1, device=device)
            dist.all_reduce(over, group=group)
            if float(over):
                raise RuntimeError("Detected at least one rank that exhausted inputs. Throwing across all ranks.")
        return work
