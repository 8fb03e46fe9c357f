"""User-written ops: `autograd.Function`, with PyTorch's contract.

One call of a Function is one node. Its rule is the class's `backward`, on tensors: under no_grad in an ordinary walk,
recorded with create_graph=True, so a Function whose backward is made of differentiable ops has every order.
"""

from __future__ import annotations

import functools
import inspect
import warnings
import weakref
from typing import Any, NamedTuple

from .codegen import raise_freed
from .graph import FunctionNode, Node, Refusal, counter, output_node
from .inplace import rebase
from .modes import mode, no_grad
from .op import GRAPH, raw_by_type
from .tensor import Tensor, tensor_of_edge, wrap
from .versions import UNTRACKED, mark_written
from .views import CustomView, register


class FunctionCtx:
    """What `forward` and `backward` share: saved tensors, flags, and whatever attributes the user sets."""

    def __init__(self) -> None:
        self.needs_input_grad: tuple[bool, ...] = ()
        self._to_save: tuple[Any, ...] = ()
        self._dirty: tuple[Any, ...] = ()
        self._non_differentiable: tuple[Any, ...] = ()
        self._materialize = True
        self._node: Any = None  # a weak reference to the node, which holds this object

    def save_for_backward(self, *tensors: Any) -> None:
        """Keeps inputs, outputs or other tensors for backward, where `saved_tensors` gives them."""
        for i, t in enumerate(tensors):
            if t is not None and not isinstance(t, Tensor):
                raise TypeError(
                    f"save_for_backward can only save variables, but argument {i} is of type {type(t).__name__}"
                )
        self._to_save = tensors

    save_for_forward = save_for_backward

    def mark_dirty(self, *args: Tensor) -> None:
        """Says which inputs `forward` wrote into; they must be returned."""
        for i, t in enumerate(args):
            if not isinstance(t, Tensor):
                raise RuntimeError(
                    f"mark_dirty can only accept variables, but argument {i} is of type {type(t).__name__}"
                )
        self._dirty = args

    def mark_non_differentiable(self, *args: Tensor) -> None:
        """Says which outputs carry no gradient."""
        self._non_differentiable = args

    def set_materialize_grads(self, value: bool) -> None:
        """Whether `backward` gets zeros (True) or None for outputs that were not used."""
        self._materialize = value

    @property
    def saved_tensors(self) -> tuple[Any, ...]:
        """The tensors given to `save_for_backward`."""
        node = None if self._node is None else self._node()
        return self._to_save if node is None else node.op.saved_tensors(node)

    @property
    def saved_variables(self) -> tuple[Any, ...]:
        """The old name of `saved_tensors`."""
        return self.saved_tensors


class _Meta(NamedTuple):
    """What a gradient must look like: shape, NumPy dtype and array type of an input or output."""

    shape: tuple[int, ...]
    dtype: Any
    kind: type


def _meta(t: Any) -> _Meta | None:
    return _Meta(t.array.shape, t.array.dtype, type(t.array)) if isinstance(t, Tensor) else None


