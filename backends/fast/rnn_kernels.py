"""Recurrent layers, compiled: per step one matrix product by NumPy, and all pointwise work in one pass.

What is kept for the backward is what the NumPy backend's kernels keep, so that either serves the other's.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..base import may_decline
from ..numpy.rnn_kernels import initial, over_rows, parts_of, steps_of
from .compiled import Function, Group, address, rows

NEEDS = "numba"
SOURCE = Group("recurrent")
SMALL = 1 << 14  # elements of all steps' gates that are worth loading machine code for
F32, F64 = np.dtype(np.float32), np.dtype(np.float64)
_SUFFIX = {F32: "_f4", F64: "_f8"}


def _kernel(name: str, gates: Any, *states: Any) -> Function | None:
    """The kernel for the gates of all steps and states of one dtype; None where it does not serve them."""
    dt = gates.dtype
    if (dt is not F32 and dt is not F64) or gates.size < SMALL and not SOURCE.functions:
        return None
    if any(s is not None and s.dtype is not dt for s in states):
        return None
    return SOURCE.get(name + _SUFFIX[dt])


class _Rows:
    """Where the rows of an array begin in memory, and its columns of one gate; null for None."""

    __slots__ = ("first", "row", "gate")

    def __init__(self, array: Any, gates: int = 1):
        self.first = 0 if array is None else address(array)
        self.row = 0 if array is None else array.shape[1] * array.itemsize
        self.gate = self.row // gates

    def at(self, part: slice, gate: int = 0) -> int:
        return self.first + part.start * self.row + gate * self.gate


# ---- long short-term memory


@may_decline
def lstm_sequence(gates: Any, h0: Any, c0: Any, w: Any, r: Any = None, *, batch_sizes: Any, reverse: bool) -> Any:
    """Op lstm_sequence."""
    kernel = _kernel("lstm_forward", gates, h0, c0, w, r)
    if kernel is None:
        return NotImplemented
    gates, n, dtype = rows(gates), c0.shape[1], gates.dtype
    h, c = np.array(h0, order="C"), np.array(c0, order="C")
    out, kept_gates = np.empty((len(gates), h.shape[1]), dtype), np.empty((len(gates), 4 * n), dtype)
    kept_h, kept_c, kept_tanh = np.empty_like(out), np.empty((len(gates), n), dtype), np.empty((len(gates), n), dtype)
    product = None if r is None else np.empty(c.shape, dtype)
    steps, call = steps_of(batch_sizes, reverse), kernel.call
    z, x, cell, before, t = _Rows(kept_gates, 4), _Rows(gates), _Rows(c), _Rows(kept_c), _Rows(kept_tanh)
    state, old, full, new = _Rows(h if r is None else None), _Rows(kept_h), _Rows(product), _Rows(out)

    def run(low: int, high: int) -> None:
        for own, part in parts_of(steps, low, high):
            np.matmul(h[own], w.T, out=kept_gates[part])
            call(
                z.at(part), z.at(part, 1), z.at(part, 2), z.at(part, 3), x.at(part), cell.at(own), before.at(part),
                t.at(part), state.at(own), old.at(part), new.at(part) if product is None else full.at(own),
                n, 0, own.stop - own.start,
            )  # fmt: skip
            if product is not None:
                kept_h[part] = h[own]
                np.matmul(product[own], r.T, out=out[part])
                h[own] = out[part]

    over_rows(run, len(h), 4 * n)
    return out, h, c, kept_gates, kept_c, kept_tanh, kept_h


@may_decline
def lstm_sequence_backward(
    g: Any, gates: Any, h0: Any, c0: Any, w: Any, r: Any, kept_gates: Any, kept_c: Any, kept_tanh: Any, kept_h: Any,
    *, needs: Any, batch_sizes: Any, reverse: bool
) -> Any:  # fmt: skip
    """Composite lstm_sequence_backward."""
    if kept_gates is None or (kernel := _kernel("lstm_backward", gates, *g)) is None:
        return NotImplemented
    n, dh, dc = c0.shape[1], initial(g[1], h0), initial(g[2], c0)
    outside = None if g[0] is None else rows(g[0])
    dz = np.empty_like(kept_gates)
    arriving = None if r is None else np.empty((len(gates), r.shape[0]), gates.dtype)
    d_full = dh if r is None else np.empty(c0.shape, gates.dtype)
    steps, call = steps_of(batch_sizes, reverse)[::-1], kernel.call
    z, a, before, t = _Rows(dz, 4), _Rows(kept_gates), _Rows(kept_c), _Rows(kept_tanh)
    d, more, e = _Rows(d_full), _Rows(outside if r is None else None), _Rows(dc)

    def run(low: int, high: int) -> None:
        for own, part in parts_of(steps, low, high):
            if arriving is not None:
                arriving[part] = dh[own] if outside is None else dh[own] + outside[part]
                np.matmul(arriving[part], r, out=d_full[own])
            call(
                z.at(part), z.at(part, 1), z.at(part, 2), z.at(part, 3), a.at(part), before.at(part), t.at(part),
                d.at(own), more.at(part), e.at(own), n, 0, own.stop - own.start,
            )  # fmt: skip
            np.matmul(dz[part], w, out=dh[own])

    over_rows(run, len(h0), 4 * n)
    dr = None
    if arriving is not None and needs[4]:
        dr = arriving.T @ (kept_gates[:, 3 * n :] * kept_tanh)
    return dz, dh, dc, dz.T @ kept_h if needs[3] else None, dr


# ---- gated recurrent unit


@may_decline
def gru_sequence(gates: Any, h0: Any, w: Any, b: Any = None, *, batch_sizes: Any, reverse: bool) -> Any:
    """Op gru_sequence."""
    kernel = _kernel("gru_forward", gates, h0, w, b)
    if kernel is None:
        return NotImplemented
    gates, n, dtype = rows(gates), h0.shape[1], gates.dtype
    h, shift = np.array(h0, order="C"), 0 if b is None else address(b := rows(b))
    kept_gates, out = np.empty((len(gates), 3 * n), dtype), np.empty((len(gates), n), dtype)
    kept_n, kept_h, hidden = np.empty_like(out), np.empty_like(out), np.empty((len(h0), 3 * n), dtype)
    steps, call = steps_of(batch_sizes, reverse), kernel.call
    a, x, y, inner = _Rows(kept_gates, 3), _Rows(gates), _Rows(hidden), _Rows(kept_n)
    state, old, new = _Rows(h), _Rows(kept_h), _Rows(out)

    def run(low: int, high: int) -> None:
        for own, part in parts_of(steps, low, high):
            np.matmul(h[own], w.T, out=hidden[own])
            call(
                a.at(part), a.at(part, 1), a.at(part, 2), x.at(part), y.at(own), shift, inner.at(part), state.at(own),
                old.at(part), new.at(part), n, 0, own.stop - own.start,
            )  # fmt: skip

    over_rows(run, len(h), 3 * n)
    return out, h, kept_gates, kept_n, kept_h


@may_decline
def gru_sequence_backward(
    g: Any, gates: Any, h0: Any, w: Any, b: Any, kept_gates: Any, kept_n: Any, kept_h: Any,
    *, needs: Any, batch_sizes: Any, reverse: bool
) -> Any:  # fmt: skip
    """Composite gru_sequence_backward."""
    if kept_gates is None or (kernel := _kernel("gru_backward", gates, *g)) is None:
        return NotImplemented
    n, dh, outside = h0.shape[1], initial(g[1], h0), None if g[0] is None else rows(g[0])
    dx, dy, product = np.empty_like(kept_gates), np.empty_like(kept_gates), np.empty_like(dh)
    steps, call = steps_of(batch_sizes, reverse)[::-1], kernel.call
    x, y, a, inner, old = _Rows(dx, 3), _Rows(dy, 3), _Rows(kept_gates), _Rows(kept_n), _Rows(kept_h)
    d, more = _Rows(dh), _Rows(outside)

    def run(low: int, high: int) -> None:
        for own, part in parts_of(steps, low, high):
            call(
                x.at(part), x.at(part, 1), x.at(part, 2), y.at(part), y.at(part, 1), y.at(part, 2), a.at(part),
                inner.at(part), old.at(part), d.at(own), more.at(part), n, 0, own.stop - own.start,
            )  # fmt: skip
            rest = dh[own]
            rest += np.matmul(dy[part], w, out=product[own])

    over_rows(run, len(h0), 3 * n)
    return dx, dh, dy.T @ kept_h if needs[2] else None, np.add.reduce(dy, axis=0) if needs[3] else None


# ---- plain recurrence


@may_decline
def rnn_sequence(gates: Any, h0: Any, w: Any, *, relu: bool, batch_sizes: Any, reverse: bool) -> Any:
    """Op rnn_sequence."""
    kernel = _kernel("rnn_relu_forward" if relu else "rnn_tanh_forward", gates, h0, w)
    if kernel is None:
        return NotImplemented
    gates, h, n = rows(gates), np.array(h0, order="C"), h0.shape[1]
    out, kept_h = np.empty(gates.shape, gates.dtype), np.empty(gates.shape, gates.dtype)
    steps, call = steps_of(batch_sizes, reverse), kernel.call
    z, x, state, old = _Rows(out), _Rows(gates), _Rows(h), _Rows(kept_h)

    def run(low: int, high: int) -> None:
        for own, part in parts_of(steps, low, high):
            np.matmul(h[own], w.T, out=out[part])
            call(z.at(part), x.at(part), state.at(own), old.at(part), n, 0, own.stop - own.start)

    over_rows(run, len(h), n)
    return out, h, kept_h


@may_decline
def rnn_sequence_backward(
    g: Any, gates: Any, h0: Any, w: Any, out: Any, kept_h: Any,
    *, needs: Any, relu: bool, batch_sizes: Any, reverse: bool
) -> Any:  # fmt: skip
    """Composite rnn_sequence_backward."""
    if kept_h is None or (kernel := _kernel("rnn_relu_backward" if relu else "rnn_tanh_backward", gates, *g)) is None:
        return NotImplemented
    n, dh, outside = h0.shape[1], initial(g[1], h0), None if g[0] is None else rows(g[0])
    out = rows(out)
    found = np.empty(out.shape, out.dtype)
    steps, call = steps_of(batch_sizes, reverse)[::-1], kernel.call
    z, new, d, more = _Rows(found), _Rows(out), _Rows(dh), _Rows(outside)

    def run(low: int, high: int) -> None:
        for own, part in parts_of(steps, low, high):
            call(z.at(part), new.at(part), d.at(own), more.at(part), n, 0, own.stop - own.start)
            np.matmul(found[part], w, out=dh[own])

    over_rows(run, len(h0), n)
    return found, dh, found.T @ kept_h if needs[2] else None


KERNELS: dict[str, Callable[..., Any]] = {
    kernel.__name__: kernel
    for kernel in (
        lstm_sequence, lstm_sequence_backward, gru_sequence, gru_sequence_backward, rnn_sequence, rnn_sequence_backward
    )
}  # fmt: skip
