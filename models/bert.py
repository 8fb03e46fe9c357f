"""BERT. Devlin et al., BERT: Pre-training of deep bidirectional transformers, 2018 (arXiv:1810.04805).

N texts of L tokens, H hidden numbers each, in A heads. Module names are those of the checkpoints.
"""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar

from ..autograd.api.creation import zeros
from ..autograd.exporting import is_exporting
from ..autograd.tensor import Tensor
from ..nn import Dropout, LayerNorm, Module, ModuleList, Parameter
from .configuration import PretrainedConfig
from .layers import ACTIVATION_NAMES, Embedding, Linear, SelfAttention, activation
from .losses import classification_loss, token_loss
from .outputs import ModelOutput
from .pretrained import PretrainedModel

__all__ = ["BertConfig", "BertForMaskedLM", "BertForSequenceClassification", "BertModel"]


@dataclasses.dataclass(kw_only=True)
class BertConfig(PretrainedConfig):
    """What a BERT is like; defaults are those of bert-base-uncased."""

    model_type: ClassVar[str] = "bert"
    allowed: ClassVar[dict[str, tuple[Any, ...]]] = {
        "hidden_act": ACTIVATION_NAMES,
        "position_embedding_type": ("absolute",),
        "is_decoder": (False,),
        "add_cross_attention": (False,),
    }

    vocab_size: int = 30522
    hidden_size: int = 768
    num_hidden_layers: int = 12
    num_attention_heads: int = 12
    intermediate_size: int = 3072
    hidden_act: str = "gelu"
    hidden_dropout_prob: float = 0.1
    attention_probs_dropout_prob: float = 0.1
    max_position_embeddings: int = 512
    type_vocab_size: int = 2
    initializer_range: float = 0.02
    layer_norm_eps: float = 1e-12
    pad_token_id: int | None = 0
    classifier_dropout: float | None = None
    problem_type: str | None = None

    def validate(self) -> None:
        if self.num_attention_heads < 1 or self.hidden_size % self.num_attention_heads:
            raise ValueError(
                f"hidden_size={self.hidden_size} is no multiple of num_attention_heads={self.num_attention_heads}"
            )


class BertEmbeddings(Module):
    """Word, position and segment embeddings, summed and normalised."""

    def __init__(self, config: BertConfig):
        super().__init__()
        size = config.hidden_size
        self.word_embeddings = Embedding(config.vocab_size, size, padding_idx=config.pad_token_id)
        self.position_embeddings = Embedding(config.max_position_embeddings, size)
        self.token_type_embeddings = Embedding(config.type_vocab_size, size)
        self.LayerNorm = LayerNorm(size, eps=config.layer_norm_eps)
        self.dropout = Dropout(config.hidden_dropout_prob)

    def forward(self, input_ids: Any, token_type_ids: Any, position_ids: Any, inputs_embeds: Any) -> Tensor:
        """input_ids, token_type_ids: (N, L) int; position_ids: (N or 1, L) int -> (N, L, H)."""
        words = self.word_embeddings(input_ids) if inputs_embeds is None else inputs_embeds
        length = words.shape[1]
        if position_ids is None:
            places = self.position_embeddings.weight[:length]
        else:
            places = self.position_embeddings(position_ids)
        if token_type_ids is None:
            types = self.token_type_embeddings.weight[0]
        else:
            types = self.token_type_embeddings(token_type_ids)
        return self.dropout(self.LayerNorm(words + types + places))


class BertOutput(Module):
    """A projection back to H, added to what came in, normalised. Used after attention, and after the wide layer."""

    def __init__(self, config: BertConfig, width: int):
        super().__init__()
        self.dense = Linear(width, config.hidden_size)
        self.LayerNorm = LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.dropout = Dropout(config.hidden_dropout_prob)

    def forward(self, x: Tensor, residual: Tensor) -> Tensor:
        """x: (N, L, width), residual: (N, L, H) -> (N, L, H)."""
        return self.LayerNorm(self.dropout(self.dense(x)) + residual)


class BertAttention(Module):
    """Attention and its projection. (N, L, H) -> (N, L, H)."""

    def __init__(self, config: BertConfig):
        super().__init__()
        size, dropout = config.hidden_size, config.attention_probs_dropout_prob
        self.self = SelfAttention(size, config.num_attention_heads, dropout)
        self.output = BertOutput(config, config.hidden_size)

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        return self.output(self.self(x, mask), x)


