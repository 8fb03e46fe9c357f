"""Who wrote into which memory, and when: what makes in-place operations safe.

PyTorch counts the writes of each storage and stores the count beside each saved value. Here a write takes a creation
number from the same counter as the nodes do (`stamp`), and is noted under the storage it went to. A saved value is
stale when its storage was written after its node was made. So recording costs nothing, and a walk over nodes that are
younger than the last write of the process (the usual case) compares one integer per node.

Storages that were never written have no entry. An entry dies with its storage.
"""

from __future__ import annotations

import bisect
import functools
import linecache
import sys
import weakref
from typing import Any

from ..backends.registry import backend_of
from .graph import numbers


class Written:
    """The writes into one storage: how many, and the stamps and source lines of the latest ones."""

    __slots__ = ("count", "stamps", "places", "alive")

    def __init__(self, alive: Any):
        self.count = 0
        self.stamps: list[int] = []  # the latest ones; they are cut to KEPT now and then
        self.places: list[tuple[Any, int]] = []  # (code, place in it) of each stamp
        self.alive = alive

    def version_at(self, seq: int) -> int:
        """The count of writes that came before creation number `seq`."""
        return self.count - sum(stamp > seq for stamp in self.stamps)

    def line(self, after: int | None = None) -> tuple[str, int]:
        """File and line of the last write, or of the first one after creation number `after`."""
        first = -1 if after is None else bisect.bisect_right(self.stamps, after)
        code, place = self.places[first]
        lines = (n for start, end, n in code.co_lines() if start <= place < end and n is not None)
        return code.co_filename, next(lines, code.co_firstlineno)


_written: dict[int, Written] = {}
last_write = [0]  # the stamp of the latest write in the process


def storage_of(array: Any) -> Any:
    """The object that owns the memory of a raw array."""
    return backend_of(array).storage_of(array)


def _entry(array: Any) -> Written:
    storage = storage_of(array)
    key = id(storage)
    found = _written.get(key)
    if found is None:
        found = _written[key] = Written(weakref.ref(storage, functools.partial(_forget, key)))
    return found


def _forget(key: int, _: Any) -> None:
    _written.pop(key, None)


def mark_written(*tensors: Any) -> None:
    """Notes that the memory of each tensor was just written in place (call it after the write)."""
    if not tensors:
        return
    stamp = last_write[0] = next(numbers)
    frame = sys._getframe(1)
    while (id(frame.f_globals) in _own or inside_library(frame)) and frame.f_back is not None:
        frame = frame.f_back
    where = (frame.f_code, frame.f_lasti)  # not the line: that is worked out from the two when an error shows it
    for tensor in tensors:
        if getattr(tensor, "_view", None) is UNTRACKED:
            continue
        array = tensor.array
        entry = _written.get(id(array)) if array.base is None else None
        if entry is None:
            entry = _entry(array)
        entry.count += 1
        stamps = entry.stamps
        stamps.append(stamp)
        places = entry.places
        places.append(where)
        if len(stamps) > 2 * KEPT:
            del stamps[:KEPT], places[:KEPT]


_PACKAGE = __name__.partition(".")[0]


def inside_library(frame: Any) -> bool:
    """Whether a frame runs the library's own code, generated functions included."""
    name = frame.f_globals.get("__name__")
    if name is None or name.partition(".")[0] != _PACKAGE:
        return False
    _own.add(id(frame.f_globals))
    return True


# The globals of the library's modules, by id: they live as long as the process.
_own: set[int] = set()
KEPT = 32


class _Untracked:
    """The `_view` of what `Tensor.data` returns: writes through it are not seen by autograd, as in PyTorch."""

    def __repr__(self) -> str:
        return "UNTRACKED"


UNTRACKED = _Untracked()


def version(array: Any) -> int:
    """How often the memory of `array` was written in place."""
    found = _written.get(id(storage_of(array)))
    return 0 if found is None else found.count


def check_saved(node: Any) -> None:
    """Raises RuntimeError when a saved array of `node` was written after the node was made."""
    for name, value in node.op.saved_arrays(node):
        found = _written.get(id(storage_of(value)))
        if found is not None and found.stamps and found.stamps[-1] > node.seq:
            error = RuntimeError(_stale_text(node, name, value, found))
            if (trace := getattr(node.op, "forward_trace", None)) is not None:  # anomaly mode
                error.add_note(f"the forward call that made {node.name()}:\n{trace()}")
            raise error


def _stale_text(node: Any, name: str, value: Any, found: Written) -> str:
    from .dtypes import from_numpy_dtype

    kind = node.name().removesuffix("Backward0").removesuffix("Backward1")
    role = f"which is output 0 of {kind}" if name == "out" else f"which is the saved argument '{name}' of {kind}"
    recorded_at = getattr(node.op, "recorded_at", None)  # in anomaly mode
    if recorded_at is None:
        saved = ""
        hint = (
            "enable anomaly detection to find the operation that failed to compute its gradient, with "
            "torch.autograd.set_detect_anomaly(True, check_nan=False)"
        )
    else:
        saved = f"{kind} saved it at {_shown(*recorded_at())}. "
        hint = "write after the backward pass"
    writes = sum(stamp > node.seq for stamp in found.stamps)
    which = "The in-place write was" if writes == 1 else f"The first of {writes} in-place writes since then was"
    return (
        "one of the variables needed for gradient computation has been modified by an inplace operation: "
        f"[torch.{from_numpy_dtype(value.dtype).legacy}Tensor {list(value.shape)}], {role}, "
        f"is at version {found.count}; expected version {found.version_at(node.seq)} instead. "
        f"{saved}{which} at {_shown(*found.line(node.seq))}. Hint: write into a clone(), or {hint}."
    )


def _shown(file: str, line: int) -> str:
    """A place in a program, with the text of the line where it can be read."""
    text = linecache.getline(file, line).strip()
    return f'"{file}", line {line}' + (f" ({text})" if text else "")
