"""Compiled kernels in the threads of NumPy's OpenBLAS: the same numbers, and who may not use them."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import tapegrad as torch
from tapegrad.backends import fast, threads
from tapegrad.backends.numpy import blas

if not fast.has("numba"):
    pytest.skip("the extra tapegrad[fast] is not installed, or switched off", allow_module_level=True)

from tapegrad.backends.fast import gang
from tapegrad.backends.fast.compiled import Group, address

if blas.function("get_parallel") is None:
    pytest.skip("NumPy has no OpenBLAS here", allow_module_level=True)

N = 1000


@pytest.fixture(autouse=True, params=[2, 3])
def count(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """The number of threads, whatever the number of cores."""
    before, found = torch.get_num_threads(), gang._gang()
    assert found is not None
    monkeypatch.setattr(found, "cores", 8)
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


def exp_of(x: Any, length: int = N, align: int = 1, parts: int = 0) -> Any:
    """exp of the first `length` numbers by the gang, -1 behind them; None where it declined."""
    run = Group("pointwise").get("exp_forward_f4")
    assert run is not None
    out = np.full(x.shape, -1, "float32")
    return out if gang.over(run, length, align, [address(x), address(out)], parts) else None


@pytest.mark.parametrize("align", [1, 64, 999])
@pytest.mark.parametrize("length", [2, 3, 1000])
def test_every_element_once(length: int, align: int) -> None:
    x = np.linspace(-3, 3, N, dtype="float32")
    out = exp_of(x, length, align)
    if align >= length:
        assert out is None  # one span is none to share
        return
    np.testing.assert_allclose(out[:length], np.exp(x[:length]), rtol=1e-6)
    assert (out[length:] == -1).all()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_numbers_among_the_arguments(dtype: str) -> None:
    """Adam's kernel takes nine, after arrays of which one may be absent."""
    run = Group("optimizers").get("adam_f4" if dtype == "float32" else "adam_f8")
    assert run is not None
    rng = np.random.default_rng(0)
    start = [np.abs(rng.standard_normal(N)).astype(dtype) for _ in range(4)]
    numbers = [1.0, 0.01, 0.99, 0.1, 0.9, 0.001, 1.5, 1e-8, 1e-3][: len(run.call.func.argtypes) - 2 - 5 - 2]
    found = []
    for shared in (False, True):
        arrays = [a.copy() for a in start]
        args = [*[address(a) for a in arrays], 0, *numbers]
        if shared:
            assert gang.over(run, N, 64, args)
        else:
            run(*args, 0, N)
        found.append(arrays)
    for one, other in zip(*found, strict=True):
        np.testing.assert_array_equal(one, other)
    assert not np.array_equal(found[0][0], start[0])


def test_declines_inside_another_call_and_where_blas_has_one_thread() -> None:
    x, found = np.ones(N, "float32"), []
    threads.over(lambda start, stop: found.append(exp_of(x)), 2, 2)
    with blas.alone():
        found.append(exp_of(x))
    assert found == [None] * 3
    assert exp_of(x) is not None
    assert exp_of(x, parts=1) is None


def test_from_several_threads_with_matrix_products() -> None:
    """Products and kernels of all threads share one set of OpenBLAS's threads; who comes second works alone."""
    x, a, wrong = np.linspace(-3, 3, N, dtype="float32"), np.ones((200, 200), "float32"), []
    want = np.exp(x)

    def work() -> None:
        for _ in range(5):
            out = exp_of(x)
            if out is not None and not np.allclose(out, want, rtol=1e-6):
                wrong.append(out)
            if (a @ a != 200).any():
                wrong.append(a)

    workers = [threading.Thread(target=work) for _ in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert not wrong


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system has no fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")
def test_after_a_fork() -> None:
    x = np.ones(N, "float32")
    assert exp_of(x) is not None
    child = os.fork()
    if not child:
        out = exp_of(x)
        os._exit(0 if out is not None and np.allclose(out, np.e) else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
