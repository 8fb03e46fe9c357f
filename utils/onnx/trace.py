"""One forward pass, written down at the door that every op passes: which ops ran, on what, with which keywords.

Arrays are told apart by identity. What no op made is a constant: a parameter, a buffer, or what a function like
`arange` made. In-place writes are seen where they are made: a write through a view becomes, for the memory it belongs
to, a copy with some elements replaced, and other views of that memory are taken again when they are next read.

What leaves the ops (`.item()`, `bool(tensor)`, `.numpy()`) cannot be followed, and raises where it depends on an input.
"""

from __future__ import annotations

import contextlib
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...autograd.modes import no_grad
from ...autograd.op import OPS, raw_namespace
from ...autograd.tensor import Tensor
from ...autograd.trees import flatten
from ...autograd.versions import storage_of, version
from ...autograd.watch import Watch
from ...nn.modules.hooks import register_module_forward_hook, register_module_forward_pre_hook
from ...nn.modules.module import Module
from .errors import OnnxExporterError

INPUT, CONSTANT, MADE = "input", "constant", "made"


@dataclass
class Value:
    """One array of the trace."""

    kind: str
    array: Any  # held, so that its identity stays its own; of a constant that was written to later, a copy
    shape: tuple[int, ...]
    dtype: Any
    depends: bool  # on an input's values
    name: str = ""  # of an input, parameter or buffer
    where: str = ""  # of a constant: where it was first used


@dataclass
class Call:
    """One op that ran: numbers of values in and out (None: an optional input left out), keywords, and the place."""

    op: str
    inputs: tuple[int | None, ...]
    kw: dict[str, Any]
    outputs: tuple[int | None, ...]
    where: str
    module: str


@dataclass
class _Known:
    """What is known of an array: the number of its value, and how often its memory had been written then."""

    array: Any
    number: int
    writes: int


class _Door(Watch):
    """A watch that also looks before the call, which may write into its arrays."""

    def __init__(self, seen: Any, before: Callable[..., None]):
        super().__init__(seen)
        self._before = before

    def around(self, name: str, call: Any, /, *arrays: Any, **kw: Any) -> Any:
        self._before(name, arrays, kw)
        return super().around(name, call, *arrays, **kw)


COPIES = ("clone", "clone_kept")
# Which of these runs may depend on a size or the order of memory, and they are one step of the graph
SAME_STEP = {"reshape": "view", "select_view": "slice_view", "unsqueeze_view": "slice_view", "alias_view": "slice_view"}

# Ops whose `index` is made plain in a trace, since a slice means other numbers in another size.
BASIC = ("slice_view", "select_view", "unsqueeze_view", "alias_view")


def plain_index(index: tuple[Any, ...], shape: tuple[int, ...]) -> tuple[Any, ...]:
    """A basic index as ints, None and slices with three numbers, one for each dimension that is not left whole."""
    found: list[Any] = []
    at = 0
    place = next((i for i, item in enumerate(index) if item is Ellipsis), None)
    if place is not None:
        left = len(shape) - sum(item is not None and item is not Ellipsis for item in index)
        index = (*index[:place], *[slice(None)] * left, *index[place + 1 :])
    for item in index:
        if item is None:
            found.append(None)
            continue
        n = shape[at]
        at += 1
        found.append(slice(*item.indices(n)) if isinstance(item, slice) else item + n if item < 0 else item)
    return tuple(found)


def place_of(frame: Any) -> str:
    """'file:line' of the innermost frame that is neither the engine's nor nn's own code."""
    package = __name__.partition(".")[0]
    rooms = tuple(f"{package}.{room}" for room in ("autograd", "nn", "utils.onnx", "backends", "optim"))
    first = frame
    while frame is not None:
        name = frame.f_globals.get("__name__", "")
        if not name.startswith(rooms) and "<tapegrad op" not in frame.f_code.co_filename:
            return f"{frame.f_code.co_filename}:{frame.f_lineno}"
        frame = frame.f_back
    return f"{first.f_code.co_filename}:{first.f_lineno}"


