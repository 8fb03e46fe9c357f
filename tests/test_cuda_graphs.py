"""CUDA graphs without a GPU: on a device of NumPy arrays that records and replays (see graph_stand_in.py).

Each training is run twice, as it is and with its step as a graph: losses and weights are the same. Once with generic
ops, once with the CUDA kernels, executed on the CPU. The stand-in refuses what a GPU could not record: that the host
reads a value meanwhile.
"""

from __future__ import annotations

import gc
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cuda_on_cpu as emulation
import graph_stand_in as stand_in
import numpy as np
import pytest
import tapegrad as torch
from tapegrad import nn, optim
from tapegrad.backends import registry
from tapegrad.backends.cupy import launch
from tapegrad.cuda import capture, graphs, steps

F = nn.functional


@pytest.fixture(params=["generic", "kernels"])
def device(request: pytest.FixtureRequest) -> Iterator[stand_in.TapedBackend]:
    if request.param == "kernels" and emulation.COMPILER is None:
        pytest.skip("no C++ compiler (g++, or CXX) is installed")
    yield from registered(stand_in.TapedMachine() if request.param == "kernels" else None)


@pytest.fixture
def taped() -> Iterator[stand_in.TapedBackend]:
    yield from registered(None)


def registered(machine: Any) -> Iterator[stand_in.TapedBackend]:
    loaded, types = dict(registry._loaded), dict(registry._by_type)
    if machine is not None:
        launch.use(machine)
    made = registry.register(stand_in.TapedBackend(machine))
    forget()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(graphs, "_graphs", lambda: made.graphs)
        yield made
    for known, before in ((registry._loaded, loaded), (registry._by_type, types)):
        known.clear()
        known.update(before)
    forget()
    assert stand_in.Tape.current is None and capture.Recording.under_way is None


def forget() -> None:
    """Nothing is linked for the device yet: another backend of that type may come."""
    from tapegrad.autograd import op

    op.raw_by_type.pop(stand_in.TapedArray, None)
    for found in op.OPS.values():
        found.kernels.pop(stand_in.TapedArray, None)


def draw(*shape: int) -> Any:
    return torch.randn(*shape).to("taped")


def close(found: Any, expected: Any, tolerance: float = 2e-5) -> None:
    np.testing.assert_allclose(found, expected, rtol=tolerance, atol=tolerance)


def network() -> Any:
    torch.manual_seed(1)
    layers = [nn.Linear(4, 16), nn.GELU(), nn.Dropout(0.3), nn.LayerNorm(16), nn.Linear(16, 3)]
    return nn.Sequential(*layers).to("taped")


def train(
    make: Callable[[Any], Any], graphed: bool, count: int = 9, sizes: tuple[int, ...] = (8,), clip: bool = False,
    **options: Any,
) -> tuple[list[float], list[Any], Any]:  # fmt: skip
    """(losses, weights, the step function) of a few steps; the batch sizes come in turn."""
    model = network()
    optimizer = make(model.parameters())
    schedule = optim.lr_scheduler.StepLR(optimizer, 2, 0.7)

    def step(x: Any, y: Any) -> Any:
        optimizer.zero_grad()
        loss = F.mse_loss(model(x), y)
        loss.backward()
        if clip:
            nn.utils.clip_grad_norm_(model.parameters(), 0.5)
        optimizer.step()
        return loss

    run: Any = torch.cuda.graph_step(step, **options) if graphed else step
    losses = []
    for k in range(count):
        size = sizes[k % len(sizes)]
        losses.append(run(draw(size, 4), draw(size, 3)).item())
        schedule.step()
    counts = {s["step"].item() for s in optimizer.state.values() if "step" in s}
    assert counts <= {count}
    return losses, [p.detach().cpu().numpy() for p in model.parameters()], run


# ---- replays are steps -----------------------------------------------------------------------------------------------

