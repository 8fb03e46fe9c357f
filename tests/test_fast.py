"""Compiled kernels against the generic forms: values, strides, threads, special values, optimizers."""

from __future__ import annotations

import itertools
import math
import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import tapegrad as torch
from fast_cases import CASES
from tapegrad.autograd.op import OPS, Raw, load_late
from tapegrad.backends import fast, threads
from tapegrad.backends.numpy import NumpyBackend

if not fast.has("numba"):
    pytest.skip("the extra tapegrad[fast] is not installed, or switched off", allow_module_level=True)

TABLE = {name: kernel for _, needs, table in fast.tables() if needs == "numba" for name, kernel in table.items()}
SAMPLES = [(name, i) for name, samples in CASES.items() for i in range(len(samples))]
ELSEWHERE = ("rnn", "gru", "lstm", "conv", "_step")  # families with tests of their own


class Plain(NumpyBackend):
    """NumPy without kernels: every op in its generic form."""

    kernels: Any = {}


@pytest.fixture(scope="module")
def generic() -> Raw:
    load_late()
    return Raw(Plain())


@pytest.fixture(params=[1, 2], ids=["one thread", "two threads"])
def count(request: pytest.FixtureRequest) -> Iterator[int]:
    """The number of threads; with two, spans are taken however small the arrays are."""
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


def cast(sample: Any, dtype: str) -> Any:
    arrays, kw = sample
    return [a.astype(dtype) if isinstance(a, np.ndarray) and a.dtype.kind == "f" else a for a in arrays], kw


def compare(got: Any, want: Any, dtype: str, label: str = "") -> None:
    """Results of one call: within some units in the last place of the largest number in each."""
    if isinstance(want, tuple):
        assert isinstance(got, tuple) and len(got) == len(want)
        for g, w in zip(got, want, strict=True):
            compare(g, w, dtype, label)
        return
    if want is None or isinstance(want, int):
        assert got == want
        return
    want, got = np.asarray(want), np.asarray(got)
    assert got.shape == want.shape
    if want.dtype.kind == "f":
        assert got.dtype == dtype
    scale = np.abs(want[np.isfinite(want)]).max(initial=1e-3)
    bound = {"float32": 4e-6, "float64": 2e-14}[dtype] * scale
    np.testing.assert_allclose(got, want, rtol=0, atol=bound, err_msg=label)


def wanted(generic: Raw, name: str, arrays: Any, kw: Any) -> Any:
    """What the op should give, worked out in float64 whatever the sample's dtype is."""
    wide = [a.astype("f8") if isinstance(a, np.ndarray) and a.dtype.kind == "f" else a for a in arrays]
    found = getattr(generic, name)(*wide, **kw)
    if name == "attention":  # its auxiliary is whatever the backward kernel takes
        return found[0]
    if name.endswith("_backward") and isinstance(found, tuple):
        return tuple(x if need else None for x, need in zip(found, kw["needs"], strict=True))
    return found


