"""torch.futures: a value that is on its way."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, Generic, TypeVar

__all__ = ["Future", "collect_all", "wait_all"]

T = TypeVar("T")


class Future(Generic[T]):
    """A value that `set_result` gives, in this thread or another, or that a call under way will give.

    What waits on a call (`from_call`) is not run by a thread of its own: the callbacks of `then` run when somebody asks
    (`wait`, `done`, `value`), in the thread that asks.

    >>> import tapegrad as torch
    >>> future = torch.futures.Future()
    >>> doubled = future.then(lambda done: 2 * done.value())
    >>> future.set_result(21)
    >>> doubled.wait()
    42
    """

    def __init__(self, *, devices: Any = None):
        self._lock = threading.RLock()
        self._set = threading.Event()
        self._value: Any = None
        self._error: BaseException | None = None
        self._callbacks: list[Callable[[Any], Any]] = []
        self._ready: Callable[[], bool] | None = None
        self._finish: Callable[[], Any] | None = None

    @classmethod
    def from_call(cls, ready: Callable[[], bool], finish: Callable[[], Any]) -> Future[Any]:
        """A future of a call under way. ready: whether it is done, without waiting; finish: waits and gives the value.

        An exception of `finish` is the future's.
        """
        made = cls()
        made._ready, made._finish = ready, finish
        return made

    def _ask(self) -> None:
        """Waits for the call, where there is one, and keeps its value or exception."""
        with self._lock:
            finish, self._finish = self._finish, None
            if finish is None:
                return
            try:
                value = finish()
            except BaseException as error:
                self.set_exception(error)
            else:
                self.set_result(value)

    def done(self) -> bool:
        """Whether the value (or an exception) is there."""
        if self._finish is not None and self._ready is not None and self._ready():
            self._ask()
        return self._set.is_set()

    def wait(self) -> T:
        """The value, once it is there. Raises the exception that came instead."""
        self._ask()
        self._set.wait()
        if self._error is not None:
            raise self._error
        return self._value

    def value(self) -> T:
        """The value. RuntimeError where it is not there yet: use `wait()`."""
        if not self.done():
            raise RuntimeError("value() called on a Future that is not completed: use wait()")
        return self.wait()

    def add_done_callback(self, callback: Callable[[Future[T]], None]) -> None:
        """Calls `callback(self)` once the value is there: at once where it is."""
        with self._lock:
            if not self._set.is_set():
                self._callbacks.append(callback)
                return
        callback(self)

    def then(self, callback: Callable[[Future[T]], Any]) -> Future[Any]:
        """A future of `callback(self)`, which is called once this value is there."""

        def finish() -> Any:
            self._ask()
            self._set.wait()
            return callback(self)

        if self._finish is not None:
            return Future.from_call(self.done, finish)
        chained: Future[Any] = Future()

        def forward(_: Future[T]) -> None:
            try:
                chained.set_result(callback(self))
            except BaseException as error:
                chained.set_exception(error)

        self.add_done_callback(forward)
        return chained

    def _settle(self, value: Any, error: BaseException | None) -> None:
        with self._lock:
            if self._set.is_set():
                raise RuntimeError("Future can only be marked complete once: it has a value already")
            self._value, self._error = value, error
            self._set.set()
            callbacks, self._callbacks = self._callbacks, []
        for callback in callbacks:
            callback(self)

    def set_result(self, result: T) -> None:
        """Gives the value. RuntimeError where there is one."""
        self._settle(result, None)

    def set_exception(self, result: BaseException) -> None:
        """Gives an exception, which `wait` and `value` raise. TypeError for something else."""
        if not isinstance(result, BaseException):
            raise TypeError(f"{result} is of type {type(result).__name__}, not an Exception.")
        self._settle(None, result)


def collect_all(futures: list[Future[Any]]) -> Future[list[Future[Any]]]:
    """A future of the list of futures, done when all of them are."""

    def finish() -> list[Future[Any]]:
        for future in futures:
            future._ask()
            future._set.wait()
        return futures

    return Future.from_call(lambda: all(future.done() for future in futures), finish)


def wait_all(futures: list[Future[Any]]) -> list[Any]:
    """The values of all futures, once all are there; raises the first exception."""
    return [future.wait() for future in collect_all(futures).wait()]