OPTIMIZERS: dict[str, Callable[[Any], Any]] = {
    "SGD": lambda p: optim.SGD(p, lr=0.1, momentum=0.9),
    "Adam": lambda p: optim.Adam(p, lr=0.05, amsgrad=True),
    "AdamW": lambda p: optim.AdamW(p, lr=0.05),
    "NAdam": lambda p: optim.NAdam(p, lr=0.05),
    "RAdam": lambda p: optim.RAdam(p, lr=0.05),
    "Adamax": lambda p: optim.Adamax(p, lr=0.05),
    "Adadelta": lambda p: optim.Adadelta(p),
    "ASGD": lambda p: optim.ASGD(p, lr=0.05, t0=3),
    "RMSprop": lambda p: optim.RMSprop(p, lr=0.01, centered=True, momentum=0.5),
    "Rprop": lambda p: optim.Rprop(p),
    "Adagrad": lambda p: optim.Adagrad(p, lr=0.05, lr_decay=0.1),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_replays_train_as_the_steps_do(name: str, device: Any) -> None:
    """With dropout drawn anew, a schedule of the rate, and clipping: all as without a graph."""
    losses, weights, _ = train(OPTIMIZERS[name], False, clip=True)
    found, found_weights, run = train(OPTIMIZERS[name], True, clip=True)
    close(found, losses)
    for f, e in zip(found_weights, weights, strict=True):
        close(f, e)
    assert run.recorded == 1 and device.graphs.launches == 9 - 3


def test_a_graph_is_recorded_for_each_kind_of_call(taped: Any) -> None:
    make = OPTIMIZERS["Adam"]
    losses, weights, _ = train(make, False, 16, sizes=(8, 5))
    found, found_weights, run = train(make, True, 16, sizes=(8, 5), warmup=1)
    close(found, losses)
    close(found_weights[0], weights[0])
    assert run.recorded == 2
    found, _, run = train(make, True, 16, sizes=(8, 5, 3), warmup=1, max_graphs=1)
    assert run.recorded == 0, "each call is of another kind than the last one"
    found, _, run = train(make, True, 8, sizes=(8, 8, 5, 5), warmup=1, max_graphs=1)
    assert run.recorded == 4


def test_what_makes_another_kind(taped: Any) -> None:
    model = network()
    optimizer = optim.SGD(model.parameters(), lr=0.1, weight_decay=0.1)
    seen = []

    @torch.cuda.graph_step(warmup=1)
    def step(x: Any, factor: float = 1.0) -> Any:
        seen.append(factor)
        loss = (model(x) * factor).sum()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        return loss

    def twice(*args: Any) -> int:
        before = step.recorded
        for _ in range(2):
            step(*args)
        return step.recorded - before

    x = draw(3, 4)
    assert twice(x) == 1 and twice(x) == 0 and twice(draw(5, 4)) == 1 and twice(x, 2.0) == 1
    model.eval()
    assert twice(x) == 1
    model.train()
    assert twice(x) == 0, "it is there still"
    model[0].weight.requires_grad_(False)
    assert twice(x) == 1
    optimizer.param_groups[0]["weight_decay"] = 0.0
    assert twice(x) == 1
    optimizer.param_groups[0]["lr"] = 0.01
    assert twice(x) == 0
    before = step.recorded
    with torch.no_grad(), pytest.raises(RuntimeError, match="does not require grad"):
        step(x)
    assert step.recorded == before
    optimizer.load_state_dict(optimizer.state_dict())
    assert twice(x) == 1, "its states are other tensors"
    model[4].weight.data = model[4].weight.data.clone()
    assert twice(x) == 1, "a parameter lies elsewhere"
    before = len(seen)
    step(x)
    assert len(seen) == before, "a replay runs no Python"


def test_dropout_draws_what_the_eager_program_would(taped: Any) -> None:
    layer = nn.Dropout(0.5)
    step = torch.cuda.graph_step(lambda x: layer(layer(x)), warmup=1, watch=[layer], clone=True)
    x = torch.ones(100).to("taped")
    torch.manual_seed(3)
    found = [step(x).cpu() for _ in range(6)]
    torch.manual_seed(3)
    for f in found:
        assert torch.equal(f, layer(layer(x)).cpu())
    assert len({tuple(f.tolist()) for f in found}) == 6 and step.recorded == 1


def test_many_seeds(taped: Any) -> None:
    """More places than one piece of memory has."""

    def forward(x: Any) -> Any:
        return sum(F.dropout(x, 0.5) for _ in range(capture.BLOCK + 6))

    step, x = torch.cuda.graph_step(forward, warmup=1, clone=True), torch.ones(7).to("taped")
    torch.manual_seed(4)
    found = [step(x).tolist() for _ in range(3)]
    torch.manual_seed(4)
    assert found == [forward(x).tolist() for _ in range(3)]


def test_batch_norm_counts_and_averages(taped: Any) -> None:
    def run(graphed: bool) -> Any:
        torch.manual_seed(2)
        model = nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6)).to("taped")
        step = torch.cuda.graph_step(lambda x: model(x).sum(), watch=[model]) if graphed else lambda x: model(x).sum()
        for _ in range(7):
            step(draw(8, 4))
        return {name: t.tolist() for name, t in model.state_dict().items()}

    found, expected = run(True), run(False)
    assert found["1.num_batches_tracked"] == 7
    for name in expected:
        close(found[name], expected[name])


