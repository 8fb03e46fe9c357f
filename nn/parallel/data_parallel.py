"""DataParallel: PyTorch's wrapper that spreads a batch over the GPUs of one process; here there is one device."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ...autograd.device import device
from ...autograd.tensor import Tensor
from ..modules.module import Module

__all__ = ["DataParallel", "data_parallel"]


def _gpu(number: Any) -> device | None:
    """The GPU of that number, a device or a string, or None where there is none."""
    try:
        found = device("cuda", number) if isinstance(number, int) else device(number)
        found.backend()
    except (RuntimeError, ImportError):
        return None
    return found


def _moved(value: Any, place: Any) -> Any:
    """Tensors, and tuples, lists and dicts of them, on a device."""
    if isinstance(value, Tensor):
        return value.to(place)
    if isinstance(value, (list, tuple)):
        items = [_moved(item, place) for item in value]
        return type(value)(*items) if hasattr(value, "_fields") else type(value)(items)
    return {key: _moved(item, place) for key, item in value.items()} if isinstance(value, dict) else value


class DataParallel(Module):
    """A module that computes what `module` does; its state_dict has the prefix "module.".

    PyTorch spreads the batch, dimension `dim`, over all `device_ids`, and without a GPU runs the module as it is. Here
    the whole batch is computed on the first of them, where module and inputs are moved; the results are the same, but
    for batch normalisation in training, which sees the whole batch.

    Args:
        module: what is computed, kept as the attribute `module`.
        device_ids: numbers of GPUs; by default the first.
        output_device: where the result is; by default the first of `device_ids`.
        dim: the dimension of the batch.

    >>> import tapegrad as torch
    >>> list(torch.nn.DataParallel(torch.nn.Linear(2, 1)).state_dict())
    ['module.weight', 'module.bias']
    """

    device_ids: list[int]

    def __init__(
        self,
        module: Module,
        device_ids: Sequence[Any] | None = None,
        output_device: Any = None,
        dim: int = 0,
    ):
        super().__init__()
        self.module = module
        self.device_ids = []
        first = _gpu(device_ids[0] if device_ids else 0)
        if first is None:
            return
        self.dim = dim
        self.device_ids = [first.index or 0]
        self.output_device = self.device_ids[0] if output_device is None else output_device
        self.src_device_obj = first
        module.to(first)

    def forward(self, *inputs: Any, **kwargs: Any) -> Any:
        if not self.device_ids:
            return self.module(*inputs, **kwargs)
        for tensor in (*self.module.parameters(), *self.module.buffers()):
            if tensor.device != self.src_device_obj:
                raise RuntimeError(
                    f"module must have its parameters and buffers on device {self.src_device_obj} (device_ids[0]) but "
                    f"found one of them on device: {tensor.device}"
                )
        return self.module(*_moved(inputs, self.src_device_obj), **_moved(kwargs, self.src_device_obj))


def data_parallel(
    module: Module,
    inputs: Any,
    device_ids: Sequence[Any] | None = None,
    output_device: Any = None,
    dim: int = 0,
    module_kwargs: dict[str, Any] | None = None,
) -> Any:
    """One call of `DataParallel(module, device_ids, output_device, dim)`. inputs: the arguments, a tuple, or one.

    RuntimeError where there is no GPU.
    """
    if _gpu(device_ids[0] if device_ids else 0) is None:
        raise RuntimeError("device type could not be determined: there is no GPU to run on")
    inputs = inputs if isinstance(inputs, tuple) else () if inputs is None else (inputs,)
    return DataParallel(module, device_ids, output_device, dim)(*inputs, **(module_kwargs or {}))
