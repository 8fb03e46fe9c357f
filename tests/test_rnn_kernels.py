"""Kernels of the recurrent layers, NumPy's and the compiled ones, against the generic forms of their ops."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import tapegrad as torch
from tapegrad.autograd.op import Raw, load_late
from tapegrad.backends import fast, threads
from tapegrad.backends.numpy import NumpyBackend, rnn_kernels

TABLES = {"numpy": rnn_kernels.KERNELS}
if fast.has("numba"):
    from tapegrad.backends.fast import rnn_kernels as compiled

    TABLES["compiled"] = compiled.KERNELS

H = 40
SIZES = {"equal": (20,) * 5, "falling": (32, 30, 17, 9, 9, 1), "one step": (3,), "no rows": ()}
TOLERANCE = {"float32": 1e-5, "float64": 1e-13}  # relative to the largest number of an array, at least 1


class Plain(NumpyBackend):
    """NumPy without kernels: every op in its generic form."""

    kernels: Any = {}


@pytest.fixture(scope="module")
def generic() -> Raw:
    load_late()
    return Raw(Plain())


@pytest.fixture(params=sorted(TABLES))
def kernels(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Any:
    if request.param == "compiled":
        monkeypatch.setattr(compiled, "SMALL", 0)
    return TABLES[request.param]


@pytest.fixture(params=[1, 2], ids=["one thread", "two threads"])
def count(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """The number of threads; with two, rows are divided however few they are."""
    monkeypatch.setattr(rnn_kernels, "LEAST_ROWS", 1)
    monkeypatch.setattr(rnn_kernels, "LEAST_GATES", 0)
    if "compiled" in TABLES:
        monkeypatch.setattr(compiled, "LEAST_ROWS", 1)
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


def close(got: Any, want: Any, dtype: str) -> None:
    assert got.dtype == want.dtype == dtype and got.shape == want.shape
    scale = max(1.0, float(np.abs(want).max(initial=0.0)))
    np.testing.assert_allclose(got, want, rtol=0, atol=TOLERANCE[dtype] * scale)


def case(mode: str, sizes: tuple[int, ...], dtype: str, extra: bool) -> tuple[list[Any], list[tuple[int, int]], dict]:
    """(arguments, shapes of the outputs, keywords) of one op. extra: with the argument that may be absent."""
    rng = np.random.default_rng(0)
    rows, batch = sum(sizes), sizes[0] if sizes else 2
    width = 7 if mode == "lstm" and extra else H
    gates = {"lstm": 4, "gru": 3}.get(mode, 1)
    shapes: list[Any] = [(rows, gates * H), (batch, width), (gates * H, width)]
    outputs = [(rows, width), (batch, width)]
    if mode == "lstm":
        shapes[2:2] = [(batch, H)]
        outputs.append((batch, H))
        shapes.append((width, H) if extra else None)
    if mode == "gru":
        shapes.append((3 * H,) if extra else None)
    args = [None if s is None else (rng.standard_normal(s) * 0.4).astype(dtype) for s in shapes]
    return args, outputs, {"relu": extra} if mode == "rnn" else {}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("sizes", SIZES.values(), ids=SIZES)
@pytest.mark.parametrize("extra", [False, True])
@pytest.mark.parametrize("mode", ["lstm", "gru", "rnn"])
def test_kernels_give_what_the_generic_forms_give(mode, extra, sizes, reverse, dtype, kernels, count, generic):
    args, outputs, kw = case(mode, sizes, dtype, extra)
    kw = {**kw, "batch_sizes": sizes, "reverse": reverse}
    found = kernels[f"{mode}_sequence"](*args, **kw)
    want = getattr(generic, f"{mode}_sequence")(*args, **kw)
    for got, right in zip(found[: len(outputs)], want[: len(outputs)], strict=True):
        close(got, right, dtype)
    kept = found[len(outputs) :]
    rng = np.random.default_rng(1)
    full = [(rng.standard_normal(s) * 0.4).astype(dtype) for s in outputs]
    strided = [np.asfortranarray(full[0])] + [None] * (len(outputs) - 1)
    for g in (full, strided, [None, *full[1:]]):
        saved = [*args, found[0], *kept] if mode == "rnn" else [*args, *kept]
        needs = tuple(a is not None for a in args)
        name, before = f"{mode}_sequence_backward", [None if x is None else x.copy() for x in g]
        got_all = kernels[name](g, *saved, needs=needs, **kw)
        empty = [*args, want[0], None] if mode == "rnn" else [*args, *[None] * len(kept)]
        want_all = getattr(generic, name)(g, *empty, needs=needs, **kw)
        for need, got, right in zip(needs, got_all, want_all, strict=True):
            if need and right is not None:  # without steps, the generic form has no gradient for the weights
                close(got, right, dtype)
        for x, y in zip(g, before, strict=True):
            assert x is None or np.array_equal(x, y), "a gradient that was given was written"


def test_every_kernel_is_tested_here():
    families = {f"{mode}_sequence{way}" for mode in ("lstm", "gru", "rnn") for way in ("", "_backward")}
    assert all(set(table) == families for table in TABLES.values())


def test_large_numbers_saturate_the_gates(kernels):
    gates = np.array([[-1000, 1000, 1000, 1000], [1000, -1000, -1000, -1000]], "float32").repeat(H, 1)
    zeros, w = np.zeros((1, H), "float32"), np.zeros((4 * H, H), "float32")
    out, h, c, *_ = kernels["lstm_sequence"](gates, zeros, zeros + 3, w, batch_sizes=(1, 1), reverse=False)
    np.testing.assert_allclose(out, [[np.tanh(np.float32(3))] * H, [0.0] * H], rtol=1e-6)
    np.testing.assert_array_equal(c, -np.ones((1, H), "float32"))


@pytest.mark.parametrize("mode", ["lstm", "gru", "rnn"])
def test_nan_stays_in_its_row(mode, kernels, count):
    args, _, kw = case(mode, (4,) * 3, "float32", False)
    args[0][5, ::7] = np.nan  # of the second step: row 1 of the state
    out = kernels[f"{mode}_sequence"](*args, batch_sizes=(4,) * 3, reverse=False, **kw)[0]
    assert [bool(np.isnan(row).any()) for row in out] == [i in (5, 9) for i in range(12)]


def test_halves_are_declined(kernels):
    args, _, kw = case("gru", (2, 2), "float16", True)
    assert kernels["gru_sequence"](*args, batch_sizes=(2, 2), reverse=False) is NotImplemented


@pytest.mark.skipif("compiled" not in TABLES, reason="the extra tapegrad[fast] is not installed, or switched off")
def test_small_ones_load_nothing(monkeypatch):
    monkeypatch.setattr(compiled.SOURCE, "functions", {})
    args, _, _ = case("gru", (2, 2), "float32", True)
    assert compiled.gru_sequence(*args, batch_sizes=(2, 2), reverse=False) is NotImplemented
    assert not compiled.SOURCE.functions


@pytest.mark.parametrize("mode", ["LSTM", "GRU", "RNN"])
def test_threads_train_as_one_does(mode, monkeypatch):
    """Whole layers, large enough for threads: the same losses within rounding."""

    def losses() -> list[float]:
        torch.manual_seed(0)
        net = getattr(torch.nn, mode)(16, 160, num_layers=2)
        optimizer, x = torch.optim.SGD(net.parameters(), lr=0.1), torch.randn(6, 64, 16)
        found = []
        for _ in range(3):
            optimizer.zero_grad()
            loss = net(x)[0].pow(2).mean()
            loss.backward()
            optimizer.step()
            found.append(loss.item())
        return found

    before, taken = torch.get_num_threads(), []

    def watched(over: Any) -> Any:
        def call(*args: Any) -> Any:
            taken.append(args)
            return over(*args)

        return SimpleNamespace(count=threads.count, over=call)

    monkeypatch.setattr(rnn_kernels, "threads", watched(threads.over))
    if "compiled" in TABLES:
        monkeypatch.setattr(compiled, "gang", watched(compiled.gang.over))
    try:
        torch.set_num_threads(1)
        one = losses()
        assert not taken
        torch.set_num_threads(2)
        two = losses()
    finally:
        torch.set_num_threads(before)
    np.testing.assert_allclose(one, two, rtol=1e-5)
    # the one gate of a plain recurrence is too little here for NumPy's kernels
    assert bool(taken) == ("compiled" in TABLES or rnn_kernels.blas.controlled() and mode != "RNN")
