"""GPT-2. Radford et al., Language models are unsupervised multitask learners, 2019.

Names of modules and parameters are those of the checkpoints: `h.0.attn.c_attn.weight` and so on.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

from .. import nn
from ..autograd.api.creation import empty, zeros
from ..autograd.tensor import Tensor
from ..nn import functional as F
from ..nn import init
from .cache import KVCache, attention_mask_for
from .causal import CausalLM, check_inputs
from .configuration import PretrainedConfig
from .layers import Embedding, Linear, activation, skip_initialisation
from .outputs import ModelOutput
from .pretrained import PretrainedModel

__all__ = ["GPT2Config", "GPT2LMHeadModel", "GPT2Model"]


@dataclass(kw_only=True)
class GPT2Config(PretrainedConfig):
    """What a GPT-2 is like; names and defaults are the hub's: the model with 124 million parameters."""

    model_type: ClassVar[str] = "gpt2"
    allowed: ClassVar[dict[str, tuple[Any, ...]]] = {"add_cross_attention": (False,)}  # it is a decoder alone

    vocab_size: int = 50257
    n_positions: int = 1024
    n_embd: int = 768
    n_layer: int = 12
    n_head: int = 12
    n_inner: int | None = None
    activation_function: str = "gelu_new"
    resid_pdrop: float = 0.1
    embd_pdrop: float = 0.1
    attn_pdrop: float = 0.1
    layer_norm_epsilon: float = 1e-5
    initializer_range: float = 0.02
    scale_attn_weights: bool = True
    use_cache: bool = True
    bos_token_id: int | None = 50256
    eos_token_id: int | list[int] | None = 50256
    pad_token_id: int | None = None
    scale_attn_by_inverse_layer_idx: bool = False
    reorder_and_upcast_attn: bool = False

    def validate(self) -> None:
        if self.n_embd % self.n_head:
            raise ValueError(f"n_embd={self.n_embd} must be divisible by n_head={self.n_head}")

    @property
    def max_position_embeddings(self) -> int:
        """Another name of n_positions."""
        return self.n_positions


class Conv1D(nn.Module):
    """x @ weight + bias, a linear layer whose weight is stored the other way round. x: (*, nx) -> (*, nf).

    weight: (nx, nf), bias: (nf,).
    """

    weight: Tensor
    bias: Tensor

    def __init__(self, nf: int, nx: int):
        super().__init__()
        self.weight = nn.Parameter(empty((nx, nf)))
        self.bias = nn.Parameter(zeros(nf))

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight.mT, self.bias)

    def extra_repr(self) -> str:
        return "nf={1}, nx={0}".format(*self.weight.shape)


