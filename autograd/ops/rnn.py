"""Recurrent layers: one direction of one layer over a whole batch of sequences is one op.

All sequences are in the packed form: step t is the next `batch_sizes[t]` rows of a matrix, N rows in all; the sizes do
not rise, so that the rows of a step are the first ones of the state (B, H). `reverse` begins with the last step. The
input's part of the gates, `gates` = x W_ih^T + b, comes from one matrix product for all steps.

Each op's rule is one call of its `*_backward` composite. The composites' bodies go through the steps again from the
inputs; the auxiliaries (names that begin with `kept`) serve fused kernels.
"""

from __future__ import annotations

from ..op import composite, op
from .matrix import product


def steps_of(batch_sizes, reverse):
    """The rows of each step as (start, stop), in the order of work."""
    found, start = [], 0
    for n in batch_sizes:
        found.append((start, start + n))
        start += n
    return found[::-1] if reverse else found


def sigmoid(xp, x):
    """1 / (1 + exp(-x)), by tanh, which does not overflow."""
    return xp.tanh(x * 0.5) * 0.5 + 0.5


def _over(xp, state, new):
    """`state` with its first rows replaced."""
    return new if len(new) == len(state) else xp.concatenate((new, state[len(new) :]))


def _in_order(xp, parts, reverse, empty):
    return xp.concatenate(parts[::-1] if reverse else parts) if parts else empty


def _own(xp, like, *arrays):
    """Copies in the dtype of `like`: bfloat16 widens beside Python's numbers."""
    return [xp.array(a, dtype=like.dtype) for a in arrays]


# What the composites' bodies do in recorded mode: parts of the state, and rows.


def _rows(F, x, start, stop):
    return x if (start, stop) == (0, x.shape[0]) else F.slice_view(x, index=(slice(start, stop),))


def _columns(F, x, start, stop):
    return F.slice_view(x, index=(slice(None), slice(start, stop)))


def _put(F, state, new):
    """`state` with its first rows replaced."""
    n, total = new.shape[0], state.shape[0]
    return new if n == total else F.cat(new, _rows(F, state, n, total), axis=0)


def _join(F, parts, reverse, like):
    """The rows of all steps, given in the order of work reversed."""
    return F.cat(*(parts if reverse else parts[::-1]), axis=0) if parts else F.zeros_like(like)


def _plus(total, part):
    return part if total is None else total + part


def _arriving(F, d, g, start, stop):
    """The gradient of a step's output: what comes back from the next step, and from outside."""
    d = _rows(F, d, 0, stop - start)
    return d if g is None else d + _rows(F, g, start, stop)


def _or_zeros(F, g, like):
    return F.zeros_like(like) if g is None else g


# ---- long short-term memory ------------------------------------------------------------------------------------------

LSTM_AUX = ("kept_gates", "kept_c", "kept_tanh", "kept_h")


@op(promote="equal", outputs=("out", "h", "c"), aux=LSTM_AUX, grad_name="LstmSequence")
def lstm_sequence(xp, gates, h0, c0, w, r=None, *, batch_sizes, reverse):
    """i, f, g, o = gates + h w^T; c = sigmoid(f) c + sigmoid(i) tanh(g); h = sigmoid(o) tanh(c), times r^T where given.

    gates: (N, 4 H), h0: (B, P), c0: (B, H), w: (4 H, P), r: (P, H), else P = H -> ((N, P), (B, P), (B, H)).
    Hochreiter and Schmidhuber, Long short-term memory, 1997; r: Sak, Senior and Beaufays, 2014.
    """
    h, c, n, parts = h0, c0, c0.shape[1], []
    for start, stop in steps_of(batch_sizes, reverse):
        b = stop - start
        z = gates[start:stop] + product(xp, h[:b], w.T)
        c_new = sigmoid(xp, z[:, n : 2 * n]) * c[:b] + sigmoid(xp, z[:, :n]) * xp.tanh(z[:, 2 * n : 3 * n])
        h_new = sigmoid(xp, z[:, 3 * n :]) * xp.tanh(c_new)
        if r is not None:
            h_new = product(xp, h_new, r.T)
        parts.append(h_new)
        h, c = _over(xp, h, h_new), _over(xp, c, c_new)
    out = _in_order(xp, parts, reverse, gates[:, : h0.shape[1]])
    return *_own(xp, gates, out, h, c), None, None, None, None


