"""Data-parallel training: several processes against one, options and errors in a world of one, torch's sampler."""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tapegrad
from library import ROOT

PROGRAMS = ROOT / "tests" / "mpi_programs"


def mpiexec(processes: int, program: Path, *arguments: str, seconds: int = 100) -> subprocess.CompletedProcess[str]:
    """Runs a program as several processes of one thread each."""
    beside = Path(sys.executable).parent / "mpiexec"
    launcher = str(beside) if beside.exists() else shutil.which("mpiexec")
    if launcher is None or importlib.util.find_spec("mpi4py") is None:
        pytest.skip("mpiexec or mpi4py is not installed: pip install 'tapegrad[mpi]'")
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
    command = [launcher, "-n", str(processes), sys.executable, str(program), *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=seconds)


def test_four_processes_compute_what_one_does_with_the_whole_batch() -> None:
    """The checks themselves are in the program, each run by all four processes."""
    program = PROGRAMS / "ddp_checks.py"
    done = mpiexec(4, program)
    assert done.returncode == 0, done.stdout + done.stderr[-4000:]
    assert re.findall(r"ok (\w+)", done.stdout) == re.findall(r"^def (check_\w+)", program.read_text("utf-8"), re.M)


def test_the_example_shows_the_curve_of_one_process() -> None:
    """Started plainly it starts four processes; it fails itself where the curves differ by more than 1e-5."""
    pytest.importorskip("sklearn")
    command = [sys.executable, str(ROOT / "examples" / "train_distributed.py"), "--processes", "4", "--quick"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100)
    if "need mpi4py and an MPI" in done.stderr:
        pytest.skip("mpiexec or mpi4py is not installed: pip install 'tapegrad[mpi]'")
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    assert done.stdout.count("4 processes, 1437 images") == 4
    assert 0 < float(re.findall(r"largest difference of all: (\S+)", done.stdout)[0]) < 1e-5


# ---- a world of one


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> Any:
    for name in ("PMI_SIZE", "PMI_RANK"):
        monkeypatch.delenv(name, raising=False)
    tapegrad.distributed.init_process_group("gloo", rank=0, world_size=1)
    yield tapegrad.distributed
    tapegrad.distributed.destroy_process_group()


def wrap(module: Any, **options: Any) -> Any:
    return tapegrad.nn.parallel.DistributedDataParallel(module, **options)


LAZY = ("RuntimeError", "uninitialized", lambda nn: wrap(nn.LazyLinear(2)))
BAD = {
    "no gradient": ("RuntimeError", "doesn't have any parameter that requires", lambda nn: wrap(nn.ReLU())),
    "lazy": LAZY,
    "sparse": ("RuntimeError", "use sparse=False", lambda nn: wrap(nn.Embedding(3, 2, sparse=True))),
    "devices": ("ValueError", "single element", lambda nn: wrap(nn.Linear(1, 1), device_ids=[0, 1])),
    "cpu device": ("ValueError", "only work with", lambda nn: wrap(nn.Linear(1, 1), device_ids=[0])),
    "mixed": ("ValueError", "does not take mixed_precision: use torch.autocast", lambda nn: wrap(
        nn.Linear(1, 1), mixed_precision=object())),
    "hook": ("TypeError", "must be callable", lambda nn: wrap(nn.Linear(1, 1)).register_comm_hook(None, 3)),
    "zero: tensor": ("TypeError", "iterable of Tensors", lambda nn: zero(tapegrad.ones(1))),
    "zero: empty": ("ValueError", "empty parameter list", lambda nn: zero([])),
    "zero: mixed": ("TypeError", "iterable of Tensors or dicts", lambda nn: zero([tapegrad.ones(1), {}])),
    "zero: dtypes": ("ValueError", "same dense type", lambda nn: zero([tapegrad.ones(1), tapegrad.ones(1).double()])),
    "zero: overlap": ("ValueError", "overlap_with_ddp", lambda nn: zero([tapegrad.ones(1)], overlap_with_ddp=True)),
    "join": ("ValueError", "at least one joinable", lambda nn: tapegrad.distributed.algorithms.Join([])),
}  # fmt: skip


def zero(params: Any, **options: Any) -> Any:
    return tapegrad.distributed.optim.ZeroRedundancyOptimizer(params, tapegrad.optim.SGD, lr=0.1, **options)


@pytest.mark.parametrize("name", BAD)
def test_bad_input(name: str, world: Any) -> None:
    kind, text, call = BAD[name]
    with pytest.raises(getattr(__import__("builtins"), kind), match=text):
        call(tapegrad.nn)


def test_in_a_world_of_one_it_is_the_module(world: Any) -> None:
    net = tapegrad.nn.Linear(3, 2)
    net.bias.requires_grad_(False)
    model = wrap(net, gradient_as_bucket_view=True)
    assert list(model.state_dict()) == ["module.weight", "module.bias"] and model.device_ids is None
    for step in range(3):
        model.zero_grad()
        model(tapegrad.ones(4, 3)).sum().backward()
        assert net.weight.grad.tolist() == [[4.0] * 3] * 2 and net.bias.grad is None, step
    with pytest.raises(RuntimeError, match="before training loop starts"):
        model._set_static_graph()
    with pytest.warns(FutureWarning, match="Both `broadcast_buffers`"):
        wrap(net, broadcast_buffers=False, forward_sync_buffers=True)


