"""The rooms around the tensors: cuda, accelerator, backends' settings, compiler, jit, distributed, processes."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys

import pytest
import tapegrad

NO_DEVICE = not tapegrad.cuda.is_available()
without_device = pytest.mark.skipif(not NO_DEVICE, reason="there is a device")

# What a program may ask where there is no device: PyTorch's answers, or its type of exception.
ASKED = """
T.cuda.is_available() | T.cuda.device_count() | T.cuda.is_initialized() | T.cuda.is_bf16_supported()
T.cuda.empty_cache() | T.cuda.manual_seed(1) | T.cuda.manual_seed_all(1) | T.cuda.seed() | T.cuda.memory_allocated()
T.cuda.memory_reserved() | T.cuda.max_memory_allocated() | T.cuda.synchronize() | T.cuda.current_device()
T.cuda.get_device_name(0) | T.cuda.init() | T.cuda.get_device_capability() | T.cuda.get_device_properties(0)
T.cuda.get_rng_state() | T.cuda.get_rng_state_all() | T.cuda.set_rng_state_all([]) | T.cuda.initial_seed()
T.cuda.current_stream() | T.cuda.get_arch_list() | T.cuda.ipc_collect() | T.cuda.mem_get_info() | T.cuda.FloatTensor(2)
T.cuda.FloatTensor.__name__ | T.cuda.set_device("cpu") | T.cuda.has_half
T.set_default_tensor_type("torch.cuda.FloatTensor") | T.set_default_tensor_type(T.cuda.FloatTensor)
isinstance(T.ones(1), T.cuda.FloatTensor) | T.cuda.can_device_access_peer(0, 1)
T.OutOfMemoryError is T.cuda.OutOfMemoryError | T.OutOfMemoryError.__mro__[1].__name__ | T.accelerator.is_available()
T.accelerator.current_accelerator() | T.accelerator.device_count() | T.accelerator.current_device_index()
T.accelerator.synchronize() | T.accelerator.current_stream() | T.accelerator.set_device_index(0)
T.accelerator.device_index(0).__enter__() | T.accelerator.memory_allocated() | T.backends.cudnn.is_available()
T.backends.cudnn.version() | T.backends.cudnn.enabled | T.backends.cudnn.benchmark | T.backends.cudnn.deterministic
T.backends.cudnn.allow_tf32 | T.backends.cuda.matmul.allow_tf32 | T.backends.cuda.is_built()
T.backends.cuda.matmul.allow_fp16_reduced_precision_reduction | T.backends.mps.is_available()
T.backends.mps.is_built() | T.backends.opt_einsum.strategy | T.backends.cuda.flash_sdp_enabled()
T.backends.cuda.math_sdp_enabled() | T.compiler.is_compiling() | T.jit.is_scripting() | T.jit.is_tracing()
T.distributed.is_available() | T.distributed.is_initialized() | T.distributed.get_rank()
T.distributed.get_world_size() | T.distributed.barrier() | T.distributed.all_reduce(T.ones(1))
T.distributed.destroy_process_group() | T.distributed.new_group([0])
T.multiprocessing.get_all_sharing_strategies() == {"file_descriptor", "file_system"}
"""


@without_device
@pytest.mark.parametrize("text", [c.strip() for line in ASKED.strip().splitlines() for c in line.split(" | ")])
def test_answers_without_a_device(text):
    real = pytest.importorskip("torch")
    try:
        theirs = eval(text, {"T": real})
    except Exception as error:
        with pytest.raises(type(error)):
            eval(text, {"T": tapegrad})
    else:
        mine = eval(text, {"T": tapegrad})
        assert type(mine) is type(theirs) and mine == theirs


@without_device
def test_what_needs_a_device_names_the_remedy():
    text = r"not compiled with CUDA.*(pip install 'tapegrad\[cupy13\]'|CuPy is there, but no GPU to use it on)"
    for call in (tapegrad.cuda.synchronize, tapegrad.cuda.current_stream, tapegrad.cuda.Event, tapegrad.cuda.Stream):
        with pytest.raises(AssertionError, match=text):
            call()
        with pytest.raises(RuntimeError):
            call()
    with pytest.raises(TypeError, match="type torch.cuda.DoubleTensor not available"):
        tapegrad.cuda.DoubleTensor(2)


def test_settings_are_kept():
    cudnn, matmul = tapegrad.backends.cudnn, tapegrad.backends.cuda.matmul
    before = cudnn.benchmark, matmul.allow_tf32
    try:
        cudnn.benchmark = matmul.allow_tf32 = True
        assert importlib.import_module("tapegrad.backends.cudnn").benchmark and matmul.allow_tf32
        with cudnn.flags(enabled=False, benchmark=False, deterministic=True):
            assert (cudnn.enabled, cudnn.benchmark, cudnn.deterministic) == (False, False, True)
        assert (cudnn.enabled, cudnn.benchmark, cudnn.deterministic) == (True, True, False)
        with tapegrad.backends.cuda.sdp_kernel(enable_flash=False):
            assert not tapegrad.backends.cuda.flash_sdp_enabled()
        assert tapegrad.backends.cuda.flash_sdp_enabled()
    finally:
        cudnn.benchmark, matmul.allow_tf32 = before


def test_the_choice_of_attention():
    """What sdpa_kernel sets inside, is left as it was after it: as PyTorch's."""
    real = pytest.importorskip("torch")

    def states(T, order):
        attention, cuda = T.nn.attention, T.backends.cuda
        B, found = attention.SDPBackend, []

        def note():  # torch puts back the order of those that were on only
            kinds = (cuda.math_sdp_enabled, cuda.flash_sdp_enabled, cuda.mem_efficient_sdp_enabled)
            on = [f() for f in (*kinds, cuda.cudnn_sdp_enabled)]
            found.append([on, [number for number in order() if number < 4 and on[number]]])

        given = [
            (B.MATH,), (B.CUDNN_ATTENTION, True), ([B.MATH, B.CUDNN_ATTENTION, B.MATH], True),
            ([B.EFFICIENT_ATTENTION, B.FLASH_ATTENTION],), ([],), (["words"],), (["words"], True), ([[]],), ("math",),
            ((B.MATH,),), (None, True),
        ]  # fmt: skip
        for args in given:
            try:
                with attention.sdpa_kernel(*args):
                    note()
                    with attention.sdpa_kernel([B.CUDNN_ATTENTION, B.MATH]):
                        note()
                    note()
                    raise KeyError("the end")
            except Exception as error:
                found.append((type(error).__name__, str(error)))
            note()
        return found

    import_module = importlib.import_module
    import_module("torch.nn.attention"), import_module("tapegrad.nn.attention")
    expected = states(real, real._C._get_sdp_priority_order)
    assert states(tapegrad, tapegrad.backends.cuda.sdp_order) == expected
    assert tapegrad.backends.cuda.sdp_order() == (1, 2, 0, 3, 4)


