"""One expression run with tapegrad and with torch on the same numbers: values, gradients, errors compared.

In an expression, `T` is the library, `F` its nn.functional, `nn` its nn; `x(2, 3)` is a new float64 leaf of that shape,
`far(2, 3)` one whose elements are all different by at least 1/4, `few(2, 3)` one of small whole numbers, so with many
ties, and `ints(2, 3)` is int64.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tapegrad


class Names(dict[str, Any]):
    """The names of an expression for one library, and the leaves that it has made."""

    def __init__(self, library: Any):
        super().__init__(T=library, F=library.nn.functional, nn=library.nn, inf=float("inf"), nan=float("nan"))
        self.library, self.leaves = library, []
        self.rng = np.random.default_rng(0)
        self.update(x=self.x, far=self.far, few=self.few, ints=self.ints)
        library.manual_seed(3)

    def leaf(self, array: np.ndarray) -> Any:
        self.leaves.append(self.library.tensor(array, dtype=self.library.float64, requires_grad=True))
        return self.leaves[-1]

    def x(self, *shape: int) -> Any:
        return self.leaf(self.rng.standard_normal(shape))

    def far(self, *shape: int) -> Any:
        return self.leaf(self.rng.permutation(int(np.prod(shape))).reshape(shape) / 4.0)

    def few(self, *shape: int) -> Any:
        return self.leaf(self.rng.integers(-1, 2, shape))

    def ints(self, *shape: int) -> Any:
        return self.library.tensor(self.rng.integers(-9, 9, shape))


def result(library: Any, text: str) -> tuple[list[Any], list[Any]]:
    """(outputs, gradients of the leaves) for a loss that weighs every output differently."""
    names = Names(library)
    value = eval(text, names)  # noqa: S307
    outputs = list(value) if isinstance(value, (tuple, list)) else [value]
    total: Any = 0
    for out in outputs:
        if out.requires_grad:
            weights = library.arange(1, out.numel() + 1, dtype=out.dtype).reshape(out.shape)
            total = total + (out * weights.cos()).sum()
    if hasattr(total, "backward"):
        total.backward()
    return outputs, [leaf.grad for leaf in names.leaves]


def numbers(t: Any) -> np.ndarray:
    t = t.detach().cpu()
    return (t.float() if str(t.dtype) in ("torch.float16", "torch.bfloat16") else t).numpy()


TOLERANCE = {"torch.float16": 2e-3, "torch.bfloat16": 2e-2, "torch.float32": 2e-5}


def same(text: str) -> None:
    """Asserts that an expression has the same values, dtypes, memory order and gradients as in torch."""
    torch = pytest.importorskip("torch")
    (found, found_grads), (expected, expected_grads) = result(tapegrad, text), result(torch, text)
    assert len(found) == len(expected)
    for f, e in zip(found, expected, strict=True):
        assert str(f.dtype) == str(e.dtype) and tuple(f.shape) == tuple(e.shape)
        assert f.is_contiguous() and f.requires_grad == e.requires_grad
        tolerance = TOLERANCE.get(str(e.dtype), 1e-10)
        np.testing.assert_allclose(numbers(f), numbers(e), rtol=tolerance, atol=tolerance)
    tolerance = max(TOLERANCE.get(str(e.dtype), 1e-10) for e in expected)
    for f, e in zip(found_grads, expected_grads, strict=True):
        assert (f is None) == (e is None)
        if e is not None:
            np.testing.assert_allclose(numbers(f), numbers(e), rtol=tolerance, atol=tolerance)


def same_error(text: str, words: str) -> None:
    """Asserts that an expression raises torch's exception, and that both texts have `words`."""
    with pytest.raises(Exception) as mine:
        eval(text, Names(tapegrad))  # noqa: S307
    assert words in str(mine.value), str(mine.value)
    torch = pytest.importorskip("torch")
    with pytest.raises(Exception) as theirs:
        eval(text, Names(torch))  # noqa: S307
    assert mine.type.__name__ == theirs.type.__name__, (mine.value, theirs.value)
    assert words in str(theirs.value), str(theirs.value)


def same_layer(text: str) -> None:
    """Asserts equal text, attributes, state and, for one seed, equal numbers of a layer made by `text`."""
    torch = pytest.importorskip("torch")
    mine, theirs = (eval(text, Names(library)) for library in (tapegrad, torch))  # noqa: S307
    assert repr(mine) == repr(theirs)
    assert settings(mine) == settings(theirs)
    assert list(mine.state_dict()) == list(theirs.state_dict())
    for (name, f), e in zip(mine.state_dict().items(), theirs.state_dict().values(), strict=True):
        np.testing.assert_array_equal(numbers(f), numbers(e), err_msg=name)
    assert tapegrad.rand(3).tolist() == torch.rand(3).tolist()  # both have drawn as many numbers


def settings(layer: Any) -> dict[str, Any]:
    return {k: v for k, v in vars(layer).items() if k[0] != "_" and k not in ("training", "weight", "bias")}
