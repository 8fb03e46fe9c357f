"""Compiled kernels in the threads of NumPy's OpenBLAS, which wait actively after a matrix product.

Handing a span to a sleeping Python thread and waking up again takes 30 us, and 100 us on a virtual machine; what
compiled kernels do with 10,000 elements takes five. OpenBLAS's threads have mostly just worked and look for work in a
loop (see blas.wait_less): they begin within a microsecond, they never need the interpreter, and no second set of
waiting threads takes their cores.

`exec_blas(n, queue)` is what OpenBLAS's own products call: a list of records, of which the first is worked on by the
caller, the others by its threads. Of a record we set what all versions begin with (common_thread.h): routine, position,
assigned, args, range_m, range_n, sa, sb, next. The routine is called as f(args, range_m, range_n, sa, sb, position).
"""

from __future__ import annotations

import ctypes
import functools
import os
import struct
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from .. import threads
from ..numpy import blas

MOST = 64  # threads
# Elements that are worth sharing: an eighth of what Python's threads need, and not so many that their start does not
# matter. After a call OpenBLAS's threads turn in their loop for 0.4 ms, in which Python's find one core less: a program
# that keeps those at work, as convolutions do, goes on with them (APART: seconds).
CHEAPER, LARGE, APART = 8, 1 << 20, 0.005
_RECORD, _POSITION, _ARGS, _NEXT = 64, 1, 3, 8  # in words of 8 bytes; a record with its locks has about 22
_ROOM = 64  # arguments of a kernel
_PTHREADS = 1  # openblas_get_parallel: 0 for none, 2 for OpenMP


class _Gang:
    """The library's function, and the memory of one call."""

    def __init__(self, run: Callable[..., Any], count: Callable[[], int]):
        self.run, self.count = run, count
        self.cores = len(os.sched_getaffinity(0))  # more threads, and they would wait for each other's turn
        self.records = np.zeros((MOST, _RECORD), np.int64)
        self.block = np.zeros(_ROOM + 2 * MOST, np.int64)  # arguments, then start and stop of each part
        self.first = self.records.ctypes.data
        self.records[:, _POSITION] = np.arange(MOST)
        self.records[:, _ARGS] = self.block.ctypes.data
        self.linked = 0

    def link(self, parts: int) -> None:
        """Makes the first `parts` records a list."""
        step = self.records.strides[0]
        self.records[:, _NEXT] = self.first + step * np.arange(1, MOST + 1)
        self.records[parts - 1, _NEXT] = 0
        self.linked = parts


@functools.cache
def _gang() -> _Gang | None:
    """None where NumPy has no OpenBLAS with threads of its own."""
    if not sys.platform.startswith("linux") or ctypes.sizeof(ctypes.c_void_p) != 8:
        return None
    kind = blas.function("get_parallel")
    count = blas.function("get_num_threads")
    run = getattr(blas.library(), "exec_blas", None) if kind is not None and kind() == _PTHREADS else None
    if run is None or count is None:
        return None
    run.argtypes = [ctypes.c_int64, ctypes.c_void_p]
    return _Gang(run, count)


def worth(size: int, grain: int) -> bool:
    """Whether `size` elements are to be shared here; grain: from what on they were in Python's threads."""
    if size >= LARGE or not threads.worth(size, grain // CHEAPER):
        return False
    return time.perf_counter() - threads._pool.used > APART


def over(kernel: Any, length: int, align: int, args: Sequence[Any], parts: int = 0) -> bool:
    """Runs a compiled.Function over range(length) in several threads; False, and nothing done, where that cannot be.

    args: numbers, and arrays by their addresses; what they point to must stay alive. Spans begin at multiples of
    `align`; parts: how many at most (default: all threads allowed). Inside another call, or where another thread is in
    one, it cannot be: the caller then does the work alone.
    """
    gang, pool = _gang(), threads._pool
    if gang is None:
        return False
    parts = min(parts or pool.count, -(-length // align), gang.count(), gang.cores, MOST)
    if parts < 2 or not pool.busy.acquire(blocking=False):
        return False
    try:
        routine, place, pack = _task(kernel.call)
        pack(gang.block, 0, *args, place)
        step = -(-length // parts)
        step += -step % align
        for i in range(parts):
            span = slice(_ROOM + 2 * i, _ROOM + 2 * i + 2)
            gang.block[span] = min(i * step, length), min(i * step + step, length)
        if gang.linked != parts:
            gang.link(parts)
        gang.records[:parts, 0] = routine
        gang.run(parts, gang.first)
    finally:
        pool.busy.release()
    return True


@functools.lru_cache(None)
def _task(call: Any) -> tuple[int, int, Callable[..., None]]:
    """(routine, the kernel's address, how its arguments are written) of a kernel's `call`."""
    function = call.func
    codes = tuple([_CODES[kind] for kind in function.argtypes[2:-2]])
    if len(codes) >= _ROOM:
        raise ValueError(f"a kernel has at most {_ROOM - 1} arguments, not {len(codes)}")
    pack = struct.Struct("@" + "".join([_FORMAT.get(code, "q") for code in codes]) + "q").pack_into
    place = ctypes.cast(function, ctypes.c_void_p).value
    assert place is not None
    return _routine(codes), place, pack


_CODES = {
    ctypes.c_void_p: "p8", ctypes.c_float: "f4", ctypes.c_double: "f8", ctypes.c_int32: "i4", ctypes.c_int64: "i8",
    ctypes.c_uint8: "u1",
}  # fmt: skip
_FORMAT = {"f4": "f4x", "f8": "d"}  # in 8 bytes each, as all others


@functools.cache
def _routine(codes: tuple[str, ...]) -> int:
    """The address of f(args, range_m, range_n, sa, sb, position) for kernels with such arguments."""
    from llvmlite import binding, ir

    from .compiled import _engine

    word, byte, real = ir.IntType(64), ir.IntType(8), {"f4": ir.FloatType(), "f8": ir.DoubleType()}
    pointer = ir.PointerType(byte)
    kinds = [pointer if c == "p8" else real.get(c) or ir.IntType(8 * int(c[1])) for c in codes]
    kernel = ir.FunctionType(ir.IntType(32), [pointer, pointer, *kinds, word, word])
    module = ir.Module()
    name = "tapegrad_task_" + "_".join(codes)
    function = ir.Function(module, ir.FunctionType(ir.IntType(32), [pointer] * 5 + [word]), name)
    builder = ir.IRBuilder(function.append_basic_block())
    block, position = function.args[0], function.args[5]

    def at(index: Any, kind: Any) -> Any:
        place = builder.gep(builder.bitcast(block, ir.PointerType(word)), [index])
        return builder.load(builder.bitcast(place, ir.PointerType(kind)))

    given = [at(word(i), kind) for i, kind in enumerate(kinds)]
    own = builder.add(builder.shl(position, word(1)), word(_ROOM))
    target = builder.inttoptr(at(word(len(codes)), word), ir.PointerType(kernel))
    results = builder.alloca(word, size=8)
    nothing = builder.bitcast(results, pointer)
    span = [at(own, word), at(builder.add(own, word(1)), word)]
    builder.ret(builder.call(target, [nothing, nothing, *given, *span]))
    linker = _engine()
    made = binding.parse_assembly(str(module))
    made.verify()
    linker.add_module(made)
    linker.finalize_object()
    return linker.get_function_address(name)
