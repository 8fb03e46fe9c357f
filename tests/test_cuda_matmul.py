"""Matrix products of the CuPy backend as cuBLASLt gets them: layouts, plans, epilogues, settings, capture.

Without a device: the calls that would go to nvmath's bindings are executed on host memory by lt_on_host.py, from
descriptors and addresses alone, so that a wrong leading dimension, step or transpose gives wrong numbers.
"""

from __future__ import annotations

import ctypes
import gc
import sys
import threading
from collections.abc import Iterator
from types import ModuleType, SimpleNamespace
from typing import Any

import cuda_on_cpu as emulation
import numpy as np
import pytest
import tapegrad as torch
from lt_on_host import Bindings, HostMachine, LtError, gelu, tf32
from tapegrad.autograd.tensor import wrap
from tapegrad.backends import precision, registry
from tapegrad.backends.cupy import compile, cublaslt, launch, matmul_kernels
from tapegrad.backends.cupy.graph import Graphs
from tapegrad.backends.cupy.matmul_kernels import KERNELS, linear_parameters, product

ml_dtypes = pytest.importorskip("ml_dtypes")

DTYPES = [np.dtype("f4"), np.dtype("f8"), np.dtype("f2"), np.dtype(ml_dtypes.bfloat16)]
TOLERANCE = {"float32": 1e-5, "float64": 1e-12, "float16": 3e-3, "bfloat16": 2e-2}


@pytest.fixture
def machine() -> Iterator[HostMachine]:
    made, before = HostMachine(), precision.kept()
    launch.use(made)
    yield made
    precision.restore(before)


def put(machine: Any, x: Any, skew: int = 0) -> Any:
    machine.xp.skew = skew
    made = machine.xp.array(np.asarray(x))
    machine.xp.skew = 0
    return made


def same(found: Any, expected: Any, dtype: Any, inner: int = 10) -> None:
    assert found.dtype == dtype and found.shape == expected.shape
    limit = TOLERANCE[dtype.name]
    np.testing.assert_allclose(found.astype("f8"), expected.astype("f8"), rtol=limit, atol=limit * inner)


def rows(a: Any) -> Any:
    return a


def turned(a: Any) -> Any:
    return np.ascontiguousarray(a.swapaxes(-1, -2)).swapaxes(-1, -2)


def part(a: Any) -> Any:
    """Part of longer rows."""
    return np.concatenate([a, a * 0 + 7], -1)[..., : a.shape[-1]]


def turned_part(a: Any) -> Any:
    return part(turned(a).swapaxes(-1, -2)).swapaxes(-1, -2)


def every_other(a: Any) -> Any:
    return np.repeat(a, 2, -1)[..., ::2]


def heads(a: Any) -> Any:
    """The matrices beside each other in rows, as the heads of attention."""
    return np.ascontiguousarray(a.swapaxes(-2, -3)).swapaxes(-2, -3) if a.ndim > 2 else a


def reverse(a: Any) -> Any:
    return np.ascontiguousarray(a[..., ::-1, :])[..., ::-1, :]


LAYOUTS = [rows, turned, part, turned_part, every_other, heads, reverse]
COPIED = {every_other, reverse}  # the layouts that cuBLASLt does not know
SHAPES = [
    ((5, 7), (7, 3)), ((1, 7), (7, 1)), ((5, 1), (1, 3)), ((1, 1), (1, 1)), ((2, 3, 5, 7), (2, 3, 7, 4)),
    ((3, 5, 7), (7, 4)), ((5, 7), (6, 7, 4)), ((4, 1, 5, 7), (3, 7, 2)), ((4, 1, 5, 7), (4, 3, 7, 2)),
    ((1, 1, 2), (1, 2, 1)), ((3, 1, 7), (1, 7, 4)), ((2, 1, 3, 4, 5), (1, 1, 5, 6)),
]  # fmt: skip


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("x_layout", LAYOUTS, ids=lambda f: f.__name__)
@pytest.mark.parametrize("y_layout", LAYOUTS, ids=lambda f: f.__name__)
def test_layouts(x_layout: Any, y_layout: Any, dtype: Any, machine: HostMachine) -> None:
    """All layouts of both operands give NumPy's product, into memory that is exactly the output's."""
    rng = np.random.default_rng(3)
    for x_shape, y_shape in SHAPES:
        x, y = (f(rng.standard_normal(s).astype(dtype)) for f, s in ((x_layout, x_shape), (y_layout, y_shape)))
        found = KERNELS["bmm"](x, y)
        same(found, x.astype("f8") @ y.astype("f8"), dtype)
        machine.xp.check()
        if len(x_shape) == len(y_shape) == 2:
            np.testing.assert_array_equal(KERNELS["mm"](x, y), found)
    assert len(machine.api.calls) >= len(SHAPES)


