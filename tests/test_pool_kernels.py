"""The NumPy backend's pooling, over blocks of planes and in two threads, against a walk over the windows."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from tapegrad.backends import threads
from tapegrad.backends.numpy import pool_kernels as kernels

# (x, kernel, stride, padding): tiles; gaps; overlaps; borders; one window; one and three dimensions
CASES = [
    ((3, 4, 6, 8), (2, 2), (2, 2), (0, 0)),
    ((3, 2, 6, 9), (2, 3), (2, 3), (0, 0)),
    ((2, 3, 7, 7), (2, 2), (2, 2), (0, 0)),
    ((2, 3, 7, 8), (2, 2), (3, 3), (0, 0)),
    ((2, 3, 7, 8), (3, 3), (2, 2), (1, 1)),
    ((2, 3, 5, 6), (5, 6), (1, 1), (0, 0)),
    ((2, 3, 5, 6), (5, 6), (5, 6), (0, 0)),
    ((5, 12), (4,), (4,), (0,)),
    ((5, 12), (4,), (1,), (2,)),
    ((2, 4, 6, 2), (2, 3, 1), (2, 3, 1), (0, 0, 0)),
]


@pytest.fixture(params=["one block", "small blocks", "two threads"])
def way(request, monkeypatch):
    """How the work is cut up."""
    if request.param == "small blocks":
        monkeypatch.setattr(kernels, "BLOCK", 100)
    elif request.param == "two threads":
        monkeypatch.setattr(kernels, "GRAIN", 0)
        before = threads.count()
        threads.set_count(2)
        request.addfinalizer(lambda: threads.set_count(before))


def seen(x, kernel, stride, padding):
    """(window, the places of x that it covers) for each window; size."""
    rank = len(kernel)
    extents = x.shape[x.ndim - rank :]
    size = tuple((n + 2 * p - k) // s + 1 for n, k, s, p in zip(extents, kernel, stride, padding, strict=True))
    found = []
    for window in product(*map(range, size)):
        starts = [t * s - p for t, s, p in zip(window, stride, padding, strict=True)]
        found.append(
            (
                (..., *window),
                (..., *[slice(max(a, 0), min(a + k, n)) for a, k, n in zip(starts, kernel, extents, strict=True)]),
            )
        )
    return size, found


@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_maxima(case, dtype, way):
    """Of equal values the first; of windows with a nan the last nan."""
    shape, kernel, stride, padding = case
    rng = np.random.default_rng(0)
    x = rng.integers(0, 4, shape).astype(dtype)
    x.reshape(-1)[rng.integers(0, x.size, 3)] = np.nan
    size, windows = seen(x, kernel, stride, padding)
    out, gx = np.empty((*shape[: -len(kernel)], *size), dtype), np.zeros(shape, dtype)
    g = rng.standard_normal(out.shape).astype(dtype)
    for plane in np.ndindex(out.shape[: -len(kernel)]):
        for window, places in windows:
            values, into = x[plane][places].reshape(-1), gx[plane][places]
            nans = np.flatnonzero(np.isnan(values))
            at = nans[-1] if len(nans) else values.argmax()
            out[plane][window] = values[at]
            into[np.unravel_index(at, into.shape)] += g[plane][window]
    kw = {"kernel": kernel, "stride": stride, "padding": padding, "dilation": (1,) * len(kernel), "size": size}
    np.testing.assert_array_equal(kernels.max_pool(x, **kw), out)
    np.testing.assert_allclose(kernels.max_pool_backward(g, x, out, **kw), gx, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize("divisor", ["all", "inside", 3])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_means(case, divisor, dtype, way):
    shape, kernel, stride, padding = case
    rng = np.random.default_rng(0)
    x = rng.standard_normal(shape).astype(dtype)
    size, windows = seen(x, kernel, stride, padding)
    out, gx = np.empty((*shape[: -len(kernel)], *size), dtype), np.zeros(shape, dtype)
    g = rng.standard_normal(out.shape).astype(dtype)
    number = divisor if divisor == 3 else np.prod(kernel)
    for window, places in windows:
        out[window] = x[places].reshape(*out.shape[: -len(kernel)], -1).sum(-1) / number
        gx[places] += (g[window] / number).reshape(*out.shape[: -len(kernel)], *[1] * len(kernel))
    kw = {"kernel": kernel, "stride": stride, "padding": padding, "size": size, "divisor": divisor}
    found = kernels.avg_pool(x, **kw)
    if any(padding) and divisor != 3:
        assert found is NotImplemented
    else:
        np.testing.assert_allclose(found, out, rtol=1e-5, atol=1e-6)
    back = kernels.avg_pool_input(g, shape=shape, **kw)
    geometry = zip(shape[-len(kernel) :], kernel, stride, size, strict=True)
    if not any(padding) and all(k * t == n and (k == s or t == 1) for n, k, s, t in geometry):
        np.testing.assert_allclose(back, gx, rtol=1e-5, atol=1e-6)
    else:
        assert back is NotImplemented
