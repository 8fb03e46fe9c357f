"""The CUDA kernels on the CPU where records do not reach: long and uneven rows, several blocks, memory that allows no
16-byte access, layouts, what is not finite, dropout, optimizers over many tensors, norms, indices out of bounds."""

from __future__ import annotations

import math
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import cuda_on_cpu as emulation
import numpy as np
import pytest
import tapegrad
from tapegrad.autograd.op import OPS, load_late, raw_namespace
from tapegrad.backends import registry
from tapegrad.backends.cupy import bounds, launch, optim_kernels, pointwise_kernels
from tapegrad.backends.cupy.dropout_kernels import counters
from tapegrad.backends.cupy.kernels import KERNELS
from tapegrad.optim.adagrad import adagrad_step
from tapegrad.optim.adam import adam_step
from tapegrad.optim.rmsprop import rmsprop_step
from tapegrad.optim.sgd import sgd_step

ml_dtypes = pytest.importorskip("ml_dtypes")
load_late()

pytestmark = pytest.mark.skipif(emulation.COMPILER is None, reason="no C++ compiler (g++, or CXX) is installed")

F4, F2, BF = np.dtype(np.float32), np.dtype(np.float16), np.dtype(ml_dtypes.bfloat16)
TOLERANCE = {F4: 2e-5, F2: 4e-3, BF: 3e-2}
GENERIC = registry.load("fake")


@pytest.fixture(scope="module")
def machine() -> emulation.CpuMachine:
    made = emulation.CpuMachine()
    launch.use(made)
    return made


@pytest.fixture(params=["ascending", "descending"])
def order(request: pytest.FixtureRequest, machine: Any) -> Iterator[str]:
    machine.descending = request.param == "descending"
    yield request.param
    machine.descending = False


def put(machine: Any, array: Any, dtype: Any = None, skew: int = 0) -> Any:
    """The array in guarded memory, `skew` bytes off a multiple of 16."""
    machine.xp.skew = skew
    made = machine.xp.empty(np.shape(array), dtype or array.dtype)
    machine.xp.skew = 0
    made[...] = array
    return made


def generic(name: str, *arrays: Any, **kw: Any) -> list[Any]:
    """The op's generic form in float64."""
    wide = [a if a is None or a.dtype.kind in "iub" else a.astype("f8") for a in arrays]
    wide = [a if a is None else GENERIC.asarray(np.array(a)) for a in wide]
    out = getattr(raw_namespace(type(GENERIC.asarray(np.zeros(1)))), name)(*wide, **kw)
    return [None if o is None else np.asarray(o) for o in (out if isinstance(out, tuple) else (out,))]


def same(found: Any, expected: list[Any], dtype: Any, what: Any = "", factor: float = 1.0) -> None:
    found = found if isinstance(found, tuple) else (found,)
    for f, e in zip(found, expected, strict=False):
        if e is not None:
            finite = np.abs(e[np.isfinite(e)])
            scale = max(1.0, float(finite.max(initial=0)))
            t = TOLERANCE[dtype] * factor
            np.testing.assert_allclose(np.asarray(f, "f8"), e, rtol=t, atol=t * scale, err_msg=str(what))


# ---- rows and columns ------------------------------------------------------------------------------------------------

# (rows, length): a warp per row with rest lanes and rest rows; one element; several warps, even and uneven
LENGTHS = [(1, 1), (5, 3), (6, 64), (3, 333), (2, 1024), (2, 2059), (1, 5000)]


