"""What a model is made of and what one forward pass of it costs: layers, shapes, parameters, FLOPs, memory.

Everything is measured on a real forward pass: shapes are those that passed, FLOPs are counted by the ops that ran
(`utils.flop_counter`), and what is saved for backward is what the recorded nodes hold.
"""

from __future__ import annotations

import sys
import types
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

from ..autograd.engine import collect, edge_of
from ..autograd.graph import is_node
from ..autograd.modes import enable_grad
from ..autograd.tensor import Tensor
from ..autograd.trees import flatten
from ..autograd.versions import storage_of
from ..nn.modules.module import Module
from ..nn.parameter import is_lazy
from .flop_counter import FlopWatch
from .graph_tracing import unchanged
from .module_tracker import ModuleStack

__all__ = ["LayerSummary", "Summary", "summary"]

Shape = tuple[int, ...]


@dataclass
class LayerSummary:
    """One module of the tree. Counts and bytes are of the module with all that is inside it."""

    name: str  # as named_modules gives it; "" for the model
    class_name: str
    depth: int
    input_shapes: tuple[Shape, ...] = ()  # of the positional tensors of its first call
    output_shapes: tuple[Shape, ...] = ()
    calls: int = 0
    parameters: int = 0  # elements, each parameter once
    trainable: int = 0  # of these, those that require grad
    shared: int = 0  # of these, those that an earlier row which does not contain this one has counted
    parameter_bytes: int = 0
    buffer_bytes: int = 0
    flops: int = 0  # of its calls, forward
    activation_bytes: int = 0  # new memory of the tensors that it, and what is inside it, returned
    saved_bytes: int = 0  # memory kept for backward: no parameters, buffers or inputs of the model
    same_as: str | None = None  # the module is the one of an earlier row, which has its figures


@dataclass
class Summary:
    """The rows of `summary`, the model first and each module before those inside it, and the totals.

    str() gives a table; `to_dict()` plain data, for JSON.
    """

    rows: list[LayerSummary]
    parameters: int
    trainable: int
    parameter_bytes: int
    buffer_bytes: int
    input_bytes: int
    flops: int
    activation_bytes: int
    saved_bytes: int
    width: int = 120
    depth: int | None = None

    @property
    def non_trainable(self) -> int:
        return self.parameters - self.trainable

    def __getitem__(self, name: str) -> LayerSummary:
        """The row of the module of that name. KeyError where there is none."""
        for row in self.rows:
            if row.name == name:
                return row
        raise KeyError(name)

    def to_dict(self) -> dict[str, Any]:
        """Everything as dicts, lists and numbers."""
        found = asdict(self)
        del found["width"], found["depth"]
        return {**found, "non_trainable": self.non_trainable}

    def __str__(self) -> str:
        cells = [_HEAD, *(_cells(row) for row in self.rows if self.depth is None or row.depth <= self.depth)]
        widths = (max(self.width - sum(_WIDTHS) - 2 * len(_WIDTHS), 16), *_WIDTHS)
        rule = "-" * (sum(widths) + 2 * len(_WIDTHS))
        lines = [
            "  ".join(_fit(cell, w, left=i < _TEXTS) for i, (cell, w) in enumerate(zip(line, widths, strict=True)))
            for line in cells
        ]
        totals = (
            f"Parameters: {self.parameters:,} ({self.trainable:,} trainable, {self.non_trainable:,} not), "
            f"{_size(self.parameter_bytes)}; buffers {_size(self.buffer_bytes)}",
            f"FLOPs of a forward pass: {_number(self.flops)}",
            f"Input: {_size(self.input_bytes)}; activations: {_size(self.activation_bytes)}; "
            f"saved for backward: {_size(self.saved_bytes)}",
        )
        return "\n".join([rule, lines[0], rule, *lines[1:], rule, *totals, rule])


_HEAD = ("Layer", "Input", "Output", "Parameters", "FLOPs", "Activations", "Saved")
_WIDTHS = (18, 18, 14, 9, 11, 9)
_TEXTS = 3  # columns of text, to the left; numbers stand to the right


