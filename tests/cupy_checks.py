"""What CuPy itself makes of this library's calls, on pretended devices (cupy_on_host.py): run as a program of its own.

Prints one line of JSON: check -> "" or what went wrong. test_cuda_devices.py starts it and shows each as a test.
"""

from __future__ import annotations

import json
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import cupy_on_host as pretended
import numpy as np

CHECKS: dict[str, Callable[[], None]] = {}


def check(function: Callable[[], None]) -> Callable[[], None]:
    CHECKS[function.__name__] = function
    return function


@contextmanager
def raises(kind: type[BaseException], text: str) -> Iterator[None]:
    try:
        yield
    except kind as error:
        assert text in str(error), f"{error} does not say {text}"
    else:
        raise AssertionError(f"no {kind.__name__} with {text}")


cupy = pretended.cupy()
cupy.cuda.set_allocator(None)  # fresh memory is zero, and so is what kernels that are not made leave behind

import tapegrad as torch  # noqa: E402
from records import RECORDS  # noqa: E402
from tapegrad.autograd.op import OPS, load_late  # noqa: E402
from tapegrad.backends import registry  # noqa: E402
from tapegrad.backends.base import DeviceKey  # noqa: E402
from tapegrad.backends.cupy import CupyBackend, bounds, linking  # noqa: E402
from test_cuda_kernels import GENERIC, run  # noqa: E402

load_late()
backend = registry.load("cupy")
KERNELS = backend.kernels
F = torch.nn.functional

# ---- every record: CuPy takes the calls, and gives the dtypes and shapes that NumPy gives --------------------------

# their results' shapes hang on values, which are all zero here, or they refuse zeros
BY_VALUE = {"nonzero", "masked_select", "masked_spread", "eig", "eigvals"}
# PyTorch has them in neither half precision on devices
NO_HALF = {"fft_c2c", "fft_r2c", "fft_c2r", "det", "cofactor", "slogdet", "solve", "euclidean_distances", "lu"}
ABSENT = ("libcusolver", "cusolver is not here", "in cuBLAS", "in cuSOLVER")  # libraries that are not made to answer


def converted(array: Any, dtype: Any) -> Any:
    array = None if array is None else np.asarray(array)
    return array if array is None or array.dtype.kind != "f" else array.astype(dtype)


def compare(dtype: Any, device: int, fused: bool) -> None:
    """All records in one dtype on one device, with the kernels or with the generic forms only."""
    wrong: list[str] = []
    CupyBackend.kernels = KERNELS if fused else {}  # type: ignore[assignment,misc]
    forget_links()
    for record in RECORDS.values():
        op = OPS[record.op]
        if op.moves or record.op in BY_VALUE or (dtype.itemsize == 2 and record.op in NO_HALF):
            continue
        if dtype.kind == "c" and not record.complex:
            continue
        for seed, sample in enumerate(record.samples(np.random.default_rng(1))):
            arrays = [converted(a, dtype) for a in sample.arrays]
            try:
                expected, grads = run(record, sample, arrays, GENERIC, seed)
            except (RuntimeError, TypeError, ValueError):
                continue  # this dtype is refused on every device
            pretended.launched.clear()
            try:
                place = DeviceKey("cuda", device)
                found, own = run(record, sample, arrays, lambda a: backend.asarray(a, device=place), seed)  # noqa: B023
                bounds._pending.launched = False
            except Exception as error:
                if not any(word in str(error) for word in ABSENT):
                    wrong.append(f"{record.op} {sample.kw}: {type(error).__name__}: {error}")
                continue
            elsewhere = {name for at, name in pretended.launched if at != device}
            if elsewhere or cupy.cuda.runtime.getDevice():
                wrong.append(f"{record.op}: on another device: {sorted(elsewhere)}")
            for f, e in zip([*found, *own], [*expected, *grads], strict=True):
                if (f is None) != (e is None) or (f is not None and (f.dtype, f.shape) != (e.dtype, e.shape)):
                    shown = [None if a is None else (str(a.dtype), a.shape) for a in (f, e)]
                    wrong.append(f"{record.op} {sample.kw}: {shown[0]}, by NumPy {shown[1]}")
    assert not wrong, "\n".join(dict.fromkeys(wrong))


