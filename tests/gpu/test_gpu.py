"""What needs a device: records, kernels and programs on CuPy, against NumPy and torch. Skipped where there is none.

`pytest --backend cupy` runs all other tests on the device too.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
import tapegrad as torch
from records import RECORDS
from records.base import Record
from tapegrad.autograd.op import OPS, load_late
from tapegrad.backends import registry
from test_cuda_kernels import DTYPES, GENERIC, SERVED, TOLERANCE, agree, rounded, run
from test_cuda_programs import losses
from test_programs import NAMES

if not torch.cuda.is_available():
    pytest.skip("CuPy finds no NVIDIA device", allow_module_level=True)
load_late()


def cupy() -> Any:
    return registry.load("cupy")


def launches(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the kernels that are launched from now on."""
    from tapegrad.backends.cupy import launch

    assert cupy().kernels
    found: list[str] = []
    call = launch.Kernel.__call__

    def counted(self: Any, *args: Any) -> None:
        found.append(self.name)
        call(self, *args)

    monkeypatch.setattr(launch.Kernel, "__call__", counted)
    gemm = launch.current().gemm
    monkeypatch.setattr(launch.current(), "gemm", lambda *args: found.append("gemm") or gemm(*args))
    return found


@pytest.mark.parametrize("record", RECORDS.values(), ids=lambda r: r.op)
def test_a_record_in_double_precision(record: Record) -> None:
    """No kernel takes float64: these are the generic forms on CuPy."""
    if OPS[record.op].moves:
        pytest.skip("moves between devices")
    for seed, sample in enumerate(record.samples(np.random.default_rng(1))):
        expected, grads = run(record, sample, list(sample.arrays), GENERIC, seed)
        found, found_grads = run(record, sample, list(sample.arrays), cupy().asarray, seed)
        for f, e in zip([*found, *found_grads], [*expected, *grads], strict=True):
            agree(f, e, 1e-9, f"{record.op}, sample {seed}")
            assert f is None or f.dtype == e.dtype


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("record", SERVED, ids=lambda r: r.op)
def test_a_record_through_the_kernels(record: Record, dtype: str, monkeypatch: pytest.MonkeyPatch) -> None:
    op, kind, names = OPS[record.op], DTYPES[dtype], launches(monkeypatch)
    for seed, sample in enumerate(record.samples(np.random.default_rng(1))):
        arrays = [a if a is None else rounded(a, kind) for a in sample.arrays]
        exact = [a if a is None or a.dtype.kind in "iub" else a.astype("f8") for a in arrays]
        expected, grads = run(record, sample, exact, GENERIC, seed)
        found, found_grads = run(record, sample, arrays, cupy().asarray, seed)
        for f, e in zip([*found, *found_grads], [*expected, *grads], strict=True):
            agree(f, e, TOLERANCE[dtype], f"{record.op}, sample {seed}")
    assert names or (op.composite and dtype != "float32")


@pytest.mark.parametrize("name", NAMES)
def test_a_program(name: str) -> None:
    """A matrix product of another library is rounded otherwise: 1e-3, as between tapegrad and torch on the CPU."""
    np.testing.assert_allclose(losses(name, "cuda"), losses(name, "fake"), rtol=1e-3)


def test_memory_does_not_grow() -> None:
    model = torch.nn.Sequential(torch.nn.Linear(64, 256), torch.nn.GELU(), torch.nn.LayerNorm(256)).to("cuda")
    optimizer = torch.optim.AdamW(model.parameters())
    used = []
    for _ in range(10):
        optimizer.zero_grad()
        model(torch.ones(32, 64, device="cuda")).pow(2).sum().backward()
        optimizer.step()
        used.append(torch.cuda.memory_allocated())
    assert used[-1] == used[2]
    torch.cuda.reset_peak_memory_stats()
    extra = torch.zeros(1 << 20, device="cuda")
    assert torch.cuda.max_memory_allocated() >= used[-1] + 4 * extra.numel()


def test_a_wrong_index_is_raised_at_the_next_synchronisation() -> None:
    w = torch.ones(5, 3, device="cuda")
    torch.nn.functional.embedding(torch.tensor([1, 9], device="cuda"), w)
    with pytest.raises(IndexError, match="index 9, size 5"):
        torch.cuda.synchronize()
    with pytest.raises(RuntimeError, match="invalid device ordinal"):
        torch.zeros(1, device="cuda:99")
    with pytest.raises(torch.OutOfMemoryError, match="Tried to allocate"):
        torch.empty(1 << 50, device="cuda")


def test_moves_and_streams() -> None:
    x = torch.ones(3, requires_grad=True)
    y = x.to("cuda")
    (y * 2).sum().backward()
    assert y.device.type == "cuda" and not y.is_leaf and x.grad.tolist() == [2, 2, 2]
    assert torch.nn.Linear(2, 2).to("cuda").weight.is_leaf
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        start.record()
        z = y.detach() * 3
        end.record()
    torch.cuda.current_stream().wait_stream(side)
    end.synchronize()
    assert start.elapsed_time(end) >= 0 and z.tolist() == [3, 3, 3]


def test_memory_is_shared_with_torch() -> None:
    theirs = pytest.importorskip("torch")
    if not theirs.cuda.is_available():
        pytest.skip("torch has no CUDA")
    for dtype in ("float32", "float16", "bfloat16", "int64"):
        a = theirs.ones(4, device="cuda", dtype=getattr(theirs, dtype))
        b = torch.from_dlpack(a)
        b[1] = 5
        torch.cuda.synchronize()
        assert a.tolist() == [1, 5, 1, 1] and b.device.type == "cuda"
        c = theirs.from_dlpack(b)
        assert c.data_ptr() == a.data_ptr()


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_gradients_have_the_same_bits_every_time(dtype: str) -> None:
    rng = np.random.default_rng(0)
    index = torch.tensor(rng.integers(0, 50, 5000)).to("cuda")
    bits = set()
    for _ in range(3):
        w = torch.ones(50, 64, dtype=getattr(torch, dtype), device="cuda", requires_grad=True)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            (torch.nn.functional.embedding(index, w) * torch.arange(64.0, device="cuda").to(w.dtype)).sum().backward()
        bits.add(w.grad.float().cpu().numpy().tobytes())
    assert len(bits) == 1
