"""The norm of many tensors as of one vector, and their scaling by it, where a backend has kernels for them.

Kernels `total_norm(arrays, order)` -> () float32, and `clip_all(arrays, norm, most)`, which multiplies the arrays in
place by most / (norm + 1e-6) where that is below 1. Neither makes the host wait.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ...backends.registry import backend_of, kernels_of
from ..codegen import HOST
from ..tensor import Tensor, wrap
from ..versions import mark_written


def _kernel(name: str, tensors: Sequence[Tensor]) -> tuple[Any, Any]:
    """(backend, its kernel) where all tensors are dense and on one device other than the host, else (None, None)."""
    first = tensors[0]
    if first.is_sparse or first.array.__class__ is HOST:
        return None, None
    kind, backend = first.array.__class__, backend_of(first.array)
    kernel = kernels_of(backend).get(name)
    if kernel is None or any(t.is_sparse or t.array.__class__ is not kind for t in tensors):
        return None, None
    place = backend.device_of(first.array)
    if backend.device_count() > 1 and any(backend.device_of(t.array) != place for t in tensors):
        return None, None
    return backend, kernel


def on_device(name: str, tensors: Sequence[Tensor]) -> Tensor | None:
    """What a device's kernel of that name makes of the tensors, without a history; None where none serves."""
    backend, kernel = _kernel(name, tensors)
    if kernel is None:
        return None
    with backend.guard(backend.device_of(tensors[0].array)):
        found = kernel(*[t.array for t in tensors])
    return None if found is NotImplemented else wrap(found)


def total_norm(tensors: Sequence[Tensor], order: float) -> Tensor | None:
    """The norm of all tensors together, (), in their dtype where it is one; None where no kernel gives it."""
    backend, kernel = _kernel("total_norm", tensors)
    if kernel is None:
        return None
    arrays = [t.array for t in tensors]
    with backend.guard(backend.device_of(arrays[0])):
        found = kernel(arrays, order)
        if found is NotImplemented:
            return None
        kinds = {a.dtype for a in arrays}
        return wrap(backend.tidy(found.astype(kinds.pop(), copy=False) if len(kinds) == 1 else found))


def clip_all(tensors: Sequence[Tensor], norm: Tensor, most: float) -> bool:
    """Scales tensors in place to the norm `most` where theirs, (), is larger. False, nothing done, without a kernel."""
    backend, kernel = _kernel("clip_all", [*tensors, norm])
    if kernel is None or norm.array.size != 1:
        return False
    with backend.guard(backend.device_of(norm.array)):
        found = kernel([t.array for t in tensors], norm.array.astype("float32", copy=False), most)
    if found is NotImplemented:
        return False
    mark_written(*tensors)
    return True
