"""Layers beside torch: text, state, values in train and eval mode with the same seed, gradients, errors."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tapegrad

# (how the layer is made, shapes of its inputs; "i<n>" stands for an integer input below n)
LAYERS: list[tuple[str, list[Any]]] = [
    ("Linear(5, 3)", [(4, 5)]),
    ("Linear(5, 3, bias=False)", [(2, 4, 5)]),
    ("Linear(5, 3)", [(5,)]),
    ("Bilinear(3, 4, 2)", [(5, 3), (5, 4)]),
    ("Identity(54, unused=0.1)", [(2, 3)]),
    ("Flatten()", [(2, 3, 4)]),
    ("Flatten(0, 1)", [(2, 3, 4)]),
    ("Unflatten(1, (2, 3))", [(2, 6)]),
    ("LayerNorm(5)", [(3, 5)]),
    ("LayerNorm((3, 4), eps=1e-3, bias=False)", [(2, 3, 4)]),
    ("LayerNorm(5, elementwise_affine=False)", [(2, 3, 5)]),
    ("RMSNorm(5)", [(3, 5)]),
    ("RMSNorm((3, 4), eps=1e-3, elementwise_affine=False)", [(2, 3, 4)]),
    ("GroupNorm(2, 6)", [(3, 6, 4)]),
    ("GroupNorm(3, 6, affine=False)", [(3, 6, 2, 2)]),
    ("LocalResponseNorm(2)", [(2, 5, 3)]),
    ("LocalResponseNorm(3, alpha=0.1, k=2.0)", [(2, 5, 3, 2)]),
    ("BatchNorm1d(4)", [(5, 4)]),
    ("BatchNorm1d(4, momentum=None)", [(3, 4, 2)]),
    ("BatchNorm2d(3)", [(2, 3, 4, 5)]),
    ("BatchNorm2d(3, affine=False, eps=1e-2)", [(2, 3, 4, 5)]),
    ("BatchNorm2d(3, track_running_stats=False)", [(2, 3, 4, 5)]),
    ("BatchNorm3d(2)", [(2, 2, 3, 2, 2)]),
    ("InstanceNorm1d(3)", [(2, 3, 5)]),
    ("InstanceNorm2d(3, affine=True, track_running_stats=True)", [(2, 3, 4, 5)]),
    ("InstanceNorm3d(2)", [(2, 3, 2, 2)]),
    ("Dropout(0.3)", [(6, 5)]),
    ("Dropout(1.0)", [(6, 5)]),
    ("Dropout(0.0)", [(6, 5)]),
    ("Dropout1d(0.4)", [(4, 6, 3)]),
    ("Dropout2d(0.4)", [(4, 6, 3, 2)]),
    ("Dropout3d(0.4)", [(4, 6, 3, 2, 2)]),
    ("AlphaDropout(0.3)", [(6, 5)]),
    ("FeatureAlphaDropout(0.3)", [(6, 5, 3)]),
    ("Embedding(7, 3)", ["i7"]),
    ("Embedding(7, 3, padding_idx=2)", ["i7"]),
    ("Embedding(7, 3, padding_idx=-1, scale_grad_by_freq=True)", ["i7"]),
    ("Embedding(7, 3, max_norm=1.0)", ["i7"]),
    ("EmbeddingBag(7, 3)", ["i7"]),
    ("EmbeddingBag(7, 3, mode='sum', padding_idx=1)", ["i7"]),
    ("EmbeddingBag(7, 3, mode='max')", ["i7"]),
    ("CosineSimilarity(dim=1)", [(3, 4), (3, 4)]),
    ("PairwiseDistance(p=2)", [(3, 4), (3, 4)]),
    ("PairwiseDistance(p=1, keepdim=True)", [(3, 4), (3, 4)]),
    ("ReLU()", [(3, 4)]),
    ("ReLU6()", [(3, 4)]),
    ("ELU(0.7)", [(3, 4)]),
    ("CELU(0.7)", [(3, 4)]),
    ("SELU()", [(3, 4)]),
    ("GELU()", [(3, 4)]),
    ("GELU('tanh')", [(3, 4)]),
    ("GLU()", [(3, 4)]),
    ("GLU(0)", [(4, 3)]),
    ("SiLU()", [(3, 4)]),
    ("Mish()", [(3, 4)]),
    ("Sigmoid()", [(3, 4)]),
    ("LogSigmoid()", [(3, 4)]),
    ("Tanh()", [(3, 4)]),
    ("Tanhshrink()", [(3, 4)]),
    ("Hardtanh(-0.5, 0.7)", [(3, 4)]),
    ("Hardsigmoid()", [(3, 4)]),
    ("Hardswish()", [(3, 4)]),
    ("Hardshrink(0.3)", [(3, 4)]),
    ("Softshrink(0.3)", [(3, 4)]),
    ("Softplus(2.0, 1.0)", [(3, 4)]),
    ("Softsign()", [(3, 4)]),
    ("Threshold(0.1, 20.0)", [(3, 4)]),
    ("LeakyReLU(0.2)", [(3, 4)]),
    ("RReLU()", [(5, 4)]),
    ("PReLU()", [(3, 4)]),
    ("PReLU(4)", [(3, 4, 2)]),
    ("Softmax(1)", [(3, 4)]),
    ("Softmin(0)", [(3, 4)]),
    ("LogSoftmax(-1)", [(3, 4)]),
    ("Softmax2d()", [(2, 3, 2, 2)]),
]
DRAWS = ("Dropout", "AlphaDropout", "FeatureAlpha")


def make(lib: Any, text: str) -> Any:
    lib.manual_seed(7)
    return eval(f"nn.{text}", {"nn": lib.nn}).double()


def inputs_of(shapes: list[Any]) -> list[np.ndarray]:
    rng = np.random.default_rng(1)
    return [
        rng.integers(0, int(s[1:]), (4, 3)) if isinstance(s, str) else rng.uniform(-1.5, 1.5, s) for s in shapes
    ]


def as_tensors(lib: Any, arrays: list[np.ndarray]) -> list[Any]:
    return [lib.tensor(a, requires_grad=a.dtype.kind == "f") for a in arrays]


def run(lib: Any, model: Any, arrays: list[np.ndarray]) -> tuple[Any, list[Any]]:
    """(output, gradients of the inputs) for a loss that weighs every output differently."""
    tensors = as_tensors(lib, arrays)
    out = model(*tensors)
    if out.requires_grad:
        weights = lib.arange(1, out.numel() + 1, dtype=lib.float64).reshape(out.shape)
        (out * weights).sum().backward()
    return out, [t.grad for t in tensors if t.requires_grad]


@pytest.mark.parametrize(("text", "shapes"), LAYERS, ids=[t for t, _ in LAYERS])
def test_layer_equals_torch(text: str, shapes: list[Any]) -> None:
    torch = pytest.importorskip("torch")
    arrays = inputs_of(shapes)
    theirs, ours = make(torch, text), make(tapegrad, text)
    assert repr(ours) == repr(theirs)
    assert list(ours.state_dict()) == list(theirs.state_dict())
    for training in (True, False):
        theirs.train(training)
        ours.train(training)
        torch.manual_seed(3)
        tapegrad.manual_seed(3)
        theirs.zero_grad()
        ours.zero_grad()
        expected, expected_grads = run(torch, theirs, arrays)
        found, found_grads = run(tapegrad, ours, arrays)
        close = {"rtol": 1e-7, "atol": 1e-9}
        np.testing.assert_allclose(found.detach().numpy(), expected.detach().numpy(), **close)
        for f, e in zip(found_grads, expected_grads, strict=True):
            assert (f is None) == (e is None)
            if e is not None:
                np.testing.assert_allclose(f.numpy(), e.numpy(), **close)
        for (name, f), (_, e) in zip(ours.named_parameters(), theirs.named_parameters(), strict=True):
            assert (f.grad is None) == (e.grad is None), name
            if e.grad is not None:
                np.testing.assert_allclose(f.grad.numpy(), e.grad.numpy(), **close, err_msg=name)
        for (name, f), (_, e) in zip(ours.state_dict().items(), theirs.state_dict().items(), strict=True):
            np.testing.assert_allclose(f.numpy(), e.numpy(), **close, err_msg=name)
            assert str(f.dtype) == str(e.dtype)
    assert tapegrad.rand(3).tolist() == torch.rand(3).tolist()  # both have drawn the same numbers


ERRORS = [
    "nn.Linear(3, 2)(lib.ones(4, 5))",
    "nn.Linear(3, 2)(lib.ones(4, 3, dtype=lib.float64))",
    "nn.BatchNorm2d(3)(lib.ones(2, 3))",
    "nn.BatchNorm1d(3)(lib.ones(1, 3))",
    "nn.BatchNorm1d(3)(lib.ones(2, 4))",
    "nn.LayerNorm(4)(lib.ones(2, 3))",
    "nn.GroupNorm(2, 3)",
    "nn.functional.group_norm(lib.ones(2, 3), 2)",
    "nn.Dropout(1.5)",
    "nn.functional.dropout(lib.ones(2), -0.1)",
    "nn.Dropout1d(0.5)(lib.ones(2))",
    "nn.Embedding(3, 2)(lib.tensor([3]))",
    "nn.Embedding(3, 2)(lib.tensor([-1]))",
    "nn.Embedding(3, 2)(lib.tensor([1.0]))",
    "nn.Embedding(3, 2, padding_idx=3)",
    "nn.EmbeddingBag(3, 2)(lib.tensor([0, 1]))",
    "nn.EmbeddingBag(3, 2, mode='median')(lib.tensor([[0, 1]]))",
    "nn.functional.embedding_bag(lib.tensor([[0]]), lib.ones(2, 2), per_sample_weights=lib.ones(1, 1))",
    "nn.functional.glu(lib.ones(3))",
    "nn.functional.glu(lib.tensor(1.0))",
    "nn.functional.softshrink(lib.ones(3), -1.0)",
    "nn.functional.gelu(lib.ones(3), approximate='fast')",
    "nn.functional.prelu(lib.ones(2, 3), lib.ones(2))",
    "nn.functional.rms_norm(lib.ones(2, 3), (4,))",
    "nn.functional.layer_norm(lib.ones(2, 3), (3,), lib.ones(2))",
    "nn.InstanceNorm2d(3)(lib.ones(2, 3))",
    "nn.functional.instance_norm(lib.ones(2, 3, 1))",
    "nn.functional.local_response_norm(lib.ones(2, 3), 2)",
    "nn.functional.bilinear(lib.ones(2, 3), lib.ones(2, 3), lib.ones(2, 4, 3))",
    "nn.Softmax2d()(lib.ones(2, 3))",
    "nn.Unflatten('a', 3)",
]


@pytest.mark.parametrize("text", ERRORS)
def test_wrong_calls_raise_as_torch(text: str) -> None:
    torch = pytest.importorskip("torch")
    kinds = []
    for lib in (torch, tapegrad):
        with pytest.raises(Exception) as caught:
            eval(text, {"lib": lib, "nn": lib.nn})
        kinds.append(caught.type.__name__)
        assert str(caught.value)
    assert kinds[0] == kinds[1]


def test_batch_norm_gradients_of_two_orders() -> None:
    """The record of the op cannot check the first output alone; this does."""
    torch = tapegrad
    x = torch.randn(3, 2, 4, dtype=torch.float64, requires_grad=True)
    w = torch.randn(2, dtype=torch.float64, requires_grad=True)
    b = torch.randn(2, dtype=torch.float64, requires_grad=True)

    def f(x: Any, w: Any, b: Any) -> Any:
        return torch.nn.functional.batch_norm(x, None, None, w, b, training=True)

    assert torch.autograd.gradcheck(f, (x, w, b))
    assert torch.autograd.gradgradcheck(f, (x, w, b))


def test_batch_norm_running_statistics_by_hand() -> None:
    torch = tapegrad
    layer = torch.nn.BatchNorm1d(1, momentum=0.5)
    x = torch.tensor([[1.0], [3.0]])
    out = layer(x)
    np.testing.assert_allclose(out.detach().numpy(), [[-1.0], [1.0]], rtol=1e-4)
    assert layer.running_mean.tolist() == [1.0]  # 0.5 * 0 + 0.5 * 2
    assert layer.running_var.tolist() == [1.5]  # 0.5 * 1 + 0.5 * 2 (unbiased)
    assert layer.num_batches_tracked.item() == 1


def test_inplace_activations_write_into_their_input() -> None:
    torch = tapegrad
    x = torch.tensor([-1.0, 2.0])
    assert torch.nn.ReLU(inplace=True)(x) is x and x.tolist() == [0.0, 2.0]
    leaf = torch.tensor([-1.0, 2.0], requires_grad=True)
    h = leaf * 1.0
    torch.nn.functional.dropout(h, 0.5, inplace=True)
    torch.nn.LeakyReLU(0.5, inplace=True)(h).sum().backward()
    assert leaf.grad is not None


def test_embedding_from_pretrained_and_padding() -> None:
    torch = tapegrad
    table = torch.arange(6.0).reshape(3, 2)
    layer = torch.nn.Embedding.from_pretrained(table)
    assert not layer.weight.requires_grad
    assert layer(torch.tensor([2, 0])).tolist() == [[4.0, 5.0], [0.0, 1.0]]
    padded = torch.nn.Embedding(3, 2, padding_idx=0)
    assert padded.weight[0].tolist() == [0.0, 0.0]
    padded(torch.tensor([0, 1, 1])).sum().backward()
    assert padded.weight.grad.tolist() == [[0.0, 0.0], [2.0, 2.0], [0.0, 0.0]]


def test_gumbel_softmax() -> None:
    torch = tapegrad
    torch.manual_seed(0)
    logits = torch.randn(5, 4, requires_grad=True)
    hard = torch.nn.functional.gumbel_softmax(logits, hard=True)
    assert hard.sum(1).tolist() == pytest.approx([1.0] * 5)
    assert sorted(set(hard.detach().round().flatten().tolist())) == [0.0, 1.0]
    (hard * torch.arange(4.0)).sum().backward()
    assert float(logits.grad.abs().sum()) > 0
