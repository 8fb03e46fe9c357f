"""LSTM, GRU and RNN layers: one node for each direction of each layer.

The ops hold the input's part of the gates ready, x W^T + b for all steps, while ONNX's nodes take x and W. Where the
gates come from such a product (they do, in nn's layers), the node is given its x, W and b; else the unit matrix.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .graph import Graph, Item, Step
from .merge import PerTrace
from .sizes import Dim, Size, joined
from .table import emits

# ONNX's gates by their place in PyTorch's: i o f c of i f c o, z r h of r z h
ORDER = {"LSTM": (0, 3, 1, 2), "GRU": (1, 0, 2), "RNN": (0,)}


def _steps(step: Step) -> tuple[Size, Size]:
    """(number of steps, batch), where all sequences are as long as the longest."""
    sizes = step.kw["batch_sizes"]
    rows: list[Any] = []
    if isinstance(sizes, PerTrace):
        rows = list(sizes)
    else:
        count = len(next((s for s in sizes if isinstance(s, Dim)), (0,)))
        rows = [tuple(s[i] if isinstance(s, Dim) else s for s in sizes) for i in range(count)]
    if any(len(set(own)) > 1 for own in rows):
        raise step.refuse(
            "the sequences differ in length (a PackedSequence): lengths are values, not shapes",
            "Run it on padded sequences and mask what lies behind their ends",
        )
    return joined([len(own) for own in rows]), joined([own[0] if own else 0 for own in rows])


def _by_gate(g: Graph, w: Any, kind: str, hidden: int) -> str:
    """The blocks of `hidden` rows of a weight or bias in ONNX's order."""
    if kind == "RNN":
        return w if isinstance(w, str) else w.name
    parts = [g.slice(w, 0, k * hidden, (k + 1) * hidden) for k in ORDER[kind]]
    return g.node("Concat", *parts, axis=0)


def _source(gates: Item) -> tuple[Item, Item, Item | None] | None:
    """(x, W, b) of the product that gave the gates."""
    made = gates.made_by
    if made is None or made.op != "linear" or made.inputs[1] is None or made.inputs[1].ndim != 2:
        return None
    x, w, b = (*made.inputs, None)[:3]
    return x, w, b


def _run(g: Graph, step: Step, kind: str, w: Item, states: list[Item], bias: Any, **attributes: Any) -> Any:
    gates = step.inputs[0]
    lengths = g.cast(step.inputs[-1], np.int32) if step.kw.get("with_lengths") else None
    hidden = step.static(states[-1].shape[-1], "the size of the state")
    count, batch = _steps(step)
    found = _source(gates)
    blocks = len(ORDER[kind]) * hidden
    if found is None:
        x: Any = gates
        own: Any = g.constant(np.eye(blocks, dtype=gates.dtype))
        b: Any = None
    else:
        x, own, b = found
    width = x.shape[-1]
    rows = g.reshape(x, (count, batch, width))
    zero = g.constant(np.zeros(blocks, gates.dtype))
    both = [_by_gate(g, v, kind, hidden) if v is not None else zero for v in (b, bias)]
    made = g.node(
        kind, rows, g.unsqueeze(_by_gate(g, own, kind, hidden), 0), g.unsqueeze(_by_gate(g, w, kind, hidden), 0),
        g.unsqueeze(g.node("Concat", *both, axis=0), 0), lengths, *[g.unsqueeze(s, 0) for s in states],
        hidden_size=hidden, direction="reverse" if step.kw["reverse"] else "forward", outputs=1 + len(states),
        **attributes,
    )  # fmt: skip
    out = g.reshape(made[0], step.out.shape, (count, 1, batch, hidden))
    return out, *[g.squeeze(s, 0) for s in made[1:]]


def _inputs(step: Step) -> tuple[Any, ...]:
    """The op's own inputs, without the lengths."""
    return step.inputs[:-1] if step.kw.get("with_lengths") else step.inputs


@emits("lstm_sequence")
def lstm(g: Graph, step: Step) -> Any:
    """An LSTM over a sequence."""
    _, h, c, w, r = (*_inputs(step), None)[:5]
    if r is not None:
        raise step.refuse("ONNX has no LSTM with projection", "Use an LSTM without proj_size, and a Linear behind it")
    return _run(g, step, "LSTM", w, [h, c], None)


@emits("gru_sequence")
def gru(g: Graph, step: Step) -> Any:
    """A GRU over a sequence, its hidden bias inside the reset gate's product."""
    _, h, w, b = (*_inputs(step), None)[:4]
    return _run(g, step, "GRU", w, [h], b, linear_before_reset=1)


@emits("rnn_sequence")
def rnn(g: Graph, step: Step) -> Any:
    """A simple recurrent network over a sequence."""
    _, h, w = _inputs(step)
    return _run(g, step, "RNN", w, [h], None, activations=["Relu" if step.kw["relu"] else "Tanh"])
