"""Recurrent layers, compiled: all steps of some sequences in one call, their matrix products included.

NumPy's BLAS packs the recurrent weights anew at each step, which takes as long as a product with few rows; here they
are packed once. What is kept for the backward is what the NumPy backend's kernels keep, so that either serves the
other's.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from .. import threads
from ..base import may_decline
from ..numpy.rnn_kernels import initial, steps_of
from . import gang
from .compiled import Function, Group, address, rows

NEEDS = "numba"
SOURCE = Group("products")
SMALL = 1 << 14  # elements of all steps' gates that are worth loading machine code for
LEAST_ROWS = 4  # of a thread: the products of fewer take as long
WIDE = 64  # bytes of a panel's row, see sources/products.py
F32, F64 = np.dtype(np.float32), np.dtype(np.float64)
_SUFFIX = {F32: "_f4", F64: "_f8"}


def _kernel(name: str, gates: Any, *states: Any) -> Function | None:
    """The kernel for the gates of all steps and states of one dtype; None where it does not serve them."""
    dt = gates.dtype
    if (dt is not F32 and dt is not F64) or gates.size < SMALL and not SOURCE.functions:
        return None
    if any(s is not None and s.dtype is not dt for s in states) or not gates.shape[1]:
        return None
    return SOURCE.get(name + _SUFFIX[dt])


def _span(columns: int, dtype: Any) -> int:
    """The length of rows that a product writes: whole panels."""
    wide = WIDE // dtype.itemsize
    return -(-columns // wide) * wide


def _panels(w: Any) -> Any:
    """The second factor of a product, (K, N), as panels. None for None."""
    if w is None:
        return None
    depth, columns = w.shape
    steps = [s // w.itemsize for s in w.strides]
    if any(s < 0 or s % w.itemsize for s in w.strides) or not w.flags.aligned:
        w, steps = np.array(w, order="C"), [columns, 1]
    wide, span = WIDE // w.itemsize, _span(columns, w.dtype)
    out, pack = np.empty((span // wide, depth, wide), w.dtype), SOURCE.get("pack" + _SUFFIX[w.dtype])
    assert pack is not None  # where one kernel of the group could be compiled, the others could
    pack(w, out, depth, columns, *steps, wide, 0, len(out))
    return out


def _over(run: Function, batch: int, batch_sizes: Any, backward: bool, arrays: Any, *numbers: int) -> None:
    """Runs a kernel; each thread has some rows of the state.

    Its arguments: arrays (None or an address among them), the steps in the order of work, their number, and numbers.
    """
    steps = np.array(steps_of(batch_sizes, backward), np.int64).reshape(-1, 2)
    args = [address(a) if isinstance(a, np.ndarray) else a or 0 for a in (*arrays, steps)]
    args += [len(steps), *numbers]
    parts = min(threads.count(), batch // LEAST_ROWS)
    if parts < 2:
        run(*args, 0, batch)
    elif not gang.over(run, batch, 1, args, parts):
        threads.over(lambda start, stop: run(*args, start, stop), batch, parts)


def _gates(array: Any, count: int) -> list[int]:
    """Where each gate's columns begin in memory."""
    first, step = address(array), array.shape[1] // count * array.itemsize
    return [first + i * step for i in range(count)]


def _scratch(rows: int, columns: int, dtype: Any) -> Any:
    """Memory for what a product of `columns` columns gives."""
    return np.empty((rows, _span(columns, dtype)), dtype)


def _state(g: Any, like: Any) -> Any:
    """A gradient of a final state in rows that a product can write."""
    count, n = like.shape
    out = _scratch(count, n, like.dtype)
    out[:, :n] = 0 if g is None else g
    return out


# ---- long short-term memory


