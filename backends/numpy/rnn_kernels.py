"""Recurrent layers: a matrix product and pointwise work in place per step, over buffers made once.

Forward kernels keep what each step began with (kept_h, kept_c) and its activations, so that the gradient of the
recurrent weights is one matrix product over all steps. Halves are left to the generic form.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..base import may_decline


def _steps(batch_sizes: tuple[int, ...], reverse: bool) -> list[tuple[int, int]]:
    found, start = [], 0
    for n in batch_sizes:
        found.append((start, start + n))
        start += n
    return found[::-1] if reverse else found


def _declined(x: Any) -> bool:
    return x.dtype.itemsize < 4 or x.dtype.kind != "f"


def _scale(n: int, ranges: tuple[tuple[int, int], ...], dtype: Any) -> tuple[Any, Any]:
    """(0.5, 0.5) in the columns whose activation is a sigmoid, else (1, 0): sigmoid(x) = tanh(x / 2) / 2 + 1 / 2."""
    factor, shift = np.ones(n, dtype), np.zeros(n, dtype)
    for start, stop in ranges:
        factor[start:stop] = shift[start:stop] = 0.5
    return factor, shift


def _start(g: Any, like: Any) -> Any:
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
    factor, shift = _scale(4 * n, ((0, 2 * n), (3 * n, 4 * n)), dtype)
    wide, product = w.T, np.empty(c.shape, dtype)
    for start, stop in _steps(batch_sizes, reverse):
        b = stop - start
        z, cell, shown, new = kept_gates[start:stop], c[:b], kept_tanh[start:stop], out[start:stop]
        kept_h[start:stop] = h[:b]
        kept_c[start:stop] = cell
        np.matmul(h[:b], wide, out=z)
        z += gates[start:stop]
        z *= factor
        np.tanh(z, out=z)
        z *= factor
        z += shift
        cell *= z[:, n : 2 * n]
        cell += np.multiply(z[:, :n], z[:, 2 * n : 3 * n], out=product[:b])
        np.tanh(cell, out=shown)
        if r is None:
            np.multiply(z[:, 3 * n :], shown, out=new)
        else:
            np.matmul(np.multiply(z[:, 3 * n :], shown, out=product[:b]), r.T, out=new)
        h[:b] = new
    return out, h, c, kept_gates, kept_c, kept_tanh, kept_h


@may_decline
def lstm_sequence_backward(
    g: Any, gates: Any, h0: Any, c0: Any, w: Any, r: Any, kept_gates: Any, kept_c: Any, kept_tanh: Any, kept_h: Any,
    *, needs: Any, batch_sizes: Any, reverse: bool
) -> Any:  # fmt: skip
    """Composite lstm_sequence_backward."""
    if kept_gates is None:
        return NotImplemented
    n, dh, dc = c0.shape[1], _start(g[1], h0), _start(g[2], c0)
    out = np.empty_like(kept_gates)
    arriving = None if r is None else np.empty((len(gates), r.shape[0]), gates.dtype)
    slope, d_full = np.empty((len(h0), 4 * n), gates.dtype), np.empty(c0.shape, gates.dtype)
    small, matrix = np.empty(c0.shape, gates.dtype), np.ascontiguousarray(w)
    for start, stop in reversed(_steps(batch_sizes, reverse)):
        b = stop - start
        a, z, shown = kept_gates[start:stop], out[start:stop], kept_tanh[start:stop]
        d, e, q, t = dh[:b], dc[:b], slope[:b], small[:b]
        if g[0] is not None:
            d += g[0][start:stop]
        if arriving is not None:
            arriving[start:stop] = d
            d = np.matmul(d, r, out=d_full[:b])
        np.multiply(a, a, out=q)  # the activations' slopes: a - a a, and 1 - a a for tanh
        np.subtract(a[:, : 2 * n], q[:, : 2 * n], out=q[:, : 2 * n])
        np.subtract(1, q[:, 2 * n : 3 * n], out=q[:, 2 * n : 3 * n])
        np.subtract(a[:, 3 * n :], q[:, 3 * n :], out=q[:, 3 * n :])
        np.multiply(d, shown, out=z[:, 3 * n :])
        np.multiply(shown, shown, out=t)
        np.subtract(1, t, out=t)
        t *= a[:, 3 * n :]
        t *= d
        e += t
        np.multiply(e, a[:, 2 * n : 3 * n], out=z[:, :n])
        np.multiply(e, kept_c[start:stop], out=z[:, n : 2 * n])
        np.multiply(e, a[:, :n], out=z[:, 2 * n : 3 * n])
        z *= q
        e *= a[:, n : 2 * n]
        np.matmul(z, matrix, out=dh[:b])
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
    h, out, wide = np.array(h0, order="C"), np.empty((rows, n), dtype), w.T
    kept_gates, kept_n, kept_h = np.empty((rows, 3 * n), dtype), np.empty((rows, n), dtype), np.empty((rows, n), dtype)
    hidden = np.empty((len(h0), 3 * n), dtype)
    for start, stop in _steps(batch_sizes, reverse):
        size = stop - start
        a, x, y, state, inner = kept_gates[start:stop], gates[start:stop], hidden[:size], h[:size], kept_n[start:stop]
        kept_h[start:stop] = state
        np.matmul(state, wide, out=y)
        if b is not None:
            y += b
        both, new = a[:, : 2 * n], a[:, 2 * n :]
        np.add(x[:, : 2 * n], y[:, : 2 * n], out=both)
        both *= 0.5
        np.tanh(both, out=both)
        both *= 0.5
        both += 0.5
        inner[...] = y[:, 2 * n :]
        np.multiply(both[:, :n], inner, out=new)
        new += x[:, 2 * n :]
        np.tanh(new, out=new)
        state -= new
        state *= both[:, n:]
        state += new
        out[start:stop] = state
    return out, h, kept_gates, kept_n, kept_h


@may_decline
def gru_sequence_backward(
    g: Any, gates: Any, h0: Any, w: Any, b: Any, kept_gates: Any, kept_n: Any, kept_h: Any,
    *, needs: Any, batch_sizes: Any, reverse: bool
) -> Any:  # fmt: skip
    """Composite gru_sequence_backward."""
    if kept_gates is None:
        return NotImplemented
    n, dh = h0.shape[1], _start(g[1], h0)
    out, hidden = np.empty_like(kept_gates), np.empty_like(kept_gates)
    product, small, matrix = np.empty_like(dh), np.empty_like(dh), np.ascontiguousarray(w)
    for start, stop in reversed(_steps(batch_sizes, reverse)):
        size = stop - start
        a, x, y, d, t = kept_gates[start:stop], out[start:stop], hidden[start:stop], dh[:size], small[:size]
        r, z, new = a[:, :n], a[:, n : 2 * n], a[:, 2 * n :]
        if g[0] is not None:
            d += g[0][start:stop]
        by_r, by_z, by_n = x[:, :n], x[:, n : 2 * n], x[:, 2 * n :]
        np.subtract(1, z, out=t)
        np.multiply(d, t, out=by_n)
        np.subtract(kept_h[start:stop], new, out=by_z)
        by_z *= d
        t *= z
        by_z *= t
        np.multiply(new, new, out=t)
        np.subtract(1, t, out=t)
        by_n *= t
        np.multiply(by_n, r, out=y[:, 2 * n :])
        np.subtract(1, r, out=t)
        np.multiply(y[:, 2 * n :], t, out=by_r)
        by_r *= kept_n[start:stop]
        y[:, : 2 * n] = x[:, : 2 * n]
        d *= z
        d += np.matmul(y, matrix, out=product[:size])
    db = np.add.reduce(hidden, axis=0) if needs[3] else None
    return out, dh, hidden.T @ kept_h if needs[2] else None, db


# ---- plain recurrence


@may_decline
def rnn_sequence(gates: Any, h0: Any, w: Any, *, relu: bool, batch_sizes: Any, reverse: bool) -> Any:
    """Op rnn_sequence."""
    if _declined(gates):
        return NotImplemented
    h, out, kept_h, wide = np.array(h0, order="C"), np.empty(gates.shape, gates.dtype), np.empty_like(gates), w.T
    for start, stop in _steps(batch_sizes, reverse):
        state, z = h[: stop - start], out[start:stop]
        kept_h[start:stop] = state
        np.matmul(state, wide, out=z)
        z += gates[start:stop]
        if relu:
            np.maximum(z, 0, out=z)
        else:
            np.tanh(z, out=z)
        state[...] = z
    return out, h, kept_h


@may_decline
def rnn_sequence_backward(
    g: Any, gates: Any, h0: Any, w: Any, out: Any, kept_h: Any,
    *, needs: Any, relu: bool, batch_sizes: Any, reverse: bool
) -> Any:  # fmt: skip
    """Composite rnn_sequence_backward."""
    if kept_h is None:
        return NotImplemented
    dh, found, matrix = _start(g[1], h0), np.empty_like(out), np.ascontiguousarray(w)
    for start, stop in reversed(_steps(batch_sizes, reverse)):
        d, z, new = dh[: stop - start], found[start:stop], out[start:stop]
        if g[0] is not None:
            d += g[0][start:stop]
        if relu:
            np.multiply(d, new > 0, out=z)
        else:
            np.multiply(new, new, out=z)
            np.subtract(1, z, out=z)
            z *= d
        np.matmul(z, matrix, out=d)
    return found, dh, found.T @ kept_h if needs[2] else None


KERNELS: dict[str, Callable[..., Any]] = {
    "lstm_sequence": lstm_sequence,
    "lstm_sequence_backward": lstm_sequence_backward,
    "gru_sequence": gru_sequence,
    "gru_sequence_backward": gru_sequence_backward,
    "rnn_sequence": rnn_sequence,
    "rnn_sequence_backward": rnn_sequence_backward,
}