def _lstm_steps(F, gates, h, c, w, r, steps):
    """What each step began with and computed: (h, c, i, f, g, o, tanh(c), o tanh(c))."""
    n, trace = c.shape[1], []
    for start, stop in steps:
        b = stop - start
        before, cell = _rows(F, h, 0, b), _rows(F, c, 0, b)
        z = _rows(F, gates, start, stop) + F.mm(before, F.mT(w))
        i, f = F.sigmoid(_columns(F, z, 0, n)), F.sigmoid(_columns(F, z, n, 2 * n))
        g, o = F.tanh(_columns(F, z, 2 * n, 3 * n)), F.sigmoid(_columns(F, z, 3 * n, 4 * n))
        new = f * cell + i * g
        shown = F.tanh(new)
        full = o * shown
        trace.append((before, cell, i, f, g, o, shown, full))
        h = _put(F, h, full if r is None else F.mm(full, F.mT(r)))
        c = _put(F, c, new)
    return trace


@composite
def lstm_sequence_backward(
    F, g, gates, h0, c0, w, r, kept_gates, kept_c, kept_tanh, kept_h, *, needs, batch_sizes, reverse
):
    """Gradients of lstm_sequence's inputs. g: those of its outputs, None where absent.

    g: ((N, P), (B, P), (B, H)) -> ((N, 4 H), (B, P), (B, H), (4 H, P), (P, H)).
    """
    steps = steps_of(batch_sizes, reverse)
    trace = _lstm_steps(F, gates, h0, c0, w, r, steps)
    dh, dc = _or_zeros(F, g[1], h0), _or_zeros(F, g[2], c0)
    dw = dr = None
    parts = []
    for (start, stop), (before, cell, i, f, n, o, shown, full) in zip(steps[::-1], trace[::-1], strict=True):
        d = _arriving(F, dh, g[0], start, stop)
        if r is not None:
            dr = _plus(dr, F.mm(F.mT(d), full))
            d = F.mm(d, r)
        e = _rows(F, dc, 0, stop - start) + d * o * (1 - shown * shown)
        z = F.cat(
            e * n * i * (1 - i), e * cell * f * (1 - f), e * i * (1 - n * n), d * shown * o * (1 - o), axis=1
        )
        parts.append(z)
        if needs[3]:
            dw = _plus(dw, F.mm(F.mT(z), before))
        dh, dc = _put(F, dh, F.mm(z, w)), _put(F, dc, e * f)
    return _join(F, parts, reverse, gates), dh, dc, dw, dr


lstm_sequence.vjp_joint(
    "gates", "h0", "c0", "w", "r",
    lambda F, g, needs, *, gates, h0, c0, w, r, kept_gates, kept_c, kept_tanh, kept_h, batch_sizes, reverse: (
        F.lstm_sequence_backward(
            g, gates, h0, c0, w, r, kept_gates, kept_c, kept_tanh, kept_h,
            needs=needs, batch_sizes=batch_sizes, reverse=reverse,
        )
    ),
)  # fmt: skip

# ---- gated recurrent unit --------------------------------------------------------------------------------------------


@op(promote="equal", outputs=("out", "h"), aux=("kept_gates", "kept_n", "kept_h"), grad_name="GruSequence")
def gru_sequence(xp, gates, h0, w, b=None, *, batch_sizes, reverse):
    """r, z from gates + h w^T + b by sigmoid; n = tanh(gates_n + r (h w_n^T + b_n)); h = n + z (h - n).

    gates: (N, 3 H), h0: (B, H), w: (3 H, H), b: (3 H,) -> ((N, H), (B, H)). Cho et al., 2014, in the form of cuDNN.
    """
    h, n, parts = h0, h0.shape[1], []
    for start, stop in steps_of(batch_sizes, reverse):
        x, before = gates[start:stop], h[: stop - start]
        y = product(xp, before, w.T)
        if b is not None:
            y = y + b
        r, z = sigmoid(xp, x[:, :n] + y[:, :n]), sigmoid(xp, x[:, n : 2 * n] + y[:, n : 2 * n])
        new = xp.tanh(x[:, 2 * n :] + r * y[:, 2 * n :])
        parts.append(new + z * (before - new))
        h = _over(xp, h, parts[-1])
    return *_own(xp, gates, _in_order(xp, parts, reverse, gates[:, :n]), h), None, None, None


def _gru_steps(F, gates, h, w, b, steps):
    """What each step began with and computed: (h, r, z, n, h w_n^T + b_n)."""
    n, trace = h.shape[1], []
    for start, stop in steps:
        before, x = _rows(F, h, 0, stop - start), _rows(F, gates, start, stop)
        y = F.mm(before, F.mT(w))
        y = y if b is None else y + b
        r = F.sigmoid(_columns(F, x, 0, n) + _columns(F, y, 0, n))
        z = F.sigmoid(_columns(F, x, n, 2 * n) + _columns(F, y, n, 2 * n))
        inner = _columns(F, y, 2 * n, 3 * n)
        new = F.tanh(_columns(F, x, 2 * n, 3 * n) + r * inner)
        trace.append((before, r, z, new, inner))
        h = _put(F, h, new + z * (before - new))
    return trace


