"""Pictures of graphs by graphviz: the recorded graph under a tensor, or the forward pass of a module.

An extra: `pip install 'tapegrad[graph]'`; to render them, Graphviz's program `dot` as well. The text of a picture
(`.source`) needs no `dot`.
"""

from __future__ import annotations

import itertools
import sys
import types
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..autograd.engine import collect, edge_of
from ..autograd.graph import is_node
from ..autograd.tensor import Tensor
from .extras import require
from .graph_tracing import Call, Step, Trace, _tensors, trace, unchanged

__all__ = ["draw_graph"]

MANY = 60  # boxes: above, modules are drawn as one box each where it is left to us
MOST = 1500  # boxes that `dot` lays out in less than about a minute

# kind -> (shape, fill colour)
_STYLES = {
    "op": ("box", "white"),
    "input": ("oval", "lightgoldenrod1"),
    "parameter": ("oval", "lightblue"),
    "leaf": ("oval", "lightblue"),
    "buffer": ("oval", "lavender"),
    "constant": ("oval", "gray93"),
    "output": ("oval", "darkolivegreen2"),
    "saved": ("note", "orange"),
    "module": ("box3d", "honeydew"),
}


@dataclass(eq=False)
class _Box:
    kind: str
    label: str
    path: tuple[Any, ...] = ()  # keys of the clusters that it is in, the outermost first


@dataclass
class _Picture:
    boxes: list[_Box] = field(default_factory=list)
    arrows: dict[tuple[int, int, str, str], None] = field(default_factory=dict)  # (from, to, label, style), in order
    titles: dict[Any, str] = field(default_factory=dict)  # cluster -> title
    leaves: set[Any] = field(default_factory=set)  # clusters of modules without parts
    number: dict[int, int] = field(default_factory=dict)  # id of a box -> its place

    def add(self, box: _Box) -> int:
        self.number[id(box)] = len(self.boxes)
        self.boxes.append(box)
        return len(self.boxes) - 1

    def join(self, source: int, target: int, label: str = "", style: str = "") -> None:
        self.arrows[source, target, label, style] = None


def _shape(shape: Iterable[int] | None) -> str:
    return "" if shape is None else f"({', '.join(map(str, shape))})"


def _lines(*parts: str) -> str:
    return "\n".join(p for p in parts if p)


# ---- the recorded graph


def _own_shape(node: Any) -> tuple[int, ...] | None:
    """The shape of the node's output, where it keeps the output itself, or its inputs' shapes and they broadcast."""
    op, saved = node.op, node.saved
    if type(saved) is not tuple:
        return None
    requests = getattr(op, "requests", ())
    if "out" in requests and not op.outputs:
        return tuple(saved[requests.index("out")].shape)
    shapes = saved[-1] if getattr(op, "broadcasts", False) and len(saved) > len(requests) else None
    return None if shapes is None else tuple(np.broadcast_shapes(*shapes))


def _input_shapes(node: Any, out: Any) -> list[Any]:
    """The shape of each differentiable input, as far as what the node keeps tells it; `out`: that of its output."""
    op = node.op
    names, requests = getattr(op, "differentiable", ()), getattr(op, "requests", ())
    saved = node.saved if type(node.saved) is tuple else ()
    kept = dict(zip(requests, saved, strict=False))
    shapes = saved[-1] if getattr(op, "broadcasts", False) and len(saved) > len(requests) else None
    found: list[Any] = []
    for i, _ in enumerate(node.edges):
        name = names[i] if i < len(names) else None
        shape = getattr(kept.get(name), "shape", None)
        if shape is None:
            shape = kept.get(f"{name}_shape")
        if shape is None and shapes is not None and name in op.inputs:
            shape = shapes[op.inputs.index(name)]
        if shape is None and (getattr(op, "broadcasts", False) or getattr(op, "ufunc", None)) and shapes is None:
            shape = out  # elementwise, of inputs of one shape
        found.append(None if shape is None else tuple(shape))
    return found


def _modules_of(node: Any, names: dict[int, dict[Any, str]], picture: _Picture) -> tuple[Any, ...]:
    """The clusters of a node that was recorded inside modules while a ModuleTracker was open."""
    modules = getattr(node.op, "modules", ())
    if not modules:
        return ()
    root = modules[0]
    if id(root) not in names:
        names[id(root)] = {module: name for name, module in root.named_modules()}
    path: list[tuple[Any, ...]] = []
    for module in modules:
        key = (*path[-1:], id(module))
        name = names[id(root)].get(module, "")
        picture.titles[key] = f"{name} ({type(module).__name__})" if name else type(module).__name__
        if not module._modules:
            picture.leaves.add(key)
        path.append(key)
    return tuple(path)


