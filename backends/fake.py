"""A second device for tests, without a GPU: NumPy arrays of a type of their own, which claim to live on `fake`.

It has no kernels, so it also runs the generic forward of every op. Mixing its arrays with the CPU's is an error, as
with a real device, so all device logic can be tested on any machine.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any

import numpy as np

from .base import Backend, DeviceKey, owner_of


class FakeArray(np.ndarray):
    """A NumPy array on the pretended device."""


class FakeBackend(Backend):
    """NumPy posing as another device, `fake` (index 0)."""

    name = "fake"
    device_types = ("fake",)
    xp = np
    array_type = FakeArray
    loses_type = True  # NumPy's functions drop the subclass here and there

    def guard(self, device: DeviceKey) -> AbstractContextManager[Any]:
        if device.index:
            raise RuntimeError(f"fake: invalid device ordinal {device.index}; there is one device, fake:0")
        return super().guard(device)

    def asarray(self, obj: Any, dtype: Any = None, device: DeviceKey | None = None, copy: bool | None = None) -> Any:
        if device is not None:
            self.guard(device)
        if not isinstance(obj, FakeArray):
            copy = True  # a transfer never shares memory
        return np.array(obj, dtype=dtype, copy=copy, subok=True).view(FakeArray)

    def tidy(self, out: Any) -> Any:
        return out if isinstance(out, FakeArray) else np.asarray(out).view(FakeArray)

    def to_numpy(self, array: Any) -> Any:
        return np.array(array, subok=False)

    def device_of(self, array: Any) -> DeviceKey:
        return DeviceKey("fake", 0)

    def storage_of(self, array: Any) -> Any:
        return owner_of(array, np.ndarray)  # NumPy makes plain arrays of them here and there

    def may_keep(self, array: Any) -> bool:
        return False


def make() -> FakeBackend:
    """The backend object, for the registry."""
    return FakeBackend()
