"""The forward pass of a program as a graph: which op made what of which values, and in which call of which module.

For pictures (`utils.draw_graph`) and for TensorBoard (`utils.tensorboard`). The ops are seen where they compute, so
what runs is what is drawn; a composite, or an op that is called by another's kernel, is part of that one.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from ..autograd import inplace
from ..autograd.api import join
from ..autograd.op import OPS, load_late
from ..autograd.random import fork_rng
from ..autograd.tensor import Tensor
from ..autograd.trees import flatten
from ..autograd.versions import storage_of
from ..autograd.watch import Watch, unwatch_in_place, watch_in_place
from ..backends.registry import backend_of
from ..nn.modules.module import Module
from .module_tracker import ModuleStack

__all__ = ["Call", "Step", "Trace", "trace", "unchanged"]


@dataclass(frozen=True, eq=False)
class Call:
    """One call of a module: its name in the tree, its class, and the call it happened in."""

    name: str  # as named_modules gives it; "" for the model
    class_name: str
    above: Call | None
    module: Any = field(repr=False)

    def path(self) -> tuple[Call, ...]:
        """The calls around it and itself, the outermost first."""
        return (*(() if self.above is None else self.above.path()), self)


@dataclass(eq=False)
class Step:
    """A value or a step of the pass. kind: "input", "parameter", "buffer", "constant", "op" or "output"."""

    kind: str
    name: str  # of the op, or of the value
    shapes: list[tuple[int, ...]] = field(default_factory=list)  # of its results
    dtypes: list[str] = field(default_factory=list)
    inputs: list[tuple[Step, int]] = field(default_factory=list)  # (step, number of its result)
    call: Call | None = None
    keywords: dict[str, Any] = field(default_factory=dict)  # of an op

    def path(self) -> tuple[Call, ...]:
        """The calls of modules around it, the outermost first."""
        return () if self.call is None else self.call.path()


@dataclass
class Trace:
    """All steps in the order in which they happened; the outputs are the last."""

    steps: list[Step]

    def of(self, kind: str) -> list[Step]:
        """The steps of one kind."""
        return [s for s in self.steps if s.kind == kind]

    def to_outputs(self) -> Trace:
        """Without the steps that lead to no output, such as updates of running means."""
        wanted: set[int] = set()
        stack = self.of("output")
        while stack:
            step = stack.pop()
            if id(step) not in wanted:
                wanted.add(id(step))
                stack += [source for source, _ in step.inputs]
        return Trace([s for s in self.steps if id(s) in wanted])


def _tensors(tree: Any, name: str) -> Iterator[tuple[str, Tensor]]:
    """(name, tensor) of the tensors in nested containers and objects with attributes such as a model's outputs."""
    if isinstance(tree, Tensor):
        yield name, tree
    elif isinstance(tree, dict):
        for key, value in tree.items():
            yield from _tensors(value, str(key))
    elif hasattr(tree, "__dataclass_fields__"):
        yield from _tensors(vars(tree), name)
    elif isinstance(tree, (tuple, list)):
        for i, value in enumerate(tree):
            yield from _tensors(value, f"{name}.{i}")


