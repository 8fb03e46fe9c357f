"""torch.cuda's graphs: work is recorded once on a stream and launched again as a whole, without Python in between.

    g = torch.cuda.CUDAGraph()
    with torch.cuda.graph(g):
        static_output = model(static_input)
    static_input.copy_(data)
    g.replay()                                   # static_output holds the answer

A replay reads and writes the addresses of the recording. Everything that Python does (numbers, hooks, counters)
happened once, when it was recorded. `graph_step` (steps.py) does the same for a whole training step, and looks after
its inputs.
"""

from __future__ import annotations

import gc
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from ..amp import door
from ..autograd import grads as autograd
from ..autograd.function import Function, once_differentiable
from ..autograd.tensor import Tensor
from ..autograd.trees import flatten, unflatten
from ..nn.modules.module import Module
from . import _backend, is_current_stream_capturing
from .capture import CaptureError, Recording

__all__ = ["CUDAGraph", "graph", "graph_pool_handle", "is_current_stream_capturing", "make_graphed_callables"]

MODES = ("global", "thread_local", "relaxed")


def _graphs() -> Any:
    """What records on the device. NoDevice where there is none."""
    return _backend().graphs


def graph_pool_handle() -> Any:
    """A pool of memory for graphs, to be shared by some that never run at once: the argument `pool` of others."""
    return _graphs().pool()


class CUDAGraph:
    """Recorded work. keep_graph: accepted; the graph that CUDA made is kept in any case.

    Besides the memory pool it keeps the seeds of dropout, which each replay draws anew from the default generator as
    the recorded program would, and the constants that the host made while it was recorded.
    """

    def __init__(self, keep_graph: bool = False):
        self.keep_graph = keep_graph
        self._recording: Recording | None = None
        self._pool: Any = None
        self._recorded: Any = None
        self._seeds: Any = None
        self._constants: list[Any] = []
        self._inside: ExitStack | None = None

    def capture_begin(
        self, pool: Any = None, capture_error_mode: str = "global", check_input_liveness: bool = False
    ) -> None:
        """Records the current stream's work from now on.

        pool: of `graph_pool_handle()` or another graph's `pool()`; its own by default. capture_error_mode: one of
        PyTorch's three words; all mean "relaxed", CUDA's word for not forbidding memory to be asked for meanwhile.
        RuntimeError on the default stream, while another graph is recorded, or where this object has one already.
        """
        if capture_error_mode not in MODES:
            raise RuntimeError(
                "Unknown capture error mode. Expected `global`, `thread_local`, or `relaxed`, "
                f"got {capture_error_mode}"
            )
        if self._recorded is not None:
            raise RuntimeError(
                "This CUDAGraph instance already owns a captured graph. To capture a new graph, create a new instance."
            )
        graphs = _graphs()
        self._pool = graphs.pool() if pool is None else pool
        with ExitStack() as inside:
            self._recording = inside.enter_context(Recording(graphs))
            inside.enter_context(self._pool.used())
            graphs.begin()
            self._inside = inside.pop_all()

    def capture_end(self) -> None:
        """Stops recording; from now on the work can be replayed. CaptureError where it cannot."""
        inside, recording = self._inside, self._recording
        if inside is None or recording is None:
            raise RuntimeError("capture_end() was called without capture_begin()")
        self._inside = self._recording = None
        with inside:
            try:
                recorded = recording.graphs.end()
            except Exception as error:
                raise CaptureError(
                    f"the CUDA graph could not be recorded: {error}. Something in it waited for the device, or used a "
                    "library that cannot be recorded; run the work once before it is recorded, so that plans and "
                    "kernels are there"
                ) from error
        self._recorded, self._seeds, self._constants = recorded, recording.seeds, recording.constants

    def _abandon(self) -> None:
        """Stops a recording in which something failed."""
        try:
            self.capture_end()
        except CaptureError:  # it is invalid, for a reason that is being raised already
            return
        self.reset()

    def instantiate(self) -> None:
        """Nothing to do: the end of the recording made the graph ready."""
        self._need("instantiate")

    def replay(self) -> None:
        """Queues the recorded work on the current stream. RuntimeError where nothing was recorded."""
        self._need("replay")
        self._seeds.draw()
        self._recorded.launch()

    def reset(self) -> None:
        """Forgets the graph and its memory."""
        self._recorded = self._seeds = self._pool = None
        self._constants = []

    def pool(self) -> Any:
        """The graph's memory pool, for graphs that never run at the same time."""
        self._need("pool()")
        return self._pool

    def enable_debug_mode(self) -> None:
        """Nothing to do: `debug_dump` is always there."""

    def debug_dump(self, debug_path: str) -> None:
        """Writes the graph to a file, in the language DOT."""
        self._need("debug_dump")
        Path(debug_path).write_text(self._recorded.text(), "utf-8")

    def raw_cuda_graph(self) -> int:
        """CUDA's address of the graph."""
        self._need("raw_cuda_graph")
        return self._recorded.addresses()[0]

    def raw_cuda_graph_exec(self) -> int:
        """CUDA's address of the graph in its executable form."""
        self._need("raw_cuda_graph_exec")
        return self._recorded.addresses()[1]

    def _need(self, what: str) -> None:
        if self._recorded is None:
            raise RuntimeError(f"Called CUDAGraph::{what} without a preceding successful capture.")


