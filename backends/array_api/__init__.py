"""Any library of the Python array API standard as a backend, without kernels of its own.

    TAPEGRAD_BACKEND=array_api          array-api-strict, which has the standard and nothing else
    TAPEGRAD_BACKEND=array_api:torch    PyTorch's arrays (the device type is then array_api_torch)
    TAPEGRAD_BACKEND=array_api:NAME     any other library: strict, torch, numpy, cupy, jax, dpnp, or a module's name

The ops are written over NumPy's names. `module.py` gives them in terms of the standard; `array.py` gives NumPy's views
and in-place writes, which the standard does not promise. What a library lacks raises Unsupported where an op needs it.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..base import Backend, DeviceKey
from .array import Array, Memory
from .library import Library
from .module import Module, equip

DEFAULT = "strict"


class ArrayApiBackend(Backend):
    """One library of the array API standard. library: a name of library.LIBRARIES, or a module's."""

    def __init__(self, library: str = DEFAULT):
        self.library = Library(library)
        short = self.library.name
        self.name = "array_api" if short == DEFAULT else f"array_api:{short}"
        self.device_types = (self.name.replace(":", "_").replace(".", "_"),)
        self.array_type = type("Array", (Array,), {"library": self.library, "__slots__": ()})
        equip(self.array_type)
        self.xp = self.array_type.module = Module(self.library, self.array_type)

    def asarray(self, obj: Any, dtype: Any = None, device: DeviceKey | None = None, copy: bool | None = None) -> Any:
        if isinstance(obj, self.array_type):
            return self.xp.array(obj, dtype, copy=bool(copy))
        return self.array_type.of(self.library.import_(np.asarray(obj, dtype)))

    def tidy(self, out: Any) -> Any:
        if isinstance(out, Memory):  # what `storage_of` gave: all of it
            return self.array_type(out, out.shadow)
        return super().tidy(out)

    def to_numpy(self, array: Any) -> Any:
        return array.host()

    def storage_of(self, array: Any) -> Any:
        return array.memory

    def may_keep(self, array: Any) -> bool:
        return False

    @property
    def special(self) -> Any:
        raise self.library.lacks("no special functions, and the standard has none")


def make(library: str = DEFAULT) -> ArrayApiBackend:
    """The backend object, for the registry. ImportError where the library is not installed."""
    return ArrayApiBackend(library)
