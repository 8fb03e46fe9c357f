"""Several threads at once: first calls of ops, backward passes, modes, Functions and checkpoints."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable
from typing import Any

import tapegrad as torch

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