@pytest.mark.parametrize("dtype", [F4, F2, BF], ids=str)
@pytest.mark.parametrize("shape", LENGTHS, ids=str)
def test_rows(shape: tuple[int, int], dtype: Any, machine: Any, order: str) -> None:
    rng = np.random.default_rng(0)
    x, g = (rng.standard_normal(shape).astype(dtype) for _ in range(2))
    w, b = (rng.standard_normal(shape[1:]).astype(dtype) for _ in range(2))
    for skew in (0, dtype.itemsize):
        xs, gs, ws, bs = (put(machine, a, skew=skew) for a in (x, g, w, b))
        for op in ("softmax", "log_softmax"):
            y = KERNELS[op](xs, axis=1)
            same(y, generic(op, x, axis=1), dtype, (op, skew))
            found = KERNELS[f"{op}_backward"](gs, y, axis=1)
            same(found, generic(f"{op}_backward", g, np.asarray(y), axis=1), dtype, (op, skew))
        out, mean, rstd = KERNELS["layer_norm"](xs, ws, bs, n_axes=1, eps=1e-5)
        if shape[1] > 1:  # of one element the result is rounding alone, magnified by 1 / sqrt(eps)
            same(out, generic("layer_norm", x, w, b, n_axes=1, eps=1e-5), dtype)
            kw = {"needs": (True, True, True), "n_axes": 1, "eps": 1e-5}
            found = KERNELS["layer_norm_backward"](gs, xs, ws, mean, rstd, **kw)
            same(found, generic("layer_norm_backward", g, x, w, None, None, **kw), dtype, "layer_norm_backward", 4)
        out, rstd = KERNELS["rms_norm"](xs, ws, n_axes=1, eps=1e-5)
        same(out, generic("rms_norm", x, w, n_axes=1, eps=1e-5), dtype)
        kw = {"needs": (True, True), "n_axes": 1, "eps": 1e-5}
        found = KERNELS["rms_norm_backward"](gs, xs, ws, rstd, **kw)
        same(found, generic("rms_norm_backward", g, x, w, None, **kw), dtype, "rms_norm_backward", 4)


def test_a_mean_far_from_zero(machine: Any) -> None:
    """The variance does not drown: values of 1000 with a spread of 1."""
    x = (1000 + np.random.default_rng(1).standard_normal((6, 4, 50))).astype("f4")
    w = np.ones(4, "f4")
    found = KERNELS["batch_norm"](put(machine, x), put(machine, w), None, eps=1e-5)
    same(found[:3], generic("batch_norm", x, w, None, eps=1e-5)[:3], F4, factor=20)  # x itself is rounded to 6e-5
    found = KERNELS["layer_norm"](put(machine, x), None, None, n_axes=1, eps=1e-5)
    same(found[0], generic("layer_norm", x, None, None, n_axes=1, eps=1e-5)[:1], F4, factor=20)


@pytest.mark.parametrize("dtype", [F4, BF], ids=str)
@pytest.mark.parametrize("shape", [(300, 5), (7, 3, 2, 16), (2, 70, 33), (64, 2, 40, 8)], ids=str)
def test_channels(shape: tuple[int, ...], dtype: Any, machine: Any, order: str) -> None:
    rng = np.random.default_rng(2)
    x, g = (rng.standard_normal(shape).astype(dtype) for _ in range(2))
    w, b = (rng.standard_normal(shape[1]).astype(dtype) for _ in range(2))
    xs, gs, ws, bs = (put(machine, a) for a in (x, g, w, b))
    out, mean, var, centre, rstd = KERNELS["batch_norm"](xs, ws, bs, eps=1e-5)
    same((out, mean, var), generic("batch_norm", x, w, b, eps=1e-5)[:3], dtype)
    kw = {"needs": (True, True, True), "eps": 1e-5}
    found = KERNELS["batch_norm_backward"](gs, xs, ws, centre, rstd, **kw)
    same(found, generic("batch_norm_backward", g, x, w, None, None, **kw), dtype, factor=4)
    same(KERNELS["scale_shift"](xs, ws, bs), generic("scale_shift", x, w, b), dtype)
    for axis in (0, 1):
        y = KERNELS["softmax"](xs, axis=axis)
        same(y, generic("softmax", x, axis=axis), dtype)
        found = KERNELS["softmax_backward"](gs, y, axis=axis)
        same(found, generic("softmax_backward", g, np.asarray(y), axis=axis), dtype)


# ---- flat memory -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [F4, F2, BF], ids=str)
@pytest.mark.parametrize("size", [1, 7, 255, 4099, 20000])
def test_flat(size: int, dtype: Any, machine: Any) -> None:
    rng = np.random.default_rng(3)
    x, g = (rng.standard_normal(size).astype(dtype) * 3 for _ in range(2))
    for skew in (0, dtype.itemsize):
        xs, gs = put(machine, x, dtype, skew), put(machine, g, dtype, skew)
        for kw in ({"approximate": "none"}, {"approximate": "tanh"}):
            same(KERNELS["gelu"](xs, **kw), generic("gelu", x.astype(dtype), **kw), dtype)
            expected = generic("gelu_backward", g.astype(dtype), x.astype(dtype), **kw)
            same(KERNELS["gelu_backward"](gs, xs, **kw), expected, dtype)


