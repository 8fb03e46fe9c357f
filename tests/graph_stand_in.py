"""CUDA graphs without a GPU: a device of NumPy arrays which records what is computed and does it again in its memory.

Every computation on a `TapedArray` passes `call`: operators and ufuncs, NumPy's functions, methods, and launches of
the CUDA kernels executed on the CPU. While a graph is recorded, `call` keeps function, arguments and results; a replay
calls the functions again and writes to the same results. As on a GPU, recording leaves no trace: memory that was there
gets its content back, memory that is new holds NaN until a replay; and the host may not read a value meanwhile.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from types import ModuleType, SimpleNamespace
from typing import Any

import cuda_on_cpu as emulation
import numpy as np
from tapegrad.autograd.op import OPS
from tapegrad.backends.base import DeviceKey, owner_of
from tapegrad.backends.fake import FakeBackend


class Waited(RuntimeError):
    """The host read a value while a graph was recorded; CUDA would make the recording invalid."""


class Tape:
    """One recording: calls in their order, and what memory held before."""

    current: Tape | None = None
    living: dict[int, Any] = {}  # id -> weak reference, of all arrays of the device

    def __init__(self) -> None:
        self.calls: list[tuple[Any, Any, Any, Any]] = []
        self.busy = False
        self.before: dict[int, tuple[Any, Any]] = {}
        for reference in list(Tape.living.values()):
            array = reference()
            if array is not None:
                owner = owner_of(array, np.ndarray)
                self.before.setdefault(id(owner), (owner, np.array(owner, subok=False)))

    def finish(self) -> None:
        for _, _, _, out in self.calls:
            for array in leaves(out):
                known = id(owner_of(array, np.ndarray)) in self.before
                if not known and array.dtype.kind == "f" and array.flags.writeable:
                    np.copyto(plain(array), np.nan)
        for owner, content in self.before.values():
            if owner.flags.writeable:
                np.copyto(plain(owner), content)

    def replay(self) -> None:
        for function, args, kw, out in self.calls:
            again = function(*args, **kw)
            for new, held in zip(leaves(again), leaves(out), strict=True):
                if held.flags.writeable and new.__array_interface__["data"] != held.__array_interface__["data"]:
                    np.copyto(plain(held), new)


def leaves(out: Any) -> list[Any]:
    if isinstance(out, (tuple, list)):
        return [leaf for part in out for leaf in leaves(part)]
    return [np.asarray(out)] if isinstance(out, (np.ndarray, np.generic)) else []


def plain(value: Any) -> Any:
    """The value with the device's arrays in it as NumPy's, of the same memory."""
    if isinstance(value, np.ndarray):
        return value.view(np.ndarray)
    if type(value) in (tuple, list):
        return type(value)([plain(part) for part in value])
    return value


def taped(value: Any) -> Any:
    """NumPy's arrays and scalars in a result as the device's."""
    if isinstance(value, (np.ndarray, np.generic)):
        return np.asarray(value).view(TapedArray)
    if type(value) in (tuple, list):
        return type(value)([taped(part) for part in value])
    return value


def call(function: Callable[..., Any], args: Any, kw: dict[str, Any]) -> Any:
    """One computation, recorded where a graph is."""
    args, kw = plain(tuple(args)), {name: plain(value) for name, value in kw.items()}
    tape = Tape.current
    if tape is None or tape.busy:
        return taped(function(*args, **kw))
    tape.busy = True
    try:
        out = function(*args, **kw)
    finally:
        tape.busy = False
    if isinstance(out, np.generic):
        out = np.asarray(out)
    elif type(out) in (tuple, list):
        out = type(out)([np.asarray(o) if isinstance(o, np.generic) else o for o in out])
    tape.calls.append((function, args, kw, out))
    return taped(out)


class TapedArray(np.ndarray):
    """An array of the device that records."""

    def __array_finalize__(self, parent: Any) -> None:
        key = id(self)
        Tape.living[key] = weakref.ref(self, lambda _: Tape.living.pop(key, None))

    def __array_ufunc__(self, ufunc: Any, method: str, *args: Any, out: Any = None, **kw: Any) -> Any:
        if out is not None:
            call(getattr(ufunc, method), args, {**kw, "out": tuple(out)})
            return out[0] if len(out) == 1 else out
        return call(getattr(ufunc, method), args, kw)

    def __array_function__(self, function: Any, types: Any, args: Any, kw: Any) -> Any:
        found = call(function, args, kw)
        return kw["out"] if isinstance(kw.get("out"), TapedArray) else found


def _method(name: str) -> Any:
    own = getattr(np.ndarray, name)
    return lambda self, *args, **kw: call(own, (self, *args), kw)


def _reading(name: str) -> Any:
    own = getattr(np.ndarray, name)

    def read(self: Any, *args: Any, **kw: Any) -> Any:
        if Tape.current is not None and not Tape.current.busy:
            raise Waited(name)
        return own(self.view(np.ndarray), *args, **kw)

    return read


for _name in (
    "__getitem__ __setitem__ astype copy sum mean max min any all prod cumsum argmax argmin reshape ravel flatten fill "
    "take put repeat clip dot nonzero squeeze transpose argsort round std var swapaxes"
).split():
    setattr(TapedArray, _name, _method(_name))
for _name in "__bool__ __int__ __float__ __index__ __complex__ item tolist".split():
    setattr(TapedArray, _name, _reading(_name))


class TapedModule(ModuleType):
    """A NumPy-like module whose functions are recorded, and give the device's arrays."""

    def __init__(self, own: Any):
        super().__init__("taped")
        self.own = own

    def __getattr__(self, name: str) -> Any:
        found = getattr(self.own, name)
        if isinstance(found, (type, ModuleType, np.ufunc)) or not callable(found):
            return found
        if name.startswith("empty"):  # memory alone: a replay leaves it as it is
            return lambda *args, **kw: taped(found(*plain(args), **kw))
        return lambda *args, **kw: call(found, args, kw)


