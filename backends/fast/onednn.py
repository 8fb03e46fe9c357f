"""oneDNN through its C interface (version 3) on the memory of NumPy arrays.

The library is the plain shared object that the wheel `onednn-cpu-gomp` installs (Apache-2.0; libgomp is all it needs).
Memory is described by `Layout`, computed on by `Primitive`; what the library refuses raises `Refused`. Calls run in the
thread that makes them (`in_this_thread`): the kernels share work among the threads of `backends/threads.py`, so that
OpenMP starts no workers of its own. Those would wait actively, on the cores that NumPy's need, and not survive a fork.

Names and numbers are those of dnnl_types.h; https://oneapi-src.github.io/oneDNN explains them.
"""

from __future__ import annotations

import ctypes
import functools
import os
import sys
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from ctypes import Structure, byref, c_int, c_int64, c_size_t, c_void_p
from typing import Any

import numpy as np

WHEEL, LIBRARY = "onednn_cpu_gomp", "libdnnl.so.3"

# dnnl_types.h: argument numbers of an execution, and what a primitive's descriptor is asked for
SRC, DST, WEIGHTS, BIAS, SCRATCHPAD = 1, 17, 33, 41, 80
DIFF_SRC, DIFF_DST, DIFF_WEIGHTS = 129, 145, 161
_QUERY = {SRC: 129, DIFF_SRC: 130, WEIGHTS: 131, BIAS: 131, DIFF_WEIGHTS: 132, DST: 133, DIFF_DST: 134, SCRATCHPAD: 136}
FORWARD_TRAINING, FORWARD_INFERENCE = 64, 96
CONVOLUTION_DIRECT = 1
_CPU, _F32, _TAG_ANY, _SCRATCHPAD_USER, _IMPLEMENTATION = 1, 3, 1, 1, 8
_STATUS = "success, out of memory, invalid arguments, unimplemented, no implementation, runtime error, not required"
_REFUSALS = (2, 3, 4)

_Dims = c_int64 * 12  # DNNL_MAX_NDIMS
ALIGN = 64  # bytes: a cache line, what the library aligns its own buffers to


class OneDNNError(RuntimeError):
    """A call of the library that failed: which, and the status in words."""


class Refused(OneDNNError):
    """The library has no implementation for what was asked; the caller takes another way."""


class _Argument(Structure):
    _fields_ = [("number", c_int), ("memory", c_void_p)]


@functools.cache
def path() -> str | None:
    """The shared object's file, as the wheel's list of installed files tells; None where it is not installed.

    What importlib.metadata would answer, without the 15 ms of importing it.
    """
    if not sys.platform.startswith("linux"):
        return None
    for folder in sys.path:
        try:
            names = os.listdir(folder or ".")
        except OSError:
            continue
        for name in names:
            if name.startswith(WHEEL) and name.endswith(".dist-info"):
                found = _listed(folder, name)
                if found is not None:
                    return found
    return None


def _listed(folder: str, name: str) -> str | None:
    """The library in a wheel's list of files, if it is there."""
    try:
        with open(os.path.join(folder, name, "RECORD"), encoding="utf-8") as lines:
            files = [line.partition(",")[0] for line in lines]
    except OSError:
        return None
    found = [os.path.normpath(os.path.join(folder, file)) for file in files if os.path.basename(file) == LIBRARY]
    return next(filter(os.path.isfile, found), None)


