"""Compiled kernels: sources in Python, translated by Numba in child processes, kept on disk, called through ctypes.

How a kernel is added. A source, in sources/GROUP.py (the group is compiled as one; see sources/language.py):

    @kernel("T* T* T* i8 i8")                    # two pointers in, one out, start, stop: float32 and float64 versions
    def scaled_add(x, y, out, start, stop):
        for i in range(start, stop):
            out[i] = T(0.5) * x[i] + y[i]

and a function on NumPy arrays in one of the files *_kernels.py, with NEEDS = "numba":

    SOURCE = Group("pointwise")

    @may_decline
    def scaled_add(x, y):
        if x.size < SMALL or x.dtype is not F32 or ...:  # a small array must not load anything
            return NotImplemented
        run = SOURCE.get("scaled_add_f4")                # compiles what is missing; None where that failed
        if run is None:
            return NotImplemented
        x, y = rows(x), rows(y)                          # contiguous, aligned
        out = np.empty(x.shape, x.dtype)
        run.over(x.size, x, y, out)                      # spans in all threads; run(...) for one call of your own
        return out

The last two arguments of a kernel run by `over` are start and stop. Arrays are given as they are (None is a null
pointer), numbers as Python numbers. Sources are not checked at run time: shapes, dtypes and strides are the caller's.

The program itself never imports Numba: object files (see cache.py) are linked by llvmlite, which takes 40 ms once.
"""

from __future__ import annotations

import ctypes
import functools
import threading
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

from .. import threads
from . import gang

_CTYPES = {
    "f4": ctypes.c_float, "f8": ctypes.c_double, "i4": ctypes.c_int32, "i8": ctypes.c_int64, "u1": ctypes.c_uint8
}  # fmt: skip
_lock = threading.RLock()
_scratch = ctypes.create_string_buffer(64)  # where compiled code writes its result None and, never, an exception

# ---- arrays as arguments

_HEAD = object.__basicsize__  # an array's data pointer follows the head that all objects have


def _address(array: Any) -> int:
    return _from_address(id(array) + _HEAD).value or 0


def _slow_address(array: Any) -> int:
    return array.ctypes.data


_from_address = ctypes.c_void_p.from_address
_probe = np.empty(1)
address: Callable[[Any], int] = _address if _address(_probe) == _probe.ctypes.data else _slow_address


def rows(x: Any) -> Any:
    """x itself, or a copy of it that is row-major and aligned."""
    flags = x.flags
    return x if flags.c_contiguous and flags.aligned else np.array(x, order="C")


class Function:
    """One compiled kernel."""

    __slots__ = ("call", "name")

    def __init__(self, name: str, place: int, codes: list[str]):
        kinds: list[Any] = [ctypes.c_void_p if code.endswith("*") else _CTYPES[code] for code in codes]
        function = ctypes.CFUNCTYPE(ctypes.c_int32, ctypes.c_void_p, ctypes.c_void_p, *kinds)(place)
        self.name = name
        self.call = functools.partial(function, *[ctypes.addressof(_scratch)] * 2)

    def __call__(self, *args: Any) -> None:
        """Runs it in this thread. Arrays, None, numbers; an integer in an array's place is an address."""
        self.call(*[address(a) if isinstance(a, np.ndarray) else a for a in args])

    def over(self, length: int, *args: Any, grain: int = 1, size: int = 0, align: int = 1) -> None:
        """Runs it over range(length), in several threads where `size` elements (default: length) are worth it.

        size, grain: see threads.worth. align: spans begin at its multiples.
        """
        values = [address(a) if isinstance(a, np.ndarray) else a or 0 for a in args]
        grain = grain if grain > 1 else threads.GRAIN
        if not gang.worth(size or length, grain) or not gang.over(self, length, align, values):
            if threads.worth(size or length, grain):
                threads.over(functools.partial(self.call, *values), length, align=align)
            else:
                self.call(*values, 0, length)


class Group:
    """The kernels of one file of sources; nothing is loaded before one is asked for."""

    def __init__(self, name: str):
        self.name = name
        self.functions: dict[str, Function | None] = {}
        self.code = b""
        self.table: dict[str, Any] | None = None  # see build.py; None until a kernel is asked for

    def get(self, kernel: str) -> Function | None:
        """The kernel of that name, such as "exp_f4"; None where it could not be compiled, which is warned of once."""
        try:
            return self.functions[kernel]
        except KeyError:
            with _lock:
                if kernel not in self.functions:
                    self.functions[kernel] = self._made(kernel)
            return self.functions[kernel]

    def _made(self, kernel: str) -> Function | None:
        if self.table is None:
            self.table = {}
            try:
                import json

                from . import cache

                head, _, self.code = cache.contents(self.name).partition(b"\n")
                self.table = json.loads(head)
            except Exception as error:  # of any kind: warned of, and NumPy serves
                _warn(f"the compiled kernels '{self.name}' cannot be had: {type(error).__name__}: {error}")
        entry = self.table.get(kernel) if self.table else None
        if isinstance(entry, list):
            symbol, codes, offset, length = entry
            return Function(kernel, _link(symbol, self.code[offset : offset + length]), codes)
        if entry is not None:
            _warn(f"the kernel '{kernel}' could not be compiled: {entry['error']}")
        elif self.table:
            raise KeyError(f"no kernel '{kernel}' in the sources '{self.name}'")
        return None


def _warn(text: str) -> None:
    warnings.warn(f"tapegrad[fast]: {text}. NumPy serves in their place.", RuntimeWarning, stacklevel=2)


# ---- machine code


@functools.cache
def _engine() -> Any:
    """llvmlite's linker, kept for the life of the process."""
    from llvmlite import binding

    binding.initialize_native_target()
    binding.initialize_native_asmprinter()
    machine = binding.Target.from_default_triple().create_target_machine(jit=True)
    return binding.create_mcjit_compiler(binding.parse_assembly(""), machine)


def _link(symbol: str, code: bytes) -> int:
    from llvmlite import binding

    engine = _engine()
    engine.add_object_file(binding.ObjectFileRef.from_data(code))
    engine.finalize_object()
    place = engine.get_function_address(symbol)
    if not place:
        raise RuntimeError(f"no function {symbol}")
    return place
