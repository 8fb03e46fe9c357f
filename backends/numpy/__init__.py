"""The NumPy backend: tensors on the CPU."""

from __future__ import annotations

import functools
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
    def kernels(self) -> Mapping[str, Callable[..., Any]]:  # type: ignore[override]
        """The fused kernels, loaded when the first op is linked."""
        from .kernels import KERNELS

        return KERNELS

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
    """Lets glibc keep the memory of freed arrays below 32 MB for the next ones, instead of giving it back each time.

    It starts with a bound of 128 KB and raises it to the size of the largest block it has seen freed (mallopt(3),
    M_MMAP_THRESHOLD; 32 MB is the most). Fresh pages cost more in faults than the arithmetic on them: a step of layer
    norm on (512, 128) takes 440 us after this line and 1000 us without. The block itself is never touched.
    """
    np.empty((32 << 20) - (1 << 16), np.uint8)


def make() -> NumpyBackend:
    """The backend object, for the registry."""
    keep_freed_memory()
    return NumpyBackend()
