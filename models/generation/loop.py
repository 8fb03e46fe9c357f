"""generate and stream: one token after the other, each chosen by the scores that the model gives what is there."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, ClassVar, Self

from ...autograd.api.creation import tensor
from ...autograd.modes import no_grad
from ...autograd.tensor import Tensor
from ..cache import KVCache
from ..outputs import ModelOutput
from .config import GenerationConfig, settled, with_lengths
from .inputs import Criterion, criteria, padding_mask, prompts
from .processors import Processor, Run, processors

ROOM = 256  # new tokens for which the cache has room at first


@dataclass
class _State:
    """A run, between two tokens."""

    config: GenerationConfig
    ids: Tensor  # (N, max_length) int; what is not there yet is padding
    length: int
    mask: Tensor | None  # (N, max_length) int, 0 at padding; None: there is none
    eos: list[int]
    pad: int
    process: list[Processor]
    stop: list[Criterion]
    cache: KVCache | None
    generator: Any
    position: Tensor | None = None  # (N, 1) int: of the token that comes next, where there is padding
    open: Tensor | None = None  # (N,) bool: sequences that go on; None: all
    scores: list[Tensor] = field(default_factory=list)
    logits: list[Tensor] = field(default_factory=list)


class GenerationMixin:
    """`generate` and `stream` for a model whose call gives `.logits` (N, L, vocabulary).

    `generation_config` is read from generation_config.json by `from_pretrained` and written by `save_pretrained`.
    """

    config: Any
    learned_positions: ClassVar[bool] = False  # whether there are no positions behind config.max_position_embeddings
    _generation_config: GenerationConfig | None = None

    @property
    def generation_config(self) -> GenerationConfig:
        """The options of generation where a call does not say otherwise; from config.json's tokens at first."""
        if self._generation_config is None:
            names = ("bos_token_id", "eos_token_id", "pad_token_id")
            values = {name: getattr(self.config, name, None) for name in names}
            self._generation_config = GenerationConfig(**values)
        return self._generation_config

    @generation_config.setter
    def generation_config(self, value: GenerationConfig) -> None:
        self._generation_config = value

    @classmethod
    def from_pretrained(cls, folder: Any, **kwargs: Any) -> Self:
        """As PretrainedModel's, with generation_config.json where there is one."""
        found = GenerationConfig.from_pretrained(folder)
        model = super().from_pretrained(folder, **kwargs)  # type: ignore[misc]  # mixed into a PretrainedModel
        if found is not None:
            model.generation_config = found
        return model

    def save_pretrained(self, folder: Any, max_shard_size: int | str = "5GB") -> None:
        """As PretrainedModel's, with generation_config.json."""
        super().save_pretrained(folder, max_shard_size)  # type: ignore[misc]  # as above
        self.generation_config.save_pretrained(folder)

    def generate(
        self,
        input_ids: Tensor | None = None,
        generation_config: GenerationConfig | None = None,
        logits_processor: list[Processor] | None = None,
        stopping_criteria: list[Criterion] | None = None,
        streamer: Any = None,
        *,
        attention_mask: Tensor | None = None,
        generator: Any = None,
        tokenizer: Any = None,
        past_key_values: KVCache | None = None,
        **kwargs: Any,
    ) -> Any:
        """Continues sequences, each until its end or max_length. Names, defaults and results are Hugging Face's.

        Args:
            input_ids: (N, L) int, the prompts; shorter ones padded on the left. None: config's bos_token_id.
            generation_config: options, instead of the model's.
            logits_processor: functions (tokens (N, length), scores (N, V)) -> scores.
            stopping_criteria: functions (tokens (N, length), scores or None) -> whether to stop, bool or (N,) bool.
            streamer: gets `put(prompts)`, `put(tokens)` for each step, and `end()`.
            attention_mask: (N, L) int, 0 at padding. None: pad_token_id in the prompts is padding, unless it is also
                the end of a sequence.
            generator: of the random numbers; None: the default one.
            tokenizer: where stop_strings is given.
            past_key_values: a cache, of a beginning of the prompts.
            kwargs: single options of `GenerationConfig`: max_new_tokens, do_sample, temperature, top_k, top_p, ...

        Returns:
            Tokens, prompts included: (N * num_return_sequences, length) int; what is behind a sequence's end is
            pad_token_id. With return_dict_in_generate=True a ModelOutput of sequences, past_key_values, and, where
            output_scores and output_logits say so, scores (logits after all that the options did to them) and logits:
            per new token (N, vocabulary).

        Raises:
            ValueError: for options out of bounds, and prompts that do not fit the model.
            IndexError: for tokens outside the vocabulary.
        """
        state = self._begin(
            input_ids, attention_mask, generation_config, logits_processor, stopping_criteria, generator, tokenizer,
            past_key_values, kwargs,
        )  # fmt: skip
        if streamer is not None:
            streamer.put(state.ids[:, : state.length].cpu())
        for tokens in self._tokens(state):
            if streamer is not None:
                streamer.put(tokens.cpu())
        if streamer is not None:
            streamer.end()
        sequences = state.ids[:, : state.length].clone()
        if not state.config.return_dict_in_generate:
            return sequences
        return ModelOutput(
            sequences=sequences,
            scores=tuple(state.scores) if state.config.output_scores else None,
            logits=tuple(state.logits) if state.config.output_logits else None,
            past_key_values=state.cache,
        )

    def stream(
        self,
        input_ids: Tensor | None = None,
        generation_config: GenerationConfig | None = None,
        logits_processor: list[Processor] | None = None,
        stopping_criteria: list[Criterion] | None = None,
        *,
        attention_mask: Tensor | None = None,
        generator: Any = None,
        tokenizer: Any = None,
        past_key_values: KVCache | None = None,
        **kwargs: Any,
    ) -> Iterator[Tensor]:
        """The tokens that `generate` would add, each as soon as it is chosen: (N,) int. Arguments as there.

        Bad arguments raise here, not at the first token. Nothing more is computed where the caller stops.
        """
        state = self._begin(
            input_ids, attention_mask, generation_config, logits_processor, stopping_criteria, generator, tokenizer,
            past_key_values, kwargs,
        )  # fmt: skip
        return self._tokens(state)

    # ---- the loop

    def _tokens(self, state: _State) -> Iterator[Tensor]:
        """Grad mode is only changed within a step: between two of them the caller runs."""
        done = False
        while not done:
            tokens, done = self._step(state)
            yield tokens

    @no_grad()
    def _step(self, state: _State) -> tuple[Tensor, bool]:
        """Chooses a token for each sequence and writes it down: ((N,) int, whether all are finished)."""
        config, length = state.config, state.length
        logits = self._next_logits(state)
        so_far = state.ids[:, :length]
        scores = logits
        for function in state.process:
            scores = function(so_far, scores)
        if config.return_dict_in_generate:
            state.scores += [scores] if config.output_scores else []
            state.logits += [logits] if config.output_logits else []
        if config.do_sample:
            tokens = scores.softmax(-1).multinomial(1, generator=state.generator)[:, 0]
        else:
            tokens = scores.argmax(-1)
        if state.open is not None and state.eos:
            tokens = tokens.where(state.open, state.pad)
        state.ids[:, length] = tokens
        state.length = length + 1
        self._close(state, tokens, scores)
        finished = state.open is not None and not state.open.any()
        return tokens, finished or state.length >= state.ids.shape[1]

    def _next_logits(self, state: _State) -> Tensor:
        """(N, vocabulary) float32 for the token behind those that are there."""
        past = 0 if state.cache is None else state.cache.get_seq_length()
        mask = None if state.mask is None else state.mask[:, : state.length]
        positions = None
        if mask is not None:
            next_one = past and state.length - past == 1 and state.position is not None
            positions = state.position if next_one else _positions(mask)[:, past:]
            state.position = positions[:, -1:] + 1  # type: ignore[index]  # one of the two is there
        found = self(  # type: ignore[operator]  # a Module
            input_ids=state.ids[:, past : state.length],
            attention_mask=mask,
            position_ids=positions,
            past_key_values=state.cache,
            use_cache=state.cache is not None,
            logits_to_keep=1,
        )
        return found.logits[:, -1].float()

    def _close(self, state: _State, tokens: Tensor, scores: Tensor) -> None:
        """Marks the sequences that end with these tokens."""
        ended: Any = None
        for token in state.eos:
            ended = tokens == token if ended is None else ended | (tokens == token)
        for criterion in state.stop:
            found = criterion(state.ids[:, : state.length], scores)
            found = tensor([found], device=tokens.device) if isinstance(found, bool) else found
            ended = found if ended is None else ended | found
        if ended is not None and ended.any():
            state.open = ~ended if state.open is None else state.open & ~ended

    # ---- its beginning

    @no_grad()
    def _begin(
        self, ids: Any, mask: Any, given: Any, own: Any, criteria_: Any, generator: Any, tokenizer: Any, cache: Any,
        options: dict[str, Any],
    ) -> _State:  # fmt: skip
        """Checks everything, before anything is computed."""
        config = settled(self.generation_config, given, options)
        ids = prompts(ids, config, self.config.vocab_size, self.device)  # type: ignore[attr-defined]  # a Module's
        self._check_cache(cache, ids)
        config = self._lengths(config, ids.shape[1])
        longest: int = config.max_length  # type: ignore[assignment]  # is set now
        eos = config.eos_token_id
        ends = [] if eos is None else list(eos) if isinstance(eos, (list, tuple)) else [eos]
        mask = padding_mask(ids, mask, config.pad_token_id, ends)
        if config.num_return_sequences != 1:
            ids = ids.repeat_interleave(config.num_return_sequences, 0)
            mask = None if mask is None else mask.repeat_interleave(config.num_return_sequences, 0)
        prompt = ids.shape[1]
        run = Run(config, prompt, ends, None if mask is None else mask.argmax(1))
        stop = criteria(config, list(criteria_ or []), tokenizer, prompt)
        pad = config.pad_token_id if config.pad_token_id is not None else ends[0] if ends else 0
        whole = _extended(ids, longest, pad)
        if cache is None and config.use_cache:
            cache = KVCache(room=min(longest, prompt + ROOM))
        mask = None if mask is None else _extended(mask, longest, 1)
        return _State(config, whole, prompt, mask, ends, pad, processors(run, list(own or [])), stop, cache, generator)

    def _lengths(self, config: GenerationConfig, prompt: int) -> GenerationConfig:
        """config with its max_length. ValueError where the model has too few positions."""
        positions = getattr(self.config, "max_position_embeddings", None)
        if self.learned_positions and prompt > positions:  # type: ignore[operator]  # it is there then
            raise ValueError(f"the prompt of {prompt} tokens is longer than the model's {positions} positions")
        config = with_lengths(config, prompt, positions)
        if self.learned_positions and config.max_length - 1 > positions:  # type: ignore[operator]  # as above
            raise ValueError(
                f"a prompt of {prompt} tokens continued to {config.max_length} exceeds the model's {positions} "
                "positions: shorten the prompt, or give a smaller max_new_tokens"
            )
        return config

    def _check_cache(self, cache: KVCache | None, ids: Tensor) -> None:
        """ValueError for a cache that holds the whole prompt or more."""
        if cache is not None and cache.get_seq_length() >= ids.shape[1]:
            raise ValueError(
                f"past_key_values holds {cache.get_seq_length()} positions, but must hold fewer than the "
                f"{ids.shape[1]} of input_ids, which is the whole prompt"
            )


def _positions(mask: Tensor) -> Tensor:
    """Places counted from each sequence's first token; 0 at padding. mask: (N, L) int -> (N, L) int."""
    return (mask.cumsum(-1) - 1).masked_fill(mask == 0, 0)


def _extended(x: Tensor, length: int, value: int) -> Tensor:
    """x with `value` behind it. x: (N, L) -> (N, length)."""
    new = x.new_full((x.shape[0], length), value)
    new[:, : x.shape[1]] = x
    return new
