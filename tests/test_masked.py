"""Masked reductions: beside PyTorch, and against the reduction of the elements that the mask keeps."""

from __future__ import annotations

from typing import Any

import both
import numpy as np
import pytest
import tapegrad as tg

_RNG = np.random.default_rng(3)
X = _RNG.normal(size=(3, 4))
MASK = np.array([[True, False, True, True], [False, False, True, True], [True, True, True, False]])
ROWS = np.array([[True], [False], [True]])
INTS = _RNG.integers(-5, 5, (3, 4))

TENSORS = {
    name: lambda T, a=array: T.tensor(a)
    for name, array in {
        "x": X, "m": MASK, "rows": ROWS, "i": INTS, "u": INTS.astype("u1"), "b": INTS > 0, "one": MASK[1],
        "none": np.zeros((3, 4), "?"), "c": X + 1j * X[::-1], "z": np.array(2.5), "f": X.astype("f4"),
    }.items()
}  # fmt: skip

REDUCTIONS = ("sum", "prod", "amax", "amin", "mean", "var", "std", "norm", "logsumexp")
FORMS = """
T.masked.{}(x, mask=m) | T.masked.{}(x, dim=1, mask=m) | T.masked.{}(x, dim=(0, 1), keepdim=True, mask=rows)
T.masked.{}(x, dim=0, mask=one, dtype=T.float32) | T.masked.{}(x, dim=-1, mask=none) | T.masked.{}(x) | T.masked.{}(z)
T.masked.{}(x, dim=(), mask=m.int()) | T.masked.{}(x, dim=(0, 0)) | T.masked.{}(x, dim=2) | T.masked.{}(one, mask=m)
T.masked.{}(i, dim=1, mask=m)
"""

OTHERS = """
T.masked.argmax(x, mask=m) | T.masked.argmax(x, 1, mask=m, dtype=T.int64) | T.masked.argmin(x, 0, keepdim=True, mask=m)
T.masked.argmin(i, 1, mask=m) | T.masked.argmax(u, 1, mask=m) | T.masked.amax(u, 1, mask=rows)
T.masked.amin(u, mask=m) | T.masked.sum(b, 1, mask=m) | T.masked.prod(u, 0, mask=m)
T.masked.sum(u, 0, mask=m, dtype=T.uint8)
T.masked.median(x, 1, mask=m) | T.masked.median(x, mask=rows) | T.masked.median(i, 1, mask=m)
T.masked.median(i, 1, mask=none) | T.masked.median(x, 0, keepdim=True) | T.masked.cumsum(x, 1, mask=m)
T.masked.cumprod(x, 0, mask=m) | T.masked.cumsum(i, 0, mask=m, dtype=T.float64) | T.masked.cumsum(u, 1, mask=m)
T.masked.softmax(x, 1, mask=m) | T.masked.softmax(x, 0, mask=none) | T.masked.softmax(f, 1, dtype=T.float64, mask=rows)
T.masked.log_softmax(x, 1, mask=m) | T.masked.softmin(x, 1, mask=m) | T.masked.softmin(x, 1)
T.masked.normalize(x, 2.0, 1, mask=m) | T.masked.normalize(x, 1.0, 0, eps=10.0, mask=one)
T.masked.normalize(x, 3.0, 0) | T.masked.norm(x, 1.0, 1, mask=m)
T.masked.norm(x, float("inf"), mask=m) | T.masked.norm(x, float("-inf"), 1, mask=m)
T.masked.norm(c, 2.0, 1, mask=m) | T.masked.norm(x, 0.5, mask=m)
T.masked.var(x, 1, False, mask=m) | T.masked.std(x, correction=0, mask=m) | T.masked.var(x, 1, correction=5, mask=m)
T.masked.var(x, 1, True, correction=1) | T.masked.var(c, 1, mask=m) | T.masked.std(c, 0, mask=rows)
T.masked.mean(c, 1, mask=m) | T.masked.mean(i, mask=m, dtype=T.float32) | T.masked.mean(x, dtype=T.int32)
T.masked.logsumexp(f, 0, mask=m) | T.masked.sum(x, mask=T.tensor(True))
T.masked.logaddexp(x, -x, input_mask=m, other_mask=rows) | T.masked.logaddexp(x, x)
T.masked.logaddexp(x, x, other_mask=m) | T.masked.prod(b, mask=m) | T.masked.amax(b, mask=m)
"""


def _forms() -> list[str]:
    return [form.replace("{}", name) for name in REDUCTIONS for form in both.cells(FORMS)]


@pytest.mark.parametrize("text", [*_forms(), *both.cells(OTHERS)])
def test_beside_torch(text: str) -> None:
    both.check(text, rtol=1e-10, length=12, **TENSORS)


@pytest.mark.parametrize("name", ["sum", "prod", "amax", "amin", "mean", "var", "std", "norm", "logsumexp", "median"])
def test_equals_the_reduction_of_what_is_kept(name: str) -> None:
    """Row by row, on the elements that the mask keeps alone; their gradients too, and 0 for the others."""
    x = tg.tensor(X, requires_grad=True)
    found = getattr(tg.masked, name)(x, dim=1, mask=tg.tensor(MASK))
    found.sum().backward()
    plain: Any = tg.linalg.vector_norm if name == "norm" else getattr(tg, name)
    for row in range(3):
        kept = tg.tensor(X[row][MASK[row]], requires_grad=True)
        value = plain(kept, dim=0) if name in ("logsumexp", "median") else plain(kept)
        value = getattr(value, "values", value) if name == "median" else value
        np.testing.assert_allclose(found[row].item(), value.item(), rtol=1e-12)
        value.backward()
        expected = np.zeros(4)
        expected[MASK[row]] = kept.grad.numpy()
        np.testing.assert_allclose(x.grad[row].numpy(), expected, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("name", ["softmax", "log_softmax", "softmin", "cumsum", "cumprod"])
def test_normalisations_have_two_orders_of_gradient(name: str) -> None:
    x, mask = tg.tensor(X, requires_grad=True), tg.tensor(MASK)

    def function(x: Any) -> Any:
        out = getattr(tg.masked, name)(x, 1, mask=mask)
        return tg.where(mask, out, tg.zeros_like(out))

    assert tg.autograd.gradcheck(function, (x,))
    assert tg.autograd.gradgradcheck(function, (x,))
