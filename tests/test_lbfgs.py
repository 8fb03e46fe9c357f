"""L-BFGS: convergence, its line search, state, and several parameters. Against PyTorch: test_optim_torch."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import tapegrad
from tapegrad import optim


def leaf(array, dtype="float32"):
    """A leaf tensor of a NumPy array."""
    return tapegrad.tensor(np.asarray(array).astype(dtype)).requires_grad_()


def rosenbrock(x):
    return (1 - x[0]) ** 2 + 100 * (x[1] - x[0] ** 2) ** 2


@pytest.mark.parametrize("options", [{"line_search_fn": "strong_wolfe"}, {"lr": 0.05, "max_iter": 900}])
def test_lbfgs_finds_the_minimum_of_rosenbrock(options):
    x = leaf([-1.2, 1.0], "float64")
    optimizer = optim.LBFGS([x], **{"max_iter": 100, "tolerance_change": 1e-14, **options})
    calls = []

    def closure():
        optimizer.zero_grad()
        loss = rosenbrock(x)
        loss.backward()
        calls.append(loss.item())
        return loss

    first = optimizer.step(closure)
    assert first.item() == pytest.approx(24.2)
    np.testing.assert_allclose(x.detach().array, [1.0, 1.0], atol=1e-5)
    state = optimizer.state[x]
    assert state["func_evals"] == len(calls) and state["n_iter"] <= options.get("max_iter", 100)


def test_lbfgs_resumes_from_its_state():
    def train(optimizer, x, count):
        def closure():
            optimizer.zero_grad()
            loss = rosenbrock(x)
            loss.backward()
            return loss

        for _ in range(count):
            optimizer.step(closure)

    options = {"max_iter": 3, "history_size": 4, "line_search_fn": "strong_wolfe"}
    x = leaf([-1.2, 1.0], "float64")
    optimizer = optim.LBFGS([x], **options)
    train(optimizer, x, 3)
    y = x.detach().clone().requires_grad_()
    other = optim.LBFGS([y], **options)
    other.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    train(optimizer, x, 3)
    train(other, y, 3)
    assert np.array_equal(x.array, y.array)
    assert len(optimizer.state[x]["old_dirs"]) == 4


def test_lbfgs_several_parameters_and_missing_gradients():
    a, b, unused = leaf(np.zeros((2, 2)), "float64"), leaf(np.zeros(3), "float64"), leaf(np.ones(2), "float64")
    z = leaf(np.zeros(2), "complex128")
    optimizer = optim.LBFGS([a, b, unused, z], line_search_fn="strong_wolfe", max_iter=50)

    def closure():
        optimizer.zero_grad()
        a.grad = tapegrad.tensor(2 * (a.array - 1))
        b.grad = tapegrad.tensor(2 * (b.array + 2))
        z.grad = tapegrad.tensor(2 * (z.array - (3 + 4j)))
        parts = (a.array - 1, b.array + 2, z.array - (3 + 4j))
        return sum(float((abs(part) ** 2).sum()) for part in parts)

    assert optimizer.step(closure) == pytest.approx(4 + 12 + 50)
    for p, value in ((a, 1), (b, -2), (z, 3 + 4j), (unused, 1)):
        np.testing.assert_allclose(p.array, np.full(p.shape, value), atol=1e-6)


def test_lbfgs_unknown_line_search():
    p = leaf([1.0])
    p.grad = tapegrad.tensor([1.0])
    with pytest.raises(RuntimeError, match="only 'strong_wolfe' is supported"):
        optim.LBFGS([p], line_search_fn="armijo").step(lambda: 1.0)