def test_layouts_are_kept_or_copied(machine: Any) -> None:
    x = np.random.default_rng(4).standard_normal((6, 5, 8)).astype("f4")
    base = put(machine, x)
    views = [base, base.transpose(2, 0, 1), base[:, ::2], base[::-1], base[1:, :, 3:]]
    for view in [*views, np.broadcast_to(base[:1], (3, 5, 8))]:
        y = KERNELS["silu"](view)
        same(y, generic("silu", np.array(view)), F4)
        dense = view.flags.c_contiguous or view.strides == base.transpose(2, 0, 1).strides
        assert (y.strides == view.strides) == dense
        g = put(machine, np.array(view))
        same(KERNELS["silu_backward"](g, view), generic("silu_backward", np.array(view), np.array(view)), F4)
        same(KERNELS["softmax"](view, axis=1), generic("softmax", np.array(view), axis=1), F4)


SPECIAL = np.array(
    [np.nan, np.inf, -np.inf, 0.0, -0.0, 1e30, -1e30, 100.0, -100.0, 1e-30, 0.5, -3.0, 3.0, -1.0, 1.0, 6.0]
)


NUMBERS = {
    "beta": 1.5, "threshold": 2.0, "value": 7.0, "negative_slope": 0.1, "alpha": 1.3, "scale": 1.1, "input_scale": 0.7,
    "min_val": -1.0, "max_val": 2.0, "lambd": 0.5, "approximate": "none",
}  # fmt: skip


@pytest.mark.parametrize("op", pointwise_kernels.KERNELS)
def test_not_finite(op: str, machine: Any) -> None:
    """Pointwise ops give nan, infinities and zeros where the generic forms give them."""
    words = [*OPS[op].params]
    kw = {k: NUMBERS[k] for k in words}
    x = SPECIAL.astype("f4")
    given = [x] if not (op.endswith("_backward") or op in pointwise_kernels.SUMS) else [np.full_like(x, 2.0), x]
    with np.errstate(all="ignore"):
        found = np.asarray(KERNELS[op](*[put(machine, a) for a in given], **kw))
        expected = generic(op, *given, **kw)[0].astype("f4")
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    zeros = expected == 0
    if not op.endswith("_backward"):
        assert (np.signbit(found) == np.signbit(expected))[zeros & (x == 0)].all(), (found[zeros], expected[zeros])


def test_rows_that_are_not_finite(machine: Any) -> None:
    inf, nan = np.inf, np.nan
    x = np.array([[1, -inf, 2], [-inf, -inf, -inf], [inf, 0, 1], [nan, 0, 1], [-inf, nan, inf], [1e30, -1e30, 0]], "f4")
    with np.errstate(all="ignore"):
        for op in ("softmax", "log_softmax"):
            for axis, given in ((1, x), (0, np.ascontiguousarray(x.T))):
                found = KERNELS[op](put(machine, given), axis=axis)
                np.testing.assert_allclose(found, generic(op, given, axis=axis)[0], rtol=1e-6)
        target = np.array([0, 0, 1, 1, 2, 0])
        found = KERNELS["softmax_cross_entropy"](put(machine, x), put(machine, target), ignore_index=2)
        expected = generic("softmax_cross_entropy", x, target, ignore_index=2)
        np.testing.assert_allclose(found[0], expected[0], rtol=1e-6)


# ---- pooling ---------------------------------------------------------------------------------------------------------


def test_pooling_finds_the_first_maximum_and_the_last_nan(machine: Any) -> None:
    rng = np.random.default_rng(5)
    x = rng.integers(0, 3, (2, 9, 8)).astype("f4")  # many ties
    x[0, 2:4, 3:6] = np.nan
    x[1, 5] = -np.inf
    for kernel, stride, padding, dilation in [
        ((3, 3), (2, 2), (1, 1), (1, 1)), ((2, 3), (1, 1), (0, 1), (2, 2)), ((4, 2), (3, 4), (2, 0), (1, 3)),
    ]:  # fmt: skip
        size = tuple(
            (n + 2 * p - d * (k - 1) - 1) // s + 1
            for n, k, s, p, d in zip(x.shape[1:], kernel, stride, padding, dilation, strict=True)
        )
        kw = {"kernel": kernel, "stride": stride, "padding": padding, "dilation": dilation, "size": size}
        xs = put(machine, x)
        out, indices = KERNELS["max_pool_with_indices"](xs, **kw)
        expected, places = generic("max_pool_with_indices", x, **kw)
        np.testing.assert_array_equal(out, expected)
        np.testing.assert_array_equal(indices, places)
        np.testing.assert_array_equal(KERNELS["max_pool"](xs, **kw), expected)
        g = rng.standard_normal(out.shape).astype("f4")
        found = KERNELS["max_pool_backward"](put(machine, g), xs, out, **kw)
        np.testing.assert_allclose(found, generic("pool_scatter", g, places, shape=x.shape, rank=2)[0], rtol=1e-5)


