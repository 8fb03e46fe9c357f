"""What a call of generate is given, checked and made ready."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from typing import Any

from ...autograd.api.creation import tensor
from ...autograd.tensor import Tensor
from .config import GenerationConfig

Criterion = Callable[[Tensor, Any], Any]


def prompts(ids: Any, config: GenerationConfig, vocabulary: int, device: Any) -> Tensor:
    """(N, L) int: the prompts; one of the token that begins a text where there are none.

    ValueError for another shape or no token, TypeError for numbers that are no integers, IndexError for tokens outside
    the vocabulary.
    """
    if ids is None:
        if config.bos_token_id is None:
            raise ValueError("`bos_token_id` has to be defined when no `input_ids` are provided.")
        return tensor([[config.bos_token_id]], device=device)
    if not isinstance(ids, Tensor) or ids.is_floating_point() or ids.is_complex() or ids.dtype.name == "bool":
        seen = f"a {ids.dtype.name} tensor" if isinstance(ids, Tensor) else type(ids).__name__
        raise TypeError(f"input_ids: expected a tensor of integers (batch, length), but got {seen}")
    if ids.dim() != 2 or not ids.numel():
        raise ValueError(f"input_ids: expected (batch, length) of at least one token each, but got {tuple(ids.shape)}")
    least, most = int(ids.min()), int(ids.max())
    if least < 0 or most >= vocabulary:
        raise IndexError(
            f"input_ids: token {least if least < 0 else most} is outside the vocabulary of {vocabulary}: is the "
            "tokenizer that of this model?"
        )
    return ids.long()


def padding_mask(ids: Tensor, mask: Any, pad: int | None, ends: list[int]) -> Tensor | None:
    """(N, L) int64, 0 at padding; None where there is none. Without `mask`, the tokens `pad`, unless they end texts.

    ValueError for another shape, or for a prompt that is all padding.
    """
    if mask is None:
        if pad is None or pad in ends:
            return None
        mask = ids != pad
    elif tuple(mask.shape) != tuple(ids.shape):
        raise ValueError(f"attention_mask: expected {tuple(ids.shape)} as input_ids, but got {tuple(mask.shape)}")
    seen = mask != 0
    if seen.all():
        return None
    if not seen.any(1).all():
        raise ValueError("attention_mask: a prompt is all padding, and there is nothing to continue")
    if ids.shape[0] > 1 and not seen[:, -1].all():
        warnings.warn(
            "A decoder-only architecture is being used, but right-padding was detected! For correct generation "
            "results, set the tokenizer's padding_side to 'left'.",
            stacklevel=5,
        )
    return seen.long()


def criteria(config: GenerationConfig, own: list[Criterion], tokenizer: Any, prompt: int) -> list[Criterion]:
    """Functions (tokens, scores) -> whether to stop, bool or (N,) bool: for max_time, stop_strings, and the caller's.

    prompt: its length, in which stop strings are not looked for. ValueError for stop strings without a tokenizer.
    """
    found = list(own)
    if config.max_time is not None:
        until = time.monotonic() + config.max_time
        found.append(lambda ids, scores: time.monotonic() > until)
    if config.stop_strings is not None:
        if tokenizer is None:
            raise ValueError(
                "stop_strings are looked for in text: pass the tokenizer to `generate`, as in "
                "generate(..., stop_strings=['.'], tokenizer=tokenizer)"
            )
        texts = [config.stop_strings] if isinstance(config.stop_strings, str) else list(config.stop_strings)
        found.append(_StopStrings(texts, tokenizer, prompt))
    return found


class _StopStrings:
    """Whether the text of the new tokens has one of some strings. Only as many tokens are read as can hold it."""

    def __init__(self, texts: list[str], tokenizer: Any, prompt: int):
        self.texts, self.tokenizer, self.prompt = texts, tokenizer, prompt
        self.reach = 2 * max(len(text.encode()) for text in texts)  # a token has a byte or more; some have none at all

    def __call__(self, ids: Tensor, scores: Any) -> Tensor:
        rows = ids[:, max(self.prompt, ids.shape[1] - self.reach) :].tolist()
        decoded = [self.tokenizer.decode(row) for row in rows]
        return tensor([any(text in whole for text in self.texts) for whole in decoded], device=ids.device)