def _cells(row: LayerSummary) -> tuple[str, ...]:
    label = f"{row.name.rpartition('.')[2]} ({row.class_name})" if row.name else row.class_name
    label = "  " * row.depth + label
    if row.same_as is not None:
        return label, f"same as {row.same_as or 'the model'}", "", "", "", "", ""
    if not row.calls:
        return label, "not called", "", _parameters(row), "", "", ""
    shapes = (" ".join(map(_shape, found)) for found in (row.input_shapes, row.output_shapes))
    sizes = _number(row.flops), _size(row.activation_bytes), _size(row.saved_bytes)
    return f"{label} x{row.calls}" if row.calls > 1 else label, *shapes, _parameters(row), *sizes


def _parameters(row: LayerSummary) -> str:
    """The count; marked where some are not trained ("!") or counted in another row ("*")."""
    marks = "!" * (row.trainable < row.parameters) + "*" * bool(row.shared)
    return f"{row.parameters:,}{marks}" if row.parameters else "-"


def _shape(shape: Shape) -> str:
    return f"({','.join(map(str, shape))})"


def _fit(text: str, width: int, left: bool) -> str:
    text = text if len(text) <= width else text[: width - 2] + ".."
    return text.ljust(width) if left else text.rjust(width)


def _number(n: int) -> str:
    for unit in ("", "K", "M", "G", "T"):
        if n < 1000 or unit == "T":
            break
        n = n / 1000  # type: ignore[assignment]  # shown with a decimal from here on
    return f"{n:.3g}{unit}" if unit and n < 1000 else f"{n:.0f}{unit}"


def _size(n: int) -> str:
    size = float(n)
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if size < 1024 or unit == "TiB":
            break
        size /= 1024
    return f"{n} B" if unit == "B" else f"{size:.1f} {unit}"


def _tensors(tree: Any) -> list[Tensor]:
    """The tensors in nested tuples, lists, dicts, and objects with attributes such as a model's named outputs."""
    found = []
    for leaf in flatten(tree)[0]:
        if isinstance(leaf, Tensor):
            found.append(leaf)
        elif hasattr(leaf, "__dataclass_fields__"):
            found += _tensors(list(vars(leaf).values()))
    return found


class _Memory:
    """The memory that was seen: each storage is new once."""

    def __init__(self, known: Iterable[Any] = ()):
        self._storages: dict[int, Any] = {}  # they are held, so that their ids stay theirs
        for t in known:
            self.new(t.array)

    def new(self, array: Any) -> int:
        """Bytes of the array's storage, 0 if it was seen before."""
        storage = storage_of(array)
        if id(storage) in self._storages:
            return 0
        self._storages[id(storage)] = storage
        return getattr(storage, "nbytes", array.nbytes)


