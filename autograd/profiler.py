"""torch.autograd.profiler: where the time goes, op by op, without a change to the code that is measured.

`profile` swaps the kernels of the op table and of the raw namespaces, the functions of the nodes, and the in-place
methods of Tensor for timed ones while it is open, so nothing is paid for it otherwise. Times are wall-clock
microseconds on the host.
"""

from __future__ import annotations

import functools
import sys
import threading
from collections.abc import Callable
from time import perf_counter_ns
from typing import Any

from . import codegen
from .flops import flops, has_formula
from .function import _FunctionOp
from .graph import Node
from .modes import recording
from .op import OPS, Op
from .profiler_util import EventList, FunctionEvent, FunctionEventAvg, Interval
from .tensor import Tensor
from .versions import inside_library, storage_of
from .watch import Watch, unwatch_in_place, watch_in_place

__all__ = ["EventList", "FunctionEvent", "FunctionEventAvg", "Interval", "profile", "record_function"]


class _Running(threading.local):
    calls: tuple[FunctionEvent, ...] = ()  # the calls under way in this thread, the outermost first
    last: FunctionEvent | None = None  # the op that was called last: the one whose node is recorded next


_running = _Running()
_profiles: list[profile] = []  # those that are open, the innermost last
_threads: dict[int, int] = {}


def _begin(name: str, kind: str) -> FunctionEvent:
    number = _threads.setdefault(threading.get_ident(), len(_threads) + 1)
    event = FunctionEvent(name, perf_counter_ns() / 1e3, number, kind)
    if _running.calls:
        event.cpu_parent = _running.calls[-1]
    _running.calls = (*_running.calls, event)
    return event


def _finish(event: FunctionEvent) -> None:
    event.end = perf_counter_ns() / 1e3
    _leave(event)
    if event.cpu_parent is not None:
        event.cpu_parent.inside += event.cpu_time_total
        event.cpu_parent.cpu_children.append(event)
    for open_profile in _profiles:
        open_profile._note(event)


def _leave(event: FunctionEvent) -> None:
    """The event, and what began in it and did not end, is no longer under way."""
    _running.calls = _running.calls[: _running.calls.index(event)] if event in _running.calls else ()


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
        self._events.append(_begin(self.name, "user") if _profiles else None)
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

    Kernels that a node's rules call are timed inside it, as "mm" in "MmBackward0"; what a rule computes by operators is
    the node's own time. An op called in the thread that opens the profile and the node that it records have the same
    sequence_nr.

    Args:
        enabled: False for a context manager that does nothing.
        record_shapes: keep the shapes of the ops' inputs, for `key_averages(group_by_input_shape=True)`.
        with_flops: count FLOPs of matrix products, convolutions, attention and recurrent layers.
        profile_memory: bytes of each op's result where that is new memory; what is freed is not counted.
        with_stack: keep the lines of the program, innermost first, for `key_averages(group_by_stack_n=...)`.
        The others are accepted and change nothing: there are host times only.
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
        self.record_shapes, self.with_flops = record_shapes, with_flops
        self.profile_memory, self.with_stack = profile_memory, with_stack
        self._events: list[FunctionEvent] | None = None
        self._start = 0.0

    def __enter__(self) -> profile:
        if not self.enabled:
            return self
        if self._events is not None:
            raise RuntimeError("Profiler context manager is not reentrant")
        self._events, self._start = [], perf_counter_ns() / 1e3
        if not _profiles:
            _doors.open()
        _profiles.append(self)
        self._recording = recording(_Numbers())
        self._recording.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        if self.enabled:
            self._recording.__exit__()
            _profiles.remove(self)
            if not _profiles:
                _doors.close()

    def _note(self, event: FunctionEvent) -> None:
        if self._events is not None and event.start >= self._start:
            self._events.append(event)

    @property
    def function_events(self) -> EventList:
        """The events in the order of their start."""
        if self._events is None:
            raise RuntimeError("Profiler didn't finish running")
        events = sorted(self._events, key=lambda e: e.start)
        for i, event in enumerate(events):
            event.id = i
        return EventList(events, profile_memory=self.profile_memory, with_flops=self.with_flops)

    def key_averages(self, group_by_input_shape: bool = False, group_by_stack_n: int = 0) -> EventList:
        return self.function_events.key_averages(group_by_input_shape, group_by_stack_n)

    def total_average(self) -> FunctionEventAvg:
        return self.function_events.total_average()

    @property
    def self_cpu_time_total(self) -> float:
        return self.function_events.self_cpu_time_total

    def table(self, sort_by: str | None = None, row_limit: int = 100, **options: Any) -> str:
        return self.function_events.table(sort_by, row_limit, **options)

    def export_chrome_trace(self, path: str) -> None:
        self.function_events.export_chrome_trace(path)

    def export_stacks(self, path: str, metric: str = "self_cpu_time_total") -> None:
        if not self.with_stack:
            raise RuntimeError("export_stacks() requires with_stack=True")
        self.function_events.export_stacks(path, metric)

    def __repr__(self) -> str:
        return "<unfinished torch.autograd.profile>" if self._events is None else repr(self.function_events)

    def __str__(self) -> str:
        return repr(self) if self._events is None else str(self.function_events)


