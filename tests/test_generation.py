"""generate and stream: tokens equal to those of transformers, streams, stop criteria, errors before any work."""

import json
import os
import re
import subprocess
import sys
import time

import numpy as np
import pytest
import tapegrad as torch
from causal_models import GPT2, LLAMA, checkpoint, generated, libraries, prompts
from library import ROOT
from tapegrad.models import (
    GenerationConfig,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    TextIteratorStreamer,
    TextStreamer,
    text_pieces,
)
from tapegrad.models.generation import PROCESSORS
from tapegrad.models.generation.processors import Run, processors


def small(**options):
    torch.manual_seed(0)
    return GPT2LMHeadModel(GPT2Config(**{**GPT2, **options})).eval()


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    """kind -> (transformers' model, ours) with the same weights."""
    libraries()
    made = {}
    for kind, name, config, ours in (
        ("GPT2", "LMHeadModel", GPT2, GPT2LMHeadModel), ("Llama", "ForCausalLM", LLAMA, LlamaForCausalLM)
    ):  # fmt: skip
        folder = tmp_path_factory.mktemp(kind)
        made[kind] = checkpoint(kind, config, folder, name), ours.from_pretrained(folder)
    return made


# ---- beside transformers --------------------------------------------------------------------------------------------

GREEDY = [
    {"max_new_tokens": 30},
    {"max_length": 25, "repetition_penalty": 1.5, "no_repeat_ngram_size": 2},
    {"max_new_tokens": 20, "min_new_tokens": 15, "suppress_tokens": [5, 6], "begin_suppress_tokens": [7, 40]},
    {"max_new_tokens": 12, "eos_token_id": [2, 11, 12, 30, 31, 32, 60], "pad_token_id": 1, "use_cache": False},
    {"max_new_tokens": 9, "forced_eos_token_id": 2, "min_length": 4, "remove_invalid_values": True},
]
SAMPLED = [
    {},
    {"temperature": 0.7, "top_k": 7},
    {"temperature": 1.7, "top_k": 0, "top_p": 0.6, "repetition_penalty": 0.8},
    {"top_k": None, "min_p": 0.05, "renormalize_logits": True},
    {"typical_p": 0.6, "num_return_sequences": 2},
    {"epsilon_cutoff": 0.03, "top_k": 200},
    {"eta_cutoff": 0.05, "top_k": 0},
]


@pytest.mark.parametrize("kind", ["GPT2", "Llama"])
@pytest.mark.parametrize("options", GREEDY, ids=str)
def test_greedy_is_transformers(kind, options, pairs):
    theirs, _ = libraries()
    tokens, mask = prompts(5)
    for more in ({"attention_mask": mask}, {}):  # without a mask, padding is seen by its token
        expected, found = (
            generated(model, library, tokens, **options, **more)
            for model, library in zip(pairs[kind], (theirs, torch), strict=True)
        )
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("options", SAMPLED, ids=str)
def test_sampling_is_transformers(options, pairs):
    """The same seed draws the same tokens, from PyTorch's stream; the default generator and one's own."""
    theirs, _ = libraries()
    tokens, mask = prompts(6)
    for kind, own in (("GPT2", False), ("Llama", True)):
        options = {**options, "do_sample": True, "max_new_tokens": 25, "attention_mask": mask}
        theirs.manual_seed(11)
        torch.manual_seed(11 + own)
        more = {"generator": torch.Generator().manual_seed(11)} if own else {}
        expected = generated(pairs[kind][0], theirs, tokens, **options)
        np.testing.assert_array_equal(generated(pairs[kind][1], torch, tokens, **options, **more), expected)