@may_decline
def lstm_sequence(gates: Any, h0: Any, c0: Any, w: Any, r: Any = None, *, batch_sizes: Any, reverse: bool) -> Any:
    """Op lstm_sequence."""
    run = _kernel("lstm_forward", gates, h0, c0, w, r)
    if run is None:
        return NotImplemented
    gates, dtype, (batch, p), n, total = rows(gates), gates.dtype, h0.shape, c0.shape[1], len(gates)
    h, c, y = np.array(h0, order="C"), np.array(c0, order="C"), _scratch(batch, 4 * n, dtype)
    out, kept_h, kept_gates = np.empty((total, p), dtype), np.empty((total, p), dtype), np.empty((total, 4 * n), dtype)
    kept_c, kept_tanh = np.empty((total, n), dtype), np.empty((total, n), dtype)
    full, v = (None, None) if r is None else (np.empty((batch, n), dtype), _scratch(batch, p, dtype))
    arrays = [
        _panels(w.T), y, gates, *_gates(kept_gates, 4), c, kept_c, kept_tanh, h, kept_h, out,
        None if r is None else _panels(r.T), full, v,
    ]  # fmt: skip
    _over(run, batch, batch_sizes, reverse, arrays, n, p, y.shape[1], _span(p, dtype), WIDE // dtype.itemsize)
    return out, h, c, kept_gates, kept_c, kept_tanh, kept_h


@may_decline
def lstm_sequence_backward(
    g: Any, gates: Any, h0: Any, c0: Any, w: Any, r: Any, kept_gates: Any, kept_c: Any, kept_tanh: Any, kept_h: Any,
    *, needs: Any, batch_sizes: Any, reverse: bool
) -> Any:  # fmt: skip
    """Composite lstm_sequence_backward."""
    if kept_gates is None or (run := _kernel("lstm_backward", gates, *g)) is None:
        return NotImplemented
    (batch, p), n, dtype = h0.shape, c0.shape[1], gates.dtype
    dz, d, dc, outside = np.empty_like(kept_gates), _state(g[1], h0), initial(g[2], c0), _outside(g[0])
    arrived, full = (None, None) if r is None else (np.empty((len(gates), p), dtype), _scratch(batch, n, dtype))
    arrays = [
        _panels(w), *_gates(dz, 4), kept_gates, kept_c, kept_tanh, d, outside, dc,
        None if r is None else _panels(r), arrived, full,
    ]  # fmt: skip
    _over(run, batch, batch_sizes, not reverse, arrays, n, p, d.shape[1], _span(n, dtype), WIDE // dtype.itemsize)
    dr = None
    if arrived is not None and needs[4]:
        dr = arrived.T @ (kept_gates[:, 3 * n :] * kept_tanh)
    return dz, _columns(d, p), dc, dz.T @ kept_h if needs[3] else None, dr


def _outside(g: Any) -> Any:
    return None if g is None else rows(g)


def _columns(d: Any, n: int) -> Any:
    """The gradient of a state without what fills its rows up."""
    return d if d.shape[1] == n else d[:, :n].copy()


# ---- gated recurrent unit


@may_decline
def gru_sequence(gates: Any, h0: Any, w: Any, b: Any = None, *, batch_sizes: Any, reverse: bool) -> Any:
    """Op gru_sequence."""
    run = _kernel("gru_forward", gates, h0, w, b)
    if run is None:
        return NotImplemented
    gates, dtype, (batch, n), total = rows(gates), gates.dtype, h0.shape, len(gates)
    h, y, shift = np.array(h0, order="C"), _scratch(batch, 3 * n, dtype), None if b is None else rows(b)
    kept_gates, kept_n = np.empty((total, 3 * n), dtype), np.empty((total, n), dtype)
    out, kept_h = np.empty_like(kept_n), np.empty_like(kept_n)
    arrays = [_panels(w.T), y, gates, shift, *_gates(kept_gates, 3), kept_n, h, kept_h, out]
    _over(run, batch, batch_sizes, reverse, arrays, n, y.shape[1], WIDE // dtype.itemsize)
    return out, h, kept_gates, kept_n, kept_h


@may_decline
def gru_sequence_backward(
    g: Any, gates: Any, h0: Any, w: Any, b: Any, kept_gates: Any, kept_n: Any, kept_h: Any,
    *, needs: Any, batch_sizes: Any, reverse: bool
) -> Any:  # fmt: skip
    """Composite gru_sequence_backward."""
    if kept_gates is None or (run := _kernel("gru_backward", gates, *g)) is None:
        return NotImplemented
    (batch, n), d, outside = h0.shape, _state(g[1], h0), _outside(g[0])
    dx, dy = np.empty_like(kept_gates), np.empty_like(kept_gates)
    arrays = [_panels(w), *_gates(dx, 3), *_gates(dy, 3), kept_gates, kept_n, kept_h, d, outside]
    _over(run, batch, batch_sizes, not reverse, arrays, n, d.shape[1], WIDE // d.itemsize)
    db = np.add.reduce(dy, axis=0) if needs[3] else None
    return dx, _columns(d, n), dy.T @ kept_h if needs[2] else None, db


# ---- plain recurrence


@may_decline
def rnn_sequence(gates: Any, h0: Any, w: Any, *, relu: bool, batch_sizes: Any, reverse: bool) -> Any:
    """Op rnn_sequence."""
    run = _kernel("rnn_forward", gates, h0, w)
    if run is None:
        return NotImplemented
    gates, h, (batch, n), dtype = rows(gates), np.array(h0, order="C"), h0.shape, gates.dtype
    out, kept_h, y = np.empty(gates.shape, dtype), np.empty(gates.shape, dtype), _scratch(batch, n, dtype)
    arrays = [_panels(w.T), y, gates, h, kept_h, out]
    _over(run, batch, batch_sizes, reverse, arrays, n, y.shape[1], WIDE // dtype.itemsize, int(relu))
    return out, h, kept_h


@may_decline
def rnn_sequence_backward(
    g: Any, gates: Any, h0: Any, w: Any, out: Any, kept_h: Any,
    *, needs: Any, relu: bool, batch_sizes: Any, reverse: bool
) -> Any:  # fmt: skip
    """Composite rnn_sequence_backward."""
    if kept_h is None or (run := _kernel("rnn_backward", gates, *g)) is None:
        return NotImplemented
    (batch, n), d, out, outside = h0.shape, _state(g[1], h0), rows(out), _outside(g[0])
    found = np.empty(out.shape, out.dtype)
    arrays = [_panels(w), found, out, d, outside]
    _over(run, batch, batch_sizes, not reverse, arrays, n, d.shape[1], WIDE // d.itemsize, int(relu))
    return found, _columns(d, n), found.T @ kept_h if needs[2] else None


KERNELS: dict[str, Callable[..., Any]] = {
    kernel.__name__: kernel
    for kernel in (
        lstm_sequence, lstm_sequence_backward, gru_sequence, gru_sequence_backward, rnn_sequence, rnn_sequence_backward
    )
}  # fmt: skip
