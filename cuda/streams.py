"""Streams and events of the device, over CuPy's. All raise NoDevice where there is no device."""

from __future__ import annotations

from typing import Any

from . import _backend


class Stream:
    """A queue of work on a device."""

    def __init__(self, device: Any = None, priority: int = 0, *, raw: Any = None):
        self.raw = raw if raw is not None else _backend().xp.cuda.Stream(non_blocking=True, priority=priority)

    @property
    def cuda_stream(self) -> int:
        return self.raw.ptr

    def synchronize(self) -> None:
        """Waits until all work queued here is done."""
        self.raw.synchronize()

    def query(self) -> bool:
        """Whether all work queued here is done."""
        return self.raw.done

    def record_event(self, event: Event | None = None) -> Event:
        """Marks the present end of the queue."""
        event = event or Event()
        event.record(self)
        return event

    def wait_event(self, event: Event) -> None:
        """Work queued from now on waits for the event."""
        self.raw.wait_event(event.raw)

    def wait_stream(self, stream: Stream) -> None:
        """Work queued from now on waits for what another stream holds now."""
        self.wait_event(stream.record_event())

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Stream) and self.raw.ptr == other.raw.ptr

    def __hash__(self) -> int:
        return hash(self.raw.ptr)


ExternalStream = Stream


class Event:
    """A mark in a stream, for waiting and for times."""

    def __init__(self, enable_timing: bool = False, blocking: bool = False, interprocess: bool = False):
        self.raw = _backend().xp.cuda.Event(block=blocking, disable_timing=not enable_timing)

    def record(self, stream: Stream | None = None) -> None:
        """Puts the mark at the end of a stream, by default the current one."""
        self.raw.record(None if stream is None else stream.raw)

    def wait(self, stream: Stream | None = None) -> None:
        """Work queued on the stream from now on waits for the mark."""
        (stream or current_stream()).wait_event(self)

    def query(self) -> bool:
        """Whether the mark was reached."""
        return self.raw.done

    def synchronize(self) -> None:
        """Waits for the mark."""
        self.raw.synchronize()

    def elapsed_time(self, end_event: Event) -> float:
        """Milliseconds from this mark to another."""
        return _backend().xp.cuda.get_elapsed_time(self.raw, end_event.raw)


def current_stream(device: Any = None) -> Stream:
    """The stream where new work goes."""
    return Stream(raw=_backend().xp.cuda.get_current_stream())


def default_stream(device: Any = None) -> Stream:
    """The stream in use when no other was chosen."""
    return Stream(raw=_backend().xp.cuda.Stream.null)


def set_stream(stream: Stream | None) -> None:
    """Makes a stream the current one; None changes nothing."""
    if stream is not None:
        stream.raw.use()


class StreamContext:
    """Inside, the given stream is the current one; None changes nothing."""

    def __init__(self, stream: Stream | None):
        self.stream = stream

    def __enter__(self) -> None:
        if self.stream is not None:
            self.stream.raw.__enter__()

    def __exit__(self, *error: Any) -> None:
        if self.stream is not None:
            self.stream.raw.__exit__(*error)


stream = StreamContext
