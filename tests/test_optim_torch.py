"""Optimizers beside PyTorch's: the same trajectories, state, texts and errors."""

from __future__ import annotations

import inspect
import warnings

import numpy as np
import pytest
import tapegrad
from optim_cases import EACH, IDS, WITH_COMPLEX, WRONG_CALLS, WRONG_OPTIONS

torch = pytest.importorskip("torch")

SHAPES = [(3, 4), (5,), (), (2, 3, 2)]
EVERY = [name for name in tapegrad.optim.__all__ if name[0].isupper() and name != "Optimizer"]
CLASSES = [name for name in EVERY if name not in ("Muon", "SparseAdam")]  # those that take gradients of any shape
# float32: a few units in the last place, grown over 20 steps. The bound is relative to the largest element (of a state
# tensor, or of all parameters), since one that passes near zero keeps the absolute error it had.
BOUNDS = {"float32": 1e-6, "float64": 1e-12, "complex64": 1e-6, "complex128": 1e-12}


def both(array, dtype):
    """The array as a leaf of this package and as one of torch."""
    array = np.asarray(array).astype(dtype)
    return tapegrad.tensor(array).requires_grad_(), torch.tensor(array).requires_grad_()


def assert_close(ours, theirs, bound, what, scale=0.0):
    expected = theirs.detach().numpy()
    scale = max(scale, np.abs(expected).max(initial=0))
    assert ours.shape == tuple(theirs.shape) and str(ours.dtype) == str(theirs.dtype), what
    assert np.abs(ours.detach().array - expected).max(initial=0) <= bound * scale, what


def values(draw, shape, dtype):
    out = draw.standard_normal(shape)
    return out + 1j * draw.standard_normal(shape) if "complex" in dtype else out


def train(name, options, dtype, count=20, torch_options=None):
    """Twenty steps with the same gradients in both; returns pairs of parameters and the two optimizers."""
    draw = np.random.default_rng(0)
    pairs = [both(values(draw, shape, dtype), dtype) for shape in SHAPES]
    ours = getattr(tapegrad.optim, name)([p for p, _ in pairs], **options)
    theirs = getattr(torch.optim, name)([q for _, q in pairs], **(torch_options or options), foreach=False)
    for _ in range(count):
        for p, q in pairs:
            grad = (0.5 * values(draw, p.shape, dtype)).astype(dtype)
            p.grad, q.grad = tapegrad.tensor(np.asarray(grad)), torch.tensor(grad)
        ours.step()
        theirs.step()
    return pairs, ours, theirs


def compare(pairs, ours, theirs, bound):
    scale = max(float(q.detach().abs().max()) for _, q in pairs)
    for p, q in pairs:
        assert_close(p, q, bound, "parameter", scale)
        assert list(ours.state.get(p, {})) == list(theirs.state.get(q, {}))
        for key, value in theirs.state.get(q, {}).items():
            assert_close(ours.state[p][key], value, 4 * bound, key)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("name", "options"), EACH, ids=IDS)
def test_same_trajectory(name, options, dtype):
    compare(*train(name, options, dtype), BOUNDS[dtype])


@pytest.mark.parametrize("dtype", ["complex64", "complex128"])
@pytest.mark.parametrize(("name", "options"), WITH_COMPLEX)
def test_same_trajectory_complex(name, options, dtype):
    compare(*train(name, options, dtype), BOUNDS[dtype])


def infos():
    """torch's own database of optimizer options: (name, options in terms of torch)."""
    pytest.importorskip("expecttest", reason="torch's test databases import the package expecttest")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it warns of optional packages of its own
        from torch.testing._internal.common_optimizers import optim_db

    for info in optim_db:
        name = info.optim_cls.__name__
        if name in CLASSES and name != "LBFGS":
            for case in info.optim_inputs_func(device="cpu"):
                yield pytest.param(name, case.kwargs, id=f"{name}-{case.desc}")


@pytest.mark.parametrize(("name", "options"), list(infos()))
def test_replays_the_database_of_torch(name, options):
    def convert(value):
        return tapegrad.tensor(value.numpy()) if isinstance(value, torch.Tensor) else value

    ours = {key: convert(value) for key, value in options.items()}
    compare(*train(name, ours, "float64", torch_options=options), 1e-7 if "lr" in options else 1e-12)