def forget_links() -> None:
    from tapegrad.autograd import op as op_module

    op_module._raw.clear()
    op_module.raw_by_type.pop(cupy.ndarray, None)
    for op in OPS.values():
        op.kernels.pop(cupy.ndarray, None)


def half(name: str) -> Any:
    import ml_dtypes

    return np.dtype(getattr(ml_dtypes, name))


@check
def generic_forms_in_double_precision() -> None:
    compare(np.dtype("f8"), 0, False)


@check
def generic_forms_of_complex_numbers() -> None:
    compare(np.dtype("c16"), 0, False)


@check
def generic_forms_in_half_precision() -> None:
    compare(np.dtype("f2"), 0, False)


@check
def generic_forms_in_bfloat16() -> None:
    compare(half("bfloat16"), 0, False)


@check
def kernels_in_single_precision() -> None:
    compare(np.dtype("f4"), 0, True)


@check
def kernels_in_bfloat16() -> None:
    compare(half("bfloat16"), 0, True)


@check
def every_op_runs_on_the_device_of_its_arrays() -> None:
    compare(np.dtype("f8"), 1, False)


@check
def every_kernel_runs_on_the_device_of_its_arrays() -> None:
    compare(np.dtype("f4"), 1, True)


# ---- devices ------------------------------------------------------------------------------------------------------


@check
def devices_of_new_tensors() -> None:
    cuda = torch.cuda
    assert cuda.is_available() and cuda.device_count() == 2 and cuda.get_device_name(1) == "pretended"
    assert str(torch.ones(2, device="cuda").device) == "cuda:0" and str(torch.ones(2).cuda(1).device) == "cuda:1"
    makers = (
        torch.zeros, torch.ones, torch.rand, torch.randn, lambda *s: torch.tensor([1.0, 2.0]), torch.empty,
        lambda *s: torch.arange(4), lambda *s: torch.full((2,), 1.5), lambda *s: torch.eye(3),
        lambda *s: torch.linspace(0, 1, 5), lambda *s: torch.randint(0, 3, (2,)), lambda *s: torch.randperm(4),
    )  # fmt: skip
    for chosen in ("cuda:1", torch.device("cuda", 1), torch.device(1)):
        with torch.device(chosen):
            for make in makers:
                assert str(make(2, 3).device) == "cuda:1", make
            assert str(torch.zeros(2, device="cpu").device) == "cpu"
            assert str(torch.nn.Linear(2, 2).weight.device) == "cuda:1"
        assert str(torch.ones(1).device) == "cpu"
    torch.set_default_device("cuda:1")
    try:
        assert str(torch.ones(1).device) == "cuda:1" == str(torch.get_default_device())
    finally:
        torch.set_default_device(None)
    with cuda.device(1):
        assert cuda.current_device() == 1 and str(torch.ones(1, device="cuda").device) == "cuda:1"
        assert str(torch.ones(1, device="cuda:0").device) == "cuda:0"
    cuda.set_device("cuda:1")
    try:
        assert str(torch.ones(1).cuda().device) == "cuda:1"
        assert str(torch.ones(1, device="cuda:0").to("cuda").device) == "cuda:1", "cuda is the current one"
    finally:
        cuda.set_device(0)
    with raises(RuntimeError, "invalid device ordinal"):
        torch.ones(1, device="cuda:2")
    with raises(RuntimeError, "invalid device ordinal"):
        torch.ones(1).to("cuda:5")
    x = torch.ones(2, device="cuda:1")
    for like in (torch.zeros_like(x), x.new_ones(3), x.new_tensor([1.0]), x.clone(), x[0], x.double(), x + 1, 2 * x):
        assert str(like.device) == "cuda:1"


