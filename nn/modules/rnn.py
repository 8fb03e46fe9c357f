"""Recurrent layers and cells. Each direction of each layer is one op over the whole batch (autograd/ops/rnn.py)."""

from __future__ import annotations

import math
import warnings
from numbers import Number
from typing import Any

from ...autograd.api.creation import empty, zeros
from ...autograd.op import GRAPH
from ...autograd.tensor import Tensor
from .. import init
from ..functional.recurrent import gru_cell, layers, lstm_cell, rnn_relu_cell, rnn_tanh_cell
from ..parameter import Parameter
from ..utils.rnn import PackedSequence
from .module import Module

__all__ = ["GRU", "GRUCell", "LSTM", "LSTMCell", "RNN", "RNNBase", "RNNCell", "RNNCellBase"]

GATES = {"LSTM": 4, "GRU": 3, "RNN_TANH": 1, "RNN_RELU": 1}


def _uniform(module: Any) -> None:
    """Draws every parameter, in order, from +-1 / sqrt(hidden_size)."""
    bound = 1.0 / math.sqrt(module.hidden_size) if module.hidden_size > 0 else 0
    for weight in module.parameters():
        init.uniform_(weight, -bound, bound)


class RNNBase(Module):
    """What RNN, LSTM and GRU share.

    Parameters per layer l and direction: weight_ih_l (gates * H, in), weight_hh_l (gates * H, P), bias_ih_l and
    bias_hh_l (gates * H,) and, with proj_size, weight_hr_l (P, H); P = H without; "_reverse" behind the names of the
    direction that begins with the last step. The dropout of p = `dropout` is behind every layer but the last.
    """

    weight_ih_l0: Tensor

    def __init__(
        self,
        mode: str,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        proj_size: int = 0,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        if not isinstance(dropout, Number) or not 0 <= dropout <= 1 or isinstance(dropout, bool):
            raise ValueError(
                "dropout should be a number in range [0, 1] representing the probability of an element being zeroed"
            )
        if dropout > 0 and num_layers == 1:
            warnings.warn(
                "dropout option adds dropout after all but last recurrent layer, so non-zero dropout expects "
                f"num_layers greater than 1, but got dropout={dropout} and num_layers={num_layers}",
                stacklevel=3,
            )
        self.mode = mode
        self.input_size, self.hidden_size, self.num_layers = input_size, hidden_size, num_layers
        self.bias, self.batch_first = bias, batch_first
        self.dropout, self.bidirectional, self.proj_size = float(dropout), bidirectional, proj_size
        self._check_options()
        self._all_weights: list[list[str]] = []
        for layer in range(num_layers):
            for suffix in ("", "_reverse")[: 1 + bool(bidirectional)]:
                self._add_weights(layer, suffix, device, dtype)
        self.reset_parameters()

    def _check_options(self) -> None:
        for name, kind in (("bias", bool), ("batch_first", bool), ("input_size", int), ("hidden_size", int)):
            value = getattr(self, name)
            if not isinstance(value, kind):
                raise TypeError(f"{name} should be of type {kind.__name__}, got: {type(value).__name__}")
            if kind is int and value <= 0:
                raise ValueError(f"{name} must be greater than zero")
        if self.num_layers <= 0:
            raise ValueError("num_layers must be greater than zero")
        if self.proj_size < 0:
            raise ValueError("proj_size should be a positive integer or zero to disable projections")
        if self.proj_size >= self.hidden_size:
            raise ValueError("proj_size has to be smaller than hidden_size")
        if self.mode not in GATES:
            raise ValueError("Unrecognized RNN mode: " + self.mode)

    def _add_weights(self, layer: int, suffix: str, device: Any, dtype: Any) -> None:
        rows, shown = GATES[self.mode] * self.hidden_size, self.proj_size or self.hidden_size
        width = self.input_size if layer == 0 else shown * (1 + bool(self.bidirectional))
        shapes: dict[str, tuple[int, ...]] = {"weight_ih": (rows, width), "weight_hh": (rows, shown)}
        if self.bias:
            shapes |= {"bias_ih": (rows,), "bias_hh": (rows,)}
        if self.proj_size:
            shapes["weight_hr"] = (self.proj_size, self.hidden_size)
        names = []
        for word, shape in shapes.items():
            names.append(f"{word}_l{layer}{suffix}")
            setattr(self, names[-1], Parameter(empty(shape, device=device, dtype=dtype)))
        self._all_weights.append(names)

    def reset_parameters(self) -> None:
        """Draws every parameter, in order, from +-1 / sqrt(hidden_size)."""
        _uniform(self)

    def flatten_parameters(self) -> None:
        """For PyTorch's programs; nothing is to be done, the weights are used as they lie."""

    @property
    def all_weights(self) -> list[list[Parameter]]:
        """The parameters of each layer and direction."""
        return [[getattr(self, name) for name in names] for names in self._all_weights]

    @property
    def _flat_weights(self) -> list[Parameter]:
        return [getattr(self, name) for name in self._flat_weights_names]

    @property
    def _flat_weights_names(self) -> list[str]:
        return [name for names in self._all_weights for name in names]

    # ---- arguments

    def check_input(self, input: Tensor, batch_sizes: Any) -> None:
        """ValueError or RuntimeError for an input of another dtype, rank or width."""
        weight = self.weight_ih_l0
        if input.array.dtype != weight.array.dtype:
            raise ValueError(
                f"RNN input dtype ({input.dtype}) does not match weight dtype ({weight.dtype}). Convert input: "
                f"input.to({weight.dtype}), or convert model: model.to({input.dtype})"
            )
        dims = 2 if batch_sizes is not None else 3
        if input.dim() != dims:
            raise RuntimeError(f"input must have {dims} dimensions, got {input.dim()}")
        if self.input_size != input.size(-1):
            raise RuntimeError(
                f"input.size(-1) must be equal to input_size. Expected {self.input_size}, got {input.size(-1)}"
            )

    def check_hidden_size(
        self, hx: Tensor, expected_hidden_size: tuple[int, ...], msg: str = "Expected hidden size {}, got {}"
    ) -> None:
        """RuntimeError for a state of another shape."""
        if tuple(hx.shape) != expected_hidden_size:
            raise RuntimeError(msg.format(expected_hidden_size, list(hx.size())))

    def get_expected_hidden_size(self, input: Tensor, batch_sizes: Any) -> tuple[int, int, int]:
        """The shape of hx for an input, batched or of packed data: (layers * directions, B, proj_size or H)."""
        if batch_sizes is not None:
            batch = int(batch_sizes[0])
        else:
            batch = input.size(0) if self.batch_first else input.size(1)
        return (self.num_layers * (1 + bool(self.bidirectional)), batch, self.proj_size or self.hidden_size)

    def check_forward_args(self, input: Tensor, hidden: Any, batch_sizes: Any) -> None:
        """ValueError or RuntimeError where input or state do not fit the layer."""
        self.check_input(input, batch_sizes)
        self.check_hidden_size(hidden, self.get_expected_hidden_size(input, batch_sizes))

    def permute_hidden(self, hx: Any, permutation: Tensor | None) -> Any:
        """The state with its batch in another order; None leaves it as it is."""
        return hx if permutation is None else hx.index_select(1, permutation)

    def _check_rank(self, states: tuple[Tensor, ...], batched: bool) -> None:
        """RuntimeError for a state that is batched where the input is not, or the other way."""
        dims, word = (3, "batched") if batched else (2, "unbatched")
        if any(s.dim() != dims for s in states):
            if len(states) == 2:
                have = f"hx and cx should also be {dims}-D but got ({states[0].dim()}-D, {states[1].dim()}-D) tensors"
            else:
                have = f"hx should also be {dims}-D but got {states[0].dim()}-D tensor"
            raise RuntimeError(f"For {word} {dims}-D input, {have}")

    # ---- the work

    def _run(self, input: Any, states: tuple[Tensor, ...] | None, widths: tuple[int, ...]) -> tuple[Any, Any]:
        """(output, final states), each as the input came: packed, batched or a single sequence.

        widths: the size of each state.
        """
        if isinstance(input, PackedSequence):
            return self._run_packed(input, states, widths)
        batched = input.dim() == 3
        if input.dim() not in (2, 3):
            name, what = ("RNN", "D tensor") if self.mode[:3] == "RNN" else (self.mode, "D")
            raise ValueError(f"{name}: Expected input to be 2D or 3D, got {input.dim()}{what} instead")
        if states is not None:
            self._check_rank(states, batched)
            states = states if batched else tuple(s.unsqueeze(1) for s in states)
        x = input if batched else input.unsqueeze(0 if self.batch_first else 1)
        x = x.transpose(0, 1) if self.batch_first else x
        self.check_input(x, None)
        steps, batch, width = x.array.shape
        if not steps:
            raise RuntimeError("Expected sequence length to be larger than 0 in RNN")
        states = self._states(x, states, batch, widths)
        out, final = self._layers(GRAPH.reshape(x, shape=(steps * batch, width)), states, (batch,) * steps)
        out = GRAPH.reshape(out, shape=(steps, batch, out.array.shape[1]))
        out = out.transpose(0, 1) if self.batch_first else out
        if batched:
            return out, final
        return out.squeeze(0 if self.batch_first else 1), tuple(f.squeeze(1) for f in final)

    def _run_packed(
        self, input: PackedSequence, states: tuple[Tensor, ...] | None, widths: tuple[int, ...]
    ) -> tuple[PackedSequence, tuple[Tensor, ...]]:
        x, order, back = input.data, input.sorted_indices, input.unsorted_indices
        sizes = tuple(input.batch_sizes.tolist())
        self.check_input(x, sizes)
        begin = self._states(x, states, sizes[0], widths)
        if order is not None:
            begin = tuple(s.index_select(1, order) for s in begin)
        out, final = self._layers(x, begin, sizes)
        if back is not None:
            final = tuple(f.index_select(1, back) for f in final)
        return PackedSequence(out, input.batch_sizes, order, back), final

    def _states(
        self, x: Tensor, states: tuple[Tensor, ...] | None, batch: int, widths: tuple[int, ...]
    ) -> tuple[Tensor, ...]:
        """The first states, checked, or zeros: (layers * directions, B, width) each."""
        count = self.num_layers * (1 + bool(self.bidirectional))
        shapes = [(count, batch, width) for width in widths]
        if states is None:
            return tuple(zeros(shape, dtype=x.dtype, device=x.device) for shape in shapes)
        for k, (state, shape) in enumerate(zip(states, shapes, strict=True)):
            which = f"hidden[{k}] size" if len(widths) == 2 else "hidden size"
            self.check_hidden_size(state, shape, "Expected " + which + " {}, got {}")
        return states

    def _layers(
        self, x: Tensor, states: tuple[Tensor, ...], sizes: tuple[int, ...]
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """All layers over the rows of packed sequences; the final states stacked as the first ones were."""
        return layers(
            self.mode, x, states, self.all_weights, self.bias, sizes, self.num_layers, self.dropout, self.training,
            self.bidirectional,
        )  # fmt: skip

    def extra_repr(self) -> str:
        shown = f"{self.input_size}, {self.hidden_size}"
        usual = {"proj_size": 0, "num_layers": 1, "bias": True, "batch_first": False, "dropout": 0}
        usual["bidirectional"] = False
        for name, value in usual.items():
            if getattr(self, name) != value:
                shown += f", {name}={getattr(self, name)}"
        return shown


class RNN(RNNBase):
    """h_t = tanh(W_ih x_t + b_ih + W_hh h_(t-1) + b_hh), or relu of it, over sequences.

    input: (T, B, in), (B, T, in) with batch_first, (T, in), or packed; hx: (layers * directions, B, H), zeros by
    default -> output (T, B, directions * H), hx of the last steps.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        nonlinearity: str = "tanh",
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        device: Any = None,
        dtype: Any = None,
        *,
        proj_size: Any = None,
    ) -> None:
        if proj_size is not None:
            raise ValueError("proj_size argument is only supported for LSTM, not RNN or GRU")
        if nonlinearity not in ("tanh", "relu"):
            raise ValueError(f"Unknown nonlinearity '{nonlinearity}'. Select from 'tanh' or 'relu'.")
        super().__init__(
            f"RNN_{nonlinearity.upper()}", input_size, hidden_size, num_layers, bias, batch_first, dropout,
            bidirectional, device=device, dtype=dtype,
        )  # fmt: skip
        self.nonlinearity = nonlinearity

    def forward(self, input: Any, hx: Tensor | None = None) -> tuple[Any, Tensor]:
        out, (h,) = self._run(input, None if hx is None else (hx,), (self.hidden_size,))
        return out, h


class GRU(RNNBase):
    """Gated recurrent units over sequences. Shapes as of RNN. input: (T, B, in) -> (T, B, directions * H)."""

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        device: Any = None,
        dtype: Any = None,
        *,
        proj_size: Any = None,
    ) -> None:
        if proj_size is not None:
            raise ValueError("proj_size argument is only supported for LSTM, not RNN or GRU")
        super().__init__(
            "GRU", input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional,
            device=device, dtype=dtype,
        )  # fmt: skip

    def forward(self, input: Any, hx: Tensor | None = None) -> tuple[Any, Tensor]:
        out, (h,) = self._run(input, None if hx is None else (hx,), (self.hidden_size,))
        return out, h


class LSTM(RNNBase):
    """Long short-term memory over sequences.

    input: as of RNN; hx: (h, c), h (layers * directions, B, proj_size or H), c (layers * directions, B, H), zeros by
    default -> output (T, B, directions * (proj_size or H)), (h, c) of the last steps.

    >>> import tapegrad as torch
    >>> out, (h, c) = torch.nn.LSTM(3, 5, num_layers=2, batch_first=True)(torch.zeros(4, 7, 3))
    >>> out.shape, h.shape
    (torch.Size([4, 7, 5]), torch.Size([2, 4, 5]))
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        proj_size: int = 0,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__(
            "LSTM", input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional, proj_size,
            device, dtype,
        )  # fmt: skip

    def forward(self, input: Any, hx: tuple[Tensor, Tensor] | None = None) -> tuple[Any, tuple[Tensor, Tensor]]:
        widths = (self.proj_size or self.hidden_size, self.hidden_size)
        return self._run(input, None if hx is None else tuple(hx), widths)

    def get_expected_cell_size(self, input: Tensor, batch_sizes: Any) -> tuple[int, int, int]:
        """The shape of c for an input: (layers * directions, B, H)."""
        return (*self.get_expected_hidden_size(input, batch_sizes)[:2], self.hidden_size)

    def check_forward_args(self, input: Tensor, hidden: Any, batch_sizes: Any) -> None:
        """ValueError or RuntimeError where the input or h and c do not fit the layer."""
        self.check_input(input, batch_sizes)
        shapes = self.get_expected_hidden_size(input, batch_sizes), self.get_expected_cell_size(input, batch_sizes)
        for k, (state, shape) in enumerate(zip(hidden, shapes, strict=True)):
            self.check_hidden_size(state, shape, f"Expected hidden[{k}] size {{}}, got {{}}")

    def permute_hidden(self, hx: Any, permutation: Tensor | None) -> Any:
        """h and c with the batch in another order; None leaves them as they are."""
        return hx if permutation is None else tuple(state.index_select(1, permutation) for state in hx)


class RNNCellBase(Module):
    """What the cells share: weight_ih (gates * H, in), weight_hh (gates * H, H), bias_ih and bias_hh (gates * H,)."""

    weight_ih: Tensor
    weight_hh: Tensor
    bias_ih: Tensor | None
    bias_hh: Tensor | None

    def __init__(
        self, input_size: int, hidden_size: int, bias: bool, num_chunks: int, device: Any = None, dtype: Any = None
    ) -> None:
        super().__init__()
        self.input_size, self.hidden_size, self.bias = input_size, hidden_size, bias
        rows = num_chunks * hidden_size
        self.weight_ih = Parameter(empty((rows, input_size), device=device, dtype=dtype))
        self.weight_hh = Parameter(empty((rows, hidden_size), device=device, dtype=dtype))
        for name in ("bias_ih", "bias_hh"):
            self.register_parameter(name, Parameter(empty(rows, device=device, dtype=dtype)) if bias else None)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draws every parameter, in order, from +-1 / sqrt(hidden_size)."""
        _uniform(self)

    def extra_repr(self) -> str:
        shown = f"{self.input_size}, {self.hidden_size}" + ("" if self.bias is True else f", bias={self.bias}")
        nonlinearity = getattr(self, "nonlinearity", "tanh")
        return shown if nonlinearity == "tanh" else f"{shown}, nonlinearity={nonlinearity}"

    def _begin(self, input: Tensor, states: Any, count: int) -> tuple[Tensor, list[Tensor]]:
        """The input (B, in) and the states (B, H), where they may come without B or not at all."""
        name = type(self).__name__
        if input.dim() not in (1, 2):
            raise ValueError(f"{name}: Expected input to be 1D or 2D, got {input.dim()}D instead")
        for k, s in enumerate(states or ()):
            if s.dim() not in (1, 2):
                which = "hidden" if count == 1 else f"hx[{k}]"
                raise ValueError(f"{name}: Expected {which} to be 1D or 2D, got {s.dim()}D instead")
        x = input if input.dim() == 2 else input.unsqueeze(0)
        if x.array.shape[1] != self.input_size:
            raise RuntimeError(f"input has inconsistent input_size: got {x.array.shape[1]} expected {self.input_size}")
        batch = x.array.shape[0]
        if states is None:
            return x, [zeros((batch, self.hidden_size), dtype=x.dtype, device=x.device)] * count
        full = [s if input.dim() == 2 else s.unsqueeze(0) for s in states]
        for k, s in enumerate(full):
            if s.array.shape[0] != batch:
                raise RuntimeError(
                    f"Input batch size {batch} doesn't match hidden{k} batch size {s.array.shape[0]}"
                )
            if s.array.shape[1] != self.hidden_size:
                raise RuntimeError(
                    f"hidden{k} has inconsistent hidden_size: got {s.array.shape[1]}, "
                    f"expected {self.hidden_size}"
                )
        return x, full


class RNNCell(RNNCellBase):
    """One step of RNN. input: (B, in) or (in,), hx: (B, H) or (H,) -> like hx."""

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        nonlinearity: str = "tanh",
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__(input_size, hidden_size, bias, 1, device, dtype)
        self.nonlinearity = nonlinearity

    def forward(self, input: Tensor, hx: Tensor | None = None) -> Tensor:
        x, (h,) = self._begin(input, None if hx is None else (hx,), 1)
        if self.nonlinearity not in ("tanh", "relu"):
            raise RuntimeError(f"Unknown nonlinearity: {self.nonlinearity}")
        step = rnn_tanh_cell if self.nonlinearity == "tanh" else rnn_relu_cell
        new = step(x, h, self.weight_ih, self.weight_hh, self.bias_ih, self.bias_hh)
        return new if input.dim() == 2 else new.squeeze(0)


class GRUCell(RNNCellBase):
    """One step of GRU. input: (B, in) or (in,), hx: (B, H) or (H,) -> like hx."""

    def __init__(
        self, input_size: int, hidden_size: int, bias: bool = True, device: Any = None, dtype: Any = None
    ) -> None:
        super().__init__(input_size, hidden_size, bias, 3, device, dtype)

    def forward(self, input: Tensor, hx: Tensor | None = None) -> Tensor:
        x, (h,) = self._begin(input, None if hx is None else (hx,), 1)
        new = gru_cell(x, h, self.weight_ih, self.weight_hh, self.bias_ih, self.bias_hh)
        return new if input.dim() == 2 else new.squeeze(0)


class LSTMCell(RNNCellBase):
    """One step of LSTM. input: (B, in) or (in,), hx: (h, c), each (B, H) or (H,) -> (h, c)."""

    def __init__(
        self, input_size: int, hidden_size: int, bias: bool = True, device: Any = None, dtype: Any = None
    ) -> None:
        super().__init__(input_size, hidden_size, bias, 4, device, dtype)

    def forward(self, input: Tensor, hx: tuple[Tensor, Tensor] | None = None) -> tuple[Tensor, Tensor]:
        x, states = self._begin(input, hx, 2)
        h, c = lstm_cell(x, states, self.weight_ih, self.weight_hh, self.bias_ih, self.bias_hh)
        return (h, c) if input.dim() == 2 else (h.squeeze(0), c.squeeze(0))
