"""CUDA graphs on a device: replays are steps, memory does not grow, errors are told. Skipped where there is none."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import tapegrad as torch
from tapegrad import nn, optim

if not torch.cuda.is_available():
    pytest.skip("CuPy finds no NVIDIA device", allow_module_level=True)
F = nn.functional

MODELS: dict[str, Callable[[], tuple[Any, Callable[[int], Any]]]] = {
    "mlp": lambda: (
        nn.Sequential(nn.Linear(32, 64), nn.GELU(), nn.Dropout(0.2), nn.LayerNorm(64), nn.Linear(64, 10)),
        lambda n: torch.randn(n, 32),
    ),
    "convolutions": lambda: (
        nn.Sequential(
            nn.Conv2d(3, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(16, 8, 3),
            nn.Flatten(), nn.Linear(8 * 6 * 6, 10),
        ),
        lambda n: torch.randn(n, 3, 16, 16),
    ),
    "transformer": lambda: (
        nn.Sequential(
            nn.Embedding(50, 32), nn.TransformerEncoderLayer(32, 4, 64, dropout=0.1, batch_first=True),
            nn.Flatten(), nn.Linear(32 * 12, 10),
        ),
        lambda n: torch.randint(0, 50, (n, 12)),
    ),
    "lstm": lambda: (Recurrent(), lambda n: torch.randn(n, 9, 16)),
}  # fmt: skip


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lstm, self.head = nn.LSTM(16, 24, 2, batch_first=True), nn.Linear(24, 10)

    def forward(self, x: Any) -> Any:
        return self.head(self.lstm(x)[0][:, -1])


def train(name: str, graphed: bool, half: bool = False, count: int = 12, sizes: tuple[int, ...] = (16,)) -> Any:
    torch.manual_seed(1)
    model, data = MODELS[name]()
    model.to("cuda")
    optimizer = optim.AdamW(model.parameters(), lr=0.01, capturable=True)
    schedule = optim.lr_scheduler.CosineAnnealingLR(optimizer, count)

    def step(x: Any, y: Any) -> Any:
        optimizer.zero_grad()
        with torch.autocast("cuda", dtype=torch.bfloat16, enabled=half):
            loss = F.cross_entropy(model(x), y)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        return loss

    run = torch.cuda.graph_step(step, clone=True) if graphed else step
    losses, used = [], []
    for k in range(count):
        n = sizes[k % len(sizes)]
        losses.append(run(data(n), torch.randint(0, 10, (n,)).to("cuda")))
        schedule.step()
        used.append((torch.cuda.memory_allocated(), torch.cuda.memory_reserved()))
    return [loss.item() for loss in losses], [p.detach().cpu().numpy() for p in model.parameters()], used, run


@pytest.mark.parametrize("half", [False, True], ids=["float32", "bfloat16"])
@pytest.mark.parametrize("name", MODELS)
def test_replays_are_steps(name: str, half: bool) -> None:
    """The same kernels on the same numbers; sums by atomics, where there are any, may be rounded otherwise."""
    losses, weights, _, _ = train(name, False, half)
    found, found_weights, used, run = train(name, True, half)
    tolerance = 2e-2 if half else 2e-4
    np.testing.assert_allclose(found, losses, rtol=tolerance, atol=tolerance)
    for f, e in zip(found_weights, weights, strict=True):
        np.testing.assert_allclose(f, e, rtol=10 * tolerance, atol=10 * tolerance)
    assert run.recorded == 1
    assert used[-1][1] == used[5][1], "the pool grows no more once the graph is there"


def test_shapes_in_turn() -> None:
    losses, _, _, _ = train("mlp", False, count=16, sizes=(16, 7))
    found, _, _, run = train("mlp", True, count=16, sizes=(16, 7))
    np.testing.assert_allclose(found, losses, rtol=2e-4)
    assert run.recorded == 2


def test_a_thousand_replays_take_no_memory() -> None:
    model = nn.Linear(64, 64).to("cuda")
    optimizer = optim.SGD(model.parameters(), lr=1e-4)

    @torch.cuda.graph_step
    def step(x: Any) -> Any:
        optimizer.zero_grad()
        loss = model(x).pow(2).mean()
        loss.backward()
        optimizer.step()
        return loss

    x = torch.randn(32, 64, device="cuda")
    for _ in range(10):
        step(x)
    torch.cuda.synchronize()
    free, _ = torch.cuda.mem_get_info()
    for _ in range(1000):
        step(x)
    torch.cuda.synchronize()
    assert torch.cuda.mem_get_info()[0] == free


def test_pytorchs_form() -> None:
    x = torch.ones(1000, device="cuda")
    g = torch.cuda.CUDAGraph()
    (x * 2 + 1).sum()  # kernels are there
    with torch.cuda.graph(g):
        assert torch.cuda.is_current_stream_capturing()
        y = (x * 2 + 1).sum()
    for k in range(3):
        x.fill_(float(k))
        g.replay()
        assert y.item() == 1000 * (2 * k + 1)
    eager = [torch.randn(1000, device="cuda") for _ in range(20)]  # does not get the graph's memory
    g.replay()
    assert all(t.isfinite().all().item() for t in eager) and y.item() == 5000


def test_graphed_callables() -> None:
    torch.manual_seed(2)
    plain = nn.Sequential(nn.Linear(8, 16), nn.Tanh(), nn.Linear(16, 4)).to("cuda")
    graphed = nn.Sequential(nn.Linear(8, 16), nn.Tanh(), nn.Linear(16, 4)).to("cuda")
    graphed.load_state_dict(plain.state_dict())
    graphed = torch.cuda.make_graphed_callables(graphed, (torch.randn(5, 8, device="cuda"),))
    for _ in range(3):
        x = torch.randn(5, 8, device="cuda")
        for model in (plain, graphed):
            model.zero_grad()
            model(x).pow(2).sum().backward()
        for p, q in zip(plain.parameters(), graphed.parameters(), strict=True):
            torch.testing.assert_close(q.grad, p.grad, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("text", ["x.sum().item()", "x.nonzero()", "x[x > 0]", "x.unique()", "x.cpu()", "bool(x[0])"])
def test_errors_leave_the_device_usable(text: str) -> None:
    step = torch.cuda.graph_step(lambda x: eval(text, {"x": x}), warmup=1)
    step(torch.ones(3, device="cuda"))
    with pytest.raises(torch.cuda.CaptureError, match="cannot be recorded in a CUDA graph"):
        step(torch.ones(3, device="cuda"))
    assert torch.ones(3, device="cuda").sum().item() == 3
    with torch.cuda.graph(torch.cuda.CUDAGraph()):
        torch.ones(3, device="cuda") * 2


def test_a_wrong_index_in_a_replay_is_raised_at_the_next_synchronisation() -> None:
    w = torch.ones(5, 3, device="cuda")
    step = torch.cuda.graph_step(lambda i: F.embedding(i, w), warmup=1)
    for _ in range(2):
        step(torch.tensor([1, 2], device="cuda"))
    step(torch.tensor([1, 9], device="cuda"))
    with pytest.raises(IndexError, match="index 9, size 5"):
        torch.cuda.synchronize()