@composite
def gru_sequence_backward(F, g, gates, h0, w, b, kept_gates, kept_n, kept_h, *, needs, batch_sizes, reverse):
    """Gradients of gru_sequence's inputs. g: those of its outputs, None where absent.

    g: ((N, H), (B, H)) -> ((N, 3 H), (B, H), (3 H, H), (3 H,)).
    """
    steps = steps_of(batch_sizes, reverse)
    trace = _gru_steps(F, gates, h0, w, b, steps)
    dh, dw, db, parts = _or_zeros(F, g[1], h0), None, None, []
    for (start, stop), (before, r, z, n, inner) in zip(steps[::-1], trace[::-1], strict=True):
        d = _arriving(F, dh, g[0], start, stop)
        e = d * (1 - z) * (1 - n * n)
        by_r, by_z = e * inner * r * (1 - r), d * (before - n) * z * (1 - z)
        parts.append(F.cat(by_r, by_z, e, axis=1))
        hidden = F.cat(by_r, by_z, e * r, axis=1)
        if needs[2]:
            dw = _plus(dw, F.mm(F.mT(hidden), before))
        if needs[3]:
            db = _plus(db, F.sum(hidden, axis=(0,), keepdims=False))
        dh = _put(F, dh, d * z + F.mm(hidden, w))
    return _join(F, parts, reverse, gates), dh, dw, db


gru_sequence.vjp_joint(
    "gates", "h0", "w", "b",
    lambda F, g, needs, *, gates, h0, w, b, kept_gates, kept_n, kept_h, batch_sizes, reverse: F.gru_sequence_backward(
        g, gates, h0, w, b, kept_gates, kept_n, kept_h, needs=needs, batch_sizes=batch_sizes, reverse=reverse
    ),
)  # fmt: skip

# ---- plain recurrence ------------------------------------------------------------------------------------------------


@op(promote="equal", outputs=("out", "h"), aux=("kept_h",), grad_name="RnnSequence")
def rnn_sequence(xp, gates, h0, w, *, relu, batch_sizes, reverse):
    """h = tanh(gates + h w^T), or max(0, .) with relu. gates: (N, H), h0: (B, H), w: (H, H) -> ((N, H), (B, H)).

    Elman, Finding structure in time, 1990.
    """
    h, parts = h0, []
    for start, stop in steps_of(batch_sizes, reverse):
        z = gates[start:stop] + product(xp, h[: stop - start], w.T)
        parts.append(xp.maximum(z, 0) if relu else xp.tanh(z))
        h = _over(xp, h, parts[-1])
    return *_own(xp, gates, _in_order(xp, parts, reverse, gates), h), None


@composite
def rnn_sequence_backward(F, g, gates, h0, w, out, kept_h, *, needs, relu, batch_sizes, reverse):
    """Gradients of rnn_sequence's inputs. g: those of its outputs, None where absent.

    g: ((N, H), (B, H)) -> ((N, H), (B, H), (H, H)).
    """
    steps, h, trace = steps_of(batch_sizes, reverse), h0, []
    for start, stop in steps:
        before = _rows(F, h, 0, stop - start)
        z = _rows(F, gates, start, stop) + F.mm(before, F.mT(w))
        new = F.relu(z) if relu else F.tanh(z)
        trace.append((before, new))
        h = _put(F, h, new)
    dh, dw, parts = _or_zeros(F, g[1], h0), None, []
    for (start, stop), (before, new) in zip(steps[::-1], trace[::-1], strict=True):
        d = _arriving(F, dh, g[0], start, stop)
        z = F.zero_where(d, F.le(new, 0)) if relu else d * (1 - new * new)
        parts.append(z)
        if needs[2]:
            dw = _plus(dw, F.mm(F.mT(z), before))
        dh = _put(F, dh, F.mm(z, w))
    return _join(F, parts, reverse, gates), dh, dw


rnn_sequence.vjp_joint(
    "gates", "h0", "w",
    lambda F, g, needs, *, gates, h0, w, out, kept_h, relu, batch_sizes, reverse: F.rnn_sequence_backward(
        g, gates, h0, w, out[0], kept_h, needs=needs, relu=relu, batch_sizes=batch_sizes, reverse=reverse
    ),
)  # fmt: skip