class _FunctionOp:
    """The op of one Function call: its node's rules are `cls.backward(ctx, ...)`.

    node.saved: ((...),) of the saved tensors: an input is kept as the Tensor it is; of any other tensor the array is
    kept, and `ties` says what it hangs on: the number of the output that it is (an int), an edge, or None.
    """

    view = False
    array_slots = (0,)
    requests = ("saved_tensors",)
    saves_arrays = True

    def __init__(self, cls: Any, ctx: FunctionCtx, args: tuple[Any, ...], results: list[Any]):
        self.cls, self.ctx, self.argument_count = cls, ctx, len(args)
        self.grad_name = cls.__name__ + "Backward"
        self.places = tuple(i for i, a in enumerate(args) if isinstance(a, Tensor))
        self.inputs = [_meta(args[i]) for i in self.places]
        self.outputs = [_meta(r) for r in results]
        self.ties: list[Any] = []

    def saved_arrays(self, node: Node) -> list[tuple[str, Any]]:
        """(name, array) of each saved tensor."""
        values = enumerate(node.saved[0])
        return [(f"saved_tensors[{i}]", getattr(v, "array", v)) for i, v in values if v is not None]

    def saved_value(self, node: Node, name: str) -> Any:
        """A Function has no `_saved_NAME`."""
        raise AttributeError(f"'{self.grad_name}' object has no attribute '_saved_{name}'; see saved_tensors")

    def attribute(self, node: Node, name: str) -> Any:
        """What `grad_fn.NAME` shows: the context's attributes."""
        return getattr(self.ctx, name)

    def saved_tensors(self, node: Node) -> tuple[Any, ...]:
        """The saved tensors with their history. RuntimeError once they are freed."""
        if node.saved is None:
            raise_freed(node)
        return tuple(self._tied(node, v, tie) for v, tie in zip(node.saved[0], self.ties, strict=True))

    def _tied(self, node: Node, value: Any, tie: Any) -> Any:
        if value is None or isinstance(value, Tensor):
            return value
        if isinstance(tie, int):
            tie = output_node(node, len(self.outputs), tie) if len(self.outputs) > 1 else node
        return tensor_of_edge(value, tie)

    def vjp(self, node: Node, g: Any, F: Any, grads: dict[Any, Any]) -> None:
        given = [None if v is None else wrap(raw_by_type[v.__class__].backend.tidy(v)) for v in _listed(g)]
        with no_grad():
            results = self._call(node, given)
        for edge, r in zip(node.edges, results, strict=True):
            if edge in grads and r is not None:
                held = grads[edge]
                grads[edge] = r.array if held is None else held + r.array

    def vjp_graph(self, node: Node, g: Any, F: Any, grads: dict[Any, Any]) -> None:
        for edge, r in zip(node.edges, self._call(node, _listed(g)), strict=True):
            if edge in grads and r is not None:
                held = grads[edge]
                grads[edge] = r if held is None else GRAPH.add(held, r)

    def _call(self, node: Node, given: list[Any]) -> list[Any]:
        """backward(ctx, *gradients), its answers checked, one per edge."""
        if self.ctx._materialize:
            given = [_zeros(meta) if v is None and meta else v for v, meta in zip(given, self.outputs, strict=True)]
        answer = _rule(self.cls)(self.ctx, *given)
        answer = answer if isinstance(answer, tuple) else (answer,)
        count = self.argument_count
        if len(answer) > count and all(a is None for a in answer[count:]):
            answer = answer[:count]
        if len(answer) != count:
            raise RuntimeError(
                f"function {self.grad_name} returned an incorrect number of gradients "
                f"(expected {count}, got {len(answer)})"
            )
        for i, a in enumerate(answer):
            if a is not None and i not in self.places:
                raise RuntimeError(
                    f"function {self.grad_name} returned a gradient different from None at position {i + 1}, but the "
                    "corresponding forward input was not a Variable"
                )
            if a is not None and not isinstance(a, Tensor):
                raise RuntimeError(
                    f"expected Variable or None (got {type(a).__name__}) as gradient {i} of {self.grad_name}"
                )
        return [
            None if edge is None or answer[place] is None else self._fitted(answer[place], meta, i)
            for i, (place, edge, meta) in enumerate(zip(self.places, node.edges, self.inputs, strict=True))
        ]

    def _fitted(self, r: Tensor, meta: Any, i: int) -> Tensor:
        """The gradient of input `i` summed to its shape and converted to its dtype. RuntimeError where it cannot be."""
        wrong = f"Function {self.grad_name} returned an invalid gradient at index {i} - "
        if r.array.shape != meta.shape:
            if not _expands(meta.shape, r.array.shape):
                raise RuntimeError(f"{wrong}got {list(r.shape)} but expected shape compatible with {list(meta.shape)}")
            r = GRAPH.sum_to(r, shape=meta.shape)
        if r.array.dtype.kind == "c" and meta.dtype.kind != "c":
            raise RuntimeError(
                "Expected isFloatingType(grad.scalar_type()) || (input_is_complex == grad_is_complex) to be true, but "
                f"got false.  ({wrong}a complex gradient for a real input)"
            )
        if type(r.array) is not meta.kind and r.device != (expected := _zeros(meta).device):
            if r.array.ndim:
                raise RuntimeError(f"{wrong}expected device {expected} but got {r.device}")
            r = GRAPH.transfer(r, device=expected)
        return GRAPH.cast(r, dtype=meta.dtype) if r.array.dtype != meta.dtype else r


def _listed(g: Any) -> list[Any]:
    return g if type(g) is list else [g]


def _zeros(meta: _Meta) -> Tensor:
    raw = raw_by_type[meta.kind]
    return wrap(raw.backend.tidy(raw.xp.zeros(meta.shape, meta.dtype)))


