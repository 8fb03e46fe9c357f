"""What the models that continue a text share: their head, the loss of the next token."""

from __future__ import annotations

from typing import Any, ClassVar

from ..autograd.tensor import Tensor
from ..nn import functional as F
from .cache import KVCache
from .generation import GenerationMixin
from .outputs import ModelOutput
from .pretrained import PretrainedModel

__all__ = ["CausalLM"]


def check_inputs(input_ids: Tensor | None, inputs_embeds: Tensor | None, cache: KVCache | None) -> int:
    """How many positions the cache holds. ValueError unless there is one of the two inputs, in two or three dimensions.

    input_ids: (N, L) int; inputs_embeds: (N, L, width).
    """
    if (input_ids is None) == (inputs_embeds is None):
        raise ValueError("You must specify exactly one of input_ids or inputs_embeds")
    given, name, shape = (
        (inputs_embeds, "inputs_embeds", "(batch, length, width)") if input_ids is None
        else (input_ids, "input_ids", "(batch, length)")
    )  # fmt: skip
    if given.dim() != shape.count(",") + 1:  # type: ignore[union-attr]  # one of them is there
        raise ValueError(f"{name}: expected {shape}, but got {tuple(given.shape)}")  # type: ignore[union-attr]
    return 0 if cache is None else cache.get_seq_length()


class CausalLM(GenerationMixin, PretrainedModel):
    """A decoder, named by `prefix`, and `lm_head`, a linear layer from its hidden states to scores of tokens."""

    lm_head: Any
    learned_positions: ClassVar[bool] = False

    def forward(
        self,
        input_ids: Tensor | None = None,
        *args: Any,
        labels: Tensor | None = None,
        logits_to_keep: int = 0,
        **kwargs: Any,
    ) -> ModelOutput:
        """logits: (N, L or those kept, vocabulary), scores of the token behind each; loss: (); past_key_values.

        Args:
            input_ids: (N, L) int.
            args, kwargs: those of the decoder without a head.
            labels: (N, L) int, mostly input_ids itself: they are moved by one place here. The loss is their mean
                cross-entropy; those that are -100 do not count.
            logits_to_keep: scores of so many last positions only; 0: of all.

        Raises what the decoder raises.
        """
        found = self.base_model(input_ids, *args, **kwargs)
        hidden = found.last_hidden_state
        logits = self.lm_head(hidden[:, -logits_to_keep:] if logits_to_keep else hidden)
        loss = None
        if labels is not None:
            wanted = F.pad(labels, (0, 1), value=-100)[:, 1:]
            loss = F.cross_entropy(logits.float().flatten(0, 1), wanted.flatten(), ignore_index=-100)
        return ModelOutput(loss=loss, logits=logits, past_key_values=found.past_key_values)
