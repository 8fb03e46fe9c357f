"""In-place operations: compute, check, write, and put the graph right (see views.py for what that means).

Every in-place method is its out-of-place function followed by `assign`; no op has a second copy.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from ..backends.registry import backend_of
from .codegen import ENVIRONMENT, HOST
from .coerce import PLAIN, S32, S64
from .dtypes import F32, F64, can_cast, from_numpy_dtype
from .graph import Node, counter, is_node
from .modes import mode, shared
from .op import GRAPH, OPS
from .versions import UNTRACKED, mark_written
from .views import CustomView, living_views, replay, view_of


def inplace(function: Callable[..., Any], name: str) -> Callable[..., Any]:
    """The in-place method of an out-of-place function: its result is written into the first argument."""

    ufunc = _UFUNCS.get(name)

    @functools.wraps(function)
    def method(self: Any, *args: Any, **kwargs: Any) -> Any:
        check_writable(self, name)
        if ufunc is not None and not kwargs and len(args) == 1 and _write_directly(ufunc, self, args[0]):
            return self
        since = counter()
        if not shared["switched"] or mode.grad is True or mode.grad is False:
            return assign(self, function(self, *args, **kwargs), name, since)
        return assign(self, _on_a_copy(function, self, args, kwargs), name, since)

    method.__name__ = method.__qualname__ = name
    method.__doc__ = f"In-place version of `{name.rstrip('_')}`: the result is written into this tensor. (*S) -> (*S)."
    return method


_UFUNCS = {"add_": np.add, "sub_": np.subtract, "mul_": np.multiply, "div_": np.divide}


def _write_directly(ufunc: Any, t: Any, other: Any) -> bool:
    """t = ufunc(t, other) in its own memory, where both are of one usual dtype and nothing is recorded; else False."""
    if t.__class__ not in PLAIN:
        return False
    target = t.array
    dt = target.dtype
    if (dt is not F32 and dt is not F64) or target.__class__ is not HOST:
        return False
    if other.__class__ in PLAIN:
        if (t._rg or other._rg) and mode.grad is not False:
            return False
        source = other.array
        if source.__class__ is not HOST or source.dtype is not dt:
            return False
    elif (other.__class__ is float or other.__class__ is int) and not (t._rg and mode.grad is not False):
        source = (S32 if dt is F32 else S64)[other]
    else:
        return False
    if 0 in target.strides or target.ndim < source.ndim:
        return False
    try:
        ufunc(target, source, target)
    except ValueError:  # the shapes do not fit: nothing was written
        return False
    mark_written(t)
    return True


def _on_a_copy(function: Any, t: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """The function's result from a copy of `t`, where saved_tensors_hooks may keep the memory that will be written."""
    from .packing import active_hooks

    if active_hooks() is None:
        return function(t, *args, **kwargs)
    edge = (t._node or t) if t._rg else None
    source = ENVIRONMENT["tensor_of_edge"](t.array.copy(), edge)
    return function(source, *[source if a is t else a for a in args], **kwargs)


def check_writable(t: Any, name: str) -> None:
    """RuntimeError where PyTorch forbids writing into `t` in place."""
    view = view_of(t)
    if (view is not None or t._rg) and mode.grad is not False:
        if view is not None and view is not UNTRACKED:
            _check_view(t, view, name)
        if t._rg and t._node is None:
            raise RuntimeError(
                f"a leaf Variable that requires grad is being used in an in-place operation. (op {name})"
            )
    if "_inference" in t.__dict__ and t._inference and not mode.inference:
        raise RuntimeError(
            "Inplace update to inference tensor outside InferenceMode is not allowed. "
            f"You can make a clone to get a normal tensor before doing inplace update. (op {name})"
        )


def _check_view(t: Any, view: Any, name: str) -> None:
    if view.__class__ is CustomView:
        raise RuntimeError(view.refusal("is being") + f" (op {name})")
    base = view.base
    if base._node is None and t._rg:
        raise RuntimeError(
            f"a view of a leaf Variable that requires grad is being used in an in-place operation. (op {name})"
        )
    if view.made_without_grad:
        raise RuntimeError(
            "A view was created in no_grad mode and is being modified inplace with grad mode enabled. Given that this "
            "use case is ambiguous and error-prone, it is forbidden. You can clarify your code by moving both the view "
            "and the inplace either both inside the no_grad block (if you don't want the inplace to be tracked) or "
            f"both outside (if you want the inplace to be tracked). (op {name})"
        )
    if view.multiple and (t._rg or base._rg):
        word, number = view.multiple
        raise RuntimeError(
            f"Output {number} of {word} is a view and is being modified inplace. This view is the output of a "
            "function that returns multiple views. Such functions do not allow the output views to be modified "
            f"inplace. You should replace the inplace operation by an out-of-place one. (op {name})"
        )


