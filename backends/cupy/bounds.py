"""Indices out of bounds, found on the device: CuPy would wrap them silently.

A kernel that reads by index leaves the first wrong one in a flag on the device, {code, index, size}; ops that read by
CuPy's own indexing have their indices checked by a launch of their own (`check`). The flag is read where the host waits
for the device anyway (`synchronize`, copies to the host), and raised there, with the op's own words.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from . import launch

# (op, text with {index} and {size}, exception); the code of an entry is its place plus one
MESSAGES: list[tuple[str, str, type[Exception]]] = []
TYPES = {
    "int64": "i64", "int32": "int", "int16": "short", "int8": "signed char", "uint8": "unsigned char",
    "bool": "unsigned char",
}  # fmt: skip
CHECK = launch.Kernel("bounds.cuh", "check_bounds", "PllllPi", T=tuple(dict.fromkeys(TYPES.values())))


class _Pending:
    """The flags that launches since the last look may have set, by machine and device."""

    flags: dict[Any, Any] = {}
    launched = False
    codes: dict[tuple[str, str, type[Exception]], int] = {}
    op = "index"  # the op that is running, as far as `named` tells


_pending = _Pending()


def code(op: str, text: str, error: type[Exception] = IndexError) -> int:
    """The number by which kernels report a wrong index of this op."""
    entry = (op, text, error)
    found = _pending.codes.get(entry)
    if found is None:
        MESSAGES.append(entry)
        found = _pending.codes[entry] = len(MESSAGES)
    return found


def flag() -> Any:
    """The current device's flag, for a launch that may set it."""
    machine = launch.current()
    place = (machine, machine.device())
    found = _pending.flags.get(place)
    if found is None:
        found = _pending.flags[place] = machine.xp.zeros(3, np.int64)
    _pending.launched = True
    return found


def expect() -> None:
    """Has the flags read at the next synchronisation, after launches that no wrapper made: a graph that is replayed."""
    _pending.launched = True


def named(op: str) -> None:
    """The op whose indices `check` is given from now on."""
    _pending.op = op


def check(index: Any, low: int, high: int, size: int, text: str, error: type[Exception] = IndexError) -> None:
    """Has the next synchronisation raise `error` if any of `index` lies outside [low, high).

    index: (*S) int or bool. text: the exception's, with {index} for the first wrong one and {size}.
    """
    if not index.size:
        return
    name = TYPES.get(index.dtype.name)
    if name is None:
        index, name = index.astype("int64"), "i64"
    index, count = launch.contiguous(index), index.size
    grid, block = (launch.blocks_for(count, 1024),), (256,)
    CHECK((name,), grid, block, index, count, low, high, size, flag(), code(_pending.op, text, error))


def _clear(machine: Any, device: int, found: Any) -> None:
    if device == machine.device():
        found.fill(0)
    else:
        with machine.xp.cuda.Device(device):
            found.fill(0)


def raise_pending() -> None:
    """The exception for the first index out of bounds that kernels met since the last call; waits for them."""
    if not _pending.launched:
        return
    machine = launch.current()
    if machine.capturing():
        return
    _pending.launched = False
    met = []
    for (owner, device), found in _pending.flags.items():
        number, index, size = (int(v) for v in machine.to_host(found)) if owner is machine else (0, 0, 0)
        if number:
            _clear(machine, device, found)
            met.append((*MESSAGES[number - 1], index, size))
    if met:
        op, text, error, index, size = met[0]
        raise error(
            f"{text.format(index=index, size=size)} (op {op}: index {index}, size {size}; found on the device, "
            "by a call before this one, which waits for it)"
        )