@pytest.mark.parametrize("name", "cpu cuda cudnn mkl mkldnn mps openmp opt_einsum".split())
def test_settings_are_modules(name):
    module = importlib.import_module(f"tapegrad.backends.{name}")
    assert getattr(tapegrad.backends, name) is module and module.__doc__


# ---- compile and jit: what is given is what runs


def test_compile():
    net, f = tapegrad.nn.Linear(2, 2), lambda x: x * 2
    assert tapegrad.compile(net) is net and tapegrad.compile(f, mode="max-autotune", dynamic=True) is f

    @tapegrad.compile
    def g(x):
        return x + 1

    @tapegrad.compile(fullgraph=True, backend="eager")
    def h(x):
        return g(x) * 2

    assert h(1) == 4
    with pytest.raises(RuntimeError, match="Either mode or options"):
        tapegrad.compile(f, mode="default", options={})
    with pytest.raises(RuntimeError):
        tapegrad.compile(3)
    assert net.compile() is None  # as a method of modules
    assert tapegrad.compiler.disable(f) is f and tapegrad.compiler.disable()(f) is f


def test_jit():
    jit = tapegrad.jit
    net = tapegrad.nn.Linear(2, 1)
    seen = []
    assert jit.script(net) is net and jit.trace(net, tapegrad.ones(1, 2)) is net
    jit.trace(lambda *a: seen.append(len(a)), (1, 2))
    assert seen == [2]

    @jit.script
    def f(x):
        return x

    class M(tapegrad.nn.Module):
        @jit.export
        def a(self):
            return 1

        @jit.ignore
        def b(self):
            return 2

        @jit.unused
        def c(self):
            return jit.annotate(list[int], [3])

        @jit.ignore(drop=True)
        def d(self):
            return 4

    m = M()
    assert (m.a(), m.b(), m.c(), m.d(), f(5)) == (1, 2, [3], 4, 5)
    assert jit.wait(jit.fork(lambda x: x + 1, 2)) == 3
    with jit.optimized_execution(False):
        pass