def test_processors_are_transformers():
    """Each alone, on scores with ties, infinities and equal values."""
    theirs, _ = libraries()
    from transformers.generation import logits_process as L

    pairs = {
        "repetition_penalty": (L.RepetitionPenaltyLogitsProcessor(1.7), 1.7),
        "no_repeat_ngram_size": (L.NoRepeatNGramLogitsProcessor(2), 2),
        "min_length": (L.MinLengthLogitsProcessor(9, [3, 4]), 9),
        "forced_bos_token_id": (L.ForcedBOSTokenLogitsProcessor(5), 5),
        "forced_eos_token_id": (L.ForcedEOSTokenLogitsProcessor(9, [5, 6]), [5, 6]),
        "remove_invalid_values": (L.InfNanRemoveLogitsProcessor(), True),
        "suppress_tokens": (L.SuppressTokensLogitsProcessor([1, 2]), [1, 2]),
        "begin_suppress_tokens": (L.SuppressTokensAtBeginLogitsProcessor([1, 2], 8), [1, 2]),
        "temperature": (L.TemperatureLogitsWarper(0.3), 0.3),
        "top_k": (L.TopKLogitsWarper(3), 3),
        "top_p": (L.TopPLogitsWarper(0.4), 0.4),
        "min_p": (L.MinPLogitsWarper(0.3), 0.3),
        "typical_p": (L.TypicalLogitsWarper(0.3), 0.3),
        "epsilon_cutoff": (L.EpsilonLogitsWarper(0.07), 0.07),
        "eta_cutoff": (L.EtaLogitsWarper(0.3), 0.3),
        "renormalize_logits": (L.LogitNormalization(), True),
    }
    assert set(pairs) == {function.__name__ for _, function, _ in PROCESSORS}
    generator = np.random.default_rng(1)
    ids = generator.integers(0, 20, (4, 8))
    ids[0] = [4, 7, 1, 4, 7, 2, 2, 4]
    scores = generator.standard_normal((4, 20)).astype("f4") * 2
    scores[1, :5] = -3  # ties; which of some equal ones sorting puts first is nobody's promise
    scores[2, 3:9] = -np.inf
    for name, (expected, value) in pairs.items():
        for length in (1, 8):
            config = GenerationConfig(max_length=9, do_sample=True, **{name: value})
            found = processors(Run(config, 8, [3, 4]), [])
            assert len(found) == 1, name
            wanted = expected(theirs.tensor(ids[:, :length]), theirs.tensor(scores)).numpy()
            got = found[0](torch.tensor(ids[:, :length]), torch.tensor(scores)).numpy()
            np.testing.assert_allclose(got, wanted, rtol=1e-6, err_msg=name)


def test_scores_and_logits_are_transformers(pairs):
    theirs, _ = libraries()
    tokens, _ = prompts(7)
    options = {"max_new_tokens": 4, "return_dict_in_generate": True, "repetition_penalty": 1.3}
    options |= {"output_scores": True, "output_logits": True}
    expected, found = (
        model.generate(library.tensor(tokens), attention_mask=library.ones(tokens.shape), **options)
        for model, library in zip(pairs["GPT2"], (theirs, torch), strict=True)
    )
    np.testing.assert_array_equal(found.sequences.numpy(), expected.sequences.numpy())
    for name in ("scores", "logits"):
        assert len(found[name]) == 4
        for a, b in zip(found[name], expected[name], strict=True):
            np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=0, atol=2e-4)


def test_generation_config_file(tmp_path):
    """What transformers writes beside a checkpoint is followed, and what we write is read there."""
    theirs, transformers = libraries()
    made = checkpoint("GPT2", GPT2, tmp_path, "LMHeadModel")
    made.generation_config.update(max_new_tokens=5, do_sample=True, top_k=3, eos_token_id=[2, 9])
    made.generation_config.save_pretrained(tmp_path)
    model = GPT2LMHeadModel.from_pretrained(tmp_path)
    tokens, _ = prompts(8, (1, 4))
    theirs.manual_seed(1)
    torch.manual_seed(1)
    expected = generated(made, theirs, tokens)
    assert expected.shape[1] <= 9
    np.testing.assert_array_equal(generated(model, torch, tokens), expected)
    model.generation_config.top_p = 0.5
    model.save_pretrained(tmp_path / "again")
    again = transformers.GenerationConfig.from_pretrained(tmp_path / "again")
    assert (again.top_p, again.top_k, again.eos_token_id) == (0.5, 3, [2, 9])


# ---- by itself ------------------------------------------------------------------------------------------------------


