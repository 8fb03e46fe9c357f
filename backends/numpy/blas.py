"""The number of threads of NumPy's BLAS, for kernels that call it from threads of their own.

NumPy's wheels carry an OpenBLAS whose functions have a prefix of theirs. Another BLAS (MKL, Accelerate, a
distribution's) is left as it is: then `alone` does nothing and `controlled` says so.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from .. import threads

_NAMES = ("scipy_openblas_{}_num_threads64_", "scipy_openblas_{}_num_threads", "openblas_{}_num_threads")


@functools.cache
def _functions() -> tuple[Callable[[int], Any], Callable[[], int]] | None:
    """(set, get) of the BLAS that NumPy is linked to; None where it is none of OpenBLAS's builds."""
    import ctypes

    try:
        library = ctypes.CDLL(np._core._multiarray_umath.__file__)  # type: ignore[attr-defined]
    except (AttributeError, OSError):
        return None
    for name in _NAMES:
        setter = getattr(library, name.format("set"), None)
        if setter is not None:
            return setter, getattr(library, name.format("get"))
    return None


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


threads.followers.append(set_threads)
