"""Where the first NaN or infinity comes from, forward and backward: `with utils.trace_nans(): ...`.

Every op's result is looked at while the block is open: the first one that is not finite although the op's inputs are is
reported with its module, its source line, and what its inputs hold. Outside of the block nothing is paid.
"""

from __future__ import annotations

import linecache
import sys
import types
from collections.abc import Iterator
from dataclasses import dataclass, field
from math import isfinite
from typing import Any

from ..autograd.anomaly import TracedOp, user_stack
from ..autograd.graph import Node
from ..autograd.modes import mode, recording
from ..autograd.op import OPS, load_late, raw_by_type
from ..autograd.tensor import Tensor
from ..autograd.watch import Watch, unwatch_in_place, watch_in_place
from ..nn.modules.module import Module
from .module_tracker import ModuleStack

__all__ = ["NonFinite", "Value", "trace_nans"]


@dataclass
class Value:
    """An array in numbers: its name in the op, how many elements are NaN and infinite, and the range of the others."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    size: int
    nans: int
    infs: int
    min: float | None = None  # of the finite elements; None where there is none
    max: float | None = None

    @property
    def finite(self) -> int:
        """How many elements are finite."""
        return self.size - self.nans - self.infs

    def __str__(self) -> str:
        count = "all finite"
        if self.finite < self.size:
            count = f"{self.nans:,} NaN and {self.infs:,} infinite of {self.size:,}"
        values = "" if self.min is None else f", from {self.min:.6g} to {self.max:.6g}"
        return f"{self.name}: {self.shape} {self.dtype}, {count}{values}"


@dataclass
class NonFinite:
    """The first value that is not finite. str() tells it in sentences.

    where: "forward", "backward", or "before": it was in a value that was there before the block.
    module: name of the innermost one, such as "Net.layers.0", "" outside of modules. stack: all lines of the program.
    """

    where: str
    op: str
    module: str
    filename: str
    lineno: int
    inputs: list[Value] = field(default_factory=list)
    results: list[Value] = field(default_factory=list)
    stack: str = ""

    def __str__(self) -> str:
        sentence = {
            "forward": f"{self.op} made the first value that is not finite",
            "backward": f"{self.op} made the first gradient that is not finite, of a finite one",
            "before": f"a value that was NaN before came into {self.op}",
        }[self.where]
        line = linecache.getline(self.filename, self.lineno).strip()
        called = "recorded at" if self.where == "backward" else "at"
        lines = [
            sentence + (f", in module {self.module}" if self.module else ""),
            f'  {called} "{self.filename}", line {self.lineno}' + (f": {line}" if line else ""),
            *(f"  input {value}" for value in self.inputs),
            *(f"  result {value}" for value in self.results),
        ]
        return "\n".join(lines)


def _is_float(array: Any) -> bool:
    return hasattr(array, "dtype") and hasattr(array, "ndim") and array.dtype.kind in "fcV" and not array.dtype.names


def _counts(array: Any) -> tuple[int, int]:
    """(NaN, infinite) elements of an array."""
    F = raw_by_type[array.__class__]
    if bool(F.isfinite(array).all()):
        return 0, 0
    return int((array != array).sum()), int(F.isinf(array).sum())


def _value(name: str, array: Any) -> Value:
    nans, infs = _counts(array)
    found = Value(name, tuple(array.shape), str(array.dtype), array.size, nans, infs)
    if found.finite and array.dtype.kind != "c":
        F = raw_by_type[array.__class__]
        kept = array[F.isfinite(array)]
        found.min, found.max = float(kept.min()), float(kept.max())
    return found


class _CheckedOp(TracedOp):
    """The op of a node that was recorded in the block: its gradients are looked at."""

    def __init__(self, op: Any, stack: Any, tracer: trace_nans, module: str):
        super().__init__(op, stack, False)
        self.tracer, self.module = tracer, module

    def check(self, node: Node, g: Any, own: dict[Any, Any], F: Any) -> None:
        self.tracer._gradients(self, node, g, own)


class trace_nans:
    """Finds the first op, or node of a backward pass, that makes NaN or infinity of finite values.

    `first` is the report (a `NonFinite`), None while there is none.

    Args:
        stop: raise FloatingPointError with the report at once; else the program goes on and `first` is kept.
        inf: look for infinities too. What is made of an infinity that the program itself gives (masked_fill with
            -inf) is no finding; nor is the infinity that a GradScaler looks for, if this is False.

    A NaN that comes with the data or the parameters is reported at the first op that reads it. Seen are ops and
    in-place methods of the thread, and the backward of what was recorded in the block; what NumPy computes is not.

    >>> import tapegrad as torch
    >>> with torch.utils.trace_nans(stop=False) as nans:
    ...     y = torch.tensor([1.0, 0.0]).log().sum()
    >>> nans.first.op, nans.first.results[0].infs
    ('log', 1)
    """

    def __init__(self, stop: bool = True, inf: bool = True):
        self.stop, self.inf = stop, inf
        self.first: NonFinite | None = None
        self.below: Any = None
        self._busy = False
        self._names: dict[int, tuple[Module, str]] = {}  # id of a module -> (it, its name from the root's class on)
        self._values: dict[int, tuple[Any, str]] = {}  # id of an array -> (it, name of the parameter or buffer)

    def __enter__(self) -> trace_nans:
        load_late()
        self._stack = ModuleStack(self._entered)
        self._watch = Watch(self._seen, set(OPS))
        self._recording = recording(self)
        for part in (self._stack, self._watch, self._recording):
            part.__enter__()
        self._writes = self._write  # the one bound method that is taken out again
        watch_in_place(Tensor, self._writes)
        return self

    def __exit__(self, *failed: object) -> None:
        unwatch_in_place(self._writes)
        for part in (self._recording, self._watch, self._stack):
            part.__exit__(*failed)

    def _entered(self, module: Module, args: Any) -> None:
        if id(module) not in self._names:
            root = type(module).__name__
            for name, part in module.named_modules():
                self._names.setdefault(id(part), (part, f"{root}.{name}" if name else root))
            values = (*module.named_parameters(), *module.named_buffers())
            self._values.update({id(t.array): (t.array, name) for name, t in values if not t.is_sparse})

    def _module(self) -> str:
        modules = self._stack.modules
        return self._names.get(id(modules[-1]), (None, ""))[1] if modules else ""

    def recorded(self, node: Node, tensors: tuple[Any, ...]) -> None:
        """The node's gradients will be looked at."""
        node.op = _CheckedOp(node.op, user_stack(), self, self._module())
        if self.below is not None:
            self.below.recorded(node, tensors)

    def _bad(self, array: Any) -> bool:
        """Whether the array has what is looked for."""
        nans, infs = _counts(array)
        return bool(nans or (self.inf and infs))

    def _seen(self, name: str, arrays: tuple[Any, ...], kw: dict[str, Any], out: Any) -> None:
        if self._busy or self.first is not None or mode.walk is not None:
            return
        self._busy = True
        try:
            report = self._report(name, arrays, kw, out)
        finally:
            self._busy = False
        self._found(report)

    def _found(self, report: NonFinite | None) -> None:
        if report is None or self.first is not None:
            return
        self.first = report
        if self.stop:
            error = FloatingPointError(str(report))
            error.add_note(f"the call:\n{report.stack}")
            raise error

    def _report(self, name: str, arrays: tuple[Any, ...], kw: dict[str, Any], out: Any) -> NonFinite | None:
        op = OPS.get(name)
        count = 1 if op is None or not op.outputs else len(op.outputs)  # what follows is for the rules
        results = [r for r in (out if isinstance(out, tuple) else (out,))[:count] if _is_float(r)]
        given = list(_named(op.inputs if op else (), arrays))
        if any(_counts(a)[0] for _, a in given):
            return self._before(name, given)
        if not any(map(self._bad, results)):
            return None
        numbers = [v for v in (*arrays, *kw.values()) if isinstance(v, float)]
        with_inf = not all(map(isfinite, numbers)) or any(_counts(a)[1] for _, a in given)
        if with_inf and not any(_counts(r)[0] for r in results):
            return None  # an infinity of an infinity
        return self._at("forward", name, given, results)

    def _before(self, name: str, given: list[tuple[str, Any]]) -> NonFinite:
        """A NaN that no op of the block has made: the values are named, where they are a model's."""
        known = [(self._values.get(id(a), (None, n))[1], a) for n, a in given]
        return self._at("before", name, known, [])

    def _at(self, where: str, name: str, given: list[tuple[str, Any]], results: list[Any]) -> NonFinite:
        stack = user_stack()
        inputs = [_value(n, a) for n, a in given]
        found = [_value(f"{i}" if len(results) > 1 else "of it", r) for i, r in enumerate(results)]
        trace = "".join(stack.format())
        return NonFinite(where, name, self._module(), stack[-1].filename, stack[-1].lineno or 0, inputs, found, trace)

    def _write(self, name: str, call: Any, /, *args: Any, **kwargs: Any) -> Any:
        """An in-place method, whose writing may be no op."""
        t = args[0] if args else None
        if self._busy or self.first is not None or self._watch.is_elsewhere():
            return call(*args, **kwargs)
        if not isinstance(t, Tensor) or t.is_sparse:
            return call(*args, **kwargs)
        arrays = tuple(getattr(a, "array", a) for a in args)
        self._busy = True
        try:
            had = [_value(n, a) for n, a in _named(("self", "other"), arrays)]
        finally:
            self._busy = False
        out = call(*args, **kwargs)
        if self.first is None:
            self._found(self._of_write(name, t.array, arrays, had))
        return out

    def _of_write(self, name: str, array: Any, arrays: tuple[Any, ...], had: list[Value]) -> NonFinite | None:
        if not _is_float(array) or name in ("masked_fill_", "fill_", "index_put_", "copy_"):  # what was given is there
            return None
        self._busy = True
        try:
            if any(v.nans or (self.inf and v.infs) for v in had) or not self._bad(array):
                return None
            if not all(isfinite(a) for a in arrays if isinstance(a, float)):
                return None
            report = self._at("forward", name, [], [array])
        finally:
            self._busy = False
        report.inputs = had
        return report

    def _gradients(self, op: _CheckedOp, node: Node, g: Any, own: dict[Any, Any]) -> None:
        if self.first is not None or self._busy:
            return
        self._busy = True
        try:
            report = self._of_gradients(op, node, g, own)
        finally:
            self._busy = False
        self._found(report)

    def _of_gradients(self, op: _CheckedOp, node: Node, g: Any, own: dict[Any, Any]) -> NonFinite | None:
        given = [a for a in map(_array, g if isinstance(g, (list, tuple)) else (g,)) if _is_float(a)]
        made = [(f"for input {i}", _array(own.get(edge))) for i, edge in enumerate(node.edges) if edge is not None]
        made = [(n, a) for n, a in made if _is_float(a)]
        if not any(self._bad(a) for _, a in made) or any(map(self._bad, given)):
            return None
        saved = node.op.saved_arrays(node) if node.op.saves_arrays and node.saved else []
        inputs = [_value("gradient", a) for a in given]
        inputs += [_value(f"saved '{n}'", a) for n, a in saved if _is_float(a)]
        line = op.stack[-1]
        results = [_value(n, a) for n, a in made]
        where = line.filename, line.lineno or 0
        return NonFinite("backward", node.name(), op.module, *where, inputs, results, op.forward_trace())


def _array(value: Any) -> Any:
    return value.array if isinstance(value, Tensor) else value


def _named(names: tuple[str, ...], arrays: tuple[Any, ...]) -> Iterator[tuple[str, Any]]:
    """(name, array) of the floating arrays among an op's inputs."""
    for i, array in enumerate(arrays):
        name = names[i] if i < len(names) else f"{i}"
        for part in array if isinstance(array, (tuple, list)) else (array,):
            if _is_float(part):
                yield name, part


class _Callable(types.ModuleType):
    """The module is called as its class: `utils.trace_nans()`."""

    def __call__(self, *args: Any, **kwargs: Any) -> trace_nans:
        return trace_nans(*args, **kwargs)


sys.modules[__name__].__class__ = _Callable
