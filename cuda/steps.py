"""graph_step: a whole training step as one CUDA graph, recorded again when what it depends on changes.

    @torch.cuda.graph_step
    def step(x, target):
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x), target)
        loss.backward()
        optimizer.step()
        return loss

    for x, target in loader:
        loss = step(x, target)          # the first three run as they are, the fourth is recorded, all are replays then
        scheduler.step()                # outside: it is Python's work

Each call has the effect of one step. What changes from one step to the next is in the device's memory, and written
there before a replay: the arguments, the learning rates of the optimizers, the seeds of dropout; counts of steps and
the scale of losses live there anyway.
"""

from __future__ import annotations

import functools
import operator
import warnings
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from ..amp import door
from ..autograd.modes import mode, no_grad
from ..autograd.tensor import Tensor, wrap
from ..autograd.trees import flatten, unflatten
from ..nn.modules.module import Module
from ..optim.elementwise import FormulaOptimizer
from ..optim.optimizer import Optimizer
from . import graphs as _module
from .capture import refuse
from .graphs import CUDAGraph, refuse_autocast_cache

__all__ = ["GraphedStep", "graph_step"]


def graph_step(
    fn: Callable[..., Any] | None = None, *, warmup: int = 3, watch: Iterable[Any] = (), clone: bool = False,
    max_graphs: int = 8, fallback: bool = False,
) -> Any:  # fmt: skip
    """`fn` with its work on the device recorded as CUDA graphs and replayed; a decorator with or without arguments.

    Args:
        fn: a step: forward, backward and the optimizer's step, or part of that. Its tensors, in arguments nested in
            tuples, lists and dicts, may differ from call to call; tensors of the host arrive on the device. Whatever
            else it is given or refers to is taken as it was when recorded.
        warmup: how many calls of each kind run as they are before one is recorded, for kernels, plans and states.
        watch: modules and optimizers that `fn` uses, beside those found in its closure, globals and `self`.
        clone: give copies of the results; else they lie in the graph's memory, until the next call.
        max_graphs: of how many kinds of calls graphs are kept, the last ones used.
        fallback: run as it is, with a warning, what cannot be recorded; else that is an error, mostly a CaptureError.

    A call is of another kind, and recorded anew, where shapes or dtypes of arguments, other arguments, requires_grad of
    parameters, train or eval mode, options of optimizers (not the learning rate), grad mode or autocast differ. Results
    have no history. Optimizers are those of one formula (SGD, Adam, AdamW, ...); they are made `capturable`.
    """
    if fn is None:
        return functools.partial(
            graph_step, warmup=warmup, watch=watch, clone=clone, max_graphs=max_graphs, fallback=fallback
        )
    return GraphedStep(fn, warmup, watch, clone, max_graphs, fallback)


class _Made:
    """A graph with what it reads and leaves."""

    def __init__(self, graph: CUDAGraph, inputs: list[Tensor], out: Any):
        self.graph, self.inputs = graph, inputs
        leaves, self.structure = flatten(out)
        self.outputs = [o.detach() if isinstance(o, Tensor) else o for o in leaves]
        self.grads: list[tuple[Tensor, Any]] = []  # of parameters, as a call leaves them
        self.added: list[tuple[Tensor, Any]] = []  # those that a call adds to


class _Kind:
    """The calls of one kind: how many ran as they are, then their graphs.

    A graph that was recorded while parameters had gradients (made[True]) adds to them, or makes them anew where the
    step zeroes them; one that was recorded without (made[False]) always makes them anew.
    """

    def __init__(self, pool: Any):
        self.pool = pool
        self.runs = 0
        self.eager = False
        self.made: dict[bool, _Made] = {}


