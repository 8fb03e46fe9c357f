"""What must not happen while a CUDA graph is recorded, found by us and named, before CUDA finds it.

Nothing is asked of any op otherwise: for the time of a recording, other functions stand in the place of those that read
the device's memory, or whose results have a size that depends on it. They leave other threads and other devices alone.

What the host makes while recording becomes part of the graph as it is: a new tensor of host data is a constant, and
the host's random numbers are refused, since they would be the same at each replay. Seeds of dropout are drawn anew.
"""

from __future__ import annotations

import gc
import threading
from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np

from ..autograd import random
from ..autograd.api import index as api_index
from ..autograd.op import OPS, find
from ..autograd.tensor import Tensor

BLOCK = 64  # seeds in one piece of device memory


class CaptureError(RuntimeError):
    """A CUDA graph was to record what it cannot hold."""


def refuse(what: str, why: str, remedy: str) -> CaptureError:
    """The error for one thing that a graph cannot hold."""
    return CaptureError(f"{what} cannot be recorded in a CUDA graph: {why}. {remedy}")


_READS = "the host would wait for a value that is computed only at replay"
_KEEP = "Keep the value on the device (torch.where, masks as factors), or read it outside of the recorded function"
_SIZES = "the size of its result depends on the data"
_MASK = "Use torch.where, masked_fill, or multiply by the mask"
_DRAWN = "the numbers would be the same at each replay"

# Methods of Tensor that read values -> how they are called in the error
METHODS = {
    "item": "item()", "tolist": "tolist()", "numpy": "numpy()", "cpu": "cpu()", "__bool__": "bool(tensor)",
    "__float__": "float(tensor)", "__int__": "int(tensor)", "__index__": "a tensor as an index of Python's",
    "__repr__": "printing a tensor", "__format__": "formatting a tensor", "__contains__": "`in` on a tensor",
}  # fmt: skip
# Ops with a result of a size that depends on values -> remedy
SIZED_BY_DATA = {"nonzero": _MASK, "masked_select": _MASK, "unique_values": "Count classes of a known number"}
# Functions of the backend's array module of that kind
FUNCTIONS = (
    "nonzero", "flatnonzero", "argwhere", "unique", "unique_values", "unique_counts", "unique_inverse", "extract",
    "compress", "union1d", "intersect1d", "setdiff1d", "asnumpy", "array_equal", "allclose",
)  # fmt: skip


class _Seed:
    """A place in device memory: `array`, (2,) uint64, is {seed, offset}."""

    def __init__(self, array: Any):
        self.array = array

    def __repr__(self) -> str:
        return "<a seed on the device>"


class Seeds:
    """The places of the seeds that a graph's kernels read, in the order in which the eager program would draw them."""

    def __init__(self, graphs: Any):
        self.graphs, self.blocks, self.count = graphs, [], 0  # type: Any, list[Any], int

    def place(self) -> _Seed:
        """The next one."""
        at = self.count % BLOCK
        if at == 0:
            self.blocks.append(self.graphs.backend.tidy(self.graphs.backend.xp.empty((BLOCK, 2), np.uint64)))
        self.count += 1
        return _Seed(self.blocks[-1][at])

    def draw(self) -> None:
        """Fills them from the default stream, as the eager program would at this moment."""
        left = self.count
        for block in self.blocks:
            host = np.zeros((BLOCK, 2), np.uint64)
            for k in range(min(left, BLOCK)):
                host[k, 0] = random.draw_seed()
            left -= BLOCK
            self.graphs.write(block, host)


