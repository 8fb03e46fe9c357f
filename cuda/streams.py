"""Streams and events of the device, over CuPy's. All raise NoDevice where there is no device."""

from __future__ import annotations

import ctypes
from typing import Any

from ..autograd.device import device as _device
from . import _backend, _index


def _at(device: Any) -> Any:
    return _backend().guard(_device("cuda", _index(device)).key)


class Stream:
    """A queue of work on a device; inside `with stream:` new work goes there. priority: lower numbers go first."""

    def __init__(self, device: Any = None, priority: int = 0, *, raw: Any = None):
        self._index = _index(device)
        if raw is None:
            cuda = _backend().xp.cuda
            with _at(self._index):
                raw = cuda.Stream(non_blocking=True, priority=priority)
        self.raw = raw
        self._inside: list[Any] = []  # what `with` has to put back

    @property
    def cuda_stream(self) -> int:
        """The address that CUDA knows the stream by."""
        return self.raw.ptr

    _as_parameter_ = property(lambda self: ctypes.c_void_p(self.raw.ptr), doc="The address, for ctypes.")

    @property
    def device(self) -> _device:
        """The device whose work is queued here."""
        return _device("cuda", self._index)

    @property
    def device_index(self) -> int:
        """The number of the device whose work is queued here."""
        return self._index

    @property
    def priority(self) -> int:
        """The priority that the stream was made with."""
        return self.raw.priority

    def synchronize(self) -> None:
        """Waits until all work queued here is done."""
        self.raw.synchronize()

    def query(self) -> bool:
        """Whether all work queued here is done."""
        return bool(self.raw.done)

    def record_event(self, event: Event | None = None) -> Event:
        """Marks the present end of the queue."""
        event = event or Event()
        event.record(self)
        return event

    def wait_event(self, event: Event) -> None:
        """Work queued from now on waits for the event."""
        if event.raw is not None:
            self.raw.wait_event(event.raw)

    def wait_stream(self, stream: Stream) -> None:
        """Work queued from now on waits for what another stream holds now."""
        self.wait_event(stream.record_event())

    def __enter__(self) -> Stream:
        place = _at(self._index)
        place.__enter__()
        self.raw.__enter__()
        self._inside.append(place)
        return self

    def __exit__(self, *error: Any) -> None:
        self.raw.__exit__(*error)
        self._inside.pop().__exit__(*error)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Stream) and self.raw.ptr == other.raw.ptr and self.device == other.device

    def __hash__(self) -> int:
        return hash((self.raw.ptr, self.device))

    def __repr__(self) -> str:
        return f"<torch.cuda.Stream device={self.device} cuda_stream={self.cuda_stream:#x}>"


class ExternalStream(Stream):
    """A stream that another library made, by its address; it must outlive this object."""

    def __init__(self, stream_ptr: int, device: Any = None):
        with _at(device):
            super().__init__(device, raw=_backend().xp.cuda.Stream.from_external(_Foreign(stream_ptr)))


class _Foreign:
    """An address in the form in which libraries hand streams to each other."""

    def __init__(self, address: int):
        self.address = address

    def __cuda_stream__(self) -> tuple[int, int]:
        return 0, self.address


def get_stream_from_external(data_ptr: int, device: Any = None) -> Stream:
    """The stream that another library made, by its address."""
    return ExternalStream(data_ptr, device)


class Event:
    """A mark in a stream, for waiting and for times; of the device of the stream that it is first put into."""

    def __init__(
        self, enable_timing: bool = False, blocking: bool = False, interprocess: bool = False, external: bool = False
    ):
        self.enable_timing = enable_timing
        self._options = {"block": blocking, "disable_timing": not enable_timing, "interprocess": interprocess}
        self._cuda = _backend().xp.cuda
        self.raw: Any = None

    @property
    def cuda_event(self) -> int:
        """The address that CUDA knows the event by; 0 before it is recorded."""
        return 0 if self.raw is None else self.raw.ptr

    _as_parameter_ = property(lambda self: ctypes.c_void_p(self.cuda_event), doc="The address, for ctypes.")

    def record(self, stream: Stream | None = None) -> None:
        """Puts the mark at the end of a stream, by default the current one."""
        stream = stream or current_stream()
        with _at(stream.device_index):
            if self.raw is None:
                self.raw = self._cuda.Event(**self._options)
            self.raw.record(stream.raw)

    def wait(self, stream: Stream | None = None) -> None:
        """Work queued on the stream from now on waits for the mark."""
        (stream or current_stream()).wait_event(self)

    def query(self) -> bool:
        """Whether the mark was reached; true where there is none."""
        return self.raw is None or bool(self.raw.done)

    def synchronize(self) -> None:
        """Waits for the mark."""
        if self.raw is not None:
            self.raw.synchronize()

    def elapsed_time(self, end_event: Event) -> float:
        """Milliseconds from this mark to another.

        ValueError where one was made without `enable_timing`, or not recorded; RuntimeError where one is not reached.
        """
        if not (self.enable_timing and end_event.enable_timing):
            raise ValueError("Both events must be created with argument 'enable_timing=True'.")
        if self.raw is None or end_event.raw is None:
            raise ValueError("Both events must be recorded before calculating elapsed time.")
        if not (self.query() and end_event.query()):
            raise RuntimeError("Both events must be completed before calculating elapsed time.")
        return self._cuda.get_elapsed_time(self.raw, end_event.raw)

    def __repr__(self) -> str:
        return f"<torch.cuda.Event {'uninitialized' if self.raw is None else f'{self.cuda_event:#x}'}>"


def current_stream(device: Any = None) -> Stream:
    """The stream where new work goes."""
    with _at(device):
        return Stream(device, raw=_backend().xp.cuda.get_current_stream())


def default_stream(device: Any = None) -> Stream:
    """The stream in use when no other was chosen."""
    with _at(device):
        return Stream(device, raw=_backend().xp.cuda.Stream.null)


def set_stream(stream: Stream | None) -> None:
    """Makes a stream, and its device, the current one; None changes nothing."""
    if stream is not None:
        _backend().xp.cuda.runtime.setDevice(stream.device_index)
        stream.raw.use()


class StreamContext:
    """Inside, the given stream, and its device, is the current one; None changes nothing."""

    def __init__(self, stream: Stream | None):
        self.stream = stream

    def __enter__(self) -> None:
        if self.stream is not None:
            self.stream.__enter__()

    def __exit__(self, *error: Any) -> None:
        if self.stream is not None:
            self.stream.__exit__(*error)


stream = StreamContext