# ---- distributed: a world of one


@pytest.fixture
def world():
    tapegrad.distributed.init_process_group("gloo", rank=0, world_size=1)
    yield tapegrad.distributed
    if tapegrad.distributed.is_initialized():
        tapegrad.distributed.destroy_process_group()


def test_collectives(world):
    t = tapegrad.tensor([1.0, 2.0])
    for call in (world.all_reduce, world.reduce, world.broadcast):
        kw = {} if call is world.all_reduce else {"dst" if call is world.reduce else "src": 0}
        assert call(t, **kw) is None
        work = call(t, async_op=True, **kw)
        assert work.wait() and work.is_completed()
    assert t.tolist() == [1, 2]
    out = [tapegrad.zeros(2)]
    world.all_gather(out, t)
    assert out[0].tolist() == [1, 2] and out[0].data_ptr() != t.data_ptr()
    single = tapegrad.zeros(1, 2)
    world.all_gather_into_tensor(single, t)
    assert single.tolist() == [[1, 2]]
    for call, given in ((world.scatter, [t]), (world.reduce_scatter, [t]), (world.reduce_scatter_tensor, t)):
        target = tapegrad.zeros(2)
        call(target, given)
        assert target.tolist() == [1, 2]
    target = [tapegrad.zeros(2)]
    world.gather(t, target, dst=0)
    world.all_to_all(target, [t + 1])
    assert target[0].tolist() == [2, 3]
    objects = [None]
    world.all_gather_object(objects, {"a": 1})
    world.broadcast_object_list(objects, src=0)
    assert objects == [{"a": 1}]
    world.barrier()
    assert world.get_backend() == "gloo" and world.new_group([0]).size() == 1
    assert world.get_process_group_ranks(world.group.WORLD) == [0]


def test_wrong_calls_of_the_world(world):
    with pytest.raises(ValueError, match="twice"):
        world.init_process_group("gloo", rank=0, world_size=1)
    with pytest.raises(RuntimeError, match="broadcast: invalid root rank: 1"):
        world.broadcast(tapegrad.ones(1), src=1)
    with pytest.raises(ValueError, match="1 is outside of the world of 1 process"):
        world.new_group([0, 1])
    with pytest.raises(RuntimeError, match="expected length 1, got 0"):
        world.all_gather([], tapegrad.ones(1))
    with pytest.raises(TypeError, match="Expected parameter `tensor`"):
        world.all_reduce(3)
    with pytest.raises(RuntimeError, match="invalid root rank: 1"):
        world.send(tapegrad.ones(1), dst=1)


def test_more_than_one_process_is_refused(monkeypatch):
    with pytest.raises(RuntimeError, match="world of 2 processes needs a transport .*mpiexec -n 2"):
        tapegrad.distributed.init_process_group("nccl", rank=0, world_size=2)
    monkeypatch.setenv("WORLD_SIZE", "1")
    monkeypatch.delenv("RANK", raising=False)
    with pytest.raises(ValueError, match="environment variable RANK expected, but not set"):
        tapegrad.distributed.init_process_group("gloo")
    monkeypatch.setenv("RANK", "0")
    tapegrad.distributed.init_process_group("gloo", init_method="env://")
    assert tapegrad.distributed.get_world_size() == 1
    tapegrad.distributed.destroy_process_group()


