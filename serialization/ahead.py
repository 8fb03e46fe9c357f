"""Storages read and checked by several threads, ahead of the unpickler that asks for them one after the other.

A storage is cut into parts. A thread reads a part and computes its CRC-32 while the bytes are still in the cache;
reading and checking both let go of the interpreter, so two threads take half the time of one. The CRC-32 of the whole
is put together from those of the parts.
"""

from __future__ import annotations

import functools
import importlib
import os
import zlib
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, NamedTuple

from ..backends import threads
from ..utils.files import room

_PART = 4 << 20  # bytes; much smaller ones cost more in handing over than they gain
_WORTH = 2 * _PART  # of storages together, from which on threads are started
_AHEAD = 256 << 20  # bytes read before they are asked for: those on their way to a device need not all be here
_POLYNOMIAL = 0xEDB88320  # of CRC-32, lowest power in the highest bit


def _quickest_crc32() -> Callable[[Any], int]:
    """The function of the package isal, where it is installed: three times as quick as zlib's."""
    try:
        return importlib.import_module("isal.isal_zlib").crc32
    except ImportError:
        return zlib.crc32


crc32 = _quickest_crc32()


def _times(a: int, b: int) -> int:
    """The product of two polynomials over GF(2), modulo CRC-32's; the lowest power is in bit 31."""
    product = 0
    while a:
        if a & 1 << 31:
            product ^= b
        a = a << 1 & 0xFFFFFFFF
        b = b >> 1 ^ (_POLYNOMIAL if b & 1 else 0)
    return product


@functools.lru_cache(64)
def _shift(count: int) -> int:
    """x ** (8 * count), the factor by which `count` further bytes change a CRC."""
    power, square = 1 << 31, 1 << 23
    while count:
        if count & 1:
            power = _times(power, square)
        square = _times(square, square)
        count >>= 1
    return power


def combined(first: int, second: int, count: int) -> int:
    """The CRC-32 of bytes that have the CRC-32 `first`, and after them `count` bytes that have `second`."""
    return _times(_shift(count), first) ^ second


class _Asked(NamedTuple):
    memory: Any
    parts: list[Future[int]]


class Ahead:
    """Reads entries of an open file in the order given, some way ahead of `take`.

    Args:
        file: open, binary. What is no file of the system's is left alone: nothing is then read ahead.
        entries: name -> (first byte, bytes), in the order in which they will be asked for, roughly.
        checked: whether the CRC-32 is computed, for those that have one.
    """

    def __init__(self, file: Any, entries: dict[str, tuple[int, int]], checked: Any):
        self.pool: ThreadPoolExecutor | None = None
        self.waiting = dict(entries)
        self.asked: dict[str, _Asked] = {}
        self.bytes, self.checked = 0, checked
        count = threads.count()
        if count < 2 or not hasattr(os, "preadv") or sum(n for _, n in entries.values()) < _WORTH:
            return
        try:
            self.descriptor = file.fileno()
        except (AttributeError, OSError):  # in memory
            return
        self.pool = ThreadPoolExecutor(count, "tapegrad-load")

    def close(self) -> None:
        """Ends the threads; the file may be closed then."""
        if self.pool:
            self.pool.shutdown(wait=True, cancel_futures=True)

    def take(self, name: str) -> tuple[Any, int] | None:
        """An entry's bytes (uint8) and their CRC-32 (0 where it was not asked for); None: read it yourself.

        Raises EOFError where the file ends first, OSError where it cannot be read.
        """
        if self.pool is None or not (name in self.waiting or name in self.asked):
            return None
        if name not in self.asked:
            self._ask(self.pool, name)
        while self.waiting and self.bytes < _AHEAD:
            self._ask(self.pool, next(iter(self.waiting)))
        memory, parts = self.asked.pop(name)
        self.bytes -= memory.size
        crc = parts[0].result()
        for i, part in enumerate(parts[1:], 1):
            crc = combined(crc, part.result(), min(_PART, memory.size - i * _PART))
        return memory, crc

    def _ask(self, pool: ThreadPoolExecutor, name: str) -> None:
        begin, count = self.waiting.pop(name)
        memory = room(count)
        check = name in self.checked
        parts = [
            pool.submit(_part, self.descriptor, memory[i : i + _PART], begin + i, check)
            for i in range(0, count, _PART)
        ]
        self.asked[name] = _Asked(memory, parts)
        self.bytes += count


def _part(descriptor: int, memory: Any, begin: int, check: bool) -> int:
    """Fills memory with the file's bytes from `begin`. -> their CRC-32, or 0."""
    view, done = memoryview(memory), 0
    while done < len(view):
        got = os.preadv(descriptor, [view[done:]], begin + done)
        if not got:
            raise EOFError(f"the file ends {len(view) - done} bytes too early")
        done += got
    return crc32(view) if check else 0