class GraphedStep:
    """What `graph_step` gives: a function with the effect of the one that it was given.

    `recorded`: how many graphs were recorded so far. `reset()`: forgets all of them.
    """

    def __init__(
        self, fn: Callable[..., Any], warmup: int, watch: Iterable[Any], clone: bool, max_graphs: int, fallback: bool
    ):
        functools.update_wrapper(self, fn)
        self.fn, self.warmup, self.clone, self.fallback = fn, max(1, warmup), clone, fallback
        self.max_graphs, self.recorded = max_graphs, 0
        self._given = list(watch)
        self._watched: _Watched | None = None
        self.reset()

    def reset(self) -> None:
        """Forgets all graphs and their memory; the next calls run as they are."""
        self._kinds: OrderedDict[Any, _Kind] = OrderedDict()
        self._stream: Any = None

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        graphs = _module._graphs()
        refuse_autocast_cache("graph_step")
        watched = self._watched
        if watched is None or not watched.same():
            self.reset()
            watched = self._watched = _Watched([*self._given, *found_in(self.fn)], graphs)
        leaves: list[Tensor] = []
        shape = _described((args, kwargs), leaves)
        key = (shape, watched.state(), mode.grad is not False, tuple(door.state.enabled.items()))
        kind = self._kinds.get(key)
        if kind is None:
            kind = self._kinds[key] = _Kind(graphs.pool())
            while len(self._kinds) > self.max_graphs:
                self._kinds.popitem(last=False)
        else:
            self._kinds.move_to_end(key)
        if self._stream is None:
            self._stream = graphs.stream()
        if kind.eager or kind.runs < self.warmup:
            kind.runs += 1
            return self._as_it_is(kind, args, kwargs)
        present = any(p.grad is not None for p in watched.parameters)
        made = kind.made.get(present) or self._record(kind, args, kwargs)
        if made is None:
            return self._as_it_is(kind, args, kwargs)
        kind.made[present] = made
        return self._replay(made, leaves)

    def _as_it_is(self, kind: _Kind, args: Any, kwargs: Any) -> Any:
        """A call without a graph, on the stream and in the memory of the graph to come."""
        watched, graphs = self._watched, _module._graphs()
        assert watched is not None
        with graphs.inside(self._stream, kind.pool), watched.rates_on_device():
            args, kwargs = _mapped((args, kwargs), functools.partial(_on_device, graphs))
            out = self.fn(*args, **kwargs)
            watched.on_device()  # what the first step of an optimizer made
        leaves, structure = flatten(out)
        return unflatten([o.detach() if isinstance(o, Tensor) else o for o in leaves], structure)

    def _record(self, kind: _Kind, args: Any, kwargs: Any) -> _Made | None:
        """A graph of the kind. None where it cannot be and `fallback` says to go on without."""
        watched, graphs = self._watched, _module._graphs()
        assert watched is not None
        before = [(p, p.grad) for p in watched.parameters]
        graph, inputs = CUDAGraph(), []  # type: CUDAGraph, list[Tensor]
        try:
            with graphs.inside(self._stream, kind.pool), watched.rates_on_device():
                held_args, held_kwargs = _mapped((args, kwargs), functools.partial(_held, graphs, inputs))
                with _module.graph(graph, kind.pool, self._stream):
                    out = self.fn(*held_args, **held_kwargs)
        except BaseException as error:
            for p, grad in before:
                p._grad = grad
            if not (self.fallback and isinstance(error, Exception)):
                raise
            warnings.warn(f"graph_step runs {self.fn!r} as it is: {error}", stacklevel=3)
            kind.eager = True
            return None
        self.recorded += 1
        made = _Made(graph, inputs, out)
        made.added = [(p, grad) for p, grad in before if grad is not None and p.grad is grad]
        made.grads = [(p, p.grad) for p in watched.parameters]
        return made

    def _replay(self, made: _Made, leaves: list[Tensor]) -> Any:
        graphs, watched = _module._graphs(), self._watched
        assert watched is not None
        for held, given in zip(made.inputs, leaves, strict=True):
            if held.array is not given.array:
                graphs.write(held.array, given.array)
        for p, grad in made.added:
            if p.grad is not grad:  # zeroed or replaced by the caller, or left by a graph of another kind
                grad.array[...] = 0 if p.grad is None else p.grad.array
        watched.write_rates()
        made.graph.replay()
        for p, grad in made.grads:
            p._grad = grad
        for held, given in zip(made.inputs, leaves, strict=True):
            if given._rg and held is not given:
                given._grad = held.grad
        outputs = made.outputs
        if self.clone:
            with no_grad():
                outputs = [o.clone() if isinstance(o, Tensor) else o for o in outputs]
        return unflatten(outputs, made.structure)


# ---- arguments


def _described(tree: Any, leaves: list[Tensor]) -> Any:
    """What a call depends on of its arguments, to be compared; the tensors among them go into `leaves`."""
    if isinstance(tree, Tensor):
        leaves.append(tree)
        return tree.array.shape, tree.array.dtype, tree._rg
    kind = type(tree)
    if kind is tuple or kind is list or isinstance(tree, (tuple, list)):
        return kind, tuple([_described(item, leaves) for item in tree])
    if isinstance(tree, dict):
        return kind, tuple(tree), tuple([_described(item, leaves) for item in tree.values()])
    try:
        hash(tree)
    except TypeError:
        return kind, id(tree)
    return kind, tree


def _mapped(tree: Any, change: Callable[[Tensor], Tensor]) -> Any:
    """The nested arguments with each tensor changed, in the order of `_described`."""
    leaves, structure = flatten(tree)
    return unflatten([change(leaf) if isinstance(leaf, Tensor) else leaf for leaf in leaves], structure)


def _on_device(graphs: Any, t: Tensor) -> Tensor:
    return t if isinstance(t.array, graphs.backend.array_type) else t.to(graphs.device_type)


def _held(graphs: Any, inputs: list[Tensor], t: Tensor) -> Tensor:
    """The graph's own tensor in the place of an argument."""
    there = _on_device(graphs, t.detach())
    made = wrap(there.array.copy() if there.array is t.array else there.array)
    made.requires_grad = t.requires_grad
    inputs.append(made)
    return made


# ---- what a step uses


