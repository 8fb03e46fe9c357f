"""cuDNN through NVIDIA's frontend: graphs are planned once, kept, and run with plain addresses.

The one module that knows the package `cudnn` (nvidia-cudnn-frontend), which the extras tapegrad[cudnn12] and
tapegrad[cudnn13] install. What is to be computed is told by a hashable description that declares its graph; one that
cuDNN refuses is remembered with the reason, and the caller computes otherwise. The switches are in `backends.cudnn`.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, Protocol

import numpy as np

from .. import cudnn as settings
from .. import precision
from .compile import outside
from .launch import Machine, current, empty
from .memory import OutOfMemoryError

PLANS = 2048  # plans kept per thread and device; a network of one input shape has a few hundred
OLDEST = 90000  # cuDNN 9
BYTE = np.dtype("u1")
DATA = {"float32": "FLOAT", "float64": "DOUBLE", "float16": "HALF", "bfloat16": "BFLOAT16", "int32": "INT32"}


class Description(Protocol):
    """All that a plan depends on. `dtype`: NumPy's name of what goes in and comes out.

    Known by identity, so that finding a plan costs no comparison of shapes: whoever makes one makes one for all calls
    that are alike.
    """

    @property
    def dtype(self) -> str: ...

    def declare(self, frontend: Any, graph: Any) -> None:
        """Adds the operation to a graph; each operand's uid is the key of its address in `Library.run`."""


class Mode(NamedTuple):
    """The switches that choose among cuDNN's engines."""

    tf32: bool
    deterministic: bool
    benchmark: bool = False


def mode_of(dtype: str) -> Mode:
    """What the program's switches allow for that dtype; a plan depends on no others."""
    tf32 = dtype == "float32" and precision.tf32["conv"]
    return Mode(tf32, settings.is_deterministic(), settings.benchmark)


def barred(dtype: str, mode: Mode) -> list[str]:
    """The numerical notes of engines that may not be used.

    As PyTorch has it: single precision on tensor cores is TF32; engines that round their inputs to halves are never
    taken for wider ones.
    """
    notes = ["NONDETERMINISTIC"] if mode.deterministic else []
    if dtype in ("float32", "float64"):
        notes += ["DOWN_CONVERT_INPUTS"] if mode.tf32 else ["TENSOR_CORE", "DOWN_CONVERT_INPUTS"]
    return notes


def graph_of(frontend: Any, description: Description, mode: Mode, **where: Any) -> Any:
    """The graph with its execution plans enumerated, none built. `where`: a handle, or a device's properties.

    Raises one of `refusals(frontend)` where cuDNN has no engine for it.
    """
    kind = frontend.data_type
    compute = kind.DOUBLE if description.dtype == "float64" else kind.FLOAT
    graph = frontend.pygraph(
        io_data_type=getattr(kind, DATA[description.dtype]), intermediate_data_type=compute,
        compute_data_type=compute, **where,
    )  # fmt: skip
    description.declare(frontend, graph)
    graph.validate()
    graph.build_operation_graph()
    graph.create_execution_plans([frontend.heur_mode.A, frontend.heur_mode.FALLBACK])
    notes = barred(description.dtype, mode)
    if notes:
        graph.deselect_numeric_notes([getattr(frontend.numerical_note, note) for note in notes])
    graph.check_support()
    return graph


def refusals(frontend: Any) -> tuple[type[Exception], ...]:
    """What the frontend raises for a graph that it cannot plan: its own error, RuntimeError from the layers below."""
    return frontend.cudnnGraphNotSupportedError, RuntimeError, ValueError


def candidates(graph: Any) -> Iterator[int]:
    """The numbers of cuDNN's own plans, best first; the frontend's engines in Python are for other packages."""
    for index, found in enumerate(graph.plans):
        if found.cpp_index is not None:
            yield index


def launcher(graph: Any, index: int) -> Callable[[dict[int, int], int, Any], None]:
    """The function (addresses by uid, address of the workspace, handle) that runs one of the graph's plans.

    The frontend's `execute` describes every operand in Python, which takes longer than PyTorch's whole convolution;
    what it calls in the end takes the addresses as they are.
    """
    inner = getattr(getattr(graph, "_lowered_graph", None), "_execute_plan_at_index", None)
    if inner is None:
        return lambda addresses, workspace, handle: graph.execute_plan_at_index(addresses, workspace, index, handle)
    number = graph.plans[index].cpp_index
    return lambda addresses, workspace, handle: inner(addresses, workspace, number, handle.backend_handle)


