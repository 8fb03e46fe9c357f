"""Views: tensors that share memory, and what an in-place write through one of them does to the graph.

    base ---- view v = base[0] ---- view w = v.t()          one memory, three tensors

Each view knows its base and the chain of view ops that leads from the base to it. A recorded write into `w` becomes,
for the base, one node `copy_slices`: everywhere outside the chain's region the gradient goes to the old base, inside
it to the value that was written. Then every living view of the base gets a new node: the chain, replayed on the base.

    before:  base <- select <- t                     after w.mul_(y):  base' = copy_slices(base, w * y)
                                                                       v' = select(base'), w' = t(v')
"""

from __future__ import annotations

import weakref
from typing import Any

from .graph import Node, Refusal, counter
from .modes import mode
from .op import OPS
from .versions import UNTRACKED


class View:
    """How a tensor came from its base: `chain` of (op name, keywords)."""

    __slots__ = ("base", "chain", "made_without_grad", "multiple")  # set by link_view: an __init__ would cost as much

    base: Any
    chain: tuple[tuple[str, dict[str, Any]], ...]
    made_without_grad: bool
    # Of an op that made several views at once, or of a view of such a view: (its word, as "Split"; output number)
    multiple: tuple[str, int] | None


class CustomView(View):
    """How an output of a user's Function came to share memory: through its `forward`, which no chain describes."""

    __slots__ = ("function",)

    def __init__(self, base: Any, function: str):
        self.base, self.chain, self.made_without_grad, self.multiple = base, (), False, None
        self.function = function

    def refusal(self, cause: str) -> str:
        """PyTorch's sentence on what may not be written in place."""
        return (
            f"Output 0 of {self.function} is a view and {cause} modified inplace. This view was created inside a "
            "custom Function (or because an input was returned as-is) and the autograd logic to handle view+inplace "
            "would override the custom backward associated with the custom Function, leading to incorrect gradients. "
            "This behavior is forbidden. You can fix this by cloning the output of the custom Function."
        )


def link_view(parent: Any, t: Any, name: str, kw: dict[str, Any]) -> None:
    """Notes that `t` is the view `name(parent, **kw)`."""
    above = view_of(parent)
    if above is None:
        t._view = view = View()
        view.base, view.chain, view.multiple = parent, ((name, kw),), None
        view.made_without_grad = parent._rg and mode.grad is False
        register(parent, t)
        return
    if above is UNTRACKED:
        t._view = UNTRACKED
        return
    if above.__class__ is CustomView:
        t._view = CustomView(above.base, above.function)
    else:
        t._view = view = View()
        view.base, view.chain = above.base, (*above.chain, (name, kw))
        view.multiple = above.multiple and (OPS[name].grad_name.removesuffix("Backward0"), 0)
        view.made_without_grad = parent._rg and mode.grad is False
    register(above.base, t)


def view_of(t: Any) -> Any:
    """The `_view` of a tensor: None where it is none. (A class of others may make tensors which lack the attribute.)"""
    try:
        return t._view
    except AttributeError:
        return None


def register(base: Any, t: Any) -> None:
    """Adds `t` to the list of the base's views, from which dead ones are dropped now and then."""
    views = base.__dict__.get("_views")
    if views is None:
        base._views = [reference(t)]
    else:
        if len(views) >= 16 and len(views) & (len(views) - 1) == 0:
            views[:] = [v for v in views if v() is not None]
        views.append(reference(t))


reference = weakref.ref


def living_views(base: Any) -> list[Any]:
    """The views of `base` that still exist."""
    found = [v() for v in getattr(base, "_views", None) or ()]
    return [v for v in found if v is not None and v._view is not None]


def apply_chain(F: Any, x: Any, chain: tuple[tuple[str, dict[str, Any]], ...]) -> Any:
    """The view of `x` that the chain gives, in the namespace F."""
    for name, kw in chain:
        x = getattr(F, name)(x, **kw)
    return x


def replay(base: Any, view: Any, fresh: Any, graph: Any) -> Node:
    """The node that leads to `view` from the base's present one; `fresh` makes a stand-in for the base."""
    if view._view.__class__ is CustomView:
        node = Node()
        node.op = Refusal(view._view.refusal("its base or another view of its base has been"))
        node.edges, node.saved, node.seq = (), (), counter()
        return node
    stand_in = fresh(base.array, base._node if base._node is not None else base)
    before, mode.grad = mode.grad, True
    try:
        result = apply_chain(graph, stand_in, view._view.chain)
    finally:
        mode.grad = before
    return result._node
