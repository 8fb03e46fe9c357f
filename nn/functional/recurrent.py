"""Recurrent networks as functions: layers over the rows of packed sequences, and PyTorch's lstm, gru, rnn_tanh, ...

    weights of one layer and direction: w_ih (G H, in), w_hh (G H, P), with biases b_ih and b_hh (G H,), and for an LSTM
    with projection w_hr (P, H); G = 4, 3 or 1 gates; P = H without a projection.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ...autograd.op import GRAPH
from ...autograd.ops import rnn as op
from ...autograd.tensor import Tensor
from .dropout import dropout as drop
from .linear import linear

__all__ = [
    "gru", "gru_cell", "lstm", "lstm_cell", "rnn_relu", "rnn_relu_cell", "rnn_tanh", "rnn_tanh_cell",
]  # fmt: skip


def gates_of(x: Tensor, w: Tensor, b: Tensor | None, more: Tensor | None) -> Tensor:
    """The input's part of the gates for all rows; the biases of both sides where they only ever meet in a sum."""
    return linear(x, w, b if b is None or more is None else b + more)


def sequence(
    mode: str, x: Tensor, states: Sequence[Tensor], weights: Sequence[Any], bias: bool, sizes: tuple[int, ...],
    reverse: bool,
) -> tuple[Tensor, ...]:  # fmt: skip
    """One direction of one layer: (output rows, final states). x: (N, in); sizes: how many rows each step has."""
    w, u, *rest = weights
    b, c = rest[:2] if bias else (None, None)
    if mode == "GRU":
        return op.gru_sequence(gates_of(x, w, b, None), *states, u, c, batch_sizes=sizes, reverse=reverse)
    gates = gates_of(x, w, b, c)
    if mode == "LSTM":
        r = rest[-1] if len(rest) == (3 if bias else 1) else None
        return op.lstm_sequence(gates, *states, u, r, batch_sizes=sizes, reverse=reverse)
    return op.rnn_sequence(gates, *states, u, relu=mode == "RNN_RELU", batch_sizes=sizes, reverse=reverse)


def layers(
    mode: str, x: Tensor, states: tuple[Tensor, ...], weights: Sequence[Sequence[Any]], bias: bool,
    sizes: tuple[int, ...], num_layers: int, dropout: float, training: bool, bidirectional: bool,
) -> tuple[Tensor, tuple[Tensor, ...]]:  # fmt: skip
    """All layers over the rows of packed sequences; the final states stacked as the first ones were.

    x: (N, in), states: (layers * directions, B, H) each, weights: for each layer and direction, sizes: rows per step.
    """
    final: list[list[Tensor]] = [[] for _ in states]
    ways = 1 + bool(bidirectional)
    for layer in range(num_layers):
        outs = []
        for way in range(ways):
            k = layer * ways + way
            begin = [GRAPH.select(s, axis=0, index=k) for s in states]
            out, *ends = sequence(mode, x, begin, weights[k], bias, sizes, way == 1)
            outs.append(out)
            for place, end in zip(final, ends, strict=True):
                place.append(end)
        x = outs[0] if ways == 1 else GRAPH.cat(*outs, axis=1)
        if layer + 1 < num_layers and dropout > 0:
            x = drop(x, dropout, training)
    return x, tuple(GRAPH.stack(*ends, axis=0) for ends in final)


def _network(mode: str, name: str, states: int) -> Any:
    """torch.NAME: NAME(input, hx, params, has_biases, num_layers, dropout, train, bidirectional, batch_first), or

    NAME(data, batch_sizes, hx, params, has_biases, num_layers, dropout, train, bidirectional) for packed rows.
    """

    def run(
        input: Tensor, hx: Any, params: Any, has_biases: Any, num_layers: Any, dropout: Any, train: Any,
        bidirectional: Any, batch_first: Any = False,
    ) -> tuple[Tensor, ...]:  # fmt: skip
        packed = isinstance(has_biases, (list, tuple))  # what stands there are the params
        if packed:
            data, batch_sizes, hx, params, has_biases, num_layers, dropout, train, bidirectional = (
                input, hx, params, has_biases, num_layers, dropout, train, bidirectional, batch_first,
            )  # fmt: skip
            x, sizes = data, tuple(batch_sizes.tolist())
        else:
            x = input.transpose(0, 1) if batch_first else input
            steps, batch, width = x.array.shape
            x, sizes = GRAPH.reshape(x, shape=(steps * batch, width)), (batch,) * steps
        begin = (hx,) if states == 1 else tuple(hx)
        each = len(params) // (num_layers * (1 + bool(bidirectional)))
        weights = [params[i : i + each] for i in range(0, len(params), each)]
        out, final = layers(mode, x, begin, weights, has_biases, sizes, num_layers, dropout, train, bidirectional)
        if not packed:
            out = GRAPH.reshape(out, shape=(steps, batch, out.array.shape[1]))
            out = out.transpose(0, 1) if batch_first else out
        return (out, *final)

    run.__name__ = run.__qualname__ = name
    run.__doc__ = (
        f"A {mode} network over sequences, with PyTorch's arguments; or {name}(data, batch_sizes, hx, params, "
        "has_biases, num_layers, dropout, train, bidirectional) over packed rows.\n\n"
        "input: (T, B, in), or (B, T, in) with batch_first; hx: (layers * directions, B, H)"
        f"{', a pair of them' if states == 2 else ''}; params: the weights of each layer and direction in a row -> "
        "(output (T, B, directions * H), final states)."
    )
    return run


lstm = _network("LSTM", "lstm", 2)
gru = _network("GRU", "gru", 1)
rnn_tanh = _network("RNN_TANH", "rnn_tanh", 1)
rnn_relu = _network("RNN_RELU", "rnn_relu", 1)


def lstm_cell(
    input: Tensor, hx: Any, w_ih: Tensor, w_hh: Tensor, b_ih: Tensor | None = None, b_hh: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """One step of an LSTM. input: (B, in), hx: (h, c), each (B, H) -> (h, c)."""
    gates = gates_of(input, w_ih, b_ih, b_hh)
    h, _, c = op.lstm_sequence(gates, *hx, w_hh, batch_sizes=(input.array.shape[0],), reverse=False)
    return h, c


def gru_cell(
    input: Tensor, hx: Tensor, w_ih: Tensor, w_hh: Tensor, b_ih: Tensor | None = None, b_hh: Tensor | None = None
) -> Tensor:
    """One step of a GRU. input: (B, in), hx: (B, H) -> (B, H)."""
    gates = gates_of(input, w_ih, b_ih, None)
    return op.gru_sequence(gates, hx, w_hh, b_hh, batch_sizes=(input.array.shape[0],), reverse=False)[0]


def rnn_tanh_cell(
    input: Tensor, hx: Tensor, w_ih: Tensor, w_hh: Tensor, b_ih: Tensor | None = None, b_hh: Tensor | None = None
) -> Tensor:
    """tanh(w_ih input + b_ih + w_hh hx + b_hh). input: (B, in), hx: (B, H) -> (B, H)."""
    return (linear(input, w_ih, b_ih) + linear(hx, w_hh, b_hh)).tanh()


def rnn_relu_cell(
    input: Tensor, hx: Tensor, w_ih: Tensor, w_hh: Tensor, b_ih: Tensor | None = None, b_hh: Tensor | None = None
) -> Tensor:
    """relu(w_ih input + b_ih + w_hh hx + b_hh). input: (B, in), hx: (B, H) -> (B, H)."""
    return (linear(input, w_ih, b_ih) + linear(hx, w_hh, b_hh)).relu()
