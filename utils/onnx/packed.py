"""Packed sequences in a trace: ONNX's recurrent nodes take padded sequences and their lengths.

While a model is traced, `pack_padded_sequence` keeps the padded batch and the lengths as they are; a recurrent layer
runs over all of it, and its op is told the lengths; `pad_packed_sequence` gives the padded output back, which ONNX
fills with zeros behind the ends. So lengths are an input like any other, and need not be sorted.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np

from ...autograd.api.creation import as_tensor
from ...autograd.dtypes import int64
from ...autograd.op import GRAPH
from ...autograd.tensor import Tensor, wrap
from ...nn.modules.rnn import RNNBase
from ...nn.utils import rnn
from .errors import OnnxExporterError
from .trace import Trace


class TracedPack(rnn.PackedSequence):
    """A padded batch (T, B, *) with lengths (B,) in place of a packed one."""

    padded: Tensor
    lengths: Tensor

    @classmethod
    def of(cls, padded: Tensor, lengths: Tensor) -> TracedPack:
        """Around a padded batch."""
        made = tuple.__new__(cls, (None, None, None, None))
        made.padded, made.lengths = padded, lengths
        return made

    def __getitem__(self, place: Any) -> Any:
        raise OnnxExporterError(
            "the data of a PackedSequence cannot be exported: their number depends on values. Use pad_packed_sequence, "
            "and mask what lies behind the ends"
        )

    def __iter__(self) -> Any:
        return self[0]

    data = batch_sizes = sorted_indices = unsorted_indices = property(lambda self: self[0])


def swaps(trace: Trace) -> list[tuple[Any, str, Callable[[Any], Any]]]:
    """(holder, name, original -> replacement) for the functions of packed sequences, wherever they were imported."""
    found: list[tuple[Any, str, Callable[[Any], Any]]] = [
        (RNNBase, "_run_packed", lambda original: _running(trace, original))
    ]
    for name, made in (("pack_padded_sequence", _packing), ("pad_packed_sequence", _padding)):
        for module in holders(name, getattr(rnn, name)):
            found.append((module, name, functools.partial(made, trace)))
    return found


def holders(name: str, value: Any) -> list[Any]:
    """The modules that have `value` under that name; none is asked, since some load others when they are."""
    return [m for m in list(sys.modules.values()) if m.__class__ is ModuleType and m.__dict__.get(name) is value]


def _packing(trace: Trace, original: Any) -> Any:
    def pack_padded_sequence(
        input: Tensor, lengths: Any, batch_first: bool = False, enforce_sorted: bool = True
    ) -> rnn.PackedSequence:
        if trace.is_elsewhere():
            return original(input, lengths, batch_first, enforce_sorted)
        return TracedPack.of(input.transpose(0, 1) if batch_first else input, as_tensor(lengths).to(dtype=int64))

    return pack_padded_sequence


def _padding(trace: Trace, original: Any) -> Any:
    def pad_packed_sequence(
        sequence: Any, batch_first: bool = False, padding_value: float = 0.0, total_length: int | None = None
    ) -> tuple[Tensor, Tensor]:
        if not isinstance(sequence, TracedPack):
            return original(sequence, batch_first, padding_value, total_length)
        padded, lengths = sequence.padded, sequence.lengths
        steps = padded.array.shape[0]
        if total_length is not None and total_length != steps:
            raise OnnxExporterError(
                f"pad_packed_sequence(total_length={total_length}) of sequences that were padded to {steps}: an "
                "exported model keeps the length of its input; leave total_length out"
            )
        if padding_value:
            places = GRAPH.cumsum(wrap(np.ones(steps, "i8")), axis=0)
            behind = places.unsqueeze(1) > lengths
            padded = padded.masked_fill(behind.reshape(*behind.shape, *(1,) * (padded.array.ndim - 2)), padding_value)
        return (padded.transpose(0, 1) if batch_first else padded), lengths

    return pad_packed_sequence


def _running(trace: Trace, original: Any) -> Any:
    def run_packed(self: Any, input: Any, states: Any, widths: tuple[int, ...]) -> Any:
        if not isinstance(input, TracedPack):
            return original(self, input, states, widths)
        x = input.padded
        steps, batch, width = x.array.shape
        states = self._states(x, states, batch, widths)
        trace.lengths = input.lengths
        try:
            out, final = self._layers(GRAPH.reshape(x, shape=(steps * batch, width)), states, (batch,) * steps)
        finally:
            trace.lengths = None
        return TracedPack.of(GRAPH.reshape(out, shape=(steps, batch, out.array.shape[1])), input.lengths), final

    return run_packed