class BertIntermediate(Module):
    """The wide layer. (N, L, H) -> (N, L, intermediate_size)."""

    def __init__(self, config: BertConfig):
        super().__init__()
        self.dense = Linear(config.hidden_size, config.intermediate_size)
        self.activation = activation(config.hidden_act)

    def forward(self, x: Tensor) -> Tensor:
        return self.activation(self.dense(x))


class BertLayer(Module):
    """A transformer layer, normalised after each half. (N, L, H) -> (N, L, H)."""

    def __init__(self, config: BertConfig):
        super().__init__()
        self.attention = BertAttention(config)
        self.intermediate = BertIntermediate(config)
        self.output = BertOutput(config, config.intermediate_size)

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        x = self.attention(x, mask)
        return self.output(self.intermediate(x), x)


class BertEncoder(Module):
    """The layers, one after the other."""

    def __init__(self, config: BertConfig):
        super().__init__()
        self.layer = ModuleList([BertLayer(config) for _ in range(config.num_hidden_layers)])

    def forward(self, x: Tensor, mask: Tensor | None) -> list[Tensor]:
        """x: (N, L, H) -> what goes into the first layer and comes out of each, (N, L, H) each."""
        states = [x]
        for layer in self.layer:
            states.append(layer(states[-1], mask))
        return states


class BertPooler(Module):
    """A layer on the first token. (N, L, H) -> (N, H)."""

    def __init__(self, config: BertConfig):
        super().__init__()
        self.dense = Linear(config.hidden_size, config.hidden_size)

    def forward(self, x: Tensor) -> Tensor:
        return self.dense(x[:, 0]).tanh()


class BertPretrainedModel(PretrainedModel):
    """What the BERT models have in common."""

    Config: ClassVar[type[PretrainedConfig]] = BertConfig
    prefix: ClassVar[str] = "bert"
    # buffers of old versions; heads and a pooler that other tasks trained
    ignored: ClassVar[tuple[str, ...]] = (r"embeddings\.position_ids$", r"^cls\.", r"^classifier\.", r"(^|\.)pooler\.")
    renamed: ClassVar[dict[str, str]] = {
        r"LayerNorm\.gamma$": "LayerNorm.weight",
        r"LayerNorm\.beta$": "LayerNorm.bias",
    }


class BertModel(BertPretrainedModel):
    """The encoder. Without `add_pooling_layer` there is no pooler: for checkpoints that have none."""

    def __init__(self, config: BertConfig, add_pooling_layer: bool = True):
        super().__init__(config)
        self.embeddings = BertEmbeddings(config)
        self.encoder = BertEncoder(config)
        self.pooler = BertPooler(config) if add_pooling_layer else None
        self.post_init()

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        token_type_ids: Tensor | None = None,
        position_ids: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        output_hidden_states: bool = False,
    ) -> ModelOutput:
        """The tokens in their context.

        Args:
            input_ids: (N, L) int, L at most max_position_embeddings; or instead of them inputs_embeds: (N, L, H).
            attention_mask: (N, L), 0 at padding; None: there is none.
            token_type_ids: (N, L) int, the segment of each token; None: all 0.
            position_ids: (N or 1, L) int; None: 0, 1, 2, ...
            output_hidden_states: whether to return them.

        Returns:
            last_hidden_state: (N, L, H); pooler_output: (N, H); hidden_states: of the embeddings and of each layer.

        Raises ValueError for both or neither of input_ids and inputs_embeds, and for more tokens than positions.
        """
        mask = self._mask(input_ids, inputs_embeds, attention_mask)
        x = self.embeddings(input_ids, token_type_ids, position_ids, inputs_embeds)
        states = self.encoder(x, mask)
        return ModelOutput(
            last_hidden_state=states[-1],
            pooler_output=None if self.pooler is None else self.pooler(states[-1]),
            hidden_states=tuple(states) if output_hidden_states else None,
        )

    def _mask(self, input_ids: Any, inputs_embeds: Any, attention_mask: Any) -> Tensor | None:
        """(N, 1, 1, L) bool, or None where nothing is masked; checks what goes in."""
        if (input_ids is None) == (inputs_embeds is None):
            raise ValueError("You must specify exactly one of input_ids or inputs_embeds")
        shape = tuple((input_ids if inputs_embeds is None else inputs_embeds).shape[:2])
        if inputs_embeds is None and input_ids.dim() != 2:
            raise ValueError(f"input_ids must be of shape (N, L), not {tuple(input_ids.shape)}")
        if shape[1] > self.config.max_position_embeddings:
            raise ValueError(
                f"{shape[1]} tokens are more than max_position_embeddings={self.config.max_position_embeddings}: "
                "cut them (truncation=True of the tokenizer)"
            )
        if attention_mask is None:
            return None
        if tuple(attention_mask.shape) != shape:
            raise ValueError(f"attention_mask must be of shape {shape}, not {tuple(attention_mask.shape)}")
        seen = attention_mask != 0
        return None if seen.device.type == "cpu" and not is_exporting() and bool(seen.all()) else seen[:, None, None, :]


