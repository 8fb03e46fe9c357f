"""torch.profiler: a profile with a schedule of steps, a table, and a trace for chrome://tracing and Perfetto.

What it sees is what `autograd.profiler.profile` sees (times on the host), and besides: steps of the program, optimizer
steps, and with `with_modules=True` the calls of modules.
"""

from __future__ import annotations

import enum
import json
import os
import re
import socket
import time
import warnings
from collections.abc import Callable, Iterable
from typing import Any

from .autograd.profiler import EventList, record_function
from .autograd.profiler import profile as _Profile
from .nn.modules.hooks import register_module_forward_hook, register_module_forward_pre_hook
from .optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook
from .utils.module_tracker import ModuleTracker

__all__ = [
    "ProfilerAction", "ProfilerActivity", "profile", "record_function", "schedule", "supported_activities",
    "tensorboard_trace_handler",
]  # fmt: skip


class ProfilerActivity(enum.Enum):
    """What a program asks to be seen; only CPU, the host's times, is."""

    CPU = 0
    XPU = 1
    CUDA = 2
    HPU = 3
    MTIA = 4
    PrivateUse1 = 5


class ProfilerAction(enum.Enum):
    """What the profile does in a step."""

    NONE = 0
    WARMUP = 1
    RECORD = 2
    RECORD_AND_SAVE = 3


def supported_activities() -> set[ProfilerActivity]:
    """{ProfilerActivity.CPU}."""
    return {ProfilerActivity.CPU}


def schedule(
    *, wait: int, warmup: int, active: int, repeat: int = 0, skip_first: int = 0, skip_first_wait: int = 0
) -> Callable[[int], ProfilerAction]:
    """The function step -> ProfilerAction of the cycle: `wait` steps of nothing, `warmup`, then `active` ones.

    repeat: number of cycles, 0 for no end. skip_first: steps before the first cycle. skip_first_wait: 1 for a first
    cycle without its wait. AssertionError, as in PyTorch, where active is less than 1 or another count is negative.

    >>> from tapegrad.profiler import schedule
    >>> cycle = schedule(wait=1, warmup=1, active=2, repeat=1)
    >>> [cycle(step).name for step in range(5)]
    ['NONE', 'WARMUP', 'RECORD', 'RECORD_AND_SAVE', 'NONE']
    """
    if active < 1 or min(wait, warmup, repeat, skip_first) < 0:
        raise AssertionError(
            f"Invalid profiler schedule arguments. Got wait={wait} (need >= 0), warmup={warmup} (need >= 0), "
            f"active={active} (need > 0), repeat={repeat} (need >= 0), skip_first={skip_first} (need >= 0)."
        )
    if warmup == 0:
        warnings.warn("Profiler won't be using warmup, this can skew profiler results", stacklevel=2)
    length = wait + warmup + active

    def action(step: int) -> ProfilerAction:
        step -= skip_first
        if step < 0:
            return ProfilerAction.NONE
        if skip_first_wait:
            step += wait
        if repeat and step // length >= repeat:
            return ProfilerAction.NONE
        place = step % length
        if place < wait:
            return ProfilerAction.NONE
        if place < wait + warmup:
            return ProfilerAction.WARMUP
        return ProfilerAction.RECORD if place < length - 1 else ProfilerAction.RECORD_AND_SAVE

    return action


def _always(_: int) -> ProfilerAction:
    return ProfilerAction.RECORD


def tensorboard_trace_handler(
    dir_name: str, worker_name: str | None = None, use_gzip: bool = False
) -> Callable[[profile], None]:
    """An `on_trace_ready` that writes each trace into `dir_name`, where TensorBoard's profiler plug-in looks for it."""

    def handle(prof: profile) -> None:
        os.makedirs(dir_name, exist_ok=True)
        worker = worker_name or f"{socket.gethostname()}_{os.getpid()}"
        ending = ".pt.trace.json" + ".gz" * use_gzip
        prof.export_chrome_trace(os.path.join(dir_name, f"{worker}.{time.time_ns()}{ending}"))

    return handle


