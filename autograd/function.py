"""User-written ops: `autograd.Function`, with PyTorch's contract.

One call of a Function is one node. Its rule is the class's `backward`, on tensors: under no_grad in an ordinary walk,
recorded with create_graph=True, so a Function whose backward is made of differentiable ops has every order.
"""

from __future__ import annotations

import functools
from typing import Any

from .codegen import raise_freed
from .graph import Node, counter, output_node
from .inplace import rebase
from .modes import mode, no_grad
from .op import GRAPH, raw_by_type
from .tensor import Tensor, tensor_of_edge, wrap
from .versions import mark_written


class FunctionCtx:
    """What `forward` and `backward` share: saved tensors, flags, and whatever attributes the user sets."""

    def __init__(self) -> None:
        self.needs_input_grad: tuple[bool, ...] = ()
        self._to_save: tuple[Any, ...] = ()
        self._dirty: tuple[Any, ...] = ()
        self._non_differentiable: tuple[Any, ...] = ()
        self._materialize = True
        self._node: Any = None

    def save_for_backward(self, *tensors: Any) -> None:
        """Keeps inputs, outputs or other tensors for backward, where `saved_tensors` gives them."""
        for t in tensors:
            if t is not None and not isinstance(t, Tensor):
                raise TypeError(
                    f"save_for_backward can only save variables, but argument {tensors.index(t)} is of type "
                    f"{type(t).__name__}"
                )
        self._to_save = tensors

    save_for_forward = save_for_backward

    def mark_dirty(self, *tensors: Tensor) -> None:
        """Says which inputs `forward` wrote into; they must be returned."""
        self._dirty = tensors

    def mark_non_differentiable(self, *tensors: Tensor) -> None:
        """Says which outputs carry no gradient."""
        self._non_differentiable = tensors

    def set_materialize_grads(self, value: bool) -> None:
        """Whether `backward` gets zeros (True) or None for outputs that were not used."""
        self._materialize = value

    @property
    def saved_tensors(self) -> tuple[Any, ...]:
        """The tensors given to `save_for_backward`."""
        return self._to_save if self._node is None else self._node()

    @property
    def saved_variables(self) -> tuple[Any, ...]:
        return self.saved_tensors


class _FunctionOp:
    """The op of one Function call: its node's rules are `cls.backward(ctx, ...)`.

    node.saved: (array or None, ...) of the saved tensors; how each is tied to the graph is in `ties`.
    """

    view = False
    array_slots = (0,)
    requests = ("saved_tensors",)

    def __init__(self, cls: Any, ctx: FunctionCtx, places: tuple[int, ...], argument_count: int):
        self.cls, self.ctx, self.places, self.argument_count = cls, ctx, places, argument_count
        self.grad_name = cls.__name__ + "Backward"
        self.ties: list[Any] = []
        self.outputs: list[tuple[Any, Any]] = []  # (shape, dtype) of each output
        self.saves_arrays = True

    def saved_arrays(self, node: Node) -> list[tuple[str, Any]]:
        return [(f"saved_tensors[{i}]", a) for i, a in enumerate(node.saved[0]) if a is not None]

    def saved_value(self, node: Node, name: str) -> Any:
        raise AttributeError(f"{self.grad_name} keeps saved_tensors only")

    def unpack(self, node: Node) -> tuple[Any, ...]:
        """`ctx.saved_tensors` while backward runs: tensors with their history."""
        if node.saved is None:
            raise_freed(node)
        found = []
        for array, tie in zip(node.saved[0], self.ties, strict=True):
            if array is None:
                found.append(None)
            elif isinstance(tie, int):  # an output of this very node
                edge = output_node(node, len(self.outputs), tie) if len(self.outputs) > 1 else node
                found.append(tensor_of_edge(array, edge))
            else:
                found.append(tensor_of_edge(array, tie))
        return tuple(found)

    def vjp(self, node: Node, g: Any, F: Any, grads: dict[Any, Any]) -> None:
        given = [None if v is None else wrap(raw_by_type[v.__class__].backend.tidy(v)) for v in self._list(g)]
        with no_grad():
            results = self._call(node, given, next(type(v.array) for v in given if v is not None))
        for edge, r in zip(node.edges, results, strict=True):
            if edge in grads and r is not None:
                held = grads[edge]
                grads[edge] = r.array if held is None else held + r.array

    def vjp_graph(self, node: Node, g: Any, F: Any, grads: dict[Any, Any]) -> None:
        given = self._list(g)
        results = self._call(node, given, next(type(v.array) for v in given if v is not None))
        for edge, r in zip(node.edges, results, strict=True):
            if edge in grads and r is not None:
                held = grads[edge]
                grads[edge] = r if held is None else GRAPH.add(held, r)

    def _list(self, g: Any) -> list[Any]:
        return g if type(g) is list else [g]

    def _call(self, node: Node, given: list[Any], array_type: type) -> list[Any]:
        """backward(ctx, *gradients), its answers checked, one per edge."""
        ctx = self.ctx
        if ctx._materialize:
            xp = raw_by_type[array_type].xp
            given = [
                wrap(raw_by_type[array_type].backend.tidy(xp.zeros(shape, dtype))) if v is None else v
                for v, (shape, dtype) in zip(given, self.outputs, strict=True)
            ]
        ctx._node = functools.partial(self.unpack, node)
        try:
            answer = self.cls.backward(ctx, *given)
        finally:
            ctx._node = None  # or node and ctx would hold each other
        answer = answer if isinstance(answer, tuple) else (answer,)
        if len(answer) > self.argument_count and all(a is None for a in answer[self.argument_count :]):
            answer = answer[: self.argument_count]
        if len(answer) != self.argument_count:
            raise RuntimeError(
                f"function {self.grad_name} returned an incorrect number of gradients "
                f"(expected {self.argument_count}, got {len(answer)})"
            )
        return [self._checked(answer[place], edge, i) for i, (place, edge) in enumerate(zip(self.places, node.edges, strict=True))]

    def _checked(self, r: Any, edge: Any, i: int) -> Any:
        if r is None or edge is None:
            return None
        if not isinstance(r, Tensor):
            raise TypeError(f"{self.grad_name}: expected a Tensor or None as gradient {i}, but got {type(r).__name__}")
        shape, dtype = self.input_metas[i]
        if r.array.shape != shape:
            if len(r.array.shape) >= len(shape):
                try:
                    r = GRAPH.sum_to(r, shape=shape) if _expands(shape, r.array.shape) else r
                except ValueError:
                    pass
            if r.array.shape != shape:
                raise RuntimeError(
                    f"Function {self.grad_name} returned an invalid gradient at index {i} - got {list(r.shape)} "
                    f"but expected shape compatible with {list(shape)}"
                )
        return GRAPH.cast(r, dtype=dtype) if r.array.dtype != dtype else r

    input_metas: list[tuple[Any, Any]]


