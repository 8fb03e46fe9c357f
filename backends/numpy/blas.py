"""The number of threads of NumPy's BLAS, for kernels that call it from threads of their own.

NumPy's wheels carry an OpenBLAS whose functions have a prefix of theirs. Another BLAS (MKL, Accelerate, a
distribution's) is left as it is: then `alone` does nothing and `controlled` says so.
"""

from __future__ import annotations

import functools
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from .. import threads

_NAMES = ("scipy_openblas_{}64_", "scipy_openblas_{}", "openblas_{}")


@functools.cache
def library() -> Any:
    """The shared library that NumPy's matrix products are in, or are linked to from; None where there is none."""
    import ctypes

    try:
        return ctypes.CDLL(np._core._multiarray_umath.__file__)  # type: ignore[attr-defined]  # not in the stubs
    except (AttributeError, OSError):
        return None


def function(name: str) -> Any:
    """A function of OpenBLAS's own, such as "get_num_threads"; None where NumPy has another BLAS."""
    found = (getattr(library(), pattern.format(name), None) for pattern in _NAMES)
    return next((f for f in found if f is not None), None)


@functools.cache
def _functions() -> tuple[Callable[[int], Any], Callable[[], int]] | None:
    """(set, get) of the number of threads; None where NumPy has another BLAS."""
    setter, getter = function("set_num_threads"), function("get_num_threads")
    return None if setter is None or getter is None else (setter, getter)


def controlled() -> bool:
    """Whether the number of BLAS threads can be set."""
    return _functions() is not None


def set_threads(number: int) -> None:
    """Sets how many threads a matrix product uses, where that can be set."""
    found = _functions()
    if found is not None:
        found[0](number)


@contextmanager
def alone() -> Iterator[None]:
    """Inside, a matrix product runs in the thread that calls it. For the whole process; costs a microsecond."""
    found = _functions()
    if found is None:
        yield
        return
    set_number, get_number = found
    before = get_number()
    set_number(1)
    try:
        yield
    finally:
        set_number(before)


_WAITING = 1 << 20  # cycles, 0.4 ms: shorter, and the next product wakes them each time


def wait_less() -> None:
    """Lets OpenBLAS's idle threads sleep after 0.4 ms, not 27 ms: they turn in a loop and hold the cores meanwhile.

    What runs in our own threads after a product took twice as long for it. OpenBLAS reads the time from the environment
    when it makes its threads, so they are made again. Left alone where OPENBLAS_THREAD_TIMEOUT is set, where the
    functions are not there, and where other threads run that may be inside OpenBLAS now.
    """
    found = _functions()
    if _TIMEOUT in os.environ or threading.active_count() > 1 or found is None:
        return
    names = ("openblas_read_env", "blas_thread_shutdown_", "blas_thread_init")
    read, stop, start = (getattr(library(), name, None) for name in names)
    if read is None or stop is None or start is None:
        return
    os.environ[_TIMEOUT] = str(_WAITING.bit_length() - 1)
    try:
        read()
    finally:
        del os.environ[_TIMEOUT]
    if found[1]() > 1:
        stop()
        start()


_TIMEOUT = "OPENBLAS_THREAD_TIMEOUT"

threads.followers.append(set_threads)
