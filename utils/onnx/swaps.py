"""What a trace swaps while it runs: the functions that leave the ops, or write without one, tell it before they work.

Each swap asks whether the call comes from the traced thread; others go on as ever.
"""

from __future__ import annotations

import contextlib
import functools
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from ...autograd import inplace
from ...autograd.api import index as indexing
from ...autograd.api import join
from ...autograd.exporting import exporting
from ...autograd.op import GRAPH, OPS
from ...autograd.tensor import Tensor, wrap
from .errors import OnnxExporterError
from .packed import holders, swaps
from .trace import Trace, place_of

# Ways out of the ops: attribute of Tensor -> how a text names it
_EXITS = {
    "item": ".item()", "tolist": ".tolist()", "numpy": ".numpy()", "__bool__": "bool(tensor)", "__int__": "int(tensor)",
    "__float__": "float(tensor)", "__index__": "a tensor used as an index of Python's", "__array__": "numpy's array()",
}  # fmt: skip


_one_at_a_time = threading.RLock()


@contextlib.contextmanager
def swapped(trace: Trace) -> Iterator[None]:
    """The functions that leave the ops, or write without one, replaced by ones that tell the trace."""
    undo: list[tuple[Any, str, Any]] = []

    def swap(holder: Any, name: str, made: Callable[[Any], Any]) -> None:
        original = holder.__dict__[name] if name in holder.__dict__ else getattr(holder, name)
        undo.append((holder, name, original if name in holder.__dict__ else None))
        setattr(holder, name, made(original))

    _one_at_a_time.acquire()  # swaps are put back in the order of their making
    before, exporting.active = exporting.active, True
    try:
        for holder, name, made in swaps(trace):
            swap(holder, name, made)
        for name, word in _EXITS.items():
            if hasattr(Tensor, name):
                swap(Tensor, name, functools.partial(_exit, trace, word))
        swap(inplace, "_write_directly", lambda original: _declining(trace, original))
        for module in holders("assign", inplace.assign):
            swap(module, "assign", lambda original: _assigning(trace, original))
        swap(join, "_parts", lambda original: _cutting(trace, original))
        swap(Tensor, "__getitem__", lambda original: _getting(trace, original))
        swap(Tensor, "__setitem__", lambda original: _setting(trace, original))
        for name in ("copy_", "fill_", "zero_"):
            swap(Tensor, name, lambda original: _filling(trace, original))
        yield
    finally:
        exporting.active = before
        for holder, name, original in reversed(undo):
            if original is None:
                delattr(holder, name)
            else:
                setattr(holder, name, original)
        _one_at_a_time.release()


def _exit(trace: Trace, word: str, original: Any) -> Any:
    def leaving(self: Tensor, *args: Any, **kwargs: Any) -> Any:
        if not trace.is_elsewhere() and trace.depends(self.array):
            raise OnnxExporterError(
                f"{word} at {place_of(sys._getframe(1))} (in module {trace.module or 'the model'}) takes a value that "
                "depends on an input out of the graph: what Python does with it would be the same for every input. "
                "Use tensor operations (torch.where, masked_fill, gather, ...), or take this part out of the model"
            )
        return original(self, *args, **kwargs)

    return leaving


def _declining(trace: Trace, original: Any) -> Any:
    return lambda *args: trace.is_elsewhere() and original(*args)


def _assigning(trace: Trace, original: Any) -> Any:
    def assign(t: Any, value: Any, name: str, since: int | None = None) -> Any:
        if trace.is_elsewhere() or value.array is t.array:
            return original(t, value, name, since)
        with trace.writing(t.array, lambda: trace.number_of(_as(value, t).array)):
            return original(t, value, name, since)

    return assign


def _as(value: Tensor, target: Tensor) -> Tensor:
    """The value in the dtype and shape of what it is written into."""
    if value.array.dtype != target.array.dtype:
        value = OPS["cast"].fn(value, dtype=target.array.dtype)
    if value.array.shape != target.array.shape:
        extra = value.array.ndim - target.array.ndim
        if extra > 0:
            value = GRAPH.reshape(value, shape=value.array.shape[extra:])
        value = GRAPH.expand(value, shape=tuple(target.array.shape))
    return value


def _filling(trace: Trace, original: Any) -> Any:
    def fill(self: Tensor, *args: Any, **kwargs: Any) -> Any:
        if trace.is_elsewhere():
            return original(self, *args, **kwargs)
        given = args[0] if args else kwargs.get("src", kwargs.get("value", 0))
        value = given if isinstance(given, Tensor) else wrap(np.asarray(given).astype(self.array.dtype))
        with trace.writing(self.array, lambda: trace.number_of(_as(value, self).array)):
            original(self, *args, **kwargs)
        return self

    return fill


def _cutting(trace: Trace, original: Any) -> Any:
    def parts(name: str, x: Tensor, step: str, steps: list[dict[str, Any]], kw: dict[str, Any]) -> tuple[Tensor, ...]:
        if trace.is_elsewhere():
            return original(name, x, step, steps, kw)
        return tuple([OPS[step].fn(x, **how) for how in steps])

    return parts


MASKS = (
    "a mask of bools as an index at {where} (in module {module}): how many elements it chooses depends on values, so "
    "that later shapes cannot be known. Use torch.where(mask, x, y), masked_fill, or multiply by the mask"
)


def _masks(trace: Trace, index: Any) -> bool:
    items = index if isinstance(index, tuple) else (index,)
    return any(isinstance(i, Tensor) and i.array.dtype == np.bool_ and trace.depends(i.array) for i in items)


def _getting(trace: Trace, original: Any) -> Any:
    def getitem(self: Tensor, index: Any) -> Tensor:
        if not trace.is_elsewhere() and _masks(trace, index):
            raise OnnxExporterError(MASKS.format(where=place_of(sys._getframe(1)), module=trace.module or "the model"))
        return original(self, index)

    return getitem


def _setting(trace: Trace, original: Any) -> Any:
    def setitem(self: Tensor, index: Any, value: Any) -> None:
        if trace.is_elsewhere():
            return original(self, index, value)
        if isinstance(index, Tensor) and index.array.dtype == np.bool_ and (
            not isinstance(value, Tensor) or value.array.ndim == 0
        ):
            mask = index.reshape(*index.shape, *(1,) * (self.array.ndim - index.array.ndim))
            assign_now(self, self.masked_fill(mask, value))
            return None
        if _masks(trace, index):
            raise OnnxExporterError(MASKS.format(where=place_of(sys._getframe(1)), module=trace.module or "the model"))
        _set(self, index, value)
        return None

    def assign_now(target: Tensor, value: Tensor) -> None:
        inplace.assign(target, value, "__setitem__")

    def _set(self: Tensor, index: Any, value: Any) -> None:
        shape = self.array.shape
        found = indexing.read_basic(shape, index if isinstance(index, tuple) else (index,))
        view, basic, places, arrays, _ = indexing.read(self, index) if found is None else (*found, (), (), False)
        given = value if isinstance(value, Tensor) else indexing._scalar(value, self)
        x = self if view is None and places else (view or OPS["alias_view"].fn)(self, index=basic)
        if not places:
            assign_now(x, _as(given, x))
            return
        given = indexing.unled(given, indexing._indexed_ndim(x.array, places, arrays))
        assign_now(x, OPS["index_put"].fn(x, given, *[wrap(a) for a in arrays], places=places, inplace=False))

    return setitem
