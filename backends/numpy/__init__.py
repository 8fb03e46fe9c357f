"""The NumPy backend: tensors on the CPU."""

from __future__ import annotations

import functools
import os
import sys
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from ..base import Backend, DeviceKey


class NumpyBackend(Backend):
    """Arrays are np.ndarray in host memory."""

    name = "numpy"
    device_types = ("cpu",)
    xp = np
    array_type = np.ndarray

    @functools.cached_property
    def kernels(self) -> Mapping[str, Callable[..., Any]]:  # type: ignore[override]  # made at first use
        """The fused kernels, loaded when the first op is linked."""
        from .. import fast
        from .kernels import KERNELS

        return fast.over(KERNELS)

    def asarray(self, obj: Any, dtype: Any = None, device: DeviceKey | None = None, copy: bool | None = None) -> Any:
        return np.array(obj, dtype=dtype, copy=copy)

    def tidy(self, out: Any) -> Any:
        return np.asarray(out)

    def to_numpy(self, array: Any) -> Any:
        return array


# Division by zero, overflow and NaN are values here, as in PyTorch. np.errstate would cost a microsecond per op, and
# np.seterr would change the user's own NumPy; a filter on the frames of this package does neither.
warnings.filterwarnings("ignore", category=RuntimeWarning, module=__name__.partition(".")[0] + r"\.")


def keep_freed_memory() -> None:
    """Lets glibc keep the memory of freed arrays for the next ones, instead of giving it back each time.

    By itself it hands every array above 32 MB back to the system when it is freed, and smaller ones too until it has
    seen some; the faults on fresh pages then cost more than the arithmetic (three passes over 4 M float32: 14 ms
    against 4.5 ms). mallopt(3): M_MMAP_MAX = 0 takes all memory from the heap, M_TRIM_THRESHOLD keeps up to 2 GB of it
    free. TAPEGRAD_KEEP_MEMORY=0 leaves the allocator as it is; other C libraries than glibc are left alone.
    """
    if os.environ.get("TAPEGRAD_KEEP_MEMORY", "1") == "0" or not sys.platform.startswith("linux"):
        return
    import ctypes

    try:
        mallopt = ctypes.CDLL(None).mallopt
    except AttributeError:  # musl
        return
    mallopt(_M_MMAP_MAX, 0)
    mallopt(_M_TRIM_THRESHOLD, (1 << 31) - 1)


_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4


def make() -> NumpyBackend:
    """The backend object, for the registry."""
    keep_freed_memory()
    from .blas import wait_less

    wait_less()
    return NumpyBackend()