# ---- embedding -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [F4, BF], ids=str)
@pytest.mark.parametrize("kind", ["one row", "few rows", "all rows", "pieces"])
def test_embedding_sums_are_right_and_always_the_same(kind: str, dtype: Any, machine: Any, order: str) -> None:
    rng = np.random.default_rng(6)
    index = {
        "one row": np.full(1281, 2),
        "few rows": rng.integers(0, 3, 257),
        "all rows": rng.permutation(64),
        "pieces": np.repeat([4, 1, 0, 7, 3], [32, 64, 1, 100, 31]),  # runs that end where a piece ends
    }[kind]
    rows = max(int(index.max()) + 2, 8)
    g = rng.standard_normal((index.size, 70)).astype(dtype)
    for padding in (-1, int(index[0])):
        kw = {"rows": rows, "padding": padding}
        found = KERNELS["embedding_backward"](put(machine, g), put(machine, index), **kw)
        same(found, generic("embedding_backward", g, index, **kw), dtype, factor=4)
        again = KERNELS["embedding_backward"](put(machine, g), put(machine, index), **kw)
        np.testing.assert_array_equal(np.asarray(found).view("u1"), np.asarray(again).view("u1"))


def test_an_index_out_of_bounds_is_reported_by_the_next_synchronisation(machine: Any) -> None:
    w, logits = put(machine, np.ones((5, 6), "f4")), put(machine, np.zeros((3, 4), "f4"))
    bounds.raise_pending()
    for bad in (5, -1, 1 << 40):
        out = KERNELS["embedding"](w, put(machine, np.array([0, bad, 4])), padding=-1)
        assert np.isnan(out[1]).all() and (out[[0, 2]] == 1).all()
        text = rf"index out of range in self \(op embedding: index {bad}, size 5;"
        with pytest.raises(IndexError, match=text):
            bounds.raise_pending()
        bounds.raise_pending()  # once is enough
    target = put(machine, np.array([0, 9, -100]))
    loss, *_ = KERNELS["cross_entropy"](logits, target, ignore_index=-100, reduction="none")
    assert np.isnan(loss).tolist() == [False, True, False]
    with pytest.raises(IndexError, match=r"Target 9 is out of bounds. \(there are 4 classes\)"):
        bounds.raise_pending()


# ---- dropout ---------------------------------------------------------------------------------------------------------


def philox(seed: int, counter: int) -> list[int]:
    """Philox4x32-10 of a 64-bit key and counter, written down from the paper."""
    word = 0xFFFFFFFF
    c, k = [counter & word, counter >> 32, 0, 0], [seed & word, seed >> 32]
    for _ in range(10):
        a, b = 0xD2511F53 * c[0], 0xCD9E8D57 * c[2]
        c = [(b >> 32) ^ c[1] ^ k[0], b & word, (a >> 32) ^ c[3] ^ k[1], a & word]
        k = [(k[0] + 0x9E3779B9) & word, (k[1] + 0xBB67AE85) & word]
    return c


def test_the_generator_is_philox() -> None:
    """The known answer for key and counter 0, of the authors' test vectors."""
    assert philox(0, 0) == [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]


@pytest.mark.parametrize("dtype", [F4, F2, BF], ids=str)
def test_dropout_is_a_function_of_seed_and_offset(dtype: Any, machine: Any) -> None:
    size, seed, offset, p = 1003, (3 << 32) + 12345, (1 << 32) - 5, 0.3
    x = np.random.default_rng(7).standard_normal(size).astype(dtype)
    bits = np.array([philox(seed, offset + i) for i in range(counters(size))], np.uint64).reshape(-1)[:size]
    kept = (bits >> np.uint64(8)) * 2.0**-24 >= p
    assert 0.6 < kept.mean() < 0.8
    found = KERNELS["dropout"](put(machine, x, skew=dtype.itemsize), p=p, seed=seed, offset=offset)
    same(found, [np.where(kept, x.astype("f8") / (1 - p), 0)], dtype)
    place = SimpleNamespace(array=put(machine, np.array([seed - 7, offset - 11], np.uint64)))
    place.array += np.array([7, 11], np.uint64)  # as between two replays of a graph
    again = KERNELS["dropout"](put(machine, x), p=p, seed=place)
    np.testing.assert_array_equal(np.asarray(again).view("u1"), np.asarray(found).view("u1"))
    assert (KERNELS["dropout"](put(machine, x), p=0.0, seed=1) == x).all()