class _Library:
    """The loaded library: its functions, its engine, a stream per thread."""

    def __init__(self, file: str):
        # PyDLL for what takes less time than giving the interpreter up and getting it back
        self.quick, self.slow = ctypes.PyDLL(file), ctypes.CDLL(file)
        self.quick.dnnl_primitive_desc_query_md.restype = c_void_p
        self.quick.dnnl_memory_desc_get_size.restype = c_size_t
        self.set_handle = self.quick.dnnl_memory_set_data_handle
        self.set_handle.argtypes = [c_void_p, c_void_p]
        self.execute = self.slow.dnnl_primitive_execute
        self.execute.argtypes = [c_void_p, c_void_p, c_int, c_void_p]
        # libgomp's functions, found through the library that is linked to it; the number is the calling thread's own
        self.omp_get, self.omp_set = self.quick.omp_get_max_threads, self.quick.omp_set_num_threads
        self.engine = self.make("dnnl_engine_create", _CPU, c_size_t(0))
        self.attributes = self.make("dnnl_primitive_attr_create")
        self.call("dnnl_primitive_attr_set_scratchpad_mode", self.attributes, _SCRATCHPAD_USER)
        self.local = threading.local()

    def call(self, name: str, *args: Any) -> None:
        """A function that answers with a status; a bad one becomes an error."""
        status = getattr(self.slow, name)(*args)
        if status:
            fail(name, status)

    def make(self, name: str, *args: Any) -> c_void_p:
        """A function that writes the handle of a new object to its first argument."""
        handle = c_void_p()
        self.call(name, byref(handle), *args)
        return handle

    def stream(self) -> c_void_p:
        """The calling thread's stream."""
        try:
            return self.local.stream
        except AttributeError:
            self.local.stream = self.make("dnnl_stream_create", self.engine, 1)
            return self.local.stream


def fail(name: str, status: int) -> None:
    """Raises the error of a status."""
    words = _STATUS.split(", ")
    text = f"oneDNN: {name}: {words[status] if status < len(words) else status}"
    raise (Refused if status in _REFUSALS else OneDNNError)(text)


@functools.cache
def library() -> _Library:
    """The library, loaded at the first call. OSError where the file does not load."""
    file = path()
    if file is None:
        raise OSError(f"{LIBRARY} is not installed: pip install {WHEEL.replace('_', '-')}")
    return _Library(file)


@contextmanager
def in_this_thread() -> Iterator[None]:
    """Inside, primitives are made for one thread, and run in the calling one. Needed for both."""
    lib = library()
    before = lib.omp_get()
    lib.omp_set(1)
    try:
        yield
    finally:
        lib.omp_set(before)


class Layout:
    """A memory descriptor: shape and order of float32 values in memory. Equal when the library finds them equal."""

    def __init__(self, handle: c_void_p, release: bool = True):
        lib = library()
        self.handle = handle
        self.bytes: int = lib.quick.dnnl_memory_desc_get_size(handle)
        self._release = lib.quick.dnnl_memory_desc_destroy if release else None

    def __del__(self) -> None:
        release = getattr(self, "_release", None)
        if release is not None:
            release(self.handle)

    @classmethod
    def strided(cls, shape: Sequence[int], strides: Sequence[int]) -> Layout:
        """Of an array; strides in elements."""
        make, rank = library().make, len(shape)
        name = "dnnl_memory_desc_create_with_strides"
        return cls(make(name, rank, _Dims(*shape), _F32, _Dims(*strides)))

    @classmethod
    def dense(cls, shape: Sequence[int]) -> Layout:
        """Of an array in row-major order."""
        strides, step = [], 1
        for n in reversed(shape):
            strides.append(step)
            step *= n
        return cls.strided(shape, strides[::-1])

    @classmethod
    def channels_last(cls, shape: Sequence[int]) -> Layout:
        """Of values whose second dimension is the innermost in memory."""
        _, channels, *places = shape
        strides, step = [], channels
        for n in reversed(places):
            strides.append(step)
            step *= n
        return cls.strided(shape, [step, 1, *strides[::-1]])

    @classmethod
    def any(cls, shape: Sequence[int]) -> Layout:
        """The order that suits the primitive which is made with it: `Primitive.layout` tells which."""
        return cls(library().make("dnnl_memory_desc_create_with_tag", len(shape), _Dims(*shape), _F32, _TAG_ANY))

    def same(self, other: Layout) -> bool:
        """Whether memory of the one is memory of the other."""
        return bool(library().quick.dnnl_memory_desc_equal(self.handle, other.handle))


