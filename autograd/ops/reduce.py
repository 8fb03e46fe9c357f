"""Reductions. `axis`: a tuple of non-negative ints; keepdims keeps them with size 1."""

from __future__ import annotations

from ..op import composite, op


@composite
def restore_axes(F, g, *, shape, axis, keepdims):
    """A reduction's gradient spread again over what it reduced. g: (reduced S) -> (*shape)."""
    if not keepdims:
        g = F.reshape(g, shape=tuple(1 if i in axis else n for i, n in enumerate(shape)))
    return F.expand(g, shape=shape)


@op()
def sum(xp, x, *, axis, keepdims):
    """Sum over axis. x: (*S) -> (S without axis)."""
    return xp.add.reduce(x, axis=axis, keepdims=keepdims)


sum.vjp(x=lambda F, g, *, x_shape, axis, keepdims: F.restore_axes(g, shape=x_shape, axis=axis, keepdims=keepdims))
