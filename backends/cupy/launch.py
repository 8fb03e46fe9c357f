"""Kernels as Python objects, and the machine that runs them: the one place where arrays become arguments.

    ROWS = Kernel("softmax.cuh", "softmax_rows", "PPli", T=TYPES, LOG=FLAGS, VECTOR=FLAGS)
    ROWS(("float", "true", "false"), grid, block, x, y, rows, n)

A kernel is a template of source/*.cuh with the values that each of its template arguments may have; a combination is
compiled when it is first used. `machine` is the CuPy that arrays come from; tests put another in its place, which
records launches, or executes the same sources on the CPU.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from . import cublaslt
from .compile import on_device, outside

TYPES = ("float", "__half", "__nv_bfloat16")
FLAGS = ("false", "true")
# NumPy's name of a dtype -> the type in the sources
NAMES = {"float32": "float", "float16": "__half", "bfloat16": "__nv_bfloat16"}
FLAG = {False: "false", True: "true"}


class _TypeOf(dict[Any, Any]):
    """NumPy's dtype -> the type in the sources, None where there is none. A dtype makes its name anew each time."""

    def __missing__(self, dtype: Any) -> Any:
        found = self[dtype] = NAMES.get(dtype.name)
        return found


type_of = _TypeOf()

NULL = np.int64(0)
# How arguments are passed, by the letter of a kernel's signature; CuPy takes NumPy's scalars by value and arrays of its
# own as pointers. Python numbers would arrive as 64 bits wide.
PACKING: dict[str, Callable[[Any], Any]] = {
    "P": lambda array: NULL if array is None else array,  # pointer, None for a null one
    "i": np.int32,
    "l": np.int64,
    "u": np.uint64,
    "f": np.float32,
    "S": lambda struct: struct,  # a NumPy array of one element: the struct by value
}


class Machine:
    """Where kernels run and memory comes from: CuPy and the current device."""

    def __init__(self, xp: Any):
        self.xp = xp

    def link(self, source: str, expression: str) -> Callable[..., None]:
        """The function (grid, block, arguments) that launches a kernel on the current stream."""
        return on_device(self.xp, source, expression)

    def pointer(self, array: Any) -> int:
        """The address of an array's first element."""
        return array.data.ptr

    @functools.cached_property
    def cublas(self) -> Any:
        """CuPy's own binding of cuBLAS."""
        return outside("cupy_backends.cuda.libs.cublas")

    @functools.cached_property
    def lt(self) -> Any:
        """cuBLASLt, or None where it cannot be used; see cublaslt.py."""
        return cublaslt.found(self)[0]

    def release_workspace(self, stream: int) -> Any:
        """The memory that products on a stream of the current device worked in, for a graph captured there to keep.

        None where there is none; later products there get another.
        """
        lt = self.__dict__.get("lt")
        return None if lt is None else lt.release(stream)

    def gemm(
        self, transposed: tuple[bool, bool], sizes: tuple[int, int, int], alpha: float, a: tuple[Any, int, int],
        b: tuple[Any, int, int], beta: float, c: tuple[Any, int, int], batch: int, data: tuple[int, int],
        compute: int, epilogue: int = cublaslt.PLAIN, vector: Any = None,
    ) -> bool:  # fmt: skip
        """c = alpha op(a) op(b) + beta c, matrices by columns: cuBLASLt's matmul, else cuBLAS's gemmEx.

        sizes: (m, n, k); a, b, c: (array, leading dimension, elements from one matrix to the next); data:
        cudaDataType_t of a and b, and of c; compute: cublasComputeType_t, which is the type of the factors too;
        epilogue, vector: cublaslt.py's. False where the epilogue cannot be computed, and nothing is done. RuntimeError
        where cuBLAS would have to run while a CUDA graph is captured.
        """
        lt = self.lt
        if lt is not None:
            if lt.product(transposed, sizes, alpha, a, b, beta, c, batch, data, compute, epilogue, vector):
                return True
        if epilogue != cublaslt.PLAIN:
            return False
        try:
            self._gemm(transposed, sizes, alpha, a, b, beta, c, batch, data, compute)
        except NotImplementedError as error:  # CuPy's word for cuBLAS in a capture
            reason = "cuBLASLt has no algorithm for this one" if lt is not None else cublaslt.found(self)[1]
            raise RuntimeError(
                "a matrix product can be captured into a CUDA graph only where cuBLASLt computes it through the "
                f"package nvmath-python ({reason})"
            ) from error
        return True

    def _gemm(
        self, transposed: tuple[bool, bool], sizes: tuple[int, int, int], alpha: float, a: tuple[Any, int, int],
        b: tuple[Any, int, int], beta: float, c: tuple[Any, int, int], batch: int, data: tuple[int, int],
        compute: int,
    ) -> None:  # fmt: skip
        _, first, second = cublaslt.factors(alpha, beta, cublaslt.SCALE[compute][1])
        handle = self.xp.cuda.device.get_cublas_handle()
        turned = int(transposed[0]), int(transposed[1])
        if batch == 1:
            self.cublas.gemmEx(
                handle, *turned, *sizes, first, a[0].data.ptr, data[0], a[1], b[0].data.ptr, data[0], b[1], second,
                c[0].data.ptr, data[1], c[1], compute, -1,
            )  # fmt: skip
            return
        self.cublas.gemmStridedBatchedEx(
            handle, *turned, *sizes, first, a[0].data.ptr, data[0], a[1], a[2], b[0].data.ptr, data[0], b[1], b[2],
            second, c[0].data.ptr, data[1], c[1], c[2], batch, compute, -1,
        )  # fmt: skip

    def device(self) -> int:
        """The number of the current device."""
        return int(self.xp.cuda.runtime.getDevice())

    def stream(self) -> int:
        """The address of the current stream."""
        return int(self.xp.cuda.get_current_stream().ptr)

    def capturing(self) -> bool:
        """Whether a CUDA graph is being recorded on the current stream, so that the host may not wait."""
        return bool(self.xp.cuda.get_current_stream().is_capturing())

    def to_host(self, array: Any) -> Any:
        """The array in host memory; waits for the work before."""
        return self.xp.asnumpy(array)

    def processors(self) -> int:
        """How many multiprocessors the current device has."""
        return int(self.xp.cuda.Device().attributes["MultiProcessorCount"])


