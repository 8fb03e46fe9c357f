"""One Array-API library: its namespace, its dtypes, and the way of its arrays to and from NumPy."""

from __future__ import annotations

import importlib
import re
import warnings
from typing import Any

import numpy as np

from ..base import Unsupported

# The short name -> the module with the namespace. Any other name is taken for a module itself.
LIBRARIES = {
    "strict": "array_api_strict",
    "torch": "array_api_compat.torch",
    "numpy": "array_api_compat.numpy",
    "cupy": "array_api_compat.cupy",
    "jax": "jax.numpy",
    "dpnp": "dpnp",
}
_DTYPES = (
    "bool int8 int16 int32 int64 uint8 uint16 uint32 uint64 float16 bfloat16 float32 float64 complex64 complex128"
)


class Library:
    """A namespace with the functions of the Python array API standard (https://data-apis.org/array-api/).

    name: the short name, or the module's; ImportError where it is not installed.
    """

    def __init__(self, name: str):
        self.name = next((short for short, module in LIBRARIES.items() if module == name), name)
        self.xp = importlib.import_module(LIBRARIES.get(name, name))
        if not hasattr(self.xp, "asarray") or not hasattr(self.xp, "float32"):
            raise ImportError(f"the module {self.xp.__name__} is no namespace of the array API standard")
        package = name_of_package(self.name)
        self.version = getattr(importlib.import_module(package), "__version__", "")
        # division by zero and NaN are values here; a library made on NumPy warns of them in its own frames
        warnings.filterwarnings("ignore", category=RuntimeWarning, module=re.escape(package))
        self.dtypes: dict[Any, Any] = {}  # NumPy's -> the library's
        self._ours: dict[Any, Any] = {}  # that of a library's array -> NumPy's
        for word in _DTYPES.split():
            theirs, ours = getattr(self.xp, word, None), _numpy_dtype(word)
            if theirs is not None and ours is not None:
                kept = self.xp.zeros(1, dtype=theirs).dtype
                if kept not in self._ours:  # else it is one that the library only names, as JAX does float64
                    self.dtypes[ours], self._ours[kept] = theirs, ours

    def __getattr__(self, name: str) -> Any:
        """A function of the library, `linalg.NAME` and `fft.NAME` among them. Unsupported where there is none."""
        found: Any = self.xp
        for part in name.split("."):
            found = getattr(found, part, None)
        if found is None:
            raise self.lacks(f"no function '{name}'")
        setattr(self, name, found)
        return found

    def has(self, name: str) -> bool:
        """Whether the library has a function of that name."""
        return hasattr(self.xp, name)

    def lacks(self, what: str) -> Unsupported:
        """The error for what the library does not have."""
        return Unsupported(f"backend array_api:{self.name}: the library {self.name} {self.version} has {what}")

    def dtype(self, dtype: Any) -> Any:
        """The library's dtype for NumPy's. Unsupported where it has none."""
        found = self.dtypes.get(np.dtype(dtype))
        if found is None:
            raise self.lacks(f"no dtype {np.dtype(dtype).name}")
        return found

    def numpy_dtype(self, value: Any) -> Any:
        """NumPy's dtype for that of a library's array."""
        return self._ours[value.dtype]

    def import_(self, host: Any) -> Any:
        """A library's array with the values of a NumPy array; its memory is its own."""
        host = np.array(host, order="C")
        dtype = self.dtype(host.dtype)
        if host.dtype.kind == "V":  # bfloat16, which no protocol carries; float32 holds all its values
            return self.astype(self.asarray(host.astype("f4")), dtype)
        return self.asarray(host, dtype=dtype)

    def export(self, value: Any) -> Any:
        """A NumPy array with the values of a library's array; its memory is its own."""
        ours = self.numpy_dtype(value)
        if ours.kind == "V":
            value = self.astype(value, self.dtype("f4"))
        try:
            host = np.from_dlpack(value)
        except (AttributeError, BufferError, RuntimeError, TypeError, ValueError):
            host = np.asarray(value)
        return np.array(host).astype(ours, copy=False)


def name_of_package(short: str) -> str:
    """The package whose version counts: torch of array_api_compat.torch."""
    module = LIBRARIES.get(short, short)
    return module.removeprefix("array_api_compat.").partition(".")[0]


def _numpy_dtype(word: str) -> Any:
    try:
        return np.dtype(word)
    except TypeError:
        try:
            import ml_dtypes
        except ImportError:
            return None
        return np.dtype(getattr(ml_dtypes, word))