class Plan:
    """A graph with one of its execution plans built."""

    def __init__(self, frontend: Any, graph: Any, tune: bool, device: int = 0):
        self.graph, self.tune, self.device, self.captured = graph, tune, device, False
        self.refused = refusals(frontend)
        self.reasons: list[str] = []
        for index in candidates(graph):
            if self.select(index):
                return
        raise frontend.cudnnGraphNotSupportedError("no plan could be built: " + "; ".join(self.reasons[:3]))

    def select(self, index: int) -> bool:
        """Builds that plan and makes it the one that runs; False where it cannot be built."""
        try:
            self.graph.build_plan_at_index(index)
        except self.refused as error:
            self.reasons.append(str(error))
            return False
        self.index = index
        self.workspace = int(self.graph.get_workspace_size_plan_at_index(index))
        self.launch = launcher(self.graph, index)
        return True

    def smaller(self) -> bool:
        """Makes the first plan that takes less workspace the one that runs; False where there is none."""
        now, most = self.index, self.workspace
        for index in candidates(self.graph):
            if self.select(index) and self.workspace < most:
                return True
        self.select(now)
        return False


class Refused(NamedTuple):
    """Stands for a plan that there is not."""

    reason: str


class _Kept(threading.local):
    """A thread's handles and plans, by device: cuDNN promises for neither that threads may share them."""

    def __init__(self) -> None:
        self.handles: dict[int, Any] = {}
        self.streams: dict[int, int] = {}
        self.plans: OrderedDict[Any, Plan | Refused] = OrderedDict()
        self.captured: list[Plan] = []  # no longer among the plans, but a CUDA graph may hold their kernels


class Library:
    """cuDNN on one machine."""

    def __init__(self, frontend: Any, machine: Machine):
        self.frontend, self.machine, self.kept = frontend, machine, _Kept()

    def handle(self, device: int) -> Any:
        """This thread's handle on the current device, set to the current stream."""
        kept = self.kept
        handle = kept.handles.get(device)
        if handle is None:
            handle = kept.handles[device] = self.frontend.create_handle()
        stream = self.machine.stream()
        if kept.streams.get(device) != stream:  # each setting asks the driver several questions
            self.frontend.set_stream(handle, stream)
            kept.streams[device] = stream
        return handle

    def plan(self, description: Description) -> Plan | None:
        """The plan for what the program's switches say now; None where cuDNN refuses."""
        device, plans = self.machine.device(), self.kept.plans
        mode = mode_of(description.dtype)
        key = (description, mode, device)
        found = plans.get(key)
        if found is None:
            found = plans[key] = self._planned(description, mode, device)
            if len(plans) > PLANS:
                self._forget(plans.popitem(last=False)[1])
        else:
            plans.move_to_end(key)
        return None if found.__class__ is Refused else found  # type: ignore[return-value]  # the class tells them apart

    def _forget(self, plan: Plan | Refused) -> None:
        if isinstance(plan, Plan) and plan.captured:
            self.kept.captured.append(plan)

    def _planned(self, description: Description, mode: Mode, device: int) -> Plan | Refused:
        try:
            graph = graph_of(self.frontend, description, mode, handle=self.handle(device))
            return Plan(self.frontend, graph, mode.benchmark, device)
        except refusals(self.frontend) as error:
            return Refused(str(error))

    def refused(self) -> dict[Description, str]:
        """What cuDNN refused in this thread, and why."""
        return {key[0]: plan.reason for key, plan in self.kept.plans.items() if isinstance(plan, Refused)}

    def run(self, plan: Plan, addresses: dict[int, int]) -> None:
        """Runs a plan on the current stream. addresses: of its operands, by their uids."""
        handle = self.handle(plan.device)
        # the default stream, 0, is never captured
        capturing = bool(self.kept.streams[plan.device]) and self.machine.capturing()
        if capturing:
            plan.captured = True
        elif plan.tune:
            self._tune(plan, addresses, handle)
        self._launch(plan, addresses, handle)

    def _launch(self, plan: Plan, addresses: dict[int, int], handle: Any) -> None:
        while plan.workspace:
            try:
                space = empty((plan.workspace,), BYTE)
            except OutOfMemoryError:
                if not plan.smaller():
                    raise
                continue
            # freed on return, and given out again only to work that is queued behind on this stream
            plan.launch(addresses, self.machine.pointer(space), handle)
            return
        plan.launch(addresses, 0, handle)

    def _tune(self, plan: Plan, addresses: dict[int, int], handle: Any) -> None:
        """cudnn.benchmark: runs up to `cudnn.benchmark_limit` of the plans (0: all) and keeps the fastest."""
        plan.tune = False
        limit = 10 if settings.benchmark_limit is None else settings.benchmark_limit
        best, fastest, tried = plan.index, float("inf"), 0
        for index in candidates(plan.graph):
            if limit and tried == limit:
                break
            if plan.select(index):
                tried += 1
                taken = min(self._time(plan, addresses, handle) for _ in range(3))
                if taken < fastest:
                    best, fastest = index, taken
        plan.select(best)

    def _time(self, plan: Plan, addresses: dict[int, int], handle: Any) -> float:
        """Milliseconds of one run."""
        cuda = self.machine.xp.cuda
        start, end = cuda.Event(), cuda.Event()
        start.record()
        self._launch(plan, addresses, handle)
        end.record()
        end.synchronize()
        return float(cuda.get_elapsed_time(start, end))