class _Tracer:
    """What is known while the pass runs: which array is the result of which step."""

    def __init__(self, model: Any):
        self.steps: list[Step] = []
        self._made: dict[int, tuple[int, Any, Step, int]] = {}  # id of an array -> (when, the array, step, result)
        self._written: dict[int, tuple[int, Any, Step]] = {}  # id of a storage -> (when, the storage, step)
        self._calls: list[Call] = []
        self._stack = ModuleStack(self._entered)
        self._names: dict[Module, str] = {}
        self._undo: list[Callable[[], None]] = []
        self._used: set[int] = set()  # ids of the steps that are values, once something used them
        self._writing = False
        if isinstance(model, Module):
            self._names = {module: name for name, module in model.named_modules()}
            for kind, values in (("parameter", model.named_parameters()), ("buffer", model.named_buffers())):
                for name, value in values:
                    self.value(kind, name, value)

    def value(self, kind: str, name: str, t: Tensor) -> None:
        """A value that is there before the pass; it becomes a step when it is used."""
        if not t.is_sparse:
            self._note(t.array, Step(kind, name, [tuple(t.shape)], [_dtype(t.array)]), 0)

    def _note(self, array: Any, step: Step, result: int) -> None:
        self._made[id(array)] = len(self.steps), array, step, result
        storage = storage_of(array)
        self._written.setdefault(id(storage), (len(self.steps), storage, step))

    def source(self, array: Any) -> tuple[Step, int] | None:
        """The step that gave the array what it holds; None for a number."""
        when, _, step, result = self._made.get(id(array), (-1, None, None, 0))
        written = self._written.get(id(storage_of(array)))
        if written is not None and (step is None or written[0] > when):
            step, result = written[2], 0
        if step is None:
            if array.ndim == 0:
                return None
            step = Step("constant", "", [tuple(array.shape)], [_dtype(array)], call=self._call())
            self._note(array, step, 0)
        if step.kind != "op" and id(step) not in self._used:
            self._used.add(id(step))
            self.steps.append(step)
        return step, result

    def _call(self) -> Call | None:
        depth = len(self._stack.modules)
        return self._calls[depth - 1] if depth else None

    def _entered(self, module: Module, args: Any) -> None:
        depth = len(self._stack.modules)
        above = self._calls[depth - 2] if depth > 1 else None
        name = self._names.get(module)
        if name is None:  # no part of the model
            name = f"{above.name}." * bool(above and above.name) + type(module).__name__ if above else ""
        self._calls[depth - 1 :] = [Call(name, type(module).__name__, above, module)]

    def _op(self, name: str, arrays: tuple[Any, ...], results: tuple[Any, ...], kw: dict[str, Any]) -> Step:
        inputs = [self.source(a) for a in arrays if hasattr(a, "dtype") and hasattr(a, "ndim")]
        step = Step("op", name, [], [], [i for i in inputs if i is not None], self._call(), dict(kw))
        self.steps.append(step)
        for i, array in enumerate(results):
            if hasattr(array, "dtype"):
                step.shapes.append(tuple(array.shape))
                step.dtypes.append(_dtype(array))
                self._note(array, step, i)
        return step

    def _seen(self, name: str, arrays: tuple[Any, ...], kw: dict[str, Any], out: Any) -> Any:
        flat = tuple(a for given in arrays for a in (given if isinstance(given, (tuple, list)) else (given,)))
        known = next((a for a in flat if hasattr(a, "dtype")), None)
        results = out if isinstance(out, tuple) else (out,)
        if known is not None:  # NumPy's scalars would become arrays afterwards, which nobody knows
            tidy = backend_of(known).tidy
            results = tuple(tidy(o) if hasattr(o, "dtype") else o for o in results)
        self._op(name, flat, results, kw)
        return results if isinstance(out, tuple) else results[0]

    def _write(self, name: str, call: Any, /, *args: Any, **kwargs: Any) -> Any:
        """An in-place method; notes what it wrote: by the op that it called, or else by itself."""
        t = args[0] if args else None
        if self._writing or not isinstance(t, Tensor) or self._watch.is_elsewhere():
            return call(*args, **kwargs)
        before = len(self.steps)
        arrays = [a.array for a in flatten([args, kwargs])[0] if isinstance(a, Tensor)]
        sources = [s for s in map(self.source, arrays) if s is not None]
        self._writing = True
        try:
            out = call(*args, **kwargs)
        finally:
            self._writing = False
        called = [s for s in self.steps[before:] if s.kind == "op"]
        if called:
            step = called[-1]
        else:
            step = Step("op", name, [tuple(t.shape)], [_dtype(t.array)], sources, self._call())
            self.steps.append(step)
        self._wrote(t, step)
        return out

    def _wrote(self, t: Tensor, step: Step) -> None:
        storage = storage_of(t.array)
        self._written[id(storage)] = len(self.steps), storage, step
        self._made[id(t.array)] = len(self.steps), t.array, step, 0

    def _parts(self, parts: Any) -> Any:
        """Cutting a tensor (split, chunk), which may call no op."""

        @functools.wraps(parts)
        def noting(name: str, x: Tensor, step: str, steps: Any, kw: dict[str, Any]) -> Any:
            before = len(self.steps)
            out = parts(name, x, step, steps, kw)
            if not self._watch.is_elsewhere() and not any(s.kind == "op" for s in self.steps[before:]):
                self._op(name, (x.array,), tuple(t.array for t in out), kw)
            return out

        return noting

    def _assigned(self, assign: Any) -> Any:
        """The end of an in-place function that is no method (torch.relu_), noting what wrote."""

        @functools.wraps(assign)
        def noting(t: Tensor, value: Tensor, *rest: Any) -> Any:
            source = None if self._writing or self._watch.is_elsewhere() else self.source(value.array)
            out = assign(t, value, *rest)
            if source is not None:
                self._wrote(t, source[0])
            return out

        return noting

    def __enter__(self) -> _Tracer:
        load_late()
        self._watch = Watch(self._seen, set(OPS))
        self._stack.__enter__()
        self._watch.__enter__()
        self._writes = self._write  # the one bound method that is taken out again
        watch_in_place(Tensor, self._writes)
        for module, name, wrapped in ((inplace, "assign", self._assigned), (join, "_parts", self._parts)):
            function = getattr(module, name)
            setattr(module, name, wrapped(function))
            self._undo.append(functools.partial(setattr, module, name, function))
        return self

    def __exit__(self, *failed: object) -> None:
        while self._undo:
            self._undo.pop()()
        unwatch_in_place(self._writes)
        self._watch.__exit__(*failed)
        self._stack.__exit__(*failed)


