"""How a formula is applied to raw arrays: in blocks that fit the cache, in threads, small parameters together.

On the CPU the updates of a group are collected first. Then they are one row of elements, as if all parameters lay one
after the other, which is divided among the threads; each goes through its span in blocks, so that the formula's
temporaries stay in the cache. Parameters of a few elements would cost a Python call per operation of the formula: they
are copied side by side, updated at once, and copied back. The tensors keep their arrays throughout.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

from ..backends import threads
from ..backends.registry import backend_of, kernels_of

# Bytes of a block of all arrays together, without temporaries. Measured on Adam (four arrays) and SGD (two) with 10 M
# float32 parameters: a quarter of it took 1.3 to 1.5 of the time, whole arrays 1.0 to 2.8.
BLOCK_BYTES = 1 << 20
SHARED_TIMES = 8  # larger blocks where there are threads, which wait for each other between NumPy's calls
THREADED = 1 << 17  # elements of all parameters from which more threads are faster
TOGETHER = 1 << 10  # elements up to which a parameter is updated together with others, where there are FEW or more
FEW = 4

Arrays = list[Any]  # p, g, and the state: None where a formula has none


class Work:
    """One formula and the updates that wait for it; what does not depend on the parameter is looked up once."""

    def __init__(self, formula: Callable[..., None], elementwise: bool, together: bool):
        """together: whether the formula has so many operations that small parameters are worth copying."""
        self.formula = formula
        self.elementwise = elementwise
        self.together = together and elementwise
        self.known: dict[type, tuple[Any, Any, bool]] = {}
        self.kind: type | None = None
        self.options: dict[str, Any] = {}
        self.waiting: list[Arrays] = []
        self.owners: set[int] = set()
        self.total = 0

    def look_up(self, p: Any) -> tuple[Any, Any, bool]:
        """(backend, its kernel for the formula or None, whether on the CPU) of an array."""
        backend = backend_of(p)
        kernel = kernels_of(backend).get(self.formula.__name__)
        found = self.known[type(p)] = (backend, kernel, backend.device_of(p).type == "cpu")
        return found

    def add(self, p: Any, g: Any, state: Arrays, options: dict[str, Any]) -> None:
        """Takes up an update, which is made in `run` at the latest; those with one `options` object go together."""
        kind, size = type(p), p.size
        backend, kernel, on_cpu = self.known.get(kind) or self.look_up(p)
        if size == 0:
            return
        if p.ndim == 0:  # NumPy's operators return scalars for 0-d arrays, which cannot be written in place
            p, g, *state = (a if a is None else a.reshape(1) for a in (p, g, *state))
        if p.dtype.kind == "c":
            self.add(p.real, g.real, [a if a is None else a.real for a in state], options)
            self.add(p.imag, g.imag, [a if a is None else a.imag for a in state], options)
            return
        if not on_cpu:
            with backend.guard(backend.device_of(p)):
                self.whole([p, g, *state], options, backend.xp, kernel)
            return
        owner = id(p if p.base is None else backend.storage_of(p))
        if options is not self.options or owner in self.owners or kind is not self.kind:
            self.run()  # the same memory again must wait for its turn
            self.options, self.kind = options, kind
        self.owners.add(owner)
        self.waiting.append([p, g, *state])
        self.total += size

    def run(self) -> None:
        """Makes the updates that wait."""
        if not self.waiting:
            return
        waiting, total = self.waiting, self.total
        self.waiting, self.owners, self.total = [], set(), 0
        assert self.kind is not None
        backend, kernel, _ = self.known[self.kind]
        xp, formula, options = backend.xp, self.formula, self.options
        quiet = getattr(xp, "errstate", None)
        copies: list[tuple[list[Any], Arrays]] = []
        if self.together and len(waiting) >= FEW:
            waiting, copies = joined(xp, waiting)
        plain = kernel is None or not self.together  # for few operations on few elements, a kernel is no gain

        def span(start: int, stop: int) -> None:
            with nullcontext() if quiet is None else quiet(all="ignore"):  # PyTorch does not warn of inf and nan
                for arrays in waiting:
                    p = arrays[0]
                    size = p.size
                    if start <= 0 and size <= stop and size <= TOGETHER and plain and p.itemsize > 2:
                        formula(xp, *arrays, **options)
                    elif start < size and stop > 0:
                        self.part(arrays, max(start, 0), min(stop, size), xp, kernel)
                    start -= size
                    stop -= size

        if total >= THREADED and self.elementwise:
            threads.over(span, total, align=64)
        else:
            span(0, total)
        for columns, flat in copies:
            part_back(columns, flat)

    def part(self, arrays: Arrays, start: int, stop: int, xp: Any, kernel: Any) -> None:
        """The update of the elements start to stop of a parameter; where it cannot be divided, by who has the first."""
        p = arrays[0]
        room = BLOCK_BYTES if threads.count() == 1 else SHARED_TIMES * BLOCK_BYTES
        size, count = p.size, max(1, room // (p.itemsize * sum([a is not None for a in arrays])))
        entire = start == 0 and stop == size
        if entire and kernel is not None and kernel(*arrays, **self.options) is not NotImplemented:
            return
        large = self.elementwise and not (entire and size <= count)
        if large and all(a is None or a.flags.c_contiguous for a in (p, *arrays[2:])):
            flat = [a if a is None else a.reshape(-1) for a in arrays]
            if kernel is not None and not entire:
                own = [a if a is None else a[start:stop] for a in flat]
                if kernel(*own, **self.options) is not NotImplemented:
                    return
            for first in range(start, stop, count):
                block = slice(first, min(first + count, stop))
                self.once([a if a is None else a[block] for a in flat], self.options, xp)
        elif entire:
            self.once(arrays, self.options, xp)
        elif start == 0:
            self.whole(arrays, self.options, xp, kernel)

    def whole(self, arrays: Arrays, options: dict[str, Any], xp: Any, kernel: Any) -> None:
        """The update of a parameter by the backend's kernel, else by the formula."""
        if kernel is None or kernel(*arrays, **options) is NotImplemented:
            self.once(arrays, options, xp)

    def once(self, arrays: Arrays, options: dict[str, Any], xp: Any) -> None:
        """The formula on arrays as they are; halves are computed in float32."""
        if arrays[0].dtype.itemsize > 2:
            self.formula(xp, *arrays, **options)
            return
        wide = [a if a is None else a.astype("float32") for a in arrays]
        self.formula(xp, *wide, **options)
        for i, array in enumerate(arrays):
            if array is not None and i != 1:
                array[...] = wide[i]


