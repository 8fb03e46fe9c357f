"""The ONNX graph while it is being written: nodes, initializers, and sizes that are known at run time only."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from .errors import UnknownSizeError, UnsupportedOperatorError
from .sizes import Dim, Expression, Size, Sizes, joined, same

FAR = np.iinfo(np.int64).max

# NumPy dtype name -> ONNX's number of the type (onnx.TensorProto.DataType)
TYPES = {
    "float32": 1, "uint8": 2, "int8": 3, "uint16": 4, "int16": 5, "int32": 6, "int64": 7, "bool": 9, "float16": 10,
    "float64": 11, "uint32": 12, "uint64": 13,
}  # fmt: skip


def type_of(dtype: Any) -> int | None:
    """ONNX's number of a NumPy dtype, None where it has none."""
    return TYPES.get(np.dtype(dtype).name)


@dataclass
class Item:
    """A value of the graph: its name there, shape (dynamic sizes as `Dim`) and dtype."""

    name: str
    shape: tuple[Size, ...]
    dtype: Any
    array: Any = None  # of a constant, the same in every trace
    made_by: Step | None = None
    slot: int = 0  # which output of `made_by`

    @property
    def ndim(self) -> int:
        return len(self.shape)


@dataclass
class Step:
    """A call of a trace, with all traces seen together: what a function of the table is given."""

    op: str
    inputs: tuple[Any, ...]  # Items; None for an optional one that was left out
    kw: dict[str, Any]
    outputs: tuple[Item | None, ...]
    where: str
    module: str

    @property
    def out(self) -> Item:
        """The first output."""
        out = self.outputs[0]
        if out is None:
            raise self.refuse("it gave no array")
        return out

    def refuse(self, reason: str, remedy: str = "") -> UnsupportedOperatorError:
        """The error to raise for what cannot be expressed."""
        return UnsupportedOperatorError(self.op, reason, self, remedy)

    def static(self, size: Size, what: str) -> int:
        """A size that must not depend on the dynamic axes."""
        if isinstance(size, Dim):
            raise self.refuse(
                f"{what} depends on a dynamic axis ({size!r}), which ONNX takes as a constant only",
                "Leave that axis out of dynamic_axes, or give the number itself",
            )
        return int(size)

    def all_static(self, sizes: Iterable[Size], what: str) -> list[int]:
        """As `static`, for several."""
        return [self.static(size, what) for size in sizes]


@dataclass
class Node:
    """One node of the graph."""

    kind: str
    inputs: list[str]
    outputs: list[str]
    attributes: dict[str, Any]
    name: str