class _Numbers:
    """The recorder of a profile: a new node has the number of the op that was just called."""

    below: Any = None

    def recorded(self, node: Node, tensors: tuple[Any, ...]) -> None:
        event = _running.last
        if event is not None and event.name == getattr(node.op, "name", None):
            event.sequence_nr = node.seq
        if self.below is not None:
            self.below.recorded(node, tensors)


class _TimedWatch(Watch):
    """The kernels, composites with fused ones included, in every thread; those that others call as well."""

    def wants(self, name: str) -> bool:
        return True

    def around(self, name: str, call: Any, /, *arrays: Any, **kw: Any) -> Any:
        event = _running.last = _begin(name, "op")
        out = None
        try:
            out = call(*arrays, **kw)
            return out
        finally:
            _finish(event)
            _describe(event, name, arrays, kw, out)


def _describe(event: FunctionEvent, name: str, arrays: tuple[Any, ...], kw: dict[str, Any], out: Any) -> None:
    """What the open profiles ask for besides times."""
    if any(p.record_shapes for p in _profiles):
        event.input_shapes = [list(a.shape) if hasattr(a, "dtype") else [] for a in arrays]
    if any(p.with_stack for p in _profiles):
        event.stack = _stack()
    if out is None:
        return
    within = any(call.kind == "op" and has_formula(call.name) for call in _running.calls)  # which counts it
    if not within and any(p.with_flops for p in _profiles) and (found := flops(name, arrays, kw, out)) is not None:
        event.flops = found[1]
    if any(p.profile_memory for p in _profiles):
        known = {id(storage_of(a)) for a in arrays if hasattr(a, "dtype")}
        results = [o for o in (out if isinstance(out, tuple) else (out,)) if hasattr(o, "dtype")]
        new = {id(s): s for s in map(storage_of, results) if id(s) not in known}
        event.self_cpu_memory_usage = sum(getattr(s, "nbytes", 0) for s in new.values())


def _stack() -> list[str]:
    """The lines of the program that are under way, innermost first, as "file(line): function"."""
    found = []
    frame: Any = sys._getframe(1)
    while frame is not None:
        if not inside_library(frame):
            found.append(f"{frame.f_code.co_filename}({frame.f_lineno}): {frame.f_code.co_name}")
        frame = frame.f_back
    return found


class _TimedVjp:
    """A node's function that notes how long its calls take."""

    __slots__ = ("name", "function")

    def __init__(self, name: str, function: Any):
        self.name, self.function = name, function

    def __call__(self, node: Node, *args: Any) -> Any:
        return _timed_node(self.name, self.function, node, *args)


def _timed_node(name: str, vjp: Any, node: Node, g: Any, F: Any, grads: Any) -> Any:
    event = _begin(name, "backward")
    event.sequence_nr = node.seq
    shape = getattr(g, "shape", None)
    event.input_shapes = [list(shape)] if shape is not None and any(p.record_shapes for p in _profiles) else []
    try:
        return vjp(node, g, F, grads)
    finally:
        _finish(event)


def _method_timed(method: Any) -> Any:
    """A `vjp` or `vjp_graph` of a class of ops, timed."""

    @functools.wraps(method)
    def timed(self: Any, node: Node, g: Any, F: Any, grads: Any) -> Any:
        return _timed_node(self.grad_name, functools.partial(method, self), node, g, F, grads)

    return timed


class _Doors:
    """Everything that is swapped while a profile is open, and how it is put back."""

    def __init__(self) -> None:
        self._undo: list[Callable[[], None]] = []
        self._watch: _TimedWatch | None = None

    def open(self) -> None:
        self._watch = _TimedWatch(lambda *_: None, set(OPS)).__enter__()  # type: ignore[assignment]  # the watch itself
        for op in list(OPS.values()):
            self._time_vjp(op)
        prepare = codegen.prepare

        def prepare_timed(op: Op) -> None:
            prepare(op)
            self._time_vjp(op)

        self._swap(codegen, "prepare", prepare_timed)
        watch_in_place(Tensor, _timed_write)
        self._swap(Op, "vjp_graph", _method_timed(Op.vjp_graph))
        for name in ("vjp", "vjp_graph"):
            self._swap(_FunctionOp, name, _method_timed(getattr(_FunctionOp, name)))

    def _swap(self, place: Any, name: str, value: Any) -> None:
        before = getattr(place, name)
        setattr(place, name, value)
        self._undo.append(lambda: setattr(place, name, before))

    def _time_vjp(self, op: Op) -> None:
        if hasattr(op, "vjp") and op.vjp.__class__ is not _TimedVjp:
            self._swap(op, "vjp", _TimedVjp(op.grad_name, op.vjp))

    def close(self) -> None:
        unwatch_in_place(_timed_write)
        while self._undo:
            self._undo.pop()()
        if self._watch is not None:
            self._watch.__exit__()
            self._watch = None


def _timed_write(name: str, call: Any, /, *args: Any, **kwargs: Any) -> Any:
    """An in-place method of Tensor, which may write without calling an op, timed."""
    event = _begin(name, "op")
    try:
        return call(*args, **kwargs)
    finally:
        _finish(event)
        _describe(event, name, tuple(getattr(a, "array", a) for a in args), {}, None)


_doors = _Doors()
