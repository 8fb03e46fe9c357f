"""Grad mode, per thread: what decides whether an op records.

`mode.grad` is False (do not record), True (record), or a recorder: an object whose `recorded(node, tensor)` is called
for each new node (anomaly mode, saved-tensor hooks). So the record path asks one question, whatever is switched on.
"""

from __future__ import annotations

import functools
import inspect
import threading
from collections.abc import Callable
from typing import Any

# What the record path of every op reads as globals of its own (see codegen), so that ordinary programs do not pay for a
# thread-local look-up: how many inference_mode blocks are open in all threads, and in how many threads `mode.grad` is
# something else than True.
shared = {"inference_blocks": 0, "switched": 0}
_lock = threading.Lock()


class _Mode(threading.local):
    grad: Any = True  # False, True or a recorder
    recorder: Any = True  # what `grad` returns to when recording is enabled
    inference: bool = False
    walk: Any = None  # the backward pass under way, see engine.Walk

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "grad" and (change := (value is not True) - (self.grad is not True)):
            with _lock:
                shared["switched"] += change
        elif name == "inference" and (change := value - self.inference):
            with _lock:
                shared["inference_blocks"] += change
        _set_own(self, name, value)


_set_own = threading.local.__setattr__
mode = _Mode()


class _ModeSwitch:
    """A context manager and decorator which sets the thread's mode inside and restores it after."""

    def __call__(self, function: Callable[..., Any]) -> Callable[..., Any]:
        if inspect.isclass(function):
            raise TypeError(f"decorating a class with {type(self).__name__} is not supported: decorate its methods")
        if inspect.isgeneratorfunction(function):
            return self._wrap_generator(function)

        @functools.wraps(function)
        def inside(*args: Any, **kwargs: Any) -> Any:
            with self._clone():
                return function(*args, **kwargs)

        return inside

    def _wrap_generator(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """The mode holds while the generator's own code runs, not while its consumer's does."""

        @functools.wraps(function)
        def inside(*args: Any, **kwargs: Any) -> Any:
            generator = function(*args, **kwargs)
            send, value = generator.send, None
            try:
                while True:
                    with self._clone():
                        item = send(value)
                    send = generator.send
                    try:
                        value = yield item
                    except GeneratorExit:
                        with self._clone():
                            generator.close()
                        raise
                    except BaseException as error:
                        send, value = generator.throw, error
            except StopIteration as stop:
                return stop.value

        return inside

    def _clone(self) -> Any:
        return type(self)()

    def __enter__(self) -> None:
        raise TypeError("use a subclass")

    def __exit__(self, *_: object) -> None:
        mode.grad = self._before

    _before: Any


class no_grad(_ModeSwitch):
    """Nothing inside is recorded: results have requires_grad=False. Per thread.

    >>> import tapegrad as torch
    >>> x = torch.ones(2, requires_grad=True)
    >>> with torch.no_grad():
    ...     (x * 2).requires_grad
    False
    """

    def __new__(cls, function: Callable[..., Any] | None = None) -> Any:
        self = super().__new__(cls)
        return self if function is None else self(function)  # @no_grad without parentheses

    def __enter__(self) -> None:
        self._before = mode.grad
        mode.grad = False


class enable_grad(_ModeSwitch):
    """Records again inside, within a no_grad block. Per thread."""

    def __new__(cls, function: Callable[..., Any] | None = None) -> Any:
        self = super().__new__(cls)
        return self if function is None else self(function)

    def __enter__(self) -> None:
        self._before = mode.grad
        mode.grad = mode.recorder


class set_grad_enabled(_ModeSwitch):
    """Switches recording on or off at once; used as a context manager, restores it at the end."""

    def __init__(self, mode: bool):
        self._before = _get()
        self._enabled = bool(mode)
        _set(self._enabled)

    def _clone(self) -> set_grad_enabled:
        return set_grad_enabled(self._enabled)

    def __call__(self, function: Callable[..., Any]) -> Callable[..., Any]:
        mode.grad = self._before  # a decorator acts when the function runs
        return super().__call__(function)

    def __enter__(self) -> None:
        _set(self._enabled)

    def __repr__(self) -> str:
        return f"set_grad_enabled(mode={self._enabled})"


def _get() -> Any:
    return mode.grad


def _set(enabled: bool) -> None:
    mode.grad = mode.recorder if enabled else False


class inference_mode(_ModeSwitch):
    """no_grad whose results may not enter a recorded graph later (`is_inference()` is True for them)."""

    def __new__(cls, mode: Any = True) -> Any:
        self = super().__new__(cls)
        if callable(mode):
            self.__init__(True)  # type: ignore[misc]
            return self(mode)
        return self

    def __init__(self, mode: bool = True):
        self._enabled = bool(mode)

    def _clone(self) -> inference_mode:
        return inference_mode(self._enabled)

    def __enter__(self) -> None:
        self._before = mode.grad
        self._outer = mode.inference
        mode.grad = False if self._enabled else mode.recorder
        mode.inference = self._enabled

    def __exit__(self, *_: object) -> None:
        mode.grad = self._before
        mode.inference = self._outer


def is_grad_enabled() -> bool:
    """Whether ops record in this thread."""
    return mode.grad is not False


def is_inference_mode_enabled() -> bool:
    """Whether this thread is inside `inference_mode`."""
    return mode.inference


class recording:
    """Adds a recorder for the time of the block: `recorder.recorded(node, tensor)` sees every new node.

    Recorders nest: the new one calls the one it covers through its attribute `below`.
    """

    def __init__(self, recorder: Any):
        self.recorder = recorder

    def __enter__(self) -> Any:
        self._before = (mode.grad, mode.recorder)
        self.recorder.below = None if mode.recorder is True else mode.recorder
        mode.recorder = self.recorder
        if mode.grad is not False:
            mode.grad = self.recorder
        return self.recorder

    def __exit__(self, *_: object) -> None:
        below = self.recorder.below
        if mode.recorder is self.recorder:
            mode.recorder = True if below is None else below
            mode.grad = False if self._before[0] is False else mode.recorder
            return
        above: Any = mode.recorder  # one that was opened later is open still
        while above is not True and above is not None and getattr(above, "below", None) is not self.recorder:
            above = getattr(above, "below", None)
        if above is True or above is None:  # the mode was set otherwise in the meantime
            mode.grad, mode.recorder = self._before
        else:
            above.below = below
