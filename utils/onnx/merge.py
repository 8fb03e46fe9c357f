"""Several traces of one model, with its dynamic axes in different sizes, seen as one program; and that as a graph."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from ...autograd.op import OPS, raw_namespace
from .constants import constant
from .errors import OnnxExporterError, UnsupportedOperatorError
from .graph import Graph, Item, Step, type_of
from .sizes import Dim, joined
from .trace import CONSTANT, INPUT, Trace

FOLDED = 1 << 16  # elements: what is computed from constants alone, up to this size, is a constant itself


class PerTrace(list[Any]):
    """Keywords of the traces that are neither equal nor sizes; only few functions of the table can use them."""


def merged(values: list[Any]) -> Any:
    """One keyword of all traces."""
    first = values[0]
    if any(type(v) is not type(first) for v in values):
        return PerTrace(values)
    if isinstance(first, bool) or first is None:
        return first if all(v == first for v in values) else PerTrace(values)
    if isinstance(first, (int, np.integer)):
        return joined(values)
    if isinstance(first, (tuple, list)):
        if any(len(v) != len(first) for v in values):
            return PerTrace(values)
        parts = [merged(list(column)) for column in zip(*values, strict=True)]
        return PerTrace(values) if any(isinstance(p, PerTrace) for p in parts) else tuple(parts)
    if isinstance(first, slice):
        return slice(*[merged([getattr(v, word) for v in values]) for word in ("start", "stop", "step")])
    if isinstance(first, dict):
        if any(v.keys() != first.keys() for v in values):
            return PerTrace(values)
        return {k: merged([v[k] for v in values]) for k in first}
    if isinstance(first, np.ndarray):
        return first if all(np.array_equal(v, first) for v in values) else PerTrace(values)
    equal = all(v is first or v == first or v != v and first != first for v in values)
    return first if equal else PerTrace(values)


def check_alike(traces: list[Trace]) -> None:
    """OnnxExporterError where the traces ran different ops: the program branches on a size, or on values."""
    first = traces[0]
    for other in traces[1:]:
        for a, b in zip(first.calls, other.calls, strict=False):
            if (a.op, a.inputs, a.outputs, a.where) != (b.op, b.inputs, b.outputs, b.where):
                raise OnnxExporterError(
                    f"the model takes another path for other inputs: '{a.op}' (in module {a.module or 'the model'}, at "
                    f"{a.where}) in one run, '{b.op}' (at {b.where}) in another. A graph has one path: remove the "
                    "Python branch or loop that depends on a size or a value, or leave that axis out of dynamic_axes"
                )
        if len(first.calls) != len(other.calls) or first.outputs != other.outputs:
            longer = max((first, other), key=lambda t: len(t.calls))
            extra = longer.calls[min(len(first.calls), len(other.calls)) :]
            where = f" (the first of '{extra[0].op}' at {extra[0].where})" if extra else ""
            raise OnnxExporterError(
                f"the model runs {len(first.calls)} ops for one size of its dynamic axes, and {len(other.calls)} for "
                f"another{where}: a Python loop or branch depends on a size. Use tensor operations over the whole "
                "dimension, or leave that axis out of dynamic_axes"
            )


Emit = Callable[[Graph, Step], Any]


class Program:
    """The traces as one graph."""

    def __init__(self, traces: list[Trace], graph: Graph, table: Mapping[str, Emit], fold: bool = True):
        check_alike(traces)
        self.traces, self.graph, self.table, self.fold = traces, graph, table, fold
        self.items: dict[int, Item] = {}
        self.steps: dict[int, Step] = {}
        self.input_items: list[Item] = []
        self._open: dict[int, int] = {}  # how a value may be computed now: number -> its call
        self._plain: set[int] = set()  # numbers of values that are the same in every trace, and no parameter's

    def write(self) -> list[Item]:
        """Emits all that the outputs need; gives the outputs."""
        first, g = self.traces[0], self.graph
        for number, value in enumerate(first.values):
            if value.kind == INPUT:
                item = self._item(number)
                item.name = value.name
                self.input_items.append(item)
                g.sizes.add(item.name, item.shape)
        needed = self._needed()
        for place, call in enumerate(first.calls):
            if place in needed:
                self._emit(place, call)
        return [self._ready(n) for n in first.outputs]

    def _needed(self) -> set[int]:
        """Places of the calls that an output depends on."""
        calls = self.traces[0].calls
        wanted, needed = set(self.traces[0].outputs), set()
        for place in range(len(calls) - 1, -1, -1):
            if wanted.intersection(calls[place].outputs):
                needed.add(place)
                wanted.update(i for i in calls[place].inputs if i is not None)
        return needed

    def _item(self, number: int) -> Item:
        values = [t.values[number] for t in self.traces]
        first = values[0]
        if any(len(v.shape) != len(first.shape) or v.dtype != first.dtype for v in values):
            raise OnnxExporterError(
                f"a tensor has {len(first.shape)} dimensions of {first.dtype} for one size of the dynamic axes, and "
                f"other ones for another (shapes {', '.join(str(v.shape) for v in values)}; first used at "
                f"{first.where or 'an op'}). A graph has fixed numbers of dimensions"
            )
        shape = tuple([joined(column) for column in zip(*[v.shape for v in values], strict=True)])
        item = self.items[number] = Item("", shape, first.dtype)
        return item

    def _ready(self, number: int) -> Item:
        """The item of a value, its constant written first where it is one."""
        item = self.items.get(number)
        if item is None:
            item = self._item(number)
        if not item.name:
            if self.traces[0].values[number].kind == CONSTANT or number in self._plain:
                item.name = self._constant(number, item)
                self.graph.sizes.add(item.name, item.shape)
            else:
                raise OnnxExporterError("a value is used before it is made")  # of the exporter's own making
        return item

    # ---- constants

    def _constant(self, number: int, item: Item) -> str:
        g = self.graph
        values = [t.values[number] for t in self.traces]
        arrays, first = [v.array for v in values], values[0]
        if type_of(item.dtype) is None:
            raise OnnxExporterError(
                f"the tensor {first.name or 'made at ' + first.where} is of dtype {item.dtype.name}, which is not "
                "written: convert the model with .float() first"
            )
        alike = all(a.shape == arrays[0].shape and _equal(a, arrays[0]) for a in arrays)
        if alike:
            item.array = arrays[0]
            if first.name:
                g.parameters.add(first.name)
                g.initializers.setdefault(first.name, np.asarray(arrays[0], order="C"))
                return first.name
            return g.constant(np.array(arrays[0]))
        made = constant(g, item, arrays)
        if made is not None:
            return made
        shapes = {a.shape for a in arrays}
        why = (
            "its shape follows a dynamic axis, and it is neither one number everywhere, nor evenly spaced, nor a "
            "triangle"
            if len(shapes) > 1
            else "it differs between runs with other inputs: it was computed from values outside of tensor operations, "
            "or drawn at random (as dropout does that is active in eval mode)"
        )
        raise OnnxExporterError(
            f"a tensor of shape {tuple(arrays[0].shape)} that no traced op made (first used at {first.where}) cannot "
            f"be exported: {why}. Compute it with tensor operations from the inputs, or keep it as a buffer"
        )

    # ---- steps

    def _step(self, place: int) -> Step:
        calls = [t.calls[place] for t in self.traces]
        call = calls[0]
        kw = {k: merged([c.kw[k] for c in calls]) for k in call.kw}
        outputs = tuple([None if n is None else self.items.get(n) or self._item(n) for n in call.outputs])
        inputs = tuple([None if n is None else self._ready(n) for n in call.inputs])
        step = Step(call.op, inputs, kw, outputs, call.where, call.module)
        for slot, item in enumerate(outputs):
            if item is not None:
                item.made_by, item.slot = step, slot
        return step

    def _folds(self, call: Any) -> bool:
        """Whether the op only works on small constants that are the same in every trace: then its result is one."""
        first = self.traces[0]
        for n in call.inputs:
            if n is None or n in self._plain:
                continue
            value = first.values[n]
            if value.kind != CONSTANT or value.name or len({t.values[n].shape for t in self.traces}) > 1:
                return False
            if not all(_equal(t.values[n].array, value.array) for t in self.traces):
                return False
        for n in call.outputs:
            if n is None:
                continue
            made: list[Any] = [t.values[n] for t in self.traces]
            if made[0].array.size > FOLDED or any(v.shape != made[0].shape for v in made):
                return False
        return True

    def _emit(self, place: int, call: Any) -> None:
        g = self.graph
        if self.fold and self._folds(call) and self._compute(place, call):
            return
        g.step = step = self._step(place)
        emit = self.table.get(call.op)
        if emit is None:
            raise UnsupportedOperatorError(call.op, "it has no form in ONNX that is known here", step)
        for item in (*step.inputs, *step.outputs):
            if item is not None and type_of(item.dtype) is None:
                raise UnsupportedOperatorError(
                    call.op, f"the dtype {item.dtype.name} is not written", step, "Convert it with .float() first."
                )
        made = emit(g, step)
        g.step = None
        names = made if isinstance(made, tuple) else (made,)
        for item, name in zip(step.outputs, names, strict=False):
            if item is not None and name is not None:
                item.name = name.name if isinstance(name, Item) else name
                g.sizes.add(item.name, item.shape)

    def _compute(self, place: int, call: Any) -> bool:
        """Runs an op on constants again, for values that no later write has changed; False where that is not safe."""
        results = []
        for trace in self.traces:
            own = trace.calls[place]
            arrays = [None if n is None else trace.values[n].array for n in own.inputs]
            if call.op not in OPS:
                return False
            kernel = getattr(raw_namespace(np.ndarray), call.op)
            out = kernel(*arrays, **own.kw)
            results.append(out if isinstance(out, tuple) else (out,))
        for slot, n in enumerate(call.outputs):
            if n is None:
                continue
            again: list[Any] = [np.array(r[slot]) for r in results]
            if not all(a.shape == again[0].shape and _equal(a, again[0]) for a in again):
                return False
            for trace, array in zip(self.traces, again, strict=True):
                trace.values[n].array = array
        self._plain.update(n for n in call.outputs if n is not None)
        return True


def _equal(a: Any, b: Any) -> bool:
    return a is b or np.array_equal(a, b, equal_nan=a.dtype.kind in "fc")


def is_dynamic(shape: tuple[Any, ...]) -> bool:
    """Whether some dimension depends on a dynamic axis."""
    return any(isinstance(s, Dim) for s in shape)
