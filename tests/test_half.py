"""float16 and bfloat16: values and gradients of common programs beside PyTorch, and bfloat16 without it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tapegrad

HALVES = {"float16": 2.0**-10, "bfloat16": 2.0**-7}  # the step at 1

PROGRAMS = """
x * x * 3 - y / x + x**3 | x @ y | (x.exp() * y.tanh()).sum() | (x * y).mean() | (T.softmax(x, 0) * y).sum()
x.max() * y.min()
(x / x.norm() * y).sum() | (x - 1).relu() * y | x.sigmoid().log() * y | x[[0, 1]] * y[1:] | T.where(x > 1, x, y) * 2
x.cumsum(0) * y | x.float() * y | F.gelu(x) * y | F.silu(x) * y | F.layer_norm(x, (3,)) * y | F.mse_loss(x, y)
F.cross_entropy(x[None], T.tensor([1])) * y.sum() | F.linear(x[None], y[None]) | x.std() * y.var() | x.prod() * y
T.cat([x, y]) * 2 | T.stack([x, y]).sum(0) ** 2 | x.sort(descending=True)[0] * y
x.logsumexp(0) * y | x.clamp(1, 2) * y
T.einsum("i,j->ij", x, y) | T.bmm(x.reshape(1, 1, 3), y.reshape(1, 3, 1)) | (x * 1).mul_(y).add_(2) | x.flip(0) * y
F.conv1d(x.reshape(1, 1, 3), y[:2].reshape(1, 1, 2)) | F.binary_cross_entropy_with_logits(x, y) | F.pad(x, (1, 1)) * 2
F.max_pool1d(x.reshape(1, 3), 2) | F.avg_pool1d(x.reshape(1, 3), 2) | x.topk(2)[0] | x.gather(0, T.tensor([2, 0]))
F.scaled_dot_product_attention(x.reshape(1, 3, 1), y.reshape(1, 3, 1), y.reshape(1, 3, 1)) | x.abs().sqrt() * y + 1.5
F.embedding(T.tensor([0, 2]), x.reshape(3, 1)) | T.addmm(x[:1].reshape(1, 1), x.reshape(1, 3), y.reshape(3, 1))
"""


def run(T: Any, text: str, kind: str) -> list[Any]:
    """The program's value and its gradients to x and y."""
    x = T.tensor([1.5, 2.25, 0.75], dtype=getattr(T, kind), requires_grad=True)
    y = T.tensor([0.5, -1.25, 2.0], dtype=getattr(T, kind), requires_grad=True)
    out = eval(text, {"T": T, "F": T.nn.functional, "x": x, "y": y})
    out.float().sum().backward()
    return [out, x.grad, y.grad]


@pytest.mark.parametrize("kind", HALVES)
@pytest.mark.parametrize("text", [t.strip() for t in PROGRAMS.replace("\n", " | ").split(" | ") if t.strip()])
def test_values_and_gradients(text: str, kind: str) -> None:
    """dtype, shape and values are torch's, to one step of the dtype at the size of the largest of them."""
    real = pytest.importorskip("torch")
    if kind == "bfloat16":
        pytest.importorskip("ml_dtypes")
    ours, expected = run(tapegrad, text, kind), run(real, text, kind)
    # gradients are sums of terms of the size of the values, which cancel in part (layer_norm)
    size = max(1.0, *(float(t.detach().float().abs().max()) for t in expected if t is not None))
    for mine, theirs in zip(ours, expected, strict=True):
        assert (mine is None) == (theirs is None)
        if theirs is not None:
            assert str(mine.dtype) == str(theirs.dtype) and tuple(mine.shape) == tuple(theirs.shape)
            a, b = mine.detach().cpu().float().numpy(), theirs.detach().float().numpy()
            np.testing.assert_allclose(a, b, rtol=0, atol=HALVES[kind] * size)


def test_float16_has_its_range_and_its_steps() -> None:
    T = tapegrad
    big = T.tensor([60000.0], dtype=T.float16)
    assert (big * 2).tolist() == [float("inf")] and (big + T.tensor([10000.0])).dtype is T.float32
    assert (T.tensor([2048.0], dtype=T.float16) + 1).tolist() == [2048.0]
    assert T.ones(4096, dtype=T.float16).sum().item() == 4096.0, "sums are kept in float32"
    assert T.full((70000,), 2.0, dtype=T.float16).mean().item() == 2.0


@pytest.fixture
def T() -> Any:
    pytest.importorskip("ml_dtypes")
    return tapegrad


def test_bfloat16_tensors(T: Any) -> None:
    x = T.tensor([1.0, 2.5], dtype=T.bfloat16)
    assert repr(x) == "tensor([1.0000, 2.5000], dtype=torch.bfloat16)"
    assert x.element_size() == 2 and x.is_floating_point() and x.tolist() == [1.0, 2.5] and x[1].item() == 2.5
    for made in (T.zeros(2, dtype=T.bfloat16), T.arange(3, dtype=T.bfloat16), x * 2, 2 / x, x + T.tensor([1, 2]), -x):
        assert made.dtype is T.bfloat16
    assert (x + T.ones(2, dtype=T.float16)).dtype is (x + T.ones(2)).dtype is T.float32
    assert T.tensor([1.005]).bfloat16().item() == 1.0078125, "rounded to nearest"
    assert T.tensor([3.7]).bfloat16().int().tolist() == [3] and x.double().dtype is T.float64
    assert (T.tensor([256.0], dtype=T.bfloat16) + 1).tolist() == [256.0]
    assert T.ones(4096, dtype=T.bfloat16).sum().item() == 4096.0, "sums are kept in float32"


def test_bfloat16_trains(T: Any) -> None:
    T.manual_seed(0)
    model = T.nn.Sequential(T.nn.Linear(3, 16), T.nn.ReLU(), T.nn.Linear(16, 1)).to(T.bfloat16)
    x = T.randn(64, 3).bfloat16()
    y = x.sum(1, keepdim=True)
    optimizer = T.optim.SGD(model.parameters(), lr=0.1)
    losses = []
    for _ in range(40):
        optimizer.zero_grad()
        loss = T.nn.functional.mse_loss(model(x), y)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert {p.dtype for p in model.parameters()} == {p.grad.dtype for p in model.parameters()} == {T.bfloat16}
    assert losses[-1] < 0.2 * losses[0]