# ---- optimizers and norms --------------------------------------------------------------------------------------------

SGD = {
    "lr": 0.1, "momentum": 0.0, "dampening": 0.0, "weight_decay": 0.0, "nesterov": False, "maximize": False,
    "first": False,
}  # fmt: skip
ADAM = {
    "lr": 0.1, "betas": (0.9, 0.95), "eps": 1e-6, "weight_decay": 0.0, "amsgrad": False, "maximize": False,
    "decoupled_weight_decay": False, "step": 3.0,
}  # fmt: skip
RMS = {
    "lr": 0.1, "alpha": 0.9, "eps": 1e-6, "weight_decay": 0.0, "momentum": 0.0, "centered": False, "maximize": False,
    "step": 2.0,
}  # fmt: skip
ADAGRAD = {"lr": 0.1, "lr_decay": 0.1, "eps": 1e-6, "weight_decay": 0.0, "maximize": False, "step": 4.0}
STEPS = [
    (sgd_step, 1, SGD),
    (sgd_step, 1, {**SGD, "weight_decay": 0.2, "maximize": True}),
    (sgd_step, 1, {**SGD, "momentum": 0.9, "dampening": 0.1, "first": True}),
    (sgd_step, 1, {**SGD, "momentum": 0.9, "dampening": 0.1}),
    (sgd_step, 1, {**SGD, "momentum": 0.9, "nesterov": True}),
    (adam_step, 2, ADAM),
    (adam_step, 2, {**ADAM, "weight_decay": 0.1, "maximize": True}),
    (adam_step, 2, {**ADAM, "weight_decay": 0.1, "decoupled_weight_decay": True}),
    (adam_step, 3, {**ADAM, "amsgrad": True}),
    (rmsprop_step, 1, RMS),
    (rmsprop_step, 3, {**RMS, "momentum": 0.9, "centered": True, "weight_decay": 0.1}),
    (adagrad_step, 1, ADAGRAD),
    (adagrad_step, 1, {**ADAGRAD, "weight_decay": 0.1, "maximize": True}),
]


@pytest.mark.parametrize("dtype", [F4, BF], ids=str)
@pytest.mark.parametrize(("formula", "states", "options"), STEPS, ids=lambda v: getattr(v, "__name__", ""))
def test_formulas(formula: Any, states: int, options: dict[str, Any], dtype: Any, machine: Any) -> None:
    """Each kernel step is that of the optimizer's formula, for 70 tensors at once and for one."""
    rng = np.random.default_rng(8)
    count = optim_kernels.STEPS[formula.__name__][0]
    slots = {"Sgd": 1, "Adam": 3, "RmsProp": 3, "Adagrad": 1}[count]
    sizes = [*range(1, 69), 8192, 20000]
    entries, expected = [], []
    for n in sizes:
        arrays = [rng.standard_normal(n), rng.standard_normal(n), *[rng.random(n) for _ in range(states)]]
        if formula is rmsprop_step and states == 3:
            arrays[2] += 1.0  # the mean square is above the square of the mean
        arrays = [a.astype(dtype) for a in arrays]
        wide = [a.astype("f8") for a in arrays] + [None] * (slots - states)
        formula(np, *wide, **options)
        expected.append(wide)
        skew = dtype.itemsize * (n % 3 == 1)
        entries.append([put(machine, a, skew=skew if k == n % 2 else 0) for k, a in enumerate(arrays)])
        entries[-1] += [None] * (slots - states)
    one = [None if a is None else put(machine, a) for a in entries[-1]]
    before = len(machine.launched)
    assert KERNELS[formula.__name__].many(entries, options) is None
    assert len(machine.launched) == before + 2, "64 tensors to a launch"
    KERNELS[formula.__name__](*one, **options)
    for found, wide in [*zip(entries, expected, strict=True), (one, expected[-1])]:
        same(tuple(found), wide, dtype)