class BertPredictionHeadTransform(Module):
    """(N, L, H) -> (N, L, H)."""

    def __init__(self, config: BertConfig):
        super().__init__()
        self.dense = Linear(config.hidden_size, config.hidden_size)
        self.activation = activation(config.hidden_act)
        self.LayerNorm = LayerNorm(config.hidden_size, eps=config.layer_norm_eps)

    def forward(self, x: Tensor) -> Tensor:
        return self.LayerNorm(self.activation(self.dense(x)))


class BertLMPredictionHead(Module):
    """Scores of the words of the vocabulary. (N, L, H) -> (N, L, V)."""

    def __init__(self, config: BertConfig):
        super().__init__()
        self.transform = BertPredictionHeadTransform(config)
        self.decoder = Linear(config.hidden_size, config.vocab_size)
        self.bias = Parameter(zeros(config.vocab_size))  # the decoder's: files have it under this name

    def forward(self, x: Tensor) -> Tensor:
        return self.decoder(self.transform(x))


class BertOnlyMLMHead(Module):
    """(N, L, H) -> (N, L, V)."""

    def __init__(self, config: BertConfig):
        super().__init__()
        self.predictions = BertLMPredictionHead(config)

    def forward(self, x: Tensor) -> Tensor:
        return self.predictions(x)


class BertForMaskedLM(BertPretrainedModel):
    """Which word stands at [MASK]."""

    tied: ClassVar[dict[str, str]] = {
        "cls.predictions.decoder.weight": "bert.embeddings.word_embeddings.weight",
        "cls.predictions.decoder.bias": "cls.predictions.bias",
    }

    def __init__(self, config: BertConfig):
        super().__init__(config)
        self.bert = BertModel(config, add_pooling_layer=False)
        self.cls = BertOnlyMLMHead(config)
        self.post_init()

    def forward(self, input_ids: Any = None, labels: Tensor | None = None, **inputs: Any) -> ModelOutput:
        """Arguments are BertModel's; labels: (N, L) int, -100 where nothing is to be predicted.

        Returns loss: (), where there are labels; logits: (N, L, V); hidden_states.
        """
        found = self.bert(input_ids, **inputs)
        logits = self.cls(found.last_hidden_state)
        loss = None if labels is None else token_loss(logits, labels)
        return ModelOutput(loss=loss, logits=logits, hidden_states=found.hidden_states)


class BertForSequenceClassification(BertPretrainedModel):
    """A class, or a number, for each text (or pair of texts)."""

    def __init__(self, config: BertConfig):
        super().__init__(config)
        self.bert = BertModel(config)
        kept = config.classifier_dropout
        self.dropout = Dropout(config.hidden_dropout_prob if kept is None else kept)
        self.classifier = Linear(config.hidden_size, config.num_labels)
        self.post_init()

    def forward(self, input_ids: Any = None, labels: Tensor | None = None, **inputs: Any) -> ModelOutput:
        """Arguments are BertModel's; labels: (N,) int, or floating for regression, or (N, C) floating.

        Returns loss: (), where there are labels; logits: (N, C); hidden_states.
        """
        found = self.bert(input_ids, **inputs)
        logits = self.classifier(self.dropout(found.pooler_output))
        loss = None if labels is None else classification_loss(self.config, logits, labels)
        return ModelOutput(loss=loss, logits=logits, hidden_states=found.hidden_states)
