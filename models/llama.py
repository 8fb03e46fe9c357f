"""LLaMA, and models of its kind: Mistral (a sliding window) and Qwen2 (biases at queries, keys and values).

Touvron et al., LLaMA: open and efficient foundation language models, 2023; Grattafiori et al., The Llama 3 herd of
models, 2024. Names of modules and parameters are those of the checkpoints.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from .. import nn
from ..autograd.tensor import Tensor
from ..nn import functional as F
from .cache import KVCache, attention_mask_for
from .causal import CausalLM, check_inputs
from .configuration import PretrainedConfig
from .layers import Embedding, Linear, activation, skip_initialisation
from .outputs import ModelOutput
from .pretrained import PretrainedModel
from .rotary import Rotary, rope_parameters, rotated

__all__ = [
    "LlamaConfig",
    "LlamaForCausalLM",
    "LlamaModel",
    "MistralConfig",
    "MistralForCausalLM",
    "MistralModel",
    "Qwen2Config",
    "Qwen2ForCausalLM",
    "Qwen2Model",
]


@dataclass(kw_only=True)
class LlamaConfig(PretrainedConfig):
    """What a LLaMA is like; names and defaults are the hub's: the first model with 7 billion parameters."""

    model_type: ClassVar[str] = "llama"
    allowed: ClassVar[dict[str, tuple[Any, ...]]] = {"pretraining_tp": (1, None)}

    vocab_size: int = 32000
    hidden_size: int = 4096
    intermediate_size: int = 11008
    num_hidden_layers: int = 32
    num_attention_heads: int = 32
    num_key_value_heads: int | None = None
    hidden_act: str = "silu"
    max_position_embeddings: int = 2048
    initializer_range: float = 0.02
    rms_norm_eps: float = 1e-6
    use_cache: bool = True
    pad_token_id: int | None = None
    bos_token_id: int | None = 1
    eos_token_id: int | list[int] | None = 2
    tie_word_embeddings: bool = False
    rope_theta: float | None = None
    rope_scaling: dict[str, Any] | None = None
    rope_parameters: dict[str, Any] | None = None
    attention_bias: bool = False
    attention_dropout: float = 0.0
    mlp_bias: bool = False
    head_dim: int | None = None

    def validate(self) -> None:
        if self.head_dim is None:
            if self.hidden_size % self.num_attention_heads:
                raise ValueError(
                    f"The hidden size ({self.hidden_size}) is not a multiple of the number of attention heads "
                    f"({self.num_attention_heads})."
                )
            self.head_dim = self.hidden_size // self.num_attention_heads
        if self.head_dim % 2:
            raise ValueError(f"head_dim={self.head_dim} must be even: its entries are turned in pairs")
        if self.num_key_value_heads is None:
            self.num_key_value_heads = self.num_attention_heads
        if self.num_attention_heads % self.num_key_value_heads:
            raise ValueError(
                f"num_attention_heads={self.num_attention_heads} must be a multiple of "
                f"num_key_value_heads={self.num_key_value_heads}"
            )
        self.rope_parameters = rope_parameters(self)
        self.rope_scaling = self.rope_theta = None

    def to_dict(self) -> dict[str, Any]:
        values = super().to_dict()
        return {key: value for key, value in values.items() if key not in ("rope_scaling", "rope_theta")}

    def window(self, layer_idx: int) -> int | None:
        """How many keys a query of a layer sees at most, itself among them; None: all."""
        return None

    def biases(self) -> tuple[bool, bool]:
        """Whether there are biases at queries, keys and values, and at the attention's output."""
        return self.attention_bias, self.attention_bias


@dataclass(kw_only=True)
class MistralConfig(LlamaConfig):
    """Jiang et al., Mistral 7B, 2023."""

    model_type: ClassVar[str] = "mistral"

    intermediate_size: int = 14336
    num_key_value_heads: int | None = 8
    max_position_embeddings: int = 4096 * 32
    sliding_window: int | None = 4096

    def window(self, layer_idx: int) -> int | None:
        return self.sliding_window


