"""Why a tensor has no gradient: `why_no_grad(tensor)` names the op and the line where it was lost.

A tensor without history remembers nothing of how it came to be, since remembering would cost every program. So two
things can be asked: of any tensor, what its own marks tell; and of one that was made while `trace_gradients` was open,
the op, its inputs and the line.
"""

from __future__ import annotations

import linecache
import sys
import types
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ..autograd import api
from ..autograd.engine import collect, edge_of
from ..autograd.modes import mode
from ..autograd.op import OPS
from ..autograd.tensor import Tensor
from ..autograd.versions import UNTRACKED, _written, inside_library, storage_of
from ..autograd.views import view_of
from ..autograd.watch import Watch
from ..backends.registry import backend_of

__all__ = ["Reason", "trace_gradients", "why_no_grad"]


@dataclass
class Reason:
    """The answer: a word for the cause, the op and the source line where these are known, and the sentence (str())."""

    cause: str
    text: str
    op: str | None = None
    filename: str | None = None
    lineno: int | None = None

    def __str__(self) -> str:
        if self.filename is None:
            return self.text
        line = linecache.getline(self.filename, self.lineno or 0).strip()
        return f'{self.text}\n  at "{self.filename}", line {self.lineno}' + (f": {line}" if line else "")


# cause -> what is said of it; {op}: the op
_TEXTS = {
    "no_grad": "The gradient was lost in {op}: it ran while recording was off (no_grad, or set_grad_enabled(False)).",
    "inference_mode": "The gradient was lost in {op}: it ran inside inference_mode.",
    "not differentiable": "The gradient was lost in {op}: it has no gradient with respect to what requires one.",
    "integer result": "The gradient was lost in {op}: its result is of dtype {dtype}, which can have no gradient.",
    "detach": "The gradient was lost in detach(): it gives the same memory without history.",
    "data": "The gradient was lost in .data: it gives the same memory without history.",
    "numpy": "The gradient was lost in numpy(): what NumPy computes is not recorded.",
    "number": "The gradient was lost in {op}: a Python number has no history.",
    "copy": "The gradient was lost in torch.tensor(...): it copies values, not history. Use clone().",
    "constant": "Nothing was lost: no input of {op}, nor what they were made of, required a gradient.",
}


@dataclass
class _Event:
    """One call while a trace was open: what became of the gradient, where, and the calls that made its inputs."""

    cause: str  # a key of _TEXTS, or "recorded", "passed on" (no input of it required a gradient)
    op: str
    filename: str
    lineno: int
    inputs: tuple[_Event | None, ...] = ()
    dtype: str = ""
    internal: bool = False  # a detach() that the library itself made, on behalf of what follows

    def lost(self) -> _Event | None:
        """The call under this one, itself included, where a gradient was lost; the nearest one."""
        queue, seen = [self], {id(self)}
        for event in queue:
            if event.cause in _TEXTS:
                return event
            below = () if event.cause == "recorded" else event.inputs
            for e in below:
                if e is not None and id(e) not in seen:
                    seen.add(id(e))
                    queue.append(e)
        return None

    def reason(self, cause: str | None = None) -> Reason:
        cause = cause or self.cause
        text = _TEXTS[cause].format(op=self.op, dtype=self.dtype)
        return Reason(cause, text, self.op, self.filename, self.lineno)


def _line() -> tuple[str, int]:
    """The innermost line that is not the library's."""
    frame: Any = sys._getframe(1)
    while frame.f_back is not None and inside_library(frame):
        frame = frame.f_back
    return frame.f_code.co_filename, frame.f_lineno


def _inputs() -> list[Tensor] | None:
    """The tensors which the record function that is under way was called with; None in a rule of a backward pass."""
    frame: Any = sys._getframe(2)
    while frame is not None and not frame.f_code.co_filename.startswith("<tapegrad op "):  # as codegen names them
        frame = frame.f_back
    if frame is None or frame.f_code.co_name.startswith("vjp_"):
        return None
    found: list[Tensor] = []
    for value in frame.f_locals.values():
        found += [v for v in (value if isinstance(value, tuple) else (value,)) if isinstance(v, Tensor)]
    return found