@pytest.mark.parametrize("name", EVERY)
def test_same_signature_defaults_and_text(name):
    ours, theirs = (getattr(lib.optim, name) for lib in (tapegrad, torch))
    ours_parameters, theirs_parameters = (inspect.signature(c.__init__).parameters for c in (ours, theirs))
    assert [(p.name, p.kind, p.default) for p in ours_parameters.values()] == [
        (p.name, p.kind, p.default) for p in theirs_parameters.values()
    ]
    p, q = both([[1.0, 2.0]], "float32")
    ours, theirs = ours([p]), theirs([q])
    assert ours.defaults == theirs.defaults and list(ours.defaults) == list(theirs.defaults)
    assert list(ours.param_groups[0]) == list(theirs.param_groups[0])
    assert repr(ours) == repr(theirs)


@pytest.mark.parametrize("name", [n for n in CLASSES if n != "LBFGS"])
def test_state_dict_goes_over_to_torch_and_back(name):
    """Trained here, loaded by torch (tensors converted), trained there, and loaded here again."""

    def convert(state, make):
        if isinstance(state, dict):
            return {key: convert(value, make) for key, value in state.items()}
        if isinstance(state, list):
            return [convert(value, make) for value in state]
        return make(state) if hasattr(state, "dtype") else state

    pairs, ours, theirs = train(name, {"lr": 0.01}, "float64", count=4)
    theirs.load_state_dict(convert(ours.state_dict(), lambda t: torch.tensor(t.numpy())))
    fresh = getattr(tapegrad.optim, name)([p for p, _ in pairs], lr=0.5)
    fresh.load_state_dict(convert(theirs.state_dict(), lambda t: tapegrad.tensor(t.numpy())))
    assert fresh.param_groups[0]["lr"] == 0.01
    for p, q in pairs:
        q.data.copy_(torch.tensor(p.detach().numpy()))
        p.grad, q.grad = (lib.full(tuple(q.shape), 0.3, dtype=lib.float64) for lib in (tapegrad, torch))
    fresh.step()
    theirs.step()
    compare(pairs, fresh, theirs, 1e-12)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    "options",
    [
        {"lr": 0.02, "max_iter": 8},
        {"max_iter": 5, "line_search_fn": "strong_wolfe"},
        {"max_iter": 6, "line_search_fn": "strong_wolfe", "history_size": 2},
        {"lr": 0.3, "max_iter": 4, "max_eval": 3, "history_size": 3},
    ],
)
def test_lbfgs_same_trajectory(options, dtype):
    draw = np.random.default_rng(3)
    data = draw.standard_normal((20, 3)).astype(dtype)
    target = (0.8 * np.tanh(data @ [1.0, -0.5, 0.3] + 0.2) + 0.1 * draw.standard_normal(20)).astype(dtype)
    results = []
    for lib in (tapegrad, torch):
        w, b = (lib.tensor(np.zeros(s, dtype)).requires_grad_() for s in ((3,), ()))
        x, y = lib.tensor(data), lib.tensor(target)
        optimizer = lib.optim.LBFGS([w, b], **options)

        def closure(lib=lib, optimizer=optimizer, w=w, b=b, x=x, y=y):
            optimizer.zero_grad()
            error = lib.tanh((x * w).sum(1) + b) - y
            loss = (error * error).sum() + (error**4).sum()
            loss.backward()
            return loss

        losses = [optimizer.step(closure).item() for _ in range(3)]
        state = optimizer.state[w]
        results.append((losses, [w.tolist(), b.item()], state["func_evals"], state["n_iter"], list(state)))
    (losses, end, *counts), (their_losses, their_end, *their_counts) = results
    bound = 1e-3 if dtype == "float32" else 1e-9  # near the minimum the line search decides by the last bits
    np.testing.assert_allclose(losses, their_losses, rtol=bound)
    np.testing.assert_allclose([*end[0], end[1]], [*their_end[0], their_end[1]], rtol=bound, atol=bound)
    if dtype == "float64":
        assert counts[:2] == their_counts[:2] and set(counts[2]) == set(their_counts[2])


def raised(function, *args, **kwargs):
    with pytest.raises(Exception) as info:
        function(*args, **kwargs)
    return type(info.value), str(info.value)


@pytest.mark.parametrize(("name", "options", "text"), WRONG_OPTIONS)
def test_same_errors_for_options(name, options, text):
    p, q = both([1.0], "float32")
    ours, theirs = getattr(tapegrad.optim, name), getattr(torch.optim, name)
    assert raised(ours, [p], **options) == raised(theirs, [q], **options)


@pytest.mark.parametrize("case", WRONG_CALLS, ids=[text[:40] for _, _, text in WRONG_CALLS])
def test_same_errors_for_calls(case):
    p, q = both([1.0], "float32")
    assert raised(case[0], tapegrad, p) == raised(case[0], torch, q)
