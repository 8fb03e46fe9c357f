"""oneDNN's convolutions against the generic forms, and the binding of its C interface."""

from __future__ import annotations

import functools
import gc
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import tapegrad as torch
from conv_cases import Case, calls, error
from tapegrad.backends import fast, threads

if not fast.has("onednn"):
    pytest.skip("oneDNN is not installed, or switched off", allow_module_level=True)

from tapegrad.backends.fast import conv_kernels, onednn  # noqa: E402

KERNELS = [(3, 1, 1, 1), (3, 2, 1, 1), (2, 1, 0, 2), (1, 2, 0, 1), (1, 1, 0, 1), (1, 1, 1, 1), (5, 3, 4, 1)]
CASES = [
    Case(batch, channels, results, size, (kernel,) * len(size), stride, padding, dilation, groups)
    for batch, size in ((5, (23,)), (1, (13, 14)), (7, (12, 9)), (2, (7, 8, 6)))
    for channels, results, groups in ((3, 4, 1), (4, 6, 2), (8, 8, 8), (4, 8, 4), (17, 33, 1), (1, 6, 1))
    for kernel, stride, padding, dilation in (
        (3, 1, 1, 1),
        (3, 2, 1, 1),
        (2, 1, 0, 2),
        (1, 2, 0, 1),
        (1, 1, 1, 1),
        (5, 3, 4, 1),
    )
]