def test_checkpoints_that_share_a_layer(world: Any) -> None:
    """Backward passes within a backward pass: two gradients for one parameter are an error, or a static graph."""
    checkpoint = tapegrad.utils.checkpoint.checkpoint

    class Twice(tapegrad.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = tapegrad.nn.Linear(2, 2)

        def forward(self, x: Any) -> Any:
            return checkpoint(self.layer, checkpoint(self.layer, x, use_reentrant=True), use_reentrant=True)

    x = tapegrad.ones(1, 2, requires_grad=True)
    model = wrap(Twice())
    with pytest.raises(RuntimeError, match="mark a variable ready only once(.|\n)*with name layer.bias"):
        model(x).sum().backward()
    net = Twice()
    model = wrap(net, static_graph=True)
    for _ in range(3):
        model.zero_grad()
        model(x).sum().backward()
        assert model.reducer.fires == [2, 2] and not model.reducer.unfinished
        found = [p.grad.clone() for p in net.parameters()]
    net.zero_grad()
    net.layer(net.layer(x)).sum().backward()
    assert all(tapegrad.allclose(g, p.grad) for g, p in zip(found, net.parameters(), strict=True))


def test_hooks_go_with_the_wrapper(world: Any) -> None:
    net = tapegrad.nn.Linear(3, 2)
    model = wrap(net)
    assert len(net.weight._after_hooks) == 1
    del model
    assert not net.weight._after_hooks


def test_pickled_it_is_made_anew(world: Any) -> None:
    import pickle

    model = pickle.loads(pickle.dumps(wrap(tapegrad.nn.Linear(3, 2), bucket_cap_mb=1)))
    model(tapegrad.ones(4, 3)).sum().backward()
    assert model.module.weight.grad.tolist() == [[4.0] * 3] * 2 and model.bucket_bytes_cap == 2**20


# ---- the end of a backward pass, and futures


def test_queue_callback() -> None:
    queue = tapegrad.autograd.Variable._execution_engine.queue_callback
    with pytest.raises(RuntimeError, match="Final callbacks can only be installed during backward pass"):
        queue(lambda: None)
    seen: list[Any] = []
    w = tapegrad.ones(2, requires_grad=True)

    def hook(g: Any) -> None:
        queue(lambda: seen.append(w.grad.tolist()))

    y = w * 2
    y.register_hook(hook)
    y.sum().backward()
    assert seen == [[2.0, 2.0]]
    y = w * 2
    y.register_hook(hook)
    y.register_hook(lambda g: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        y.sum().backward()
    assert len(seen) == 1  # not after an error


def test_futures() -> None:
    futures = tapegrad.futures
    first, calls = futures.Future(), []
    second = first.then(lambda f: calls.append(f.value()) or 7)
    assert not first.done() and not second.done()
    with pytest.raises(RuntimeError, match="not completed"):
        first.value()
    first.set_result(3)
    assert calls == [3] and second.wait() == 7 and futures.wait_all([first, second]) == [3, 7]
    with pytest.raises(RuntimeError, match="only be marked complete once"):
        first.set_result(4)
    failing = futures.Future()
    failing.set_exception(KeyError("x"))
    with pytest.raises(KeyError):
        failing.then(lambda f: f.value()).wait()
    with pytest.raises(TypeError, match="not an Exception"):
        futures.Future().set_exception(3)
    ready: list[int] = []
    lazy = futures.Future.from_call(lambda: bool(ready), lambda: 5)
    doubled = lazy.then(lambda f: 2 * f.value())
    assert not doubled.done()
    ready.append(1)
    assert doubled.done() and doubled.value() == 10 and futures.collect_all([lazy]).wait() == [lazy]


# ---- beside torch


def test_distributed_sampler_gives_torchs_indices() -> None:
    torch = pytest.importorskip("torch")
    for n, world_size in ((10, 3), (9, 3), (2, 5), (7, 1), (5, 4)):
        for drop_last in (False, True):
            for rank in range(world_size):
                made = [
                    t.utils.data.distributed.DistributedSampler(
                        range(n), world_size, rank, shuffle=True, seed=5, drop_last=drop_last
                    )
                    for t in (tapegrad, torch)
                ]
                for epoch in (0, 1, 7):
                    for sampler in made:
                        sampler.set_epoch(epoch)
                    assert list(made[0]) == list(made[1]) and len(made[0]) == len(made[1])


def test_ddp_errors_and_gradients_are_torchs(world: Any) -> None:
    """An unused parameter: the same text up to the names; with the search, the same gradients, None included."""
    torch = pytest.importorskip("torch")
    texts, found = [], []
    for t in (tapegrad, torch):
        if t is torch:
            t.distributed.init_process_group("gloo", rank=0, world_size=1, store=torch.distributed.HashStore())
        for options in ({}, {"find_unused_parameters": True}):
            t.manual_seed(0)
            net = t.nn.ModuleDict({"a": t.nn.Linear(2, 1), "b": t.nn.Linear(2, 1)})
            net.forward = lambda x, net=net: net["b"](x)
            model = t.nn.parallel.DistributedDataParallel(net, **options)
            x = t.ones(3, 2)
            net.zero_grad()
            model(x).sum().backward()
            if options:
                found.append([None if p.grad is None else p.grad.numpy() for p in model.parameters()])
                continue
            with pytest.raises(RuntimeError) as error:
                model(x)
            texts.append(str(error.value))
    torch.distributed.destroy_process_group()
    ours, theirs = (text.partition("Parameter indices which did not receive grad for rank 0: ") for text in texts)
    assert ours[0] == theirs[0]
    assert ours[2].startswith("0 1")
    for a, b in zip(*found, strict=True):
        assert (a is None) is (b is None)
        if a is not None:
            np.testing.assert_allclose(a, b)