def _recorded(outputs: Any, params: dict[str, Tensor], show_saved: bool) -> _Picture:
    """The graph under the outputs: arrows from leaves to outputs, as the values went."""
    picture = _Picture()
    named = {id(t): name for name, t in params.items()}
    tensors = list(_tensors(outputs, "output"))
    for name, t in tensors:
        if not t.requires_grad:
            raise ValueError(
                f"draw_graph: {name} has no history (requires_grad=False), so there is no recorded graph to draw; "
                "utils.why_no_grad(tensor) tells why, and inputs=... draws the forward pass of a module"
            )
    edges = [edge_of(t) for _, t in tensors]
    _, nodes, leaves = collect(edges)
    shape: dict[int, Any] = {id(e): tuple(t.shape) for e, (_, t) in zip(edges, tensors, strict=True)}
    for node in nodes:
        if (found := _own_shape(node)) is not None:
            shape.setdefault(id(node), found)
    for node in nodes:  # the youngest first: a node's users are known before it
        if node.op.grad_name == "Output":
            continue
        for edge, found in zip(node.edges, _input_shapes(node, shape.get(id(node))), strict=True):
            if edge is not None and found is not None:
                shape.setdefault(id(edge), found)
    place: dict[int, int] = {}
    for leaf in leaves:
        name = named.get(id(leaf), "")
        place[id(leaf)] = picture.add(_Box("parameter" if name else "leaf", _lines(name, _shape(leaf.shape))))
    names: dict[int, dict[Any, str]] = {}
    for node in reversed(nodes):
        if node.op.grad_name == "Output":
            place[id(node)] = place[id(node.edges[0])]
            continue
        box = _Box("op", node.name(), _modules_of(node, names, picture))
        place[id(node)] = picture.add(box)
        for edge in node.edges:
            if edge is not None:
                label = "" if not is_node(edge) else _shape(shape.get(id(edge)))
                picture.join(place[id(edge)], place[id(node)], label)
        if show_saved:
            _add_saved(picture, node, place[id(node)], box.path)
    for (name, t), edge in zip(tensors, edges, strict=True):
        picture.join(place[id(edge)], picture.add(_Box("output", _lines(name, _shape(t.shape)))))
    return picture


def _add_saved(picture: _Picture, node: Any, place: int, path: tuple[Any, ...]) -> None:
    """The arrays that the node keeps for its rules."""
    if not node.op.saves_arrays or not node.saved:
        return
    for name, array in node.op.saved_arrays(node):
        saved = picture.add(_Box("saved", _lines(name, _shape(array.shape)), path))
        picture.join(saved, place, style="dashed")


# ---- the forward pass


def _forward(traced: Trace) -> _Picture:
    picture = _Picture()
    place: dict[int, int] = {}
    for step in traced.steps:
        label = step.name
        if step.kind != "op":
            label = _lines(step.name, _shape(step.shapes[0]))
        box = _Box(step.kind, label, tuple(map(id, step.path())))
        if step.kind == "op":
            _title(picture, step.path())
        place[id(step)] = picture.add(box)
        for source, result in step.inputs:
            text = _shape(source.shapes[result]) if source.kind == "op" and result < len(source.shapes) else ""
            picture.join(place[id(source)], place[id(step)], text)
    _place_values(picture, traced, place)
    return picture


def _title(picture: _Picture, path: tuple[Call, ...]) -> None:
    for call in path:
        picture.titles[id(call)] = f"{call.name} ({call.class_name})" if call.name else call.class_name
        if not call.module._modules:
            picture.leaves.add(id(call))


def _place_values(picture: _Picture, traced: Trace, place: dict[int, int]) -> None:
    """Parameters, buffers and constants stand in the cluster of what uses them, where that is one."""
    users: dict[int, list[Step]] = {}
    for step in traced.steps:
        for source, _ in step.inputs:
            users.setdefault(id(source), []).append(step)
    for step in traced.steps:
        if step.kind in ("parameter", "buffer", "constant"):
            found = {tuple(map(id, user.path())) for user in users.get(id(step), ())}
            picture.boxes[place[id(step)]].path = found.pop() if len(found) == 1 else ()


# ---- modules as one box


def _collapsed(picture: _Picture, depth: int) -> _Picture:
    """Modules at `depth` (1: the parts of the model), and those without parts above it, as one box each."""
    made = _Picture(titles=picture.titles, leaves=picture.leaves)
    of_cluster: dict[Any, int] = {}
    place: list[int] = []
    for box in picture.boxes:
        whole = next((i for i, key in enumerate(box.path) if i == depth or key in picture.leaves), None)
        if whole is None or box.kind in ("input", "output"):
            place.append(made.add(box))
            continue
        key = box.path[whole]
        if key not in of_cluster:
            of_cluster[key] = made.add(_Box("module", picture.titles[key], box.path[:whole]))
        place.append(of_cluster[key])
    for source, target, label, style in picture.arrows:
        if place[source] != place[target]:
            made.join(place[source], place[target], label, style)
    return made


def _fitting(picture: _Picture, collapse: bool | int | None) -> _Picture:
    """The picture with modules as single boxes, as deep as was asked for or as still can be read."""
    if collapse is None:
        collapse = len(picture.boxes) > MANY
    if collapse is False:
        return picture
    if collapse is not True:
        return _collapsed(picture, collapse)
    deepest = max((len(box.path) for box in picture.boxes), default=0)
    found = _collapsed(picture, max(deepest, 1))
    for depth in range(deepest - 1, 0, -1):
        if len(found.boxes) <= MANY:
            break
        found = _collapsed(picture, depth)
    return found


