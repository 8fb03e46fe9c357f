"""torch.autograd.profiler: where the time goes, op by op, without a change to the code that is measured.

`profile` swaps the kernels of the op table, and the functions of the nodes, for timed ones while it is open, so nothing
is paid for it otherwise. Times are wall-clock microseconds on the host.
"""

from __future__ import annotations

import functools
import json
import threading
from collections.abc import Callable
from time import perf_counter_ns
from typing import Any

from .op import OPS, Kernels

__all__ = ["EventList", "FunctionEvent", "FunctionEventAvg", "profile", "record_function"]


class FunctionEvent:
    """One call: name, start and end in microseconds since the profile began, thread, time of the calls inside it."""

    __slots__ = ("name", "start", "end", "thread", "inside")

    def __init__(self, name: str, start: float, thread: int):
        self.name, self.start, self.end, self.thread, self.inside = name, start, start, thread, 0.0

    count = 1

    @property
    def key(self) -> str:
        return self.name

    @property
    def cpu_time_total(self) -> float:
        return self.end - self.start

    @property
    def self_cpu_time_total(self) -> float:
        return self.cpu_time_total - self.inside

    def __repr__(self) -> str:
        return f"<FunctionEvent name={self.name} cpu_time={self.cpu_time_total:.3f}us thread={self.thread}>"


class FunctionEventAvg:
    """All calls of one name: how many, and their times in microseconds."""

    def __init__(self, key: str):
        self.key, self.count, self.cpu_time_total, self.self_cpu_time_total = key, 0, 0.0, 0.0

    def add(self, event: FunctionEvent) -> None:
        self.count += 1
        self.cpu_time_total += event.cpu_time_total
        self.self_cpu_time_total += event.self_cpu_time_total

    @property
    def cpu_time(self) -> float:
        """The mean time of a call."""
        return self.cpu_time_total / self.count if self.count else 0.0

    def __repr__(self) -> str:
        return f"<FunctionEventAvg key={self.key} count={self.count} self_cpu_time={self.self_cpu_time_total:.3f}us>"


class EventList(list[Any]):
    """Events, or their sums by name."""

    def key_averages(self, group_by_input_shape: bool = False, group_by_stack_n: int = 0) -> EventList:
        """The sums by name."""
        sums: dict[str, FunctionEventAvg] = {}
        for event in self:
            sums.setdefault(event.key, FunctionEventAvg(event.key)).add(event)
        return EventList(sums.values())

    def total_average(self) -> FunctionEventAvg:
        """The sum of all."""
        total = FunctionEventAvg("Total")
        for event in self:
            total.add(event)
        return total

    @property
    def self_cpu_time_total(self) -> float:
        return sum(event.self_cpu_time_total for event in self)

    def table(self, sort_by: str | None = None, row_limit: int = 100, max_name_column_width: int = 55) -> str:
        """The events as text. sort_by: "cpu_time", "cpu_time_total", "self_cpu_time_total" or "count"."""
        rows = list(self) if sort_by is None else sorted(self, key=lambda e: getattr(e, sort_by), reverse=True)
        total = self.self_cpu_time_total or 1.0
        head = ("Name", "Self CPU %", "Self CPU", "CPU total %", "CPU total", "CPU time avg", "# of Calls")
        lines = [head]
        for e in rows[: row_limit if row_limit >= 0 else None]:
            own, whole = e.self_cpu_time_total, e.cpu_time_total
            shares = (f"{100 * own / total:.2f}%", _time(own), f"{100 * whole / total:.2f}%", _time(whole))
            lines.append((e.key[:max_name_column_width], *shares, _time(whole / e.count), str(e.count)))
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        rule = "  ".join("-" * w for w in widths)
        text = ["  ".join(cell.rjust(w) for cell, w in zip(line, widths, strict=True)) for line in lines]
        return "\n".join([rule, text[0], rule, *text[1:], rule, f"Self CPU time total: {_time(total)}", ""])

    def export_chrome_trace(self, path: str) -> None:
        """Writes the events as chrome://tracing and Perfetto read them."""
        trace = [
            {"name": e.name, "ph": "X", "ts": e.start, "dur": e.cpu_time_total, "pid": 0, "tid": e.thread} for e in self
        ]
        with open(path, "w", encoding="utf-8") as file:
            json.dump({"traceEvents": trace}, file)

    def __str__(self) -> str:
        return self.table()


def _time(us: float) -> str:
    return f"{us / 1e6:.3f}s" if us >= 1e6 else f"{us / 1e3:.3f}ms" if us >= 1e3 else f"{us:.3f}us"


class _Running(threading.local):
    calls: tuple[FunctionEvent, ...] = ()  # the calls under way in this thread, the outermost first


_running = _Running()
_profiles: list[profile] = []  # those that are open, the innermost last
_threads: dict[int, int] = {}


def _begin(name: str) -> FunctionEvent:
    number = _threads.setdefault(threading.get_ident(), len(_threads) + 1)
    event = FunctionEvent(name, perf_counter_ns() / 1e3, number)
    _running.calls = (*_running.calls, event)
    return event