class Recording:
    """A recording under way, between `__enter__` and `__exit__`. `seeds`, `constants`: what the graph must keep.

    One at a time in the process. Python's garbage collector rests meanwhile: it could free memory of other graphs.
    """

    under_way: Recording | None = None
    _lock = threading.Lock()

    def __init__(self, graphs: Any):
        self.graphs, self.backend = graphs, graphs.backend
        self.seeds = Seeds(graphs)
        self.constants: list[Any] = []
        self._undo: list[Callable[[], None]] = []

    def __enter__(self) -> Recording:
        with Recording._lock:
            if Recording.under_way is not None:
                raise RuntimeError("a CUDA graph is being recorded already; one can be at a time in the process")
            Recording.under_way = self
        self._thread = threading.get_ident()
        self._collecting = gc.isenabled()
        gc.disable()
        try:
            self._swap_all()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        while self._undo:
            self._undo.pop()()
        if self._collecting:
            gc.enable()
        Recording.under_way = None

    def mine(self) -> bool:
        """Whether the calling thread is the one that records."""
        return threading.get_ident() == self._thread

    def ours(self, array: Any) -> bool:
        """Whether an array lives on the device that records."""
        return isinstance(array, self.backend.array_type)

    # ---- the swap

    def swap(self, owner: Any, name: str, made: Any) -> None:
        """Puts something in the place of an attribute, until the recording ends."""
        own = vars(owner)
        before, had = own.get(name), name in own
        setattr(owner, name, made)
        self._undo.append(lambda: setattr(owner, name, before) if had else delattr(owner, name))

    def _swap_all(self) -> None:
        for name, shown in METHODS.items():
            self.swap(Tensor, name, self._reading(getattr(Tensor, name), shown))
        for name in ("asarray", "to_numpy"):
            self.swap(self.backend, name, getattr(self, "_" + name)(getattr(self.backend, name)))
        for name, remedy in SIZED_BY_DATA.items():
            if find(name) is not None:
                self._swap_kernel(name, remedy)
        self.swap(self.backend, "xp", Refusing(self, self.backend.xp))
        self.swap(api_index, "_nonzero", self._masking(api_index._nonzero))
        self.swap(random, "draw_seed", self._seeding(random.draw_seed))
        self.swap(random.Generator, "raw", self._drawing(random.Generator.raw))
        self._swap_schedulers()

    def _swap_schedulers(self) -> None:
        from ..optim.lr_scheduler import LRScheduler

        step = LRScheduler.step

        def outside(scheduler: Any, *args: Any, **kw: Any) -> Any:
            if self.mine():
                raise refuse(
                    f"{type(scheduler).__name__}.step()", "it is Python's work, which a replay does not repeat",
                    "Call it after the recorded function; each replay reads the present learning rate",
                )  # fmt: skip
            return step(scheduler, *args, **kw)

        self.swap(LRScheduler, "step", outside)

    def _swap_kernel(self, name: str, remedy: str) -> None:
        kernels, kind = OPS[name].kernels, self.backend.array_type
        before = kernels[kind]

        def refused(*arrays: Any, **kw: Any) -> Any:
            if self.mine():
                raise refuse(name, _SIZES, remedy)
            return before(*arrays, **kw)

        kernels[kind] = refused
        self._undo.append(lambda: kernels.__setitem__(kind, before))

    def _reading(self, method: Any, shown: str) -> Any:
        def read(tensor: Any, *args: Any, **kw: Any) -> Any:
            if self.mine() and self.ours(tensor.array):
                raise refuse(shown, _READS, _KEEP)
            return method(tensor, *args, **kw)

        return read

    def _to_numpy(self, to_numpy: Any) -> Any:
        def copied(array: Any) -> Any:
            if self.mine():
                raise refuse("a copy to the host", _READS, _KEEP)
            return to_numpy(array)

        return copied

    def _asarray(self, asarray: Any) -> Any:
        def made(obj: Any, dtype: Any = None, device: Any = None, copy: Any = None) -> Any:
            if not self.mine() or self.ours(obj):
                return asarray(obj, dtype, device, copy)
            host = np.asarray(obj, dtype=dtype)
            if host.size == 1:
                value = host.reshape(-1)[0].item()
                value = float(value) if host.dtype.kind == "V" else value  # bfloat16
                return self.backend.tidy(self.backend.xp.full(host.shape, value, host.dtype))
            self.constants.append(self.graphs.constant(host))
            return self.constants[-1].copy()  # recorded, since the graph may write to it

        return made

    def _masking(self, nonzero: Any) -> Any:
        def places(mask: Any) -> Any:
            if self.mine() and self.ours(mask):
                raise refuse("indexing by a boolean mask", _SIZES, _MASK)
            return nonzero(mask)

        return places

    def _seeding(self, draw: Any) -> Any:
        return lambda: self.seeds.place() if self.mine() else draw()

    def _drawing(self, raw: Any) -> Any:
        def get(generator: Any) -> Any:
            if self.mine():
                raise refuse(
                    "drawing random numbers on the host", _DRAWN,
                    "Draw them outside and pass them as an argument; dropout on the device is drawn anew by itself",
                )  # fmt: skip
            return raw.__get__(generator)

        return property(get, raw.__set__)


class Refusing(ModuleType):
    """The backend's array module while a graph is recorded: functions that wait for the device say so."""

    def __init__(self, recording: Recording, xp: Any):
        super().__init__(getattr(xp, "__name__", "xp"))
        own = {k: v for k, v in vars(xp).items() if k not in FUNCTIONS and not k.startswith("__")}
        self.__dict__.update(own, _recording=recording, _xp=xp)

    def __getattr__(self, name: str) -> Any:
        found = getattr(self.__dict__["_xp"], name)
        recording: Recording = self.__dict__["_recording"]
        if name in FUNCTIONS and recording.mine() and recording is Recording.under_way:

            def refused(*args: Any, **kw: Any) -> Any:
                if any(recording.ours(a) for a in args):
                    raise refuse(name, _READS if name in ("asnumpy", "array_equal", "allclose") else _SIZES, _KEEP)
                return found(*args, **kw)

            return refused
        return found