def test_parameters_that_are_left_to_the_formula(machine: Any) -> None:
    """Those whose arrays lie differently or with gaps, or of other dtypes: nothing is changed."""
    for dtype, views in (("f4", [np.array, np.transpose, np.array]), ("f4", [lambda a: a[:, ::2]] * 3), ("f8", [])):
        arrays = [put(machine, np.ones((6, 6), dtype)) for _ in range(3)]
        arrays = [view(a) for view, a in zip(views, arrays, strict=True)] if views else arrays
        assert KERNELS["sgd_step"](*arrays, **{**SGD, "momentum": 0.5}) is NotImplemented
        assert all((a == 1).all() for a in arrays)


@pytest.mark.parametrize("norm", [2.0, 1.0, 3.0, math.inf])
def test_norm_and_clipping_of_many_tensors(norm: float, machine: Any, order: str) -> None:
    rng = np.random.default_rng(9)
    arrays = [rng.standard_normal(n).astype(dtype) for n, dtype in [(5, F4), (9000, F4), (70, BF), (0, F4), (1, F2)]]
    arrays += [rng.standard_normal(3).astype(F4) for _ in range(66)]
    held = [put(machine, a, skew=a.itemsize * (i % 2)) for i, a in enumerate(arrays)]
    total = KERNELS["total_norm"](held, norm)
    flat = np.concatenate([a.astype("f8") for a in arrays])
    expected = np.linalg.norm(flat, norm)
    assert float(total) == pytest.approx(expected, rel=1e-5)
    KERNELS["clip_all"](held, total, 0.5)
    for a, h in zip(arrays, held, strict=True):
        same(h, [a.astype("f8") * (0.5 / (expected + 1e-6))], a.dtype)
    KERNELS["clip_all"](held, put(machine, np.array(0.1, "f4")), 0.5)  # nothing to clip
    for a, h in zip(arrays, held, strict=True):
        same(h, [a.astype("f8") * (0.5 / (expected + 1e-6))], a.dtype)
    held[1][77] = np.nan
    assert math.isnan(float(KERNELS["total_norm"](held, norm)))


@pytest.mark.parametrize("bad", [None, math.inf, -math.inf, math.nan])
def test_unscaling_of_many_gradients(bad: float | None, machine: Any, order: str) -> None:
    rng = np.random.default_rng(10)
    arrays = [rng.standard_normal(n).astype(dtype) for n, dtype in [(5, F4), (9001, F4), (70, BF), (0, F4), (33, F2)]]
    if bad is not None:
        arrays[2 if math.isnan(bad) else 1][-1] = bad
    held = [put(machine, a, skew=a.itemsize * (i % 2)) for i, a in enumerate(arrays)]
    found, inverse = put(machine, np.zeros((), "f4")), put(machine, np.array(0.25, "f4"))
    assert KERNELS["unscale_all"](held, found, inverse) is None
    assert float(found) == (bad is not None)
    for a, h in zip(arrays, held, strict=True):
        same(h, [a.astype("f8") / 4], a.dtype)
    assert KERNELS["unscale_all"](held[:1], found, inverse) is None
    assert float(found) == (bad is not None), "it stays"
    before = [h.copy() for h in held]
    assert KERNELS["unscale_all"]([*held, put(machine, np.ones(3))], found, inverse) is NotImplemented
    assert all(np.array_equal(h, b, equal_nan=True) for h, b in zip(held, before, strict=True))


def test_the_scale_after_steps_is_the_scalers(machine: Any) -> None:
    """The kernel beside GradScaler's own arithmetic, to the largest float32."""
    scaler = tapegrad.amp.GradScaler("cpu", init_scale=2.0**124, growth_factor=4.0, growth_interval=2)
    scaler.scale(tapegrad.ones(1))
    own = [put(machine, np.array(2.0**124, "f4")), put(machine, np.zeros((), "i4"))]
    for overflowed in (0, 0, 0, 0, 1, 0, 0, 0, 0):
        found = np.array(overflowed, "f4")
        KERNELS["update_scale"](*own, put(machine, found), 4.0, 0.5, 2)
        scaler._adapt(scaler._scale, scaler._growth_tracker, tapegrad.tensor(found))
        assert [float(own[0]), int(own[1])] == [scaler.get_scale(), scaler._get_growth_tracker()]


# ---- matrix products -------------------------------------------------------------------------------------------------