class profile:
    """Profiles a block, or the steps of it that a schedule names.

    Args:
        activities: accepted; host times are seen, whatever is asked for. ValueError for what is no ProfilerActivity.
        schedule: step -> ProfilerAction, as `schedule(...)` gives; None records all.
        on_trace_ready: called with the profile at the end of each recorded cycle.
        record_shapes, profile_memory, with_stack, with_flops: as in `autograd.profiler.profile`.
        with_modules: an event "nn.Module: Net.layer1.0" around each call of a module.
        The others are accepted and change nothing.

    After a cycle `events`, `key_averages` and the exports give that cycle until the next one begins.

    >>> import tapegrad as torch
    >>> from tapegrad.profiler import ProfilerActivity, profile
    >>> with profile(activities=[ProfilerActivity.CPU], record_shapes=True) as prof:
    ...     y = torch.ones(2, 3) @ torch.ones(3, 4)
    >>> [(e.key, e.count, e.input_shapes) for e in prof.key_averages(group_by_input_shape=True)]
    [('mm', 1, [[2, 3], [3, 4]])]
    """

    def __init__(
        self,
        *,
        activities: Iterable[ProfilerActivity] | None = None,
        schedule: Callable[[int], ProfilerAction] | None = None,
        on_trace_ready: Callable[..., Any] | None = None,
        record_shapes: bool = False,
        profile_memory: bool = False,
        with_stack: bool = False,
        with_flops: bool = False,
        with_modules: bool = False,
        experimental_config: Any = None,
        execution_trace_observer: Any = None,
        acc_events: bool = False,
        use_cuda: bool | None = None,
        custom_trace_id_callback: Callable[[], str] | None = None,
        **_: Any,
    ):
        self.activities = supported_activities() if activities is None else set(activities)
        if wrong := [a for a in self.activities if not isinstance(a, ProfilerActivity)]:
            raise ValueError(f"activities must be members of ProfilerActivity, but got {wrong[0]!r}")
        if not self.activities:
            raise AssertionError("No valid profiler activities found")
        self.schedule = schedule or _always
        self.on_trace_ready = on_trace_ready
        self.with_modules = with_modules
        self.step_num = 0
        self.current_action = ProfilerAction.NONE
        self.profiler: _Profile | None = None  # of the cycle under way, or of the last one
        self._open = False
        self._options: dict[str, Any] = {
            "record_shapes": record_shapes, "profile_memory": profile_memory, "with_stack": with_stack,
            "with_flops": with_flops,
        }  # fmt: skip
        self._metadata: dict[str, Any] = {}
        self._step: record_function | None = None
        self._around = _Around(with_modules)

    def __enter__(self) -> profile:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Begins with step 0."""
        self._act()

    def stop(self) -> None:
        """Ends; a cycle under way is complete."""
        self._end_step()
        if self._open:
            self._end_cycle()
        self.current_action = ProfilerAction.NONE

    def step(self) -> None:
        """The program's next step begins."""
        self._end_step()
        if self._open and self.current_action is ProfilerAction.RECORD_AND_SAVE:
            self._end_cycle()
        self.step_num += 1
        self._act()

    def _act(self) -> None:
        self.current_action = self.schedule(self.step_num)
        records = self.current_action in (ProfilerAction.RECORD, ProfilerAction.RECORD_AND_SAVE)
        if records and not self._open:
            self.profiler, self._open = _Profile(**self._options), True
            self.profiler.__enter__()
            self._around.open()
        elif self._open and not records:  # a schedule of one's own that forgot to save
            self._end_cycle()
        if records and self.schedule is not _always:
            self._step = record_function(f"ProfilerStep#{self.step_num}")
            self._step.__enter__()

    def _end_step(self) -> None:
        if self._step is not None:
            self._step.__exit__()
            self._step = None

    def _end_cycle(self) -> None:
        self._around.close()
        self._open = False
        self._recorded().__exit__()
        if self.on_trace_ready is not None:
            self.on_trace_ready(self)

    def _recorded(self) -> _Profile:
        if self.profiler is None:
            raise RuntimeError("Profiler must be initialized before accessing its events: no step was recorded")
        return self.profiler

    def events(self) -> EventList:
        """The events in the order of their start."""
        return self._recorded().function_events

    def key_averages(
        self, group_by_input_shape: bool = False, group_by_stack_n: int = 0, group_by_overload_name: bool = False
    ) -> EventList:
        """The sums by name, and by input shapes and lines of the program where asked for."""
        return self.events().key_averages(group_by_input_shape, group_by_stack_n)

    def export_chrome_trace(self, path: str) -> None:
        """Writes the trace; compressed where the path ends in ".gz"."""
        switched_on = {name: 1 for name, on in self._options.items() if on}
        self.events().export_chrome_trace(path, {**switched_on, **self._metadata})

    def export_stacks(self, path: str, metric: str = "self_cpu_time_total") -> None:
        """Writes stacks and times for flame graphs; with_stack=True is needed."""
        self._recorded().export_stacks(path, metric)

    def add_metadata(self, key: str, value: str) -> None:
        """A text for the trace file."""
        self._metadata[key] = str(value)

    def add_metadata_json(self, key: str, value: str) -> None:
        """A value, given as JSON, for the trace file."""
        self._metadata[key] = json.loads(value)

    def preset_metadata_json(self, key: str, value: str) -> None:
        """As add_metadata_json, before the start."""
        self.add_metadata_json(key, value)


class _Around:
    """Events around optimizer steps and, where asked for, module calls."""

    def __init__(self, with_modules: bool):
        self._with_modules = with_modules
        self._handles: list[Any] = []
        self._names = ModuleTracker()
        self._parts: list[tuple[Any, record_function]] = []

    def open(self) -> None:
        self._handles = [
            register_optimizer_step_pre_hook(self._optimizer_begins),
            register_optimizer_step_post_hook(self._ends),
        ]
        if self._with_modules:
            self._handles += [
                register_module_forward_pre_hook(self._module_begins),
                register_module_forward_hook(self._ends, always_call=True),
            ]

    def close(self) -> None:
        for handle in self._handles:
            handle.remove()
        while self._parts:
            self._parts.pop()[1].__exit__()

    def _begin(self, what: Any, name: str) -> None:
        part = record_function(name)
        part.__enter__()
        self._parts.append((what, part))

    def _optimizer_begins(self, optimizer: Any, *_: Any) -> None:
        self._begin(optimizer, f"Optimizer.step#{type(optimizer).__name__}.step")

    def _module_begins(self, module: Any, *_: Any) -> None:
        self._begin(module, "nn.Module: " + re.sub(r"\s", " ", self._names._name(module)))

    def _ends(self, what: Any, *_: Any) -> None:
        if any(what is open_one for open_one, _ in self._parts):  # else it began before the profile
            while True:
                began, part = self._parts.pop()
                part.__exit__()
                if began is what:
                    return