# ---- text


def _drawn(picture: _Picture, make: Callable[..., Any], rankdir: str) -> Any:
    if len(picture.boxes) > MOST:
        raise ValueError(
            f"draw_graph: {len(picture.boxes)} boxes are too many for a picture (at most {MOST}); draw the forward "
            "pass of the module (inputs=...), with collapse=1 to see its parts, or open "
            "utils.module_tracker.ModuleTracker() while the graph is recorded, so that modules can be one box each"
        )
    graph = make(
        "graph",
        graph_attr={"rankdir": rankdir, "ranksep": "0.3", "nodesep": "0.2", "fontname": "Helvetica", "fontsize": "11"},
        node_attr={"fontname": "Helvetica", "fontsize": "10", "style": "filled", "height": "0.2", "margin": "0.1,0.04"},
        edge_attr={"fontname": "Helvetica", "fontsize": "9", "arrowsize": "0.6"},
    )
    inside: dict[tuple[Any, ...], list[int]] = {}
    for i, box in enumerate(picture.boxes):
        inside.setdefault(box.path, []).append(i)
    _draw_cluster(graph, picture, inside, (), itertools.count())
    for source, target, label, style in picture.arrows:
        options = {name: value for name, value in (("label", label), ("style", style)) if value}
        graph.edge(str(source), str(target), **options)
    return graph


def _draw_cluster(
    graph: Any,
    picture: _Picture,
    inside: dict[tuple[Any, ...], list[int]],
    path: tuple[Any, ...],
    numbers: Iterator[int],
) -> None:
    """The boxes of a cluster and the clusters in it; they nest as modules do, so recursion is no deeper than these."""
    for i in inside.get(path, ()):
        shape, colour = _STYLES[picture.boxes[i].kind]
        graph.node(str(i), label=picture.boxes[i].label, shape=shape, fillcolor=colour)
    depth = len(path)
    for key in dict.fromkeys(p[depth] for p in inside if len(p) > depth and p[:depth] == path):
        with graph.subgraph(name=f"cluster_{next(numbers)}") as part:
            part.attr(label=picture.titles[key], style="rounded", color="gray60", labeljust="l")
            _draw_cluster(part, picture, inside, (*path, key), numbers)


def draw_graph(
    var: Any,
    params: dict[str, Tensor] | None = None,
    *,
    inputs: Any = None,
    show_saved: bool = False,
    collapse: bool | int | None = None,
    rankdir: str = "TB",
) -> Any:
    """The picture of a graph: a graphviz.Digraph, to `render("name", format="svg")`, or shown by a notebook.

    Args:
        var: a tensor, or tensors in lists and dicts: the graph that backward would walk, one box per node, leaves
            first. With `inputs`, a module (or function): its forward pass on them, one box per op.
        params: names of leaves, such as dict(model.named_parameters()); these are shown with their names.
        inputs: a tensor; a tuple or list of positional arguments; or a dict of keyword arguments. The module runs once,
            in the mode it is in; its buffers and the default generator are put back.
        show_saved: the values that nodes keep for backward, as boxes of their own (of a recorded graph).
        collapse: draw modules as one box each: True for as many as it takes to stay readable, a number for those at
            that depth (1: the parts of the model) and those without parts above it, False for none, None for True
            where there are many boxes. A recorded graph knows its modules if a `ModuleTracker` was open.
        rankdir: "TB" from top to bottom, "LR" from left to right.

    On the arrows are the shapes of the values, as far as the nodes of a recorded graph know them.

    Raises ImportError without the package graphviz, ValueError for a tensor without history or more than 1500 boxes,
    TypeError for something else; rendering raises graphviz.ExecutableNotFound without the program dot.

    >>> import tapegrad as torch
    >>> w = torch.ones(3, requires_grad=True)
    >>> picture = torch.utils.draw_graph((w * 2).sum(), params={"w": w})
    >>> "SumBackward0" in picture.source and "lightblue" in picture.source
    True
    """
    make = require("graphviz", "graph", "tapegrad.utils.draw_graph needs").Digraph
    if inputs is not None:
        if not callable(var) or isinstance(var, Tensor):
            raise TypeError(f"draw_graph: with inputs, expected a module or a function, but got {type(var).__name__}")
        args = tuple(inputs) if isinstance(inputs, (tuple, list)) else () if isinstance(inputs, dict) else (inputs,)
        with unchanged(var):
            picture = _forward(trace(var, args, inputs if isinstance(inputs, dict) else None).to_outputs())
    elif not any(True for _ in _tensors(var, "output")):
        remedy = "; give inputs=... to draw a module's forward pass" if callable(var) else ""
        seen = type(var).__name__
        raise TypeError(f"draw_graph expects a tensor, or tensors in lists and dicts, but got {seen}{remedy}")
    else:
        picture = _recorded(var, params or {}, show_saved)
    return _drawn(_fitting(picture, collapse), make, rankdir)


class _Callable(types.ModuleType):
    """The module is called as its function: `utils.draw_graph(tensor)`."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return draw_graph(*args, **kwargs)


sys.modules[__name__].__class__ = _Callable
