"""Overhead of recording: a chain of 1,000 small operations, and the elementwise chain that memory bandwidth limits."""

from __future__ import annotations

from typing import Any

from .common import Step, compiled, gradients, normal, workload


@workload("tape-8", "1,000 ops on (8,)", 10, quick=True, shape=(8,))
@workload("tape-64x64", "1,000 ops on (64, 64)", 11, quick=True, shape=(64, 64))
def chain(lib: Any, shape: tuple[int, ...], length: int = 250) -> Step:
    """h = tanh(h * a + b) - b, `length` times, forward and backward to all three."""
    x = lib.tensor(normal(tuple(shape), 0, 0.1), requires_grad=True)
    a = lib.tensor(1.02 + normal(tuple(shape), 1, 0.001), requires_grad=True)
    b = lib.tensor(normal(tuple(shape), 2, 0.02), requires_grad=True)

    def forward() -> Any:
        h = x
        for _ in range(length):
            h = ((h * a) + b).tanh() - b
        return h.sum()

    run = compiled(forward)

    def step() -> Any:
        x.grad = a.grad = b.grad = None
        loss = run()
        loss.backward()
        return loss.detach()

    return step


@workload("elementwise", "chain of 9 elementwise ops on 4 M", 12, size=4_000_000)
def elementwise(lib: Any, size: int) -> Step:
    """exp(-(tanh(x a + b) sigmoid(x)) ** 2) and its mean, forward and backward to x, a and b."""
    x = lib.tensor(normal((size,), 0), requires_grad=True)
    a = lib.tensor(normal((size,), 1), requires_grad=True)
    b = lib.tensor(normal((size,), 2), requires_grad=True)

    def loss() -> Any:
        h = lib.tanh(x * a + b) * lib.sigmoid(x)
        return lib.exp(-(h * h)).mean()

    return gradients(lib, loss, [x, a, b])
