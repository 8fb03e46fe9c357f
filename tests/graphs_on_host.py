"""Graphs through CuPy itself over pretended devices (see cupy_on_host.py), in a process of its own: run by pytest.

What is computed cannot be seen here, but what CUDA is asked for, and when: between the begin and the end of a recording
only launches, copies within the device and memory from the graph's own pool. Ends in the line `done`.
"""

from __future__ import annotations

import functools
import gc
import os
import sys
import weakref
from typing import Any

import cupy_on_host as host

recorded: list[int] = []  # launches while a stream recorded, for each graph
asked: list[str] = []  # what a recording must not contain
replays: list[tuple[int, int]] = []


def begin(stream: int, mode: int = 2) -> None:
    assert stream not in (0, 1, 2) and mode == 2, "on a stream of its own, in the relaxed mode"
    host.capturing.add(stream)
    recorded.append(-len(host.launched))


def end(stream: int) -> int:
    host.capturing.discard(stream)
    recorded[-1] += len(host.launched)
    return 0x9900 + len(recorded)


def forbidden(name: str, function: Any) -> Any:
    def called(*args: Any) -> Any:
        if host.capturing and not (name == "streamSynchronize" and args[0] not in host.capturing):
            asked.append(name)
        return function(*args)

    return called


host.RUNTIME.update(
    streamBeginCapture=begin, streamEndCapture=end, graphInstantiate=lambda graph: graph + 0x100000,
    graphLaunch=lambda graph, stream: replays.append((graph, stream)), graphDestroy=lambda graph: None,
    graphExecDestroy=lambda graph: None,
)  # fmt: skip
for name in ("deviceSynchronize", "eventSynchronize", "streamSynchronize", "memcpy"):
    host.RUNTIME[name] = forbidden(name, host.RUNTIME[name])
try:
    cupy = host.cupy()
except Exception as error:  # CuPy is missing, or a library of NVIDIA's that it needs; the classes are theirs
    sys.exit(f"skip: {error}")

import tapegrad as torch  # noqa: E402
from tapegrad import nn, optim  # noqa: E402
from tapegrad.backends import registry  # noqa: E402

backend = registry.load("cupy")
assert torch.cuda.is_available()
torch.manual_seed(0)
pool = cupy.get_default_memory_pool()


def element_wise() -> None:
    """PyTorch's form: memory of its own, on a stream of its own, replayed on the current one."""
    x = torch.ones(1000, device="cuda")
    g = torch.cuda.CUDAGraph()
    held = pool.used_bytes()
    with torch.cuda.graph(g):
        assert torch.cuda.is_current_stream_capturing()
        y = x.exp() * x
        inside = [pool.used_bytes(), g._pool.memory.used_bytes()]
    assert not torch.cuda.is_current_stream_capturing()
    assert inside[0] == held and inside[1] >= 4000, inside
    assert recorded[-1] >= 1 and not replays and g.pool().total_bytes() >= 4000
    g.replay()
    g.replay()
    assert len(replays) == 2 and {stream for _, stream in replays} == {cupy.cuda.get_current_stream().ptr}
    assert g.raw_cuda_graph_exec() - g.raw_cuda_graph() == 0x100000
    try:
        torch.cuda.CUDAGraph().capture_begin()
        raise AssertionError("the default stream cannot record")
    except RuntimeError as error:
        assert "must be captured on a non-default stream" in str(error)
    assert y.device.type == "cuda"


def whole_step() -> None:
    """Forward, backward, clipping and AdamW; dropout's seeds and the rate are written before each replay."""
    model = nn.Sequential(nn.Embedding(20, 16), nn.LayerNorm(16), nn.Dropout(0.1), nn.GELU()).to("cuda")
    optimizer = optim.AdamW(model.parameters(), lr=0.1)

    def step(tokens: Any, target: Any) -> Any:
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(tokens), target)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        return loss

    run = torch.cuda.graph_step(step)
    tokens, target = torch.zeros(4, dtype=torch.int64), torch.zeros(4, dtype=torch.int64)
    replays.clear()
    for k in range(7):
        before, memory = len(host.launched), pool.total_bytes()
        run(tokens, target)
        optimizer.param_groups[0]["lr"] *= 0.5
        if k > 3:
            assert len(host.launched) - before == 0, "a replay launches nothing else"
            assert pool.total_bytes() == memory
    assert run.recorded == 1 and len(replays) == 4 and recorded[-1] > 10
    state = optimizer.state[model[0].weight]
    assert state["step"].device.type == "cuda" and optimizer.param_groups[0]["capturable"] is True
    assert abs(optimizer.param_groups[0]["lr"] - 0.1 / 2**7) < 1e-9
    kind = next(iter(run._kinds.values()))
    assert kind.pool.total_bytes() > 0 and torch.cuda.memory_reserved() >= kind.pool.total_bytes() + pool.total_bytes()
    alive, held = weakref.ref(kind.pool), len(host.allocated)
    del kind
    run.reset()
    del run
    gc.collect()
    assert alive() is None and len(host.allocated) < held, "the graph's memory is given back"


