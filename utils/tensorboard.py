"""torch.utils.tensorboard: SummaryWriter, by the package tensorboardX, which writes the same files.

`add_graph` draws what runs: the ops of one forward pass, in the scopes of their modules.

An extra: `pip install 'tapegrad[tensorboard]'`.
"""

from __future__ import annotations

import importlib
from typing import Any

from ..autograd.dtypes import by_name
from ..autograd.modes import no_grad
from ..autograd.tensor import Tensor
from ..nn.modules.module import Module
from .extras import require
from .graph_def import graph_def
from .graph_tracing import trace, unchanged


def _plain(value: Any) -> Any:
    """Tensors, alone or in dicts, lists and tuples, as NumPy arrays; numbers for those of one element."""
    if isinstance(value, Tensor):
        if value.dim() == 0:
            return value.item()
        value = value.detach().cpu()
        return (value.float() if value.dtype in (by_name("float16"), by_name("bfloat16")) else value).numpy()
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)) and not hasattr(value, "_fields"):
        return type(value)(_plain(item) for item in value)
    return value


def _writer_class(name: str) -> Any:
    """tensorboardX's class of that name, whose `add_...` methods take tensors. ImportError naming the extra."""
    base = getattr(require("tensorboardX", "tensorboard", f"tapegrad.utils.tensorboard.{name} needs"), name)

    def taking_tensors(method: str) -> Any:
        def call(self: Any, *args: Any, **kwargs: Any) -> Any:
            return getattr(base, method)(self, *map(_plain, args), **{k: _plain(v) for k, v in kwargs.items()})

        call.__name__, call.__doc__ = method, getattr(base, method).__doc__
        return call

    methods = {m: taking_tensors(m) for m in dir(base) if m.startswith("add_")}
    if name == "SummaryWriter":
        methods["add_graph"] = _add_graph
    return type(name, (base,), {**methods, "__module__": __name__, "__doc__": base.__doc__})


def _add_graph(
    self: Any, model: Any, input_to_model: Any = None, verbose: bool = False, use_strict_trace: bool = True
) -> None:
    """Draws the forward pass of a module on TensorBoard's page of graphs.

    Args:
        input_to_model: a tensor, a tuple or list of positional arguments, or a dict of keyword arguments. The module
            runs once on it, without gradients, in the mode it is in; buffers and random numbers are put back.
        verbose: print the graph's nodes too.
        use_strict_trace: accepted; containers may be of any type.

    Raises TypeError for what is no Module or where there is no input.
    """
    if not isinstance(model, Module):
        raise TypeError(f"add_graph expects an nn.Module, but got {type(model).__name__}")
    if input_to_model is None:
        raise TypeError("add_graph needs input_to_model: a tensor, or a tuple of the arguments of the forward pass")
    args: tuple[Any, ...] = ()
    kwargs: dict[str, Any] = {}
    if isinstance(input_to_model, dict):
        kwargs = input_to_model
    else:
        args = tuple(input_to_model) if isinstance(input_to_model, (tuple, list)) else (input_to_model,)
    with unchanged(model), no_grad():
        message = graph_def(trace(model, args, kwargs).to_outputs())
    if verbose:
        print(message)
    events = importlib.import_module("tensorboardX.proto.event_pb2")
    self._get_file_writer().add_event(events.Event(graph_def=message.SerializeToString()))


def __getattr__(name: str) -> Any:
    if name in ("SummaryWriter", "FileWriter", "RecordWriter"):
        made = globals()[name] = _writer_class(name)
        return made
    raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