def _finish(event: FunctionEvent) -> None:
    event.end = perf_counter_ns() / 1e3
    above = _running.calls[: _running.calls.index(event)] if event in _running.calls else ()
    _running.calls = above
    if above:
        above[-1].inside += event.cpu_time_total
    for open_profile in _profiles:
        open_profile._note(event)


class record_function:
    """Names a part of a program in the profiles that are open: a context manager and a decorator.

    >>> import tapegrad as torch
    >>> with torch.autograd.profiler.profile() as prof:
    ...     with torch.autograd.profiler.record_function("both"):
    ...         y = torch.ones(2) + torch.ones(2)
    >>> [event.name for event in prof.function_events]
    ['both', 'add']
    """

    def __init__(self, name: str, args: str | None = None):
        self.name, self.args = name, args
        self._events: list[FunctionEvent | None] = []

    def __enter__(self) -> record_function:
        self._events.append(_begin(self.name) if _profiles else None)
        return self

    def __exit__(self, *_: object) -> None:
        event = self._events.pop()
        if event is not None:
            _finish(event)

    def __call__(self, function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def named(*args: Any, **kwargs: Any) -> Any:
            with record_function(self.name, self.args):
                return function(*args, **kwargs)

        return named


class profile:
    """Times every op, every node of a backward pass and every record_function while it is open (all threads).

    Args:
        enabled: False for a context manager that does nothing.
        The others are accepted and change nothing: there are only host times here.

    An op that is called for the first time while a profile is open is timed from then on, its node from the next
    profile on.
    """

    def __init__(
        self,
        enabled: bool = True,
        *,
        use_cuda: bool = False,
        use_device: str | None = None,
        record_shapes: bool = False,
        with_flops: bool = False,
        profile_memory: bool = False,
        with_stack: bool = False,
        with_modules: bool = False,
        use_kineto: bool = False,
        use_cpu: bool = True,
        **_: Any,
    ):
        self.enabled = enabled
        self._events: list[FunctionEvent] | None = None
        self._start = 0.0

    def __enter__(self) -> profile:
        if not self.enabled:
            return self
        if self._events is not None:
            raise RuntimeError("Profiler context manager is not reentrant")
        self._events, self._start = [], perf_counter_ns() / 1e3
        if not _profiles:
            self._swap()
        _profiles.append(self)
        return self

    def __exit__(self, *_: object) -> None:
        if self.enabled:
            _profiles.remove(self)
            if not _profiles:
                _restore()

    def _swap(self) -> None:
        """Timed functions in the places of all that are linked, and where new ones are linked."""
        for op in list(OPS.values()):
            for kind, kernel in list(op.kernels.items()):
                op.kernels[kind] = _timed(op.name, kernel)
            if op.run is not None and op.differentiable:
                op.vjp = _timed(op.grad_name, op.vjp)
        Kernels.__missing__ = _link_timed  # type: ignore[method-assign]  # the swap is what a profile is

    def _note(self, event: FunctionEvent) -> None:
        if self._events is not None and event.start >= self._start:
            self._events.append(event)

    @property
    def function_events(self) -> EventList:
        """The events in the order of their start."""
        if self._events is None:
            raise RuntimeError("Profiler didn't finish running")
        events = EventList(sorted(self._events, key=lambda e: e.start))
        return events

    def key_averages(self, group_by_input_shape: bool = False, group_by_stack_n: int = 0) -> EventList:
        return self.function_events.key_averages()

    def total_average(self) -> FunctionEventAvg:
        return self.function_events.total_average()

    @property
    def self_cpu_time_total(self) -> float:
        return self.function_events.self_cpu_time_total

    def table(self, sort_by: str | None = None, row_limit: int = 100, max_name_column_width: int = 55) -> str:
        return self.function_events.table(sort_by, row_limit, max_name_column_width)

    def export_chrome_trace(self, path: str) -> None:
        self.function_events.export_chrome_trace(path)

    def __repr__(self) -> str:
        return "<unfinished torch.autograd.profile>" if self._events is None else repr(self.function_events)

    def __str__(self) -> str:
        return repr(self) if self._events is None else str(self.function_events)


class _Timed:
    """A function that notes how long its calls take."""

    __slots__ = ("name", "function")

    def __init__(self, name: str, function: Any):
        self.name, self.function = name, function

    def __call__(self, *args: Any, **kw: Any) -> Any:
        event = _begin(self.name)
        try:
            return self.function(*args, **kw)
        finally:
            _finish(event)


def _timed(name: str, function: Any) -> Any:
    return function if function.__class__ is _Timed else _Timed(name, function)


_link = Kernels.__missing__


def _link_timed(self: Kernels, array_type: type) -> Any:
    self[array_type] = _timed(self.op.name, _link(self, array_type))
    return self[array_type]


def _restore() -> None:
    Kernels.__missing__ = _link  # type: ignore[method-assign]
    for op in list(OPS.values()):
        for kind, kernel in list(op.kernels.items()):
            if kernel.__class__ is _Timed:
                op.kernels[kind] = kernel.function
        if op.run is not None and op.differentiable and op.vjp.__class__ is _Timed:
            op.vjp = op.vjp.function
