"""Text to the numbers that a model reads, and back, by the package tokenizers."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable, Sequence
from typing import Any, Self

import numpy as np

from ..autograd.api.creation import from_numpy
from ..autograd.tensor import Tensor
from ..utils.extras import require
from ..utils.files import replacing
from .configuration import read_json, write_json

__all__ = ["Tokenizer"]

_SPECIAL = ("bos", "eos", "unk", "sep", "pad", "cls", "mask")
_ENDLESS = 10**9  # files say 1e30 where there is no limit


class Tokenizer:
    """What a folder's tokenizer.json describes, with the special tokens and limits that lie beside it.

    Attributes:
        backend: the `tokenizers.Tokenizer`.
        model_max_length: tokens that the model can read, or None.
        padding_side, truncation_side: "right" or "left".
        pad_token, eos_token, bos_token, cls_token, sep_token, mask_token, unk_token: text or None; can be set.
            `pad_token_id` and so on are their numbers.

    Several threads may use one tokenizer.
    """

    def __init__(self, backend: Any, config: dict[str, Any] | None = None):
        self.backend, self._config = backend, dict(config or {})
        self._lock = threading.Lock()  # the library keeps truncation in the tokenizer
        self._special = {name: _content(self._config.get(f"{name}_token")) for name in _SPECIAL}
        limit = self._config.get("model_max_length")
        self.model_max_length = int(limit) if limit is not None and limit < _ENDLESS else None
        self.padding_side: str = self._config.get("padding_side", "right")
        self.truncation_side: str = self._config.get("truncation_side", "right")
        names = self._config.get("model_input_names")
        pieces = type(backend.model).__name__ == "WordPiece"  # BERT's, which has segments
        self._with_types = "token_type_ids" in names if names else pieces
        backend.no_padding()
        backend.no_truncation()

    @classmethod
    def from_pretrained(cls, folder: Any) -> Self:
        """Reads tokenizer.json, and tokenizer_config.json and special_tokens_map.json where they are there.

        Raises FileNotFoundError; ValueError naming a damaged file; ImportError without the package tokenizers.
        """
        library = require("tokenizers", "models", "tapegrad.models.Tokenizer needs")
        folder = os.fspath(folder)
        path = os.path.join(folder, "tokenizer.json")
        if not os.path.isfile(path):
            raise FileNotFoundError(
                f"{folder}: no tokenizer.json, which a tokenizer is read from "
                "(`AutoTokenizer.from_pretrained(...).save_pretrained(folder)` of transformers writes one)"
            )
        try:
            backend = library.Tokenizer.from_file(path)
        except Exception as error:  # the library raises Exception itself
            raise ValueError(f"{path}: no valid tokenizer ({error})") from error
        config: dict[str, Any] = {}
        for name in ("special_tokens_map.json", "tokenizer_config.json"):
            beside = os.path.join(folder, name)
            if os.path.isfile(beside):
                config |= {key: value for key, value in read_json(beside).items() if value is not None}
        return cls(backend, config)

    def save_pretrained(self, folder: Any) -> None:
        """Writes tokenizer.json and tokenizer_config.json."""
        os.makedirs(folder, exist_ok=True)
        with self._lock:
            self.backend.no_truncation()
            content = self.backend.to_str(pretty=True).encode()
        with replacing(os.path.join(os.fspath(folder), "tokenizer.json")) as file:
            file.write(content)
        special = {f"{name}_token": text for name, text in self._special.items() if text is not None}
        config = {**self._config, **special, "padding_side": self.padding_side}
        config.setdefault("tokenizer_class", "PreTrainedTokenizerFast")
        write_json(os.path.join(os.fspath(folder), "tokenizer_config.json"), config)

    def __len__(self) -> int:
        """Numbers there are, those of added tokens included."""
        return self.backend.get_vocab_size()

    @property
    def vocab_size(self) -> int:
        """Numbers there are without those of added tokens."""
        return self.backend.get_vocab_size(with_added_tokens=False)

    def __getattr__(self, name: str) -> Any:
        kind, _, rest = name.partition("_")
        if kind in _SPECIAL and rest in ("token", "token_id"):
            text = self._special[kind]
            return text if rest == "token" or text is None else self.backend.token_to_id(text)
        raise AttributeError(f"'{type(self).__name__}' object has no attribute '{name}'")

    def __setattr__(self, name: str, value: Any) -> None:
        kind, _, rest = name.partition("_")
        if kind in _SPECIAL and rest == "token":
            if value is not None and self.backend.token_to_id(value) is None:
                raise ValueError(f"{name}: {value!r} is no token of this tokenizer")
            self._special[kind] = value
        else:
            object.__setattr__(self, name, value)

    def __repr__(self) -> str:
        special = {f"{name}_token": text for name, text in self._special.items() if text is not None}
        return f"Tokenizer(tokens={len(self)}, model_max_length={self.model_max_length}, {special})"

    # --- text to numbers

    def __call__(
        self,
        texts: Any,
        text_pair: Any = None,
        *,
        padding: bool | str = True,
        truncation: bool = False,
        max_length: int | None = None,
        add_special_tokens: bool = True,
        return_tensors: str | None = "pt",
    ) -> dict[str, Any]:
        """The numbers of texts: what a model is called with, `model(**tokenizer(texts))`.

        Args:
            texts: a text, or N of them.
            text_pair: a second text for each.
            padding: True or "longest": to the longest of them; "max_length": to `max_length`; False: none.
            truncation: whether what is longer than `max_length` is cut.
            max_length: tokens, special ones included; None: `model_max_length`.
            add_special_tokens: such as [CLS] and [SEP].
            return_tensors: "pt": tensors; None: lists.

        Returns:
            input_ids: (N, L) int64; attention_mask: (N, L) int64, 1 at tokens and 0 at padding; token_type_ids: (N, L)
            int64, 1 at the second text, where the model has such.

        Raises TypeError for what is no text; ValueError for padding without a padding token, for texts of several
        lengths that are not padded, and for a `max_length` that has no room for the special tokens.
        """
        if padding not in (True, False, "longest", "max_length"):
            raise ValueError(f"padding must be True, False, 'longest' or 'max_length', not {padding!r}")
        if return_tensors not in ("pt", None):
            raise ValueError(f"return_tensors must be 'pt' (tensors) or None (lists), not {return_tensors!r}")
        limit = self._limit(max_length)
        found = self._encode(_pairs(texts, text_pair), limit if truncation else None, add_special_tokens)
        columns = {"input_ids": [e.ids for e in found], "attention_mask": [e.attention_mask for e in found]}
        if self._with_types:
            columns["token_type_ids"] = [e.type_ids for e in found]
        if return_tensors is None and not padding:
            return columns
        return self.pad(columns, padding=padding, max_length=limit, return_tensors=return_tensors)

    def pad(
        self,
        encoded: dict[str, Any],
        *,
        padding: bool | str = True,
        max_length: int | None = None,
        return_tensors: str | None = "pt",
    ) -> dict[str, Any]:
        """Numbers of texts of several lengths (lists, as by `return_tensors=None`) with the same length.

        Arguments, results and errors are those of calling the tokenizer.
        """
        rows = encoded["input_ids"]
        width = max(map(len, rows), default=0)
        if padding == "max_length":
            if max_length is None:
                raise ValueError("padding='max_length' needs max_length: this tokenizer has no limit of its own")
            width = max_length
        if padding and self.pad_token_id is None and any(len(row) < width for row in rows):
            raise ValueError(
                "Asking to pad but the tokenizer does not have a padding token. Please select a token to use as "
                "`pad_token` `(tokenizer.pad_token = tokenizer.eos_token e.g.)`."
            )
        fill = {"input_ids": self.pad_token_id, "token_type_ids": self._config.get("pad_token_type_id", 0)}
        if padding:
            encoded = {k: [self._row(row, fill.get(k, 0), width) for row in column] for k, column in encoded.items()}
        if return_tensors is None:
            return encoded
        lengths = {len(row) for row in encoded["input_ids"]}
        if len(lengths) > 1:
            raise ValueError(f"texts of {min(lengths)} to {max(lengths)} tokens make no tensor: use padding=True")
        shape = (len(rows), max(lengths, default=0))
        return {k: from_numpy(np.array(column, np.int64).reshape(shape)) for k, column in encoded.items()}

    def _row(self, row: list[int], fill: int, width: int) -> list[int]:
        """A row of at least `width` numbers."""
        more = [fill] * (width - len(row))
        return row + more if self.padding_side == "right" else more + row

    def encode(
        self,
        text: str,
        text_pair: str | None = None,
        *,
        add_special_tokens: bool = True,
        truncation: bool = False,
        max_length: int | None = None,
    ) -> list[int]:
        """The numbers of one text."""
        limit = self._limit(max_length) if truncation else None
        return self._encode(_pairs(text, text_pair), limit, add_special_tokens)[0].ids

    def tokenize(self, text: str) -> list[str]:
        """A text's tokens, as text, without special ones."""
        return self.backend.encode(text, add_special_tokens=False).tokens

    def _limit(self, max_length: int | None) -> int | None:
        if max_length is None:
            return self.model_max_length
        if isinstance(max_length, bool) or not isinstance(max_length, int) or max_length < 1:
            raise ValueError(f"max_length must be a positive whole number, not {max_length!r}")
        return max_length

    def _encode(self, inputs: list[Any], limit: int | None, special: bool) -> list[Any]:
        with self._lock:
            if limit is None:
                self.backend.no_truncation()
            else:
                pairs = bool(inputs) and isinstance(inputs[0], tuple)
                needed = self.backend.num_special_tokens_to_add(pairs) if special else 0
                if limit <= needed:
                    raise ValueError(f"max_length={limit} leaves no room: the special tokens alone are {needed}")
                self.backend.enable_truncation(limit, direction=self.truncation_side)
            return self.backend.encode_batch_fast(inputs, add_special_tokens=special)

    # --- numbers to text

    def decode(self, token_ids: Any, skip_special_tokens: bool = False) -> str:
        """The text of numbers. token_ids: one, a list, or a tensor (L,). ValueError for more dimensions."""
        ids = token_ids.tolist() if isinstance(token_ids, (Tensor, np.ndarray)) else token_ids
        ids = [ids] if isinstance(ids, int) else list(ids)
        if ids and isinstance(ids[0], Iterable):
            raise ValueError("decode() takes the numbers of one text; batch_decode() those of several")
        return self.backend.decode([int(i) for i in ids], skip_special_tokens=skip_special_tokens)

    def batch_decode(self, sequences: Any, skip_special_tokens: bool = False) -> list[str]:
        """The texts of several lists of numbers, or of a tensor (N, L)."""
        rows = sequences.tolist() if isinstance(sequences, (Tensor, np.ndarray)) else sequences
        return [self.decode(row, skip_special_tokens) for row in rows]

    def convert_ids_to_tokens(self, ids: Any) -> Any:
        """The token of a number, or those of several; None for numbers that there are not."""
        if isinstance(ids, int):
            return self.backend.id_to_token(ids)
        return [self.backend.id_to_token(int(i)) for i in (ids.tolist() if isinstance(ids, Tensor) else ids)]

    def convert_tokens_to_ids(self, tokens: Any) -> Any:
        """The number of a token, or those of several; that of the unknown token, or None, for what is none."""
        if isinstance(tokens, str):
            number = self.backend.token_to_id(tokens)
            return self.unk_token_id if number is None else number
        return [self.convert_tokens_to_ids(token) for token in tokens]


def _content(token: Any) -> str | None:
    """The text of a special token: files have it as it is, or as {"content": ...}."""
    return token.get("content") if isinstance(token, dict) else token


def _pairs(texts: Any, second: Any) -> list[Any]:
    """Texts, or pairs of texts, as the library wants them. TypeError, ValueError."""
    if isinstance(texts, str):
        texts, second = [texts], None if second is None else [second]
    for name, given in (("texts", texts), ("text_pair", second)):
        if given is None and name == "text_pair":
            continue
        if not isinstance(given, Sequence) or isinstance(given, (bytes, str)):
            raise TypeError(f"{name} must be a text or a list of texts, not {type(given).__name__}")
        wrong = next((i for i, text in enumerate(given) if not isinstance(text, str)), None)
        if wrong is not None:
            raise TypeError(f"{name}[{wrong}] must be a text, not {type(given[wrong]).__name__}")
    if second is None:
        return list(texts)
    if len(second) != len(texts):
        raise ValueError(f"{len(texts)} texts, but {len(second)} in text_pair")
    return list(zip(texts, second, strict=True))
