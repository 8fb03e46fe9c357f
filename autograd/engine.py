"""The walk: from the roots backwards over the graph, each node once, when its gradient is complete.

Nodes are collected without recursion and sorted by creation number; since an edge always points to an older node, the
descending order is a reverse topological order. A table holds the gradient of each node and leaf that is reached; it
belongs to the walk, so walks may nest, run in several threads, and fail without leaving anything behind.

The engine knows nodes and a namespace F, which is raw (arrays) or GRAPH (tensors, create_graph=True).
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from typing import Any

from ..backends.base import refcount
from .graph import OWNED, Node, is_node
from .modes import mode
from .op import GRAPH, raw_by_type
from .rows import Rows, add_to_grad
from .versions import check_saved, last_write, mark_written

_by_seq = operator.attrgetter("seq")


def collect(roots: Sequence[Any]) -> tuple[dict[Any, Any], list[Node], list[Any]]:
    """A table with an entry (None) for every node and leaf under `roots`; the nodes, youngest first; the leaves."""
    grads: dict[Any, Any] = dict.fromkeys(roots)
    stack = list(grads)
    grads[OWNED] = set()
    nodes: list[Node] = []
    leaves: list[Any] = []
    found, later, take = nodes.append, stack.append, stack.pop
    while stack:
        node = take()
        while node.__class__ is Node or isinstance(node, Node):  # down a chain, past the stack
            found(node)
            below = None
            for edge in node.edges:
                if edge is not None and edge not in grads:
                    grads[edge] = None
                    if below is not None:
                        later(below)
                    below = edge
            node = below
        if node is not None:
            leaves.append(node)
    nodes.sort(key=_by_seq, reverse=True)
    return grads, nodes, leaves


def prune(grads: dict[Any, Any], nodes: list[Node], targets: set[Any]) -> list[Node]:
    """Keeps only what lies between the roots and the targets; the rest leaves the table and is never computed."""
    needed = set(targets)
    for node in reversed(nodes):
        if not needed.isdisjoint(node.edges):
            needed.add(node)
    for key in [k for k in grads if k is not OWNED and k not in needed]:
        del grads[key]
    return [n for n in nodes if n in needed]


def has_hooks(leaf: Any) -> bool:
    """Whether something is to be called when the leaf's gradient is there. (OWNED has none.)"""
    return bool(getattr(leaf, "_hooks", None) or getattr(leaf, "_after_hooks", None))


class Arrival:
    """The op of a place-holder among a walk's nodes: after the last node that leads to a leaf."""

    saves_arrays = False

    def __init__(self, leaf: Any, arrive: Callable[[Any, dict[Any, Any]], None]):
        self.leaf, self.arrive = leaf, arrive

    def vjp(self, node: Node, g: Any, F: Any, grads: dict[Any, Any]) -> None:
        self.arrive(self.leaf, grads)

    vjp_graph = vjp


def with_arrivals(nodes: list[Node], leaves: set[Any], grads: dict[Any, Any], seed: Any, arrive: Any) -> list[Node]:
    """The nodes, youngest first, with place-holders where the gradients of `leaves` are complete.

    So a hook that makes an optimizer's step and drops the gradient frees it while the walk goes on. `seed` stands in
    the table for the place-holders, since the walk passes by what has no gradient.
    """
    found: list[Node] = []
    for node in reversed(nodes):
        for leaf in [edge for edge in dict.fromkeys(node.edges) if edge in leaves] if leaves else ():
            leaves.discard(leaf)
            holder = Node()
            holder.op, holder.edges, holder.saved, holder.seq = Arrival(leaf, arrive), (), (), node.seq
            grads[holder] = seed
            found.append(holder)
        found.append(node)
    found.reverse()
    return found


def walk(
    roots: Sequence[Any],
    seeds: Sequence[Any],
    targets: Sequence[Any] | None,
    retain_graph: bool,
    create_graph: bool,
    arrive: Callable[[Any, dict[Any, Any]], None] | None = None,
) -> dict[Any, Any]:
    """Runs the backward pass; gives the table of finished gradients of the leaves, or of `targets` where given.

    `roots`: nodes or leaves; `seeds`: their gradients, raw arrays or (create_graph) tensors. `arrive(leaf, table)` is
    called for each leaf with hooks as soon as its gradient is complete, and takes it out of the table.
    """
    grads, nodes, leaves = collect(roots)
    mode.walk.table = grads
    results: dict[Any, Any] = {}
    wanted: set[Any] = set(targets) if targets is not None else set()
    if targets is not None:
        nodes = prune(grads, nodes, wanted)
    if arrive is not None and (hooked := {t for t in leaves if t in grads and has_hooks(t)}):
        nodes = with_arrivals(nodes, hooked, grads, seeds[0], arrive)
    for root, seed in zip(roots, seeds, strict=True):
        if root in grads:
            held = grads[root]
            grads[root] = seed if held is None else held + seed
    F: Any = GRAPH if create_graph else None
    kind: Any = None
    written, take = last_write, grads.pop
    for node in nodes:
        g = take(node)
        if g is None:
            continue
        op = node.op
        if wanted and node in wanted:
            if not any(edge in grads for edge in node.edges):  # the walk ends here: the node's rules are not run
                results[node] = op.arrived(g) if hasattr(op, "arrived") else g
                continue
            results[node] = g
        if node.seq < written[0] and op.saves_arrays and node.saved:
            check_saved(node)
        if create_graph:
            op.vjp_graph(node, g, F, grads)
            continue
        if g.__class__ is not kind:
            kind = g.__class__
            array = _first(g) if kind is list else g
            F = raw_by_type[array.__class__]
            if F.backend.several:  # the next node may belong to another device
                mode.walk.follow(F.backend, array)
                kind = None
        vjp = op.vjp
        vjp(node, g, F, grads)
        if not retain_graph and op.saves_arrays:
            node.saved = None
    del grads[OWNED]
    results.update(grads)
    mode.walk.table = results
    return results