class graph:
    """Records what is queued inside into a CUDAGraph, on a stream of its own.

    Arguments as in PyTorch. stream: a Stream to record on. enable_annotations, check_input_liveness: accepted. An error
    inside ends the recording, and leaves the graph empty.
    """

    default_capture_stream: Any = None

    def __init__(
        self, cuda_graph: CUDAGraph, pool: Any = None, stream: Any = None, capture_error_mode: str = "global",
        enable_annotations: bool = False, check_input_liveness: bool = False,
    ):  # fmt: skip
        self.cuda_graph, self.pool, self.capture_error_mode = cuda_graph, pool, capture_error_mode
        self.capture_stream = stream

    def __enter__(self) -> None:
        graphs = _graphs()
        stream = getattr(self.capture_stream, "raw", self.capture_stream)
        if stream is None:
            found = type(self).default_capture_stream
            if found is None or found[0] is not graphs:
                found = type(self).default_capture_stream = (graphs, graphs.stream())
            stream = found[1]
        graphs.synchronize()
        gc.collect()
        graphs.free_unused()
        with ExitStack() as inside:
            inside.enter_context(graphs.inside(stream))
            self.cuda_graph.capture_begin(self.pool, self.capture_error_mode)
            self._inside = inside.pop_all()

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        with self._inside:
            if kind is None:
                self.cuda_graph.capture_end()
                return
            self.cuda_graph._abandon()
            if isinstance(error, Exception) and not isinstance(error, CaptureError):
                error.add_note(
                    "(while a CUDA graph was recorded: what waits for the device, or finds no plan made by a run "
                    "before, cannot be part of one)"
                )


# ---- callables


class _Part:
    """One callable: its inputs, its two graphs, and the tensors that they read and write."""

    def __init__(self, function: Any, args: tuple[Any, ...]):
        self.function, self.sample = function, args
        self.args, _ = flatten(args)
        if isinstance(function, Module):
            _check_module(function)
        if not all(isinstance(a, Tensor) for a in self.args):
            raise AssertionError(
                "In the beta API, sample_args for each callable must contain only Tensors. Other types are not allowed."
            )
        self.parameters = list(function.parameters()) if isinstance(function, Module) else []
        self.inputs = [*self.args, *self.parameters]
        self.forward, self.backward = CUDAGraph(), CUDAGraph()

    def grads(self, outputs: list[Any], seeds: list[Any], allow_unused: bool) -> tuple[Any, ...]:
        """The gradients of the outputs that have a history, at the inputs that want one."""
        wanted = [t for t in self.inputs if t.requires_grad]
        if not outputs or not wanted:
            return ()
        return autograd.grad(tuple(outputs), wanted, tuple(seeds), allow_unused=allow_unused)

    def warm_up(self, count: int, allow_unused: bool) -> None:
        for _ in range(count):
            outputs, _ = flatten(self.function(*self.sample))
            recorded = [o for o in outputs if o.requires_grad]
            self.grads(recorded, [o.detach() * 0 for o in recorded], allow_unused)

    def record_forward(self, pool: Any) -> None:
        with graph(self.forward, pool):
            out = self.function(*self.sample)
        self.outputs, self.structure = flatten(out)

    def record_backward(self, pool: Any, allow_unused: bool) -> None:
        recorded = [o for o in self.outputs if o.requires_grad]
        made = [o.detach() * 0 for o in recorded]
        found: tuple[Any, ...] = ()
        if recorded:
            with graph(self.backward, pool):
                found = self.grads(recorded, made, allow_unused)
        own, seeds = iter(found), iter(made)
        self.grad_inputs = [next(own, None) if t.requires_grad else None for t in self.inputs]
        self.grad_outputs = [next(seeds) if o.requires_grad else None for o in self.outputs]

    def call(self) -> Callable[..., Any]:
        """The callable that replays them, one node of the tape."""
        part = self

        class Graphed(Function):
            @staticmethod
            def forward(ctx: Any, *inputs: Any) -> Any:
                for held, given in zip(part.args, inputs, strict=False):
                    _fill(held, given)
                part.forward.replay()
                return tuple(o.detach() for o in part.outputs)

            @staticmethod
            @once_differentiable
            def backward(ctx: Any, *grads: Any) -> Any:
                for held, given in zip(part.grad_outputs, grads, strict=True):
                    if held is not None:
                        _fill(held, given)
                part.backward.replay()
                return tuple(g if g is None else g.detach() for g in part.grad_inputs)

        def graphed(*args: Any) -> Any:
            out = Graphed.apply(*flatten(args)[0], *part.parameters)
            return unflatten(list(out) if isinstance(out, tuple) else [out], part.structure)

        return graphed


