"""Rotary position embedding: pairs of a query's or key's entries are turned by angles that grow with the position.

Su et al., RoFormer: enhanced transformer with rotary position embedding, 2021. Entry i is paired with entry i + D/2.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from ..autograd.api.creation import tensor
from ..autograd.modes import no_grad
from ..autograd.tensor import Tensor

__all__ = ["Rotary", "rope_parameters", "rotated"]

_SMALLEST = 256  # positions for which tables are made at first


def _plain(p: dict[str, Any], width: int, longest: int, length: int) -> Any:
    return 1.0 / np.float32(p["rope_theta"]) ** (np.arange(0, width, 2, dtype=np.float32) / np.float32(width))


def _linear(p: dict[str, Any], width: int, longest: int, length: int) -> Any:
    """All positions factor times closer together."""
    return _plain(p, width, longest, length) / np.float32(p["factor"])


def _dynamic(p: dict[str, Any], width: int, longest: int, length: int) -> Any:
    """A larger theta where a sequence is longer than those that the model was trained on."""
    growth = p["factor"] * max(length, longest) / longest - (p["factor"] - 1)
    return _plain({"rope_theta": p["rope_theta"] * growth ** (width / (width - 2))}, width, longest, length)


def _llama3(p: dict[str, Any], width: int, longest: int, length: int) -> Any:
    """Slow turns are made factor times slower, fast ones are left, and those between change from one to the other.

    Grattafiori et al., The Llama 3 herd of models, 2024, and the code published with Llama 3.1.
    """
    plain = _plain(p, width, longest, length)
    low, high, trained = p["low_freq_factor"], p["high_freq_factor"], p["original_max_position_embeddings"]
    turns = trained * plain / np.float32(2 * math.pi)  # within the context that the model was trained on
    share = np.clip((turns - np.float32(low)) / np.float32(high - low), 0, 1)
    return ((1 - share) * plain / np.float32(p["factor"]) + share * plain).astype(np.float32)


# rope_type -> (angles per position, keys that must be there). (parameters, width, longest, length) -> (width / 2,)
_TYPES: dict[str, tuple[Callable[[dict[str, Any], int, int, int], Any], tuple[str, ...]]] = {
    "default": (_plain, ("rope_theta",)),
    "linear": (_linear, ("rope_theta", "factor")),
    "dynamic": (_dynamic, ("rope_theta", "factor")),
    "llama3": (_llama3, ("rope_theta", "factor", "low_freq_factor", "high_freq_factor")),
}


def rope_parameters(config: Any) -> dict[str, Any]:
    """What a configuration says of its angles, in the one form {"rope_type", "rope_theta", ...}.

    Read are `rope_parameters` (transformers 5), and `rope_theta` and `rope_scaling` (earlier), in which "type" may
    stand for "rope_type". ValueError for an unknown type and for a number that lacks or is not positive.
    """
    found = dict(config.rope_scaling or config.rope_parameters or {})
    kind = found["rope_type"] = found.get("rope_type", found.pop("type", "default"))
    theta = found.get("rope_theta")
    found["rope_theta"] = config.rope_theta or 10000.0 if theta is None else theta
    if kind not in _TYPES:
        raise ValueError(f"rope_type {kind!r} is not implemented; implemented are {', '.join(_TYPES)}")
    if found.get("partial_rotary_factor", 1.0) != 1.0:
        raise ValueError("partial_rotary_factor is not implemented: all entries of a head are turned")
    if kind == "llama3":
        found.setdefault("original_max_position_embeddings", config.max_position_embeddings)
    for name in _TYPES[kind][1]:
        value = found.get(name)
        if isinstance(value, bool) or not isinstance(value, (int, float)) or value <= 0:
            raise ValueError(f"rope_parameters: {kind} needs {name} > 0, found {value!r}")
    return found


class Rotary:
    """Tables of cos and sin for the positions there may be, made once and longer when they are needed.

    width: entries of a head, even. longest: max_position_embeddings.
    """

    def __init__(self, parameters: dict[str, Any], width: int, longest: int):
        self.parameters, self.width, self.longest = parameters, width, longest
        self._tables: dict[Any, tuple[int, Tensor, Tensor]] = {}

    def __call__(self, like: Tensor, first: int, length: int, position_ids: Tensor | None) -> tuple[Tensor, Tensor]:
        """cos and signed sin for `rotated`: (length, width) for the positions from `first` on.

        With position_ids (N or 1, length) int: (N or 1, 1, length, width). Of like's dtype and on its device.
        """
        end = first + length if position_ids is None else int(position_ids.max()) + 1
        cos, sin = self._table(like, end)
        if position_ids is None:
            return cos[first:end], sin[first:end]
        return cos[position_ids].unsqueeze(1), sin[position_ids].unsqueeze(1)

    def _table(self, like: Tensor, end: int) -> tuple[Tensor, Tensor]:
        """For positions 0 to end - 1 at least."""
        beyond = end if self.parameters["rope_type"] == "dynamic" and end > self.longest else 0
        key = (like.dtype, str(like.device))
        held = self._tables.get(key)
        if held is None or held[1].shape[0] < end or held[0] != beyond:
            rows = end if beyond else max(end, _SMALLEST, 0 if held is None else 2 * held[1].shape[0])
            with no_grad():
                held = (beyond, *(tensor(x, device=like.device).to(like.dtype) for x in self._computed(rows, beyond)))
            self._tables[key] = held
        return held[1], held[2]

    def _computed(self, rows: int, length: int) -> tuple[Any, Any]:
        """cos and signed sin in float32: (rows, width)."""
        angles = _TYPES[self.parameters["rope_type"]][0](self.parameters, self.width, self.longest, length)
        turns = np.arange(rows, dtype=np.float32)[:, None] * angles.astype(np.float32)
        cos, sin = np.cos(turns), np.sin(turns)
        return np.concatenate([cos, cos], 1), np.concatenate([-sin, sin], 1)


def rotated(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """x with its pairs turned: (a, b) -> (a cos - b sin, b cos + a sin). x: (N, heads, L, D) -> (N, heads, L, D).

    cos: (L, D) or (N, 1, L, D), each angle's twice; sin: the same, the first half with a minus.
    """
    return x * cos + x.roll(x.shape[-1] // 2, -1) * sin