@check
def tensors_on_different_devices() -> None:
    a, b, host = torch.ones(2, device="cuda:0"), torch.ones(2, device="cuda:1"), torch.ones(2)
    both = "Expected all tensors to be on the same device, but found at least two devices, "
    for call in (torch.add, torch.mul, torch.dot, lambda x, y: torch.cat([x, y]), lambda x, y: x.add_(y), torch.where,
                 lambda x, y: F.mse_loss(x, y)):  # fmt: skip
        call_it = (lambda x, y: torch.where(x > 0, x, y)) if call is torch.where else call
        with raises(RuntimeError, both + "cuda:0 and cuda:1!"):
            call_it(a, b)
        with raises(RuntimeError, both):
            call_it(a, host)
    assert str((a + torch.tensor(2.0)).device) == "cuda:0", "a number on the CPU goes with any"
    layer = torch.nn.Linear(2, 2)
    with raises(RuntimeError, both):
        layer(a)


@check
def moves_keep_what_a_tensor_is() -> None:
    x = torch.ones(2, 3, requires_grad=True)
    y = x.to("cuda", non_blocking=True)
    assert y.requires_grad and not y.is_leaf and x.cuda(0).device == y.device and y.cuda() is y and y.to("cuda:0") is y
    z = y.to("cuda:1").cpu()
    z.backward(torch.full((2, 3), 4.0))
    assert str(x.grad.device) == "cpu" and x.grad.tolist() == [[4.0] * 3] * 2, "bytes move without kernels"
    leaf = torch.ones(2).cuda().requires_grad_()
    assert leaf.is_leaf and leaf.detach().cpu().is_leaf and not leaf.detach().requires_grad
    assert leaf.to("cuda:1", copy=True).data_ptr() != leaf.data_ptr() and leaf.to(torch.float64).dtype is torch.float64
    with torch.no_grad():
        assert torch.ones(1, requires_grad=True).cuda().is_leaf
    host = torch.arange(6.0).view(3, 2)
    assert host.cuda().cpu().tolist() == host.tolist()
    assert torch.ones(2).cuda().pin_memory is not None and str(host.cuda().type()) == "torch.cuda.FloatTensor"
    to = torch.zeros(3, 2, device="cuda:1")
    to.copy_(host.cuda())
    assert str(to.device) == "cuda:1"


@check
def modules_and_optimizers_move() -> None:
    model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4))
    before = [id(p) for p in model.parameters()]
    assert model.to("cuda:1") is model
    for p in model.parameters():
        assert p.is_leaf and p.requires_grad and str(p.device) == "cuda:1" and isinstance(p, torch.nn.Parameter)
    assert [id(p) for p in model.parameters()] == before
    assert all(str(b.device) == "cuda:1" for b in model.buffers())
    for make in (torch.optim.SGD, torch.optim.Adam, torch.optim.AdamW, torch.optim.RMSprop, torch.optim.Adagrad):
        options = {"momentum": 0.9} if make in (torch.optim.SGD, torch.optim.RMSprop) else {}
        optimizer = make(model.parameters(), lr=0.1, **options)
        for _ in range(2):
            optimizer.zero_grad()
            pretended.launched.clear()
            model(torch.ones(5, 3, device="cuda:1")).sum().backward()
            optimizer.step()
            assert {at for at, _ in pretended.launched} == {1}
        saved = optimizer.state_dict()
        model.cpu()
        other = make(model.parameters(), lr=0.1, **options)
        other.load_state_dict(saved)
        for p in model.parameters():
            for name, value in other.state[p].items():
                if isinstance(value, torch.Tensor) and name != "step":
                    assert value.device == p.device, f"{make.__name__}: {name}"
        model.cuda(1)
    model.cpu().load_state_dict(model.cuda(0).state_dict())
    assert next(model.parameters()).is_cuda, "values are copied; the place stays"


