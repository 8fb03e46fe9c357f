"""torch.onnx.export: traces, merges, writes."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from ...nn.modules.module import Module
from ..extras import require
from .errors import OnnxExporterError, UnknownSizeError
from .graph import Graph, Item
from .inputs import Inputs, read_inputs
from .merge import Program
from .program import ONNXProgram, model_proto
from .sizes import MANY, Dim
from .state import buffers_kept, check_device, evaluating, names_of
from .swaps import swapped
from .table import load
from .trace import Trace

OPSETS = range(18, 24)  # of the default domain; what is emitted is the same in all of these, but for a few nodes
DEFAULT_OPSET = 20


def export(
    model: Any,
    args: Any = (),
    f: str | os.PathLike[str] | None = None,
    *,
    kwargs: Mapping[str, Any] | None = None,
    verbose: bool | None = None,
    input_names: Sequence[str] | None = None,
    output_names: Sequence[str] | None = None,
    opset_version: int | None = None,
    dynamo: bool = True,
    external_data: bool = True,
    dynamic_shapes: Any = None,
    custom_translation_table: Mapping[str, Callable[..., Any]] | None = None,
    verify: bool = False,
    export_params: bool = True,
    keep_initializers_as_inputs: bool = False,
    dynamic_axes: Mapping[str, Any] | None = None,
    do_constant_folding: bool = True,
) -> ONNXProgram:
    """Writes a model as ONNX, as `torch.onnx.export` does. Gives the program; writes it to `f` where that is given.

    The model runs in eval mode without gradients on the example inputs, and again on examples of other sizes for its
    dynamic axes: a number that changes with them is computed in the graph, all others are constants.

    Args:
        model: a Module, or a function of tensors.
        args: the positional example inputs: a tuple, or one tensor. Tensors (also inside tuples, lists and dicts)
            become the graph's inputs; anything else is a constant of the graph.
        f: where to write, or None. Written under another name first, so that the file is always whole.
        kwargs: example keyword inputs.
        input_names, output_names: names, in order; by default the names of forward's parameters, and "output".
        opset_version: 18 to 23; None: 20.
        dynamo: accepted for PyTorch's sake; there is one tracer.
        external_data: write the weights beside the model, into `f.data`, where they are larger than 2 GB together.
            With False such a model is an error.
        dynamic_shapes: {parameter: {axis: name}} or a tuple of such; names may be strings or objects with a __name__.
        dynamic_axes: {input name: {axis: name} or [axis, ...]}. Axes with one name have one size. Names of outputs
            are accepted: their dynamic axes follow from those of the inputs.
        custom_translation_table: op name -> function(g, step) that emits nodes (docs/onnx.md).
        verify: run the result in onnxruntime, with the examples and with other sizes, and compare.
        export_params: with False, weights become inputs of the graph, and are not written.
        keep_initializers_as_inputs: list the weights among the inputs too, so that they can be overridden.
        do_constant_folding: compute what depends on constants (but no parameters) now.

    Raises OnnxExporterError (a RuntimeError) for what has no form in ONNX, naming the op, the module and the line;
    ImportError without the package onnx.

    >>> import tapegrad as torch
    >>> net = torch.nn.Linear(3, 2)
    >>> program = torch.onnx.export(net, (torch.ones(4, 3),), dynamic_axes={"input": {0: "batch"}})
    >>> [node.op_type for node in program.model_proto.graph.node]
    ['Gemm']
    """
    require("onnx", "onnx", "torch.onnx needs")
    opset = DEFAULT_OPSET if opset_version is None else opset_version
    if opset not in OPSETS:
        raise ValueError(f"opset_version must be from {OPSETS[0]} to {OPSETS[-1]}, got {opset_version}")
    if not (isinstance(model, Module) or callable(model)):
        raise TypeError(f"model must be a Module or a function, not {type(model).__name__}")
    check_device(model)
    inputs = read_inputs(model, args, kwargs, input_names, dynamic_axes, dynamic_shapes)
    outputs = list(output_names or ())
    _check_names(inputs, outputs, dynamic_axes)
    options: dict[str, Any] = {"opset": opset, "custom": custom_translation_table, "fold": do_constant_folding}
    try:
        program, found = _write(model, inputs, **options)
    except UnknownSizeError:  # which more traces may tell
        program, found = _write(model, inputs, more=MANY, **options)
    graph = program.graph
    version = sys.modules[__name__.partition(".")[0]].__version__
    proto = model_proto(
        graph, program.input_items, _named(graph, found, outputs), producer=version, params=export_params,
        as_inputs=keep_initializers_as_inputs,
    )  # fmt: skip
    made = ONNXProgram(proto, graph, model, inputs, external_data)
    if verify:
        made.verify()
    if f is not None:
        made.save(f)
    if verbose:
        print(made)
    return made


def _write(
    model: Any, inputs: Inputs, *, opset: int, custom: Mapping[str, Any] | None, fold: bool, more: int = 0
) -> tuple[Program, list[Item]]:
    """The program of a model's traces, and its outputs. more: how many sizes of each axis to trace at least."""
    with evaluating(model):
        traces = list(_traces(model, inputs, more))
    graph = Graph(opset)
    graph.reserve([*inputs.names, *(v.name for v in traces[0].values)])
    program = Program(traces, graph, {**load(), **(custom or {})}, fold)
    for place, axes in enumerate(inputs.axes):
        for axis, word in axes.items():
            sizes = Dim(t.values[place].shape[axis] for t in traces)
            graph.sizes.inputs.setdefault(sizes, word)
    return program, program.write()


