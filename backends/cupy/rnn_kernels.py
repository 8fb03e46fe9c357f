"""Recurrent layers: per step one matrix product and one launch for all of the pointwise work.

What each step began with and its activations are kept, so that the gradient of the recurrent weights is one matrix
product over all steps.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..base import may_decline
from .launch import FLAG, FLAGS, TYPES, Kernel, contiguous, current, empty, served, zeros
from .matmul_kernels import product

LSTM = Kernel("rnn.cuh", "lstm_cell", "PPPPPPPii", T=TYPES)
LSTM_BACKWARD = Kernel("rnn.cuh", "lstm_cell_backward", "PPPPPPPii", T=TYPES)
GRU = Kernel("rnn.cuh", "gru_cell", "PPPPPPPPii", T=TYPES)
GRU_BACKWARD = Kernel("rnn.cuh", "gru_cell_backward", "PPPPPPPii", T=TYPES)
RNN = Kernel("rnn.cuh", "rnn_cell", "PPPPPi", T=TYPES, RELU=FLAGS)
RNN_BACKWARD = Kernel("rnn.cuh", "rnn_cell_backward", "PPPPi", T=TYPES, RELU=FLAGS)


def _steps(batch_sizes: Any, reverse: bool) -> list[tuple[int, int]]:
    """The rows of each step as (start, stop), in the order of work."""
    found, start = [], 0
    for n in batch_sizes:
        found.append((start, start + n))
        start += n
    return found[::-1] if reverse else found


def _grid(total: int) -> tuple[int]:
    return (-(-total // 256),)


def _own(x: Any) -> Any:
    """A row-major copy, to be written."""
    return current().xp.array(x, order="C", copy=True)


def _start(g: Any, like: Any) -> Any:
    """A gradient of a final state as an array to work in."""
    return zeros(like.shape, like.dtype) if g is None else _own(g)


def _part(g: Any, start: int, stop: int) -> Any:
    return None if g is None else g[start:stop]


# ---- long short-term memory


@may_decline
def lstm_sequence(gates: Any, h0: Any, c0: Any, w: Any, r: Any = None, *, batch_sizes: Any, reverse: bool) -> Any:
    """Op lstm_sequence."""
    name = served(gates, h0, c0, w, r)
    if name is None:
        return NotImplemented
    gates, rows, n, dtype = contiguous(gates), len(gates), c0.shape[1], gates.dtype
    h, c = _own(h0), _own(c0)
    kept_gates = empty((rows, 4 * n), dtype)
    kept_c, kept_tanh, full = (empty((rows, n), dtype) for _ in range(3))
    kept_h = empty((rows, h.shape[1]), dtype)
    out = full if r is None else empty((rows, h.shape[1]), dtype)
    for start, stop in _steps(batch_sizes, reverse):
        b, s = stop - start, slice(start, stop)
        kept_h[s] = h[:b]
        z = product(h[:b], w.T)
        LSTM(
            (name,), _grid(b * n), (256,), z, gates[s], c, kept_gates[s], kept_c[s], kept_tanh[s], full[s], b * n, n
        )
        if r is not None:
            product(full[s], r.T, out=out[s])
        h[:b] = out[s]
    return out, h, c, kept_gates, kept_c, kept_tanh, kept_h


@may_decline
def lstm_sequence_backward(
    g: Any, gates: Any, h0: Any, c0: Any, w: Any, r: Any, kept_gates: Any, kept_c: Any, kept_tanh: Any, kept_h: Any,
    *, needs: Any, batch_sizes: Any, reverse: bool
) -> Any:  # fmt: skip
    """Composite lstm_sequence_backward."""
    name = None if kept_gates is None else served(kept_gates, gates, *g)
    if name is None:
        return NotImplemented
    n, dh, dc, arriving = c0.shape[1], _start(g[1], h0), _start(g[2], c0), contiguous(g[0])
    out = empty(kept_gates.shape, gates.dtype)
    outer = None if r is None else empty((len(gates), r.shape[0]), gates.dtype)
    for start, stop in reversed(_steps(batch_sizes, reverse)):
        b, s = stop - start, slice(start, stop)
        d, more = dh[:b], _part(arriving, start, stop)
        if outer is not None:
            outer[s] = d if more is None else d + more
            d, more = product(outer[s], r), None
        LSTM_BACKWARD(
            (name,), _grid(b * n), (256,), d, more, dc, kept_gates[s], kept_c[s], kept_tanh[s], out[s], b * n, n
        )
        product(out[s], w, out=dh[:b])
    dr = None
    if outer is not None and needs[4]:
        dr = product(outer.T, kept_gates[:, 3 * n :] * kept_tanh)
    return out, dh, dc, product(out.T, kept_h) if needs[3] else None, dr


# ---- gated recurrent unit


@may_decline
def gru_sequence(gates: Any, h0: Any, w: Any, b: Any = None, *, batch_sizes: Any, reverse: bool) -> Any:
    """Op gru_sequence."""
    name = served(gates, h0, w, b)
    if name is None:
        return NotImplemented
    gates, rows, n, dtype = contiguous(gates), len(gates), h0.shape[1], gates.dtype
    h, b = _own(h0), contiguous(b)
    kept_gates = empty((rows, 3 * n), dtype)
    kept_n, kept_h, out = (empty((rows, n), dtype) for _ in range(3))
    for start, stop in _steps(batch_sizes, reverse):
        size, s = stop - start, slice(start, stop)
        y, total = product(h[:size], w.T), size * n
        GRU(
            (name,), _grid(total), (256,), y, b, gates[s], h, kept_gates[s], kept_n[s], kept_h[s], out[s], total, n
        )
    return out, h, kept_gates, kept_n, kept_h


@may_decline
def gru_sequence_backward(
    g: Any, gates: Any, h0: Any, w: Any, b: Any, kept_gates: Any, kept_n: Any, kept_h: Any,
    *, needs: Any, batch_sizes: Any, reverse: bool
) -> Any:  # fmt: skip
    """Composite gru_sequence_backward."""
    name = None if kept_gates is None else served(kept_gates, gates, *g)
    if name is None:
        return NotImplemented
    n, dh, arriving = h0.shape[1], _start(g[1], h0), contiguous(g[0])
    dx, dy = empty(kept_gates.shape, gates.dtype), empty(kept_gates.shape, gates.dtype)
    for start, stop in reversed(_steps(batch_sizes, reverse)):
        size, s = stop - start, slice(start, stop)
        GRU_BACKWARD(
            (name,), _grid(size * n), (256,), dh, _part(arriving, start, stop), kept_gates[s], kept_n[s], kept_h[s],
            dx[s], dy[s], size * n, n,
        )  # fmt: skip
        product(dy[s], w, out=dh[:size], beta=1.0)
    db = dy.sum(axis=0) if needs[3] else None
    return dx, dh, product(dy.T, kept_h) if needs[2] else None, db


# ---- plain recurrence


@may_decline
def rnn_sequence(gates: Any, h0: Any, w: Any, *, relu: bool, batch_sizes: Any, reverse: bool) -> Any:
    """Op rnn_sequence."""
    name = served(gates, h0, w)
    if name is None:
        return NotImplemented
    gates, h = contiguous(gates), _own(h0)
    out, kept_h = empty(gates.shape, gates.dtype), empty(gates.shape, gates.dtype)
    for start, stop in _steps(batch_sizes, reverse):
        b, s = stop - start, slice(start, stop)
        z, total = product(h[:b], w.T), b * h.shape[1]
        RNN((name, FLAG[relu]), _grid(total), (256,), z, gates[s], h, kept_h[s], out[s], total)
    return out, h, kept_h


@may_decline
def rnn_sequence_backward(
    g: Any, gates: Any, h0: Any, w: Any, out: Any, kept_h: Any,
    *, needs: Any, relu: bool, batch_sizes: Any, reverse: bool
) -> Any:  # fmt: skip
    """Composite rnn_sequence_backward."""
    name = None if kept_h is None else served(out, gates, *g)
    if name is None:
        return NotImplemented
    out, dh, arriving = contiguous(out), _start(g[1], h0), contiguous(g[0])
    found = empty(out.shape, out.dtype)
    for start, stop in reversed(_steps(batch_sizes, reverse)):
        b, s = stop - start, slice(start, stop)
        total = b * h0.shape[1]
        RNN_BACKWARD(
            (name, FLAG[relu]), _grid(total), (256,), dh, _part(arriving, start, stop), out[s], found[s], total
        )
        product(found[s], w, out=dh[:b])
    return found, dh, product(found.T, kept_h) if needs[2] else None


KERNELS: dict[str, Callable[..., Any]] = {
    "lstm_sequence": lstm_sequence,
    "lstm_sequence_backward": lstm_sequence_backward,
    "gru_sequence": gru_sequence,
    "gru_sequence_backward": gru_sequence_backward,
    "rnn_sequence": rnn_sequence,
    "rnn_sequence_backward": rnn_sequence_backward,
}
