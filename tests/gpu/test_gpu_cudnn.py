"""Convolution and attention on a device: through cuDNN and without it, against float64 on the CPU and against torch."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import tapegrad as torch
from records import conv as reference
from tapegrad.backends import cuda, registry
from tapegrad.backends import cudnn as settings

if not torch.cuda.is_available():
    pytest.skip("CuPy finds no NVIDIA device", allow_module_level=True)

from tapegrad.backends.cupy import attention_kernels, conv_kernels, cudnn, cudnn_check
from test_cuda_cudnn import DTYPES, KEPT, expectations, generic, operands, results

ROOM = registry.load("cupy")
KERNELS, xp = ROOM.kernels, ROOM.xp
# what one rounding of inputs to TF32, or of results to halves, may change in sums of a few dozen products
TOLERANCE = {"f4": 2e-5, "tf32": 5e-3, "f8": 1e-11, "f2": 5e-3, "bf": 4e-2}
needs_cudnn = pytest.mark.skipif(cudnn.library() is None, reason=f"no cuDNN: {cudnn.why_not()}")


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Any]]:
    """The plans that cuDNN runs from now on."""
    found: list[Any] = []
    run = cudnn.Library.run
    monkeypatch.setattr(cudnn.Library, "run", lambda self, plan, arrays: found.append(plan) or run(self, plan, arrays))
    yield found


def put(x: Any, last: bool = False) -> Any:
    """The array on the device, its channels side by side where `last`."""
    if not last:
        return xp.asarray(np.ascontiguousarray(x))
    return xp.moveaxis(xp.asarray(np.ascontiguousarray(np.moveaxis(x, 1, -1))), -1, 1)


def near(found: Any, expected: Any, tolerance: float) -> None:
    scale = max(1.0, float(np.abs(expected).max()))
    host = xp.asnumpy(found).astype("f8")
    np.testing.assert_allclose(host, expected, rtol=tolerance, atol=tolerance * scale)


# ---- convolution


@needs_cudnn
@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize("precision", TOLERANCE)
@pytest.mark.parametrize("case", KEPT, ids=str)
def test_convolutions_through_cudnn(case: Any, precision: str, last: bool, ran: list[Any]) -> None:
    dtype = "f4" if precision == "tf32" else precision
    arrays, kw = operands(case, dtype)
    laid = [put(a, last and a.ndim > 3) for a in arrays]
    with settings.flags(enabled=True, allow_tf32=precision == "tf32"):
        found = results(*laid, kw, lambda op, *a, **k: KERNELS[op](*a, **k))
    assert len(ran) == 4
    for f, e in zip(found, expectations(arrays, kw), strict=True):
        near(f, e, TOLERANCE[precision])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("case", KEPT, ids=str)
def test_convolutions_by_columns(case: Any, dtype: str, ran: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    arrays, kw = operands(case, dtype)
    for most in (conv_kernels.COLUMNS, 1):
        monkeypatch.setattr(conv_kernels, "COLUMNS", most)
        with settings.flags(enabled=False):
            found = results(*map(put, arrays), kw, lambda op, *a, **k: KERNELS[op](*a, **k))
        for f, e in zip(found, expectations(arrays, kw), strict=True):
            near(f, e, TOLERANCE[dtype])
    assert not ran


@needs_cudnn
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("last", [False, True])
def test_a_convolution_is_torch_s(dtype: str, last: bool) -> None:
    """The layers of ResNet-50's first stage, with gradients and memory format."""
    theirs = pytest.importorskip("torch")
    if not theirs.cuda.is_available():
        pytest.skip("torch has no CUDA")
    rng = np.random.default_rng(0)
    for c, n, o, k, s in cudnn_check.RESNET[:8]:
        x, w = rng.standard_normal((8, c, n, n), "f4"), rng.standard_normal((o, c, k, k), "f4") / (c * k * k) ** 0.5
        made = []
        for T in (theirs, torch):
            layout = T.channels_last if last else T.contiguous_format
            a, b = (
                T.tensor(v).to("cuda").to(getattr(T, dtype)).contiguous(memory_format=layout).requires_grad_()
                for v in (x, w)
            )
            y = T.nn.functional.conv2d(a, b, None, s, k // 2)
            (y.float() ** 2).mean().backward()
            assert y.is_contiguous(memory_format=layout)
            made.append([t.detach().float().cpu().numpy() for t in (y, a.grad, b.grad)])
        for f, e in zip(made[1], made[0], strict=True):
            scale = np.abs(e).max()
            np.testing.assert_allclose(f / scale, e / scale, rtol=2e-2, atol=2e-2 if dtype == "bfloat16" else 3e-3)


@needs_cudnn
def test_the_switches(ran: list[Any]) -> None:
    """The fastest way is right too; deterministic ways give the same bits; without TF32 float32 is exact."""
    rng = np.random.default_rng(1)
    kw = {"stride": (1, 1), "padding": (1, 1), "dilation": (1, 1), "groups": 1}
    arrays = [rng.standard_normal(s).astype("f4") for s in [(16, 32, 28, 28), (64, 32, 3, 3), (64,), (32,)]]
    arrays.append(rng.standard_normal((16, 64, 28, 28)).astype("f4"))
    exact = KERNELS["conv"](*[put(a.astype("f8")) for a in arrays[:3]], **kw)
    errors = {}
    for tf32 in (False, True):
        with settings.flags(enabled=True, allow_tf32=tf32, benchmark=True):
            found = KERNELS["conv"](*map(put, arrays[:3]), **kw)
            errors[tf32] = float(abs(found - exact).max())
        assert not ran[-1].tune
    assert errors[False] < 1e-4 and errors[True] < 0.2
    with settings.flags(enabled=True, deterministic=True):
        bits = set()
        for _ in range(4):
            found = results(*map(put, arrays), kw, lambda op, *a, **k: KERNELS[op](*a, **k))
            bits.add(tuple(xp.asnumpy(f).tobytes() for f in found))
    assert len(bits) == 1


# ---- attention

SHAPES = [(2, 3, 128, 128, 64), (2, 3, 197, 197, 64), (1, 2, 7, 300, 32), (2, 2, 300, 70, 40), (2, 1, 1, 64, 8)]


@pytest.mark.parametrize("way", ["cudnn", "products", "blocks"])
@pytest.mark.parametrize("dtype", ["f2", "bf"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_attention(shape: Any, dtype: str, way: str, ran: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Heads within rows; scores of small and of strongly negative numbers, which have troubled cuDNN."""
    if way == "cudnn" and cudnn.library() is None:
        pytest.skip(f"no cuDNN: {cudnn.why_not()}")
    if way == "blocks":
        monkeypatch.setattr(attention_kernels, "SCORES", 1)
    batch, heads, queries, keys, width = shape
    rng = np.random.default_rng(2)
    for causal, shift in [(False, 0.0), (True, 0.0), (False, 5.0)]:
        sizes = (queries, keys, keys, queries)
        host = [rng.standard_normal((batch, n, heads, width)) * 0.5 for n in sizes]
        host[0], host[1] = host[0] + shift, host[1] - shift
        host = [a.astype(DTYPES[dtype]) for a in host]
        q, k, v, g = (xp.asarray(a).swapaxes(1, 2) for a in host)
        kw = {"causal": causal, "scale": width**-0.5}
        with settings.flags(enabled=way == "cudnn"):
            out, kept = KERNELS["attention"](q, k, v, **kw)
            how = kw | {"needs": (True, True, True, False)}
            found = KERNELS["attention_backward"](g, q, k, v, None, None, out, kept, **how)
        assert bool(ran) == (way == "cudnn")
        hq, hk, hv, hg = (a.swapaxes(1, 2) for a in host)
        near(out, generic("attention", hq, hk, hv, **kw)[0], 2 * TOLERANCE[dtype])
        exact = generic("attention_backward", hg, hq, hk, hv, None, None, None, None, **how)
        for f, e in zip(found[:3], exact[:3], strict=True):
            assert bool(xp.isfinite(f).all())
            near(f, e, 4 * TOLERANCE[dtype])


@needs_cudnn
def test_attention_of_a_module_goes_through_cudnn(ran: list[Any]) -> None:
    q = torch.randn(2, 12, 256, 64, device="cuda", dtype=torch.bfloat16, requires_grad=True)
    y = torch.nn.functional.scaled_dot_product_attention(q, q, q, is_causal=True)
    y.float().sum().backward()
    assert len(ran) == 2 and bool(torch.isfinite(q.grad).all())
    cuda.enable_cudnn_sdp(False)
    try:
        torch.nn.functional.scaled_dot_product_attention(q, q, q, is_causal=True)
    finally:
        cuda.enable_cudnn_sdp(True)
    assert len(ran) == 2


# ---- graphs, memory, the device


@pytest.mark.parametrize("way", ["cudnn", "own"])
def test_capture(way: str) -> None:
    """What was planned before is captured, workspaces and all, and replayed on other numbers."""
    if way == "cudnn" and cudnn.library() is None:
        pytest.skip(f"no cuDNN: {cudnn.why_not()}")
    rng = np.random.default_rng(3)
    kw = {"stride": (1, 1), "padding": (1, 1), "dilation": (1, 1), "groups": 1}
    x, w = (put(rng.standard_normal(s).astype("f2")) for s in [(4, 16, 16, 16), (16, 16, 3, 3)])
    q = put(rng.standard_normal((2, 4, 100, 32)).astype("f2"))

    def step() -> list[Any]:
        y = KERNELS["conv"](x, w, **kw)
        gx, gw = KERNELS["conv_input"](y, w, shape=x.shape, **kw), KERNELS["conv_weight"](x, y, shape=w.shape, **kw)
        out, kept = KERNELS["attention"](q, q, q, causal=True, scale=0.2)
        how = {"needs": (True, True, True, False), "causal": True, "scale": 0.2}
        return [y, gx, gw, out, *KERNELS["attention_backward"](out, q, q, q, None, None, out, kept, **how)[:3]]

    with settings.flags(enabled=way == "cudnn"):
        stream, pool = xp.cuda.Stream(non_blocking=True), xp.cuda.MemoryPool()
        xp.cuda.Device().synchronize()
        with stream, xp.cuda.using_allocator(pool.malloc):
            step()
            stream.begin_capture()
            captured = step()
            graph = stream.end_capture()
            for array in (x, w, q):
                array *= 0.5
            graph.launch(stream)
            stream.synchronize()
        for f, e in zip(captured, step(), strict=True):
            near(f, xp.asnumpy(e).astype("f8"), 1e-2)


@needs_cudnn
def test_memory_does_not_grow() -> None:
    layers = torch.nn.Conv2d(3, 16, 3), torch.nn.ReLU(), torch.nn.Conv2d(16, 16, 3, stride=2)
    net = torch.nn.Sequential(*layers).to("cuda")
    used = []
    for _ in range(6):
        net(torch.ones(8, 3, 32, 32, device="cuda")).sum().backward()
        used.append(torch.cuda.memory_allocated())
    assert used[-1] == used[2]
    assert len(cudnn.library().kept.plans) <= cudnn.PLANS


@needs_cudnn
def test_the_check_s_devices_are_described_as_devices_describe_themselves() -> None:
    """The fields that `make cudnn-check` fills in; on an A100 or H200 also what matters of their values."""
    found = json.loads(cudnn.library().frontend.create_device_properties(0).serialize())
    for arch, device in cudnn_check.DEVICES.items():
        told = cudnn_check.COMMON | device
        assert set(told) == set(found)
        if found["deviceName"] == told["deviceName"]:
            loose = {"driverVer", "totalGlobalMem", "smClockRateKHz", "memClockRateKHz", "pciDeviceId", "cudaDeviceId"}
            differing = {k: (told[k], found[k]) for k in set(told) - loose if told[k] != found[k]}
            assert not differing, f"sm_{arch}: {differing}"


def test_out_of_what_cudnn_takes() -> None:
    """Other dtypes go the generic way on the device."""
    x, w, kw = reference.CASES[2]
    for dtype in ("int64", "complex64"):
        a, b = (np.arange(np.prod(s)).reshape(s).astype(dtype) for s in (x, w))
        found = torch.nn.functional.conv2d(
            torch.tensor(a).to("cuda"), torch.tensor(b).to("cuda"), None, kw["stride"], kw["padding"], kw["dilation"]
        )
        expected = reference.conv(a, b, **kw)
        assert found.cpu().numpy().tolist() == expected.tolist()