def _expands(shape: tuple[int, ...], larger: tuple[int, ...]) -> bool:
    """Whether `shape` broadcasts to `larger`."""
    return all(a == b or a == 1 for a, b in zip(reversed(shape), reversed(larger), strict=False))


class _Once:
    """Raised-in-second-order marker: a node whose vjp_graph refuses."""

    grad_name = "Error"
    saves_arrays = False
    view = False

    @staticmethod
    def vjp(node: Node, g: Any, F: Any, grads: Any) -> None:
        raise RuntimeError("trying to differentiate twice a function that was marked with @once_differentiable")

    vjp_graph = vjp


def once_differentiable(backward: Any) -> Any:
    """For a `backward` that is not made of differentiable ops: differentiating it again raises RuntimeError."""

    @functools.wraps(backward)
    def once(ctx: Any, *gradients: Any) -> Any:
        recording_on = mode.grad is not False
        with no_grad():
            answer = backward(ctx, *gradients)
        if not recording_on:
            return answer
        single = not isinstance(answer, tuple)
        results = []
        for r in (answer,) if single else answer:
            if isinstance(r, Tensor) and r.array.dtype.kind in "fcV":
                node = Node()
                node.op, node.saved, node.seq = _Once, (), counter()
                node.edges = tuple(g._node or g for g in gradients if isinstance(g, Tensor) and g._rg)
                t = wrap(r.array)
                if node.edges:
                    t._node, t._rg = node, True
                r = t
            results.append(r)
        return results[0] if single else tuple(results)

    return once


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
        raise RuntimeError(
            f"{type(self).__name__} should not be instantiated. Methods on autograd functions are all static, "
            "so you should invoke them on the class itself. Instantiating an autograd function will raise an error "
            "in a future version of PyTorch."
        )

    @staticmethod
    def forward(*args: Any, **kwargs: Any) -> Any:
        raise NotImplementedError("You must implement the forward function for custom autograd.Function.")

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Any) -> Any:
        raise NotImplementedError(
            "You must implement either the backward or vjp method for your custom autograd.Function to use it with "
            "backward mode AD."
        )

    @classmethod
    def apply(cls, *args: Any, **kwargs: Any) -> Any:
        """Runs `forward` and records one node when any tensor argument requires grad."""
        if cls.backward is Function.backward and hasattr(cls, "vjp"):
            cls.backward = cls.vjp
        ctx = _context_class(cls)()
        wants = [isinstance(a, Tensor) and a._rg and mode.grad is not False for a in args]
        ctx.needs_input_grad = tuple(isinstance(a, Tensor) and a._rg for a in args)
        with no_grad():
            if hasattr(cls, "setup_context"):
                outputs = cls.forward(*args, **kwargs)
                cls.setup_context(ctx, args, outputs)
            else:
                outputs = cls.forward(ctx, *args, **kwargs)
        single = not isinstance(outputs, tuple)
        results = [outputs] if single else list(outputs)
        _mark_dirty(ctx, args, results)
        if any(wants):
            results = _record(cls, ctx, args, wants, results)
        else:
            results = [_fresh(r, args, ctx) for r in results]
        return results[0] if single else tuple(results)


