"""The NumPy backend's convolution, computed every way and over blocks of every size, against a walk over the places."""

from __future__ import annotations

import numpy as np
import pytest
from records.conv import conv, conv_input, conv_weight, geometry, out_shape
from tapegrad.backends import threads
from tapegrad.backends.numpy import blas, conv_columns, conv_kernels, conv_rows

# (x, w, keywords): widths and counts that leave a block half full, taps that see only zeros, steps beyond the kernel
CASES = [
    ((5, 4, 9), (6, 2, 3), geometry((2,), (4,), (1,), 2)),
    ((5, 2, 6, 7), (3, 2, 3, 3), geometry((1, 1), (1, 1), (1, 1))),
    ((7, 4, 9, 8), (6, 2, 3, 5), geometry((1, 1), (0, 2), (1, 1), 2)),
    ((3, 6, 5, 5), (6, 1, 3, 3), geometry((1, 1), (1, 1), (1, 1), 6)),
    ((4, 3, 11, 10), (5, 3, 4, 7), geometry((2, 3), (2, 5), (1, 1))),
    ((4, 3, 11, 10), (5, 3, 2, 1), geometry((3, 4), (0, 0), (1, 1))),
    ((3, 2, 4, 4), (3, 2, 3, 3), geometry((1, 1), (5, 6), (1, 1))),
    ((3, 4, 6, 6), (4, 2, 1, 1), geometry((1, 1), (0, 0), (1, 1), 2)),
    ((3, 4, 6, 6), (4, 4, 1, 1), geometry((2, 2), (0, 0), (1, 1))),
    ((3, 2, 9, 9), (4, 2, 3, 1), geometry((1, 2), (2, 0), (1, 3))),
    ((3, 2, 9, 9), (4, 2, 3, 2), geometry((2, 1), (2, 1), (2, 3))),
    ((3, 2, 5, 4, 6), (4, 2, 2, 3, 2), geometry((1, 2, 1), (1, 1, 0), (1, 1, 2))),
]


@pytest.fixture(params=["one block", "small blocks", "images interleaved", "two threads"])
def way(request, monkeypatch):
    """How the work is cut up."""
    if request.param in ("small blocks", "images interleaved"):
        for module, name in ((conv_kernels, "BLOCK"), (conv_columns, "BLOCK"), (conv_rows, "BLOCK")):
            monkeypatch.setattr(module, name, 600)
        monkeypatch.setattr(conv_rows, "ENOUGH", 8)
        monkeypatch.setattr(conv_columns, "PLACES", 2)
        monkeypatch.setattr(conv_columns, "FEW", 1 if request.param == "images interleaved" else 1 << 20)
    elif request.param == "two threads":
        if not blas.controlled():
            pytest.skip("the threads of this BLAS cannot be set")
        monkeypatch.setattr(conv_kernels, "SHARED", 0)
        before = threads.count()
        threads.set_count(2)
        request.addfinalizer(lambda: threads.set_count(before))
    return request.param


@pytest.mark.parametrize("case", CASES, ids=str)
def test_every_geometry(case, way):
    shape, kernel, kw = case
    rng = np.random.default_rng(0)
    x, w, b = rng.standard_normal(shape), rng.standard_normal(kernel), rng.standard_normal(kernel[0])
    g, bx = rng.standard_normal(out_shape(shape, kernel, kw)), rng.standard_normal(shape[1])
    close = {"rtol": 1e-12, "atol": 1e-12}
    np.testing.assert_allclose(conv_kernels.conv(x, w, b, **kw), conv(x, w, b, **kw), **close)
    np.testing.assert_allclose(conv_kernels.conv(x, w, **kw), conv(x, w, **kw), **close)
    back = conv_kernels.conv_input(g, w, bx, shape=shape, **kw)
    np.testing.assert_allclose(back, conv_input(g, w, bx, shape=shape, **kw), **close)
    np.testing.assert_allclose(
        conv_kernels.conv_weight(x, g, shape=kernel, **kw), conv_weight(x, g, shape=kernel, **kw), **close
    )


@pytest.mark.parametrize("case", CASES, ids=str)
def test_strides_of_the_arrays(case):
    """Reversed, transposed and broadcast arrays are read as they are."""
    shape, kernel, kw = case
    rng = np.random.default_rng(1)
    x = rng.standard_normal(shape[::-1]).T[..., ::-1]
    w = np.broadcast_to(rng.standard_normal(kernel[1:]), kernel)
    values = rng.standard_normal(kernel[0]).reshape(-1, *[1] * (len(kernel) - 2))
    g = np.broadcast_to(values, out_shape(shape, kernel, kw))
    close = {"rtol": 1e-12, "atol": 1e-12}
    np.testing.assert_allclose(conv_kernels.conv(x, w, **kw), conv(x, w, **kw), **close)
    back = conv_kernels.conv_input(g, w, shape=shape, **kw)
    np.testing.assert_allclose(back, conv_input(g, w, shape=shape, **kw), **close)
    np.testing.assert_allclose(
        conv_kernels.conv_weight(x, g, shape=kernel, **kw), conv_weight(x, g, shape=kernel, **kw), **close
    )
