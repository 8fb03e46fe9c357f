"""Recurrent layers: a matrix product and pointwise work in place per step, over buffers made once.

The sequences of a batch do not meet but in the gradients of the weights: large batches are split over threads, each of
which goes through all steps with its rows. Forward kernels keep what each step began with (kept_h, kept_c) and its
activations, so that the gradient of the recurrent weights is one matrix product over all steps. Halves are left to the
generic form.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from .. import threads
from ..base import may_decline
from . import blas

# Rows of a thread, and elements of the gates of one step, below which more threads are slower: their matrix products
# are too thin, and they wait for each other at the interpreter.
LEAST_ROWS, LEAST_GATES = 8, 1 << 13

Span = tuple[slice, slice]  # the rows of the state that a step works on, and the same rows of that step's arrays


def steps_of(batch_sizes: tuple[int, ...], reverse: bool) -> list[tuple[int, int]]:
    """(first row, number of rows) of each step, in the order of work."""
    found, start = [], 0
    for n in batch_sizes:
        found.append((start, n))
        start += n
    return found[::-1] if reverse else found


def parts_of(steps: list[tuple[int, int]], low: int, high: int) -> Iterator[Span]:
    """The steps of the rows low to high of the state; steps that have none of them are left out."""
    for start, n in steps:
        stop = n if n < high else high
        if low < stop:
            yield slice(low, stop), slice(start + low, start + stop)


def over_rows(run: Callable[[int, int], None], batch: int, width: int) -> None:
    """run(low, high) for all rows of the state, in threads where a step with gates (batch, width) is large enough."""
    count = min(threads.count(), batch // LEAST_ROWS)
    if count < 2 or batch * width < count * LEAST_GATES or not blas.controlled():
        run(0, batch)
        return
    with blas.alone():
        threads.over(run, batch, count)


def _declined(x: Any) -> bool:
    return x.dtype.itemsize < 4 or x.dtype.kind != "f"


def _sigmoid_(x: Any) -> None:
    """1 / (1 + exp(-x)) in place; exp costs half of tanh. Where exp overflows, the result is 0, as it should be."""
    np.negative(x, out=x)
    np.exp(x, out=x)
    x += 1
    np.reciprocal(x, out=x)


def initial(g: Any, like: Any) -> Any:
    """A gradient of a final state as an array to work in."""
    return np.zeros(like.shape, like.dtype) if g is None else np.array(g, order="C")


# ---- long short-term memory


@may_decline
def lstm_sequence(gates: Any, h0: Any, c0: Any, w: Any, r: Any = None, *, batch_sizes: Any, reverse: bool) -> Any:
    """Op lstm_sequence."""
    if _declined(gates):
        return NotImplemented
    rows, n, dtype = len(gates), c0.shape[1], gates.dtype
    h, c = np.array(h0, order="C"), np.array(c0, order="C")
    out, kept_gates = np.empty((rows, h.shape[1]), dtype), np.empty((rows, 4 * n), dtype)
    kept_h, kept_c, kept_tanh = np.empty_like(out), np.empty((rows, n), dtype), np.empty((rows, n), dtype)
    product, steps = np.empty(c.shape, dtype), steps_of(batch_sizes, reverse)

    def run(low: int, high: int) -> None:
        for own, part in parts_of(steps, low, high):
            before, cell, z, t = h[own], c[own], kept_gates[part], product[own]
            shown, new, f = kept_tanh[part], out[part], z[:, n : 2 * n]
            kept_h[part] = before
            kept_c[part] = cell
            np.matmul(before, w.T, out=z)
            z += gates[part]
            _sigmoid_(z[:, : 2 * n])
            g, o = z[:, 2 * n : 3 * n], z[:, 3 * n :]
            np.tanh(g, out=g)
            _sigmoid_(o)
            cell *= f
            cell += np.multiply(z[:, :n], g, out=t)
            np.tanh(cell, out=shown)
            if r is None:
                np.multiply(o, shown, out=new)
            else:
                np.matmul(np.multiply(o, shown, out=t), r.T, out=new)
            before[...] = new

    over_rows(run, len(h), 4 * n)
    return out, h, c, kept_gates, kept_c, kept_tanh, kept_h


@may_decline
def lstm_sequence_backward(
    g: Any, gates: Any, h0: Any, c0: Any, w: Any, r: Any, kept_gates: Any, kept_c: Any, kept_tanh: Any, kept_h: Any,
    *, needs: Any, batch_sizes: Any, reverse: bool
) -> Any:  # fmt: skip
    """Composite lstm_sequence_backward."""
    if kept_gates is None:
        return NotImplemented
    n, dtype, dh, dc = c0.shape[1], gates.dtype, initial(g[1], h0), initial(g[2], c0)
    out = np.empty_like(kept_gates)
    arriving = None if r is None else np.empty((len(gates), r.shape[0]), dtype)
    slope, small, d_full = np.empty((len(h0), 4 * n), dtype), np.empty(c0.shape, dtype), np.empty(c0.shape, dtype)
    steps = steps_of(batch_sizes, reverse)[::-1]

    def run(low: int, high: int) -> None:
        for own, part in parts_of(steps, low, high):
            a, z, shown, d, e = kept_gates[part], out[part], kept_tanh[part], dh[own], dc[own]
            if g[0] is not None:
                d += g[0][part]
            if arriving is not None:
                arriving[part] = d
                d = np.matmul(d, r, out=d_full[own])
            q, t = slope[own], small[own]
            i, f, new, o = a[:, :n], a[:, n : 2 * n], a[:, 2 * n : 3 * n], a[:, 3 * n :]
            np.multiply(d, o, out=t)  # what arrives at the cell: d o (1 - tanh^2)
            e += t
            t *= shown
            t *= shown
            e -= t
            np.multiply(a, a, out=q)  # the activations' slopes: a - a a, and 1 - a a for tanh
            np.subtract(a, q, out=q)
            over_new = q[:, 2 * n : 3 * n]
            np.multiply(new, new, out=over_new)
            np.subtract(1, over_new, out=over_new)
            np.multiply(e, new, out=z[:, :n])
            np.multiply(e, kept_c[part], out=z[:, n : 2 * n])
            np.multiply(e, i, out=z[:, 2 * n : 3 * n])
            np.multiply(d, shown, out=z[:, 3 * n :])
            z *= q
            e *= f
            np.matmul(z, w, out=dh[own])

    over_rows(run, len(h0), 4 * n)
    dr = None
    if arriving is not None and needs[4]:
        dr = arriving.T @ (kept_gates[:, 3 * n :] * kept_tanh)
    return out, dh, dc, out.T @ kept_h if needs[3] else None, dr


# ---- gated recurrent unit


@may_decline
def gru_sequence(gates: Any, h0: Any, w: Any, b: Any = None, *, batch_sizes: Any, reverse: bool) -> Any:
    """Op gru_sequence."""
    if _declined(gates):
        return NotImplemented
    rows, n, dtype = len(gates), h0.shape[1], gates.dtype
    h, out = np.array(h0, order="C"), np.empty((rows, n), dtype)
    kept_gates, kept_n, kept_h = np.empty((rows, 3 * n), dtype), np.empty((rows, n), dtype), np.empty((rows, n), dtype)
    hidden, steps = np.empty((len(h0), 3 * n), dtype), steps_of(batch_sizes, reverse)

    def run(low: int, high: int) -> None:
        for own, part in parts_of(steps, low, high):
            a, x, y, state, inner = kept_gates[part], gates[part], hidden[own], h[own], kept_n[part]
            kept_h[part] = state
            np.matmul(state, w.T, out=y)
            if b is not None:
                y += b
            both, new = a[:, : 2 * n], a[:, 2 * n :]
            np.add(x[:, : 2 * n], y[:, : 2 * n], out=both)
            _sigmoid_(both)
            inner[...] = y[:, 2 * n :]
            np.multiply(both[:, :n], inner, out=new)
            new += x[:, 2 * n :]
            np.tanh(new, out=new)
            state -= new
            state *= both[:, n:]
            state += new
            out[part] = state

    over_rows(run, len(h), 3 * n)
    return out, h, kept_gates, kept_n, kept_h


@may_decline
def gru_sequence_backward(
    g: Any, gates: Any, h0: Any, w: Any, b: Any, kept_gates: Any, kept_n: Any, kept_h: Any,
    *, needs: Any, batch_sizes: Any, reverse: bool
) -> Any:  # fmt: skip
    """Composite gru_sequence_backward."""
    if kept_gates is None:
        return NotImplemented
    n, dh = h0.shape[1], initial(g[1], h0)
    out, hidden = np.empty_like(kept_gates), np.empty_like(kept_gates)
    product, small, steps = np.empty_like(dh), np.empty_like(dh), steps_of(batch_sizes, reverse)[::-1]

    def run(low: int, high: int) -> None:
        for own, part in parts_of(steps, low, high):
            a, x, y, d, t = kept_gates[part], out[part], hidden[part], dh[own], small[own]
            r, z, new = a[:, :n], a[:, n : 2 * n], a[:, 2 * n :]
            if g[0] is not None:
                d += g[0][part]
            by_r, by_z, by_n = x[:, :n], x[:, n : 2 * n], x[:, 2 * n :]
            np.subtract(1, z, out=t)
            np.multiply(d, t, out=by_n)
            np.subtract(kept_h[part], new, out=by_z)
            by_z *= d
            t *= z
            by_z *= t
            np.multiply(new, new, out=t)
            np.subtract(1, t, out=t)
            by_n *= t
            np.multiply(by_n, r, out=y[:, 2 * n :])
            np.subtract(1, r, out=t)
            np.multiply(y[:, 2 * n :], t, out=by_r)
            by_r *= kept_n[part]
            y[:, : 2 * n] = x[:, : 2 * n]
            d *= z
            d += np.matmul(y, w, out=product[own])

    over_rows(run, len(h0), 3 * n)
    db = np.add.reduce(hidden, axis=0) if needs[3] else None
    return out, dh, hidden.T @ kept_h if needs[2] else None, db


# ---- plain recurrence


@may_decline
def rnn_sequence(gates: Any, h0: Any, w: Any, *, relu: bool, batch_sizes: Any, reverse: bool) -> Any:
    """Op rnn_sequence."""
    if _declined(gates):
        return NotImplemented
    h, out, kept_h = np.array(h0, order="C"), np.empty(gates.shape, gates.dtype), np.empty(gates.shape, gates.dtype)
    steps = steps_of(batch_sizes, reverse)

    def run(low: int, high: int) -> None:
        for own, part in parts_of(steps, low, high):
            state, z = h[own], out[part]
            kept_h[part] = state
            np.matmul(state, w.T, out=z)
            z += gates[part]
            if relu:
                np.maximum(z, 0, out=z)
            else:
                np.tanh(z, out=z)
            state[...] = z

    over_rows(run, *h.shape)
    return out, h, kept_h


@may_decline
def rnn_sequence_backward(
    g: Any, gates: Any, h0: Any, w: Any, out: Any, kept_h: Any,
    *, needs: Any, relu: bool, batch_sizes: Any, reverse: bool
) -> Any:  # fmt: skip
    """Composite rnn_sequence_backward."""
    if kept_h is None:
        return NotImplemented
    dh, found, steps = initial(g[1], h0), np.empty_like(out), steps_of(batch_sizes, reverse)[::-1]

    def run(low: int, high: int) -> None:
        for own, part in parts_of(steps, low, high):
            d, z, new = dh[own], found[part], out[part]
            if g[0] is not None:
                d += g[0][part]
            if relu:
                np.multiply(d, new > 0, out=z)
            else:
                np.multiply(new, new, out=z)
                np.subtract(1, z, out=z)
                z *= d
            np.matmul(z, w, out=d)

    over_rows(run, *dh.shape)
    return found, dh, found.T @ kept_h if needs[2] else None


KERNELS: dict[str, Callable[..., Any]] = {
    "lstm_sequence": lstm_sequence,
    "lstm_sequence_backward": lstm_sequence_backward,
    "gru_sequence": gru_sequence,
    "gru_sequence_backward": gru_sequence_backward,
    "rnn_sequence": rnn_sequence,
    "rnn_sequence_backward": rnn_sequence_backward,
}