class GPT2Attention(nn.Module):
    """Causal attention of config.n_head heads. (N, L, n_embd) -> (N, L, n_embd)."""

    def __init__(self, config: GPT2Config, layer_idx: int):
        super().__init__()
        width = config.n_embd
        self.heads, self.layer_idx, self.dropout = config.n_head, layer_idx, config.attn_pdrop
        self.scaling = (width // self.heads) ** -0.5 if config.scale_attn_weights else 1.0
        if config.scale_attn_by_inverse_layer_idx:
            self.scaling /= layer_idx + 1
        self.upcast = config.reorder_and_upcast_attn
        self.c_attn = Conv1D(3 * width, width)
        self.c_proj = Conv1D(width, width)
        self.resid_dropout = nn.Dropout(config.resid_pdrop)

    def forward(self, x: Tensor, cache: KVCache | None, mask: Tensor | None, causal: bool) -> Tensor:
        batch, length, width = x.shape
        parts = self.c_attn(x).view(batch, length, 3, self.heads, -1).permute(2, 0, 3, 1, 4).unbind(0)
        q, k, v = (t.float() for t in parts) if self.upcast else parts
        if cache is not None:
            k, v = cache.update(k, v, self.layer_idx)
        dropout = self.dropout if self.training else 0.0
        y = F.scaled_dot_product_attention(q, k, v, mask, dropout, causal, self.scaling)
        y = y.transpose(1, 2).reshape(batch, length, width)
        return self.resid_dropout(self.c_proj(y.to(x.dtype)))


class GPT2MLP(nn.Module):
    """Two layers with an activation between. (*, n_embd) -> (*, n_embd)."""

    def __init__(self, inner: int, config: GPT2Config):
        super().__init__()
        self.c_fc = Conv1D(inner, config.n_embd)
        self.c_proj = Conv1D(config.n_embd, inner)
        self.act = activation(config.activation_function)
        self.dropout = nn.Dropout(config.resid_pdrop)

    def forward(self, x: Tensor) -> Tensor:
        return self.dropout(self.c_proj(self.act(self.c_fc(x))))


class GPT2Block(nn.Module):
    """Attention and a two-layer network, each behind a layer norm and beside a residual path."""

    def __init__(self, config: GPT2Config, layer_idx: int):
        super().__init__()
        width, eps = config.n_embd, config.layer_norm_epsilon
        self.ln_1 = nn.LayerNorm(width, eps=eps)
        self.attn = GPT2Attention(config, layer_idx)
        self.ln_2 = nn.LayerNorm(width, eps=eps)
        self.mlp = GPT2MLP(4 * width if config.n_inner is None else config.n_inner, config)

    def forward(self, x: Tensor, cache: KVCache | None, mask: Tensor | None, causal: bool) -> Tensor:
        x = x + self.attn(self.ln_1(x), cache, mask, causal)
        return x + self.mlp(self.ln_2(x))


class GPT2Model(PretrainedModel):
    """The decoder without a head: token indices (N, L) -> hidden states (N, L, n_embd)."""

    Config = GPT2Config
    prefix = "transformer"
    ignored = (r"(^|\.)attn\.(bias|masked_bias)$",)  # the causal mask, which old files have

    config: GPT2Config

    def __init__(self, config: GPT2Config):
        super().__init__(config)
        self.wte = Embedding(config.vocab_size, config.n_embd)
        self.wpe = Embedding(config.n_positions, config.n_embd)
        self.drop = nn.Dropout(config.embd_pdrop)
        self.h = nn.ModuleList([GPT2Block(config, i) for i in range(config.n_layer)])
        self.ln_f = nn.LayerNorm(config.n_embd, eps=config.layer_norm_epsilon)
        self.post_init()

    def _init_weights(self, module: nn.Module) -> None:
        _init_weights(self, module)

    def forward(
        self,
        input_ids: Tensor | None = None,
        past_key_values: KVCache | None = None,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        position_ids: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        use_cache: bool | None = None,
    ) -> ModelOutput:
        """last_hidden_state: (N, L, n_embd), and past_key_values.

        Args:
            input_ids: (N, L) int, those that the cache does not hold; or inputs_embeds: (N, L, n_embd).
            past_key_values: earlier positions; L more are added.
            attention_mask: (N, positions in the cache + L), 0 where there is padding.
            token_type_ids: (N, L) int; their token's embedding is added.
            position_ids: (N or 1, L) int; counted on behind the cache by default, padding too.
            use_cache: whether to begin a cache where none is given; the configuration's by default, not in training.

        Raises ValueError for sizes that do not fit and for positions behind the last (n_positions).
        """
        past = check_inputs(input_ids, inputs_embeds, past_key_values)
        cache = past_key_values
        if cache is None and (self.config.use_cache and not self.training if use_cache is None else use_cache):
            cache = KVCache()
        x = self.wte(input_ids) if inputs_embeds is None else inputs_embeds
        length = x.shape[1]
        mask, causal = attention_mask_for(attention_mask, length, past, x)
        if position_ids is None:
            if past + length > self.config.n_positions:
                raise ValueError(
                    f"{past + length} positions, but the model has {self.config.n_positions}: give a shorter input"
                )
            x = x + self.wpe.weight[past : past + length]
        else:
            x = x + self.wpe(position_ids)
        if token_type_ids is not None:
            x = x + self.wte(token_type_ids)
        x = self.drop(x)
        for block in self.h:
            x = block(x, cache, mask, causal)
        return ModelOutput(last_hidden_state=self.ln_f(x), past_key_values=cache)


def _init_weights(model: PretrainedModel, module: nn.Module) -> None:
    """Normal weights, smaller where a layer adds to the residual path, of which there are two per block."""
    PretrainedModel._init_weights(model, module)
    deviation = model.config.initializer_range
    if isinstance(module, Conv1D):
        init.normal_(module.weight, 0.0, deviation)
        init.zeros_(module.bias)
    if isinstance(module, (GPT2Attention, GPT2MLP)):
        init.normal_(module.c_proj.weight, 0.0, deviation / math.sqrt(2 * model.config.n_layer))


class GPT2LMHeadModel(CausalLM):
    """GPT-2 with a score for every token that may come next: (N, L) -> logits (N, L, vocab_size)."""

    Config = GPT2Config
    prefix = "transformer"
    ignored = GPT2Model.ignored
    tied: ClassVar[dict[str, str]] = {"lm_head.weight": "transformer.wte.weight"}
    learned_positions = True

    config: GPT2Config

    def __init__(self, config: GPT2Config):
        super().__init__(config)
        with skip_initialisation():  # they are drawn once, below
            self.transformer = GPT2Model(config)
        self.lm_head = Linear(config.n_embd, config.vocab_size, bias=False)
        self.post_init()

    def _init_weights(self, module: nn.Module) -> None:
        _init_weights(self, module)
