"""Sentence encoders: one vector per text. Reimers & Gurevych, Sentence-BERT, 2019 (arXiv:1908.10084).

A folder of sentence-transformers has a modules.json, which lists a transformer, a pooling and, where there is one, a
normalisation:

    modules.json                [{"path": "", "type": "...Transformer"}, {"path": "1_Pooling", "type": "...Pooling"}]
    config.json, model.safetensors, tokenizer.json      the transformer (in its path)
    sentence_bert_config.json   max_seq_length, do_lower_case
    1_Pooling/config.json       which of cls, mean, max, ... is taken
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Self

from ..autograd.api.creation import arange, empty
from ..autograd.api.join import cat
from ..autograd.modes import no_grad
from ..autograd.tensor import Tensor
from ..nn import Module
from ..nn import functional as F
from . import base_class
from .configuration import read_json
from .tokenizer import Tokenizer

__all__ = ["SentenceEncoder"]

# tokens with which a processor computes as fast as with more; a GPU wants larger batches, even at the price of padding
_ENOUGH, _ENOUGH_DEVICE = 128, 8192
_LENGTHS = ("sentence_bert_config.json", "sentence_roberta_config.json")


# tokens: (N, L, H), mask: (N, L, 1) of 0 and 1 in the dtype of tokens -> (N, H)


def _cls(tokens: Tensor, mask: Tensor) -> Tensor:
    return tokens[:, 0]


def _max(tokens: Tensor, mask: Tensor) -> Tensor:
    return tokens.masked_fill(mask == 0, -1e9).amax(1)


def _mean(tokens: Tensor, mask: Tensor) -> Tensor:
    return (tokens * mask).sum(1) / mask.sum(1).clamp(min=1e-9)


def _mean_sqrt(tokens: Tensor, mask: Tensor) -> Tensor:
    return (tokens * mask).sum(1) / mask.sum(1).clamp(min=1e-9).sqrt()


def _weighted(tokens: Tensor, mask: Tensor) -> Tensor:
    weights = mask * arange(1, tokens.shape[1] + 1, dtype=tokens.dtype, device=tokens.device)[None, :, None]
    return (tokens * weights).sum(1) / weights.sum(1).clamp(min=1e-9)


def _last(tokens: Tensor, mask: Tensor) -> Tensor:
    places = arange(1, tokens.shape[1] + 1, dtype=tokens.dtype, device=tokens.device)[None, :, None]
    chosen = (mask * places).argmax(1, keepdim=True)  # the last that is no padding, on whichever side that is
    return tokens.gather(1, chosen.expand(-1, 1, tokens.shape[2]))[:, 0]


# in the order in which sentence-transformers puts them side by side
_POOLINGS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "cls": _cls, "max": _max, "mean": _mean, "mean_sqrt_len": _mean_sqrt, "weightedmean": _weighted,
    "lasttoken": _last,
}  # fmt: skip
_KEYS = {
    "pooling_mode_cls_token": "cls", "pooling_mode_max_tokens": "max", "pooling_mode_mean_tokens": "mean",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len", "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}  # fmt: skip


class SentenceEncoder(Module):
    """Texts to vectors: a transformer, a pooling over its tokens, and perhaps a normalisation to length 1.

    Args:
        transformer: gives `last_hidden_state` for what the tokenizer gives.
        tokenizer: texts to numbers.
        pooling: "cls" (the first token), "mean", "max", "mean_sqrt_len", "weightedmean", "lasttoken", or several of
            them, side by side.
        normalize: whether vectors are of length 1.
        max_seq_length: tokens; what is longer is cut. None: as many as the model can read.
        lower: whether texts are made lower case first.
    """

    def __init__(
        self,
        transformer: Module,
        tokenizer: Tokenizer,
        pooling: str | Sequence[str] = "mean",
        normalize: bool = False,
        max_seq_length: int | None = None,
        lower: bool = False,
    ):
        super().__init__()
        names = (pooling,) if isinstance(pooling, str) else tuple(pooling)
        unknown = [name for name in names if name not in _POOLINGS]
        if unknown or not names:
            raise ValueError(f"pooling must be of {', '.join(_POOLINGS)}, not {unknown or names!r}")
        self.transformer, self.tokenizer = transformer, tokenizer
        self.pooling, self.normalize, self.lower = names, normalize, lower
        positions = getattr(transformer.config, "max_position_embeddings", None)
        limits = (max_seq_length, tokenizer.model_max_length, positions)
        self.max_seq_length: int | None = min((n for n in limits if n is not None), default=None)

    @classmethod
    def from_pretrained(cls, folder: Any, *, dtype: Any = None, device: Any = None) -> Self:
        """The encoder in a folder of sentence-transformers, in eval mode.

        A folder without modules.json is a transformer alone, and gets the mean over its tokens.

        Raises:
            FileNotFoundError: saying what was looked for.
            ValueError: for a module or a pooling that is not implemented here.
            ImportError: without the packages of the extra `models`.
        """
        folder = os.fspath(folder)
        place, pooling, normalize = _modules(folder)
        limits: dict[str, Any] = {}
        for name in _LENGTHS:
            path = os.path.join(place, name)
            if os.path.isfile(path):
                limits = read_json(path)
        kind = base_class(place)
        extra = {"add_pooling_layer": False} if "add_pooling_layer" in inspect.signature(kind).parameters else {}
        transformer = kind.from_pretrained(place, dtype=dtype, device=device, **extra)
        tokenizer = Tokenizer.from_pretrained(place)
        lower = bool(limits.get("do_lower_case", False))
        return cls(transformer, tokenizer, pooling, normalize, limits.get("max_seq_length"), lower).eval()

    @property
    def device(self) -> Any:
        """Where it computes."""
        return next(self.parameters()).device

    def forward(self, inputs: dict[str, Tensor]) -> Tensor:
        """inputs: what the tokenizer gives for N texts -> (N, D), D = H times the number of poolings."""
        tokens = self.transformer(**inputs).last_hidden_state
        mask = inputs["attention_mask"].to(tokens.dtype).unsqueeze(-1)
        parts = [_POOLINGS[name](tokens, mask) for name in self.pooling]
        vectors = parts[0] if len(parts) == 1 else cat(parts, 1)
        return F.normalize(vectors, p=2.0, dim=1) if self.normalize else vectors

    def tokenize(self, texts: Sequence[str]) -> dict[str, Tensor]:
        """Numbers of texts, cut at `max_seq_length`, padded to the longest: (N, L) int64 each."""
        return self._padded(self._numbers(texts))

    def _numbers(self, texts: Sequence[str]) -> dict[str, list[list[int]]]:
        """Numbers of texts, not yet padded."""
        stripped = [text.strip() for text in texts]
        prepared = [text.lower() for text in stripped] if self.lower else stripped
        return self.tokenizer(
            prepared, padding=False, truncation=True, max_length=self.max_seq_length, return_tensors=None
        )

    def _padded(self, numbers: dict[str, list[list[int]]]) -> dict[str, Tensor]:
        return {name: value.to(self.device) for name, value in self.tokenizer.pad(numbers).items()}

    @no_grad()
    def encode(
        self,
        sentences: str | Sequence[str],
        batch_size: int = 32,
        *,
        normalize_embeddings: bool = False,
        convert_to_numpy: bool = False,
    ) -> Any:
        """The vectors of texts, in their order.

        Texts of similar length go into a batch together, and batches may be smaller than `batch_size`, so that little
        is computed for padding.

        Args:
            sentences: a text, or N of them.
            batch_size: texts that are computed at once, at most.
            normalize_embeddings: whether vectors are made of length 1, where the encoder does not do so by itself.
            convert_to_numpy: whether to return a NumPy array.

        Returns: (N, D), or (D,) for a single text.

        Raises TypeError for what is no text, ValueError for a batch size below 1.
        """
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, not {batch_size!r}")
        single = isinstance(sentences, str)
        texts = [sentences] if isinstance(sentences, str) else list(sentences)
        wrong = next((i for i, text in enumerate(texts) if not isinstance(text, str)), None)
        if wrong is not None:
            raise TypeError(f"sentences[{wrong}] must be a text, not {type(texts[wrong]).__name__}")
        was_training = self.training
        if was_training:
            self.eval()
        try:
            found = self._encode(texts, batch_size)
        finally:
            if was_training:
                self.train()
        if normalize_embeddings and not self.normalize:
            found = F.normalize(found, p=2.0, dim=1)
        found = found[0] if single else found
        return found.cpu().numpy() if convert_to_numpy else found

    def _encode(self, texts: list[str], batch_size: int) -> Tensor:
        """(N, D), in the order of `texts`."""
        numbers = self._numbers(texts)
        order = sorted(range(len(texts)), key=lambda i: -len(numbers["input_ids"][i]))
        if not order:
            width = getattr(self.transformer.config, "hidden_size", 0) * len(self.pooling)
            return empty((0, width), device=self.device)
        lengths = [len(numbers["input_ids"][i]) for i in order]
        parts = []
        for start, stop in _batches(lengths, batch_size, _ENOUGH if self.device.type == "cpu" else _ENOUGH_DEVICE):
            chosen = order[start:stop]
            parts.append(self(self._padded({name: [rows[i] for i in chosen] for name, rows in numbers.items()})))
        back = sorted(range(len(order)), key=order.__getitem__)
        return cat(parts)[back]


def _batches(lengths: list[int], batch_size: int, enough: int) -> Iterator[tuple[int, int]]:
    """Parts [start, stop) of texts that are sorted by their number of tokens, the longest first.

    A part ends where it is full, or where it has `enough` tokens and the next text would be padded by a tenth or more.
    """
    start = 0
    for i, length in enumerate(lengths):
        tokens = (i - start) * lengths[start]
        if i - start == batch_size or (tokens >= enough and length < 0.9 * lengths[start]):
            yield start, i
            start = i
    if lengths:
        yield start, len(lengths)


def _modules(folder: str) -> tuple[str, tuple[str, ...], bool]:
    """What modules.json lists: the transformer's folder, the poolings, and whether vectors are normalised."""
    path = os.path.join(folder, "modules.json")
    if not os.path.isfile(path):
        return folder, ("mean",), False
    listed = read_json(path, list)
    place, normalize = folder, False
    pooling: tuple[str, ...] = ("mean",)
    for module in listed:
        if not isinstance(module, dict) or not all(isinstance(module.get(key), str) for key in ("path", "type")):
            raise ValueError(f"{path}: each module must have a path and a type, found {module!r}")
        within, kind = os.path.join(folder, module["path"]), module["type"].rpartition(".")[2]
        if kind == "Transformer":
            place = within
        elif kind == "Pooling":
            pooling = _pooling(os.path.join(within, "config.json"))
        elif kind == "Normalize":
            normalize = True
        else:
            raise ValueError(f"{path}: module {module['type']} is not implemented; Transformer, Pooling, Normalize are")
    return place, pooling, normalize


def _pooling(path: str) -> tuple[str, ...]:
    """The poolings that 1_Pooling/config.json asks for, in the order in which they lie side by side."""
    config = read_json(path)
    asked = {_KEYS.get(key, key) for key, value in config.items() if key.startswith("pooling_mode_") and value is True}
    if isinstance(mode := config.get("pooling_mode"), str):
        asked = set(mode.split("+"))
    unknown = asked - set(_POOLINGS)
    if unknown or not asked:
        found = ", ".join(sorted(unknown)) or "none"
        raise ValueError(f"{path}: asks for the pooling {found}; implemented are {', '.join(_POOLINGS)}")
    return tuple(name for name in _POOLINGS if name in asked)
