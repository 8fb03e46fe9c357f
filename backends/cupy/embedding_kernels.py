"""Look-up tables. The backward pass sorts the indices and sums equal ones in that order: the same bits every time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..base import may_decline
from . import bounds
from .launch import FLAG, FLAGS, TYPES, Kernel, contiguous, empty, row_blocks, served, vector, zeros
from .loss_kernels import classes

ROWS = Kernel("embedding.cuh", "embedding_rows", "PPPlilPi", T=TYPES, VECTOR=FLAGS)
SUM_RUNS = Kernel("embedding.cuh", "sum_runs", "PPPPPlill", T=TYPES)
JOIN_RUNS = Kernel("embedding.cuh", "join_runs", "PPPPlill", T=TYPES)
SPAN = 32  # as in the source

CODE = bounds.code("embedding", "index out of range in self")


@may_decline
def embedding(w: Any, index: Any, *, padding: int) -> Any:
    """Op embedding. An index outside of the table is reported by the next synchronisation."""
    name = served(w)
    if name is None or not index.size:
        return NotImplemented
    w, index = contiguous(w), classes(index)
    n = w.shape[1]
    out = empty((*index.shape, n), w.dtype)
    wide = vector(n, w, out)
    grid, block = row_blocks(index.size, n, 16 // w.itemsize if wide else 1)
    ROWS((name, FLAG[wide]), grid, block, w, index, out, index.size, n, w.shape[0], bounds.flag(), CODE)
    return out


@may_decline
def embedding_backward(g: Any, index: Any, *, rows: int, padding: int) -> Any:
    """Op embedding_backward: the rows of g summed by index. CuPy's sort does not wait: this goes into a graph."""
    name = served(g)
    if name is None or not rows:
        return NotImplemented
    g, index = contiguous(g), classes(index).reshape(-1)
    n, count = g.shape[-1], index.size
    order = classes(index.argsort(kind="stable"))
    out, pieces = zeros((rows, n), g.dtype), -(-count // SPAN)
    parts = empty((pieces, 2, n), "float32")
    threads = min(256, -(-n // 32) * 32)
    grid = (pieces, -(-n // threads))
    SUM_RUNS((name,), grid, (threads,), g, index, order, out, parts, count, n, rows, padding)
    if pieces > 1:
        JOIN_RUNS((name,), grid, (threads,), index, order, out, parts, count, n, rows, padding)
    return out


KERNELS: dict[str, Callable[..., Any]] = {"embedding": embedding, "embedding_backward": embedding_backward}
