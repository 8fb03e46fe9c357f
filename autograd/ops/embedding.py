"""Look-up tables: rows of a weight by index, and the sums of rows that are the adjoint."""

from __future__ import annotations

from ..op import op
from .index import add_rows, bounded


@op(index=("index",))
def embedding(xp, w, index, *, padding):
    """Rows of w. w: (V, D), index: (*S) int in [0, V) -> (*S, D). Row `padding` (-1: none) gets no gradient."""
    return w.take(bounded(xp, index, w.shape[0], 0, text="index out of range in self"), 0)


embedding.vjp(
    w=lambda F, g, *, w_shape, index, padding: F.embedding_backward(g, index, rows=w_shape[0], padding=padding)
)


@op(index=("index",))
def embedding_backward(xp, g, index, *, rows, padding):
    """Zeros with the rows of g added where index says, none at `padding`. g: (*S, D), index: (*S) -> (rows, D)."""
    out = xp.zeros((rows, g.shape[-1]), g.dtype)
    add_rows(xp, out, index.reshape(-1).astype("i8", copy=False), g.reshape(-1, g.shape[-1]))
    if padding >= 0:
        out[padding] = 0
    return out


embedding_backward.vjp(g=lambda F, h, *, index, padding: F.embedding_unpadded(h, index, padding=padding))


@op(index=("index",))
def embedding_unpadded(xp, w, index, *, padding):
    """Rows of w, zeros where index is `padding`: embedding_backward's adjoint. w: (V, D), index: (*S) -> (*S, D)."""
    out = w.take(index, 0)
    if padding >= 0:
        out[index == padding] = 0
    return out


embedding_unpadded.vjp(
    w=lambda F, g, *, w_shape, index, padding: F.embedding_backward(g, index, rows=w_shape[0], padding=padding)
)


@op(index=("index",))
def scale_by_frequency(xp, g, index):
    """Rows of g divided by how often their index occurs. g: (*S, D), index: (*S) int -> (*S, D)."""
    counts = xp.bincount(index.reshape(-1))
    return g / counts[index][..., None].astype(g.dtype)


scale_by_frequency.vjp(g=lambda F, h, *, index: F.scale_by_frequency(h, index))


@op(index=("index",))
def embedding_by_frequency(xp, w, index, *, padding):
    """As embedding; each row's gradient is divided by how often it was looked up. w: (V, D), index: (*S) -> (*S, D)."""
    return w.take(bounded(xp, index, w.shape[0], 0, text="index out of range in self"), 0)


embedding_by_frequency.vjp(
    w=lambda F, g, *, w_shape, index, padding: F.embedding_backward(
        F.scale_by_frequency(g, index), index, rows=w_shape[0], padding=padding
    )
)
