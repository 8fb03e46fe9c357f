"""Transformers: layers of attention and feed-forward maps. Vaswani et al., Attention is all you need, 2017."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

from ...autograd.api.creation import full
from ...autograd.exporting import is_exporting
from ...autograd.modes import is_grad_enabled
from ...autograd.tensor import Tensor
from .. import functional as F
from .. import init
from .activation import GELU, ReLU
from .attention import MultiheadAttention
from .container import ModuleList
from .dropout import Dropout
from .linear import Linear
from .module import Module
from .normalization import LayerNorm

__all__ = [
    "Transformer", "TransformerDecoder", "TransformerDecoderLayer", "TransformerEncoder", "TransformerEncoderLayer",
]  # fmt: skip

Activation = str | Callable[[Tensor], Tensor]


def causal_mask(size: int, device: Any = None, dtype: Any = None) -> Tensor:
    """(size, size), -inf above the diagonal, else 0."""
    return full((size, size), float("-inf"), dtype=dtype, device=device).triu(diagonal=1)


def _is_causal(mask: Tensor | None, told: bool | None, x: Tensor, batch_first: bool) -> bool:
    """Whether a mask hides exactly the future: as the caller told, else by comparison."""
    if told is not None or mask is None:
        return told is True
    size = x.shape[0 if x.dim() == 2 or not batch_first else 1]
    return tuple(mask.shape) == (size, size) and bool((mask == causal_mask(size, mask.device, mask.dtype)).all())


def _get_activation_fn(activation: Activation) -> Callable[[Tensor], Tensor]:
    if not isinstance(activation, str):
        return activation
    if activation not in ("relu", "gelu"):
        raise RuntimeError(f"activation should be relu/gelu, not {activation}")
    return getattr(F, activation)


def _get_clones(module: Module, count: int) -> ModuleList:
    return ModuleList([copy.deepcopy(module) for _ in range(count)])


class _Layer(Module):
    """What encoder and decoder layers share: attentions, the feed-forward maps, a norm and a dropout for each."""

    attentions: tuple[str, ...]

    def __init__(
        self,
        d_model: int,
        nhead: int,
        dim_feedforward: int = 2048,
        dropout: float = 0.1,
        activation: Activation = F.relu,
        layer_norm_eps: float = 1e-5,
        batch_first: bool = False,
        norm_first: bool = False,
        bias: bool = True,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        where = {"device": device, "dtype": dtype}
        for name in self.attentions:
            attention = MultiheadAttention(d_model, nhead, dropout, bias=bias, batch_first=batch_first, **where)
            setattr(self, name, attention)
        self.linear1 = Linear(d_model, dim_feedforward, bias=bias, **where)
        self.dropout = Dropout(dropout)
        self.linear2 = Linear(dim_feedforward, d_model, bias=bias, **where)
        self.norm_first = norm_first
        count = len(self.attentions) + 1
        for k in range(1, count + 1):
            setattr(self, f"norm{k}", LayerNorm(d_model, eps=layer_norm_eps, bias=bias, **where))
        for k in range(1, count + 1):
            setattr(self, f"dropout{k}", Dropout(dropout))
        self.activation = _get_activation_fn(activation)

    def _residual(self, x: Tensor, norm: Module, block: Callable[..., Tensor], *args: Any) -> Tensor:
        """x plus a block of x; the norm before the block or behind the sum."""
        if self.norm_first:
            return x + block(norm(x), *args)
        return norm(x + block(x, *args))

    # The blocks have PyTorch's names, since programs override them.

    def _sa_block(self, x: Tensor, attn_mask: Any, key_padding_mask: Any, is_causal: bool = False) -> Tensor:
        return self.dropout1(_attend(self.self_attn, x, x, attn_mask, key_padding_mask, is_causal))

    def _ff_block(self, x: Tensor) -> Tensor:
        last = getattr(self, f"dropout{len(self.attentions) + 1}")
        return last(self.linear2(self.dropout(self.activation(self.linear1(x)))))


def _attend(attention: Any, x: Tensor, memory: Tensor, mask: Any, padding: Any, causal: bool) -> Tensor:
    return attention(
        x, memory, memory, attn_mask=mask, key_padding_mask=padding, need_weights=False, is_causal=causal
    )[0]


class TransformerEncoderLayer(_Layer):
    """Self-attention, then a feed-forward map. src: (S, N, d_model), (N, S, d_model) with batch_first, or (S, d_model).

    src_mask: (S, S) or (N * nhead, S, S); src_key_padding_mask: (N, S).
    """

    attentions = ("self_attn",)

    def forward(
        self,
        src: Tensor,
        src_mask: Tensor | None = None,
        src_key_padding_mask: Tensor | None = None,
        is_causal: bool = False,
    ) -> Tensor:
        canonical = F.attention.canonical_mask
        padding = canonical(src_key_padding_mask, "src_key_padding_mask", src_mask, "src_mask", src.dtype)
        mask = canonical(src_mask, "src_mask", None, "", src.dtype)
        x = self._residual(src, self.norm1, self._sa_block, mask, padding, is_causal)
        return self._residual(x, self.norm2, self._ff_block)


class TransformerDecoderLayer(_Layer):
    """Self-attention, attention to memory, a feed-forward map. tgt: (T, N, d_model), memory: (S, N, d_model).

    With batch_first N comes first; both may come without N. tgt_mask: (T, T), memory_mask: (T, S), each also per head
    as (N * nhead, T, *); the key padding masks: (N, T) and (N, S).
    """

    attentions = ("self_attn", "multihead_attn")

    def forward(
        self,
        tgt: Tensor,
        memory: Tensor,
        tgt_mask: Tensor | None = None,
        memory_mask: Tensor | None = None,
        tgt_key_padding_mask: Tensor | None = None,
        memory_key_padding_mask: Tensor | None = None,
        tgt_is_causal: bool = False,
        memory_is_causal: bool = False,
    ) -> Tensor:
        x = self._residual(tgt, self.norm1, self._sa_block, tgt_mask, tgt_key_padding_mask, tgt_is_causal)
        other = (memory, memory_mask, memory_key_padding_mask, memory_is_causal)
        x = self._residual(x, self.norm2, self._mha_block, *other)
        return self._residual(x, self.norm3, self._ff_block)

    def _mha_block(
        self, x: Tensor, mem: Tensor, attn_mask: Any, key_padding_mask: Any, is_causal: bool = False
    ) -> Tensor:
        return self.dropout2(_attend(self.multihead_attn, x, mem, attn_mask, key_padding_mask, is_causal))


class TransformerEncoder(Module):
    """num_layers copies of a layer, one behind the other, and a norm. src: (S, N, d_model) -> the same.

    enable_nested_tensor: in evaluation without gradients, padding comes out as zeros (before the norm), as in PyTorch,
    which cuts it off there. mask_check: only where all padding is behind the sequences.
    """

    norm: Module | None

    def __init__(
        self,
        encoder_layer: Module,
        num_layers: int,
        norm: Module | None = None,
        enable_nested_tensor: bool = True,
        mask_check: bool = True,
    ) -> None:
        super().__init__()
        self.layers = _get_clones(encoder_layer, num_layers)
        self.num_layers, self.norm = num_layers, norm
        self.enable_nested_tensor, self.mask_check = enable_nested_tensor, mask_check

    def forward(
        self,
        src: Tensor,
        mask: Tensor | None = None,
        src_key_padding_mask: Tensor | None = None,
        is_causal: bool | None = None,
    ) -> Tensor:
        canonical = F.attention.canonical_mask
        padding = canonical(src_key_padding_mask, "src_key_padding_mask", mask, "mask", src.dtype)
        mask = canonical(mask, "mask", None, "", src.dtype)
        attention = getattr(self.layers[0], "self_attn", None)
        causal = _is_causal(mask, is_causal, src, getattr(attention, "batch_first", False))
        x = src
        for layer in self.layers:
            x = layer(x, src_mask=mask, is_causal=causal, src_key_padding_mask=padding)
        if padding is not None and mask is None and src.dim() == 3 and self._may_cut_padding(src):
            x = self._without(x, padding != 0)
        return x if self.norm is None else self.norm(x)


    def _without(self, x: Tensor, padding: Tensor) -> Tensor:
        """x with zeros in its padding, unless `mask_check` finds some before the end. x: (N, S, *), padding: (N, S)."""
        if self.mask_check:
            inside = (padding[:, :-1] & ~padding[:, 1:]).any()
            if is_exporting():  # which way it goes is left to the graph
                padding = padding & ~inside
            elif inside:
                return x
        return x.masked_fill(padding.unsqueeze(2), 0.0)

    def _may_cut_padding(self, src: Tensor) -> bool:
        """Whether PyTorch would work on sequences without their padding, if it lies at their ends."""
        layer = self.layers[0]
        if not self.enable_nested_tensor or type(layer) is not TransformerEncoderLayer or layer.training:
            return False
        attention, activation = layer.self_attn, layer.activation
        usual = activation in (F.relu, F.gelu) or isinstance(activation, (ReLU, GELU))
        if layer.norm_first or not usual or layer.norm1.eps != layer.norm2.eps:
            return False
        if not attention.batch_first or attention.in_proj_bias is None or attention.num_heads % 2:
            return False
        return not (is_grad_enabled() and any(t.requires_grad for t in (src, *layer.parameters())))


class TransformerDecoder(Module):
    """num_layers copies of a layer, one behind the other, and a norm.

    tgt: (T, N, d_model), memory: (S, N, d_model) -> tgt's.
    """

    norm: Module | None

    def __init__(self, decoder_layer: Module, num_layers: int, norm: Module | None = None) -> None:
        super().__init__()
        self.layers = _get_clones(decoder_layer, num_layers)
        self.num_layers, self.norm = num_layers, norm

    def forward(
        self,
        tgt: Tensor,
        memory: Tensor,
        tgt_mask: Tensor | None = None,
        memory_mask: Tensor | None = None,
        tgt_key_padding_mask: Tensor | None = None,
        memory_key_padding_mask: Tensor | None = None,
        tgt_is_causal: bool | None = None,
        memory_is_causal: bool = False,
    ) -> Tensor:
        attention = getattr(self.layers[0], "self_attn", None)
        causal = _is_causal(tgt_mask, tgt_is_causal, tgt, getattr(attention, "batch_first", False))
        x = tgt
        for layer in self.layers:
            x = layer(
                x,
                memory,
                tgt_mask=tgt_mask,
                memory_mask=memory_mask,
                tgt_key_padding_mask=tgt_key_padding_mask,
                memory_key_padding_mask=memory_key_padding_mask,
                tgt_is_causal=causal,
                memory_is_causal=memory_is_causal,
            )
        return x if self.norm is None else self.norm(x)


class Transformer(Module):
    """An encoder of src and a decoder of tgt. src: (S, N, d_model), tgt: (T, N, d_model) -> (T, N, d_model).

    With batch_first N comes first; both may come without N. Masks as of the layers.
    """

    def __init__(
        self,
        d_model: int = 512,
        nhead: int = 8,
        num_encoder_layers: int = 6,
        num_decoder_layers: int = 6,
        dim_feedforward: int = 2048,
        dropout: float = 0.1,
        activation: Activation = F.relu,
        custom_encoder: Any = None,
        custom_decoder: Any = None,
        layer_norm_eps: float = 1e-5,
        batch_first: bool = False,
        norm_first: bool = False,
        bias: bool = True,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        options = (dim_feedforward, dropout, activation, layer_norm_eps, batch_first, norm_first, bias, device, dtype)

        def norm() -> LayerNorm:
            return LayerNorm(d_model, eps=layer_norm_eps, bias=bias, device=device, dtype=dtype)

        if custom_encoder is None:
            layer = TransformerEncoderLayer(d_model, nhead, *options)
            custom_encoder = TransformerEncoder(layer, num_encoder_layers, norm())
        self.encoder = custom_encoder
        if custom_decoder is None:
            custom_decoder = TransformerDecoder(
                TransformerDecoderLayer(d_model, nhead, *options), num_decoder_layers, norm()
            )
        self.decoder = custom_decoder
        self._reset_parameters()
        self.d_model, self.nhead, self.batch_first = d_model, nhead, batch_first

    def _reset_parameters(self) -> None:
        for p in self.parameters():
            if p.dim() > 1:
                init.xavier_uniform_(p)

    def forward(
        self,
        src: Tensor,
        tgt: Tensor,
        src_mask: Tensor | None = None,
        tgt_mask: Tensor | None = None,
        memory_mask: Tensor | None = None,
        src_key_padding_mask: Tensor | None = None,
        tgt_key_padding_mask: Tensor | None = None,
        memory_key_padding_mask: Tensor | None = None,
        src_is_causal: bool | None = None,
        tgt_is_causal: bool | None = None,
        memory_is_causal: bool = False,
    ) -> Tensor:
        place = 0 if self.batch_first else 1
        if src.dim() == 3 and src.size(place) != tgt.size(place):
            raise RuntimeError("the batch number of src and tgt must be equal")
        if src.size(-1) != self.d_model or tgt.size(-1) != self.d_model:
            raise RuntimeError("the feature number of src and tgt must be equal to d_model")
        memory = self.encoder(
            src, mask=src_mask, src_key_padding_mask=src_key_padding_mask, is_causal=src_is_causal
        )
        return self.decoder(
            tgt,
            memory,
            tgt_mask=tgt_mask,
            memory_mask=memory_mask,
            tgt_key_padding_mask=tgt_key_padding_mask,
            memory_key_padding_mask=memory_key_padding_mask,
            tgt_is_causal=tgt_is_causal,
            memory_is_causal=memory_is_causal,
        )

    @staticmethod
    def generate_square_subsequent_mask(sz: int, device: Any = None, dtype: Any = None) -> Tensor:
        """(sz, sz), -inf above the diagonal, else 0: each position sees itself and what is before it."""
        return causal_mask(sz, device, dtype)
