"""Gradients of large arrays of the host: the same as the recorded rules', and nobody's array is written over."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import tapegrad as tg
from tapegrad.autograd import large
from tapegrad.backends.numpy.kernels import KERNELS

SIZE = large.LARGE + 77
CHAINS: dict[str, Callable[[Any, Any], Any]] = {
    "products": lambda x, a: x * a * x,
    "square": lambda x, a: (x * a - a) * (x * a - a),
    "one square": lambda x, a: (lambda h: h * h * a)(x + a),
    "quotients": lambda x, a: x / (a * a + 1) - a / (x * x + 2),
    "exp": lambda x, a: (-(x.exp() * a) / 40).exp() + x,
    "numbers": lambda x, a: 2 * (3 - x * 0.5) / 4 + a - 1,
    "same twice": lambda x, a: (x + x) - (a + a) * (x - x),
    "one and its part": lambda x, a: x * a + (x * a)[: SIZE // 2].sum(),
    "broadcast": lambda x, a: x * a[:1] + a[3] / (x * x + 1) - x,
    "rows": lambda x, a: (x[: SIZE - 77].reshape(256, -1) * a[:512] + a[:256, None]).sum() * x,
}


def arrays() -> list[Any]:
    rng = np.random.default_rng(5)
    return [rng.standard_normal(SIZE).astype("f4") for _ in range(3)]


def leaves() -> list[Any]:
    return [tg.tensor(a, requires_grad=True) for a in arrays()[:2]]


@pytest.mark.parametrize("chain", CHAINS.values(), ids=CHAINS)
@pytest.mark.parametrize("retain", [False, True])
def test_equal_to_the_recorded_rules(chain: Any, retain: bool) -> None:
    x, a = leaves()
    g = tg.tensor(arrays()[2])
    out = chain(x, a)
    wanted = tg.autograd.grad(out, [x, a], g, create_graph=True)
    for _ in range(2 if retain else 1):
        found = tg.autograd.grad(out, [x, a], g, retain_graph=retain)
        for f, w in zip(found, wanted, strict=True):
            size = float(w.detach().abs().max())
            np.testing.assert_allclose(f.numpy(), w.detach().numpy(), rtol=1e-5, atol=2e-6 * size)
    assert (g.numpy() == arrays()[2]).all()
    assert all((t.detach().numpy() == b).all() for t, b in zip((x, a), arrays(), strict=False))


def test_a_gradient_that_a_hook_keeps_is_not_written_over() -> None:
    x, a = leaves()
    kept: list[Any] = []
    h = x * a
    h.register_hook(lambda g: kept.append((g, g.clone())))
    ((h * 2).exp() * a).sum().backward()
    (held, copy) = kept[0]
    assert (held == copy).all()


@pytest.mark.parametrize("via", ["retain_grad", "targets"])
def test_gradients_between_are_not_written_over(via: str) -> None:
    def built() -> Any:
        x, a = leaves()
        h = x * a
        return x, a, h, (h * h * a).sum()

    x, a, h, loss = built()
    wanted = tg.autograd.grad(loss, [h, x, a], create_graph=True)
    x, a, h, loss = built()
    if via == "targets":
        found = tg.autograd.grad(loss, [h, x, a])
    else:
        h.retain_grad()
        loss.backward()
        found = [h.grad, x.grad, a.grad]
    for f, w in zip(found, wanted, strict=True):
        np.testing.assert_allclose(f.numpy(), w.detach().numpy(), rtol=1e-5, atol=1e-5)


def test_the_given_gradient_is_not_written_over() -> None:
    x, a = leaves()
    g = tg.tensor(arrays()[2])
    (x * a).backward(g)
    assert (g.numpy() == arrays()[2]).all()
    np.testing.assert_array_equal(x.grad.numpy(), arrays()[2] * arrays()[1])


def test_a_dead_gradient_is_written_over(monkeypatch: pytest.MonkeyPatch) -> None:
    used: list[bool] = []
    applied = large._applied

    def noted(F: Any, rule: Any, g: Any, values: Any, spare: bool) -> Any:
        r = applied(F, rule, g, values, spare)
        used.append(r is g)
        return r

    monkeypatch.setattr(large, "_applied", noted)
    x, a = leaves()
    (((x * a) * a).exp() * a).sum().backward()
    # the last product's g is the expanded sum; of the others each is written over by the last of its gradients
    assert used == [False, False, True, False, True, False, True]


def test_a_freed_graph_is_told() -> None:
    x, a = leaves()
    out = (x * a).sum()
    out.backward()
    with pytest.raises(RuntimeError, match="a second time"):
        out.backward()


# ---- the kernels


@pytest.mark.parametrize("name", ["add", "sub", "mul", "div"])
@pytest.mark.parametrize("dtype", ["f4", "f8", "i8"])
def test_arithmetic_in_threads(name: str, dtype: str) -> None:
    size = 1 << 20
    rng = np.random.default_rng(3)
    kernel = KERNELS[name]
    ufunc = kernel.below[0]  # type: ignore[attr-defined]
    x, y = ((rng.standard_normal(size + 1024) * 9).astype(dtype) for _ in range(2))
    number = np.array(3, dtype)
    cases = [
        (x, y), (x, number), (number, y), (x, 2), (x, y[:1]), (np.broadcast_to(number, x.shape), y),
        (x.reshape(-1, 1024), y[:1024]), (x.reshape(-1, 1024), y[:1025][:, None]), (x[::2], y[::2]),
        (x.reshape(1024, -1).T, y.reshape(-1, 1024)), (x, y.astype("f8")), (np.broadcast_to(number, (3, 1)), y),
        (x.reshape(-1, 1), np.broadcast_to(number, 3)),
    ]  # fmt: skip
    for a, b in cases:
        with np.errstate(all="ignore"):
            wanted = ufunc(a, b)
            found = kernel(a, b)
            assert found.dtype == wanted.dtype
            np.testing.assert_array_equal(found, wanted)
            if wanted.dtype == getattr(a, "dtype", None) and a.shape == wanted.shape and a.flags.writeable:
                into = a.copy()
                assert kernel(into, b, out=into) is into
                np.testing.assert_array_equal(into, wanted)