def _context_class(cls: Any) -> Any:
    """The class of `ctx`: it carries the Function's static methods and attributes, as PyTorch's does."""
    found = cls.__dict__.get("_ctx_class")
    if found is None:
        found = cls._ctx_class = type(cls.__name__ + "Backward", (FunctionCtx,), {"_forward_cls": cls})
    return found


def _mark_dirty(ctx: FunctionCtx, args: tuple[Any, ...], results: list[Any]) -> None:
    for t in ctx._dirty:
        if not any(t is r for r in results):
            raise RuntimeError("Some elements marked as dirty during the forward method were not returned as output. "
                               "The inputs that are modified inplace must all be outputs of the Function.")
        if t._rg and t._node is None and mode.grad is not False:
            raise RuntimeError("a leaf Variable that requires grad is being used in an in-place operation.")
        mark_written(t)


def _fresh(r: Any, args: tuple[Any, ...], ctx: FunctionCtx) -> Any:
    """An output that is an input returned as it was becomes a tensor of its own."""
    if isinstance(r, Tensor) and any(r is a for a in args) and not any(r is d for d in ctx._dirty):
        return r.detach()
    return r


def _record(cls: Any, ctx: FunctionCtx, args: tuple[Any, ...], wants: list[bool], results: list[Any]) -> list[Any]:
    """Makes the node of one call and ties the outputs to it."""
    places = tuple(i for i, a in enumerate(args) if isinstance(a, Tensor))
    op = _FunctionOp(cls, ctx, places, len(args))
    node = Node()
    node.op = op
    node.edges = tuple((args[i]._node or args[i]) if wants[i] else None for i in places)
    op.input_metas = [(args[i].array.shape, args[i].array.dtype) for i in places]
    op.outputs = [(r.array.shape, r.array.dtype) if isinstance(r, Tensor) else ((), None) for r in results]
    op.ties = [_tie(t, args, results, ctx) for t in ctx._to_save]
    dirty = [any(r is d for d in ctx._dirty) for r in results]
    tensors = []
    for r, is_dirty in zip(results, dirty, strict=True):
        if not isinstance(r, Tensor) or is_dirty:
            tensors.append(r)
        else:
            tensors.append(_owned_output(r, args))
    node.saved = (tuple(None if t is None else t.array for t in ctx._to_save),)
    ctx._to_save = ()
    node.seq = counter()
    for i, (t, is_dirty) in enumerate(zip(tensors, dirty, strict=True)):
        if not isinstance(t, Tensor) or t.array.dtype.kind not in "fcV":
            continue
        if any(results[i] is n for n in ctx._non_differentiable):
            t._rg, t._node = False, None
            continue
        edge = output_node(node, len(tensors), i) if len(tensors) > 1 else node
        if is_dirty:
            rebase(t, edge)
        else:
            t._rg, t._node = True, edge
    if mode.grad is not True:
        mode.grad.recorded(node, tuple(t for t in tensors if isinstance(t, Tensor)))
    return tensors


def _owned_output(r: Tensor, args: tuple[Any, ...]) -> Tensor:
    """The output as a tensor whose history may be set: an input handed back is seen through a new tensor."""
    return r.detach() if any(r is a for a in args) or r._node is not None or r._rg else r


def _tie(t: Any, args: tuple[Any, ...], results: list[Any], ctx: FunctionCtx) -> Any:
    """How a saved tensor hangs in the graph: the number of the output it is, an input's edge, or None."""
    if t is None:
        return None
    for i, r in enumerate(results):
        if t is r and not any(t is a for a in args):
            return i
        if t is r and any(t is d for d in ctx._dirty):
            return i
    return (t._node or t) if t._rg else None

