"""Causal masks for scaled_dot_product_attention where queries and keys differ in number."""

from __future__ import annotations

import warnings
from enum import IntEnum
from typing import Any

from ...autograd.api.creation import ones
from ...autograd.dtypes import by_name
from ...autograd.tensor import Tensor

__all__ = ["CausalBias", "CausalVariant", "causal_lower_right", "causal_upper_left"]


class CausalVariant(IntEnum):
    """Where the triangle of a causal mask that is not square begins.

    UPPER_LEFT: the first query sees the first key, as `is_causal=True`. LOWER_RIGHT: the last sees the last key.
    """

    UPPER_LEFT = 1
    LOWER_RIGHT = 2


class CausalBias(Tensor):
    """A causal mask, (seq_len_q, seq_len_kv) bool: what scaled_dot_product_attention takes as `attn_mask`."""

    __slots__ = ()

    def __new__(cls, variant: CausalVariant, seq_len_q: int, seq_len_kv: int) -> CausalBias:
        if not isinstance(variant, CausalVariant):
            raise AssertionError(f"variant must be a CausalVariant, got {type(variant).__name__}")
        shift = seq_len_kv - seq_len_q if variant is CausalVariant.LOWER_RIGHT else 0
        mask = ones(seq_len_q, seq_len_kv, dtype=by_name("bool")).tril(diagonal=shift)
        return Tensor._make_subclass(cls, mask)

    def __init__(self, variant: CausalVariant, seq_len_q: int, seq_len_kv: int):
        self.variant = variant
        self.seq_len_q = seq_len_q
        self.seq_len_kv = seq_len_kv
        if seq_len_q > seq_len_kv and variant is CausalVariant.LOWER_RIGHT:
            warnings.warn(
                "Lower right causal bias will produce NaNs in the output when seq_len_q > seq_len_kv!", stacklevel=2
            )

    def _materialize(self, device: Any = None) -> Tensor:
        """The mask as an ordinary tensor."""
        plain = Tensor._of(self.array)
        return plain if device is None else plain.to(device)

    def __repr__(self) -> str:
        return repr(self._materialize())


def _made(name: str, variant: CausalVariant, size: tuple[int, ...]) -> CausalBias:
    if len(size) != 2:
        raise AssertionError(f"{name} only supports 2D tensors")
    return CausalBias(variant, *size)


def causal_upper_left(*size: int) -> CausalBias:
    """The mask of `is_causal=True` for `size` = (queries, keys).

    >>> import tapegrad as torch
    >>> torch.nn.attention.bias.causal_upper_left(2, 3)
    tensor([[ True, False, False],
            [ True,  True, False]])
    """
    return _made("causal_upper_left", CausalVariant.UPPER_LEFT, size)


def causal_lower_right(*size: int) -> CausalBias:
    """The mask in which the last of `size` = (queries, keys) see each other, as for keys that were cached.

    >>> import tapegrad as torch
    >>> torch.nn.attention.bias.causal_lower_right(2, 3)
    tensor([[ True,  True, False],
            [ True,  True,  True]])
    """
    return _made("causal_lower_right", CausalVariant.LOWER_RIGHT, size)
