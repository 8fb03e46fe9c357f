"""The recorded graph: one Node per recorded op call.

A node keeps the values which the op's rules ask for (raw arrays, shapes, keywords), never a Tensor of its output, so
there are no reference cycles: dropping the last tensor frees the graph at once.

    edges   one entry per differentiable input: a Node, a leaf Tensor, or None where no gradient is wanted
    seq     creation number; every edge points to a smaller one, so descending order is a topological order
"""

from __future__ import annotations

import functools
import importlib
import itertools
from collections.abc import Iterable
from typing import Any, NamedTuple

numbers = itertools.count(1)
counter = numbers.__next__

# In a walk's table of gradients (node or leaf -> gradient), the key of the set of entries that are sums made by the
# walk itself: nobody else holds them, so more can be added in place.
OWNED = "owned"


class Node:
    """One recorded call of an op, as `Tensor.grad_fn` shows it.

    No `__getattr__` here: a class that has one reads its slots several times slower, and a walk reads all of them.
    """

    __slots__ = ("op", "seq", "edges", "saved", "_metadata", "__weakref__")

    op: Any
    seq: int
    edges: tuple[Any, ...]
    saved: Any

    def name(self) -> str:
        """The name PyTorch gives to this kind of node, such as 'MulBackward0'."""
        return self.op.grad_name

    @property
    def next_functions(self) -> tuple[tuple[Any, int], ...]:
        """((node, output number), ...), one per differentiable input; (None, 0) where no gradient flows."""
        return tuple(_shown_edge(edge) for edge in self.edges)

    @property
    def _sequence_nr(self) -> int:
        return self.seq

    def register_hook(self, hook: Any) -> Any:
        """Calls `hook(grad_inputs, grad_outputs)` after this node's gradients are computed."""
        from .hooks import add_node_hook

        return add_node_hook(self, "post", hook)

    def register_prehook(self, hook: Any) -> Any:
        """Calls `hook(grad_outputs)` before this node's gradients are computed."""
        from .hooks import add_node_hook

        return add_node_hook(self, "pre", hook)

    def __call__(self, *gradients: Any) -> Any:
        """This node's rules on the given gradients of its outputs: a gradient per input."""
        from .hooks import call_node

        return call_node(self, gradients)

    @property
    def metadata(self) -> dict[Any, Any]:
        """A dictionary for the user's own notes."""
        try:
            return self._metadata
        except AttributeError:
            self._metadata: dict[Any, Any] = {}
            return self._metadata

    def __repr__(self) -> str:
        return f"<{self.name()} object at {id(self):#x}>"


def show_saved(names: Iterable[str]) -> None:
    """Makes `node._saved_NAME` readable; each op that is called adds the names of what its nodes keep."""
    for name in names:
        if not hasattr(Node, f"_saved_{name}"):
            setattr(Node, f"_saved_{name}", property(functools.partial(_saved_value, name)))


def _saved_value(name: str, node: Node) -> Any:
    return node.op.saved_value(node, name)


show_saved(("self", "other", "result"))


class FunctionNode(Node):
    """The node of a user's Function: what it does not know is the context's."""

    __slots__ = ()

    def __getattr__(self, attribute: str) -> Any:
        if attribute in Node.__slots__:
            raise AttributeError(attribute)
        if attribute.startswith("_saved_"):
            return self.op.saved_value(self, attribute[7:])
        return self.op.attribute(self, attribute)


def is_node(edge: Any) -> bool:
    """Whether an edge leads to a node: else it is a leaf, or None."""
    return edge.__class__ is Node or isinstance(edge, Node)


class _OutputOp:
    """Stands for one output of a node with several: hands its gradient to the node, at the output's place."""

    grad_name = "Output"
    saves_arrays = False

    @staticmethod
    def vjp(node: Node, g: Any, F: Any, grads: dict[Any, Any]) -> None:
        parent = node.edges[0]
        count, index = node.saved
        if parent in grads:
            held = grads[parent]
            if held is None:
                held = grads[parent] = [None] * count
            held[index] = g if held[index] is None else held[index] + g  # a rule that reads `out` has a second edge

    vjp_graph = vjp


OUTPUT = _OutputOp()


