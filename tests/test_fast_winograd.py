"""Winograd's convolution against the generic form."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import tapegrad as torch
from conv_cases import Case, calls, error
from tapegrad.backends import fast

if not fast.has("numba"):
    pytest.skip("the extra tapegrad[fast] is not installed, or switched off", allow_module_level=True)

from tapegrad.backends.fast import winograd_kernels  # noqa: E402

SIZES = [(4, 4), (8, 8), (13, 14), (32, 32), (5, 31), (3, 300), (70, 6), (7, 7)]
CHANNELS = [(32, 32), (33, 65), (16, 19)]


@pytest.fixture(params=[1, 2], ids=["one thread", "two threads"])
def count(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """The number of threads; with two, both work however small the arrays are."""
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    monkeypatch.setattr(winograd_kernels, "SHARE", 1)
    monkeypatch.setattr(winograd_kernels, "SMALLEST", 0)
    yield request.param
    torch.set_num_threads(before)


def test_values(count: int) -> None:
    """Paddings, sizes that are no whole tiles, blocks that are cut unevenly, biases."""
    rng, served = np.random.default_rng(0), 0
    for case in [
        Case(batch, channels, results, size, (3, 3), padding=padding)
        for batch, size, (channels, results) in zip((1, 3, 8, 5, 2, 1, 3, 4), SIZES, CHANNELS * 3, strict=False)
        for padding in (0, 1, 2)
        if min(size) + 2 * padding > 2
    ]:
        for op, arrays, kw in calls(case, rng):
            got = getattr(winograd_kernels, op)(*arrays, **kw)
            if got is NotImplemented:
                continue
            served += 1
            assert error(op, arrays, kw, got) < 5e-6, (case, op)
    assert served > 80


def test_any_strides(count: int) -> None:
    for op, arrays, kw in calls(Case(2, 32, 32, (12, 12), (3, 3), padding=1), np.random.default_rng(1)):
        turned = [np.asfortranarray(a) if a.ndim > 1 else np.repeat(a, 2)[::2] for a in arrays]
        assert error(op, turned, kw, getattr(winograd_kernels, op)(*turned, **kw)) < 5e-6


def test_not_finite_values_do_not_spread() -> None:
    """They would fill their tiles: the kernel declines, and the result is that of the others."""
    kw: dict[str, Any] = {"stride": (1, 1), "padding": (1, 1), "dilation": (1, 1), "groups": 1}
    for value in (np.inf, np.nan, -np.inf, 3e38):
        x, w = np.ones((8, 32, 32, 32), np.float32), np.ones((32, 32, 3, 3), np.float32)
        x[0, 3, 10, 10] = value
        assert winograd_kernels.conv(x, w, **kw) is NotImplemented
        assert winograd_kernels.conv_input(x, w, shape=x.shape, **kw) is NotImplemented
        assert winograd_kernels.conv_weight(x, x, shape=w.shape, **kw) is NotImplemented
        out = torch.nn.functional.conv2d(torch.tensor(x), torch.tensor(w), padding=1).numpy()
        touched = np.zeros((8, 32, 32), bool)
        touched[0, 9:12, 9:12] = True
        assert (np.abs(out[:, 0] - out[1, 0, 10, 10])[touched] > 1e30).all() or not np.isfinite(
            out[:, 0][touched]
        ).any()
        assert np.isfinite(out[:, 0][~touched]).all()


def test_declined() -> None:
    x, w = np.ones((8, 32, 32, 32), np.float32), np.ones((32, 32, 3, 3), np.float32)
    kw: dict[str, Any] = {"stride": (1, 1), "padding": (1, 1), "dilation": (1, 1), "groups": 1}
    assert winograd_kernels.conv(x, w, **kw) is not NotImplemented
    other = [
        (x.astype("f8"), w.astype("f8"), kw),
        (x, np.ones((32, 32, 5, 5), np.float32), kw),
        (x, w, kw | {"stride": (2, 2)}),
        (x, w, kw | {"dilation": (2, 2)}),
        (x, w, kw | {"padding": (1, 0)}),
        (x, w, kw | {"padding": (3, 3)}),
        (x, w[:, :16], kw | {"groups": 2}),
        (x[:, :8], w[:, :8], kw),
        (x[:1, :, :5, :5], w, kw),
        (x[:0], w, kw),
    ]
    for first, second, how in other:
        assert winograd_kernels.conv(first, second, **how) is NotImplemented
    assert winograd_kernels.conv(x, w, np.ones(32), **kw) is NotImplemented


def test_the_same_twice(count: int) -> None:
    """Whichever thread ends first, sums are taken in the same order."""
    for op, arrays, kw in calls(Case(9, 32, 48, (20, 20), (3, 3), padding=1), np.random.default_rng(2)):
        one, two = (getattr(winograd_kernels, op)(*arrays, **kw) for _ in range(2))
        assert one.tobytes() == two.tobytes()


def test_without_a_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(winograd_kernels.SOURCE, "get", lambda name: None)
    for op, arrays, kw in calls(Case(8, 32, 32, (32, 32), (3, 3), padding=1), np.random.default_rng(3)):
        assert getattr(winograd_kernels, op)(*arrays, **kw) is NotImplemented
