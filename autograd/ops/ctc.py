"""Connectionist temporal classification: the probability of a label sequence, summed over its alignments.

Graves, Fernandez, Gomez and Schmidhuber, Connectionist temporal classification, 2006. A sequence of S labels is read
as 2 S + 1 states, blanks between and around the labels; alpha and beta are logarithms of the sums over the paths that
end, and begin, in a state. All sequences of a batch are worked through at once, step by step.
"""

from __future__ import annotations

import math

from ..op import op


def _states(xp, targets, target_lengths, blank):
    """(labels of the states (N, 2 S + 1), whether a state may be entered from two states before)."""
    lengths = target_lengths.astype("i8")
    if targets.ndim == 1:
        longest = int(lengths.max()) if lengths.size else 0
        starts = xp.cumsum(lengths) - lengths
        places = starts[:, None] + xp.arange(longest)
        targets = targets[xp.minimum(places, max(targets.size - 1, 0))] if targets.size else places
    n, s = targets.shape
    labels = xp.full((n, 2 * s + 1), blank, "i8")
    inside = xp.arange(s) < lengths[:, None]
    labels[:, 1::2] = xp.where(inside, targets, blank)
    skip = xp.zeros(labels.shape, bool)
    skip[:, 2:] = (labels[:, 2:] != blank) & (labels[:, 2:] != labels[:, :-2])
    return labels, skip


def _moved(xp, a, by):
    """a: (N, L) shifted by `by` states, -inf where nothing comes from."""
    out = xp.full_like(a, -math.inf)
    if by > 0:
        out[:, by:] = a[:, : a.shape[1] - by]
    else:
        out[:, :by] = a[:, -by:]
    return out


@op(index=("targets", "input_lengths", "target_lengths"), aux=("alpha",))
def ctc_loss(xp, log_probs, targets, input_lengths, target_lengths, *, blank, zero_infinity):
    """-log of the probability of each target. log_probs: (T, N, C), targets: (N, S) or (sum of lengths,) -> (N,).

    input_lengths, target_lengths: (N,). inf where the target is too long for its input.
    """
    labels, skip = _states(xp, targets, target_lengths, blank)
    rows = xp.arange(len(labels))
    seen = log_probs[:, rows[:, None], labels]
    alpha = xp.full(seen.shape, -math.inf, log_probs.dtype)
    alpha[:1, :, :1] = seen[:1, :, :1]
    if labels.shape[1] > 1:
        alpha[:1, :, 1] = xp.where(target_lengths > 0, seen[:1, :, 1], -math.inf)
    for t in range(1, len(alpha)):
        before = alpha[t - 1]
        two = xp.where(skip, _moved(xp, before, 2), -math.inf)
        alpha[t] = xp.logaddexp(xp.logaddexp(before, _moved(xp, before, 1)), two) + seen[t]
    last = xp.maximum(input_lengths - 1, 0)
    final = alpha[last, rows]
    end = final[rows, 2 * target_lengths]
    other = xp.where(target_lengths > 0, final[rows, xp.maximum(2 * target_lengths - 1, 0)], -math.inf)
    loss = -xp.logaddexp(end, other)
    loss = xp.where(input_lengths > 0, loss, xp.where(target_lengths > 0, math.inf, 0.0))
    if zero_infinity:
        loss = xp.where(loss == math.inf, 0.0, loss)
    return loss.astype(log_probs.dtype, copy=False), alpha


@op(index=("targets", "input_lengths", "target_lengths"))
def ctc_loss_backward(xp, g, log_probs, targets, input_lengths, target_lengths, out, alpha, *, blank, zero_infinity):
    """g (exp(log_probs) - posterior), 0 behind an input's end. g, out: (N,), log_probs: (T, N, C) -> (T, N, C).

    exp(log_probs) is there as in PyTorch: the result is right where log_probs comes from log_softmax.
    """
    labels, skip = _states(xp, targets, target_lengths, blank)
    rows, states = xp.arange(len(labels)), xp.arange(labels.shape[1])
    seen = log_probs[:, rows[:, None], labels]
    steps = len(seen)
    final = (states == 2 * target_lengths[:, None]) | (states == 2 * target_lengths[:, None] - 1)
    leave = xp.zeros_like(skip)
    leave[:, :-2] = skip[:, 2:]
    beta = xp.full(seen.shape, -math.inf, log_probs.dtype)
    after = beta[0].copy()
    for t in range(steps - 1, -1, -1):
        two = xp.where(leave, _moved(xp, after, -2), -math.inf)
        after = xp.logaddexp(xp.logaddexp(after, _moved(xp, after, -1)), two) + seen[t]
        ends = (input_lengths - 1 == t)[:, None]
        after = xp.where(ends, xp.where(final, seen[t], -math.inf), after)
        beta[t] = after
    reached = alpha + beta
    weight = xp.where(reached == -math.inf, 0.0, xp.exp(reached - seen + out[:, None]))
    weight = xp.where((out == math.inf)[:, None], math.nan, weight)
    posterior = xp.zeros(log_probs.shape, log_probs.dtype)
    for s in range(labels.shape[1]):
        posterior[:, rows, labels[:, s]] += weight[:, :, s]
    grad = (xp.exp(log_probs) - posterior) * g[:, None]
    alive = xp.arange(steps)[:, None] < input_lengths
    if zero_infinity:  # an infinite loss was made 0: no path reaches its end
        whole = alpha[xp.maximum(input_lengths - 1, 0), rows]
        alive = alive & xp.any((whole > -math.inf) & final, axis=1)
    return xp.where(alive[:, :, None], grad, 0.0).astype(log_probs.dtype, copy=False)


ctc_loss.vjp(
    log_probs=lambda F, g, *, log_probs, targets, input_lengths, target_lengths, out, alpha, blank, zero_infinity: (
        F.ctc_loss_backward(
            g, log_probs, targets, input_lengths, target_lengths, out, alpha, blank=blank, zero_infinity=zero_infinity
        )
    )
)


def _once_only(F, g):
    raise RuntimeError("derivative for aten::_ctc_loss_backward is not implemented")


ctc_loss_backward.vjp(g=_once_only, log_probs=_once_only)