class Refusal:
    """The op of a node that must not be differentiated: its rule raises RuntimeError with the given text."""

    grad_name = "Error"
    saves_arrays = False
    view = False

    def __init__(self, text: str):
        self.text = text

    def vjp(self, node: Node, g: Any, F: Any, grads: dict[Any, Any]) -> None:
        raise RuntimeError(self.text)

    vjp_graph = vjp


def output_node(parent: Node, count: int, index: int) -> Node:
    """The node of output `index` of `parent`, which has `count` outputs."""
    node = Node()
    node.op = OUTPUT
    node.seq = counter()
    node.edges = (parent,)
    node.saved = (count, index)
    return node


def shown(node: Any) -> Any:
    """The node that the user sees for a tensor's edge: outputs of one call share their parent."""
    return node.edges[0] if node is not None and node.op.grad_name == "Output" else node


class AccumulateGrad:
    """What `next_functions` shows for a leaf: the place where `.grad` is added to."""

    __slots__ = ("variable",)
    next_functions = ()

    def __init__(self, variable: Any):
        self.variable = variable

    def name(self) -> str:
        return "torch::autograd::AccumulateGrad"

    def register_prehook(self, hook: Any) -> Any:
        """Calls `hook((grad,))` when the leaf's gradient of one backward is complete."""
        from .hooks import register_hook

        def before(g: Any) -> Any:
            result = hook((g,))
            return result if result is None else result[0]

        return register_hook(self.variable, before)

    def register_hook(self, hook: Any) -> Any:
        """Calls `hook((), (grad,))` after the gradient was added to `.grad` of the leaf."""
        from .hooks import register_post_accumulate_grad_hook

        return register_post_accumulate_grad_hook(self.variable, lambda leaf: hook((), (leaf.grad,)))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, AccumulateGrad) and other.variable is self.variable

    def __hash__(self) -> int:
        return hash((AccumulateGrad, id(self.variable)))

    def __repr__(self) -> str:
        return f"<AccumulateGrad object at {id(self):#x}>"


def _shown_edge(edge: Any) -> tuple[Any, int]:
    if edge is None:
        return (None, 0)
    if not is_node(edge):
        return (AccumulateGrad(edge), 0)
    if edge.op.grad_name == "Output":
        return (edge.edges[0], edge.saved[1])
    return (edge, 0)


class GradientEdge(NamedTuple):
    """A place in the graph: a node and the number of its output. `grad` and `backward` take it as input or output."""

    node: Any
    output_nr: int
    ownership_token: Any = None  # the graph's own edge, where `get_gradient_edge` knows it


def resolve_edge(edge: GradientEdge, as_output: bool) -> Any:
    """The node or leaf that a GradientEdge means."""
    if edge.ownership_token is not None:
        return edge.ownership_token
    if isinstance(edge.node, AccumulateGrad):
        return edge.node.variable
    count = output_count(edge.node)
    if count == 1:
        return edge.node
    if not count or not as_output:
        raise RuntimeError(
            f"a GradientEdge made by hand cannot name output {edge.output_nr} of {edge.node.name()}, which has "
            "several: take it from torch.autograd.graph.get_gradient_edge(tensor)"
        )
    return output_node(edge.node, count, edge.output_nr)


def output_count(node: Node) -> int:
    """How many outputs a node has; 0 where that depends on the call (split, unbind)."""
    outputs = node.op.outputs
    return 0 if outputs == ("parts",) else max(len(outputs), 1)


def stand_in(edge: Any, op: Any) -> Node:
    """A node which only leads to `edge`; `op` passes the gradient through."""
    node = Node()
    node.op, node.edges, node.saved, node.seq = op, (edge,), (), counter()
    return node


# torch.autograd.graph's public names, defined in modules which rest on this one
_ELSEWHERE = {
    "saved_tensors_hooks": "packing", "save_on_cpu": "packing", "disable_saved_tensors_hooks": "packing",
    "register_multi_grad_hook": "hooks", "get_gradient_edge": "hooks", "increment_version": "hooks",
}  # fmt: skip


def __getattr__(name: str) -> Any:
    if name in _ELSEWHERE:
        return getattr(importlib.import_module(f".{_ELSEWHERE[name]}", __package__), name)
    raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