def found_in(fn: Any) -> list[Any]:
    """Modules and optimizers that a function refers to: closure, globals, defaults, `self`, and attributes of these."""
    seen: list[Any] = []
    if isinstance(fn, functools.partial):
        seen += [fn.func, *fn.args, *fn.keywords.values()]
        return [*found_in(fn.func), *_chosen(seen)]
    seen.append(getattr(fn, "__self__", None))
    plain = getattr(fn, "__func__", fn)
    if not hasattr(plain, "__code__"):
        seen += [plain]
    else:
        for cell in plain.__closure__ or ():
            try:
                seen.append(cell.cell_contents)
            except ValueError:  # not assigned yet
                continue
        seen += [plain.__globals__[name] for name in plain.__code__.co_names if name in plain.__globals__]
        seen += [*(plain.__defaults__ or ()), *(plain.__kwdefaults__ or {}).values()]
    return _chosen(seen)


def _chosen(seen: list[Any]) -> list[Any]:
    found = []
    for item in seen:
        parts = [item]
        if isinstance(item, (list, tuple)):
            parts = list(item)
        elif isinstance(item, dict):
            parts = list(item.values())
        elif not isinstance(item, (Module, Optimizer, type)) and hasattr(item, "__dict__") and not hasattr(
            item, "__path__"
        ):  # fmt: skip
            parts += list(vars(item).values()) if not hasattr(item, "__spec__") else []
        found += [part for part in parts if isinstance(part, (Module, Optimizer))]
    return found


class _Watched:
    """The modules and optimizers of a step, and their numbers on the device."""

    def __init__(self, items: list[Any], graphs: Any):
        self.graphs = graphs
        unique = list({id(item): item for item in items}.values())
        self.optimizers: list[Any] = [item for item in unique if isinstance(item, Optimizer)]
        modules = [m for item in unique if isinstance(item, Module) for m in item.modules()]
        self.modules = list({id(m): m for m in modules}.values())
        found = [p for m in self.modules for p in m._parameters.values() if p is not None]
        found += [p for o in self.optimizers for group in o.param_groups for p in group["params"]]
        self.parameters = list({id(p): p for p in found}.values())
        self.arrays = [p.array for p in self.parameters]
        self.states = [o.state for o in self.optimizers]
        self.groups = [group for o in self.optimizers for group in o.param_groups]
        self.rates: Any = None
        self.written: list[float] = []
        for optimizer in self.optimizers:
            if not isinstance(optimizer, FormulaOptimizer):
                raise refuse(
                    f"the step of {type(optimizer).__name__}", "its numbers are on the host",
                    "Take an optimizer of one formula, such as AdamW or SGD, or make its step outside",
                )  # fmt: skip
        self.write_rates()
        self.on_device()

    def same(self) -> bool:
        """Whether nothing was replaced: the memory of parameters, the states and groups of optimizers."""
        return (
            all(map(operator.is_, self.arrays, [p.array for p in self.parameters]))
            and all(map(operator.is_, self.states, [o.state for o in self.optimizers]))
            and all(map(operator.is_, self.groups, [g for o in self.optimizers for g in o.param_groups]))
        )

    def state(self) -> Any:
        """What of them a graph depends on."""
        return (
            tuple([m.training for m in self.modules]),
            tuple([p._rg for p in self.parameters]),
            tuple([_options(group) for group in self.groups]),
        )

    def on_device(self) -> None:
        """Counts of steps go to the device, and stay there."""
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                if "capturable" in group and any(not p.is_cpu for p in group["params"]):
                    group["capturable"] = True
            for p, state in optimizer.state.items():
                for name in optimizer.counters:
                    value = state.get(name)
                    if isinstance(value, Tensor) and value.is_cpu and not p.is_cpu:
                        state[name] = value.to(p.device)

    @contextmanager
    def rates_on_device(self) -> Iterator[None]:
        """Inside, each group's learning rate is a tensor of the device that holds its number."""
        plain = [group for group in self.groups if not isinstance(group["lr"], Tensor)]
        before = [group["lr"] for group in plain]
        self.write_rates()
        try:
            for group in plain:
                group["lr"] = self.rates[id(group)]
            yield
        finally:
            for group, rate in zip(plain, before, strict=True):
                group["lr"] = rate

    def write_rates(self) -> None:
        """The present learning rates into the device's memory, where they have changed."""
        groups = self.groups
        present = [0.0 if isinstance(group["lr"], Tensor) else float(group["lr"]) for group in groups]
        if present == self.written:
            return
        host = np.array(present, np.float32)
        if self.rates is None:
            self.held = self.graphs.backend.asarray(host)
            self.rates = {id(group): wrap(self.held[k : k + 1].reshape(())) for k, group in enumerate(groups)}
        else:
            self.graphs.write(self.held, host)
        self.written = present


def _options(group: dict[str, Any]) -> Any:
    """A group's options but for its parameters and the learning rate."""
    return tuple([
        value if isinstance(value, (bool, int, float, str, tuple)) else id(value)
        for name, value in group.items() if name not in ("params", "lr", "initial_lr", "param_names", "capturable")
    ])  # fmt: skip
