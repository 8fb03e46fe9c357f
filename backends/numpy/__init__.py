"""The NumPy backend: tensors on the CPU."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..base import Backend, DeviceKey
from .kernels import KERNELS


class NumpyBackend(Backend):
    """Arrays are np.ndarray in host memory."""

    name = "numpy"
    device_types = ("cpu",)
    xp = np
    array_type = np.ndarray
    kernels = KERNELS

    def asarray(self, obj: Any, dtype: Any = None, device: DeviceKey | None = None, copy: bool | None = None) -> Any:
        return np.array(obj, dtype=dtype, copy=copy)

    def tidy(self, out: Any) -> Any:
        return np.asarray(out)

    def to_numpy(self, array: Any) -> Any:
        return array


def make() -> NumpyBackend:
    """The backend object, for the registry."""
    return NumpyBackend()