class Graph:
    """Nodes in order, and what they read."""

    def __init__(self, opset: int):
        self.opset = opset
        self.nodes: list[Node] = []
        self.initializers: dict[str, Any] = {}
        self.parameters: set[str] = set()  # names of the initializers that are the model's
        self.sizes = Sizes()
        self.step: Step | None = None
        self._names: set[str] = set()
        self._outputs: dict[str, str] = {}  # what an output was called before -> its name
        self._constants: dict[Any, str] = {}
        self._sizes: dict[Any, str] = {}

    # ---- names, nodes, constants

    @property
    def names(self) -> set[str]:
        """All names that are taken."""
        return self._names

    def reserve(self, names: Iterable[str]) -> None:
        """Keeps names for inputs and weights."""
        self._names.update(filter(None, names))

    def name(self, wish: str) -> str:
        """A name that nothing has yet."""
        found, count = wish, 0
        while found in self._names:
            count += 1
            found = f"{wish}_{count}"
        self._names.add(found)
        return found

    def node(self, kind: str, *inputs: Any, outputs: int = 1, wish: str = "", **attributes: Any) -> Any:
        """Adds a node; gives the name of its output, or a tuple of names. inputs: Items, names, "" for none."""
        read = [i.name if isinstance(i, Item) else "" if i is None else i for i in inputs]
        while read and not read[-1]:
            read.pop()
        path = "" if self.step is None else self.step.module.partition("(")[0].strip()
        base = wish or f"{path}/{kind}".strip("/")
        outs = [self.name(base if outputs == 1 else f"{base}.{i}") for i in range(outputs)]
        self.nodes.append(Node(kind, read, outs, attributes, outs[0]))
        return outs[0] if outputs == 1 else tuple(outs)

    def output(self, item: Item, wish: str) -> str:
        """The item under the name of an output: what a node gives is renamed, an input or weight passed on."""
        name = self._outputs.get(item.name, item.name)
        if name in self._outputs.values() or not any(name in node.outputs for node in self.nodes):
            made = self.node("Identity", name, wish=wish)
            self._outputs[made] = made
            return made
        made = self._outputs[name] = self.name(wish)
        for node in self.nodes:
            node.inputs = [made if i == name else i for i in node.inputs]
            node.outputs = [made if o == name else o for o in node.outputs]
        return made

    def constant(self, value: Any, dtype: Any = None) -> str:
        """An initializer of that value; the same one for the same small value."""
        array = np.asarray(value, dtype)
        key = (array.tobytes(), array.dtype.str, array.shape) if array.size <= 64 else None
        if key is not None and key in self._constants:
            return self._constants[key]
        name = self.name("constant")
        self.initializers[name] = array
        if key is not None:
            self._constants[key] = name
        return name

    def ints(self, *values: Any) -> str:
        """A constant 1-D int64 tensor."""
        return self.constant(np.array(values, np.int64))

    def scalar(self, value: Any, like: Any) -> str:
        """A constant number of the dtype of an Item, or of a NumPy dtype."""
        return self.constant(np.array(value, like.dtype if isinstance(like, Item) else like))

    def cast(self, x: Any, dtype: Any, have: Any = None) -> Any:
        """x in another dtype; x itself where it has that one. `have`: the dtype, where x is a name."""
        own = x.dtype if isinstance(x, Item) else have
        if own is not None and np.dtype(own) == np.dtype(dtype):
            return x.name if isinstance(x, Item) else x
        to = type_of(dtype)
        if to is None:
            raise self.refused(f"the dtype {np.dtype(dtype).name} has no form in ONNX")
        return self.node("Cast", x, to=to)

    def refused(self, reason: str) -> UnsupportedOperatorError:
        """The error about the step that is being written."""
        return UnsupportedOperatorError("export" if self.step is None else self.step.op, reason, self.step)

    # ---- sizes

    def size(self, size: Size) -> str:
        """A 1-D int64 tensor with that one size."""
        if not isinstance(size, Dim):
            return self.ints(size)
        expression = self.sizes.expression(size)
        if expression is None:
            raise UnknownSizeError(
                "size" if self.step is None else self.step.op,
                f"a size that was {', '.join(map(str, size))} for different sizes of the dynamic axes is no dimension "
                "of a tensor at hand, nor a multiple, quotient, sum or product of such",
                self.step,
                "Compute it from x.shape by + - * //, or leave that axis out of dynamic_axes.",
            )
        return self._compute(expression)

    def _compute(self, expression: Expression) -> str:
        if expression in self._sizes:
            return self._sizes[expression]
        kind = expression[0]
        if kind == "const":
            return self.ints(expression[1])
        if kind == "dim":
            _, name, axis = expression
            made = self.node("Shape", name, start=axis, end=axis + 1, wish="size")
        else:
            made = self.node(kind, self._compute(expression[1]), self._compute(expression[2]), wish="size")
        self._sizes[expression] = made
        return made

    def number(self, size: Size) -> str:
        """A 0-d int64 tensor of that size."""
        if not isinstance(size, Dim):
            return self.constant(np.array(size, np.int64))
        return self.node("Squeeze", self.size(size), self.ints(0))

    def vector(self, sizes: Iterable[Size]) -> str:
        """A 1-D int64 tensor of those sizes."""
        sizes = list(sizes)
        if not any(isinstance(s, Dim) for s in sizes):
            return self.ints(*sizes)
        parts: list[Any] = []
        for size in sizes:
            if not isinstance(size, Dim) and parts and isinstance(parts[-1], list):
                parts[-1].append(size)
            else:
                parts.append(size if isinstance(size, Dim) else [size])
        names = [self.ints(*p) if isinstance(p, list) else self.size(p) for p in parts]
        return names[0] if len(names) == 1 else self.node("Concat", *names, axis=0)

    def bound(self, size: Size, extent: Size) -> Size | None:
        """A place along a dimension as ONNX takes it: a number (negative from the end), or None where it must be
        computed."""
        if not isinstance(size, Dim):
            return size
        if isinstance(extent, Dim):
            behind = joined([n - m for n, m in zip(size, extent, strict=True)])
            if not isinstance(behind, Dim):
                return behind if behind else FAR
        return None

    # ---- shapes

    def reshape(self, x: Any, shape: Iterable[Size], have: tuple[Size, ...] | None = None) -> str:
        """x in another shape. `have`: x's own, where it is a name."""
        own = x.shape if isinstance(x, Item) else have or ()
        wanted = list(shape)
        if any(s == 0 and not isinstance(s, Dim) for s in wanted):
            return self.node("Reshape", x, self.vector(wanted), allowzero=1)
        for i, size in enumerate(wanted):  # 0 stands for the dimension that x has there
            if isinstance(size, Dim) and i < len(own) and same(size, own[i]):
                wanted[i] = 0
        left = [i for i, s in enumerate(wanted) if isinstance(s, Dim)]
        if len(left) == 1:
            wanted[left[0]] = -1
        return self.node("Reshape", x, self.vector(wanted))

    def expand(self, x: Any, shape: Iterable[Size], have: tuple[Size, ...] | None = None) -> Any:
        """x broadcast to a shape."""
        own = x.shape if isinstance(x, Item) else have
        wanted = list(shape)
        if own is not None:
            lead = len(wanted) - len(own)
            if lead == 0 and all(same(a, b) for a, b in zip(wanted, own, strict=True)):
                return x
            wanted = [1 if i >= lead and same(s, own[i - lead]) else s for i, s in enumerate(wanted)]
        return self.node("Expand", x, self.vector(wanted))

    def transpose(self, x: Any, order: Iterable[int]) -> Any:
        """x with its dimensions in that order."""
        order = list(order)
        return x if order == sorted(order) else self.node("Transpose", x, perm=order)

    def unsqueeze(self, x: Any, *axes: int) -> str:
        """x with dimensions of size 1 at those places of the result."""
        return self.node("Unsqueeze", x, self.ints(*axes))

    def squeeze(self, x: Any, *axes: int) -> str:
        """x without those dimensions."""
        return self.node("Squeeze", x, self.ints(*axes))

    def range(self, size: Size) -> str:
        """0, 1, ... as a 1-D int64 tensor."""
        if not isinstance(size, Dim):
            return self.constant(np.arange(size, dtype=np.int64))
        return self.node("Range", self.scalar(0, np.int64), self.number(size), self.scalar(1, np.int64))

    def slice(self, x: Any, axis: int, start: int, stop: int, step: int = 1) -> str:
        """A part of x along one axis; numbers as ONNX takes them."""
        return self.node("Slice", x, self.ints(start), self.ints(stop), self.ints(axis), self.ints(step))

    def filled(self, value: Any, dtype: Any, shape: Iterable[Size]) -> str:
        """A tensor with one number everywhere."""
        wanted = list(shape)
        number = self.constant(np.array(value, dtype))
        return self.node("Expand", number, self.vector(wanted)) if wanted else number

    def reduce(self, kind: str, x: Any, axes: Iterable[int] | None, keepdims: bool) -> str:
        """A reduction over axes, all where None."""
        over = None if axes is None else list(axes)
        if over == []:
            return self.node(kind, x, None, keepdims=int(keepdims), noop_with_empty_axes=1)
        return self.node(kind, x, None if over is None else self.ints(*over), keepdims=int(keepdims))