def test_cache_padding_and_streams_change_nothing():
    for model in (small(), LlamaForCausalLM(LlamaConfig(**LLAMA)).eval()):
        tokens, mask = (torch.tensor(x) for x in prompts(3))
        whole = model.generate(tokens, attention_mask=mask, max_new_tokens=20, eos_token_id=None)
        assert whole.shape == (3, 27)
        slow = model.generate(tokens, attention_mask=mask, max_new_tokens=20, eos_token_id=None, use_cache=False)
        assert torch.equal(slow, whole)
        for row, padding in enumerate((0, 2, 5)):
            alone = tokens[row : row + 1, padding:]
            assert torch.equal(model.generate(alone, max_new_tokens=20, eos_token_id=None)[0], whole[row, padding:])
        stream = model.stream(tokens, attention_mask=mask, max_new_tokens=20, eos_token_id=None)
        parts = []
        for step in stream:
            assert torch.is_grad_enabled(), "the caller's mode is its own between two tokens"
            assert step.shape == (3,)
            parts.append(step)
        assert torch.equal(torch.stack(parts, 1), whole[:, 7:])


def test_a_cache_goes_on():
    """A dialogue: the cache of an earlier call holds the beginning of the next prompt."""
    model = small()
    first = model.generate(torch.tensor([[5, 6, 7]]), max_new_tokens=6, eos_token_id=None, return_dict_in_generate=True)
    prompt = torch.cat([first.sequences, torch.tensor([[9, 10]])], 1)
    expected = model.generate(prompt, max_new_tokens=6, eos_token_id=None)
    found = model.generate(prompt, max_new_tokens=6, eos_token_id=None, past_key_values=first.past_key_values)
    assert torch.equal(found, expected)
    tokens, mask = (torch.tensor(x) for x in prompts(3))
    cache = model(tokens[:, :6], attention_mask=mask[:, :6], position_ids=(mask.cumsum(-1) - 1).clamp(min=0)[:, :6])
    options = {"attention_mask": mask, "max_new_tokens": 5, "eos_token_id": None}
    found = model.generate(tokens, past_key_values=cache.past_key_values, **options)
    assert torch.equal(found, model.generate(tokens, **options))
    with pytest.raises(ValueError, match="past_key_values holds 16 positions, but must hold fewer than the 3"):
        model.generate(torch.tensor([[5, 6, 7]]), past_key_values=first.past_key_values, max_new_tokens=2)


class Letters:
    """A tokenizer of one letter per token, and some that are half a character or a line's end."""

    words = {10: "\n", 11: " ", 12: "word ", 13: "\N{CJK UNIFIED IDEOGRAPH-4E2D}"}

    def decode(self, ids, skip_special_tokens=False):
        if skip_special_tokens:
            ids = [i for i in ids if i > 2]
        return "".join(self.words.get(i, chr(ord("a") + i % 26)) for i in ids)


def test_stopping():
    model = small(eos_token_id=None)
    prompt = torch.tensor([[5, 6, 7], [8, 9, 20]])
    whole = model.generate(prompt, max_new_tokens=12)
    end = int(whole[0, 6])
    first = whole[0, 3:].tolist().index(end) + 4  # the length with the end
    found = model.generate(prompt[:1], max_new_tokens=12, eos_token_id=end)
    assert torch.equal(found, whole[:1, :first])
    both = model.generate(prompt, max_new_tokens=12, eos_token_id=end, pad_token_id=98)
    assert both[0, first:].eq(98).all() and torch.equal(both[0, :first], whole[0, :first])
    by_text = model.generate(prompt[:1], max_new_tokens=12, stop_strings=Letters().decode([end]), tokenizer=Letters())
    assert torch.equal(by_text, found)
    seen = []

    def three_more(ids, scores):
        seen.append(scores.shape)
        return ids.shape[1] >= 6

    assert model.generate(prompt, max_new_tokens=12, stopping_criteria=[three_more]).shape == (2, 6)
    assert seen == [(2, 99)] * 3
    began = time.monotonic()
    assert model.generate(prompt, max_new_tokens=40, max_time=1e-9).shape == (2, 4)
    assert time.monotonic() - began < 5
    only_nine = lambda ids, scores: torch.full_like(scores, -float("inf")).index_fill(1, torch.tensor([9]), 0.0)  # noqa: E731
    assert model.generate(prompt, max_new_tokens=3, logits_processor=[only_nine])[:, 3:].eq(9).all()


