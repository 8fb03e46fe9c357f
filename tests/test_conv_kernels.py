"""The NumPy backend's convolution, computed every way and over blocks of every size, against a walk over the places."""

from __future__ import annotations

import numpy as np
import pytest
from records.conv import conv, conv_input, conv_weight, geometry, out_shape
from tapegrad.backends import threads
from tapegrad.backends.numpy import blas, conv_columns, conv_kernels, conv_rows, conv_winograd

# (x, w, keywords): widths and counts that leave a block half full, taps that see only zeros, steps beyond the kernel
CASES = [
    ((5, 4, 9), (6, 2, 3), geometry((2,), (4,), (1,), 2)),
    ((5, 2, 6, 7), (3, 2, 3, 3), geometry((1, 1), (1, 1), (1, 1))),
    ((7, 4, 9, 8), (6, 2, 3, 5), geometry((1, 1), (0, 2), (1, 1), 2)),
    ((5, 4, 6, 9), (6, 2, 3, 4), geometry((1, 1), (1, 0), (1, 1), 2)),
    ((3, 2, 11, 7), (4, 2, 5, 3), geometry((3, 1), (2, 1), (1, 1))),
    ((3, 6, 5, 5), (6, 1, 3, 3), geometry((1, 1), (1, 1), (1, 1), 6)),
    ((4, 3, 11, 10), (5, 3, 4, 7), geometry((2, 3), (2, 5), (1, 1))),
    ((4, 3, 11, 10), (5, 3, 2, 1), geometry((3, 4), (0, 0), (1, 1))),
    ((3, 2, 4, 4), (3, 2, 3, 3), geometry((1, 1), (5, 6), (1, 1))),
    ((3, 4, 6, 6), (4, 2, 1, 1), geometry((1, 1), (0, 0), (1, 1), 2)),
    ((3, 4, 6, 6), (4, 4, 1, 1), geometry((2, 2), (0, 0), (1, 1))),
    ((3, 2, 9, 9), (4, 2, 3, 1), geometry((1, 2), (2, 0), (1, 3))),
    ((3, 2, 9, 9), (4, 2, 3, 2), geometry((2, 1), (2, 1), (2, 3))),
    ((3, 2, 9, 9), (4, 2, 3, 3), geometry((1, 1), (2, 2), (2, 2))),
    ((3, 2, 5, 4, 6), (4, 2, 2, 3, 2), geometry((1, 2, 1), (1, 1, 0), (1, 1, 2))),
]


def by_rows_always(inputs, outputs, kernel, high, size, stride, dilation):
    return len(kernel) == 2 and dilation == (1, 1)


@pytest.fixture(params=["one block", "small blocks", "images interleaved", "whole columns", "two threads"])
def way(request, monkeypatch):
    """How the work is cut up."""
    monkeypatch.setattr(conv_rows, "pays", (lambda *_: False) if request.param == "whole columns" else by_rows_always)
    monkeypatch.setattr(conv_kernels, "FEW", 0)
    monkeypatch.setattr(conv_kernels, "THIN", 0)
    monkeypatch.setattr(conv_winograd, "CHANNELS", 0 if request.param == "two threads" else 1 << 20)
    if request.param in ("small blocks", "images interleaved"):
        for module, name in ((conv_kernels, "BLOCK"), (conv_columns, "BLOCK"), (conv_rows, "BLOCK")):
            monkeypatch.setattr(module, name, 600)
        monkeypatch.setattr(conv_columns, "PLACES", 2)
        monkeypatch.setattr(conv_columns, "FEW", 1 if request.param == "images interleaved" else 1 << 20)
    elif request.param == "two threads":
        if not blas.controlled():
            pytest.skip("the threads of this BLAS cannot be set")
        monkeypatch.setattr(conv_kernels, "SHARED", 0)
        monkeypatch.setattr(conv_columns, "LONG", 0)
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