@check
def checkpoints_load_anywhere() -> None:
    import io

    file = io.BytesIO()
    torch.save({"a": torch.arange(3.0, device="cuda:1"), "b": torch.ones(2)}, file)
    for where, expected in (
        (None, "cuda:1"), ("cpu", "cpu"), ("cuda:0", "cuda:0"), ("cuda", "cuda:0"), (torch.device("cpu"), "cpu"),
        ({"cuda:1": "cuda:0"}, "cuda:0"), (lambda storage, place: storage, "cpu"),
        (lambda storage, place: storage.cuda(0) if place.startswith("cuda") else storage, "cuda:0"),
    ):  # fmt: skip
        file.seek(0)
        found = torch.load(file, map_location=where)["a"]
        assert str(found.device) == expected, (where, found.device)
    file = io.BytesIO()
    with torch.no_grad():
        torch.save(torch.ones(1), file)
    file.seek(0)
    with raises(RuntimeError, "Attempting to deserialize object on CUDA device 9 but torch.cuda.device_count() is 2."):
        torch.load(file, map_location="cuda:9")


@check
def random_numbers_are_those_of_the_cpu() -> None:
    torch.manual_seed(3)
    expected = torch.rand(4).tolist()
    torch.cuda.manual_seed_all(3)
    assert torch.rand(4, device="cuda:1").cpu().tolist() == expected
    state = torch.cuda.get_rng_state()
    first = torch.rand(2, device="cuda").cpu().tolist()
    torch.cuda.set_rng_state(state)
    assert torch.rand(2, device="cuda").cpu().tolist() == first and len(torch.cuda.get_rng_state_all()) == 2
    with torch.random.fork_rng():
        torch.rand(5, device="cuda")
    g = torch.Generator(device="cuda").manual_seed(3)
    assert g.device.type == "cuda" and torch.rand(4, generator=g, device="cuda").cpu().tolist() == expected
    assert len(torch.cuda.default_generators) == 2


# they refuse the zeros that they are given for results, or find no element where one must be
OF_ZEROS = {
    "actor_critic": "to satisfy the constraint", "flow": "to satisfy the constraint",
    "gpt": "invalid multinomial distribution", "seq2seq": "shape mismatch",
}  # fmt: skip


@check
def whole_programs() -> None:
    from test_programs import NAMES, import_tapegrad, load

    wrong = []
    for name in NAMES:
        torch.set_default_device("cuda")
        try:
            load(name, import_tapegrad)["main"](1)
        except Exception as error:
            if OF_ZEROS.get(name, "?") not in str(error):
                wrong.append(f"{name}: {traceback.format_exc(limit=-2)}")
        finally:
            torch.set_default_device(None)
    assert not wrong, "\n".join(wrong)


# ---- streams, memory ----------------------------------------------------------------------------------------------


@check
def streams_and_events() -> None:
    cuda = torch.cuda
    side, far = cuda.Stream(), cuda.Stream(device="cuda:1", priority=-1)
    assert cuda.current_stream() == cuda.default_stream() and side.device == torch.device("cuda:0")
    with cuda.stream(side):
        assert cuda.current_stream() == side and cuda.current_stream().cuda_stream == side.cuda_stream
        with cuda.stream(far):
            assert cuda.current_device() == 1 and cuda.current_stream() == far and cuda.current_stream(0) == side
        assert cuda.current_device() == 0 and cuda.current_stream() == side
    assert cuda.current_stream() == cuda.default_stream() and cuda.default_stream(1).device == torch.device("cuda:1")
    start, end = (cuda.Event(enable_timing=True) for _ in range(2))
    assert start.query() and start.cuda_event == 0
    start.record(side)
    pretended.calls.clear()
    side.record_event(end)
    far.wait_event(end)
    assert [c[0] for c in pretended.calls] == ["eventRecord", "streamWaitEvent"]
    assert pretended.calls[0][1] == end.cuda_event and pretended.calls[1][:3] == (
        "streamWaitEvent", far.cuda_stream, end.cuda_event
    )  # fmt: skip
    assert start.elapsed_time(end) == 2.5
    pretended.calls.clear()
    far.wait_stream(side)
    side.synchronize()
    end.synchronize()
    made = [c[0] for c in pretended.calls]
    assert made == ["eventRecord", "streamWaitEvent", "streamSynchronize", "eventSynchronize"]
    pretended.calls.clear()
    cuda.synchronize(1)
    assert pretended.calls[0][0] == "deviceSynchronize"
    assert cuda.ExternalStream(side.cuda_stream).cuda_stream == side.cuda_stream


