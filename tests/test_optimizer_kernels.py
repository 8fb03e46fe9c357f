"""How formulas are applied to raw arrays: in blocks, threads and together; all give what one call per array gives."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import tapegrad as torch
from tapegrad.backends import threads
from tapegrad.backends.numpy import vector_kernels
from tapegrad.backends.registry import load
from tapegrad.optim import blocks

EACH: list[tuple[str, dict[str, Any]]] = [
    ("SGD", {}), ("SGD", {"momentum": 0.9, "nesterov": True}), ("SGD", {"weight_decay": 0.1, "maximize": True}),
    ("Adam", {}), ("Adam", {"amsgrad": True, "weight_decay": 0.1}), ("AdamW", {}), ("RMSprop", {}),
    ("RMSprop", {"momentum": 0.9, "centered": True}), ("NAdam", {}), ("RAdam", {}), ("Adamax", {}), ("Adagrad", {}),
    ("Adadelta", {}), ("ASGD", {}), ("Rprop", {}),
]  # fmt: skip
IDS = ["-".join([name, *options]) for name, options in EACH]
SHAPES = [(3, 5), (1,), (40, 9), (), (7,), (0, 4), (2, 2, 2), (300,), (33, 3)]


@pytest.fixture(params=[1, 2], ids=["one thread", "two threads"])
def count(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """The number of threads; with two, the elements are divided however few they are."""
    monkeypatch.setattr(blocks, "THREADED", 0)
    monkeypatch.setenv("TAPEGRAD_GENERIC", "1")  # the formulas themselves
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


def trained(name: str, options: dict[str, Any], arrays: list[Any], steps: int = 4) -> tuple[list[Any], Any]:
    """The parameters after some steps with the same gradients each time it is called, and the optimizer."""
    params = [torch.nn.Parameter(torch.tensor(a)) for a in arrays]
    optimizer, rng = getattr(torch.optim, name)(params, lr=0.1, **options), np.random.default_rng(3)
    for _ in range(steps):
        for p in params:
            p.grad = torch.tensor(rng.standard_normal(p.shape).astype(p.array.dtype))
        optimizer.step()
    return params, optimizer


def same(first: tuple[list[Any], Any], second: tuple[list[Any], Any], rtol: float = 0.0) -> None:
    for p, q in zip(first[0], second[0], strict=True):
        np.testing.assert_allclose(p.array, q.array, rtol=rtol)
        mine, other = first[1].state[p], second[1].state[q]
        assert list(mine) == list(other)
        for key, value in mine.items():
            assert value.dtype is other[key].dtype and value.shape == other[key].shape
            np.testing.assert_allclose(value.array, other[key].array, rtol=rtol)


@pytest.mark.parametrize("dtype", ["float32", "float64", "complex64"])
@pytest.mark.parametrize(("name", "options"), EACH, ids=IDS)
def test_together_in_threads_gives_what_one_by_one_gives(name, options, dtype, count, monkeypatch):
    rng = np.random.default_rng(0)
    arrays = [rng.standard_normal(shape).astype(dtype) for shape in SHAPES]
    found = trained(name, options, arrays)
    monkeypatch.setattr(blocks, "FEW", 1000)
    monkeypatch.setattr(blocks, "THREADED", 1 << 60)
    same(found, trained(name, options, arrays))


@pytest.mark.parametrize("name", ["SGD", "Adam"])
def test_halves_beside_floats(name, count, monkeypatch):
    rng = np.random.default_rng(0)
    arrays = [rng.standard_normal(6).astype(dtype) for dtype in ("float16", "float32", "float64") * 5]
    found = trained(name, {}, arrays)
    monkeypatch.setattr(blocks, "FEW", 1000)
    same(found, trained(name, {}, arrays), rtol=2e-3)
    assert {p.array.dtype.name for p in found[0]} == {"float16", "float32", "float64"}


def test_tensors_keep_their_arrays(count):
    params, optimizer = trained("Adam", {}, [np.ones(3, "float32") for _ in range(6)], steps=1)
    views = [p.detach() for p in params]
    kept = [(p.array, optimizer.state[p]["exp_avg"], optimizer.state[p]["exp_avg"].array, p.grad.array) for p in params]
    before = [p.grad.array.copy() for p in params]
    versions = [p._version for p in params]
    optimizer.step()
    for p, view, (array, state, raw, grad), g, version in zip(params, views, kept, before, versions, strict=True):
        assert p.array is array and optimizer.state[p]["exp_avg"] is state and state.array is raw
        assert raw.base is None and p.grad.array is grad and np.array_equal(grad, g)
        assert np.array_equal(view.array, p.array) and p._version > version


def test_parameters_in_one_memory_are_updated_one_after_the_other(count):
    """Two parameters over the same elements: each update sees the one before."""
    memory = torch.zeros(4)
    params = [torch.nn.Parameter(memory[:3]) for _ in range(5)]
    for p in params:
        p.grad = torch.ones(3)
    torch.optim.RMSprop(params, lr=1.0, alpha=0.0, eps=0.0).step()  # each takes 1
    assert memory.tolist() == [-5, -5, -5, 0]


def test_a_parameter_given_twice_is_updated_twice(count):
    p = torch.nn.Parameter(torch.zeros(3))
    with pytest.warns(UserWarning, match="duplicate parameters"):
        optimizer = torch.optim.SGD([p] * 5, lr=1.0)
    p.grad = torch.ones(3)
    optimizer.step()
    assert p.tolist() == [-5, -5, -5]


def test_a_parameter_that_is_not_row_major_is_updated_once(count):
    """It cannot be divided, however the spans fall."""
    arrays = [np.zeros(50), np.zeros((60, 50)).T, np.zeros((9, 9))[:, ::2], np.zeros(7)]
    params = []
    for a in arrays:
        p = torch.nn.Parameter(torch.zeros(a.shape, dtype=torch.float64))
        p.array = a
        p.grad = torch.ones(a.shape, dtype=torch.float64)
        params.append(p)
    torch.optim.SGD(params, lr=1.0).step()
    assert all(np.all(a == -1) for a in arrays)


def test_sparse_gradients_among_dense_ones(count):
    params = [torch.nn.Parameter(torch.zeros(4)) for _ in range(6)]
    for i, p in enumerate(params):
        p.grad = torch.sparse_coo_tensor([[1, 1]], [1.0, 1.0], (4,)) if i % 2 else torch.ones(4)
    torch.optim.Adagrad(params, lr=1.0).step()
    for i, p in enumerate(params):
        np.testing.assert_allclose(p.array, [0, -1, 0, 0] if i % 2 else [-1] * 4, rtol=1e-6)


def test_an_error_in_one_update_leaves_the_next_step_sound(count, monkeypatch):
    params = [torch.nn.Parameter(torch.zeros(3)) for _ in range(4)]
    optimizer = torch.optim.SGD(params, lr=1.0)
    params[0].grad = torch.ones(3)
    params[1].grad = torch.ones(3)
    params[1].grad.array = np.ones(5, "float32")  # what no assignment would allow
    with pytest.raises(ValueError, match="broadcast"):
        optimizer.step()
    params[1].grad = torch.ones(3)
    optimizer.step()
    assert params[0].tolist() == [-2, -2, -2] and params[1].tolist() == [-1, -1, -1]


def test_no_warnings_of_inf_and_nan_in_any_thread(count):
    p = torch.nn.Parameter(torch.zeros(100))
    p.grad = torch.full((100,), float("inf"))
    optimizer = torch.optim.Adam([p])
    with np.errstate(all="raise"):
        optimizer.step()
    assert p.isnan().all()


def test_spans_go_to_a_kernel_of_the_backend(monkeypatch):
    """Each span in its thread; what the kernel declines, the formula does."""
    seen, workers = [], set()

    def kernel(p, g, momentum_buffer, **options):
        if p.size % 2:
            return NotImplemented
        seen.append(p.size)
        workers.add(threading.get_ident())
        p -= 10 * g
        return None

    monkeypatch.setattr(load("numpy"), "kernels", {"sgd_step": kernel}, raising=False)
    monkeypatch.delenv("TAPEGRAD_GENERIC", raising=False)
    monkeypatch.setattr(blocks, "THREADED", 1000)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        large, odd, small = (torch.nn.Parameter(torch.zeros(n)) for n in (1 << 15, 1025, 6))
        for p in (large, odd, small):
            p.grad = torch.ones_like(p)
        torch.optim.SGD([large, odd, small], lr=1.0).step()
    finally:
        torch.set_num_threads(before)
    assert sum(seen) == large.array.size and len(seen) == len(workers) == 2
    assert (large == -10).all() and (odd == -1).all()
    assert (small == -1).all(), "few operations on few elements do without a kernel"


def test_zero_grad_and_clipping():
    params = [torch.nn.Parameter(torch.zeros(2)) for _ in range(3)]
    optimizer = torch.optim.SGD(params, lr=1.0)
    for p in params[:2]:
        p.grad = torch.tensor([3.0, 4.0])
    assert torch.nn.utils.clip_grad_norm_(params, 100.0).item() == pytest.approx(50**0.5)
    assert params[0].grad.tolist() == [3.0, 4.0], "below the limit nothing is written"
    torch.nn.utils.clip_grad_norm_(params, 1.0)
    np.testing.assert_allclose(params[1].grad.array, np.array([3, 4]) / 50**0.5, rtol=1e-6)
    optimizer.zero_grad(set_to_none=False)
    assert params[0].grad.tolist() == [0, 0] and params[2].grad is None
    optimizer.zero_grad()
    assert all(p.grad is None for p in params)


NORMS = {
    "one": np.array([-3.0]), "0-d": np.array(2.0), "none": np.zeros((0, 3)), "blocks": np.arange(70001.0) / 7e4,
    "columns": np.asfortranarray(np.arange(12.0).reshape(3, 4)), "inf": np.array([1, np.inf]),
    "nan": np.where(np.arange(70000) == 69999, np.nan, 1.0), "large": np.full(70000, 3e19), "tiny": np.array([1e-30]),
}  # fmt: skip


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("array", NORMS.values(), ids=NORMS)
@pytest.mark.parametrize("number", [1, 2])
def test_norm_of_a_whole_array(array, dtype, number, monkeypatch):
    x = array.astype(dtype)
    axis = tuple(range(x.ndim))
    monkeypatch.setattr(threads, "worth", lambda *args: number > 1)
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        with np.errstate(over="ignore"):
            got = vector_kernels.vector_norm(x, p=2.0, axis=axis, keepdims=False)
            kept = vector_kernels.vector_norm(x, p=2, axis=axis, keepdims=True)
            want = np.sqrt(np.sum(x.astype("f8") ** 2)).astype(dtype)
            if dtype == "float32" and array is NORMS["tiny"]:
                want = np.float32(0)  # its square is
            if dtype == "float32" and array is NORMS["large"]:
                want = np.float32(np.inf)
    finally:
        torch.set_num_threads(before)
    assert got.dtype == kept.dtype == dtype and np.shape(got) == () and kept.shape == (1,) * x.ndim
    np.testing.assert_allclose(got, want, rtol=1e-6)
    np.testing.assert_array_equal(kept.reshape(()), got)


def test_other_norms_are_declined():
    norm, x = vector_kernels.vector_norm, np.ones((4, 4), "float32")
    assert norm(x, p=1, axis=(0, 1), keepdims=False) is NotImplemented
    assert norm(x, p=2, axis=(0,), keepdims=False) is NotImplemented
    assert norm(x[::2, ::2], p=2, axis=(0, 1), keepdims=False) is NotImplemented
    assert norm(x.astype("f2"), p=2, axis=(0, 1), keepdims=False) is NotImplemented