class _Current:
    machine: Machine
    processors = 0


_current = _Current()


def use(machine: Machine) -> None:
    """Makes a machine the one that kernels run on; what was linked before is forgotten."""
    _current.machine, _current.processors = machine, 0
    for kernel in Kernel.declared:
        kernel.linked.clear()


def current() -> Machine:
    """The machine that kernels run on."""
    return _current.machine


def blocks_for(work: int, each: int) -> int:
    """How many blocks for `work` items, `each` at a time; more than fill the device twice over would only queue."""
    if not _current.processors:
        _current.processors = _current.machine.processors()
    return max(1, min(-(-work // each), _current.processors * 16))


class Kernel:
    """A `__global__` template of a source file.

    signature: one letter per argument, see PACKING. choices: the template arguments in order, each with all the values
    that it is used with.
    """

    declared: list[Kernel] = []

    def __init__(self, source: str, name: str, signature: str, **choices: tuple[str, ...]):
        self.source, self.name, self.signature, self.choices = source, name, signature, choices
        self.packing = [PACKING[letter] for letter in signature]
        self.linked: dict[tuple[str, ...], Callable[..., None]] = {}
        Kernel.declared.append(self)

    def expression(self, values: tuple[str, ...]) -> str:
        """The name of one combination of template arguments, as C++ has it."""
        return f"{self.name}<{', '.join(values)}>" if values else self.name

    def expressions(self) -> Iterator[str]:
        """All combinations that may be used."""
        return (self.expression(values) for values in itertools.product(*self.choices.values()))

    def __call__(self, values: tuple[str, ...], grid: tuple[int, ...], block: tuple[int, ...], *args: Any) -> None:
        function = self.linked.get(values)
        if function is None:
            function = self.linked[values] = _current.machine.link(self.source, self.expression(values))
        function(grid, block, tuple([pack(a) for pack, a in zip(self.packing, args, strict=True)]))


# ---- what wrappers decide with


def empty(shape: Any, dtype: Any, order: str = "C") -> Any:
    """A new array of the machine, its memory not set."""
    return _current.machine.xp.empty(shape, dtype, order)


def zeros(shape: Any, dtype: Any) -> Any:
    """A new array of the machine, all zero."""
    return _current.machine.xp.zeros(shape, dtype)


def served(*arrays: Any) -> str | None:
    """The sources' name of the arrays' one dtype, None where the kernels do not take them or there is no element."""
    dtype = arrays[0].dtype
    name = type_of[dtype]
    if name is None or not arrays[0].size:
        return None
    for a in arrays:
        if a is not None and a.dtype != dtype:
            return None
    return name


def aligned(*arrays: Any) -> bool:
    """Whether all arrays begin at multiples of 16 bytes."""
    pointer = _current.machine.pointer
    return not any(a is not None and pointer(a) % 16 for a in arrays)


def vector(n: int, *arrays: Any) -> bool:
    """Whether rows of n elements can be read 16 bytes at a time."""
    return n % (16 // arrays[0].itemsize) == 0 and aligned(*arrays)


def contiguous(x: Any) -> Any:
    """The array in row-major order: itself, or a copy."""
    return x if x is None or x.flags.c_contiguous else _current.machine.xp.ascontiguousarray(x)


def row_blocks(rows: int, width: int, each: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """(grid, block) for rows of `width` elements, a thread taking `each` at a time.

    Short rows get a warp each, four to a block; longer ones a block with as many threads as have two accesses to make.
    """
    threads = -(-width // each)
    if threads <= 128:
        return (-(-rows // 4),), (32, 4)
    return (rows,), (min(1024, max(64, threads // 2 // 32 * 32)),)