# shapes of x and y, and what is done to them to have other layouts
PRODUCTS = [
    ((5, 7), (7, 3)), ((1, 7), (7, 1)), ((5, 1), (1, 3)), ((2, 3, 5, 7), (2, 3, 7, 4)), ((3, 5, 7), (7, 4)),
    ((5, 7), (6, 7, 4)), ((4, 1, 5, 7), (3, 7, 2)), ((4, 1, 5, 7), (4, 3, 7, 2)), ((1, 1, 2), (1, 2, 1)),
]  # fmt: skip
LAYOUTS = {
    "rows": lambda a: a,
    "transposed": lambda a: np.ascontiguousarray(a.swapaxes(-1, -2)).swapaxes(-1, -2),
    "every other": lambda a: np.repeat(a, 2, -1)[..., ::2],
    "part of rows": lambda a: np.concatenate([a, a], -1)[..., : a.shape[-1]],
    "heads": lambda a: np.ascontiguousarray(a.swapaxes(-2, -3)).swapaxes(-2, -3) if a.ndim > 2 else a,
}


@pytest.mark.parametrize("dtype", ["f4", "f8", F2, BF], ids=str)
@pytest.mark.parametrize("layouts", [(a, b) for a in LAYOUTS for b in LAYOUTS], ids=" x ".join)
def test_products(layouts: tuple[str, str], dtype: Any, machine: Any) -> None:
    """Operands as they lie, against NumPy in float64, by an emulation of what cuBLAS documents."""
    dtype, rng = np.dtype(dtype), np.random.default_rng(11)
    for shapes in PRODUCTS:
        x, y = (LAYOUTS[k](rng.standard_normal(s).astype(dtype)) for k, s in zip(layouts, shapes, strict=True))
        found = KERNELS["bmm"](x, y)
        same(found, [x.astype("f8") @ y.astype("f8")], dtype if dtype in TOLERANCE else F4)
        if len(shapes[0]) == len(shapes[1]) == 2:
            np.testing.assert_array_equal(KERNELS["mm"](x, y), found)


def test_what_is_copied_before_a_product(machine: Any) -> None:
    """Transposed and cut operands, heads within rows and repeated matrices are multiplied as they lie."""
    x, y = put(machine, np.ones((2, 3, 4, 5), "f4")), put(machine, np.ones((2, 3, 5, 4), "f4"))
    zones = len(machine.xp.zones)
    for a, b in [(x, y), (y.swapaxes(-1, -2), x.swapaxes(-1, -2)), (x[..., :3], y[..., 1:4, :]), (x, y[:1, :1])]:
        KERNELS["bmm"](a, b)
        zones += 1
        assert len(machine.xp.zones) <= zones, "more than the output was made"
    rows = put(machine, np.ones((2, 4, 3, 5), "f4")).swapaxes(1, 2)  # heads beside each other in a row
    machine.products.clear()
    assert KERNELS["bmm"](rows[0], y[0]) is not NotImplemented
    assert machine.products == [((False, False), (4, 4, 5), 3, 68)]