# (x, w, padding) for Winograd's way: heights of every remainder by 4, widths of the kernel, paddings beyond the kernel
TILED = [
    ((3, 4, 9, 6), (5, 4, 3, 3), (1, 1)),
    ((5, 3, 8, 5), (4, 3, 3, 1), (1, 0)),
    ((2, 5, 7, 9), (3, 5, 3, 4), (0, 2)),
    ((1, 2, 3, 3), (2, 2, 3, 3), (0, 0)),
    ((4, 2, 2, 4), (3, 2, 3, 3), (4, 5)),
    ((7, 2, 14, 4), (2, 2, 3, 3), (2, 0)),
]


@pytest.mark.parametrize("case", TILED, ids=str)
@pytest.mark.parametrize("dtype, tolerance", [("f8", 1e-14), ("f4", 5e-6)])
def test_tiles(case, dtype, tolerance, way, monkeypatch):
    """Half the products, the same sums: to within `tolerance` of the largest."""
    monkeypatch.setattr(conv_winograd, "CHANNELS", 0)
    if way == "small blocks":
        monkeypatch.setattr(conv_winograd, "BLOCK", 3000)
    shape, kernel, padding = case
    kw = geometry((1, 1), padding, (1, 1))
    used = []
    for name in ("by_tiles", "weight_by_tiles"):
        function = getattr(conv_kernels, name)
        monkeypatch.setattr(conv_kernels, name, lambda *a, function=function: used.append(function(*a)) or used[-1])
    rng = np.random.default_rng(0)
    x, w, b = (rng.standard_normal(s).astype(dtype) for s in (shape, kernel, kernel[:1]))
    g = rng.standard_normal(out_shape(shape, kernel, kw)).astype(dtype)

    def near(found, exact):
        assert found.dtype == dtype
        assert np.abs(found - exact).max() <= tolerance * np.abs(exact).max()

    near(conv_kernels.conv(x, w, b, **kw), conv(x, w, b, **kw))
    near(conv_kernels.conv_input(g, w, shape=shape, **kw), conv_input(g, w, shape=shape, **kw))
    near(conv_kernels.conv_weight(x, g, shape=kernel, **kw), conv_weight(x, g, shape=kernel, **kw))
    assert len(used) >= 2 and all(used)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan])
def test_what_is_not_finite_stays_in_its_place(value, monkeypatch):
    monkeypatch.setattr(conv_winograd, "CHANNELS", 0)
    rng = np.random.default_rng(0)
    kw = geometry((1, 1), (1, 1), (1, 1))
    x, w, g = (rng.standard_normal(s) for s in ((2, 3, 9, 9), (4, 3, 3, 3), (2, 4, 9, 9)))
    x[1, 2, 4, 5] = g[0, 1, 7, 2] = value
    np.testing.assert_allclose(conv_kernels.conv(x, w, **kw), conv(x, w, **kw), rtol=1e-12, atol=1e-12)
    back = conv_kernels.conv_input(g, w, shape=x.shape, **kw)
    np.testing.assert_allclose(back, conv_input(g, w, shape=x.shape, **kw), rtol=1e-12, atol=1e-12)
    weight = conv_kernels.conv_weight(x, g, shape=w.shape, **kw)
    np.testing.assert_allclose(weight, conv_weight(x, g, shape=w.shape, **kw), rtol=1e-12, atol=1e-12)


def test_error_at_many_channels():
    """Of the largest value, as stated: below 1e-5 in float32 at the widest layers of a residual network."""
    rng = np.random.default_rng(0)
    kw = geometry((1, 1), (1, 1), (1, 1))
    x, g = rng.standard_normal((2, 1, 256, 14, 14), dtype="f4")
    w = rng.standard_normal((256, 256, 3, 3), dtype="f4") / 48
    for op, arrays, more in (
        (conv_kernels.conv, (x, w), {}),
        (conv_kernels.conv_input, (g, w), {"shape": x.shape}),
        (conv_kernels.conv_weight, (x, g), {"shape": w.shape}),
    ):
        exact = op(*(a.astype("f8") for a in arrays), **kw, **more)
        assert np.abs(op(*arrays, **kw, **more) - exact).max() < 1e-5 * np.abs(exact).max()
