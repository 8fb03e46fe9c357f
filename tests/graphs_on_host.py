"""Graphs through CuPy itself over pretended devices (see cupy_on_host.py), in a process of its own: run by pytest.

What is computed cannot be seen here, but what CUDA is asked for, and when: between the begin and the end of a recording
only launches, copies within the device and memory from the graph's own pool. Ends in the line `done`.
"""

from __future__ import annotations

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
        if host.capturing:
            asked.append(name)
        return function(*args)

    return called


host.RUNTIME.update(
    streamBeginCapture=begin, streamEndCapture=end, graphInstantiate=lambda graph: graph + 0x100000,
    graphLaunch=lambda graph, stream: replays.append((graph, stream)), graphDestroy=lambda graph: None,
    graphExecDestroy=lambda graph: None,
)  # fmt: skip
for name in ("deviceSynchronize", "eventSynchronize", "memcpy"):
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


element_wise()
whole_step()
assert not asked, f"while a stream recorded: {asked}"
print("done", flush=True)
os._exit(0)  # CuPy would go on to destroy what was pretended