@pytest.fixture(params=[1, 2], ids=["one thread", "two threads"])
def count(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """The number of threads; with two, both work however small the arrays are."""
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    monkeypatch.setattr(conv_kernels, "SHARE", 1)
    conv_kernels.cut.cache_clear()
    yield request.param
    torch.set_num_threads(before)
    conv_kernels.cut.cache_clear()


def test_values(count: int) -> None:
    """Ranks, strides, paddings, dilations, groups, biases, batches that are cut unevenly."""
    rng = np.random.default_rng(0)
    for case in CASES:
        for op, arrays, kw in calls(case, rng):
            got = getattr(conv_kernels, op)(*arrays, **kw)
            product = set(case.kernel) == {1} and case.groups == 1 and case.padding == 0
            product = product and (op != "conv_input" or case.stride == 1)
            assert (got is NotImplemented) == product, (case, op)
            if product:
                continue
            assert error(op, arrays, kw, got) < 1e-5, (case, op)


def test_blocks_and_a_rest(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conv_kernels, "BLOCK", 1 << 14)
    case = Case(11, 6, 5, (13, 9), (3, 3), padding=1)
    for op, arrays, kw in calls(case, np.random.default_rng(1)):
        assert error(op, arrays, kw, getattr(conv_kernels, op)(*arrays, **kw)) < 1e-5
    at = conv_kernels.Geometry((6, 13, 9), (5, 6, 3, 3), (5, 13, 9), (1, 1), (1, 1), (1, 1), 1)
    cut = conv_kernels.cut("conv", at, 11, count)
    assert 1 < cut.images < 11 and cut.rest


def test_one_image(count: int) -> None:
    """Its channels are shared by the threads."""
    for op, arrays, kw in calls(Case(1, 9, 37, (20, 11), (5, 5), padding=2), np.random.default_rng(8)):
        assert error(op, arrays, kw, getattr(conv_kernels, op)(*arrays, **kw)) < 1e-5


def test_any_strides() -> None:
    """Inputs that are views, reversed, channels last."""
    rng = np.random.default_rng(2)
    ways = [
        lambda a: np.asfortranarray(a),
        lambda a: a[..., ::-1],
        lambda a: np.ascontiguousarray(np.moveaxis(a, 1, -1)).swapaxes(1, -1).swapaxes(-1, 2),
        lambda a: np.repeat(a, 2, axis=-1)[..., ::2],
    ]
    for way in ways:
        for op, arrays, kw in calls(Case(3, 5, 4, (8, 8), (3, 3), padding=1), rng):
            turned = [way(a) if a.ndim > 1 else np.repeat(a, 2)[::2] for a in arrays]
            shapes = [a.shape for a in turned]
            assert shapes == [a.shape for a in arrays]
            assert error(op, turned, kw, getattr(conv_kernels, op)(*turned, **kw)) < 1e-5


def test_declined() -> None:
    """Other dtypes, nothing to compute, plain matrix products, no spatial dimensions or too many."""
    x, w = np.ones((2, 3, 5, 5), np.float32), np.ones((4, 3, 3, 3), np.float32)
    kw: dict[str, Any] = {"stride": (1, 1), "padding": (0, 0), "dilation": (1, 1), "groups": 1}
    assert conv_kernels.conv(x, w, **kw) is not NotImplemented
    bad = [
        (x.astype("f8"), w.astype("f8")),
        (x.astype("f2"), w.astype("f2")),
        (x[:0], w),
        (x, w[:0]),
        (x[:, :0], w[:, :0]),
        (x, np.ones((4, 3, 1, 1), np.float32)),
    ]
    for first, second in bad:
        assert conv_kernels.conv(first, second, **kw) is NotImplemented
    four = {"stride": (1,) * 4, "padding": (0,) * 4, "dilation": (1,) * 4, "groups": 1}
    assert (
        conv_kernels.conv(np.ones((1, 1, 2, 2, 2, 2), "f4"), np.ones((1, 1, 2, 2, 2, 2), "f4"), **four)
        is NotImplemented
    )
    assert conv_kernels.conv_weight(x[:0], np.ones((0, 4, 3, 3), "f4"), shape=w.shape, **kw) is NotImplemented


def test_not_finite_values_stay_where_they_are() -> None:
    x = np.ones((1, 8, 9, 9), np.float32)
    x[0, 3, 4, 4] = np.inf
    kw: dict[str, Any] = {"stride": (1, 1), "padding": (1, 1), "dilation": (1, 1), "groups": 1}
    out = conv_kernels.conv(x, np.ones((8, 8, 3, 3), np.float32), **kw)
    assert (np.isinf(out[0, 0]) == (np.abs(np.indices((9, 9)) - 4).max(0) <= 1)).all()


def test_gradients_of_both_orders() -> None:
    """Through the tape, where the kernels are chosen by name."""
    rng = np.random.default_rng(3)
    x, w = (torch.tensor(rng.standard_normal(s), requires_grad=True) for s in ((2, 4, 6, 5), (6, 2, 3, 3)))
    assert x.dtype == torch.float64

    def f(dtype: Any) -> list[Any]:
        a, b = x.to(dtype), w.to(dtype)
        y = torch.nn.functional.conv2d(a, b, stride=2, padding=1, groups=2)
        first = torch.autograd.grad((y**3).sum(), (x, w), create_graph=True)
        return [*first, *torch.autograd.grad(sum((g * g).sum() for g in first), (x, w))]

    for single, double in zip(f(torch.float32), f(torch.float64), strict=True):
        torch.testing.assert_close(single, double, rtol=1e-4, atol=1e-4 * float(double.detach().abs().max()))


def test_a_plan_is_reused_and_given_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """The second call makes no primitive; what the cache drops is destroyed."""
    rng = np.random.default_rng(4)
    one, two = (next(iter(calls(Case(2, 3, 4, (9, 9), (3, 3)), rng))) for _ in range(2))
    conv_kernels.conv(*one[1], **one[2])
    before = conv_kernels.plan.cache_info()
    got = conv_kernels.conv(*two[1], **two[2])
    assert conv_kernels.plan.cache_info().misses == before.misses
    assert error("conv", two[1], two[2], got) < 1e-5
    destroyed = []
    lib = onednn.library()
    real = lib.quick.dnnl_primitive_destroy
    monkeypatch.setattr(lib.quick, "dnnl_primitive_destroy", lambda handle: destroyed.append(handle) or real(handle))
    small = functools.lru_cache(maxsize=1)(conv_kernels.plan.__wrapped__)
    monkeypatch.setattr(conv_kernels, "plan", small)
    for size in (9, 10, 11):
        _, arrays, kw = next(iter(calls(Case(2, 3, 4, (size, size), (3, 3)), rng)))
        conv_kernels.conv(*arrays, **kw)
    gc.collect()
    assert len(destroyed) >= 2


def test_many_threads_at_once() -> None:
    """One plan, used by several threads of the caller's own with different arrays."""
    rng = np.random.default_rng(5)
    samples = [list(calls(Case(3, 8, 8, (12, 12), (3, 3), padding=1), rng)) for _ in range(6)]
    worst: list[float] = []

    def work(sample: Any) -> None:
        for _ in range(5):
            for op, arrays, kw in sample:
                worst.append(error(op, arrays, kw, getattr(conv_kernels, op)(*arrays, **kw)))

    workers = [threading.Thread(target=work, args=(s,)) for s in samples]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert len(worst) == 6 * 5 * 5 and max(worst) < 1e-5


def test_threads_of_openmp_are_left_as_they_were() -> None:
    lib = onednn.library()
    before = lib.omp_get()
    try:
        lib.omp_set(3)
        with onednn.in_this_thread():
            assert lib.omp_get() == 1
        _, arrays, kw = next(iter(calls(Case(2, 3, 4, (9, 9), (3, 3)), np.random.default_rng(6))))
        conv_kernels.conv(*arrays, **kw)
        assert lib.omp_get() == 3
    finally:
        lib.omp_set(before)


def test_an_error_of_the_library_is_an_exception() -> None:
    with pytest.raises(onednn.Refused, match="dnnl_memory_desc_create_with_strides: invalid arguments"):
        onednn.Layout.strided((2, -2), (2, 1))
    with pytest.raises(onednn.OneDNNError, match="runtime error"):
        onednn.fail("name", 5)


def test_layouts() -> None:
    dense, last = onednn.Layout.dense((2, 3, 4, 5)), onednn.Layout.channels_last((2, 3, 4, 5))
    assert dense.bytes == last.bytes == 480
    assert dense.same(onednn.Layout.strided((2, 3, 4, 5), (60, 20, 5, 1))) and not dense.same(last)
    assert onednn.reorder(dense, dense) is None
    with onednn.in_this_thread():
        copy = onednn.reorder(dense, last)
    assert copy is not None
    a, b = np.arange(120, dtype=np.float32).reshape(2, 3, 4, 5), np.empty((2, 4, 5, 3), np.float32)
    copy(onednn.address_of(a), onednn.address_of(b))
    assert (b == a.transpose(0, 2, 3, 1)).all()
    space = onednn.Space(100)
    assert space.address % onednn.ALIGN == 0 and space.array.nbytes >= 100


@pytest.mark.parametrize(
    "switch, says",
    [
        ({"TAPEGRAD_FAST": "0"}, ""),
        ({}, "import tapegrad.backends.fast.onednn as o; o.path = lambda: None; o.path.cache_clear = lambda: None"),
    ],
    ids=["switched off", "not installed"],
)
def test_without_it(switch: dict[str, str], says: str) -> None:
    """The same program runs, the library is not loaded."""
    program = f"""
import tapegrad as torch
{says}
x = torch.ones(2, 3, 8, 8, requires_grad=True)
torch.nn.functional.conv2d(x, torch.ones(4, 3, 3, 3), stride=2).sum().backward()
print(float(x.grad.sum()), "libdnnl" in open("/proc/self/maps").read())
"""
    env = {**os.environ, **switch}
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=env)
    assert ran.stdout.split() == ["1944.0", "False"], ran.stderr


def test_after_a_fork() -> None:
    """A child process computes the same; it has none of the parent's threads."""
    _, arrays, kw = next(iter(calls(Case(4, 8, 8, (16, 16), (3, 3)), np.random.default_rng(7))))
    want = conv_kernels.conv(*arrays, **kw)
    read, write = os.pipe()
    child = os.fork()
    if not child:
        same = conv_kernels.conv(*arrays, **kw).tobytes() == want.tobytes()
        os.write(write, b"1" if same else b"0")
        os._exit(0)
    os.waitpid(child, 0)
    assert os.read(read, 1) == b"1"
    os.close(read)
    os.close(write)
    assert threads.count() >= 1