@dataclass(kw_only=True)
class Qwen2Config(LlamaConfig):
    """Yang et al., Qwen2 technical report, 2024."""

    model_type: ClassVar[str] = "qwen2"

    vocab_size: int = 151936
    intermediate_size: int = 22016
    num_key_value_heads: int | None = 32
    max_position_embeddings: int = 32768
    bos_token_id: int | None = None
    eos_token_id: int | list[int] | None = None
    use_sliding_window: bool = False
    sliding_window: int | None = 4096
    max_window_layers: int = 28
    layer_types: list[str] | None = None

    def window(self, layer_idx: int) -> int | None:
        if not self.use_sliding_window:
            return None
        if self.layer_types is not None:
            return self.sliding_window if self.layer_types[layer_idx] == "sliding_attention" else None
        return self.sliding_window if layer_idx >= self.max_window_layers else None

    def biases(self) -> tuple[bool, bool]:
        return True, False


class LlamaAttention(nn.Module):
    """Causal attention; each head of keys and values serves several heads of queries. (N, L, E) -> (N, L, E)."""

    def __init__(self, config: LlamaConfig, layer_idx: int):
        super().__init__()
        width, head = config.hidden_size, config.head_dim or 0  # validate has set it
        heads, shared = config.num_attention_heads, config.num_key_value_heads or 0
        inner, outer = config.biases()
        self.layer_idx, self.head_dim, self.shared, self.dropout = layer_idx, head, shared, config.attention_dropout
        self.groups = heads // shared
        self.window = config.window(layer_idx)
        self.q_proj = Linear(width, heads * head, bias=inner)
        self.k_proj = Linear(width, shared * head, bias=inner)
        self.v_proj = Linear(width, shared * head, bias=inner)
        self.o_proj = Linear(heads * head, width, bias=outer)

    def forward(self, x: Tensor, turns: Any, cache: KVCache | None, mask: Tensor | None, causal: bool) -> Tensor:
        batch, length = x.shape[:2]
        q, k, v = (
            layer(x).view(batch, length, -1, self.head_dim).transpose(1, 2)
            for layer in (self.q_proj, self.k_proj, self.v_proj)
        )
        q, k = rotated(q, *turns), rotated(k, *turns)
        if cache is not None:
            k, v = cache.update(k, v, self.layer_idx)
        if self.groups > 1:
            q, k, v, mask = self._shared(q, k, v, mask)
        y = F.scaled_dot_product_attention(q, k, v, mask, self.dropout if self.training else 0.0, causal)
        y = y.reshape(batch, -1, length, self.head_dim)
        return self.o_proj(y.transpose(1, 2).reshape(batch, length, -1))

    def _shared(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> tuple[Any, Any, Any, Any]:
        """Queries by the head of keys that they share, none of which is copied.

        One query per head: those of a group are the rows of one product, q: (N, shared, groups, D). Else keys and
        values are broadcast: q: (N, shared, groups, L, D), k, v: (N, shared, 1, S, D), mask: one dimension more.
        """
        batch, _, length, width = q.shape
        if length == 1:
            return q.reshape(batch, self.shared, self.groups, width), k, v, mask
        q = q.reshape(batch, self.shared, self.groups, length, width)
        return q, k.unsqueeze(2), v.unsqueeze(2), None if mask is None else mask.unsqueeze(1)


class LlamaMLP(nn.Module):
    """down(act(gate(x)) * up(x)). Shazeer, GLU variants improve transformer, 2020. (*, E) -> (*, E)."""

    def __init__(self, config: LlamaConfig):
        super().__init__()
        width, inner, bias = config.hidden_size, config.intermediate_size, config.mlp_bias
        self.gate_proj = Linear(width, inner, bias=bias)
        self.up_proj = Linear(width, inner, bias=bias)
        self.down_proj = Linear(inner, width, bias=bias)
        self.act_fn = activation(config.hidden_act)

    def forward(self, x: Tensor) -> Tensor:
        return self.down_proj(self.act_fn(self.gate_proj(x)) * self.up_proj(x))


class LlamaRMSNorm(nn.RMSNorm):
    """RMSNorm in float32, whatever the input's dtype is. (*, E) -> (*, E)."""

    def forward(self, input: Tensor) -> Tensor:
        if input.dtype.itemsize >= 4:
            return super().forward(input)
        return self.weight * F.rms_norm(input.float(), self.normalized_shape, None, self.eps).to(input.dtype)


class LlamaDecoderLayer(nn.Module):
    """Attention and a gated network, each behind a norm and beside a residual path."""

    def __init__(self, config: LlamaConfig, layer_idx: int):
        super().__init__()
        self.self_attn = LlamaAttention(config, layer_idx)
        self.mlp = LlamaMLP(config)
        self.input_layernorm = LlamaRMSNorm(config.hidden_size, eps=config.rms_norm_eps)
        self.post_attention_layernorm = LlamaRMSNorm(config.hidden_size, eps=config.rms_norm_eps)

    def forward(self, x: Tensor, turns: Any, cache: KVCache | None, mask: Tensor | None, causal: bool) -> Tensor:
        x = x + self.self_attn(self.input_layernorm(x), turns, cache, mask, causal)
        return x + self.mlp(self.post_attention_layernorm(x))


class LlamaModel(PretrainedModel):
    """The decoder without a head: token indices (N, L) -> hidden states (N, L, hidden_size)."""

    Config: ClassVar[type[PretrainedConfig]] = LlamaConfig
    prefix = "model"
    ignored = (r"rotary_emb\.inv_freq$",)  # computed from the configuration; old files have it

    config: LlamaConfig

    def __init__(self, config: LlamaConfig):
        super().__init__(config)
        self.embed_tokens = Embedding(config.vocab_size, config.hidden_size, config.pad_token_id)
        self.layers = nn.ModuleList([LlamaDecoderLayer(config, i) for i in range(config.num_hidden_layers)])
        self.norm = LlamaRMSNorm(config.hidden_size, eps=config.rms_norm_eps)
        self.rotary = Rotary(config.rope_parameters or {}, config.head_dim or 0, config.max_position_embeddings)
        self.windows = [config.window(i) for i in range(config.num_hidden_layers)]
        self.post_init()

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        past_key_values: KVCache | None = None,
        inputs_embeds: Tensor | None = None,
        use_cache: bool | None = None,
    ) -> ModelOutput:
        """last_hidden_state: (N, L, hidden_size), and past_key_values.

        Args:
            input_ids: (N, L) int, those that the cache does not hold; or inputs_embeds: (N, L, hidden_size).
            attention_mask: (N, positions in the cache + L), 0 where there is padding.
            position_ids: (N or 1, L) int; counted on behind the cache by default, padding too.
            past_key_values: earlier positions; L more are added.
            use_cache: whether to begin a cache where none is given; the configuration's by default, not in training.

        Raises ValueError for sizes that do not fit.
        """
        past = check_inputs(input_ids, inputs_embeds, past_key_values)
        cache = past_key_values
        if cache is None and (self.config.use_cache and not self.training if use_cache is None else use_cache):
            cache = KVCache()
        x = self.embed_tokens(input_ids) if inputs_embeds is None else inputs_embeds
        length = x.shape[1]
        masks = {
            window: attention_mask_for(attention_mask, length, past, x, window)
            for window in dict.fromkeys(self.windows)
        }
        turns = self.rotary(x, past, length, position_ids)
        for layer, window in zip(self.layers, self.windows, strict=True):
            x = layer(x, turns, cache, *masks[window])
        return ModelOutput(last_hidden_state=self.norm(x), past_key_values=cache)


class LlamaForCausalLM(CausalLM):
    """LLaMA with a score for every token that may come next: (N, L) -> logits (N, L, vocab_size)."""

    Config: ClassVar[type[PretrainedConfig]] = LlamaConfig
    prefix = "model"
    ignored = LlamaModel.ignored
    tied: ClassVar[dict[str, str]] = {"lm_head.weight": "model.embed_tokens.weight"}

    def __init__(self, config: LlamaConfig):
        super().__init__(config)
        with skip_initialisation():  # they are drawn once, below
            self.model = LlamaModel(config)
        self.lm_head = Linear(config.hidden_size, config.vocab_size, bias=False)
        self.post_init()


class MistralModel(LlamaModel):
    """LLaMA with a sliding window."""

    Config = MistralConfig


class MistralForCausalLM(LlamaForCausalLM):
    """MistralModel with scores of the next token."""

    Config = MistralConfig


class Qwen2Model(LlamaModel):
    """LLaMA with biases at queries, keys and values."""

    Config = Qwen2Config


class Qwen2ForCausalLM(LlamaForCausalLM):
    """Qwen2Model with scores of the next token."""

    Config = Qwen2Config
