"""Modules whose starting values nobody needs."""

from __future__ import annotations

import inspect
from typing import Any

from ...autograd.random import get_rng_state, set_rng_state
from ..modules.module import Module

__all__ = ["skip_init"]


def skip_init(module_cls: Any, *args: Any, **kwargs: Any) -> Any:
    """A module whose parameters have no particular values, for which no random number is drawn.

    For those that are about to be loaded or initialised otherwise: the stream of random numbers stays as it was.

    Args:
        module_cls: the class, which must take `device`.
        args, kwargs: its arguments.

    >>> import tapegrad as torch
    >>> torch.nn.utils.skip_init(torch.nn.Linear, 3, 2).weight.shape
    torch.Size([2, 3])
    """
    if not issubclass(module_cls, Module):
        raise RuntimeError(f"Expected a Module; got {module_cls}")
    if "device" not in inspect.signature(module_cls).parameters:
        raise RuntimeError("Module must support a 'device' arg to skip initialization")
    state = get_rng_state()
    try:
        return module_cls(*args, **kwargs)
    finally:
        set_rng_state(state)