class Walk:
    """One backward pass under way, for hooks: its table, and what is to be called at its end.

    partial: whether it stops at chosen inputs (`grad`, `backward(inputs=...)`).
    """

    __slots__ = ("table", "at_end", "partial", "_before", "_undo", "__weakref__")

    def __init__(self, partial: bool):
        self.partial, self._undo = partial, None

    def follow(self, backend: Any, array: Any) -> None:
        """Makes the array's device the current one, until another is followed or the walk ends."""
        undo = backend.follow(array)
        self._undo = self._undo or undo

    def outermost(self) -> Walk:
        """The pass that a caller of `backward` waits for: this one, or the one within which it runs (checkpoints)."""
        walk = self
        while (outer := walk._before[0]) is not None:
            walk = outer
        return walk

    def __enter__(self) -> None:
        self.table: dict[Any, Any] = {}
        self.at_end: list[Any] = []
        self._before = (mode.walk, mode.grad)
        mode.walk = self

    def __exit__(self, failed: Any, *_: object) -> None:
        try:
            if failed is None:
                for function in self.at_end:
                    function()
        finally:
            mode.walk, mode.grad = self._before
            if self._undo is not None:
                self._undo()


def _first(gradients: list[Any]) -> Any:
    return next(g for g in gradients if g is not None)


def edge_of(t: Any) -> Any:
    """The node or leaf where the gradient of a tensor arrives; a node or leaf is its own."""
    return t if is_node(t) or t._node is None else t._node


def accumulate(leaf: Any, grads: dict[Any, Any], create_graph: bool, wrap: Any) -> None:
    """Adds a leaf's finished gradient to its `.grad`. Takes it over where nobody else can hold it, else copies."""
    g = grads.pop(leaf)
    if g is None or not leaf._rg:
        return
    if create_graph:
        g = run_hooks(leaf, g)
        old = leaf.grad
        leaf._grad = g if old is None else g + old if old.is_sparse else GRAPH.add(old, g)
    elif g.__class__ is Rows:
        add_to_grad(leaf, run_hooks(leaf, g.tensor()))
    else:
        hooks = getattr(leaf, "_hooks", None)
        if hooks:
            g = run_hooks(leaf, wrap(raw_by_type[g.__class__].backend.tidy(g))).array
        if g.dtype is not leaf.array.dtype and g.dtype != leaf.array.dtype:
            g = g.astype(leaf.array.dtype)  # half precisions of other libraries widen beside Python numbers
        backend = raw_by_type[g.__class__].backend
        if backend.several:
            mode.walk.follow(backend, g)
        old = leaf.grad
        if old is not None:
            if old.is_sparse:
                leaf._grad = wrap(backend.tidy(g)) + old
            elif old._rg:
                leaf._grad = wrap(backend.tidy(old.array + g))
            else:
                array = old.array
                array += g
                mark_written(old)
        else:
            array = backend.tidy(g)
            if array is g and not (refcount(g) <= 3 and backend.may_keep(g)):
                array = backend.copy_for(leaf.array, g, refcount(g) <= 3)
            leaf._grad = wrap(array)
    after = getattr(leaf, "_after_hooks", None)
    if after:
        for hook in list(after.values()):
            if (result := hook(leaf)) is not None:
                raise TypeError(f"a post accumulate grad hook must return None, but returned {type(result).__name__!r}")


def run_hooks(t: Any, g: Any) -> Any:
    """The gradient tensor after the tensor hooks of a leaf."""
    hooks = getattr(t, "_hooks", None)
    if not hooks:
        return g
    from .hooks import run_hooks

    return run_hooks(hooks, g)


def run_backward(
    tensors: Sequence[Any],
    seeds: Sequence[Any],
    inputs: Sequence[Any] | None,
    retain_graph: bool,
    create_graph: bool,
    wrap: Any,
) -> None:
    """`Tensor.backward`: the gradients of all leaves (or of the leaves among `inputs`) are added to their `.grad`.

    What is no leaf has its `.grad` filled by its node (retain_grad).
    """
    roots = [edge_of(t) for t in tensors]
    given = [s if create_graph else s.array for s in seeds]
    with Walk(partial=inputs is not None):
        mode.grad = mode.recorder if create_graph else False
        targets = None if inputs is None else [edge_of(t) for t in inputs]

        def arrive(leaf: Any, table: dict[Any, Any]) -> None:
            accumulate(leaf, table, create_graph, wrap)

        grads = walk(roots, given, targets, retain_graph, create_graph, arrive)
        for leaf in list(grads) if targets is None else dict.fromkeys(targets):
            if leaf in grads and not is_node(leaf):
                accumulate(leaf, grads, create_graph, wrap)


def run_grad(
    outputs: Sequence[Any],
    seeds: Sequence[Any],
    inputs: Sequence[Any],
    retain_graph: bool,
    create_graph: bool,
    wrap: Any,
) -> list[Any]:
    """`autograd.grad`: the gradients at `inputs` as tensors, None where an input was not reached."""
    given = [s if create_graph else s.array for s in seeds]
    with Walk(partial=True):
        mode.grad = mode.recorder if create_graph else False
        targets = [edge_of(t) for t in inputs]
        grads = walk([edge_of(t) for t in outputs], given, targets, retain_graph, create_graph)
        found = []
        for target in targets:
            g = grads.get(target)
            if g is not None and not create_graph:
                g = g.tensor() if g.__class__ is Rows else wrap(raw_by_type[g.__class__].backend.tidy(g))
            found.append(g if g is None or is_node(target) else run_hooks(target, g))
        return found