class Descriptor:
    """What a primitive will be: `make` names the library's function, `args` what follows the handle in it."""

    def __init__(self, make: str, *args: Any):
        lib = library()
        self._lib, self._release = lib, lib.quick.dnnl_primitive_desc_destroy
        self.handle = lib.make(make, *args, lib.attributes)

    def __del__(self) -> None:
        if hasattr(self, "handle"):
            self._release(self.handle)

    def layout(self, number: int) -> Layout:
        """The layout that an argument must have; for as long as the descriptor lives."""
        asked = self._lib.quick.dnnl_primitive_desc_query_md(self.handle, _QUERY[number], int(number == BIAS))
        return Layout(c_void_p(asked), release=False)

    def implementation(self) -> str:
        """The library's name of the implementation that it chose."""
        text = ctypes.c_char_p()
        self._lib.call("dnnl_primitive_desc_query", self.handle, _IMPLEMENTATION, 0, byref(text))
        return (text.value or b"").decode()


class Primitive:
    """A computation that was compiled for fixed layouts; called with the addresses of its arguments.

    `arguments`: their numbers, in the order in which `__call__` takes the addresses, and their layouts. Safe to call
    from several threads at once.
    """

    def __init__(self, descriptor: Descriptor, arguments: dict[int, Layout]):
        lib = library()
        self._lib, self._descriptor, self._layouts = lib, descriptor, dict(arguments)
        self._idle: deque[tuple[list[c_void_p], Any]] = deque()
        space = descriptor.layout(SCRATCHPAD)
        self.scratchpad = space.bytes
        if space.bytes:
            self._layouts[SCRATCHPAD] = space
        self.handle = lib.make("dnnl_primitive_create", descriptor.handle)

    def __del__(self) -> None:
        if hasattr(self, "handle"):
            for memories, _ in self._idle:
                for memory in memories:
                    self._lib.quick.dnnl_memory_destroy(memory)
            self._lib.quick.dnnl_primitive_destroy(self.handle)

    def _arguments(self) -> tuple[list[c_void_p], Any]:
        """Memory objects without memory, and the array that execution takes them in."""
        lib, layouts = self._lib, self._layouts
        memories = [lib.make("dnnl_memory_create", layout.handle, lib.engine, None) for layout in layouts.values()]
        table = (_Argument * len(layouts))(*[_Argument(n, m) for n, m in zip(layouts, memories, strict=True)])
        return memories, table

    def __call__(self, *addresses: int) -> None:
        """Computes. The memory at the addresses must be alive and as the layouts say."""
        if self.scratchpad:
            space = Space(self.scratchpad)
            addresses = (*addresses, space.address)
        try:
            arguments = self._idle.pop()
        except IndexError:
            arguments = self._arguments()
        memories, table = arguments
        lib = self._lib
        for memory, address in zip(memories, addresses, strict=True):
            lib.set_handle(memory, address)
        status = lib.execute(self.handle, lib.stream(), len(memories), table)
        self._idle.append(arguments)
        if status:
            fail("dnnl_primitive_execute", status)


class Space:
    """Memory of `size` bytes for as long as the object lives; `address` is aligned."""

    def __init__(self, size: int):
        self.array = np.empty(size + ALIGN, np.uint8)
        self.address: int = -(-address_of(self.array) // ALIGN) * ALIGN


def address_of(array: Any) -> int:
    """Where an array's first element lies."""
    return array.__array_interface__["data"][0]


def reorder(source: Layout, target: Layout) -> Primitive | None:
    """A copy from one layout into another, called with the two addresses; None where they are the same."""
    if source.same(target):
        return None
    engine = library().engine
    made = Descriptor("dnnl_reorder_primitive_desc_create", source.handle, engine, target.handle, engine)
    return Primitive(made, {SRC: source, DST: target})


def spatial(values: Sequence[int]) -> Any:
    """Strides, dilations or paddings as the library takes them."""
    return _Dims(*values)