def joined(xp: Any, waiting: list[Arrays]) -> tuple[list[Arrays], list[tuple[list[Any], Arrays]]]:
    """Small parameters of one dtype side by side: (what is to be updated, the copies in it with what they are of)."""
    small: dict[Any, list[Arrays]] = {}
    rest = []
    for arrays in waiting:
        p = arrays[0]
        if p.size <= TOGETHER:
            small.setdefault(p.dtype, []).append(arrays)
        else:
            rest.append(arrays)
    copies = []
    for members in small.values():
        columns = list(zip(*members, strict=True))
        absent = [sum([a is None for a in column]) for column in columns]
        if len(members) < FEW or any(0 < n < len(members) for n in absent):
            rest += members
            continue
        flat = [None if n else xp.concatenate([a.reshape(-1) for a in c]) for c, n in zip(columns, absent, strict=True)]
        rest.append(flat)
        copies.append((columns, flat))
    return rest, copies


def part_back(columns: list[Any], flat: Arrays) -> None:
    """Copies what was updated side by side back to the parameters and their state; gradients stay as they were."""
    for i, (column, new) in enumerate(zip(columns, flat, strict=True)):
        if i == 1 or new is None:
            continue
        start = 0
        for array in column:
            stop = start + array.size
            array[...] = new[start:stop] if array.ndim == 1 else new[start:stop].reshape(array.shape)
            start = stop
