"""How text is generated: the options of generation_config.json, their defaults and their bounds."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..configuration import read_json, write_json

FILE = "generation_config.json"


@dataclass
class GenerationConfig:
    """The options of `generate`, with the names of Hugging Face's class; None stands for the default.

    Lengths are numbers of tokens. max_length counts the prompt, max_new_tokens does not and goes before it.
    """

    max_length: int | None = None
    max_new_tokens: int | None = None
    min_length: int | None = None
    min_new_tokens: int | None = None
    max_time: float | None = None
    stop_strings: Any = None
    do_sample: bool | None = None
    num_return_sequences: int | None = None
    use_cache: bool | None = None
    temperature: float | None = None
    top_k: int | None = None
    top_p: float | None = None
    min_p: float | None = None
    typical_p: float | None = None
    epsilon_cutoff: float | None = None
    eta_cutoff: float | None = None
    repetition_penalty: float | None = None
    no_repeat_ngram_size: int | None = None
    suppress_tokens: list[int] | None = None
    begin_suppress_tokens: list[int] | None = None
    forced_bos_token_id: int | None = None
    forced_eos_token_id: Any = None
    remove_invalid_values: bool | None = None
    renormalize_logits: bool | None = None
    bos_token_id: int | None = None
    eos_token_id: Any = None
    pad_token_id: int | None = None
    output_scores: bool | None = None
    output_logits: bool | None = None
    return_dict_in_generate: bool | None = None

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> GenerationConfig:
        """From the content of a file. Names that say how a file was made are left out.

        ValueError for an option that would change the text and is not offered here, such as num_beams=4.
        """
        names = {field.name for field in dataclasses.fields(cls)}
        for name, value in values.items():
            if name in NOT_OFFERED and value not in NOT_OFFERED[name]:
                raise ValueError(f"{name}={value!r} is not offered: it must be {NOT_OFFERED[name][-1]!r} or left out")
        return cls(**{name: value for name, value in values.items() if name in names})

    @classmethod
    def from_pretrained(cls, folder: str | Path) -> GenerationConfig | None:
        """From generation_config.json in a folder; None where there is no such file. ValueError: not a JSON object."""
        path = Path(folder) / FILE
        if not path.is_file():
            return None
        return cls.from_dict(read_json(str(path)))

    def to_dict(self) -> dict[str, Any]:
        """The options that are set."""
        return {name: value for name, value in dataclasses.asdict(self).items() if value is not None}

    def save_pretrained(self, folder: str | Path) -> None:
        """Writes generation_config.json."""
        write_json(str(Path(folder) / FILE), self.to_dict())


# Options whose value may only be one of these, the last of which stands for "not used".
NOT_OFFERED: dict[str, tuple[Any, ...]] = {
    "num_beams": (None, 1),
    "num_beam_groups": (None, 1),
    "penalty_alpha": (None, 0.0),
    "dola_layers": (None,),
    "guidance_scale": (None, 1.0),
    "sequence_bias": (None,),
    "bad_words_ids": (None,),
    "exponential_decay_length_penalty": (None,),
    "watermarking_config": (None,),
    "prompt_lookup_num_tokens": (None,),
    "top_h": (None,),
    "token_healing": (None, False),
    "encoder_repetition_penalty": (None, 1.0),
    "encoder_no_repeat_ngram_size": (None, 0),
    "force_words_ids": (None,),
    "constraints": (None,),
}

DEFAULTS: dict[str, Any] = {
    "min_length": 0,
    "do_sample": False,
    "num_return_sequences": 1,
    "use_cache": True,
    "temperature": 1.0,
    "top_k": 50,
    "top_p": 1.0,
    "typical_p": 1.0,
    "epsilon_cutoff": 0.0,
    "eta_cutoff": 0.0,
    "repetition_penalty": 1.0,
    "no_repeat_ngram_size": 0,
}
NEEDED = ("num_return_sequences", "use_cache")  # for which None stands for the default, wherever it comes from
NEW_TOKENS = 20  # where neither max_length nor max_new_tokens is given


def _number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _ids(value: Any) -> bool:
    return all(_whole(v) and v >= 0 for v in (value if isinstance(value, (list, tuple)) else [value]))


# option -> (what holds for every value but None, what the error says it has to be)
BOUNDS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "max_length": (lambda v: _whole(v) and v > 0, "a strictly positive integer"),
    "max_new_tokens": (lambda v: _whole(v) and v > 0, "greater than 0"),
    "min_length": (lambda v: _whole(v) and v >= 0, "a non-negative integer"),
    "min_new_tokens": (lambda v: _whole(v) and v >= 0, "a non-negative integer"),
    "max_time": (lambda v: _number(v) and v > 0, "a number of seconds > 0"),
    "num_return_sequences": (lambda v: _whole(v) and v > 0, "a strictly positive integer"),
    "temperature": (
        lambda v: _number(v) and v > 0,
        "a strictly positive float; for the likeliest token each time set `do_sample=False`",
    ),
    "top_k": (lambda v: _whole(v) and v >= 0, "a strictly positive integer, or 0 for all tokens"),
    "top_p": (lambda v: _number(v) and 0 < v <= 1, "a float > 0 and <= 1"),
    "min_p": (lambda v: _number(v) and 0 <= v <= 1, "a float in the [0, 1] interval"),
    "typical_p": (lambda v: _number(v) and 0 < v <= 1, "a float > 0 and <= 1"),
    "epsilon_cutoff": (lambda v: _number(v) and 0 <= v < 1, "a float >= 0 and < 1"),
    "eta_cutoff": (lambda v: _number(v) and 0 <= v < 1, "a float >= 0 and < 1"),
    "repetition_penalty": (lambda v: _number(v) and v > 0, "a strictly positive float"),
    "no_repeat_ngram_size": (lambda v: _whole(v) and v >= 0, "a non-negative integer"),
    "suppress_tokens": (_ids, "a list of non-negative integers"),
    "begin_suppress_tokens": (_ids, "a list of non-negative integers"),
    "forced_bos_token_id": (_ids, "a non-negative integer"),
    "forced_eos_token_id": (_ids, "a non-negative integer or a list of them"),
    "eos_token_id": (_ids, "a non-negative integer or a list of them"),
    "pad_token_id": (lambda v: _whole(v) and v >= 0, "a non-negative integer"),
}


def settled(base: GenerationConfig, given: GenerationConfig | None, options: dict[str, Any]) -> GenerationConfig:
    """One configuration out of the call's options, the call's configuration, the model's, and the defaults.

    The first that is not None counts; an option of the call also where it is None, which takes an earlier one away.
    ValueError for an unknown option and for a value out of bounds.
    """
    names = [field.name for field in dataclasses.fields(GenerationConfig)]
    extra = [name for name in options if name not in names and name not in NOT_OFFERED]
    if extra:
        raise ValueError(
            f"The following `model_kwargs` are not used by the model: {extra} (note: typos in the generate arguments "
            "will also show up in this list)"
        )
    GenerationConfig.from_dict(options)
    found = {}
    for name in names:
        layers = (getattr(given, name, None), getattr(base, name), DEFAULTS.get(name))
        found[name] = next((value for value in layers if value is not None), None)
        if name in options and (options[name] is not None or name not in NEEDED):
            found[name] = options[name]
        if found[name] is not None and name in BOUNDS and not BOUNDS[name][0](found[name]):
            raise ValueError(f"`{name}` has to be {BOUNDS[name][1]}, but is {found[name]!r}")
    made = GenerationConfig(**found)
    if made.num_return_sequences != 1 and not made.do_sample:
        raise ValueError(
            "Greedy methods (do_sample != True) without beam search do not support `num_return_sequences` different "
            f"than 1 (got {made.num_return_sequences})."
        )
    return made


def with_lengths(config: GenerationConfig, prompt: int, positions: int | None) -> GenerationConfig:
    """The same with max_length and min_length for a prompt of so many tokens.

    positions: the longest sequence the model was made for. ValueError where the prompt leaves no room.
    """
    longest, least = config.max_length, config.min_length
    if config.max_new_tokens is not None:
        if longest is not None:
            warnings.warn(
                f"Both `max_new_tokens` (={config.max_new_tokens}) and `max_length`(={longest}) seem to have been "
                "set. `max_new_tokens` will take precedence.",
                stacklevel=4,
            )
        longest = prompt + config.max_new_tokens
    elif longest is None:
        longest = prompt + NEW_TOKENS if positions is None else min(prompt + NEW_TOKENS, positions)
    if prompt >= longest:
        raise ValueError(
            f"Input length of input_ids is {prompt}, but `max_length` is set to {longest}. This can lead to unexpected "
            "behavior. You should consider increasing `max_length` or, better yet, setting `max_new_tokens`."
        )
    if config.min_new_tokens is not None:
        least = prompt + config.min_new_tokens
    return dataclasses.replace(config, max_length=longest, min_length=least)