@check
def memory_that_another_stream_uses_is_kept() -> None:
    side, lent = torch.cuda.Stream(), backend.memory.lent
    x = torch.ones(4, device="cuda")
    at = x.data_ptr()
    x.record_stream(side)
    torch.cuda.synchronize()
    assert len(lent) == 1 and lent[0][2] is None and at in pretended.allocated
    y = x.view(2, 2)
    del x
    torch.cuda.synchronize()
    assert lent[0][2] is None, "a view uses it"
    del y
    assert at in pretended.allocated
    torch.cuda.synchronize()
    assert not lent and at not in pretended.allocated
    with raises(NotImplementedError, "Could not run 'aten::record_stream' with arguments from the 'CPU' backend"):
        torch.ones(1).record_stream(side)


@check
def the_current_stream_is_each_threads_own() -> None:
    import threading

    side, seen = torch.cuda.Stream(), []
    with torch.cuda.stream(side):
        cuda = torch.cuda
        thread = threading.Thread(target=lambda: seen.append(cuda.current_stream() == cuda.default_stream()))
        thread.start()
        thread.join()
    assert seen == [True]


@check
def copies_between_devices_wait_for_both_streams() -> None:
    x = torch.ones(4, device="cuda:0")
    pretended.calls.clear()
    x.to("cuda:1")
    assert [c[0] for c in pretended.calls if c[0] != "deviceSynchronize"] == [
        "eventRecord", "streamWaitEvent", "eventRecord", "streamWaitEvent"
    ]  # fmt: skip


@check
def memory_is_counted() -> None:
    cuda = torch.cuda
    watch, pool = backend.memory, cupy.cuda.MemoryPool()
    kept = watch.inner, watch.pool, watch.used
    watch.inner, watch.pool, watch.used = pool.malloc, pool, pool.used_bytes
    cuda.reset_peak_memory_stats()
    try:
        x = torch.ones(1 << 18, device="cuda")
        assert cuda.memory_allocated() == 1 << 20 == cuda.max_memory_allocated() and cuda.memory_allocated(1) == 0
        y = x.clone()
        del y
        assert cuda.memory_allocated() == 1 << 20 and cuda.max_memory_allocated() == 2 << 20
        assert cuda.memory_reserved() == 2 << 20 == cuda.max_memory_reserved()
        cuda.empty_cache()
        assert cuda.memory_reserved() == 1 << 20 and cuda.max_memory_reserved() == 2 << 20
        cuda.reset_peak_memory_stats()
        assert cuda.max_memory_allocated() == 1 << 20 and cuda.memory_stats()["allocated_bytes.all.peak"] == 1 << 20
        assert "MiB: Tensor (262144,) float32" in cuda.memory_summary()
        pool.set_limit(size=3 << 20)
        with raises(torch.OutOfMemoryError, "CUDA out of memory. Tried to allocate 4.00 MiB. GPU 0 has a total"):
            torch.ones(1 << 20, device="cuda")
        try:
            torch.ones(1 << 20, device="cuda")
        except torch.cuda.OutOfMemoryError as error:
            assert "\n  1.00 MiB: Tensor (262144,) float32" in str(error)
        del x
        assert cuda.memory_allocated() == 0
    finally:
        watch.inner, watch.pool, watch.used = kept


# ---- other libraries ----------------------------------------------------------------------------------------------


