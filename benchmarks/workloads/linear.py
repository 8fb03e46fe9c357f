"""Linear models and multilayer perceptrons."""

from __future__ import annotations

from typing import Any

from .common import Step, compiled, fill, integers, normal, training, workload


@workload("linear-regression", "10,000 x 100, full batch, SGD", 20, quick=True, rows=10_000, columns=100)
def linear_regression(lib: Any, rows: int, columns: int) -> Step:
    x = normal((rows, columns))
    target = x @ normal((columns, 1), 2) + normal((rows, 1), 3, 0.1)
    data, wanted = lib.tensor(x), lib.tensor(target)
    model = fill(lib, lib.nn.Linear(columns, 1))
    return training(
        lib, lambda: lib.nn.functional.mse_loss(model(data), wanted), lib.optim.SGD(model.parameters(), lr=0.1)
    )


@workload("logistic-regression", "10,000 x 100, full batch, SGD", 21, rows=10_000, columns=100)
def logistic_regression(lib: Any, rows: int, columns: int) -> Step:
    x = normal((rows, columns))
    target = (x @ normal((columns, 1), 2) > 0).astype("f4")
    data, wanted = lib.tensor(x), lib.tensor(target)
    model = fill(lib, lib.nn.Linear(columns, 1))
    return training(
        lib,
        lambda: lib.nn.functional.binary_cross_entropy_with_logits(model(data), wanted),
        lib.optim.SGD(model.parameters(), lr=0.1),
    )


def perceptron(lib: Any, width: int, depth: int) -> Any:
    """784 - width (depth times) - 10, ReLU between."""
    nn = lib.nn
    layers, inputs = [], 784
    for _ in range(depth):
        layers += [nn.Linear(inputs, width), nn.ReLU()]
        inputs = width
    return fill(lib, nn.Sequential(*layers, nn.Linear(inputs, 10)))


@workload("mlp-64", "784-512-512-10, batch 64, Adam", 30, quick=True, batch=64)
@workload("mlp-512", "784-512-512-10, batch 512, Adam", 31, batch=512)
def mlp(lib: Any, batch: int, width: int = 512, depth: int = 2) -> Step:
    model = perceptron(lib, width, depth)
    data, wanted = lib.tensor(normal((batch, 784))), lib.tensor(integers(10, (batch,)))
    return training(
        lib,
        lambda: lib.nn.functional.cross_entropy(model(data), wanted),
        lib.optim.Adam(model.parameters(), lr=1e-3),
    )


@workload("hvp", "Hessian times vector, 784-256-256-10, batch 128", 90, batch=128, width=256)
def hessian_vector_product(lib: Any, batch: int, width: int) -> Step:
    """H v of a tanh perceptron's loss: gradients of (gradients . v). Returns the norm of the product."""
    nn = lib.nn
    model = fill(
        lib,
        nn.Sequential(
            nn.Linear(784, width), nn.Tanh(), nn.Linear(width, width), nn.Tanh(), nn.Linear(width, 10)
        ),
    )
    data, wanted = lib.tensor(normal((batch, 784))), lib.tensor(integers(10, (batch,)))
    weights = list(model.parameters())
    vector = [lib.tensor(normal(tuple(w.shape), 10 + i)) for i, w in enumerate(weights)]
    forward = compiled(lambda: nn.functional.cross_entropy(model(data), wanted))

    def step() -> Any:
        first = lib.autograd.grad(forward(), weights, create_graph=True)
        dot = sum((g * v).sum() for g, v in zip(first, vector, strict=True))
        product = lib.autograd.grad(dot, weights)
        with lib.no_grad():
            return sum((p * p).sum() for p in product)

    return step
