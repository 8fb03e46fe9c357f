"""Optimizers of parameters on a device: beside the same steps on the host, with and without numbers kept there.

The fake device has no kernels: the formulas run on arrays. The device that executes the CUDA sources on the CPU takes
many tensors at a time.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import cuda_on_cpu as emulation
import numpy as np
import pytest
import tapegrad as torch
from tapegrad import nn, optim
from tapegrad.backends import registry
from tapegrad.backends.cupy import launch

# formula, options, whether torch has `capturable`
CASES: list[tuple[str, dict[str, Any], bool]] = [
    ("Adam", {"lr": 0.1, "amsgrad": True, "weight_decay": 0.1}, True), ("AdamW", {"lr": 0.1, "maximize": True}, True),
    ("NAdam", {"lr": 0.1, "decoupled_weight_decay": True, "weight_decay": 0.1}, True), ("RAdam", {"lr": 0.1}, True),
    ("Adamax", {"lr": 0.1}, True), ("Adadelta", {"lr": 0.5}, True), ("ASGD", {"lr": 0.1, "t0": 4}, True),
    ("RMSprop", {"lr": 0.01, "centered": True, "momentum": 0.5}, True), ("Rprop", {"lr": 0.01}, True),
    ("SGD", {"lr": 0.1, "momentum": 0.9, "dampening": 0.1}, False), ("SGD", {"lr": 0.1, "nesterov": False}, False),
    ("Adagrad", {"lr": 0.1, "lr_decay": 0.1}, False),
]  # fmt: skip
IDS = [f"{name}-{k}" for k, (name, _, _) in enumerate(CASES)]


@pytest.fixture(params=["fake", "cuda_on_cpu"])
def place(request: pytest.FixtureRequest) -> Iterator[str]:
    if request.param == "fake":
        yield "fake"
        return
    if emulation.COMPILER is None:
        pytest.skip("no C++ compiler (g++, or CXX) is installed")
    before = dict(registry._loaded)
    machine = emulation.CpuMachine()
    launch.use(machine)
    registry.register(emulation.EmulatedBackend(machine))
    yield "cuda_on_cpu"
    registry._loaded.clear()
    registry._loaded.update(before)


def leaves(place: str, dtype: Any = None) -> list[Any]:
    torch.manual_seed(0)
    made = [torch.randn(3, 4), torch.randn(5, 6).T, torch.tensor(0.3), torch.randn(7)]
    return [t.to(place, dtype or torch.float32).requires_grad_() for t in made]


def run(place: str, name: str, options: dict[str, Any], dtype: Any = None, steps: int = 9) -> tuple[list[Any], Any]:
    params = leaves(place, dtype)
    optimizer = getattr(optim, name)(params, **options)
    for k in range(steps):
        optimizer.zero_grad()
        sum((p * p * (k % 3 + 1)).sum() + p.sin().sum() for p in params).backward()
        optimizer.step()
    return [p.detach().cpu().numpy() for p in params], optimizer


def close(found: list[Any], expected: list[Any], tolerance: float) -> None:
    for f, e in zip(found, expected, strict=True):
        np.testing.assert_allclose(f, e, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize(("name", "options", "capturable"), CASES, ids=IDS)
def test_a_step_on_a_device(name: str, options: dict[str, Any], capturable: bool, place: str) -> None:
    expected, _ = run("cpu", name, options)
    close(run(place, name, options)[0], expected, 2e-6)
    if name != "Rprop":  # its rate is only the first step size
        close(run(place, name, {**options, "lr": torch.tensor(options["lr"]).to(place)})[0], expected, 2e-6)
    if capturable:
        rate = options["lr"] if name == "Rprop" else torch.tensor(options["lr"]).to(place)
        found, optimizer = run(place, name, {**options, "lr": rate, "capturable": True})
        close(found, expected, 1e-4)  # numbers like beta**step are computed in float32, as by PyTorch
        for state in optimizer.state.values():
            assert state["step"].device.type == place and state["step"].dtype is torch.float32
            assert state["step"].item() == 9


@pytest.mark.parametrize(("name", "options", "capturable"), CASES[:9], ids=IDS[:9])
def test_in_double_precision(name: str, options: dict[str, Any], capturable: bool, place: str) -> None:
    expected, _ = run("cpu", name, options, torch.float64)
    close(run(place, name, options, torch.float64)[0], expected, 1e-12)
    close(run(place, name, {**options, "capturable": True}, torch.float64)[0], expected, 1e-4)


def test_capturable_on_the_host_and_in_checkpoints(place: str) -> None:
    expected, plain = run("cpu", "AdamW", {"lr": 0.1})
    found, host = run("cpu", "AdamW", {"lr": 0.1, "capturable": True})
    close(found, expected, 0)
    params = leaves(place)
    optimizer = optim.AdamW(params, lr=0.5, capturable=True)
    optimizer.load_state_dict(plain.state_dict())
    assert {s["step"].device.type for s in optimizer.state.values()} == {"cpu"}, "as the loaded groups say"
    optimizer.load_state_dict(host.state_dict())
    assert {s["step"].device.type for s in optimizer.state.values()} == {place}
    assert optimizer.param_groups[0]["lr"] == 0.1


def test_betas_on_a_device(place: str) -> None:
    betas = torch.tensor(0.8).to(place), torch.tensor(0.9).to(place)
    expected, _ = run("cpu", "Adam", {"betas": (0.8, 0.9)})
    close(run(place, "Adam", {"betas": betas, "capturable": True})[0], expected, 1e-4)


@pytest.mark.parametrize("name", ["Adam", "SGD", "Adagrad"])
def test_scaled_gradients_and_overflow(name: str, place: str) -> None:
    """What amp leaves at a fused optimizer: gradients are divided where they lie; nothing happens after an overflow."""
    plain, scaled = leaves(place), leaves(place)
    first = getattr(optim, name)(plain, lr=0.1)
    second = getattr(optim, name)(scaled, lr=0.1, fused=True)
    assert second._step_supports_amp_scaling and not first._step_supports_amp_scaling
    for k in range(4):
        for p, q in zip(plain, scaled, strict=True):
            p.grad = torch.full_like(p, k + 1.0)
            q.grad = torch.full_like(q, (k + 1.0) * 8)
        second.grad_scale, second.found_inf = torch.tensor(8.0).to(place), torch.tensor(float(k == 2)).to(place)
        second.step()
        if k != 2:
            first.step()
            assert scaled[0].grad[0, 0].item() == k + 1.0
    # beta**step of a count on the device is computed in float32
    close([q.detach().cpu().numpy() for q in scaled], [p.detach().cpu().numpy() for p in plain], 1e-5)
    if name != "SGD":
        assert {s["step"].item() for s in second.state.values()} == {3.0}


def test_many_tensors_go_together() -> None:
    """70 parameters in two launches; one whose memory is another's waits for its turn."""
    if emulation.COMPILER is None:
        pytest.skip("no C++ compiler (g++, or CXX) is installed")
    before = dict(registry._loaded)
    machine = emulation.CpuMachine()
    launch.use(machine)
    registry.register(emulation.EmulatedBackend(machine))
    try:
        params = [torch.ones(5).to("cuda_on_cpu").requires_grad_() for _ in range(70)]
        optimizer: Any = optim.Adam(params, lr=0.1, capturable=True)
        whole = torch.zeros(8).to("cuda_on_cpu")
        parts = [whole[:4].detach().requires_grad_(), whole[4:].detach().requires_grad_()]
        for p in [*params, *parts]:
            p.grad = torch.ones_like(p)
        machine.launched.clear()
        optimizer.step()
        names = [name for name, _, _ in machine.launched]
        assert names == ["count_steps", "formula_step<Adam, float>"] * 2
        optim.SGD(parts, lr=0.5).step()
        assert [n for n, _, _ in machine.launched[4:]] == ["formula_step<Sgd, float>"] * 2
        assert whole.tolist() == [-0.5] * 8
    finally:
        registry._loaded.clear()
        registry._loaded.update(before)


