"""Results lie in row-major order wherever PyTorch's do, so that `view` of them works as it does there."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
import tapegrad
from both import cells

LAYOUTS = {
    "permuted": lambda T: T.arange(24.0).reshape(2, 3, 4).permute(2, 0, 1),
    "transposed": lambda T: T.arange(24.0).reshape(2, 3, 4).permute(0, 2, 1),
    "swapped": lambda T: T.arange(24.0).reshape(2, 3, 4).permute(1, 0, 2),
    "expanded": lambda T: T.arange(12.0).reshape(1, 3, 4).expand(2, 3, 4),
    "every other": lambda T: T.arange(48.0).reshape(2, 6, 4)[:, ::2],
    "expanded transpose": lambda T: T.arange(12.0).reshape(3, 4).t().unsqueeze(0).expand(2, 4, 3),
}
CALLS = """
x.sum(1) | x.sum(0) | x.sum(2, keepdim=True) | x.mean(1) | x.max(1)[0] | x.max(1)[1] | x.amax(1) | x.argmax(1)
x.var(1) | x.std(1)
x.prod(1) | x.norm(dim=1) | x.logsumexp(1) | (x > 0).any(1) | x.softmax(1) | x.log_softmax(-1) | x.cumsum(1)
x.cumprod(1)
x.sort(1)[0] | x.argsort(1) | x.topk(2, 1)[0] | x.median(1)[0] | T.cat([x, x], 1) | T.stack([x, x])
T.where(x > 0, x, 0 * x)
x.gather(1, T.zeros(x.shape, dtype=T.int64)) | x[[0, 1]] | x[:, [0, 1]] | x[:, :, [0, 1]] | x[x > 0]
x.index_select(1, T.tensor([0, 1]))
x.flip(0) | x.roll(1, 0) | x.repeat(1, 2, 1) | x.repeat_interleave(2, 1) | x.tril() | F.pad(x, (1, 1)) | x.exp()
x * x
x * T.ones(x.shape) | x * T.ones(x.shape[-1]) | x * 2 | x.clone() | x.double() | x @ x.transpose(1, 2) | T.relu(x)
F.gelu(x) | x.clamp(0, 1)
F.layer_norm(x, (x.shape[-1],)) | F.linear(x, T.ones(5, x.shape[-1])) | T.einsum("abc,abd->acd", x, x)
x.masked_fill(x > 0, 0.0)
F.one_hot((x > 0).long()) | F.embedding((x > 0).long(), T.ones(3, 4))
x.scatter(1, T.zeros(x.shape, dtype=T.int64), 1.0) | x.diff(dim=1)
T.tensordot(x, x, dims=([0], [0])) | T.cdist(x, x) | F.conv1d(x, T.ones(2, x.shape[1], 1))
F.batch_norm(x, None, None, training=True)
F.avg_pool1d(x, 2) | F.max_pool1d(x, 2) | T.zeros_like(x) | T.rand_like(x) | T.lerp(x, x, 0.5) | x.clone().sin_()
x[0].t() @ x[0]
T.autograd.grad((x.requires_grad_() * 2).sum(), x)[0] | F.interpolate(x, scale_factor=2) | x.unfold(1, 2, 1) + 0
"""


@pytest.mark.parametrize("text", cells(CALLS))
def test_contiguous_where_torch_is(text: str) -> None:
    real = pytest.importorskip("torch")

    def contiguous(T: Any, layout: str) -> bool:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            scope = {"T": T, "F": T.nn.functional, "x": LAYOUTS[layout](T)}
            return bool(eval(text, scope).is_contiguous())

    for layout in LAYOUTS:
        assert contiguous(tapegrad, layout) or not contiguous(real, layout), layout


def test_results_can_be_viewed() -> None:
    """What ported programs do: attention scores, joined and reduced transposes, flattened at once."""
    T = tapegrad
    x = T.arange(24.0).reshape(2, 3, 4).transpose(1, 2)
    for y in (
        x.softmax(-1),
        x.sum(0),
        T.cat([x, x], 1),
        T.stack([x, x]),
        x.masked_fill(x > 3, 0.0),
        x.mean(0, keepdim=True),
    ):
        assert y.view(-1).shape[0] == y.numel()
