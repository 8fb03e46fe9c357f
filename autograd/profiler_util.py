"""What a profile has seen: events, their sums, the table, and the trace for chrome://tracing and Perfetto."""

from __future__ import annotations

import gzip
import json
import os
import socket
from collections.abc import Callable, Iterator
from typing import Any

__all__ = ["EventList", "FunctionEvent", "FunctionEventAvg", "Interval"]

Shapes = list[list[int]]


class Interval:
    """Start and end in microseconds."""

    def __init__(self, start: float, end: float):
        self.start, self.end = start, end

    def elapsed_us(self) -> float:
        """The length."""
        return self.end - self.start


class _Times:
    """What events and their sums are asked alike. Device times are 0: an op is timed where its caller waits for it."""

    device_time = device_time_total = self_device_time_total = 0.0
    cuda_time = cuda_time_total = self_cuda_time_total = 0.0
    device_memory_usage = self_device_memory_usage = 0
    cpu_time_total: float
    self_cpu_time_total: float
    count: int

    @property
    def cpu_time(self) -> float:
        """The mean time of a call."""
        return self.cpu_time_total / self.count if self.count else 0.0

    @property
    def cpu_time_str(self) -> str:
        return _time(self.cpu_time)

    @property
    def cpu_time_total_str(self) -> str:
        return _time(self.cpu_time_total)

    @property
    def self_cpu_time_total_str(self) -> str:
        return _time(self.self_cpu_time_total)


class FunctionEvent(_Times):
    """One call: name, start and end in microseconds, thread, and what happened inside it.

    kind: "op", "backward" (a node of a backward pass), "user" (record_function).
    sequence_nr: of an op that was recorded and of its node, the same; else -1.
    """

    count = 1
    is_async = is_remote = False

    def __init__(self, name: str, start: float, thread: int, kind: str = "user"):
        self.name, self.start, self.end, self.thread, self.kind = name, start, start, thread, kind
        self.id = 0  # its place among the events of the profile, by start
        self.cpu_parent: FunctionEvent | None = None
        self.cpu_children: list[FunctionEvent] = []
        self.inside = 0.0  # time of the calls inside it
        self.sequence_nr = -1
        self.fwd_thread: int | None = None
        self.input_shapes: Shapes = []
        self.stack: list[str] = []
        self.flops: int | None = None
        self.self_cpu_memory_usage = 0  # bytes of its result, where that is new memory

    @property
    def key(self) -> str:
        return self.name

    @property
    def time_range(self) -> Interval:
        return Interval(self.start, self.end)

    @property
    def cpu_time_total(self) -> float:  # type: ignore[override]  # computed here, a field there
        return self.end - self.start

    @property
    def self_cpu_time_total(self) -> float:  # type: ignore[override]  # as above
        return self.cpu_time_total - self.inside

    @property
    def cpu_memory_usage(self) -> int:
        """Bytes that remain of an op, or of all ops inside another event."""
        if self.kind == "op":
            return self.self_cpu_memory_usage
        return sum(event.cpu_memory_usage for event in self.cpu_children)

    @property
    def is_user_annotation(self) -> bool:
        return self.kind == "user"

    def __repr__(self) -> str:
        return f"<FunctionEvent name={self.name} cpu_time={self.cpu_time_total:.3f}us thread={self.thread}>"


class FunctionEventAvg(_Times):
    """All calls of one name: how many, and the sums of their times in microseconds, FLOPs and bytes."""

    def __init__(self, key: str, first: FunctionEvent | None = None):
        self.key, self.count, self.cpu_time_total, self.self_cpu_time_total = key, 0, 0.0, 0.0
        self.cpu_memory_usage = self.self_cpu_memory_usage = 0
        self.flops = 0
        self.input_shapes: Shapes = [] if first is None else first.input_shapes
        self.stack: list[str] = [] if first is None else first.stack
        self.is_user_annotation = first is not None and first.is_user_annotation

    def add(self, event: FunctionEvent) -> None:
        self.count += 1
        self.cpu_time_total += event.cpu_time_total
        self.self_cpu_time_total += event.self_cpu_time_total
        self.cpu_memory_usage += event.cpu_memory_usage
        self.self_cpu_memory_usage += event.self_cpu_memory_usage
        self.flops += event.flops or 0

    def __repr__(self) -> str:
        return f"<FunctionEventAvg key={self.key} count={self.count} self_cpu_time={self.self_cpu_time_total:.3f}us>"


