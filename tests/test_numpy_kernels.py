"""The NumPy backend's kernels on arrays large enough for blocks and threads, against float64 arithmetic of the test."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from scipy import special
from tapegrad.backends import threads
from tapegrad.backends.numpy import attention_kernels, blas
from tapegrad.backends.numpy.kernels import KERNELS as K

RNG = np.random.default_rng


@pytest.fixture(params=[1, 3], autouse=True)
def workers(request: Any) -> Iterator[int]:
    before = threads.count()
    threads.set_count(request.param)
    blas.set_threads(1)  # for the products of the tests themselves: on few cores its threads wait for each other
    yield request.param
    threads.set_count(before)


def normal(*shape: int, dtype: str = "f4", seed: int = 0) -> Any:
    return RNG(seed).standard_normal(shape).astype(dtype)


def close(found: Any, wanted: Any, rtol: float = 2e-6, least: float = 1e-30) -> None:
    """Equal to within rtol of the largest finite value or `least`, nan and infinities in the same places."""
    wanted = np.asarray(wanted)
    size = np.abs(np.where(np.isfinite(wanted), wanted, 0)).max(initial=0)
    np.testing.assert_allclose(found, wanted, rtol=rtol, atol=rtol * max(size, least))


# ---- pointwise

SIZES = (5000, (1 << 17) + 77)
EXTREMES = [0.0, -0.0, math.inf, -math.inf, math.nan, 1e-40, -1e-40, 88.0, -88.0, 1e30, -1e30]


@pytest.mark.parametrize("name", ["exp", "exp2", "expm1", "log", "log2", "log10", "log1p", "sin", "cos", "tan", "tanh"])
@pytest.mark.parametrize("dtype", ["f4", "f8", "f2"])
def test_functions_in_threads(name: str, dtype: str) -> None:
    x = normal(*[1 << 17], dtype=dtype).reshape(256, -1)
    with np.errstate(all="ignore"):
        for a in (x, x.T, x[:, ::2], x[0, 0]):
            found = K[name](a)
            assert found.dtype == a.dtype
            np.testing.assert_array_almost_equal_nulp(*np.nan_to_num([found, getattr(np, name)(a)]), nulp=4)


WIDE = {
    "sigmoid": special.expit,
    "silu": lambda x: x * special.expit(x),
    "softplus": lambda x: np.where(x > 20, x, np.logaddexp(0, x)),
    "logsigmoid": lambda x: -np.logaddexp(0, -x),
    "gelu": lambda x: x * special.ndtr(x),
    "relu": lambda x: np.maximum(x, 0),
}
SLOPES = {
    "silu_backward": lambda x: special.expit(x) * (1 + x * (1 - special.expit(x))),
    "gelu_backward": lambda x: special.ndtr(x) + x * np.exp(-x * x / 2) / math.sqrt(2 * math.pi),
    "softplus_backward": lambda x: np.where(x > 20, 1, special.expit(x)),
}
OPTIONS = {"softplus_backward": {"beta": 1.0, "threshold": 20.0}, "gelu_backward": {"approximate": "none"}}


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", WIDE)
def test_activations(name: str, size: int) -> None:
    x = normal(size) * 6
    with np.errstate(all="ignore"):
        close(K[name](x), WIDE[name](x.astype("f8")))
        close(K[name](x.reshape(1, -1, 1)[:, ::2]), WIDE[name](x[::2].astype("f8")).reshape(1, -1, 1))
        x[: len(EXTREMES)] = EXTREMES
        found, wanted = K[name](x)[: len(EXTREMES)], WIDE[name](x[: len(EXTREMES)].astype("f8"))
        finite = ~np.isinf(x[: len(EXTREMES)])  # at infinity some formulas are 0 * inf
        np.testing.assert_allclose(found[finite], wanted[finite], rtol=1e-5, atol=1e-31)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", SLOPES)
def test_slopes(name: str, size: int) -> None:
    x, g = normal(size) * 4, normal(size, seed=1)
    close(K[name](g, x, **OPTIONS.get(name, {})), g * SLOPES[name](x.astype("f8")))


def test_slopes_of_results() -> None:
    y, g = np.tanh(normal(1 << 17)), normal(1 << 17, seed=1)
    close(K["tanh_backward"](g, y), g * (1 - y.astype("f8") ** 2))
    close(K["sigmoid_backward"](g, abs(y)), g * abs(y) * (1 - abs(y.astype("f8"))))
    kept = np.where(y < 0, 0, g)
    np.testing.assert_array_equal(K["relu_backward"](g, np.maximum(y, 0)), kept)
    np.testing.assert_array_equal(K["clamp"](y, min=-0.5, max=0.5), np.clip(y, -0.5, 0.5))


@pytest.mark.parametrize("reduction", ["none", "mean", "sum"])
def test_loss_of_two_classes(reduction: str) -> None:
    x, t = normal(300, 500) * 20, RNG(1).random((300, 500)).astype("f4")
    wide = np.maximum(x, 0).astype("f8") - x.astype("f8") * t + np.log1p(np.exp(-abs(x.astype("f8"))))
    wanted = {"none": wide, "mean": wide.mean(), "sum": wide.sum()}[reduction]
    name = "binary_cross_entropy_with_logits"
    found = K[name](x, t, reduction=reduction)
    assert found.dtype == x.dtype and found.shape == wanted.shape
    close(found, wanted)
    if reduction == "none":
        assert K[name + "_backward"](x, x, t, None, None, reduction=reduction) is NotImplemented
        return
    share = 3 / x.size if reduction == "mean" else 3
    slope = K[name + "_backward"](np.array(3, "f4"), x, t, None, None, reduction=reduction)
    close(slope, (special.expit(x.astype("f8")) - t) * share)
    assert K[name](x, t, x, reduction=reduction) is NotImplemented


# ---- rows

SHAPES = [((4096, 40), 1), ((300, 700), 1), ((3, 70_000), 1), ((20, 30, 50), 1), ((2, 300, 400), 1), ((500, 300), 0)]


@pytest.mark.parametrize(("shape", "axis"), SHAPES)
@pytest.mark.parametrize("offset", [0.0, 50.0, -200.0, 3000.0])
def test_softmax(shape: tuple[int, ...], axis: int, offset: float) -> None:
    x, g = normal(*shape) + np.float32(offset), normal(*shape, seed=1)
    wide, tall = x.astype("f8"), g.astype("f8")
    p = special.softmax(wide, axis=axis)
    close(K["softmax"](x, axis=axis), p)
    close(K["log_softmax"](x, axis=axis), special.log_softmax(wide, axis=axis))
    close(K["softmax_backward"](g, p.astype("f4"), axis=axis), p * (tall - (tall * p).sum(axis, keepdims=True)), 5e-6)
    logs = np.log(p).astype("f4")
    close(K["log_softmax_backward"](g, logs, axis=axis), tall - p * tall.sum(axis, keepdims=True), 5e-6)


def test_softmax_of_infinities() -> None:
    x = normal(300, 700)
    x[0, :5], x[1, 2], x[2], x[3, 3] = -math.inf, math.inf, -math.inf, math.nan
    with np.errstate(all="ignore"):
        found, logs = K["softmax"](x, axis=1), K["log_softmax"](x, axis=1)
        sums = K["logsumexp"](x, axis=(1,), keepdims=False)
    assert np.isnan(found[1:4]).all() and np.isnan(logs[1:4]).all()
    close(found[[0, 4]], special.softmax(x[[0, 4]].astype("f8"), axis=1))
    assert sums[1] == math.inf and sums[2] == -math.inf and math.isnan(sums[3])
    close(sums[[0, 4]], special.logsumexp(x[[0, 4]].astype("f8"), axis=1))


@pytest.mark.parametrize("classes", [65, 3000])
@pytest.mark.parametrize("offset", [0.0, 100.0])
def test_cross_entropy(classes: int, offset: float) -> None:
    x, target = normal(200, classes) * 3 + np.float32(offset), RNG(1).integers(0, classes, 200)
    target[7] = -100
    x[3, target[3]] += 12  # a loss near 0
    logs = special.log_softmax(x.astype("f8"), axis=1)
    wanted = np.where(target < 0, 0, -logs[np.arange(200), np.maximum(target, 0)])
    loss, top, total = K["softmax_cross_entropy"](x, target)
    np.testing.assert_allclose(loss, wanted, rtol=1e-5, atol=3e-7 + offset * 1e-7)
    mean, *_, count = K["cross_entropy"](x, target, ignore_index=-100, reduction="mean")
    assert count == 199
    close(mean, wanted.sum() / 199)
    g = normal(200, seed=2)
    slope = np.exp(logs)
    slope[np.arange(200), np.maximum(target, 0)] -= 1
    slope[7] = 0
    found = K["softmax_cross_entropy_backward"](g, x, target, top, total, ignore_index=-100)
    close(found, slope * g[:, None], 2e-5 if offset else 2e-6)
    with pytest.raises(IndexError, match="out of bounds"):
        K["softmax_cross_entropy"](x, np.full(200, classes))


@pytest.mark.parametrize("shape", [(700, 384), (3, 90_000), (40, 8, 16, 16)])
@pytest.mark.parametrize("affine", [True, False])
def test_layer_norm(shape: tuple[int, ...], affine: bool) -> None:
    n = len(shape) - 1
    x, g = normal(*shape) * 3 + 1, normal(*shape, seed=1)
    w, b = (normal(*shape[1:], seed=s) if affine else None for s in (2, 3))
    axes, wide = tuple(range(1, n + 1)), x.astype("f8")
    mean, rstd = wide.mean(axes, keepdims=True), 1 / np.sqrt(wide.var(axes, keepdims=True) + 1e-5)
    unit = (wide - mean) * rstd
    out, *saved = K["layer_norm"](x, w, b, n_axes=n, eps=1e-5)
    close(out, unit if w is None else unit * w + b)
    close(saved[0], mean, 1e-5)
    close(saved[1], rstd)
    needs = (True, affine, affine)
    gx, gw, gb = K["layer_norm_backward"](g, x, w, *saved, needs=needs, n_axes=n, eps=1e-5)
    h = g if w is None else g * w.astype("f8")
    close(gx, rstd * (h - h.mean(axes, keepdims=True) - unit * (h * unit).mean(axes, keepdims=True)), 1e-5)
    if affine:
        close(gw, (g * unit).sum(0), 1e-5)
        close(gb, g.astype("f8").sum(0), 1e-5)
        again = K["layer_norm_backward"](g, x, w, *saved, needs=needs, n_axes=n, eps=1e-5)
        np.testing.assert_array_equal(again[1], gw)  # whichever thread was faster


@pytest.mark.parametrize("affine", [True, False])
def test_rms_norm(affine: bool) -> None:
    x, g, w = normal(700, 384), normal(700, 384, seed=1), normal(384, seed=2) if affine else None
    wide = x.astype("f8")
    rstd = 1 / np.sqrt((wide**2).mean(1, keepdims=True) + 1e-5)
    out, saved = K["rms_norm"](x, w, n_axes=1, eps=1e-5)
    close(out, wide * rstd if w is None else wide * rstd * w)
    gx, gw = K["rms_norm_backward"](g, x, w, saved, needs=(True, affine), n_axes=1, eps=1e-5)
    h = g if w is None else g * w.astype("f8")
    close(gx, rstd * (h - wide * rstd * (h * wide * rstd).mean(1, keepdims=True)), 1e-5)
    if affine:
        close(gw, (g * wide * rstd).sum(0), 1e-5)


# ---- tables, copies


@pytest.mark.parametrize("rows", [3, 50, 5000])
@pytest.mark.parametrize("padding", [-1, 2])
def test_embedding_backward(rows: int, padding: int) -> None:
    g, index = normal(40, 50, 64), RNG(1).integers(0, rows, (40, 50)).astype("i4")
    index[0] = 2  # one place with many
    wanted = np.zeros((rows, 64))
    np.add.at(wanted, index.reshape(-1), g.reshape(-1, 64))
    if padding >= 0:
        wanted[padding] = 0
    close(K["embedding_backward"](g, index, rows=rows, padding=padding), wanted, 1e-5)
    assert K["embedding_backward"](g, index - rows, rows=rows, padding=padding) is NotImplemented
    assert K["embedding_backward"](g[..., :4], index, rows=rows, padding=padding) is NotImplemented


def test_zeros_in_threads() -> None:
    g, index = normal(20, 64), np.arange(20)
    found = K["embedding_backward"](g, index, rows=1 << 15, padding=-1)
    np.testing.assert_array_equal(found[:20], g)
    assert not found[20:].any()


@pytest.mark.parametrize("dtype", ["f4", "f8", "c16", "i1", "?"])
def test_transposed_copies(dtype: str) -> None:
    x = (normal(300, 501) > 0).astype(dtype) * np.arange(501).astype(dtype)
    for a in (x.T, x[:, ::2].T, x[::-1].T, x, np.stack([x, x]).transpose(0, 2, 1), x.T[:, :1], x[:0].T):
        found = K["clone"](a)
        assert found.flags.c_contiguous and found.dtype == a.dtype and not np.shares_memory(found, a)
        np.testing.assert_array_equal(found, a)


# ---- attention

CASES = [
    ((2, 3), 256, 256, 16, 24), ((4, 2), 64, 64, 8, 8), ((5,), 100, 130, 16, 16), ((), 300, 70, 8, 8),
    ((1, 1), 700, 700, 4, 4), ((2, 2, 2), 7, 9, 4, 2), ((2, 3), 1, 256, 8, 8),
]  # fmt: skip


def reference(q: Any, k: Any, v: Any, g: Any, mask: Any, keep: Any, causal: bool, scale: float) -> list[Any]:
    """(out, gradients of q, k, v and the mask) in float64."""
    q, k, v, g = (x.astype("f8") for x in (q, k, v, g))
    s = q @ k.swapaxes(-1, -2) * scale
    if mask is not None:
        s = np.where(mask, s, -math.inf) if mask.dtype.kind == "b" else s + mask
    if causal:
        s = np.where(np.tri(*s.shape[-2:], dtype=bool), s, -math.inf)
    top = s.max(-1, keepdims=True)
    e = np.exp(s - np.where(top == -math.inf, 0, top))
    total = e.sum(-1, keepdims=True)
    p = e / np.where(total == 0, 1, total)
    kept = p if keep is None else p * keep
    d = g @ v.swapaxes(-1, -2)
    d = d if keep is None else d * keep
    d = p * (d - (d * p).sum(-1, keepdims=True))
    return [kept @ v, d @ k * scale, d.swapaxes(-1, -2) @ q * scale, kept.swapaxes(-1, -2) @ g, d]


def check(q: Any, k: Any, v: Any, mask: Any = None, keep: Any = None, causal: bool = False, scale: float = 0.3) -> None:
    g = normal(*q.shape[:-1], v.shape[-1], seed=9)
    wanted = reference(q, k, v, g, mask, keep, causal, scale)
    out, lse = K["attention"](q, k, v, mask, keep, causal=causal, scale=scale)
    needs = (True, True, True, mask is not None and mask.dtype.kind == "f")
    found = K["attention_backward"](g, q, k, v, mask, keep, out, lse, needs=needs, causal=causal, scale=scale)
    for a, b in zip((out, *found[:3]), wanted, strict=False):
        close(a, b, 1e-5, least=0.1)  # zeros where one key is seen
    if needs[3]:
        lead = tuple(range(wanted[4].ndim - mask.ndim))
        stretched = tuple(i for i, n in enumerate(mask.shape) if n == 1)
        gm = wanted[4].sum(lead).sum(stretched, keepdims=True)
        assert found[3].shape == mask.shape
        close(found[3], gm, 1e-5)


@pytest.mark.parametrize(("lead", "rows", "columns", "width", "values"), CASES)
@pytest.mark.parametrize("mask", [None, "causal", "bool", "float", "row", "dropped"])
def test_attention(
    lead: tuple[int, ...], rows: int, columns: int, width: int, values: int, mask: str | None
) -> None:
    q, k, v = normal(*lead, rows, width), normal(*lead, columns, width, seed=1), normal(*lead, columns, values, seed=2)
    hidden: Any = None
    if mask == "bool":
        hidden = RNG(3).random((rows, columns)) > 0.3
        hidden[rows // 2] = False  # a query that sees nothing
    elif mask == "float":
        hidden = normal(*lead, rows, columns, seed=3)
    elif mask == "row":
        hidden = normal(1, columns, seed=3)
    keep = (RNG(4).random((*lead, rows, columns)) > 0.4).astype("f4") / np.float32(0.6) if mask == "dropped" else None
    causal = mask in ("causal", "dropped")
    check(q, k, v, hidden, keep, causal)
    turned = [x.swapaxes(-1, -2).copy().swapaxes(-1, -2) for x in (q, k, v)]
    check(*turned, hidden, keep, causal)


def test_attention_of_distant_scores() -> None:
    q, k, v = normal(2, 2, 80, 4), normal(2, 2, 90, 4, seed=1), normal(2, 2, 90, 4, seed=2)
    for scale in (40.0, 1000.0):
        wanted = reference(q, k, v, v[:, :, :80], None, None, True, scale)
        out, lse = K["attention"](q, k, v, causal=True, scale=scale)
        close(out, wanted[0], scale * 1e-5)
        assert np.isfinite(lse).all()
    k[:, :, 50:] = math.nan  # hidden from the first queries
    out, _ = K["attention"](q, k, v, causal=True, scale=0.5)
    assert np.isfinite(out[:, :, :50]).all() and np.isnan(out[:, :, 50:]).all()


def test_attention_declines() -> None:
    x = normal(2, 3, 4)
    assert K["attention"](x.astype("f2"), x, x, causal=False, scale=1.0) is NotImplemented
    assert K["attention"](x[:0], x[:0], x[:0], causal=False, scale=1.0) is NotImplemented
    assert K["attention"](x, x[:1], x[:1], causal=False, scale=1.0) is NotImplemented
    out = K["attention_backward"](x, x, x, x, None, None, x, x, needs=(True,) * 4, causal=False, scale=1.0)
    assert out is NotImplemented  # weights of another kernel than this one's


def test_attention_joins_heads_without_a_copy() -> None:
    x = normal(2, 3, 50, 8)
    out, lse = K["attention"](x, x, x, causal=True, scale=0.3)
    assert out.swapaxes(1, 2).flags.c_contiguous and lse.shape == (2, 3, 50)
    assert attention_kernels.BLOCK >= 1 << 14