class TapedMachine(emulation.CpuMachine):
    """Kernels executed on the CPU, their launches recorded."""

    def __init__(self) -> None:
        super().__init__()
        self.memory = self.xp
        self.xp = TapedModule(self.memory)

    def link(self, source: str, expression: str) -> Callable[..., None]:
        made = super().link(source, expression)
        return lambda grid, block, arguments: call(made, (grid, block, arguments), {})

    def gemm(self, *args: Any) -> None:
        call(super().gemm, args, {})

    def capturing(self) -> bool:
        return Tape.current is not None

    def to_host(self, array: Any) -> Any:
        if Tape.current is not None:
            raise Waited("to_host")
        return np.array(array, subok=False)


class Graphs:
    """What cuda/graphs.py asks of a device, as in backends/cupy/graph.py. `log`: the streams and pools used."""

    device_type = "taped"

    def __init__(self, backend: Any):
        self.backend, self.log = backend, []  # type: Any, list[Any]
        self.launches = 0

    def pool(self) -> Any:
        return SimpleNamespace(used=nullcontext)

    def stream(self) -> Any:
        return SimpleNamespace()

    @contextmanager
    def inside(self, stream: Any, pool: Any = None) -> Iterator[None]:
        self.log.append(("inside", stream, pool))
        yield

    def capturing(self) -> bool:
        return Tape.current is not None

    def begin(self) -> None:
        assert Tape.current is None
        Tape.current = Tape()

    def end(self) -> Any:
        tape, Tape.current = Tape.current, None
        assert tape is not None
        tape.finish()

        def launch() -> None:
            self.launches += 1
            tape.replay()

        return SimpleNamespace(launch=launch, text=lambda: f"digraph {{ /* {len(tape.calls)} */ }}",
                               addresses=lambda: (1, 2))  # fmt: skip

    def constant(self, host: Any) -> Any:
        return np.array(host).view(TapedArray)

    def write(self, array: Any, source: Any) -> None:
        assert Tape.current is None and array.dtype == source.dtype
        np.copyto(plain(array), plain(source))

    def synchronize(self) -> None:
        assert Tape.current is None

    def free_unused(self) -> None:
        assert Tape.current is None


class TapedBackend(FakeBackend):
    """The device: NumPy's functions, recorded; with the CuPy backend's kernels where a machine executes them."""

    name = "taped"

    def __init__(self, machine: TapedMachine | None = None):
        dropout = OPS["dropout"].generic
        self.machine, self.index = machine, 0
        self.device_types, self.array_type = ("taped",), TapedArray
        self.xp = TapedModule(np) if machine is None else machine.xp
        self.kernels: Any = {"dropout": lambda x, **kw: dropout(self.xp, x, **kw)}
        if machine is not None:
            from tapegrad.backends.cupy.kernels import KERNELS

            self.kernels = KERNELS
        self.graphs = Graphs(self)

    def device_count(self) -> int:
        return 1

    def guard(self, device: DeviceKey) -> Any:
        return nullcontext()

    def asarray(self, obj: Any, dtype: Any = None, device: Any = None, copy: Any = None) -> Any:
        if isinstance(obj, TapedArray):
            return obj if dtype in (None, obj.dtype) and not copy else obj.astype(dtype or obj.dtype)
        given = np.asarray(obj, dtype=dtype)
        made = np.array(given) if self.machine is None else self.machine.memory.array(given)
        return made.view(TapedArray)

    def tidy(self, out: Any) -> Any:
        return out if isinstance(out, TapedArray) else np.asarray(out).view(TapedArray)

    def to_numpy(self, array: Any) -> Any:
        if Tape.current is not None:
            raise Waited("to_numpy")
        return np.array(array, subok=False)

    def device_of(self, array: Any) -> DeviceKey:
        return DeviceKey("taped", 0)
