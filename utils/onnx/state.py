"""What an export does to a model while it runs, and undoes: its mode, its buffers; and what it is told of it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from ...autograd.tensor import Tensor
from ...nn.modules.module import Module


@contextmanager
def evaluating(model: Any) -> Iterator[None]:
    """The model in eval mode; every module's own mode afterwards."""
    modules = list(model.modules()) if isinstance(model, Module) else []
    modes = [m.training for m in modules]
    if isinstance(model, Module):
        model.eval()
    try:
        yield
    finally:
        for module, mode in zip(modules, modes, strict=True):
            module.training = mode


@contextmanager
def buffers_kept(model: Any) -> Iterator[None]:
    """Buffers that the model writes to (counters, caches) hold what they did before."""
    modules = list(model.modules()) if isinstance(model, Module) else []
    held = [dict(m._buffers) for m in modules]
    arrays = [(b.array, b.array.copy()) for own in held for b in own.values() if b is not None]
    try:
        yield
    finally:
        for module, own in zip(modules, held, strict=True):
            module._buffers.update(own)
        for array, before in arrays:
            if not np.array_equal(array, before, equal_nan=array.dtype.kind in "fc"):
                array[...] = before


def names_of(model: Any) -> dict[int, str]:
    """id of a parameter's or buffer's array -> its name in the state_dict (the first of several)."""
    if not isinstance(model, Module):
        return {}
    found: dict[int, str] = {}
    for pairs in (model.named_parameters(), model.named_buffers()):
        for name, tensor in pairs:
            if isinstance(tensor, Tensor) and isinstance(tensor.array, np.ndarray):
                found.setdefault(id(tensor.array), name)
    return found


def check_device(model: Any) -> None:
    """ValueError where the model is not on the CPU."""
    for tensor in [*model.parameters(), *model.buffers()] if isinstance(model, Module) else ():
        if tensor.device.type != "cpu":
            raise ValueError(f"the model is on {tensor.device}: export runs on the CPU; call model.cpu() first")