def test_lengths():
    model = small(eos_token_id=None)
    prompt = torch.tensor([[5, 6, 7]])
    assert model.generate(prompt).shape == (1, 23), "20 new tokens where nothing is said"
    assert model.generate(torch.ones(1, 40, dtype=torch.long)).shape == (1, 48), "up to the model's positions"
    with pytest.warns(UserWarning, match="`max_new_tokens` will take precedence"):
        assert model.generate(prompt, max_length=9, max_new_tokens=2).shape == (1, 5)
    assert model.generate(max_new_tokens=2)[0, 0] == 1, "begins with bos_token_id"
    assert model.generate(prompt, max_new_tokens=46).shape == (1, 49), "the last token needs no position"


def test_streamers(capsys):
    model = small(eos_token_id=None)
    prompt = torch.tensor([[5, 6, 7]])
    text = Letters().decode(model.generate(prompt, max_new_tokens=15)[0].tolist())
    model.generate(prompt, max_new_tokens=15, streamer=TextStreamer(Letters()))
    assert capsys.readouterr().out == text + "\n"
    model.generate(prompt, max_new_tokens=15, streamer=TextStreamer(Letters(), skip_prompt=True))
    assert capsys.readouterr().out == text[3:] + "\n"
    streamer = TextIteratorStreamer(Letters(), timeout=5)
    model.generate(prompt, max_new_tokens=15, streamer=streamer)
    assert "".join(streamer) == text
    assert "".join(text_pieces(Letters(), model.stream(prompt, max_new_tokens=15))) == text[3:]
    with pytest.raises(ValueError, match="only supports batch size 1"):
        TextStreamer(Letters()).put(torch.zeros(2, 3))


def test_pieces_are_whole():
    """Words wait for their space; lines, ideographs and the end come at once."""
    tokens = [1, 2, 11, 3, 12, 4, 10, 5, 13, 6]
    assert list(text_pieces(Letters(), tokens)) == ["bc ", "dword ", "e\n", "f\N{CJK UNIFIED IDEOGRAPH-4E2D}", "g"]
    assert list(text_pieces(Letters(), [1, 11, 3], skip_special_tokens=True)) == [" ", "d"]


BAD = [
    ({"temperature": 0}, ValueError, "`temperature` has to be a strictly positive float; .*`do_sample=False`"),
    ({"temperature": -1.0}, ValueError, "but is -1.0"),
    ({"top_p": 0.0}, ValueError, "`top_p` has to be a float > 0 and <= 1, but is 0.0"),
    ({"top_p": 1.1}, ValueError, "but is 1.1"),
    ({"top_k": -1}, ValueError, "`top_k` has to be a strictly positive integer"),
    ({"top_k": 2.0}, ValueError, "but is 2.0"),
    ({"repetition_penalty": 0.0}, ValueError, "`repetition_penalty` has to be a strictly positive float"),
    ({"max_new_tokens": 0}, ValueError, "`max_new_tokens` has to be greater than 0, but is 0"),
    ({"max_length": 3}, ValueError, "Input length of input_ids is 3, but `max_length` is set to 3"),
    ({"max_new_tokens": 47}, ValueError, "continued to 50 exceeds the model's 48 positions"),
    ({"num_return_sequences": 2}, ValueError, "Greedy methods"),
    ({"num_beams": 4}, ValueError, "num_beams=4 is not offered: it must be 1 or left out"),
    ({"top_q": 4}, ValueError, r"not used by the model: \['top_q'\]"),
    ({"eos_token_id": -1}, ValueError, "`eos_token_id` has to be a non-negative integer"),
    ({"stop_strings": "a"}, ValueError, "pass the tokenizer to `generate`"),
    ({"attention_mask": torch.ones(1, 2)}, ValueError, r"attention_mask: expected \(1, 3\) as input_ids"),
    ({"attention_mask": torch.zeros(1, 3)}, ValueError, "all padding"),
    ({"input_ids": torch.tensor([[99]])}, IndexError, "token 99 is outside the vocabulary of 99"),
    ({"input_ids": torch.tensor([[-3]])}, IndexError, "token -3 is outside"),
    ({"input_ids": torch.tensor([1, 2])}, ValueError, r"expected \(batch, length\)"),
    ({"input_ids": torch.ones(1, 2)}, TypeError, "expected a tensor of integers"),
    ({"input_ids": torch.ones(1, 0, dtype=torch.long)}, ValueError, "at least one token"),
    ({"input_ids": torch.ones(1, 49, dtype=torch.long)}, ValueError, "49 tokens is longer than the model's 48"),
    ({"input_ids": [[1, 2]]}, TypeError, "but got list"),
]


