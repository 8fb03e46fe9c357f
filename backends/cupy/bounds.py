"""Indices out of bounds, found on the device: CuPy would wrap them silently.

A kernel that reads by index leaves the first wrong one in a flag on the device, {code, index, size}. It is read where
the host waits for the device anyway (`synchronize`, copies to the host), and raised there, with the op's own words.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from . import launch

MESSAGES: list[tuple[str, str]] = []  # (op, text with {index} and {size}); the code of an entry is its place plus one


class _Pending:
    """The flags that launches since the last look may have set, by machine and device."""

    flags: dict[Any, Any] = {}
    launched = False


_pending = _Pending()


def code(op: str, text: str) -> int:
    """The number by which kernels report a wrong index of this op."""
    MESSAGES.append((op, text))
    return len(MESSAGES)


def flag() -> Any:
    """The current device's flag, for a launch that may set it."""
    machine = launch.current()
    place = (machine, machine.device())
    found = _pending.flags.get(place)
    if found is None:
        found = _pending.flags[place] = machine.xp.zeros(3, np.int64)
    _pending.launched = True
    return found


def raise_pending() -> None:
    """IndexError for the first index out of bounds that kernels met since the last call; waits for them."""
    if not _pending.launched:
        return
    machine = launch.current()
    if machine.capturing():
        return
    _pending.launched = False
    for (owner, _), found in _pending.flags.items():
        number, index, size = (int(v) for v in machine.to_host(found)) if owner is machine else (0, 0, 0)
        if number:
            found.fill(0)
            op, text = MESSAGES[number - 1]
            raise IndexError(
                f"{text.format(index=index, size=size)} (op {op}: index {index}, size {size}; found on the device, "
                "by a call before this one, which waits for it)"
            )