class Foreign:
    """A library's array that is nothing but its interface."""

    def __init__(self, array: Any):
        self.held, self.__cuda_array_interface__ = array, array.__cuda_array_interface__


@check
def cupys_arrays_are_shared() -> None:
    import ml_dtypes

    for dtype in ("f4", "f8", "f2", "i8", "?", "c8", ml_dtypes.bfloat16):
        a = cupy.zeros((2, 3), dtype)
        for t in (torch.as_tensor(a), torch.asarray(a), torch.from_dlpack(a)):
            assert t.data_ptr() == a.data.ptr and t.shape == (2, 3) and str(t.device) == "cuda:0"
        t = torch.as_tensor(Foreign(a))
        assert t.data_ptr() == a.data.ptr and t.array.dtype == a.dtype
        for back in (cupy.from_dlpack(t), *([cupy.asarray(t)] if a.dtype.kind != "V" else [])):
            assert back.data.ptr == a.data.ptr and back.dtype == a.dtype and back.shape == (2, 3)
        assert cupy.asarray(t.t()).strides == a.T.strides
    a = cupy.arange(4.0)
    assert torch.tensor(a).data_ptr() != a.data.ptr and torch.tensor(a).is_cuda
    assert torch.as_tensor(a, dtype=torch.float32).dtype is torch.float32
    with cupy.cuda.Device(1):
        far = cupy.zeros(3)
    assert str(torch.as_tensor(far).device) == "cuda:1" == str(torch.from_dlpack(far).device)
    assert torch.as_tensor(cupy.zeros((0, 2))).__cuda_array_interface__["data"][0] == 0


@check
def the_cuda_array_interface_is_pytorchs() -> None:
    t = torch.ones(2, 3, device="cuda")
    assert t.__cuda_array_interface__ == {
        "typestr": "<f4", "shape": (2, 3), "strides": None, "data": (t.data_ptr(), False), "version": 2
    }  # fmt: skip
    assert t.t().__cuda_array_interface__["strides"] == (4, 12)
    assert t.to(torch.bfloat16).__cuda_array_interface__["typestr"] == "<V2"
    with raises(RuntimeError, "Can't get __cuda_array_interface__ on Variable that requires grad."):
        t.requires_grad_().__cuda_array_interface__  # noqa: B018
    with raises(AttributeError, "on non-CUDA tensor type: torch.FloatTensor If CUDA data is required use"):
        torch.ones(1).__cuda_array_interface__  # noqa: B018
    assert not hasattr(torch.ones(1), "__cuda_array_interface__")


@check
def dlpack_waits_for_the_stream_that_it_is_given() -> None:
    t, other = torch.ones(3, device="cuda"), torch.cuda.Stream()
    assert t.__dlpack_device__() == (2, 0) and torch.ones(3, device="cuda:1").__dlpack_device__() == (2, 1)
    for stream, waiting in ((-1, []), (other.cuda_stream, [other.cuda_stream])):
        pretended.calls.clear()
        with torch.cuda.stream(torch.cuda.Stream()):
            t.__dlpack__(stream=stream)
        assert [c[1] for c in pretended.calls if c[0] == "streamWaitEvent"] == waiting, pretended.calls
    with raises(TypeError, "stream must be"):
        t.__dlpack__(stream="a")
    with raises(BufferError, "Can't export tensors that require gradient"):
        torch.ones(1, device="cuda", requires_grad=True).__dlpack__()
    with raises(BufferError, "per-thread default stream"):
        t.__dlpack__(stream=2)


# ---- indices ------------------------------------------------------------------------------------------------------


