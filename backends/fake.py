"""Two devices for tests, without a GPU: NumPy arrays of types of their own, which claim to live on fake:0, fake:1.

It has no kernels, so it also runs the generic forward of every op. Mixing arrays of different devices is an error, as
with real devices, so all device logic can be tested on any machine.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from . import registry
from .base import Backend, DeviceKey, owner_of


class FakeArray(np.ndarray):
    """A NumPy array on the pretended device fake:0."""


class SecondFakeArray(FakeArray):
    """A NumPy array on the pretended device fake:1."""


TYPES: tuple[type[FakeArray], ...] = (FakeArray, SecondFakeArray)


class _Here(threading.local):
    index = 0


here = _Here()  # the current device: where the arrays go that `xp` makes of nothing


class FakeBackend(Backend):
    """NumPy posing as another device, of which `index` is the number; each makes arrays of a type of its own."""

    name = "fake"
    xp = np
    loses_type = True  # NumPy's functions drop the subclass here and there

    def __init__(self, index: int = 0):
        self.index = index
        self.array_type = TYPES[index]
        self.device_types = () if index else ("fake",)  # fake:1 is reached through the first one

    def device_count(self) -> int:
        return len(TYPES)

    @contextmanager
    def guard(self, device: DeviceKey) -> Iterator[None]:
        before, here.index = here.index, number_of(device)
        try:
            yield
        finally:
            here.index = before

    def asarray(self, obj: Any, dtype: Any = None, device: DeviceKey | None = None, copy: bool | None = None) -> Any:
        kind = self.array_type
        if device is not None:
            kind = TYPES[number_of(device)]
        if type(obj) is not kind:
            copy = True  # a transfer never shares memory
        return np.array(obj, dtype=dtype, copy=copy, subok=True).view(kind)

    def tidy(self, out: Any) -> Any:
        return out if isinstance(out, FakeArray) else np.asarray(out).view(TYPES[self.index or here.index])

    def to_numpy(self, array: Any) -> Any:
        return np.array(array, subok=False)

    def device_of(self, array: Any) -> DeviceKey:
        return DeviceKey("fake", TYPES.index(type(array)))

    def storage_of(self, array: Any) -> Any:
        return owner_of(array, np.ndarray)  # NumPy makes plain arrays of them here and there

    def may_keep(self, array: Any) -> bool:
        return False


def number_of(device: DeviceKey) -> int:
    """The number of a device, 0 where none is said. RuntimeError for one that there is not."""
    number = device.index or 0
    if number >= len(TYPES):
        raise RuntimeError(
            f"fake: invalid device ordinal {number}; there are {len(TYPES)} devices, fake:0 to fake:{len(TYPES) - 1}"
        )
    return number


def make() -> FakeBackend:
    """The backend object of fake:0, for the registry, which is told of the others."""
    for index in range(1, len(TYPES)):
        registry.register(FakeBackend(index), f"fake:{index}")
    return FakeBackend()