class Trace:
    """The record of one run: `run`, inside of `swaps.swapped`."""

    def __init__(self, model: Any, names: dict[int, str]):
        self.model = model
        self.values: list[Value] = []
        self.calls: list[Call] = []
        self.outputs: list[int] = []
        self.out_spec: Any = None
        self._names = names  # id of a parameter's or buffer's array -> its name in the state_dict
        self._known: dict[int, _Known] = {}
        self._parents: dict[int, tuple[Any, str, dict[str, Any]]] = {}  # id of a view -> (what it views, op, keywords)
        self._writes: dict[int, int] = {}  # id of a root array -> writes seen
        self._counts: dict[int, int] = {}  # id of a storage -> its count of writes, as far as they were seen
        self._modules: list[Module] = []
        self._paths: dict[Module, str] = {}
        self._thread = threading.get_ident()
        self.lengths: Tensor | None = None  # of the sequences that a recurrent layer is running over (packed.py)

    # ---- running

    def run(self, inputs: list[tuple[str, Tensor]], call: Callable[[], Any]) -> Trace:
        """Runs `call` with everything seen; `inputs`: the names and tensors that are the graph's inputs."""
        if isinstance(self.model, Module):
            self._paths = {module: name for name, module in self.model.named_modules()}
        for name, tensor in inputs:
            number = self._new(INPUT, tensor.array, True, name)
            self._known[id(tensor.array)] = _Known(tensor.array, number, 0)
        handles = [
            register_module_forward_pre_hook(lambda module, args: self._entered(module)),
            register_module_forward_hook(lambda module, args, out: self._left(module), always_call=True),
        ]
        try:
            with no_grad(), _Door(self._seen, self._before):
                leaves, self.out_spec = flatten(_plain(call()))
                self.outputs = [self._output(leaf) for leaf in leaves if leaf is not None]
        finally:
            for handle in handles:
                handle.remove()
        if not self.outputs:
            raise OnnxExporterError("the model returned no tensor, so there is nothing to export")
        return self

    def _entered(self, module: Module) -> None:
        if not self.is_elsewhere():
            self._modules.append(module)

    def _left(self, module: Module) -> None:
        while not self.is_elsewhere() and self._modules and self._modules.pop() is not module:
            pass

    def _output(self, leaf: Any) -> int:
        if not isinstance(leaf, Tensor):
            raise OnnxExporterError(
                f"the model returned a {type(leaf).__name__} ({leaf!r}): only tensors, in tuples, lists and dicts, can "
                "be outputs of an ONNX graph. Return tensors only, or wrap the model in a function that does"
            )
        return self.number_of(leaf.array)

    @property
    def module(self) -> str:
        """The path of the innermost module under way, with its class."""
        if not self._modules:
            return ""
        module = self._modules[-1]
        return f"{self._paths.get(module, '')} ({type(module).__name__})".strip()

    def is_elsewhere(self) -> bool:
        """Whether this is another thread than the traced one."""
        return threading.get_ident() != self._thread

    # ---- values

    def _new(self, kind: str, array: Any, depends: bool, name: str = "", where: str = "") -> int:
        self.values.append(Value(kind, array, tuple(array.shape), array.dtype, depends, name, where))
        return len(self.values) - 1

    def number_of(self, array: Any) -> int:
        """The number of the value that an array holds now; one that no op made is a constant."""
        known = self._known.get(id(array))
        if known is None and not array.ndim and not array.flags.writeable:  # a Python number: shared by all equal ones
            return self._new(CONSTANT, array, False, "", place_of(sys._getframe(2)))
        root = self._root(array)
        writes = self._writes.get(id(root), 0)
        if known is None:
            name = self._names.get(id(array), "")
            where = place_of(sys._getframe(2))
            self._check_unseen(array, where)
            known = self._known[id(array)] = _Known(array, self._new(CONSTANT, array, False, name, where), writes)
            self._counts.setdefault(id(storage_of(array)), version(array))
            return known.number
        count = version(array)
        if count != self._counts.setdefault(id(storage_of(array)), count):
            raise OnnxExporterError(
                f"a tensor was written to in place in a way that cannot be followed (used at "
                f"{place_of(sys._getframe(2))}, in module {self.module or 'the model'}). Write it with "
                "x[...] = value or an in-place method of an op, or compute a new tensor"
            )
        if known.writes != writes:  # a view of memory that was written since
            known.number, known.writes = self._viewed_again(array), writes
        return known.number

    def _check_unseen(self, array: Any, where: str) -> None:
        """Memory of a value that depends on an input, in a form that no op gave."""
        base = getattr(array, "base", None)
        while base is not None:
            known = self._known.get(id(base))
            if known is not None and self.values[known.number].depends:
                raise OnnxExporterError(
                    f"a tensor shares memory with one that depends on an input, but no op made it (used at {where}): "
                    "arrays taken out by .numpy() or .array cannot be followed. Use tensor operations instead"
                )
            base = getattr(base, "base", None)

    def _root(self, array: Any) -> Any:
        while id(array) in self._parents:
            array = self._parents[id(array)][0]
        return array

    def _chain(self, array: Any) -> list[Any]:
        """The views from the root's first one to this array."""
        chain = []
        while id(array) in self._parents:
            chain.append(array)
            array = self._parents[id(array)][0]
        return chain[::-1]

    def _viewed_again(self, array: Any) -> int:
        number = self._known[id(self._root(array))].number
        for view in self._chain(array):
            _, op, kw = self._parents[id(view)]
            number = self._call(op, (number,), kw, (view,))[0]
        return number

    def depends(self, array: Any) -> bool:
        """Whether the array is known to depend on an input."""
        known = self._known.get(id(array))
        return known is not None and self.values[known.number].depends

    # ---- ops

    def _call(self, op: str, inputs: tuple[int | None, ...], kw: dict[str, Any], outs: tuple[Any, ...]) -> list[Any]:
        depends = any(i is not None and self.values[i].depends for i in inputs)
        numbers = [None if o is None else self._new(MADE, o, depends) for o in outs]
        self.calls.append(Call(op, inputs, kw, tuple(numbers), place_of(sys._getframe(2)), self.module))
        return numbers

    def _input(self, item: Any, like: Any) -> int | None:
        if item is None:
            return None
        if not hasattr(item, "shape") or not hasattr(item, "dtype") or isinstance(item, np.generic):
            item = np.asarray(item, None if like is None else like.dtype)
        return self.number_of(item)

    def _before(self, name: str, arrays: tuple[Any, ...], kw: dict[str, Any]) -> None:
        if kw.get("inplace"):
            self._keep(arrays[0])

    def _keep(self, array: Any) -> None:
        """Before a write: what the memory holds now, if it is a constant, is kept as a copy."""
        root = self._root(array)
        value = self.values[self.number_of(root)]
        if value.kind != MADE:
            value.array = root.copy()

    def _seen(self, name: str, arrays: tuple[Any, ...], kw: dict[str, Any], out: Any) -> Any:
        op = OPS[name]
        like: Any = next((a for a in arrays if hasattr(a, "shape") and hasattr(a, "dtype")), None)
        backend = raw_namespace(type(like)).backend if like is not None else None
        outs = out if isinstance(out, tuple) else (out,)
        results = tuple([self._settled(op, o, like, backend) for o in outs])
        if like is not None and like.dtype.kind == "c":
            where = place_of(sys._getframe(2))
            raise OnnxExporterError(f"complex numbers have no form in ONNX (op '{name}' at {where})")
        inputs: tuple[Any, ...] = tuple([self._input(a, like) for a in arrays])
        own = dict(kw)
        if self.lengths is not None and name.endswith("_sequence"):
            inputs, own["with_lengths"] = (*inputs, self.number_of(self.lengths.array)), True
        if name in BASIC:
            own["index"] = plain_index(own["index"], like.shape)
        if own.pop("inplace", False):
            numbers = self._call(name, inputs, own, (np.empty_like(arrays[0]),))
            self.wrote(arrays[0], numbers[0])
            self._counts.pop(id(storage_of(arrays[0])), None)  # marked after this: counted at the next look
            return None
        if name in COPIES:  # whether one is made may depend on the order of memory, so it is no step of the graph
            self._known[id(results[0])] = _Known(results[0], inputs[0], 0)
            self._counts.setdefault(id(storage_of(results[0])), version(results[0]))
            return results[0]
        shown = tuple([o if hasattr(o, "shape") and hasattr(o, "dtype") else None for o in results])
        numbers = self._call(SAME_STEP.get(name, name), inputs, own, shown)
        fresh: set[int] = set()
        for array, number in zip(shown, numbers, strict=True):
            if array is None or id(array) in fresh:  # an auxiliary that is an output too
                continue
            fresh.add(id(array))
            if op.view and arrays[0] is not array and storage_of(array) is storage_of(like):
                self._parents[id(array)] = (arrays[0], name, own)
            root = self._root(array)
            self._known[id(array)] = _Known(array, number, self._writes.get(id(root), 0))
            self._counts.setdefault(id(storage_of(array)), version(array))
        return results if isinstance(out, tuple) else results[0]

    def _settled(self, op: Any, out: Any, like: Any, backend: Any) -> Any:
        """A result as it will be after the record function has seen to its type and order."""
        if not hasattr(out, "dtype"):
            return out
        if backend is not None and not op.moves:
            out = backend.tidy(out)
        return out.copy() if op.row_major and not out.flags.c_contiguous else out

    # ---- writes

    def wrote(self, target: Any, number: int) -> None:
        """`target` now holds the value of that number (of its shape)."""
        root = self._root(target)
        self.number_of(root)
        if root is not target:
            number = self._write_through(root, target, number)
        self._writes[id(root)] = self._writes.get(id(root), 0) + 1
        self._known[id(root)] = _Known(root, number, self._writes[id(root)])

    def _write_through(self, root: Any, target: Any, number: int) -> int:
        """The root's value with the elements that `target` shows replaced, which the same views of numbers name."""
        base = self._known[id(root)].number
        places = np.arange(root.size).reshape(root.shape)
        at = self._call("numbers_of", (base,), {}, (places,))[0]
        for view in self._chain(target):
            _, op, kw = self._parents[id(view)]
            places = np.empty(view.shape, "i8")
            at = self._call(op, (at,), kw, (places,))[0]
        return self._call("write_at", (base, at, number), {}, (np.empty_like(root),))[0]

    @contextlib.contextmanager
    def writing(self, target: Any, number: Callable[[], int]) -> Iterator[None]:
        """Around a write into the array `target`, of the value whose number the function gives."""
        self._keep(target)
        self.number_of(target)
        new = number()
        yield
        self._counts[id(storage_of(target))] = version(target)
        self.wrote(target, new)


def _plain(tree: Any) -> Any:
    """Outputs that are objects with fields (a model's named outputs) as dicts of what is there."""
    if hasattr(tree, "__dataclass_fields__") and not isinstance(tree, (dict, tuple)):
        return {k: _plain(v) for k, v in vars(tree).items() if v is not None}
    return tree