def test_gradients_that_add_up(taped: Any) -> None:
    """Without zero_grad inside, replays add to .grad; what the caller does to it holds."""
    w = torch.tensor([1.0, 2.0]).to("taped").requires_grad_()

    def step(x: Any) -> None:
        (w * x).sum().backward()

    class Holder(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.w = nn.Parameter(w)

    holder = Holder()
    w = holder.w
    run = torch.cuda.graph_step(step, warmup=1, watch=[holder])
    x, total = torch.ones(2).to("taped"), 0.0
    for k in range(12):
        if k % 5 == 4:
            w.grad, total = None, 0.0
        if k == 7:
            w.grad = torch.full((2,), 10.0).to("taped")
            total = 10.0
        run(x * (k + 1))
        total += k + 1
        assert w.grad.tolist() == [total, total], k
    assert run.recorded == 2, "with a gradient before, and without"


def test_arguments_and_results(taped: Any) -> None:
    """Nested, from the host, with gradients of their own; the same memory is given out again unless cloned."""

    def forward(batch: Any, scale: float = 1.0) -> Any:
        out = batch["x"] * scale + batch["more"][0]
        loss = out.sum()
        loss.backward()
        return {"out": out, "n": 3, "pair": (loss, out * 2)}

    step = torch.cuda.graph_step(forward, warmup=1)
    held = []
    for k in range(4):
        x = torch.full((2,), float(k)).to("taped").requires_grad_()
        made = step({"x": x, "more": [torch.ones(2)]}, scale=3.0)  # `more` is on the host
        assert made["out"].tolist() == [3 * k + 1] * 2 and made["n"] == 3
        assert made["pair"][1].tolist() == [6 * k + 2] * 2
        assert not made["pair"][0].requires_grad and x.grad.tolist() == [3.0, 3.0]
        held.append(made["out"])
    assert held[3] is held[2] and step.recorded == 1
    cloning = torch.cuda.graph_step(lambda x: x + 1, warmup=1, clone=True)
    found = [cloning(torch.full((2,), float(k))) for k in range(4)]
    assert [f.tolist() for f in found] == [[k + 1.0] * 2 for k in range(4)]


def test_constants_are_there_anew_at_each_replay(taped: Any) -> None:
    def forward(x: Any) -> Any:
        state = torch.zeros(3, device="taped")
        state += x
        state[0] = 7.0
        return state + torch.tensor([1.0, 2.0, 3.0], device="taped") * torch.tensor(2.0, device="taped")

    step = torch.cuda.graph_step(forward, warmup=1, clone=True)
    for k in range(4):
        assert step(torch.full((3,), float(k))).tolist() == [9.0, k + 4.0, k + 6.0]
    assert step.recorded == 1


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # of infinity, from the generic forms
def test_the_loss_scale_stays_on_the_device(device: Any) -> None:
    """An overflow halves the scale and skips the step, with and without a graph."""

    def run(graphed: bool) -> Any:
        torch.manual_seed(5)
        model = nn.Linear(4, 2).to("taped")
        optimizer = optim.AdamW(model.parameters(), lr=0.05, capturable=True)
        scaler = torch.amp.GradScaler("taped", init_scale=8.0, growth_interval=3)

        def step(x: Any) -> Any:
            optimizer.zero_grad()
            loss = model(x).pow(2).sum()
            scaler.scale(loss).backward()
            scaler.step(optimizer)
            scaler.update()
            return loss

        train: Any = torch.cuda.graph_step(step) if graphed else step
        for k in range(9):
            train(draw(3, 4) * (float("inf") if k == 5 else 1.0))
        return scaler.get_scale(), model.weight.tolist(), optimizer.state[model.weight]["step"].item()

    (scale, weight, count), (found_scale, found_weight, found_count) = run(False), run(True)
    assert found_scale == scale and found_count == count == 8
    close(found_weight, weight)


# ---- what cannot be recorded -----------------------------------------------------------------------------------------

REFUSED = [
    ("x.sum().item()", r"item\(\) cannot be recorded in a CUDA graph: the host would wait for a value"),
    ("x.tolist()", r"tolist\(\) cannot be recorded"),
    ("bool(x.sum() > 0)", r"bool\(tensor\) cannot be recorded .* Keep the value on the device \(torch.where"),
    ("float(x.sum())", r"float\(tensor\) cannot"),
    ("x.cpu()", r"cpu\(\) cannot"),
    ("x.to('cpu')", "a copy to the host cannot"),
    ("x.nonzero()", "nonzero cannot be recorded in a CUDA graph: the size of its result depends on the data. Use"),
    ("x[x > 0]", "indexing by a boolean mask cannot be recorded"),
    ("torch.masked_select(x, x > 0)", "cannot be recorded in a CUDA graph: the size of its result"),
    ("x.unique()", "cannot be recorded in a CUDA graph: the size of its result depends on the data"),
    ("repr(x)", "printing a tensor cannot be recorded"),
    ("x + torch.rand(3).to('taped')", "drawing random numbers on the host cannot be recorded .* dropout"),
    ("schedule.step()", r"StepLR.step\(\) cannot be recorded .* Python's work"),
]


@pytest.mark.parametrize(("text", "match"), REFUSED, ids=[text for text, _ in REFUSED])
def test_what_is_refused(text: str, match: str, taped: Any) -> None:
    """By name, before CUDA finds it; afterwards everything is as it was."""
    schedule = optim.lr_scheduler.StepLR(optim.SGD([torch.ones(1, requires_grad=True)], lr=0.1), 1)
    warm = {"torch": torch, "schedule": schedule, "x": torch.ones(3).to("taped")}
    optimizer_steps = warnings.catch_warnings()
    with optimizer_steps:
        warnings.simplefilter("ignore")
        eval(text, warm)  # everything is linked
    names = {name: getattr(torch.Tensor, name) for name in capture.METHODS}
    step = torch.cuda.graph_step(lambda x: eval(text, {**warm, "x": x}), warmup=1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        step(torch.ones(3))
        with pytest.raises(torch.cuda.CaptureError, match=match):
            step(torch.ones(3))
        assert gc.isenabled() and capture.Recording.under_way is None and stand_in.Tape.current is None
        assert {name: getattr(torch.Tensor, name) for name in capture.METHODS} == names
        assert "xp" in vars(taped) and not {"asarray", "to_numpy"} & set(vars(taped))
        eval(text, warm)


def test_other_threads_and_devices_may_read(taped: Any) -> None:
    import threading

    there, here, found = torch.ones(2).to("taped"), torch.ones(2), []

    def read() -> None:
        tape, stand_in.Tape.current = stand_in.Tape.current, None  # the stand-in knows no threads
        found.append(there.sum().item())
        stand_in.Tape.current = tape

    def forward(x: Any) -> Any:
        found.append(here.sum().item())
        thread = threading.Thread(target=read)
        thread.start()
        thread.join()
        return x + 1

    step = torch.cuda.graph_step(forward, warmup=1)
    for _ in range(2):
        step(there)
    assert found == [2.0] * 4 and step.recorded == 1


def test_fallback(taped: Any) -> None:
    total: list[float] = []
    w = torch.ones(3).to("taped").requires_grad_()

    def forward(x: Any) -> Any:
        w.grad = None
        loss = (w * x).sum()
        loss.backward()
        total.append(loss.item())
        return loss

    step = torch.cuda.graph_step(forward, warmup=1, fallback=True, watch=[optim.SGD([w], lr=0.1)])
    step(torch.ones(3))
    with pytest.warns(UserWarning, match=r"runs .* as it is: item\(\) cannot be recorded"):
        assert step(torch.ones(3) * 2).item() == 6.0
    assert step(torch.ones(3) * 3).item() == 9.0 and total == [3.0, 6.0, 9.0] and w.grad.tolist() == [3.0] * 3


def test_a_failed_recording_leaves_gradients_and_rates(taped: Any) -> None:
    model = network()
    optimizer = optim.SGD(model.parameters(), lr=0.1)

    def step(x: Any) -> Any:
        optimizer.zero_grad()
        model(x).sum().backward()
        if stand_in.Tape.current is not None:
            raise KeyError("mine")
        optimizer.step()

    run = torch.cuda.graph_step(step, warmup=1)
    run(draw(2, 4))
    grad = model[0].weight.grad
    with pytest.raises(KeyError, match="mine") as caught:
        run(draw(2, 4))
    assert "while a CUDA graph was recorded" in caught.value.__notes__[0]
    assert model[0].weight.grad is grad and optimizer.param_groups[0]["lr"] == 0.1


def test_an_optimizer_without_one_formula_is_refused(taped: Any) -> None:
    model = network()
    optimizer = optim.LBFGS(model.parameters())
    step = torch.cuda.graph_step(lambda x: optimizer.step(lambda: model(x).sum()), watch=[model])
    with pytest.raises(torch.cuda.CaptureError, match="the step of LBFGS cannot be recorded .* its numbers are on the"):
        step(draw(2, 4))


def test_what_a_step_uses_is_found() -> None:
    model, optimizer = nn.Linear(1, 1), optim.SGD([torch.ones(1, requires_grad=True)], lr=0.1)

    class Trainer:
        def __init__(self) -> None:
            self.model, self.name, self.both = model, "x", [optimizer]

        def step(self) -> Any:
            return self.both

    def closure(x: Any, held: Any = optimizer) -> Any:
        return model(x)

    assert steps.found_in(closure) == [model, optimizer]
    assert steps.found_in(Trainer().step) == [model]
    import functools

    assert steps.found_in(functools.partial(closure, held=model))[:2] == [model, optimizer]
    assert steps.found_in(model) == [model]


# ---- PyTorch's form --------------------------------------------------------------------------------------------------


def test_a_graph(taped: Any, tmp_path: Any) -> None:
    x, total = torch.ones(3).to("taped"), torch.zeros(3).to("taped")
    g = torch.cuda.CUDAGraph()
    with torch.cuda.graph(g):
        y = x * 2
        total += y
    assert total.tolist() == [0.0] * 3, "recording computes nothing"
    for k in range(3):
        x.fill_(float(k))
        g.replay()
        assert y.tolist() == [2.0 * k] * 3
    assert total.tolist() == [6.0] * 3
    g.debug_dump(str(tmp_path / "graph.dot"))
    assert (tmp_path / "graph.dot").read_text().startswith("digraph")
    assert (g.raw_cuda_graph(), g.raw_cuda_graph_exec()) == (1, 2) and g.instantiate() is None
    other = torch.cuda.CUDAGraph(keep_graph=True)
    with torch.cuda.graph(other, pool=g.pool(), capture_error_mode="thread_local"):
        z = x + 1
    assert other.pool() is g.pool()
    other.replay()
    assert z.tolist() == [3.0] * 3
    with pytest.raises(RuntimeError, match="This CUDAGraph instance already owns a captured graph"):
        g.capture_begin()
    g.reset()
    for name in ("replay", "pool"):
        with pytest.raises(RuntimeError, match=f"Called CUDAGraph::{name}.* without a preceding successful capture"):
            getattr(g, name)()
    with pytest.raises(RuntimeError, match="Unknown capture error mode. Expected `global`, .*, got local"):
        g.capture_begin(capture_error_mode="local")
    with pytest.raises(RuntimeError, match="without capture_begin"):
        g.capture_end()


def test_an_error_inside_ends_the_recording(taped: Any) -> None:
    g = torch.cuda.CUDAGraph()
    with pytest.raises(ZeroDivisionError), torch.cuda.graph(g):
        1 / 0  # noqa: B018
    with pytest.raises(RuntimeError, match="without a preceding"):
        g.replay()
    with torch.cuda.graph(g), pytest.raises(RuntimeError, match="one can be at a time"):
        torch.cuda.CUDAGraph().capture_begin()
    g.replay()


def test_a_recording_that_cuda_refuses(taped: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def end() -> None:
        stand_in.Tape.current = None
        raise RuntimeError("cudaErrorStreamCaptureInvalidated")

    monkeypatch.setattr(taped.graphs, "end", end)
    with pytest.raises(torch.cuda.CaptureError, match="could not be recorded: cudaErrorStreamCaptureInvalidated"):
        with torch.cuda.graph(torch.cuda.CUDAGraph()):
            torch.ones(2).to("taped")
    assert gc.isenabled() and capture.Recording.under_way is None


@pytest.mark.parametrize("several", [False, True])
def test_graphed_callables(several: bool, taped: Any) -> None:
    def run(graphed: bool) -> Any:
        torch.manual_seed(6)
        first, second = nn.Linear(4, 5).to("taped"), nn.Sequential(nn.Linear(5, 2), nn.Tanh()).to("taped")
        optimizer = optim.SGD([*first.parameters(), *second.parameters()], lr=0.1)
        head: Any = lambda h, scale: (h * scale, h.sum())  # noqa: E731
        samples = (draw(3, 4),), (draw(3, 5).requires_grad_(),), (draw(3, 2).requires_grad_(), draw(1))
        if graphed and several:
            first, second, head = torch.cuda.make_graphed_callables((first, second, head), samples)
        elif graphed:
            second = torch.cuda.make_graphed_callables(second, samples[1])
        losses = []
        for _ in range(4):
            x, scale = draw(3, 4), draw(1)
            scaled, total = head(second(first(x)), scale)
            loss = scaled.pow(2).sum() + total
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        second.eval()
        return losses, second(draw(3, 5)).tolist(), [p.tolist() for p in second.parameters()]

    for found, expected in zip(run(True), run(False), strict=True):
        for f, e in zip(found, expected, strict=True):
            close(f, e)


def test_what_graphed_callables_refuse(taped: Any) -> None:
    x = draw(2, 4)
    model = nn.Linear(4, 4).to("taped")
    hook = model.register_forward_hook(lambda *args: None)
    with pytest.raises(AssertionError, match="Modules must not have hooks registered at the time"):
        torch.cuda.make_graphed_callables(model, (x,))
    hook.remove()
    with pytest.raises(AssertionError, match="sample_args for each callable must contain only Tensors"):
        torch.cuda.make_graphed_callables(model, (3.0,))
    model.register_buffer("b", draw(4).requires_grad_())
    with pytest.raises(AssertionError, match="only parameters may be trainable"):
        torch.cuda.make_graphed_callables(model, (x,))
    with torch.autocast("cpu"), pytest.raises(RuntimeError, match="does not support the autocast caching"):
        torch.cuda.make_graphed_callables(model, (x,))
    unused = torch.cuda.make_graphed_callables(
        lambda a, b: a * 2, (x.clone().requires_grad_(), x.clone().requires_grad_()), allow_unused_input=True
    )
    a, b = x.clone().requires_grad_(), x.clone().requires_grad_()
    unused(a, b).sum().backward()
    assert a.grad.tolist() == [[2.0] * 4] * 2 and b.grad is None


def test_cupy_is_asked_for_the_right_things_at_the_right_time() -> None:
    """CuPy's own host code over pretended devices, in a process of its own: see graphs_on_host.py."""
    command = [sys.executable, str(Path(__file__).with_name("graphs_on_host.py"))]
    done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parent)
    if "skip: " in done.stderr:
        pytest.skip(f"CuPy cannot be imported: {done.stderr.strip().splitlines()[0].removeprefix('skip: ')}")
    assert done.returncode == 0 and done.stdout.endswith("done\n"), done.stderr


def test_memory_that_runs_out_while_recording() -> None:
    """An error of ours: at CuPy's own its pool would free blocks which graphs use, and try again."""
    from tapegrad.backends.cupy import graph

    class Failed(RuntimeError):
        pass

    def memory(size: int) -> Any:
        if size > 10:
            raise Failed("cudaErrorMemoryAllocation: out of memory" if size < 99 else "cudaErrorIllegalAddress")
        return ("memory", size)

    runtime = SimpleNamespace(CUDARuntimeError=Failed)
    cuda = SimpleNamespace(Memory=memory, MemoryPointer=lambda held, offset: (held, offset), runtime=runtime)
    more = graph._allocator(cuda, SimpleNamespace(explained=lambda size: f"no {size} bytes"))
    assert more(5) == (("memory", 5), 0)
    with pytest.raises(torch.OutOfMemoryError, match="no 11 bytes"):
        more(11)
    with pytest.raises(Failed, match="IllegalAddress"):
        more(99)


def test_without_a_device() -> None:
    if not torch.cuda.is_available():
        for make in (torch.cuda.graph_pool_handle, torch.cuda.graph_step(lambda: None)):
            with pytest.raises(AssertionError, match="Torch not compiled with CUDA enabled"):
                make()
        assert not torch.cuda.is_current_stream_capturing()
