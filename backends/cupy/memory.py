"""The device's memory: what CuPy's pool holds, its peak, and who holds what when it does not suffice."""

from __future__ import annotations

import gc
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator
from typing import Any
from weakref import WeakSet


class OutOfMemoryError(RuntimeError):
    """The device's memory does not suffice. Known as torch.OutOfMemoryError and torch.cuda.OutOfMemoryError."""


OutOfMemoryError.__module__ = "torch"


class Watch:
    """Stands before CuPy's allocator: keeps the peaks, which CuPy's pool does not, and says who holds the memory.

    The pool grows only where it allocates and shrinks only where it is told to, so the bytes that it holds are asked
    for where somebody wants to know them; those in arrays (0.3 us) at each allocation.
    """

    def __init__(self, cupy: Any):
        self.cupy = cupy
        self.inner: Callable[[int], Any] = cupy.cuda.get_allocator()
        self.pool = cupy.get_default_memory_pool()
        self.of_graphs: WeakSet[Any] = WeakSet()  # pools of CUDA graphs, see graph.py
        self.used, self.device = self.pool.used_bytes, cupy.cuda.runtime.getDevice
        self.peaks: dict[int, list[int]] = defaultdict(lambda: [0, 0])  # device -> [bytes in arrays, in the pool]
        self.lent: list[list[Any]] = []  # [memory, stream, event or None]
        cupy.cuda.set_allocator(self.malloc)

    def malloc(self, size: int) -> Any:
        """Memory on the current device. OutOfMemoryError where there is not enough."""
        try:
            found = self.inner(size)
        except self.cupy.cuda.memory.OutOfMemoryError as error:
            raise OutOfMemoryError(self.explained(size)) from error
        used, peak = self.used(), self.peaks[self.device()]
        if used > peak[0]:
            peak[0] = used
        return found

    def note(self, device: int) -> None:
        """Raises the peaks of the current device to what is held now."""
        used, held, kept = *self.held(), self.peaks[device]
        kept[:] = max(kept[0], used), max(kept[1], held)

    def empty_cache(self) -> None:
        """Gives what the pool of each device holds unused back."""
        for device in range(self.cupy.cuda.runtime.getDeviceCount()):
            with self.cupy.cuda.Device(device):
                self.note(device)
                self.pool.free_all_blocks()

    def held(self) -> tuple[int, int]:
        """(bytes in living arrays, bytes in the pools) of the current device."""
        pools = [self.pool, *[pool.memory for pool in self.of_graphs]]
        return sum(int(pool.used_bytes()) for pool in pools), sum(int(pool.total_bytes()) for pool in pools)

    def start_peak(self, device: int) -> None:
        """Starts the peaks of the current device at what is held now."""
        self.peaks[device] = [0, 0]
        self.note(device)

    def peak(self, device: int) -> list[int]:
        """The largest (bytes in living arrays, bytes in the pool) of the current device so far."""
        self.note(device)
        return self.peaks[device]

    def lend(self, array: Any, stream: Any) -> None:
        """Keeps an array's memory from new arrays until what another stream than its own does with it is done.

        The pool gives freed memory to the next array of the stream where it was made, whatever other streams still
        read. So it is held here: when nobody else does any more, a mark is put into the other stream, and when that is
        reached the memory goes. Looked at whenever memory is lent or a device is waited for.
        """
        self.lent.append([array.data.mem, stream, None])
        self.take_back()

    def take_back(self) -> None:
        """Lets go of lent memory whose stream is done with it."""
        for entry in list(self.lent):
            if entry[2] is None and sys.getrefcount(entry[0]) <= 2:  # this list, and the question
                entry[2] = entry[1].record()
            if entry[2] is not None and entry[2].done:
                self.lent.remove(entry)

    def explained(self, size: int) -> str:
        """PyTorch's sentence, and who holds the most."""
        free, total = self.cupy.cuda.runtime.memGetInfo()
        used, held = self.held()
        device = self.cupy.cuda.runtime.getDevice()
        lines = [
            f"CUDA out of memory. Tried to allocate {shown(size)}. GPU {device} has a total "
            f"capacity of {shown(total)} of which {shown(free)} is free. Of the memory held by this process's pool "
            f"{shown(used)} is in arrays and {shown(held - used)} is unused."
        ]
        most = sorted(holders(self.cupy.ndarray), key=lambda found: -found[0])[:8]
        lines += [f"  {shown(count)}: {who}" for count, who in most]
        if held - used > size:
            lines.append("The unused part is in pieces that do not fit; cuda.empty_cache() gives it to the device.")
        return "\n".join(lines)


def shown(count: int) -> str:
    """Bytes as PyTorch shows them: 20.00 MiB."""
    size, units = float(count), ["bytes", "KiB", "MiB", "GiB"]
    while size >= 1024 and len(units) > 1:
        size, units = size / 1024, units[1:]
    return f"{size:.0f} bytes" if units[0] == "bytes" else f"{size:.2f} {units[0]}"


def holders(array_type: type[Any]) -> Iterator[tuple[int, str]]:
    """(bytes, who) of each piece of memory that a living tensor, its gradient, or a node of the tape holds.

    Tensors have `array` and `_grad`, nodes `op` and `saved`; this room knows no more of them. A piece is told once.
    """
    told: set[int] = set()

    def piece(array: Any, who: str) -> Iterator[tuple[int, str]]:
        if isinstance(array, array_type):
            memory: Any = array.data.mem
            if id(memory) not in told:
                told.add(id(memory))
                yield int(memory.size), f"{who} {tuple(array.shape)} {array.dtype}"

    everything = gc.get_objects()
    for kind, field in (("array", ""), ("_grad", "gradient of a ")):
        for o in everything:
            if hasattr(type(o), "array") and hasattr(type(o), "_node"):
                held = getattr(o, "array", None)
                if field:
                    held = getattr(getattr(o, kind, None), "array", None)
                yield from piece(held, field + type(o).__name__)
    for o in everything:
        if hasattr(type(o), "saved") and hasattr(type(o), "op") and isinstance(getattr(o, "saved", None), tuple):
            for value in o.saved:
                yield from piece(value, f"kept for the gradient of {getattr(o.op, 'name', 'an op')}:")
