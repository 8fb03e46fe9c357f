"""Matrix products on a device: cuBLASLt against NumPy in all layouts and dtypes, TF32, epilogues, capture, memory.

Skipped where there is no device. Where nvmath-python is missing the same products go through CuPy's cuBLAS; what only
cuBLASLt can do is skipped then.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import tapegrad as torch
from lt_on_host import gelu
from tapegrad.backends import precision, registry
from tapegrad.backends.cupy import cublaslt, launch
from tapegrad.backends.cupy.matmul_kernels import KERNELS, linear_parameters, product
from test_cuda_matmul import DTYPES, LAYOUTS, SHAPES, heads, part, rows, turned

if not torch.cuda.is_available():
    pytest.skip("CuPy finds no NVIDIA device", allow_module_level=True)

# of products of numbers about 1, up to a thousand of them in a sum
TOLERANCE = {"float32": 1e-5, "float64": 1e-13, "float16": 2e-3, "bfloat16": 1.6e-2}
APPROXIMATE = 10_000  # the GELU epilogue's tanh is the processor's own, good to about 1e-3


@pytest.fixture(autouse=True)
def settings() -> Iterator[None]:
    before = precision.kept()
    assert registry.load("cupy").kernels  # linking them tells the machine
    yield
    precision.restore(before)


def lt() -> Any:
    found = launch.current().lt
    if found is None:
        pytest.skip(f"cuBLASLt cannot be used: {cublaslt.found(launch.current())[1]}")
    return found


def held(x: Any, dtype: Any) -> Any:
    """The array with its layout on the device, by way of the memory that it is a view of."""
    base = np.asarray(x, dtype)
    whole = base if base.base is None else base.base
    while whole.base is not None:
        whole = whole.base
    offset = base.__array_interface__["data"][0] - whole.__array_interface__["data"][0]
    xp = launch.current().xp
    memory = xp.asarray(np.frombuffer(whole.tobytes(order="A"), np.uint8))
    made = xp.ndarray(base.shape, base.dtype, memptr=memory.data + offset, strides=base.strides)
    np.testing.assert_array_equal(xp.asnumpy(made), base)
    return made


def same(found: Any, expected: Any, dtype: Any, inner: int = 8) -> None:
    limit = TOLERANCE[dtype.name]
    host = launch.current().xp.asnumpy(found)
    assert host.dtype == dtype and host.shape == expected.shape
    np.testing.assert_allclose(host.astype("f8"), expected, rtol=limit, atol=limit * inner**0.5)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("x_layout", LAYOUTS, ids=lambda f: f.__name__)
def test_layouts(x_layout: Any, dtype: Any) -> None:
    rng = np.random.default_rng(3)
    for y_layout in LAYOUTS:
        for x_shape, y_shape in SHAPES:
            x, y = (f(rng.standard_normal(s).astype(dtype)) for f, s in ((x_layout, x_shape), (y_layout, y_shape)))
            same(KERNELS["bmm"](held(x, dtype), held(y, dtype)), x.astype("f8") @ y.astype("f8"), dtype)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("sizes", [(1024, 768, 512), (1000, 999, 1001), (16, 4096, 17), (1, 300, 2000)], ids=str)
def test_sizes(sizes: tuple[int, int, int], dtype: Any) -> None:
    n, k, m = sizes
    rng = np.random.default_rng(4)
    x, y = (rng.standard_normal(s).astype(dtype) for s in ((n, k), (k, m)))
    for a in (x, turned(x)):
        for b in (y, turned(y)):
            same(KERNELS["mm"](held(a, dtype), held(b, dtype)), x.astype("f8") @ y.astype("f8"), dtype, k)
    out = held(np.ones((n, m)), dtype)
    product(held(x, dtype), held(y, dtype), alpha=0.5, out=out, beta=2.0)
    same(out, 0.5 * (x.astype("f8") @ y.astype("f8")) + 2, dtype, k)


def test_plain_products_have_plans() -> None:
    """A product that cuBLASLt does not plan goes to cuBLAS and gives the same numbers: here it is told."""
    known = lt().plans
    for dtype in DTYPES:
        for x_shape, y_shape in SHAPES:
            KERNELS["bmm"](held(np.ones(x_shape), dtype), held(np.ones(y_shape), dtype))
    assert [str(asked) for asked, plan in known.items() if plan is None and asked[8] == cublaslt.PLAIN] == []


def test_tf32() -> None:
    """Ten bits of fraction where it is allowed, and only there: errors of 1e-4 to 1e-2 in place of 1e-6."""
    if torch.cuda.get_device_capability() < (8, 0):
        pytest.skip("this device has no TF32")
    rng = np.random.default_rng(5)
    x, y = (rng.standard_normal((512, 512)).astype("f4") for _ in range(2))
    a, b = torch.tensor(x, device="cuda"), torch.tensor(y, device="cuda")
    exact = x.astype("f8") @ y.astype("f8")

    def error() -> float:
        return float(abs((a @ b).cpu().numpy() - exact).max())

    assert error() < 1e-3
    torch.set_float32_matmul_precision("high")
    assert 2e-3 < error() < 0.3
    torch.backends.cuda.matmul.allow_tf32 = False
    assert error() < 1e-3
    torch.backends.cuda.matmul.fp32_precision = "tf32"
    assert 2e-3 < error() < 0.3


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_linear(dtype: Any) -> None:
    rng = np.random.default_rng(6)
    for lead, k, m in [((3,), 8, 5), ((2, 3), 8, 16), ((1,), 64, 64), ((128,), 768, 3072), ((), 8, 5)]:
        x, w, b = (rng.standard_normal(s).astype(dtype) for s in ((*lead, k), (m, k), (m,)))
        expected = x.astype("f8") @ w.astype("f8").T
        for layout in (rows, part, heads, turned) if len(lead) else (rows,):
            given, weight, bias = held(layout(x), dtype), held(w, dtype), held(b, dtype)
            same(KERNELS["linear"](given, weight), expected, dtype, k)
            same(KERNELS["linear"](given, weight, bias), expected + b.astype("f8"), dtype, k)
        odd = held(np.concatenate([b, b])[1 : m + 1], dtype)
        same(KERNELS["linear"](given, weight, odd), expected + odd.get().astype("f8"), dtype, k)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_epilogues(dtype: Any) -> None:
    """Where cuBLASLt has one: bias, GELU, gradients of bias and weight in one product. Float32 and halves must have."""
    lt()
    rng = np.random.default_rng(7)
    x, w, b, g = (rng.standard_normal(s).astype(dtype) for s in ((96, 64), (128, 64), (128,), (96, 128)))
    gx, gw, gb, gg = (held(a, dtype) for a in (x, w, b, g))
    plain = x.astype("f8") @ w.astype("f8").T
    found = {
        "bias": (product(gx, gw.T, epilogue=cublaslt.BIAS, vector=gb), plain + b.astype("f8")),
        "gelu": (product(gx, gw.T, epilogue=cublaslt.GELU), gelu(plain)),
        "gelu of bias": (product(gx, gw.T, epilogue=cublaslt.GELU_BIAS, vector=gb), gelu(plain + b.astype("f8"))),
    }
    both = linear_parameters(gg, gx, needs=(True, True))
    if both is not NotImplemented:
        same(both[0], g.astype("f8").T @ x.astype("f8"), dtype, 96)
        same(both[1], g.astype("f8").sum(0), dtype, 96)
    missing = [name for name, (out, _) in found.items() if out is NotImplemented]
    missing += ["gradient of bias"] * (both is NotImplemented)
    for name, (out, expected) in found.items():
        if out is not NotImplemented:
            same(out, expected, dtype, 64 if name == "bias" or dtype.itemsize < 4 else APPROXIMATE)
    assert not missing or dtype.name == "float64", f"cuBLASLt has no {missing} for {dtype}"


@pytest.mark.parametrize("name", ["float32", "bfloat16", "float16"])
def test_gradients_of_a_layer(name: str) -> None:
    """As on the CPU: the weight's and the bias's, for batches of several dimensions."""
    kind = getattr(torch, name)
    torch.manual_seed(0)
    host = torch.nn.Linear(48, 40)
    layer = torch.nn.Linear(48, 40).to("cuda", dtype=kind)
    layer.load_state_dict(host.state_dict())
    host.weight.data, host.bias.data = layer.weight.detach().cpu().float(), layer.bias.detach().cpu().float()
    x = torch.randn(3, 7, 48).to(kind).float()
    y = x.to("cuda", dtype=kind).requires_grad_()
    x.requires_grad_()
    g = torch.randn(3, 7, 40).to(kind).float()
    host(x).backward(g)
    layer(y).backward(g.to("cuda", dtype=kind))
    for mine, theirs in ((y, x), (layer.weight, host.weight), (layer.bias, host.bias)):
        limit = TOLERANCE[name]
        np.testing.assert_allclose(
            mine.grad.float().cpu().numpy(), theirs.grad.numpy(), rtol=limit, atol=limit * 48**0.5
        )


def test_sums_of_halves() -> None:
    """In float16 when asked for, else in float32: 4096 ones and a half each."""
    xp = launch.current().xp
    x, y = xp.full((64, 8192), 0.5, "f2"), xp.ones((8192, 64), "f2")
    matmul = torch.backends.cuda.matmul
    assert (KERNELS["mm"](x, y) == 4096).all()
    try:
        matmul.allow_fp16_reduced_precision_reduction = False
        assert (KERNELS["mm"](x, y) == 4096).all()
        matmul.allow_fp16_accumulation = True
        assert abs(KERNELS["mm"](x, y) - 4096).max() <= 64
    finally:
        matmul.allow_fp16_reduced_precision_reduction, matmul.allow_fp16_accumulation = True, False


def test_capture() -> None:
    """Products with plans are recorded and replayed, with their epilogues; one without a plan is an error."""
    lt()
    xp = launch.current().xp
    x, w, b = (xp.ones(s, "f4") for s in ((32, 64), (16, 64), (16,)))
    stream = xp.cuda.Stream(non_blocking=True)
    with stream:
        out = [KERNELS["linear"](x, w, b), KERNELS["mm"](w, x.T)]
        stream.synchronize()
        stream.begin_capture()
        try:
            out = [KERNELS["linear"](x, w, b), KERNELS["mm"](w, x.T)]
            with pytest.raises(RuntimeError, match="there is no plan for it"):
                KERNELS["mm"](w, x[:3].T)
        finally:
            graph = stream.end_capture()
        workspace = lt().release(stream.ptr)
        x *= 2
        graph.launch()
        stream.synchronize()
    assert workspace.nbytes == cublaslt.WORKSPACE
    assert (out[0] == 129).all() and (out[1] == 128).all()


def test_memory_does_not_grow() -> None:
    model = torch.nn.Sequential(torch.nn.Linear(64, 256), torch.nn.GELU(), torch.nn.Linear(256, 8)).to("cuda")
    used = []
    for _ in range(6):
        model.zero_grad()
        x = torch.ones(4, 32, 64, device="cuda")
        (model(x).pow(2).sum() + (x @ x.mT).sum()).backward()
        used.append(torch.cuda.memory_allocated())
    assert used[-1] == used[2]


def test_streams_do_not_share_a_workspace() -> None:
    """Products that need one run on two streams at once, again and again."""
    xp = launch.current().xp
    rng = np.random.default_rng(8)
    pairs = [[xp.asarray(rng.standard_normal(s).astype("f4")) for s in ((64, 20000), (20000, 64))] for _ in range(2)]
    expected = [x.get().astype("f8") @ y.get().astype("f8") for x, y in pairs]
    streams = [xp.cuda.Stream(non_blocking=True) for _ in range(2)]
    xp.cuda.Device().synchronize()
    found: list[list[Any]] = [[], []]
    for _ in range(20):
        for (x, y), stream, made in zip(pairs, streams, found, strict=True):
            with stream:
                made.append(KERNELS["mm"](x, y))
    for stream in streams:
        stream.synchronize()
    for made, exact in zip(found, expected, strict=True):
        for out in made:
            np.testing.assert_allclose(out.get(), exact, rtol=1e-3, atol=2e-2)
