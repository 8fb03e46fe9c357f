"""GPT-2: logits, gradients and files equal to those of transformers; the cache changes nothing."""

import pytest
import tapegrad as torch
from causal_models import (
    GPT2,
    check_cache,
    check_same_gradients,
    check_same_logits,
    check_saved,
    checkpoint,
    libraries,
)
from tapegrad.models import GPT2Config, GPT2LMHeadModel, GPT2Model

OFF = {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}
VARIANTS = {
    "plain": {},
    "scales": {"scale_attn_weights": False, "scale_attn_by_inverse_layer_idx": True, "initializer_range": 0.1},
    "relu, narrow, untied, upcast": {
        "activation_function": "relu", "n_inner": 20, "tie_word_embeddings": False, "reorder_and_upcast_attn": True,
    },
    "gelu": {"activation_function": "gelu", "layer_norm_epsilon": 1e-2},
}  # fmt: skip


def small(**options):
    torch.manual_seed(0)
    return GPT2LMHeadModel(GPT2Config(**{**GPT2, **OFF, **options})).eval()


@pytest.mark.parametrize("variant", VARIANTS)
def test_is_transformers_model(variant, tmp_path):
    theirs, transformers = libraries()
    expected = checkpoint("GPT2", {**GPT2, **OFF, **VARIANTS[variant]}, tmp_path, "LMHeadModel")
    found = GPT2LMHeadModel.from_pretrained(tmp_path)
    assert isinstance(torch.models.from_pretrained(tmp_path), GPT2LMHeadModel)
    check_same_logits(expected, found, theirs)
    check_same_gradients(expected, found, theirs)
    check_saved(found, transformers.GPT2LMHeadModel, theirs, tmp_path / "again")


def test_half_precision(tmp_path):
    theirs, _ = libraries()
    expected = checkpoint("GPT2", {**GPT2, **OFF, "reorder_and_upcast_attn": True}, tmp_path, "LMHeadModel")
    found = GPT2LMHeadModel.from_pretrained(tmp_path, dtype=torch.float16)
    assert found.dtype == torch.float16
    check_same_logits(expected, found.float(), theirs, tolerance=2e-3)


def test_base_model_and_head_read_each_other(tmp_path):
    model = small()
    model.save_pretrained(tmp_path)
    tokens = torch.tensor([[5, 6, 7]])
    base = GPT2Model.from_pretrained(tmp_path)
    hidden = base(tokens).last_hidden_state
    torch.testing.assert_close(hidden @ model.transformer.wte.weight.T, model(tokens).logits, rtol=0, atol=1e-5)
    base.save_pretrained(tmp_path / "base")
    again = GPT2LMHeadModel.from_pretrained(tmp_path / "base")
    torch.testing.assert_close(again(tokens).logits, model(tokens).logits, rtol=0, atol=0)


def test_starting_values():
    """Normal, smaller at the ends of residual paths; biases zero; the head is the embedding."""
    model = small(n_embd=64, n_layer=2, initializer_range=0.02)
    block = model.transformer.h[0]
    assert block.mlp.c_fc.weight.std().item() == pytest.approx(0.02, rel=0.1)
    assert block.mlp.c_proj.weight.std().item() == pytest.approx(0.01, rel=0.1)
    assert not block.attn.c_attn.bias.any()
    assert model.lm_head.weight is model.transformer.wte.weight
    assert small(tie_word_embeddings=False).lm_head.weight.std().item() == pytest.approx(0.3, rel=0.1)


def test_cache():
    check_cache(small())


def test_other_inputs():
    model = small()
    tokens = torch.tensor([[5, 6, 7]])
    embedded = model(inputs_embeds=model.transformer.wte(tokens)).logits
    torch.testing.assert_close(embedded, model(tokens).logits)
    torch.testing.assert_close(model(tokens, logits_to_keep=1).logits, model(tokens).logits[:, -1:])
    assert not torch.equal(model(tokens, token_type_ids=tokens).logits, model(tokens).logits)
    moved = model(tokens, position_ids=torch.tensor([[3, 4, 5]])).logits
    assert not torch.allclose(moved, model(tokens).logits)


def test_errors():
    with pytest.raises(ValueError, match="n_embd=30 must be divisible by n_head=4"):
        GPT2Config(n_embd=30, n_head=4)
    with pytest.raises(ValueError, match="add_cross_attention=True is not implemented"):
        GPT2Config.from_dict({"add_cross_attention": True})
    with pytest.raises(ValueError, match="activation 'gelo' is unknown"):
        small(activation_function="gelo")
    model = small()
    with pytest.raises(ValueError, match="exactly one of input_ids or inputs_embeds"):
        model()
    with pytest.raises(ValueError, match=r"expected \(batch, length\), but got \(3,\)"):
        model(torch.tensor([1, 2, 3]))
    with pytest.raises(ValueError, match="49 positions, but the model has 48"):
        model(torch.ones(1, 49, dtype=torch.long))
    with pytest.raises(ValueError, match=r"attention_mask: expected \(batch, 3\)"):
        model(torch.tensor([[1, 2, 3]]), attention_mask=torch.ones(1, 2))
    cache = model(torch.tensor([[1, 2, 3]])).past_key_values
    with pytest.raises(ValueError, match="the cache holds 1 sequences of 4 heads, but got 2 of 4"):
        model(torch.tensor([[1], [2]]), past_key_values=cache)
