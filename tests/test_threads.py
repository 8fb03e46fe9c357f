"""Several threads at once: first calls of ops, backward passes, modes, Functions and checkpoints; those of kernels."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import tapegrad as torch
from tapegrad.backends import threads
from tapegrad.backends.numpy import blas

FIRST_CALLS = """
import sys, threading
import tapegrad as torch
sys.setswitchinterval(1e-6)
F = torch.nn.functional
calls = [
    lambda x: x * x, lambda x: x + 1, lambda x: 2 - x, lambda x: x / 2, lambda x: x**3, lambda x: x.exp(),
    lambda x: x.sum(), lambda x: x.mean(0), lambda x: x.t() @ x, lambda x: x.relu(), lambda x: x.softmax(1),
    lambda x: x.max(1)[0], lambda x: torch.cat([x, x]), lambda x: x.reshape(-1)[2:5], lambda x: x.sort()[0],
    lambda x: x.std(), lambda x: x.tanh(), lambda x: torch.where(x > 0, x, x * 2), lambda x: x.clamp(0, 1),
    lambda x: x.norm(), lambda x: x.cumsum(0), lambda x: F.gelu(x), lambda x: F.layer_norm(x, (4,)),
    lambda x: x.log_softmax(0), lambda x: x.expand(2, 3, 4), lambda x: x.prod(), lambda x: x.pow(2.5),
    lambda x: torch.einsum("ij,kj->ik", x, x), lambda x: torch.stack([x, x]), lambda x: x.flip(0),
    lambda x: x.split(2, 1)[0], lambda x: x.index_select(0, torch.tensor([0])), lambda x: x.masked_fill(x > 0, 0.0),
    lambda x: x.logsumexp(1),
]
failures, together = [], threading.Barrier(8)

def work():
    for number, call in enumerate(calls):
        together.wait()
        try:
            x = torch.ones(3, 4, requires_grad=True)
            call(x).sum().backward()
            torch.autograd.grad(call(x).sum(), x, create_graph=True)
        except Exception as error:
            failures.append((number, repr(error)))

threads = [threading.Thread(target=work) for _ in range(8)]
for t in threads:
    t.start()
for t in threads:
    t.join()
assert not failures, failures[:3]
"""


def at_once(work: Callable[[int], None], count: int = 6) -> None:
    """Runs work(0), work(1), ... in threads of their own; raises what one of them raised."""
    errors: list[BaseException] = []

    def guarded(i: int) -> None:
        try:
            work(i)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=guarded, args=(i,)) for i in range(count)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    if errors:
        raise errors[0]


def test_first_calls() -> None:
    """An op's functions are written out at its first call: by one thread, while others call it too."""
    subprocess.run([sys.executable, "-c", FIRST_CALLS], check=True)


def test_one_graph_walked_by_many() -> None:
    x = torch.ones(50, requires_grad=True)
    y = ((x * 2).sin() * x).sum()
    expected = torch.autograd.grad(y, x, retain_graph=True)[0].tolist()

    def work(i: int) -> None:
        for _ in range(20):
            assert torch.autograd.grad(y, x, retain_graph=True)[0].tolist() == expected

    at_once(work)


def test_functions_and_checkpoints() -> None:
    class Cube(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, x: Any) -> Any:
            ctx.save_for_backward(x)
            return x**3

        @staticmethod
        def backward(ctx: Any, g: Any) -> Any:
            (x,) = ctx.saved_tensors
            return g * 3 * x**2

    shared = torch.full((4,), 2.0, requires_grad=True)
    y = Cube.apply(shared).sum()

    def work(i: int) -> None:
        for _ in range(20):
            x = torch.full((4,), float(i + 1), requires_grad=True)
            torch.utils.checkpoint.checkpoint(lambda x: Cube.apply(x) * 2, x, use_reentrant=i % 2 == 0).sum().backward()
            assert x.grad.tolist() == [6.0 * (i + 1) ** 2] * 4
            assert torch.autograd.grad(y, shared, retain_graph=True)[0].tolist() == [12.0] * 4

    at_once(work)


def test_modes_are_each_threads_own() -> None:
    def work(i: int) -> None:
        for _ in range(50):
            with [torch.no_grad, torch.enable_grad, torch.inference_mode][i % 3]():
                y = torch.ones(2, requires_grad=True) * 2
                assert y.requires_grad == (i % 3 == 1) and y.is_inference() == (i % 3 == 2)
            with torch.autograd.set_detect_anomaly(i % 2 == 0):
                assert torch.is_anomaly_enabled() == (i % 2 == 0)
            with torch.device("fake" if i % 2 else "cpu"):
                assert torch.zeros(1).device.type == ("fake" if i % 2 else "cpu")

    at_once(work)
    assert torch.is_grad_enabled() and not torch.is_anomaly_enabled() and not torch.is_inference_mode_enabled()


