"""Attention and transformers beside PyTorch: values, gradients, dropout's masks, texts; closed forms without it."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import tapegrad
from test_training_torch import draws_as_torch


@pytest.fixture
def torch() -> Iterator[Any]:
    module = pytest.importorskip("torch")
    threads = module.get_num_threads()
    module.set_num_threads(1)
    yield module
    module.set_num_threads(threads)


RNG = np.random.default_rng(3)
INPUTS: dict[str, Any] = {
    "q": RNG.normal(size=(2, 4, 3, 6)),
    "k": RNG.normal(size=(2, 4, 5, 6)),
    "v": RNG.normal(size=(2, 4, 5, 7)),
    "k2": RNG.normal(size=(2, 2, 5, 6)),
    "v2": RNG.normal(size=(2, 2, 5, 7)),
    "seen": RNG.random((3, 5)) > 0.4,
    "none": np.zeros((3, 5), bool),
    "bias": RNG.normal(size=(4, 1, 5)),
    "x": RNG.normal(size=(5, 2, 8)),
    "y": RNG.normal(size=(3, 2, 8)),
    "m": RNG.normal(size=(5, 2, 6)),
    "s": RNG.normal(size=(5, 8)),
    "padded": np.array([[False, False, False, False, True], [False, False, True, True, True]]),
    "holes": np.array([[True, False, False, False, True], [False, False, True, False, False]]),
    "late": np.triu(np.ones((5, 5), bool), 1),
    "square": RNG.normal(size=(5, 5)),
    "heads": RNG.random((4, 3, 5)) > 0.7,
}
DIFFERENTIABLE = ("q", "k", "v", "k2", "v2", "bias", "x", "y", "m", "s")


class Names(dict):  # type: ignore[type-arg]
    """The names of an expression: `t` the library, `F`, `nn`, `MODULE`, and the inputs as tensors."""

    def __init__(self, library: Any, module: Any = None):
        super().__init__(t=library, F=library.nn.functional, nn=library.nn, layer=module)
        self.library = library

    def __missing__(self, name: str) -> Any:
        if name not in INPUTS:
            raise KeyError(name)
        self[name] = made = self.library.tensor(INPUTS[name])
        if name in DIFFERENTIABLE:
            made.requires_grad_()
        return made


def results(library: Any, call: str, module: str = "", train: bool = False, order: int = 1) -> list[Any]:
    """Outputs of a call, and gradients of inputs and parameters, in float64."""
    library.manual_seed(4)
    layer = None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if module:
            layer = eval(f"nn.{module}", {"nn": library.nn, "F": library.nn.functional}).double().train(train)
            for k, p in enumerate(layer.parameters()):  # no bias stays 0
                if p.dim() == 1:
                    p.data.add_(0.01 * (k + 1))
        names = Names(library, layer)
        value = eval(call, names)
    outputs = [o for o in (value if isinstance(value, tuple) else (value,)) if o is not None]
    leaves = [v for n, v in names.items() if n in DIFFERENTIABLE]
    leaves += [] if layer is None else list(layer.parameters())
    shown = [o.detach().numpy() for o in outputs]
    if not outputs[0].requires_grad:
        return shown
    total: Any = 0
    for k, o in enumerate(outputs):
        weight = library.arange(1, o.numel() + 1, dtype=library.float64).reshape(o.shape) * 0.1 - k - 0.5
        total = total + (o * weight).sum()
    grads = library.autograd.grad(total, leaves, create_graph=order == 2, allow_unused=True)
    if order == 2:
        total = sum((g * g).sum() for g in grads if g is not None and g.requires_grad)
        grads = library.autograd.grad(total, leaves, allow_unused=True)
    return shown + [np.zeros(()) if g is None else g.detach().numpy() for g in grads]


def same(found: list[Any], expected: list[Any]) -> None:
    assert len(found) == len(expected)
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-8, atol=1e-9)


A = "F.scaled_dot_product_attention"
CALLS = [
    f"{A}(q, k, v)",
    f"{A}(q, k, v, scale=0.1)",
    f"{A}(q, k, v, attn_mask=seen)",
    f"{A}(q, k, v, attn_mask=none)",
    f"{A}(q, k, v, attn_mask=bias)",
    f"{A}(q, k, v, is_causal=True)",
    f"{A}(q, q, q, is_causal=True)",
    f"{A}(q[0], k[0], v[0])",
    f"{A}(q[0, 0], k[0, 0], v[0, 0], attn_mask=seen)",
    f"{A}(q, k[:1], v[:1])",
    f"{A}(q, k2, v2, enable_gqa=True)",
    f"{A}(q.transpose(0, 1), k.transpose(0, 1), v.transpose(0, 1), attn_mask=seen.float())",
    f"{A}(q * 300, k * 300, v)",
]


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("order", [1, 2])
def test_attention_equals_torch(torch: Any, call: str, order: int) -> None:
    if order == 2 and ("300" in call or "none" in call):
        pytest.skip("the weights are constant")
    try:
        expected = results(torch, call, order=order)
    except RuntimeError as error:
        assert order == 2 and "_backward is not implemented" in str(error)
        pytest.skip("torch has no second gradient of its fused kernel")
    same(results(tapegrad, call, order=order), expected)


@pytest.mark.parametrize("call", [f"{A}(q, k, v, dropout_p=0.4)", f"{A}(q, k, v, attn_mask=seen, dropout_p=0.4)"])
def test_dropout_of_attention(torch: Any, call: str) -> None:
    if not draws_as_torch():
        pytest.skip("torch draws dropout masks from MKL on Intel processors")
    same(results(tapegrad, call), results(torch, call))


MHA = [
    ("MultiheadAttention(8, 2)", "layer(x, x, x)"),
    ("MultiheadAttention(8, 2)", "layer(x, x, x, need_weights=False)"),
    ("MultiheadAttention(8, 2, bias=False)", "layer(y, x, x)"),
    ("MultiheadAttention(8, 2)", "layer(y, x, x, average_attn_weights=False)"),
    ("MultiheadAttention(8, 2)", "layer(y, x, x * 2, key_padding_mask=padded, attn_mask=heads)"),
    ("MultiheadAttention(8, 2)", "layer(y, x, x * 2, key_padding_mask=padded, attn_mask=heads, need_weights=False)"),
    ("MultiheadAttention(8, 4)", "layer(x, x, x, attn_mask=late, is_causal=True, need_weights=False)"),
    ("MultiheadAttention(8, 4)", "layer(x, x, x, attn_mask=late, is_causal=True)"),
    ("MultiheadAttention(8, 4)", "layer(x, x, x, attn_mask=square, need_weights=False)"),
    ("MultiheadAttention(8, 2, kdim=6, vdim=6)", "layer(y, m, m)"),
    ("MultiheadAttention(8, 2, kdim=6, vdim=6, bias=False)", "layer(y, m, m, need_weights=False)"),
    ("MultiheadAttention(8, 2, add_bias_kv=True, add_zero_attn=True)", "layer(y, x, x, key_padding_mask=holes)"),
    ("MultiheadAttention(8, 2, add_bias_kv=True)", "layer(x, x, x, attn_mask=late, need_weights=False)"),
    ("MultiheadAttention(8, 2, add_zero_attn=True)", "layer(x, x, x, attn_mask=late)"),
    ("MultiheadAttention(8, 2, batch_first=True)", "layer(y.transpose(0, 1), x.transpose(0, 1), x.transpose(0, 1))"),
    ("MultiheadAttention(8, 2, batch_first=True)", "layer(*[x.transpose(0, 1)] * 3, key_padding_mask=padded)"),
    ("MultiheadAttention(8, 2)", "layer(s, s, s)"),
    ("MultiheadAttention(8, 2)", "layer(s[:3], s, s, key_padding_mask=padded[1], need_weights=False)"),
    ("MultiheadAttention(8, 2, dropout=0.3)", "layer(x, x, x)"),
    ("MultiheadAttention(8, 2, dropout=0.3)", "layer(y, x, x, need_weights=False)"),
]
STACKS = [
    ("TransformerEncoderLayer(8, 2, 16)", "layer(x)"),
    ("TransformerEncoderLayer(8, 2, 16, 0.3, F.gelu, norm_first=True)", "layer(x, src_mask=late)"),
    ("TransformerEncoderLayer(8, 2, 16, activation='gelu', batch_first=True)",
     "layer(x.transpose(0, 1), src_key_padding_mask=padded)"),
    ("TransformerEncoderLayer(8, 2, 16, bias=False)", "layer(s)"),
    ("TransformerDecoderLayer(8, 2, 16)", "layer(y, x)"),
    ("TransformerDecoderLayer(8, 2, 16, norm_first=True, bias=False)",
     "layer(x, y, tgt_mask=square, memory_mask=seen.T, tgt_is_causal=False)"),
    ("TransformerDecoderLayer(8, 2, 16, batch_first=True)",
     "layer(y.transpose(0, 1), x.transpose(0, 1), memory_key_padding_mask=holes)"),
    ("TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 16), 2, nn.LayerNorm(8))",
     "layer(x, mask=nn.Transformer.generate_square_subsequent_mask(5, dtype=t.float64))"),
    ("TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 16), 2)", "layer(x, src_key_padding_mask=padded)"),
    ("TransformerDecoder(nn.TransformerDecoderLayer(8, 2, 16), 2)",
     "layer(x, y, tgt_mask=nn.Transformer.generate_square_subsequent_mask(5, dtype=t.float64))"),
    ("Transformer(8, 2, 2, 1, 16)", "layer(x, y)"),
    ("Transformer(8, 2, 1, 1, 16, norm_first=True, batch_first=True)",
     "layer(x.transpose(0, 1), y.transpose(0, 1), src_key_padding_mask=padded, memory_key_padding_mask=padded)"),
]  # fmt: skip


@pytest.mark.parametrize(("module", "call"), MHA + STACKS)
def test_layers_equal_torch(torch: Any, module: str, call: str) -> None:
    same(results(tapegrad, call, module), results(torch, call, module))


@pytest.mark.parametrize(("module", "call"), MHA[-2:] + STACKS)
def test_dropout_draws_the_masks_of_torch(torch: Any, module: str, call: str) -> None:
    if not draws_as_torch():
        pytest.skip("torch draws dropout masks from MKL on Intel processors")
    same(results(tapegrad, call, module, True), results(torch, call, module, True))


def test_padding_in_evaluation(torch: Any) -> None:
    """Without gradients PyTorch cuts the padding off, where it is behind the sequences; it comes back as zeros."""
    layer = "nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)"
    for module in (
        f"TransformerEncoder({layer}, 2)",
        f"TransformerEncoder({layer}, 2, enable_nested_tensor=False)",
        "TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 16, batch_first=True, norm_first=True), 1)",
    ):
        for mask in ("padded", "holes"):
            call = f"layer(x.detach().transpose(0, 1), src_key_padding_mask={mask})"
            found = []
            for library in (tapegrad, torch):
                with library.no_grad():
                    found.append(results(library, call, module))
            same(*found)


@pytest.mark.parametrize("module", sorted({m for m, _ in MHA + STACKS}))
def test_first_weights_names_and_repr(torch: Any, module: str) -> None:
    made = []
    for library in (tapegrad, torch):
        library.manual_seed(7)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            made.append(eval(f"nn.{module}", {"nn": library.nn, "F": library.nn.functional}))
    assert repr(made[0]) == repr(made[1])
    assert list(made[0].state_dict()) == list(made[1].state_dict())
    for name, value in made[1].state_dict().items():
        np.testing.assert_allclose(made[0].state_dict()[name].numpy(), value.numpy(), rtol=0, atol=2e-7)


M = "nn.MultiheadAttention(8, 2).double()"
WRONG = [
    f"{A}(q, k, v, attn_mask=seen, is_causal=True)",
    f"{A}(q[0], k[0], v[0], attn_mask=bias[None] * t.ones(3, 1, 1, 1, dtype=t.float64))",
    f"{A}(q[0, 0, 0], k[0, 0], v[0, 0])", f"{A}(q, k.float(), v)",
    f"{A}(q, k[..., :4], v)", f"{A}(q, k, v[:, :, :4])", f"{A}(q, k, v, attn_mask=t.zeros(3, 4, dtype=t.float64))",
    f"{A}(q, k, v, attn_mask=seen.long())", f"{A}(q, k, v, dropout_p=1.5)",
    f"{A}(q, k[:, :3], v[:, :3], enable_gqa=True)", f"{A}(q.long(), k.long(), v.long())", f"{A}(q[:, :3], k, v)",
    "nn.MultiheadAttention(8, 3)", "nn.MultiheadAttention(0, 1)", f"{M}(x[None], x, x)", f"{M}(x, s, s)",
    f"{M}(s, x, x)",
    f"{M}(x, x, x, key_padding_mask=padded[0])", f"{M}(s, s, s, key_padding_mask=padded)",
    f"{M}(x, x, x, attn_mask=seen[0])",
    f"{M}(x, x, x, key_padding_mask=padded.long())", f"{M}(x, x, x, attn_mask=late.long())",
    f"{M}(y, x, x, attn_mask=late)",
    f"{M}(x, x, x, attn_mask=heads)", f"{M}(s[:3], s, s, attn_mask=heads)", f"{M}(x, x, x, is_causal=True)",
    f"{M}(m, m, m)", f"{M}(x, x, y)", f"{M}(x, x, x, key_padding_mask=padded[:, :4])",
    f"{M}(x, x, x, key_padding_mask=padded[:1])", "nn.TransformerEncoderLayer(8, 2, activation='tanh')",
    "nn.Transformer(8, 2, 1, 1, 16)(x.float(), y[:, :1].float())",
    "nn.Transformer(8, 2, 1, 1, 16)(m.float(), m.float())",
]  # fmt: skip


@pytest.mark.parametrize("text", WRONG)
def test_errors_are_those_of_torch(torch: Any, text: str) -> None:
    errors = []
    for library in (tapegrad, torch):
        with pytest.raises(Exception) as caught, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            eval(text, Names(library))
        errors.append(caught.value)
    assert type(errors[0]) is type(errors[1]), errors
    assert str(errors[0]).startswith(str(errors[1])[:150]), errors


def test_closed_forms() -> None:
    """Without PyTorch: equal scores average the values; a causal query sees what is before it."""
    attention = tapegrad.nn.functional.scaled_dot_product_attention
    value = tapegrad.arange(6.0).reshape(1, 3, 2)
    zeros = tapegrad.zeros(1, 3, 4)
    assert attention(zeros, zeros, value).tolist() == [[[2.0, 3.0]] * 3]
    assert attention(zeros, zeros, value, is_causal=True).tolist() == [[[0.0, 1.0], [1.0, 2.0], [2.0, 3.0]]]
    chosen = tapegrad.eye(3, dtype=tapegrad.bool)
    assert attention(zeros, zeros, value, attn_mask=chosen).tolist() == value.tolist()
    sharp = tapegrad.eye(3)[None] * 1000
    assert attention(sharp, sharp, value).tolist() == value.tolist()


def test_a_mask_of_another_dtype_warns() -> None:
    layer = tapegrad.nn.MultiheadAttention(8, 2)
    x = tapegrad.zeros(5, 2, 8)
    with pytest.warns(UserWarning, match="mismatched key_padding_mask and attn_mask is deprecated"):
        layer(x, x, x, key_padding_mask=tapegrad.tensor(INPUTS["padded"]), attn_mask=tapegrad.zeros(5, 5))