def test_what_is_copied(machine: HostMachine) -> None:
    """Only what has gaps or runs backwards, and matrices that are repeated within others."""
    rng = np.random.default_rng(4)
    for x_layout in LAYOUTS:
        for y_layout in LAYOUTS:
            x, y = x_layout(rng.standard_normal((3, 5, 7))), y_layout(rng.standard_normal((3, 7, 4)))
            machine.xp.copies = 0
            KERNELS["bmm"](x, y)
            assert machine.xp.copies == (x_layout in COPIED) + (y_layout in COPIED), (x_layout, y_layout)
    machine.xp.copies = 0
    x, y = rng.standard_normal((4, 3, 5, 7)), rng.standard_normal((4, 3, 7, 2))
    for a, b in [(x, y[:1, :1]), (x[0, 0], y), (x[:, :, :1], y), (x[:1], y[0]), (np.broadcast_to(x[0, 0], x.shape), y)]:
        same(KERNELS["bmm"](a, b), a @ b, x.dtype)
    assert not machine.xp.copies
    same(KERNELS["bmm"](x[:, :1], y), x[:, :1] @ y, x.dtype)
    assert machine.xp.copies == 1


def test_one_matrix_for_all(machine: HostMachine) -> None:
    """Rows that lie above each other are one matrix; the rest goes by steps."""
    rng = np.random.default_rng(5)
    x, y = rng.standard_normal((4, 6, 5)), rng.standard_normal((5, 3))
    wide = part(x)
    for given, batch, sizes, ld in [
        (x, 1, (3, 24, 5), 5), (wide, 1, (3, 24, 5), 10), (x[:, :3], 4, (3, 3, 5), 5), (turned(x), 4, (3, 6, 5), 6),
        (x[:, :1], 1, (3, 4, 5), 30), (heads(x), 4, (3, 6, 5), 20),
    ]:  # fmt: skip
        same(KERNELS["bmm"](given, y), given @ y, y.dtype)
        call = machine.api.calls[-1]
        assert (call["d"]["batch"], (call["d"]["rows"], call["d"]["cols"])) == (batch, sizes[:2])
        assert call["b"]["ld"] == ld and call["b"]["step"] == (0 if batch == 1 else given.strides[0] // 8)
        assert call["a"]["step"] == 0


@pytest.mark.parametrize("x_shape, y_shape", [((2, 3), (2, 3)), ((0, 3), (3, 2)), ((3,), (3, 2)), ((2, 0), (0, 2)),
                                               ((2, 1, 1), (3, 1, 1)), ((0, 2, 2), (2, 2))])  # fmt: skip
def test_what_is_left_to_the_op(x_shape: Any, y_shape: Any, machine: HostMachine) -> None:
    assert KERNELS["bmm"](np.ones(x_shape), np.ones(y_shape)) is NotImplemented
    assert not machine.api.calls


def test_dtypes_that_are_left(machine: HostMachine) -> None:
    for kind in ("i4", "c8", "?"):
        assert KERNELS["mm"](np.ones((2, 2), kind), np.ones((2, 2), kind)) is NotImplemented
    assert KERNELS["mm"](np.ones((2, 2), "f4"), np.ones((2, 2))) is NotImplemented
    assert KERNELS["mm"](np.ones((1, 2, 2)), np.ones((2, 2))) is NotImplemented


def test_sums_into_an_array(machine: HostMachine) -> None:
    """alpha and beta, of other types than the operands, and float32 results of halves."""
    rng = np.random.default_rng(6)
    for dtype in DTYPES:
        x, y = (rng.standard_normal(s).astype(dtype) for s in ((3, 4), (4, 5)))
        out = put(machine, rng.standard_normal((3, 5)).astype(dtype))
        expected = 0.5 * (x.astype("f8") @ y.astype("f8")) + 2.0 * out.astype("f8")
        assert product(x, y, alpha=0.5, out=out, beta=2.0) is out
        same(out, expected, dtype)
        assert machine.api.calls[-1]["scale"] == (dtype.name == "float64")
    for dtype in DTYPES[2:]:
        x, y = (rng.standard_normal(s).astype(dtype) for s in ((3, 4), (4, 5)))
        found = product(x, y, out=put(machine, np.zeros((3, 5), "f4")))
        same(found, x.astype("f4") @ y.astype("f4"), np.dtype("f4"))
        assert machine.api.calls[-1]["d"]["type"] == 0


# ---- epilogues


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_linear(dtype: Any, machine: HostMachine) -> None:
    """The bias is added in the same call, whatever the layouts; a bias at an odd address is what it is added to."""
    rng = np.random.default_rng(7)
    w, b = (put(machine, rng.standard_normal(s).astype(dtype)) for s in ((5, 8), (5,)))
    for x in (rng.standard_normal(s).astype(dtype) for s in ((3, 8), (2, 3, 8), (1, 8), (8,), (2, 1, 4, 8))):
        for given in {rows, turned, part, heads} if x.ndim > 1 else {rows}:
            x_given = given(x)
            for weight in (w, turned(w), part(w)):
                expected = x.astype("f8") @ w.astype("f8").T
                before = len(machine.api.calls)
                same(KERNELS["linear"](x_given, weight), expected, dtype)
                same(KERNELS["linear"](x_given, weight, b), expected + b.astype("f8"), dtype)
                assert [c["epilogue"] for c in machine.api.calls[before:]] == [cublaslt.PLAIN, cublaslt.BIAS]
    odd = put(machine, b, skew=dtype.itemsize)
    same(KERNELS["linear"](x[0, 0], w, odd), x[0, 0].astype("f8") @ w.astype("f8").T + b.astype("f8"), dtype)
    assert machine.api.calls[-1]["epilogue"] == cublaslt.PLAIN and machine.api.calls[-1]["factors"] == [1.0, 1.0]


def test_linear_without_the_epilogue(machine: HostMachine) -> None:
    machine.api.refused.add(cublaslt.BIAS)
    x, w, b = np.ones((2, 3)), np.ones((4, 3)), put(machine, np.arange(4.0))
    for _ in range(2):
        same(KERNELS["linear"](x, w, b), x @ w.T + b, x.dtype)
    assert len(machine.api.asked) == 2, "asked once for each form"
    assert None in machine.lt.plans.values()


def test_linear_declines(machine: HostMachine) -> None:
    w = np.ones((4, 3))
    for x, b in [(np.ones((2, 5)), None), (np.ones(()), None), (np.ones((2, 3)), np.ones(5)),
                 (np.ones((2, 3)), np.ones(4, "f4")), (np.ones((0, 3)), np.ones(4))]:  # fmt: skip
        assert KERNELS["linear"](x, w, b) is NotImplemented
    assert KERNELS["linear"](np.ones((2, 0)), np.ones((4, 0)), np.ones(4)) is NotImplemented
    assert not machine.api.calls


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_gelu_of_a_linear_map(dtype: Any, machine: HostMachine) -> None:
    rng = np.random.default_rng(8)
    x, w, b = (put(machine, rng.standard_normal(s).astype(dtype)) for s in ((6, 8), (5, 8), (5,)))
    plain = x.astype("f8") @ w.astype("f8").T
    same(product(x, w.T, epilogue=cublaslt.GELU), gelu(plain), dtype)
    same(product(x, w.T, epilogue=cublaslt.GELU_BIAS, vector=b), gelu(plain + b.astype("f8")), dtype)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_gradients_of_weight_and_bias(dtype: Any, machine: HostMachine) -> None:
    rng = np.random.default_rng(9)
    for lead in ((6,), (2, 3), (2,)):
        for layout in (rows, part):
            g, x = layout(rng.standard_normal((*lead, 5)).astype(dtype)), rng.standard_normal((*lead, 8)).astype(dtype)
            flat_g, flat_x = (a.reshape(-1, a.shape[-1]).astype("f8") for a in (g, x))
            w, b = linear_parameters(g, x, needs=(True, True))
            same(w, flat_g.T @ flat_x, dtype)
            same(b, flat_g.sum(0), dtype)
            assert machine.api.calls[-1]["epilogue"] == cublaslt.BIAS_GRADIENT
            w, none = linear_parameters(g, x, needs=(True, False))
            same(w, flat_g.T @ flat_x, dtype)
            assert none is None
        machine.xp.check()


def test_a_layer_takes_three_products(machine: HostMachine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Forward with its bias; the weight's gradient with the bias's; the input's."""
    backend = emulation.EmulatedBackend(machine)  # type: ignore[arg-type]
    monkeypatch.setitem(registry._loaded, backend.name, backend)
    monkeypatch.setitem(registry._by_type, emulation.EmulatedArray, backend)
    rng = np.random.default_rng(10)
    x, w, b = (wrap(backend.asarray(rng.standard_normal(s).astype("f4"))) for s in ((2, 3, 8), (5, 8), (5,)))
    g = wrap(backend.asarray(rng.standard_normal((2, 3, 5)).astype("f4")))
    for t in (x, w, b):
        t.requires_grad_()
    found = torch.autograd.grad(torch.nn.functional.linear(x, w, b), (x, w, b), g)
    assert [c["epilogue"] for c in machine.api.calls] == [cublaslt.BIAS, cublaslt.BIAS_GRADIENT, cublaslt.PLAIN]
    rows_g, rows_x = (np.asarray(t.array).reshape(6, -1) for t in (g, x))
    expected = np.asarray(g.array) @ np.asarray(w.array), rows_g.T @ rows_x, rows_g.sum(0)
    for mine, exact in zip(found, expected, strict=True):
        same(np.asarray(mine.array), exact, np.dtype("f4"))


def test_gelu_of_a_layer_is_part_of_its_product(machine: HostMachine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no gradient is recorded."""
    backend = emulation.EmulatedBackend(machine)  # type: ignore[arg-type]
    monkeypatch.setitem(registry._loaded, backend.name, backend)
    monkeypatch.setitem(registry._by_type, emulation.EmulatedArray, backend)
    rng = np.random.default_rng(11)
    b, x, y = (wrap(backend.asarray(rng.standard_normal(s).astype("f4"))) for s in ((5,), (3, 8), (8, 5)))
    exact = gelu(np.asarray(x.array) @ np.asarray(y.array) + np.asarray(b.array))
    found = torch._addmm_activation(b, x, y, use_gelu=True)
    assert [c["epilogue"] for c in machine.api.calls] == [cublaslt.GELU_BIAS]
    same(np.asarray(found.array), exact, np.dtype("f4"))
    with torch.no_grad():
        torch._addmm_activation(b, x.requires_grad_(), y, use_gelu=True)
    assert len(machine.api.calls) == 2
    assert KERNELS["addmm_gelu"](b.array[:1], x.array, y.array) is NotImplemented


def test_gelu_of_a_product_beside_torch() -> None:
    real = pytest.importorskip("torch")
    rng = np.random.default_rng(12)
    arrays = [rng.standard_normal(s).astype("f4") for s in ((5,), (3, 8), (8, 5))]
    for options in ({}, {"use_gelu": True}, {"use_gelu": True, "beta": 0.5, "alpha": 2}):
        mine, theirs = (T._addmm_activation(*map(T.tensor, arrays), **options).numpy() for T in (torch, real))
        np.testing.assert_allclose(mine, theirs, rtol=1e-5, atol=1e-6)


def test_gradients_that_are_left_to_the_composite(machine: HostMachine) -> None:
    """No weight is asked for, a single row, a single column, nothing, no such epilogue."""
    g, x = np.ones((4, 5)), np.ones((4, 8))
    assert linear_parameters(g, x, needs=(False, True)) is NotImplemented
    for a, b in ((g[:1], x[:1]), (np.ones((4, 1)), x), (g[:0], x[:0]), (g, x.astype("f4"))):
        assert linear_parameters(a, b, needs=(True, True)) is NotImplemented
    machine.api.refused.add(cublaslt.BIAS_GRADIENT)
    assert linear_parameters(g, x, needs=(True, True)) is NotImplemented
    assert not machine.api.calls
    machine.lt = None
    assert product(g.T, x, epilogue=cublaslt.BIAS_GRADIENT, vector=np.empty(5)) is NotImplemented


# ---- plans


def test_a_plan_is_made_once(machine: HostMachine) -> None:
    x, y = put(machine, np.ones((4, 6), "f4")), put(machine, np.ones((6, 8), "f4"))
    for _ in range(3):
        KERNELS["mm"](x, y)
    assert len(machine.api.asked) == 1 and len(machine.api.calls) == 3
    asked = machine.api.asked[0]
    assert (asked["workspace"], asked["reductions"]) == (32 << 20, 7)
    others = [
        (x[:3], y), (x, y[:, :7]), (x.T, put(machine, np.ones((4, 8), "f4"))), (part(x), y), (x[None], y[None]),
        (np.ones((2, 4, 6), "f4"), np.ones((2, 6, 8), "f4")), (x.astype("f2"), y.astype("f2")),
    ]  # fmt: skip
    for count, (a, b) in enumerate(others, 2):
        KERNELS["bmm"](a, b)
        KERNELS["bmm"](a, b)
        assert len(machine.api.asked) == count - (count > 5), "x[None] is the same product as x"
    precision.put("cuda", "matmul", "tf32")
    before = len(machine.api.asked)
    KERNELS["mm"](x, y)
    machine.where = 1
    KERNELS["mm"](x, y)
    assert len(machine.api.asked) == before + 2, "another arithmetic, another device"


@pytest.mark.parametrize(("skew", "told"), [(0, 256), (16, 16), (8, 8), (4, 4)])
def test_plans_go_by_alignment(skew: int, told: int, machine: HostMachine) -> None:
    x = put(machine, np.ones((4, 6), "f4"), skew)
    KERNELS["mm"](x, put(machine, np.ones((6, 8), "f4")))
    assert machine.api.asked[-1]["b"] == told  # x is the second factor of the transposes
    assert [cublaslt.aligned(a) for a in (512, 256, 128, 48, 24, 2, 7)] == [256, 256, 16, 16, 8, 2, 1]


def test_plans_are_bounded_and_freed(machine: HostMachine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cublaslt, "MOST_PLANS", 5)
    for n in range(1, 20):
        KERNELS["mm"](np.ones((n, 2)), np.ones((2, 3)))
    gc.collect()
    kinds = [held["kind"] for held in machine.api.held.values()]
    assert len(machine.lt.plans) == 5
    assert {k: kinds.count(k) for k in kinds} == {"handle": 1, "description": 5, "layout": 15}
    machine.lt.plans.clear()
    gc.collect()
    assert [held["kind"] for held in machine.api.held.values()] == ["handle"]


def test_each_stream_has_a_workspace(machine: HostMachine) -> None:
    x, lt = np.ones((2, 2)), machine.lt
    for device, stream in ((0, 7), (0, 8), (1, 7), (0, 7)):
        machine.where, machine.on = device, stream
        KERNELS["mm"](x, x)
        assert machine.api.calls[-1]["stream"] == stream
    assert sorted(lt.workspaces) == [(0, 7), (0, 8), (1, 7)]
    held = lt.workspaces[0, 7][0]
    assert machine.release_workspace(7) is held and held.nbytes == 32 << 20 and (0, 7) not in lt.workspaces
    assert machine.release_workspace(7) is None and launch.Machine(np).release_workspace(7) is None
    KERNELS["mm"](x, x)
    assert lt.workspaces[0, 7][0] is not held


def test_a_graph_keeps_the_workspace_of_its_products(machine: HostMachine) -> None:
    """So that its replays share it with no other work, and what comes after on that stream gets another."""
    stream = SimpleNamespace(ptr=9, end_capture=lambda: "as CuPy has it")
    cupy = SimpleNamespace(cuda=SimpleNamespace(get_current_stream=lambda: stream))
    graphs, x = Graphs(SimpleNamespace(cupy=cupy)), np.ones((2, 2))
    machine.on = 9
    KERNELS["mm"](x, x)
    held = machine.lt.workspaces[0, 9][0]
    made = graphs.end()
    assert made.raw == "as CuPy has it" and made.workspace is held and (0, 9) not in machine.lt.workspaces
    KERNELS["mm"](x, x)
    assert machine.lt.workspaces[0, 9][0] is not held
    machine.lt.workspaces.clear()
    assert graphs.end().workspace is None, "a graph without products"


def test_no_plan_is_made_in_a_capture(machine: HostMachine) -> None:
    x, y, b = np.ones((4, 6), "f4"), np.ones((6, 8), "f4"), put(machine, np.ones(6, "f4"))
    KERNELS["mm"](x, y)
    KERNELS["linear"](y.T, x.T @ x, b)
    machine.in_capture = True
    KERNELS["mm"](x, y)
    KERNELS["linear"](y.T, x.T @ x, b)
    with pytest.raises(RuntimeError, match=r"^matrix product \(3, 6\) times \(6, 8\) in float32: there is no plan"):
        KERNELS["mm"](x[:3], y)
    with pytest.raises(RuntimeError, match=r"2 x \(4, 6\) times \(6, 8\) in float32.*Run the step once"):
        KERNELS["bmm"](np.stack([x, x]), np.stack([y, y]))


def test_threads_do_not_mix_their_vectors(machine: HostMachine) -> None:
    x, w = np.ones((2, 3)), np.ones((4, 3))
    wrong: list[int] = []

    def work(k: int) -> None:
        b = np.full(8, float(k))
        b = b[-machine.pointer(b) % 16 // 8 :][:4]
        for _ in range(50):
            if (KERNELS["linear"](x, w, b) != 3 + k).any():
                wrong.append(k)

    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    try:
        threads = [threading.Thread(target=work, args=(k,)) for k in range(4)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
    finally:
        sys.setswitchinterval(before)
    assert not wrong and len(machine.api.asked) == 1


def test_errors_of_the_library(machine: HostMachine) -> None:
    """What it does not support is computed otherwise; what it cannot do for other reasons is raised."""
    x = np.ones((2, 2), "f4")
    machine.api.failure = cublaslt.NOT_SUPPORTED
    asked: list[Any] = []
    machine._gemm = lambda *args: asked.append(args)  # type: ignore[method-assign]
    KERNELS["mm"](x, x)
    assert len(asked) == 1 and asked[0][1] == (2, 2, 2)
    machine.api.failure = 14
    with pytest.raises(LtError, match="status 14"):
        KERNELS["mm"](x[:1], x)


# ---- settings


def test_tf32(machine: HostMachine) -> None:
    """Every name of the switch; only products of float32 follow it."""
    rng = np.random.default_rng(10)
    x, y = (rng.standard_normal(s).astype("f4") for s in ((3, 40), (40, 5)))
    exact, rounded = x @ y, tf32(x) @ tf32(y)
    assert abs(exact - rounded).max() > 1e-5

    def is_rounded() -> bool:
        found = KERNELS["mm"](x, y)
        np.testing.assert_allclose(found, rounded if machine.api.calls[-1]["compute"] == 77 else exact, atol=1e-6)
        return machine.api.calls[-1]["compute"] == 77

    assert not is_rounded()
    backends = torch.backends
    torch.set_float32_matmul_precision("high")
    assert is_rounded() and backends.cuda.matmul.allow_tf32
    torch.set_float32_matmul_precision("highest")
    assert not is_rounded()
    backends.cuda.matmul.allow_tf32 = True
    assert is_rounded() and backends.cuda.matmul.fp32_precision == "tf32"
    for dtype, compute in (("f8", 70), ("f2", 68), (ml_dtypes.bfloat16, 68)):
        KERNELS["mm"](x.astype(dtype), y.astype(dtype))
        assert machine.api.calls[-1]["compute"] == compute
    backends.cuda.matmul.allow_tf32 = False
    assert not is_rounded()
    backends.cuda.matmul.fp32_precision = "none"
    backends.fp32_precision = "tf32"
    assert is_rounded()
    backends.cudnn.fp32_precision = "ieee"
    assert not is_rounded()


def test_sums_in_half_precision(machine: HostMachine) -> None:
    settings, held = torch.backends.cuda.matmul, dict(matmul_kernels.settings.held)
    try:
        for dtype, name, value, mask in [
            ("f2", "allow_fp16_reduced_precision_reduction", False, 3), (ml_dtypes.bfloat16, "", None, 7),
            (ml_dtypes.bfloat16, "allow_bf16_reduced_precision_reduction", (False, False), 0), ("f4", "", None, 7),
        ]:  # fmt: skip
            if name:
                setattr(settings, name, value)
            KERNELS["mm"](np.ones((2, 2), dtype), np.ones((2, 2), dtype))
            assert machine.api.asked[-1]["reductions"] == mask
        settings.allow_fp16_accumulation = True
        same(KERNELS["mm"](np.ones((2, 2), "f2"), np.ones((2, 2), "f2")), np.full((2, 2), 2.0), np.dtype("f2"))
        call = machine.api.calls[-1]
        assert (call["compute"], call["scale"], call["factors"]) == (64, 2, [1.0, 0.0])
        KERNELS["mm"](np.ones((2, 2), "f4"), np.ones((2, 2), "f4"))
        assert machine.api.calls[-1]["compute"] == 68
    finally:
        matmul_kernels.settings.held.update(held)
        settings.allow_fp16_accumulation = False


# ---- without nvmath


class Cublas:
    """CuPy's binding of cuBLAS, recording."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []

    def gemmEx(self, *args: Any) -> None:
        self.calls.append(args)

    def gemmStridedBatchedEx(self, *args: Any) -> None:
        self.calls.append(args)


def test_cublas_in_its_place() -> None:
    """What gemmEx gets, and what a capture is told where it refuses."""
    machine = launch.Machine(SimpleNamespace(cuda=SimpleNamespace(device=SimpleNamespace(get_cublas_handle=lambda: 9))))
    assert machine.lt is None
    cublas = machine.cublas = Cublas()  # type: ignore[misc]
    a, b, c = (SimpleNamespace(data=SimpleNamespace(ptr=k)) for k in (100, 200, 300))
    sizes, data = (3, 4, 5), (14, 0)
    machine.gemm((True, False), sizes, 0.5, (a, 5, 7), (b, 5, 8), 2.0, (c, 3, 12), 1, data, 68)
    machine.gemm((True, False), sizes, 0.5, (a, 5, 7), (b, 5, 8), 2.0, (c, 3, 12), 6, data, 68)
    one, many = cublas.calls
    assert one[:6] == (9, 1, 0, *sizes) and many[:6] == one[:6]
    assert one[7:13] == (100, 14, 5, 200, 14, 5) and one[14:] == (300, 0, 3, 68, -1)
    assert many[7:15] == (100, 14, 5, 7, 200, 14, 5, 8) and many[16:] == (300, 0, 3, 12, 6, 68, -1)
    assert [ctypes.c_float.from_address(p).value for p in (one[6], one[13])] == [0.5, 2.0]
    machine.gemm((False, False), sizes, 1.0, (a, 3, 0), (b, 5, 0), 0.0, (c, 3, 0), 1, (1, 1), 70)
    assert ctypes.c_double.from_address(cublas.calls[-1][6]).value == 1.0

    def refuse(*args: Any) -> None:
        raise NotImplementedError("calling cuBLAS API during stream capture is currently unsupported")

    cublas.gemmEx = refuse  # type: ignore[method-assign]
    with pytest.raises(RuntimeError, match="captured into a CUDA graph only where .* nvmath-python"):
        machine.gemm((False, False), sizes, 1.0, (a, 3, 0), (b, 5, 0), 0.0, (c, 3, 0), 1, (1, 1), 70)


def test_finding_nvmath(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = launch.Machine(ModuleType("cupy"))

    def missing(name: str) -> Any:
        raise ModuleNotFoundError(f"No module named {name!r}", name=name)

    monkeypatch.setattr(cublaslt, "outside", missing)
    lt, reason = cublaslt.found(machine)
    assert lt is None and "pip install 'nvmath-python~=1.0'" in reason
    api = Bindings()
    monkeypatch.setattr(cublaslt, "outside", lambda name: api)
    api.get_version = lambda: 130000  # type: ignore[attr-defined]
    assert isinstance(cublaslt.found(machine)[0], cublaslt.Lt) and machine.lt.api is api

    def broken() -> None:
        raise RuntimeError("Failed to dlopen libcublasLt")

    api.get_version = broken  # type: ignore[attr-defined]
    assert cublaslt.found(machine) == (None, "nvmath finds no cuBLASLt: Failed to dlopen libcublasLt")


# ---- where the packages are installed


def test_numbers_are_nvmaths() -> None:
    try:
        lt = compile.outside("nvmath.bindings.cublasLt")
    except ImportError as error:
        pytest.skip(f"nvmath cannot be imported: {error}")
    names = {
        "MatmulDescAttribute": {3: "TRANSA", 4: "TRANSB", 7: "EPILOGUE", 8: "BIAS_POINTER"},
        "MatrixLayoutAttribute": {5: "BATCH_COUNT", 6: "STRIDED_BATCH_OFFSET"},
        "MatmulPreferenceAttribute": {
            1: "MAX_WORKSPACE_BYTES", 3: "REDUCTION_SCHEME_MASK",
            **{5 + i: f"MIN_ALIGNMENT_{x}_BYTES" for i, x in enumerate("ABCD")},
        },
        "Epilogue": {1: "DEFAULT", 4: "BIAS", 32: "GELU", 36: "GELU_BIAS", 512: "BGRADB"},
    }  # fmt: skip
    for enum, members in names.items():
        assert {int(getattr(getattr(lt, enum), name)): name for name in members.values()} == members
    tables = {"matmul_desc": cublaslt.DESCRIPTION, "matrix_layout": cublaslt.LAYOUT,
              "matmul_preference": cublaslt.PREFERENCE}  # fmt: skip
    for kind, table in tables.items():
        assert set(names[{"matmul_desc": "MatmulDescAttribute", "matrix_layout": "MatrixLayoutAttribute",
                          "matmul_preference": "MatmulPreferenceAttribute"}[kind]]) == {n for n, _ in table.values()}
        for number, dtype in table.values():
            size = np.dtype(getattr(lt, f"get_{kind}_attribute_dtype")(number)).itemsize
            assert size == np.dtype(dtype).itemsize, (kind, number)
    assert lt.matmul_heuristic_result_dtype.itemsize == Bindings.matmul_heuristic_result_dtype.itemsize
    assert lt.matmul_heuristic_result_dtype.fields["algo"][1] == 0
    for name in ("matmul", "matmul_algo_get_heuristic", "matmul_desc_set_attribute", "matrix_layout_create"):
        theirs = getattr(lt, name).__doc__.split("(")[1].split(")")[0].count(",") + 1
        code = getattr(Bindings, name).__code__
        assert theirs == code.co_argcount - 1, name
    from nvmath.bindings import cublas

    assert [int(getattr(cublas.ComputeType, f"COMPUTE_{n}")) for n in ("16F", "32F", "32F_FAST_TF32", "64F")] == [
        matmul_kernels.HALF, matmul_kernels.FLOAT, matmul_kernels.FLOAT_AS_TF32, matmul_kernels.DOUBLE
    ]  # fmt: skip


class Library:
    """The installed cuBLASLt's own descriptors, which need no device, under nvmath's names."""

    cuBLASLtError = LtError

    def __init__(self, library: Any):
        self.library = library

    def _call(self, name: str, *args: Any) -> None:
        assert getattr(self.library, name)(*args) == 0, name

    def _made(self, name: str, *args: Any) -> int:
        handle = ctypes.c_void_p()
        self._call(name, ctypes.byref(handle), *args)
        return handle.value or 0

    def matmul_desc_create(self, compute: int, scale: int) -> int:
        return self._made("cublasLtMatmulDescCreate", compute, scale)

    def matrix_layout_create(self, kind: int, rows: int, cols: int, ld: int) -> int:
        sizes = ctypes.c_uint64(rows), ctypes.c_uint64(cols), ctypes.c_int64(ld)
        return self._made("cublasLtMatrixLayoutCreate", kind, *sizes)

    def matmul_preference_create(self) -> int:
        return self._made("cublasLtMatmulPreferenceCreate")

    def matmul_desc_destroy(self, handle: int) -> None:
        self._call("cublasLtMatmulDescDestroy", ctypes.c_void_p(handle))

    def matrix_layout_destroy(self, handle: int) -> None:
        self._call("cublasLtMatrixLayoutDestroy", ctypes.c_void_p(handle))

    def _attribute(self, name: str, handle: int, number: int, buffer: int, size: int, *rest: Any) -> None:
        self._call(name, ctypes.c_void_p(handle), number, ctypes.c_void_p(buffer), ctypes.c_size_t(size), *rest)

    def matmul_desc_set_attribute(self, *args: int) -> None:
        self._attribute("cublasLtMatmulDescSetAttribute", *args)

    def matrix_layout_set_attribute(self, *args: int) -> None:
        self._attribute("cublasLtMatrixLayoutSetAttribute", *args)

    def matmul_preference_set_attribute(self, *args: int) -> None:
        self._attribute("cublasLtMatmulPreferenceSetAttribute", *args)

    def read(self, kind: str, handle: int, number: int, dtype: str) -> int:
        held, written = np.zeros(1, dtype), ctypes.c_size_t()
        name = f"cublasLt{kind}GetAttribute"
        self._attribute(name, handle, number, held.ctypes.data, held.itemsize, ctypes.byref(written))
        assert written.value == held.itemsize
        return int(held[0])


def test_the_librarys_own_descriptors() -> None:
    """What a plan sets is what the installed cuBLASLt reads back; it needs no device for that."""
    try:
        path = compile.outside("cuda.pathfinder").load_nvidia_dynamic_lib("cublasLt").abs_path
        library = Library(ctypes.CDLL(path))
    except Exception as error:
        pytest.skip(f"cuBLASLt is not installed: {error}")
    asked = cublaslt.Product(
        0, (True, False), (5, 6, 7), (9, 8, 5), (100, 0, 30), 3, (14, 0), 68, cublaslt.BIAS, 7, (16, 16, 256)
    )
    plan = cublaslt.Plan(library, asked)
    plan.use(0x7F0000000010)
    read = [library.read("MatmulDesc", plan.description, *where) for where in ((0, "i4"), (1, "i4"))]
    assert read == [68, 0]
    read = [library.read("MatmulDesc", plan.description, *where) for where in cublaslt.DESCRIPTION.values()]
    assert read == [1, 0, cublaslt.BIAS, 0x7F0000000010]
    expected = [(14, 7, 5, 9, 3, 100), (14, 7, 6, 8, 3, 0), (0, 5, 6, 5, 3, 30)]
    for layout, values in zip(plan.layouts, expected, strict=True):
        fields = [(0, "u4"), (2, "u8"), (3, "u8"), (4, "i8"), *cublaslt.LAYOUT.values()]
        assert tuple(library.read("MatrixLayout", layout, *field) for field in fields) == values
    preference = library.matmul_preference_create()
    values = (cublaslt.WORKSPACE, 3, 16, 4, 8, 2)
    for (number, kind), value in zip(cublaslt.PREFERENCE.values(), values, strict=True):
        cublaslt._set(library.matmul_preference_set_attribute, preference, (number, kind), value)
        assert library.read("MatmulPreference", preference, number, kind) == value
    del plan


def test_cupys_arrays_give_the_same_calls(machine: HostMachine) -> None:
    """On CuPy arrays whose memory does not exist, with the layouts that are executed above."""
    try:
        cupy = compile.outside("cupy")
    except Exception as error:
        pytest.skip(f"CuPy cannot be imported: {error}")

    class Bare:
        copies = 0

        def empty(self, shape: Any, dtype: Any = "f4", order: str = "C") -> Any:
            return bare(shape, dtype)

        def ascontiguousarray(self, x: Any) -> Any:
            Bare.copies += 1
            return bare(x.shape, x.dtype)

        def broadcast_to(self, x: Any, shape: Any) -> Any:
            return cupy.broadcast_to(x, shape)

    def bare(shape: Any, dtype: Any) -> Any:
        dtype = np.dtype(dtype)
        memory = cupy.cuda.UnownedMemory(0x7F0000000000, max(1, int(np.prod(shape))) * dtype.itemsize, None, 0)
        return cupy.ndarray(shape, dtype, memptr=cupy.cuda.MemoryPointer(memory, 0))

    def like(a: Any) -> Any:
        """A CuPy array of the same shape and strides."""
        made = bare((4096,), a.dtype)
        return cupy.lib.stride_tricks.as_strided(made, a.shape, a.strides)

    other = HostMachine(Bare(), execute=False)
    for dtype in DTYPES:
        for x_layout in LAYOUTS:
            for y_layout in (rows, turned, heads, every_other):
                for x_shape, y_shape in SHAPES:
                    x, y = x_layout(np.ones(x_shape, dtype)), y_layout(np.ones(y_shape, dtype))
                    if any(s < 0 for s in x.strides):
                        continue
                    launch.use(machine)
                    KERNELS["bmm"](x, y)
                    launch.use(other)
                    assert KERNELS["bmm"](like(x), like(y)).shape == np.matmul(np.ones(x_shape), np.ones(y_shape)).shape
    assert other.api.calls == machine.api.calls and Bare.copies == machine.xp.copies
    launch.use(other)
    b, w = bare((3,), "f4"), bare((3, 4), "f4")
    KERNELS["linear"](bare((2, 5, 4), "f4"), w, b)
    assert other.api.calls[-1]["epilogue"] == cublaslt.BIAS and other.api.calls[-1]["d"]["cols"] == 10
    w_gradient, b_gradient = linear_parameters(bare((2, 5, 3), "f4"), bare((2, 5, 4), "f4"), needs=(True, True))
    assert w_gradient.shape == (3, 4) and b_gradient.shape == (3,)
