"""The CuPy backend's kernels executed on the CPU: the same CUDA sources through the host's C++ compiler.

`CpuMachine` takes the place of CuPy under the kernels' wrappers: memory is NumPy's, between guard zones that no kernel
may touch; launches call the compiled source by cuda_on_cpu.h. `backend()` is a Backend over it, whose kernels are the
CuPy backend's, so that records and programs run through wrappers and sources alike.

Built sources are kept in the user's cache, by the hash of all that goes into them.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import shutil
import subprocess
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from tapegrad.backends.base import Backend
from tapegrad.backends.cupy import compile as cuda_source
from tapegrad.backends.cupy import launch
from tapegrad.backends.fake import FakeArray, FakeBackend

HERE = Path(__file__).parent
COMPILER = shutil.which(os.environ.get("CXX", "g++"))
FLAGS = ["-std=c++17", "-O1", "-shared", "-fPIC", "-w", "-ffp-contract=off"]
GUARD = 64  # bytes before and behind every array
UNSET = 0xFF  # every byte of new memory, which makes floats NaN and integers -1


class Fault(Exception):
    """A kernel did on the CPU what it must not do on a device."""


def cache() -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return Path(base) / "tapegrad" / "cuda_on_cpu"


def build(source: str, expressions: list[str]) -> ctypes.CDLL:
    """The source with an entry for each name expression: run_K(size, arguments), sizes_K(found)."""
    lines = ['#include "cuda_on_cpu.h"', cuda_source.text(source), 'extern "C" {']
    for k, name in enumerate(expressions):
        lines.append(f"int run_{k}(const unsigned* s, void** a) {{ return emu::run(&{name}, s, a); }}")
        lines.append(f"int sizes_{k}(int* found) {{ return emu::sizes(&{name}, found); }}")
    lines.append("void set_descending(int on) { emu::descending = on; }\n}")
    code = "\n".join(lines)
    mark = hashlib.sha256((code + (HERE / "cuda_on_cpu.h").read_text() + str(FLAGS)).encode()).hexdigest()[:24]
    made = cache() / f"{Path(source).stem}-{mark}.so"
    if not made.exists():
        made.parent.mkdir(parents=True, exist_ok=True)
        part = made.with_suffix(f".{os.getpid()}")
        command = [COMPILER, *FLAGS, f"-I{HERE}", "-x", "c++", "-", "-o", str(part)]
        done = subprocess.run(command, input=code, capture_output=True, text=True)
        if done.returncode:
            raise Fault(f"{source} does not compile for the CPU:\n{done.stderr[:4000]}")
        os.replace(part, made)
    return ctypes.CDLL(str(made))


class Memory:
    """NumPy with arrays that lie between guard zones. `skew`: bytes by which they miss a multiple of 16."""

    def __init__(self) -> None:
        self.zones: list[Any] = []
        self.skew = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(np, name)

    def empty(self, shape: Any, dtype: Any = float, order: str = "C") -> Any:
        dtype = np.dtype(dtype)
        count = int(np.prod(shape, dtype=np.int64))
        raw = np.full(count * dtype.itemsize + 2 * GUARD + 32, UNSET, np.uint8)
        start = GUARD + -(raw.ctypes.data + GUARD) % 16 + self.skew
        self.zones.append((weakref.ref(raw), start, count * dtype.itemsize))
        flat = raw[start : start + count * dtype.itemsize].view(dtype)
        return flat.reshape(shape, order=order)

    def zeros(self, shape: Any, dtype: Any = float) -> Any:
        made = self.empty(shape, dtype)
        made[...] = 0
        return made

    def array(self, x: Any, order: str = "C", copy: bool = True) -> Any:
        made = self.empty(x.shape, x.dtype)
        made[...] = x
        return made

    def ascontiguousarray(self, x: Any) -> Any:
        return self.array(x)

    def check(self) -> None:
        """Fault where a guard zone was written."""
        living = []
        for zone in self.zones:
            raw, (_, start, size) = zone[0](), zone
            if raw is not None:
                living.append(zone)
                if (raw[:start] != UNSET).any() or (raw[start + size :] != UNSET).any():
                    raise Fault(f"a kernel wrote outside of an array of {size} bytes")
        self.zones = living


CUDA_TYPES = {0: "float32", 1: "float64", 2: "float16", 14: "bfloat16"}


class Unowned:
    """Bytes at an address, as NumPy takes them."""

    def __init__(self, address: int, size: int):
        self.__array_interface__ = {"data": (address, False), "shape": (size,), "typestr": "|u1", "version": 3}


class CpuMachine(launch.Machine):
    """Runs kernels on the CPU. `launched`: (name expression, grid, block) of each launch."""

    def __init__(self) -> None:
        super().__init__(Memory())
        self.launched: list[tuple[str, Any, Any]] = []
        self.built: dict[str, tuple[ctypes.CDLL, list[str]]] = {}
        self.products: list[Any] = []
        self.descending = False

    def link(self, source: str, expression: str) -> Callable[..., None]:
        if source not in self.built:
            names = [e for k in launch.Kernel.declared if k.source == source for e in k.expressions()]
            self.built[source] = (build(source, names), names)
        library, names = self.built[source]
        k = names.index(expression)
        run, found = library[f"run_{k}"], (ctypes.c_int * 64)()
        sizes = list(found[: library[f"sizes_{k}"](found)])

        def call(grid: tuple[int, ...], block: tuple[int, ...], arguments: tuple[Any, ...]) -> None:
            library.set_descending(int(self.descending))
            values = [by_value(a) for a in arguments]
            if [len(v) for v in values] != sizes:
                raise Fault(f"{expression} takes arguments of {sizes} bytes, not {[len(v) for v in values]}")
            held = [ctypes.create_string_buffer(v, len(v)) for v in values]
            pointers = (ctypes.c_void_p * len(held))(*[ctypes.addressof(h) for h in held])
            size = (ctypes.c_uint * 6)(*(*grid, 1, 1)[:3], *(*block, 1, 1)[:3])
            code = run(size, pointers)
            if code:
                raise Fault(f"{expression} {grid} {block}: {['', 'deadlock', 'misaligned access'][code]}")
            self.launched.append((expression, grid, block))
            self.xp.check()

        return call

    def gemm(
        self, transposed: Any, sizes: Any, alpha: float, a: Any, b: Any, beta: float, c: Any, batch: int,
        data: tuple[int, int], compute: int,
    ) -> None:  # fmt: skip
        """What cuBLAS documents of gemmStridedBatchedEx, from addresses, leading dimensions and strides alone."""
        m, n, k = sizes
        self.products.append((transposed, sizes, batch, compute))
        self.launched.append(("gemm", sizes, batch))

        def matrix(operand: Any, rows: int, columns: int, i: int, data: int = data[0]) -> Any:
            array, leading, step = operand
            assert leading >= max(1, rows) and CUDA_TYPES[data] == array.dtype.name
            size = array.itemsize
            place = np.lib.stride_tricks.as_strided  # by columns: neighbours in a column lie side by side
            held = Unowned(self.pointer(array) + i * step * size, (1 + (columns - 1) * leading + rows - 1) * size)
            return place(np.asarray(held).view(array.dtype), (rows, columns), (size, leading * size))

        kind = np.float64 if data[0] == 1 else np.float32
        for i in range(batch):
            left = matrix(a, *((k, m) if transposed[0] else (m, k)), i).astype(kind)
            right = matrix(b, *((n, k) if transposed[1] else (k, n)), i).astype(kind)
            out = matrix(c, m, n, i, data[1])
            made = alpha * ((left.T if transposed[0] else left) @ (right.T if transposed[1] else right))
            out[...] = made if beta == 0 else made + beta * out.astype(kind)
        self.xp.check()

    def pointer(self, array: Any) -> int:
        return array.__array_interface__["data"][0]

    def processors(self) -> int:
        return 2

    def device(self) -> int:
        return 0

    def capturing(self) -> bool:
        return False

    def to_host(self, array: Any) -> Any:
        return np.array(array)


def by_value(argument: Any) -> bytes:
    """The bytes that a kernel receives: an array's address, else the scalar or struct itself."""
    if isinstance(argument, np.ndarray) and not argument.dtype.names:
        return np.uint64(argument.__array_interface__["data"][0]).tobytes()
    return argument.tobytes()


class EmulatedArray(FakeArray):
    """An array of the emulating backend."""


class EmulatedBackend(FakeBackend):
    """NumPy arrays posing as CuPy's, with the CuPy backend's kernels."""

    name = "cuda_on_cpu"
    device_types = ("cuda_on_cpu",)
    array_type = EmulatedArray

    def __init__(self, machine: CpuMachine):
        from tapegrad.backends.cupy.kernels import KERNELS

        self.machine, self.kernels = machine, KERNELS

    def asarray(self, obj: Any, dtype: Any = None, device: Any = None, copy: Any = None) -> Any:
        if isinstance(obj, EmulatedArray) and not copy and dtype in (None, obj.dtype):
            return obj
        given = np.asarray(obj, dtype=dtype)
        made = self.machine.xp.empty(given.shape, given.dtype)
        made[...] = given
        return made.view(EmulatedArray)

    def tidy(self, out: Any) -> Any:
        return out if isinstance(out, EmulatedArray) else np.asarray(out).view(EmulatedArray)

    def device_of(self, array: Any) -> Any:
        return Backend.device_of(self, array)