def test_writes_of_other_threads_do_not_make_values_stale() -> None:
    def work(i: int) -> None:
        w = torch.full((8,), 1.0, requires_grad=True)
        for _ in range(50):
            loss = (w * w).sum()
            loss.backward()
            with torch.no_grad():
                w.sub_(w.grad * 0.1)
                w.grad.zero_()

    at_once(work)


# ---- the workers of kernels


@pytest.fixture
def kept() -> Iterator[None]:
    """Puts the number of threads back."""
    before = threads.count()
    yield
    threads.set_count(before)


def spans_of(length: int, **options: int) -> list[tuple[int, int]]:
    found: list[tuple[int, int]] = []
    threads.over(lambda start, stop: found.append((start, stop)), length, **options)
    return sorted(found)


@pytest.mark.parametrize("count", [1, 2, 3, 7])
@pytest.mark.parametrize("align", [1, 16])
def test_spans_cover(kept: None, count: int, align: int) -> None:
    threads.set_count(count)
    for length in (1, 2, 3, 15, 16, 17, 100, 1000, 4097):
        spans = spans_of(length, align=align)
        assert len(spans) <= count and all(start < stop and start % align == 0 for start, stop in spans)
        assert [i for start, stop in spans for i in range(start, stop)] == list(range(length))
    assert len(spans) == count
    assert len(spans_of(1000, parts=2)) == min(count, 2) or count == 1
    assert spans_of(1000, parts=1) == [(0, 1000)]


def test_one_thread_is_the_callers(kept: None) -> None:
    threads.set_count(1)
    found: list[int] = []
    threads.over(lambda start, stop: found.append(threading.get_ident()), 1000)
    assert found == [threading.get_ident()] and not threads.worth(1 << 30)
    threads.set_count(2)
    assert threads.worth(1 << 30) and not threads.worth(10)


def test_errors_of_spans_reach_the_caller(kept: None) -> None:
    threads.set_count(3)
    done: list[int] = []

    def work(start: int, stop: int) -> None:
        if start == bad:
            raise ValueError(f"span {start}")
        done.append(start)

    for bad in (0, 4, 8):
        done.clear()
        with pytest.raises(ValueError, match=f"span {bad}"):
            threads.over(work, 12)
        assert sorted([*done, bad]) == [0, 4, 8]
    bad = -1
    threads.over(work, 12)  # nothing is left behind


def test_spans_inside_spans_run_in_their_own_thread(kept: None) -> None:
    threads.set_count(2)
    seen: list[tuple[int, int, bool]] = []

    def outer(start: int, stop: int) -> None:
        own = threading.get_ident()
        threads.over(lambda i, j: seen.append((i, j, threading.get_ident() == own)), 10)

    threads.over(outer, 2)
    assert seen == [(0, 10, True)] * 2


def test_kernels_of_several_threads_at_once(kept: None) -> None:
    threads.set_count(2)

    def work(i: int) -> None:
        for _ in range(30):
            out = np.zeros(1000)

            def fill(start: int, stop: int, out: Any = out) -> None:
                out[start:stop] += i

            threads.over(fill, 1000)
            assert (out == i).all()

    at_once(work)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system has no fork")
def test_workers_after_a_fork() -> None:
    program = (
        "import os, sys, numpy as np, tapegrad\n"
        "from tapegrad.backends import threads\n"
        "threads.set_count(2)\n"
        "x = np.arange(1000.0)\n"
        "def double(start, stop): x[start:stop] *= 2\n"
        "threads.over(double, 1000)\n"
        "child = os.fork()\n"
        "threads.over(double, 1000)\n"
        "assert (x == np.arange(1000.0) * 4).all()\n"
        "if not child: os._exit(0)\n"
        "sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))\n"
    )
    subprocess.run([sys.executable, "-W", "ignore", "-c", program], check=True, timeout=60)


def test_set_num_threads_reaches_workers_and_blas(kept: None) -> None:
    for count in (1, 3, 2):
        torch.set_num_threads(count)
        assert torch.get_num_threads() == count == threads.count()
        if blas.controlled():
            assert blas._functions()[1]() == count  # type: ignore[index]
    with pytest.raises(RuntimeError):
        torch.set_num_threads(0)


@pytest.mark.skipif(not blas.controlled(), reason="NumPy's BLAS is no OpenBLAS")
def test_blas_alone(kept: None) -> None:
    number = blas._functions()[1]  # type: ignore[index]
    blas.set_threads(2)
    with pytest.raises(ValueError), blas.alone():
        with blas.alone():
            assert number() == 1
        assert number() == 1
        raise ValueError
    assert number() == 2


def test_blas_that_cannot_be_controlled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blas, "_functions", lambda: None)
    assert not blas.controlled()
    blas.set_threads(2)
    with blas.alone():
        assert (np.eye(3) @ np.eye(3) == np.eye(3)).all()
