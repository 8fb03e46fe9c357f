"""Gradients of tables of which a program reads only some rows: `embedding(sparse=True)`.

The look-up is recorded as ever. Its node is then given a stand-in op, whose rule puts `Rows` into the walk's table in
place of an array, and the leaf's `.grad` becomes a SparseTensor. Wherever something else wants the gradient (the
weight is no leaf, a hook stands on the node, create_graph=True) the op's own rule gives the dense one.
"""

from __future__ import annotations

from typing import Any

from .codegen import raise_freed
from .graph import Node, is_node
from .op import raw_by_type


class Rows:
    """values (N, D) at the rows index (N,) of a matrix of `count` rows, zero elsewhere; a row may occur twice.

    Raw arrays. A sum of two of them is one; a sum with an array is an array.
    """

    __slots__ = ("index", "values", "count")
    __array_ufunc__ = None  # an array beside it leaves the sum to __radd__

    def __init__(self, index: Any, values: Any, count: int):
        self.index, self.values, self.count = index, values, count

    def dense(self) -> Any:
        """-> array (count, D)."""
        F = raw_by_type[self.values.__class__]
        return F.embedding_backward(self.values, self.index, rows=self.count, padding=-1)

    def __add__(self, other: Any) -> Any:
        if other.__class__ is not Rows:
            return self.dense() + other
        xp = raw_by_type[self.values.__class__].xp
        index, values = (xp.concatenate([getattr(r, name) for r in (self, other)]) for name in ("index", "values"))
        return Rows(index, values, self.count)

    def __radd__(self, other: Any) -> Any:
        return other + self.dense()

    def tensor(self) -> Any:
        """As a sparse tensor (count, D), coalesced only where it has no two entries."""
        from .sparse import SparseTensor
        from .tensor import wrap

        size = (self.count, self.values.shape[1])
        return SparseTensor._make(wrap(self.index[None]), wrap(self.values), size, len(self.index) < 2)


def add_to_grad(leaf: Any, new: Any) -> None:
    """Adds a sparse gradient to the leaf's `.grad`, in place where nothing is recorded.

    sparse + sparse stays sparse, with the entries of both; dense + sparse is dense.
    """
    old = leaf.grad
    if old is None:
        leaf._grad = new
    elif old.is_sparse:
        old._append(new)
    elif old._rg:
        leaf._grad = old.detach() + new
    else:
        old.index_add_(0, new._flat(), new._val)


class RowsOp:
    """An op's stand-in in the node of one look-up: at a leaf its gradient is Rows."""

    def __init__(self, op: Any, index: Any, padding: int, count: int):
        self.op, self.index, self.padding, self.count = op, index, padding, count

    def __getattr__(self, name: str) -> Any:
        return getattr(self.op, name)

    def vjp(self, node: Node, g: Any, F: Any, grads: dict[Any, Any]) -> None:
        self._check()
        leaf = node.edges[0]
        if is_node(leaf) or g.__class__ is not self.index.__class__:
            self.op.vjp(node, g, F, grads)
            return
        if node.saved is None:
            raise_freed(node)
        if leaf in grads:
            index, values = self.index.reshape(-1).astype("i8"), g.reshape(-1, g.shape[-1])
            kept = index != self.padding
            rows = Rows(index[kept], values[kept], self.count)  # a mask copies: nobody else holds the values
            held = grads[leaf]
            grads[leaf] = rows if held is None else rows + held

    def vjp_graph(self, node: Node, g: Any, F: Any, grads: dict[Any, Any]) -> None:
        self._check()
        self.op.vjp_graph(node, g, F, grads)

    def _check(self) -> None:
        if self.op.name == "embedding_by_frequency":
            raise RuntimeError("embedding_backward: scale_grad_by_freq not supported with sparse gradients")


def with_sparse_gradient(looked_up: Any, index: Any, padding: int, count: int) -> Any:
    """The Tensor that a look-up in a table of `count` rows gave, made to give Rows. looked_up: (*S, D), index: (*S)."""
    node = looked_up._node
    if node is not None:
        node.op = RowsOp(node.op, index.array, padding, count)
    return looked_up