class Recurrent(nn.Module):
    def __init__(self, kind: str):
        super().__init__()
        self.layers, self.head = getattr(nn, kind)(16, 24, 2, batch_first=True, dropout=0.1), nn.Linear(24, 10)

    def forward(self, x: Any) -> Any:
        return self.head(self.layers(x)[0][:, -1])


def mlp() -> Any:
    layers = [nn.Linear(8, 16), nn.ReLU(), nn.Dropout(0.2), nn.LayerNorm(16), nn.Softplus(), nn.Linear(16, 10)]
    return nn.Sequential(*layers)


def images() -> Any:
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2), nn.ConvTranspose2d(8, 4, 2),
        nn.GroupNorm(2, 4), nn.Upsample(scale_factor=2), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 10),
    )  # fmt: skip


def tokens() -> Any:
    layer = nn.TransformerEncoderLayer(32, 4, 64, dropout=0.1, batch_first=True)
    return nn.Sequential(nn.Embedding(50, 32), layer, nn.Flatten(), nn.Linear(32 * 12, 10))


DATA: dict[Any, tuple[int, ...]] = {mlp: (4, 8), images: (4, 3, 8, 8), tokens: (4, 12)}
F = nn.functional
LOSSES: list[Any] = [
    lambda out, y: F.cross_entropy(out, y, label_smoothing=0.1),
    lambda out, y: F.cross_entropy(out, y, weight=torch.ones(10, device="cuda")),
    lambda out, y: F.nll_loss(F.log_softmax(out, 1), y),
    lambda out, y: F.mse_loss(out, F.one_hot(y, 10).float()),
    lambda out, y: F.binary_cross_entropy_with_logits(out, F.one_hot(y, 10).float()),
    lambda out, y: F.binary_cross_entropy(out.sigmoid(), F.one_hot(y, 10).float()),
]
OPTIMIZERS = (
    optim.SGD, optim.Adam, optim.NAdam, optim.RAdam, optim.Adamax, optim.Adadelta, optim.ASGD, optim.RMSprop,
    optim.Rprop, optim.Adagrad,
)  # fmt: skip


def training(make: Any, loss: Any = F.cross_entropy, kind: Any = optim.AdamW, half: Any = None) -> None:
    """Nothing in a step waits for the device: CuPy would raise, or the host would have been asked to."""
    model = make().to("cuda")
    optimizer = kind(model.parameters(), lr=0.01)
    scaler = torch.amp.GradScaler("cuda", enabled=half is torch.float16)

    def step(x: Any, y: Any) -> None:
        optimizer.zero_grad()
        with torch.autocast("cuda", dtype=half or torch.bfloat16, enabled=half is not None):
            out = loss(model(x), y)
        scaler.scale(out).backward()
        scaler.unscale_(optimizer)
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        scaler.step(optimizer)
        scaler.update()

    run = torch.cuda.graph_step(step, warmup=1)
    x = torch.zeros(4, 12, dtype=torch.int64) if make is tokens else torch.randn(DATA.get(make, (4, 5, 16)))
    for _ in range(4):
        run(x, torch.zeros(4, dtype=torch.int64))
    assert run.recorded == 1


element_wise()
whole_step()
for make in (mlp, images, tokens, *[functools.partial(Recurrent, kind) for kind in ("LSTM", "GRU", "RNN")]):
    for half in (None, torch.bfloat16, torch.float16):
        training(make, half=half)
for loss in LOSSES:
    training(mlp, loss)
for kind in OPTIMIZERS:
    training(mlp, kind=kind)
assert not asked, f"while a stream recorded: {asked}"
print("done", flush=True)
os._exit(0)  # CuPy would go on to destroy what was pretended