class EventList(list[Any]):
    """Events, or their sums by name. with_flops, profile_memory: whether the table has these columns."""

    def __init__(self, events: Any = (), *, profile_memory: bool = False, with_flops: bool = False):
        super().__init__(events)
        self.profile_memory, self.with_flops = profile_memory, with_flops
        self.shown: tuple[str, ...] = ()  # further columns of sums: "shapes", "stack"

    def key_averages(self, group_by_input_shape: bool = False, group_by_stack_n: int = 0) -> EventList:
        """The sums by name, and by input shapes, and by the innermost `group_by_stack_n` lines of the program."""
        sums: dict[Any, FunctionEventAvg] = {}
        for event in self:
            shapes = repr(event.input_shapes) if group_by_input_shape else ""
            key = event.key, shapes, *event.stack[:group_by_stack_n]
            if key not in sums:
                sums[key] = FunctionEventAvg(event.key, event)
            sums[key].add(event)
        for average in sums.values():
            average.stack = average.stack[:group_by_stack_n]
        found = EventList(sums.values(), profile_memory=self.profile_memory, with_flops=self.with_flops)
        found.shown = ("shapes",) * group_by_input_shape + ("stack",) * (group_by_stack_n > 0)
        return found

    def total_average(self) -> FunctionEventAvg:
        """The sum of all."""
        total = FunctionEventAvg("Total")
        for event in self:
            total.add(event)
        return total

    @property
    def self_cpu_time_total(self) -> float:
        return sum(event.self_cpu_time_total for event in self)

    def table(
        self,
        sort_by: str | None = None,
        row_limit: int = 100,
        max_src_column_width: int = 75,
        max_name_column_width: int = 55,
        max_shapes_column_width: int = 80,
        header: str | None = None,
        top_level_events_only: bool = False,
        time_unit: str | None = None,
    ) -> str:
        """The events as text.

        sort_by: an attribute such as "cpu_time", "cpu_time_total", "self_cpu_time_total", "cpu_memory_usage", "count";
        AttributeError for one that there is not. time_unit: "s", "ms" or "us" for all times.
        """
        rows = list(self) if sort_by is None else sorted(self, key=lambda e: getattr(e, sort_by), reverse=True)
        if top_level_events_only:
            rows = [e for e in rows if getattr(e, "cpu_parent", None) is None]
        total = self.self_cpu_time_total or 1.0
        widths = {"Name": max_name_column_width, "Input Shapes": max_shapes_column_width}
        columns = list(self._columns(total, rows, time_unit))
        lines = [tuple(name for name, _ in columns)]
        for e in rows[: row_limit if row_limit >= 0 else None]:
            lines.append(tuple(_cut(cell(e), widths.get(name, max_src_column_width)) for name, cell in columns))
        lengths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        rule = "  ".join("-" * w for w in lengths)
        text = ["  ".join(cell.rjust(w) for cell, w in zip(line, lengths, strict=True)) for line in lines]
        title = [] if header is None else ["=" * len(rule), header]
        last = f"Self CPU time total: {_time(self.self_cpu_time_total, time_unit)}"
        return "\n".join([*title, rule, text[0], rule, *text[1:], rule, last, ""])

    def _columns(self, total: float, rows: list[Any], unit: str | None) -> Iterator[tuple[str, Callable[[Any], str]]]:
        yield "Name", lambda e: e.key
        yield "Self CPU %", lambda e: f"{100 * e.self_cpu_time_total / total:.2f}%"
        yield "Self CPU", lambda e: _time(e.self_cpu_time_total, unit)
        yield "CPU total %", lambda e: f"{100 * e.cpu_time_total / total:.2f}%"
        yield "CPU total", lambda e: _time(e.cpu_time_total, unit)
        yield "CPU time avg", lambda e: _time(e.cpu_time, unit)
        if self.profile_memory:
            yield "CPU Mem", lambda e: _bytes(e.cpu_memory_usage)
            yield "Self CPU Mem", lambda e: _bytes(e.self_cpu_memory_usage)
        yield "# of Calls", lambda e: str(e.count)
        if "shapes" in self.shown:
            yield "Input Shapes", lambda e: str(e.input_shapes)
        if "stack" in self.shown:
            yield "Source Location", lambda e: " <- ".join(e.stack)
        if self.with_flops:
            most = max((e.flops or 0 for e in rows), default=0)
            power = min(max(len(str(most)) - 1, 0) // 3, 5)
            scale = 1000**power
            word = "Total " + ("", "K", "M", "G", "T", "P")[power] + "FLOPs"
            yield word, lambda e: f"{e.flops / scale:.3f}" if e.flops else "--"

    def export_chrome_trace(self, path: str, metadata: dict[str, Any] | None = None) -> None:
        """Writes the events as chrome://tracing and Perfetto read them, compressed where the path ends in ".gz".

        Forward and backward of one op are joined by an arrow. metadata: further entries of the file.
        """
        process = os.getpid()
        trace: list[dict[str, Any]] = [_named("process_name", process, 0, "python")]
        trace += [_named("thread_name", process, n, f"thread {n}") for n in sorted({e.thread for e in self})]
        trace += [_trace_event(e, process) for e in self]
        trace += _arrows(self, process)
        found = {
            "schemaVersion": 1,
            "host_name": socket.gethostname(),
            "displayTimeUnit": "ms",
            **(metadata or {}),
            "traceEvents": trace,
        }
        opened: Any = gzip.open if str(path).endswith(".gz") else open
        with opened(path, "wt", encoding="utf-8") as file:
            json.dump(found, file)

    def export_stacks(self, path: str, metric: str = "self_cpu_time_total") -> None:
        """Writes lines "outermost;...;innermost;op time" for flame graphs; the events need stacks (with_stack=True).

        metric: "self_cpu_time_total"; ValueError for another.
        """
        if metric != "self_cpu_time_total":
            raise ValueError(f"metric should be 'self_cpu_time_total', but got {metric!r}: there are host times only")
        with open(path, "w", encoding="utf-8") as file:
            for event in self:
                if event.stack and int(event.self_cpu_time_total):
                    frames = ";".join(frame.replace(";", ",").replace(" ", "_") for frame in reversed(event.stack))
                    file.write(f"{frames};{event.name} {int(event.self_cpu_time_total)}\n")

    def __str__(self) -> str:
        return self.table()


_CATEGORIES = {"op": "cpu_op", "backward": "cpu_op", "user": "user_annotation"}


def _named(kind: str, process: int, thread: int, name: str) -> dict[str, Any]:
    return {"name": kind, "ph": "M", "ts": 0, "pid": process, "tid": thread, "args": {"name": name}}


def _trace_event(e: FunctionEvent, process: int) -> dict[str, Any]:
    args: dict[str, Any] = {"External id": e.id}
    if e.sequence_nr >= 0:
        args["Sequence number"] = e.sequence_nr
    if e.input_shapes:
        args["Input Dims"] = e.input_shapes
    if e.stack:
        args["Call stack"] = e.stack
    if e.flops:
        args["FLOPs"] = e.flops
    if e.self_cpu_memory_usage:
        args["Bytes"] = e.self_cpu_memory_usage
    what = {"name": e.name, "ph": "X", "cat": _CATEGORIES[e.kind], "ts": e.start, "dur": e.cpu_time_total}
    return {**what, "pid": process, "tid": e.thread, "args": args}


def _arrows(events: EventList, process: int) -> list[dict[str, Any]]:
    """From each recorded op to the node of its backward."""
    forward = {e.sequence_nr: e for e in events if e.kind == "op" and e.sequence_nr >= 0}
    found = []
    for e in events:
        if e.kind == "backward" and (start := forward.get(e.sequence_nr)) is not None:
            same = {"id": e.sequence_nr, "cat": "fwdbwd", "name": "fwdbwd", "pid": process}
            found.append({**same, "ph": "s", "tid": start.thread, "ts": start.start})
            found.append({**same, "ph": "f", "bp": "e", "tid": e.thread, "ts": e.start})
    return found


def _time(us: float, unit: str | None = None) -> str:
    scale = {"s": 1e6, "ms": 1e3, "us": 1.0}
    if unit is None:
        unit = "s" if us >= 1e6 else "ms" if us >= 1e3 else "us"
    return f"{us / scale[unit]:.3f}{unit}"


def _bytes(n: int) -> str:
    for power, unit in ((3, "GB"), (2, "MB"), (1, "KB")):
        if abs(n) >= 1024**power:
            return f"{n / 1024**power:.2f} {unit}"
    return f"{n} B"


def _cut(text: str, width: int) -> str:
    return text if width < 0 or len(text) <= width else text[: width - 3] + "..."