class trace_gradients:
    """While it is open, notes for what this thread computes where gradients are lost, for `why_no_grad`.

    The answers stay known after the block, until another one is opened. Every op is slower inside; outside nothing is
    paid. Not seen: what NumPy or another library computes (the call that gave it the values is named instead, where the
    new tensor shares their memory or is made of the very number), and what happened before the block.

    >>> import tapegrad as torch
    >>> from tapegrad.utils.why_no_grad import trace_gradients, why_no_grad
    >>> w = torch.ones(2, requires_grad=True)
    >>> with trace_gradients():
    ...     loss = (w * 2).detach().exp().sum()
    >>> why_no_grad(loss).cause
    'detach'
    """

    def __init__(self) -> None:
        self._made: dict[int, tuple[Any, _Event]] = {}  # id of an array -> (weak reference to it, its event)
        self._left: dict[int, tuple[Any, _Event]] = {}  # the same for storages that left by detach, .data or numpy
        self._numbers: list[tuple[Any, _Event]] = []
        self._undo: list[Callable[[], None]] = []
        self._watch = Watch(self._seen)

    def __enter__(self) -> trace_gradients:
        global _trace
        self._watch.__enter__()
        for name, cause in _EXITS.items():
            self._swap(name, cause)
        self._swap_tensor()
        _trace = self
        return self

    def __exit__(self, *failed: object) -> None:
        for undo in reversed(self._undo):
            undo()
        self._undo.clear()
        self._watch.__exit__(*failed)
        self._numbers.clear()

    def _swap(self, name: str, cause: str) -> None:
        """Puts a noting function in the place of a method, or property, of Tensor."""
        original = Tensor.__dict__[name]
        call: Any = original.fget if isinstance(original, property) else original

        def noting(tensor: Any, *args: Any, **kwargs: Any) -> Any:
            found = call(tensor, *args, **kwargs)
            self._exit(cause, name, tensor, found)
            return found

        setattr(Tensor, name, property(noting, original.fset) if isinstance(original, property) else noting)
        self._undo.append(lambda: setattr(Tensor, name, original))

    def _swap_tensor(self) -> None:
        """The same for torch.tensor, in the place of the function that the public one wraps."""
        public: Any = api.FUNCTIONS["tensor"]
        cell = public.__closure__[public.__code__.co_freevars.index("function")]
        original = cell.cell_contents

        def noting(data: Any, **kwargs: Any) -> Any:
            made = original(data, **kwargs)
            event = self._source(data)
            if event is not None:
                self._note(made.array, event)
            return made

        cell.cell_contents = noting
        self._undo.append(lambda: setattr(cell, "cell_contents", original))

    def _source(self, data: Any) -> _Event | None:
        """Where the data of a new tensor come from, if that is known."""
        if isinstance(data, Tensor):
            return _Event("copy", "tensor", *_line()) if data._rg else self.event_of(data)
        for value, event in reversed(self._numbers):
            if value is data:
                return event
        if isinstance(data, (list, tuple)):
            return next((e for e in map(self._source, data) if e is not None), None)
        return self.event(data) if hasattr(data, "dtype") and hasattr(data, "base") else None

    def _exit(self, cause: str, op: str, tensor: Tensor, found: Any) -> None:
        if self._watch.is_elsewhere() or tensor.is_sparse:
            return
        event = self.event_of(tensor)
        if tensor._rg:
            event = _Event(cause, op, *_line(), internal=inside_library(sys._getframe(2)))
        if event is None:
            return
        if cause == "number":
            self._numbers.append((found, event))
        else:
            storage = storage_of(tensor.array)
            self._left[id(storage)] = weakref.ref(storage), event

    def event(self, array: Any) -> _Event | None:
        """The call that gave the array, or through which its memory left the graph; None if unknown."""
        found = self._made.get(id(array))
        if found is not None and found[0]() is array and found[1].cause != "recorded":
            return found[1]
        storage = storage_of(array)
        left = self._left.get(id(storage))
        if left is not None and left[0]() is storage:
            return left[1]
        return found[1] if found is not None and found[0]() is array else None

    def event_of(self, t: Tensor) -> _Event | None:
        """The same of a tensor: of a view that no op made (split), what is known of its base."""
        event, view = self.event(t.array), view_of(t)
        if event is None and view is not None and view is not UNTRACKED:
            return self.event(view.base.array)
        return event

    def _note(self, array: Any, event: _Event) -> None:
        self._made[id(array)] = weakref.ref(array), event

    def _seen(self, name: str, arrays: tuple[Any, ...], kw: dict[str, Any], out: Any) -> Any:
        inputs = _inputs()
        if not inputs:  # a rule of a backward pass, or a random number
            return None
        below = tuple(self.event_of(t) for t in inputs if not t._rg)
        tidy = backend_of(inputs[0].array).tidy  # NumPy's scalars would become arrays afterwards, which nobody knows
        results = tuple(tidy(o) if hasattr(o, "dtype") else o for o in (out if isinstance(out, tuple) else (out,)))
        for array in results:
            if hasattr(array, "dtype"):
                self._note(array, _Event(_cause(name, inputs, below, array), name, *_line(), below, str(array.dtype)))
        return results if isinstance(out, tuple) else results[0]