@pytest.mark.parametrize(("options", "kind", "text"), BAD)
def test_bad_arguments_stop_before_any_work(options, kind, text):
    model = small()
    model.transformer.forward = None  # nothing is computed
    for call in (model.generate, model.stream):
        with pytest.raises(kind, match=text):
            call(**{"input_ids": torch.tensor([[3, 4, 5]]), **options})


def test_bad_files(tmp_path):
    model = small()
    model.save_pretrained(tmp_path)
    path = tmp_path / "generation_config.json"
    for content, text in (
        ("{", "generation_config.json: no valid JSON"),
        ("[1]", "generation_config.json: expected a JSON object"),
        (json.dumps({"num_beams": 3}), "num_beams=3 is not offered"),
    ):
        path.write_text(content)
        with pytest.raises(ValueError, match=text):
            GPT2LMHeadModel.from_pretrained(tmp_path)
    path.write_text(json.dumps({"top_p": 3.0, "transformers_version": "5"}))
    with pytest.raises(ValueError, match="`top_p` has to be"):
        GPT2LMHeadModel.from_pretrained(tmp_path).generate(torch.tensor([[1]]))
    path.unlink()
    assert GPT2LMHeadModel.from_pretrained(tmp_path).generation_config.eos_token_id == 2


def test_right_padding_is_warned_of():
    with pytest.warns(UserWarning, match="right-padding was detected"):
        small().generate(torch.tensor([[3, 4], [3, 0]]), max_new_tokens=1)


def test_on_another_device():
    """The same random numbers and tokens; every new tensor is made where the model is."""
    for model in (small(), LlamaForCausalLM(LlamaConfig(**LLAMA)).eval()):
        tokens, mask = (torch.tensor(x) for x in prompts(3))
        options = {"max_new_tokens": 9, "do_sample": True, "top_p": 0.9, "repetition_penalty": 1.2, "eos_token_id": 2}
        found = []
        for device in ("cpu", "fake"):
            torch.manual_seed(3)
            moved = {"input_ids": tokens.to(device), "attention_mask": mask.to(device)}
            found.append(model.to(device).generate(**moved, **options))
            assert found[-1].device.type == device
        assert torch.equal(found[0], found[1].cpu())


def test_the_example(tmp_path):
    """One command makes a checkpoint with its tokenizer, trains it and streams; a second one reads it again."""
    pytest.importorskip("tokenizers")
    pytest.importorskip("safetensors")
    (tmp_path / "story.txt").write_text("the cat sat on the mat and looked at the moon.\n" * 80)

    def run(*arguments):
        done = subprocess.run(
            [sys.executable, str(ROOT / "examples" / "generate.py"), *arguments],
            cwd=tmp_path, capture_output=True, text=True, timeout=120, env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},
        )  # fmt: skip
        assert done.returncode == 0, done.stderr[-2000:]
        return done.stdout

    made = run("--quick", "--train", "30", "--text", "story.txt", "--out", "model", "--prompt", "the cat")
    losses = [float(x) for x in re.findall(r"loss (\d+\.\d+)", made)]
    assert losses[-1] < 0.8 * losses[0]
    for name in ("config.json", "generation_config.json", "model.safetensors", "tokenizer.json"):
        assert (tmp_path / "model" / name).exists()
    again = run("--model", "model", "--prompt", "the cat", "--tokens", "20")
    assert again.partition("\n\n")[2].startswith("the cat")
    assert re.findall(r"\n\n(the cat.*)\n\n", made, re.DOTALL) == re.findall(r"\n\n(the cat.*)\n\n", again, re.DOTALL)
