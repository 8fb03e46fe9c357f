"""torch.utils.tensorboard: SummaryWriter, by the package tensorboardX, which writes the same files.

An extra: `pip install 'tapegrad[tensorboard]'`.
"""

from __future__ import annotations

import importlib
from typing import Any

from ..autograd.tensor import Tensor


def _plain(value: Any) -> Any:
    """Tensors, alone or in dicts, lists and tuples, as NumPy arrays; numbers for those of one element."""
    if isinstance(value, Tensor):
        return value.item() if value.dim() == 0 else value.detach().cpu().numpy()
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)) and not hasattr(value, "_fields"):
        return type(value)(_plain(item) for item in value)
    return value


def _writer_class(name: str) -> Any:
    """tensorboardX's class of that name, whose `add_...` methods take tensors. ImportError naming the extra."""
    try:
        base = getattr(importlib.import_module("tensorboardX"), name)
    except ImportError as error:
        raise ImportError(
            f"tapegrad.utils.tensorboard.{name} needs the package tensorboardX: pip install 'tapegrad[tensorboard]'"
        ) from error

    def taking_tensors(method: str) -> Any:
        def call(self: Any, *args: Any, **kwargs: Any) -> Any:
            return getattr(base, method)(self, *map(_plain, args), **{k: _plain(v) for k, v in kwargs.items()})

        call.__name__, call.__doc__ = method, getattr(base, method).__doc__
        return call

    methods = {m: taking_tensors(m) for m in dir(base) if m.startswith("add_")}
    return type(name, (base,), {**methods, "__module__": __name__, "__doc__": base.__doc__})


def __getattr__(name: str) -> Any:
    if name in ("SummaryWriter", "FileWriter", "RecordWriter"):
        made = globals()[name] = _writer_class(name)
        return made
    raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