def test_linear_and_tf32(machine: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from tapegrad.backends import precision

    rng = np.random.default_rng(12)
    for dtype in (F4, BF):
        x, w, b = (put(machine, rng.standard_normal(s).astype(dtype)) for s in ((2, 3, 8), (5, 8), (5,)))
        for bias in (None, b):
            for given in (x, x[0, 0]):
                same(KERNELS["linear"](given, w, bias), generic("linear", given, w, bias), dtype)
    machine.products.clear()
    monkeypatch.setitem(precision.tf32, "matmul", True)
    KERNELS["mm"](w, w.T)
    KERNELS["mm"](put(machine, np.ones((2, 2), "f4")), put(machine, np.ones((2, 2), "f4")))
    KERNELS["mm"](np.ones((2, 2)), np.ones((2, 2)))
    assert [p[3] for p in machine.products] == [68, 77, 70]
    for x_shape, y_shape in [((2, 3), (2, 3)), ((0, 3), (3, 2)), ((3,), (3, 2)), ((2, 1, 1), (3, 1, 1))]:
        assert KERNELS["bmm"](np.ones(x_shape), np.ones(y_shape)) is NotImplemented
    assert KERNELS["mm"](np.ones((2, 2), "f4"), np.ones((2, 2))) is NotImplemented


# ---- attention -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [F4, BF], ids=str)
@pytest.mark.parametrize("keys", [5, 64, 600])
def test_attention(keys: int, dtype: Any, machine: Any, order: str) -> None:
    """Heads within rows, masks of all layouts, causal order, a dropout mask; large scores in half precision."""
    rng = np.random.default_rng(13)
    batch, heads, queries, width = 2, 3, 7, 8

    def make(length: int) -> Any:  # (B, H, L, E), the heads beside each other in a row
        return rng.standard_normal((batch, length, heads, width)).astype(dtype).swapaxes(1, 2)

    q, k, v = make(queries), make(keys), make(keys)
    seen = rng.random((batch, 1, queries, keys)) < 0.7
    seen[0, 0, 2] = False  # a query that sees nothing
    added = (rng.standard_normal((queries, keys)) * 2).astype(dtype)
    keep = ((rng.random((batch, heads, queries, keys)) < 0.8) / 0.8).astype(dtype)
    padding = rng.random((batch, 1, 1, keys)) < 0.7
    per_head = rng.standard_normal((heads, 1, keys)).astype(dtype)
    g = rng.standard_normal((batch, heads, queries, width)).astype(dtype)
    for mask, drop, causal, scale in [
        (None, None, False, 0.35), (None, keep, True, 0.35), (seen, None, False, 3.0), (added, keep, True, 0.35),
        (padding, None, True, 0.5), (per_head, None, False, 0.5),
    ]:  # fmt: skip
        kw = {"causal": causal, "scale": scale}
        out, weights = KERNELS["attention"](q, k, v, mask, drop, **kw)
        same((out, weights), generic("attention", q, k, v, mask, drop, **kw), dtype, kw, 3)
        kw["needs"] = (True, True, True, False)
        found = KERNELS["attention_backward"](g, q, k, v, mask, drop, out, weights, **kw)
        same(found, generic("attention_backward", g, q, k, v, mask, drop, None, None, **kw), dtype, kw, 6)
    kw["needs"] = (True, True, True, True)
    assert KERNELS["attention_backward"](g, q, k, v, per_head, None, out, weights, **kw) is NotImplemented


# ---- the machine itself ----------------------------------------------------------------------------------------------


def test_faults_are_seen(machine: Any, tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A write outside, a misaligned access, a thread that waits for ever, arguments of wrong sizes, a race."""
    source = '''#include "common.cuh"
__global__ void beyond(float* x, int n) { x[n] = 1.0f; }
__global__ void packs(float* x, int n) { float v[4]; load<4>(x, v); }
__global__ void stuck(float* x, int n) { if (threadIdx.x < 16) row_sum(x[0]); else __syncthreads(); }
__global__ void race(float* x, int n) {
    __shared__ float s[64];
    s[threadIdx.x] = threadIdx.x;
    x[threadIdx.x] = s[63 - threadIdx.x];
}
'''
    (tmp_path / "faulty.cuh").write_text(source)
    (tmp_path / "common.cuh").write_text((emulation.cuda_source.SOURCES / "common.cuh").read_text())
    monkeypatch.setattr(emulation.cuda_source, "SOURCES", tmp_path)
    monkeypatch.setattr(launch.Kernel, "declared", [])
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    emulation.cuda_source.text.cache_clear()
    kernels = {name: launch.Kernel("faulty.cuh", name, "Pi") for name in ("beyond", "packs", "stuck", "race")}
    x = put(machine, np.zeros(64, "f4"))
    for name, array, text in [
        ("beyond", put(machine, np.zeros(3, "f4")), "wrote outside"),
        ("packs", put(machine, np.zeros(9, "f4"), skew=4), "misaligned"),
        ("stuck", x, "deadlock"),
    ]:
        with pytest.raises(emulation.Fault, match=text):
            kernels[name]((), (1,), (32 if name != "stuck" else 64,), array, array.size)
        machine.xp.zones.clear()
    with pytest.raises(emulation.Fault, match=r"takes arguments of \[8, 4\] bytes, not \[8, 8\]"):
        launch.Kernel("faulty.cuh", "race", "Pl")((), (1,), (64,), x, 64)
    results = []
    for machine.descending in (False, True):
        kernels["race"]((), (1,), (64,), x, 64)
        results.append(np.array(x))
    machine.descending = False
    assert (results[0] != results[1]).any(), "the two orders show a missing barrier"
    emulation.cuda_source.text.cache_clear()