def _cause(name: str, inputs: list[Tensor], below: tuple[_Event | None, ...], out: Any) -> str:
    if not any(t._rg for t in inputs) and not any(event is not None and event.internal for event in below):
        return "passed on"
    if mode.grad is False:
        return "inference_mode" if mode.inference else "no_grad"
    if out.dtype.kind not in "fcV":
        return "integer result"
    if not any(t._rg for t in inputs):
        return "passed on"
    return "recorded" if OPS[name].differentiable else "not differentiable"


# Ways out of the graph: attribute of Tensor -> cause
_EXITS = {"detach": "detach", "data": "data", "numpy": "numpy", "item": "number", "tolist": "number"}
_trace: trace_gradients | None = None


def why_no_grad(tensor: Tensor, output: Tensor | None = None) -> Reason:
    """Where the gradient of `tensor` was lost, as far as can be told; print it.

    Args:
        tensor: one that has no history, or a leaf whose `.grad` is None.
        output: what backward was called on, for a leaf: whether it depends on it at all.

    What needs no recording is told of any tensor: integer dtypes, `.data`, views made under no_grad, inference tensors,
    unreached leaves, and the line of the last in-place write. The rest is known for tensors that were made while
    `trace_gradients` was open.

    >>> import tapegrad as torch
    >>> print(torch.utils.why_no_grad(torch.tensor([1, 2])))
    The tensor is of dtype torch.int64: only floating and complex tensors can have a gradient.
    """
    if tensor._rg:
        return _of_one_with_grad(tensor, output)
    event = None if _trace is None else _trace.event_of(tensor)
    lost = None if event is None else event.lost()
    if lost is not None:
        return lost.reason()
    if tensor.array.dtype.kind not in "fcV":
        return Reason(
            "integer",
            f"The tensor is of dtype {tensor.dtype}: only floating and complex tensors can have a gradient.",
        )
    if (found := _by_marks(tensor)) is not None:
        return found
    if event is not None and event.cause != "recorded":
        return event.reason("constant")
    return Reason(
        "unknown",
        "The tensor has no history and does not require grad. It was made by a constructor (then requires_grad_() is "
        "missing), or by detach(), under no_grad, from a number, an array or a copy; afterwards these look the same. "
        "Run the computation inside `with trace_gradients():` and ask again.",
    )


def _of_one_with_grad(tensor: Tensor, output: Tensor | None) -> Reason:
    if output is not None:
        if not output._rg:
            return why_no_grad(output)
        if edge_of(tensor) not in collect([edge_of(output)])[0]:
            return Reason("unreached", "The output does not depend on the tensor: no path of its history leads there.")
    if tensor._node is not None:
        name = tensor._node.name()
        return Reason(
            "not lost",
            f"Nothing was lost: the tensor has a history ({name}). Its .grad is filled only after retain_grad().",
        )
    if tensor.grad is None:
        return Reason(
            "not lost", "Nothing was lost: the tensor is a leaf that requires grad; no backward reached it yet."
        )
    return Reason("not lost", "Nothing was lost: the tensor is a leaf that requires grad, and has one.")


def _by_marks(tensor: Tensor) -> Reason | None:
    """What a tensor without history shows of its past."""
    if tensor.is_inference():
        return Reason("inference_mode", "The tensor was made inside inference_mode, which records nothing.")
    view = view_of(tensor)
    if view is UNTRACKED:
        return Reason("data", "The tensor is, or is a view of, the .data of another one: the same memory, no history.")
    if view is not None and view.base._rg:
        op = view.chain[-1][0] if view.chain else None
        return Reason("no_grad", f"The tensor is a view ({op}) of one that requires grad, made under no_grad.", op)
    written = _written.get(id(storage_of(tensor.array)))
    if written is not None and written.places:
        filename, lineno = written.line()
        return Reason(
            "written",
            "The tensor has no history; the last in-place write into its memory left none: it ran under no_grad, or "
            "what was written required no gradient.",
            None,
            filename,
            lineno,
        )
    return None


class _Callable(types.ModuleType):
    """The module is called as its function: `utils.why_no_grad(tensor)`."""

    def __call__(self, *args: Any, **kwargs: Any) -> Reason:
        return why_no_grad(*args, **kwargs)


sys.modules[__name__].__class__ = _Callable