def test_every_kernel_has_a_case() -> None:
    missing = [n for n in TABLE if n not in CASES and not any(word in n for word in ELSEWHERE)]
    assert not missing


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name, i", SAMPLES)
def test_equals_generic(
    name: str, i: int, dtype: str, count: int, generic: Raw, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In both precisions, alone and in two spans; the kernel serves the sample, unless it has no such precision."""
    monkeypatch.setattr(threads, "worth", lambda *args: count > 1)
    arrays, kw = cast(CASES[name][i](np.random.default_rng(i)), dtype)
    got = TABLE[name](*arrays, **kw)
    if name in ("gelu", "gelu_backward") and dtype == "float64" and kw["approximate"] == "none":
        assert got is NotImplemented
        return
    assert got is not NotImplemented
    compare(got[0] if name == "attention" else got, wanted(generic, name, arrays, kw), dtype, name)


@pytest.mark.parametrize("name, i", SAMPLES)
def test_strides(name: str, i: int, generic: Raw) -> None:
    """Arrays in other memory orders give the same; what is handed in is left as it is."""
    arrays, kw = cast(CASES[name][i](np.random.default_rng(i)), "float32")
    turned = [a.T.copy().T if isinstance(a, np.ndarray) else a for a in arrays]
    before = [None if a is None else a.copy() for a in turned]
    got = TABLE[name](*turned, **kw)
    compare(got[0] if name == "attention" else got, wanted(generic, name, arrays, kw), "float32", name)
    for a, b in zip(turned, before, strict=True):
        assert a is None or np.array_equal(a, b)


@pytest.mark.parametrize("name", ["tanh_backward", "layer_norm_backward", "max_pool_backward"])
def test_broadcast_gradient(name: str, generic: Raw) -> None:
    """A gradient of stride 0, as a sum's is."""
    arrays, kw = cast(CASES[name][0](np.random.default_rng(0)), "float32")
    arrays[0] = np.broadcast_to(np.float32(0.5), arrays[0].shape)
    compare(TABLE[name](*arrays, **kw), wanted(generic, name, arrays, kw), "float32", name)


SPECIAL = [0.0, -0.0, math.inf, -math.inf, math.nan, 1e-42, -1e-42, 1e-30, 1.0, -1.0, 20.0, 88.5, 88.8, -87.5, -90.0,
           -103.0, -104.5, 1e4, -1e4, 3e38, -3e38]  # fmt: skip
POINTWISE = ["exp", "tanh", "sigmoid", "silu", "gelu", "softplus", "logsigmoid", "mish"]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", POINTWISE)
def test_special_values(name: str, dtype: str, generic: Raw) -> None:
    """NaN, infinities, zeros with their signs, and numbers about which exponentials overflow or vanish."""
    x = np.tile(np.array(SPECIAL, dtype), 300)
    got = TABLE[name](x)
    if got is NotImplemented:
        assert name == "gelu" and dtype == "float64"
        return
    with np.errstate(all="ignore"):
        want = getattr(generic, name)(x)
        if name in ("gelu", "silu", "mish"):  # minus infinity times 0 is 0 or NaN; PyTorch itself has both
            keep = x != -math.inf
            x, got, want = x[keep], got[keep], want[keep]
        if name == "gelu":  # where the generic form's 1 + erf has lost its digits
            want[x < -5] = got[x < -5] * (np.abs(got[x < -5]) < 1e-5)
        if name == "mish":
            want[x > 1e3] = x[x > 1e3]  # where the generic form's intermediate result is infinite
    np.testing.assert_allclose(got, want, rtol=1e-6 if dtype == "float32" else 1e-14, atol=2e-38)
    if name in ("exp", "tanh"):
        zero = want == 0
        assert np.array_equal(np.signbit(got[zero]), np.signbit(want[zero]))


@pytest.mark.parametrize("name", ["silu_backward", "gelu_backward", "softplus_backward", "tanh_backward"])
def test_special_gradients(name: str, generic: Raw) -> None:
    kw = {"gelu_backward": {"approximate": "none"}, "softplus_backward": {"beta": 1.0, "threshold": 20.0}}.get(name, {})
    x = np.tile(np.array([v for v in SPECIAL if abs(v) < 1e5 or v != v], "f4"), 300)
    g = np.ones_like(x)
    with np.errstate(all="ignore"):
        want = getattr(generic, name)(g, x, **kw)
    np.testing.assert_allclose(TABLE[name](g, x, **kw), want, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("name", ["softmax", "log_softmax"])
def test_special_rows(name: str, generic: Raw) -> None:
    """Rows with an infinity or a NaN, of -inf alone, with parts that are hidden, with large and with tiny numbers."""
    x = np.random.default_rng(0).standard_normal((70, 50)).astype("f4")
    x[0, 3], x[1, 4], x[2], x[3, :40], x[4], x[5] = math.nan, math.inf, -math.inf, -math.inf, 3e38, 1e-45
    x[6, 0], x[7, 0] = 1e5, -1e9
    with np.errstate(all="ignore"):
        want = getattr(generic, name)(x, axis=1)
    np.testing.assert_allclose(TABLE[name](x, axis=1), want, rtol=2e-6, atol=1e-6)


def test_cross_entropy_rejects_a_class() -> None:
    x, target = np.zeros((300, 41), "f4"), np.full(300, 41)
    with pytest.raises(IndexError, match="Target 41 is out of bounds"):
        TABLE["cross_entropy"](x, target, ignore_index=-100, reduction="mean")


@pytest.mark.parametrize("plane", [(36, 40), (37, 41), (36, 10), (36, 22)], ids=str)
def test_pooling_gives_a_gradient_to_the_last_nan(generic: Raw, plane: tuple[int, int]) -> None:
    size = (18, plane[1] // 2)
    kw = {"kernel": (2, 2), "stride": (2, 2), "padding": (0, 0), "dilation": (1, 1), "size": size}
    x = np.random.default_rng(0).integers(0, 3, (3, 20, *plane)).astype("f4")
    x[0, 0, 0, :2], x[1, 1, 5, 7] = math.nan, math.nan
    out = TABLE["max_pool"](x, **kw)
    g = np.arange(1, out.size + 1, dtype="f4").reshape(out.shape)
    got = TABLE["max_pool_backward"](g, x, out, **kw)
    np.testing.assert_array_equal(got, generic.max_pool_backward(g, x, out, **kw))
    assert got[0, 0, 0, 1] == 1 and got[0, 0, 0, 0] == 0


@pytest.mark.parametrize("name", sorted(CASES))
def test_declines(name: str) -> None:
    """What it does not serve, small arrays and halves, is left to NumPy, or served by NumPy's function."""
    arrays, kw = cast(CASES[name][0](np.random.default_rng(0)), "float16")
    with np.errstate(all="ignore"):
        got = TABLE[name](*arrays, **kw)
        assert got is NotImplemented or (name in ("exp", "tanh") and got.dtype == "float16")
    tiny = np.ones(3, "f4")
    if len(arrays) == 1 and not kw:
        got = TABLE[name](tiny)
        assert got is NotImplemented or name in ("exp", "tanh")


@pytest.mark.parametrize("name", sorted(n for n in CASES if n in OPS))
def test_falls_back(name: str, generic: Raw, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no machine code can be had, the op still gives what it should."""
    from tapegrad.backends.fast.compiled import Group

    monkeypatch.setattr(Group, "get", lambda self, kernel: None)
    arrays, kw = cast(CASES[name][0](np.random.default_rng(0)), "float32")
    linked = getattr(Raw(NumpyBackend()), name)
    got, want = linked(*arrays, **kw), wanted(generic, name, arrays, kw)
    if OPS[name].aux:  # what a kernel keeps for its gradient is its own affair
        got, want = got[0], want[0] if isinstance(want, tuple) else want
    compare(got, want, "float32", name)


# ---- optimizers

GRID: dict[str, dict[str, list[Any]]] = {
    "Adam": {"weight_decay": [0.0, 0.1], "amsgrad": [False, True], "maximize": [False, True],
             "decoupled_weight_decay": [False, True]},
    "SGD": {"momentum": [0.0, 0.9], "dampening": [0.0, 0.5], "weight_decay": [0.0, 0.1], "maximize": [False, True],
            "nesterov": [False, True]},
    "RMSprop": {"momentum": [0.0, 0.9], "centered": [False, True], "weight_decay": [0.0, 0.1]},
    "Adagrad": {"lr_decay": [0.0, 0.1], "weight_decay": [0.0, 0.1]},
    "Adamax": {"weight_decay": [0.0, 0.1]},
    "Adadelta": {"weight_decay": [0.0, 0.1], "maximize": [False, True]},
    "NAdam": {"weight_decay": [0.0, 0.1], "decoupled_weight_decay": [False, True]},
    "RAdam": {"weight_decay": [0.0, 0.1], "decoupled_weight_decay": [False, True]},
}  # fmt: skip


def options_of(name: str) -> Iterator[dict[str, Any]]:
    for values in itertools.product(*GRID[name].values()):
        options = dict(zip(GRID[name], values, strict=True))
        if options.get("nesterov") and (not options["momentum"] or options["dampening"]):
            continue
        yield options


def trained(name: str, options: dict[str, Any], dtype: Any, steps: int = 7) -> list[Any]:
    """The parameter and its state after some steps with random gradients."""
    rng = np.random.default_rng(0)
    p = torch.tensor(rng.standard_normal((130, 140)), dtype=dtype, requires_grad=True)
    optimizer = getattr(torch.optim, name)([p], lr=0.05, **options)
    for _ in range(steps):
        p.grad = torch.tensor(rng.standard_normal(p.shape), dtype=dtype)
        optimizer.step()
    state = [v.numpy() for v in optimizer.state[p].values() if isinstance(v, torch.Tensor)]
    return [p.detach().numpy(), *state]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", sorted(GRID))
def test_optimizers(name: str, dtype: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every combination of options, against the formula in NumPy."""
    step = f"{name.lower()}_step"
    served: list[Any] = []
    kernel = TABLE[step]
    kernels = torch.backends.registry.load("numpy").kernels

    def counted(*args: Any, **kw: Any) -> Any:
        out = kernel(*args, **kw)
        served.append(out)
        return out

    for options in options_of(name):
        monkeypatch.setitem(kernels, step, counted)
        got = trained(name, options, getattr(torch, dtype))
        assert served and NotImplemented not in served
        monkeypatch.delitem(kernels, step)
        want = trained(name, options, getattr(torch, dtype))
        for g, w in zip(got, want, strict=True):
            rtol, atol = (2e-4, 2e-5) if dtype == "float32" else (1e-9, 1e-12)
            np.testing.assert_allclose(g, w, rtol=rtol, atol=atol, err_msg=str(options))


def test_optimizers_decline(monkeypatch: pytest.MonkeyPatch) -> None:
    """Other layouts and dtypes are left to the formula, unwritten."""
    p = np.ones((200, 100), "f4").T
    g = np.ones((100, 200), "f4")
    options = {
        "lr": 0.1, "momentum": 0.0, "dampening": 0.0, "weight_decay": 0.0, "nesterov": False, "maximize": False,
        "first": False,
    }  # fmt: skip
    assert TABLE["sgd_step"](p, g, None, **options) is NotImplemented
    assert TABLE["sgd_step"](g.astype("f2"), g.astype("f2"), None, **options) is NotImplemented
    assert (p == 1).all()


# ---- whole programs

TRAINING = """
import tapegrad as torch
nn = torch.nn
def steps(model, x):
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    for _ in range(4):
        optimizer.zero_grad()
        loss = (model(x) ** 2).mean()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        print(loss.item())
torch.manual_seed(0)
steps(nn.TransformerEncoderLayer(64, 4, 256, dropout=0.0, activation="gelu", batch_first=True), torch.randn(8, 64, 64))
layers = [nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(8, 8, 3)]
steps(nn.Sequential(*layers), torch.randn(8, 3, 40, 40))
"""


def run(program: str, **environment: str) -> str:
    """What a program prints, run by itself with these variables."""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, env={**os.environ, **environment}, timeout=240
    )
    assert not done.returncode, done.stderr
    return done.stdout


def test_training_equals_generic() -> None:
    """Losses of some steps, with the kernels and without any."""
    fused, generic = (list(map(float, run(TRAINING, TAPEGRAD_GENERIC=g).split())) for g in ("0", "1"))
    assert len(fused) == 8
    np.testing.assert_allclose(fused, generic, rtol=2e-4)


LOADED = """
import sys
import numpy as np
import tapegrad as torch
x = torch.ones(20, 20, requires_grad=True)
torch.nn.functional.gelu(x).softmax(1).tanh().sum().backward()
torch.nn.functional.layer_norm(x, (20,))
print({"numba", "llvmlite"} & set(sys.modules))
torch.tanh(torch.ones(100, 100))
print({"numba", "llvmlite"} & set(sys.modules))
"""


def test_nothing_is_loaded_early() -> None:
    """Small arrays load nothing; large ones the linker, never the compiler."""
    run(LOADED)  # compiles, where that was not done
    assert run(LOADED).split("\n")[:2] == ["set()", "{'llvmlite'}"]


def test_switched_off() -> None:
    program = """
from tapegrad.backends import fast, registry
print(fast.tables(), fast.has("numba"), "mish" in registry.load("numpy").kernels)
"""
    assert run(program, TAPEGRAD_FAST="0").strip() == "[] False False"
    assert run(program, TAPEGRAD_FAST="1").strip().endswith("True True")
