"""Devices, streams, memory, bounds and other libraries on a real GPU. Skipped where there is none.

The same calls as in tests/cupy_checks.py, where CuPy runs over pretended devices, with values.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import tapegrad as torch
from tapegrad.backends import registry
from tapegrad.backends.cupy import bounds

if not torch.cuda.is_available():
    pytest.skip("CuPy finds no NVIDIA device", allow_module_level=True)
F = torch.nn.functional
several = pytest.mark.skipif(torch.cuda.device_count() < 2, reason="there is one device")


def cupy() -> Any:
    return registry.load("cupy").cupy


# ---- indices ---------------------------------------------------------------------------------------------------------

X = torch.arange(20.0).view(4, 5).cuda()


def at(*values: int) -> torch.Tensor:
    return torch.tensor(values, device="cuda")


WRONG: dict[str, tuple[Callable[[], Any], type[Exception], str]] = {
    "getitem": (lambda: X[at(0, 4)], IndexError, "index 4 is out of bounds for dimension 0 with size 4"),
    "getitem, second": (lambda: X[:, at(-6)], IndexError, "index -6 is out of bounds for dimension 1 with size 5"),
    "getitem, two": (lambda: X[at(0), at(7)], IndexError, "index 7 is out of bounds for dimension 1 with size 5"),
    "setitem": (lambda: X.clone().__setitem__(at(9), 0.0), IndexError, "index 9 is out of bounds"),
    "take": (lambda: X.take(at(20)), IndexError, "out of range: tried to access index 20 on a tensor of 20 elements"),
    "put_": (lambda: X.clone().put_(at(-21), at(1).float()), IndexError, "index -21 on a tensor of 20"),
    "gather": (lambda: X.gather(0, at(4, 0)[None]), RuntimeError, "index 4 is out of bounds for dimension 0 with"),
    "scatter_": (lambda: X.clone().scatter_(1, at(-1)[None], 1.0), RuntimeError, "index -1 is out of bounds"),
    "scatter_add_": (lambda: X.clone().scatter_add_(0, at(5)[None], X), RuntimeError, "index 5 is out of bounds"),
    "index_select": (lambda: X.index_select(0, at(4)), IndexError, "index out of range in self"),
    "index_add_": (lambda: X.clone().index_add_(0, at(6), X[:1]), RuntimeError, "index 6 is out of bounds"),
    "index_fill_": (lambda: X.clone().index_fill_(0, at(8), 1.0), IndexError, "index 8 is out of bounds"),
    "embedding": (lambda: F.embedding(at(1, 4), X), IndexError, "index 4, size 4"),
    "embedding, double": (lambda: F.embedding(at(1, -1), X.double()), IndexError, "index -1, size 4"),
    "cross_entropy": (lambda: F.cross_entropy(X, at(0, 1, 5, 2)), IndexError, "Target 5 is out of bounds"),
    "cross_entropy, double": (lambda: F.cross_entropy(X.double(), at(0, 1, 5, 2)), IndexError, "Target 5 is out of"),
    "nll_loss": (lambda: F.nll_loss(X, at(0, -3, 1, 2)), IndexError, "Target -3 is out of bounds"),
    "binary_cross_entropy": (lambda: F.binary_cross_entropy(X, X), RuntimeError, "all elements of input should be"),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_index_is_told_at_the_next_synchronisation(name: str) -> None:
    call, kind, text = WRONG[name]
    torch.cuda.synchronize()
    call()
    with pytest.raises(kind) as caught:
        torch.cuda.synchronize()
    assert text in str(caught.value) and "found on the device" in str(caught.value)
    torch.cuda.synchronize()
    assert not bounds._pending.launched


def test_right_indices_say_nothing() -> None:
    assert X[at(-1, 0)].tolist() == [X[3].tolist(), X[0].tolist()] and X[at(0, -4)[:, None], at(1, 2)].sum().item() == 6
    target = at(0, -100, 4, 2)
    found = F.cross_entropy(X.double(), target).item()
    assert found == pytest.approx(F.cross_entropy(X.double().cpu(), target.cpu()).item(), rel=1e-12)
    weight = torch.rand(5, dtype=torch.float64)
    for reduction in ("mean", "sum", "none"):
        x = X.double().log_softmax(1)
        here = F.nll_loss(x, target, weight.cuda(), reduction=reduction).cpu()
        assert here.tolist() == pytest.approx(F.nll_loss(x.cpu(), target.cpu(), weight, reduction=reduction).tolist())


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_gradients_of_rows_have_the_same_bits_every_time(dtype: str) -> None:
    index = torch.tensor(np.random.default_rng(0).integers(-50, 50, 5000)).cuda()
    g = torch.randn(5000, 33, device="cuda").to(getattr(torch, dtype))
    bits = set()
    for _ in range(3):
        x = torch.zeros(50, 33, device="cuda", dtype=g.dtype, requires_grad=True)
        x[index].backward(g)
        bits.add(x.grad.float().cpu().numpy().tobytes())
    assert len(bits) == 1


# ---- what CuPy does otherwise than NumPy -----------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64", "int8", "uint8", "int64", "complex64"])
@pytest.mark.parametrize("reduce", ["sum", "prod", "amax", "amin"])
def test_values_that_fall_on_one_place(dtype: str, reduce: str) -> None:
    if dtype == "complex64" and reduce != "sum":
        pytest.skip("no order among complex numbers")
    kind, rng = getattr(torch, dtype), np.random.default_rng(0)
    index = torch.tensor(rng.integers(0, 4, (30, 3)))
    src = torch.tensor(rng.integers(1, 3, (30, 3))).to(kind)
    x = torch.ones(4, 3).to(kind)
    if reduce == "sum":
        found = x.cuda().scatter_add(0, index.cuda(), src.cuda())
        expected = x.scatter_add(0, index, src)
    else:
        found = x.cuda().scatter_reduce(0, index.cuda(), src.cuda(), reduce)
        expected = x.scatter_reduce(0, index, src, reduce)
    assert found.dtype is kind and found.cpu().tolist() == expected.tolist()


def test_choices_of_bfloat16() -> None:
    x = torch.randn(5, 6, dtype=torch.bfloat16)
    y = x.cuda()
    assert torch.where(y > 0, y, 0).cpu().tolist() == torch.where(x > 0, x, 0).tolist()
    for function in (torch.tril, torch.triu, torch.relu, lambda v: v.clamp(-1, 1), lambda v: v.masked_fill(v < 0, 2)):
        found = function(y)
        assert found.dtype is torch.bfloat16 and found.cpu().tolist() == function(x).tolist()


def test_windows_and_stacks_of_systems() -> None:
    x = torch.arange(12.0, device="cuda", requires_grad=True)
    x.unfold(0, 4, 3).sum().backward()
    assert x.grad.tolist() == [1, 1, 1, 2, 1, 1, 2, 1, 1, 1, 0, 0]
    a, b = torch.eye(3).repeat(4, 1, 1) * 2, torch.ones(3, 2)
    assert torch.linalg.solve(a.cuda(), b.cuda()).cpu().tolist() == torch.linalg.solve(a, b).tolist()
    assert torch.special.airy_ai(torch.zeros(1, device="cuda")).item() == pytest.approx(0.3550280, rel=1e-6)


# ---- streams, memory, other libraries --------------------------------------------------------------------------------


def test_streams_and_times() -> None:
    side, start, end = torch.cuda.Stream(), *(torch.cuda.Event(enable_timing=True) for _ in range(2))
    x = torch.ones(1000, 1000, device="cuda")
    with torch.cuda.stream(side):
        side.wait_stream(torch.cuda.default_stream())
        start.record()
        y = x @ x
        end.record()
        assert torch.cuda.current_stream() == side
    torch.cuda.current_stream().wait_event(end)
    assert y.sum().item() == 1e9 and side.query() and start.elapsed_time(end) > 0
    assert torch.cuda.ExternalStream(side.cuda_stream) is not None


def test_memory_figures() -> None:
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    x = torch.ones(1 << 20, device="cuda")
    del x
    assert torch.cuda.memory_allocated() == before and torch.cuda.max_memory_allocated() >= before + (4 << 20)
    assert torch.cuda.memory_reserved() >= 4 << 20
    torch.cuda.empty_cache()
    free, total = torch.cuda.mem_get_info()
    assert 0 < free <= total == torch.cuda.get_device_properties(0).total_memory
    held = torch.ones(1 << 20, device="cuda")
    with pytest.raises(torch.cuda.OutOfMemoryError, match="Tried to allocate") as caught:
        torch.ones(1 << 46, device="cuda")
    assert "Tensor (1048576,) float32" in str(caught.value) and held is not None


def test_cupys_arrays_are_shared() -> None:
    for dtype in ("f4", "f2", "i8", "c8"):
        a = cupy().arange(6).astype(dtype).reshape(2, 3)
        for t in (torch.as_tensor(a), torch.from_dlpack(a)):
            t[0, 1] = 7
            assert a[0, 1] == 7 and cupy().asarray(t).data.ptr == a.data.ptr
    assert torch.as_tensor(cupy().arange(3.0)).t().tolist() == [0, 1, 2]


def test_torchs_tensors_are_shared_on_another_stream() -> None:
    theirs = pytest.importorskip("torch")
    if not theirs.cuda.is_available():
        pytest.skip("torch has no CUDA")
    side = torch.cuda.Stream()
    a = theirs.zeros(1 << 22, device="cuda")
    for _ in range(50):
        a += 1
    with torch.cuda.stream(side):
        b = torch.from_dlpack(a) * 2  # waits for torch's stream
        assert (b == 100).all().item()
    assert theirs.as_tensor(torch.ones(3, device="cuda"), device="cuda").tolist() == [1, 1, 1]
    half = theirs.ones(3, device="cuda", dtype=theirs.bfloat16)
    assert torch.as_tensor(half).dtype is torch.bfloat16 and torch.as_tensor(half).data_ptr() == half.data_ptr()


def test_checkpoints_between_the_devices() -> None:
    model = torch.nn.Linear(3, 2).cuda()
    optimizer = torch.optim.AdamW(model.parameters())
    model(torch.ones(1, 3, device="cuda")).sum().backward()
    optimizer.step()
    file = io.BytesIO()
    torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict()}, file)
    file.seek(0)
    saved = torch.load(file, map_location="cpu")
    host = torch.nn.Linear(3, 2)
    other = torch.optim.AdamW(host.parameters())
    host.load_state_dict(saved["model"])
    other.load_state_dict(saved["optimizer"])
    for ours, p in zip(host.parameters(), model.parameters(), strict=True):
        assert ours.tolist() == p.tolist() and str(other.state[ours]["exp_avg"].device) == "cpu"
    file.seek(0)
    assert torch.load(file)["model"]["weight"].is_cuda


@several
def test_work_on_the_second_device() -> None:
    model = torch.nn.Sequential(torch.nn.Linear(8, 16), torch.nn.GELU(), torch.nn.LayerNorm(16)).to("cuda:1")
    x = torch.randn(4, 8, device="cuda:1")
    optimizer = torch.optim.AdamW(model.parameters())
    for _ in range(3):
        optimizer.zero_grad()
        model(x).pow(2).sum().backward()
        optimizer.step()
    assert torch.cuda.current_device() == 0 and {str(p.grad.device) for p in model.parameters()} == {"cuda:1"}
    with pytest.raises(RuntimeError, match="two devices, cuda:0 and cuda:1!"):
        X + torch.ones(4, 5, device="cuda:1")
    y = X.detach().clone().requires_grad_()
    (y.to("cuda:1") * 2).sum().backward()
    assert str(y.grad.device) == "cuda:0" and y.grad.sum().item() == 40