def test_distributed_data_parallel(world):
    net = tapegrad.nn.Linear(2, 1)
    wrapped = tapegrad.nn.parallel.DistributedDataParallel(net, device_ids=None, find_unused_parameters=True)
    assert list(wrapped.state_dict()) == ["module.weight", "module.bias"] and wrapped.module is net
    with wrapped.no_sync():
        assert not wrapped.require_backward_grad_sync
        wrapped(tapegrad.ones(3, 2)).sum().backward()
    assert net.weight.grad.tolist() == [[3, 3]] and wrapped.require_backward_grad_sync
    with pytest.raises(RuntimeError, match="requires a gradient"):
        tapegrad.nn.parallel.DistributedDataParallel(tapegrad.nn.ReLU())
    world.destroy_process_group()
    with pytest.raises(ValueError, match="not been initialized"):
        tapegrad.nn.parallel.DistributedDataParallel(net)


# ---- processes


SPAWN = """
import os, sys
import tapegrad as torch

def work(rank, path, x):
    open(os.path.join(path, str(rank)), "w").write(str((x * rank).tolist()))

def fail(rank):
    if rank == 1:
        raise ValueError("boom")

def leave(rank):
    os._exit(3)

if __name__ == "__main__":
    mp = torch.multiprocessing
    mp.spawn(work, args=(sys.argv[1], torch.ones(2)), nprocs=2, join=True)
    assert open(os.path.join(sys.argv[1], "1")).read() == "[1.0, 1.0]"
    for target, kind, text in (
        (fail, mp.ProcessRaisedException, "ValueError: boom"), (leave, mp.ProcessExitedException, "exit code 3")
    ):
        try:
            mp.spawn(target, nprocs=2)
        except kind as error:
            assert text in str(error) and error.error_index in (0, 1) and error.pid
        else:
            raise AssertionError(target)
    started = mp.spawn(work, (sys.argv[1], torch.ones(1)), join=False)
    assert len(started.pids()) == 1 and started.join(60) and started.join()
    assert issubclass(mp.Process, object) and mp.cpu_count() > 0 and mp.get_context("spawn")
"""


def test_spawn(tmp_path):
    (tmp_path / "p.py").write_text(SPAWN)
    done = subprocess.run([sys.executable, "p.py", str(tmp_path)], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_spawn_where_torch_means_tapegrad(tmp_path):
    (tmp_path / "p.py").write_text(SPAWN.replace("import tapegrad as torch", "import torch"))
    command = [sys.executable, "-m", "tapegrad.compat", "p.py", str(tmp_path)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_sharing_strategies():
    mp = tapegrad.multiprocessing
    before = mp.get_sharing_strategy()
    mp.set_sharing_strategy("file_descriptor")
    assert mp.get_sharing_strategy() == "file_descriptor"
    mp.set_sharing_strategy(before)
    with pytest.raises(AssertionError):
        mp.set_sharing_strategy("telepathy")


# ---- tensorboard


STAND_IN = """
class SummaryWriter:
    def __init__(self, logdir=None):
        self.logdir, self.seen = logdir, []
    def add_scalar(self, tag, scalar_value, global_step=None):
        self.seen.append((tag, type(scalar_value).__name__, global_step))
    def add_histogram(self, tag, values, global_step=None):
        self.seen.append((tag, type(values).__name__, global_step))
    def add_scalars(self, tag, values, step=None):
        self.seen.append((tag, {k: type(v).__name__ for k, v in values.items()}))
"""


def test_summary_writer_takes_tensors(tmp_path):
    """What tensorboardX gets, shown by a stand-in of that name."""
    (tmp_path / "tensorboardX.py").write_text(STAND_IN)
    code = """
import tapegrad as torch
from tapegrad.utils.tensorboard import SummaryWriter
w = SummaryWriter("runs")
w.add_scalar("loss", torch.tensor(1.5, requires_grad=True), global_step=3)
w.add_histogram("h", values=torch.ones(3))
w.add_scalars("both", {"a": torch.tensor(1.0), "b": 2})
print(w.logdir, w.seen)
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    expected = [("loss", "float", 3), ("h", "ndarray", None), ("both", {"a": "float", "b": "int"})]
    assert done.stdout.strip() == f"runs {expected}"


def test_without_tensorboardx_the_extra_is_named(tmp_path):
    code = """
import sys
sys.modules["tensorboardX"] = None
try:
    from tapegrad.utils.tensorboard import SummaryWriter
except ImportError as error:
    assert "pip install 'tapegrad[tensorboard]'" in str(error)
else:
    raise AssertionError
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, env=os.environ)
    assert done.returncode == 0, done.stderr
