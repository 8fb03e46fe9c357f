"""What is done to the scores of the next token before it is chosen: one small function per option, and their order.

Each takes the tokens so far (N, length), their scores (N, vocabulary) float32 and the run, and gives new scores; a
token that must not come has -inf. They do what Hugging Face's logits processors of the same options do.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from ...autograd.api.creation import arange
from ...autograd.tensor import Tensor
from .config import GenerationConfig

Processor = Callable[[Tensor, Tensor], Tensor]


@dataclass
class Run:
    """A call of generate, as the functions below see it."""

    config: GenerationConfig
    prompt: int  # tokens
    eos: list[int]
    padding: Tensor | None = None  # (N,) int: how many tokens at the left of each prompt are padding


def _barred(scores: Tensor, tokens: Any) -> Tensor:
    """Without some tokens. tokens: an int or a list of them; those outside the vocabulary do not matter."""
    many = tokens if isinstance(tokens, (list, tuple)) else [tokens]
    new = scores.clone()
    new[:, [t for t in many if t < scores.shape[1]]] = -math.inf
    return new


def _only(scores: Tensor, tokens: Any) -> Tensor:
    """With score 0 for the tokens and -inf for all others."""
    new = scores.new_full(scores.shape, -math.inf)
    new[:, tokens] = 0
    return new


def _dropped(scores: Tensor, order: Tensor, drop: Tensor) -> Tensor:
    """Without the tokens order[i, j] where drop[i, j]. order: (N, V) int, drop: (N, V) bool."""
    return scores.masked_fill(drop.scatter(1, order, drop), -math.inf)


# ---- for every way of choosing --------------------------------------------------------------------------------------


def repetition_penalty(ids: Tensor, scores: Tensor, run: Run) -> Tensor:
    """Tokens that were there become less likely: score / penalty, or score * penalty below zero. Padding is left out.

    Keskar et al., CTRL: a conditional transformer language model, 2019.
    """
    vocabulary, penalty = scores.shape[1], run.config.repetition_penalty
    if run.padding is not None:
        ids = ids.masked_fill(arange(ids.shape[1], device=ids.device) < run.padding[:, None], vocabulary)
    there = scores.new_zeros((scores.shape[0], vocabulary + 1)).scatter(1, ids.clamp(max=vocabulary), 1.0)
    return scores.where(there[:, :vocabulary] == 0, (scores * penalty).where(scores < 0, scores / penalty))


def no_repeat_ngram_size(ids: Tensor, scores: Tensor, run: Run) -> Tensor:
    """No run of so many tokens comes twice."""
    n = run.config.no_repeat_ngram_size or 0
    if ids.shape[1] < n:
        return scores
    new = scores.clone()
    for row, sequence in enumerate(ids.tolist()):
        end = sequence[len(sequence) - n + 1 :]
        barred = [sequence[i + n - 1] for i in range(len(sequence) - n + 1) if sequence[i : i + n - 1] == end]
        if barred:
            new[row, barred] = -math.inf
    return new


def min_length(ids: Tensor, scores: Tensor, run: Run) -> Tensor:
    """No end before the sequence, prompt included, has min_length tokens."""
    return _barred(scores, run.eos) if run.eos and ids.shape[1] < run.config.min_length else scores


def forced_bos_token_id(ids: Tensor, scores: Tensor, run: Run) -> Tensor:
    """Behind a prompt of one token comes this one."""
    return _only(scores, run.config.forced_bos_token_id) if ids.shape[1] == 1 else scores


def forced_eos_token_id(ids: Tensor, scores: Tensor, run: Run) -> Tensor:
    """The last token that max_length allows is this one."""
    last = ids.shape[1] == run.config.max_length - 1  # type: ignore[operator]  # is set
    return _only(scores, run.config.forced_eos_token_id) if last else scores


def remove_invalid_values(ids: Tensor, scores: Tensor, run: Run) -> Tensor:
    """0 for NaN, and the largest finite numbers for infinite ones."""
    return scores.nan_to_num(0.0)


def suppress_tokens(ids: Tensor, scores: Tensor, run: Run) -> Tensor:
    """These tokens never come."""
    return _barred(scores, run.config.suppress_tokens)


def begin_suppress_tokens(ids: Tensor, scores: Tensor, run: Run) -> Tensor:
    """These tokens do not come first."""
    late = run.prompt <= 1 and run.config.forced_bos_token_id is not None
    return _barred(scores, run.config.begin_suppress_tokens) if ids.shape[1] == run.prompt + late else scores


# ---- for sampling ---------------------------------------------------------------------------------------------------


def temperature(ids: Tensor, scores: Tensor, run: Run) -> Tensor:
    """Above 1 the choice is more even, below 1 less."""
    return scores / run.config.temperature


def top_k(ids: Tensor, scores: Tensor, run: Run) -> Tensor:
    """Only the k likeliest tokens, and those as likely as the last of them."""
    least = scores.topk(min(run.config.top_k, scores.shape[1])).values[:, -1:]
    return scores.masked_fill(scores < least, -math.inf)


def top_p(ids: Tensor, scores: Tensor, run: Run) -> Tensor:
    """Only the likeliest tokens that have the probability p together.

    Holtzman et al., The curious case of neural text degeneration, 2020.
    """
    ordered, order = scores.sort()
    drop = ordered.softmax(-1).cumsum(-1) <= 1 - run.config.top_p  # type: ignore[operator]  # is set
    drop[:, -1] = False
    return _dropped(scores, order, drop)


def min_p(ids: Tensor, scores: Tensor, run: Run) -> Tensor:
    """Only tokens at least min_p times as likely as the likeliest."""
    p = scores.softmax(-1)
    return scores.masked_fill(p < run.config.min_p * p.amax(-1, keepdim=True), -math.inf)


def typical_p(ids: Tensor, scores: Tensor, run: Run) -> Tensor:
    """Only tokens whose surprise is nearest to the expected one. Meister et al., Locally typical sampling, 2023."""
    log_p = scores.log_softmax(-1)
    entropy = -(log_p * log_p.exp()).nansum(-1, keepdim=True)
    distance, order = (-log_p - entropy).abs().sort()
    total = scores.gather(1, order).softmax(-1).cumsum(-1)
    last = (total < run.config.typical_p).sum(1, keepdim=True).clamp(max=scores.shape[1] - 1)
    drop = distance > distance.gather(1, last)
    drop[:, :1] = False
    return _dropped(scores, order, drop)


def _at_least(scores: Tensor, p: Tensor, bound: Any) -> Tensor:
    """Only tokens with a probability of at least `bound`, and the likeliest."""
    return scores.masked_fill((p < bound) & (scores < scores.amax(-1, keepdim=True)), -math.inf)


def epsilon_cutoff(ids: Tensor, scores: Tensor, run: Run) -> Tensor:
    """Only tokens with a probability of at least epsilon. Hewitt et al., Truncation sampling, 2022."""
    return _at_least(scores, scores.softmax(-1), run.config.epsilon_cutoff)


def eta_cutoff(ids: Tensor, scores: Tensor, run: Run) -> Tensor:
    """Only tokens with a probability of at least min(eta, sqrt(eta) exp(-entropy)). Hewitt et al., 2022."""
    eta: Any = run.config.eta_cutoff
    log_p = scores.log_softmax(-1)
    p = log_p.exp()
    entropy = -(log_p.clamp(min=-3.4028234663852886e38) * p).sum(-1, keepdim=True)
    return _at_least(scores, p, (math.sqrt(eta) * (-entropy).exp()).clamp(max=eta))


def renormalize_logits(ids: Tensor, scores: Tensor, run: Run) -> Tensor:
    """Logarithms of probabilities."""
    return scores.log_softmax(-1)


ALWAYS, SAMPLING, LAST = range(3)

# In the order in which they are applied; the caller's own come behind those that are always applied.
# (when, function, whose name is the option's; values of the option that change nothing)
PROCESSORS: list[tuple[int, Callable[[Tensor, Tensor, Run], Tensor], tuple[Any, ...]]] = [
    (ALWAYS, repetition_penalty, (None, 1.0)),
    (ALWAYS, no_repeat_ngram_size, (None, 0)),
    (ALWAYS, min_length, (None, 0)),
    (ALWAYS, forced_bos_token_id, (None,)),
    (ALWAYS, forced_eos_token_id, (None,)),
    (ALWAYS, remove_invalid_values, (None, False)),
    (ALWAYS, suppress_tokens, (None,)),
    (ALWAYS, begin_suppress_tokens, (None,)),
    (SAMPLING, temperature, (None, 1.0)),
    (SAMPLING, top_k, (None, 0)),
    (SAMPLING, top_p, (None, 1.0)),
    (SAMPLING, min_p, (None,)),
    (SAMPLING, typical_p, (None, 1.0)),
    (SAMPLING, epsilon_cutoff, (None, 0.0)),
    (SAMPLING, eta_cutoff, (None, 0.0)),
    (LAST, renormalize_logits, (None, False)),
]


def _applied(function: Callable[[Tensor, Tensor, Run], Tensor], run: Run, ids: Tensor, scores: Tensor) -> Tensor:
    return function(ids, scores, run)


def processors(run: Run, own: list[Processor]) -> list[Processor]:
    """The functions (tokens, scores) -> scores that a run applies, in their order; `own`: the caller's."""

    def those(when: int) -> list[Processor]:
        return [
            partial(_applied, function, run)
            for stage, function, idle in PROCESSORS
            if stage == when and getattr(run.config, function.__name__) not in idle
        ]

    sampling = those(SAMPLING) if run.config.do_sample else []
    return [*those(ALWAYS), *own, *sampling, *those(LAST)]