# ---- whether there is one


class _Found:
    machine: Machine | None = None
    library: Library | None = None
    reason = "no CUDA device is in use"


_found = _Found()


def load() -> Any:
    """The package `cudnn`. ImportError with what to install where it, or cuDNN itself, is missing."""
    try:
        frontend = outside("cudnn")
    except (ImportError, OSError, AssertionError) as error:
        raise ImportError(f"cuDNN's frontend does not import ({error}): pip install 'tapegrad[cudnn13]'") from error
    try:
        version = frontend.backend_version()
    except RuntimeError as error:
        raise ImportError(f"the cuDNN library cannot be loaded ({error}): pip install 'tapegrad[cudnn13]'") from error
    if version < OLDEST:
        raise ImportError(f"cuDNN {version} is too old: version 9 or later is needed")
    return frontend


def library() -> Library | None:
    """cuDNN for the machine in use; None where it is not installed or does not run, see `why_not`."""
    machine = current()
    if _found.machine is not machine:
        _found.machine, _found.library, _found.reason = machine, *_opened(machine)
    return _found.library


def why_not() -> str:
    """Why `library` gives None."""
    return _found.reason


def _opened(machine: Machine) -> tuple[Library | None, str]:
    if not hasattr(machine.xp, "cuda"):
        return None, "no CUDA device is in use"
    try:
        made = Library(load(), machine)
        made.handle(machine.device())
    except (ImportError, RuntimeError) as error:
        return None, str(error)
    return made, ""


# ---- what descriptions declare with


def row_major(shape: tuple[int, ...]) -> list[int]:
    """The strides, in elements, of an array without gaps."""
    return _strides(shape, tuple(range(len(shape))))


def channels_last(shape: tuple[int, ...]) -> list[int]:
    """The strides of (N, C, *S) whose channels lie side by side."""
    return _strides(shape, (0, *range(2, len(shape)), 1))


def _strides(shape: tuple[int, ...], order: tuple[int, ...]) -> list[int]:
    found, step = [0] * len(shape), 1
    for axis in reversed(order):
        found[axis] = step
        step *= shape[axis]
    return found


def operand(frontend: Any, graph: Any, uid: int, shape: Any, strides: Any, dtype: str) -> Any:
    """A tensor that is given. strides: in elements."""
    kind = getattr(frontend.data_type, DATA[dtype])
    return graph.tensor(dim=list(shape), stride=list(strides), data_type=kind, uid=uid, name=f"t{uid}")


def result(frontend: Any, tensor: Any, uid: int, shape: Any, strides: Any, dtype: str) -> None:
    """Makes a tensor of the graph one that is written to memory."""
    tensor.set_output(True).set_uid(uid).set_dim(list(shape)).set_stride(list(strides))
    tensor.set_data_type(getattr(frontend.data_type, DATA[dtype]))