def _check_module(module: Module) -> None:
    if module._backward_hooks or module._forward_hooks or module._forward_pre_hooks:
        raise AssertionError(
            "Modules must not have hooks registered at the time they are passed. However, registering hooks on modules "
            "after passing them through make_graphed_callables is allowed."
        )
    if any(b.requires_grad for b in module.buffers()):
        raise AssertionError(
            "In any :class:`~torch.nn.Module` passed to :func:`~make_graphed_callables`, only parameters may be "
            "trainable. All buffers must have ``requires_grad=False``."
        )


def _fill(held: Tensor, given: Tensor) -> None:
    """Copies what a graph reads into its place, unless it is there already."""
    if held.array is not given.array:
        _graphs().write(held.array, given.detach().to(held.device).array)


def make_graphed_callables(
    callables: Any, sample_args: Any, num_warmup_iters: int = 3, allow_unused_input: bool = False, pool: Any = None
) -> Any:
    """Callables (functions or Modules) whose forward and backward work is replayed, each as one node of the tape.

    Arguments, requirements and errors are PyTorch's: sample_args are tensors like those of later calls (shape, dtype,
    requires_grad), a tuple of tuples for a tuple of callables, which are called in that order later. A Module gets
    another `forward`, used in the mode (train or eval) that it has now. No second derivatives, no cache of autocast.
    """
    refuse_autocast_cache("make_graphed_callables")
    one = not isinstance(callables, tuple)
    parts = [
        _Part(c, tuple(args))
        for c, args in zip((callables,) if one else callables, (sample_args,) if one else sample_args, strict=True)
    ]
    graphs = _graphs()
    pool = graphs.pool() if pool is None else pool
    graphs.synchronize()
    with graphs.inside(graphs.stream(), pool):
        for part in parts:
            part.warm_up(num_warmup_iters, allow_unused_input)
    graphs.synchronize()
    for part in parts:  # in the order in which they run later, since they share the pool
        part.record_forward(pool)
    for part in reversed(parts):
        part.record_backward(pool, allow_unused_input)
    made = tuple(_in_place(part) for part in parts)
    return made[0] if one else made


def refuse_autocast_cache(name: str) -> None:
    """RuntimeError inside an autocast region that keeps casts: a graph would read memory which is not its own."""
    if door.state.depth and any(door.state.enabled.values()) and door.state.cache_enabled:
        raise RuntimeError(f"{name} does not support the autocast caching. Please set `cache_enabled=False`.")


def _in_place(part: _Part) -> Any:
    """The graphed function; for a Module the Module, whose forward uses it in the present mode."""
    graphed, module = part.call(), part.function
    if not isinstance(module, Module):
        return graphed
    mode, forward = module.training, module.forward

    def either(*args: Any, **kwargs: Any) -> Any:
        return graphed(*args, **kwargs) if module.training == mode else forward(*args, **kwargs)

    module.forward = either  # type: ignore[method-assign]  # as PyTorch does
    return module
