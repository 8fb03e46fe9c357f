"""Shapes: views where memory allows, copies where PyTorch copies."""

from __future__ import annotations

from ..op import op


@op(view=True)
def view(xp, x, *, shape):
    """x with another shape, sharing memory; ValueError where that is impossible. x: (*S) -> (*shape)."""
    return xp.reshape(x, shape, copy=False)


view.vjp(x=lambda F, g, *, x_shape: F.reshape(g, shape=x_shape))


@op(grad_name="View")
def reshape(xp, x, *, shape):
    """x with another shape, as a fresh array or (raw only) a view. x: (*S) -> (*shape)."""
    return xp.reshape(x, shape)


reshape.vjp(x=lambda F, g, *, x_shape: F.reshape(g, shape=x_shape))


@op(view=True)
def permute(xp, x, *, axes):
    """x with its dimensions reordered. x: (*S) -> (S in the order of axes)."""
    return x.transpose(axes)


permute.vjp(x=lambda F, g, *, axes: F.permute(g, axes=tuple(axes.index(i) for i in range(len(axes)))))


@op()
def stack(xp, *xs, axis):
    """Arrays joined along a new axis. xs: (*S) each -> (S with len(xs) at axis)."""
    return xp.stack(xs, axis=axis)


stack.vjp(xs=lambda F, g, i, *, axis: F.select(g, axis=axis, index=i))


@op(view=True)
def select(xp, x, *, axis, index):
    """The slice of one index along an axis, which is dropped. x: (*S) -> (S without axis)."""
    return x[(slice(None),) * axis + (index,)]


select.vjp(x=lambda F, g, *, x_shape, axis, index: F.select_backward(g, shape=x_shape, axis=axis, index=index))


@op()
def select_backward(xp, g, *, shape, axis, index):
    """Zeros with g at one index along an axis. g: (S without axis) -> (*shape)."""
    out = xp.zeros(shape, g.dtype)
    out[(slice(None),) * axis + (index,)] = g
    return out


select_backward.vjp(g=lambda F, h, *, axis, index: F.select(h, axis=axis, index=index))
