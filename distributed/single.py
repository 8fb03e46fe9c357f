"""The transport of one process: what is reduced over all is what it was, what is gathered is one's own."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from . import reduction
from .types import ReduceOp


class Done:
    """A task that was done at once."""

    error = None

    def poll(self) -> bool:
        """True."""
        return True

    def wait(self, timeout: float | None = None) -> None:
        """Returns at once."""

    def look_after(self) -> None:
        """Nothing goes on."""


class SingleTransport:
    """What a process does together with nobody, on flat arrays of any backend; every task is done at once."""

    name, host = "single", False
    ranks = (0,)
    size, rank = 1, 0

    def exchange(self, what: str, sends: dict[int, Any], receives: dict[int, Any]) -> Done:
        """Copies what goes to this process itself."""
        for peer, x in receives.items():
            x[...] = sends[peer]
        return Done()

    def all_gather(self, x: Any, out: Any) -> Done:
        """out: (n,) becomes x: (n,)."""
        out[...] = x
        return Done()

    def barrier(self, what: str = "barrier") -> Done:
        """Waits for nobody."""
        return Done()

    def broadcast(self, x: Any, root: int) -> Done:
        """Changes nothing."""
        return Done()

    def all_reduce(self, x: Any, op: ReduceOp) -> Done:
        """Changes nothing, but for PREMUL_SUM, which multiplies."""
        if op == ReduceOp.PREMUL_SUM:
            x[...] = reduction.premultiplied(x, op)
        return Done()

    def reduce(self, x: Any, root: int, op: ReduceOp) -> Done:
        """As all_reduce."""
        return self.all_reduce(x, op)

    def reduce_scatter(self, parts: Sequence[Any], out: Any, op: ReduceOp) -> Done:
        """out: (n,) becomes the one part."""
        out[...] = reduction.premultiplied(parts[0], op)
        return Done()

    def close(self) -> None:
        """Nothing to give back."""

    def part(self, ranks: Sequence[int], timeout: timedelta, number: int) -> SingleTransport:
        """A group of this process."""
        return self

    def send(self, x: Any, peer: int, tag: int) -> Done:
        """There is nobody. ValueError."""
        raise ValueError("send, recv: there is no other process in a world of one: a process cannot send to itself")

    receive = send