def assign(t: Any, value: Any, name: str, since: int | None = None) -> Any:
    """Writes the tensor `value`, the result of ops on `t` since creation number `since`, into `t`. Gives `t`."""
    target, new = t.array, value.array
    if new.shape != target.shape:
        raise RuntimeError(
            f"output with shape {list(target.shape)} doesn't match the broadcast shape {list(new.shape)} (op {name})"
        )
    if new.dtype is not target.dtype and new.dtype != target.dtype:
        have, want = from_numpy_dtype(new.dtype), from_numpy_dtype(target.dtype)
        if not can_cast(have, want):
            raise RuntimeError(
                f"result type {have.legacy} can't be cast to the desired output type {want.legacy} (op {name})"
            )
        if name in ("abs_", "absolute_"):
            raise RuntimeError("In-place abs is not supported for complex tensors.")
        value = OPS["cast"].fn(value, dtype=target.dtype)
        new = value.array
    check_overlap(target, name)
    node = value._node if value._rg else None
    recorded = node is not None and mode.grad is not False
    made = _made_since(node, node.seq - 1 if since is None else since) if recorded and node else []
    if new is not target:
        for n in made:
            _protect_saved(n, target, new)
        target[...] = new
    mark_written(t)
    if recorded:
        for n in made:
            n.seq = counter()  # younger than the write, so that it does not look stale
        rebase(t, node)
    elif t._rg and mode.grad is not False:
        _forget(t)
    return t


def _made_since(node: Any, since: int) -> list[Any]:
    """The nodes under `node` that are younger than `since`, oldest first."""
    found, stack = {node}, [node]
    while stack:
        for edge in stack.pop().edges:
            if is_node(edge) and edge.seq > since and edge not in found:
                found.add(edge)
                stack.append(edge)
    return sorted(found, key=lambda n: n.seq)


def check_overlap(target: Any, name: str) -> None:
    """RuntimeError when several elements of the target lie on one memory place (an expanded tensor)."""
    strides = target.strides
    if 0 in strides and target.size and any(s == 0 and n > 1 for s, n in zip(strides, target.shape, strict=True)):
        raise RuntimeError(
            "unsupported operation: more than one element of the written-to tensor refers to a single memory "
            f"location. Please clone() the tensor before performing the operation. (op {name})"
        )


def _protect_saved(node: Node, target: Any, new: Any) -> None:
    """Before the write: the old value that a rule needs is copied, and a saved result becomes the written memory."""
    if type(node.saved) is not tuple:  # a subclass: packed, and safe since the op ran on a copy
        return
    backend = backend_of(target)
    array_type: Any = backend.array_type
    storage = backend.storage_of(target)
    kept: list[Any] = []
    for s in node.saved:
        if s is new:
            s = target
        elif type(s) is array_type and backend.storage_of(s) is storage:
            s = s.copy()
        kept.append(s)
    node.saved = tuple(kept)


def rebase(t: Any, node: Any) -> None:
    """Makes `node` the history of what `t` now holds, for `t`, its base and all their views."""
    view = getattr(t, "_view", None)
    if view is None or view is UNTRACKED:
        _set_history(t, node)
        base = t
    else:
        base = view.base
        made = Node()
        made.op = OPS["copy_slices"]
        if made.op.run is None:
            ENVIRONMENT["materialise"]("copy_slices")
        made.edges = ((base._node or base) if base._rg else None, node)
        made.saved = (view.chain,)
        made.seq = counter()
        _set_history(base, made)
    for v in living_views(base):
        _set_history(v, replay(base, v, ENVIRONMENT["tensor_of_edge"], GRAPH))


def _set_history(t: Any, node: Any) -> None:
    old, t._node, t._rg = t._node, node, True
    if getattr(t, "_retains", False):
        from .hooks import move_retained

        move_retained(t, old)


def _forget(t: Any) -> None:
    """A value without history was written over all of `t`: its old history no longer applies (zero_, copy_, fill_)."""
    node = OPS["cut"].fn(t)._node
    node.seq = counter()
    rebase(t, node)


def write_out(out: Any, name: str, result: Any) -> Any:
    """`out=`: RuntimeError where autograd is concerned or the dtype may not be written; resizes another shape."""
    if mode.grad is not False and (out._rg or result._rg):
        raise RuntimeError(
            f"{name}(): functions with out=... arguments don't support automatic differentiation, "
            "but one of the arguments requires grad."
        )
    have, want = result.dtype, out.dtype
    if not can_cast(have, want):
        raise RuntimeError(f"result type {have.legacy} can't be cast to the desired output type {want.legacy}")
    if out.array.shape != result.array.shape:
        out.array = result.array.astype(want.np)
    else:
        check_overlap(out.array, name)
        out.array[...] = result.array
    mark_written(out)
    return out