def _expands(shape: tuple[int, ...], larger: tuple[int, ...]) -> bool:
    """Whether `shape` broadcasts to `larger`."""
    pairs = zip(reversed(shape), reversed(larger), strict=False)
    return len(shape) <= len(larger) and all(a == b or a == 1 for a, b in pairs)


def _rule(cls: Any) -> Any:
    """The class's `backward`, or `vjp` as it may also be named."""
    vjp = getattr(cls, "vjp", None)
    if vjp is None:
        return cls.backward
    if cls.backward is not Function.backward:
        raise RuntimeError(
            "Implementing both 'backward' and 'vjp' for a custom Function is not allowed. You should only implement "
            f"one of them. (Function {cls.__name__})"
        )
    return vjp


def once_differentiable(fn: Any) -> Any:
    """For a `backward` that is not made of differentiable ops: differentiating it again raises RuntimeError."""

    @functools.wraps(fn)
    def once(ctx: Any, *args: Any, **kwargs: Any) -> Any:
        recording_on = mode.grad is not False
        with no_grad():
            answer = fn(ctx, *args, **kwargs)
        edges = tuple(g._node or g for g in args if isinstance(g, Tensor) and g._rg)
        if not recording_on or not edges:
            return answer
        single = not isinstance(answer, tuple)
        results = []
        for r in (answer,) if single else answer:
            if isinstance(r, Tensor) and r.array.dtype.kind in "fcV":
                node = Node()
                node.op, node.saved, node.seq, node.edges = _TWICE, (), counter(), edges
                r = tensor_of_edge(r.array, node)
            results.append(r)
        return results[0] if single else tuple(results)

    return once


_TWICE = Refusal("trying to differentiate twice a function that was marked with @once_differentiable")


class Function:
    """Base class of user-written ops.

    >>> import tapegrad as torch
    >>> class Cube(torch.autograd.Function):
    ...     @staticmethod
    ...     def forward(ctx, x):
    ...         ctx.save_for_backward(x)
    ...         return x**3
    ...     @staticmethod
    ...     def backward(ctx, g):
    ...         (x,) = ctx.saved_tensors
    ...         return g * 3 * x**2
    >>> x = torch.tensor(2.0, requires_grad=True)
    >>> Cube.apply(x).backward()
    >>> x.grad
    tensor(12.)
    """

    generate_vmap_rule = False

    def __init__(self, *args: Any, **kwargs: Any):
        warnings.warn(
            f"{type(self)} should not be instantiated. Methods on autograd functions are all static, so you should "
            "invoke them on the class itself. Instantiating an autograd function will raise an error in a future "
            "version of PyTorch.",
            DeprecationWarning,
            stacklevel=2,
        )

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        raise RuntimeError(
            "Legacy autograd function with non-static forward method is deprecated. Please use new-style autograd "
            "function with static forward method. "
            "(Example: https://pytorch.org/docs/stable/autograd.html#torch.autograd.Function)"
        )

    @staticmethod
    def forward(*args: Any, **kwargs: Any) -> Any:
        """Computes the outputs: forward(ctx, *args), or forward(*args) beside a setup_context(ctx, inputs, output)."""
        raise NotImplementedError("You must implement the forward function for custom autograd.Function.")

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Any) -> Any:
        """Gives one gradient (or None) per argument of forward, from one gradient per output."""
        raise NotImplementedError(
            "You must implement either the backward or vjp method for your custom autograd.Function to use it with "
            "backward mode AD."
        )

    @classmethod
    def apply(cls, *args: Any, **kwargs: Any) -> Any:
        """Runs `forward` and records one node when any tensor argument requires grad."""
        setup = getattr(cls, "setup_context", None)
        ctx = _context_class(cls)()
        if kwargs or setup is not None:
            args = _positional(cls.forward, args if setup is not None else (ctx, *args), kwargs)
            args = args if setup is not None else args[1:]
        ctx.needs_input_grad = tuple([isinstance(a, Tensor) and a._rg for a in args])
        with no_grad():
            if setup is not None:
                outputs = cls.forward(*args)
                setup(ctx, args, outputs)
            else:
                outputs = cls.forward(ctx, *args)
        single = not isinstance(outputs, tuple)
        results = [outputs] if single else list(outputs)
        _check_dirty(ctx, results)
        if mode.grad is not False and any(ctx.needs_input_grad):
            results = _record(cls, ctx, args, results)
        else:
            results = [_returned(r, args, ctx, cls.__name__) for r in results]
        return results[0] if single else tuple(results)


