"""The keys and values of earlier positions, kept so that each new token is computed alone; and what hides keys."""

from __future__ import annotations

from typing import Any

from ..autograd.api.creation import arange
from ..autograd.api.join import cat
from ..autograd.exporting import is_exporting
from ..autograd.modes import is_grad_enabled, no_grad
from ..autograd.tensor import Tensor

GROWTH = 2  # a full buffer is replaced by one this many times as long: copies stay below one per token
SMALLEST = 64  # positions a buffer holds at least


class _Layer:
    """Keys and values of one layer, in buffers longer than what is in them."""

    __slots__ = ("keys", "length", "values")

    def __init__(self) -> None:
        self.keys: Any = None
        self.values: Any = None
        self.length = 0


class KVCache:
    """Keys and values per layer: (N, heads, positions, width) each, in buffers that double when they are full.

    `room`: for how many positions buffers are made at first, where the caller knows it. Under `no_grad` a new token is
    written in place behind the earlier ones; where a gradient is recorded, the parts are joined, and are part of the
    graph.
    """

    def __init__(self, room: int = 0):
        self.room = room
        self._layers: list[_Layer] = []

    def get_seq_length(self, layer_idx: int = 0) -> int:
        """How many positions are held."""
        return self._layers[layer_idx].length if layer_idx < len(self._layers) else 0

    def __len__(self) -> int:
        """How many layers have been filled."""
        return len(self._layers)

    def __getitem__(self, layer_idx: int) -> tuple[Tensor, Tensor]:
        """Keys and values of a layer, as views: (N, heads, positions, width) each."""
        layer = self._layers[layer_idx]
        return layer.keys[:, :, : layer.length], layer.values[:, :, : layer.length]

    def update(self, key_states: Tensor, value_states: Tensor, layer_idx: int) -> tuple[Tensor, Tensor]:
        """Adds L positions to a layer; all that it holds now, as views. keys, values: (N, heads, L, width).

        ValueError for another number of sequences or heads than it holds.
        """
        while len(self._layers) <= layer_idx:
            self._layers.append(_Layer())
        layer = self._layers[layer_idx]
        if layer.length and layer.keys.shape[:2] != key_states.shape[:2]:
            raise ValueError(
                f"the cache holds {layer.keys.shape[0]} sequences of {layer.keys.shape[1]} heads, but got "
                f"{key_states.shape[0]} of {key_states.shape[1]}: make a new one, or use reorder_cache"
            )
        if is_grad_enabled() and (key_states.requires_grad or layer.length and layer.keys.requires_grad):
            return _joined(layer, key_states, value_states)
        start, stop = layer.length, layer.length + key_states.shape[2]
        with no_grad():
            if layer.keys is None or layer.keys.shape[2] < stop:
                room = max(self.room, SMALLEST, stop if layer.keys is None else GROWTH * layer.keys.shape[2], stop)
                layer.keys = _longer(layer.keys, key_states, start, room)
                layer.values = _longer(layer.values, value_states, start, room)
            # past the door of the ops, which takes as long as an attention: nobody has seen this part of the buffer yet
            layer.keys.array[:, :, start:stop] = key_states.array
            layer.values.array[:, :, start:stop] = value_states.array
        layer.length = stop
        return layer.keys[:, :, :stop], layer.values[:, :, :stop]

    @no_grad()
    def reorder_cache(self, beam_idx: Tensor) -> None:
        """Sequence i becomes what sequence beam_idx[i] was, in every layer. beam_idx: (M,) int."""
        for layer in self._layers:
            layer.keys, layer.values = (x[beam_idx] for x in (layer.keys, layer.values))

    def crop(self, max_length: int) -> None:
        """Forgets all positions from max_length on; a negative one: as many at the end."""
        for layer in self._layers:
            end = layer.length + max_length if max_length < 0 else max_length
            layer.length = min(layer.length, max(0, end))


def _longer(old: Any, like: Tensor, start: int, room: int) -> Tensor:
    """A buffer for `room` positions that begins with the old one's first `start`."""
    batch, heads, _, width = like.shape
    new = like.new_empty((batch, heads, room, width))
    if start:
        new[:, :, :start] = old[:, :, :start]
    return new


def _joined(layer: _Layer, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
    """New tensors of old and new positions: a write in place would change what a backward pass still needs."""
    if layer.length:
        keys = cat([layer.keys[:, :, : layer.length], keys], 2)
        values = cat([layer.values[:, :, : layer.length], values], 2)
    layer.keys, layer.values, layer.length = keys, values, keys.shape[2]
    return keys, values


def attention_mask_for(
    mask: Tensor | None, length: int, past: int, like: Tensor, window: int | None = None
) -> tuple[Tensor | None, bool]:
    """(mask, is_causal) for scaled_dot_product_attention of `length` queries behind `past` earlier positions.

    mask: (N, past + length), 0 where a position is padding; None: none is. like: a tensor on the device wanted.
    window: a query sees this many keys at most, itself among them. The result is (1 or N, 1, length or 1, past +
    length) bool, True where a key is seen, and None wherever is_causal or nothing at all says the same.
    ValueError for a mask of another size.
    """
    keys = past + length
    if mask is not None:
        if mask.dim() != 2 or mask.shape[1] != keys:
            raise ValueError(
                f"attention_mask: expected (batch, {keys}), one entry for each of the {past} positions in the cache "
                f"and the {length} of input_ids, but got {tuple(mask.shape)}"
            )
        mask = mask != 0
        if not is_exporting() and mask.all():
            mask = None
    far = window is not None and (keys > window or is_exporting())
    if mask is None and not far and (length == 1 or not past):
        return None, length > 1
    seen = None
    if length > 1 or far:
        behind = arange(past, keys, device=like.device)[:, None] - arange(keys, device=like.device)
        seen = behind >= 0
        if far:
            seen = seen & (behind < window)
        seen = seen[None, None]
    if mask is None:
        return seen, False
    mask = mask[:, None, None]
    return mask if seen is None else mask & seen, False
