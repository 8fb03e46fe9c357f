"""Random small checkpoints made by transformers on torch, and what the tests of causal models compare."""

import contextlib
import io
import logging
import warnings

import numpy as np
import pytest
import tapegrad as torch

TOKENS = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
GPT2 = {
    "vocab_size": 99,
    "n_positions": 48,
    "n_embd": 32,
    "n_layer": 2,
    "n_head": 4,
    "initializer_range": 0.3,
    **TOKENS,
}
LLAMA = {
    "vocab_size": 99, "max_position_embeddings": 48, "hidden_size": 32, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "intermediate_size": 40, "initializer_range": 0.3, **TOKENS,
}  # fmt: skip


def libraries():
    """(torch, transformers), quiet and with one thread, or the test is skipped."""
    theirs = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    theirs.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    logging.getLogger("transformers").setLevel(logging.CRITICAL)
    return theirs, transformers


def checkpoint(kind: str, config: dict, folder, name: str = "ForCausalLM"):
    """A model of transformers with random weights, biases and norms included, in eval mode, saved in a folder."""
    theirs, transformers = libraries()
    with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()):
        warnings.simplefilter("ignore")
        made = getattr(transformers, kind + name)(getattr(transformers, kind + "Config")(**config)).eval()
        generator = theirs.Generator().manual_seed(3)
        with theirs.no_grad():
            for parameter in made.parameters():
                if parameter.dim() == 1:
                    parameter += 0.2 * theirs.randn(parameter.shape, generator=generator)
        made.save_pretrained(folder)
    return made


def prompts(seed: int = 0, shape=(3, 7), vocabulary: int = 99):
    """(tokens without special ones, a mask of left padding of 0, 2 and 5), NumPy int64."""
    tokens = np.random.default_rng(seed).integers(3, vocabulary, shape)
    mask = np.ones(shape, np.int64)
    for row, padding in enumerate((0, 2, 5)[: shape[0]]):
        mask[row, :padding] = 0
        tokens[row, :padding] = TOKENS["pad_token_id"]
    return tokens, mask


def generated(model, library, tokens, **options):
    """What a model of either library generates from NumPy tokens, as NumPy; what is warned of is tested elsewhere."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        arrays = {k: library.tensor(v) for k, v in options.items() if isinstance(v, np.ndarray)}
        return model.generate(library.tensor(tokens), **{**options, **arrays}).numpy()


def check_same_logits(theirs_model, ours_model, theirs, *, tolerance: float = 1e-5):
    """Logits of prompts, whole and padded on the left, relative to their largest: within the tolerance."""
    tokens, mask = prompts()
    expected = theirs_model(theirs.tensor(tokens)).logits.detach().numpy()
    scale = np.abs(expected).max()
    with torch.no_grad():
        found = ours_model(torch.tensor(tokens)).logits.numpy()
        assert np.abs(found - expected).max() <= tolerance * scale
        positions = (mask.cumsum(-1) - 1).clip(0)
        options = {"attention_mask": mask, "position_ids": positions}
        expected = theirs_model(theirs.tensor(tokens), **{k: theirs.tensor(v) for k, v in options.items()}).logits
        found = ours_model(torch.tensor(tokens), **{k: torch.tensor(v) for k, v in options.items()}).logits
    seen = mask != 0
    assert np.abs(found.numpy() - expected.detach().numpy())[seen].max() <= tolerance * scale


def check_same_gradients(theirs_model, ours_model, theirs, *, tolerance: float = 1e-4):
    """Loss with some labels left out, and every parameter's gradient, relative to the largest of all."""
    tokens, mask = prompts(1)
    labels = np.where(mask == 0, -100, tokens)
    for model, library in ((theirs_model, theirs), (ours_model, torch)):
        model.train()
        given = [library.tensor(x) for x in (tokens, mask, labels)]
        loss = model(given[0], attention_mask=given[1], labels=given[2]).loss
        loss.backward()
        model.eval()
        model.found_loss = loss.item()
    assert ours_model.found_loss == pytest.approx(theirs_model.found_loss, rel=1e-5)
    expected = {name: p.grad.numpy() for name, p in theirs_model.named_parameters()}
    scale = max(np.abs(g).max() for g in expected.values())
    found = dict(ours_model.named_parameters())
    assert set(found) == set(expected)
    for name, g in expected.items():
        assert np.abs(found[name].grad.numpy() - g).max() <= tolerance * scale, name


def check_saved(ours_model, theirs_class, theirs, folder):
    """What save_pretrained writes, transformers reads: the same logits."""
    ours_model.save_pretrained(folder)
    with contextlib.redirect_stderr(io.StringIO()):
        again = theirs_class.from_pretrained(folder).eval()
    tokens, _ = prompts()
    expected = again(theirs.tensor(tokens)).logits.detach().numpy()
    with torch.no_grad():
        found = ours_model(torch.tensor(tokens)).logits.numpy()
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5 * np.abs(expected).max())


def check_cache(model):
    """Token by token, in pieces and at once: the same logits; with padding too; buffers grow and sequences move."""
    tokens, mask = (torch.tensor(x) for x in prompts(2, (2, 12)))
    with torch.no_grad():
        whole = model(tokens, use_cache=False).logits
        cache = torch.models.KVCache(room=1)
        parts = [model(tokens[:, i:j], past_key_values=cache).logits for i, j in ((0, 1), (1, 6), (6, 7), (7, 12))]
        torch.testing.assert_close(torch.cat(parts, 1), whole, rtol=0, atol=2e-5)
        assert cache.get_seq_length() == 12
        cache.crop(6)
        cache.reorder_cache(torch.tensor([1, 0]))
        again = model(tokens[[1, 0]][:, 6:], past_key_values=cache).logits
        torch.testing.assert_close(again, whole[[1, 0]][:, 6:], rtol=0, atol=2e-5)
        padded = model(tokens, attention_mask=mask).logits
        cache = model(tokens[:, :5], attention_mask=mask[:, :5], use_cache=True).past_key_values
        rest = model(tokens[:, 5:], attention_mask=mask, past_key_values=cache).logits
        torch.testing.assert_close(rest, padded[:, 5:], rtol=0, atol=2e-5)
    joined = torch.models.KVCache()
    with_graph = torch.cat([model(tokens[:, i:j], past_key_values=joined).logits for i, j in ((0, 5), (5, 12))], 1)
    gradients = [
        torch.autograd.grad(x.square().mean(), list(model.parameters())) for x in (with_graph, model(tokens).logits)
    ]
    for found, expected in zip(*gradients, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4)
