"""The recorded graph: one Node per recorded op call.

A node keeps the values which the op's rules ask for (raw arrays, shapes, keywords), never a Tensor of its output, so
there are no reference cycles: dropping the last tensor frees the graph at once.

    edges   one entry per differentiable input: a Node, a leaf Tensor, or None where no gradient is wanted
    seq     creation number; every edge points to a smaller one, so descending order is a topological order
"""

from __future__ import annotations

import itertools
from typing import Any

counter = itertools.count(1).__next__


class Node:
    """One recorded call of an op, as `Tensor.grad_fn` shows it."""

    __slots__ = ("op", "seq", "edges", "saved", "metadata", "__weakref__")

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

    def __getattr__(self, attribute: str) -> Any:
        if attribute.startswith("_saved_"):
            return self.op.saved_value(self, attribute[7:])
        if attribute == "metadata":
            self.metadata: dict[Any, Any] = {}
            return self.metadata
        raise AttributeError(f"'{self.name()}' object has no attribute '{attribute}'")

    def __repr__(self) -> str:
        return f"<{self.name()} object at {id(self):#x}>"


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
            held[index] = g

    vjp_graph = vjp


OUTPUT = _OutputOp()


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

    def __eq__(self, other: object) -> bool:
        return isinstance(other, AccumulateGrad) and other.variable is self.variable

    def __hash__(self) -> int:
        return hash((AccumulateGrad, id(self.variable)))

    def __repr__(self) -> str:
        return f"<AccumulateGrad object at {id(self):#x}>"


def _shown_edge(edge: Any) -> tuple[Any, int]:
    if edge is None:
        return (None, 0)
    if edge.__class__ is not Node:
        return (AccumulateGrad(edge), 0)
    if edge.op.grad_name == "Output":
        return (edge.edges[0], edge.saved[1])
    return (edge, 0)


# torch.autograd.graph's public names, defined in hooks.py (which rests on this module)
_IN_HOOKS = (
    "saved_tensors_hooks", "save_on_cpu", "disable_saved_tensors_hooks", "register_multi_grad_hook",
    "get_gradient_edge", "increment_version", "GradientEdge",
)  # fmt: skip


def __getattr__(name: str) -> Any:
    if name in _IN_HOOKS:
        from . import hooks

        return getattr(hooks, name)
    raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