class InplaceFunction(Function):
    """PyTorch's older base class of Functions with an in-place form; a Function like any other."""

    def __init__(self, inplace: bool = False):
        super().__init__()
        self.inplace = inplace


def _positional(forward: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, ...]:
    """The arguments of a call in forward's order, with its defaults. TypeError where they do not fit."""
    code = getattr(forward, "__code__", None)
    if not kwargs and code is not None and len(args) == code.co_argcount:
        return args
    bound = inspect.signature(forward).bind(*args, **kwargs)
    bound.apply_defaults()
    return bound.args


def _context_class(cls: Any) -> Any:
    """The class of `ctx`, named as the node is."""
    found = cls.__dict__.get("_ctx_class")
    if found is None:
        found = cls._ctx_class = type(cls.__name__ + "Backward", (FunctionCtx,), {"_forward_cls": cls})
    return found


def _is_in(t: Any, items: Any) -> bool:
    """Whether `t` itself is among the items (`in` would compare values)."""
    return any(t is item for item in items)


def _check_dirty(ctx: FunctionCtx, results: list[Any]) -> None:
    for t in ctx._dirty:
        if not _is_in(t, results):
            raise RuntimeError(
                "Some elements marked as dirty during the forward method were not returned as output. The inputs that "
                "are modified inplace must all be outputs of the Function."
            )
        if t._rg and t._node is None and mode.grad is not False:
            raise RuntimeError("a leaf Variable that requires grad has been used in an in-place operation.")
        mark_written(t)


def _returned(r: Any, args: tuple[Any, ...], ctx: FunctionCtx, name: str) -> Any:
    """An output as a tensor whose history may be set: what was an input, or has a history, is seen through a new one.

    An output that shares its memory with another tensor may not be written in place, for the Function's backward would
    not see the write: `CustomView` refuses it.
    """
    if not isinstance(r, Tensor) or _is_in(r, ctx._dirty):
        return r.detach() if isinstance(r, Tensor) and mode.grad is False and r._rg else r
    is_input, view = _is_in(r, args), getattr(r, "_view", None)
    t = r.detach() if is_input or r._rg or r._node is not None else r
    if view is not UNTRACKED and (is_input or view is not None):
        base = r if view is None else view.base
        t._view = CustomView(base, name)
        register(base, t)
    return t


def _record(cls: Any, ctx: FunctionCtx, args: tuple[Any, ...], results: list[Any]) -> list[Any]:
    """Makes the node of one call and ties the outputs to it."""
    op = _FunctionOp(cls, ctx, args, results)
    node = FunctionNode()
    node.op = op
    node.edges = tuple([(args[i]._node or args[i]) if args[i]._rg else None for i in op.places])
    op.ties = [_tie(t, args, results, ctx) for t in ctx._to_save]
    node.saved = (tuple([_kept(t, args, ctx) for t in ctx._to_save]),)
    ctx._to_save, ctx._node = (), weakref.ref(node)
    tensors = [_returned(r, args, ctx, cls.__name__) for r in results]
    node.seq = counter()
    for i, (r, t) in enumerate(zip(results, tensors, strict=True)):
        if not isinstance(t, Tensor):
            continue
        if t.array.dtype.kind not in "fcV" or _is_in(r, ctx._non_differentiable):
            t._rg, t._node = False, None
            continue
        edge = output_node(node, len(tensors), i) if len(tensors) > 1 else node
        if _is_in(r, ctx._dirty):
            rebase(t, edge)
        else:
            t._rg, t._node = True, edge
    if mode.grad is not True:
        mode.grad.recorded(node, tuple(t for t in tensors if isinstance(t, Tensor)))
    return tensors


def _kept(t: Any, args: tuple[Any, ...], ctx: FunctionCtx) -> Any:
    """What the node keeps of a saved tensor: an input itself; else the array, since an output would hold the node."""
    return t if t is None or (not ctx._dirty and _is_in(t, args)) else t.array


def _tie(t: Any, args: tuple[Any, ...], results: list[Any], ctx: FunctionCtx) -> Any:
    """How a saved array hangs in the graph: the number of the output it is, an input's edge, or None."""
    if t is None:
        return None
    for i, r in enumerate(results):
        if t is r and (_is_in(t, ctx._dirty) or not _is_in(t, args)):
            return None if t.array.dtype.kind not in "fcV" or _is_in(t, ctx._non_differentiable) else i
    return (t._node or t) if t._rg else None