def _dtype(array: Any) -> str:
    return str(array.dtype)


def trace(model: Callable[..., Any], args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None) -> Trace:
    """Runs `model(*args, **kwargs)` once and tells its steps. A value that nothing uses is not among them.

    Seen are the ops of this thread and in-place writes; what NumPy computes in between appears as a constant.
    """
    kwargs = kwargs or {}
    tracer = _Tracer(model)
    for name, t in _given(model, args, kwargs):
        tracer.value("input", name, t)
    with tracer:
        output = model(*args, **kwargs)
    for name, t in _tensors(output, "output"):
        source = tracer.source(t.array) if not t.is_sparse else None
        shapes = [tuple(t.shape)]
        tracer.steps.append(Step("output", name, shapes, [str(t.array.dtype)], [] if source is None else [source]))
    return Trace(tracer.steps)


def _given(model: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[tuple[str, Tensor]]:
    """The tensors among the arguments, by the names of the parameters."""
    function = model.forward if isinstance(model, Module) else model
    try:
        bound = inspect.signature(function).bind(*args, **kwargs).arguments
    except (TypeError, ValueError):  # no signature, or not one that fits: the call itself will say so
        bound = {f"input{i}": a for i, a in enumerate(args)} | kwargs
    return [pair for name, value in bound.items() for pair in _tensors(value, name)]


class unchanged:
    """For a block in which a module runs: its buffers and the default generator are afterwards what they were."""

    def __init__(self, model: Any):
        self._buffers = [
            (module, name, b, b.array.copy())
            for module in (model.modules() if isinstance(model, Module) else ())
            for name, b in module._buffers.items()
            if b is not None and not b.is_sparse
        ]
        self._generator = fork_rng()

    def __enter__(self) -> None:
        self._generator.__enter__()

    def __exit__(self, *failed: object) -> None:
        self._generator.__exit__(*failed)
        for module, name, buffer, values in self._buffers:
            module._buffers[name] = buffer
            buffer.array[...] = values