class _Measure:
    """One forward pass, measured into the rows of its modules."""

    def __init__(self, rows: dict[Module, LayerSummary], known: list[Tensor]):
        self.rows, self.known = rows, known
        self.memory = _Memory(known)
        self.stack = ModuleStack(self._entered, self._left)
        self.flops = 0

    def run(self, model: Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        with enable_grad(), self.stack, FlopWatch(self._counted):
            output = model(*args, **kwargs)
        self._saved([t for t in _tensors(output) if t.requires_grad])

    def _open(self) -> Iterator[LayerSummary]:
        """The rows of the modules that are under way, each once."""
        return (self.rows[m] for m in dict.fromkeys(self.stack.modules) if m in self.rows)

    def _counted(self, word: str, flops: int) -> None:
        for row in self._open():
            row.flops += flops

    def _entered(self, module: Module, args: Any) -> None:
        row = self.rows.get(module)
        if row is not None:
            row.calls += 1
            if row.calls == 1:
                row.input_shapes = tuple(tuple(t.shape) for t in _tensors(args))

    def _left(self, module: Module, output: Any) -> None:
        found = _tensors(output)
        row = self.rows.get(module)
        if row is not None and not row.output_shapes:
            row.output_shapes = tuple(tuple(t.shape) for t in found)
        size = sum(self.memory.new(t.array) for t in found if not t.is_sparse)
        for open_row in self._open():
            open_row.activation_bytes += size

    def _saved(self, outputs: list[Tensor]) -> None:
        """What the nodes under the outputs keep, charged to the modules that recorded the first node to keep it."""
        memory = _Memory(self.known)
        nodes = collect([edge_of(t) for t in outputs])[1] if outputs else []
        for node in reversed(nodes):  # the oldest first
            if not (is_node(node) and node.op.saves_arrays and node.saved is not None):
                continue
            size = sum(memory.new(array) for _, array in node.op.saved_arrays(node))
            for module in dict.fromkeys(getattr(node.op, "modules", ())):
                if module in self.rows:
                    self.rows[module].saved_bytes += size


def _layers(module: Module, name: str, depth: int) -> Iterator[tuple[str, int, Module]]:
    """(name, depth, module) of the tree, a module that stands in several places at each of them."""
    yield name, depth, module
    for part, child in module._modules.items():
        if child is not None:
            yield from _layers(child, f"{name}.{part}" if name else part, depth + 1)


def _rows(model: Module) -> tuple[list[LayerSummary], dict[Module, LayerSummary]]:
    rows: list[LayerSummary] = []
    of: dict[Module, LayerSummary] = {}
    counted: set[int] = set()  # parameters of the rows so far, by id: each in the first module that registers it
    for name, depth, module in _layers(model, "", 0):
        row = LayerSummary(name, type(module).__name__, depth)
        rows.append(row)
        if module in of:
            row.same_as = of[module].name
            continue
        of[module] = row
        parameters = list(module.parameters())
        row.parameters = sum(p.numel() for p in parameters)
        row.trainable = sum(p.numel() for p in parameters if p.requires_grad)
        row.parameter_bytes = sum(p.nbytes for p in parameters)
        row.buffer_bytes = sum(b.nbytes for b in module.buffers())
        row.shared = sum(p.numel() for p in parameters if id(p) in counted)
        counted.update(id(p) for p in module._parameters.values() if p is not None)
    return rows, of


def summary(model: Module, inputs: Any = (), *, depth: int | None = None, width: int = 120) -> Summary:
    """Runs `model` once on `inputs` and tells, layer by layer, what passed and what it cost.

    The model runs in the mode it is in (train or eval), with gradients enabled; its buffers and the default generator
    are put back afterwards, and no gradient is computed.

    Args:
        inputs: a tensor; a tuple or list of positional arguments; or a dict of keyword arguments.
        depth: of the rows that str() shows; None for all. The model itself has depth 0.
        width: of the table, in characters, at least 107.

    Raises TypeError for a model that is no Module and for a shape in the place of a tensor, ValueError for a lazy model
    that no input was seen by yet. What the forward pass raises comes through.

    >>> import tapegrad as torch
    >>> net = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.ReLU(), torch.nn.Linear(4, 2))
    >>> found = torch.utils.summary.summary(net, torch.ones(5, 3))
    >>> found.parameters, found.flops, found["0"].output_shapes
    (26, 200, ((5, 4),))
    >>> print(found)  # doctest: +ELLIPSIS
    ------...
    Layer ...
    """
    if not isinstance(model, Module):
        raise TypeError(f"summary expects an nn.Module, but got {type(model).__name__}")
    if any(is_lazy(p) for p in [*model.parameters(), *model.buffers()]):
        raise ValueError("summary: the model has parameters that are not made yet; call model(inputs) once before")
    if isinstance(inputs, (tuple, list)) and inputs and all(isinstance(size, int) for size in inputs):
        raise TypeError(f"summary: inputs are tensors, not a shape: summary(model, torch.zeros{tuple(inputs)})")
    args: tuple[Any, ...] = ()
    kwargs: dict[str, Any] = {}
    if isinstance(inputs, dict):
        kwargs = inputs
    else:
        args = tuple(inputs) if isinstance(inputs, (tuple, list)) else (inputs,)
    rows, of = _rows(model)
    given = _tensors([args, kwargs])
    measure = _Measure(of, [*model.parameters(), *model.buffers(), *given])
    with unchanged(model):
        measure.run(model, args, kwargs)
    root = rows[0]
    if not args:
        root.input_shapes = tuple(tuple(t.shape) for t in given)
    sums = {name: getattr(root, name) for name in _TOTALS}
    seen = _Memory()
    return Summary(rows, **sums, input_bytes=sum(seen.new(t.array) for t in given), width=width, depth=depth)


_TOTALS = ("parameters", "trainable", "parameter_bytes", "buffer_bytes", "flops", "activation_bytes", "saved_bytes")


class _Callable(types.ModuleType):
    """The module is called as its function: `utils.summary(model, inputs)`."""

    def __call__(self, *args: Any, **kwargs: Any) -> Summary:
        return summary(*args, **kwargs)


sys.modules[__name__].__class__ = _Callable