def _check_names(inputs: Inputs, outputs: list[str], dynamic_axes: Any) -> None:
    if len(set(outputs)) < len(outputs) or set(outputs) & set(inputs.names):
        raise ValueError(f"names of inputs and outputs must differ: {inputs.names} and {outputs}")
    unknown = set(dynamic_axes or ()) - set(inputs.names) - set(outputs)
    if unknown:
        raise ValueError(
            f"dynamic_axes names {sorted(unknown)}, but the inputs are {inputs.names} and the named outputs {outputs}"
        )


def _named(graph: Graph, items: list[Item], wanted: list[str]) -> list[Item]:
    """The outputs under their names."""
    if len(wanted) > len(items):
        raise ValueError(f"output_names has {len(wanted)} names, but the model gives {len(items)} tensors")
    found = []
    for i, item in enumerate(items):
        default = "output" if len(items) == 1 else f"output_{i}"
        name = wanted[i] if i < len(wanted) else default
        if name in graph.names and i < len(wanted):
            raise ValueError(f"output_names: {name!r} is the name of a parameter or an input already")
        found.append(Item(graph.output(item, name), item.shape, item.dtype))
    return found


# By how much sizes are changed: for axis j in trace k by the number at place j (2 k + 1) + k, so that no two axes
# change in step, nor by equal steps.
NUMBERS = (1, 2, 3, 5, 4, 7, 6, 9)


def _changes() -> list[Callable[[int, int, int], int]]:
    """Ways to change the size n of axis j in trace k, tried in turn until the model runs with them."""

    def by(k: int, j: int) -> int:
        return NUMBERS[(j * (2 * k + 1) + k) % len(NUMBERS)]

    return [
        lambda n, k, j: n + by(k, j),
        lambda n, k, j: max(n - by(k, j), 1),
        lambda n, k, j: n + 8 * by(k, j),
        lambda n, k, j: n + 32 * by(k, j),
        lambda n, k, j: n * (1 + by(k, j)),
    ]


def _traces(model: Any, inputs: Inputs, more: int = 0) -> Iterator[Trace]:
    """The example itself, and as many others as tell the dynamic axes apart; their values too are moved about.

    Where the model takes no such values (a matrix must be positive, lengths must fall), only the sizes change.
    """
    sizes = inputs.sizes()
    yield _trace(model, inputs, sizes, 0)
    inputs.points = [sizes]
    if not sizes:
        try:
            moved_values = _trace(model, inputs, sizes, 1)
        except OnnxExporterError:
            raise
        except Exception:  # a value that the model does not accept
            return
        inputs.points.append(sizes)
        yield moved_values
        return
    count = max(2 if len(sizes) == 1 else 3, len(sizes), more - 1)
    failure: Exception | None = None
    for change in _changes():
        points = [{w: change(n, k, j) for j, (w, n) in enumerate(sizes.items())} for k in range(count)]
        if any(len({sizes[w], *(p[w] for p in points)}) <= count for w in sizes):
            continue
        for moved in (1, 0):
            try:
                found = [_trace(model, inputs, point, moved * (k + 1)) for k, point in enumerate(points)]
            except OnnxExporterError:
                raise
            except Exception as error:  # whatever the model raises for a size or value that it does not accept
                failure = failure or error
                continue
            inputs.points.append({w: points[j % count][w] for j, w in enumerate(sizes)})
            inputs.moved = moved
            yield from found
            return
    raise OnnxExporterError(
        f"the model does not run with other sizes of its dynamic axes ({', '.join(sizes)}; the examples have "
        f"{', '.join(map(str, sizes.values()))}): {type(failure).__name__}: {failure}. Give axes that must be equal "
        "one name, examples whose sizes can be changed a little, or leave the axis that is fixed out"
    ) from failure


def _trace(model: Any, inputs: Inputs, sizes: dict[str, int], turn: int) -> Trace:
    tensors, (args, kwargs) = inputs.resized(sizes, turn)
    trace = Trace(model, names_of(model))
    with swapped(trace), buffers_kept(model):
        return trace.run(list(zip(inputs.names, tensors, strict=True)), lambda: model(*args, **kwargs))
