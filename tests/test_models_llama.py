"""LLaMA, Mistral and Qwen2: logits, gradients and files equal to those of transformers; the cache changes nothing."""

import json

import numpy as np
import pytest
import tapegrad as torch
from causal_models import (
    LLAMA,
    check_cache,
    check_same_gradients,
    check_same_logits,
    check_saved,
    checkpoint,
    generated,
    libraries,
    prompts,
)
from tapegrad.models import LlamaConfig, LlamaForCausalLM, MistralConfig, MistralForCausalLM, Qwen2Config

LLAMA3 = {
    "rope_type": "llama3", "rope_theta": 5e5, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}  # fmt: skip
VARIANTS = {
    "grouped heads": ("Llama", {}),
    "biases, wide heads, tied": (
        "Llama",
        {
            "num_key_value_heads": 4, "head_dim": 16, "attention_bias": True, "mlp_bias": True,
            "tie_word_embeddings": True,
        },
    ),  # fmt: skip
    "linear": ("Llama", {"rope_parameters": {"rope_type": "linear", "factor": 2.0, "rope_theta": 500.0}}),
    "llama3": ("Llama", {"rope_parameters": LLAMA3}),
    "dynamic": (
        "Llama",
        {"rope_parameters": {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 1e4}, "max_position_embeddings": 6},
    ),
    "sliding window": ("Mistral", {"sliding_window": 3}),
    "biases at queries": ("Qwen2", {}),
    "half of the layers slide": (
        "Qwen2", {"use_sliding_window": True, "sliding_window": 3, "max_window_layers": 1},
    ),
}  # fmt: skip


def small(kind=LlamaForCausalLM, **options):
    torch.manual_seed(0)
    return kind(kind.Config(**{**LLAMA, **options})).eval()


@pytest.mark.parametrize("variant", VARIANTS)
def test_is_transformers_model(variant, tmp_path):
    theirs, transformers = libraries()
    kind, options = VARIANTS[variant]
    expected = checkpoint(kind, {**LLAMA, **options}, tmp_path)
    found = torch.models.from_pretrained(tmp_path)
    assert type(found).__name__ == kind + "ForCausalLM"
    check_same_logits(expected, found, theirs)
    check_same_gradients(expected, found, theirs)
    # last, as transformers' "dynamic" goes by the longest sequence that the model has ever seen
    tokens, mask = prompts(4)
    options = {"max_new_tokens": 12, "eos_token_id": None, "attention_mask": mask}
    np.testing.assert_array_equal(
        generated(found, torch, tokens, **options), generated(expected, theirs, tokens, **options)
    )
    check_saved(found, type(expected), theirs, tmp_path / "again")


@pytest.mark.parametrize(
    "older",
    [
        {"rope_theta": 500.0, "rope_scaling": {"type": "linear", "factor": 2.0}},
        {"rope_theta": 5e5, "rope_scaling": {k: v for k, v in LLAMA3.items() if k != "rope_theta"}},
        {"rope_theta": 77.0, "rope_scaling": None},
    ],
)
def test_older_configurations(older, tmp_path):
    """What transformers before 5 wrote: rope_theta and rope_scaling beside each other."""
    theirs, _ = libraries()
    checkpoint("Llama", LLAMA, tmp_path)
    path = tmp_path / "config.json"
    config = json.loads(path.read_text())
    config.pop("rope_parameters")
    path.write_text(json.dumps({**config, **older}))
    from transformers import LlamaForCausalLM as Theirs

    check_same_logits(Theirs.from_pretrained(tmp_path).eval(), LlamaForCausalLM.from_pretrained(tmp_path), theirs)


def test_half_precision():
    """The norm is computed in float32; the tables of angles are made in float32 and then rounded."""
    model = small(initializer_range=0.1)
    tokens = torch.tensor(prompts()[0])
    expected = model(tokens).logits
    found = model.to(torch.bfloat16)(tokens).logits
    assert found.dtype == torch.bfloat16
    assert (found.float() - expected).abs().max() < 0.03 * expected.abs().max()


def test_cache():
    check_cache(small(initializer_range=0.1))
    check_cache(small(MistralForCausalLM, initializer_range=0.1, sliding_window=4))


def test_tables_grow():
    """Positions behind those that tables were made for first, one by one and all at once."""
    model = small(max_position_embeddings=400, num_hidden_layers=1)
    tokens = torch.randint(3, 99, (1, 300), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        cache = torch.models.KVCache()
        model(tokens[:, :255], past_key_values=cache)
        last = [model(tokens[:, i : i + 1], past_key_values=cache).logits for i in range(255, 258)]
        torch.testing.assert_close(torch.cat(last, 1), model(tokens).logits[:, 255:258], rtol=0, atol=2e-4)


def test_errors():
    with pytest.raises(ValueError, match="num_attention_heads=4 must be a multiple of num_key_value_heads=3"):
        LlamaConfig(**{**LLAMA, "num_key_value_heads": 3})
    with pytest.raises(ValueError, match=r"hidden size \(33\) is not a multiple"):
        LlamaConfig(**{**LLAMA, "hidden_size": 33})
    with pytest.raises(ValueError, match="head_dim=5 must be even"):
        LlamaConfig(**{**LLAMA, "head_dim": 5})
    with pytest.raises(ValueError, match="rope_type 'yarn' is not implemented; implemented are default, linear"):
        LlamaConfig(rope_parameters={"rope_type": "yarn", "factor": 2.0})
    with pytest.raises(ValueError, match="llama3 needs factor > 0, found None"):
        LlamaConfig(rope_parameters={"rope_type": "llama3"})
    with pytest.raises(ValueError, match="pretraining_tp=2 is not implemented"):
        LlamaConfig.from_dict({"pretraining_tp": 2})
    assert MistralConfig().window(0) == 4096
    assert Qwen2Config().window(0) is None
