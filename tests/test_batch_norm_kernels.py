"""The NumPy backend's batch normalisation: blocks, threads, and means far from zero, against plain sums in float64."""

from __future__ import annotations

import numpy as np
import pytest
from tapegrad.backends import threads
from tapegrad.backends.numpy import batch_norm_kernels as kernels

EPS = 1e-5


def reference(x, w, b, g):
    """(out, mean, var, gx, gw, gb) in float64."""
    x, w, b, g = (a.astype("f8") for a in (x, w, b, g))
    axes, spread = (0, *range(2, x.ndim)), (1, -1, *(1,) * (x.ndim - 2))
    mean, var = x.mean(axes), x.var(axes)
    scale = 1 / np.sqrt(var + EPS)
    unit = (x - mean.reshape(spread)) * scale.reshape(spread)
    total, slope = g.sum(axes), (g * unit).sum(axes)
    count = x.size // x.shape[1]
    gx = (w * scale).reshape(spread) * (g - (total.reshape(spread) + unit * slope.reshape(spread)) / count)
    return unit * w.reshape(spread) + b.reshape(spread), mean, var, gx, slope, total


@pytest.fixture(params=["one block", "small blocks", "two threads"])
def way(request, monkeypatch):
    """How the work is cut up."""
    if request.param == "small blocks":
        monkeypatch.setattr(kernels, "BLOCK", 300)
        monkeypatch.setattr(kernels, "SPAN", 100)
    elif request.param == "two threads":
        monkeypatch.setattr(threads, "worth", lambda *args: True)
        before = threads.count()
        threads.set_count(2)
        request.addfinalizer(lambda: threads.set_count(before))


@pytest.mark.parametrize("level", [0.0, 1e4])
@pytest.mark.parametrize("shape", [(3, 5, 8, 8), (64, 7), (2, 3, 100), (1, 4, 9, 9), (9, 1, 8)], ids=str)
def test_values(shape, level, way):
    """At a mean of 10,000 deviations float32 has 3 digits of x - mean left; what is there is not lost."""
    rng = np.random.default_rng(0)
    x = (rng.standard_normal(shape) + level * np.arange(shape[1]).reshape(-1, *[1] * (len(shape) - 2))).astype("f4")
    w, b = rng.standard_normal((2, shape[1])).astype("f4")
    g = rng.standard_normal(shape).astype("f4")
    out, mean, var, centre, rstd = kernels.batch_norm(x, w, b, eps=EPS)
    found = (out, mean, var, *kernels.batch_norm_backward(g, x, w, centre, rstd, needs=(True,) * 3, eps=EPS))
    for name, value, exact in zip("out mean var gx gw gb".split(), found, reference(x, w, b, g), strict=True):
        near = 1e-2 if level and name != "mean" else 1e-5
        assert np.abs(value - exact).max() <= near * max(1, np.abs(exact).max()), name


def test_constant_channels_have_no_variance():
    x = np.full((8, 3, 4, 4), 0.1, "f4")
    out, _, var, _, rstd = kernels.batch_norm(x, eps=EPS)
    assert var.max() < 1e-12 and np.abs(out).max() < 1e-4 and np.allclose(rstd, EPS**-0.5)


def test_gradients_that_are_not_needed():
    rng = np.random.default_rng(0)
    x, g = rng.standard_normal((2, 4, 3, 5, 5))
    _, _, _, centre, rstd = kernels.batch_norm(x, eps=EPS)
    assert kernels.batch_norm_backward(g, x, None, centre, rstd, needs=(False,) * 3, eps=EPS) == (None, None, None)


def test_what_is_returned_owns_its_memory():
    """A view would be copied when the tape keeps it as a gradient."""
    rng = np.random.default_rng(0)
    x, g = rng.standard_normal((2, 4, 3, 5, 5))
    found = kernels.batch_norm(x, eps=EPS)
    assert all(a.base is None for a in found)
    back = kernels.batch_norm_backward(g, x, None, found[3], found[4], needs=(True,) * 3, eps=EPS)
    assert all(a.base is None for a in back)
