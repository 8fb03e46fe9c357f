"""Reductions of segments of a dimension, and of the bits of elements."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ...backends.registry import backend_of
from ..dtypes import int64
from ..ops import core
from ..tensor import Tensor
from .args import axes_of, dim_of, tensor_beside
from .elementwise import where
from .scatter import index_add, index_reduce
from .shape import reshape
from .table import public

_EMPTY = {"sum": 0.0, "mean": 0.0, "prod": 1.0, "max": -math.inf, "min": math.inf}


def _lengths(data: Tensor, lengths: Tensor | None, offsets: Tensor | None, axis: int, unsafe: bool) -> Any:
    """The number of elements in each segment, (*B, K), on the host; checked unless `unsafe`."""
    given = lengths if lengths is not None else offsets
    if given is None:
        raise RuntimeError("segment_reduce(): Either lengths or offsets must be defined.")
    word = "lengths" if lengths is not None else "offsets"
    if given.array.dtype.kind not in "i":
        raise NotImplementedError(f"\"_segment_reduce_{word}_cpu_kernel1\" not implemented for '{given.dtype.legacy}'")
    host = given.detach().cpu().array
    if axis != host.ndim - 1:
        raise RuntimeError(f"segment_reduce(): Expected axis to be the last dimension of {word} but got {axis}.")
    if host.shape[:-1] != data.array.shape[:axis]:
        raise RuntimeError(f"segment_reduce(): Expected data and {word} to agree in the dimensions before axis {axis}.")
    n = data.array.shape[axis]
    if lengths is None:
        if not unsafe and ((host[..., 0] != 0).any() or (host[..., -1] != n).any()):
            raise RuntimeError("offsets must begin with 0 and end with the size of data along axis")
        return np.diff(host)
    if not unsafe:
        if (host < 0).any():
            raise RuntimeError("lengths contains negative value!")
        if (host.sum(-1) != n).any():
            raise RuntimeError(
                "segment_reduce(): Expected all rows of lengths along axis to sum to data.size(lengths.dim()-1) when "
                "!unsafe."
            )
    return host


@public(method=False)
def segment_reduce(
    data: Tensor, reduce: str, *, lengths: Tensor | None = None, indices: Tensor | None = None,
    offsets: Tensor | None = None, axis: int = 0, unsafe: bool = False, initial: Any = None,
) -> Tensor:  # fmt: skip
    """The sum, mean, max, min or prod of consecutive segments of a dimension.

    data: (*B, N, *R) floating; lengths: (*B, K) int, the sizes of the segments, or offsets: (*B, K + 1), where they
    begin and the last ends -> (*B, K, *R). axis: len(B). initial: a value that joins each segment (the mean divides by
    the number of elements alone); an empty segment gives it, or 0, NaN, -inf, inf, 1.
    """
    if reduce not in _EMPTY:
        raise RuntimeError(f"reduce argument must be either sum, prod, mean, amax or amin, got {reduce}")
    if indices is not None:
        raise RuntimeError("segment_reduce(): indices based reduction is not supported yet.")
    axis = dim_of(axis, data.array.ndim)
    sizes = _lengths(data, lengths, offsets, axis, unsafe)
    if data.array.dtype.kind not in "fV":
        raise NotImplementedError(f"\"_segment_reduce_cpu\" not implemented for '{data.dtype.legacy}'")
    shape, segments = data.array.shape, sizes.size
    batch, n, rest = math.prod(shape[:axis]), shape[axis], shape[axis + 1 :]
    places = np.full((batch, n), segments)  # the last one takes what belongs to no segment
    for b, row in enumerate(sizes.reshape(batch, -1)):
        ends = np.repeat(np.arange(row.size), row)[:n]
        places[b, : ends.size] = ends + b * row.size
    start = _EMPTY[reduce] if initial is None else float(initial)
    index = data.new_tensor(places.reshape(-1), dtype=int64)
    base = data.new_full((segments + 1, *rest), _EMPTY[reduce])
    rows = reshape(data, (batch * n, *rest))
    if reduce in ("sum", "mean"):
        out = index_add(base, 0, index, rows) + (start if initial is not None else 0)
    else:
        out = index_reduce(base, 0, index, rows, {"max": "amax", "min": "amin"}.get(reduce, reduce))
    out = out[:segments]
    if reduce == "prod" and initial is not None:
        out = out * start
    if initial is not None and reduce in ("max", "min"):
        beyond = out < start if reduce == "max" else out > start
        out = where(beyond, data.new_full((), start), out)
    if reduce == "mean":
        count = data.new_tensor(sizes.reshape(-1, *(1,) * len(rest)))
        out = out / count if initial is None else where(count == 0, data.new_full((), start), out / count.clamp(min=1))
    return reshape(out, (*shape[:axis], sizes.shape[-1], *rest))


_segment_reduce = segment_reduce


@public
def hash_tensor(input: Tensor, dim: Any = (), *, keepdim: bool = False, mode: int = 0) -> Tensor:
    """The exclusive or of the elements' 64 bits (as float64 or int64). input: (*S), real -> (S without dim) uint64."""
    if mode:
        raise RuntimeError(f"Unknown hash_tensor mode: {mode}")
    a = input.array
    if a.dtype.kind == "c":
        raise NotImplementedError(f"\"xor_sum_cpu\" not implemented for '{input.dtype.legacy}'")
    axes = axes_of(input, dim)
    for axis in axes if dim != () else ():
        if not a.shape[axis]:
            raise IndexError(f"hash_tensor: Expected reduction dim {axis} to have non-zero size.")
    wide = core.cast(input.detach(), dtype=np.dtype("f8" if a.dtype.kind in "fV" else "i8")).array
    bits = wide.view(np.uint64)
    return tensor_beside(input, backend_of(a).xp.bitwise_xor.reduce(bits, axis=axes, keepdims=keepdim))
