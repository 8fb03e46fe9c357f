"""The CuPy backend without a GPU: what it says when it cannot be used, and its devices, memory, streams and events.

The latter over a stand-in for CuPy, which keeps its arrays in host memory and knows two devices.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import tapegrad as torch
from library import ROOT
from tapegrad.backends import registry
from tapegrad.backends.base import DeviceKey
from tapegrad.backends.cupy import CupyBackend, bounds, compile, errors, launch, memory

# ---- why it cannot be used -------------------------------------------------------------------------------------------


class CudaError(RuntimeError):
    def __init__(self, status: int, text: str):
        super().__init__(text)
        self.status = status


def runtime(status: int | None = None, count: int = 0, driver: int = 0) -> Any:
    def count_of() -> int:
        if status is not None:
            raise CudaError(status, f"cudaError{status}: as CUDA says it")
        return count

    found = SimpleNamespace(
        CUDARuntimeError=CudaError, getDeviceCount=count_of, driverGetVersion=lambda: driver,
        runtimeGetVersion=lambda: 13020,
    )  # fmt: skip
    return SimpleNamespace(cuda=SimpleNamespace(runtime=found))


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({"status": 35, "driver": 0}, "no NVIDIA driver is loaded"),
        ({"status": 35, "driver": 12040}, "the NVIDIA driver supports CUDA 12.4, and this CuPy is built for CUDA 13.2"),
        ({"status": 100}, "the NVIDIA driver finds no device$"),
        ({"count": 0}, "the NVIDIA driver finds no device$"),
        ({"status": 803}, "the NVIDIA driver was updated and its kernel module not yet"),
        ({"status": 999}, "CuPy finds no usable NVIDIA device: cudaError999: as CUDA says it"),
    ],
)
def test_no_device(given: dict[str, int], text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    with pytest.raises(ImportError, match=text):
        errors.usable_devices(runtime(**given))
    assert errors.usable_devices(runtime(count=2)) == 2


def test_devices_that_are_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    with pytest.raises(ImportError, match="finds no device \\(CUDA_VISIBLE_DEVICES is ''\\)"):
        errors.usable_devices(runtime(status=100))


@pytest.mark.parametrize(
    ("failure", "wheels", "text"),
    [
        (ModuleNotFoundError("No module named 'cupy'", name="cupy"), [], "the package cupy is not installed"),
        (
            ImportError("libnvrtc.so.12: cannot open shared object file\nmore"), ["cupy-cuda12x 14.2.0"],
            r"the package cupy is installed \(cupy-cuda12x 14.2.0\) but does not import: libnvrtc.so.12: cannot open",
        ),
        (
            RuntimeError("CuPy failed"), ["cupy-cuda12x 14.2.0", "cupy-cuda13x 14.2.0"],
            r"several builds of CuPy hide each other \(cupy-cuda12x 14.2.0, cupy-cuda13x 14.2.0\): uninstall all",
        ),
    ],
)  # fmt: skip
def test_a_cupy_that_does_not_import(
    failure: Exception, wheels: list[str], text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(name: str) -> None:
        raise failure

    monkeypatch.setattr(errors, "outside", fail)
    monkeypatch.setattr(errors, "_wheels", lambda: wheels)
    with pytest.raises(ImportError, match=text):
        errors.found_cupy()


def test_a_build_whose_libraries_are_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise OSError("libnvrtc.so.12: cannot open shared object file")

    monkeypatch.setattr(errors, "_wheels", lambda: ["cupy-cuda12x 14.2.0"])
    found = SimpleNamespace(cuda=SimpleNamespace(nvrtc=SimpleNamespace(getVersion=fail)))
    with pytest.raises(ImportError, match=r"NVRTC \(libnvrtc.so.12: .*pip install 'cupy-cuda12x\[ctk\]' brings"):
        errors.usable_compiler(found)


def test_nvidias_packages_are_found_from_the_checkout() -> None:
    """There the working directory has a folder `cuda`, which would hide NVIDIA's package of that name."""
    code = """
import sys
import cuda  # this checkout's, by accident
from tapegrad.backends.cupy.compile import outside
try:
    print(outside("cuda.core").__name__)
except ModuleNotFoundError as error:
    print("missing", error.name)
assert sys.path[0] == ""
"""
    environment = {**os.environ, "PYTHONPATH": ""}
    lines = "import os\nos.chdir('nn')\nos.chdir('..')\n"
    done = subprocess.run(
        [sys.executable, "-c", lines + code.replace("import cuda  #", "try: import cuda\nexcept ImportError: pass\n#")],
        cwd=ROOT, env=environment, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(("cuda.core", "missing cuda")), done.stdout


def test_the_folder_of_that_name_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = ModuleType("cuda")
    wrong.__file__ = str(ROOT / "cuda" / "__init__.py")
    monkeypatch.setitem(sys.modules, "cuda", wrong)
    monkeypatch.setattr(sys, "path", [str(ROOT), *sys.path])
    before = list(sys.path)
    try:
        assert compile.outside("cuda") is not wrong
    except ImportError:
        pass  # NVIDIA's packages are not installed
    assert sys.path == before and sys.modules.get("cuda") is not wrong


# ---- a stand-in for CuPy ---------------------------------------------------------------------------------------------


class Array(np.ndarray):
    place = 0

    def __array_finalize__(self, other: Any) -> None:
        self.place = DEVICE.current

    @property
    def device(self) -> Any:
        return SimpleNamespace(id=self.place)

    @property
    def data(self) -> Any:  # type: ignore[override]
        self.__dict__.setdefault("mem", SimpleNamespace(size=self.nbytes))
        return SimpleNamespace(mem=self.__dict__["mem"], ptr=self.ctypes.data, device_id=self.place)


class DEVICE:
    """cupy.cuda.Device: `with` makes it the current one."""

    current = 0
    synchronized: list[int] = []

    def __init__(self, index: int | None = None):
        self.id = DEVICE.current if index is None else index

    def __enter__(self) -> DEVICE:
        self.before, DEVICE.current = DEVICE.current, self.id
        return self

    def __exit__(self, *_: object) -> None:
        DEVICE.current = self.before

    def synchronize(self) -> None:
        DEVICE.synchronized.append(self.id)


class Pool:
    used, total, limit, freed = 1000, 5000, None, 0

    def used_bytes(self) -> int:
        return self.used

    def total_bytes(self) -> int:
        return self.total

    def set_limit(self, fraction: float) -> None:
        self.limit = (DEVICE.current, fraction)

    def free_all_blocks(self) -> None:
        self.freed += 1


class Exhausted(MemoryError):
    """cupy.cuda.memory.OutOfMemoryError."""


class RawStream:
    made = 0

    def __init__(self, non_blocking: bool = False, priority: int = 0):
        RawStream.made += 1
        self.ptr, self.priority, self.device_id, self.log = RawStream.made, priority, DEVICE.current, []
        self.done = True

    def __enter__(self) -> None:
        self.log.append("enter")

    def __exit__(self, *_: object) -> None:
        self.log.append("exit")

    def use(self) -> None:
        self.log.append("use")

    def synchronize(self) -> None:
        self.log.append("synchronize")

    def wait_event(self, event: Any) -> None:
        self.log.append(("wait", event.ptr))

    def is_capturing(self) -> bool:
        return False


class RawEvent:
    def __init__(self, block: bool = False, disable_timing: bool = False, interprocess: bool = False):
        self.ptr, self.timed, self.done, self.at = 77, not disable_timing, False, None
        self.index = DEVICE.current

    def record(self, stream: Any = None) -> None:
        self.at = stream

    def synchronize(self) -> None:
        self.done = True


class StandIn:
    """The parts of the module cupy that the backend and torch.cuda ask for."""

    def __init__(self) -> None:
        self.ndarray, self.pool = Array, Pool()
        self.null = RawStream()
        self.allocator: Any = lambda size: ("memory", size)
        found = runtime(count=2).cuda.runtime
        found.getDevice = lambda: DEVICE.current
        found.setDevice = lambda index: setattr(DEVICE, "current", index)
        found.memGetInfo = lambda: (3 << 20, 8 << 30)
        found.getDeviceProperties = lambda index: {
            "name": f"NVIDIA H{index}".encode(), "major": 9, "minor": 0, "totalGlobalMem": 8 << 30,
            "multiProcessorCount": 132,
        }  # fmt: skip
        stream = type("Stream", (RawStream,), {"null": self.null})
        stream.from_external = lambda foreign: SimpleNamespace(ptr=foreign.__cuda_stream__()[1], device_id=1)
        self.cuda = SimpleNamespace(
            runtime=found, Device=DEVICE, Stream=stream, Event=RawEvent,
            memory=SimpleNamespace(OutOfMemoryError=Exhausted), get_allocator=lambda: self.allocator,
            set_allocator=self.set_allocator, get_current_stream=lambda: self.null,
            get_elapsed_time=lambda a, b: 2.5, nvrtc=SimpleNamespace(getVersion=lambda: (13, 0)),
        )  # fmt: skip

    def set_allocator(self, allocator: Any) -> None:
        self.allocator = allocator

    def __getattr__(self, name: str) -> Any:
        return getattr(np, name)

    def get_default_memory_pool(self) -> Pool:
        return self.pool

    def array(self, obj: Any, dtype: Any = None) -> Any:
        return np.array(obj, dtype=dtype).view(Array)

    def asnumpy(self, x: Any) -> Any:
        return np.array(x)


@pytest.fixture
def backend(monkeypatch: pytest.MonkeyPatch) -> Iterator[CupyBackend]:
    """A CuPy backend over the stand-in, found by torch.cuda too."""
    monkeypatch.setattr("tapegrad.backends.cupy.found_cupy", StandIn)
    monkeypatch.setattr(DEVICE, "current", 0)
    monkeypatch.setattr(DEVICE, "synchronized", [])
    made = CupyBackend()
    monkeypatch.setitem(registry._loaded, "cupy", made)
    yield made
    registry._by_type.pop(Array, None)


def test_arrays_go_where_they_are_asked_for(backend: CupyBackend) -> None:
    host = np.arange(3.0)
    a = backend.asarray(host)
    assert type(a) is Array and backend.device_of(a) == DeviceKey("cuda", 0)
    b = backend.asarray(host, device=DeviceKey("cuda", 1), dtype=np.float32)
    assert backend.device_of(b) == DeviceKey("cuda", 1) and b.dtype == np.float32 and DEVICE.current == 0
    assert backend.asarray(a) is a and backend.asarray(a, device=DeviceKey("cuda", 0)) is a
    assert backend.asarray(a, copy=True) is not a
    moved = backend.asarray(a, device=DeviceKey("cuda", 1))
    assert moved is not a and backend.device_of(moved).index == 1 and moved.tolist() == a.tolist()
    assert backend.asarray(a, dtype=np.float32).dtype == np.float32
    with pytest.raises(ValueError, match="a copy is needed"):
        backend.asarray(a, dtype=np.float32, copy=False)
    assert type(backend.to_numpy(b)) is np.ndarray


def test_a_device_that_is_not_there(backend: CupyBackend, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(RuntimeError, match=r"invalid device ordinal: cuda:2 was asked for; there are cuda:0 to cuda:1"):
        torch.zeros(2, device="cuda:2")
    monkeypatch.setattr(backend, "_count", 1)
    with pytest.raises(RuntimeError, match="cuda:7 was asked for; there is one device, cuda:0"):
        backend.guard(DeviceKey("cuda", 7))


def test_functions_run_where_their_arrays_are(backend: CupyBackend) -> None:
    seen = []
    placed = backend.linked("a test", lambda x, y, **kw: seen.append((DEVICE.current, kw)))
    near = backend.asarray(np.ones(2))
    with DEVICE(1):
        far = backend.asarray(np.ones(2))
        placed(near, 2.0)
    placed(None, far, k=1)
    placed([far], (far, None))
    assert seen == [(0, {}), (1, {"k": 1}), (1, {})] and DEVICE.current == 0
    with pytest.raises(RuntimeError, match="on the same device, but found at least two devices, cuda:0 and cuda:1!"):
        placed(near, far)


def test_wrong_indices_are_raised_where_the_host_waits(backend: CupyBackend) -> None:
    launch.use(launch.Machine(backend.xp))
    code = bounds.code("a test", "index {index} is out of bounds for size {size}")
    for wait in (lambda: torch.cuda.synchronize(1), lambda: backend.to_numpy(backend.asarray(np.ones(1)))):
        flag = bounds.flag()
        wait()
        bounds.flag()[:] = [code, 7, 5]
        with pytest.raises(IndexError, match=r"index 7 is out of bounds for size 5 \(op a test: index 7, size 5; "):
            wait()
        assert not flag.any()
        wait()
    bounds.MESSAGES.pop()
    assert DEVICE.synchronized == [1, 1, 1]


# ---- memory ----------------------------------------------------------------------------------------------------------


def test_out_of_memory_says_who_holds_it(backend: CupyBackend) -> None:
    def full(size: int) -> None:
        raise Exhausted

    class Holder:  # as a Tensor looks
        __slots__ = ("array", "_grad", "_node")

        def __init__(self, array: Any, grad: Any = None):
            self.array, self._grad = array, grad

    held = Holder(backend.asarray(np.zeros((300, 1000))), Holder(backend.asarray(np.zeros((20, 1000)))))
    backend.xp.pool.used, backend.xp.pool.total = 2 << 20, 2 << 30
    assert backend.xp.cuda.get_allocator()(5) == ("memory", 5)
    backend.memory.inner = full
    with pytest.raises(torch.OutOfMemoryError) as caught:
        backend.xp.cuda.get_allocator()(20 << 20)
    text = str(caught.value)
    assert isinstance(caught.value, RuntimeError) and torch.cuda.OutOfMemoryError is memory.OutOfMemoryError
    assert text.startswith(
        "CUDA out of memory. Tried to allocate 20.00 MiB. GPU 0 has a total capacity of 8.00 GiB of which 3.00 MiB is "
        "free. Of the memory held by this process's pool 2.00 MiB is in arrays and 2.00 GiB is unused."
    )
    assert "\n  2.29 MiB: Holder (300, 1000) float64\n" in text and "156.25 KiB: Holder (20, 1000) float64" in text
    assert text.endswith("cuda.empty_cache() gives it to the device.")
    assert held._grad is not None


def test_what_nodes_keep_is_told(backend: CupyBackend) -> None:
    x = torch.autograd.Variable(torch.ones(1))
    x.array = backend.asarray(np.ones((7, 11)))
    kept = type("Kept", (), {"op": None, "saved": None})()
    kept.op, kept.saved = SimpleNamespace(name="mul"), (backend.asarray(np.ones((5, 13))), 3)
    told = [who for _, who in memory.holders(Array)]
    assert "Tensor (7, 11) float64" in told and "kept for the gradient of mul: (5, 13) float64" in told


def test_memory_figures(backend: CupyBackend) -> None:
    cuda, pool = torch.cuda, backend.xp.pool
    assert (cuda.memory_allocated(), cuda.memory_reserved(1)) == (1000, 5000)
    cuda.reset_peak_memory_stats()
    for used in (4000, 2000):  # allocations come and go
        pool.used = used
        backend.xp.cuda.get_allocator()(1)
    assert cuda.max_memory_allocated() == 4000 and cuda.memory_allocated() == 2000
    assert cuda.max_memory_allocated("cuda:1") == 2000
    assert cuda.memory_stats()["allocated_bytes.all.peak"] == 4000
    assert cuda.memory_summary().startswith("allocated_bytes.all.current: 2000\n")
    assert cuda.mem_get_info() == (3 << 20, 8 << 30)
    cuda.set_per_process_memory_fraction(0.5, 1)
    cuda.empty_cache()
    assert (pool.limit, pool.freed) == ((1, 0.5), 2), "both devices are given what they held unused"
    assert cuda.memory_stats_as_nested_dict()["allocated_bytes"]["all"]["peak"] == 4000
    assert cuda.get_allocator_backend() == "native"


# ---- devices, streams, events ----------------------------------------------------------------------------------------


def test_devices(backend: CupyBackend) -> None:
    cuda = torch.cuda
    assert cuda.is_available() and cuda.device_count() == 2 and cuda.current_device() == 0
    assert cuda.get_device_name(1) == "NVIDIA H1" and cuda.get_device_capability() == (9, 0)
    assert cuda.get_device_properties("cuda:0").multi_processor_count == 132 and cuda.is_bf16_supported()


def test_streams(backend: CupyBackend) -> None:
    cuda = torch.cuda
    stream, other = cuda.Stream(priority=-1), cuda.Stream(device=1)
    assert stream.priority == -1 and stream.device == torch.device("cuda:0") and other.device == torch.device("cuda:1")
    assert stream != other and stream == cuda.Stream(raw=stream.raw) and len({stream, other}) == 2
    event = stream.record_event()
    assert event.raw.at is stream.raw and not event.query()
    other.wait_stream(stream)
    with cuda.stream(stream), stream as entered:
        assert entered is stream
    with cuda.stream(None):
        pass
    with cuda.stream(other):
        assert cuda.current_device() == 1 and cuda.current_stream().device == other.device
    assert cuda.current_device() == 0 and other.raw.log[-2:] == ["enter", "exit"]
    cuda.set_stream(stream)
    stream.synchronize()
    assert stream.query() and stream.raw.log == ["enter", "enter", "exit", "exit", "use", "synchronize"]
    assert other.raw.log[0] == ("wait", 77) and stream._as_parameter_.value == stream.cuda_stream
    assert cuda.current_stream() == cuda.default_stream(0)
    outside = cuda.get_stream_from_external(0xABC, 1)
    assert isinstance(outside, cuda.ExternalStream) and outside.cuda_stream == 0xABC
    assert repr(outside) == "<torch.cuda.Stream device=cuda:1 cuda_stream=0xabc>"


def test_events(backend: CupyBackend) -> None:
    start, end, plain = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True), torch.cuda.Event()
    assert end.query() and repr(end) == "<torch.cuda.Event uninitialized>"
    start.record()
    with pytest.raises(ValueError, match="Both events must be recorded before calculating elapsed time"):
        start.elapsed_time(end)
    torch.cuda.Stream(device=1).record_event(plain)
    assert plain.raw.index == 1, "an event is of the device where it is first recorded"
    end.record()
    with pytest.raises(RuntimeError, match="Both events must be completed"):
        start.elapsed_time(end)
    start.synchronize()
    end.synchronize()
    assert end.query() and start.raw.timed and start.elapsed_time(end) == 2.5
    with pytest.raises(ValueError, match="Both events must be created with argument 'enable_timing=True'."):
        start.elapsed_time(plain)
    plain.wait()
    assert ("wait", 77) in backend.xp.null.log