@check
def indices_are_checked_by_every_op_that_takes_them() -> None:
    """Each call launches a check, or a kernel that checks, and the flag is read where the host waits."""
    x, i = torch.ones(4, 5, device="cuda"), torch.tensor([0, 1], device="cuda")
    two = torch.zeros(2, 5, dtype=torch.int64, device="cuda")
    log = x.double().log_softmax(1)
    target = torch.tensor([0, 1, 2, 3], device="cuda")
    calls: dict[str, Callable[[], Any]] = {
        "x[i]": lambda: x[i], "x[:, i]": lambda: x[:, i], "x[i, i]": lambda: x[i, i],
        "x[i] = 0": lambda: x.__setitem__(i, 0.0), "index_put_": lambda: x.index_put_((i,), x[:2], accumulate=True),
        "take": lambda: x.take(i), "put_": lambda: x.put_(i, torch.ones(2, device="cuda")),
        "gather": lambda: x.gather(0, two), "scatter_": lambda: x.scatter_(0, two, x[:2]),
        "scatter_ of a number": lambda: x.scatter_(0, two, 1.0), "scatter_add_": lambda: x.scatter_add_(0, two, x[:2]),
        "scatter_reduce_": lambda: x.scatter_reduce_(0, two, x[:2], "amax"),
        "index_select": lambda: x.index_select(0, i), "index_add_": lambda: x.index_add_(0, i, x[:2]),
        "index_copy_": lambda: x.index_copy_(0, i, x[:2]), "index_fill_": lambda: x.index_fill_(0, i, 1.0),
        "take_along_dim": lambda: x.take_along_dim(two, 0), "embedding": lambda: F.embedding(i, x),
        "embedding, double": lambda: F.embedding(i, x.double()), "nll_loss": lambda: F.nll_loss(log, target),
        "cross_entropy": lambda: F.cross_entropy(x, target),
        "cross_entropy, double": lambda: F.cross_entropy(log, target),
        "binary_cross_entropy": lambda: F.binary_cross_entropy(x.double(), x.double()),
        "max_unpool1d": lambda: F.max_unpool1d(x[None].double(), torch.zeros(1, 4, 5, dtype=torch.int64).cuda(), 2),
    }  # fmt: skip
    looks = {"check_bounds", "embedding_rows", "cross_entropy_rows"}
    for name, call in calls.items():
        pretended.launched.clear()
        bounds._pending.launched = False
        call()
        made = {kernel.split("<")[0] for _, kernel in pretended.launched}
        assert made & looks, f"{name}: {sorted(made)}"
        assert bounds._pending.launched, name
    flag = bounds.flag()
    report = np.array([bounds.code("gather", "index {index} of {size}"), 7, 4])
    cupy.cuda.runtime.memcpy(flag.data.ptr, report.ctypes.data, 24, 4)
    with raises(IndexError, "index 7 of 4 (op gather: index 7, size 4; found on the device"):
        x.cpu()
    for op in OPS.values():
        integers = [n for n in op.index if n not in ("mask", "condition")]
        if integers and not op.composite:
            known = op.name in linking.CHECKED or op.name in linking.NAMED or op.name in UNCHECKED
            assert known, f"op {op.name} takes indices: say in linking.py how they are checked"


# adjoints, which get what a forward pass has checked, and what is checked elsewhere
UNCHECKED = {
    "index_backward", "embedding_backward", "embedding_unpadded", "scale_by_frequency", "gather_backward",
    "scatter_count", "scatter_shares", "pool_scatter", "pool_gather", "class_mask",
    "one_hot",  # its function looks at the largest class first, to know how many there are
    "ctc_loss", "ctc_loss_backward",  # nn.functional.ctc_loss looks at the targets
}


def main() -> None:
    warnings.simplefilter("ignore")
    warnings.simplefilter("error", cupy._util.PerformanceWarning)  # CuPy's word for an array of another device
    found, chosen = {}, sys.argv[1:]
    for name, function in CHECKS.items():
        if chosen and name not in chosen:
            continue
        try:
            function()
            found[name] = ""
        except Exception:
            found[name] = traceback.format_exc(limit=-6)[-4000:]
        cupy.cuda.runtime.setDevice(0)
        bounds._pending.launched = False
    print(json.dumps(found))


if __name__ == "__main__":
    main()