def test_sparse_complex_and_mixed(place: str) -> None:
    def steps(place: str) -> Any:
        torch.manual_seed(1)
        table = nn.Embedding(9, 3, sparse=True).to(place)
        wave = torch.tensor([1 + 2j, 3 - 1j]).to(place).requires_grad_()
        optimizer = optim.Adagrad([*table.parameters(), wave], lr=0.1)
        for k in range(3):
            optimizer.zero_grad()
            (table(torch.tensor([1, 4, 1, k]).to(place)).pow(2).sum() + wave.abs().pow(2).sum()).backward()
            optimizer.step()
        return [table.weight.detach().cpu().numpy(), torch.view_as_real(wave.detach()).cpu().numpy()]

    close(steps(place), steps("cpu"), 1e-6)
    here, there = torch.ones(2, requires_grad=True), torch.ones(2).to(place).requires_grad_()
    for first, second in ((here, there), (there, here)):
        optimizer = optim.SGD([first, second], lr=0.5)
        for p in (here, there):
            p.grad = torch.ones_like(p)
        optimizer.step()
    assert here.tolist() == there.tolist() == [0.0, 0.0]


@pytest.mark.parametrize("order", [2.0, 1.0, float("inf"), 0.5])
def test_clipping(order: float, place: str) -> None:
    def clip(place: str) -> Any:
        params = leaves(place)
        for k, p in enumerate(params):
            p.grad = (p.detach() * (k + 1)).contiguous()
        total = nn.utils.clip_grad_norm_(params, 0.7, norm_type=order)
        assert total.device.type == place and total.dtype is torch.float32
        return [total.cpu().numpy(), *[p.grad.cpu().numpy() for p in params]]

    close(clip(place), clip("cpu"), 2e-6)
    bad = torch.ones(3).to(place).requires_grad_()
    bad.grad = torch.tensor([1.0, float("nan"), 2.0]).to(place)
    with pytest.raises(RuntimeError, match=f"The total norm of order {order} for gradients from .* is non-finite"):
        nn.utils.clip_grad_norm_(bad, 1.0, norm_type=order, error_if_nonfinite=True)
    assert nn.utils.clip_grad_norm_(bad, 1.0, norm_type=order).isnan().item()
    half = torch.ones(4).to(place, torch.float16).requires_grad_()
    half.grad = torch.full_like(half, 3.0)
    assert nn.utils.clip_grad_norm_(half, 3.0).dtype is torch.float16 and half.grad.tolist() == [1.5] * 4
